//! The data paths that router and server share.
//!
//! # Redirected TCP
//!
//! Bytes move between a plain TCP socket and a lane, by the same code in the router (client ↔ lane)
//! and in the server (lane ↔ target).
//!
//! ```text
//! plain socket ── read ─▶ [seal in place] ── write ─▶ lane ─▶ … ─▶ [open in place] ── write ─▶ plain
//! ```
//!
//! - [`Carrier`]: a connection, or a stream of the tunnel.
//! - [`LaneStream`]: a carrier with its two buffers; frames in and out.
//! - [`Pump`]: one flow on a lane, both directions in one task.
//! - `moving`: what a young flow keeps, so that it can go on on another lane when its own falls silent.
//! - `leaving`: the lane that a running flow is handed over from.
//! - [`BufferPool`]: buffers are held only while bytes are in them, so an idle flow costs its two
//!   sockets and a small task, no buffer.
//! - [`RecordSizer`]: small records on slow lanes, since a record can be used only when all of it
//!   has come; large ones on fast lanes, where the system calls count.
//!
//! - `window`: what a lane may have under way, so that no line's queue and no subflow that
//!   dies holds more of it than it must.
//!
//! - `room`: enough of it in a lane's buffers, where the kernel's MPTCP leaves it with too little.
//!
//! Bytes are copied only by the kernel: read into the place where they are sealed, and written out
//! from where they were opened.
//!
//! # The tunnel
//!
//! - [`tunnel`]: the pure tunnel machine with keys, sockets and time.
//! - [`udp`]: sockets that take and give many datagrams at once.
//! - [`tcp`]: connections that carry datagrams, where UDP is blocked.

#![forbid(unsafe_code)]

mod boxed;
mod carrier;
mod clock;
mod drain;
mod lane;
mod leaving;
mod moving;
mod pool;
mod pump;
mod room;
mod sizer;
mod suites;
pub mod tcp;
pub mod tunnel;
pub mod udp;
mod window;

pub use boxed::boxed;
pub use carrier::Carrier;
pub use clock::Clock;
pub use drain::drain;
pub use lane::{LaneEvent, LaneFault, LaneStream};
pub use moving::Again;
pub use pool::{Buffer, BufferPool};
pub use pump::{FlowEnd, Pump, Side, Traffic, abort};
pub use sizer::RecordSizer;
pub use suites::fast_suites;
