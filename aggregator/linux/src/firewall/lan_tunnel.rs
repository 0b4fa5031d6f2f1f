//! The router's table for the tunnel.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::FirewallError;
use super::bypass::BYPASS;
use super::names::{NAME_PORTS, Names, OWN};
use super::ports::{PortForward, quoted, write_mss};
use super::render::{device_set, list};
use crate::owned::Owner;
use crate::prefix::{Family, IpPrefix};
use crate::special::{SPECIAL_V4, SPECIAL_V6};

/// The bit of packets' and connections' marks that says "through the tunnel". One bit, and a high
/// one, as mwan3, pbr, tailscale and container engines use the lower three bytes; the others'
/// bits stay as they are.
pub const MARK: u32 = 0x1000_0000;
/// The mark, as a bit, of packets that came through the tunnel: never a connection's. It leads nothing
/// anywhere that has another route.
pub const CAME_THROUGH: u32 = 0x0800_0000;

/// Which of the LAN's packets go into the tunnel, and what may come out of it.
///
/// Packets from the LAN to the Internet get [`MARK`], which a routing rule sends to the tunnel.
/// Never marked are the same destinations as a [`Redirect`](super::Redirect) leaves alone, and TCP
/// unless asked for. A connection that has begun in the tunnel stays there. Out of the tunnel come
/// answers, and connections to the forwarded ports; the answers of the latter get the mark too,
/// whatever they are. What [`Bypass`](super::Bypass) has given to a WAN is left alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanTunnel {
    /// The LAN's devices.
    pub devices: Vec<String>,
    /// Send TCP through the tunnel as well, as it is not redirected.
    pub tcp: bool,
    /// The tunnel is silent at present: nothing new goes in. TCP connections that began in it stay,
    /// as they would not survive another address, and go on if it comes back in time.
    pub silent: bool,
    /// Send IPv4.
    pub ipv4: bool,
    /// Send IPv6.
    pub ipv6: bool,
    /// IPv4 destinations to leave alone, such as the server's own address.
    pub bypass_v4: Vec<IpPrefix>,
    /// IPv6 destinations to leave alone.
    pub bypass_v6: Vec<IpPrefix>,
    /// What the router itself asks name servers goes through the tunnel too; `None` leaves that alone.
    pub names: Option<Names>,
    /// Refuse what would leave for the Internet around the tunnel, name servers included, unless
    /// [`Bypass`](super::Bypass) or the lists above say so.
    pub block: bool,
    /// The tunnel; `None` if there is none at present. Packets are marked all the same: what
    /// becomes of them the routes say.
    pub end: Option<TunnelEnd>,
}

/// The router's end of the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelEnd {
    /// Its device.
    pub device: String,
    /// The largest packet it takes, bytes.
    pub mtu: u16,
    /// The router's inner address, which the LAN's packets get.
    pub v4: Ipv4Addr,
    /// As above.
    pub v6: Ipv6Addr,
    /// The server's inner addresses, where it answers what is asked of a name server.
    pub server_v4: Ipv4Addr,
    /// As above.
    pub server_v6: Ipv6Addr,
    /// A network that needs no translation.
    pub prefix: Option<IpPrefix>,
    /// Where connections to ports of the inner addresses lead.
    pub forwards: Vec<PortForward>,
}

impl LanTunnel {
    /// The ruleset that replaces the table with this one, in one transaction.
    ///
    /// # Errors
    /// [`FirewallError::BadDevice`] and [`FirewallError::BadPrefix`] for what nft would choke on.
    pub fn render(&self) -> Result<String, FirewallError> {
        let table = Owner::Router.tunnel_table();
        let devices = device_set(&self.devices)?;
        let mut text = String::new();
        // Adding before deleting, as deleting what isn't there is an error.
        let _ = writeln!(text, "add table inet {table}");
        let _ = writeln!(text, "delete table inet {table}");
        let _ = writeln!(text, "table inet {table} {{");
        if let Some(devices) = &devices {
            self.write_marks(&mut text, devices)?;
        }
        let asks =
            self.names.as_ref().filter(|_| !self.silent && (self.end.is_some() || self.block));
        if devices.is_some() || asks.is_some() {
            write_through(&mut text);
        }
        if let Some(names) = asks {
            let server = self.end.as_ref().map(|end| (end.server_v4, end.server_v6));
            names.write(&mut text, server, [&self.bypass_v4, &self.bypass_v6], self.block)?;
        }
        if self.block {
            self.write_block(&mut text, devices.as_deref())?;
        }
        if let Some(end) = &self.end {
            end.write(&mut text, devices.as_deref())?;
        }
        text.push_str("}\n");
        Ok(text)
    }

