//! Against the example of RFC 9001, and against packets of its own making.

use proptest::prelude::*;

use super::super::name::tests::hello;
use super::*;

/// Bytes of a packet's seal.
const TAG: usize = 16;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// A client's Initial packet: `frames` sealed with these keys, to which the identifier leads.
struct Keys {
    key: [u8; 16],
    iv: [u8; 12],
    hp: [u8; 16],
}

fn seal(header: &[u8], number: u64, frames: &[u8], keys: &Keys) -> Vec<u8> {
    let number_length = usize::from(header[0] & 3) + 1;
    let number_at = header.len() - number_length;
    let mut nonce = keys.iv;
    for (at, byte) in number.to_be_bytes().iter().enumerate() {
        nonce[4 + at] ^= byte;
    }
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &keys.key).unwrap());
    let mut body = frames.to_vec();
    let nonce = Nonce::assume_unique_for_key(nonce);
    key.seal_in_place_append_tag(nonce, Aad::from(header), &mut body).unwrap();
    let mut packet = [header, &body].concat();
    let hp = quic::HeaderProtectionKey::new(&quic::AES_128, &keys.hp).unwrap();
    let mask = hp.new_mask(&packet[number_at + 4..number_at + 20]).unwrap();
    packet[0] ^= mask[0] & 0x0f;
    for at in 0..number_length {
        packet[number_at + at] ^= mask[1 + at];
    }
    packet
}

fn derived(version: &Version, id: &[u8]) -> Keys {
    let client: [u8; 32] = expand_label(&kdf::extract(&version.salt, id), b"client in");
    let client = kdf::prk(&client);
    let [key, iv, hp] = version.labels;
    Keys {
        key: expand_label(&client, key),
        iv: expand_label(&client, iv),
        hp: expand_label(&client, hp),
    }
}

/// A datagram with these frames, padded.
fn datagram(version: &Version, id: &[u8], number: u8, mut frames: Vec<u8>) -> Vec<u8> {
    frames.resize(frames.len().max(1180), 0);
    let mut header = vec![0xc0 | version.initial];
    header.extend(version.number.to_be_bytes());
    header.push(id.len() as u8);
    header.extend(id);
    // No identifier of its own, no token; the length in two bytes.
    header.extend([0, 0]);
    header.extend((0x4000 | (1 + frames.len() + TAG) as u16).to_be_bytes());
    header.push(number);
    seal(&header, number.into(), &frames, &derived(version, id))
}

fn crypto(at: usize, piece: &[u8]) -> Vec<u8> {
    let mut frame = vec![6];
    frame.extend((0x4000 | at as u16).to_be_bytes());
    frame.extend((0x4000 | piece.len() as u16).to_be_bytes());
    frame.extend(piece);
    frame
}

/// RFC 9001 appendix A.1 and A.2.
#[test]
fn the_standards_example_is_opened() {
    let id = hex("8394c8f03e515708");
    let keys = Keys {
        key: hex("1f369613dd76d5467730efcbe3b1a22d").try_into().unwrap(),
        iv: hex("fa044b2f42a3fd3b46fb255c").try_into().unwrap(),
        hp: hex("9f50449e04a0e810283a1e9933adedd2").try_into().unwrap(),
    };
    let own = derived(&VERSIONS[0], &id);
    assert_eq!((own.key, own.iv, own.hp), (keys.key, keys.iv, keys.hp));
    let mut frames = hex("060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868\
         04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578\
         616d706c652e636f6dff01000100000a00080006001d00170018001000070005\
         04616c706e000500050100000000003300260024001d00209370b2c9caa47fba\
         baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400\
         0d0010000e0403050306030203080408050806002d00020101001c0002400100\
         3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000\
         75300901100f088394c8f03e51570806048000ffff");
    frames.resize(1162, 0);
    let header = hex("c300000001088394c8f03e5157080000449e00000002");
    let packet = seal(&header, 2, &frames, &keys);
    // The standard's packet.
    assert_eq!(packet, include_bytes!("rfc9001_a2.bin"));
    assert_eq!(open(&packet).unwrap(), (&id[..], frames));
    assert_eq!(Initials::default().look(&packet), Look::Name("example.com".into()));
}

