//! The multipath tunnel: packets and streams over every path at once.
//!
//! One [`Tunnel`] is one end of what a router and its server share. It is the same type at both
//! ends and knows neither sockets nor keys: it is told what has come and what time it is, and says
//! what is to be sent, as plain bodies of datagrams that the session then seals
//! ([`crate::datagram::DatagramKeys`]). It outlives sessions.
//!
//! ```text
//! handle_packet ─▶ queue (DRR, CoDel) ─┐                       ┌─▶ reorder ─▶ poll_packet
//!                                      ├─▶ poll_transmit ═══▶ handle_datagram
//! streams ─────────────────────────────┘      ▲   │            └─▶ streams
//!                                   path: congestion, liveness, MTU, acknowledgements
//! ```
//!
//! # Which way a packet goes
//!
//! Paths pull: when a path may send, it takes the next packet for which it is right. Small flows go
//! over the path on which they arrive first, and where the budget allows also over the second.
//! A flow stays on the best path while that keeps up; one that needs more is spread over all paths
//! that are worth it. What is lost goes again, once, over the best path then.

mod congestion;
mod flow;
mod mtu;
mod path;
mod queue;
mod receive;
mod reorder;
mod repair;
mod schedule;
mod sent;
pub mod stream;
mod transmit;
mod windowed;
mod wire;

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;
use crate::datagram::{MAX_PATHS, PathId};
use crate::session::Role;

pub use mtu::LEAST_DATAGRAM;
pub use path::{Liveness, Standing};
pub use wire::FrameError;

use path::{ACTIVE_FOR, Item, Path};
use queue::EntryQueue;
use reorder::{PathProgress, Progress, Reorder};
use repair::{Key, RepairStore};
use stream::{StreamLimits, Streams};
use wire::Frame;

/// Buffers kept for use again.
const POOL: usize = 256;
/// How long a gap waits for a repair: the loss is told, and the packet comes again.
const LEAST_REPAIR: Duration = Duration::from_millis(60);
const MOST_REPAIR: Duration = Duration::from_millis(400);
const REPAIR_SLACK: Duration = Duration::from_millis(40);

/// A path that has brought packets of flows over several paths within this time may bring more.
const ORDERED_LATELY: Duration = Duration::from_secs(2);

/// What a tunnel may use.
#[derive(Debug, Clone, Copy)]
pub struct TunnelConfig {
    /// Bytes of packets that may wait to be sent.
    pub queue: usize,
    /// Bytes of packets kept for repair.
    pub repair: usize,
    /// Bytes of packets held back until those before them come.
    pub reorder: usize,
    /// What streams may use.
    pub streams: StreamLimits,
    /// Secret, so that nobody outside can make flows collide.
    pub seed: u64,
}

impl TunnelConfig {
    /// For a small router.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        Self {
            queue: 4 << 20,
            repair: 4 << 20,
            reorder: 4 << 20,
            streams: StreamLimits::default(),
            seed,
        }
    }

    /// For a server: bounds for one of its routers, which a fast one may reach.
    #[must_use]
    pub fn large(seed: u64) -> Self {
        Self {
            queue: 16 << 20,
            repair: 16 << 20,
            reorder: 16 << 20,
            streams: StreamLimits::SERVER,
            seed,
        }
    }
}

/// A datagram to be sealed and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Over which path.
    pub path: PathId,
    /// Its number on that path: never used before.
    pub number: u64,
    /// A try whether datagrams of this size pass: that the system refuses it is an answer too.
    pub is_size_probe: bool,
}

/// What the tunnel has noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEvent {
    /// A path answers, is suspect or is down.
    Path(PathId, Liveness),
}

/// Figures of one path, for people.
#[derive(Debug, Clone, Copy)]
pub struct PathFigures {
    /// Whether it answers.
    pub liveness: Liveness,
    /// Smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// The link's rate as known, bytes per second; 0 if unknown.
    pub rate: u64,
    /// The standing queue of this direction.
    pub queue: Duration,
    /// Bytes on their way.
    pub in_flight: u64,
    /// Largest datagram, bytes of UDP payload.
    pub datagram: u16,
}

