//! How fast a path may send: fills the link without filling its queue.
//!
//! Two things are known of a link that is in use: how much it delivers, and how long its queue is,
//! since the receiver tells when each datagram came. While a queue stands, what is delivered is the
//! link's rate. So a short queue is kept on purpose, and the pace is that rate, a little more while
//! the queue is shorter than wanted and less while it is longer:
//!
//! ```text
//! pace = delivered × (1 + (wanted queue − queue) / time to settle)
//! ```
//!
//! Delay is watched one way, so the other direction's queue does not matter. Loss by itself says
//! nothing and is ignored (radio links lose at random), unless it comes with asking for more: then
//! the link's queue is shorter than the one wanted.
//!
//! A queue that does not get shorter although less is sent is none, or not ours: the way has become
//! longer, or others stand in it too. It is then taken as part of the way.

use std::time::Duration;

use super::windowed::{Extreme, Windowed};
use crate::Time;

/// Before anything was measured (RFC 6928).
const FIRST_WINDOW: u64 = 10 * PACKET;
const FIRST_RTT: u64 = 100_000;
/// Sent in a round trip at least while no queue stands, whatever was measured: else a path that was
/// long without work could not show what it can.
const LEAST_WINDOW: u64 = 2 * PACKET;
/// A full datagram on the wire, bytes.
const PACKET: u64 = 1500;
/// Never below: two packets in a round trip of a second.
const LEAST_RATE: u64 = 2 * PACKET;

/// How long the highest delivery rate is believed, in round trips and at least.
const RATE_ROUNDS: u32 = 3;
const RATE_MEMORY: Duration = Duration::from_millis(150);
/// How long the lowest delay is believed.
const DELAY_MEMORY: Duration = Duration::from_secs(20);

/// The queue that is wanted, µs, beside what the delay wavers by itself.
const QUEUE: u64 = 4_000;
const MOST_WAVERING: u64 = 12_000;
/// Samples whose lowest counts as the queue that stands.
const STANDING: usize = 3;
/// What the peer waits before it acknowledges, and what a queue takes to be noticed, µs.
const SLACK: u64 = 15_000;
/// Pace in thousandths of what is delivered.
const STARTUP: u64 = 2_000;
const MOST: u64 = 1_250;
const LEAST: u64 = 500;
/// More than this share of a round's datagrams lost while asking for more, beyond what is lost
/// anyway: the link's queue is short. In thousandths.
const SHORT_QUEUE_LOSS: u64 = 40;
/// Rounds for which no more is asked for then.
const CONTENT: u32 = 12;

/// Fewer bytes than this in a round trip do not make a queue.
const FEW: u64 = 4 * PACKET;

/// What one acknowledgement tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Bytes per second that were delivered, over about a round trip.
    pub rate: Option<u64>,
    /// The sender had too little to send to fill the link.
    pub app_limited: bool,
    /// One-way delay, µs; an unknown constant is part of it.
    pub delay: i64,
    /// Size of the datagram that had that delay, bytes.
    pub size: u16,
    /// Round trip, without the time the acknowledgement waited; smoothed.
    pub srtt: Duration,
    /// All bytes delivered so far, and all datagrams lost and delivered.
    pub delivered: u64,
    pub counts: (u64, u64),
    /// The bytes delivered when the newest acknowledged datagram was sent.
    pub delivered_before: u64,
}

/// A one-way delay, µs, and the size of the datagram that had it.
type Delay = (i64, u16);

/// One path's congestion controller.
#[derive(Debug)]
pub(super) struct Congestion {
    starting: bool,
    round_ends: u64,
    rate: Windowed<u64>,
    /// The best of this round and of the one before.
    fresh: [u64; 2],
    /// For the end of the start: the rate that growth is measured from, and rounds without any.
    full_rate: u64,
    full_rounds: u32,
    base: Windowed<Delay>,
    recent: [Delay; STANDING],
    recent_at: usize,
    last_delay: Option<i64>,
    /// Mean difference of one delay from the next, in 1/16 µs.
    wavering: u64,
    srtt: u64,
    /// Rounds in a row without any queue.
    free_rounds: u32,
    /// Rounds in a row that lost much while asking for more.
    lossy_rounds: u32,
    /// Rounds to go without asking for more.
    content: u32,
    round_counts: (u64, u64),
    /// The longest queue of this round and of the one before.
    round_queue: [u64; 2],
    usual_loss: u64,
    /// Of all rounds, smoothed, in thousandths.
    loss: u64,
    /// The pace when this round's datagrams were sent, and now, in thousandths.
    gains: [u64; 2],
    excess: Option<Excess>,
    app_limited: bool,
}

