//! dnsmasq: has it put the addresses that it answers for the rules' domains into nftables' sets.
//!
//! It reads more configuration from a folder, where a file of ours stands while there are such rules. It
//! takes note of it only when it starts, so it is started anew when that file changes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::timeout;
use tracing::{info, warn};
use wanbond_linux::firewall::domain_set;
use wanbond_linux::owned::{Journal, Owner};
use wanbond_linux::prefix::Family;
use wanbond_linux::program::program;

use super::{Domain, Rule};

const FILE: &str = "wanbond.conf";
/// What starts it anew on OpenWrt, and on Debian where systemd stands behind it.
const INIT_SCRIPT: &str = "/etc/init.d/dnsmasq";
/// Without another word, this is its configuration.
const DEFAULT_CONFIG: &str = "/etc/dnsmasq.conf";
const PATIENCE: Duration = Duration::from_secs(20);

/// Why dnsmasq does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It does not run here.
    #[error("dnsmasq does not run here")]
    Absent,
    /// It was built without what is needed.
    #[error(
        "this dnsmasq can't fill nftables sets (on OpenWrt, install dnsmasq-full in place of dnsmasq)"
    )]
    NoNftset,
    /// It reads its configuration from files only.
    #[error(
        "dnsmasq has no folder for more configuration (conf-dir), or option dnsmasq_dir must name it"
    )]
    NoFolder,
    /// Nobody knows how to start it anew.
    #[error("option dnsmasq_restart must say how dnsmasq is started anew")]
    NoRestart,
    /// Something that the system said.
    #[error("{0}")]
    Failed(String),
}

/// What the configuration says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its folder, where it can't be found.
    pub dir: Option<PathBuf>,
    /// What starts it anew.
    pub restart: Option<String>,
}

/// A running dnsmasq.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Running {
    pid: i32,
    arguments: Vec<String>,
}

/// Has dnsmasq fill the sets of these rules. `fresh`: the sets are empty, though they may not have been.
///
/// # Errors
/// Why it can't.
pub async fn follow(
    rules: &[Rule],
    settings: &Settings,
    journal: &Journal,
    fresh: bool,
) -> Result<(), Unusable> {
    let wanted = snippet(rules);
    if wanted.is_empty() {
        clean(journal).await;
        return Ok(());
    }
    let running = running();
    if running.is_empty() {
        return Err(Unusable::Absent);
    }
    let failed = |error: io::Error| Unusable::Failed(format!("dnsmasq: {error}"));
    if !can_fill_sets().await.map_err(failed)? {
        return Err(Unusable::NoNftset);
    }
    let folder = settings.dir.clone().or_else(|| running.iter().find_map(folder_of));
    let folder = folder.filter(|folder| folder.is_dir()).ok_or(Unusable::NoFolder)?;
    let restart = restart_command(settings).ok_or(Unusable::NoRestart)?;
    let file = folder.join(FILE);
    if fs::read_to_string(&file).is_ok_and(|there| there == wanted) && noted(journal).is_some() {
        if fresh {
            // What it remembers it would answer without a look at the sets.
            for dnsmasq in &running {
                let _ = kill(Pid::from_raw(dnsmasq.pid), Signal::SIGHUP);
            }
        }
        return Ok(());
    }
    note(journal, &file, &restart).map_err(failed)?;
    fs::write(&file, &wanted).map_err(failed)?;
    info!(file = %file.display(), "dnsmasq fills the sets of domains");
    start_anew(&restart).await.map_err(Unusable::Failed)
}

/// Takes our file away, if there is one.
pub async fn clean(journal: &Journal) {
    let Some((file, restart)) = noted(journal) else { return };
    if let Err(error) = fs::remove_file(&file)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(file = %file.display(), %error, "dnsmasq's file of ours can't be removed");
        return;
    }
    let _ = fs::remove_file(note_path(journal));
    if let Err(problem) = start_anew(&restart).await {
        warn!(problem, "dnsmasq still has what was ours");
    }
}

