//! The frames of a tunnel datagram.
//!
//! A datagram's sealed body is its send time and frames, one behind the other:
//!
//! ```text
//! body    = stamp(4) frame*
//! ACK     = 0x20 path(1) largest(4) at(4) delay(2) count(1) length(2) (gap(2) length(2))*
//! PROBE   = 0x21                      answer at once
//! STATUS  = 0x22 serial(2) unusable(2) spare(2)    what the router makes of the paths
//! PAD     = 0x23 …                    nothing more in this datagram
//! PARITY  = 0x24 slot(2) first(3) count(1) length(2) bytes     see `fec`
//! PACKET  = 0x30 | flags  slot(2) sequence(3) length(2) bytes
//! streams = 0x40 … 0x4f               see `stream`
//! ```
//!
//! Numbers are big endian. `stamp` and `at` are microseconds of the writer's clock, cut to 32 bits;
//! clocks of two machines are only compared by how their difference changes. `largest` is the low
//! half of a path's datagram number. `delay` is how long the acknowledgement waited, in units of
//! 16 µs.

use thiserror::Error;

pub(super) const ACK: u8 = 0x20;
pub(super) const PROBE: u8 = 0x21;
pub(super) const STATUS: u8 = 0x22;
pub(super) const PAD: u8 = 0x23;
pub(super) const PARITY: u8 = 0x24;
pub(super) const PACKET: u8 = 0x30;

/// Bytes before a packet frame's packet.
pub(super) const PACKET_HEAD: usize = 8;
/// Bytes before a parity frame's parity.
pub(super) const PARITY_HEAD: usize = 9;
pub(super) const STATUS_LEN: usize = 7;
/// Ranges that an acknowledgement tells at most.
pub(super) const MAX_RANGES: usize = 24;
const ACK_HEAD: usize = 13;

/// Ranges that an acknowledgement of at most `room` bytes has place for; `None` for none.
pub(super) const fn ranges_in(room: usize) -> Option<usize> {
    match room.checked_sub(ACK_HEAD + 2) {
        Some(rest) => Some(if rest / 4 + 1 < MAX_RANGES { rest / 4 + 1 } else { MAX_RANGES }),
        None => None,
    }
}

/// Microseconds per unit of an acknowledgement's delay.
pub(super) const DELAY_UNIT: u64 = 16;

/// What is wrong with a body that authenticated: the peer does not speak this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A frame ends behind the datagram's end, or contradicts itself.
    #[error("malformed tunnel frame")]
    Malformed,
    /// A frame of a kind that this version does not know.
    #[error("unknown tunnel frame {0:#04x}")]
    Unknown(u8),
    /// A stream frame that breaks the rules.
    #[error("stream: {0}")]
    Stream(#[from] super::stream::FrameError),
}

/// How a packet is to be treated at the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct PacketFlags {
    /// Not before those of its flow that were sent earlier.
    pub ordered: bool,
    /// Lost ones come again: worth waiting for.
    pub repaired: bool,
    /// Which part of a packet that did not fit.
    pub part: Part,
    /// A parity follows in which it takes part; only of whole ones.
    pub protected: bool,
}

/// Part of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Part {
    /// All of it.
    #[default]
    Whole,
    /// Its start.
    First,
    /// Its end.
    Second,
}

impl PacketFlags {
    pub(super) const fn to_bits(self) -> u8 {
        let part = match self.part {
            Part::Whole if self.protected => 12,
            Part::Whole => 0,
            Part::First => 4,
            Part::Second => 8,
        };
        self.ordered as u8 | (self.repaired as u8) << 1 | part
    }

    pub(super) const fn from_bits(bits: u8) -> Self {
        let part = match bits & 12 {
            0 => Part::Whole,
            4 => Part::First,
            8 => Part::Second,
            _ => Part::Whole,
        };
        let protected = bits & 12 == 12;
        Self { ordered: bits & 1 != 0, repaired: bits & 2 != 0, part, protected }
    }
}

/// A packet on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketFrame<'a> {
    pub flags: PacketFlags,
    pub slot: u16,
    /// 24 bits.
    pub sequence: u32,
    pub bytes: &'a [u8],
}

impl PacketFrame<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(PACKET | self.flags.to_bits());
        out.extend_from_slice(&self.slot.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes()[1..]);
        // A packet is at most 65,535 bytes long.
        out.extend_from_slice(&u16::try_from(self.bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(self.bytes);
    }
}

