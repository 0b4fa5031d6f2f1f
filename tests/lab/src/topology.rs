//! Who has which address, and the scripts that make it so. Pure: text in, text out.
//!
//! ```text
//!  lan ──veth── router ══emulated WAN 1══ isp 1 ──veth── vps ──veth── inet
//!                   ║                        └───────veth─────────────┤
//!                   ╚═════emulated WAN 2══ isp 2 ──veth── vps         │
//!                                            └───────veth─────────────┘
//! ```
//!
//! Addresses are of the ranges kept for documentation where they stand for public ones, of the
//! carrier-grade NAT range on the WANs, and private on the LAN. WANs are numbered from 1 through
//! all routers of a lab; `g` below is that number.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The origin server of the lab's Internet.
pub const ORIGIN_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The same over IPv6.
pub const ORIGIN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x10);
/// A second address of the same machine, on which nothing listens unless a test does.
pub const SECOND_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
/// The same over IPv6.
pub const SECOND_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x11);
/// Nobody: the lab's Internet answers "host unreachable".
pub const UNREACHABLE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
/// The same over IPv6.
pub const UNREACHABLE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x200);
/// Nobody, and no answer ever comes.
pub const BLACKHOLE_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 201);
/// The same over IPv6.
pub const BLACKHOLE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xcafe, 0, 0, 0, 0, 0x201);
/// The VPS, the same through every ISP.
pub const VPS_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// The same over IPv6.
pub const VPS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf000, 0, 0, 0, 0, 0x10);

/// Packets that may wait in the kernel for the emulator to read them: more than a stall of its
/// own lets pile up, so that what is dropped is dropped by the scenario.
const TUN_QUEUE: u32 = 20_000;

/// The addresses of a WAN: they can change while the lab runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WanNet {
    /// Number of the WAN in the lab, from 1.
    pub number: u8,
    /// Last byte of the router's address.
    pub host: u8,
    /// Last byte of the ISP's.
    pub gateway: u8,
    /// Whether the ISP has IPv6.
    pub ipv6: bool,
    /// Whether the router has an IPv4 address now.
    pub has_ipv4: bool,
    /// Whether the router has an IPv6 address now.
    pub has_ipv6: bool,
    /// Whether the line is like PPPoE's: single addresses, and routes without a gateway.
    pub point_to_point: bool,
}

impl WanNet {
    /// As a WAN starts.
    #[must_use]
    pub const fn new(number: u8, ipv6: bool) -> Self {
        Self {
            number,
            host: 2,
            gateway: 1,
            ipv6,
            has_ipv4: true,
            has_ipv6: ipv6,
            point_to_point: false,
        }
    }

    /// The router gets another address.
    pub(crate) const fn next_host(&mut self) {
        self.host = if self.host >= 250 { 2 } else { self.host + 1 };
    }

