//! Making datagrams: what goes into the next one, and over which path.

use std::time::Duration;

use super::fec;
use super::flow::is_dns;
use super::path::Item;
use super::queue::Taken;
use super::repair::Key;
use super::schedule::{Order, QUICK_SKEW};
use super::stream::{SentFrame, Streams};
use super::wire::{self, PACKET_HEAD, PARITY_HEAD, PacketFlags, PacketFrame, ParityFrame, Part};
use super::{Transmit, Tunnel, recycle};
use crate::Time;
use crate::datagram::{HEADER_LEN, OVERHEAD};

/// Room for an acknowledgement beside a full packet.
const SMALL_ACK: usize = 32;
/// An acknowledgement due within this time goes along.
const ACK_AHEAD: Duration = Duration::from_millis(1);
/// Duplicates of small flows: at most this many bytes a second, and this share of the second path.
const DUPLICATE_RATE: u64 = 64_000;
const DUPLICATE_SHARE: u64 = 6;
const DUPLICATE_BURST: i64 = 16_000;
/// Of the duplicates that wait, so many are looked at for one that may go a path's way.
const MOST_PASSED: usize = 16;
/// Streams and packets take turns of this many bytes.
const TURN: i64 = 3_000;
/// How far, in µs, stamps may run ahead of the clock so that no two are alike.
const MOST_AHEAD: u32 = 10_000;
/// While something waits that no path may take, the tunnel looks again after this long.
const STALLED: Duration = Duration::from_millis(10);

/// The second part of a packet that did not fit into one datagram.
#[derive(Debug)]
pub(super) struct SecondHalf {
    path: usize,
    slot: u16,
    sequence: u32,
    flags: PacketFlags,
    packet: Vec<u8>,
    from: usize,
}

/// What is to go over a second path as well.
#[derive(Debug, Clone, Copy)]
pub(super) enum Original {
    Packet(Key),
    Stream(SentFrame),
}

/// A datagram being made.
pub(super) struct Draft {
    /// Where its body begins in the buffer.
    body: usize,
    /// Where it must end.
    end: usize,
    pub wants_ack: bool,
}

impl Draft {
    pub(super) fn room(&self, out: &[u8]) -> usize {
        self.end.saturating_sub(out.len())
    }
}

