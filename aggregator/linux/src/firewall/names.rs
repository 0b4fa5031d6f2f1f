//! What the router itself asks name servers: for the LAN, whose hosts ask the router.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::FirewallError;
use super::render::{device_set, list};
use crate::prefix::{Family, IpPrefix};
use crate::special::{SPECIAL_V4, SPECIAL_V6};

/// The mark of the daemon's own questions, without which it might not find its server.
pub const OWN: u32 = 0x8000_0000;

/// DNS, and DNS over TLS and QUIC (RFC 7858, RFC 9250).
pub(super) const NAME_PORTS: &str = "meta l4proto { tcp, udp } th dport { 53, 853 }";

/// The router's own questions to name servers that would leave over a WAN. They go through the tunnel;
/// those to name servers that answer only in the WAN's own network go to the server instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The WANs' devices.
    pub wans: Vec<String>,
    /// Name servers that the WANs' networks gave. So are taken all in private networks on WANs.
    pub of_wans: Vec<IpAddr>,
    /// The server answers in place of these; else they are asked as they would be without us.
    pub ask_server: bool,
}

impl Names {
    /// Chains `names` and, with a `server` to ask, `name_servers`. Expects a chain `through`.
    pub(super) fn write(
        &self,
        text: &mut String,
        server: Option<(Ipv4Addr, Ipv6Addr)>,
        leave: [&[IpPrefix]; 2],
        block: bool,
    ) -> Result<(), FirewallError> {
        let Some(wans) = device_set(&self.wans)? else { return Ok(()) };
        text.push_str("\tchain names {\n");
        text.push_str("\t\ttype route hook output priority mangle; policy accept;\n");
        let _ = writeln!(text, "\t\tmeta mark and {OWN:#x} == {OWN:#x} return");
        let _ = writeln!(text, "\t\toifname {{ {wans} }} {NAME_PORTS} goto names_asked");
        text.push_str("\t}\n");
        text.push_str("\tchain names_asked {\n");
        // Began elsewhere, with another address.
        text.push_str("\t\tct state established,related return\n");
        for (word, special, leave) in [("ip", SPECIAL_V4, leave[0]), ("ip6", SPECIAL_V6, leave[1])]
        {
            let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(special));
            if !leave.is_empty() {
                let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(leave));
            }
        }
        if !self.ask_server && !block {
            for family in [Family::V4, Family::V6] {
                let theirs = self.of(family);
                if !theirs.is_empty() {
                    let word = if family == Family::V4 { "ip" } else { "ip6" };
                    let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(&theirs));
                }
            }
        }
        text.push_str("\t\tgoto through\n");
        text.push_str("\t}\n");
        let Some((v4, v6)) = server.filter(|_| self.ask_server) else { return Ok(()) };
        text.push_str("\tchain name_servers {\n");
        text.push_str("\t\ttype nat hook output priority -100; policy accept;\n");
        let _ = writeln!(text, "\t\tmeta mark and {OWN:#x} == {OWN:#x} return");
        for (word, family, special, to) in [
            ("ip", Family::V4, SPECIAL_V4, IpAddr::V4(v4)),
            ("ip6", Family::V6, SPECIAL_V6, IpAddr::V6(v6)),
        ] {
            let ask = format!("meta l4proto {{ tcp, udp }} th dport 53 dnat {word} to {to}");
            let _ = writeln!(
                text,
                "\t\toifname {{ {wans} }} {word} daddr {{ {} }} {ask}",
                list(special)
            );
            let theirs = self.of(family);
            if !theirs.is_empty() {
                let _ = writeln!(text, "\t\t{word} daddr {{ {} }} {ask}", list(&theirs));
            }
        }
        text.push_str("\t}\n");
        Ok(())
    }

    fn of(&self, family: Family) -> Vec<IpPrefix> {
        let of_wans = self.of_wans.iter().filter(|ip| Family::of(ip) == family);
        of_wans.map(|ip| IpPrefix::host(*ip)).collect()
    }
}
