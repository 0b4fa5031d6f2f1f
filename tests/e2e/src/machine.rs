//! A real Debian with systemd as the lab's VPS, for tests of what is set up on one.
//!
//! `debootstrap` makes the root once per build folder; every machine gets a copy, booted by
//! `systemd-nspawn` in the VPS's network namespace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use wanbond_lab::Lab;

/// Booting takes seconds; a busy machine may take its time.
const BOOT: Duration = Duration::from_secs(120);

/// What Debian's cloud images have beyond the least that boots.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,nftables,ca-certificates";

/// A booted Debian. Dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    nspawn: Child,
    leader: String,
}

impl Machine {
    /// Boots Debian `suite` with `more` packages (names with commas) as the lab's VPS.
    ///
    /// # Panics
    /// If the root can't be made (it comes from Debian's mirror) or does not boot.
    #[must_use]
    pub fn boot(lab: &Lab, suite: &str, more: &str) -> Self {
        let root = lab.dir().join("vps-root");
        ok(Command::new("cp").arg("-a").arg(base(suite, more)).arg(&root));
        // The kernel kills it with this thread, whatever ends that.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "systemd-nspawn", "--quiet", "--boot"]);
        command.args(["--register=no", "--keep-unit", "--console=pipe", "--link-journal=no"]);
        // Without a network of its own making, nspawn holds these back.
        command.arg("--capability=CAP_NET_ADMIN");
        command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
        command.arg(format!("--machine=vps-{}", std::process::id()));
        command.arg(format!("--network-namespace-path={}", lab.vps().path().display()));
        command.arg("--directory").arg(&root);
        let log = fs::File::create(lab.log_dir().join("vps-boot.log")).expect("a log file");
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a log file")).stdout(log);
        let nspawn = command.spawn().expect("setpriv is installed");
        let pid = nspawn.id();
        let mut machine = Self { root, nspawn, leader: String::new() };
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < BOOT, "Debian {suite} does not boot");
            sleep(Duration::from_millis(200));
            let ended = machine.nspawn.try_wait().expect("our child");
            assert!(ended.is_none(), "systemd-nspawn ended: {ended:?}");
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            let Ok(leader) = children.map(|text| text.trim().to_owned()) else { continue };
            if leader.is_empty() {
                continue;
            }
            machine.leader = leader;
            let state = machine.shell("systemctl is-system-running").stdout;
            if matches!(state.trim_ascii(), b"running" | b"degraded") {
                break;
            }
        }
        // As udev has it on a machine of its own; nspawn has no udev.
        machine.ok("chmod 666 /dev/net/tun");
        machine
    }

    /// Its root folder, as seen from here.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a line of shell in it, as root.
    ///
    /// # Panics
    /// If nsenter is missing.
    #[must_use]
    pub fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.leader, "--all", "env", "-i", "HOME=/root", "LANG=C"]);
        command.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["bash", "-c", line]).stdin(Stdio::null());
        command.output().expect("nsenter is installed")
    }

    /// As [`Self::shell`]; gives what it printed, without its errors.
    ///
    /// # Panics
    /// If it fails.
    pub fn ok(&self, line: &str) -> String {
        let output = self.shell(line);
        assert!(output.status.success(), "{line}:\n{}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// As [`Self::shell`]; gives what it printed.
    ///
    /// # Panics
    /// If it succeeds.
    pub fn fails(&self, line: &str) -> String {
        let output = self.shell(line);
        assert!(!output.status.success(), "{line} should have failed:\n{}", both(&output));
        both(&output)
    }

    /// Everything that an installer might leave behind: files with owners, modes and contents,
    /// kernel settings, firewall rules, users. Logs are left out, and what systemd and the account
    /// programs keep for themselves (random seeds, clocks, the account files' last versions).
    ///
    /// # Panics
    /// If it can't be listed.
    #[must_use]
    pub fn snapshot(&self) -> String {
        self.ok(r#"
            cd /
            leave() { grep -vE '^(etc/(passwd|group|shadow|gshadow)-|var/lib/systemd|var/lib/private|var/(log|cache|tmp))'; }
            find etc usr/local usr/lib/systemd var opt srv root -printf '%p %M %U:%G %l\n' | sort | leave
            find var -type f -printf '%p %s\n' | sort | leave
            find etc usr/local opt srv root -type f -exec sha256sum {} + |
                sed 's/\(.*\)  \(.*\)/\2 \1/' | sort | leave
            cd /proc/sys/net
            grep -H . ipv4/tcp_rmem ipv4/tcp_wmem ipv4/ip_forward ipv4/tcp_slow_start_after_idle \
                ipv4/conf/*/forwarding ipv4/conf/*/rp_filter ipv6/conf/*/forwarding \
                ipv6/conf/*/accept_ra mptcp/*
            ip mptcp limits
            ip -o link | cut -d: -f2
            nft -s list ruleset
            systemctl list-units --no-legend --plain --all 'wanbond*' | cut -d' ' -f1
        "#)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.leader.is_empty() {
            let log = self.shell("journalctl --no-pager -o cat -n 60 -u 'wanbond*'");
            eprintln!("--- the VPS's journal\n{}", both(&log));
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}

/// Both things a command printed.
#[must_use]
pub fn both(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// A root that is to be copied, beside the build's own files.
fn base(suite: &str, more: &str) -> PathBuf {
    let target = std::env::current_exe().expect("a test has a file");
    let target = target.ancestors().nth(3).expect("target/PROFILE/deps/TEST").join("vps-roots");
    // Other packages, another root.
    let name = [suite].into_iter().chain(more.split_terminator(',')).collect::<Vec<_>>().join("-");
    let root = target.join(&name);
    if root.exists() {
        return root;
    }
    fs::create_dir_all(&target).expect("a folder for roots");
    let half = target.join(format!("{name}.{}", std::process::id()));
    let packages = if more.is_empty() { PACKAGES.to_owned() } else { format!("{PACKAGES},{more}") };
    ok(Command::new("debootstrap")
        .args(["--variant=minbase", &format!("--include={packages}"), suite])
        .arg(&half));
    let _ = fs::rename(&half, &root);
    root
}

fn ok(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", both(&output));
}
