//! What goes through the tunnel.

mod cubic;
mod ping;
mod stream;
mod tcp;
mod tcp_receiver;
mod udp;

use wanbond_proto::tunnel::stream::StreamEvent;

use crate::Time;
use crate::net::{Net, Side};

pub use ping::Ping;
pub use stream::StreamTransfer;
pub use tcp::Tcp;
pub use udp::Udp;

/// One flow.
#[derive(Debug)]
pub enum Traffic {
    /// UDP at a constant rate.
    Udp(Udp),
    /// Requests and their answers.
    Ping(Ping),
    /// A TCP connection, as packets.
    Tcp(Box<Tcp>),
    /// A stream of the tunnel.
    Stream(StreamTransfer),
}

/// When how much arrived, for throughput and gaps.
#[derive(Debug, Default)]
pub struct Arrivals(Vec<(Time, u32)>);

impl Arrivals {
    pub(crate) fn add(&mut self, now: Time, bytes: u32) {
        self.0.push((now, bytes));
    }

    /// Bytes that arrived within a span of time.
    #[must_use]
    pub fn bytes(&self, from: Time, to: Time) -> u64 {
        let within = self.0.iter().filter(|(at, _)| *at >= from && *at < to);
        within.map(|&(_, bytes)| u64::from(bytes)).sum()
    }

    /// The longest time within a span in which nothing arrived, µs.
    #[must_use]
    pub fn longest_gap(&self, from: Time, to: Time) -> u64 {
        let within = self.0.iter().map(|&(at, _)| at).filter(|&at| at >= from && at < to);
        let mut last = from;
        let mut longest = 0;
        for at in within.chain([to]) {
            longest = longest.max(at.as_nanos() - last.as_nanos());
            last = at;
        }
        longest / 1000
    }
}

impl Traffic {
    /// What arrived.
    #[must_use]
    pub const fn arrivals(&self) -> &Arrivals {
        match self {
            Self::Udp(udp) => &udp.arrivals,
            Self::Ping(ping) => &ping.arrivals,
            Self::Tcp(tcp) => &tcp.arrivals,
            Self::Stream(stream) => &stream.arrivals,
        }
    }

    /// Times that packets took, µs: one way for UDP, both for pings.
    #[must_use]
    pub fn delays(&self) -> &[(Time, u64)] {
        match self {
            Self::Udp(udp) => &udp.delays,
            Self::Ping(ping) => &ping.delays,
            Self::Tcp(_) | Self::Stream(_) => &[],
        }
    }

    /// Whether it has got everything across that it must: streams and TCP do not give up.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        match self {
            Self::Udp(_) | Self::Ping(_) => true,
            Self::Tcp(tcp) => tcp.is_done(),
            Self::Stream(stream) => stream.finished && stream.closed[0] && stream.closed[1],
        }
    }

    pub(crate) fn due(&self) -> Option<Time> {
        match self {
            Self::Udp(udp) => udp.due(),
            Self::Ping(ping) => ping.due(),
            Self::Tcp(tcp) => tcp.due(),
            Self::Stream(stream) => stream.due(),
        }
    }

    pub(crate) fn run(&mut self, now: Time, net: &mut Net) {
        match self {
            Self::Udp(udp) => udp.run(now, net),
            Self::Ping(ping) => ping.run(now, net),
            Self::Tcp(tcp) => tcp.run(now, net),
            Self::Stream(stream) => stream.run(now, net),
        }
    }

    /// A packet of this flow came out at `side`.
    pub(crate) fn packet(
        &mut self,
        now: Time,
        side: Side,
        packet: &[u8],
        sent: Time,
        net: &mut Net,
    ) {
        match self {
            Self::Udp(udp) => udp.packet(now, packet, sent),
            Self::Ping(ping) => ping.packet(now, side, packet, sent, net),
            Self::Tcp(tcp) => tcp.packet(now, side, packet, net),
            Self::Stream(_) => {}
        }
    }

    pub(crate) fn stream(&mut self, now: Time, side: Side, event: StreamEvent, net: &mut Net) {
        if let Self::Stream(stream) = self {
            stream.event(now, side, event, net);
        }
    }
}
