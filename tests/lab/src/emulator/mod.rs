//! The link emulator: a pure, seeded core and the thread that drives it between TUN devices.
//!
//! * [`Pipe`]: one direction of a link. No clock, no I/O: time is an argument, so that a
//!   simulation on a virtual clock can stand on the very same links.
//! * [`Shape`]: what a direction is like; [`Filter`]: what its network does to packets.
//! * [`Counters`], [`LatenessReport`]: what happened.
//! * [`Emulator`]: the real-time thread of a lab.

mod core;
mod counters;
mod driver;
mod filter;
mod pipe;
mod rng;
mod shape;
mod time;

pub use counters::{Counters, Lateness, LatenessReport};
pub use driver::{Direction, Emulator, EmulatorError, LinkId, LinkReport};
pub use filter::Filter;
pub use pipe::{Delivery, Pipe};
pub(crate) use rng::mix;
pub use shape::{Burst, QueueLimit, Shape};
pub use time::Time;
