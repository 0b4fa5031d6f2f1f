//! CUBIC (RFC 9438) with HyStart, as Linux has it, in whole numbers.

use std::time::Duration;

use crate::Time;

/// RFC 6928.
const FIRST: u64 = 10;
/// HyStart, as in Linux: below this window it does not look.
const LOW_WINDOW: u64 = 16;
const TRAIN: Duration = Duration::from_millis(2);
const LEAST_RISE: Duration = Duration::from_millis(4);
const MOST_RISE: Duration = Duration::from_millis(16);
const SAMPLES: u32 = 8;

/// A congestion window, in segments.
#[derive(Debug)]
pub(super) struct Cubic {
    pub window: u64,
    pub threshold: u64,
    /// Segments acknowledged towards the next one.
    count: u64,
    epoch: Option<Time>,
    origin: u64,
    /// Time from the epoch to the plateau, ms.
    k: u64,
    last_max: u64,
    friendly: u64,
    friendly_count: u64,
    least_rtt: Option<Duration>,
    // HyStart.
    round_start: Time,
    round_end: u64,
    last_ack: Time,
    samples: u32,
    round_rtt: Duration,
}

impl Cubic {
    pub(super) const fn new() -> Self {
        Self {
            window: FIRST,
            threshold: u64::MAX,
            count: 0,
            epoch: None,
            origin: 0,
            k: 0,
            last_max: 0,
            friendly: 0,
            friendly_count: 0,
            least_rtt: None,
            round_start: Time::ZERO,
            round_end: 0,
            last_ack: Time::ZERO,
            samples: 0,
            round_rtt: Duration::MAX,
        }
    }

    /// Takes a round trip; `acked` and `next` are the first segments not acknowledged and not sent.
    pub(super) fn on_rtt(&mut self, now: Time, rtt: Duration, acked: u64, next: u64) {
        let least = self.least_rtt.map_or(rtt, |least| least.min(rtt));
        self.least_rtt = Some(least);
        if self.window >= self.threshold || self.window < LOW_WINDOW {
            return;
        }
        if acked > self.round_end {
            self.round_start = now;
            self.last_ack = now;
            self.round_end = next;
            self.samples = 0;
            self.round_rtt = Duration::MAX;
        }
        if now.since(self.last_ack) <= TRAIN {
            self.last_ack = now;
            if now.since(self.round_start) > least / 2 {
                self.threshold = self.window;
            }
        }
        self.round_rtt = self.round_rtt.min(rtt);
        if self.samples < SAMPLES {
            self.samples += 1;
        } else if self.round_rtt > least + (least / 8).clamp(LEAST_RISE, MOST_RISE) {
            self.threshold = self.window;
        }
    }

    /// `acked` more segments have arrived while the window was in use.
    pub(super) fn on_ack(&mut self, now: Time, mut acked: u64) {
        if self.window < self.threshold {
            let slow = acked.min(self.threshold - self.window);
            self.window += slow;
            acked -= slow;
        }
        if acked == 0 {
            return;
        }
        let every = self.every(now, acked);
        if self.count >= every {
            // What was saved while windows grew slowly is spent gently.
            self.count = 0;
            self.window += 1;
        }
        self.count += acked;
        if self.count >= every {
            self.window += self.count / every;
            self.count %= every;
        }
    }

    /// After so many segments acknowledged the window grows by one.
    fn every(&mut self, now: Time, acked: u64) -> u64 {
        let epoch = *self.epoch.get_or_insert_with(|| {
            self.friendly = self.window;
            self.friendly_count = 0;
            self.origin = self.window.max(self.last_max);
            // (W_max - cwnd) / 0.4, in ms³.
            self.k = cube_root((self.origin - self.window) * 2_500_000_000);
            now
        });
        let time = (now.since(epoch) + self.least_rtt.unwrap_or_default()).as_millis() as u64;
        let off = time.abs_diff(self.k);
        let delta = (u128::from(off).pow(3) * 4 / 10_000_000_000) as u64;
        let target =
            if time < self.k { self.origin.saturating_sub(delta) } else { self.origin + delta };
        let mut every = if target > self.window {
            self.window / (target - self.window)
        } else {
            100 * self.window
        };
        if self.last_max == 0 {
            // As Linux: nothing is known yet, 5 % a round trip are not too bold.
            every = every.min(20);
        }
        // RFC 9438 §4.3, α = 3 (1 - 0.7) / (1 + 0.7) = 9 / 17.
        self.friendly_count += acked;
        let step = self.window * 17 / 9;
        if self.friendly_count > step {
            self.friendly += self.friendly_count / step;
            self.friendly_count %= step;
        }
        if self.friendly > self.window {
            every = every.min(self.window / (self.friendly - self.window));
        }
        every.max(2)
    }

    /// Congestion: the new threshold.
    pub(super) fn reduce(&mut self) -> u64 {
        self.epoch = None;
        // Fast convergence.
        self.last_max =
            if self.window < self.last_max { self.window * 17 / 20 } else { self.window };
        self.threshold = (self.window * 7 / 10).max(2);
        self.threshold
    }
}

fn cube_root(value: u64) -> u64 {
    let (mut low, mut high) = (0_u64, 2_642_245_u64);
    while low < high {
        let middle = (low + high).div_ceil(2);
        if u128::from(middle).pow(3) <= u128::from(value) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_roots() {
        for root in [0, 1, 2, 77, 1000, 2_642_244] {
            assert_eq!(cube_root(root * root * root), root);
            assert_eq!(cube_root(root * root * root + 1), root.max(u64::from(root == 0)));
        }
    }

    #[test]
    fn comes_back_to_where_it_was() {
        let mut cubic = Cubic::new();
        cubic.window = 100;
        cubic.threshold = 50;
        let threshold = cubic.reduce();
        assert_eq!(threshold, 70);
        cubic.window = threshold;
        let mut now = Time::ZERO;
        // K = cbrt(30 / 0.4) = 4.2 s.
        for _ in 0..42 {
            now = now + Duration::from_millis(100);
            cubic.on_ack(now, cubic.window);
        }
        assert!((95..=105).contains(&cubic.window), "{}", cubic.window);
    }
}
