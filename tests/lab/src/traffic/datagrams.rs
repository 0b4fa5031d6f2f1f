//! A stream of datagrams one way, timed at both ends by the same clock.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::report::Quantiles;
use crate::ns::Namespace;

/// A stream of datagrams to send.
#[derive(Debug, Clone, Copy)]
pub struct Datagrams {
    /// UDP payload of each, in bytes; at least 16.
    pub size: usize,
    /// How many a second.
    pub per_second: f64,
    /// For how long.
    pub time: Duration,
}

impl Datagrams {
    /// So many Mbit/s of IPv4 packets, in datagrams of 1,200 bytes.
    #[must_use]
    pub fn of_rate(mbit: f64, time: Duration) -> Self {
        let size = 1200_u16;
        let per_second = mbit * 1e6 / 8.0 / f64::from(size + IP_AND_UDP);
        Self { size: size.into(), per_second, time }
    }

    /// A call's: 50 a second of 160 bytes.
    #[must_use]
    pub const fn call(time: Duration) -> Self {
        Self { size: 160, per_second: 50.0, time }
    }

    /// Bytes that the whole stream takes as IPv4 packets.
    #[must_use]
    pub fn ip_bytes(&self, count: u64) -> u64 {
        count * (self.size as u64 + u64::from(IP_AND_UDP))
    }
}

/// Headers of an IPv4 packet with UDP.
const IP_AND_UDP: u16 = 28;

/// What came of a stream.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Flow {
    /// Datagrams sent.
    pub sent: u64,
    /// Those that arrived, each counted once.
    pub received: u64,
    /// Copies of those.
    pub duplicates: u64,
    /// Those that arrived after one sent later.
    pub reordered: u64,
    /// One-way delays.
    pub delay: Quantiles,
    /// The longest time between two arrivals, in ms.
    pub longest_gap_ms: f64,
    /// When that silence began, in seconds after the start.
    pub gap_at_s: f64,
}

impl Flow {
    /// The share that arrived.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub fn delivered(&self) -> f64 {
        self.received as f64 / self.sent.max(1) as f64
    }

    /// Those that did not.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

/// Sends from a socket of `from` at `near` to one of `to` at `far`. Blocks for as long as the
/// stream lasts, and half a second for stragglers.
///
/// # Errors
/// When no sockets are given, or not even the first datagram of the far end's NAT comes through.
pub fn stream(
    lan: &Namespace,
    inet: &Namespace,
    origin: SocketAddr,
    towards_lan: bool,
    job: &Datagrams,
) -> io::Result<Flow> {
    let here = lan.udp_socket(([0, 0, 0, 0], 0).into())?;
    let there = inet.udp_socket((origin.ip(), 0).into())?;
    let peer = there.local_addr()?;
    for socket in [&here, &there] {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    }
    // The LAN speaks first: only then has the server's NAT a way back.
    let seen = greet(&here, &there, peer)?;
    if towards_lan { run(&there, seen, &here, job) } else { run(&here, peer, &there, job) }
}

/// The address that `there` sees `here` under.
fn greet(here: &UdpSocket, there: &UdpSocket, peer: SocketAddr) -> io::Result<SocketAddr> {
    let mut buffer = [0; 16];
    for _ in 0..50 {
        here.send_to(b"hello", peer)?;
        if let Ok((_, from)) = there.recv_from(&mut buffer) {
            // What else of this is under way would be counted for a datagram.
            while there.recv_from(&mut buffer).is_ok() {}
            return Ok(from);
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no datagram came through"))
}

fn run(from: &UdpSocket, to: SocketAddr, at: &UdpSocket, job: &Datagrams) -> io::Result<Flow> {
    let start = Instant::now();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(at, start, &over));
        let sent = send(from, to, start, job);
        std::thread::sleep(Duration::from_millis(500));
        over.store(true, Ordering::Relaxed);
        let mut flow = receiver.join().unwrap_or_default();
        flow.sent = sent?;
        Ok(flow)
    })
}

fn send(from: &UdpSocket, to: SocketAddr, start: Instant, job: &Datagrams) -> io::Result<u64> {
    let mut packet = vec![0; job.size.max(16)];
    let mut sent = 0_u64;
    loop {
        let now = start.elapsed();
        if now >= job.time {
            return Ok(sent);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of a minute")]
        let due = Duration::from_secs_f64(sent as f64 / job.per_second);
        if due > now {
            std::thread::sleep(due - now);
            continue;
        }
        packet[..8].copy_from_slice(&sent.to_be_bytes());
        let at = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        packet[8..16].copy_from_slice(&at.to_be_bytes());
        match from.send_to(&packet, to) {
            Ok(_) => {}
            // A queue on this machine is full, or an earlier datagram was answered by ICMP: lost.
            Err(error) if error.kind() != io::ErrorKind::InvalidInput => {}
            Err(error) => return Err(error),
        }
        sent += 1;
    }
}

fn receive(at: &UdpSocket, start: Instant, over: &AtomicBool) -> Flow {
    let mut flow = Flow::default();
    let mut seen = Vec::new();
    let mut delays = Vec::new();
    let mut newest = None;
    let mut last = None::<Duration>;
    let mut buffer = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let Ok(len) = at.recv(&mut buffer) else { continue };
        let now = start.elapsed();
        let Some((seq, sent_at)) = header(&buffer[..len]) else { continue };
        let index = usize::try_from(seq).unwrap_or(usize::MAX);
        // A minute of the fastest stream that is sent.
        if index > 10_000_000 {
            continue;
        }
        if seen.len() <= index {
            seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut seen[index], true) {
            flow.duplicates += 1;
            continue;
        }
        flow.received += 1;
        flow.reordered += u64::from(newest.is_some_and(|newest| seq < newest));
        newest = newest.max(Some(seq));
        delays.push(now.saturating_sub(sent_at));
        if let Some(last) = last {
            let gap = now.saturating_sub(last).as_secs_f64() * 1e3;
            if gap > flow.longest_gap_ms {
                (flow.longest_gap_ms, flow.gap_at_s) = (gap, last.as_secs_f64());
            }
        }
        last = Some(now);
    }
    flow.delay = Quantiles::of(&delays);
    flow
}

/// Number and time of sending, since the start.
fn header(packet: &[u8]) -> Option<(u64, Duration)> {
    let number = |at: usize| Some(u64::from_be_bytes(packet.get(at..at + 8)?.try_into().ok()?));
    Some((number(0)?, Duration::from_nanos(number(8)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_loopback_everything_arrives_in_order() {
        let (from, at) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        at.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let job = Datagrams { size: 100, per_second: 500.0, time: Duration::from_millis(200) };
        let flow = run(&from, at.local_addr().unwrap(), &at, &job).unwrap();
        assert!(flow.sent > 0);
        assert_eq!((flow.lost(), flow.reordered, flow.duplicates), (0, 0, 0), "{flow:?}");
    }

    #[test]
    fn a_rate_counts_ip_packets() {
        let job = Datagrams::of_rate(12.28, Duration::from_secs(1));
        assert!((job.per_second - 1250.0).abs() < 1e-6, "{job:?}");
        assert_eq!(job.ip_bytes(2), 2456);
    }
}
