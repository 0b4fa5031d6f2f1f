//! Where packets wait to be sent: a queue per flow, served in turn (DRR), each kept short (CoDel).
//!
//! As in FQ-CoDel (RFC 8290), flows that have just begun to have something to send go first, so
//! what is small never waits behind what is bulk. CoDel (RFC 8289) tells the senders in time.

use std::collections::VecDeque;
use std::time::Duration;

use super::flow::{Kind, PacketInfo, SLOTS, mark_congestion};
use crate::Time;

/// What a flow may send in its turn, bytes.
const QUANTUM: i32 = 1514;
/// How long packets of a flow may wait on end. RFC 8289 has 5 ms; more here, since a flow over
/// unlike paths needs some to fill both, and no other flow waits behind it.
const TARGET: Duration = Duration::from_millis(25);
/// … and as long as the paths need for so many bytes: on slow paths, few packets are no queue.
const TARGET_BYTES: u64 = 6000;
/// What has waited longer is of no use to anybody, and a sender that does not slow down would
/// otherwise fill the queue for good.
const OLDEST: Duration = Duration::from_millis(1_500);
const MOST_DELAY: Duration = Duration::from_millis(100);
/// A path that has gone may come back within this time: senders that were slowed down to do without it
/// would take longer to fill it than it was away.
const PATH_MEMORY: Duration = Duration::from_secs(30);
/// After so many were dropped at once, a sender is given this long to slow down.
const SLOWED: Duration = Duration::from_millis(400);
const INTERVAL: Duration = Duration::from_millis(100);
/// A flow's rate is counted in spans of this length.
const SPAN: Duration = Duration::from_millis(250);
/// A flow of fewer bytes per span is small: a call, a game, DNS, a shell.
const SMALL: u32 = 12_000;
/// Of a small flow, packets up to this size are worth sending twice, and larger ones only while it has
/// brought this little: bulk on a slow line is small too.
const SMALL_PACKET: usize = 800;
const FEW: u32 = 3_000;
/// A flow that needed several paths is taken to need them for this long.
const SPREAD_FOR: Duration = Duration::from_millis(500);
/// … and its packets are put in order for so much longer: the last over the slower path are still on
/// their way when it uses only one again.
const ORDERED_FOR: Duration = Duration::from_millis(1000);

#[derive(Debug)]
struct Waiting {
    packet: Vec<u8>,
    at: Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    New,
    Old,
}

#[derive(Debug)]
struct Flow {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    deficit: i32,
    list: List,
    kind: Kind,
    sequence: u32,
    span: Time,
    span_bytes: u32,
    span_before: u32,
    spread_until: Time,
    ordered_until: Time,
    // CoDel's state, named as in RFC 8289.
    first_above: Option<Time>,
    drop_next: Time,
    count: u32,
    last_count: u32,
    dropping: bool,
}

impl Flow {
    const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            deficit: 0,
            list: List::None,
            kind: Kind::Other,
            sequence: 0,
            span: Time::ZERO,
            span_bytes: 0,
            span_before: 0,
            spread_until: Time::ZERO,
            ordered_until: Time::ZERO,
            first_above: None,
            drop_next: Time::ZERO,
            count: 0,
            last_count: 0,
            dropping: false,
        }
    }

    fn count(&mut self, now: Time, bytes: usize) {
        let passed = now.since(self.span);
        if passed >= SPAN {
            self.span_before = if passed >= 2 * SPAN { 0 } else { self.span_bytes };
            self.span_bytes = 0;
            self.span = now;
        }
        self.span_bytes = self.span_bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    fn is_small(&self) -> bool {
        self.span_bytes.max(self.span_before) <= SMALL
    }

    /// Bytes per second of late.
    fn rate(&self) -> u64 {
        const SPANS: u64 = 1_000_000 / SPAN.as_micros() as u64;
        u64::from(self.span_bytes.max(self.span_before)) * SPANS
    }

    /// It has much waiting, and slows down when it loses some.
    fn yields(&self) -> bool {
        self.kind.waits_for_repair() && self.waiting.len() > 1 && !self.is_small()
    }

    fn is_precious(&self, packet: usize) -> bool {
        let most = if packet <= SMALL_PACKET { SMALL } else { FEW };
        self.span_bytes.max(self.span_before) <= most
    }
}

/// What a flow looks like to who decides whether it may go over a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlowView {
    /// How long its first packet has waited.
    pub waited: Duration,
    /// It needed more than one path lately.
    pub spread: bool,
    pub small: bool,
}

/// Whether a packet may go over the path in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    No,
    Yes,
    /// Yes, and for a while.
    Spread,
}

/// A packet taken out of the queue.
#[derive(Debug)]
pub(super) struct Taken {
    pub packet: Vec<u8>,
    pub slot: u16,
    pub sequence: u32,
    pub kind: Kind,
    /// Worth sending twice.
    pub precious: bool,
    /// Others of its flow are on their way over other paths.
    pub ordered: bool,
    /// Bytes per second of its flow.
    pub rate: u64,
}