    fn write_marks(&self, text: &mut String, devices: &str) -> Result<(), FirewallError> {
        text.push_str("\tchain from_lan {\n");
        text.push_str("\t\ttype filter hook prerouting priority mangle; policy accept;\n");
        let _ = writeln!(text, "\t\tiifname {{ {devices} }} goto choose");
        text.push_str("\t}\n");
        text.push_str("\tchain choose {\n");
        let _ = writeln!(text, "\t\tct mark and {BYPASS:#x} == {BYPASS:#x} return");
        if self.silent {
            let began = format!("ct mark and {MARK:#x} == {MARK:#x}");
            let _ = writeln!(text, "\t\tmeta l4proto tcp {began} goto through");
            text.push_str("\t}\n");
            return Ok(());
        }
        let _ = writeln!(text, "\t\tct mark and {MARK:#x} == {MARK:#x} goto through");
        // What began before the tunnel was there: TCP would not survive another address, and what
        // was not translated from the start is not translated later. Other connections move.
        if self.tcp {
            text.push_str("\t\tmeta l4proto tcp ct state established return\n");
        } else {
            text.push_str("\t\tmeta l4proto tcp return\n");
        }
        text.push_str("\t\tct state established,related ct status & snat == 0 return\n");
        text.push_str("\t\tfib daddr type { local, broadcast, anycast, multicast } return\n");
        for (wanted, family, word, special, bypass) in [
            (self.ipv4, Family::V4, "ip", SPECIAL_V4, &self.bypass_v4),
            (self.ipv6, Family::V6, "ip6", SPECIAL_V6, &self.bypass_v6),
        ] {
            if let Some(wrong) = bypass.iter().find(|prefix| prefix.family() != family) {
                return Err(FirewallError::BadPrefix(*wrong));
            }
            if !wanted {
                continue;
            }
            let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(special));
            if !bypass.is_empty() {
                let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(bypass));
            }
            let nfproto = if family == Family::V4 { "ipv4" } else { "ipv6" };
            let _ = writeln!(text, "\t\tmeta nfproto {nfproto} goto through");
        }
        text.push_str("\t}\n");
        Ok(())
    }
}

impl LanTunnel {
    /// The last word on what leaves, whatever was marked and redirected before.
    fn write_block(&self, text: &mut String, lan: Option<&str>) -> Result<(), FirewallError> {
        if let Some(names) = &self.names
            && let Some(wans) = device_set(&names.wans)?
        {
            text.push_str("\tchain block_names {\n");
            text.push_str("\t\ttype filter hook output priority filter; policy accept;\n");
            // The device is here what it was before a packet was led elsewhere.
            let _ = writeln!(text, "\t\tmeta mark and {:#x} != 0 return", OWN | MARK);
            if let Some(end) = &self.end {
                let _ = writeln!(text, "\t\tip daddr {} return", end.server_v4);
                let _ = writeln!(text, "\t\tip6 daddr {} return", end.server_v6);
            }
            let _ = writeln!(
                text,
                "\t\toifname {{ {wans} }} {NAME_PORTS} reject with icmpx admin-prohibited"
            );
            text.push_str("\t}\n");
        }
        let Some(lan) = lan else { return Ok(()) };
        text.push_str("\tchain around {\n");
        text.push_str("\t\ttype filter hook forward priority filter; policy accept;\n");
        let own = quoted(crate::tunnel::DEVICE)?;
        let _ = writeln!(text, "\t\tiifname {{ {lan} }} oifname != {{ {lan}, {own} }} goto block");
        text.push_str("\t}\n");
        text.push_str("\tchain block {\n");
        text.push_str("\t\tct direction reply return\n");
        let _ = writeln!(text, "\t\tct mark and {BYPASS:#x} == {BYPASS:#x} return");
        if let Some(names) = &self.names
            && let Some(wans) = device_set(&names.wans)?
        {
            // A modem's name server is near, and asks others in turn.
            let _ = writeln!(
                text,
                "\t\toifname {{ {wans} }} {NAME_PORTS} reject with icmpx admin-prohibited"
            );
        }
        for (word, special, bypass) in
            [("ip", SPECIAL_V4, &self.bypass_v4), ("ip6", SPECIAL_V6, &self.bypass_v6)]
        {
            let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(special));
            if !bypass.is_empty() {
                let _ = writeln!(text, "\t\t{word} daddr {{ {} }} return", list(bypass));
            }
        }
        text.push_str("\t\tmeta l4proto tcp reject with tcp reset\n");
        text.push_str("\t\treject with icmpx admin-prohibited\n");
        text.push_str("\t}\n");
        Ok(())
    }
}

