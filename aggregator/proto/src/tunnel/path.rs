//! One path: a WAN as the tunnel sees it, both directions.
//!
//! ```text
//!            answers overdue          still none           some answers
//! ┌──────┐ ─────────────▶ ┌─────────┐ ──────────▶ ┌──────┐ ───────────▶ ┌──────┐
//! │ Live │                │ Suspect │             │ Down │              │ Live │
//! └──────┘ ◀───────────── └─────────┘             └──────┘              └──────┘
//!            an answer
//! ```
//!
//! A suspect path gets nothing new but probes, and what is on its way over it goes out again over
//! another: being wrong about that costs a few bytes, being late costs a gap.

use std::time::Duration;

use super::congestion::{Congestion, Sample};
use super::receive::Receiver;
use super::sent::SentLog;
use crate::Time;
use crate::datagram::PathId;
use crate::rtt::RttEstimator;

/// Between probes while the tunnel carries something: each end hears from every path so often.
const ACTIVE_PROBE: Duration = Duration::from_millis(40);
/// At most, where the peer asks anyway.
const ASKED_PROBE: Duration = Duration::from_millis(160);
/// Between probes of a suspect path.
const SUSPECT_PROBE: Duration = Duration::from_millis(25);
/// Between probes of a path that is down; slower after a while.
const DOWN_PROBE: Duration = Duration::from_millis(250);
const DOWN_PROBE_LATE: Duration = Duration::from_secs(2);
const IDLE_DOWN_PROBE: Duration = Duration::from_secs(10);
const DOWN_LATE_AFTER: Duration = Duration::from_secs(60);
/// The tunnel is active for so long after it carried something.
pub(super) const ACTIVE_FOR: Duration = Duration::from_millis(1500);
/// What an answer may be late beside round trip and its variation: the peer's delay in
/// acknowledging, and two schedulers.
const ANSWER_SLACK: Duration = Duration::from_millis(30);
const LEAST_PATIENCE: Duration = Duration::from_millis(60);
const MOST_PATIENCE: Duration = Duration::from_millis(1500);
const FIRST_PATIENCE: Duration = Duration::from_millis(500);
/// A suspect path is down after as long again as it took to become suspect, but not before this.
const LEAST_SUSPENSE: Duration = Duration::from_millis(100);
/// Answers in a row after which a path that was down is live.
const ANSWERS_TO_RETURN: u32 = 2;
/// What may be caught up with at once, µs at the path's rate: timers are late by about so much.
const BURST_TIME: u64 = 3_000;
/// Probes and acknowledgements don't bring the credit below this, bytes.
const MOST_DEBT: i64 = -3_000;

/// Whether a path is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Liveness {
    /// Answers.
    Live,
    /// An answer is overdue.
    Suspect,
    /// Has not answered for a while.
    Down,
}

/// What a path may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Everything.
    Bond,
    /// Everything, while no path of standing [`Standing::Bond`] lives.
    Spare,
    /// Nothing.
    Off,
}

/// A piece of a datagram that was sent, to be remembered until its fate is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    /// The copy of a packet that is kept for repair.
    Packet(super::repair::Key),
    /// A stream frame.
    Stream(super::stream::SentFrame),
    /// The paths' standing, of this serial.
    Status(u16),
    /// A try whether datagrams of this size pass.
    Size(u16),
}

/// One path.
#[derive(Debug)]
pub(super) struct Path {
    pub id: PathId,
    pub standing: Standing,
    pub liveness: Liveness,
    /// The peer does not use it, and others are there: asking over it would only cost.
    pub shunned: bool,
    pub since: Time,
    pub sent: SentLog<Item>,
    pub receiver: Receiver,
    pub congestion: Congestion,
    pub rtt: RttEstimator,
    pub mtu: super::mtu::PathMtu,
    /// Bytes of IP and UDP header around a datagram.
    pub overhead: u16,
    /// One-way delay of this direction, smoothed, and its mean deviation, µs; an unknown constant,
    /// the same for all paths of a tunnel, is part of it.
    pub delay: Option<(i64, i64)>,
    /// The same of the other direction, as received.
    pub delay_in: Option<(i64, i64)>,
    /// When a packet that is to be put in order came this way.
    pub ordered_at: Option<Time>,
    received_at: Option<i64>,
    /// What may be sent at once; paid off at the pacing rate.
    credit: i64,
    credit_at: Time,
    last_heard: Time,
    /// When something came that wants an answer.
    last_asked: Time,
    last_answer: Time,
    last_probe: Time,
    probe_wanted: bool,
    answers: u32,
}

impl Path {
    pub(super) fn new(now: Time, id: PathId, overhead: u16, most: u16) -> Self {
        Self {
            id,
            standing: Standing::Bond,
            liveness: Liveness::Down,
            shunned: false,
            since: now,
            sent: SentLog::new(),
            receiver: Receiver::default(),
            congestion: Congestion::new(),
            rtt: RttEstimator::default(),
            mtu: super::mtu::PathMtu::new(most),
            overhead,
            delay: None,
            delay_in: None,
            ordered_at: None,
            received_at: None,
            credit: 0,
            credit_at: now,
            last_heard: now,
            last_asked: now,
            last_answer: now,
            last_probe: Time::ZERO,
            probe_wanted: true,
            answers: ANSWERS_TO_RETURN - 1,
        }
    }