    /// The router's address on the WAN, behind the ISP's NAT.
    #[must_use]
    pub const fn router_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(100, 64, self.number, self.host)
    }

    /// The router's IPv6 address on the WAN.
    #[must_use]
    pub const fn router_v6(&self) -> Ipv6Addr {
        wan_v6(self.number, self.host)
    }

    /// The ISP's address on the WAN: the router's gateway.
    #[must_use]
    pub const fn gateway_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(100, 64, self.number, self.gateway)
    }

    /// The ISP's IPv6 address on the WAN.
    #[must_use]
    pub const fn gateway_v6(&self) -> Ipv6Addr {
        wan_v6(self.number, self.gateway)
    }

    /// The address that the world sees this WAN's IPv4 traffic come from.
    #[must_use]
    pub const fn public_v4(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.number)
    }

    /// Lines that give the router's device its addresses and default routes.
    pub(crate) fn router_lines(&self, device: &str, mtu: u32, metric: u32) -> String {
        format!(
            "link set dev {device} up mtu {mtu} txqueuelen {TUN_QUEUE}\n{}{}",
            self.router_address_lines(device, "add"),
            self.default_route_lines(device, "add", metric)
        )
    }

    /// Lines that `add` or `del` the router's addresses.
    pub(crate) fn router_address_lines(&self, device: &str, verb: &str) -> String {
        let (of_v4, of_v6) = if self.point_to_point { (32, 128) } else { (24, 64) };
        let mut lines = String::new();
        if self.has_ipv4 {
            let _ = writeln!(lines, "addr {verb} {}/{of_v4} dev {device}", self.router_v4());
        }
        if self.has_ipv6 {
            let nodad = if verb == "add" { " nodad" } else { "" };
            let _ = writeln!(lines, "addr {verb} {}/{of_v6} dev {device}{nodad}", self.router_v6());
        }
        lines
    }

    /// Lines that `add`, `replace` or `del` the router's default routes over this WAN.
    pub(crate) fn default_route_lines(&self, device: &str, verb: &str, metric: u32) -> String {
        let via = |gateway: IpAddr| match self.point_to_point {
            true => String::new(),
            false => format!("via {gateway} "),
        };
        let mut lines = String::new();
        if self.has_ipv4 {
            let via = via(self.gateway_v4().into());
            let _ = writeln!(lines, "route {verb} 0.0.0.0/0 {via}dev {device} metric {metric}");
        }
        if self.has_ipv6 {
            let via = via(self.gateway_v6().into());
            let _ = writeln!(lines, "route {verb} ::/0 {via}dev {device} metric {metric}");
        }
        lines
    }

    /// Lines that `add` or `del` the ISP's addresses on the line.
    pub(crate) fn gateway_address_lines(&self, verb: &str) -> String {
        let mut lines = format!("addr {verb} {}/24 dev {LINE}\n", self.gateway_v4());
        if self.ipv6 {
            let nodad = if verb == "add" { " nodad" } else { "" };
            let _ = writeln!(lines, "addr {verb} {}/64 dev {LINE}{nodad}", self.gateway_v6());
        }
        lines
    }
}

/// The ISP's device on the WAN.
pub(crate) const LINE: &str = "line";
/// The router's device on the LAN.
pub(crate) const LAN: &str = "lan";

const fn wan_v6(number: u8, host: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, number as u16, 0, 0, 0, 0, host as u16)
}

/// The router's own address on its LAN.
#[must_use]
pub fn lan_gateway(router: usize) -> (Ipv4Addr, Ipv6Addr) {
    lan_address(router, 1)
}

/// A LAN host's addresses; hosts count from 0.
#[must_use]
pub fn lan_host(router: usize, host: usize) -> (Ipv4Addr, Ipv6Addr) {
    lan_address(router, 10 + u8::try_from(host).unwrap_or(200))
}

fn lan_address(router: usize, last: u8) -> (Ipv4Addr, Ipv6Addr) {
    // A scenario has at most a hundred routers.
    let net = 77 + u8::try_from(router).unwrap_or(100);
    // fd00:77:: for 192.168.77.0: the digits shall look alike.
    let digits = u16::from_str_radix(&net.to_string(), 16).unwrap_or_default();
    (
        Ipv4Addr::new(192, 168, net, last),
        Ipv6Addr::new(0xfd00, digits, 0, 0, 0, 0, 0, u16::from(last)),
    )
}

/// Whether `ip` belongs to the lab's Internet, that is, stands for a public address.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_documentation(),
        IpAddr::V6(v6) => v6.segments()[..2] == [0x2001, 0xdb8],
    }
}

/// Sysctls of every namespace.
pub(crate) const EVERYWHERE: &[(&str, &str)] = &[
    ("net.ipv4.conf.all.rp_filter", "2"),
    ("net.ipv4.conf.default.rp_filter", "2"),
    // Addresses are usable at once; the lab's routes are its own.
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.all.accept_ra", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.default.router_solicitations", "0"),
    // No run may profit from what an earlier one has learnt.
    ("net.ipv4.tcp_no_metrics_save", "1"),
    ("net.core.somaxconn", "8192"),
    ("net.ipv4.tcp_max_syn_backlog", "8192"),
];

