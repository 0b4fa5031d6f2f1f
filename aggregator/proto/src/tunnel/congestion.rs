//! How fast a path may send: fills the link without filling its queue.
//!
//! A model of the link, as in BBR (draft-ietf-ccwg-bbr): its rate is the highest at which data was
//! lately delivered, its delay the lowest lately seen. Unlike BBR it watches the *one-way* delay of
//! its own direction, which the receiver's times tell without the other direction's queue, and
//! keeps the standing queue below a few milliseconds:
//!
//! ```text
//! Startup ──▶ Drain ──▶ Cruise ──▶ Up ──▶ Down ──▶ Cruise …
//!  ×2         ×0.6       ×1        ×1.25   ×0.75
//! ```
//!
//! It cruises at the known rate, asks for more from time to time, and for as long as more comes
//! without a queue; a queue ends that and is drained. A queue that stands while nothing more is
//! asked for means that the link has become slower: the rate is then taken from what is delivered
//! now. Random loss by itself says nothing of either and is ignored.

use std::time::Duration;

use super::windowed::{Extreme, Windowed};
use crate::Time;

/// Before anything was measured: what RFC 6928 allows, and a bit for a link worth bonding.
const FIRST_WINDOW: u64 = 24 * PACKET;
const FIRST_RTT: Duration = Duration::from_millis(100);
/// A full datagram on the wire, bytes.
const PACKET: u64 = 1500;
/// Never below: two packets in a round trip of a second.
const LEAST_RATE: u64 = 2 * PACKET;

/// How long the highest delivery rate is believed, at least, and in round trips.
const RATE_MEMORY: Duration = Duration::from_millis(1000);
const RATE_MEMORY_ROUNDS: u32 = 10;
/// How long the lowest delay is believed.
const DELAY_MEMORY: Duration = Duration::from_secs(20);

/// A standing queue above this is too long; more where a few packets alone take longer, or where
/// the link's delay wavers by itself.
const QUEUE: u64 = 6_000;
/// Samples whose lowest counts as the queue that stands.
const STANDING: usize = 4;
/// Rounds of cruising between two tries for more.
const CRUISE_ROUNDS: u32 = 6;
const LEAST_CRUISE: Duration = Duration::from_millis(150);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Startup,
    Drain,
    Cruise,
    Up,
    Down,
}

/// What one acknowledgement tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Bytes per second that were delivered, over about a round trip.
    pub rate: Option<u64>,
    /// The sender had too little to send to fill the link.
    pub app_limited: bool,
    /// One-way delay, µs; an unknown constant is part of it.
    pub delay: i64,
    /// Round trip, without the time the acknowledgement waited.
    pub rtt: Duration,
    /// All bytes delivered so far.
    pub delivered: u64,
    /// That figure when the newest acknowledged datagram was sent.
    pub delivered_before: u64,
}

/// One path's congestion controller.
#[derive(Debug)]
pub(super) struct Congestion {
    mode: Mode,
    since: Time,
    rounds: u32,
    round_ends: u64,
    round: u32,
    rate: Windowed<u64>,
    /// The best of this round and of the one before.
    fresh_rate: [u64; 2],
    /// For the end of the start: the rate that growth is measured from, and rounds without any.
    full_rate: u64,
    full_rounds: u32,
    delay: Windowed<i64>,
    rtt: Windowed<u64>,
    recent: [i64; STANDING],
    recent_at: usize,
    wavering: u64,
    /// The queue when draining began.
    queue_before: u64,
    /// Whether more came in this try.
    grew_from: u64,
    app_limited: bool,
}

impl Congestion {
    pub(super) fn new(now: Time) -> Self {
        Self {
            mode: Mode::Startup,
            since: now,
            rounds: 0,
            round_ends: 0,
            round: 0,
            rate: Windowed::new(Extreme::Highest),
            fresh_rate: [0; 2],
            full_rate: 0,
            full_rounds: 0,
            delay: Windowed::new(Extreme::Lowest),
            rtt: Windowed::new(Extreme::Lowest),
            recent: [i64::MAX; STANDING],
            recent_at: 0,
            wavering: 0,
            queue_before: 0,
            grew_from: 0,
            app_limited: false,
        }
    }

    /// Takes what an acknowledgement tells. `rttvar` is how much the round trip varies.
    pub(super) fn on_ack(&mut self, now: Time, sample: &Sample, rttvar: Duration) {
        self.delay.add(now, sample.delay, DELAY_MEMORY);
        let rtt = u64::try_from(sample.rtt.as_micros()).unwrap_or(u64::MAX).max(1);
        self.rtt.add(now, rtt, DELAY_MEMORY);
        self.recent[self.recent_at] = sample.delay;
        self.recent_at = (self.recent_at + 1) % STANDING;
        self.wavering = u64::try_from(rttvar.as_micros()).unwrap_or(0).min(8_000);
        self.app_limited = sample.app_limited;
        if let Some(rate) = sample.rate
            && (!sample.app_limited || rate > self.rate())
        {
            let memory = RATE_MEMORY.max(self.min_rtt() * RATE_MEMORY_ROUNDS);
            self.rate.add(now, rate, memory);
            self.fresh_rate[0] = self.fresh_rate[0].max(rate);
        }
        let round_over = sample.delivered_before >= self.round_ends;
        if round_over {
            self.round_ends = sample.delivered;
            self.rounds += 1;
            self.round = self.round.wrapping_add(1);
        }
        self.step(now, round_over);
        if round_over {
            self.fresh_rate = [0, self.fresh_rate[0]];
        }
    }