    /// Whether new data may go this way at all.
    pub(super) fn is_usable(&self) -> bool {
        self.liveness == Liveness::Live && self.standing != Standing::Off
    }

    /// Whether it answered once and does not any more.
    pub(super) fn is_known_down(&self) -> bool {
        self.liveness == Liveness::Down && self.rtt.srtt().is_some()
    }

    /// The network under the path is another: what was measured is void. Numbers go on.
    pub(super) fn reset(&mut self, now: Time, overhead: u16, most: u16, lost: impl FnMut(Item)) {
        self.sent.lose_all(lost);
        self.overhead = overhead;
        self.mtu = super::mtu::PathMtu::new(most);
        self.congestion = Congestion::new();
        self.rtt = RttEstimator::default();
        (self.delay, self.delay_in) = (None, None);
        self.last_heard = now;
        self.last_answer = now;
        self.probe_wanted = true;
        self.answers = ANSWERS_TO_RETURN - 1;
        self.enter(now, Liveness::Down);
    }

    /// A datagram came. `stamp` is its send time in the peer's clock.
    pub(super) fn on_datagram(&mut self, now: Time, number: u64, stamp: u32, wants_ack: bool) {
        self.last_heard = now;
        if wants_ack {
            self.last_asked = now;
            // The peer gets through: is it heard as well?
            self.probe_wanted |= self.liveness == Liveness::Down;
        }
        let delay =
            unwrap(self.delay_in.map(|(d, _)| d), (now.as_micros() as u32).wrapping_sub(stamp));
        smooth(&mut self.delay_in, delay);
        self.receiver.note(now, number, stamp, wants_ack, self.rtt.srtt());
    }

    /// Takes an acknowledgement's times and figures. `true` if the path became live by it.
    pub(super) fn on_answer(
        &mut self,
        now: Time,
        acked: &super::sent::Acked,
        received_at: i64,
        waited: u64,
    ) -> bool {
        self.last_answer = now;
        self.answers += 1;
        if let Some((sent_at, size)) = acked.timed {
            let whole = now.since(sent_at);
            let rtt = whole.saturating_sub(Duration::from_micros(waited));
            self.rtt.sample(rtt.max(Duration::from_micros(1)));
            let delay = received_at.wrapping_sub(i64::try_from(sent_at.as_micros()).unwrap_or(0));
            smooth(&mut self.delay, delay);
            let sample = Sample {
                rate: acked.rate,
                app_limited: acked.app_limited,
                delay,
                size,
                srtt: self.rtt.srtt().unwrap_or(rtt),
                delivered: self.sent.delivered(),
                counts: self.sent.counts(),
                delivered_before: acked.delivered_before,
            };
            self.congestion.on_ack(now, &sample);
        }
        let returned = match self.liveness {
            Liveness::Live => false,
            Liveness::Suspect => true,
            Liveness::Down => self.answers >= ANSWERS_TO_RETURN,
        };
        if returned {
            if self.liveness == Liveness::Down {
                self.congestion.restart(now);
            }
            self.enter(now, Liveness::Live);
        } else if self.liveness == Liveness::Down {
            self.probe_wanted = true;
        }
        returned
    }

    /// The receiver's clock reading `at` (µs, cut to 32 bits) as a whole number.
    pub(super) fn unwrap_receipt(&mut self, at: u32) -> i64 {
        let whole = unwrap(self.received_at, at);
        self.received_at = Some(self.received_at.map_or(whole, |last| last.max(whole)));
        whole
    }

