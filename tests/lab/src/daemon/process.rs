//! A daemon's process: real binary, own namespace, log in a file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::LabError;
use crate::ns::Namespace;

/// What the daemon on a router may do, in the words of OpenWrt's package.
const ROUTER_CAPABILITIES: &str =
    include_str!("../../../../openwrt/wanbond/files/etc/capabilities/wanbond.json");

/// How often a condition is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(10);

/// A running daemon; ended when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts `binary` in `ns`, its output appended to `log`.
    pub(crate) fn start(
        ns: &Namespace,
        binary: &str,
        log: &Path,
        args: impl FnOnce(&mut Command),
    ) -> Result<Self, LabError> {
        let path = find_binary(binary)?;
        Self::start_command(ns, path.clone(), Namespace::command(&path), log, args)
    }

    /// As [`Self::start`], with no more of root's rights than procd leaves to a router's daemon.
    pub(crate) fn start_jailed(
        ns: &Namespace,
        binary: &str,
        log: &Path,
        args: impl FnOnce(&mut Command),
    ) -> Result<Self, LabError> {
        let path = find_binary(binary)?;
        let mut command = Namespace::command("setpriv");
        command.args(["--no-new-privs", "--bounding-set", &bounding_set()?, "--"]).arg(&path);
        Self::start_command(ns, path, command, log, args)
    }

    fn start_command(
        ns: &Namespace,
        path: PathBuf,
        mut command: Command,
        log: &Path,
        args: impl FnOnce(&mut Command),
    ) -> Result<Self, LabError> {
        let file = |source| LabError::File { path: log.into(), source };
        let out = File::options().create(true).append(true).open(log).map_err(file)?;
        let errors = out.try_clone().map_err(file)?;
        args(&mut command);
        command.stdout(out).stderr(errors);
        let child = ns.spawn(command).map_err(|source| LabError::File { path, source })?;
        Ok(Self { child })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Not reaped yet, so the number is still its own.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Asks it to end and waits; none when it did not within `time` and was killed.
    pub(crate) fn stop(mut self, time: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < time {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(POLL);
        }
        None
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// [`ROUTER_CAPABILITIES`] in the words of setpriv.
fn bounding_set() -> Result<String, LabError> {
    let path = || PathBuf::from("etc/capabilities/wanbond.json");
    let sets: BTreeMap<String, Vec<String>> = serde_json::from_str(ROUTER_CAPABILITIES)
        .map_err(|error| LabError::File { path: path(), source: error.into() })?;
    let allowed = sets.get("bounding").into_iter().flatten();
    Ok(allowed.fold("-all".to_owned(), |set, name| {
        let name = name.strip_prefix("CAP_").unwrap_or(name);
        format!("{set},+{}", name.to_lowercase())
    }))
}

/// The last lines of a file; empty if there is none.
pub(crate) fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Waits until `done` gives something, for at most `time`.
pub(crate) fn wait_for<T>(time: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return Some(value);
        }
        if start.elapsed() > time {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// A binary of this project: in `WANBOND_BIN_DIR` if that is set; else beside the program that
/// runs (`wanbond-lab` itself), in the profile's folder of a test, or in that folder's sibling
/// `lab`, whichever has it.
///
/// # Errors
/// When none has it.
pub fn find_binary(name: &str) -> Result<PathBuf, LabError> {
    let folders = match std::env::var_os("WANBOND_BIN_DIR") {
        Some(dir) => vec![PathBuf::from(dir)],
        None => {
            let exe = std::env::current_exe().unwrap_or_default();
            let beside = exe.parent().map(Path::to_path_buf).unwrap_or_default();
            // Tests and examples live one folder deeper.
            let profile = match beside.file_name().and_then(|name| name.to_str()) {
                Some("deps" | "examples") => beside.parent().unwrap_or(&beside).to_path_buf(),
                _ => beside.clone(),
            };
            let sibling = profile.parent().unwrap_or(&profile).join("lab");
            vec![profile, sibling]
        }
    };
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| LabError::NoBinary { name: name.into(), searched: folders })
}

/// What a process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in bytes.
    pub rss: u64,
    /// The most it ever was.
    pub rss_peak: u64,
    /// As much of it as is no file's content: without the program itself.
    pub rss_anonymous: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Processor time used, user and system.
    pub cpu: Duration,
    /// How often its threads have gone to sleep, and so been woken.
    pub wake_ups: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> std::io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // utime and stime are fields 14 and 15; what follows the name starts with field 3.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 =
            rest.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        // USER_HZ is 100 on every architecture that Linux runs a lab on.
        let cpu = Duration::from_millis(ticks * 10);
        let wake_ups = fs::read_dir(format!("/proc/{pid}/task"))?
            .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok())
            .filter_map(|status| {
                let line = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
                line?.trim().parse::<u64>().ok()
            })
            .sum();
        let (rss, rss_peak, rss_anonymous) = (kib("VmRSS:"), kib("VmHWM:"), kib("RssAnon:"));
        Ok(Self { rss, rss_peak, rss_anonymous, descriptors, cpu, wake_ups })
    }
}
