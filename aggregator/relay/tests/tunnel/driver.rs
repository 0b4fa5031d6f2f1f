//! Packets through two drivers and real sockets, over two paths at once.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::datagram::{PathId, is_tunnel};
use wanbond_proto::session::Role;
use wanbond_proto::tunnel::TunnelConfig;
use wanbond_relay::Clock;
use wanbond_relay::tunnel::{PathEnd, PathSocket, TunnelDriver, TunnelKeys, TunnelSink};
use wanbond_relay::udp::{Inbox, UdpEnd};

use super::{Offloads, session::sessions, socket, within};

const FLOWS: u8 = 3;
const WANTED: usize = 2000;
/// Of IPv4 and TCP.
const HEADERS: usize = 40;
const MTU: u16 = 1500;

/// A packet of a TCP flow; `number` in its sequence number and all over its payload.
fn packet(flow: u8, number: u32) -> Vec<u8> {
    let length = 200 + (number as usize * 37) % 1200;
    let mut packet = vec![number as u8; length];
    packet[..HEADERS].fill(0);
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    packet[8..10].copy_from_slice(&[64, 6]);
    packet[12..20].copy_from_slice(&[10, 0, 0, 1, 192, 0, 2, flow]);
    packet[20..24].copy_from_slice(&[1, flow, 0, 80]);
    packet[24..28].copy_from_slice(&number.to_be_bytes());
    packet
}

#[derive(Default)]
struct Seen {
    next: [u32; FLOWS as usize],
    count: usize,
    overtaken: usize,
}

/// Checks what is delivered.
#[derive(Clone, Default)]
struct Checker(Arc<Mutex<Seen>>);

impl Checker {
    fn count(&self) -> usize {
        self.0.lock().unwrap().count
    }

    /// Where this machine stalls for longer than a repair takes, packets are given up and come late.
    fn check_order(&self) {
        let seen = self.0.lock().unwrap();
        assert!(seen.overtaken * 50 < seen.count, "{} of {}", seen.overtaken, seen.count);
    }
}

impl TunnelSink for Checker {
    fn deliver(&self, packets: &[Vec<u8>]) {
        let mut seen = self.0.lock().unwrap();
        for got in packets {
            let flow = got[19];
            let number = u32::from_be_bytes([got[24], got[25], got[26], got[27]]);
            assert_eq!(*got, packet(flow, number), "damaged");
            let next = &mut seen.next[usize::from(flow)];
            let late = number < *next;
            *next = (*next).max(number + 1);
            seen.overtaken += usize::from(late);
            seen.count += 1;
        }
    }
}

/// One end of the tunnel, reading its sockets.
fn end(role: Role, keys: TunnelKeys, sockets: &[Arc<UdpEnd>]) -> (Arc<TunnelDriver>, Checker) {
    let checker = Checker::default();
    let config = TunnelConfig::small(7);
    let driver = TunnelDriver::start(role, Clock::start(), &config, Box::new(checker.clone()));
    driver.use_session(&keys);
    let keys = Arc::new(keys);
    for udp in sockets {
        let (driver, keys, udp) = (Arc::clone(&driver), Arc::clone(&keys), Arc::clone(udp));
        tokio::spawn(async move {
            let mut inbox = Inbox::default();
            loop {
                udp.receive(&mut inbox).await.unwrap();
                let more = inbox.is_full();
                for mut arrival in inbox.arrivals() {
                    let way = PathSocket {
                        end: PathEnd::Udp(Arc::clone(&udp)),
                        destination: arrival.from,
                        source: None,
                    };
                    driver.receive(&keys, &way, arrival.datagrams().filter(|d| is_tunnel(d)));
                }
                driver.settle(more);
            }
        });
    }
    (driver, checker)
}

async fn two_sockets(offloads: Offloads) -> (Vec<Arc<UdpEnd>>, Vec<SocketAddr>) {
    let mut both = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let (udp, address) = socket(offloads).await;
        both.0.push(Arc::new(udp));
        both.1.push(address);
    }
    both
}

/// Feeds packets until enough have arrived. Some may be dropped at the entry, to keep it short;
/// none may be damaged.
async fn transfer(offloads: Offloads) {
    let (near, _) = two_sockets(offloads).await;
    let (far, addresses) = two_sockets(offloads).await;
    let (router, server) = sessions(Suite::ChaCha20Poly1305);
    let (router, back) = end(Role::Router, TunnelKeys::new(&router), &near);
    let (server, there) = end(Role::Server, TunnelKeys::new(&server), &far);
    for (number, (udp, &destination)) in near.iter().zip(&addresses).enumerate() {
        let way = PathSocket { end: PathEnd::Udp(Arc::clone(udp)), destination, source: None };
        router.set_path(PathId::new(number as u8).unwrap(), way, MTU);
    }
    let mut number = 0;
    while there.count() < WANTED || back.count() < WANTED {
        let packets: Vec<_> =
            (number..number + 10).flat_map(|n| (0..FLOWS).map(move |f| packet(f, n))).collect();
        number += 10;
        router.handle_packets(packets.iter().map(Vec::as_slice));
        server.handle_packets(packets.iter().map(Vec::as_slice));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    there.check_order();
    back.check_order();
}

#[tokio::test]
async fn packets_pass_on_one_core() {
    for offloads in Offloads::ALL {
        within(transfer(offloads)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_pass_on_several_cores() {
    for offloads in Offloads::ALL {
        within(transfer(offloads)).await;
    }
}