/// dnsmasq's lines: for each domain the sets of all rules that mean it. dnsmasq takes the longest domain
/// that fits, so those of the domains above are named again; which rule counts nftables decides.
fn snippet(rules: &[Rule]) -> String {
    let mut sets: BTreeMap<&Domain, Vec<&str>> = BTreeMap::new();
    for domain in rules.iter().flat_map(|rule| &rule.domains) {
        let means = |rule: &&Rule| rule.domains.iter().any(|own| own.covers(domain.as_str()));
        sets.entry(domain)
            .or_insert_with(|| rules.iter().filter(means).map(|rule| rule.name.as_str()).collect());
    }
    let mut text = String::new();
    if sets.is_empty() {
        return text;
    }
    text.push_str("# By wanbond, while it runs; see /etc/config/wanbond, config bypass.\n");
    let table = Owner::Router.bypass_table();
    for (domain, rules) in sets {
        let places: Vec<String> = rules
            .iter()
            .flat_map(|rule| {
                [(4, Family::V4), (6, Family::V6)].map(|(n, f)| (n, domain_set(rule, f)))
            })
            .map(|(number, set)| format!("{number}#inet#{table}#{set}"))
            .collect();
        let _ = writeln!(text, "nftset=/{domain}/{}", places.join(","));
    }
    text
}

/// Those in this network namespace: others serve others.
fn running() -> Vec<Running> {
    let Ok(here) = fs::read_link("/proc/self/ns/net") else { return Vec::new() };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let dnsmasq = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let pid = path.file_name()?.to_str()?.parse().ok()?;
        if fs::read_to_string(path.join("comm")).ok()?.trim() != "dnsmasq"
            || fs::read_link(path.join("ns/net")).ok()? != here
        {
            return None;
        }
        let line = fs::read(path.join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        let arguments = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Some(Running { pid, arguments })
    };
    entries.filter_map(dnsmasq).collect()
}

/// The folder that it reads more configuration from.
fn folder_of(dnsmasq: &Running) -> Option<PathBuf> {
    let value = |short: &str, long: &str| {
        let mut arguments = dnsmasq.arguments.iter();
        while let Some(argument) = arguments.next() {
            if let Some(value) = argument.strip_prefix(long).and_then(|v| v.strip_prefix('=')) {
                return Some(value.to_owned());
            }
            if argument == short || argument == long {
                return arguments.next().cloned();
            }
            if let Some(value) =
                argument.strip_prefix(short).filter(|_| !argument.starts_with("--"))
            {
                return Some(value.to_owned());
            }
        }
        None
    };
    // What follows the folder are names' endings.
    let folder = |text: &str| text.split(',').next().map(|folder| PathBuf::from(folder.trim()));
    if let Some(text) = value("-7", "--conf-dir") {
        return folder(&text);
    }
    let config = value("-C", "--conf-file").unwrap_or_else(|| DEFAULT_CONFIG.to_owned());
    let config = fs::read_to_string(config).ok()?;
    config.lines().find_map(|line| folder(line.trim().strip_prefix("conf-dir=")?))
}

/// Whether it was built for it.
async fn can_fill_sets() -> io::Result<bool> {
    let output = program("dnsmasq").arg("--version").output().await?;
    Ok(fills_sets(&output.stdout))
}

/// Why the dnsmasq that is installed can't fill sets; `None` if it can. Whether it runs is not looked at.
#[must_use]
pub fn lacks_sets() -> Option<Unusable> {
    match program("dnsmasq").as_std_mut().arg("--version").output() {
        Ok(output) if fills_sets(&output.stdout) => None,
        Ok(_) => Some(Unusable::NoNftset),
        Err(_) => Some(Unusable::Absent),
    }
}

/// `--version` lists what it was built with, and with a `no-` before them what it was built without.
fn fills_sets(version: &[u8]) -> bool {
    String::from_utf8_lossy(version).split_whitespace().any(|word| word == "nftset")
}

fn restart_command(settings: &Settings) -> Option<String> {
    settings
        .restart
        .clone()
        .or_else(|| Path::new(INIT_SCRIPT).exists().then(|| format!("{INIT_SCRIPT} restart")))
}

