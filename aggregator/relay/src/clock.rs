//! The daemons' monotonic clock, as the core wants to be told of it.

use std::time::Instant;

use wanbond_proto::Time;

/// Reads the monotonic clock as time since its own making.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Time {
        Time::ZERO + self.0.elapsed()
    }
}
