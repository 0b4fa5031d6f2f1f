//! The header in front of every packet read from or written to the device.
//!
//! `struct virtio_net_hdr` of `linux/virtio_net.h`, in the machine's byte order, which is what the
//! TUN driver uses unless told otherwise.

use super::segment::SegmentError;

/// How a packet is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over either: datagrams of equal size, but the last may be shorter.
    Udp,
}

/// What the kernel says of a packet, or we to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// The checksum is yet to be made: over all from this offset to the end, and to be put
    /// `.1` bytes behind that offset, where the pseudo header's sum stands already.
    pub checksum: Option<(u16, u16)>,
    /// The packet is several, with this many bytes of payload each.
    pub gso: Option<(Gso, u16)>,
    /// Length of all headers in bytes. A hint from the kernel; not to be relied on.
    pub header_len: u16,
}

const NEEDS_CSUM: u8 = 1;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// With a TCP type: the first segment bears CWR. We look at the TCP header itself.
const GSO_ECN: u8 = 0x80;

impl VnetHeader {
    /// Length in bytes (`TUNSETVNETHDRSZ`).
    pub const LEN: usize = 10;

    /// Reads a header as the kernel wrote it.
    ///
    /// # Errors
    /// [`SegmentError::UnknownGso`] for a way to cut that we never offered to do.
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, SegmentError> {
        let [flags, kind, ..] = *bytes;
        let number = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match kind & !GSO_ECN {
            GSO_NONE => None,
            GSO_TCPV4 => Some(Gso::Tcp4),
            GSO_TCPV6 => Some(Gso::Tcp6),
            GSO_UDP_L4 => Some(Gso::Udp),
            _ => return Err(SegmentError::UnknownGso(kind)),
        };
        Ok(Self {
            checksum: (flags & NEEDS_CSUM != 0).then(|| (number(6), number(8))),
            gso: gso.map(|gso| (gso, number(4))),
            header_len: number(2),
        })
    }

    /// Writes the header as the kernel reads it.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[2..4].copy_from_slice(&self.header_len.to_ne_bytes());
        if let Some((gso, size)) = self.gso {
            bytes[1] = match gso {
                Gso::Tcp4 => GSO_TCPV4,
                Gso::Tcp6 => GSO_TCPV6,
                Gso::Udp => GSO_UDP_L4,
            };
            bytes[4..6].copy_from_slice(&size.to_ne_bytes());
        }
        if let Some((start, offset)) = self.checksum {
            bytes[0] = NEEDS_CSUM;
            bytes[6..8].copy_from_slice(&start.to_ne_bytes());
            bytes[8..10].copy_from_slice(&offset.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_as_written() {
        for gso in [None, Some((Gso::Tcp4, 1348)), Some((Gso::Tcp6, 1)), Some((Gso::Udp, 1200))] {
            for checksum in [None, Some((20, 16)), Some((40, 6))] {
                let header = VnetHeader { checksum, gso, header_len: 52 };
                assert_eq!(VnetHeader::decode(&header.encode()), Ok(header));
            }
        }
        assert_eq!(VnetHeader::default().encode(), [0; 10]);
    }

    #[test]
    fn a_way_to_cut_that_was_not_offered() {
        let mut bytes = [0; VnetHeader::LEN];
        // VIRTIO_NET_HDR_GSO_UDP: IP fragments.
        bytes[1] = 3;
        assert_eq!(VnetHeader::decode(&bytes), Err(SegmentError::UnknownGso(3)));
        bytes[1] = GSO_TCPV4 | GSO_ECN;
        assert_eq!(VnetHeader::decode(&bytes).unwrap().gso, Some((Gso::Tcp4, 0)));
    }
}
