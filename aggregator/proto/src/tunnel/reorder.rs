//! The receiver's reorder buffer: each flow's packets come out in order, once.
//!
//! Nothing waits for another flow. A gap is known to be lost once every path has delivered
//! something that was sent later, or should have; then it is waited for only if the sender repairs
//! it, and only as long as a repair takes.

use std::collections::VecDeque;
use std::time::Duration;

use super::flow::SLOTS;
use super::wire::{PacketFrame, Part};
use crate::Time;

/// Packets of one flow that are told apart: what is further back may have come before. At 80,000
/// packets a second (a gigabit), enough for paths whose delays differ by 200 ms.
const WINDOW: u64 = 16_384;
const WORDS: usize = (WINDOW / 64) as usize;
/// A path that has brought packets of a flow for this long or twice as long may bring more: 2²⁰ µs.
const CARRIED_BITS: u32 = 20;
/// Packets of one flow that half have come.
const HALVES: usize = 32;

/// What one path has delivered, as seen by the receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct PathProgress {
    /// Its number's bit.
    pub bit: u16,
    /// It lately brought packets of flows that use several paths.
    pub spread: bool,
    /// The latest send stamp that came over it.
    pub latest: u32,
    /// A packet stamped `s` has arrived over it by `s + bound` (µs, modulo 2³²), or is lost.
    pub bound: u32,
}

/// How a packet came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub now: Time,
    /// The bit of its path's number.
    pub path: u16,
    /// When it was sent.
    pub stamp: u32,
}

/// What the receiver knows when it looks at gaps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress<'a> {
    pub paths: &'a [PathProgress],
    /// How long a repair takes once the loss can be known.
    pub repair: Duration,
}

#[derive(Debug)]
struct Held {
    packet: Vec<u8>,
    stamp: u32,
    repaired: bool,
}

#[derive(Debug)]
struct Slot {
    /// The first sequence that has neither come nor been given up.
    next: u64,
    /// One more than the highest sequence that has come.
    top: u64,
    /// From `next` on; the first is always missing.
    held: VecDeque<Option<Held>>,
    seen: [u64; WORDS],
    /// The paths that brought its packets in this span and in the one before, as bits; which span.
    carried: [u16; 2],
    span: u64,
    /// Known to be lost since.
    lost_at: Option<Time>,
    /// Halves of packets, first or second, whose other half has not come.
    halves: VecDeque<(u64, Part, Vec<u8>)>,
    listed: bool,
}

/// The reorder buffers of all flows.
#[derive(Debug)]
pub(super) struct Reorder {
    slots: Vec<Option<Box<Slot>>>,
    /// Slots with a gap.
    waiting: Vec<u16>,
    bytes: usize,
    limit: usize,
    /// Packets that came twice, and packets that came too late for their place.
    pub duplicates: u64,
    pub late: u64,
    pub given_up: u64,
}

