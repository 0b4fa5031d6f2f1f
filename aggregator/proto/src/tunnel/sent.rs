//! What one path has sent and not heard of yet.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// A lost datagram is remembered this long, to learn that it was only late.
const LATE: Duration = Duration::from_millis(500);
/// Datagrams that overtook others are remembered this long.
const REORDERING_MEMORY: Duration = Duration::from_secs(2);
/// A delivery rate over less time than this, in µs, says nothing: datagrams travel in batches.
const LEAST_INTERVAL: u64 = 200;

/// How a datagram fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    InFlight,
    /// It carries nothing that wants an answer, but an acknowledgement may tell when it came.
    Silent,
    Acked,
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Time,
    fate: Fate,
    size: u16,
    items: u16,
    app_limited: bool,
    /// Its loss says nothing of the path.
    is_trial: bool,
    /// Where its items begin, counted from the first ever.
    items_from: u64,
    /// Of the path, when this was sent: bytes delivered, when the receiver had them (its clock),
    /// and when the first datagram of that stretch was sent.
    delivered: u64,
    delivered_at: i64,
    stretch_from: Time,
}

/// What an acknowledgement brought.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acked {
    /// When the largest was sent, and its size on the wire, if that one's times are news.
    pub timed: Option<(Time, u16)>,
    /// Bytes per second over the time that the newest counted one was on its way.
    pub rate: Option<u64>,
    pub app_limited: bool,
    pub delivered_before: u64,
    /// The size on the wire of the largest that arrived.
    pub largest_size: u16,
}

/// Datagrams in flight on one path, with the items `I` they carried.
#[derive(Debug)]
pub(super) struct SentLog<I> {
    log: VecDeque<Sent>,
    /// The number of the first in `log`.
    base: u64,
    items: VecDeque<I>,
    /// The number of the first in `items`.
    items_base: u64,
    /// No datagram before this number is in flight.
    first_in_flight: u64,
    in_flight: u64,
    delivered: u64,
    delivered_at: i64,
    stretch_from: Time,
    /// Datagrams lost, and acknowledged.
    lost: u64,
    came: u64,
    /// Until more than this many bytes are delivered, samples come from a time of too little to send.
    app_limited_until: u64,
    largest_acked: Option<u64>,
    /// Datagrams within this many of the largest, or this short before it, may only be late.
    reordering: u64,
    reordering_time: Duration,
    /// When it was last more or less.
    reordering_at: Time,
}

impl<I: Copy> SentLog<I> {
    pub(super) fn new() -> Self {
        Self {
            log: VecDeque::new(),
            base: 0,
            items: VecDeque::new(),
            items_base: 0,
            first_in_flight: 0,
            in_flight: 0,
            delivered: 0,
            delivered_at: 0,
            stretch_from: Time::ZERO,
            lost: 0,
            came: 0,
            app_limited_until: 0,
            largest_acked: None,
            reordering: 1,
            reordering_time: Duration::ZERO,
            reordering_at: Time::ZERO,
        }
    }

    /// The next datagram's number.
    pub(super) fn next_number(&self) -> u64 {
        self.base + self.log.len() as u64
    }

