//! How many lanes should wait warm: as many as flows were lately opened at about the same time.

use std::time::Duration;

use wanbond_proto::Time;

/// Kept even when nothing happens: what a page load or a DNS-over-TLS query takes first.
const LEAST: usize = 2;
/// Kept at most. A lane costs the kernel some 10 kB with its subflows, on both ends.
const MOST: usize = 48;
/// Flows that start within this time start together: a new lane takes about a round trip.
const WINDOW: Duration = Duration::from_millis(250);
/// After this long without a burst its size is halved.
const HALF_LIFE: Duration = Duration::from_secs(20);

/// Remembers the recent bursts of opens.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    window: Time,
    in_window: usize,
    peak: usize,
    halved: Time,
}

impl Demand {
    /// A flow was opened.
    pub(crate) fn opened(&mut self, now: Time) {
        if now.since(self.window) > WINDOW {
            self.window = now;
            self.in_window = 0;
        }
        self.in_window += 1;
        if self.in_window >= self.peak {
            self.peak = self.in_window;
            self.halved = now;
        }
    }

    /// How many lanes should be idle now.
    pub(crate) fn target(&mut self, now: Time) -> usize {
        while self.peak > 0 && now.since(self.halved) >= HALF_LIFE {
            self.peak /= 2;
            self.halved += HALF_LIFE;
        }
        // One more than was needed, so that the next flow finds one while the last is being opened.
        (self.peak + 1).clamp(LEAST, MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_bursts_and_forgets_them() {
        let mut demand = Demand::default();
        assert_eq!(demand.target(Time::ZERO), LEAST);
        for ms in 0..20 {
            demand.opened(Time::from_millis(1000 + ms));
        }
        assert_eq!(demand.target(Time::from_millis(1100)), 21);
        assert_eq!(demand.target(Time::from_millis(22_000)), 11);
        assert_eq!(demand.target(Time::from_millis(600_000)), LEAST);
    }

    #[test]
    fn a_steady_trickle_is_no_burst_and_a_flood_is_bounded() {
        let mut demand = Demand::default();
        for n in 0..100 {
            demand.opened(Time::from_millis(n * 400));
        }
        assert_eq!(demand.target(Time::from_millis(40_000)), LEAST);
        for _ in 0..10_000 {
            demand.opened(Time::from_millis(50_000));
        }
        assert_eq!(demand.target(Time::from_millis(50_000)), MOST);
    }
}
