//! One flow on a lane: both directions, half-close, aborts, back-pressure.

mod elsewhere;

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::TcpStream;
use wanbond_proto::crypto::aead::TAG_LEN;
use wanbond_proto::lane::{
    FlowKeys, Frame, FrameKind, LaneError, PAYLOAD_AT, RecordType, ResetReason,
};

use crate::lane::{LaneFault, LaneStream};
use crate::leaving::Leaving;
use crate::moving::{Again, HEARD, Kept};
use crate::sizer::RecordSizer;
use elsewhere::Handover;

/// Which end of the lane this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The plain socket is the LAN client's.
    Router,
    /// The plain socket is the target's; this end says when the flow is done.
    Server,
}

/// Counts payload bytes, for many flows at once. The counters wrap: read them by difference.
#[derive(Debug, Default)]
pub struct Traffic {
    /// From the plain socket to the lane.
    pub sent: AtomicUsize,
    /// From the lane to the plain socket.
    pub received: AtomicUsize,
}

impl Traffic {
    /// Both directions together; wraps.
    #[must_use]
    pub fn both(&self) -> usize {
        let [sent, received] = [&self.sent, &self.received].map(|n| n.load(Ordering::Relaxed));
        sent.wrapping_add(received)
    }
}

/// How a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowEnd {
    /// Both directions ended in order; the lane is free.
    Complete,
    /// The plain socket failed; the other end has been told.
    AbortedHere,
    /// The other end aborted; the plain socket has been reset.
    AbortedThere(ResetReason),
}

/// Closes a connection so that its peer sees a reset.
pub fn abort(stream: TcpStream) {
    // Refused only for a socket that is gone already.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// Moves one flow's bytes until it has ended.
pub struct Pump<'a> {
    side: Side,
    lane: &'a mut LaneStream,
    keys: &'a mut FlowKeys,
    plain: Option<TcpStream>,
    traffic: &'a Traffic,
    sizer: RecordSizer,
    /// This end still sends.
    sending: bool,
    /// The other end still sends.
    receiving: bool,
    /// The lane could not take all since the plain socket was last asked how it is.
    blocked: bool,
    /// A data frame that was opened, and what of it the plain socket has not taken.
    deliver: Option<(Frame, Range<usize>)>,
    /// The server's last word was sent or has come.
    done: bool,
    end: Option<FlowEnd>,
    /// What the flow needs to go on on another lane, for as long as it can.
    kept: Option<Kept>,
    /// After it has moved: what comes again, and what the old lane had brought.
    again: Again,
    backlog: Vec<u8>,
    /// At the router: after so many more bytes the server is told that they come.
    unheard: usize,
    /// The lane that it leaves.
    leaving: Option<Box<Leaving>>,
    handover: Handover,
    /// Payload bytes both ways; wraps.
    moved: usize,
}

impl<'a> Pump<'a> {
    /// A flow between `plain` and `lane`, whose open record has been answered.
    #[must_use]
    pub fn new(
        side: Side,
        plain: TcpStream,
        lane: &'a mut LaneStream,
        keys: &'a mut FlowKeys,
        traffic: &'a Traffic,
    ) -> Self {
        // If this process is killed in the middle, its peer must not take that for an orderly end.
        let _ = SockRef::from(&plain).set_linger(Some(Duration::ZERO));
        Self {
            side,
            lane,
            keys,
            plain: Some(plain),
            traffic,
            sizer: RecordSizer::default(),
            sending: true,
            receiving: true,
            blocked: false,
            deliver: None,
            done: false,
            end: None,
            kept: None,
            again: Again::default(),
            backlog: Vec::new(),
            unheard: HEARD,
            leaving: None,
            handover: Handover::No,
            moved: 0,
        }
    }

    /// This end's Fin was sent before.
    #[must_use]
    pub fn sending_ended(mut self) -> Self {
        self.sending = false;
        self
    }

    /// The other end's Fin came before, and was passed on.
    #[must_use]
    pub fn receiving_ended(mut self) -> Self {
        self.receiving = false;
        self
    }

