//! Lanes: TCP flows over an ordered byte carrier (an MPTCP connection), one after another.
//!
//! A lane is a warm connection from router to server. It carries one flow at a time; when the flow
//! has ended on both sides the lane is given back and the next flow is opened on it without a
//! round trip.
//!
//! # Frames
//!
//! ```text
//! ┌──────┬──────────────┬──────────────────────────────────────────────┐
//! │ kind │ length, 24 b │ body                                         │
//! └──────┴──────────────┴──────────────────────────────────────────────┘
//!   0x01  handshake      a handshake message, or "unknown session"
//!   0x10  open           flags, session index, flow id, sealed record: the first of a flow
//!   0x11  record         sealed record under the present flow's keys
//!   0x12  lane record    sealed record under the lane's own keys
//!   0x13  datagram       one of the session's datagrams, as over UDP
//! ```
//!
//! A connection that begins with a datagram is no lane: it carries datagrams both ways and nothing
//! else but handshake messages, for a path on which UDP is blocked. They have keys, numbers and replay windows of their own, so
//! nothing is added here.
//!
//! A sealed record is one AEAD message: type byte and payload of at most [`MAX_PAYLOAD`] bytes, and
//! the tag; the frame's head is authenticated with it. Counters are implied by the order.
//!
//! # Life of a lane
//!
//! 1. The router sends an open frame with [`RecordType::Hello`] right behind the connect. Its flow
//!    id gives the lane's own keys. The server answers with [`RecordType::Ready`] and 16 random
//!    bytes, the lane's [`Freshness`](crate::session::Freshness).
//! 2. A flow: an open frame with [`RecordType::Open`] (target, and the client's first bytes as
//!    further records behind it), sealed with keys that include the freshness, or without it when
//!    Ready has not come yet.
//! 3. The server answers [`RecordType::Connected`] or [`RecordType::Reset`] with the reason. Both
//!    send [`RecordType::Data`], end their direction with [`RecordType::Fin`], or abort with
//!    [`RecordType::Reset`].
//! 4. When both directions have ended the server sends [`RecordType::Done`], its last word on the
//!    flow. The router may then open the next flow.
//!
//! # Invariants
//!
//! - **Exactly once.** The server takes each flow id once ([`crate::replay::ReplayWindow`]), fresh
//!   or not. A router that does not know whether an open was taken opens anew, sends again what it
//!   sent, and names the old ids ([`Open::instead_of`]): the server marks them as taken. If one had
//!   come, that flow goes on on the new lane: from the answer on all is sent again, and what the
//!   router sends again is skipped. So the server sends no more than it keeps until the router says
//!   [`RecordType::Pong`], once it has had 16 KiB of a flow; after that the new one is refused.
//! - **A sign of life.** A server that needs more than some milliseconds to reach a target says
//!   [`RecordType::Pong`] unasked. Whoever hears neither that nor an answer asks elsewhere.
//! - **A handover.** A flow that both ends have heard of goes on on another lane, without a byte sent twice:
//!   the router opens it there with [`Open::handover`], the server answers [`RecordType::Connected`], and
//!   each end says [`RecordType::Handover`] on the old lane, its last there. Whoever reads that goes on
//!   reading on the new one. It also ends its direction of the old lane's connection, which is closed when
//!   both have: not before, or the kernel resets it where MPTCP still sends something twice.
//! - A record that does not open, or is not allowed in the present state, ends the lane.

mod frame;
mod open;
mod record;
mod service;

pub use frame::{
    Frame, FrameError, FrameKind, HEAD_LEN, LaneError, MAX_DATAGRAM, MAX_FRAME, MAX_PAYLOAD,
    OPEN_PREFIX, OpenHead, PAYLOAD_AT, RECORD_OVERHEAD, datagram_head, handshake_frame, next_frame,
    seal_open, seal_record,
};
pub use open::{Open, Target};
pub use record::{Record, RecordType, ResetReason};
pub use service::ServiceKind;

use crate::crypto::aead::Sequence;

/// The keys of one flow's two directions.
pub struct FlowKeys {
    /// For what this end sends.
    pub seal: Sequence,
    /// For what it receives.
    pub open: Sequence,
}
