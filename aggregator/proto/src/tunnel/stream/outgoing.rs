//! The next frame to send.

use super::frame::{Frame, MAX_CONTROL};
use super::record::{Kind, SentFrame};
use super::send::RESTED;
use super::stream::Place;
use super::{StreamId, Streams};

/// What a stream may send before it is the next one's turn, bytes: about a datagram.
const QUANTUM: i32 = 1500;

impl Streams {
    /// Room that is always enough for a frame if there is one to send, bytes.
    pub const LEAST_ROOM: usize = 192;

    /// Whether there is a frame to send.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.session_due || self.queues.pending > 0 || !self.queues.control.is_empty()
    }

    /// Stream bytes that are to be sent, again or for the first time.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        self.queues.pending
    }

    /// Appends the next frame to `out`, kind first, if it fits into `room` bytes.
    pub fn poll_frame(&mut self, room: usize, out: &mut Vec<u8>) -> Option<SentFrame> {
        self.poll_control(room, out)
            .or_else(|| self.poll_rested(room, out))
            .or_else(|| self.poll_lost(room, out))
            .or_else(|| self.poll_ring(room, out))
    }

    /// The part of [`Self::poll_frame`] that comes first: frames without data.
    pub fn poll_control(&mut self, room: usize, out: &mut Vec<u8>) -> Option<SentFrame> {
        if room < MAX_CONTROL {
            return None;
        }
        if self.session_due {
            return Some(self.put_session(out));
        }
        while let Some(&id) = self.queues.control.front() {
            if let Some(stream) = self.map.get_mut(&id) {
                if let Some(sent) = stream.poll_control(id, &self.inbound, out) {
                    return Some(sent);
                }
                stream.in_control = false;
            }
            self.queues.control.pop_front();
        }
        None
    }

    fn put_session(&mut self, out: &mut Vec<u8>) -> SentFrame {
        self.session_due = false;
        self.session_number += 1;
        self.streams_told = self.forgotten + u64::from(self.limits.streams);
        let frame = Frame::Session { max: self.inbound.renew_window(), streams: self.streams_told };
        frame.put(out);
        SentFrame {
            value: self.session_number,
            stream: StreamId(u32::MAX),
            length: 0,
            kind: Kind::Session,
            copy: 0,
        }
    }

    /// The part of [`Self::poll_frame`] that comes second: the first bytes of streams that had rested.
    fn poll_rested(&mut self, room: usize, out: &mut Vec<u8>) -> Option<SentFrame> {
        while let Some(&id) = self.queues.rested.front() {
            if let Some(stream) = self.map.get_mut(&id) {
                let pending = stream.send.pending() > 0;
                if pending && stream.send.has_rested() {
                    return self.poll_data(id, room, out);
                }
                if pending {
                    stream.place = Place::Ring;
                    self.queues.ready.push_back(id);
                } else {
                    stream.place = Place::Idle;
                }
            }
            self.queues.rested.pop_front();
        }
        None
    }

    /// The part of [`Self::poll_frame`] that comes third: data that was lost, stream by stream.
    pub fn poll_lost(&mut self, room: usize, out: &mut Vec<u8>) -> Option<SentFrame> {
        while let Some(&id) = self.queues.lost.front() {
            let has_lost = self.map.get(&id).is_some_and(|stream| stream.send.has_lost());
            if has_lost {
                let sent = self.poll_data(id, room, out)?;
                self.queues.lost.rotate_left(1);
                return Some(sent);
            }
            self.queues.lost.pop_front();
            if let Some(stream) = self.map.get_mut(&id) {
                stream.in_lost = false;
            }
        }
        None
    }

    /// The part of [`Self::poll_frame`] that comes last: streams in turn.
    fn poll_ring(&mut self, room: usize, out: &mut Vec<u8>) -> Option<SentFrame> {
        while let Some(&id) = self.queues.ready.front() {
            if let Some(stream) = self.map.get_mut(&id) {
                if stream.send.pending() > 0 {
                    if stream.deficit <= 0 {
                        stream.deficit += QUANTUM;
                        self.queues.ready.rotate_left(1);
                        continue;
                    }
                    let before = out.len();
                    let sent = self.poll_data(id, room, out)?;
                    if let Some(stream) = self.map.get_mut(&id) {
                        stream.deficit -= (out.len() - before) as i32;
                    }
                    return Some(sent);
                }
                stream.place = Place::Idle;
                stream.deficit = 0;
            }
            self.queues.ready.pop_front();
        }
        None
    }

    fn poll_data(&mut self, id: StreamId, room: usize, out: &mut Vec<u8>) -> Option<SentFrame> {
        let stream = self.map.get_mut(&id)?;
        let sent = stream.send.poll(id, room, out);
        self.queues.place(id, stream);
        if sent.is_some() && stream.wants_write {
            self.note_writable(id);
        }
        sent
    }

    /// Whether `frame`, just sent, is among the first bytes of its stream after a rest: a question,
    /// an answer, a keystroke, for which somebody waits.
    #[must_use]
    pub fn is_precious(&self, frame: &SentFrame) -> bool {
        let data = matches!(frame.kind, Kind::Data | Kind::DataEnd);
        let stream = self.map.get(&frame.stream).filter(|_| data && !frame.is_repeat());
        stream.is_some_and(|stream| stream.send.since_rest(frame.value) < RESTED)
    }

    /// Whether data of `frame` is on its way and nothing speaks for it but this: it has neither
    /// arrived nor is it, or what is lost before it, to be sent again.
    #[must_use]
    pub fn awaits(&self, frame: &SentFrame) -> bool {
        let (start, end) = frame.range();
        let stream = self.map.get(&frame.stream);
        stream.is_some_and(|stream| !stream.send.has_lost() && stream.send.awaits(start, end))
    }

    /// Appends the data of `frame`, which is on its way, once more; what does not fit into `room`
    /// bytes follows like lost data. `None` if it need not be sent any more.
    pub fn poll_copy(
        &mut self,
        frame: SentFrame,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Option<SentFrame> {
        if !self.awaits(&frame) {
            return None;
        }
        let (start, end) = frame.range();
        self.map.get_mut(&frame.stream)?.send.lost(start, end, frame.copy);
        self.poll_data(frame.stream, room, out)
    }
}
