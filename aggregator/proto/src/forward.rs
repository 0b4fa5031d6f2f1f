//! Port forwards: ports of the server's public addresses that lead to hosts behind a router.
//!
//! The server keeps them and tells the router, which knows the way to its hosts: the server sends
//! what comes to a public port to the router's inner address, the same port, and the router sends
//! it on to the host. Neither touches the client's address, so the host sees who calls.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use thiserror::Error;

/// The most forwards of one router: as many as one datagram holds on any path.
pub const MAX_FORWARDS: usize = 48;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// One forward. Can hold none that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forward {
    protocol: Protocol,
    first: u16,
    last: u16,
    host: IpAddr,
    to: u16,
}

/// Why ports and a host make no forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ForwardError {
    /// Port 0, or a range that ends before it begins.
    #[error("ports go from 1 to 65535, and a range from the lower to the higher")]
    BadPorts,
    /// A range to other ports.
    #[error("a range of ports keeps its numbers; forward single ports to others")]
    RangeMoves,
    /// Not the address of a host.
    #[error("{0} is not the address of a host")]
    BadHost(IpAddr),
}

impl Forward {
    /// The ports `first` to `last` lead to `host`; there to port `to`, which may differ from
    /// `first` for a single port only.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn new(
        protocol: Protocol,
        first: u16,
        last: u16,
        host: IpAddr,
        to: u16,
    ) -> Result<Self, ForwardError> {
        if first == 0 || to == 0 || last < first {
            return Err(ForwardError::BadPorts);
        }
        if to != first && last != first {
            return Err(ForwardError::RangeMoves);
        }
        let host = host.to_canonical();
        let is_host = match host {
            IpAddr::V4(v4) => !(v4.is_broadcast() || v4.is_link_local() || v4.octets()[0] == 0),
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        if !is_host || host.is_unspecified() || host.is_loopback() || host.is_multicast() {
            return Err(ForwardError::BadHost(host));
        }
        Ok(Self { protocol, first, last, host, to })
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The public ports, first and last.
    #[must_use]
    pub const fn ports(&self) -> (u16, u16) {
        (self.first, self.last)
    }

    /// The host behind the router. Its family is that of the public addresses it is reached by.
    #[must_use]
    pub const fn host(&self) -> IpAddr {
        self.host
    }

    /// The first port at the host.
    #[must_use]
    pub const fn host_port(&self) -> u16 {
        self.to
    }

    /// Whether both want a port of the same protocol and family.
    #[must_use]
    pub const fn collides(&self, other: &Self) -> bool {
        self.shares_port(other) && self.host.is_ipv4() == other.host.is_ipv4()
    }

    /// Whether both have a port of the same protocol, be it of different families.
    #[must_use]
    pub const fn shares_port(&self, other: &Self) -> bool {
        self.protocol as u8 == other.protocol as u8
            && self.first <= other.last
            && other.first <= self.last
    }
}

/// `tcp 8080 to 192.168.1.10:80`, `udp 5000-5010 to 192.168.1.10`.
impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.name(), self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        match self.host {
            host if self.to == self.first => write!(f, " to {host}"),
            IpAddr::V4(host) => write!(f, " to {host}:{}", self.to),
            IpAddr::V6(host) => write!(f, " to [{host}]:{}", self.to),
        }
    }
}

/// All forwards of one router, as the server tells it: the message's body.
///
/// ```text
/// version u32 │ count u8 │ count × ( protocol u8 │ first u16 │ last u16 │ to u16 │ host 16 )
/// ```
///
/// Numbers are big endian, IPv4 hosts are written as IPv4-mapped IPv6. What follows is skipped:
/// later versions append there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwards {
    /// Follows from the list: 0 for an empty one, else the same for the same list only.
    pub version: u32,
    /// The forwards, at most [`MAX_FORWARDS`].
    pub list: Vec<Forward>,
}

/// Not a list of forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a list of port forwards")]
pub struct Malformed;

const ENTRY: usize = 1 + 3 * 2 + 16;
const HEAD: usize = 4 + 1;

impl Forwards {
    /// The longest encoded list, bytes.
    pub const MAX_LEN: usize = HEAD + MAX_FORWARDS * ENTRY;

    /// The list with its version.
    #[must_use]
    pub fn new(list: Vec<Forward>) -> Self {
        let mut forwards = Self { version: 0, list };
        if !forwards.list.is_empty() {
            let mut bytes = Vec::new();
            forwards.encode(&mut bytes);
            // FNV-1a, 32 bit: nobody gains by a collision but the one who made the list.
            let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
            forwards.version = hash.max(1);
        }
        forwards
    }

    /// Appends the list to `out`. Forwards beyond [`MAX_FORWARDS`] are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let list = &self.list[..self.list.len().min(MAX_FORWARDS)];
        out.extend_from_slice(&self.version.to_be_bytes());
        out.push(list.len() as u8);
        for forward in list {
            out.push(match forward.protocol {
                Protocol::Tcp => 6,  // The protocol's IP number, RFC 9293.
                Protocol::Udp => 17, // RFC 768.
            });
            for port in [forward.first, forward.last, forward.to] {
                out.extend_from_slice(&port.to_be_bytes());
            }
            let host = match forward.host {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            out.extend_from_slice(&host.octets());
        }
    }

