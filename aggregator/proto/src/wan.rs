//! The health of one WAN: a state machine that decides whether it is used.
//!
//! ```text
//!          link up            pong, or a lane connected          answers overdue
//! ┌──────┐ ─────▶ ┌─────────┐ ─────────▶ ┌────┐ ─────────────▶ ┌──────┐
//! │ Down │        │ Probing │            │ Up │                │ Down │  (and probed on)
//! └──────┘ ◀───── └─────────┘            └────┘ ◀───────────── └──────┘
//!          link down                        enough pongs in a row
//! ```
//!
//! Evidence, strongest first: answers to pings (sealed, over this WAN's own UDP path), lanes that
//! connect or fail over it (where a network blocks UDP, the only evidence), the link itself.
//! Pings are frequent while traffic flows and rare while it does not.
//!
//! *Doubt* makes it quick: when steady traffic stops coming in over the WAN's device, or the tunnel
//! has become suspicious of its path, a few pings follow each other at once. If none is answered
//! within about a round trip, and the device stays silent, the WAN is down, provided that another
//! one lives: else there is nothing to be won by haste. What comes in over the device can only
//! clear a WAN, never condemn it by its absence alone.

mod passive;

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;
use crate::rtt::RttEstimator;
use passive::Passive;

/// Between pings while traffic flows: a lost WAN is noticed after a few of these. 40 of the
/// smallest datagrams a second, about 40 kbit/s with answers and headers.
const ACTIVE_INTERVAL: Duration = Duration::from_millis(50);
/// Between pings while nothing flows: keeps a NAT's UDP mapping (RFC 4787 allows 2 min, many keep
/// 30 s) and an idea of the RTT.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// Between pings over a WAN that costs money and only stands by. With headers and answers a ping is
/// 160 bytes: 3.8 MB a month.
const SPARED_INTERVAL: Duration = Duration::from_secs(110);
/// Between pings while the WAN does not answer or has just begun to: its return should be noticed,
/// and after an hour of silence still not cost much.
const SEARCH_INTERVAL: Duration = Duration::from_millis(250);
const SEARCH_INTERVAL_LATE: Duration = Duration::from_secs(1);
const SEARCH_LATE_AFTER: Duration = Duration::from_secs(60);

/// An answer is overdue at the earliest after this long: queues fill faster than the RTT estimate
/// follows, and a WAN must not be dropped because it is busy.
const LEAST_PATIENCE: Duration = Duration::from_millis(400);
const MOST_PATIENCE: Duration = Duration::from_secs(3);
/// And at least this many pings in a row have been lost.
const LOST_IN_A_ROW: usize = 4;
/// A WAN that went down is up again after this many answers in a row.
const PONGS_TO_RETURN: u32 = 3;
/// Each time it goes down again within [`FLAP_MEMORY`], the number of answers asked for doubles.
const FLAP_MEMORY: Duration = Duration::from_secs(60);
const MOST_PONGS_TO_RETURN: u32 = 96;

/// Between pings while in doubt, and how many of them.
const DOUBT_INTERVAL: Duration = Duration::from_millis(20);
const DOUBT_PINGS: u32 = 3;
/// What an answer to those may be late beside the round trip: two schedulers, and a link's jitter.
const DOUBT_SLACK: Duration = Duration::from_millis(40);
const LEAST_DOUBT: Duration = Duration::from_millis(60);
/// While pings go out at [`ACTIVE_INTERVAL`], something should come in within a round trip and this.
const QUIET_SLACK: Duration = Duration::from_millis(100);
/// A device over which something came in so lately is not silent.
const SILENT: Duration = Duration::from_millis(70);
/// What was heard of so lately can be relied on, even if it is silent this moment: when a WAN dies,
/// the connections over it hold up those over the others, too.
const SOUND: Duration = Duration::from_millis(150);
/// Between two doubts that came to nothing.
const AFTER_DOUBT: Duration = Duration::from_millis(250);

