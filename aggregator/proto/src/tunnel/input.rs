//! Taking datagrams: packets, streams, acknowledgements, and what they say of the paths.

use std::time::Duration;

use super::fec;
use super::path::{Item, Liveness, Path};
use super::reorder::{Arrival, PathProgress, Progress};
use super::schedule::Order;
use super::wire::{self, Frame, FrameError};
use super::{LEAST_DATAGRAM, Tunnel, TunnelEvent, recycle};
use crate::Time;
use crate::datagram::{MAX_PATHS, PathId};

/// How long a gap waits for a repair: the loss is told, and the packet comes again.
const LEAST_REPAIR: Duration = Duration::from_millis(60);
const MOST_REPAIR: Duration = Duration::from_millis(400);
const REPAIR_SLACK: Duration = Duration::from_millis(40);

/// A path that has brought packets of flows over several paths within this time may bring more.
const ORDERED_LATELY: Duration = Duration::from_secs(2);

impl Tunnel {
    /// Takes the body of a datagram that came over `path` for the first time and authenticated.
    ///
    /// # Errors
    /// [`FrameError`]: the peer does not keep to the protocol. What came before the fault in the
    /// datagram has been taken.
    pub fn handle_datagram(
        &mut self,
        now: Time,
        path: PathId,
        number: u64,
        body: &[u8],
    ) -> Result<(), FrameError> {
        self.now = now;
        let Some(index) = self.paths.iter().position(|known| known.id == path) else {
            return Ok(());
        };
        if let Some(srtt) = self.paths[index].rtt.srtt() {
            self.streams.tune(now, srtt);
        }
        let (stamp, mut rest) = body.split_first_chunk().ok_or(FrameError::Malformed)?;
        let stamp = u32::from_be_bytes(*stamp);
        let arrival = Arrival { now, path: 1 << path.number(), stamp };
        let mut wants_ack = false;
        let mut probed = false;
        let read = loop {
            match wire::next_frame(&mut rest) {
                Ok(None) => break Ok(()),
                Ok(Some(Frame::Ack { head, ranges })) => self.on_ack(now, head, ranges),
                Ok(Some(Frame::Probe)) => (wants_ack, probed) = (true, true),
                Ok(Some(Frame::Status { serial, unusable, spare })) => {
                    wants_ack = true;
                    self.on_status(serial, unusable, spare);
                }
                Ok(Some(Frame::Packet(frame))) => {
                    wants_ack = true;
                    if frame.flags.ordered {
                        self.paths[index].ordered_at = Some(now);
                    }
                    self.on_packet(&frame, arrival);
                }
                Ok(Some(Frame::Parity(frame))) => {
                    wants_ack = true;
                    self.on_parity(&frame, arrival);
                }
                Ok(Some(Frame::Stream(bytes))) => {
                    wants_ack = true;
                    self.stay_active(now);
                    match self.streams.handle_frame(bytes[0], &bytes[1..]) {
                        Ok(used) => rest = &bytes[1 + used..],
                        Err(error) => break Err(error.into()),
                    }
                }
                Err(error) => break Err(error),
            }
        };
        let path = &mut self.paths[index];
        path.on_datagram(now, number, stamp, wants_ack);
        if probed {
            path.receiver.hurry(now);
        }
        if self.reorder.is_waiting() {
            self.advance_reorder(now);
        }
        read
    }

    fn on_parity(&mut self, frame: &wire::ParityFrame<'_>, arrival: Arrival) {
        let wire::ParityFrame { slot, first, count, bytes } = *frame;
        let parity = fec::Parity { slot, first, count, bytes: bytes.to_vec(), path: 0 };
        let made = self.recoverer.parity(parity);
        self.take_recovered(slot, made, arrival);
    }

    fn take_recovered(&mut self, slot: u16, made: Option<(u32, Vec<u8>)>, arrival: Arrival) {
        let Some((sequence, bytes)) = made else { return };
        // Not before what is held back for its place.
        let ordered = self.reorder.is_holding(slot);
        let flags = wire::PacketFlags { ordered, ..wire::PacketFlags::default() };
        let before = self.reorder.duplicates;
        let frame = wire::PacketFrame { flags, slot, sequence, bytes: &bytes };
        self.on_packet(&frame, arrival);
        if self.reorder.duplicates == before {
            self.figures.recovered += 1;
        } else {
            // It was only late.
            self.reorder.duplicates = before;
        }
    }

    fn on_packet(&mut self, frame: &wire::PacketFrame<'_>, arrival: Arrival) {
        self.stay_active(arrival.now);
        if frame.flags.protected {
            let made = self.recoverer.packet(frame.slot, frame.sequence, frame.bytes);
            self.take_recovered(frame.slot, made, arrival);
        }
        let (pool, ready, figures) = (&mut self.pool, &mut self.ready, &mut self.figures);
        self.reorder.take(
            frame,
            arrival,
            || pool.pop().unwrap_or_default(),
            |packet| {
                figures.packets_out += 1;
                ready.push_back(packet);
            },
        );
    }

    fn on_status(&mut self, serial: u16, unusable: u16, spare: u16) {
        let newer = self.peer_serial.is_none_or(|last| serial.wrapping_sub(last) as i16 > 0);
        if newer {
            self.peer_serial = Some(serial);
            self.peer_unusable = unusable;
            self.peer_spare = spare;
            self.shun();
        }
    }

