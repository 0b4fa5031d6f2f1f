//! What all streams of a session share on the receiving side: memory, window, clock.

use super::block::Pool;
use super::frame::FrameError;
use super::limits::{LEAST_STREAM_WINDOW, StreamLimits};
use super::window::Clock;

/// An honest sender's pieces are not smaller than this on average.
const BYTES_PER_FRAGMENT: u64 = 256;

/// A new limit is not worth a frame for less, bytes.
const LEAST_GAIN: u64 = 2048;

/// The session's receiving side.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) pool: Pool,
    pub(super) clock: Clock,
    pub(super) stream_window_max: u64,
    /// How far the peer may be ahead of all readers.
    size: u64,
    /// The last limit that the peer was told.
    told: u64,
    /// The sum of how far the peer went on each stream.
    received: u64,
    /// How much of that was read, or dropped.
    consumed: u64,
    fragments: usize,
    most_fragments: usize,
}

impl Inbound {
    pub(super) fn new(limits: &StreamLimits) -> Self {
        Self {
            pool: Pool::new(limits.spare_memory),
            clock: Clock::default(),
            stream_window_max: limits.stream_window_max,
            size: limits.session_window_max,
            told: limits.session_window_max,
            received: 0,
            consumed: 0,
            fragments: 0,
            most_fragments: (limits.session_window_max / BYTES_PER_FRAGMENT) as usize,
        }
    }

    /// The peer went `bytes` further on some stream.
    pub(super) fn receive(&mut self, bytes: u64) -> Result<(), FrameError> {
        if self.received + bytes > self.told {
            return Err(FrameError::SessionWindow);
        }
        self.received += bytes;
        Ok(())
    }

    /// `bytes` of it need no memory any more.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
    }

    /// A stream's pieces out of order went from `before` to `now`.
    pub(super) fn fragments(&mut self, before: usize, now: usize) -> Result<(), FrameError> {
        self.fragments = self.fragments + now - before;
        if self.fragments > self.most_fragments { Err(FrameError::Fragments) } else { Ok(()) }
    }

    /// Bytes received and not read.
    pub(super) fn unread(&self) -> u64 {
        self.received - self.consumed
    }

    /// How far one stream may be ahead of its reader: half of what unread bytes leave of three
    /// quarters of the session's window. So readers that stall, however many one after the other,
    /// leave the last quarter to others, which need only [`LEAST_STREAM_WINDOW`] each to go on.
    pub(super) fn stream_share(&self) -> u64 {
        let open = self.size / 4 * 3;
        (open.saturating_sub(self.unread()) / 2).max(LEAST_STREAM_WINDOW)
    }

    fn limit(&self) -> u64 {
        self.consumed + self.size
    }

    /// Whether the peer is to be told a new end of the session's window: when that doubles what it
    /// has left, or gives a quarter more. Only the first works once much lies unread.
    pub(super) fn window_due(&self) -> bool {
        let gained = self.limit() - self.told;
        let left = self.told - self.received;
        gained >= LEAST_GAIN && gained >= left.min(self.size / 4)
    }

    /// Where the session's window ends now; the peer is being told.
    pub(super) fn renew_window(&mut self) -> u64 {
        self.told = self.limit();
        self.told
    }
}
