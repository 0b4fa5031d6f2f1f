//! Reliable byte streams over the tunnel, as pure data structures.
//!
//! [`Streams`] holds one end's half of all streams of a tunnel. It knows frames and offsets, but
//! neither paths nor datagrams nor time: whoever owns those asks it for the next frame that fits
//! ([`Streams::poll_frame`]), remembers the small [`SentFrame`] with the datagram that carried it, and
//! gives that back when the datagram was acknowledged ([`Streams::on_acked`]), lost
//! ([`Streams::on_lost`]), or is no longer to be relied on ([`Streams::requeue`]). Frames of the peer come
//! in through [`Streams::handle_frame`].
//!
//! # A stream's life
//!
//! The router opens streams, with ids from zero that are never used again; the server learns of a
//! stream from its first frame. Each direction ends by itself: regularly ([`Streams::finish`]), cut
//! off by the writer ([`Streams::reset`]) or at the reader's wish ([`Streams::stop`]). A stream is
//! forgotten when everything written is acknowledged and the application has read its way to the
//! end, or said that it won't. So an application that drops a stream calls [`Streams::close`].
//!
//! # What bounds it
//!
//! Received bytes lie within windows, per stream and for all together ([`StreamLimits`]). A stream's
//! window doubles while the reader keeps up and the path could carry more, and gets smaller shares the
//! more bytes other readers leave lying: some stalled readers don't stop the others. Written bytes are
//! taken only as far as the peer's windows and this end's buffers reach, so what is taken can be sent
//! at once: flow control stops writers, never the scheduler. The number of streams is bounded by what the
//! server allows. Pieces out of order are bounded in number.
//!
//! # Order of sending
//!
//! Frames without data; then the first bytes of streams that had rested, for which somebody waits (new
//! flows, RFC 8290 §4.2); then lost data, then new data. Streams take turns by bytes (deficit round robin).

mod application;
mod block;
mod frame;
mod incoming;
mod limits;
mod outgoing;
mod ranges;
mod record;
mod recv;
mod resend;
mod send;
mod shared;
#[expect(clippy::module_inception, reason = "a stream is a stream")]
mod stream;
pub mod varint;
mod window;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use thiserror::Error;

pub use self::frame::{FrameError, KINDS};
pub use self::limits::StreamLimits;
pub use self::record::SentFrame;

use self::limits::{LEAST_SESSION_WINDOW, LEAST_STREAMS, LEAST_UNSENT, UNSENT_SHARE};
use self::ranges::Ranges;
use self::shared::Inbound;
use self::stream::{Queues, Stream};
use crate::Time;
use crate::session::Role;

/// Names a stream within its tunnel: counted from zero, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {}", self.0)
    }
}

/// Why the application cannot read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StreamError {
    /// No such stream, or this end has given up this direction.
    #[error("stream closed")]
    Closed,
    /// This end has finished or reset it.
    #[error("written after the end")]
    Finished,
    /// The peer cut it off.
    #[error("stream reset by the peer, code {0}")]
    Reset(u8),
    /// The peer wants no more.
    #[error("stream stopped by the peer, code {0}")]
    Stopped(u8),
}

/// Why no stream can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// As many are open as the limits of both ends allow: [`StreamEvent::Openable`] will come.
    #[error("too many streams")]
    Blocked,
    /// No ids are left; a new tunnel is needed.
    #[error("stream ids exhausted")]
    Exhausted,
    /// Only routers open streams.
    #[error("the server opens no streams")]
    Server,
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes.
    Data(usize),
    /// Nothing yet: [`StreamEvent::Readable`] will come.
    Blocked,
    /// The peer's regular end.
    Finished,
}

/// What the application should know. Told once, not per frame: the next `Readable` comes only after
/// a read that was blocked, the next `Writable` only after a write that was cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    /// The router opened it; [`Streams::accept`] gives it out.
    Opened(StreamId),
    /// A stream can be opened again.
    Openable,
    /// Data, or the end, or a reset, is there to be read.
    Readable(StreamId),
    /// There is room again.
    Writable(StreamId),
    /// The peer has everything that was written, and knows the end.
    Finished(StreamId),
    /// The peer cut its direction off, with this code; what was unread is gone.
    Reset(StreamId, u8),
    /// The peer wants no more, with this code; what was unsent is gone.
    Stopped(StreamId, u8),
    /// Both directions have ended and the stream is forgotten.
    Closed(StreamId),
}

/// How far something that the peer must hear has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Queued,
    Sent,
    Acked,
}