    /// Sees which paths are not worth asking over: the peer asks over those itself when it wants them.
    fn shun(&mut self) {
        let unusable = self.peer_unusable;
        let told = |path: &Path| unusable & (1 << path.id.number()) != 0;
        let any = self.paths.iter().any(|path| path.is_usable() && !told(path));
        for path in &mut self.paths {
            // One that does not answer is asked: the peer may wait for that.
            path.shunned = any && path.liveness == Liveness::Live && told(path);
        }
    }

    fn on_ack(&mut self, now: Time, head: wire::AckHead, ranges: wire::Ranges<'_>) {
        let Some(path) = self.paths.iter_mut().find(|path| path.id.number() == head.path) else {
            return;
        };
        let Some(largest) = path.sent.expand(head.largest) else { return };
        let received_at = path.unwrap_receipt(head.at);
        let large = LEAST_DATAGRAM + path.overhead;
        let mut items = std::mem::take(&mut self.items);
        let mut lost = std::mem::take(&mut self.lost);
        let acked = path
            .sent
            .on_ack(now, largest, received_at, ranges.iter(largest), |item| items.push(item));
        let mut returned = false;
        if let Some(acked) = &acked {
            returned = path.on_answer(now, acked, received_at, head.delay);
        }
        let srtt = path.rtt.srtt().unwrap_or_default();
        let count = path.sent.find_lost(now, srtt, large, |item| lost.push(item));
        // Where large ones have overtaken what is lost, it is not lost for its size.
        let arrived = acked.is_some_and(|acked| acked.largest_size > large);
        path.mtu.count(arrived, count);
        let id = path.id;
        for item in items.drain(..) {
            match item {
                Item::Packet(key) => {
                    if let Some(packet) = self.repair.acked(key) {
                        recycle(&mut self.pool, packet);
                    }
                }
                Item::Stream(frame) => self.streams.on_acked(frame),
                Item::Status(serial) => self.status.acked(serial),
                Item::Size(size) => {
                    if let Some(path) = self.paths.iter_mut().find(|path| path.id == id) {
                        path.mtu.passed(now, size);
                    }
                }
            }
        }
        self.items = items;
        self.lost = lost;
        self.take_lost(now);
        if returned {
            self.shun();
            self.status.change();
            self.events.push_back(TunnelEvent::Path(id, Liveness::Live));
        }
    }

    /// What is in `lost` goes again where that is called for.
    pub(super) fn take_lost(&mut self, now: Time) {
        let mut lost = std::mem::take(&mut self.lost);
        for item in lost.drain(..) {
            match item {
                Item::Packet(key) => {
                    if let Some(packet) = self.repair.lost(now, key) {
                        recycle(&mut self.pool, packet);
                    }
                }
                Item::Stream(frame) => self.streams.on_lost(frame),
                Item::Status(serial) => self.status.lost(serial),
                Item::Size(_) => {}
            }
        }
        self.lost = lost;
    }

    /// A path has become worse.
    pub(super) fn on_worse(&mut self, now: Time, index: usize, liveness: Liveness) {
        let path = &mut self.paths[index];
        let id = path.id;
        let mut lost = std::mem::take(&mut self.lost);
        if liveness == Liveness::Down {
            path.sent.lose_all(|item| lost.push(item));
            self.lost = lost;
            self.take_lost(now);
            let left = Order::new(&self.paths, self.peer_unusable, self.peer_spare).rate;
            if 3 * self.paths[index].congestion.rate() > 2 * left {
                let pool = &mut self.pool;
                self.queue.shed(now, left, |packet| recycle(pool, packet));
            }
        } else {
            path.sent.each_in_flight(|item| lost.push(item));
            for item in lost.drain(..) {
                match item {
                    Item::Packet(key) => self.repair.doubt(now, key),
                    Item::Stream(frame) => self.streams.requeue(frame),
                    Item::Status(serial) => self.status.lost(serial),
                    Item::Size(_) => {}
                }
            }
            self.lost = lost;
        }
        self.shun();
        if liveness == Liveness::Down {
            self.status.change();
        }
        self.events.push_back(TunnelEvent::Path(id, liveness));
    }

    pub(super) fn advance_reorder(&mut self, now: Time) {
        let none = PathProgress { bit: 0, spread: false, latest: 0, bound: 0 };
        let mut progress = [none; MAX_PATHS];
        let mut count = 0;
        let mut slowest = Duration::ZERO;
        for path in &self.paths {
            if path.liveness == Liveness::Live
                && let Some(srtt) = path.rtt.srtt()
            {
                slowest = slowest.max(srtt);
            }
            let (Some((mean, deviation)), Some(latest)) =
                (path.delay_in, path.receiver.latest_stamp())
            else {
                continue;
            };
            let spread = path.ordered_at.is_some_and(|at| now.since(at) <= ORDERED_LATELY);
            // Four deviations and what two schedulers may add, as for answers.
            let bound = mean + 4 * deviation + 5_000;
            let bit = 1 << path.id.number();
            progress[count] = PathProgress { bit, spread, latest, bound: bound as u32 };
            count += 1;
        }
        let repair = (slowest * 5 / 4 + REPAIR_SLACK).clamp(LEAST_REPAIR, MOST_REPAIR);
        let progress = Progress { paths: &progress[..count], repair };
        let (ready, figures) = (&mut self.ready, &mut self.figures);
        self.reorder_at = self.reorder.advance(now, &progress, |packet| {
            figures.packets_out += 1;
            ready.push_back(packet);
        });
    }
}