impl Reorder {
    /// Holds at most `limit` bytes back.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| None).collect(),
            waiting: Vec::new(),
            bytes: 0,
            limit,
            duplicates: 0,
            late: 0,
            given_up: 0,
        }
    }

    /// Takes a packet; `buffer` gives an empty buffer, `deliver` takes what is in order now.
    pub(super) fn take(
        &mut self,
        frame: &PacketFrame<'_>,
        arrival: Arrival,
        mut buffer: impl FnMut() -> Vec<u8>,
        mut deliver: impl FnMut(Vec<u8>),
    ) {
        let Some(place) = self.slots.get_mut(usize::from(frame.slot)) else { return };
        let slot = place.get_or_insert_with(|| {
            Box::new(Slot {
                next: 0,
                top: 0,
                held: VecDeque::new(),
                seen: [0; WORDS],
                carried: [0; 2],
                span: 0,
                lost_at: None,
                halves: VecDeque::new(),
                listed: false,
            })
        });
        slot.note_path(arrival);
        let Some(sequence) = slot.expand(frame.sequence) else {
            self.late += 1;
            return;
        };
        if frame.flags.part == Part::Whole && slot.is_seen(sequence) {
            self.duplicates += 1;
            return;
        }
        let packet = match slot.join(sequence, frame, &mut buffer) {
            Joined::Whole(packet) => packet,
            Joined::Half => return,
            Joined::Duplicate => {
                self.duplicates += 1;
                return;
            }
        };
        slot.mark(sequence);
        while sequence >= slot.next + WINDOW {
            // Far ahead: what was waited for longest is not coming.
            self.bytes -= slot.skip_gap(&mut deliver);
            if slot.held.is_empty() {
                slot.next = slot.next.max(sequence + 1 - WINDOW);
            }
        }
        if sequence < slot.next {
            self.late += 1;
            deliver(packet);
            return;
        }
        if sequence == slot.next {
            deliver(packet);
            slot.next += 1;
            slot.held.pop_front();
            self.bytes -= slot.release(&mut deliver);
            return;
        }
        if !frame.flags.ordered && slot.held.iter().all(Option::is_none) {
            // Nothing is held back, so nothing is waited for: what was passed over may still come.
            slot.next = sequence + 1;
            slot.held.clear();
            deliver(packet);
            return;
        }
        let at = (sequence - slot.next) as usize;
        if slot.held.len() <= at {
            slot.held.resize_with(at + 1, || None);
        }
        if frame.flags.ordered {
            self.bytes += packet.len();
            slot.held[at] =
                Some(Held { packet, stamp: arrival.stamp, repaired: frame.flags.repaired });
            if !slot.listed {
                slot.listed = true;
                self.waiting.push(frame.slot);
            }
        } else {
            // Its place is taken: `release` passes over what is seen.
            deliver(packet);
        }
        while self.bytes > self.limit {
            let Some(index) = self.waiting.first().copied() else { break };
            self.waiting.remove(0);
            if let Some(slot) = &mut self.slots[usize::from(index)] {
                slot.listed = false;
                self.bytes -= slot.flush(&mut deliver);
            }
            self.given_up += 1;
        }
    }

    /// Looks at every gap: delivers what need not wait any more. When to look again.
    pub(super) fn advance(
        &mut self,
        now: Time,
        progress: &Progress<'_>,
        mut deliver: impl FnMut(Vec<u8>),
    ) -> Option<Time> {
        let mut again: Option<Time> = None;
        let mut index = 0;
        while index < self.waiting.len() {
            let number = self.waiting[index];
            let Some(slot) = &mut self.slots[usize::from(number)] else {
                self.waiting.swap_remove(index);
                continue;
            };
            let at = loop {
                let Some(at) = slot.gap_over_at(now, progress) else { break None };
                if at > now {
                    break Some(at);
                }
                self.given_up += 1;
                self.bytes -= slot.skip_gap(&mut deliver);
            };
            match at {
                None => {
                    slot.listed = false;
                    self.waiting.swap_remove(index);
                }
                Some(at) => {
                    again = Some(again.map_or(at, |again| again.min(at)));
                    index += 1;
                }
            }
        }
        again
    }

    /// Whether anything of this flow is held back.
    pub(super) fn is_holding(&self, slot: u16) -> bool {
        let slot = self.slots.get(usize::from(slot)).and_then(Option::as_ref);
        slot.is_some_and(|slot| !slot.held.is_empty())
    }

    /// Whether anything is held back.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Bytes held back.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

enum Joined {
    Whole(Vec<u8>),
    Half,
    Duplicate,
}

impl Slot {
    fn note_path(&mut self, arrival: Arrival) {
        let span = arrival.now.as_micros() >> CARRIED_BITS;
        if span != self.span {
            let before = if span == self.span + 1 { self.carried[0] } else { 0 };
            (self.carried, self.span) = ([0, before], span);
        }
        self.carried[0] |= arrival.path;
    }

    /// The whole sequence whose low 24 bits these are; `None` if it is too far back.
    fn expand(&self, low: u32) -> Option<u64> {
        let ahead = u64::from(low.wrapping_sub(self.top as u32) & 0x00ff_ffff);
        if ahead < 1 << 23 {
            return Some(self.top + ahead);
        }
        let back = (1 << 24) - ahead;
        if back >= WINDOW { None } else { self.top.checked_sub(back) }
    }

    fn is_seen(&self, sequence: u64) -> bool {
        sequence < self.top
            && self.seen[(sequence % WINDOW / 64) as usize] & (1 << (sequence % 64)) != 0
    }