/// What hosts and routers have out of the box, whatever this machine's own default is. The kernel
/// only allows it where the machine's owner allows cubic to everybody; the LAN hosts and the
/// Internet have it by their routes in any case, see [`CUBIC`].
pub(crate) const CONGESTION: &[(&str, &str)] = &[("net.ipv4.tcp_congestion_control", "cubic")];

/// Makes TCP over a route cubic. Not for the router and the VPS: it would override what the
/// daemons choose for their sockets.
const CUBIC: &str = "congctl cubic";

/// Sysctls of everything that forwards.
pub(crate) const FORWARDING: &[(&str, &str)] =
    &[("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1")];

/// The Internet answers every unreachable probe, not one a second.
pub(crate) const INET: &[(&str, &str)] =
    &[("net.ipv4.icmp_ratelimit", "0"), ("net.ipv6.icmp.ratelimit", "0")];

/// Lines for the LAN host's namespace, whose device hangs in the router as `peer`.
pub(crate) fn lan_lines(router: usize, host: usize, peer: &str, router_tid: i32) -> String {
    let (v4, v6) = lan_host(router, host);
    let (gateway_v4, gateway_v6) = lan_gateway(router);
    format!(
        "link add eth0 type veth peer name {peer} netns {router_tid}\n\
         link set dev eth0 up\n\
         addr add {v4}/24 dev eth0\n\
         addr add {v6}/64 dev eth0 nodad\n\
         route add 0.0.0.0/0 via {gateway_v4} dev eth0 {CUBIC}\n\
         route add ::/0 via {gateway_v6} dev eth0 {CUBIC}\n"
    )
}

/// Lines for the router's LAN side, and the name each host's cable has in it.
pub(crate) fn router_lan_lines(router: usize, peers: &[String]) -> String {
    let (v4, v6) = lan_gateway(router);
    let mut lines = String::new();
    if peers.len() > 1 {
        let _ = writeln!(lines, "link add {LAN} type bridge forward_delay 0 mcast_snooping 0");
        for peer in peers {
            let _ = writeln!(lines, "link set dev {peer} master {LAN}\nlink set dev {peer} up");
        }
    }
    let _ = writeln!(
        lines,
        "link set dev {LAN} up\naddr add {v4}/24 dev {LAN}\naddr add {v6}/64 dev {LAN} nodad"
    );
    lines
}

/// The names of the LAN hosts' cables in the router.
pub(crate) fn lan_peers(hosts: usize) -> Vec<String> {
    if hosts == 1 {
        return vec![LAN.into()];
    }
    (1..=hosts).map(|host| format!("port{host}")).collect()
}

/// A home router's NAT for what is not bonded.
pub(crate) fn router_nft(wans: &[&str]) -> String {
    let devices: Vec<_> = wans.iter().map(|wan| format!("\"{wan}\"")).collect();
    let devices = devices.join(", ");
    format!(
        "table inet lab {{\n\
         chain post {{ type nat hook postrouting priority srcnat; \
         oifname {{ {devices} }} masquerade; }}\n}}\n"
    )
}

/// Lines for an ISP, its line already there.
pub(crate) fn isp_lines(net: &WanNet, mtu: u32, vps_tid: i32, inet_tid: i32) -> String {
    let g = net.number;
    format!(
        "link set dev {LINE} up mtu {mtu} txqueuelen {TUN_QUEUE}\n\
         {line}\
         addr add {public}/32 dev lo\n\
         link add vps type veth peer name isp{g} netns {vps_tid}\n\
         link set dev vps up\n\
         addr add 10.202.{g}.2/30 dev vps\n\
         addr add fe80::2/64 dev vps nodad\n\
         link add inet type veth peer name isp{g} netns {inet_tid}\n\
         link set dev inet up\n\
         addr add 10.201.{g}.2/30 dev inet\n\
         addr add fe80::2/64 dev inet nodad\n\
         route add 198.51.100.0/24 via 10.202.{g}.1 dev vps\n\
         route add 2001:db8:f000::/64 via fe80::1 dev vps\n\
         route add 0.0.0.0/0 via 10.201.{g}.1 dev inet\n\
         route add ::/0 via fe80::1 dev inet\n",
        line = net.gateway_address_lines("add"),
        public = net.public_v4(),
    )
}

