//! The sending half of a stream: bytes from the application until they are acknowledged.

use super::block::{Blocks, Pool};
use super::frame;
use super::limits::LEAST_STREAM_WINDOW;
use super::ranges::Ranges;
use super::record::{Kind, SentFrame};
use super::resend::Resends;
use super::{StreamError, StreamId, Told};

/// So many bytes of a stream after a rest are a question or an answer, for which somebody waits.
pub(super) const RESTED: u64 = 1500;
/// Data is not cut into pieces smaller than this to fill a datagram's rest.
const LEAST_PIECE: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The application has finished: the end follows the last byte.
    Ending,
    /// Cut off: the peer is told the code and the size up to there.
    Reset(u8, Told),
}

/// What was written and is not acknowledged yet, and where it stands.
///
/// The end of the stream counts as one more byte after the last, so that it is sent, lost and
/// acknowledged like any other.
#[derive(Debug)]
pub(super) struct SendBuffer {
    blocks: Blocks,
    /// Acknowledged ranges above `base`.
    acked: Ranges,
    resends: Resends,
    /// All before this is acknowledged.
    base: u64,
    /// Nothing from here on was ever sent.
    next: u64,
    /// Bytes written.
    written: u64,
    /// When so many were written, the peer last had all of them.
    rest: u64,
    /// Where the peer's window ends.
    max: u64,
    state: State,
    /// The code with which the peer asked to stop.
    stopped: Option<u8>,
}

impl SendBuffer {
    pub(super) fn new() -> Self {
        Self {
            blocks: Blocks::default(),
            acked: Ranges::default(),
            resends: Resends::default(),
            base: 0,
            next: 0,
            written: 0,
            rest: 0,
            max: LEAST_STREAM_WINDOW,
            state: State::Open,
            stopped: None,
        }
    }

    /// Whether more may be written.
    pub(super) fn writable(&self) -> Result<(), StreamError> {
        match (self.stopped, self.state) {
            (Some(code), _) => Err(StreamError::Stopped(code)),
            (None, State::Open) => Ok(()),
            (None, _) => Err(StreamError::Finished),
        }
    }

    /// Bytes that are not acknowledged.
    pub(super) fn unacked(&self) -> u64 {
        self.written.saturating_sub(self.base)
    }

    /// Bytes from where the peer last had everything up to `offset`.
    pub(super) fn since_rest(&self, offset: u64) -> u64 {
        offset.saturating_sub(self.rest)
    }

    /// Whether what is sent next is among the first bytes after a rest.
    pub(super) fn has_rested(&self) -> bool {
        self.since_rest(self.next) < RESTED
    }

