//! Both ends of a tunnel, joined without a network between them.

use std::time::Duration;

use wanbond_proto::Time;
use wanbond_proto::datagram::{HEADER_LEN, PathId};
use wanbond_proto::session::Role;
use wanbond_proto::tunnel::{Tunnel, TunnelConfig};

const DELAY: Duration = Duration::from_millis(5);

/// Two ends and what is on its way between them.
struct Pair {
    ends: [Tunnel; 2],
    flying: Vec<(Time, usize, PathId, u64, Vec<u8>)>,
    now: Time,
    most: u16,
}

fn path(number: u8) -> PathId {
    PathId::new(number).unwrap()
}

impl Pair {
    fn new(paths: u8, most: u16) -> Self {
        let now = Time::from_millis(1000);
        let config = TunnelConfig::small(7);
        let mut ends = [Role::Router, Role::Server].map(|role| Tunnel::new(role, now, &config));
        for end in &mut ends {
            for number in 0..paths {
                end.set_path(now, path(number), 28, 1472);
            }
        }
        Self { ends, flying: Vec::new(), now, most }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for (from, tunnel) in self.ends.iter_mut().enumerate() {
                tunnel.handle_timeout(self.now);
                let mut out = Vec::new();
                while let Some(transmit) = tunnel.poll_transmit(self.now, &mut out) {
                    let body = out.split_off(HEADER_LEN);
                    out.clear();
                    if body.len() + 28 <= usize::from(self.most) {
                        let arrival = self.now + DELAY;
                        self.flying.push((arrival, 1 - from, transmit.path, transmit.number, body));
                    }
                }
            }
            self.now += Duration::from_micros(500);
            let now = self.now;
            let (due, later) =
                std::mem::take(&mut self.flying).into_iter().partition(|flying| flying.0 <= now);
            self.flying = later;
            for (_, to, path, number, body) in due {
                self.ends[to].handle_datagram(now, path, number, &body).unwrap();
            }
        }
    }

    fn received(&mut self, end: usize) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.ends[end].poll_packet()).collect()
    }
}

fn udp(length: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend_from_slice(&[3, 0xe8, 0, 7, 0, 0, 0, 0]);
    packet.extend((packet.len()..length).map(|i| i as u8));
    packet
}

#[test]
fn packets_of_every_size_pass_at_once() {
    for most in [1472, 1232] {
        let mut pair = Pair::new(2, most);
        pair.run(Duration::from_millis(50));
        for length in [28, 100, 1200, 1201, 1232, 1300, 1400] {
            for (from, to) in [(0, 1), (1, 0)] {
                let now = pair.now;
                pair.ends[from].handle_packet(now, udp(length));
                pair.run(Duration::from_millis(20));
                assert_eq!(pair.received(to), [udp(length)], "{length} bytes, link {most}");
            }
        }
    }
}
