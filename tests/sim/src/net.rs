//! The two ends, and packets made for them.

use std::time::Duration;

use wanbond_proto::datagram::PathId;
use wanbond_proto::session::Role;
use wanbond_proto::tunnel::{Tunnel, TunnelConfig};

use crate::envelope::Envelope;
use crate::{Ledger, Time};

/// The TUN's MTU.
pub const MTU: usize = 1400;
/// IPv4 and UDP header.
pub const UDP_HEAD: usize = 28;
/// IPv4 and TCP header with timestamps.
pub const TCP_HEAD: usize = 52;

/// An end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The LAN's.
    Router,
    /// The Internet's.
    Server,
}

impl Side {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Router, Self::Server];

    /// 0 or 1.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Router => Self::Server,
            Self::Server => Self::Router,
        }
    }
}

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP, identified by the flow's number.
    Icmp,
    /// UDP.
    Udp,
    /// UDP to port 443.
    Quic,
    /// TCP.
    Tcp,
}

/// One end of the tunnel.
#[derive(Debug)]
pub struct End {
    /// The machine.
    pub tunnel: Tunnel,
    /// What seals its datagrams, and opens those of the other end.
    pub envelope: Envelope,
    /// What its clock shows at the start.
    offset: Duration,
}

impl End {
    fn new(side: Side, offset: Duration, seed: u64) -> Self {
        let start = wanbond_proto::Time::ZERO + offset;
        let role = match side {
            Side::Router => Role::Router,
            Side::Server => Role::Server,
        };
        let tunnel = Tunnel::new(role, start, &TunnelConfig::small(seed));
        Self { tunnel, envelope: Envelope::new(side), offset }
    }

    /// Its clock.
    #[must_use]
    pub fn clock(&self, now: Time) -> wanbond_proto::Time {
        wanbond_proto::Time::from_micros(now.as_nanos() / 1000) + self.offset
    }

    /// When it wants to be called, in the simulation's clock.
    #[must_use]
    pub fn due(&self) -> Option<Time> {
        let at = self.tunnel.poll_timeout()?.as_micros();
        let offset = u64::try_from(self.offset.as_micros()).unwrap_or(u64::MAX);
        Some(Time::from_nanos(at.saturating_sub(offset).saturating_mul(1000)))
    }
}

/// What traffic has to do with: both ends, and the ledger.
#[derive(Debug)]
pub struct Net {
    /// By [`Side::index`].
    pub ends: [End; 2],
    /// Sees every packet.
    pub ledger: Ledger,
    /// Without a tunnel: packets for the link, and who sends them.
    pub(crate) bare: Option<Vec<(Side, Vec<u8>)>>,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        // Their clocks have nothing to do with each other; one wraps 32 bits of µs after a while.
        let router = Duration::from_micros((1 << 32) - 3_000_000);
        let server = Duration::from_micros(seed % 1_000_000_007 + 77_000_000);
        Self {
            ends: [
                End::new(Side::Router, router, seed ^ 0x7070),
                End::new(Side::Server, server, seed ^ 0x0abc),
            ],
            ledger: Ledger::default(),
            bare: None,
        }
    }

    /// The end at `side`.
    pub const fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side.index()]
    }

    pub(crate) fn set_path(&mut self, now: Time, side: Side, id: PathId) {
        let end = self.end(side);
        let at = end.clock(now);
        end.tunnel.set_path(at, id, crate::link::IP_UDP, crate::link::ETHERNET);
    }

    /// Puts a packet of `flow` into the tunnel at `side`. `head` are the bytes behind the IP header
    /// that are the protocol's, whose place for the serial is left to be filled; `length` is that of
    /// the whole packet.
    pub fn send(
        &mut self,
        now: Time,
        flow: usize,
        side: Side,
        protocol: Protocol,
        head: &[u8],
        length: usize,
    ) -> u32 {
        let serial = self.ledger.next_serial(flow, side);
        let end = &mut self.ends[side.index()];
        let mut packet = end.tunnel.buffer();
        fill(&mut packet, flow, side, protocol, head, length);
        let place = serial_at(protocol);
        packet[place..place + 4].copy_from_slice(&serial.to_be_bytes());
        self.ledger.sent(now, flow, side, &packet);
        if let Some(bare) = &mut self.bare {
            bare.push((side, packet));
            return serial;
        }
        let at = end.clock(now);
        end.tunnel.handle_packet(at, packet);
        serial
    }
}

