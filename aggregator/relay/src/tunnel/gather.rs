//! When to let packets gather before the device is read again.
//!
//! The kernel hands a long TCP packet over in one read, but other packets one by one. Whoever wakes
//! for each of them spends more on waking than on the packet, has a datagram to itself for each, and
//! takes turns with what makes the packets, if that runs on the same core; and where it gets its turn
//! late, what has piled up goes out as one burst, more than the receiving program's socket may hold.
//! Network cards moderate their interrupts for the same reasons. So does the reader: once packets have
//! come fast for a while, it waits for a few more.

use std::time::{Duration, Instant};

/// How long packets gather. The kernel's slack for timers is as much again.
pub(super) const GATHER: Duration = Duration::from_micros(50);
/// Reads that follow each other closer than this, on average, are worth it.
const CLOSE: Duration = Duration::from_micros(25);
/// Over so many reads.
const SAMPLE: u32 = 64;

/// How fast reads of the device follow each other.
#[derive(Debug)]
pub(super) struct Gathering {
    since: Instant,
    reads: u32,
    fast: bool,
}

impl Gathering {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, reads: 0, fast: false }
    }

    /// Notes reads that emptied the device. `true` if it is worth waiting [`GATHER`] for the next:
    /// never after a silence, so that a question and its answer wait for nothing.
    pub(super) fn is_worth_it(&mut self, now: Instant, reads: u32) -> bool {
        self.reads = self.reads.saturating_add(reads);
        let took = now.saturating_duration_since(self.since);
        if self.reads >= SAMPLE || took > CLOSE * SAMPLE {
            self.fast = took < CLOSE.saturating_mul(self.reads);
            self.since = now;
            self.reads = 0;
        }
        self.fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Of packets that come one by one, `micros` apart, how many are followed by a wait.
    fn waits(gathering: &mut Gathering, now: &mut Instant, packets: u32, micros: u64) -> u32 {
        let each = (0..packets).map(|_| {
            *now += Duration::from_micros(micros);
            u32::from(gathering.is_worth_it(*now, 1))
        });
        each.sum()
    }

    #[test]
    fn only_what_comes_fast_for_a_while_gathers() {
        let mut now = Instant::now();
        let mut gathering = Gathering::new(now);
        assert_eq!(waits(&mut gathering, &mut now, 1000, 100), 0, "10,000 a second");
        now += SECOND;
        assert_eq!(waits(&mut gathering, &mut now, 60, 5), 0, "a few at once");
        now += SECOND;
        let many = waits(&mut gathering, &mut now, 1000, 10);
        assert!(many > 900, "{many} of 1000, at 100,000 a second");
        now += SECOND;
        assert_eq!(waits(&mut gathering, &mut now, 60, 5), 0, "after a silence");
    }

    #[test]
    fn what_gathers_goes_on_gathering() {
        let mut now = Instant::now();
        let mut gathering = Gathering::new(now);
        let mut waited = 0;
        for _ in 0..100 {
            // A wait took longer than it should, and has brought 100,000 packets a second.
            now += 3 * GATHER;
            waited += u32::from(gathering.is_worth_it(now, 15));
        }
        assert!(waited > 90, "{waited} of 100");
    }
}
