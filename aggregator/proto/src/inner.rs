//! The addresses inside the tunnel: which end has which, and which may a router send from.
//!
//! The server gives every router an IPv4 address, an IPv6 address and, where the VPS has a routed
//! network to share, an IPv6 prefix. A router translates what its LAN sends to these, so the
//! server never needs to know a LAN's own networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Names one run of a daemon: random, drawn once when it starts. What a peer's former run left
/// behind (sequence numbers, half of a flow) means nothing to its next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instance(pub [u8; Self::LEN]);

impl Instance {
    /// Its length in bytes.
    pub const LEN: usize = 8;
}

/// The inner addresses of one router and of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Inner {
    /// The router's IPv4 address.
    pub v4: Ipv4Addr,
    /// The router's IPv6 address; inside `prefix` if there is one.
    pub v6: Ipv6Addr,
    /// The network routed to the router: address and prefix length. Hosts in it need no
    /// translation.
    pub prefix: Option<(Ipv6Addr, u8)>,
    /// The server's end, IPv4.
    pub server_v4: Ipv4Addr,
    /// The server's end, IPv6.
    pub server_v6: Ipv6Addr,
}

impl Inner {
    /// The length of an encoded one, bytes.
    pub const LEN: usize = 4 + 16 + 1 + 16 + 4 + 16;

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let (prefix, length) = self.prefix.unwrap_or((Ipv6Addr::UNSPECIFIED, 0));
        let mut out = [0; Self::LEN];
        out[..4].copy_from_slice(&self.v4.octets());
        out[4..20].copy_from_slice(&self.v6.octets());
        out[20] = length;
        out[21..37].copy_from_slice(&prefix.octets());
        out[37..41].copy_from_slice(&self.server_v4.octets());
        out[41..].copy_from_slice(&self.server_v6.octets());
        out
    }

    /// From bytes. `None` if the router is given none (all zeros), or what makes no sense: the
    /// tunnel then carries no packets.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::LEN]) -> Option<Self> {
        let [a, b, c, d, rest @ ..] = *bytes;
        let v4 = Ipv4Addr::new(a, b, c, d);
        let v6 = read_v6(&rest, 0)?;
        let length = *rest.get(16)?;
        let prefix = read_v6(&rest, 17)?;
        let server_v4 = Ipv4Addr::from(<[u8; 4]>::try_from(rest.get(33..37)?).ok()?);
        let server_v6 = read_v6(&rest, 37)?;
        let host_v4 = |ip: Ipv4Addr| {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast())
        };
        let host_v6 =
            |ip: Ipv6Addr| !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast());
        let right = host_v4(v4)
            && host_v4(server_v4)
            && v4 != server_v4
            && host_v6(v6)
            && host_v6(server_v6)
            && v6 != server_v6;
        // Shorter ones nobody hands to one router, and a default route must never come this way.
        let prefix = match length {
            0 => None,
            16..=128 if u128::from(prefix) & !mask(length) == 0 => Some((prefix, length)),
            _ => return None,
        };
        right.then_some(Self { v4, v6, prefix, server_v4, server_v6 })
    }

    /// Whether the address is the router's.
    #[must_use]
    pub fn is_routers(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) => v4 == self.v4,
            IpAddr::V6(v6) => {
                v6 == self.v6
                    || self.prefix.is_some_and(|(prefix, length)| {
                        u128::from(v6) & mask(length) == u128::from(prefix)
                    })
            }
        }
    }

    /// Whether the router may send this IP packet: it has a source address, and that is the
    /// router's own. For every packet that the server takes out of a router's tunnel: without it
    /// a router could speak for another one.
    #[must_use]
    pub fn permits_source(&self, packet: &[u8]) -> bool {
        source_of(packet).is_some_and(|source| self.is_routers(source))
    }

    /// Whether this IP packet is for the router: what the server may put into its tunnel.
    #[must_use]
    pub fn permits_destination(&self, packet: &[u8]) -> bool {
        destination_of(packet).is_some_and(|destination| self.is_routers(destination))
    }
}

/// The source address of an IP packet; `None` if it is none or is cut.
#[must_use]
pub fn source_of(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => read_v4(packet, 12).map(IpAddr::V4),
        6 if packet.len() >= 40 => read_v6(packet, 8).map(IpAddr::V6),
        _ => None,
    }
}

