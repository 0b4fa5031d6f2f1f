//! IP prefixes: an address and how many of its leading bits count.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address family of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family an address belongs to.
    #[must_use]
    pub const fn of(ip: &IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The length of an address in bits, which is also the longest prefix.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

/// A network: an address whose host bits are zero, and a prefix length that fits its family.
///
/// The order (family, address, length) is that of the derived comparison, so that lists of
/// prefixes come out the same each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix {
    addr: IpAddr,
    len: u8,
}

impl IpPrefix {
    /// Every IPv4 address, `0.0.0.0/0`.
    pub const ANY_V4: Self = Self::v4([0, 0, 0, 0], 0);
    /// Every IPv6 address, `::/0`.
    pub const ANY_V6: Self = Self::v6([0; 8], 0);

    /// The network `addr` is in when `len` bits count. Host bits are cleared. `None` when `len`
    /// is longer than the address.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Option<Self> {
        if len > Family::of(&addr).bits() {
            return None;
        }
        let addr = match addr {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & mask_v4(len))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask_v6(len))),
        };
        Some(Self { addr, len })
    }

    /// The prefix that holds this one address only.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self { addr, len: Family::of(&addr).bits() }
    }

    /// The default route's destination of a family.
    #[must_use]
    pub const fn any(family: Family) -> Self {
        match family {
            Family::V4 => Self::ANY_V4,
            Family::V6 => Self::ANY_V6,
        }
    }

    /// For tables of constants; the caller sees to it that host bits are zero.
    pub(crate) const fn v4(octets: [u8; 4], len: u8) -> Self {
        Self { addr: IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])), len }
    }

    /// As [`Self::v4`].
    pub(crate) const fn v6(s: [u16; 8], len: u8) -> Self {
        let addr = Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]);
        Self { addr: IpAddr::V6(addr), len }
    }

    /// The network's address.
    #[must_use]
    pub const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The prefix length in bits.
    #[must_use]
    pub const fn prefix_len(&self) -> u8 {
        self.len
    }

    /// The family of the network.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(&self.addr)
    }

    /// Whether this is the destination of a default route.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.len == 0
    }

    /// Whether this holds one address only.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.len == self.family().bits()
    }

    /// Whether `ip` lies in this network. An address of the other family never does.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.addr, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                u32::from(ip) & mask_v4(self.len) == u32::from(net)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                u128::from(ip) & mask_v6(self.len) == u128::from(net)
            }
            _ => false,
        }
    }

    /// Whether the two networks share any address.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.addr) || other.contains(self.addr)
    }
}

const fn mask_v4(len: u8) -> u32 {
    if len == 0 { 0 } else { u32::MAX << (32 - len) }
}

const fn mask_v6(len: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (128 - len) }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

/// A text is not a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network; write an address and a prefix length, such as 192.0.2.0/24")]
pub struct InvalidPrefix(String);

/// Reads `address/length`, or a bare address as that one host. Host bits are cleared, as people
/// often write their router's address with the network's length.
impl FromStr for IpPrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPrefix(text.to_owned());
        let (addr, len) = match text.split_once('/') {
            Some((addr, len)) => (addr, Some(len)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| invalid())?;
        match len {
            None => Ok(Self::host(addr)),
            Some(len) => {
                // u8's own parser would accept a plus sign.
                if !len.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(invalid());
                }
                Self::new(addr, len.parse().map_err(|_| invalid())?).ok_or_else(invalid)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_cleared() {
        assert_eq!(prefix("192.0.2.77/24").to_string(), "192.0.2.0/24");
        assert_eq!(prefix("2001:db8::1/32").to_string(), "2001:db8::/32");
        assert_eq!(prefix("192.0.2.77").to_string(), "192.0.2.77/32");
        assert_eq!(prefix("1.2.3.4/0"), IpPrefix::ANY_V4);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "/", "1.2.3.4/", "1.2.3.4/33", "::/129", "1.2.3.4/+8", "a/8", "1.2.3/8"] {
            assert!(text.parse::<IpPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn containing_and_overlapping() {
        let lan = prefix("192.168.0.0/16");
        assert!(lan.contains("192.168.255.255".parse().unwrap()));
        assert!(!lan.contains("192.169.0.0".parse().unwrap()));
        assert!(!lan.contains("::ffff:192.168.0.1".parse().unwrap()));
        assert!(lan.overlaps(&prefix("192.168.3.0/24")));
        assert!(prefix("192.168.3.0/24").overlaps(&lan));
        assert!(!lan.overlaps(&prefix("10.0.0.0/8")));
        assert!(!IpPrefix::ANY_V4.overlaps(&IpPrefix::ANY_V6));
    }
}
