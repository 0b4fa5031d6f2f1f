//! wanbond's core: everything that can be decided without touching a socket.
//!
//! Nothing here reads a clock, draws a random number or does input and output: time comes in as
//! [`Time`], randomness as bytes, and what is to be sent goes out as bytes. So the same code runs in
//! the daemons, in simulations on a virtual clock, and under a fuzzer. Lints forbid the rest
//! (`clippy.toml`).
//!
//! # What is here, in the order in which it comes to life
//!
//! 1. [`pairing`]: the code that a person copies from server to router: whom to trust, where to
//!    reach it, and the secret both [`keys`] come from.
//! 2. [`handshake`]: two messages (Noise IKpsk2) over UDP or TCP make a [`session::Session`].
//! 3. [`session`]: gives every TCP flow and every datagram its keys; renewed every ten minutes
//!    without disturbing what runs.
//! 4. [`lane`]: TCP flows, one after another, as sealed records over an ordered byte carrier.
//! 5. [`datagram`]: what the session sends over UDP, on any path; [`replay`] keeps both from being
//!    repeated.
//! 6. [`inner`]: the addresses inside the tunnel; [`forward`]: public ports that lead to hosts
//!    behind a router.
//! 7. [`wan`]: the health of one WAN, from the answers that come over it.
//!
//! # Invariants
//!
//! - A nonce is never used twice: lane records are counted from zero under keys of their own,
//!   datagrams carry path and counter.
//! - Nothing decrypts that the peer did not seal for this place in the order; a flow id is taken
//!   once.
//! - Bytes from outside never cause a panic: decoders return a small error.

#![forbid(unsafe_code)]

pub mod crypto;
pub mod datagram;
pub mod forward;
pub mod handshake;
pub mod inner;
pub mod keys;
pub mod lane;
pub mod pairing;
pub mod replay;
pub mod rtt;
pub mod session;
mod time;
pub mod tunnel;
pub mod wan;

pub use time::Time;