/// Figures of a tunnel that only grow.
#[derive(Debug, Clone, Copy, Default)]
pub struct TunnelFigures {
    /// Packets that were taken to be sent, and that were delivered.
    pub packets_in: u64,
    /// Packets handed out.
    pub packets_out: u64,
    /// Packets dropped at the entry, to keep queues short.
    pub dropped: u64,
    /// Packets sent again.
    pub repaired: u64,
    /// Packets sent twice from the start.
    pub duplicated: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Packets that came after their place was given up.
    pub late: u64,
    /// Gaps given up.
    pub given_up: u64,
}

/// One end of a tunnel.
#[derive(Debug)]
pub struct Tunnel {
    seed: u64,
    paths: Vec<Path>,
    queue: EntryQueue,
    repair: RepairStore,
    /// Copies to go over a second path, with the one they went over first.
    duplicates: VecDeque<(Key, u8)>,
    duplicate_credit: i64,
    duplicate_credit_at: Time,
    reorder: Reorder,
    reorder_at: Option<Time>,
    /// The second half of a packet that did not fit, and its path.
    second_half: Option<transmit::SecondHalf>,
    /// A stream that was in the middle of its turn.
    streams: Streams,
    streams_turn: i64,
    ready: VecDeque<Vec<u8>>,
    pool: Vec<Vec<u8>>,
    items: Vec<Item>,
    lost: Vec<Item>,
    events: VecDeque<TunnelEvent>,
    status: transmit::Status,
    /// What the peer makes of the paths: bits by number.
    peer_serial: Option<u16>,
    peer_unusable: u16,
    peer_spare: u16,
    active_until: Time,
    now: Time,
    figures: TunnelFigures,
}

impl Tunnel {
    /// A tunnel without paths.
    #[must_use]
    pub fn new(role: Role, now: Time, config: &TunnelConfig) -> Self {
        Self {
            seed: config.seed,
            paths: Vec::new(),
            queue: EntryQueue::new(config.queue),
            repair: RepairStore::new(config.repair),
            duplicates: VecDeque::new(),
            duplicate_credit: 0,
            duplicate_credit_at: now,
            reorder: Reorder::new(config.reorder),
            reorder_at: None,
            second_half: None,
            streams: Streams::new(role, config.streams),
            streams_turn: 0,
            ready: VecDeque::new(),
            pool: Vec::new(),
            items: Vec::new(),
            lost: Vec::new(),
            events: VecDeque::new(),
            status: transmit::Status::default(),
            peer_serial: None,
            peer_unusable: 0,
            peer_spare: 0,
            active_until: now,
            now,
            figures: TunnelFigures::default(),
        }
    }

    /// A path can be used: it is new, or the network under it has become another (a new address).
    /// `overhead`: bytes of IP and UDP header; `most`: the largest UDP payload that its link takes.
    pub fn set_path(&mut self, now: Time, id: PathId, overhead: u16, most: u16) {
        self.now = now;
        match self.paths.iter_mut().position(|path| path.id == id) {
            Some(index) => {
                let mut lost = std::mem::take(&mut self.lost);
                self.paths[index].reset(now, overhead, most, |item| lost.push(item));
                self.lost = lost;
                self.take_lost(now);
            }
            None => self.paths.push(Path::new(now, id, overhead, most)),
        }
        self.status.change();
    }

    /// Whether a path is known.
    #[must_use]
    pub fn has_path(&self, id: PathId) -> bool {
        self.paths.iter().any(|path| path.id == id)
    }