    /// Runs until the flow has ended on this end and all of it is written.
    ///
    /// # Errors
    /// [`LaneFault`]: the lane is lost, and the plain socket is reset as soon as this is dropped.
    pub async fn run(&mut self) -> Result<FlowEnd, LaneFault> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// As [`Self::run`], but gives `None` once so many more payload bytes have gone both ways.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_for(&mut self, bytes: usize) -> Result<Option<FlowEnd>, LaneFault> {
        let start = self.moved;
        std::future::poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(end) => Poll::Ready(end.map(Some)),
            Poll::Pending if self.moved.wrapping_sub(start) >= bytes => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<FlowEnd, LaneFault>> {
        let received = self.poll_receive(cx)?;
        let sent = self.poll_send(cx)?;
        if let Some(leaving) = &mut self.leaving
            && leaving.poll_over(cx)?.is_ready()
        {
            self.leaving = None;
        }
        self.finish_server();
        if self.lane.queued() > 0 {
            // Receiving queued something (a pong, the last record) or sending is blocked.
            ready!(self.lane.poll_flush(cx))?;
        }
        if let Some(end) = self.end {
            return Poll::Ready(Ok(end));
        }
        if !self.sending && !self.receiving && self.done {
            return Poll::Ready(Ok(FlowEnd::Complete));
        }
        debug_assert!(received.is_pending() || sent.is_pending() || self.leaving.is_some());
        Poll::Pending
    }

    /// The server has the last word, so that the router knows when the lane is free.
    fn finish_server(&mut self) {
        if self.side == Side::Server
            && !self.done
            && (self.end.is_some() || (!self.sending && !self.receiving && self.leaving.is_none()))
        {
            self.lane.queue_record(&mut self.keys.seal, RecordType::Done, &[]);
            self.done = true;
        }
    }

