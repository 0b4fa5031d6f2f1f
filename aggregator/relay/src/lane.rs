//! A lane's connection with its two buffers.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use thiserror::Error;
use wanbond_proto::crypto::aead::Sequence;
use wanbond_proto::lane::{
    FlowKeys, Frame, FrameKind, HEAD_LEN, LaneError, MAX_FRAME, Open, PAYLOAD_AT, RECORD_OVERHEAD,
    RecordType, handshake_frame, next_frame, seal_open, seal_record,
};
use wanbond_proto::session::{FlowId, Freshness, Session};

use crate::carrier::Carrier;
use crate::pool::{Buffer, BufferPool};
use crate::room::Lookout;
use crate::window::SendWindow;

/// What ends a lane.
#[derive(Debug, Error)]
pub enum LaneFault {
    /// The connection ended or broke.
    #[error("lane connection: {0}")]
    Io(#[from] io::Error),
    /// What came over it is not of this protocol, or not from this peer.
    #[error("lane protocol: {0}")]
    Protocol(#[from] LaneError),
}

impl LaneFault {
    pub(crate) fn closed() -> Self {
        Self::Io(io::ErrorKind::UnexpectedEof.into())
    }
}

/// What happens on a lane.
#[derive(Debug)]
pub enum LaneEvent {
    /// All that was queued is written.
    Flushed,
    /// A frame has come, and lies in the lane's buffer.
    Frame(Frame),
}

/// A piece of a lent buffer that holds bytes.
#[derive(Default)]
struct Piece {
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        self.buffer.as_deref().map_or(&[], |b| &b[self.start..self.end])
    }

    fn len(&self) -> usize {
        self.end - self.start
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            *self = Self::default();
        }
    }

    /// Makes room for `least` more bytes behind those held; gives the free space.
    fn room(&mut self, pool: &Arc<BufferPool>, least: usize, wish: usize) -> &mut [u8] {
        let held = self.len();
        let fits = self.buffer.as_ref().is_some_and(|b| b.len() >= self.end + least);
        if !fits {
            let movable = self.buffer.as_ref().is_some_and(|b| b.len() >= held + least);
            if movable {
                if let Some(buffer) = &mut self.buffer {
                    buffer.copy_within(self.start..self.end, 0);
                }
            } else {
                let mut larger = pool.lend(held + least, held + wish.max(least));
                larger[..held].copy_from_slice(self.bytes());
                self.buffer = Some(larger);
            }
            self.start = 0;
            self.end = held;
        }
        let end = self.end;
        self.buffer.as_deref_mut().map_or(&mut [], |b| &mut b[end..])
    }
}

/// A connection that carries frames. Bytes wait in it only while the peer or this end is busy.
pub struct LaneStream {
    stream: Carrier,
    pool: Arc<BufferPool>,
    rx: Piece,
    tx: Piece,
    /// Queued while a long frame holds the buffer: rare and small.
    tx_behind: Vec<u8>,
    written: usize,
    /// How much to read at once; grows while reads fill their buffer.
    rx_wish: usize,
    lane_keys: Option<FlowKeys>,
    freshness: Option<Freshness>,
    window: SendWindow,
    /// Bytes read. Wraps.
    arrived: usize,
    lookout: Lookout,
}

const RX_LEAST: usize = 4 * 1024;
/// What is sent again goes in records of at most so many bytes.
const PIECE: usize = 16 * 1024;

impl LaneStream {
    /// A lane over a new connection or stream.
    #[must_use]
    pub fn new(carrier: impl Into<Carrier>, pool: Arc<BufferPool>) -> Self {
        Self {
            stream: carrier.into(),
            pool,
            rx: Piece::default(),
            tx: Piece::default(),
            tx_behind: Vec::new(),
            written: 0,
            rx_wish: RX_LEAST,
            lane_keys: None,
            freshness: None,
            window: SendWindow::default(),
            arrived: 0,
            lookout: Lookout::default(),
        }
    }

    /// What carries it.
    #[must_use]
    pub const fn carrier(&self) -> &Carrier {
        &self.stream
    }

    /// Ends it in order: what was written still arrives. To be called when all is flushed.
    pub fn finish(self) {
        self.stream.finish();
    }

    /// Nothing more will be written; all that was has been flushed.
    pub(crate) fn end_writing(&self) {
        self.stream.end_writing();
    }

    /// Sets the keys of lane records, from the lane's Hello.
    pub fn set_lane_keys(&mut self, keys: FlowKeys) {
        self.lane_keys = Some(keys);
    }

    /// The server's contribution to the keys of flows on this lane, once known.
    #[must_use]
    pub const fn freshness(&self) -> Option<Freshness> {
        self.freshness
    }

    /// Sets it.
    pub fn set_freshness(&mut self, freshness: Freshness) {
        self.freshness = Some(freshness);
    }