/// Pings remembered: those in flight at the longest patience.
const IN_FLIGHT: usize = 128;
/// Smoothing of the loss figure: over about 64 pings.
const LOSS_SHARE: u32 = 64;

/// Whether a WAN is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No link, or it has stopped answering.
    Down,
    /// A link, and no answer yet.
    Probing,
    /// Answers.
    Up,
}

/// Why a WAN is in its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The link is missing or unusable: the caller knows in what way.
    NoLink,
    /// There is a link; the server has not answered over it yet.
    NoAnswerYet,
    /// The server answers.
    Answers,
    /// It answers TCP only: UDP is blocked on the way.
    AnswersTcpOnly,
    /// It no longer answers.
    Silent,
}

#[derive(Debug, Clone, Copy)]
struct Ping {
    number: u32,
    sent: Time,
}

/// A question that is being asked urgently.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    since: Time,
    /// Pings still to be sent for it.
    left: u32,
    verdict_at: Time,
}

/// One WAN's health. Time and evidence go in, a state and pings come out.
#[derive(Debug)]
pub struct WanHealth {
    state: State,
    reason: Reason,
    since: Time,
    linked: bool,
    linked_at: Time,
    active: bool,
    rtt: RttEstimator,
    /// Parts per million of pings lost.
    loss_ppm: u32,
    in_flight: VecDeque<Ping>,
    next_number: u32,
    next_ping: Time,
    /// Pings lost since the last answer.
    lost_in_a_row: usize,
    /// When the first of those was sent.
    lost_since: Time,
    last_pong: Option<Time>,
    pongs_in_a_row: u32,
    pongs_to_return: u32,
    went_down: Option<Time>,
    /// How often it went down with less than [`FLAP_MEMORY`] between.
    flaps: u32,
    last_tcp: Option<Time>,
    passive: Passive,
    doubt: Option<Doubt>,
    no_doubt_before: Time,
    has_alternative: bool,
    spared: bool,
}