    fn step(&mut self, now: Time, round_over: bool) {
        let (queue, limit) = (self.queue(), self.queue_limit());
        match self.mode {
            Mode::Startup => {
                if round_over && !self.app_limited {
                    if self.rate() * 4 >= self.full_rate * 5 {
                        self.full_rate = self.rate();
                        self.full_rounds = 0;
                    } else {
                        self.full_rounds += 1;
                    }
                }
                if self.full_rounds >= 3 || (queue > 2 * limit && self.rounds >= 2) {
                    self.enter(now, Mode::Drain);
                }
            }
            Mode::Drain => {
                if queue <= limit / 2 || self.rounds >= 4 {
                    self.enter(now, Mode::Cruise);
                }
            }
            Mode::Cruise => {
                if queue > limit {
                    self.follow_down(now);
                    self.enter(now, Mode::Down);
                } else if self.rounds >= CRUISE_ROUNDS
                    && now.since(self.since) >= LEAST_CRUISE
                    && !self.app_limited
                {
                    self.enter(now, Mode::Up);
                }
            }
            Mode::Up => {
                if queue > limit {
                    self.enter(now, Mode::Down);
                } else if round_over && self.rounds >= 2 {
                    // Asks on while every round brings more.
                    if self.rate() * 20 >= self.grew_from * 21 {
                        self.grew_from = self.rate();
                    } else if self.rounds >= 3 {
                        self.enter(now, Mode::Down);
                    }
                }
            }
            Mode::Down => {
                if queue <= limit / 2 {
                    self.enter(now, Mode::Cruise);
                } else if round_over && self.rounds >= 3 {
                    if queue * 8 > self.queue_before * 7 {
                        // Sending less has not made it shorter: it is not ours, or no queue at all
                        // but a longer way.
                        self.delay.reset(now, self.standing());
                        self.enter(now, Mode::Cruise);
                    } else {
                        self.follow_down(now);
                        self.enter(now, Mode::Down);
                    }
                }
            }
        }
    }

    /// A queue stands: the rate is what is delivered now, if that is clearly less.
    fn follow_down(&mut self, now: Time) {
        let delivered = self.fresh_rate[0].max(self.fresh_rate[1]);
        if delivered > 0 && delivered * 10 < self.rate() * 9 {
            self.rate.reset(now, delivered.max(LEAST_RATE));
        }
    }

    fn enter(&mut self, now: Time, mode: Mode) {
        self.mode = mode;
        self.since = now;
        self.rounds = 0;
        self.queue_before = self.queue();
        self.grew_from = self.rate();
    }

    /// The link's rate as known, bytes per second of datagrams on the wire.
    pub(super) fn rate(&self) -> u64 {
        self.rate.get().map_or(0, |rate| rate.max(LEAST_RATE))
    }

    /// Whether the rate was measured at all.
    pub(super) fn knows_rate(&self) -> bool {
        self.rate.get().is_some()
    }

    /// Whether the link was already filled once.
    pub(super) fn is_started(&self) -> bool {
        self.mode != Mode::Startup
    }

    fn min_rtt(&self) -> Duration {
        self.rtt.get().map_or(FIRST_RTT, Duration::from_micros)
    }

    /// Bytes per second to be sent now.
    pub(super) fn pacing_rate(&self) -> u64 {
        let gain = match self.mode {
            Mode::Startup => 200,
            Mode::Drain => 60,
            Mode::Cruise => 100,
            Mode::Up => 125,
            Mode::Down => 75,
        };
        if !self.knows_rate() {
            let rtt = u64::try_from(self.min_rtt().as_micros()).unwrap_or(u64::MAX).max(1);
            return FIRST_WINDOW * 1_000_000 * 2 / rtt;
        }
        (self.rate() * gain / 100).max(LEAST_RATE)
    }

    /// Bytes that may be on their way.
    pub(super) fn window(&self) -> u64 {
        if !self.knows_rate() {
            return FIRST_WINDOW;
        }
        let rtt = u64::try_from(self.min_rtt().as_micros()).unwrap_or(u64::MAX);
        // Beside what the link holds: the queue allowed, and what the receiver has not told yet.
        let time = rtt + 2 * self.queue_limit() + 15_000;
        let bytes = self.rate().saturating_mul(time) / 1_000_000 + 8 * PACKET;
        if self.mode == Mode::Startup { bytes * 2 } else { bytes }
    }

    /// The standing queue of this direction, µs.
    pub(super) fn queue(&self) -> u64 {
        let lowest = self.delay.get().unwrap_or(0);
        u64::try_from(self.standing().saturating_sub(lowest)).unwrap_or(0)
    }

    fn standing(&self) -> i64 {
        let standing = self.recent.iter().copied().min().unwrap_or(0);
        if standing == i64::MAX { 0 } else { standing }
    }

    fn queue_limit(&self) -> u64 {
        let packets = 5 * PACKET * 1_000_000 / (2 * self.rate().max(1));
        QUEUE.max(packets.min(60_000)) + self.wavering
    }

    /// Called when the path was silent for a while: what was measured may be void, and sending goes
    /// on with half the rate, growing fast.
    pub(super) fn restart(&mut self, now: Time) {
        if self.knows_rate() {
            let half = self.rate() / 2;
            self.rate.reset(now, half.max(LEAST_RATE));
        }
        self.recent = [i64::MAX; STANDING];
        self.delay = Windowed::new(Extreme::Lowest);
        self.rtt = Windowed::new(Extreme::Lowest);
        self.full_rate = 0;
        self.full_rounds = 0;
        self.fresh_rate = [0; 2];
        self.enter(now, Mode::Startup);
    }
}