impl Told {
    fn becomes(&mut self, now: Self) {
        // What was acknowledged stays so: a copy may be lost after all.
        if *self != Self::Acked {
            *self = now;
        }
    }
}

/// Ids are counted up by an authenticated peer, within a window: nothing to defend against.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        // 2^64 divided by the golden ratio spreads consecutive numbers.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Map = HashMap<StreamId, Stream, BuildHasherDefault<IdHasher>>;

/// What the peer allows.
#[derive(Debug)]
struct PeerLimits {
    /// The sum of all bytes written.
    session: u64,
    /// Streams opened.
    streams: u64,
}

/// One end's half of all streams of a tunnel.
#[derive(Debug)]
pub struct Streams {
    role: Role,
    limits: StreamLimits,
    /// What the limit on unsent bytes is where paths are fast.
    most_unsent: u64,
    map: Map,
    queues: Queues,
    inbound: Inbound,
    peer: PeerLimits,
    /// Bytes written on all streams, counted against the peer's session window.
    written: u64,
    /// The first id that was never used.
    next_id: u64,
    /// Ids below that of which no frame has arrived yet (server).
    unseen: Ranges,
    /// Streams opened and forgotten.
    forgotten: u64,
    /// How many streams the peer was told it may open.
    streams_told: u64,
    /// An open was refused.
    wants_open: bool,
    /// How often the SESSION frame was sent, and whether it is to be sent.
    session_number: u64,
    session_due: bool,
}

impl Streams {
    /// An end without streams. Its first frame tells the peer its limits.
    #[must_use]
    pub fn new(role: Role, limits: StreamLimits) -> Self {
        let limits = limits.sane();
        Self {
            role,
            limits,
            most_unsent: limits.unsent_buffer,
            map: Map::default(),
            queues: Queues::default(),
            inbound: Inbound::new(&limits),
            peer: PeerLimits { session: LEAST_SESSION_WINDOW, streams: LEAST_STREAMS.into() },
            written: 0,
            next_id: 0,
            unseen: Ranges::default(),
            forgotten: 0,
            streams_told: limits.streams.into(),
            wants_open: false,
            session_number: 0,
            session_due: true,
        }
    }

    /// Tells the time and the (smallest) smoothed round trip of the paths in use. Cheap: to be called before
    /// frames are handled and data is read, or windows grow at the wrong time.
    pub fn tune(&mut self, now: Time, srtt: Duration) {
        self.inbound.clock.now = now;
        self.inbound.clock.srtt = srtt;
    }

    /// Tells what all paths together carry, in bytes per second: less waits unsent where it is less.
    pub fn set_rate(&mut self, rate: u64) {
        let least = LEAST_UNSENT.min(self.most_unsent);
        self.limits.unsent_buffer = (rate / UNSENT_SHARE).clamp(least, self.most_unsent);
    }

    /// How many streams there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes of memory that data takes now, in both directions.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.inbound.pool.used()
    }

    /// Creates the stream.
    fn create(&mut self, id: StreamId) {
        let mut stream = Stream::new(self.limits.stream_window_initial, &self.inbound);
        // Said with the first bytes of a request, this is known before the answer starts.
        stream.window_due = stream.recv.window_due(&self.inbound);
        self.queues.place(id, &mut stream);
        self.map.insert(id, stream);
    }

    /// Forgets the stream if nothing is left to do for it; to be called after any change that may
    /// have ended a direction.
    fn forget_if_done(&mut self, id: StreamId) {
        if !self.map.get(&id).is_some_and(Stream::is_done) {
            return;
        }
        self.map.remove(&id);
        self.forgotten += 1;
        self.queues.opened.retain(|&opened| opened != id);
        self.queues.events.push_back(StreamEvent::Closed(id));
        if self.map.capacity() > 64 && self.map.len() < self.map.capacity() / 8 {
            self.map.shrink_to(self.map.len() * 2);
        }
        self.note_openable();
        let allowed = self.forgotten + u64::from(self.limits.streams);
        if self.role == Role::Server
            && allowed >= self.streams_told + u64::from(self.limits.streams / 4)
        {
            self.session_due = true;
        }
    }

    fn may_open(&self) -> bool {
        self.next_id < self.peer.streams && self.map.len() < self.limits.streams as usize
    }

    fn note_openable(&mut self) {
        if self.wants_open && self.may_open() {
            self.wants_open = false;
            self.queues.events.push_back(StreamEvent::Openable);
        }
    }
}
