//! What is cut is put together again in the slowest, plainest way, and is what it was.

use proptest::prelude::*;

use super::super::headers::ACK;
use super::*;

/// The headers of a TCP packet (IPv4 or IPv6), with room for a payload.
fn tcp(v6: bool, flags: u8, sequence: u32, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0x01, 0xbb, 0xc0, 0x01];
    tcp.extend(sequence.to_be_bytes());
    tcp.extend([0, 0, 0, 9, 0x80, flags, 0x12, 0x34, 0, 0, 0, 0]);
    // A timestamp option.
    tcp.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    tcp.extend(payload);
    ip(v6, 6, id, &tcp)
}

fn udp(v6: bool, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut udp = vec![0x13, 0xc4, 0x13, 0xc5];
    udp.extend((payload.len() as u16 + 8).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    ip(v6, 17, id, &udp)
}

fn ip(v6: bool, protocol: u8, id: u16, transport: &[u8]) -> Vec<u8> {
    let length = transport.len() as u16;
    let mut packet = Vec::new();
    if v6 {
        packet.extend([0x60, 0x10, 0, 7]);
        packet.extend(length.to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend((0..32).map(|byte| byte * 7));
    } else {
        packet.extend([0x45, 2]);
        packet.extend((length + 20).to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend([0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 192, 0, 2, 7]);
    }
    packet.extend(transport);
    packet
}

/// Sums up as RFC 1071 says it, without our own code.
fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn check_sums(packet: &[u8]) {
    let v6 = packet[0] >> 4 == 6;
    let (at, addresses, protocol) =
        if v6 { (40, &packet[8..40], packet[6]) } else { (20, &packet[12..20], packet[9]) };
    if v6 {
        assert_eq!(number(packet, 4) + 40, packet.len());
    } else {
        assert_eq!(number(packet, 2), packet.len());
        assert_eq!(sum(&packet[..20]), 0xffff, "IPv4 header");
    }
    let pseudo = sum(addresses) + u32::from(protocol) + (packet.len() - at) as u32;
    let all = pseudo + sum(&packet[at..]);
    assert_eq!((all & 0xffff) + (all >> 16), 0xffff, "transport");
}

fn cut_up(gso: Gso, size: u16, packet: &[u8]) -> Result<Vec<Vec<u8>>, SegmentError> {
    let mut pieces = Vec::new();
    let header = VnetHeader { gso: Some((gso, size)), ..VnetHeader::default() };
    let count = segment(header, &mut packet.to_vec(), |piece| pieces.push(piece.to_vec()))?;
    assert_eq!(count, pieces.len());
    Ok(pieces)
}

proptest! {
    #[test]
    fn tcp_is_what_it_was(
        v6: bool, size in 1u16..2000, payload in prop::collection::vec(any::<u8>(), 1..9000),
        sequence: u32, id: u16, flags: u8,
    ) {
        let whole = tcp(v6, flags, sequence, id, &payload);
        let headers = whole.len() - payload.len();
        let pieces = cut_up(if v6 { Gso::Tcp6 } else { Gso::Tcp4 }, size, &whole).unwrap();
        prop_assert_eq!(pieces.len(), payload.len().div_ceil(usize::from(size)));
        let at = if v6 { 40 } else { 20 };
        let mut again = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            check_sums(piece);
            prop_assert!(piece.len() <= headers + usize::from(size));
            let expected = sequence.wrapping_add(again.len() as u32);
            prop_assert_eq!(super::sequence(piece, at), expected);
            let (first, last) = (index == 0, index + 1 == pieces.len());
            let cleared = if first { 0 } else { CWR } | if last { 0 } else { FIN | PSH };
            prop_assert_eq!(piece[at + TCP_FLAGS], flags & !cleared);
            prop_assert_eq!(&piece[at + 20..headers], &whole[at + 20..headers]);
            if !v6 {
                prop_assert_eq!(number(piece, 4) as u16, id.wrapping_add(index as u16));
            }
            again.extend_from_slice(&piece[headers..]);
        }
        prop_assert_eq!(again, payload);
    }

    #[test]
    fn udp_is_what_it_was(
        v6: bool, size in 1u16..2000, payload in prop::collection::vec(any::<u8>(), 1..9000),
        id: u16,
    ) {
        let whole = udp(v6, id, &payload);
        let at = if v6 { 40 } else { 20 };
        let mut again = Vec::new();
        for piece in cut_up(Gso::Udp, size, &whole).unwrap() {
            check_sums(&piece);
            prop_assert_eq!(number(&piece, at + 4), piece.len() - at);
            prop_assert!(piece[at + 6..at + 8] != [0, 0]);
            again.extend_from_slice(&piece[at + 8..]);
        }
        prop_assert_eq!(again, payload);
    }

    /// Nothing in header or packet makes it panic, and an error comes before any packet.
    #[test]
    fn nonsense_is_an_error(
        header: [u8; VnetHeader::LEN], kind in 0u8..6, mut packet in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut header = header;
        header[1] = kind;
        let mut seen = 0;
        let result = VnetHeader::decode(&header)
            .and_then(|header| segment(header, &mut packet, |_| seen += 1));
        prop_assert_eq!(result.unwrap_or(0), seen);
    }

    /// Likewise when it is nearly right: one byte of a good packet is changed, or its end is gone.
    #[test]
    fn damage_is_an_error_or_harmless(
        v6: bool, is_tcp: bool, at in 0usize..80, byte: u8, cut in 0usize..100, size in 0u16..60,
    ) {
        let mut packet =
            if is_tcp { tcp(v6, ACK, 7, 7, &[5; 90]) } else { udp(v6, 7, &[5; 90]) };
        let at = at.min(packet.len() - 1);
        packet[at] = byte;
        packet.truncate(packet.len() - cut.min(packet.len()));
        for gso in [Gso::Tcp4, Gso::Tcp6, Gso::Udp] {
            let _ = cut_up(gso, size, &packet);
        }
    }
}

#[test]
fn a_checksum_left_to_us() {
    for (v6, is_tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut packet = if is_tcp { tcp(v6, ACK, 1, 1, b"odd") } else { udp(v6, 1, b"odd") };
        let layout = Layout::of(&packet).unwrap();
        layout.write_length(&mut packet.clone(), 0x40);
        let total = packet.len();
        layout.write_length(&mut packet, total);
        let pseudo = layout.pseudo_sum(&packet, total).folded();
        packet[layout.checksum_at()..][..2].copy_from_slice(&pseudo);
        let checksum =
            Some((layout.transport_at as u16, layout.transport.checksum_offset() as u16));
        let header = VnetHeader { checksum, ..VnetHeader::default() };
        let mut seen = Vec::new();
        assert_eq!(segment(header, &mut packet, |packet| seen = packet.to_vec()), Ok(1));
        check_sums(&seen);
    }
}

#[test]
fn what_makes_no_sense() {
    let nothing = |_: &[u8]| panic!("nothing to hand out");
    assert_eq!(segment(VnetHeader::default(), &mut [], nothing), Err(SegmentError::Empty));
    for outside in [(0, 99), (3, 0), (99, 0), (u16::MAX, u16::MAX)] {
        let header = VnetHeader { checksum: Some(outside), ..VnetHeader::default() };
        assert_eq!(segment(header, &mut [0x45, 0, 0, 0], nothing), Err(SegmentError::Checksum));
    }
    let packet = tcp(false, ACK, 1, 1, b"payload");
    assert_eq!(cut_up(Gso::Tcp4, 0, &packet), Err(SegmentError::ZeroSize));
    assert_eq!(cut_up(Gso::Tcp6, 3, &packet), Err(SegmentError::Headers(Gso::Tcp6)));
    assert_eq!(cut_up(Gso::Udp, 3, &packet), Err(SegmentError::Headers(Gso::Udp)));
    let mut fragment = packet;
    fragment[6] = 0x20;
    assert_eq!(cut_up(Gso::Tcp4, 3, &fragment), Err(SegmentError::Headers(Gso::Tcp4)));
    // Without payload it is a packet all the same.
    assert_eq!(cut_up(Gso::Tcp4, 9, &tcp(false, ACK, 1, 1, b"")).unwrap().len(), 1);
}

#[test]
fn behind_extension_headers() {
    // Hop-by-hop options in front of TCP.
    let mut packet = tcp(true, ACK, 100, 0, &[1; 100]);
    packet.splice(40..40, [6, 0, 1, 4, 0, 0, 0, 0]);
    packet[6] = 0;
    let length = (packet.len() - 40) as u16;
    put(&mut packet, 4, length);
    let pieces = cut_up(Gso::Tcp6, 60, &packet).unwrap();
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [48 + 32 + 60, 48 + 32 + 40]);
    for piece in &pieces {
        assert!(Layout::of(piece).unwrap().checksum_is_valid(piece));
    }
    // On its way by a route: the checksum covers an address that is not in the header.
    packet[6] = 43;
    packet[43] = 1;
    assert_eq!(cut_up(Gso::Tcp6, 60, &packet), Err(SegmentError::Headers(Gso::Tcp6)));
}
