//! Far, slow WANs that TCP is better off without.
//!
//! MPTCP delivers in order over all its subflows. Where one is much farther than the others, what
//! came over them waits for what went over it; where it is slow as well, it brings less than that
//! costs. The tunnel sends each packet where it arrives first and has no such trouble, so this is
//! about MPTCP alone: such a WAN's subflows are set aside, as backup, while transfers are measured
//! with and without them, and left aside for as long as it was no better with them.

use std::time::Duration;

use wanbond_proto::Time;

/// Only a WAN this much farther than the others can hinder them.
const FARTHER: Duration = Duration::from_millis(60);
/// And slower than this share of what they carry together, as a divisor.
const SLOWER: u64 = 5;
/// Below this, in bits per second, there is nothing to measure.
const BUSY: u64 = 2_000_000;
/// Looks, one a second, that a measurement takes.
const LOOKS: u32 = 5;
/// Looks that TCP is given to find its rate after a change.
const SETTLING: u32 = 2;
/// How long what was found counts; twice as long each time that it is found again.
const COUNTS: Duration = Duration::from_secs(600);
const COUNTS_AT_MOST: Duration = Duration::from_secs(7200);

/// How a WAN, or several together, did since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The shortest round trip; of several, the mean by their rates.
    pub(crate) rtt: Duration,
    /// What was received, or sent where that is more, bits per second.
    pub(crate) bps: u64,
}

/// Whether a WAN's subflows are set aside, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    /// They carry.
    #[default]
    With,
    /// They carry in a transfer that they may hinder.
    Measuring { looks: u32, bits: u64 },
    /// They don't, in the same transfer; `with` is the mean rate while they did.
    Without { looks: u32, bits: u64, with: u64 },
    /// The verdict, and until when it counts.
    Settled { aside: bool, until: Time },
}

/// Decides for one WAN whether MPTCP uses it.
#[derive(Debug, Default)]
pub(crate) struct Hindrance {
    stage: Stage,
    /// How often in a row the same was found.
    again: u32,
}

impl Hindrance {
    /// Whether its subflows are only a backup now.
    pub(crate) const fn is_aside(&self) -> bool {
        matches!(self.stage, Stage::Without { .. } | Stage::Settled { aside: true, .. })
    }

    /// Whether that is a verdict, not a measurement.
    pub(crate) const fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Settled { aside: true, .. })
    }

    /// Takes a look, one a second while there is traffic: at the WAN, and at the others that carry.
    pub(crate) fn look(&mut self, now: Time, own: Seen, others: Option<Seen>) {
        let far = others.is_some_and(|others| own.rtt > 2 * others.rtt + FARTHER);
        if !far {
            *self = Self::default();
            return;
        }
        let others = others.map_or(0, |others| others.bps);
        let all = own.bps + others;
        match &mut self.stage {
            Stage::With if others > BUSY && own.bps < others / SLOWER => {
                self.stage = Stage::Measuring { looks: 0, bits: 0 };
            }
            Stage::With => {}
            // The transfer is over, or it carries its share after all.
            Stage::Measuring { .. } if others < BUSY || own.bps > others / SLOWER => {
                self.stage = Stage::With;
            }
            Stage::Measuring { looks, bits } => {
                (*looks, *bits) = (*looks + 1, *bits + all);
                if *looks == LOOKS {
                    let with = *bits / u64::from(LOOKS);
                    self.stage = Stage::Without { looks: 0, bits: 0, with };
                }
            }
            // Over before it could be measured: nothing is known.
            Stage::Without { with, .. } if all < *with / 4 => self.stage = Stage::With,
            Stage::Without { looks, bits, with } => {
                let with = *with;
                *looks += 1;
                if *looks > SETTLING {
                    *bits += all;
                }
                if *looks == SETTLING + LOOKS {
                    let without = *bits / u64::from(LOOKS);
                    // Rates are never the same twice, and one that helps brings more than this.
                    let aside = without >= with_chance(with);
                    self.settle(now, aside);
                }
            }
            Stage::Settled { until, .. } if now >= *until => self.stage = Stage::With,
            Stage::Settled { .. } => {}
        }
    }

    fn settle(&mut self, now: Time, aside: bool) {
        let counts = COUNTS.saturating_mul(1 << self.again.min(8)).min(COUNTS_AT_MOST);
        self.again += 1;
        self.stage = Stage::Settled { aside, until: now + counts };
    }
}

