//! How the streams' frames look on the wire.
//!
//! A kind byte, then varints ([`varint`](super::varint)); a code is one byte.
//!
//! | kind | name | fields |
//! |------|------|--------|
//! | 0x40 | STREAM | id, offset, length, bytes |
//! | 0x41 | STREAM, the last | id, offset, length, bytes |
//! | 0x42 | RESET | id, code, final size |
//! | 0x43 | STOP | id, code |
//! | 0x44 | WINDOW | id, greatest offset allowed |
//! | 0x45 | SESSION | greatest sum of offsets allowed, how many streams may have been opened |

use thiserror::Error;

use super::{StreamId, varint};

/// The kinds that belong to streams.
pub const KINDS: std::ops::RangeInclusive<u8> = 0x40..=0x4f;

pub(super) const STREAM: u8 = 0x40;
pub(super) const STREAM_FIN: u8 = 0x41;
pub(super) const RESET: u8 = 0x42;
pub(super) const STOP: u8 = 0x43;
pub(super) const WINDOW: u8 = 0x44;
pub(super) const SESSION: u8 = 0x45;

/// The most bytes that a frame other than STREAM takes.
pub(super) const MAX_CONTROL: usize = 1 + 3 * 8;

/// What the peer sent against the rules: the tunnel must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Cut short, or a number out of its range.
    #[error("malformed stream frame")]
    Malformed,
    /// No kind of frame that this version knows.
    #[error("stream frame of unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// A frame for a stream that this end never opened.
    #[error("frame for {0}, which was never opened")]
    NeverOpened(StreamId),
    /// More streams than this end allowed.
    #[error("{0} is beyond the streams allowed")]
    TooManyStreams(StreamId),
    /// Bytes beyond the stream's window.
    #[error("{0} went beyond its window")]
    StreamWindow(StreamId),
    /// Bytes beyond the session's window.
    #[error("the session's window was exceeded")]
    SessionWindow,
    /// The stream's end moved, or bytes lie beyond it.
    #[error("{0} contradicts its final size")]
    FinalSize(StreamId),
    /// So many small pieces out of order that no honest sender makes them.
    #[error("too many fragments")]
    Fragments,
}

/// A frame, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Stream { id: StreamId, offset: u64, data: &'a [u8], fin: bool },
    Reset { id: StreamId, code: u8, size: u64 },
    Stop { id: StreamId, code: u8 },
    Window { id: StreamId, max: u64 },
    Session { max: u64, streams: u64 },
}

impl<'a> Frame<'a> {
    /// Takes a frame from the front of `bytes`, which start after the kind.
    pub(super) fn take(kind: u8, bytes: &mut &'a [u8]) -> Result<Self, FrameError> {
        if !(STREAM..=SESSION).contains(&kind) {
            return Err(FrameError::UnknownKind(kind));
        }
        Self::body(kind, bytes).ok_or(FrameError::Malformed)
    }

    fn body(kind: u8, bytes: &mut &'a [u8]) -> Option<Self> {
        if kind == SESSION {
            return Some(Self::Session {
                max: varint::take(bytes)?,
                streams: varint::take(bytes)?,
            });
        }
        let id = StreamId(u32::try_from(varint::take(bytes)?).ok()?);
        Some(match kind {
            STREAM | STREAM_FIN => {
                let offset = varint::take(bytes)?;
                let length = usize::try_from(varint::take(bytes)?).ok()?;
                let (data, rest) = bytes.split_at_checked(length)?;
                *bytes = rest;
                Self::Stream { id, offset, data, fin: kind == STREAM_FIN }
            }
            RESET => Self::Reset { id, code: byte(bytes)?, size: varint::take(bytes)? },
            STOP => Self::Stop { id, code: byte(bytes)? },
            _ => Self::Window { id, max: varint::take(bytes)? },
        })
    }

    /// Appends the frame, kind first.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Stream { id, offset, data, fin } => {
                put_stream_head(out, id, offset, data.len(), fin);
                out.extend_from_slice(data);
            }
            Self::Reset { id, code, size } => {
                out.push(RESET);
                varint::put(out, id.0.into());
                out.push(code);
                varint::put(out, size);
            }
            Self::Stop { id, code } => {
                out.push(STOP);
                varint::put(out, id.0.into());
                out.push(code);
            }
            Self::Window { id, max } => {
                out.push(WINDOW);
                varint::put(out, id.0.into());
                varint::put(out, max);
            }
            Self::Session { max, streams } => {
                out.push(SESSION);
                varint::put(out, max);
                varint::put(out, streams);
            }
        }
    }
}

/// Bytes before the data of a STREAM frame whose length takes `length` bytes to tell.
pub(super) fn stream_head(id: StreamId, offset: u64, length: usize) -> usize {
    1 + varint::size(id.0.into()) + varint::size(offset) + varint::size(length as u64)
}

/// Appends what comes before the data of a STREAM frame.
pub(super) fn put_stream_head(
    out: &mut Vec<u8>,
    id: StreamId,
    offset: u64,
    length: usize,
    fin: bool,
) {
    out.push(if fin { STREAM_FIN } else { STREAM });
    varint::put(out, id.0.into());
    varint::put(out, offset);
    varint::put(out, length as u64);
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_bytes() {
        let id = StreamId(300);
        for (frame, bytes) in [
            (
                Frame::Stream { id, offset: 70_000, data: b"hi", fin: true },
                &[0x41, 0x41, 0x2c, 0x80, 0x01, 0x11, 0x70, 2, b'h', b'i'][..],
            ),
            (Frame::Stream { id: StreamId(0), offset: 0, data: b"", fin: false }, &[0x40, 0, 0, 0]),
            (Frame::Reset { id, code: 7, size: 5 }, &[0x42, 0x41, 0x2c, 7, 5]),
            (Frame::Stop { id, code: 9 }, &[0x43, 0x41, 0x2c, 9]),
            (Frame::Window { id, max: 64 }, &[0x44, 0x41, 0x2c, 0x40, 0x40]),
            (Frame::Session { max: 1, streams: 3 }, &[0x45, 1, 3]),
        ] {
            let mut out = Vec::new();
            frame.put(&mut out);
            assert_eq!(out, bytes);
            let mut rest = &bytes[1..];
            assert_eq!(Frame::take(bytes[0], &mut rest), Ok(frame));
            assert!(rest.is_empty());
            for cut in 1..bytes.len() {
                let mut rest = &bytes[1..cut];
                assert_eq!(Frame::take(bytes[0], &mut rest), Err(FrameError::Malformed));
            }
        }
        assert_eq!(Frame::take(0x46, &mut &[0; 9][..]), Err(FrameError::UnknownKind(0x46)));
    }
}
