//! Making a session: `Noise_IKpsk2` in two messages, over UDP or TCP alike.
//!
//! ```text
//! router                                        server
//!   │ Init: index, e, {static, payload}, mac1, mac2 │
//!   ├──────────────────────────────────────────────▶│ mac1 wrong: silence
//!   │                                   CookieReply │ under load and mac2 wrong: prove your address
//!   │◀ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┤
//!   │                                        Notice │ other version, or a router it doesn't know
//!   │◀ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┤
//!   │     Response: index, e, {payload}, mac1       │
//!   │◀──────────────────────────────────────────────┤ session, unconfirmed
//!   │     first sealed record or datagram           │
//!   ├──────────────────────────────────────────────▶│ session confirmed
//! ```
//!
//! The macs and the cookie are those of WireGuard (Donenfeld, "WireGuard", §5.4.7 and §5.3): who
//! does not know the server's public key gets no answer at all, and an unproven address costs the
//! server no public-key work once it is busy. No clock is compared: a repeated Init yields a
//! session that its sender cannot confirm, and the running one stays until the new is confirmed.

mod cookie;
mod message;
mod router;
mod server;

pub use cookie::CookieJar;
pub use message::{
    Egress, HandshakeError, Notice, Outdated, VERSION, Welcome, is_handshake, receiver_of,
    unknown_session,
};
pub use router::{Reply, RouterHandshake, RouterIdentity};
pub use server::{Admission, HandshakeLoad, PendingRouter, ServerHandshake, Verdict};