    fn mark(&mut self, sequence: u64) {
        // Places that come into the window for the first time were not seen.
        if sequence >= self.top + WINDOW {
            self.seen = [0; WORDS];
        } else {
            for new in self.top..=sequence {
                self.seen[(new % WINDOW / 64) as usize] &= !(1 << (new % 64));
            }
        }
        self.top = self.top.max(sequence + 1);
        self.seen[(sequence % WINDOW / 64) as usize] |= 1 << (sequence % 64);
    }

    fn join(
        &mut self,
        sequence: u64,
        frame: &PacketFrame<'_>,
        buffer: &mut impl FnMut() -> Vec<u8>,
    ) -> Joined {
        if frame.flags.part == Part::Whole {
            let mut packet = buffer();
            packet.extend_from_slice(frame.bytes);
            return Joined::Whole(packet);
        }
        if self.is_seen(sequence) {
            return Joined::Duplicate;
        }
        let mut packet = buffer();
        let other = self
            .halves
            .iter()
            .position(|&(of, part, _)| of == sequence && part != frame.flags.part)
            .and_then(|at| self.halves.remove(at));
        let Some((_, part, bytes)) = other else {
            if self.halves.len() >= HALVES {
                self.halves.pop_front();
            }
            packet.extend_from_slice(frame.bytes);
            self.halves.push_back((sequence, frame.flags.part, packet));
            return Joined::Half;
        };
        let (first, second) =
            if part == Part::First { (&bytes[..], frame.bytes) } else { (frame.bytes, &bytes[..]) };
        packet.extend_from_slice(first);
        packet.extend_from_slice(second);
        Joined::Whole(packet)
    }

    /// Delivers what follows without a gap. Bytes no longer held.
    fn release(&mut self, deliver: &mut impl FnMut(Vec<u8>)) -> usize {
        let mut bytes = 0;
        while !self.held.is_empty() {
            let seen = self.is_seen(self.next);
            match self.held.pop_front().flatten() {
                Some(held) => {
                    bytes += held.packet.len();
                    deliver(held.packet);
                }
                None if seen => {}
                None => {
                    self.held.push_front(None);
                    break;
                }
            }
            self.next += 1;
        }
        self.lost_at = None;
        bytes
    }

    /// Gives up what is missing at the front.
    fn skip_gap(&mut self, deliver: &mut impl FnMut(Vec<u8>)) -> usize {
        while self.held.front().is_some_and(Option::is_none) && !self.is_seen(self.next) {
            self.held.pop_front();
            self.next += 1;
        }
        self.release(deliver)
    }

    /// Delivers everything held, and gives up the gaps.
    fn flush(&mut self, deliver: &mut impl FnMut(Vec<u8>)) -> usize {
        let mut bytes = 0;
        while let Some(held) = self.held.pop_front() {
            self.next += 1;
            if let Some(held) = held {
                bytes += held.packet.len();
                deliver(held.packet);
            }
        }
        self.lost_at = None;
        bytes
    }

    /// When the first gap is to be given up. `None` without a gap in front of anything.
    fn gap_over_at(&mut self, now: Time, progress: &Progress<'_>) -> Option<Time> {
        let first = self.held.iter().flatten().next()?;
        if self.lost_at.is_none() {
            let clock = now.as_micros() as u32;
            let carried = self.carried[0] | self.carried[1];
            let mut wait = 0;
            for path in progress.paths {
                // What is missing is not coming over a path that brings no such packets.
                if !path.spread && carried & path.bit == 0 {
                    continue;
                }
                if path.latest.wrapping_sub(first.stamp) as i32 >= 0 {
                    continue;
                }
                let left = first.stamp.wrapping_add(path.bound).wrapping_sub(clock) as i32;
                wait = wait.max(left);
            }
            // Beyond any skew worth waiting for: the clocks have gone astray.
            let wait = u64::try_from(wait).unwrap_or(0).min(1_000_000);
            if wait > 0 {
                return Some(now + Duration::from_micros(wait));
            }
            self.lost_at = Some(now);
        }
        let lost_at = self.lost_at?;
        Some(if first.repaired { lost_at + progress.repair } else { lost_at })
    }
}

#[cfg(test)]
#[path = "reorder_tests.rs"]
mod tests;
