//! What the application does with streams.

use super::stream::Stream;
use super::{OpenError, Read, Role, StreamError, StreamEvent, StreamId, StreamLimits, Streams};

impl Streams {
    /// Opens a stream (router). The server hears of it with the first frame.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(&mut self) -> Result<StreamId, OpenError> {
        if self.role == Role::Server {
            return Err(OpenError::Server);
        }
        let id = StreamId(u32::try_from(self.next_id).map_err(|_| OpenError::Exhausted)?);
        if !self.may_open() {
            self.wants_open = true;
            return Err(OpenError::Blocked);
        }
        self.next_id += 1;
        self.create(id);
        Ok(id)
    }

    /// The next stream that the router opened (server).
    pub fn accept(&mut self) -> Option<StreamId> {
        self.queues.opened.pop_front()
    }

    /// Writes as much of `data` as there is room for; less than all of it means that
    /// [`StreamEvent::Writable`] will come.
    ///
    /// # Errors
    /// [`StreamError`]: nothing can be written any more.
    pub fn write(&mut self, id: StreamId, data: &[u8]) -> Result<usize, StreamError> {
        let shared = self.shared_room();
        let stream = self.map.get_mut(&id).ok_or(StreamError::Closed)?;
        stream.send.writable()?;
        let own = room(&self.limits, stream);
        let length = own.min(shared).min(data.len() as u64) as usize;
        if length < data.len() {
            stream.wants_write = true;
            if shared <= own && !stream.in_blocked {
                stream.in_blocked = true;
                self.queues.blocked.push_back(id);
            }
        }
        if length > 0 {
            stream.send.write(&data[..length], &mut self.inbound.pool);
            self.written += length as u64;
            self.queues.place(id, stream);
        }
        Ok(length)
    }

    /// Reads what comes next into `out`.
    ///
    /// # Errors
    /// [`StreamError`]: there will be no more.
    pub fn read(&mut self, id: StreamId, out: &mut [u8]) -> Result<Read, StreamError> {
        let stream = self.map.get_mut(&id).ok_or(StreamError::Closed)?;
        let read = stream.recv.read(out, &mut self.inbound);
        match read {
            Ok(Read::Data(_)) => {
                if !stream.window_due && stream.recv.window_due(&self.inbound) {
                    stream.window_due = true;
                    self.queues.place(id, stream);
                }
                self.session_due |= self.inbound.window_due();
            }
            Ok(Read::Blocked) => stream.wants_read = true,
            Ok(Read::Finished) | Err(_) => self.forget_if_done(id),
        }
        read
    }

    /// Bytes that can be read at once.
    #[must_use]
    pub fn readable(&self, id: StreamId) -> u64 {
        self.map.get(&id).map_or(0, |stream| stream.recv.readable())
    }

    /// Written bytes that the peer has not acknowledged.
    #[must_use]
    pub fn unacked(&self, id: StreamId) -> u64 {
        self.map.get(&id).map_or(0, |stream| stream.send.unacked())
    }

    /// Ends the writing direction after what was written.
    ///
    /// # Errors
    /// [`StreamError`]: it has ended before.
    pub fn finish(&mut self, id: StreamId) -> Result<(), StreamError> {
        let stream = self.map.get_mut(&id).ok_or(StreamError::Closed)?;
        stream.send.finish()?;
        stream.wants_write = false;
        self.queues.place(id, stream);
        Ok(())
    }

    /// Cuts the writing direction off: what the peer has not got is dropped, and its reader is told
    /// `code`. Nothing happens if the peer has everything, or no such stream is there.
    pub fn reset(&mut self, id: StreamId, code: u8) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        if let Some(unsent) = stream.send.reset(code, &mut self.inbound.pool) {
            stream.wants_write = false;
            self.queues.place(id, stream);
            self.give_back(unsent);
        }
    }

    /// Ends the reading direction: what is unread and what is to come is dropped, and the peer is
    /// told `code` unless it has ended already.
    pub fn stop(&mut self, id: StreamId, code: u8) {
        let Some(stream) = self.map.get_mut(&id) else { return };
        stream.recv.stop(code, &mut self.inbound);
        stream.wants_read = false;
        self.queues.place(id, stream);
        self.session_due |= self.inbound.window_due();
        self.forget_if_done(id);
    }

    /// The application is through with the stream: resets what it has not finished, and stops
    /// reading.
    pub fn close(&mut self, id: StreamId, code: u8) {
        let unfinished = self.map.get(&id).is_some_and(|stream| stream.send.writable().is_ok());
        if unfinished {
            self.reset(id, code);
        }
        self.stop(id, code);
    }

    /// Whether the stream is unknown: never opened, or forgotten.
    #[must_use]
    pub fn is_closed(&self, id: StreamId) -> bool {
        !self.map.contains_key(&id)
    }

    /// What the application should know next.
    pub fn poll_event(&mut self) -> Option<StreamEvent> {
        let event = self.queues.events.pop_front();
        if event.is_none() {
            self.queues.relax();
        }
        event
    }

    /// Whether there are events.
    #[must_use]
    pub fn has_events(&self) -> bool {
        !self.queues.events.is_empty()
    }

    /// Bytes that may be written on all streams together.
    fn shared_room(&self) -> u64 {
        let memory = self.limits.session_send_buffer.saturating_sub(self.queues.unacked);
        self.peer.session.saturating_sub(self.written).min(memory)
    }

    /// `unsent` bytes that were counted as written never go out.
    pub(super) fn give_back(&mut self, unsent: u64) {
        self.written -= unsent;
        self.wake_blocked();
    }

    /// Tells a writer that waits if there is room for it again.
    pub(super) fn note_writable(&mut self, id: StreamId) {
        let shared = self.shared_room();
        let Some(stream) = self.map.get_mut(&id) else { return };
        if !stream.wants_write || !worth_waking(&self.limits, stream) {
            return;
        }
        if shared > 0 {
            stream.wants_write = false;
            self.queues.events.push_back(StreamEvent::Writable(id));
        } else if !stream.in_blocked {
            stream.in_blocked = true;
            self.queues.blocked.push_back(id);
        }
    }

    /// Tells the writers that wait for what all share, if there is some again.
    pub(super) fn wake_blocked(&mut self) {
        // Not for the last byte: each wake-up should be worth a datagram or two.
        if self.queues.blocked.is_empty()
            || self.shared_room() < 4096.min(self.limits.session_send_buffer)
        {
            return;
        }
        for _ in 0..self.queues.blocked.len() {
            let Some(id) = self.queues.blocked.pop_front() else { return };
            if let Some(stream) = self.map.get_mut(&id) {
                stream.in_blocked = false;
                self.note_writable(id);
            }
        }
    }
}

/// Bytes that `stream` has room for by itself.
fn room(limits: &StreamLimits, stream: &Stream) -> u64 {
    let unsent = limits.unsent_buffer.saturating_sub(stream.send.unsent());
    let unacked = limits.send_buffer.saturating_sub(stream.send.unacked());
    stream.send.credit().min(unsent).min(unacked)
}

/// Whether a writer should be told of the room in `stream`: not for each datagram that left.
fn worth_waking(limits: &StreamLimits, stream: &Stream) -> bool {
    stream.send.credit() > 0
        && stream.send.unsent() <= limits.unsent_buffer / 2
        && stream.send.unacked() <= limits.send_buffer - limits.send_buffer.div_ceil(8)
}
