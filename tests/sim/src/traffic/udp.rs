//! UDP at a constant rate: a call, a camera, a test.

use std::time::Duration;

use super::Arrivals;
use crate::Time;
use crate::net::{Net, Protocol, Side, UDP_HEAD};

/// A flow of equal packets at equal distances.
#[derive(Debug)]
pub struct Udp {
    flow: usize,
    from: Side,
    protocol: Protocol,
    /// Of the whole IP packet.
    length: usize,
    every: Duration,
    next: Time,
    end: Time,
    pub(super) arrivals: Arrivals,
    pub(super) delays: Vec<(Time, u64)>,
}

impl Udp {
    /// IP packets of `length` bytes from `from`, one `every` so often, from `start` to `end`.
    #[must_use]
    pub fn new(
        flow: usize,
        from: Side,
        length: usize,
        every: Duration,
        start: Time,
        end: Time,
    ) -> Self {
        Self {
            flow,
            from,
            protocol: Protocol::Udp,
            length: length.max(UDP_HEAD + 4),
            every,
            next: start,
            end,
            arrivals: Arrivals::default(),
            delays: Vec::new(),
        }
    }

    /// The same over port 443.
    #[must_use]
    pub const fn quic(mut self) -> Self {
        self.protocol = Protocol::Quic;
        self
    }

    pub(super) fn due(&self) -> Option<Time> {
        (self.next < self.end).then_some(self.next)
    }

    pub(super) fn run(&mut self, now: Time, net: &mut Net) {
        net.send(now, self.flow, self.from, self.protocol, &[], self.length);
        self.next = self.next + self.every;
    }

    pub(super) fn packet(&mut self, now: Time, packet: &[u8], sent: Time) {
        self.arrivals.add(now, packet.len() as u32);
        self.delays.push((sent, now.since(sent).as_micros() as u64));
    }
}
