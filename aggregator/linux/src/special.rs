//! Addresses that are nobody's on the public Internet.
//!
//! Two sides use the same list. The router never redirects a LAN host's connection to one of
//! them: it is meant for something nearby. The server never connects to one on a router's
//! behalf: it would reach into the VPS or its provider's network.
//!
//! The ranges reserved for documentation and for benchmarks (192.0.2.0/24, 198.51.100.0/24,
//! 203.0.113.0/24 of RFC 5737, 198.18.0.0/15 of RFC 2544, 2001:db8::/32 of RFC 3849) are left out
//! on purpose: they protect nothing, and labs use them as their Internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::prefix::IpPrefix;

/// IPv4 ranges that are not of the public Internet. See RFC 6890 for the register.
pub const SPECIAL_V4: &[IpPrefix] = &[
    IpPrefix::v4([0, 0, 0, 0], 8),      // "this network", RFC 791
    IpPrefix::v4([10, 0, 0, 0], 8),     // private, RFC 1918
    IpPrefix::v4([100, 64, 0, 0], 10),  // carrier-grade NAT, RFC 6598
    IpPrefix::v4([127, 0, 0, 0], 8),    // loopback, RFC 1122
    IpPrefix::v4([169, 254, 0, 0], 16), // link-local, and clouds' metadata services, RFC 3927
    IpPrefix::v4([172, 16, 0, 0], 12),  // private, RFC 1918
    IpPrefix::v4([192, 0, 0, 0], 24),   // protocol assignments such as DS-Lite, RFC 6890
    IpPrefix::v4([192, 168, 0, 0], 16), // private, RFC 1918
    IpPrefix::v4([224, 0, 0, 0], 4),    // multicast, RFC 5771
    IpPrefix::v4([240, 0, 0, 0], 4),    // reserved and broadcast, RFC 1112
];

/// IPv6 ranges that are not of the public Internet.
pub const SPECIAL_V6: &[IpPrefix] = &[
    // The unspecified address, loopback, and IPv4-compatible addresses (RFC 4291 §2.5).
    IpPrefix::v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    // IPv4-mapped: never on the wire (RFC 4291 §2.5.5.2).
    IpPrefix::v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    // NAT64 of local use, which may lead to private IPv4 (RFC 8215).
    IpPrefix::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    IpPrefix::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), // unique local, RFC 4193
    IpPrefix::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), // link-local, RFC 4291
    IpPrefix::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), // site-local of old, RFC 3879
    IpPrefix::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), // multicast, RFC 4291
];

/// Whether `ip` is local, private, multicast or otherwise not of the public Internet.
///
/// An IPv6 address that only wraps an IPv4 one is judged by what it wraps: IPv4-mapped, NAT64
/// (RFC 6052, `64:ff9b::/96`), 6to4 (RFC 3056) and Teredo (RFC 4380).
#[must_use]
pub fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_special_v4(v4),
        IpAddr::V6(v6) => match embedded_v4(v6) {
            Some(v4) => is_special_v4(v4),
            None => SPECIAL_V6.iter().any(|range| range.contains(ip)),
        },
    }
}

fn is_special_v4(v4: Ipv4Addr) -> bool {
    SPECIAL_V4.iter().any(|range| range.contains(IpAddr::V4(v4)))
}

/// The IPv4 address a packet to `v6` would end at, where the two are bound together.
fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(join(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        // Teredo keeps the client's address with every bit turned (RFC 4380 §4).
        [0x2001, 0, _, _, _, _, high, low] => Some(join(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special(text: &str) -> bool {
        is_special(text.parse().unwrap())
    }

    #[test]
    fn local_and_private_are_special() {
        for ip in [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b:1::1",
        ] {
            assert!(special(ip), "{ip}");
        }
    }

    #[test]
    fn public_and_documentation_are_not() {
        for ip in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "223.255.255.255",
            "2001:db8::1",
            "2606:4700::1111",
        ] {
            assert!(!special(ip), "{ip}");
        }
    }

    #[test]
    fn wrapped_v4_is_judged_by_what_it_wraps() {
        for (ip, expected) in [
            ("::ffff:10.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("::ffff:1.1.1.1", false),
            ("64:ff9b::7f00:1", true),
            ("64:ff9b::101:101", false),
            ("2002:7f00:1::", true),
            ("2002:c0a8:101::1", true),
            ("2002:101:101::1", false),
            // Teredo for 192.168.1.1 and for 1.1.1.1.
            ("2001:0:4136:e378:8000:63bf:3f57:fefe", true),
            ("2001:0:4136:e378:8000:63bf:fefe:fefe", false),
        ] {
            assert_eq!(special(ip), expected, "{ip}");
        }
    }
}