fn write_through(text: &mut String) {
    text.push_str("\tchain through {\n");
    let _ = writeln!(text, "\t\tct mark set ct mark or {MARK:#x}");
    let _ = writeln!(text, "\t\tmeta mark set meta mark or {MARK:#x}");
    text.push_str("\t}\n");
}

impl TunnelEnd {
    fn write(&self, text: &mut String, lan: Option<&str>) -> Result<(), FirewallError> {
        let Self { v4, v6, .. } = self;
        let device = quoted(&self.device)?;
        // What came through the tunnel is answered through the tunnel, by LAN hosts (above) and
        // by the router itself.
        text.push_str("\tchain from_tunnel {\n");
        text.push_str("\t\ttype filter hook prerouting priority mangle; policy accept;\n");
        let _ =
            writeln!(text, "\t\tiifname {device} ct state new ct mark set ct mark or {MARK:#x}");
        let _ = writeln!(
            text,
            "\t\tiifname {device} meta nfproto ipv4 meta mark set meta mark or {CAME_THROUGH:#x}"
        );
        text.push_str("\t}\n");
        text.push_str("\tchain answers {\n");
        text.push_str("\t\ttype route hook output priority mangle; policy accept;\n");
        let _ = writeln!(
            text,
            "\t\tct mark and {MARK:#x} == {MARK:#x} meta mark set meta mark or {MARK:#x}"
        );
        text.push_str("\t}\n");

        text.push_str("\tchain forwards {\n");
        text.push_str("\t\ttype nat hook prerouting priority dstnat; policy accept;\n");
        for forward in &self.forwards {
            let own = match forward.to {
                IpAddr::V4(_) => format!("ip daddr {v4}"),
                IpAddr::V6(_) => format!("ip6 daddr {v6}"),
            };
            let _ = writeln!(text, "\t\tiifname {device} {own} {}", forward.words());
        }
        text.push_str("\t}\n");
        // Masquerade and not a fixed address: the kernel then ends a connection's translation
        // when its packets leave by another device, so that flows can move to a WAN and back.
        text.push_str("\tchain translate {\n");
        text.push_str("\t\ttype nat hook postrouting priority srcnat; policy accept;\n");
        let _ = writeln!(text, "\t\toifname {device} ip saddr != {v4} masquerade");
        let mut own_v6 = vec![IpPrefix::host(IpAddr::V6(*v6))];
        if let Some(prefix) = self.prefix {
            if prefix.family() != Family::V6 {
                return Err(FirewallError::BadPrefix(prefix));
            }
            own_v6.push(prefix);
        }
        let _ =
            writeln!(text, "\t\toifname {device} ip6 saddr != {{ {} }} masquerade", list(&own_v6));
        text.push_str("\t}\n");

        text.push_str("\tchain forwarded {\n");
        text.push_str("\t\ttype filter hook forward priority filter; policy accept;\n");
        let _ = writeln!(text, "\t\toifname {device} goto into_tunnel");
        let _ = writeln!(text, "\t\tiifname {device} goto out_of_tunnel");
        text.push_str("\t}\n");
        text.push_str("\tchain into_tunnel {\n");
        // What connection tracking doesn't know isn't translated either.
        text.push_str("\t\tct state invalid drop\n");
        match lan {
            Some(lan) => {
                let _ = writeln!(text, "\t\tiifname != {{ {lan} }} drop");
            }
            None => text.push_str("\t\tdrop\n"),
        }
        write_mss(text, self.mtu);
        text.push_str("\t}\n");
        text.push_str("\tchain out_of_tunnel {\n");
        text.push_str("\t\tct state invalid drop\n");
        write_mss(text, self.mtu);
        text.push_str("\t\tct direction reply accept\n");
        if let Some(lan) = lan {
            let _ = writeln!(text, "\t\toifname {{ {lan} }} ct status dnat accept");
        }
        text.push_str("\t\tdrop\n");
        text.push_str("\t}\n");

        text.push_str("\tchain to_us {\n");
        text.push_str("\t\ttype filter hook input priority filter; policy accept;\n");
        let _ = writeln!(text, "\t\tiifname {device} goto to_us_from_tunnel");
        text.push_str("\t}\n");
        text.push_str("\tchain to_us_from_tunnel {\n");
        text.push_str("\t\tct direction reply accept\n");
        text.push_str("\t\tct status dnat accept\n");
        text.push_str("\t\ticmp type echo-request accept\n");
        text.push_str("\t\ticmpv6 type echo-request accept\n");
        text.push_str("\t\tdrop\n");
        text.push_str("\t}\n");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Transport;
    use super::*;

    fn forward(
        transport: Transport,
        ports: (u16, u16),
        to: &str,
        port: Option<u16>,
    ) -> PortForward {
        let to = to.parse().unwrap();
        PortForward { transport, first: ports.0, last: ports.1, to, to_port: port }
    }

    fn tunnel() -> LanTunnel {
        LanTunnel {
            devices: vec!["br-lan".into(), "br-guest".into()],
            tcp: false,
            silent: false,
            ipv4: true,
            ipv6: true,
            bypass_v4: vec!["203.0.113.7/32".parse().unwrap()],
            bypass_v6: vec!["2001:db8::7".parse().unwrap()],
            names: None,
            block: false,
            end: Some(TunnelEnd {
                device: "wanbond0".into(),
                mtu: 1400,
                v4: "10.239.0.2".parse().unwrap(),
                v6: "2001:db8:1:1::1".parse().unwrap(),
                server_v4: "10.239.0.1".parse().unwrap(),
                server_v6: "fd77::1".parse().unwrap(),
                prefix: Some("2001:db8:1:1::/64".parse().unwrap()),
                forwards: vec![
                    forward(Transport::Tcp, (8080, 8080), "192.168.1.10", Some(80)),
                    forward(Transport::Udp, (5000, 5010), "192.168.1.11", None),
                    forward(Transport::Tcp, (443, 443), "fd00:1::10", Some(8443)),
                ],
            }),
        }
    }

    #[test]
    fn golden() {
        assert_eq!(tunnel().render().unwrap(), include_str!("golden_lan_tunnel.nft"));
    }

    #[test]
    fn without_a_tunnel_packets_are_marked_only() {
        let text = LanTunnel { end: None, tcp: true, ipv6: false, ..tunnel() }.render().unwrap();
        assert_eq!(text, include_str!("golden_lan_tunnel_down.nft"));
    }

    #[test]
    fn a_silent_tunnel_keeps_the_tcp_connections_it_has() {
        let text = LanTunnel { silent: true, tcp: true, ..tunnel() }.render().unwrap();
        let choose = "chain choose {\n\t\tct mark and 0x20000000 == 0x20000000 return\n\t\tmeta l4proto tcp ct mark and 0x10000000 == 0x10000000 \
                      goto through\n\t}\n";
        assert!(text.contains(choose) && text.contains("chain translate"), "{text}");
    }

    fn names() -> Names {
        Names {
            wans: vec!["pppoe-wan".into(), "wwan0".into()],
            of_wans: ["192.0.2.53", "2001:db8:53::1"].map(|ip| ip.parse().unwrap()).to_vec(),
            ask_server: true,
        }
    }

    #[test]
    fn golden_with_names_and_nothing_around() {
        let text = LanTunnel { names: Some(names()), block: true, ..tunnel() }.render().unwrap();
        assert_eq!(text, include_str!("golden_lan_tunnel_block.nft"));
        let down = LanTunnel { names: Some(names()), block: true, end: None, ..tunnel() };
        let text = down.render().unwrap();
        assert!(
            text.contains("chain names_asked") && !text.contains("chain name_servers"),
            "{text}"
        );
        // Around a silent server the router asks as it would without us.
        let silent = LanTunnel { names: Some(names()), silent: true, ..tunnel() }.render().unwrap();
        assert!(!silent.contains("chain names"), "{silent}");
    }

    #[test]
    fn without_a_lan_nothing_goes_in() {
        let text = LanTunnel { devices: Vec::new(), ..tunnel() }.render().unwrap();
        assert!(!text.contains("chain choose"), "{text}");
        assert!(
            text.contains("chain into_tunnel {\n\t\tct state invalid drop\n\t\tdrop\n"),
            "{text}"
        );
    }

    #[test]
    fn odd_names_and_networks_are_refused() {
        let mut odd = tunnel();
        odd.end.as_mut().unwrap().device = "a\"; flush ruleset; \"".into();
        assert!(matches!(odd.render(), Err(FirewallError::BadDevice(_))));
        let mut odd = tunnel();
        odd.end.as_mut().unwrap().prefix = Some("10.0.0.0/8".parse().unwrap());
        assert!(matches!(odd.render(), Err(FirewallError::BadPrefix(_))));
        let odd = LanTunnel { bypass_v4: tunnel().bypass_v6, ..tunnel() };
        assert!(matches!(odd.render(), Err(FirewallError::BadPrefix(_))));
    }
}
