//! wanbond-sim: both ends of the tunnel and the links between them, on a virtual clock.
//!
//! A [`World`] holds two [`Tunnel`]s, router and server, each with a clock of its own, any number
//! of [`Link`]s (the very pipes that the lab's emulator is made of), and [`traffic`] through them.
//! Nothing waits and nothing is left to chance: the same seed gives the same run, to the
//! microsecond, so a failing one can be looked at again.
//!
//! ```text
//! traffic ─▶ Tunnel (router) ─▶ Pipe up   ─▶ Tunnel (server) ─▶ traffic
//! traffic ◀─ Tunnel (router) ◀─ Pipe down ◀─ Tunnel (server) ◀─ traffic
//!                    └──── checked by the Ledger ────┘
//! ```
//!
//! The [`Ledger`] is the reference model: it sees every packet go in and come out.
//!
//! [`Tunnel`]: wanbond_proto::tunnel::Tunnel
#![forbid(unsafe_code)]

pub mod envelope;
mod hostile;
pub mod ledger;
pub mod link;
pub mod net;
pub mod plan;
pub mod random;
pub mod rules;
pub mod show;
pub mod shrink;
pub mod stats;
pub mod table;
pub mod traffic;
mod world;

pub use hostile::{Hostile, Hostility};
pub use ledger::Ledger;
pub use link::{Link, LinkSpec};
pub use net::{Net, Side};
pub use random::Random;
pub use world::World;

/// The simulation's clock: nanoseconds since the start.
pub use wanbond_lab::emulator::Time;