/// The destination address of an IP packet, by which the server finds the router; `None` if it is
/// none or is cut.
#[must_use]
pub fn destination_of(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 if packet.len() >= 20 => read_v4(packet, 16).map(IpAddr::V4),
        6 if packet.len() >= 40 => read_v6(packet, 24).map(IpAddr::V6),
        _ => None,
    }
}

fn read_v4(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    bytes.get(at..)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

fn read_v6(bytes: &[u8], at: usize) -> Option<Ipv6Addr> {
    bytes.get(at..)?.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

const fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        1..=127 => u128::MAX << (128 - length),
        _ => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inner() -> Inner {
        Inner {
            v4: Ipv4Addr::new(10, 239, 0, 2),
            v6: "2001:db8:1:1::1".parse().unwrap(),
            prefix: Some(("2001:db8:1:1::".parse().unwrap(), 64)),
            server_v4: Ipv4Addr::new(10, 239, 0, 1),
            server_v6: "fd77::1".parse().unwrap(),
        }
    }

    fn packet_v4(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0];
        packet.extend(source);
        packet.extend(destination);
        packet
    }

    fn packet_v6(source: &str, destination: &str) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
        packet.extend(source.parse::<Ipv6Addr>().unwrap().octets());
        packet.extend(destination.parse::<Ipv6Addr>().unwrap().octets());
        packet
    }

    #[test]
    fn survives_the_trip() {
        let without = Inner { prefix: None, v6: "fd77::2".parse().unwrap(), ..inner() };
        for inner in [inner(), without] {
            assert_eq!(Inner::decode(&inner.encode()), Some(inner));
        }
        assert_eq!(Inner::decode(&[0; Inner::LEN]), None);
    }

    #[test]
    fn a_router_sends_from_its_own_addresses_only() {
        let inner = inner();
        assert!(inner.permits_source(&packet_v4([10, 239, 0, 2], [1, 1, 1, 1])));
        assert!(inner.permits_source(&packet_v6("2001:db8:1:1::77", "2001:db8::1")));
        for source in [[10, 239, 0, 3], [10, 239, 0, 1], [192, 168, 1, 2], [127, 0, 0, 1]] {
            assert!(!inner.permits_source(&packet_v4(source, [10, 239, 0, 2])), "{source:?}");
        }
        for source in ["2001:db8:1:2::1", "fd77::2", "fe80::1", "::"] {
            assert!(!inner.permits_source(&packet_v6(source, "2001:db8:1:1::1")), "{source}");
        }
        assert!(inner.permits_destination(&packet_v4([1, 1, 1, 1], [10, 239, 0, 2])));
        assert!(!inner.permits_destination(&packet_v4([10, 239, 0, 2], [1, 1, 1, 1])));
    }

    #[test]
    fn what_is_cut_or_no_packet_is_nobodys() {
        let whole = packet_v4([10, 239, 0, 2], [1, 1, 1, 1]);
        for length in 0..whole.len() {
            assert!(!inner().permits_source(&whole[..length]), "{length}");
        }
        let whole = packet_v6("2001:db8:1:1::1", "::1");
        for length in 0..whole.len() {
            assert!(!inner().permits_source(&whole[..length]), "{length}");
        }
        let mut other = packet_v4([10, 239, 0, 2], [1, 1, 1, 1]);
        other[0] = 0x55;
        assert!(!inner().permits_source(&other));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: [u8; Inner::LEN], packet: Vec<u8>) {
            if let Some(inner) = Inner::decode(&bytes) {
                prop_assert_eq!(Inner::decode(&inner.encode()), Some(inner));
                let _ = inner.permits_source(&packet);
            }
        }

        #[test]
        fn the_mask_is_that_of_the_prefix(length in 16..=128u8, host: u128) {
            let prefix = 0x2001_0db8_0001_0001_u128 << 64 & mask(length);
            let inner = Inner { prefix: Some((prefix.into(), length)), ..inner() };
            let inside = prefix | (host & !mask(length));
            prop_assert!(inner.is_routers(IpAddr::V6(inside.into())));
            let outside = Ipv6Addr::from(prefix ^ 1 << (128 - u32::from(length)));
            prop_assert!(outside == inner.v6 || !inner.is_routers(IpAddr::V6(outside)));
        }
    }
}
