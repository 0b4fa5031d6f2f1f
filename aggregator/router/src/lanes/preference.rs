//! Whether TCP is better off on the tunnel's streams, though MPTCP works.
//!
//! A lane's subflows keep about as much in a line's queue as on the line, and at least four packets each,
//! however slow it is (`bbr_cwnd_min_target` in Linux's `tcp_bbr.c`): 60 ms on an ADSL line's way up,
//! for every lane. A call or a game beside it waits behind that. The tunnel keeps some
//! milliseconds there, and costs more of the processor. So TCP begins on lanes, and where their queue is
//! felt on lines that the processor can fill through the tunnel, it goes on on streams. If those bring much
//! less, since a network holds UDP back, or exhaust the processor, it goes back to lanes.

use std::time::Duration;

use wanbond_proto::Time;

/// A queue of this length is felt.
const FELT: Duration = Duration::from_millis(25);
/// Below this, in bits per second, nobody fills a line.
const BUSY: u64 = 300_000;
/// Between two looks while there is traffic.
pub(crate) const LOOK: Duration = Duration::from_millis(250);
/// Looks in a row that decide.
const LOOKS: u32 = 4;
/// And that the processor is exhausted, or the tunnel gone: longer than a WAN takes to be noticed as dead.
const MANY_LOOKS: u32 = 12;
/// What carrying all that the processor can afford takes of it, percent.
const SHARE: u64 = 25;
/// Where the tunnel's part is less, percent, it is not what makes the processor busy.
const LITTLE: u64 = 2;
/// How much of the processor may be busy before, percent: the tunnel needs some, too.
const MUCH_LEFT: u8 = 60;
/// And with streams: then they are what is slow.
const EXHAUSTED: u8 = 80;
/// After so many looks streams must have brought their part of what lanes did.
const TRIAL: u32 = 20;
/// In tenths: what was handed over takes a moment to find its rate, and rates vary.
const PART: u64 = 6;
/// How long what was found counts; twice as long each time that it is found again.
const COUNTS: Duration = Duration::from_secs(1800);
const COUNTS_AT_MOST: Duration = Duration::from_secs(24 * 3600);
/// A line's shortest round trip is remembered for this long at least, and twice as long at most.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A line's round trip when it is not full.
#[derive(Debug, Default)]
pub(crate) struct Calm {
    least: (Option<Duration>, Option<Duration>),
    since: Time,
}

impl Calm {
    /// Takes the smoothed round trip; gives what of it is queue.
    pub(crate) fn queue(&mut self, now: Time, srtt: Duration) -> Duration {
        if now.since(self.since) >= REMEMBERED {
            self.least = (None, self.least.0);
            self.since = now;
        }
        let least = self.least.0.map_or(srtt, |least| least.min(srtt));
        self.least.0 = Some(least);
        srtt.saturating_sub(self.least.1.map_or(least, |before| before.min(least)))
    }
}

/// How TCP does, as of one look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// The longest queue on a WAN that carries a good part.
    pub(crate) queue: Duration,
    /// What all WANs carry, both ways, bits per second.
    pub(crate) bps: u64,
    /// Most of it is what flows on lanes, or on streams, carry.
    pub(crate) flows: bool,
    /// Streams can do what lanes do: every WAN that carries lets the tunnel's datagrams through.
    pub(crate) possible: bool,
    /// How busy the processor is, percent.
    pub(crate) processor: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// On lanes; and for how many looks their queue has been felt.
    Lanes { felt: u32 },
    /// On streams, until this is tried again; and for how many looks the processor was exhausted, and the
    /// tunnel was not to be had.
    Streams { until: Time, exhausted: u32, without: u32, trial: Option<Trial> },
    /// On lanes, since streams brought less or were too much for the processor.
    Worse { until: Time },
}

/// What streams bring in their first seconds beside what lanes brought, bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trial {
    lanes: u64,
    streams: u64,
    looks: u32,
}

/// Decides for new flows, and for those that run.
#[derive(Debug)]
pub(crate) struct Preference {
    stage: Stage,
    /// How often in a row the same was found.
    again: u32,
    /// What the processor can carry through the tunnel beside all else, bits per second.
    affordable: u64,
}