/// What protects a group of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParityFrame<'a> {
    pub slot: u16,
    /// Of the group's first packet, 24 bits.
    pub first: u32,
    pub count: u8,
    pub bytes: &'a [u8],
}

impl ParityFrame<'_> {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(PARITY);
        out.extend_from_slice(&self.slot.to_be_bytes());
        out.extend_from_slice(&self.first.to_be_bytes()[1..]);
        out.push(self.count);
        out.extend_from_slice(&u16::try_from(self.bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(self.bytes);
    }
}

/// An acknowledgement, as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AckHead {
    pub path: u8,
    pub largest: u32,
    /// When the largest was received, in the receiver's clock.
    pub at: u32,
    /// How long ago that was, µs.
    pub delay: u64,
}

/// Writes an acknowledgement: `ranges` are inclusive, highest first, and not empty.
pub(super) fn encode_ack(head: AckHead, ranges: &[(u64, u64)], out: &mut Vec<u8>) {
    out.push(ACK);
    out.push(head.path);
    out.extend_from_slice(&head.largest.to_be_bytes());
    out.extend_from_slice(&head.at.to_be_bytes());
    let delay = u16::try_from(head.delay / DELAY_UNIT).unwrap_or(u16::MAX);
    out.extend_from_slice(&delay.to_be_bytes());
    let count_at = out.len();
    out.push(0);
    let mut count = 0;
    let mut above: Option<u64> = None;
    for &(low, high) in ranges.iter().take(MAX_RANGES) {
        let gap = above.map(|above| above - high - 1);
        let (Ok(length), Ok(gap)) =
            (u16::try_from(high - low + 1), u16::try_from(gap.unwrap_or_default()))
        else {
            if above.is_none() {
                // More in one piece than fits: its upper end is what matters.
                out.extend_from_slice(&u16::MAX.to_be_bytes());
                count += 1;
            }
            break;
        };
        if above.is_some() {
            out.extend_from_slice(&gap.to_be_bytes());
        }
        out.extend_from_slice(&length.to_be_bytes());
        above = Some(low);
        count += 1;
    }
    out[count_at] = count;
}