    /// Whether any path answers.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.paths.iter().any(Path::is_usable)
    }

    /// What a path is to be used for; the peer follows.
    pub fn set_standing(&mut self, now: Time, id: PathId, standing: Standing) {
        self.now = now;
        if let Some(path) = self.paths.iter_mut().find(|path| path.id == id)
            && path.standing != standing
        {
            path.standing = standing;
            self.status.change();
        }
    }

    /// Whoever knows better says that a path is dead: its link is gone.
    pub fn path_lost(&mut self, now: Time, id: PathId) {
        self.now = now;
        if let Some(index) = self.paths.iter().position(|path| path.id == id) {
            self.paths[index].enter(now, Liveness::Down);
            self.on_worse(now, index, Liveness::Down);
        }
    }

    /// An empty buffer, one that was given back if there is one.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.pool.len() < POOL {
            buffer.clear();
            self.pool.push(buffer);
        }
    }

    /// Takes an IP packet that is to reach the other end. What is no IP packet is dropped.
    pub fn handle_packet(&mut self, now: Time, packet: Vec<u8>) {
        self.now = now;
        self.stay_active(now);
        let Some(info) = flow::inspect(&packet, self.seed) else {
            self.recycle(packet);
            return;
        };
        self.figures.packets_in += 1;
        let pool = &mut self.pool;
        self.queue.push(now, info, packet, |dropped| recycle(pool, dropped));
    }

    /// The next packet for this end, in order within its flow. Give the buffer back with
    /// [`Self::recycle`].
    pub fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.ready.pop_front()
    }

    /// What was noticed.
    pub fn poll_event(&mut self) -> Option<TunnelEvent> {
        self.events.pop_front()
    }

    /// The reliable byte streams.
    pub const fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }

    /// Something was written to a stream, or read from one.
    pub fn touch(&mut self, now: Time) {
        self.now = now;
        self.stay_active(now);
    }

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
                    self.on_packet(now, &frame, stamp);
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

    fn on_packet(&mut self, now: Time, frame: &wire::PacketFrame<'_>, stamp: u32) {
        self.stay_active(now);
        let (pool, ready, figures) = (&mut self.pool, &mut self.ready, &mut self.figures);
        self.reorder.take(
            frame,
            stamp,
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
            self.status.change();
            self.events.push_back(TunnelEvent::Path(id, Liveness::Live));
        }
    }

    /// What is in `lost` goes again where that is called for.
    fn take_lost(&mut self, now: Time) {
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
    fn on_worse(&mut self, now: Time, index: usize, liveness: Liveness) {
        let path = &mut self.paths[index];
        let id = path.id;
        let mut lost = std::mem::take(&mut self.lost);
        if liveness == Liveness::Down {
            path.sent.lose_all(|item| lost.push(item));
            self.lost = lost;
            self.take_lost(now);
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
        if liveness == Liveness::Down {
            self.status.change();
        }
        self.events.push_back(TunnelEvent::Path(id, liveness));
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = now;
        for index in 0..self.paths.len() {
            if let Some(worse) = self.paths[index].on_timeout(now) {
                self.on_worse(now, index, worse);
            }
        }
        if self.reorder.is_waiting() {
            self.advance_reorder(now);
        }
    }

    fn advance_reorder(&mut self, now: Time) {
        let mut progress = [PathProgress { latest: 0, bound: 0 }; MAX_PATHS];
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
            // What is missing is not coming over a path that brings no such packets.
            if path.ordered_at.is_none_or(|at| now.since(at) > ORDERED_LATELY) {
                continue;
            }
            // Four deviations and what two schedulers may add, as for answers.
            let bound = mean + 4 * deviation + 5_000;
            progress[count] = PathProgress { latest, bound: bound as u32 };
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

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] are to be called again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let active = self.is_active(self.now);
        let paths = self.paths.iter().filter_map(|path| path.timeout(active)).min();
        let reorder = if self.reorder.is_waiting() { self.reorder_at } else { None };
        [paths, reorder, self.sending_at()].into_iter().flatten().min()
    }

    fn is_active(&self, now: Time) -> bool {
        now < self.active_until
    }

    fn stay_active(&mut self, now: Time) {
        self.active_until = now + ACTIVE_FOR;
    }

    /// Figures of a path.
    #[must_use]
    pub fn path_figures(&self, id: PathId) -> Option<PathFigures> {
        let path = self.paths.iter().find(|path| path.id == id)?;
        Some(PathFigures {
            liveness: path.liveness,
            srtt: path.rtt.srtt(),
            rate: path.congestion.rate(),
            queue: Duration::from_micros(path.congestion.queue()),
            in_flight: path.sent.in_flight(),
            datagram: path.mtu.size(),
        })
    }

    /// Figures of the tunnel.
    #[must_use]
    pub fn figures(&self) -> TunnelFigures {
        TunnelFigures {
            dropped: self.queue.dropped,
            repaired: self.repair.repaired,
            duplicates: self.reorder.duplicates,
            late: self.reorder.late,
            given_up: self.reorder.given_up,
            ..self.figures
        }
    }

    /// Bytes of packets in memory: waiting to be sent, and held back.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.queue.bytes() + self.reorder.bytes()
    }
}

fn recycle(pool: &mut Vec<Vec<u8>>, mut buffer: Vec<u8>) {
    if pool.len() < POOL {
        buffer.clear();
        pool.push(buffer);
    }
}
