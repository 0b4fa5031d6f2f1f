//! Frames: how records lie in the byte stream. Everything is done in place.

use std::ops::Range;

use thiserror::Error;

use super::record::{Record, RecordType};
use crate::crypto::aead::{AuthError, Sequence, TAG_LEN};
use crate::session::FlowId;

/// Bytes of a frame's head: kind and length.
pub const HEAD_LEN: usize = 4;
/// The most a record carries.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Where the payload starts in the frame of a plain record.
pub const PAYLOAD_AT: usize = HEAD_LEN + 1;
/// Bytes that a plain record's frame has beside its payload.
pub const RECORD_OVERHEAD: usize = PAYLOAD_AT + TAG_LEN;
/// Bytes between the head and the sealed record of an open frame.
pub const OPEN_PREFIX: usize = 1 + 4 + 8;
/// The longest frame.
pub const MAX_FRAME: usize = HEAD_LEN + OPEN_PREFIX + 1 + MAX_PAYLOAD + TAG_LEN;

/// The longest datagram that a frame carries.
pub const MAX_DATAGRAM: usize = 2048;

const FRESH: u8 = 1;

/// The kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// A handshake message, not sealed here.
    Handshake = 0x01,
    /// A flow's first record.
    Open = 0x10,
    /// A record of the present flow.
    Record = 0x11,
    /// A record of the lane itself.
    LaneRecord = 0x12,
    /// A datagram, sealed as it would be over UDP: where UDP is blocked, a connection carries
    /// nothing but these.
    Datagram = 0x13,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Handshake,
            0x10 => Self::Open,
            0x11 => Self::Record,
            0x12 => Self::LaneRecord,
            0x13 => Self::Datagram,
            _ => return None,
        })
    }
}

/// The byte stream holds something that is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a frame of this protocol")]
pub struct FrameError;

/// Why a lane has to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LaneError {
    /// No frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Forged, damaged or out of order.
    #[error("record failed authentication")]
    Unauthentic,
    /// Authentic, but not allowed now or of an unknown type.
    #[error("record that makes no sense here")]
    Unexpected,
}

impl From<AuthError> for LaneError {
    fn from(_: AuthError) -> Self {
        Self::Unauthentic
    }
}

/// A whole frame in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: FrameKind,
    /// Where it lies in the buffer, head included.
    pub range: Range<usize>,
}

/// Finds the frame at the start of `bytes`: `Ok(None)` if it is not whole yet.
///
/// # Errors
/// [`FrameError`] as soon as the head shows that this is no frame.
pub fn next_frame(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
    let Some((&kind, rest)) = bytes.split_first() else { return Ok(None) };
    let kind = FrameKind::from_byte(kind).ok_or(FrameError)?;
    let Some(length) = rest.first_chunk::<3>() else { return Ok(None) };
    let end = HEAD_LEN + u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
    let least = match kind {
        FrameKind::Handshake => HEAD_LEN + 1,
        FrameKind::Open => HEAD_LEN + OPEN_PREFIX + 1 + TAG_LEN,
        FrameKind::Record | FrameKind::LaneRecord => RECORD_OVERHEAD,
        FrameKind::Datagram => HEAD_LEN + 1,
    };
    let most = match kind {
        FrameKind::Handshake => HEAD_LEN + 2048,
        FrameKind::Datagram => HEAD_LEN + MAX_DATAGRAM,
        _ => MAX_FRAME,
    };
    if end < least || end > most {
        return Err(FrameError);
    }
    Ok((bytes.len() >= end).then_some(Frame { kind, range: 0..end }))
}

fn write_head(frame: &mut [u8], kind: FrameKind) {
    let length = (frame.len() - HEAD_LEN) as u32;
    frame[..HEAD_LEN].copy_from_slice(&length.to_be_bytes());
    frame[0] = kind as u8;
}

/// Wraps a handshake message for the byte stream.
#[must_use]
pub fn handshake_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEAD_LEN];
    frame.extend_from_slice(message);
    write_head(&mut frame, FrameKind::Handshake);
    frame
}