/// A frame, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Ack {
        head: AckHead,
        ranges: Ranges<'a>,
    },
    Probe,
    Status {
        serial: u16,
        unusable: u16,
        spare: u16,
    },
    Packet(PacketFrame<'a>),
    Parity(ParityFrame<'a>),
    /// The bytes from the stream frame's first on; who reads it says where it ends.
    Stream(&'a [u8]),
}

/// The ranges of an acknowledgement: lengths and gaps, from the largest down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ranges<'a>(&'a [u8]);

impl Ranges<'_> {
    /// Inclusive ranges, highest first, of the full numbers below `largest`.
    pub(super) fn iter(self, largest: u64) -> impl Iterator<Item = (u64, u64)> {
        let mut rest = self.0;
        let mut next = Some(largest);
        let mut first = true;
        std::iter::from_fn(move || {
            let mut high = next?;
            if !first {
                let (gap, behind) = rest.split_first_chunk::<2>()?;
                rest = behind;
                high = high.checked_sub(u64::from(u16::from_be_bytes(*gap)))?;
            }
            first = false;
            let (length, behind) = rest.split_first_chunk::<2>()?;
            rest = behind;
            let length = u64::from(u16::from_be_bytes(*length)).checked_sub(1)?;
            let low = high.checked_sub(length)?;
            next = low.checked_sub(1);
            Some((low, high))
        })
    }
}

/// Reads the next frame of `body` and moves `body` behind it; stream frames stay where they are.
/// `None` at the end.
pub(super) fn next_frame<'a>(body: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
    let Some(&kind) = body.first() else { return Ok(None) };
    let mut rest = Reader(&body[1..]);
    let frame = match kind {
        ACK => {
            let [path] = rest.array()?;
            let largest = u32::from_be_bytes(rest.array()?);
            let at = u32::from_be_bytes(rest.array()?);
            let delay = u64::from(u16::from_be_bytes(rest.array()?)) * DELAY_UNIT;
            let [count] = rest.array()?;
            let count = usize::from(count);
            if count == 0 || count > MAX_RANGES {
                return Err(FrameError::Malformed);
            }
            let ranges = Ranges(rest.take(count * 4 - 2)?);
            Frame::Ack { head: AckHead { path, largest, at, delay }, ranges }
        }
        PROBE => Frame::Probe,
        STATUS => Frame::Status {
            serial: u16::from_be_bytes(rest.array()?),
            unusable: u16::from_be_bytes(rest.array()?),
            spare: u16::from_be_bytes(rest.array()?),
        },
        PARITY => {
            let slot = u16::from_be_bytes(rest.array()?);
            let [a, b, c] = rest.array()?;
            let [count] = rest.array()?;
            let length = u16::from_be_bytes(rest.array()?);
            Frame::Parity(ParityFrame {
                slot,
                first: u32::from_be_bytes([0, a, b, c]),
                count,
                bytes: rest.take(usize::from(length))?,
            })
        }
        PAD => return Ok(None),
        0x30..=0x3f => {
            let flags = PacketFlags::from_bits(kind & 0x0f);
            let slot = u16::from_be_bytes(rest.array()?);
            let [a, b, c] = rest.array()?;
            let length = u16::from_be_bytes(rest.array()?);
            Frame::Packet(PacketFrame {
                flags,
                slot,
                sequence: u32::from_be_bytes([0, a, b, c]),
                bytes: rest.take(usize::from(length))?,
            })
        }
        0x40..=0x4f => return Ok(Some(Frame::Stream(body))),
        other => return Err(FrameError::Unknown(other)),
    };
    *body = rest.0;
    Ok(Some(frame))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(FrameError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut body = bytes.as_slice();
            while let Ok(Some(frame)) = next_frame(&mut body) {
                match frame {
                    Frame::Ack { head, ranges } => {
                        for (low, high) in ranges.iter(u64::from(head.largest)) {
                            prop_assert!(low <= high);
                        }
                    }
                    Frame::Stream(_) => break,
                    _ => {}
                }
            }
        }

        #[test]
        fn ranges_come_back(
            steps in prop::collection::vec((1u64..500, 1u64..500), 1..40), top in 0u64..1 << 40
        ) {
            let mut ranges = Vec::new();
            let mut high = top + 100_000;
            let largest = high;
            for (length, gap) in steps {
                let low = high - length + 1;
                ranges.push((low, high));
                high = low - 1 - gap;
            }
            let head = AckHead { path: 3, largest: largest as u32, at: 7, delay: 160 };
            let mut out = Vec::new();
            encode_ack(head, &ranges, &mut out);
            prop_assert_eq!(ranges_in(out.len()), Some(ranges.len().min(MAX_RANGES)));
            let mut body = out.as_slice();
            let Ok(Some(Frame::Ack { head: read, ranges: got })) = next_frame(&mut body) else {
                panic!("no ack")
            };
            prop_assert_eq!(read, head);
            ranges.truncate(MAX_RANGES);
            prop_assert_eq!(got.iter(largest).collect::<Vec<_>>(), ranges);
            prop_assert!(body.is_empty());
        }
    }

    #[test]
    fn a_packet_comes_back() {
        for part in [Part::Whole, Part::First, Part::Second] {
            let flags = PacketFlags {
                ordered: true,
                repaired: part == Part::First,
                part,
                protected: part == Part::Whole,
            };
            let frame = PacketFrame { flags, slot: 700, sequence: 0x00ab_cdef, bytes: b"packet" };
            let mut out = Vec::new();
            frame.encode(&mut out);
            assert_eq!(out.len(), PACKET_HEAD + 6);
            let mut body = out.as_slice();
            assert_eq!(next_frame(&mut body), Ok(Some(Frame::Packet(frame))));
        }
    }

    #[test]
    fn a_parity_comes_back() {
        let frame = ParityFrame { slot: 700, first: 0x00ab_cdef, count: 9, bytes: b"parity" };
        let mut out = Vec::new();
        frame.encode(&mut out);
        assert_eq!(out.len(), PARITY_HEAD + 6);
        let mut body = out.as_slice();
        assert_eq!(next_frame(&mut body), Ok(Some(Frame::Parity(frame))));
        for end in 1..out.len() {
            assert_eq!(next_frame(&mut &out[..end]), Err(FrameError::Malformed));
        }
    }
}