async fn start_anew(command: &str) -> Result<(), String> {
    let mut shell = program("sh");
    shell.args(["-c", command]).kill_on_drop(true);
    // What it starts may keep these open.
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match timeout(PATIENCE, shell.status()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("'{command}' failed: {status}")),
        Ok(Err(error)) => Err(format!("'{command}': {error}")),
        Err(_) => Err(format!("'{command}' takes longer than {} s", PATIENCE.as_secs())),
    }
}

/// Where it is written down what is to be taken away: beside the journal, gone with a reboot as that is.
fn note_path(journal: &Journal) -> PathBuf {
    journal.path().with_extension("dnsmasq")
}

fn note(journal: &Journal, file: &Path, restart: &str) -> io::Result<()> {
    let path = note_path(journal);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, format!("{}\n{restart}", file.display()))
}

fn noted(journal: &Journal) -> Option<(PathBuf, String)> {
    let text = fs::read_to_string(note_path(journal)).ok()?;
    let (file, restart) = text.split_once('\n')?;
    Some((PathBuf::from(file), restart.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn rules(text: &str) -> Vec<Rule> {
        let text = format!("config wanbond 'g'\n\toption enabled '0'\n{text}");
        config::parse("f", text.as_bytes()).unwrap().config.bypass
    }

    #[test]
    fn a_domain_fills_the_sets_of_all_rules_that_mean_it() {
        let rules = rules(
            "config bypass 'one'\n\tlist domain 'example.net'\n\tlist domain 'a.test'\n\toption to 'direct'\n\
             config bypass 'two'\n\toption domain 'Video.Example.net'\n\toption port '443'\n\toption to 'tunnel'\n\
             config bypass 'port'\n\toption port '1'\n\toption to 'direct'\n",
        );
        assert_eq!(
            snippet(&rules),
            "# By wanbond, while it runs; see /etc/config/wanbond, config bypass.\n\
             nftset=/a.test/4#inet#wanbond-bypass#d_one_v4,6#inet#wanbond-bypass#d_one_v6\n\
             nftset=/example.net/4#inet#wanbond-bypass#d_one_v4,6#inet#wanbond-bypass#d_one_v6\n\
             nftset=/video.example.net/4#inet#wanbond-bypass#d_one_v4,6#inet#wanbond-bypass#d_one_v6,\
             4#inet#wanbond-bypass#d_two_v4,6#inet#wanbond-bypass#d_two_v6\n"
        );
        assert_eq!(snippet(&rules[2..]), "");
    }

    #[test]
    fn what_it_was_built_with_counts() {
        assert!(fills_sets(
            b"Dnsmasq version 2.90\nCompile time options: IPv6 ipset nftset auth\n"
        ));
        assert!(!fills_sets(b"Compile time options: IPv6 no-ipset no-nftset\n"));
    }

    #[test]
    fn its_folder_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("conf");
        fs::write(&file, "user=x\n# conf-dir=/no\nconf-dir=/tmp/dnsmasq.d,*.conf\n").unwrap();
        let file = file.display().to_string();
        let of = |words: &[&str]| {
            folder_of(&Running {
                pid: 1,
                arguments: words.iter().map(|w| (*w).to_owned()).collect(),
            })
        };
        let expected = Some(PathBuf::from("/tmp/dnsmasq.d"));
        assert_eq!(of(&["dnsmasq", "-C", &file, "-k"]), expected);
        assert_eq!(of(&["dnsmasq", &format!("--conf-file={file}")]), expected);
        assert_eq!(of(&["dnsmasq", &format!("-C{file}")]), expected);
        let debian = "-7/etc/dnsmasq.d,.dpkg-dist,.dpkg-old";
        assert_eq!(of(&["dnsmasq", "-x", "/p", debian]), Some(PathBuf::from("/etc/dnsmasq.d")));
        assert_eq!(of(&["dnsmasq", "--conf-dir", "/a"]), Some(PathBuf::from("/a")));
        assert_eq!(of(&["dnsmasq", "-C", "/dev/null"]), None);
    }
}