    /// plain → lane. Ready when this direction has ended.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneFault>> {
        loop {
            if self.lane.queued() > 0 {
                let before = self.lane.written();
                let flushed = self.lane.poll_flush(cx)?;
                let taken = self.lane.written().wrapping_sub(before);
                if taken > 0 {
                    self.sizer.wrote(Instant::now(), taken);
                }
                if flushed.is_pending() {
                    self.blocked = true;
                    return Poll::Pending;
                }
            }
            if !self.sending || self.end.is_some() {
                return Poll::Ready(Ok(()));
            }
            let room = self.kept.as_ref().map_or(usize::MAX, Kept::room);
            if room == 0 {
                // The router's word, or whoever settles it, wakes this.
                return Poll::Pending;
            }
            let Some(plain) = &self.plain else { return Poll::Ready(Ok(())) };
            if let Err(error) = ready!(plain.poll_read_ready(cx)) {
                self.fail_plain(&error);
                continue;
            }
            // Reading tells of a reset only after all that came before it, which nobody wants any
            // more: over a slow lane that is seconds.
            if std::mem::take(&mut self.blocked)
                && let Ok(Some(error)) = plain.take_error()
            {
                self.fail_plain(&error);
                continue;
            }
            let space = self.lane.data_space(self.sizer.size().min(room));
            let read = plain.try_read(space);
            if let (Ok(n), Some(kept)) = (&read, &mut self.kept) {
                kept.note_sent(&space[..*n]);
            }
            match read {
                Ok(0) => {
                    self.lane.release_space();
                    self.sending = false;
                    self.lane.queue_record(&mut self.keys.seal, RecordType::Fin, &[]);
                }
                Ok(n) => {
                    self.lane.commit_data(&mut self.keys.seal, n);
                    self.traffic.sent.fetch_add(n, Ordering::Relaxed);
                    self.moved = self.moved.wrapping_add(n);
                }
                Err(error) => {
                    self.lane.release_space();
                    if error.kind() != io::ErrorKind::WouldBlock {
                        self.fail_plain(&error);
                    }
                }
            }
        }
    }

    /// lane → plain. Ready when the flow has nothing more to receive.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneFault>> {
        loop {
            ready!(self.poll_deliver(cx));
            if self.end.is_some() || self.is_silent() {
                return Poll::Ready(Ok(()));
            }
            if self.is_handed_over() {
                // Whoever has asked wakes this with the new lane.
                return Poll::Pending;
            }
            let frame = ready!(self.incoming().poll_frame(cx))?;
            match frame.kind {
                FrameKind::LaneRecord => {
                    if self.incoming().handle_lane_record(&frame)? == RecordType::Pong {
                        self.heard_of();
                    }
                }
                FrameKind::Record => self.handle_record(frame)?,
                FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => {
                    return Poll::Ready(Err(LaneError::Unexpected.into()));
                }
            }
        }
    }

    /// The router has heard of the flow on this lane: it stays here.
    fn heard_of(&mut self) {
        if self.side == Side::Server {
            self.settle();
        }
    }

    /// The lane on which the flow's next record comes.
    fn incoming(&mut self) -> &mut LaneStream {
        match &mut self.leaving {
            Some(leaving) if leaving.receiving => &mut leaving.lane,
            _ => self.lane,
        }
    }

    /// Whether nothing of this flow can come any more: what comes next on the lane is not ours.
    fn is_silent(&self) -> bool {
        if self.leaving.as_ref().is_some_and(|leaving| leaving.receiving) {
            return false;
        }
        match self.side {
            Side::Router => self.done,
            // The router may still abort while this end sends.
            Side::Server => !self.receiving && !self.sending,
        }
    }

    fn poll_deliver(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.backlog.is_empty() {
            let Some(plain) = &self.plain else { return Poll::Ready(()) };
            match plain.try_write(&self.backlog) {
                Ok(n) => {
                    self.backlog.drain(..n);
                    self.moved = self.moved.wrapping_add(n);
                    self.traffic.received.fetch_add(n, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(plain.poll_write_ready(cx)) {
                        self.fail_plain(&error);
                    }
                }
                Err(error) => self.fail_plain(&error),
            }
        }
        while let Some((frame, rest)) = &mut self.deliver {
            let Some(plain) = &self.plain else { return Poll::Ready(()) };
            let lane = match &mut self.leaving {
                Some(leaving) if leaving.receiving => &mut leaving.lane,
                _ => &mut *self.lane,
            };
            if rest.start == rest.end {
                lane.consume(frame);
                self.deliver = None;
                break;
            }
            match plain.try_write(lane.received(rest)) {
                Ok(n) => {
                    rest.start += n;
                    self.moved = self.moved.wrapping_add(n);
                    self.traffic.received.fetch_add(n, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if let Err(error) = ready!(plain.poll_write_ready(cx)) {
                        self.fail_plain(&error);
                        break;
                    }
                }
                Err(error) => {
                    self.fail_plain(&error);
                    break;
                }
            }
        }
        Poll::Ready(())
    }

    fn handle_record(&mut self, frame: Frame) -> Result<(), LaneFault> {
        let (lane, keys) = match &mut self.leaving {
            Some(leaving) if leaving.receiving => (&mut leaving.lane, &mut leaving.keys),
            _ => (&mut *self.lane, &mut *self.keys),
        };
        let record = frame.open(&mut keys.open, lane.frame_bytes(&frame))?;
        match record.kind {
            RecordType::Data if self.receiving || self.again.bytes > 0 => {
                let mut payload = frame.range.start + PAYLOAD_AT..frame.range.end - TAG_LEN;
                payload.start += self.again.skip(payload.len());
                if !self.receiving && !payload.is_empty() {
                    return Err(LaneError::Unexpected.into());
                }
                if let Some(kept) = &mut self.kept {
                    kept.note_received(payload.len());
                }
                if self.side == Side::Router && self.unheard > 0 {
                    self.unheard = self.unheard.saturating_sub(payload.len());
                    if self.unheard == 0 {
                        self.lane.queue_lane_record(RecordType::Pong, &[]);
                    }
                }
                self.deliver = Some((frame, payload));
                return Ok(());
            }
            RecordType::Fin if self.again.fin => self.again.fin = false,
            RecordType::Fin if self.receiving => {
                self.receiving = false;
                if let Some(plain) = &self.plain {
                    // Fails only if the socket is gone, which reading it tells too.
                    let _ = SockRef::from(plain).shutdown(std::net::Shutdown::Write);
                }
            }
            RecordType::Reset => {
                let reason = record
                    .payload
                    .first()
                    .map_or(ResetReason::Internal, |&byte| ResetReason::from_byte(byte));
                if let Some(plain) = self.plain.take() {
                    abort(plain);
                }
                self.end = Some(FlowEnd::AbortedThere(reason));
            }
            RecordType::Done if self.side == Side::Router && !self.receiving && !self.sending => {
                self.done = true;
            }
            RecordType::Handover => {
                lane.consume(&frame);
                match &mut self.leaving {
                    Some(leaving) if leaving.receiving => leaving.receiving = false,
                    None if self.handover == Handover::Asked => self.handover = Handover::Ahead,
                    _ => return Err(LaneError::Unexpected.into()),
                }
                return Ok(());
            }
            _ => return Err(LaneError::Unexpected.into()),
        }
        self.incoming().consume(&frame);
        Ok(())
    }

    /// The plain socket broke: tell the other end, forget what was to be delivered.
    fn fail_plain(&mut self, _error: &io::Error) {
        if let Some((frame, _)) = self.deliver.take() {
            self.incoming().consume(&frame);
        }
        self.plain = None;
        self.backlog = Vec::new();
        self.lane.queue_record(
            &mut self.keys.seal,
            RecordType::Reset,
            &[ResetReason::Aborted as u8],
        );
        self.end = Some(FlowEnd::AbortedHere);
    }
}

impl Drop for Pump<'_> {
    /// A flow that did not end in order, for whatever reason, must not look as if it had.
    fn drop(&mut self) {
        let Some(plain) = self.plain.take() else { return };
        if self.sending || self.receiving {
            abort(plain);
        } else {
            // What it has not sent yet is still to be sent.
            let _ = SockRef::from(&plain).set_linger(None);
        }
    }
}
