//! The server's table.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::FirewallError;
use super::ports::{PortForward, quoted, write_mss};
use super::render::list;
use crate::owned::Owner;
use crate::prefix::{Family, IpPrefix};
use crate::special::SPECIAL_V4;

/// Where packets out of the tunnel may go, and under which address; and what goes into it.
///
/// Routers reach the Internet, by the same rules as their TCP flows do, and the server's inner
/// addresses by ping; nothing else of the server, no private network around it, and no other
/// router. Into the tunnel go answers, connections to forwarded ports, and what is for a routed
/// network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpsTunnel {
    /// The tunnel's device.
    pub device: String,
    /// The largest packet it takes, bytes.
    pub mtu: u16,
    /// The network of the routers' IPv4 addresses.
    pub inner_v4: IpPrefix,
    /// The network of their IPv6 addresses.
    pub inner_v6: IpPrefix,
    /// The server's inner addresses.
    pub server: (Ipv4Addr, Ipv6Addr),
    /// A network routed to this server and on to the routers: not translated.
    pub routed: Option<IpPrefix>,
    /// Where packets may go.
    pub outside: Outside,
    /// Ports of this server's other addresses that lead to routers' inner addresses.
    pub forwards: Vec<PortForward>,
}

/// Where packets may go, and from which address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outside {
    /// Refused whatever else is said.
    pub deny: Vec<IpPrefix>,
    /// Allowed although private, special or the server's own.
    pub allow: Vec<IpPrefix>,
    /// Ports refused.
    pub deny_ports: Vec<u16>,
    /// Refused unless allowed: the server's own addresses, and those it is known by elsewhere.
    pub own: Vec<IpAddr>,
    /// The address to send from, IPv4; `None`: whichever the way out has.
    pub source_v4: Option<Ipv4Addr>,
    /// As above, IPv6.
    pub source_v6: Option<Ipv6Addr>,
}

const REFUSE: &str = "reject with icmpx admin-prohibited";

