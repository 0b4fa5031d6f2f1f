//! The protocol as its two ends and an attacker see it, through the crate's public surface.

mod cookies;
mod datagrams;
mod handshake;
mod hostile;
mod lanes;
mod notices;
mod sessions;
mod support;
mod tunnel;
mod vectors;