    /// Reads a list. Forwards of protocols that this version doesn't know are skipped.
    ///
    /// # Errors
    /// [`Malformed`] if it is cut, too long, or holds a forward that makes no sense.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(Malformed)?;
        let [a, b, c, d, count] = *head;
        let count = usize::from(count);
        if count > MAX_FORWARDS {
            return Err(Malformed);
        }
        let entries = rest.get(..count * ENTRY).ok_or(Malformed)?;
        let mut list = Vec::with_capacity(count);
        for entry in entries.chunks_exact(ENTRY) {
            let protocol = match entry[0] {
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                _ => continue,
            };
            let port = |at: usize| u16::from_be_bytes([entry[at], entry[at + 1]]);
            let octets: [u8; 16] = entry[7..].try_into().map_err(|_| Malformed)?;
            let host = IpAddr::V6(Ipv6Addr::from(octets)).to_canonical();
            list.push(
                Forward::new(protocol, port(1), port(3), host, port(5)).map_err(|_| Malformed)?,
            );
        }
        Ok(Self { version: u32::from_be_bytes([a, b, c, d]), list })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forward(protocol: Protocol, first: u16, last: u16, host: &str, to: u16) -> Forward {
        Forward::new(protocol, first, last, host.parse().unwrap(), to).unwrap()
    }

    #[test]
    fn known_bytes() {
        let forwards = Forwards {
            version: 7,
            list: vec![forward(Protocol::Tcp, 8080, 8080, "192.168.1.10", 80)],
        };
        let mut out = Vec::new();
        forwards.encode(&mut out);
        let mut expected = vec![0, 0, 0, 7, 1, 6, 0x1f, 0x90, 0x1f, 0x90, 0, 80];
        expected.extend([0; 10]);
        expected.extend([0xff, 0xff, 192, 168, 1, 10]);
        assert_eq!(out, expected);
        assert_eq!(Forwards::decode(&out), Ok(forwards.clone()));
        out.extend(b"later");
        assert_eq!(Forwards::decode(&out), Ok(forwards));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let new = |first, last, host: &str, to| {
            Forward::new(Protocol::Udp, first, last, host.parse().unwrap(), to).err()
        };
        assert_eq!(new(0, 0, "192.168.1.1", 1), Some(ForwardError::BadPorts));
        assert_eq!(new(9, 8, "192.168.1.1", 9), Some(ForwardError::BadPorts));
        assert_eq!(new(8, 8, "192.168.1.1", 0), Some(ForwardError::BadPorts));
        assert_eq!(new(8, 9, "192.168.1.1", 7), Some(ForwardError::RangeMoves));
        for host in [
            "0.0.0.0",
            "0.1.1.1",
            "127.0.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "169.254.1.1",
            "::",
            "::1",
            "ff02::1",
            "fe80::1",
            "::ffff:127.0.0.1",
        ] {
            let error = new(8, 8, host, 8);
            assert!(matches!(error, Some(ForwardError::BadHost(_))), "{host}: {error:?}");
        }
        assert_eq!(new(8, 9, "fd00::1", 8), None);
    }

    #[test]
    fn collisions() {
        use Protocol::{Tcp, Udp};
        let one = forward(Tcp, 100, 110, "192.168.1.1", 100);
        for (protocol, first, last, host, collides) in [
            (Tcp, 110, 120, "192.168.1.2", true),
            (Tcp, 90, 100, "192.168.1.2", true),
            (Tcp, 105, 105, "192.168.1.1", true),
            (Tcp, 1, 65535, "192.168.1.1", true),
            (Tcp, 111, 120, "192.168.1.2", false),
            (Udp, 100, 110, "192.168.1.2", false),
            (Tcp, 100, 110, "fd00::1", false),
        ] {
            let other = forward(protocol, first, last, host, first);
            assert_eq!((one.collides(&other), other.collides(&one)), (collides, collides));
        }
    }

    #[test]
    fn reads_well() {
        let text = |f: Forward| f.to_string();
        assert_eq!(
            text(forward(Protocol::Tcp, 80, 80, "fd00::1", 8080)),
            "tcp 80 to [fd00::1]:8080"
        );
        assert_eq!(text(forward(Protocol::Udp, 5, 9, "10.0.0.1", 5)), "udp 5-9 to 10.0.0.1");
    }

    fn any_forward() -> impl Strategy<Value = Forward> {
        (any::<bool>(), 1..=u16::MAX, 1..=u16::MAX, any::<IpAddr>(), 1..=u16::MAX).prop_filter_map(
            "sensible",
            |(tcp, a, b, host, to)| {
                let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
                let (first, last) = (a.min(b), a.max(b));
                let (last, to) = if to % 2 == 0 { (first, to) } else { (last, first) };
                Forward::new(protocol, first, last, host, to).ok()
            },
        )
    }

    proptest! {
        #[test]
        fn round_trip(version: u32, list in prop::collection::vec(any_forward(), 0..=MAX_FORWARDS)) {
            let forwards = Forwards { version, list };
            let mut out = Vec::new();
            forwards.encode(&mut out);
            prop_assert!(out.len() <= Forwards::MAX_LEN);
            prop_assert_eq!(Forwards::decode(&out), Ok(forwards));
            for length in 0..out.len() {
                prop_assert_eq!(Forwards::decode(&out[..length]), Err(Malformed));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Forwards::decode(&bytes);
        }
    }
}
