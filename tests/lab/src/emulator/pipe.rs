//! One direction of a link as a pure machine: packets go in with the time, and come out with the
//! time they are due.
//!
//! A packet passes, in this order: the cut, the tail-drop queue, the line (which takes
//! bits / rate), the loss, then the flight (delay, jitter, reordering, duplication). Loss stands
//! behind the line since a packet spoilt on the air has used its time.
//!
//! Rates are exact: within a busy period the n-th packet leaves when the sum of all bits so far
//! has passed at the rate, with no rounding carried on.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::counters::{Counters, Lateness};
use super::rng::{Rng, mix, unit};
use super::shape::Shape;
use super::time::{Time, bits_in_nanos, nanos_for_bits};

/// One direction of a link. `P` is the packet itself, which the pipe only carries.
#[derive(Debug)]
pub struct Pipe<P> {
    shape: Shape,
    cut: bool,
    rng: Rng,
    jitter_seed: u64,
    bad: bool,
    waiting: VecDeque<Packet<P>>,
    waiting_bytes: u64,
    line: Line,
    flight: BinaryHeap<Flying<P>>,
    last_due: Time,
    sequence: u64,
    counters: Counters,
    lateness: Lateness,
}

/// What comes out of a [`Pipe`].
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery<P> {
    /// When it should have come out: not after the time given to [`Pipe::poll`].
    pub due: Time,
    /// The packet.
    pub packet: P,
}

#[derive(Debug)]
struct Packet<P> {
    len: u32,
    packet: P,
}

/// The line's clock within a busy period.
#[derive(Debug, Default, Clone, Copy)]
struct Line {
    /// When counting began.
    since: Time,
    /// Bits of packets that have left since.
    done: u64,
    /// Bits the packet at the head still needs (all of its own, unless the rate changed midway).
    head: u64,
}

#[derive(Debug)]
struct Flying<P> {
    due: Time,
    sequence: u64,
    len: u32,
    packet: P,
}

impl<P: Clone> Pipe<P> {
    /// A pipe that repeats itself exactly for the same seed and input.
    #[must_use]
    pub fn new(shape: Shape, seed: u64) -> Self {
        Self {
            shape,
            cut: false,
            rng: Rng::new(seed),
            jitter_seed: mix(seed ^ 0x6a69_7474_6572),
            bad: false,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            line: Line::default(),
            flight: BinaryHeap::new(),
            last_due: Time::ZERO,
            sequence: 0,
            counters: Counters::default(),
            lateness: Lateness::default(),
        }
    }

    /// What the pipe is like now.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Totals so far.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How late [`Pipe::poll`] was called for what it gave.
    #[must_use]
    pub const fn lateness(&self) -> &Lateness {
        &self.lateness
    }