    fn queue(&mut self, bytes: &[u8]) {
        if !self.tx_behind.is_empty() || self.tx.len() + bytes.len() > MAX_FRAME {
            self.tx_behind.extend_from_slice(bytes);
            return;
        }
        self.tx.room(&self.pool, bytes.len(), bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.tx.end += bytes.len();
    }

    /// Queues a handshake message.
    pub fn queue_handshake(&mut self, message: &[u8]) {
        self.queue(&handshake_frame(message));
    }

    /// Queues the lane's Hello and takes its keys for lane records.
    pub fn queue_hello(&mut self, session: &Session, flow: FlowId) {
        let mut keys = session.flow_keys(flow, None);
        let mut frame = Vec::with_capacity(64);
        seal_open(
            &mut keys.seal,
            session.remote_index(),
            flow,
            false,
            RecordType::Hello,
            &[],
            &mut frame,
        );
        self.queue(&frame);
        self.lane_keys = Some(keys);
    }

    /// Queues a flow's open record; gives the flow's keys.
    #[must_use]
    pub fn queue_open(&mut self, session: &Session, flow: FlowId, open: &Open) -> FlowKeys {
        let mut keys = session.flow_keys(flow, self.freshness);
        let mut payload = Vec::with_capacity(48);
        open.encode(&mut payload);
        let mut frame = Vec::with_capacity(64 + payload.len());
        seal_open(
            &mut keys.seal,
            session.remote_index(),
            flow,
            self.freshness.is_some(),
            RecordType::Open,
            &payload,
            &mut frame,
        );
        self.queue(&frame);
        keys
    }

    /// Queues a short record of the present flow.
    pub fn queue_record(&mut self, keys: &mut Sequence, kind: RecordType, payload: &[u8]) {
        self.queue_sealed(keys, FrameKind::Record, kind, payload);
    }

    /// Queues the answer to a flow's open and what has been sent of it already, on another lane.
    pub fn queue_again(&mut self, keys: &mut Sequence, sent: &[u8]) {
        self.queue_record(keys, RecordType::Connected, &[]);
        for piece in sent.chunks(PIECE) {
            self.queue_record(keys, RecordType::Data, piece);
        }
    }

    fn queue_sealed(
        &mut self,
        keys: &mut Sequence,
        frame: FrameKind,
        kind: RecordType,
        payload: &[u8],
    ) {
        let mut bytes = vec![0; payload.len() + RECORD_OVERHEAD];
        bytes[PAYLOAD_AT..PAYLOAD_AT + payload.len()].copy_from_slice(payload);
        seal_record(keys, frame, kind, &mut bytes, payload.len());
        self.queue(&bytes);
    }

    /// Queues a record of the lane itself. Nothing if the lane has no keys of its own yet.
    pub fn queue_lane_record(&mut self, kind: RecordType, payload: &[u8]) {
        if let Some(mut keys) = self.lane_keys.take() {
            self.queue_sealed(&mut keys.seal, FrameKind::LaneRecord, kind, payload);
            self.lane_keys = Some(keys);
        }
    }

    /// Bytes queued and not yet taken by the kernel.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.tx.len() + self.tx_behind.len()
    }