    /// Bytes that were never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.written.saturating_sub(self.next)
    }

    /// Whether something is to be sent again.
    pub(super) fn has_lost(&self) -> bool {
        self.resends.queued() > 0
    }

    /// Bytes to send, whether again or for the first time; the end of the stream counts as one.
    pub(super) fn pending(&self) -> u64 {
        self.end() - self.next + self.resends.queued()
    }

    /// Bytes that the peer's window allows beyond those written.
    pub(super) fn credit(&self) -> u64 {
        self.max.saturating_sub(self.written)
    }

    /// The peer's window ends at `max`.
    pub(super) fn allow(&mut self, max: u64) {
        self.max = self.max.max(max);
    }

    fn end(&self) -> u64 {
        self.written + u64::from(self.state == State::Ending)
    }

    /// Takes `data`, all of it.
    pub(super) fn write(&mut self, data: &[u8], pool: &mut Pool) {
        if self.base == self.written {
            self.rest = self.written;
        }
        self.blocks.write(self.written, data, pool);
        self.written += data.len() as u64;
    }

    /// No more will be written.
    pub(super) fn finish(&mut self) -> Result<(), StreamError> {
        self.writable()?;
        self.state = State::Ending;
        Ok(())
    }

    /// Drops everything and has the peer told `code`. Returns how many bytes written were never
    /// sent and never will be; `None` if it is too late for a reset.
    pub(super) fn reset(&mut self, code: u8, pool: &mut Pool) -> Option<u64> {
        if self.is_done() || matches!(self.state, State::Reset(..)) {
            return None;
        }
        let unsent = self.unsent();
        self.written -= unsent;
        self.next = self.written;
        self.base = self.written;
        self.blocks.clear(pool);
        self.acked.clear();
        self.resends.clear();
        self.state = State::Reset(code, Told::Queued);
        Some(unsent)
    }

    /// The peer asks to stop. As [`Self::reset`].
    pub(super) fn stop(&mut self, code: u8, pool: &mut Pool) -> Option<u64> {
        let unsent = self.reset(code, pool)?;
        self.stopped = Some(code);
        Some(unsent)
    }

    /// The reset that is to be sent: code and size.
    pub(super) fn reset_due(&self) -> Option<(u8, u64)> {
        match self.state {
            State::Reset(code, Told::Queued) => Some((code, self.written)),
            _ => None,
        }
    }

    /// The reset was sent, lost or acknowledged.
    pub(super) fn reset_is(&mut self, now: Told) {
        if let State::Reset(_, told) = &mut self.state {
            told.becomes(now);
        }
    }

    /// Whether the peer has all there will ever be, and we know it.
    pub(super) fn is_done(&self) -> bool {
        match self.state {
            State::Open => false,
            State::Ending => self.base == self.end(),
            State::Reset(_, told) => told == Told::Acked,
        }
    }

    /// Whether that was the regular end.
    pub(super) fn is_finished(&self) -> bool {
        self.state == State::Ending && self.is_done()
    }

    /// Appends the next frame, if `room` bytes are enough: lost data before new.
    pub(super) fn poll(
        &mut self,
        id: StreamId,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Option<SentFrame> {
        let again = self.resends.next();
        let (start, end, copy) = match again {
            Some(piece) => piece,
            None if self.next < self.end() => (self.next, self.end(), 0),
            None => return None,
        };
        let data = end.min(self.written) - start;
        let most = data.min(room as u64).min(u64::from(u16::MAX)) as usize;
        let left = room.checked_sub(frame::stream_head(id, start, most))?;
        let length = most.min(left);
        let whole = length as u64 == data;
        if !whole && length < LEAST_PIECE {
            return None;
        }
        let fin = whole && end > self.written;
        frame::put_stream_head(out, id, start, length, fin);
        for part in self.blocks.parts(start, start + length as u64) {
            out.extend_from_slice(part);
        }
        let sent = start + length as u64 + u64::from(fin);
        if again.is_some() {
            self.resends.sent(start, sent);
        } else {
            self.next = sent;
        }
        let kind = if fin { Kind::DataEnd } else { Kind::Data };
        Some(SentFrame { value: start, stream: id, length: length as u16, kind, copy })
    }

    /// `start..end` has arrived.
    pub(super) fn acked(&mut self, start: u64, end: u64, pool: &mut Pool) {
        if matches!(self.state, State::Reset(..)) || end > self.next || end <= self.base {
            return;
        }
        self.resends.acked(start.max(self.base), end);
        if start > self.base {
            self.acked.insert(start, end);
            return;
        }
        self.base = end;
        while let Some(end) = self.acked.take_reached(self.base) {
            self.base = self.base.max(end);
        }
        self.blocks.release(self.base, self.written, pool);
    }

    /// Whether some of `start..end`, which was sent, is not acknowledged.
    pub(super) fn awaits(&self, start: u64, end: u64) -> bool {
        !matches!(self.state, State::Reset(..))
            && self.acked.next_gap(start.max(self.base), end).is_some()
    }

    /// Copy number `copy` of `start..end` is lost, or not to be relied on.
    pub(super) fn lost(&mut self, start: u64, end: u64, copy: u8) {
        if matches!(self.state, State::Reset(..)) || end > self.next {
            return;
        }
        let mut at = start.max(self.base);
        while let Some((from, to)) = self.acked.next_gap(at, end) {
            self.resends.lose(from, to, copy);
            at = to;
        }
    }
}