impl Tunnel {
    /// Appends the next datagram to `out`: room for a header, then the plain body. `None` if
    /// nothing is to be sent now.
    pub fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) -> Option<Transmit> {
        self.now = now;
        if let Some(half) = self.second_half.take() {
            return Some(self.send_second_half(now, half, out));
        }
        let order = Order::new(&self.paths, self.peer_unusable, self.peer_spare);
        if self.has_data() {
            let (skew, repair) = order.bulk_delay(&self.paths);
            self.queue.set_paths(now, order.rate, skew, repair);
            self.streams.set_rate(order.rate);
            for (at, index) in order.iter().enumerate() {
                if self.paths[index].may_send(now)
                    && let Some(transmit) = self.send_data(now, &order, at, index, out)
                {
                    return Some(transmit);
                }
            }
        }
        for index in 0..self.paths.len() {
            if let Some(transmit) = self.send_control(now, index, out) {
                return Some(transmit);
            }
        }
        // Nothing is left to be sent, or a path is held back for a better one: what it delivers then
        // says nothing of what it could.
        let all_sent = !self.has_data();
        for (index, path) in self.paths.iter_mut().enumerate() {
            if all_sent || !order.fills(index) || path.may_send(now) {
                path.sent.set_app_limited();
            }
        }
        None
    }

    fn has_data(&self) -> bool {
        !self.queue.is_empty()
            || self.repair.has_work()
            || !self.duplicates.is_empty()
            || self.protector.first().is_some()
            || self.streams.has_pending()
    }

    /// When data can be sent that can't be now.
    pub(super) fn sending_at(&self) -> Option<Time> {
        if self.second_half.is_some() {
            return Some(self.now);
        }
        if !self.has_data() {
            return None;
        }
        let order = Order::new(&self.paths, self.peer_unusable, self.peer_spare);
        // A path that may send and does not waits for a better one, or for the flow to have waited. It
        // must not hide when another may.
        let soon = self.now + STALLED;
        let paced = order.iter().filter_map(|index| self.paths[index].sends_at());
        paced.map(|at| if at <= self.now { soon } else { at.min(soon) }).min()
    }

    fn begin(&mut self, now: Time, size: u16, out: &mut Vec<u8>) -> Draft {
        out.resize(out.len() + HEADER_LEN, 0);
        let body = out.len();
        // No two alike: the peer tells by them what was sent before what over different paths, also
        // of what left in one go.
        let stamp = now.as_micros() as u32;
        let after = self.stamp.wrapping_add(1);
        let ahead = after.wrapping_sub(stamp);
        self.stamp = if ahead < MOST_AHEAD { after } else { stamp };
        out.extend_from_slice(&self.stamp.to_be_bytes());
        Draft { body, end: body + usize::from(size) - OVERHEAD, wants_ack: false }
    }

    /// Undoes a draft that carries nothing.
    fn discard(draft: &Draft, out: &mut Vec<u8>) {
        out.truncate(draft.body - HEADER_LEN);
    }

    fn finish(
        &mut self,
        now: Time,
        index: usize,
        draft: &Draft,
        out: &[u8],
        probe: bool,
    ) -> Transmit {
        let path = &mut self.paths[index];
        let number = path.sent.next_number();
        let wire = out.len() - draft.body + OVERHEAD + usize::from(path.overhead);
        let wire = u16::try_from(wire).unwrap_or(u16::MAX);
        path.sent.push(now, wire, draft.wants_ack, probe, self.items.drain(..));
        path.spend(now, u64::from(wire));
        if draft.wants_ack {
            path.probed(now);
        }
        Transmit { path: path.id, number, is_size_probe: probe }
    }

    fn send_data(
        &mut self,
        now: Time,
        order: &Order,
        at: usize,
        index: usize,
        out: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let size = self.paths[index].mtu.size();
        let mut draft = self.begin(now, size, out);
        let empty = out.len();
        self.write_status(index, &mut draft, out);
        let path = &mut self.paths[index];
        let ack_due = path.receiver.due().is_some_and(|due| due <= now + ACK_AHEAD);
        let ack_room = if ack_due { SMALL_ACK } else { 0 };
        draft.end -= ack_room;
        let before = out.len();
        if order.is_quick(at) {
            self.write_repairs(now, order, index, &mut draft, out);
        }
        if at <= 1 || order.is_quick(at) {
            self.write_duplicates(index, &mut draft, out);
            self.write_parities(now, order, index, &mut draft, out);
        }
        self.write_flows(now, order, at, index, &mut draft, out);
        draft.end += ack_room;
        if out.len() == before && out.len() == empty {
            Self::discard(&draft, out);
            return None;
        }
        if ack_due {
            let room = draft.room(out);
            let path = &mut self.paths[index];
            path.receiver.write(now, path.id.number(), room, out);
        }
        Some(self.finish(now, index, &draft, out, false))
    }

    /// Packets and streams, in turns.
    fn write_flows(
        &mut self,
        now: Time,
        order: &Order,
        at: usize,
        index: usize,
        draft: &mut Draft,
        out: &mut Vec<u8>,
    ) {
        let streams = order.is_bulk(at);
        loop {
            let room = draft.room(out);
            let has_streams = streams && room >= Streams::LEAST_ROOM && self.streams.has_pending();
            let packets_first = self.streams_turn <= 0 || !has_streams;
            if packets_first && self.write_packet(now, order, at, index, draft, out) {
                if has_streams {
                    self.streams_turn += (room - draft.room(out)) as i64;
                }
                if self.second_half.is_some() {
                    return;
                }
                continue;
            }
            if !has_streams {
                return;
            }
            let Some(frame) = self.streams.poll_frame(room, out) else { return };
            draft.wants_ack = true;
            self.items.push(Item::Stream(frame));
            if self.streams.is_precious(&frame)
                && self.may_duplicate(now, order, index, frame.data_len(), false)
            {
                let number = self.paths[index].id.number();
                self.duplicates.push_back((Original::Stream(frame), number));
                self.figures.duplicated += 1;
            }
            if !self.queue.is_empty() {
                self.streams_turn -= (room - draft.room(out)) as i64;
            }
            self.streams_turn = self.streams_turn.clamp(-TURN, TURN);
        }
    }

    /// The next packet that may go this way. `true` if one was written.
    fn write_packet(
        &mut self,
        now: Time,
        order: &Order,
        at: usize,
        index: usize,
        draft: &mut Draft,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let room = draft.room(out);
        // What does not fit even into an empty datagram is split, but only at the start of one.
        let fresh = !draft.wants_ack;
        let fits = if fresh { usize::MAX } else { room.saturating_sub(PACKET_HEAD) };
        let backlog = self.queue.bytes();
        let pool = &mut self.pool;
        let taken =
            self.queue.pop(now, fits, |flow| order.may(at, flow, backlog), |p| recycle(pool, p));
        let Some(taken) = taken else { return false };
        draft.wants_ack = true;
        self.write_taken(now, order, index, taken, room, out);
        true
    }

    fn write_taken(
        &mut self,
        now: Time,
        order: &Order,
        index: usize,
        taken: Taken,
        room: usize,
        out: &mut Vec<u8>,
    ) {
        let Taken { packet, slot, sequence, kind, precious, ordered, rate } = taken;
        let waits = kind.waits_for_repair();
        let several = order.best_but(index).is_some();
        let flags =
            PacketFlags { ordered: waits || ordered, repaired: waits, ..PacketFlags::default() };
        if packet.len() + PACKET_HEAD > room {
            let cut = room.saturating_sub(PACKET_HEAD).min(packet.len());
            let first = PacketFlags { part: Part::First, ..flags };
            PacketFrame { flags: first, slot, sequence, bytes: &packet[..cut] }.encode(out);
            let flags = PacketFlags { part: Part::Second, ..flags };
            self.second_half =
                Some(SecondHalf { path: index, slot, sequence, flags, packet, from: cut });
            return;
        }
        let dns = is_dns(&packet);
        let precious = precious || dns;
        let path = &self.paths[index];
        let (number, length) = (path.id.number(), packet.len());
        // Most packets are none for it, and dividing is dear on a small processor.
        let group = if !precious && fec::applies(kind, path.congestion.loss()) {
            let srtt = path.rtt.srtt().map_or(0, |srtt| srtt.as_micros() as u64);
            fec::group(rate * srtt / 1_000_000 / length.max(1) as u64)
        } else {
            None
        };
        let flags = PacketFlags { protected: group.is_some(), ..flags };
        PacketFrame { flags, slot, sequence, bytes: &packet }.encode(out);
        if let Some(group) = group {
            self.protector.add(slot, sequence, &packet, group, number);
        }
        match self.repair.keep(now, packet, flags, slot, sequence, number) {
            Ok(key) => {
                self.items.push(Item::Packet(key));
                if precious && several && self.may_duplicate(now, order, index, length, dns) {
                    self.duplicates.push_back((Original::Packet(key), number));
                    self.figures.duplicated += 1;
                }
            }
            Err(packet) => recycle(&mut self.pool, packet),
        }
    }

    fn may_duplicate(
        &mut self,
        now: Time,
        order: &Order,
        index: usize,
        length: usize,
        dns: bool,
    ) -> bool {
        let Some(second) = order.best_but(index) else { return false };
        let second = self.paths[second].congestion.pacing_rate();
        let rate = DUPLICATE_RATE.min(second / DUPLICATE_SHARE);
        let passed = now.as_micros().saturating_sub(self.duplicate_credit_at.as_micros());
        let earned = rate * passed.min(1_000_000) / 1_000_000;
        if earned > 0 {
            self.duplicate_credit = (self.duplicate_credit + earned as i64).min(DUPLICATE_BURST);
            self.duplicate_credit_at = now;
        }
        // Other small flows don't use up what questions for names need.
        if self.duplicate_credit <= if dns { -DUPLICATE_BURST } else { 0 } {
            return false;
        }
        self.duplicate_credit -= (length + OVERHEAD + PACKET_HEAD) as i64;
        true
    }

    fn write_duplicates(&mut self, index: usize, draft: &mut Draft, out: &mut Vec<u8>) {
        let number = self.paths[index].id.number();
        let mut at = 0;
        while let Some(&(original, first)) = self.duplicates.get(at) {
            let needed = match original {
                Original::Packet(key) => {
                    self.repair.get(key).map(|it| it.packet.len() + PACKET_HEAD)
                }
                Original::Stream(frame) => {
                    self.streams.awaits(&frame).then(|| frame.data_len() + Streams::LEAST_ROOM)
                }
            };
            // What has arrived meanwhile keeps nobody waiting, even where no other path is left.
            let Some(needed) = needed else {
                self.duplicates.remove(at);
                continue;
            };
            let room = draft.room(out);
            // A stream's bytes may be cut, if they have a datagram to themselves.
            let cut = matches!(original, Original::Stream(_)) && !draft.wants_ack;
            if first == number || (needed > room && !cut) {
                // Others must not wait for the path that this one waits for: it may be dead.
                at += 1;
                if at == MOST_PASSED {
                    return;
                }
                continue;
            }
            match original {
                Original::Packet(key) => self.write_copy(key, number, draft, out),
                Original::Stream(frame) => {
                    if let Some(copy) = self.streams.poll_copy(frame, room, out) {
                        draft.wants_ack = true;
                        self.items.push(Item::Stream(copy));
                    }
                }
            }
            self.duplicates.remove(at);
        }
    }

    /// A kept packet once more.
    fn write_copy(&mut self, key: Key, path: u8, draft: &mut Draft, out: &mut Vec<u8>) {
        let Some(copied) = self.repair.get(key) else { return };
        let frame = PacketFrame {
            flags: copied.flags,
            slot: copied.slot,
            sequence: copied.sequence,
            bytes: &copied.packet,
        };
        frame.encode(out);
        draft.wants_ack = true;
        self.repair.sent_again(key, path);
        self.items.push(Item::Packet(key));
    }

    /// Whether what should rather not go over the path of this index can go over another soon.
    fn has_other(&mut self, now: Time, order: &Order, index: usize) -> bool {
        order.best_but(index).is_some_and(|other| {
            let skew = self.paths[other].arrival() - self.paths[index].arrival();
            skew < QUICK_SKEW && self.paths[other].may_send(now)
        })
    }

    /// Parities, rather over another path than the one that took the last of their group.
    fn write_parities(
        &mut self,
        now: Time,
        order: &Order,
        index: usize,
        draft: &mut Draft,
        out: &mut Vec<u8>,
    ) {
        let number = self.paths[index].id.number();
        while let Some(last) = self.protector.first().map(|parity| parity.path) {
            if last == number && self.has_other(now, order, index) {
                return;
            }
            let Some(parity) = self.protector.first() else { return };
            let room = draft.room(out);
            if parity.bytes.len() + PARITY_HEAD <= room {
                let fec::Parity { slot, first, count, ref bytes, .. } = *parity;
                ParityFrame { slot, first, count, bytes }.encode(out);
                draft.wants_ack = true;
                self.figures.parities += 1;
            } else if draft.wants_ack {
                // Into the next.
                return;
            }
            self.protector.drop_first();
        }
    }

    /// Packets that got lost, over the best path; rather another than the one that lost them.
    fn write_repairs(
        &mut self,
        now: Time,
        order: &Order,
        index: usize,
        draft: &mut Draft,
        out: &mut Vec<u8>,
    ) {
        while let Some(last) = self.repair.next_path() {
            let number = self.paths[index].id.number();
            if last == number && self.has_other(now, order, index) {
                return;
            }
            let room = draft.room(out).saturating_sub(PACKET_HEAD);
            let pool = &mut self.pool;
            let Some(key) = self.repair.next(now, room, |p| recycle(pool, p)) else { return };
            self.write_copy(key, number, draft, out);
        }
    }

    fn send_second_half(&mut self, now: Time, half: SecondHalf, out: &mut Vec<u8>) -> Transmit {
        let SecondHalf { path: index, slot, sequence, flags, packet, from } = half;
        let size = self.paths[index].mtu.size();
        let mut draft = self.begin(now, size, out);
        PacketFrame { flags, slot, sequence, bytes: &packet[from..] }.encode(out);
        draft.wants_ack = true;
        recycle(&mut self.pool, packet);
        self.finish(now, index, &draft, out, false)
    }

    /// Acknowledgements, probes, tries of a larger size.
    fn send_control(&mut self, now: Time, index: usize, out: &mut Vec<u8>) -> Option<Transmit> {
        let active = self.is_active(now);
        let path = &mut self.paths[index];
        let ack = path.receiver.due().is_some_and(|due| due <= now);
        let probe = path.wants_probe(now, active);
        let status = self.status.is_due() && self.tells_status() == Some(index);
        let path = &mut self.paths[index];
        let size =
            if path.is_usable() && path.may_send(now) { path.mtu.next_trial(now) } else { None };
        if !(ack || probe || status || size.is_some()) {
            return None;
        }
        let mut draft = self.begin(now, size.unwrap_or(super::LEAST_DATAGRAM), out);
        if size.is_none() {
            self.write_status(index, &mut draft, out);
        }
        let path = &mut self.paths[index];
        if ack || (probe && path.receiver.has_news()) {
            let room = draft.room(out).min(200);
            path.receiver.write(now, path.id.number(), room, out);
        }
        if probe || size.is_some() {
            out.push(wire::PROBE);
            draft.wants_ack = true;
        }
        if let Some(size) = size {
            out.push(wire::PAD);
            out.resize(draft.end, 0);
            self.items.push(Item::Size(size));
        }
        Some(self.finish(now, index, &draft, out, size.is_some()))
    }
}