/// An ISP's carrier-grade NAT.
pub(crate) fn isp_nft(net: &WanNet) -> String {
    format!(
        "table ip lab {{\n\
         chain post {{ type nat hook postrouting priority srcnat; \
         oifname {{ \"vps\", \"inet\" }} ip saddr 100.64.0.0/10 snat to {}; }}\n}}\n",
        net.public_v4()
    )
}

/// Lines for the far end of an ISP's cable: `octet` is 201 in the Internet and 202 in the VPS.
pub(crate) fn far_lines(net: &WanNet, octet: u8) -> String {
    let g = net.number;
    let cubic = if octet == 201 { CUBIC } else { "" };
    let mut lines = format!(
        "link set dev isp{g} up\n\
         addr add 10.{octet}.{g}.1/30 dev isp{g}\n\
         addr add fe80::1/64 dev isp{g} nodad\n\
         route add {}/32 via 10.{octet}.{g}.2 dev isp{g} {cubic}\n",
        net.public_v4()
    );
    if net.ipv6 {
        let _ = writeln!(lines, "route add 2001:db8:{g:x}::/64 via fe80::2 dev isp{g} {cubic}");
    }
    lines
}

/// Lines for the VPS before the ISPs are connected.
pub(crate) fn vps_lines(inet_tid: i32) -> String {
    format!(
        "link add eth0 type veth peer name vps netns {inet_tid}\n\
         link set dev eth0 up\n\
         addr add {VPS_V4}/24 dev eth0\n\
         addr add {VPS_V6}/64 dev eth0 nodad\n\
         route add 0.0.0.0/0 via 198.51.100.1 dev eth0\n\
         route add ::/0 via 2001:db8:f000::1 dev eth0\n"
    )
}

/// Lines for the Internet, after the VPS is connected.
pub(crate) fn inet_lines() -> String {
    format!(
        "link set dev vps up\n\
         addr add 198.51.100.1/24 dev vps\n\
         addr add 2001:db8:f000::1/64 dev vps nodad\n\
         route add {VPS_V4}/32 dev vps {CUBIC}\n\
         route add {VPS_V6}/128 dev vps {CUBIC}\n\
         addr add {ORIGIN_V4}/32 dev lo\n\
         addr add {ORIGIN_V6}/128 dev lo nodad\n\
         addr add {SECOND_V4}/32 dev lo\n\
         addr add {SECOND_V6}/128 dev lo nodad\n\
         route add unreachable {UNREACHABLE_V4}/32\n\
         route add unreachable {UNREACHABLE_V6}/128\n\
         route add blackhole {BLACKHOLE_V4}/32\n\
         route add blackhole {BLACKHOLE_V6}/128\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_look_as_documented() {
        let net = WanNet::new(3, true);
        assert_eq!(net.router_v4().to_string(), "100.64.3.2");
        assert_eq!(net.gateway_v6().to_string(), "2001:db8:3::1");
        assert_eq!(lan_host(0, 0).0.to_string(), "192.168.77.10");
        assert_eq!(lan_host(1, 2).1.to_string(), "fd00:78::c");
        assert_eq!(lan_gateway(0).1.to_string(), "fd00:77::1");
    }

    #[test]
    fn public_is_what_stands_for_it() {
        for ip in [IpAddr::from(ORIGIN_V4), ORIGIN_V6.into(), VPS_V4.into(), VPS_V6.into()] {
            assert!(is_public(ip), "{ip}");
        }
        assert!(!is_public(lan_host(0, 0).0.into()));
        assert!(!is_public(lan_host(0, 0).1.into()));
    }

    #[test]
    fn without_ipv6_no_line_speaks_of_it() {
        let net = WanNet::new(1, false);
        let lines = net.router_lines("wan1", 1500, 10) + &net.gateway_address_lines("add");
        assert!(!lines.contains("2001"), "{lines}");
    }
}
