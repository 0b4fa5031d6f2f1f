//! The addresses inside the tunnel.
//!
//! Every router has a number, kept in its file, from which its addresses follow: number *n* is
//! host *n* + 1 of the inner networks (the server is host 1), and network *n* of the routed one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ring::digest;
use wanbond_linux::prefix::IpPrefix;
use wanbond_proto::inner::Inner;
use wanbond_proto::keys::PublicKey;

use crate::config::InnerConfig;

/// The inner networks of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerNetwork {
    v4: IpPrefix,
    v6: IpPrefix,
    routed: Option<IpPrefix>,
}

impl InnerNetwork {
    /// What `server.toml` says; where it says nothing of IPv6, a network that follows from the
    /// server's key, so that it stays the same.
    #[must_use]
    pub fn new(config: &InnerConfig, key: &PublicKey) -> Self {
        let mut text = b"wanbond inner network".to_vec();
        text.extend_from_slice(key.as_bytes());
        let hash = digest::digest(&digest::SHA256, &text);
        let mut id = [0; 5];
        id.copy_from_slice(&hash.as_ref()[..5]);
        Self {
            v4: config.v4,
            v6: config.v6.unwrap_or_else(|| unique_local(id)),
            routed: config.routed,
        }
    }

    /// The inner IPv4 network.
    #[must_use]
    pub const fn v4(&self) -> IpPrefix {
        self.v4
    }

    /// The inner IPv6 network.
    #[must_use]
    pub const fn v6(&self) -> IpPrefix {
        self.v6
    }

    /// The network that the routers' prefixes are taken from.
    #[must_use]
    pub const fn routed(&self) -> Option<IpPrefix> {
        self.routed
    }

    /// The server's own addresses.
    #[must_use]
    pub fn server(&self) -> (Ipv4Addr, Ipv6Addr) {
        (host_v4(self.v4, 1), host_v6(self.v6, 1))
    }

    /// The addresses of the router with this number. `None` for number 0, and for one that the
    /// IPv4 network has no room for. A number beyond the routed network's end gets no prefix.
    #[must_use]
    pub fn of(&self, number: u32) -> Option<Inner> {
        // Without the network's own address and its broadcast.
        let last = (1u64 << (32 - self.v4.prefix_len())) - 2;
        let host = u64::from(number) + 1;
        if number == 0 || host > last {
            return None;
        }
        let prefix = self.routed.and_then(|routed| {
            let fits = u64::from(number) < 1 << (64 - routed.prefix_len()).min(63);
            let IpAddr::V6(network) = routed.addr() else { return None };
            fits.then(|| Ipv6Addr::from(u128::from(network) | u128::from(number) << 64))
        });
        let v6 = match prefix {
            Some(prefix) => Ipv6Addr::from(u128::from(prefix) | 1),
            None => host_v6(self.v6, host),
        };
        let (server_v4, server_v6) = self.server();
        Some(Inner {
            v4: host_v4(self.v4, host),
            v6,
            prefix: prefix.map(|prefix| (prefix, 64)),
            server_v4,
            server_v6,
        })
    }
}

/// The /64 of unique local addresses with this global id (RFC 4193 §3.1), subnet 0.
#[must_use]
pub fn unique_local(id: [u8; 5]) -> IpPrefix {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&id);
    let network = IpAddr::V6(Ipv6Addr::from(octets));
    IpPrefix::new(network, 64).unwrap_or(IpPrefix::host(network))
}

fn host_v4(network: IpPrefix, host: u64) -> Ipv4Addr {
    let IpAddr::V4(base) = network.addr() else { return Ipv4Addr::UNSPECIFIED };
    Ipv4Addr::from(u32::from(base) | u32::try_from(host).unwrap_or(0))
}

fn host_v6(network: IpPrefix, host: u64) -> Ipv6Addr {
    let IpAddr::V6(base) = network.addr() else { return Ipv6Addr::UNSPECIFIED };
    Ipv6Addr::from(u128::from(base) | u128::from(host))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn network(v4: &str, routed: Option<&str>) -> InnerNetwork {
        let config = InnerConfig {
            v4: v4.parse().unwrap(),
            v6: Some("fd01:203:405::/64".parse().unwrap()),
            routed: routed.map(|text| text.parse().unwrap()),
        };
        InnerNetwork::new(&config, &PublicKey::from_bytes([7; 32]))
    }

    #[test]
    fn numbers_become_addresses() {
        let inner = network("10.239.0.0/16", None).of(1).unwrap();
        assert_eq!(inner.v4, Ipv4Addr::new(10, 239, 0, 2));
        assert_eq!(inner.v6, "fd01:203:405::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(inner.server_v4, Ipv4Addr::new(10, 239, 0, 1));
        assert_eq!(inner.server_v6, "fd01:203:405::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(inner.prefix, None);
        let inner = network("10.239.0.0/16", None).of(300).unwrap();
        assert_eq!(inner.v4, Ipv4Addr::new(10, 239, 1, 45));
    }

    #[test]
    fn each_router_gets_its_own_64() {
        let network = network("10.239.0.0/16", Some("2001:db8:1::/56"));
        let inner = network.of(5).unwrap();
        assert_eq!(inner.prefix, Some(("2001:db8:1:5::".parse().unwrap(), 64)));
        assert_eq!(inner.v6, "2001:db8:1:5::1".parse::<Ipv6Addr>().unwrap());
        assert!(network.of(255).unwrap().prefix.is_some());
        let beyond = network.of(256).unwrap();
        assert_eq!((beyond.prefix, beyond.v6), (None, "fd01:203:405::101".parse().unwrap()));
    }

    #[test]
    fn a_full_network_gives_nothing() {
        let network = network("192.168.250.0/28", None);
        assert!(network.of(0).is_none());
        assert_eq!(network.of(13).unwrap().v4, Ipv4Addr::new(192, 168, 250, 14));
        assert!(network.of(14).is_none() && network.of(u32::MAX).is_none());
        let all: HashSet<_> = (1..14).filter_map(|n| network.of(n)).map(|i| (i.v4, i.v6)).collect();
        assert_eq!(all.len(), 13);
    }

    #[test]
    fn without_a_setting_the_key_decides() {
        let config = InnerConfig::default();
        let one = InnerNetwork::new(&config, &PublicKey::from_bytes([1; 32]));
        let two = InnerNetwork::new(&config, &PublicKey::from_bytes([2; 32]));
        assert_eq!(one, InnerNetwork::new(&config, &PublicKey::from_bytes([1; 32])));
        assert_ne!(one.v6(), two.v6());
        assert!(one.v6().to_string().starts_with("fd"), "{}", one.v6());
    }
}