fn serial_at(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Icmp | Protocol::Udp | Protocol::Quic => UDP_HEAD,
        // The value of the timestamp option.
        Protocol::Tcp => 44,
    }
}

fn fill(
    packet: &mut Vec<u8>,
    flow: usize,
    side: Side,
    protocol: Protocol,
    head: &[u8],
    length: usize,
) {
    let number = match protocol {
        Protocol::Icmp => 1,
        Protocol::Udp | Protocol::Quic => 17,
        Protocol::Tcp => 6,
    };
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&(length as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, number, 0, 0]);
    packet.extend_from_slice(&[10, 0, side as u8, 1, 10, 0, side.other() as u8, 1]);
    let sum = checksum(packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let port = 10_000 + flow as u16;
    match protocol {
        Protocol::Icmp => {
            packet.extend_from_slice(&[8, 0, 0, 0]);
            packet.extend_from_slice(&port.to_be_bytes());
            packet.extend_from_slice(&[0, 0]);
        }
        Protocol::Udp | Protocol::Quic => {
            let other = if protocol == Protocol::Quic { 443 } else { port };
            let ports = if side == Side::Router { [port, other] } else { [other, port] };
            packet.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
            packet.extend_from_slice(&((length - 20) as u16).to_be_bytes());
            packet.extend_from_slice(&[0, 0]);
        }
        Protocol::Tcp => {
            packet.extend_from_slice(&port.to_be_bytes());
            packet.extend_from_slice(&port.to_be_bytes());
        }
    }
    packet.extend_from_slice(head);
    let body = packet.len();
    packet.resize(length.max(body), 0);
    // Something that tells pieces of a packet from one another.
    for (at, byte) in packet[body..].iter_mut().enumerate() {
        *byte = (at % 251) as u8 ^ flow as u8;
    }
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 =
        header.chunks_exact(2).map(|p| u32::from(u16::from_be_bytes([p[0], p[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Bytes before the packet in its frame.
const PACKET_HEAD: usize = 8;

/// The packets of `from` in a datagram's body, each of which may be cut off at its end.
pub(crate) fn packets_in(body: &[u8], from: Side) -> impl Iterator<Item = &[u8]> {
    // Both addresses: nothing else in a run looks like that.
    let addresses = [10, 0, from as u8, 1, 10, 0, from.other() as u8, 1];
    let mut at = 0;
    std::iter::from_fn(move || {
        // A frame's kind, its flow and sequence; the last word of its head says how much of a packet
        // follows. The sum of several packets can look like one, but its head does not.
        while let Some(window) = body.get(at..at + PACKET_HEAD + 20) {
            at += 1;
            let (head, packet) = window.split_at(PACKET_HEAD);
            if head[0] >> 4 == 3 && packet[0] == 0x45 && packet[12..] == addresses {
                let length = usize::from(u16::from_be_bytes([head[6], head[7]]));
                let packet = &body[at - 1 + PACKET_HEAD..];
                return Some(&packet[..length.min(packet.len())]);
            }
        }
        None
    })
}

/// Whether none of a packet is missing at its end.
pub(crate) fn is_whole(packet: &[u8]) -> bool {
    packet.len() >= usize::from(u16::from_be_bytes([packet[2], packet[3]]))
}

/// A packet's flow and serial. `None`: none of ours.
#[must_use]
pub fn identify(packet: &[u8]) -> Option<(usize, u32)> {
    let at = |place: usize| packet.get(place..place + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
    let (port, protocol) = match packet.get(9)? {
        1 => (at(24)?, Protocol::Icmp),
        17 => (at(20)?.max(at(22)?), Protocol::Udp),
        6 => (at(20)?, Protocol::Tcp),
        _ => return None,
    };
    let place = serial_at(protocol);
    let serial = packet.get(place..)?.first_chunk()?;
    Some((usize::from(port.checked_sub(10_000)?), u32::from_be_bytes(*serial)))
}
