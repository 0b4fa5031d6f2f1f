//! Flows over a real lane: client ─ router's pump ═ TCP ═ server's pump ─ target, on loopback, with
//! keys from a real handshake.

mod endings;
mod faults;
mod handover;
mod moves;
#[path = "../session/mod.rs"]
mod session;
mod support;
mod transfers;
