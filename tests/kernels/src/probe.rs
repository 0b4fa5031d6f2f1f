//! A LAN host that sends small packets steadily and hears them come back, as a call or a game does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Quantiles, origin};

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Datagrams as large as a call's.
    Udp,
    /// Echo requests.
    Ping,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Echoes {
    pub(crate) sent: usize,
    pub(crate) received: usize,
    /// The longest time in which nothing new came, in ms.
    pub(crate) longest_gap_ms: f64,
    /// When that began, in seconds after the start.
    pub(crate) gap_at_s: f64,
    pub(crate) round_trips: Quantiles,
}

/// An echo request's or reply's header (RFC 792): type, code, checksum, identifier, sequence. The
/// kernel fills in checksum and identifier.
const ICMP_HEAD: usize = 8;
const ECHO_REQUEST: u8 = 8;
/// Of a call's packet with 20 ms of speech.
const PAYLOAD: usize = 160;
/// How long the last ones are waited for.
const LINGER: Duration = Duration::from_secs(1);

/// Sends one packet each `every`, for `time`, from a LAN host to the Internet's echo server.
pub(crate) async fn probe(
    ns: &Namespace,
    kind: Kind,
    every: Duration,
    time: Duration,
) -> io::Result<Echoes> {
    let socket = match kind {
        Kind::Udp => ns.udp_socket((Ipv4Addr::UNSPECIFIED, 0).into())?,
        Kind::Ping => ns.run(ping_socket)?,
    };
    let socket = UdpSocket::from_std(socket)?;
    let to: SocketAddr = (ORIGIN_V4, if kind == Kind::Udp { origin::ECHO } else { 0 }).into();
    let start = Instant::now();
    let sent = tokio::sync::Mutex::new(Vec::new());
    let send = async {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while start.elapsed() < time {
            ticks.tick().await;
            let mut sent = sent.lock().await;
            let packet = packet(kind, sent.len());
            sent.push(Instant::now());
            // A network that says no for a moment is what is measured here.
            let _ = socket.send_to(&packet, to).await;
        }
        tokio::time::sleep(LINGER).await;
    };
    let mut came: Vec<Option<Duration>> = Vec::new();
    let mut gap = (Duration::ZERO, start);
    let mut last = None;
    let receive = async {
        let mut buffer = [0; 2048];
        loop {
            let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
            let now = Instant::now();
            let Some(number) = number(kind, &buffer[..length]) else { continue };
            let Some(left) = sent.lock().await.get(number).copied() else { continue };
            came.resize(came.len().max(number + 1), None);
            // The second of two that are alike brings nothing new.
            if came[number].replace(now - left).is_none() {
                let before = last.replace(now).unwrap_or(now);
                gap = gap.max((now - before, before));
            }
        }
    };
    tokio::select! {
        () = send => {}
        () = receive => {}
    }
    let round_trips: Vec<_> = came.iter().flatten().copied().collect();
    Ok(Echoes {
        sent: sent.into_inner().len(),
        received: round_trips.len(),
        longest_gap_ms: gap.0.as_secs_f64() * 1e3,
        gap_at_s: (gap.1 - start).as_secs_f64(),
        round_trips: Quantiles::of(&round_trips),
    })
}

fn packet(kind: Kind, number: usize) -> Vec<u8> {
    // An hour at 50 a second is below 2^18, and a ping's sequence number is not looked at.
    let number = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let mut packet = Vec::new();
    if kind == Kind::Ping {
        packet.extend([ECHO_REQUEST, 0, 0, 0, 0, 0, number[2], number[3]]);
    }
    packet.extend(number);
    packet.resize(packet.len() + PAYLOAD, 0x55);
    packet
}

fn number(kind: Kind, packet: &[u8]) -> Option<usize> {
    let at = if kind == Kind::Ping { ICMP_HEAD } else { 0 };
    let bytes = packet.get(at..at + 4)?;
    usize::try_from(u32::from_be_bytes(bytes.try_into().ok()?)).ok()
}

/// A socket of the kernel's own ping, which needs no raw packets.
fn ping_socket() -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::ICMPV4))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether a UDP echo comes back at all within `patience`.
pub(crate) async fn answers(ns: &Namespace, kind: Kind, patience: Duration) -> bool {
    let every = Duration::from_millis(200);
    let work = async {
        loop {
            if probe(ns, kind, every, every).await.is_ok_and(|echoes| echoes.received > 0) {
                return;
            }
        }
    };
    timeout(patience, work).await.is_ok()
}