    /// How long an answer may take.
    fn patience(&self) -> Duration {
        let Some(srtt) = self.rtt.srtt() else { return FIRST_PATIENCE };
        // Time for a second question, after the first has had its time.
        let patience = srtt + srtt.max(4 * self.rtt.rttvar()) + ANSWER_SLACK;
        patience.clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    /// When the path becomes worse if nothing is heard.
    fn overdue_at(&self) -> Option<Time> {
        let oldest = self.sent.oldest()?;
        let waiting = oldest.max(self.last_answer).max(self.last_heard);
        match self.liveness {
            Liveness::Live => Some(waiting + self.patience()),
            Liveness::Suspect => Some(self.since + self.patience().max(LEAST_SUSPENSE)),
            Liveness::Down => None,
        }
    }

    /// When an answer is late enough for a second question: one lost datagram must not make the
    /// path suspect.
    fn doubt_at(&self) -> Option<Time> {
        let asked = self.sent.oldest()?.max(self.last_answer);
        let srtt = self.rtt.srtt()?;
        (self.liveness == Liveness::Live && self.last_probe <= asked)
            .then(|| asked + srtt + ANSWER_SLACK / 2)
    }

    fn probe_at(&self, active: bool) -> Option<Time> {
        if self.standing == Standing::Off || self.shunned {
            return None;
        }
        if self.probe_wanted {
            return Some(self.last_probe + Duration::from_millis(5));
        }
        let every = match self.liveness {
            // Heard from and answered lately: no doubt. The peer's probes are answered in any case.
            Liveness::Live if active => {
                // While the peer asks, it learns what this end would, and tells.
                let asked = self.last_asked.min(self.last_probe + (ASKED_PROBE - ACTIVE_PROBE));
                let regular = self.last_probe.max(asked) + ACTIVE_PROBE;
                return Some(self.doubt_at().map_or(regular, |at| at.min(regular)));
            }
            Liveness::Live => return self.doubt_at(),
            Liveness::Suspect => SUSPECT_PROBE,
            // Nobody waits for it; and whoever of the two asks first wakes the other.
            Liveness::Down if !active && self.is_long_down() => IDLE_DOWN_PROBE,
            Liveness::Down if !active => DOWN_PROBE_LATE,
            Liveness::Down if self.is_long_down() => DOWN_PROBE_LATE,
            Liveness::Down => DOWN_PROBE,
        };
        Some(self.last_probe + every)
    }

    fn is_long_down(&self) -> bool {
        self.last_probe.since(self.since) > DOWN_LATE_AFTER
    }

    /// Whether a probe is due.
    pub(super) fn wants_probe(&self, now: Time, active: bool) -> bool {
        self.probe_at(active).is_some_and(|at| at <= now)
    }

    /// A datagram that wants an answer goes out: as good as a probe.
    pub(super) fn probed(&mut self, now: Time) {
        self.last_probe = now;
        self.probe_wanted = false;
    }

    /// The next time at which something is to be done, beside sending.
    pub(super) fn timeout(&self, active: bool) -> Option<Time> {
        [self.overdue_at(), self.probe_at(active), self.receiver.due()].into_iter().flatten().min()
    }

    /// Lets time pass. The new state, if it has changed for the worse.
    pub(super) fn on_timeout(&mut self, now: Time) -> Option<Liveness> {
        let at = self.overdue_at()?;
        if now < at {
            return None;
        }
        self.answers = 0;
        let worse = match self.liveness {
            Liveness::Live => Liveness::Suspect,
            Liveness::Suspect | Liveness::Down => Liveness::Down,
        };
        self.enter(now, worse);
        Some(worse)
    }

    /// The peer, or whoever knows better, says that the path is dead.
    pub(super) fn enter(&mut self, now: Time, liveness: Liveness) {
        self.liveness = liveness;
        self.since = now;
        if liveness != Liveness::Live {
            self.answers = self.answers.min(ANSWERS_TO_RETURN - 1);
            self.probe_wanted = true;
        }
    }

    /// Whether data may be sent now. Probes and acknowledgements may always.
    pub(super) fn may_send(&mut self, now: Time) -> bool {
        self.earn(now);
        self.credit > 0 && self.sent.in_flight() < self.congestion.window()
    }

    /// When data may be sent, if only the pace forbids it.
    pub(super) fn sends_at(&self) -> Option<Time> {
        if self.sent.in_flight() >= self.congestion.window() {
            return None;
        }
        if self.credit > 0 {
            return Some(self.credit_at);
        }
        let missing = u64::try_from(1 - self.credit).unwrap_or(0);
        let rate = self.congestion.pacing_rate().max(1);
        Some(self.credit_at + Duration::from_micros(missing * 1_000_000 / rate + 1))
    }

    fn earn(&mut self, now: Time) {
        let rate = self.congestion.pacing_rate();
        let passed = now.as_micros().saturating_sub(self.credit_at.as_micros()).min(1_000_000);
        let earned = rate.saturating_mul(passed) / 1_000_000;
        if earned == 0 {
            return;
        }
        let most = (rate * BURST_TIME / 1_000_000).max(1);
        self.credit = (self.credit + i64::try_from(earned).unwrap_or(i64::MAX))
            .min(i64::try_from(most).unwrap_or(i64::MAX));
        self.credit_at = now;
    }

    /// Pays for a datagram of `size` bytes on the wire.
    pub(super) fn spend(&mut self, now: Time, size: u64) {
        self.earn(now);
        let rest = self.credit - i64::try_from(size).unwrap_or(0);
        // What goes out whatever the credit must not use up all that data could have.
        self.credit = rest.max(self.credit.min(MOST_DEBT));
    }

    /// When a packet sent now would arrive, µs; comparable between paths.
    pub(super) fn arrival(&self) -> i64 {
        self.delay.map_or(i64::MAX / 4, |(delay, _)| delay)
    }
}

/// Goes on counting where 32 bits wrap.
fn unwrap(last: Option<i64>, low: u32) -> i64 {
    match last {
        None => i64::from(low),
        Some(last) => last + i64::from(low.wrapping_sub(last as u32) as i32),
    }
}

/// Mean and mean deviation with the weights of RFC 6298.
fn smooth(mean: &mut Option<(i64, i64)>, value: i64) {
    *mean = Some(match *mean {
        None => (value, 0),
        Some((mean, deviation)) => {
            let off = value - mean;
            (mean + off / 8, deviation + (off.abs() - deviation) / 4)
        }
    });
}
