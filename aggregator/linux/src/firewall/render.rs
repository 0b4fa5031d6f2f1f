//! The table's text.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{BYPASS, FirewallError, MARK};
use crate::owned::Owner;
use crate::prefix::{Family, IpPrefix};
use crate::special::{SPECIAL_V4, SPECIAL_V6};

/// What to redirect: TCP from the LAN to anywhere on the Internet, to a port of ours.
///
/// Never redirected, and so routed as if wanbond were not there:
/// - what is addressed to the router itself, to a broadcast or a multicast address,
/// - private and otherwise special destinations ([`crate::special`]),
/// - the bypassed destinations, and what [`Bypass`](super::Bypass) has marked.
///
/// The port itself is closed: a connection that did not come through the redirect, from the WAN
/// or straight from the LAN, is answered with a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The LAN's devices. They need not exist yet. Of a bridge name the bridge, not its ports:
    /// the redirect goes to an address of the device.
    pub devices: Vec<String>,
    /// The port the daemon listens on, on every address.
    pub port: u16,
    /// Redirect IPv4.
    pub ipv4: bool,
    /// Redirect IPv6.
    pub ipv6: bool,
    /// IPv4 destinations to leave alone, such as the server's own address.
    pub bypass_v4: Vec<IpPrefix>,
    /// IPv6 destinations to leave alone.
    pub bypass_v6: Vec<IpPrefix>,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            port: 0,
            ipv4: true,
            ipv6: true,
            bypass_v4: Vec::new(),
            bypass_v6: Vec::new(),
        }
    }
}

impl Redirect {
    /// The ruleset that replaces the table with this one, in one transaction.
    ///
    /// # Errors
    /// [`FirewallError::BadDevice`] and [`FirewallError::BadPrefix`] for what nft would choke on.
    pub fn render(&self) -> Result<String, FirewallError> {
        let table = Owner::Router.nft_table();
        let devices = device_set(&self.devices)?;
        let port = self.port;
        let mut text = String::new();
        // Adding before deleting, as deleting what isn't there is an error.
        let _ = writeln!(text, "add table inet {table}");
        let _ = writeln!(text, "delete table inet {table}");
        let _ = writeln!(text, "table inet {table} {{");
        if let Some(devices) = &devices {
            self.write_redirect(&mut text, devices)?;
        }
        // A daemon that only stays where it is reached by redirect needs no open port: what was
        // not redirected here has no business here.
        text.push_str("\tchain guard {\n");
        text.push_str("\t\ttype filter hook input priority filter; policy accept;\n");
        if let Some(devices) = &devices {
            let _ = writeln!(
                text,
                "\t\ttcp dport {port} iifname {{ {devices} }} ct status dnat return"
            );
        }
        let _ = writeln!(text, "\t\ttcp dport {port} reject with tcp reset");
        text.push_str("\t}\n}\n");
        Ok(text)
    }

    fn write_redirect(&self, text: &mut String, devices: &str) -> Result<(), FirewallError> {
        // Just behind the usual dstnat chains: who forwards or hijacks a port on purpose means it.
        text.push_str("\tchain lan {\n");
        text.push_str("\t\ttype nat hook prerouting priority dstnat + 5; policy accept;\n");
        let _ = writeln!(text, "\t\tiifname {{ {devices} }} meta l4proto tcp goto lan_tcp");
        text.push_str("\t}\n");
        text.push_str("\tchain lan_tcp {\n");
        let _ = writeln!(text, "\t\tct mark and {:#x} != 0 return", BYPASS | MARK);
        text.push_str("\t\tfib daddr type { local, broadcast, anycast, multicast } return\n");
        for (wanted, family, word, special, bypass) in [
            (self.ipv4, Family::V4, "ip", SPECIAL_V4, &self.bypass_v4),
            (self.ipv6, Family::V6, "ip6", SPECIAL_V6, &self.bypass_v6),
        ] {
            if !wanted {
                continue;
            }
            if let Some(wrong) = bypass.iter().find(|prefix| prefix.family() != family) {
                return Err(FirewallError::BadPrefix(*wrong));
            }
            let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(special));
            if !bypass.is_empty() {
                let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(bypass));
            }
            let nfproto = if family == Family::V4 { "ipv4" } else { "ipv6" };
            let _ = writeln!(
                text,
                "\t\tmeta nfproto {nfproto} meta l4proto tcp redirect to :{}",
                self.port
            );
        }
        text.push_str("\t}\n");
        Ok(())
    }
}

/// Prefixes without those inside another one, which nft refuses, sorted.
pub(super) fn list(prefixes: &[IpPrefix]) -> String {
    let sorted: BTreeSet<IpPrefix> = prefixes.iter().copied().collect();
    let mut kept: Vec<IpPrefix> = Vec::new();
    for prefix in sorted {
        // In this order the wider of two that overlap comes first.
        if !kept.last().is_some_and(|last| last.overlaps(&prefix)) {
            kept.push(prefix);
        }
    }
    kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The devices as the inside of a set; `None` if there are none.
pub(super) fn device_set(devices: &[String]) -> Result<Option<String>, FirewallError> {
    let mut quoted = BTreeSet::new();
    for device in devices {
        // IFNAMSIZ is 16 with the final zero. The kernel allows more letters than we let through,
        // but a quote would end the text and a star be a wildcard.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-:@+".contains(c);
        if device.is_empty() || device.len() > 15 || !device.chars().all(plain) {
            return Err(FirewallError::BadDevice(device.clone()));
        }
        quoted.insert(format!("\"{device}\""));
    }
    let quoted: Vec<String> = quoted.into_iter().collect();
    Ok((!quoted.is_empty()).then(|| quoted.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(list: &[&str]) -> Vec<IpPrefix> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn golden() {
        let redirect = Redirect {
            devices: vec!["br-lan".into(), "br-guest".into(), "br-lan".into()],
            port: 65100,
            bypass_v4: prefixes(&["203.0.113.7/32", "192.0.2.0/24", "192.0.2.8/32"]),
            bypass_v6: prefixes(&["2001:db8::7"]),
            ..Redirect::default()
        };
        assert_eq!(redirect.render().unwrap(), include_str!("golden.nft"));
    }

    #[test]
    fn golden_ipv4_only() {
        let redirect = Redirect {
            devices: vec!["eth0.7".into()],
            port: 1234,
            ipv6: false,
            ..Redirect::default()
        };
        let text = redirect.render().unwrap();
        assert!(text.contains("meta nfproto ipv4 meta l4proto tcp redirect to :1234"));
        assert!(!text.contains("ip6") && !text.contains("ipv6"), "{text}");
    }

    #[test]
    fn without_a_lan_the_port_is_closed() {
        let text = Redirect { port: 9, ..Redirect::default() }.render().unwrap();
        assert!(text.contains("tcp dport 9 reject with tcp reset"));
        assert!(!text.contains("redirect to") && !text.contains("return"), "{text}");
    }

    #[test]
    fn odd_names_are_refused() {
        for name in ["", "br lan", "a\"; flush ruleset; \"", "br-*", "sixteen-letters-", "a/b"] {
            let redirect = Redirect { devices: vec![name.into()], ..Redirect::default() };
            assert!(matches!(redirect.render(), Err(FirewallError::BadDevice(_))), "{name}");
        }
        let redirect = Redirect {
            devices: vec!["lan".into()],
            bypass_v4: prefixes(&["2001:db8::/32"]),
            ..Redirect::default()
        };
        assert!(matches!(redirect.render(), Err(FirewallError::BadPrefix(_))));
    }
}
