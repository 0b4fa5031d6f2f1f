//! Where things are in an IP packet.

use super::checksum::Sum;

/// Which transport a packet carries, of those that can be cut and joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;

impl Transport {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => TCP,
            Self::Udp => UDP,
        }
    }

    /// Where the checksum is in the transport's header.
    pub(super) fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp => 16,
            Self::Udp => 6,
        }
    }
}

/// TCP's flags, in its header's byte 13.
pub(super) const TCP_FLAGS: usize = 13;
pub(super) const FIN: u8 = 0x01;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const ECE: u8 = 0x40;
pub(super) const CWR: u8 = 0x80;

/// The longest headers that we cut and join: IPv6 with 60 bytes of TCP, and as much again and
/// more for extension headers.
pub(super) const MAX_HEADERS: usize = 192;

/// Where the parts of a TCP or UDP packet begin. Only made of whole packets: all of the headers
/// are there, and the length that the packet claims is the one it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) v6: bool,
    pub(super) transport: Transport,
    /// Offset of the TCP or UDP header.
    pub(super) transport_at: usize,
    /// Offset of the payload, at most [`MAX_HEADERS`].
    pub(super) payload_at: usize,
}

impl Layout {
    /// Finds the parts. `None` if this is no whole TCP or UDP packet, or a fragment, or has
    /// headers that we don't know.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let (v6, protocol, transport_at) = match packet.first()? >> 4 {
            4 => {
                let length = usize::from(packet[0] & 0x0f) * 4;
                let whole = packet.len() >= 20 && length >= 20 && number(packet, 2) == packet.len();
                // Neither "more fragments" nor an offset.
                if !whole || number(packet, 6) & 0x3fff != 0 {
                    return None;
                }
                (false, packet[9], length)
            }
            6 if packet.len() >= 40 && number(packet, 4) + 40 == packet.len() => {
                let (protocol, at) = skip_extensions(packet)?;
                (true, protocol, at)
            }
            _ => return None,
        };
        let header = packet.get(transport_at..)?;
        let (transport, length) = match protocol {
            TCP => (Transport::Tcp, usize::from(header.get(12)? >> 4) * 4),
            UDP if header.len() == number(header.get(..8)?, 4) => (Transport::Udp, 8),
            _ => return None,
        };
        let payload_at = transport_at + length;
        let shortest = if transport == Transport::Tcp { 20 } else { 8 };
        let fits = length >= shortest && length <= header.len() && payload_at <= MAX_HEADERS;
        fits.then_some(Self { v6, transport, transport_at, payload_at })
    }

    /// Source and destination address, one behind the other.
    pub(super) fn addresses<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        addresses(packet, self.v6)
    }

    /// Where the transport's checksum is.
    pub(super) fn checksum_at(&self) -> usize {
        self.transport_at + self.transport.checksum_offset()
    }

    /// The sum of what TCP and UDP checksums cover besides the segment itself
    /// (RFC 9293 §3.1, RFC 8200 §8.1).
    ///
    /// `total` is the length of the whole packet, of which only the headers need be there.
    pub(super) fn pseudo_sum(&self, packet: &[u8], total: usize) -> Sum {
        Sum::ZERO
            .bytes(self.addresses(packet))
            .number(u16::from(self.transport.number()))
            .number((total - self.transport_at) as u16)
    }

    /// Whether the transport's checksum is there and right.
    pub(super) fn checksum_is_valid(&self, packet: &[u8]) -> bool {
        let at = self.checksum_at();
        // In UDP, zero stands for none.
        let none = self.transport == Transport::Udp && packet[at..at + 2] == [0; 2];
        !none
            && self.pseudo_sum(packet, packet.len()).bytes(&packet[self.transport_at..]).is_valid()
    }

    /// Writes IPv4's total length and header checksum, or IPv6's payload length.
    pub(super) fn write_length(&self, packet: &mut [u8], total: usize) {
        if self.v6 {
            put(packet, 4, (total - 40) as u16);
        } else {
            put(packet, 2, total as u16);
            put(packet, 10, 0);
            let checksum = Sum::ZERO.bytes(&packet[..usize::from(packet[0] & 0x0f) * 4]).checksum();
            packet[10..12].copy_from_slice(&checksum);
        }
    }
}

/// Source and destination address of a packet that is long enough for them.
pub(super) fn addresses(packet: &[u8], v6: bool) -> &[u8] {
    if v6 { &packet[8..40] } else { &packet[12..20] }
}

/// Past the extension headers that leave the transport's checksum as it is.
fn skip_extensions(packet: &[u8]) -> Option<(u8, usize)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const DESTINATION: u8 = 60;
    let (mut protocol, mut at) = (packet[6], 40);
    loop {
        match protocol {
            HOP_BY_HOP | DESTINATION => {}
            // Not yet at its destination, whose address the checksum covers.
            ROUTING if *packet.get(at + 3)? == 0 => {}
            _ => return Some((protocol, at)),
        }
        protocol = *packet.get(at)?;
        at += 8 + usize::from(*packet.get(at + 1)?) * 8;
    }
}

/// The 16-bit number at an offset.
pub(super) fn number(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// Writes a 16-bit number.
pub(super) fn put(bytes: &mut [u8], at: usize, number: u16) {
    bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
}

/// The TCP sequence number of a packet.
pub(super) fn sequence(packet: &[u8], transport_at: usize) -> u32 {
    let bytes = &packet[transport_at + 4..transport_at + 8];
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