impl Preference {
    /// `sealed`: bytes per second that this processor encrypts. To carry a tenth of that is estimated to
    /// take a quarter of it, all of a tunnel's work counted; that it has not been measured on routers is why
    /// an exhausted processor, or a lower rate, ends the use of streams.
    pub(crate) fn new(sealed: u64) -> Self {
        const MOST: u64 = 500_000_000;
        let affordable = (sealed.saturating_mul(8) / 10).min(MOST);
        Self { stage: Stage::Lanes { felt: 0 }, again: 0, affordable }
    }

    /// Whether flows are better off on streams.
    pub(crate) const fn streams(&self) -> bool {
        matches!(self.stage, Stage::Streams { .. })
    }

    /// Whether that has been found out to be worse.
    pub(crate) const fn is_worse(&self) -> bool {
        matches!(self.stage, Stage::Worse { .. })
    }

    /// Takes a look, every [`LOOK`] while there is traffic.
    pub(crate) fn look(&mut self, now: Time, seen: Seen) {
        let busy = seen.bps >= BUSY && seen.flows;
        let much = SHARE.saturating_mul(seen.bps) > LITTLE.saturating_mul(self.affordable);
        match &mut self.stage {
            Stage::Lanes { felt } => {
                let harms = busy && seen.queue >= FELT;
                let left = !much || seen.processor.is_none_or(|busy| busy < MUCH_LEFT);
                let possible = seen.possible && seen.bps <= self.affordable && left;
                *felt = if harms && possible { *felt + 1 } else { 0 };
                if *felt == LOOKS {
                    let until = now + self.counts();
                    let trial = Some(Trial { lanes: seen.bps, streams: 0, looks: 0 });
                    self.stage = Stage::Streams { until, exhausted: 0, without: 0, trial };
                }
            }
            Stage::Streams { until, exhausted, without, trial } => {
                let slower = trial.as_mut().is_some_and(|trial| trial.look(seen.bps));
                if trial.is_some_and(|trial| trial.looks >= TRIAL) {
                    *trial = None;
                }
                *without = if seen.possible { 0 } else { *without + 1 };
                let full = seen.processor.is_some_and(|busy| busy >= EXHAUSTED);
                *exhausted = if busy && much && full { *exhausted + 1 } else { 0 };
                if *exhausted == MANY_LOOKS || (slower && busy) {
                    self.again = 0;
                    self.stage = Stage::Worse { until: now + self.counts() };
                } else if *without == MANY_LOOKS || (now >= *until && !busy) {
                    self.stage = Stage::Lanes { felt: 0 };
                }
            }
            Stage::Worse { until } if now >= *until => self.stage = Stage::Lanes { felt: 0 },
            Stage::Worse { .. } => {}
        }
    }

    fn counts(&mut self) -> Duration {
        let counts = COUNTS.saturating_mul(1 << self.again.min(8)).min(COUNTS_AT_MOST);
        self.again += 1;
        counts
    }
}

