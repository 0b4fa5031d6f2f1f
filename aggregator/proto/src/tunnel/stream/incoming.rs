//! The peer's frames, and what became of ours.

use super::frame::Frame;
use super::record::Kind;
use super::{FrameError, Role, SentFrame, StreamEvent, StreamId, Streams, Told};

impl Streams {
    /// Takes the frame of this `kind` (one of [`KINDS`](super::KINDS)) whose other bytes start
    /// `bytes`. Returns how many of them it took.
    ///
    /// # Errors
    /// [`FrameError`]: the peer broke the rules, and the tunnel must be closed.
    pub fn handle_frame(&mut self, kind: u8, bytes: &[u8]) -> Result<usize, FrameError> {
        let mut rest = bytes;
        match Frame::take(kind, &mut rest)? {
            Frame::Stream { id, offset, data, fin } => self.on_data(id, offset, data, fin)?,
            Frame::Reset { id, code, size } => self.on_reset(id, code, size)?,
            Frame::Stop { id, code } => self.on_stop(id, code)?,
            Frame::Window { id, max } => {
                if self.admit(id)?
                    && let Some(stream) = self.map.get_mut(&id)
                {
                    stream.send.allow(max);
                    self.note_writable(id);
                }
            }
            Frame::Session { max, streams } => self.on_session(max, streams),
        }
        Ok(bytes.len() - rest.len())
    }

    /// Creates the stream at its first frame. `false` if it is forgotten already.
    fn admit(&mut self, id: StreamId) -> Result<bool, FrameError> {
        if self.map.contains_key(&id) {
            return Ok(true);
        }
        let number = u64::from(id.0);
        if self.role == Role::Router {
            return if number < self.next_id {
                Ok(false)
            } else {
                Err(FrameError::NeverOpened(id))
            };
        }
        if number >= self.next_id {
            if number >= self.streams_told {
                return Err(FrameError::TooManyStreams(id));
            }
            self.unseen.insert(self.next_id, number);
            self.next_id = number + 1;
        } else if !self.unseen.remove(number) {
            return Ok(false);
        }
        self.create(id);
        self.queues.opened.push_back(id);
        self.queues.events.push_back(StreamEvent::Opened(id));
        Ok(true)
    }

    fn on_data(
        &mut self,
        id: StreamId,
        offset: u64,
        data: &[u8],
        fin: bool,
    ) -> Result<(), FrameError> {
        if !self.admit(id)? {
            return Ok(());
        }
        let Some(stream) = self.map.get_mut(&id) else { return Ok(()) };
        let news = stream.recv.data(id, offset, data, fin, &mut self.inbound)?;
        if news && stream.wants_read {
            stream.wants_read = false;
            self.queues.events.push_back(StreamEvent::Readable(id));
        }
        if stream.recv.is_done() {
            self.forget_if_done(id);
        }
        // A stopped stream's data is dropped at once.
        self.session_due |= self.inbound.window_due();
        Ok(())
    }

    fn on_reset(&mut self, id: StreamId, code: u8, size: u64) -> Result<(), FrameError> {
        if !self.admit(id)? {
            return Ok(());
        }
        let Some(stream) = self.map.get_mut(&id) else { return Ok(()) };
        if stream.recv.reset(id, code, size, &mut self.inbound)? {
            self.queues.events.push_back(StreamEvent::Reset(id, code));
            if std::mem::take(&mut stream.wants_read) {
                self.queues.events.push_back(StreamEvent::Readable(id));
            }
        }
        self.session_due |= self.inbound.window_due();
        self.forget_if_done(id);
        Ok(())
    }

    fn on_stop(&mut self, id: StreamId, code: u8) -> Result<(), FrameError> {
        if !self.admit(id)? {
            return Ok(());
        }
        let Some(stream) = self.map.get_mut(&id) else { return Ok(()) };
        if let Some(unsent) = stream.send.stop(code, &mut self.inbound.pool) {
            self.queues.events.push_back(StreamEvent::Stopped(id, code));
            if std::mem::take(&mut stream.wants_write) {
                self.queues.events.push_back(StreamEvent::Writable(id));
            }
            self.queues.place(id, stream);
            self.give_back(unsent);
        }
        Ok(())
    }

    fn on_session(&mut self, max: u64, streams: u64) {
        self.peer.session = self.peer.session.max(max);
        self.peer.streams = self.peer.streams.max(streams);
        self.note_openable();
        self.wake_blocked();
    }

    /// The datagram with this frame has arrived.
    pub fn on_acked(&mut self, frame: SentFrame) {
        let id = frame.stream;
        let Some(stream) = self.map.get_mut(&id) else { return };
        match frame.kind {
            Kind::Data | Kind::DataEnd => {
                let was_done = stream.send.is_done();
                let (start, end) = frame.range();
                stream.send.acked(start, end, &mut self.inbound.pool);
                self.queues.place(id, stream);
                if stream.send.is_done() {
                    if stream.send.is_finished() && !was_done {
                        self.queues.events.push_back(StreamEvent::Finished(id));
                    }
                    self.forget_if_done(id);
                } else if stream.wants_write {
                    self.note_writable(id);
                }
                self.wake_blocked();
            }
            Kind::Reset => {
                stream.send.reset_is(Told::Acked);
                self.forget_if_done(id);
            }
            Kind::Stop => stream.recv.stop_is(Told::Acked),
            Kind::Window | Kind::Session => {}
        }
    }

    /// The datagram with this frame is lost: what it carried is sent again unless that has
    /// happened since, or is no longer needed. May be called more than once, and the frame may be
    /// acknowledged nevertheless.
    pub fn on_lost(&mut self, frame: SentFrame) {
        if frame.kind == Kind::Session {
            self.session_due |= frame.value == self.session_number;
            return;
        }
        let id = frame.stream;
        let Some(stream) = self.map.get_mut(&id) else { return };
        match frame.kind {
            Kind::Data | Kind::DataEnd => {
                let (start, end) = frame.range();
                stream.send.lost(start, end, frame.copy);
            }
            Kind::Reset => stream.send.reset_is(Told::Queued),
            Kind::Stop => stream.recv.stop_is(Told::Queued),
            Kind::Window => stream.window_due |= stream.recv.window_is(frame.value),
            Kind::Session => {}
        }
        self.queues.place(id, stream);
    }

    /// The datagram with this frame may be lost: its path is suspect. As [`Self::on_lost`]; what of
    /// it is acknowledged before it was sent again is not sent.
    pub fn requeue(&mut self, frame: SentFrame) {
        self.on_lost(frame);
    }
}