/// A rate less what it may vary by.
const fn with_chance(bps: u64) -> u64 {
    bps - bps / 20
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn seen(ms: u32, bps: u64) -> Seen {
        Seen { rtt: ms * MS, bps }
    }

    /// A transfer for so many seconds; `others` says what the near WANs carry with and without it.
    fn transfer(
        hindrance: &mut Hindrance,
        now: &mut Time,
        seconds: u32,
        own: (u32, u64),
        others: (u64, u64),
    ) {
        for _ in 0..seconds {
            let aside = hindrance.is_aside();
            let (mine, near) = if aside { (0, others.1) } else { (own.1, others.0) };
            hindrance.look(*now, seen(own.0, mine), Some(seen(40, near)));
            *now += Duration::from_secs(1);
        }
    }

    #[test]
    fn a_wan_without_which_more_comes_is_set_aside_and_tried_again() {
        let mut hindrance = Hindrance::default();
        let mut now = Time::from_millis(1000);
        let mut run = |seconds| {
            transfer(&mut hindrance, &mut now, seconds, (300, 4_000_000), (30_000_000, 47_000_000));
            hindrance.is_settled()
        };
        assert!(!run(5));
        assert!(run(15));
        assert!(run(560));
        // The verdict has run out: measured again, and found the same.
        assert!(!run(35));
        assert!(run(20));
    }

    #[test]
    fn one_that_helps_stays() {
        let mut hindrance = Hindrance::default();
        let mut now = Time::from_millis(1000);
        let (own, others) = ((300, 6_000_000), (40_000_000, 41_000_000));
        transfer(&mut hindrance, &mut now, 60, own, others);
        assert!(!hindrance.is_aside());
    }

    #[test]
    fn near_fast_and_idle_ones_are_left_alone() {
        for (own, near) in
            [((60, 1_000_000), 50_000_000), ((300, 30_000_000), 50_000_000), ((300, 0), 1_000_000)]
        {
            let mut hindrance = Hindrance::default();
            let mut now = Time::from_millis(1000);
            for _ in 0..60 {
                transfer(&mut hindrance, &mut now, 1, own, (near, near * 2));
                assert!(!hindrance.is_aside(), "{own:?}");
            }
        }
        let mut alone = Hindrance::default();
        alone.look(Time::from_millis(1), seen(300, 9_000_000), None);
        assert!(!alone.is_aside());
    }

    #[test]
    fn who_comes_nearer_is_used_at_once() {
        let mut hindrance = Hindrance::default();
        let mut now = Time::from_millis(1000);
        transfer(&mut hindrance, &mut now, 20, (300, 1_000_000), (30_000_000, 47_000_000));
        assert!(hindrance.is_settled());
        transfer(&mut hindrance, &mut now, 1, (80, 0), (47_000_000, 47_000_000));
        assert!(!hindrance.is_aside());
    }

    #[test]
    fn a_transfer_that_ends_says_nothing() {
        let mut hindrance = Hindrance::default();
        let mut now = Time::from_millis(1000);
        transfer(&mut hindrance, &mut now, 8, (300, 1_000_000), (30_000_000, 30_000_000));
        assert!(hindrance.is_aside() && !hindrance.is_settled());
        transfer(&mut hindrance, &mut now, 1, (300, 0), (100_000, 100_000));
        assert!(!hindrance.is_aside());
    }
}