/// The entry of the tunnel.
#[derive(Debug)]
pub(super) struct EntryQueue {
    flows: Vec<Flow>,
    new: VecDeque<u16>,
    old: VecDeque<u16>,
    bytes: usize,
    limit: usize,
    target: Duration,
    /// The greatest skew told of late, and when.
    skew: Duration,
    skew_at: Time,
    /// Packets dropped or marked to keep queues short.
    pub dropped: u64,
    pub marked: u64,
}

impl EntryQueue {
    /// An empty queue that holds at most `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            flows: (0..SLOTS).map(|_| Flow::new()).collect(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            bytes: 0,
            limit,
            target: TARGET,
            skew: Duration::ZERO,
            skew_at: Time::ZERO,
            dropped: 0,
            marked: 0,
        }
    }

    /// Tells the rate of all paths together, bytes per second, and how much longer flows over all of
    /// them wait to be put in order than over the best alone: for the slowest, and for repairs.
    pub(super) fn set_paths(&mut self, now: Time, rate: u64, skew: Duration, repair: Duration) {
        // At that much, rates are not known yet, or the path is a strange one.
        let is_usual = skew < MOST_DELAY;
        if (skew >= self.skew && is_usual) || now.since(self.skew_at) > PATH_MEMORY {
            self.skew = skew.min(MOST_DELAY);
            self.skew_at = now;
        }
        let line = Duration::from_micros(TARGET_BYTES * 1_000_000 / rate.max(10_000));
        self.target = TARGET + line + (self.skew.max(skew) + repair).min(MOST_DELAY);
    }

    /// Bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a packet; gives back those that had to make room.
    pub(super) fn push(
        &mut self,
        now: Time,
        info: PacketInfo,
        packet: Vec<u8>,
        mut dropped: impl FnMut(Vec<u8>),
    ) {
        let flow = &mut self.flows[usize::from(info.slot)];
        let length = packet.len();
        flow.kind = info.kind;
        flow.count(now, length);
        flow.bytes += length;
        self.bytes += length;
        flow.waiting.push_back(Waiting { packet, at: now });
        if flow.list == List::None {
            flow.list = List::New;
            flow.deficit = QUANTUM;
            self.new.push_back(info.slot);
        }
        while self.bytes > self.limit {
            let Some(packet) = self.drop_from_fattest() else { break };
            dropped(packet);
        }
    }

    /// The flow with most bytes pays (RFC 8290 §4.1.2), with its oldest.
    fn drop_from_fattest(&mut self) -> Option<Vec<u8>> {
        let listed = self.new.iter().chain(&self.old);
        let fattest = *listed.max_by_key(|&&slot| self.flows[usize::from(slot)].bytes)?;
        let flow = &mut self.flows[usize::from(fattest)];
        let waiting = flow.waiting.pop_front()?;
        flow.bytes -= waiting.packet.len();
        self.bytes -= waiting.packet.len();
        self.dropped += 1;
        Some(waiting.packet)
    }

    /// A path that carried much has gone, and what waits was meant for its rate too. Drops, newest first,
    /// what senders that slow down for a loss have behind what the others carry within a quarter of the
    /// target: dropped later, one by one, each would be sent again behind all the rest.
    pub(super) fn shed(&mut self, now: Time, rate: u64, mut dropped: impl FnMut(Vec<u8>)) {
        let micros = self.target.as_micros() as u64 / 4;
        let keep = usize::try_from(rate.saturating_mul(micros) / 1_000_000).unwrap_or(usize::MAX);
        let bytes = |flows: &[Flow], slot: u16| flows[usize::from(slot)].bytes;
        let listed = self.new.iter().chain(&self.old).copied();
        let mut yielding: Vec<u16> =
            listed.filter(|&slot| self.flows[usize::from(slot)].yields()).collect();
        let mut left: usize = yielding.iter().map(|&slot| bytes(&self.flows, slot)).sum();
        while left > keep {
            yielding.retain(|&slot| self.flows[usize::from(slot)].waiting.len() > 1);
            let fattest = yielding.iter().copied().max_by_key(|&slot| bytes(&self.flows, slot));
            let Some(slot) = fattest else { return };
            let flow = self.flow(slot);
            let Some(waiting) = flow.waiting.pop_back() else { return };
            left -= waiting.packet.len();
            flow.bytes -= waiting.packet.len();
            (flow.dropping, flow.first_above) = (false, Some(now + SLOWED));
            self.bytes -= waiting.packet.len();
            self.dropped += 1;
            dropped(waiting.packet);
        }
    }

    /// Takes the next packet of at most `room` bytes whose flow `may` go. Packets that CoDel drops
    /// go to `dropped`.
    pub(super) fn pop(
        &mut self,
        now: Time,
        room: usize,
        mut may: impl FnMut(&FlowView) -> Leave,
        mut dropped: impl FnMut(Vec<u8>),
    ) -> Option<Taken> {
        // Each listed flow is looked at once or, where its turn was over, twice.
        let mut looks = 2 * (self.new.len() + self.old.len()).min(64);
        let (mut new_at, mut old_at) = (0, 0);
        while looks > 0 {
            looks -= 1;
            let from_new = new_at < self.new.len();
            let slot = if from_new { self.new[new_at] } else { *self.old.get(old_at)? };
            let flow = &mut self.flows[usize::from(slot)];
            while flow.waiting.len() > 1
                && flow.waiting.front().is_some_and(|first| now.since(first.at) > OLDEST)
                && let Some(old) = flow.waiting.pop_front()
            {
                flow.bytes -= old.packet.len();
                self.bytes -= old.packet.len();
                self.dropped += 1;
                dropped(old.packet);
            }
            let Some(first) = flow.waiting.front() else {
                // An emptied new flow goes through the old list once, so that it can't stay new.
                if from_new {
                    self.new.remove(new_at);
                    flow.list = List::Old;
                    self.old.push_back(slot);
                } else {
                    self.old.remove(old_at);
                    flow.list = List::None;
                }
                continue;
            };
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM;
                if from_new {
                    self.new.remove(new_at);
                } else {
                    self.old.remove(old_at);
                }
                flow.list = List::Old;
                self.old.push_back(slot);
                continue;
            }
            let view = FlowView {
                waited: now.since(first.at),
                spread: now < flow.spread_until,
                small: flow.is_small(),
            };
            let leave = if first.packet.len() > room { Leave::No } else { may(&view) };
            if leave == Leave::No {
                if from_new {
                    new_at += 1;
                } else {
                    old_at += 1;
                }
                continue;
            }
            if leave == Leave::Spread {
                flow.spread_until = now + SPREAD_FOR;
                flow.ordered_until = now + ORDERED_FOR;
            }
            let Some(packet) = self.take_codel(now, slot, &mut dropped) else { continue };
            let flow = &mut self.flows[usize::from(slot)];
            let length = packet.len();
            flow.deficit -= i32::try_from(length).unwrap_or(QUANTUM);
            let sequence = flow.sequence;
            flow.sequence = (flow.sequence + 1) & 0x00ff_ffff;
            return Some(Taken {
                packet,
                slot,
                sequence,
                kind: flow.kind,
                precious: flow.is_precious(length),
                ordered: now < flow.ordered_until,
                rate: flow.rate(),
            });
        }
        None
    }

    fn take_front(&mut self, slot: u16) -> Option<Waiting> {
        let flow = &mut self.flows[usize::from(slot)];
        let waiting = flow.waiting.pop_front()?;
        flow.bytes -= waiting.packet.len();
        self.bytes -= waiting.packet.len();
        Some(waiting)
    }

    /// RFC 8289 §5.3 to §5.5.
    fn take_codel(
        &mut self,
        now: Time,
        slot: u16,
        dropped: &mut impl FnMut(Vec<u8>),
    ) -> Option<Vec<u8>> {
        let mut waiting = self.take_front(slot)?;
        let mut late = self.is_late(now, slot, &waiting);
        if self.flow(slot).dropping {
            if !late {
                self.flow(slot).dropping = false;
            }
            while self.flow(slot).dropping && now >= self.flow(slot).drop_next {
                let flow = self.flow(slot);
                flow.count += 1;
                flow.drop_next += control_law(flow.count);
                if mark_congestion(&mut waiting.packet) {
                    self.marked += 1;
                    break;
                }
                self.dropped += 1;
                dropped(waiting.packet);
                waiting = self.take_front(slot)?;
                late = self.is_late(now, slot, &waiting);
                if !late {
                    self.flow(slot).dropping = false;
                }
            }
        } else if late {
            let flow = self.flow(slot);
            let delta = flow.count.saturating_sub(flow.last_count);
            flow.dropping = true;
            let recently = now.since(flow.drop_next) < 16 * INTERVAL;
            flow.count = if delta > 1 && recently { delta } else { 1 };
            flow.drop_next = now + control_law(flow.count);
            flow.last_count = flow.count;
            if mark_congestion(&mut waiting.packet) {
                self.marked += 1;
            } else {
                self.dropped += 1;
                dropped(waiting.packet);
                waiting = self.take_front(slot)?;
                self.is_late(now, slot, &waiting);
            }
        }
        Some(waiting.packet)
    }

    fn flow(&mut self, slot: u16) -> &mut Flow {
        &mut self.flows[usize::from(slot)]
    }

    fn is_late(&mut self, now: Time, slot: u16, waiting: &Waiting) -> bool {
        let target = self.target;
        let flow = self.flow(slot);
        if now.since(waiting.at) < target || flow.bytes <= QUANTUM as usize {
            // What was shed is not forgotten.
            if flow.first_above.is_none_or(|at| at <= now + INTERVAL) {
                flow.first_above = None;
            }
            return false;
        }
        match flow.first_above {
            None => {
                flow.first_above = Some(now + INTERVAL);
                false
            }
            Some(at) => now >= at,
        }
    }
}

fn control_law(count: u32) -> Duration {
    // In steps of 1/16, so that the root is exact enough without floating point.
    let root = (u64::from(count.max(1)) * 256).isqrt();
    Duration::from_micros(INTERVAL.as_micros() as u64 * 16 / root)
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