/// NAT64 (RFC 6052) and 6to4 (RFC 3056): who sends to one of these reaches the IPv4 address in it.
const WRAPPING: [([u16; 8], u8); 2] =
    [([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16)];

impl VpsTunnel {
    /// The ruleset that replaces the table with this one, in one transaction.
    ///
    /// # Errors
    /// [`FirewallError::BadDevice`] and [`FirewallError::BadPrefix`] for what nft would choke on.
    pub fn render(&self) -> Result<String, FirewallError> {
        for (prefix, family) in [(self.inner_v4, Family::V4), (self.inner_v6, Family::V6)]
            .into_iter()
            .chain(self.routed.map(|routed| (routed, Family::V6)))
        {
            if prefix.family() != family {
                return Err(FirewallError::BadPrefix(prefix));
            }
        }
        let table = Owner::Server.tunnel_table();
        let device = quoted(&self.device)?;
        let mut text = String::new();
        let _ = writeln!(text, "add table inet {table}");
        let _ = writeln!(text, "delete table inet {table}");
        let _ = writeln!(text, "table inet {table} {{");
        self.write_sources(&mut text, &device);
        self.write_translation(&mut text, &device);
        self.write_forwarding(&mut text, &device);
        self.write_input(&mut text, &device);
        self.outside.write(&mut text);
        text.push_str("}\n");
        Ok(text)
    }

    /// Before connection tracking: inner addresses come out of the tunnel, and nothing else does.
    fn write_sources(&self, text: &mut String, device: &str) {
        let mut v6 = vec![self.inner_v6];
        v6.extend(self.routed);
        text.push_str("\tchain sources {\n");
        text.push_str("\t\ttype filter hook prerouting priority raw; policy accept;\n");
        let _ = writeln!(text, "\t\tiifname {device} ip saddr != {} drop", self.inner_v4);
        let _ = writeln!(text, "\t\tiifname {device} ip6 saddr != {{ {} }} drop", list(&v6));
        let _ =
            writeln!(text, "\t\tiifname != {{ {device}, \"lo\" }} ip saddr {} drop", self.inner_v4);
        // A routed network may be in use on this server's other links too.
        let _ = writeln!(
            text,
            "\t\tiifname != {{ {device}, \"lo\" }} ip6 saddr {} drop",
            self.inner_v6
        );
        text.push_str("\t}\n");
    }

    fn write_translation(&self, text: &mut String, device: &str) {
        text.push_str("\tchain forwards {\n");
        text.push_str("\t\ttype nat hook prerouting priority dstnat; policy accept;\n");
        // Routers don't reach the server's own addresses, so neither these ports of them.
        let _ = writeln!(text, "\t\tiifname {{ {device}, \"lo\" }} return");
        text.push_str("\t\tfib daddr type != local return\n");
        for forward in &self.forwards {
            let nfproto = if forward.to.is_ipv4() { "ipv4" } else { "ipv6" };
            let _ = writeln!(text, "\t\tmeta nfproto {nfproto} {}", forward.words());
        }
        text.push_str("\t}\n");
        text.push_str("\tchain translate {\n");
        text.push_str("\t\ttype nat hook postrouting priority srcnat; policy accept;\n");
        let _ = writeln!(text, "\t\toifname {device} return");
        let way_v4 = self.outside.source_v4.map(|ip| format!("snat ip to {ip}"));
        let way_v6 = self.outside.source_v6.map(|ip| format!("snat ip6 to {ip}"));
        let masquerade = || "masquerade".to_owned();
        let (v4, v6) = (self.inner_v4, self.inner_v6);
        let _ = writeln!(text, "\t\tip saddr {v4} {}", way_v4.unwrap_or_else(masquerade));
        let _ = writeln!(text, "\t\tip6 saddr {v6} {}", way_v6.unwrap_or_else(masquerade));
        text.push_str("\t}\n");
    }

    fn write_forwarding(&self, text: &mut String, device: &str) {
        text.push_str("\tchain forwarded {\n");
        text.push_str("\t\ttype filter hook forward priority filter; policy accept;\n");
        let _ = writeln!(text, "\t\tiifname {device} goto from_router");
        let _ = writeln!(text, "\t\toifname {device} goto to_router");
        text.push_str("\t}\n");
        text.push_str("\tchain from_router {\n");
        // What connection tracking doesn't know isn't translated either.
        text.push_str("\t\tct state invalid drop\n");
        let _ = writeln!(text, "\t\toifname {device} {REFUSE}");
        write_mss(text, self.mtu);
        text.push_str("\t\tct direction reply accept\n");
        text.push_str("\t\tgoto outside\n");
        text.push_str("\t}\n");
        text.push_str("\tchain to_router {\n");
        text.push_str("\t\tct state invalid drop\n");
        write_mss(text, self.mtu);
        text.push_str("\t\tct direction reply accept\n");
        text.push_str("\t\tct status dnat accept\n");
        if let Some(routed) = self.routed {
            let _ = writeln!(text, "\t\tip6 daddr {routed} accept");
        }
        text.push_str("\t\tdrop\n");
        text.push_str("\t}\n");
    }

    fn write_input(&self, text: &mut String, device: &str) {
        let (v4, v6) = self.server;
        text.push_str("\tchain to_us {\n");
        text.push_str("\t\ttype filter hook input priority filter; policy accept;\n");
        let _ = writeln!(text, "\t\tiifname {device} goto to_us_from_router");
        text.push_str("\t}\n");
        text.push_str("\tchain to_us_from_router {\n");
        text.push_str("\t\tct direction reply accept\n");
        let _ = writeln!(text, "\t\tip daddr {v4} icmp type echo-request accept");
        let _ = writeln!(text, "\t\tip6 daddr {v6} icmpv6 type echo-request accept");
        for (word, own) in [("ip", IpAddr::V4(v4)), ("ip6", IpAddr::V6(v6))] {
            let _ = writeln!(
                text,
                "\t\t{word} daddr {own} meta l4proto {{ tcp, udp }} th dport 53 accept"
            );
        }
        // Own addresses are allowed only where that is said.
        text.push_str("\t\tjump exceptions\n");
        let _ = writeln!(text, "\t\t{REFUSE}");
        text.push_str("\t}\n");
    }
}

impl Outside {
    /// The same judgement as the server's on flows' targets: deny, allow, own, special. An IPv6
    /// address that wraps an IPv4 one is judged by both.
    fn write(&self, text: &mut String) {
        let (allow_v4, allow_v6) = split(&self.allow);
        let (deny_v4, mut deny_v6) = split(&self.deny);
        deny_v6.extend(wrapped(&deny_v4));
        let own: Vec<IpPrefix> = self.own.iter().map(|ip| IpPrefix::host(*ip)).collect();
        let (own_v4, own_v6) = split(&own);

        text.push_str("\tchain exceptions {\n");
        if !self.deny_ports.is_empty() {
            let mut ports: Vec<u16> = self.deny_ports.clone();
            ports.sort_unstable();
            ports.dedup();
            let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
            let ports = ports.join(", ");
            let _ =
                writeln!(text, "\t\tmeta l4proto {{ tcp, udp }} th dport {{ {ports} }} {REFUSE}");
        }
        rule(text, "ip", &deny_v4, REFUSE);
        rule(text, "ip6", &deny_v6, REFUSE);
        rule(text, "ip", &allow_v4, "accept");
        rule(text, "ip6", &wrapped(&allow_v4), "accept");
        let mut refused_v4 = own_v4;
        refused_v4.extend_from_slice(SPECIAL_V4);
        rule(text, "ip6", &wrapped(&refused_v4), REFUSE);
        rule(text, "ip6", &allow_v6, "accept");
        text.push_str("\t}\n");

        text.push_str("\tchain outside {\n");
        text.push_str("\t\tjump exceptions\n");
        rule(text, "ip", &refused_v4, REFUSE);
        rule(text, "ip6", &own_v6, REFUSE);
        // All global unicast addresses are in 2000::/3 (RFC 4291 §2.4 and IANA's register), but
        // for the NAT64 prefix; 2001::/23 of it is for protocols.
        let _ = writeln!(text, "\t\tip6 daddr != {{ 64:ff9b::/96, 2000::/3 }} {REFUSE}");
        let _ = writeln!(text, "\t\tip6 daddr 2001::/23 {REFUSE}");
        text.push_str("\t}\n");
    }
}

fn rule(text: &mut String, word: &str, prefixes: &[IpPrefix], verdict: &str) {
    if !prefixes.is_empty() {
        let _ = writeln!(text, "\t\t{word} daddr {{ {} }} {verdict}", list(prefixes));
    }
}

fn split(prefixes: &[IpPrefix]) -> (Vec<IpPrefix>, Vec<IpPrefix>) {
    prefixes.iter().copied().partition(|prefix| prefix.family() == Family::V4)
}

/// The IPv6 networks that lead to these IPv4 ones.
fn wrapped(prefixes: &[IpPrefix]) -> Vec<IpPrefix> {
    let mut found = Vec::new();
    for prefix in prefixes {
        let IpAddr::V4(v4) = prefix.addr() else { continue };
        for (segments, len) in WRAPPING {
            let base = u128::from(Ipv6Addr::from(segments));
            let inside = u128::from(u32::from(v4)) << (96 - len);
            let network = IpAddr::V6(Ipv6Addr::from(base | inside));
            found.extend(IpPrefix::new(network, len + prefix.prefix_len()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::*;

    fn prefixes(list: &[&str]) -> Vec<IpPrefix> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn tunnel() -> VpsTunnel {
        VpsTunnel {
            device: "wanbond0".into(),
            mtu: 1400,
            inner_v4: "10.239.0.0/16".parse().unwrap(),
            inner_v6: "fd01:203:405::/64".parse().unwrap(),
            server: ("10.239.0.1".parse().unwrap(), "fd01:203:405::1".parse().unwrap()),
            routed: None,
            outside: Outside {
                own: vec!["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()],
                ..Outside::default()
            },
            forwards: Vec::new(),
        }
    }

    #[test]
    fn golden() {
        assert_eq!(tunnel().render().unwrap(), include_str!("golden_vps_tunnel.nft"));
    }

    #[test]
    fn golden_with_everything() {
        let tunnel = VpsTunnel {
            routed: Some("2001:db8:1::/56".parse().unwrap()),
            outside: Outside {
                deny: prefixes(&["192.0.2.0/24", "2001:db8:bad::/48"]),
                allow: prefixes(&["10.20.0.0/16", "fd99::/16"]),
                deny_ports: vec![465, 25, 25],
                source_v4: Some("203.0.113.6".parse().unwrap()),
                source_v6: Some("2001:db8::6".parse().unwrap()),
                ..tunnel().outside
            },
            forwards: vec![
                PortForward {
                    transport: Transport::Tcp,
                    first: 8080,
                    last: 8080,
                    to: "10.239.0.2".parse().unwrap(),
                    to_port: None,
                },
                PortForward {
                    transport: Transport::Udp,
                    first: 5000,
                    last: 5010,
                    to: "fd01:203:405::2".parse().unwrap(),
                    to_port: None,
                },
            ],
            ..tunnel()
        };
        assert_eq!(tunnel.render().unwrap(), include_str!("golden_vps_tunnel_full.nft"));
    }

    #[test]
    fn wrapped_networks() {
        let shown: Vec<String> = wrapped(&prefixes(&["10.0.0.0/8", "1.2.3.4"]))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            ["64:ff9b::a00:0/104", "2002:a00::/24", "64:ff9b::102:304/128", "2002:102:304::/48"]
        );
    }

    #[test]
    fn wrong_families_are_refused() {
        let odd = VpsTunnel { inner_v4: tunnel().inner_v6, ..tunnel() };
        assert!(matches!(odd.render(), Err(FirewallError::BadPrefix(_))));
        let odd = VpsTunnel { routed: Some(tunnel().inner_v4), ..tunnel() };
        assert!(matches!(odd.render(), Err(FirewallError::BadPrefix(_))));
    }
}