    /// Whether the link is cut.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Bytes that wait for the line, the packet on it included.
    #[must_use]
    pub const fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes
    }

    /// Changes what the pipe is like from `now` on. What is on the line goes on at the new rate;
    /// what is in flight arrives as it would have.
    pub fn set_shape(&mut self, now: Time, shape: Shape) {
        self.settle(now);
        if let (Some(old), false) = (self.shape.rate, self.waiting.is_empty()) {
            let passed = now.since(self.line.since).as_nanos();
            let passed =
                bits_in_nanos(u64::try_from(passed).unwrap_or(u64::MAX), old.bits_per_second());
            let left = (self.line.done + self.line.head).saturating_sub(passed).max(1);
            self.line = Line { since: now, done: 0, head: left };
        }
        self.shape = shape;
        self.settle(now);
    }

    /// Cuts the link, which loses all that is under way, or mends it.
    pub fn set_cut(&mut self, now: Time, cut: bool) {
        self.settle(now);
        self.cut = cut;
        if cut {
            self.counters.dropped_cut += (self.waiting.len() + self.flight.len()) as u64;
            self.waiting.clear();
            self.waiting_bytes = 0;
            self.flight.clear();
        }
    }

    /// Counts a packet that a filter in front of the pipe has swallowed.
    pub const fn count_filtered(&mut self, len: u32) {
        self.counters.packets_in += 1;
        self.counters.bytes_in += len as u64;
        self.counters.dropped_filter += 1;
    }

    /// Hands in a packet of `len` IP-level bytes.
    pub fn offer(&mut self, now: Time, len: u32, packet: P) {
        self.counters.packets_in += 1;
        self.counters.bytes_in += u64::from(len);
        if self.cut {
            self.counters.dropped_cut += 1;
            return;
        }
        self.settle(now);
        if self.shape.rate.is_none() {
            self.launch(now, len, packet);
            return;
        }
        // An empty queue takes any packet, else a small bound would stop the link.
        let wanted = self.waiting_bytes + u64::from(len);
        if !self.waiting.is_empty() && self.shape.queue_bytes().is_some_and(|most| wanted > most) {
            self.counters.dropped_queue += 1;
            return;
        }
        if self.waiting.is_empty() {
            self.line = Line { since: now, done: 0, head: u64::from(len) * 8 };
        }
        self.waiting_bytes = wanted;
        self.counters.queue_peak_bytes = self.counters.queue_peak_bytes.max(wanted);
        self.waiting.push_back(Packet { len, packet });
    }

    /// The next packet that is due at `now`, if any. Call until there is none.
    pub fn poll(&mut self, now: Time) -> Option<Delivery<P>> {
        self.settle(now);
        if self.flight.peek()?.due > now {
            return None;
        }
        let flying = self.flight.pop()?;
        self.counters.packets_out += 1;
        self.counters.bytes_out += u64::from(flying.len);
        self.lateness.record(now.since(flying.due));
        Some(Delivery { due: flying.due, packet: flying.packet })
    }

    /// When to call [`Pipe::poll`] next; none: not before another packet comes in.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        let flight = self.flight.peek().map(|flying| flying.due);
        // What is on the line lands behind all in flight, unless packets may overtake.
        let overtakes = self.shape.reordering_jitter || self.shape.reorder.get() > 0.0;
        match (flight, self.line_free_at()) {
            (Some(due), Some(free)) if overtakes => Some(due.min(free)),
            (Some(due), _) => Some(due),
            (None, free) => free,
        }
    }

    /// When the packet at the queue's head has left the line.
    fn line_free_at(&self) -> Option<Time> {
        self.waiting.front()?;
        let Some(rate) = self.shape.rate else { return Some(self.line.since) };
        let nanos = nanos_for_bits(self.line.done + self.line.head, rate.bits_per_second());
        Some(self.line.since + Duration::from_nanos(nanos))
    }

    /// Moves on to the flight what has left the line by `now`.
    fn settle(&mut self, now: Time) {
        while let Some(left) = self.line_free_at().filter(|&left| left <= now) {
            let Some(Packet { len, packet }) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= u64::from(len);
            self.line.done += self.line.head;
            self.line.head = self.waiting.front().map_or(0, |next| u64::from(next.len) * 8);
            self.launch(left, len, packet);
        }
    }

    /// A packet has left the line at `at`: lose it or send it on its way.
    fn launch(&mut self, at: Time, len: u32, packet: P) {
        if self.burst_takes_it() {
            self.counters.dropped_burst += 1;
            return;
        }
        if self.rng.chance(self.shape.loss.get()) {
            self.counters.dropped_loss += 1;
            return;
        }
        let mut due = (at + self.shape.delay).offset(self.jitter_at(at)).max(at);
        let held_back = self.rng.chance(self.shape.reorder.get());
        if held_back {
            self.counters.held_back += 1;
            due = due + self.shape.reorder_by;
        } else if !self.shape.reordering_jitter {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        if self.rng.chance(self.shape.duplicate.get()) {
            self.counters.duplicated += 1;
            self.fly(due, len, packet.clone());
        }
        self.fly(due, len, packet);
    }

    fn fly(&mut self, due: Time, len: u32, packet: P) {
        self.sequence += 1;
        self.flight.push(Flying { due, sequence: self.sequence, len, packet });
    }

    fn burst_takes_it(&mut self) -> bool {
        let Some(burst) = self.shape.burst else { return false };
        let turns = if self.bad { burst.leave } else { burst.enter };
        if self.rng.chance(turns.get()) {
            self.bad = !self.bad;
        }
        self.bad && self.rng.chance(burst.loss.get())
    }

    /// Nanoseconds to add to the delay of what leaves the line at `at`.
    ///
    /// In order: a line through a fresh random value every four jitters, whose slope is at most a
    /// half, so packets draw nearer but never overtake. It depends on the time alone.
    fn jitter_at(&mut self, at: Time) -> i64 {
        let most = u64::try_from(self.shape.jitter.as_nanos()).unwrap_or(u64::MAX);
        if most == 0 {
            return 0;
        }
        let share = if self.shape.reordering_jitter {
            self.rng.unit()
        } else {
            let period = most.saturating_mul(4);
            let (step, into) = (at.as_nanos() / period, at.as_nanos() % period);
            let value = |n: u64| unit(mix(self.jitter_seed ^ n));
            let weight = to_f64(into) / to_f64(period);
            value(step).mul_add(1.0 - weight, value(step + 1) * weight)
        };
        #[expect(clippy::cast_possible_truncation, reason = "jitter is far below 2^63 ns")]
        let nanos = (to_f64(most) * (2.0 * share - 1.0)) as i64;
        nanos
    }
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of jitter fit 53 bits")]
const fn to_f64(value: u64) -> f64 {
    value as f64
}

// A BinaryHeap gives the greatest first: the earliest due, then the first in, is the greatest.
impl<P> Ord for Flying<P> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.due, other.sequence).cmp(&(self.due, self.sequence))
    }
}

impl<P> PartialOrd for Flying<P> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<P> PartialEq for Flying<P> {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}

impl<P> Eq for Flying<P> {}

#[cfg(test)]
#[path = "pipe_tests.rs"]
mod tests;
