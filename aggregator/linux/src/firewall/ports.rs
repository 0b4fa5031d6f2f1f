//! Port forwards, and what the tunnel's two tables share.

use std::fmt::Write;
use std::net::IpAddr;

use super::FirewallError;
use super::render::device_set;

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Connections to some ports go to another address. Their source stays what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortForward {
    /// The protocol.
    pub transport: Transport,
    /// The first of the ports.
    pub first: u16,
    /// The last; the same for a single port.
    pub last: u16,
    /// Where to. Only connections of its family are meant.
    pub to: IpAddr,
    /// The port there; `None` leaves it as it is.
    pub to_port: Option<u16>,
}

impl PortForward {
    /// The end of a rule: which ports, and where to.
    pub(super) fn words(&self) -> String {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let mut text = format!("{transport} dport {}", self.first);
        if self.last != self.first {
            let _ = write!(text, "-{}", self.last);
        }
        match (self.to, self.to_port) {
            (IpAddr::V4(to), None) => write!(text, " dnat ip to {to}"),
            (IpAddr::V4(to), Some(port)) => write!(text, " dnat ip to {to}:{port}"),
            (IpAddr::V6(to), None) => write!(text, " dnat ip6 to {to}"),
            (IpAddr::V6(to), Some(port)) => write!(text, " dnat ip6 to [{to}]:{port}"),
        }
        .unwrap_or_default();
        text
    }
}

/// A device's name between quotes, if it is one.
pub(super) fn quoted(device: &str) -> Result<String, FirewallError> {
    device_set(&[device.to_owned()])?.ok_or_else(|| FirewallError::BadDevice(device.to_owned()))
}

/// Headers that an MTU has to hold beside a segment: IPv4 20 and IPv6 40, TCP 20 (RFC 9293 §3.7.1).
const V4_HEADERS: u16 = 40;
const V6_HEADERS: u16 = 60;

/// Rules that keep TCP's segments within the tunnel's MTU. nft only ever lowers what a SYN says.
/// Not `rt mtu`: that looks at the way out of here, and back without our marks, which for what
/// came out of the tunnel is some other link's.
pub(super) fn write_mss(text: &mut String, mtu: u16) {
    for (family, headers) in [("ipv4", V4_HEADERS), ("ipv6", V6_HEADERS)] {
        let _ = writeln!(
            text,
            "\t\tmeta nfproto {family} tcp flags & (syn | rst) == syn tcp option maxseg size set {}",
            mtu.saturating_sub(headers)
        );
    }
}
