//! Cutting what the kernel left whole into the packets that it stands for.
//!
//! Pure. The work is done in the buffer that the packet was read into: each segment's headers are
//! written in front of its payload, over the end of the payload before, which was handed out
//! already. So every packet comes out in one piece and nothing but headers is copied.

use super::checksum::Sum;
use super::headers::{
    CWR, FIN, Layout, MAX_HEADERS, PSH, TCP_FLAGS, Transport, number, put, sequence,
};
use super::vnet::{Gso, VnetHeader};

/// Why a packet from the kernel makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Not even a header.
    #[error("nothing there")]
    Empty,
    /// To be cut in a way that we don't know, by its number in `linux/virtio_net.h`.
    #[error("to be cut in an unknown way ({0})")]
    UnknownGso(u8),
    /// To be cut into pieces of no size.
    #[error("to be cut into pieces of nothing")]
    ZeroSize,
    /// The headers are not those that go with the way to cut, or not whole.
    #[error("headers that don't fit the way to cut ({0:?})")]
    Headers(Gso),
    /// The checksum would be outside the packet.
    #[error("a checksum outside the packet")]
    Checksum,
}

/// Hands the packets that `packet` stands for to `sink`, with all checksums made, and returns how
/// many. `packet` is used up.
///
/// # Errors
/// If header and packet don't make sense; `sink` was not called then.
pub fn segment(
    header: VnetHeader,
    packet: &mut [u8],
    mut sink: impl FnMut(&[u8]),
) -> Result<usize, SegmentError> {
    if packet.is_empty() {
        return Err(SegmentError::Empty);
    }
    if let Some((gso, size)) = header.gso {
        return cut(gso, usize::from(size), packet, sink);
    }
    if let Some((start, offset)) = header.checksum {
        complete_checksum(packet, usize::from(start), usize::from(offset))?;
    }
    sink(packet);
    Ok(1)
}

/// Makes the checksum that the kernel left to the network card.
fn complete_checksum(packet: &mut [u8], start: usize, offset: usize) -> Result<(), SegmentError> {
    let covered = packet.get(start..).ok_or(SegmentError::Checksum)?;
    if covered.len() < offset + 2 {
        return Err(SegmentError::Checksum);
    }
    // The pseudo header's sum is where the checksum will be, and is summed up with the rest.
    let mut checksum = Sum::ZERO.bytes(covered).checksum();
    if checksum == [0; 2] && offset == Transport::Udp.checksum_offset() {
        checksum = [0xff; 2];
    }
    packet[start + offset..start + offset + 2].copy_from_slice(&checksum);
    Ok(())
}

fn cut(
    gso: Gso,
    size: usize,
    packet: &mut [u8],
    mut sink: impl FnMut(&[u8]),
) -> Result<usize, SegmentError> {
    if size == 0 {
        return Err(SegmentError::ZeroSize);
    }
    let layout = Layout::of(packet).ok_or(SegmentError::Headers(gso))?;
    let fits = match gso {
        Gso::Tcp4 => layout.transport == Transport::Tcp && !layout.v6,
        Gso::Tcp6 => layout.transport == Transport::Tcp && layout.v6,
        Gso::Udp => layout.transport == Transport::Udp,
    };
    if !fits {
        return Err(SegmentError::Headers(gso));
    }
    let headers_len = layout.payload_at;
    let mut headers = [0; MAX_HEADERS];
    headers[..headers_len].copy_from_slice(&packet[..headers_len]);
    let headers = &headers[..headers_len];

    // Without payload it is still one packet.
    let count = (packet.len() - headers_len).div_ceil(size).max(1);
    for index in 0..count {
        let begin = index * size;
        let end = (begin + headers_len + size).min(packet.len());
        let piece = &mut packet[begin..end];
        piece[..headers_len].copy_from_slice(headers);
        write_headers(&layout, piece, index, begin, index + 1 == count);
        sink(piece);
    }
    Ok(count)
}

/// Makes one segment of a copy of the headers of all. `offset` is that of its payload in the
/// whole's.
fn write_headers(layout: &Layout, piece: &mut [u8], index: usize, offset: usize, last: bool) {
    if !layout.v6 {
        // Counted up as the kernel does, modulo 2^16.
        let id = (number(piece, 4) as u16).wrapping_add(index as u16);
        put(piece, 4, id);
    }
    layout.write_length(piece, piece.len());
    let at = layout.transport_at;
    match layout.transport {
        Transport::Tcp => {
            let number = sequence(piece, at).wrapping_add(offset as u32);
            piece[at + 4..at + 8].copy_from_slice(&number.to_be_bytes());
            if !last {
                piece[at + TCP_FLAGS] &= !(FIN | PSH);
            }
            // The sender says once that it has halved its window (RFC 3168 §6.1.2).
            if index > 0 {
                piece[at + TCP_FLAGS] &= !CWR;
            }
        }
        Transport::Udp => put(piece, at + 4, (piece.len() - at) as u16),
    }
    let checksum_at = layout.checksum_at();
    put(piece, checksum_at, 0);
    let mut checksum = layout.pseudo_sum(piece, piece.len()).bytes(&piece[at..]).checksum();
    if checksum == [0; 2] && layout.transport == Transport::Udp {
        // Zero would say that there is none (RFC 768).
        checksum = [0xff; 2];
    }
    piece[checksum_at..checksum_at + 2].copy_from_slice(&checksum);
}

#[cfg(test)]
#[path = "segment_tests.rs"]
mod tests;
