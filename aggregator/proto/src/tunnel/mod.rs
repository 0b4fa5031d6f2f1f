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

mod config;
mod congestion;
mod fec;
mod figures;
mod flow;
mod input;
mod mtu;
mod path;
mod queue;
mod receive;
mod reorder;
mod repair;
mod schedule;
mod sent;
mod status;
pub mod stream;
mod transmit;
mod windowed;
mod wire;

use std::collections::VecDeque;

use crate::Time;
use crate::datagram::PathId;
use crate::session::Role;

pub use config::TunnelConfig;
pub use figures::{PathFigures, TunnelFigures};
pub use mtu::LEAST_DATAGRAM;
pub use path::{Liveness, Standing};
pub use wire::FrameError;

use fec::{Protector, Recoverer};
use path::{ACTIVE_FOR, Item, Path};
use queue::EntryQueue;
use reorder::Reorder;
use repair::RepairStore;
use stream::Streams;

/// Buffers kept for use again.
const POOL: usize = 512;

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

/// One end of a tunnel.
#[derive(Debug)]
pub struct Tunnel {
    seed: u64,
    paths: Vec<Path>,
    queue: EntryQueue,
    repair: RepairStore,
    /// Copies to go over a second path, with the one they went over first.
    duplicates: VecDeque<(transmit::Original, u8)>,
    duplicate_credit: i64,
    duplicate_credit_at: Time,
    protector: Protector,
    recoverer: Recoverer,
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
    status: status::Status,
    /// What the peer makes of the paths: bits by number.
    peer_serial: Option<u16>,
    peer_unusable: u16,
    peer_spare: u16,
    active_until: Time,
    now: Time,
    /// When the last datagram was sent, as the peer was told: µs modulo 2³².
    stamp: u32,
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
            protector: Protector::default(),
            recoverer: Recoverer::default(),
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
            status: status::Status::default(),
            peer_serial: None,
            peer_unusable: 0,
            peer_spare: 0,
            active_until: now,
            now,
            stamp: now.as_micros() as u32,
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

    /// Whether [`Self::poll_packet`] has one.
    #[must_use]
    pub fn has_packets(&self) -> bool {
        !self.ready.is_empty()
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
