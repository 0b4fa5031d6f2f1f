//! Where a router's flow may go.
//!
//! Order of judgement: refused ports, `deny`, `allow`, then this server's own addresses and those
//! that are not of the public Internet. An IPv6 address that wraps an IPv4 one is judged by both.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;
use wanbond_linux::special::is_special;

use crate::config::EgressConfig;

/// Azure's platform service, a public address that answers inside its machines only.
pub(crate) const AZURE_PLATFORM: IpAddr = IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16));

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denial {
    /// Private, local, multicast or otherwise not of the public Internet.
    #[error("not an address of the public Internet")]
    Special,
    /// One of this server's own addresses.
    #[error("one of the server's own addresses")]
    Own,
    /// In `egress.deny`.
    #[error("denied by the server's settings")]
    Configured,
    /// In `egress.deny_ports`, or port 0.
    #[error("port denied by the server's settings")]
    Port,
    /// The server's firewall or security policy refused it.
    #[error("refused by the server's firewall")]
    Firewall,
}

impl Denial {
    /// Its name in status documents.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Special => "private_address",
            Self::Own => "own_address",
            Self::Configured => "denied_address",
            Self::Port => "denied_port",
            Self::Firewall => "firewall",
        }
    }
}

/// Judges a target; `is_own` says whether an address is this server's.
///
/// # Errors
/// Why it is refused.
pub fn check(
    config: &EgressConfig,
    is_own: &dyn Fn(IpAddr) -> bool,
    target: SocketAddr,
) -> Result<(), Denial> {
    if target.port() == 0 || config.deny_ports.contains(&target.port()) {
        return Err(Denial::Port);
    }
    let ip = target.ip().to_canonical();
    check_address(config, is_own, ip)?;
    match ip {
        IpAddr::V6(v6) => match wrapped_v4(v6) {
            Some(v4) => check_address(config, is_own, IpAddr::V4(v4)),
            None => Ok(()),
        },
        IpAddr::V4(_) => Ok(()),
    }
}

fn check_address(
    config: &EgressConfig,
    is_own: &dyn Fn(IpAddr) -> bool,
    ip: IpAddr,
) -> Result<(), Denial> {
    let in_any = |list: &[wanbond_linux::prefix::IpPrefix]| list.iter().any(|p| p.contains(ip));
    if in_any(&config.deny) {
        return Err(Denial::Configured);
    }
    if in_any(&config.allow) {
        return Ok(());
    }
    if is_own(ip) {
        return Err(Denial::Own);
    }
    // What wraps an IPv4 address is judged by that address, with the same lists.
    let wraps = matches!(ip, IpAddr::V6(v6) if wrapped_v4(v6).is_some());
    if ip == AZURE_PLATFORM || (!wraps && is_special(ip)) || is_unassigned(ip) {
        return Err(Denial::Special);
    }
    Ok(())
}

/// All global unicast addresses are in 2000::/3 (RFC 4291 §2.4 and IANA's register), but for the
/// NAT64 prefix. Of it, 2001::/23 is for protocols (Teredo, ORCHID, …), which is not where a LAN
/// host's connections go.
fn is_unassigned(ip: IpAddr) -> bool {
    let IpAddr::V6(v6) = ip else { return false };
    let s = v6.segments();
    let nat64 = s[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    !nat64 && (s[0] >> 13 != 1 || (s[0] == 0x2001 && s[1] < 0x200))
}

/// NAT64 (RFC 6052) and 6to4 (RFC 3056) lead to the IPv4 address in them.
fn wrapped_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let o = v6.octets();
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] => Some(Ipv4Addr::new(o[12], o[13], o[14], o[15])),
        [0x2002, ..] => Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(config: &EgressConfig, ip: &str) -> Result<(), Denial> {
        let own = |ip: IpAddr| ip.to_string() == "198.51.100.1" || ip.to_string() == "2001:db8::1";
        check(config, &own, SocketAddr::new(ip.parse().unwrap(), 80))
    }

    fn prefixes(list: &[&str]) -> Vec<wanbond_linux::prefix::IpPrefix> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn by_default_only_the_public_internet() {
        let config = EgressConfig::default();
        for ip in [
            "1.1.1.1",
            "192.0.2.1",
            "198.18.0.1",
            "2606:4700::1",
            "2001:db8::2",
            "64:ff9b::1.1.1.1",
        ] {
            assert_eq!(judge(&config, ip), Ok(()), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "10.0.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001:0:1::1",
            "2001:20::1",
            "100::1",
            "5f00::1",
            "4000::1",
            "168.63.129.16",
            "2002:a83f:8110::1",
        ] {
            assert_eq!(judge(&config, ip), Err(Denial::Special), "{ip}");
        }
        for ip in ["198.51.100.1", "::ffff:198.51.100.1", "2001:db8::1", "64:ff9b::198.51.100.1"] {
            assert_eq!(judge(&config, ip), Err(Denial::Own), "{ip}");
        }
    }

    #[test]
    fn deny_beats_allow_beats_the_rest() {
        let config = EgressConfig {
            allow: prefixes(&["10.0.0.0/8", "127.0.0.0/8", "198.51.100.1"]),
            deny: prefixes(&["10.1.0.0/16", "1.1.1.0/24"]),
            deny_ports: vec![25],
            ..EgressConfig::default()
        };
        for ip in ["10.0.0.1", "127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::10.0.0.1", "198.51.100.1"]
        {
            assert_eq!(judge(&config, ip), Ok(()), "{ip}");
        }
        for ip in ["10.1.0.1", "1.1.1.1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:a01:1::"] {
            assert_eq!(judge(&config, ip), Err(Denial::Configured), "{ip}");
        }
        for port in [25, 0] {
            let target = SocketAddr::new("9.9.9.9".parse().unwrap(), port);
            assert_eq!(check(&config, &|_| false, target), Err(Denial::Port));
        }
    }

    proptest! {
        #[test]
        fn no_wrapping_gets_past_the_v4_rules(v4: [u8; 4]) {
            let v4 = Ipv4Addr::from(v4);
            let config = EgressConfig::default();
            let ok = |ip| check(&config, &|_| false, SocketAddr::new(ip, 80)).is_ok();
            let [a, b, c, d] = v4.octets();
            let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let plain = ok(IpAddr::V4(v4));
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ] {
                prop_assert_eq!(ok(IpAddr::V6(v6)), plain, "{}", v6);
            }
        }
    }
}