/// A queue that is longer than wanted.
#[derive(Debug, Clone, Copy)]
struct Excess {
    queue: u64,
    at: Time,
    rounds: u32,
    /// By how much it should have become shorter, µs.
    expected: u64,
}

impl Congestion {
    pub(super) fn new() -> Self {
        Self {
            starting: true,
            round_ends: 0,
            rate: Windowed::new(Extreme::Highest),
            fresh: [0; 2],
            full_rate: 0,
            full_rounds: 0,
            base: Windowed::new(Extreme::Lowest),
            recent: [(0, 0); STANDING],
            recent_at: 0,
            last_delay: None,
            wavering: 0,
            srtt: FIRST_RTT,
            free_rounds: 0,
            lossy_rounds: 0,
            content: 0,
            round_counts: (0, 0),
            round_queue: [0; 2],
            usual_loss: 0,
            loss: 0,
            gains: [1000; 2],
            excess: None,
            app_limited: false,
        }
    }

    /// Takes what an acknowledgement tells.
    pub(super) fn on_ack(&mut self, now: Time, sample: &Sample) {
        self.srtt = micros(sample.srtt).max(1);
        self.app_limited = sample.app_limited;
        self.take_delay(now, sample);
        self.round_queue[0] = self.round_queue[0].max(self.queue());
        // A link that is slower than believed shows it by a queue: without one, less is delivered only
        // because less was sent.
        let is_filled = !sample.app_limited && self.queue() > self.wanted() / 2;
        if let Some(rate) = sample.rate {
            self.fresh[0] = self.fresh[0].max(rate);
            if is_filled || rate > self.rate() {
                let rounds = Duration::from_micros(self.srtt) * RATE_ROUNDS;
                self.rate.add(now, rate, rounds.max(RATE_MEMORY));
            }
        }
        let round_over = sample.delivered_before >= self.round_ends;
        if self.starting {
            self.start(round_over, sample.delivered.saturating_sub(sample.delivered_before));
        } else {
            self.watch_excess(now, round_over);
        }
        if round_over {
            self.round_ends = sample.delivered;
            self.end_round(sample.counts);
        }
    }

    fn take_delay(&mut self, now: Time, sample: &Sample) {
        let delay = (sample.delay, sample.size);
        self.base.add(now, delay, DELAY_MEMORY);
        if self.last_delay.is_none() {
            self.recent = [delay; STANDING];
        }
        self.recent[self.recent_at] = delay;
        self.recent_at = (self.recent_at + 1) % STANDING;
        let delay = self.on_way(delay);
        if let Some(last) = self.last_delay.replace(delay) {
            let step = last.abs_diff(delay).min(2 * MOST_WAVERING) * 16;
            self.wavering = self.wavering - self.wavering / 16 + step / 16;
        }
    }

    fn start(&mut self, round_over: bool, flown: u64) {
        if round_over && !self.app_limited {
            if self.rate() * 4 >= self.full_rate * 5 {
                self.full_rate = self.rate();
                self.full_rounds = 0;
            } else {
                self.full_rounds += 1;
            }
        }
        // A late probe alone is no queue.
        let is_filled = self.queue() > 2 * self.wanted() && (!self.app_limited || flown >= FEW);
        if self.full_rounds >= 3 || is_filled {
            self.starting = false;
        }
    }

    /// Follows a link that has become slower, and takes for longer what is longer.
    fn watch_excess(&mut self, now: Time, round_over: bool) {
        let queue = self.queue();
        if queue <= 2 * self.wanted() {
            self.excess = None;
            return;
        }
        let less = 1000_u64.saturating_sub(self.gains[0]);
        let excess = self.excess.get_or_insert(Excess { queue, at: now, rounds: 0, expected: 0 });
        excess.expected += micros(now.since(excess.at)) * less / 1000;
        excess.at = now;
        if !round_over {
            return;
        }
        excess.rounds += 1;
        let Excess { queue: before, rounds, expected, .. } = *excess;
        let delivered = self.fresh[0].max(self.fresh[1]);
        // A queue that stands for so long is the link's, even if what is sent is little.
        let is_filled = !self.app_limited || rounds > 1;
        if delivered > 0 && delivered < self.rate() && is_filled {
            self.rate.reset(now, delivered.max(LEAST_RATE));
        }
        if rounds < 3 || expected < 2 * self.wanted() {
            return;
        }
        if queue + expected / 4 > before {
            let lowest = self.recent.iter().copied().min_by_key(|&delay| self.on_way(delay));
            self.base.reset(now, lowest.unwrap_or_default());
        }
        self.excess = None;
    }

