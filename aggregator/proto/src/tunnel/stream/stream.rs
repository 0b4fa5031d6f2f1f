//! One stream: its two halves, and in which of the session's queues it stands.

use std::collections::VecDeque;

use super::frame::Frame;
use super::limits::LEAST_STREAM_WINDOW;
use super::ranges::relax;
use super::record::{Kind, SentFrame};
use super::recv::RecvBuffer;
use super::send::SendBuffer;
use super::shared::Inbound;
use super::window::Window;
use super::{StreamEvent, StreamId, Told};

/// Where a stream waits to send data for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing to send.
    Idle,
    /// Among those that had rested, before all others.
    Rested,
    /// In the ring.
    Ring,
}

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: SendBuffer,
    pub(super) recv: RecvBuffer,
    pub(super) place: Place,
    /// Bytes it may send in this round.
    pub(super) deficit: i32,
    pub(super) in_control: bool,
    pub(super) in_lost: bool,
    pub(super) in_blocked: bool,
    /// The peer is to be told how far it may go.
    pub(super) window_due: bool,
    /// The application waits for data.
    pub(super) wants_read: bool,
    /// The application waits for room.
    pub(super) wants_write: bool,
    /// What the sums count of this stream: bytes to send, bytes unacknowledged.
    counted: (u64, u64),
}

impl Stream {
    pub(super) fn new(window: u64, inbound: &Inbound) -> Self {
        Self {
            send: SendBuffer::new(),
            recv: RecvBuffer::new(Window::new(window, LEAST_STREAM_WINDOW, inbound.clock)),
            place: Place::Idle,
            deficit: 0,
            in_control: false,
            in_lost: false,
            in_blocked: false,
            window_due: false,
            wants_read: true,
            wants_write: false,
            counted: (0, 0),
        }
    }

    fn has_control(&self) -> bool {
        self.window_due || self.send.reset_due().is_some() || self.recv.stop_due().is_some()
    }

    /// Appends the stream's next frame that carries no data.
    pub(super) fn poll_control(
        &mut self,
        id: StreamId,
        inbound: &Inbound,
        out: &mut Vec<u8>,
    ) -> Option<SentFrame> {
        let (frame, kind, value) = if let Some((code, size)) = self.send.reset_due() {
            self.send.reset_is(Told::Sent);
            (Frame::Reset { id, code, size }, Kind::Reset, 0)
        } else if let Some(code) = self.recv.stop_due() {
            self.recv.stop_is(Told::Sent);
            (Frame::Stop { id, code }, Kind::Stop, 0)
        } else if self.window_due {
            self.window_due = false;
            let max = self.recv.renew_window(inbound)?;
            (Frame::Window { id, max }, Kind::Window, max)
        } else {
            return None;
        };
        frame.put(out);
        Some(SentFrame { value, stream: id, length: 0, kind, copy: 0 })
    }

    pub(super) fn is_done(&self) -> bool {
        self.send.is_done() && self.recv.is_done()
    }
}

/// Who is next, and what the application has not heard yet. Entries may be out of date: whoever
/// takes one looks at the stream.
#[derive(Debug, Default)]
pub(super) struct Queues {
    /// Streams with frames that carry no data.
    pub(super) control: VecDeque<StreamId>,
    /// Streams with data to send again.
    pub(super) lost: VecDeque<StreamId>,
    /// Streams with data that had rested.
    pub(super) rested: VecDeque<StreamId>,
    /// Streams with data, in turn.
    pub(super) ready: VecDeque<StreamId>,
    /// Streams whose writers wait for what all share.
    pub(super) blocked: VecDeque<StreamId>,
    pub(super) events: VecDeque<StreamEvent>,
    /// Opened by the peer, not accepted yet.
    pub(super) opened: VecDeque<StreamId>,
    /// Bytes to send.
    pub(super) pending: u64,
    /// Bytes written and not acknowledged.
    pub(super) unacked: u64,
}

impl Queues {
    /// Puts `stream` where it belongs and corrects the sums, after any change to it.
    pub(super) fn place(&mut self, id: StreamId, stream: &mut Stream) {
        let (pending, unacked) = (stream.send.pending(), stream.send.unacked());
        self.pending = self.pending - stream.counted.0 + pending;
        self.unacked = self.unacked - stream.counted.1 + unacked;
        stream.counted = (pending, unacked);
        if !stream.in_control && stream.has_control() {
            stream.in_control = true;
            self.control.push_back(id);
        }
        if !stream.in_lost && stream.send.has_lost() {
            stream.in_lost = true;
            self.lost.push_back(id);
        }
        if stream.place == Place::Idle && pending > 0 {
            if stream.send.has_rested() {
                stream.place = Place::Rested;
                self.rested.push_back(id);
            } else {
                stream.place = Place::Ring;
                self.ready.push_back(id);
            }
        }
    }

    /// Gives memory back that a crowd of streams left.
    pub(super) fn relax(&mut self) {
        let queues = [&mut self.control, &mut self.lost, &mut self.rested, &mut self.ready];
        for queue in queues.into_iter().chain([&mut self.blocked]) {
            relax(queue);
        }
        relax(&mut self.events);
        relax(&mut self.opened);
    }
}
