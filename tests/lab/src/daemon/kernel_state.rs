//! What is set in a namespace's kernel, to be compared before a daemon's start and after its end.

use std::collections::BTreeSet;
use std::path::Path;

use crate::ns::{Namespace, NsError};

/// Rules, routes, nftables, MPTCP endpoints and limits, and network sysctls of a namespace, as
/// lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelState {
    lines: BTreeSet<String>,
}

const COMMANDS: &[&[&str]] = &[
    &["ip", "-4", "rule"],
    &["ip", "-6", "rule"],
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "link", "show"],
    &["ip", "mptcp", "endpoint", "show"],
    &["ip", "mptcp", "limits", "show"],
    &["nft", "--stateless", "list", "ruleset"],
];

/// Folders of sysctls that belong to the namespace and that daemons may set.
const SYSCTLS: &[&str] = &["net/mptcp", "net/ipv4", "net/ipv4/conf/all", "net/core"];

/// Sysctls that move by themselves.
const MOVING: &[&str] = &["fib_sync_mem", "tcp_fastopen_key"];

impl KernelState {
    /// As it is now.
    ///
    /// # Errors
    /// When `ip` or `nft` fail.
    pub fn capture(ns: &Namespace) -> Result<Self, NsError> {
        let mut lines = BTreeSet::new();
        for command in COMMANDS {
            let output = ns.output(command[0], &command[1..])?;
            let mut context = String::new();
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                // An nftables rule means something only within its chain.
                if line.contains('{') {
                    line.trim().clone_into(&mut context);
                }
                let line = without_numbers(&without_expiry(line));
                lines.insert(format!("{}: {context} {line}", command.join(" ")));
            }
        }
        ns.run(|| {
            for folder in SYSCTLS {
                let folder = Path::new("/proc/sys").join(folder);
                for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    if MOVING.iter().any(|moving| name == *moving) {
                        continue;
                    }
                    if let Ok(value) = std::fs::read_to_string(entry.path()) {
                        lines.insert(format!("{} = {}", entry.path().display(), value.trim()));
                    }
                }
            }
        });
        Ok(Self { lines })
    }

    /// What is here and was not `before` (`+`), and what was and is no more (`-`). Empty: nothing
    /// was left behind and nothing lost.
    #[must_use]
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let added = self.lines.difference(&before.lines).map(|line| format!("+ {line}"));
        let gone = before.lines.difference(&self.lines).map(|line| format!("- {line}"));
        added.chain(gone).collect()
    }
}

/// Routes that expire count their seconds down.
fn without_expiry(line: &str) -> String {
    let mut words: Vec<_> = line.split_whitespace().collect();
    if let Some(at) = words.iter().position(|word| *word == "expires") {
        words.drain(at..words.len().min(at + 2));
    }
    words.join(" ")
}

/// Numbers that the kernel gives by turns: of a device that was pulled and put back, of an MPTCP
/// endpoint.
fn without_numbers(line: &str) -> String {
    let words: Vec<_> = line.split(' ').collect();
    match words.as_slice() {
        [number, device, ..] if is_number(number.strip_suffix(':')) && device.ends_with(':') => {
            words[1..].join(" ")
        }
        [address, "id", number, ..] if is_number(Some(number)) => {
            format!("{address} {}", words[3..].join(" "))
        }
        _ => line.to_owned(),
    }
}

fn is_number(word: Option<&str>) -> bool {
    word.is_some_and(|word| word.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_does_not_count() {
        assert_eq!(
            without_expiry("default via a expires 12sec pref medium"),
            "default via a pref medium"
        );
        assert_eq!(without_expiry("x expires 3sec"), "x");
    }

    #[test]
    fn numbers_do_not_count() {
        assert_eq!(without_numbers("7: wan1: <UP> mtu 1500"), "wan1: <UP> mtu 1500");
        assert_eq!(
            without_numbers("192.0.2.1 id 4 subflow dev wan1"),
            "192.0.2.1 subflow dev wan1"
        );
        let rule = "7001: from 192.0.2.1 lookup 7001";
        assert_eq!(without_numbers(rule), rule);
    }

    #[test]
    fn changes_are_named_both_ways() {
        let state =
            |lines: &[&str]| KernelState { lines: lines.iter().map(|&l| l.into()).collect() };
        let changes = state(&["a", "c"]).changes_since(&state(&["a", "b"]));
        assert_eq!(changes, ["+ c", "- b"]);
    }
}
