//! Requests from the router's side, and answers.

use std::time::Duration;

use super::Arrivals;
use crate::Time;
use crate::net::{Net, Protocol, Side};

/// A ping of 84 bytes.
const LENGTH: usize = 84;
/// Where a request carries the time at which it was sent, and the answer sends it back.
const STAMP: usize = 32;

/// A `ping` that runs.
#[derive(Debug)]
pub struct Ping {
    flow: usize,
    every: Duration,
    next: Time,
    end: Time,
    /// Requests sent.
    pub sent: u64,
    pub(super) arrivals: Arrivals,
    pub(super) delays: Vec<(Time, u64)>,
}

impl Ping {
    /// A request `every` so often, from `start` to `end`.
    #[must_use]
    pub fn new(flow: usize, every: Duration, start: Time, end: Time) -> Self {
        let (arrivals, delays) = (Arrivals::default(), Vec::new());
        Self { flow, every, next: start, end, sent: 0, arrivals, delays }
    }

    pub(super) fn due(&self) -> Option<Time> {
        (self.next < self.end).then_some(self.next)
    }

    pub(super) fn run(&mut self, now: Time, net: &mut Net) {
        self.send(now, Side::Router, now, net);
        self.sent += 1;
        self.next = self.next + self.every;
    }

    fn send(&self, now: Time, from: Side, stamp: Time, net: &mut Net) {
        let mut head = [0; 12];
        head[4..].copy_from_slice(&stamp.as_nanos().to_be_bytes());
        net.send(now, self.flow, from, Protocol::Icmp, &head, LENGTH);
    }

    pub(super) fn packet(
        &mut self,
        now: Time,
        side: Side,
        packet: &[u8],
        sent: Time,
        net: &mut Net,
    ) {
        let Some(stamp) = packet.get(STAMP..).and_then(|bytes| bytes.first_chunk()) else { return };
        let stamp = Time::from_nanos(u64::from_be_bytes(*stamp));
        match side {
            Side::Server => self.send(now, Side::Server, stamp, net),
            Side::Router => {
                let _ = sent;
                self.arrivals.add(now, packet.len() as u32);
                self.delays.push((stamp, now.since(stamp).as_micros() as u64));
            }
        }
    }
}