/// What stands before a datagram of `length` bytes in the byte stream; `None` if it is longer than
/// [`MAX_DATAGRAM`].
#[must_use]
pub fn datagram_head(length: usize) -> Option<[u8; HEAD_LEN]> {
    let mut head = u32::try_from(length).ok().filter(|_| length <= MAX_DATAGRAM)?.to_be_bytes();
    head[0] = FrameKind::Datagram as u8;
    Some(head)
}

/// Turns a payload that lies at `buffer[PAYLOAD_AT..PAYLOAD_AT + length]` into a frame, in place.
/// Returns the frame's length.
///
/// # Panics
/// If the buffer is shorter than `length` + [`RECORD_OVERHEAD`], or `length` exceeds
/// [`MAX_PAYLOAD`]: a mistake of the caller.
pub fn seal_record(
    keys: &mut Sequence,
    frame: FrameKind,
    kind: RecordType,
    buffer: &mut [u8],
    length: usize,
) -> usize {
    assert!(length <= MAX_PAYLOAD, "record too long");
    let end = length + RECORD_OVERHEAD;
    let buffer = &mut buffer[..end];
    write_head(buffer, frame);
    buffer[HEAD_LEN] = kind as u8;
    let (head, rest) = buffer.split_at_mut(HEAD_LEN);
    let (plain, tag) = rest.split_at_mut(1 + length);
    tag.copy_from_slice(&keys.seal(head, plain));
    end
}

/// Appends an open frame: `kind` is Open or Hello.
pub fn seal_open(
    keys: &mut Sequence,
    session_index: u32,
    flow: FlowId,
    fresh: bool,
    kind: RecordType,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_LEN]);
    out.push(if fresh { FRESH } else { 0 });
    out.extend_from_slice(&session_index.to_be_bytes());
    out.extend_from_slice(&flow.0.to_be_bytes());
    out.push(kind as u8);
    out.extend_from_slice(payload);
    out.extend_from_slice(&[0; TAG_LEN]);
    let frame = &mut out[start..];
    write_head(frame, FrameKind::Open);
    let (head, rest) = frame.split_at_mut(HEAD_LEN + OPEN_PREFIX);
    let (plain, tag) = rest.split_at_mut(1 + payload.len());
    tag.copy_from_slice(&keys.seal(head, plain));
}

/// What stands in the clear in an open frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenHead {
    /// The receiver's session index.
    pub session_index: u32,
    /// The flow.
    pub flow: FlowId,
    /// Whether the keys include the lane's freshness.
    pub fresh: bool,
}

impl OpenHead {
    /// Reads it from a whole open frame.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let prefix: &[u8; OPEN_PREFIX] = frame.get(HEAD_LEN..)?.first_chunk()?;
        let (&flags, rest) = prefix.split_first()?;
        let (index, rest) = rest.split_first_chunk::<4>()?;
        let flow = rest.first_chunk::<8>()?;
        Some(Self {
            session_index: u32::from_be_bytes(*index),
            flow: FlowId(u64::from_be_bytes(*flow)),
            fresh: flags & FRESH != 0,
        })
    }
}

impl Frame {
    /// Opens the frame's record in place; `bytes` is the whole frame.
    ///
    /// # Errors
    /// [`LaneError`]: the lane is to be dropped.
    pub fn open<'a>(
        &self,
        keys: &mut Sequence,
        bytes: &'a mut [u8],
    ) -> Result<Record<'a>, LaneError> {
        let head_len = match self.kind {
            FrameKind::Handshake | FrameKind::Datagram => return Err(LaneError::Unexpected),
            FrameKind::Open => HEAD_LEN + OPEN_PREFIX,
            FrameKind::Record | FrameKind::LaneRecord => HEAD_LEN,
        };
        if bytes.len() < head_len {
            return Err(FrameError.into());
        }
        let (head, sealed) = bytes.split_at_mut(head_len);
        let plain = keys.open(head, sealed)?;
        let (kind, payload) = plain.split_first_mut().ok_or(LaneError::Unexpected)?;
        let kind = RecordType::from_byte(*kind).ok_or(LaneError::Unexpected)?;
        Ok(Record { kind, payload })
    }
}