    /// Bytes that the kernel has taken so far; wraps.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.written
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneFault>> {
        loop {
            if self.tx.len() == 0 {
                if self.tx_behind.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let behind = std::mem::take(&mut self.tx_behind);
                let (now, later) = behind.split_at(behind.len().min(MAX_FRAME));
                self.queue(now);
                self.tx_behind.extend_from_slice(later);
            }
            match self.stream.try_write(self.tx.bytes()) {
                Ok(n) => {
                    self.written = self.written.wrapping_add(n);
                    self.tx.consume(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if self.window.is_due(now) {
                        self.stream.bound(&mut self.window, now);
                    }
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Writes what is queued, waiting as long as it takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn flush(&mut self) -> Result<(), LaneFault> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Space to read up to `wish` payload bytes into, so that [`Self::commit_data`] can seal them
    /// where they lie. Only while nothing is queued.
    pub(crate) fn data_space(&mut self, wish: usize) -> &mut [u8] {
        debug_assert!(self.queued() == 0);
        // Even past the pool's limit a record of some size must fit.
        let least = (1024 + RECORD_OVERHEAD).min(wish + RECORD_OVERHEAD);
        let space = self.tx.room(&self.pool, least, wish + RECORD_OVERHEAD);
        let payload = (space.len() - RECORD_OVERHEAD).min(wish);
        &mut space[PAYLOAD_AT..PAYLOAD_AT + payload]
    }

    /// Seals `length` bytes that were put into [`Self::data_space`] and queues them.
    pub(crate) fn commit_data(&mut self, keys: &mut Sequence, length: usize) {
        let start = self.tx.end;
        if let Some(buffer) = &mut self.tx.buffer {
            let frame = &mut buffer[start..];
            let n = seal_record(keys, FrameKind::Record, RecordType::Data, frame, length);
            self.tx.end += n;
        }
    }

    /// Gives the space back unused.
    pub(crate) fn release_space(&mut self) {
        if self.tx.len() == 0 {
            self.tx = Piece::default();
        }
    }

    /// Waits for a whole frame and says where it lies: [`Self::frame_bytes`].
    ///
    /// # Errors
    /// The connection has ended or broken, or holds something that is no frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, LaneFault>> {
        let polled = self.poll_receive(cx);
        if polled.is_pending() {
            self.lookout.poll(cx, &self.stream, self.arrived);
        }
        polled
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, LaneFault>> {
        loop {
            if let Some(frame) = next_frame(self.rx.bytes()).map_err(LaneError::from)? {
                return Poll::Ready(Ok(frame));
            }
            if self.rx.len() == 0 {
                // Wait without a buffer.
                self.rx = Piece::default();
                ready!(self.stream.poll_read_ready(cx))?;
            }
            let missing = self.missing_bytes();
            let wish = self.rx_wish.max(missing);
            let space = self.rx.room(&self.pool, missing.max(1), wish);
            let size = space.len();
            match self.stream.try_read(space) {
                Ok(0) => return Poll::Ready(Err(LaneFault::closed())),
                Ok(n) => {
                    self.rx.end += n;
                    self.arrived = self.arrived.wrapping_add(n);
                    self.rx_wish = if n == size {
                        (self.rx_wish * 4).min(MAX_FRAME)
                    } else {
                        self.rx_wish.min((2 * n).clamp(RX_LEAST, MAX_FRAME))
                    };
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.rx.len() == 0 {
                        self.rx = Piece::default();
                    }
                    ready!(self.stream.poll_read_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Bytes that the frame begun in the buffer still lacks, as far as is known.
    fn missing_bytes(&self) -> usize {
        let held = self.rx.bytes();
        match held {
            [_, a, b, c, ..] => {
                let total = HEAD_LEN + u32::from_be_bytes([0, *a, *b, *c]) as usize;
                total.min(MAX_FRAME).saturating_sub(held.len())
            }
            _ => HEAD_LEN - held.len(),
        }
    }

    /// Waits for a whole frame.
    ///
    /// # Errors
    /// As [`Self::poll_frame`].
    pub async fn frame(&mut self) -> Result<Frame, LaneFault> {
        std::future::poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// Writes what is queued and waits for a frame, whichever is done first; with nothing queued, for a
    /// frame only.
    ///
    /// # Errors
    /// As [`Self::poll_frame`].
    pub async fn event(&mut self) -> Result<LaneEvent, LaneFault> {
        let flushing = self.queued() > 0;
        std::future::poll_fn(|cx| {
            if flushing && let Poll::Ready(flushed) = self.poll_flush(cx) {
                return Poll::Ready(flushed.map(|()| LaneEvent::Flushed));
            }
            self.poll_frame(cx).map_ok(LaneEvent::Frame)
        })
        .await
    }

    /// The bytes of the frame that [`Self::poll_frame`] found, to be opened in place.
    pub fn frame_bytes(&mut self, frame: &Frame) -> &mut [u8] {
        let range = self.place(&frame.range);
        self.rx.buffer.as_deref_mut().map_or(&mut [], |b| &mut b[range])
    }

    fn place(&self, range: &Range<usize>) -> Range<usize> {
        self.rx.start + range.start..self.rx.start + range.end
    }

    /// Bytes of the received buffer, relative to its start.
    pub(crate) fn received(&self, range: &Range<usize>) -> &[u8] {
        self.rx.bytes().get(range.clone()).unwrap_or(&[])
    }

    /// Drops the frame that was found.
    pub fn consume(&mut self, frame: &Frame) {
        self.rx.consume(frame.range.end);
    }

    /// Handles a lane record: answers a ping, notes the freshness. Gives its type.
    ///
    /// # Errors
    /// It is not authentic, or came before the lane had keys.
    pub fn handle_lane_record(&mut self, frame: &Frame) -> Result<RecordType, LaneFault> {
        let Some(mut keys) = self.lane_keys.take() else {
            return Err(LaneError::Unexpected.into());
        };
        let record = frame.open(&mut keys.open, self.frame_bytes(frame));
        let outcome = record.map(|record| (record.kind, <[u8; 16]>::try_from(&*record.payload)));
        self.lane_keys = Some(keys);
        let (kind, payload) = outcome?;
        match (kind, payload) {
            (RecordType::Ping, _) => self.queue_lane_record(RecordType::Pong, &[]),
            (RecordType::Ready, Ok(nonce)) => self.freshness = Some(Freshness(nonce)),
            (RecordType::Ready, Err(_)) => return Err(LaneError::Unexpected.into()),
            _ => {}
        }
        self.consume(frame);
        Ok(kind)
    }

    /// Looks, without waiting, whether an idle lane is still good: handles lane records that have
    /// come, and says `false` if the peer closed it, is going away, or sent anything else.
    pub fn is_usable(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        loop {
            match self.poll_frame(&mut cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(frame)) if frame.kind == FrameKind::LaneRecord => {
                    match self.handle_lane_record(&frame) {
                        Ok(RecordType::Ready | RecordType::Pong | RecordType::Ping) => {}
                        Ok(_) | Err(_) => return false,
                    }
                }
                Poll::Ready(_) => return false,
            }
        }
    }
}