#[test]
fn pieces_in_any_order_and_over_datagrams_are_put_together() {
    let message = hello("www.example.net");
    for version in &VERSIONS {
        let mut initials = Initials::default();
        let (a, b) = (crypto(700, &message[700..1000]), crypto(0, &message[..700]));
        let first = datagram(version, b"one", 0, [a, vec![1], b].concat());
        assert_eq!(initials.look(&first), Look::More);
        // Another connection's between them, and the same again.
        let whole = datagram(version, b"two", 0, crypto(0, &hello("other.example")));
        assert_eq!(initials.look(&whole), Look::Name("other.example".into()));
        assert_eq!(initials.look(&first), Look::More);
        let second = datagram(version, b"one", 1, crypto(1000, &message[1000..]));
        assert_eq!(initials.look(&second), Look::Name("www.example.net".into()));
        assert!(initials.0.is_empty());
    }
}

#[test]
fn what_can_not_be_opened_is_nothing_and_memory_is_bounded() {
    let mut initials = Initials::default();
    let mut damaged = datagram(&VERSIONS[0], b"id", 0, crypto(0, &hello("a.test")));
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(initials.look(&damaged), Look::Nothing);
    for number in 0..100_u8 {
        let piece = crypto(0, &hello("a.test")[..40]);
        let begun = datagram(&VERSIONS[1], &[number], 0, piece);
        assert_eq!(initials.look(&begun), Look::More);
    }
    assert_eq!(initials.0.len(), MOST_PENDING);
    let far = datagram(&VERSIONS[0], b"far", 0, crypto(16_000, &[7; 100]));
    assert_eq!(initials.look(&far), Look::More);
    assert!(initials.0.back().unwrap().message.is_empty());
}

#[test]
fn datagrams_are_found_in_packets() {
    let payload = datagram(&VERSIONS[0], b"id", 0, crypto(0, &hello("a.test")));
    let udp = [&[1, 187, 1, 187, 0, 0, 0, 0][..], &payload].concat();
    let mut v4 = vec![0; 20];
    (v4[0], v4[9]) = (0x45, 17);
    v4[16..].copy_from_slice(&[192, 0, 2, 1]);
    v4.extend(&udp);
    let (target, found) = may_begin(&v4).unwrap();
    assert_eq!((target, found), ("192.0.2.1:443".parse().unwrap(), &payload[..]));
    let mut v6 = vec![0; 40];
    (v6[0], v6[6], v6[39]) = (0x60, 17, 9);
    v6.extend(&udp);
    assert_eq!(may_begin(&v6).unwrap().0, "[::9]:443".parse().unwrap());
    // Its later packets have short headers; TCP has none of it.
    v6[48] = 0x40;
    assert_eq!(may_begin(&v6), None);
    v4[9] = 6;
    assert_eq!(may_begin(&v4), None);
}

proptest! {
    #[test]
    fn nothing_panics(
        noise in proptest::collection::vec(any::<u8>(), 0..1500),
        at in 0..1300usize,
        byte: u8,
        end in 0..1400usize,
        frames in proptest::collection::vec(any::<u8>(), 0..1180),
    ) {
        let mut initials = Initials::default();
        let mut packet = datagram(&VERSIONS[0], b"id", 0, crypto(0, &hello("a.test")));
        packet.truncate(end);
        if let Some(place) = packet.get_mut(at) {
            *place = byte;
        }
        let _ = initials.look(&packet);
        let _ = initials.look(&noise);
        let _ = initials.look(&datagram(&VERSIONS[1], b"id", 0, frames));
        let _ = may_begin(&noise);
    }
}
