//! What all streams of a session share on the receiving side: memory, window, clock.

use super::block::Pool;
use super::frame::FrameError;
use super::limits::StreamLimits;
use super::window::{Clock, Window};

/// An honest sender's pieces are not smaller than this on average.
const BYTES_PER_FRAGMENT: u64 = 256;

/// Below this a stream's window is never squeezed, bytes.
const LEAST_SHARE: u64 = 64 * 1024;

/// The session's receiving side.
#[derive(Debug)]
pub(super) struct Inbound {
    pub(super) pool: Pool,
    pub(super) clock: Clock,
    pub(super) stream_window_max: u64,
    pub(super) window: Window,
    window_max: u64,
    /// The sum of how far the peer went on each stream.
    received: u64,
    /// How much of that was read, or dropped.
    consumed: u64,
    fragments: usize,
    most_fragments: usize,
}

impl Inbound {
    pub(super) fn new(limits: &StreamLimits) -> Self {
        let clock = Clock::default();
        Self {
            pool: Pool::new(limits.spare_memory),
            clock,
            stream_window_max: limits.stream_window_max,
            window: Window::new(limits.session_window_initial, clock),
            window_max: limits.session_window_max,
            received: 0,
            consumed: 0,
            fragments: 0,
            most_fragments: (limits.session_window_max / BYTES_PER_FRAGMENT) as usize,
        }
    }

    /// The peer went `bytes` further on some stream.
    pub(super) fn receive(&mut self, bytes: u64) -> Result<(), FrameError> {
        if self.received + bytes > self.window.max {
            return Err(FrameError::SessionWindow);
        }
        self.received += bytes;
        Ok(())
    }

    /// `bytes` of it need no memory any more.
    pub(super) fn consume(&mut self, bytes: u64) {
        self.consumed += bytes;
        self.window.grow(self.consumed, 0, self.window_max, self.clock);
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

    /// How far one stream may be ahead of its reader: half of what others' unread bytes leave of the
    /// session's window, so that a few readers that stall don't stop all others.
    pub(super) fn stream_share(&self) -> u64 {
        (self.window.size().saturating_sub(self.unread()) / 2).max(LEAST_SHARE)
    }

    /// Whether the peer is to be told a new end of the session's window.
    pub(super) fn window_due(&self) -> bool {
        self.window.offer(self.consumed, u64::MAX).is_some()
    }

    /// Where the session's window ends now.
    pub(super) fn window_end(&self) -> u64 {
        (self.consumed + self.window.size()).max(self.window.max)
    }
}
