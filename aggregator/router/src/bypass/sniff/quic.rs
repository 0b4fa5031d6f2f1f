//! The name that a QUIC connection gives in its first datagrams: they are encrypted with keys that
//! anybody can derive from what stands in them (RFC 9001 §5.2, for version 2 RFC 9369).

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey, quic};
use wanbond_proto::crypto::kdf;

use super::name::{Look, of_client_hello};

/// A client's first datagrams have at least so many bytes (RFC 9000 §14.1).
const LEAST_DATAGRAM: usize = 1200;
/// Connections whose name has not come whole yet.
const MOST_PENDING: usize = 16;
/// A ClientHello that is longer is not looked at: today's have two kilobytes.
const MOST_HELLO: usize = 8192;

/// What differs between versions.
struct Version {
    number: u32,
    /// The type of Initial packets, in place.
    initial: u8,
    salt: [u8; 20],
    labels: [&'static [u8]; 3],
}

const VERSIONS: [Version; 2] = [
    Version {
        number: 1,
        initial: 0x00,
        salt: *b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a",
        labels: [b"quic key", b"quic iv", b"quic hp"],
    },
    Version {
        number: 0x6b33_43cf,
        initial: 0x10,
        salt: *b"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9",
        labels: [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"],
    },
];

/// Where an IP packet's UDP datagram goes, and what it carries, if that may be a QUIC connection's
/// first; cheap for all else.
pub(crate) fn may_begin(packet: &[u8]) -> Option<(SocketAddr, &[u8])> {
    const UDP: u8 = 17;
    if packet.len() < LEAST_DATAGRAM {
        return None;
    }
    let (protocol, target, header): (u8, IpAddr, usize) = match packet[0] >> 4 {
        4 => {
            let target: [u8; 4] = packet[16..20].try_into().ok()?;
            (packet[9], target.into(), usize::from(packet[0] & 0x0f) * 4)
        }
        6 => {
            let target: [u8; 16] = packet[24..40].try_into().ok()?;
            (packet[6], target.into(), 40)
        }
        _ => return None,
    };
    let (udp, datagram) = packet.get(header..)?.split_first_chunk::<8>()?;
    // A long header, and the bit that QUIC sets (RFC 9000 §17.2).
    let begins = protocol == UDP && datagram.len() >= LEAST_DATAGRAM && datagram[0] & 0xc0 == 0xc0;
    begins.then(|| (SocketAddr::new(target, u16::from_be_bytes([udp[2], udp[3]])), datagram))
}

/// Puts together what connections say first.
#[derive(Debug, Default)]
pub(crate) struct Initials(VecDeque<Pending>);

/// A connection's first message, of which pieces have come.
#[derive(Debug)]
struct Pending {
    /// The identifier that the client made up for the server.
    id: Vec<u8>,
    message: Vec<u8>,
    /// Where pieces lie: first byte and the one behind the last.
    pieces: Vec<(usize, usize)>,
}

impl Initials {
    /// Looks at a client's datagram.
    pub(crate) fn look(&mut self, datagram: &[u8]) -> Look {
        let Some((id, payload)) = open(datagram) else { return Look::Nothing };
        let place = self.0.iter().position(|pending| pending.id == id);
        let mut pending = match place.and_then(|place| self.0.remove(place)) {
            Some(pending) => pending,
            None => Pending { id: id.to_vec(), message: Vec::new(), pieces: Vec::new() },
        };
        // What was understood before the end counts.
        let _ = pending.take(&payload);
        let look = of_client_hello(pending.beginning());
        if look == Look::More {
            if self.0.len() >= MOST_PENDING {
                self.0.pop_front();
            }
            self.0.push_back(pending);
        }
        look
    }
}

impl Pending {
    /// Takes the frames of a packet (RFC 9000 §19), as far as they are those of a client's first.
    fn take(&mut self, payload: &[u8]) -> Option<()> {
        const PADDING: u8 = 0;
        const PING: u8 = 1;
        const ACK: u8 = 2;
        const CRYPTO: u8 = 6;
        let mut frames = Reader(payload);
        while let Some(kind) = frames.byte() {
            match kind {
                PADDING | PING => {}
                ACK => {
                    frames.varint()?;
                    frames.varint()?;
                    let ranges = frames.varint()?;
                    frames.varint()?;
                    for _ in 0..ranges {
                        frames.varint()?;
                        frames.varint()?;
                    }
                }
                CRYPTO => {
                    let (at, length) = (frames.varint()?, frames.varint()?);
                    self.put(
                        usize::try_from(at).ok()?,
                        frames.take(usize::try_from(length).ok()?)?,
                    );
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn put(&mut self, at: usize, piece: &[u8]) {
        let Some(end) = at.checked_add(piece.len()).filter(|end| *end <= MOST_HELLO) else {
            return;
        };
        if self.message.len() < end {
            self.message.resize(end, 0);
        }
        self.message[at..end].copy_from_slice(piece);
        // A datagram has room for hundreds of pieces at most.
        self.pieces.push((at, end));
        self.pieces.sort_unstable();
        self.pieces.dedup_by(|next, before| {
            let touches = next.0 <= before.1;
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
    }

    /// What there is without a gap.
    fn beginning(&self) -> &[u8] {
        match self.pieces.first() {
            Some(&(0, end)) => &self.message[..end],
            _ => &[],
        }
    }
}

/// Opens a client's Initial packet, the first in its datagram: the server's identifier in it, and its
/// frames.
fn open(datagram: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    const TYPE: u8 = 0x30;
    let mut header = Reader(datagram);
    let first = header.byte()?;
    let number = u32::from_be_bytes(*header.take(4)?.first_chunk()?);
    let version = VERSIONS.iter().find(|version| version.number == number)?;
    if first & TYPE != version.initial {
        return None;
    }
    let id = header.short_vector().filter(|id| id.len() <= 20)?;
    header.short_vector()?;
    let token = header.varint()?;
    header.take(usize::try_from(token).ok()?)?;
    let length = usize::try_from(header.varint()?).ok()?;
    let number_at = datagram.len() - header.0.len();
    let protected = header.take(length)?;

    let client = kdf::extract(&version.salt, id);
    let client = kdf::prk(&expand_label(&client, b"client in"));
    let [key, iv, hp] = version.labels;
    let key: [u8; 16] = expand_label(&client, key);
    let mut nonce: [u8; NONCE_LEN] = expand_label(&client, iv);
    let hp: [u8; 16] = expand_label(&client, hp);

    // The header's protection (RFC 9001 §5.4).
    let sample = protected.get(4..4 + 16)?;
    let hp = quic::HeaderProtectionKey::new(&quic::AES_128, &hp).ok()?;
    let mask = hp.new_mask(sample).ok()?;
    let mut packet = datagram[..number_at + length].to_vec();
    packet[0] ^= mask[0] & 0x0f;
    let number_length = usize::from(packet[0] & 0x03) + 1;
    for at in 0..number_length {
        packet[number_at + at] ^= mask[1 + at];
        nonce[NONCE_LEN - number_length + at] ^= packet[number_at + at];
    }
    let (header, body) = packet.split_at_mut(number_at + number_length);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).ok()?);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let plain = key.open_in_place(nonce, Aad::from(&*header), body).ok()?;
    Some((id, plain.to_vec()))
}

/// HKDF-Expand-Label of TLS 1.3 (RFC 8446 §7.1), without context.
fn expand_label<const N: usize>(secret: &ring::hkdf::Prk, label: &[u8]) -> [u8; N] {
    const PREFIX: &[u8] = b"tls13 ";
    // Labels and lengths of at most some dozen bytes.
    let lengths = [0, N as u8, (PREFIX.len() + label.len()) as u8];
    kdf::expand(secret, &[&lengths, PREFIX, label, &[0]])
}

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// What has its length, of one byte, before it.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(length.into())
    }

    /// RFC 9000 §16.
    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let more = self.take((1 << (first >> 6)) - 1)?;
        Some(more.iter().fold(u64::from(first & 0x3f), |n, byte| n << 8 | u64::from(*byte)))
    }
}

#[cfg(test)]
#[path = "quic_tests.rs"]
mod tests;
