//! placeholder
#![forbid(unsafe_code)]
pub mod crypto;
pub mod datagram;
pub mod handshake;
pub mod keys;
pub mod lane;
pub mod pairing;
pub mod replay;
pub mod session;
mod time;
pub use time::Time;