impl WanHealth {
    /// A WAN without a link.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self {
            state: State::Down,
            reason: Reason::NoLink,
            since: now,
            linked: false,
            linked_at: now,
            active: false,
            rtt: RttEstimator::default(),
            loss_ppm: 0,
            in_flight: VecDeque::new(),
            next_number: 0,
            next_ping: now,
            lost_in_a_row: 0,
            lost_since: now,
            last_pong: None,
            pongs_in_a_row: 0,
            pongs_to_return: 1,
            went_down: None,
            flaps: 0,
            last_tcp: None,
            passive: Passive::default(),
            doubt: None,
            no_doubt_before: now,
            has_alternative: false,
            spared: false,
        }
    }

    /// Whether the WAN is used.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Since when.
    #[must_use]
    pub const fn since(&self) -> Time {
        self.since
    }

    /// The round-trip time to the server over this WAN.
    #[must_use]
    pub const fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }

    /// The share of pings lost lately, in parts per million.
    #[must_use]
    pub const fn loss_ppm(&self) -> u32 {
        self.loss_ppm
    }

    /// How many more times in a row it has gone down again soon after it was up; such a WAN has to
    /// answer for longer each time before it is used.
    #[must_use]
    pub fn flaps(&self, now: Time) -> u32 {
        let lately = now.since(self.went_down.unwrap_or(Time::ZERO)) < FLAP_MEMORY;
        if self.state == State::Down || lately { self.flaps } else { 0 }
    }

    /// Whether it is up, and something was heard of it in the last moment or nobody doubts it.
    #[must_use]
    pub fn is_sound(&self, now: Time) -> bool {
        let lately = |at: Time| now.since(at) < SOUND;
        let heard = self.last_pong.is_some_and(lately)
            || self.passive.quiet(now).is_some_and(|quiet| quiet < SOUND);
        self.state == State::Up && (self.doubt.is_none() || heard)
    }

    /// The link came, went, or is another one (a new address): what was measured is void then.
    pub fn set_link(&mut self, now: Time, linked: bool) {
        self.linked = linked;
        self.in_flight.clear();
        self.lost_in_a_row = 0;
        self.pongs_in_a_row = 0;
        self.last_pong = None;
        self.last_tcp = None;
        self.passive = Passive::default();
        self.doubt = None;
        if linked {
            self.rtt = RttEstimator::default();
            self.linked_at = now;
            self.next_ping = now;
            self.enter(now, State::Probing, Reason::NoAnswerYet);
        } else {
            self.enter(now, State::Down, Reason::NoLink);
        }
    }

    /// Whether traffic flows.
    pub fn set_active(&mut self, now: Time, active: bool) {
        if active && !self.active {
            self.next_ping = self.next_ping.min(now + ACTIVE_INTERVAL);
        }
        self.active = active;
        if !active {
            self.passive.forget();
        }
    }

    /// Whether it costs money and is not needed: it is asked very seldom then.
    pub fn set_spared(&mut self, now: Time, spared: bool) {
        if self.spared && !spared {
            self.next_ping = self.next_ping.min(now);
        }
        self.spared = spared;
    }

    /// Whether another WAN lives, so that haste is of use.
    pub fn set_alternative(&mut self, has: bool) {
        self.has_alternative = has;
    }

    /// The WAN's device has received so many packets until now. To be told every 25 ms or so while
    /// traffic flows.
    pub fn handle_received(&mut self, now: Time, packets: u64) {
        self.passive.look(now, packets);
        // Pings alone make something come in every now and then.
        let usual = self.rtt.min().map(|least| least + least / 2 + QUIET_SLACK);
        let quiet = self.passive.quiet(now).zip(usual).is_some_and(|(quiet, usual)| quiet > usual);
        if self.passive.has_stopped(now) || (quiet && self.active) {
            self.begin_doubt(now);
        }
    }

    /// The tunnel waits for an answer over this WAN, or has given up on one.
    pub fn handle_suspicion(&mut self, now: Time) {
        self.begin_doubt(now);
    }

    /// The tunnel has heard from its peer over this WAN again.
    pub fn handle_sign_of_life(&mut self, now: Time) {
        if self.linked && self.state != State::Up {
            self.next_ping = self.next_ping.min(now);
        }
    }

    fn begin_doubt(&mut self, now: Time) {
        let asked = self.state == State::Up && self.reason == Reason::Answers;
        if !asked || self.doubt.is_some() || now < self.no_doubt_before {
            return;
        }
        // Nothing is on its way to us, so no queue of this direction is waited for: the best round
        // trip counts, not the present one.
        let least = self.rtt.min().unwrap_or(MOST_PATIENCE);
        let spread = (least / 2).min(4 * self.rtt.rttvar());
        let wait = (least + spread + DOUBT_SLACK).clamp(LEAST_DOUBT, MOST_PATIENCE);
        self.doubt = Some(Doubt { since: now, left: DOUBT_PINGS, verdict_at: now + wait });
        self.next_ping = now;
    }

    /// Nothing was heard of the WAN in answer to a doubt.
    fn judge_doubt(&mut self, now: Time) {
        let Some(doubt) = self.doubt else { return };
        let quiet = self.passive.quiet(now);
        if quiet.is_some_and(|quiet| quiet < SILENT) {
            // Something comes in: if anything is wrong, patience will show it.
            self.end_doubt(now);
        } else if now >= doubt.verdict_at && doubt.left == 0 {
            let heard_tcp = self.last_tcp.is_some_and(|at| at >= doubt.since);
            if quiet.is_none() || heard_tcp {
                // Where nobody looks at the device, the ordinary patience has to do.
                self.end_doubt(now);
            } else if self.has_alternative || quiet >= Some(self.surely_overdue()) {
                self.go_down(now);
            } else if let Some(doubt) = &mut self.doubt {
                doubt.verdict_at = now + DOUBT_INTERVAL;
            }
        }
    }

    fn end_doubt(&mut self, now: Time) {
        self.doubt = None;
        self.no_doubt_before = now + AFTER_DOUBT;
    }

    /// When [`Self::handle_timeout`] is to be called; `None` without a link.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.linked.then(|| {
            let overdue = self.in_flight.front().map(|ping| ping.sent + self.patience());
            let verdict = self.doubt.filter(|doubt| doubt.left == 0).map(|d| d.verdict_at);
            [overdue, verdict].into_iter().flatten().fold(self.next_ping, Time::min)
        })
    }

    /// Lets time pass. Gives the number of a ping to be sent now, if one is due.
    pub fn handle_timeout(&mut self, now: Time) -> Option<u32> {
        if !self.linked {
            return None;
        }
        let patience = self.patience();
        while self.in_flight.front().is_some_and(|ping| now.since(ping.sent) >= patience) {
            let sent = self.in_flight.pop_front().map_or(now, |ping| ping.sent);
            if self.lost_in_a_row == 0 {
                self.lost_since = sent;
            }
            self.lost_in_a_row += 1;
            self.pongs_in_a_row = 0;
            self.count_loss(true);
        }
        let heard_tcp =
            self.last_tcp.is_some_and(|at| at > self.lost_since && now.since(at) < MOST_PATIENCE);
        if self.state == State::Up
            && self.reason == Reason::Answers
            && self.lost_in_a_row >= LOST_IN_A_ROW
            && !heard_tcp
        {
            self.go_down(now);
        }
        self.judge_doubt(now);
        if now < self.next_ping {
            return None;
        }
        self.next_ping = now + self.interval(now);
        if let Some(doubt) = &mut self.doubt {
            doubt.left = doubt.left.saturating_sub(1);
            if doubt.left > 0 {
                self.next_ping = now + DOUBT_INTERVAL;
            } else {
                let least = self.rtt.min().unwrap_or(MOST_PATIENCE).max(DOUBT_INTERVAL);
                doubt.verdict_at = doubt.verdict_at.max(now + least);
            }
        }
        let number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        if self.in_flight.len() == IN_FLIGHT {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back(Ping { number, sent: now });
        Some(number)
    }

    /// The ping could not be sent at all, for a reason that is not the WAN's.
    pub fn withdraw(&mut self, number: u32) {
        self.in_flight.retain(|ping| ping.number != number);
    }

    /// The answer to a ping has come.
    pub fn handle_pong(&mut self, now: Time, number: u32) {
        let Some(place) = self.in_flight.iter().position(|ping| ping.number == number) else {
            return;
        };
        let Some(ping) = self.in_flight.remove(place) else { return };
        let rtt = now.since(ping.sent);
        self.rtt.sample(rtt);
        self.count_loss(false);
        self.passive.heard();
        if self.doubt.take().is_some() {
            self.passive.explained();
            self.no_doubt_before = now + AFTER_DOUBT;
        }
        self.last_pong = Some(now);
        self.lost_in_a_row = 0;
        self.pongs_in_a_row = self.pongs_in_a_row.saturating_add(1);
        match self.state {
            State::Up => self.reason = Reason::Answers,
            State::Probing => self.enter(now, State::Up, Reason::Answers),
            State::Down if self.pongs_in_a_row >= self.pongs_to_return => {
                self.enter(now, State::Up, Reason::Answers);
            }
            State::Down => self.next_ping = self.next_ping.min(now + ACTIVE_INTERVAL),
        }
    }

    /// A lane was connected over this WAN alone, in `rtt`.
    pub fn handle_tcp_connected(&mut self, now: Time, rtt: Duration) {
        if !self.linked {
            return;
        }
        self.last_tcp = Some(now);
        if self.last_pong.is_none() {
            self.rtt.sample(rtt);
        }
        match self.state {
            State::Up => {}
            // UDP has begun to pass again, and a few more answers decide.
            State::Down if self.pongs_in_a_row > 0 => {}
            State::Down | State::Probing => self.enter(now, State::Up, Reason::AnswersTcpOnly),
        }
    }

    /// A lane could not be connected over this WAN.
    pub fn handle_tcp_failed(&mut self, now: Time) {
        // Where UDP answers, a failed connect says more about the server than about the WAN.
        // Only together with silence it says that nobody is there.
        let silent = self.unanswered_for(now) >= self.surely_overdue();
        if self.state == State::Up && (self.reason == Reason::AnswersTcpOnly || silent) {
            self.go_down(now);
        }
    }

    /// For how long pings have gone unanswered.
    fn unanswered_for(&self, now: Time) -> Duration {
        let first = match self.lost_in_a_row {
            0 => self.in_flight.front().map(|ping| ping.sent),
            _ => Some(self.lost_since),
        };
        first.map_or(Duration::ZERO, |first| now.since(first.max(self.last_pong.unwrap_or(first))))
    }

    /// What no answer takes where nothing else is on the way.
    fn surely_overdue(&self) -> Duration {
        let least = self.rtt.min().unwrap_or(MOST_PATIENCE);
        least + least / 2 + LEAST_PATIENCE
    }

    fn go_down(&mut self, now: Time) {
        let flapping = self.went_down.is_some_and(|at| now.since(at) < FLAP_MEMORY);
        self.pongs_to_return = if flapping {
            (self.pongs_to_return * 2).min(MOST_PONGS_TO_RETURN)
        } else {
            PONGS_TO_RETURN
        };
        self.flaps = if flapping { self.flaps.saturating_add(1) } else { 0 };
        self.went_down = Some(now);
        self.pongs_in_a_row = 0;
        self.doubt = None;
        self.passive.forget();
        self.enter(now, State::Down, Reason::Silent);
    }

    fn enter(&mut self, now: Time, state: State, reason: Reason) {
        if self.state != state {
            self.state = state;
            self.since = now;
            // What an outage has swallowed, or the wait for a session, is no loss.
            self.loss_ppm = 0;
        }
        self.reason = reason;
    }

    fn patience(&self) -> Duration {
        let patience = self.rtt.overdue_after(Duration::from_secs(1));
        // In whole units of `Time`, else a timeout would come due a fraction too early, for nothing.
        let patience =
            Duration::from_micros(u64::try_from(patience.as_micros()).unwrap_or(u64::MAX));
        patience.clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    fn interval(&self, now: Time) -> Duration {
        match self.state {
            // Only to see whether UDP passes at last: losing these tells nothing new.
            State::Up if self.reason == Reason::AnswersTcpOnly => {
                if now.since(self.since) > SEARCH_LATE_AFTER {
                    IDLE_INTERVAL
                } else {
                    SEARCH_INTERVAL
                }
            }
            State::Up if self.active || self.lost_in_a_row > 0 => ACTIVE_INTERVAL,
            State::Up if self.spared => SPARED_INTERVAL,
            State::Up => IDLE_INTERVAL,
            _ if self.spared && self.is_late(now) => SPARED_INTERVAL,
            _ if self.is_late(now) => SEARCH_INTERVAL_LATE,
            _ => SEARCH_INTERVAL,
        }
    }

    /// Whether it has been searched for in vain for long.
    fn is_late(&self, now: Time) -> bool {
        now.since(self.since.max(self.linked_at)) > SEARCH_LATE_AFTER
    }

    fn count_loss(&mut self, lost: bool) {
        let share = if lost { 1_000_000 / LOSS_SHARE } else { 0 };
        self.loss_ppm = self.loss_ppm - self.loss_ppm / LOSS_SHARE + share;
    }
}

#[cfg(test)]
#[path = "wan_tests.rs"]
mod tests;