    fn end_round(&mut self, counts: (u64, u64)) {
        self.fresh = [0, self.fresh[0]];
        let longest = self.round_queue[0].max(self.round_queue[1]);
        self.round_queue = [0, self.round_queue[0]];
        // The lowest of a few delays that waver stands above the lowest of many by about this.
        let least = self.wanted() / 2 + (self.wavering / 16 * 3 / 4).min(QUEUE);
        let free = self.queue() < least && !self.app_limited && !self.starting;
        self.free_rounds = if free { self.free_rounds + 1 } else { 0 };
        self.content = self.content.saturating_sub(1);
        let (lost, came) =
            (counts.0 - self.round_counts.0.min(counts.0), counts.1 - self.round_counts.1);
        self.round_counts = counts;
        if came + lost >= 8 {
            let share = lost * 1000 / (came + lost);
            self.loss = (self.loss * 15 + share).div_ceil(16);
            if self.gains[0] <= 1000 {
                self.usual_loss = (self.usual_loss * 7 + share) / 8;
            } else if share > SHORT_QUEUE_LOSS + self.usual_loss * 3 / 2
                && longest < 2 * self.wanted()
            {
                // A burst of losses is over in one round; a short queue loses more in each.
                self.lossy_rounds += 1;
                if self.lossy_rounds > 1 {
                    self.content = CONTENT;
                    self.free_rounds = 0;
                    self.starting = false;
                }
            } else {
                self.lossy_rounds = 0;
            }
        }
        self.gains = [self.gains[1], self.gain()];
    }

    /// The pace, in thousandths of the rate.
    fn gain(&self) -> u64 {
        if self.starting {
            return STARTUP;
        }
        let (queue, wanted) = (self.queue(), self.wanted());
        let settle = 2 * (self.trip() + SLACK);
        if queue > wanted {
            return 1000_u64.saturating_sub((queue - wanted) * 1000 / settle).max(LEAST);
        }
        if self.content > 0 {
            return 1000;
        }
        let more = (wanted - queue) * 1000 / settle;
        // Where more and more comes without a queue, there is much more.
        let bold = if self.free_rounds > 1 { 20 << self.free_rounds.min(4) } else { 0 };
        (1000 + more.max(bold)).min(MOST)
    }

    /// The link's rate as known, bytes per second of datagrams on the wire.
    pub(super) fn rate(&self) -> u64 {
        self.rate.get().map_or(0, |rate| rate.max(LEAST_RATE))
    }

    /// Bytes per second to be sent now.
    pub(super) fn pacing_rate(&self) -> u64 {
        let pace = self.rate() * self.gain() / 1000;
        let least = if self.starting {
            FIRST_WINDOW * 2
        } else if self.queue() <= self.wanted() {
            LEAST_WINDOW
        } else {
            0
        };
        pace.max(least * 1_000_000 / self.srtt)
    }

    /// Bytes that may be on their way.
    pub(super) fn window(&self) -> u64 {
        let time = self.trip() + 2 * self.wanted() + SLACK;
        let bytes = self.rate().saturating_mul(time) / 1_000_000 + 4 * PACKET;
        if self.starting { (bytes * 2).max(FIRST_WINDOW) } else { bytes }
    }

    /// The round trip without this direction's queue, µs.
    fn trip(&self) -> u64 {
        self.srtt.saturating_sub(self.queue())
    }

    /// Datagrams that get lost, in thousandths.
    pub(super) const fn loss(&self) -> u64 {
        self.loss
    }

    /// The standing queue of this direction, µs.
    pub(super) fn queue(&self) -> u64 {
        let Some(base) = self.base.get() else { return 0 };
        // By whichever way of comparing it is shorter: while the rate is not known well, taking too
        // much off the base for its size would make a queue out of nothing.
        let queue = |delay: &Delay| (delay.0 - base.0).min(self.on_way(*delay) - self.on_way(base));
        u64::try_from(self.recent.iter().map(queue).min().unwrap_or(0)).unwrap_or(0)
    }

    /// A delay without what the datagram's own bytes took on the line, which matters on slow ones.
    fn on_way(&self, (delay, size): Delay) -> i64 {
        let line = u64::from(size) * 1_000_000 / self.rate().max(LEAST_RATE);
        delay - line as i64
    }

    /// The queue that is wanted, µs.
    fn wanted(&self) -> u64 {
        QUEUE + (self.wavering / 8).min(MOST_WAVERING)
    }

    /// Called when the path was silent for a while: what was measured may be void, and sending goes
    /// on with half the rate, growing fast.
    pub(super) fn restart(&mut self, now: Time) {
        let half = self.rate() / 2;
        let (round_ends, round_counts) = (self.round_ends, self.round_counts);
        *self = Self { round_ends, round_counts, ..Self::new() };
        if half > 0 {
            self.rate.reset(now, half);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