impl Trial {
    /// `true` once it is over and streams have brought much less: what was handed over was in the middle
    /// of a transfer. If nothing is carried any more at the end, that was over, and nothing is known.
    fn look(&mut self, bps: u64) -> bool {
        self.looks += 1;
        self.streams = self.streams.max(bps);
        self.looks >= TRIAL && self.streams < self.lanes / 10 * PART
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SLOW: Seen = Seen {
        queue: Duration::from_millis(50),
        bps: 140_000_000,
        flows: true,
        possible: true,
        processor: Some(10),
    };

    /// Looks for so many seconds; gives whether streams are preferred after them.
    fn look(preference: &mut Preference, now: &mut Time, seconds: u32, seen: Seen) -> bool {
        for _ in 0..4 * seconds {
            preference.look(*now, seen);
            *now += LOOK;
        }
        preference.streams()
    }

    fn fresh() -> (Preference, Time) {
        (Preference::new(500_000_000), Time::from_millis(1000))
    }

    #[test]
    fn a_queue_that_lanes_keep_moves_tcp_to_streams() {
        let (mut preference, mut now) = fresh();
        preference.look(now, SLOW);
        assert!(!preference.streams(), "once is no proof");
        assert!(look(&mut preference, &mut now, 1, SLOW));
        assert!(look(&mut preference, &mut now, 60, Seen { queue: Duration::ZERO, ..SLOW }));
    }

    #[test]
    fn lanes_that_harm_nobody_are_left_alone() {
        for seen in [
            Seen { queue: 15 * MS, ..SLOW },
            Seen { bps: 100_000, ..SLOW },
            Seen { bps: 900_000_000, ..SLOW },
            Seen { flows: false, ..SLOW },
            Seen { possible: false, ..SLOW },
            Seen { processor: Some(80), ..SLOW },
        ] {
            let (mut preference, mut now) = fresh();
            assert!(!look(&mut preference, &mut now, 60, seen), "{seen:?}");
        }
    }

    #[test]
    fn where_streams_cost_next_to_nothing_the_processor_s_other_work_does_not_matter() {
        let (mut preference, mut now) = fresh();
        let busy = Seen { bps: 16_000_000, processor: Some(100), ..SLOW };
        assert!(look(&mut preference, &mut now, 2, busy));
        assert!(look(&mut preference, &mut now, 60, busy));
    }

    #[test]
    fn a_slow_processor_keeps_lanes() {
        // ChaCha20 at 12 MB/s.
        let mut preference = Preference::new(12_000_000);
        let mut now = Time::from_millis(1000);
        assert!(!look(&mut preference, &mut now, 60, Seen { bps: 16_000_000, ..SLOW }));
        assert!(look(&mut preference, &mut now, 2, Seen { bps: 2_000_000, ..SLOW }));
    }

    #[test]
    fn streams_that_are_too_much_are_given_up_for_a_while() {
        let (mut preference, mut now) = fresh();
        assert!(look(&mut preference, &mut now, 2, SLOW));
        let much = Seen { processor: Some(97), ..SLOW };
        assert!(look(&mut preference, &mut now, 2, much));
        assert!(!look(&mut preference, &mut now, 2, much));
        assert!(preference.is_worse());
        assert!(!look(&mut preference, &mut now, 1790, SLOW));
        assert!(look(&mut preference, &mut now, 30, SLOW));
    }

    #[test]
    fn streams_that_bring_much_less_are_given_up() {
        for (bps, stays) in [(130_000_000, true), (90_000_000, true), (40_000_000, false)] {
            let (mut preference, mut now) = fresh();
            look(&mut preference, &mut now, 1, SLOW);
            assert!(look(&mut preference, &mut now, 4, Seen { bps, ..SLOW }), "{bps}");
            assert_eq!(look(&mut preference, &mut now, 2, Seen { bps, ..SLOW }), stays, "{bps}");
            // What comes later says nothing: people ask for less at times.
            let less = Seen { bps: 9_000_000, ..SLOW };
            assert_eq!(look(&mut preference, &mut now, 60, less), stays, "{bps}");
        }
    }

    #[test]
    fn a_transfer_that_ends_with_its_handover_says_nothing() {
        let (mut preference, mut now) = fresh();
        look(&mut preference, &mut now, 1, SLOW);
        assert!(look(&mut preference, &mut now, 60, Seen { bps: 1_000, ..SLOW }));
    }

    #[test]
    fn lanes_are_tried_again_in_calm_and_ever_more_seldom() {
        let (mut preference, mut now) = fresh();
        look(&mut preference, &mut now, 2, SLOW);
        assert!(look(&mut preference, &mut now, 1900, SLOW), "not in the middle of a transfer");
        assert!(!look(&mut preference, &mut now, 1, Seen { bps: 0, ..SLOW }));
        assert!(look(&mut preference, &mut now, 2, SLOW));
        assert!(look(&mut preference, &mut now, 3500, Seen { bps: 0, ..SLOW }));
        assert!(!look(&mut preference, &mut now, 120, Seen { bps: 0, ..SLOW }));
    }

    #[test]
    fn a_wan_that_loses_udp_ends_it() {
        let (mut preference, mut now) = fresh();
        look(&mut preference, &mut now, 2, SLOW);
        let without = Seen { possible: false, ..SLOW };
        assert!(look(&mut preference, &mut now, 2, without), "a WAN may just have died");
        assert!(look(&mut preference, &mut now, 1, SLOW));
        assert!(!look(&mut preference, &mut now, 3, without));
    }

    #[test]
    fn a_line_that_has_become_longer_is_not_full_for_ever() {
        let mut calm = Calm::default();
        let mut now = Time::from_millis(1000);
        assert_eq!(calm.queue(now, 40 * MS), Duration::ZERO);
        assert_eq!(calm.queue(now, 90 * MS), 50 * MS);
        for _ in 0..2 * REMEMBERED.as_secs() + 1 {
            now += Duration::from_secs(1);
            calm.queue(now, 90 * MS);
        }
        assert_eq!(calm.queue(now, 92 * MS), 2 * MS);
    }
}
