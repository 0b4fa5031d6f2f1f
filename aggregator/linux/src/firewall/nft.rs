//! Running `nft`.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::bypass::counter;
use super::{Bypass, Cut, LanTunnel, Redirect, VpsTunnel, domain_set};
use crate::owned::Owner;
use crate::prefix::{Family, IpPrefix};
use crate::program::program;

/// The firewall can't be set.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The program is not installed.
    #[error("`nft` is not installed (package nftables, on OpenWrt nftables-json)")]
    Missing,
    /// The program refused, in its own words.
    #[error("nft refused: {0}")]
    Refused(String),
    /// The program did not end.
    #[error("nft took longer than {} s", TIMEOUT.as_secs())]
    Stuck,
    /// It could not be run.
    #[error("can't run nft: {0}")]
    Run(#[source] io::Error),
    /// Not the name of a network device.
    #[error("`{0}` is not the name of a network device")]
    BadDevice(String),
    /// A network of the wrong family.
    #[error("{0} is not of the family it is given for")]
    BadPrefix(IpPrefix),
}

/// nft takes milliseconds; a slow router under load, seconds.
const TIMEOUT: Duration = Duration::from_secs(20);

impl Redirect {
    /// Puts the table in place of whatever was in it, in one step: connections that are open stay,
    /// and there is no moment without it.
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub async fn apply(&self) -> Result<(), FirewallError> {
        succeeded(&run(&["-f", "-"], &self.render()?).await?)
    }
}

impl LanTunnel {
    /// As [`Redirect::apply`].
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub async fn apply(&self) -> Result<(), FirewallError> {
        succeeded(&run(&["-f", "-"], &self.render()?).await?)
    }
}

impl Bypass {
    /// Brings the table from `previous` (see [`Bypass::render`]) to this, in one step.
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub async fn apply(&self, previous: Option<&Self>) -> Result<(), FirewallError> {
        succeeded(&run(&["-f", "-"], &self.render(previous)?).await?)
    }
}

/// What each rule of the [`Bypass`] has taken, connections by the rules' names. Of rules with domains
/// `addresses` are how many of these are known.
///
/// # Errors
/// When nft is missing or refuses.
pub async fn bypass_counters(rules: &[(String, bool)]) -> Result<Vec<Taken>, FirewallError> {
    let table = Owner::Router.bypass_table();
    let output = run(&["list", "counters", "table", "inet", table], "").await?;
    succeeded(&output)?;
    let packets = counts(&String::from_utf8_lossy(&output.stdout));
    let mut taken = Vec::with_capacity(rules.len());
    for (rule, by_domain) in rules {
        let mut addresses = 0;
        for family in [Family::V4, Family::V6].into_iter().filter(|_| *by_domain) {
            let set = domain_set(rule, family);
            let output = run(&["list", "set", "inet", table, &set], "").await?;
            succeeded(&output)?;
            addresses += elements(&String::from_utf8_lossy(&output.stdout));
        }
        let connections = packets.get(&counter(rule)).copied().unwrap_or(0);
        taken.push(Taken { connections, addresses });
    }
    Ok(taken)
}

/// What a rule of the [`Bypass`] has taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Connections.
    pub connections: u64,
    /// Addresses that its domains are known to have.
    pub addresses: usize,
}

/// Adds an address to those of a rule's domains.
///
/// # Errors
/// When nft is missing or refuses.
pub async fn note_address(rule: &str, address: IpAddr) -> Result<(), FirewallError> {
    let table = Owner::Router.bypass_table();
    let set = domain_set(rule, Family::of(&address));
    let text = format!("add element inet {table} {set} {{ {address} }}\n");
    succeeded(&run(&["-f", "-"], &text).await?)
}

/// `counter NAME {` and, in a line of its own, `packets N bytes N`.
fn counts(listing: &str) -> BTreeMap<String, u64> {
    let mut name = "";
    let mut found = BTreeMap::new();
    for line in listing.lines().map(str::trim) {
        if let Some(of) = line.strip_prefix("counter ").and_then(|rest| rest.strip_suffix('{')) {
            name = of.trim();
        } else if let Some(rest) = line.strip_prefix("packets ")
            && let Some(packets) = rest.split(' ').next().and_then(|n| n.parse().ok())
        {
            found.insert(name.to_owned(), packets);
        }
    }
    found
}

