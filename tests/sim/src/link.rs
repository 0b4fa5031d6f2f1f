//! One WAN: a pipe in each direction.

use std::time::Duration;

use wanbond_lab::emulator::{Pipe, QueueLimit, Shape, Time};
use wanbond_lab::units::{Fraction, Rate};
use wanbond_proto::datagram::PathId;

use crate::envelope::Address;
use crate::net::Side;

/// Bytes of IPv4 and UDP header around a datagram.
pub const IP_UDP: u16 = 28;
/// The largest UDP payload of an Ethernet.
pub const ETHERNET: u16 = 1472;

/// A datagram on its way.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// Who seems to have sent it.
    pub source: Address,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What a WAN is like, each way.
#[derive(Debug, Clone, Copy)]
pub struct LinkSpec {
    /// From the router to the server.
    pub up: Shape,
    /// From the server to the router.
    pub down: Shape,
}

/// A direction with a rate in kbit/s, a one-way delay and a queue in ms.
#[must_use]
pub fn shape(kbits: u64, delay_ms: u64, queue_ms: u64) -> Shape {
    Shape {
        rate: Some(Rate::from_bits_per_second(kbits * 1000)),
        delay: Duration::from_millis(delay_ms),
        queue: QueueLimit::Time(Duration::from_millis(queue_ms)),
        ..Shape::default()
    }
}

/// A fraction in millionths.
#[must_use]
pub fn millionths(share: u64) -> Fraction {
    Fraction::new(share.min(1_000_000) as f64 / 1e6).unwrap_or(Fraction::ZERO)
}

impl LinkSpec {
    /// The same rate both ways.
    #[must_use]
    pub fn even(kbits: u64, delay_ms: u64, queue_ms: u64) -> Self {
        let shape = shape(kbits, delay_ms, queue_ms);
        Self { up: shape, down: shape }
    }

    /// Rates of their own for each way.
    #[must_use]
    pub fn uneven(down: u64, up: u64, delay_ms: u64, queue_ms: u64) -> Self {
        Self { up: shape(up, delay_ms, queue_ms), down: shape(down, delay_ms, queue_ms) }
    }

    /// With a change to both directions.
    #[must_use]
    pub fn with(mut self, change: impl Fn(&mut Shape)) -> Self {
        change(&mut self.up);
        change(&mut self.down);
        self
    }

    /// What `side` sends goes through this.
    #[must_use]
    pub const fn from_side(&self, side: Side) -> &Shape {
        match side {
            Side::Router => &self.up,
            Side::Server => &self.down,
        }
    }
}

/// A WAN.
#[derive(Debug)]
pub struct Link {
    /// Its path.
    pub id: PathId,
    /// What `Side::Router` sends, and what `Side::Server` sends.
    pipes: [Pipe<Datagram>; 2],
    /// Largest UDP payload that passes.
    pub most: u16,
    /// The router's address on it.
    pub address: Address,
}

impl Link {
    pub(crate) fn new(id: PathId, spec: &LinkSpec, seed: u64) -> Self {
        let seed = seed ^ (u64::from(id.number()) << 32);
        Self {
            id,
            pipes: [Pipe::new(spec.up, seed), Pipe::new(spec.down, seed ^ 0xd0_3141)],
            most: ETHERNET,
            address: Address::from(id.number()) * 1000 + 1000,
        }
    }

    /// The pipe that carries what `side` sends.
    pub fn pipe(&mut self, side: Side) -> &mut Pipe<Datagram> {
        &mut self.pipes[side.index()]
    }

    /// When something arrives next.
    pub(crate) fn due(&self) -> Option<Time> {
        self.pipes.iter().filter_map(Pipe::next_due).min()
    }

    /// Takes what `side` sends, a UDP datagram.
    pub(crate) fn offer(&mut self, now: Time, side: Side, datagram: Datagram) {
        let length = datagram.bytes.len() as u32 + u32::from(IP_UDP);
        if datagram.bytes.len() > usize::from(self.most) {
            self.pipe(side).count_filtered(length);
        } else {
            self.pipe(side).offer(now, length, datagram);
        }
    }

    /// The next datagram that arrives, sent by `side`.
    pub(crate) fn poll(&mut self, now: Time, side: Side) -> Option<Datagram> {
        Some(self.pipe(side).poll(now)?.packet)
    }

    /// The provider gives the router another address. Datagrams to the old one are lost.
    pub const fn change_address(&mut self) {
        self.address += 1;
    }

    /// Cuts the link without a sign, or mends it.
    pub fn set_cut(&mut self, now: Time, cut: bool) {
        for pipe in &mut self.pipes {
            pipe.set_cut(now, cut);
        }
    }
}