    /// Bytes on their way.
    pub(super) const fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Bytes that have arrived, ever.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Datagrams lost and acknowledged, ever.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.lost, self.came)
    }

    /// Notes a datagram of `size` bytes on the wire. If it `counts`, it will be acknowledged or is
    /// lost. `is_trial`: it may well be too large for the path.
    pub(super) fn push(
        &mut self,
        now: Time,
        size: u16,
        counts: bool,
        is_trial: bool,
        items: impl IntoIterator<Item = I>,
    ) {
        if self.in_flight == 0 {
            self.stretch_from = now;
        }
        let before = self.items.len();
        self.items.extend(items);
        let count = u16::try_from(self.items.len() - before).unwrap_or(u16::MAX);
        if counts {
            self.in_flight += u64::from(size);
        }
        self.log.push_back(Sent {
            at: now,
            fate: if counts { Fate::InFlight } else { Fate::Silent },
            size,
            items: count,
            is_trial,
            items_from: self.items_base + before as u64,
            app_limited: self.delivered <= self.app_limited_until,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            stretch_from: self.stretch_from,
        });
        self.shrink(now);
    }

    /// The sender has nothing more to send, though it might.
    pub(super) fn set_app_limited(&mut self) {
        self.app_limited_until = self.delivered + self.in_flight;
    }

    /// When the oldest datagram that wants an answer was sent.
    pub(super) fn oldest(&self) -> Option<Time> {
        if self.in_flight == 0 {
            return None;
        }
        let from = (self.first_in_flight.max(self.base) - self.base) as usize;
        self.log
            .range(from..)
            .find(|sent| sent.fate == Fate::InFlight && !sent.is_trial)
            .map(|sent| sent.at)
    }

    /// The full number of which `low` is the low half, near those that were sent.
    pub(super) fn expand(&self, low: u32) -> Option<u64> {
        let last = self.next_number().checked_sub(1)?;
        last.checked_sub(u64::from((last as u32).wrapping_sub(low)))
    }

    /// Takes an acknowledgement; `received_at` is when its largest came, in the receiver's clock,
    /// µs. Calls `acked` for each item that has arrived.
    pub(super) fn on_ack(
        &mut self,
        now: Time,
        largest: u64,
        received_at: i64,
        ranges: impl Iterator<Item = (u64, u64)>,
        mut acked: impl FnMut(I),
    ) -> Option<Acked> {
        if largest >= self.next_number() {
            return None;
        }
        // Its times say something only once.
        let is_newer = self.largest_acked.is_none_or(|last| largest > last);
        let timed =
            largest.checked_sub(self.base).and_then(|at| self.log.get(at as usize).copied());
        let timed = timed.filter(|_| is_newer);
        let mut bytes = 0;
        let mut largest_size = 0;
        let mut newest: Option<(u64, Sent)> = None;
        let mut spurious = false;
        for (low, high) in ranges {
            if high < self.base {
                break;
            }
            for number in low.max(self.base)..=high {
                let sent = &mut self.log[(number - self.base) as usize];
                match sent.fate {
                    Fate::Acked => continue,
                    Fate::Silent => {
                        sent.fate = Fate::Acked;
                        continue;
                    }
                    Fate::InFlight => self.in_flight -= u64::from(sent.size),
                    Fate::Lost => {
                        spurious = true;
                        self.lost = self.lost.saturating_sub(1);
                        let by = self.largest_acked.map_or(0, |l| l.saturating_sub(number));
                        self.reordering = self.reordering.max(by + 1).min(512);
                    }
                }
                sent.fate = Fate::Acked;
                self.came += 1;
                bytes += u64::from(sent.size);
                largest_size = largest_size.max(sent.size);
                if newest.is_none_or(|(n, _)| number > n) {
                    newest = Some((number, *sent));
                }
                let from = (sent.items_from - self.items_base) as usize;
                for item in self.items.range(from..from + usize::from(sent.items)) {
                    acked(*item);
                }
            }
        }
        self.largest_acked = Some(self.largest_acked.map_or(largest, |l| l.max(largest)));
        let Some((_, sent)) = newest else {
            self.shrink(now);
            return None;
        };
        if spurious {
            self.reordering_time = now.since(sent.at) / 8;
            self.reordering_at = now;
        } else if now.since(self.reordering_at) > REORDERING_MEMORY {
            self.reordering = (self.reordering / 2).max(1);
            self.reordering_time /= 2;
            self.reordering_at = now;
        }
        self.delivered += bytes;
        let mut rate = None;
        if timed.is_some() {
            let sending = now_minus(sent.at, sent.stretch_from);
            let receiving = received_at.saturating_sub(sent.delivered_at);
            let interval = u64::try_from(receiving).unwrap_or(0).max(sending);
            if sent.delivered_at != 0 && interval >= LEAST_INTERVAL {
                rate = Some((self.delivered - sent.delivered).saturating_mul(1_000_000) / interval);
            }
            self.delivered_at = received_at;
            self.stretch_from = sent.at;
        }
        self.shrink(now);
        Some(Acked {
            timed: timed.map(|timed| (timed.at, timed.size)),
            rate,
            app_limited: sent.app_limited,
            delivered_before: sent.delivered,
            largest_size,
        })
    }

    /// Declares lost what others have overtaken by far enough, in number or by a round trip. Calls
    /// `lost` for its items. How many were of more than `large` bytes on the wire and no trials.
    pub(super) fn find_lost(
        &mut self,
        now: Time,
        srtt: Duration,
        large: u16,
        mut lost: impl FnMut(I),
    ) -> u32 {
        let Some(largest) = self.largest_acked else { return 0 };
        let Some(end) = largest.checked_sub(1) else { return 0 };
        if end < self.base || self.in_flight == 0 {
            return 0;
        }
        let newest = self.log.get((largest.max(self.base) - self.base) as usize).map(|s| s.at);
        let long = srtt.max(2 * self.reordering_time);
        let mut count = 0;
        let mut open = true;
        for number in self.first_in_flight.max(self.base)..=end {
            let Some(sent) = self.log.get_mut((number - self.base) as usize) else { break };
            if sent.fate == Fate::InFlight {
                let before = newest.map_or(long, |newest| newest.since(sent.at));
                let is_far = number + self.reordering <= largest;
                if before < self.reordering_time || (!is_far && before < long) {
                    open = false;
                    continue;
                }
                sent.fate = Fate::Lost;
                self.in_flight -= u64::from(sent.size);
                self.lost += 1;
                count += u32::from(sent.size > large && !sent.is_trial);
                let from = (sent.items_from - self.items_base) as usize;
                for item in self.items.range(from..from + usize::from(sent.items)) {
                    lost(*item);
                }
            }
            if open {
                self.first_in_flight = number + 1;
            }
        }
        self.shrink(now);
        count
    }

    /// Gives every item that is on its way: the path has become silent.
    pub(super) fn each_in_flight(&self, mut each: impl FnMut(I)) {
        for sent in self.log.iter().filter(|sent| sent.fate == Fate::InFlight) {
            let from = (sent.items_from - self.items_base) as usize;
            for item in self.items.range(from..from + usize::from(sent.items)) {
                each(*item);
            }
        }
    }

    /// Gives up on everything in flight: calls `lost` for its items.
    pub(super) fn lose_all(&mut self, mut lost: impl FnMut(I)) {
        self.each_in_flight(&mut lost);
        for sent in &mut self.log {
            if sent.fate == Fate::InFlight {
                sent.fate = Fate::Lost;
                self.lost += 1;
            }
        }
        self.in_flight = 0;
        self.first_in_flight = self.next_number();
    }

    fn shrink(&mut self, now: Time) {
        while let Some(sent) = self.log.front() {
            let done = match sent.fate {
                Fate::InFlight => false,
                Fate::Acked => true,
                Fate::Silent => {
                    self.largest_acked.is_some_and(|largest| largest >= self.base)
                        || now.since(sent.at) > LATE
                }
                Fate::Lost => now.since(sent.at) > LATE,
            };
            if !done {
                break;
            }
            self.items.drain(..usize::from(sent.items));
            self.items_base += u64::from(sent.items);
            self.log.pop_front();
            self.base += 1;
        }
    }
}

fn now_minus(later: Time, earlier: Time) -> u64 {
    later.as_micros().saturating_sub(earlier.as_micros())
}