/// How many elements a listed set has: `elements = { A, B }`, over several lines.
fn elements(listing: &str) -> usize {
    let inside = listing.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}'));
    inside.map_or(0, |(inside, _)| inside.split(',').count())
}

impl Cut {
    /// Cuts the device, in place of what was cut before.
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub async fn apply(&self) -> Result<(), FirewallError> {
        succeeded(&run(&["-f", "-"], &self.render()?).await?)
    }
}

impl VpsTunnel {
    /// As [`Redirect::apply`].
    ///
    /// # Errors
    /// When nft is missing or refuses.
    pub async fn apply(&self) -> Result<(), FirewallError> {
        succeeded(&run(&["-f", "-"], &self.render()?).await?)
    }
}

/// Removes one of our tables ([`Owner::nft_table`](crate::owned::Owner::nft_table),
/// [`Owner::tunnel_table`](crate::owned::Owner::tunnel_table)). Returns whether it was there.
///
/// # Errors
/// When nft is missing or refuses for another reason than that there is none.
pub async fn remove(table: &str) -> Result<bool, FirewallError> {
    let output = run(&["delete", "table", "inet", table], "").await?;
    let none = String::from_utf8_lossy(&output.stderr).contains("No such file or directory");
    if !output.status.success() && none {
        return Ok(false);
    }
    succeeded(&output).map(|()| true)
}

/// Whether one of our tables is still there: another program may have flushed them all.
///
/// # Errors
/// When nft is missing or can't be run.
pub async fn is_present(table: &str) -> Result<bool, FirewallError> {
    Ok(run(&["-t", "list", "table", "inet", table], "").await?.status.success())
}

/// Chains of others that drop forwarded packets unless a rule of theirs says otherwise, as
/// `ip filter FORWARD`. What we accept they drop all the same: a container engine's or a
/// firewall front end's must be told of the tunnel's device by who owns it.
///
/// # Errors
/// When nft is missing or refuses.
pub async fn dropping_forward_chains() -> Result<Vec<String>, FirewallError> {
    let output = run(&["list", "chains"], "").await?;
    succeeded(&output)?;
    Ok(dropping(&String::from_utf8_lossy(&output.stdout)))
}

fn dropping(chains: &str) -> Vec<String> {
    let (mut table, mut chain) = ("", "");
    let mut found = Vec::new();
    for line in chains.lines().map(str::trim) {
        let name = |prefix: &str| line.strip_prefix(prefix)?.strip_suffix('{').map(str::trim);
        if let Some(name) = name("table ") {
            table = name;
        } else if let Some(name) = name("chain ") {
            chain = name;
        } else if line.contains(" hook forward ") && line.contains("policy drop") {
            found.push(format!("{table} {chain}"));
        }
    }
    found
}

fn succeeded(output: &Output) -> Result<(), FirewallError> {
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(FirewallError::Refused(if words.is_empty() { output.status.to_string() } else { words }))
}

async fn run(arguments: &[&str], input: &str) -> Result<Output, FirewallError> {
    let mut child = program("nft")
        .args(arguments)
        // Its words are looked at.
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FirewallError::Missing,
            _ => FirewallError::Run(error),
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it doesn't read to the end it has a reason, which its status and words tell.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    match tokio::time::timeout(TIMEOUT, child.wait_with_output()).await {
        Ok(output) => output.map_err(FirewallError::Run),
        Err(_) => Err(FirewallError::Stuck),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_drop_are_named() {
        let shown = "table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain DOCKER-USER {
	}
}
table inet mine {
	chain forward {
		type filter hook forward priority filter; policy accept;
	}
}
";
        assert_eq!(dropping(shown), ["ip filter FORWARD"]);
        assert!(dropping("").is_empty());
    }

    #[test]
    fn counters_and_elements_are_counted() {
        let shown = "table inet wanbond-bypass {
	counter c_phone {
		packets 12 bytes 720
	}
	counter c_video {
		packets 0 bytes 0
	}
}
";
        let expected = [("c_phone".to_owned(), 12), ("c_video".to_owned(), 0)];
        assert_eq!(counts(shown), BTreeMap::from(expected));
        let set =
            "set d {\n type ipv4_addr\n elements = { 192.0.2.1, 192.0.2.2,\n\t\t192.0.2.3 }\n}\n";
        assert_eq!(elements(set), 3);
        assert_eq!(elements("set d {\n type ipv4_addr\n}\n"), 0);
    }
}
