//! The receiving half of a stream: bytes from the peer until the application has read them.

use super::block::Blocks;
use super::frame::FrameError;
use super::ranges::Ranges;
use super::shared::Inbound;
use super::window::Window;
use super::{Read, StreamError, StreamId, Told};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Cut off by the peer; the application does not know yet.
    Reset(u8),
    /// The application wants no more; the peer has not said where it ended.
    Stopped(u8, Told),
    /// The application has read everything.
    Finished,
    /// The application knows all it will, and the peer's final size is known.
    Done,
}

/// What arrived and was not read yet.
#[derive(Debug)]
pub(super) struct RecvBuffer {
    blocks: Blocks,
    /// What arrived beyond `end`.
    ahead: Ranges,
    /// The application has read up to here.
    read: u64,
    /// Everything before this has arrived.
    end: u64,
    /// The peer has sent up to here at least.
    highest: u64,
    /// The stream's size, once the peer has told.
    size: Option<u64>,
    window: Window,
    state: State,
}

impl RecvBuffer {
    pub(super) fn new(window: Window) -> Self {
        Self {
            blocks: Blocks::default(),
            ahead: Ranges::default(),
            read: 0,
            end: 0,
            highest: 0,
            size: None,
            window,
            state: State::Open,
        }
    }

    /// Bytes that can be read at once.
    pub(super) fn readable(&self) -> u64 {
        self.end - self.read
    }

    /// Whether this half needs nothing more, from neither side.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Finished | State::Done)
    }

    /// Checks an end at `end` and counts what is new up to there.
    fn reach(
        &mut self,
        id: StreamId,
        end: u64,
        last: bool,
        inbound: &mut Inbound,
    ) -> Result<(), FrameError> {
        let beyond = self.size.is_some_and(|size| end > size || (last && end < size));
        if beyond || (last && end < self.highest) {
            return Err(FrameError::FinalSize(id));
        }
        if end > self.window.max {
            return Err(FrameError::StreamWindow(id));
        }
        inbound.receive(end.saturating_sub(self.highest))?;
        self.highest = self.highest.max(end);
        if last {
            self.size = Some(end);
        }
        Ok(())
    }

    /// Takes a STREAM frame. Returns whether the application has something new to read (data in
    /// order, or the end).
    pub(super) fn data(
        &mut self,
        id: StreamId,
        offset: u64,
        data: &[u8],
        fin: bool,
        inbound: &mut Inbound,
    ) -> Result<bool, FrameError> {
        let end = offset + data.len() as u64;
        let knew_size = self.size.is_some();
        self.reach(id, end, fin, inbound)?;
        match self.state {
            State::Open => {}
            State::Stopped(..) => {
                self.discard(inbound);
                return Ok(false);
            }
            State::Reset(_) | State::Finished | State::Done => return Ok(false),
        }
        let told_end = self.size == Some(self.end) && !knew_size;
        if end <= self.end {
            return Ok(told_end);
        }
        if offset > self.end {
            let before = self.ahead.len();
            if self.ahead.insert(offset, end) {
                self.blocks.write(offset, data, &mut inbound.pool);
            }
            inbound.fragments(before, self.ahead.len())?;
            return Ok(false);
        }
        let fresh = &data[(self.end - offset) as usize..];
        self.blocks.write(self.end, fresh, &mut inbound.pool);
        self.end = end;
        if !self.ahead.is_empty() {
            let before = self.ahead.len();
            while let Some(end) = self.ahead.take_reached(self.end) {
                self.end = self.end.max(end);
            }
            inbound.fragments(before, self.ahead.len())?;
        }
        Ok(true)
    }

    /// The peer cuts the stream off at `size`. Returns whether the application is to be told.
    pub(super) fn reset(
        &mut self,
        id: StreamId,
        code: u8,
        size: u64,
        inbound: &mut Inbound,
    ) -> Result<bool, FrameError> {
        let had_end = self.size.is_some();
        self.reach(id, size, true, inbound)?;
        match self.state {
            // Everything arrived before the reset, the end too: the application shall have it.
            State::Open if had_end && self.end == size => Ok(false),
            State::Open => {
                self.discard(inbound);
                self.state = State::Reset(code);
                Ok(true)
            }
            State::Stopped(..) => {
                self.discard(inbound);
                Ok(false)
            }
            State::Reset(_) | State::Finished | State::Done => Ok(false),
        }
    }

    /// Drops all that is unread, and all that is to come.
    fn discard(&mut self, inbound: &mut Inbound) {
        inbound.consume(self.highest - self.read);
        self.read = self.highest;
        self.end = self.highest;
        let before = self.ahead.len();
        self.ahead.clear();
        let _ = inbound.fragments(before, 0);
        self.blocks.clear(&mut inbound.pool);
        if self.size.is_some() {
            self.state = State::Done;
        }
    }

    /// The application wants no more; the peer is told `code` unless it has ended already.
    pub(super) fn stop(&mut self, code: u8, inbound: &mut Inbound) {
        match self.state {
            State::Open => {
                self.state = State::Stopped(code, Told::Queued);
                self.discard(inbound);
            }
            State::Reset(_) => self.state = State::Done,
            State::Stopped(..) | State::Finished | State::Done => {}
        }
    }

    /// The code of the STOP that is to be sent.
    pub(super) fn stop_due(&self) -> Option<u8> {
        match self.state {
            State::Stopped(code, Told::Queued) => Some(code),
            _ => None,
        }
    }

    /// The STOP was sent, lost or acknowledged.
    pub(super) fn stop_is(&mut self, now: Told) {
        if let State::Stopped(_, told) = &mut self.state {
            told.becomes(now);
        }
    }

    /// Fills `out` with what comes next.
    pub(super) fn read(
        &mut self,
        out: &mut [u8],
        inbound: &mut Inbound,
    ) -> Result<Read, StreamError> {
        match self.state {
            State::Open => {}
            State::Reset(code) => {
                self.state = State::Done;
                return Err(StreamError::Reset(code));
            }
            State::Finished => return Ok(Read::Finished),
            State::Stopped(..) | State::Done => return Err(StreamError::Closed),
        }
        let readable = self.readable();
        if readable == 0 {
            if self.size == Some(self.read) {
                self.state = State::Finished;
                return Ok(Read::Finished);
            }
            return Ok(Read::Blocked);
        }
        let length = readable.min(out.len() as u64);
        let mut filled = 0;
        for part in self.blocks.parts(self.read, self.read + length) {
            out[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        self.read += length;
        self.blocks.release(self.read, self.highest, &mut inbound.pool);
        inbound.consume(length);
        let unread = self.readable();
        self.window.grow(self.read, unread, inbound.stream_window_max, inbound.clock);
        Ok(Read::Data(filled))
    }

    /// Whether the peer may have to know how far it can go.
    fn has_window(&self) -> bool {
        self.state == State::Open && self.size.is_none()
    }

    /// Whether the peer is to be told a new limit.
    pub(super) fn window_due(&self, inbound: &Inbound) -> bool {
        self.has_window() && self.window.offer(self.read, inbound.stream_share()).is_some()
    }

    /// The limit to tell the peer now, unless it has no more use for one.
    pub(super) fn renew_window(&mut self, inbound: &Inbound) -> Option<u64> {
        if !self.has_window() {
            return None;
        }
        if let Some(max) = self.window.offer(self.read, inbound.stream_share()) {
            self.window.max = max;
        }
        Some(self.window.max)
    }

    /// Whether `max` is the last limit that the peer was told, and still matters.
    pub(super) fn window_is(&self, max: u64) -> bool {
        self.has_window() && self.window.max == max
    }
}
