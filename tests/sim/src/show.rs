//! The figures that the tunnel is judged by, in settings that are public.

use std::time::Duration;

use crate::link::{LinkSpec, millionths};
use crate::net::Side;
use crate::stats::{permille, quantile};
use crate::traffic::{Ping, StreamTransfer, Tcp, Traffic, Udp};
use crate::{Time, World};

/// Traffic runs for so long before anything is measured.
const WARM: Time = Time::from_millis(2_000);
/// When measuring ends.
const END: Time = Time::from_millis(12_000);
const ENDLESS: u64 = 1 << 40;

/// WANs to measure over.
#[derive(Debug, Clone)]
pub struct Setting {
    /// For tables.
    pub name: &'static str,
    /// Its WANs.
    pub links: Vec<LinkSpec>,
}

/// What bulk traffic is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bulk {
    /// Streams of the tunnel.
    Streams,
    /// TCP connections, as packets.
    Packets,
}

impl Setting {
    /// Two ADSL lines.
    #[must_use]
    pub fn s1() -> Self {
        Self {
            name: "S1",
            links: vec![
                LinkSpec::uneven(8_410, 785, 20, 100),
                LinkSpec::uneven(8_760, 745, 20, 100),
            ],
        }
    }

    /// Fibre and LTE.
    #[must_use]
    pub fn s2() -> Self {
        let lte = LinkSpec::uneven(40_000, 10_000, 30, 150).with(|shape| {
            shape.jitter = Duration::from_millis(5);
            shape.loss = millionths(3_000);
        });
        Self { name: "S2", links: vec![LinkSpec::uneven(100_000, 20_000, 6, 50), lte] }
    }

    /// A dish whose packets get lost in bursts, and DSL.
    #[must_use]
    pub fn starlink() -> Self {
        let burst = wanbond_lab::emulator::Burst {
            enter: millionths(500),
            leave: millionths(200_000),
            loss: millionths(800_000),
        };
        let dish = LinkSpec::uneven(150_000, 15_000, 18, 150).with(|shape| {
            shape.jitter = Duration::from_millis(4);
            shape.loss = millionths(1_000);
            shape.burst = Some(burst);
        });
        Self { name: "Starlink", links: vec![dish, LinkSpec::uneven(16_000, 2_000, 12, 100)] }
    }

    /// With this much loss on all links, in millionths, in place of what they had.
    #[must_use]
    pub fn lossy(mut self, loss: u64) -> Self {
        for link in &mut self.links {
            *link = link.with(|shape| shape.loss = millionths(loss));
        }
        self.name = match self.name {
            "S1" => "S1 lossy",
            "S2" => "S2 lossy",
            other => other,
        };
        self
    }

    /// With a third path of 2 Mbit/s and 400 ms.
    #[must_use]
    pub fn with_third(mut self) -> Self {
        self.links.push(LinkSpec::even(2_000, 200, 200));
        self
    }

    /// The sum of the links' rates for what `side` sends, bytes of IP packets per second.
    #[must_use]
    pub fn rate(&self, side: Side) -> u64 {
        let rates = self.links.iter().filter_map(|link| link.from_side(side).rate);
        rates.map(|rate| rate.bits_per_second() / 8).sum()
    }

    /// The best link's idle round trip, µs.
    #[must_use]
    pub fn best_rtt(&self) -> u64 {
        let trips = self.links.iter().map(|link| (link.up.delay + link.down.delay).as_micros());
        trips.min().unwrap_or(0) as u64
    }

    /// A world of these links.
    #[must_use]
    pub fn world(&self, seed: u64) -> World {
        World::new(&self.links, seed)
    }
}

/// Adds `count` endless transfers.
pub fn add_bulk(
    world: &mut World,
    bulk: Bulk,
    from: Side,
    count: usize,
    start: Time,
) -> Vec<usize> {
    (0..count)
        .map(|_| match bulk {
            Bulk::Streams => {
                world.add(|_| Traffic::Stream(StreamTransfer::new(from, ENDLESS, start)))
            }
            Bulk::Packets => {
                world.add(|flow| Traffic::Tcp(Box::new(Tcp::new(flow, from, ENDLESS, start))))
            }
        })
        .collect()
}

/// Bytes that `flows` brought in a span.
#[must_use]
pub fn bytes(world: &World, flows: &[usize], from: Time, to: Time) -> u64 {
    flows.iter().map(|&flow| world.traffic(flow).arrivals().bytes(from, to)).sum()
}

/// Delays of what was sent once paths were known, µs.
fn settled(world: &World, flow: usize) -> Vec<u64> {
    let delays = world.traffic(flow).delays().iter();
    delays.filter(|(sent, _)| *sent >= WARM).map(|&(_, delay)| delay).collect()
}

fn check(world: &World) {
    if let Some(faults) = world.net.ledger.faults() {
        panic!("{faults}");
    }
}

/// Goodput of `count` bulk transfers, in thousandths of the links' sum.
#[must_use]
pub fn goodput(setting: &Setting, bulk: Bulk, from: Side, count: usize) -> u64 {
    let mut world = setting.world(1);
    let flows = add_bulk(&mut world, bulk, from, count, Time::from_millis(100));
    world.run_until(END);
    check(&world);
    let seconds = END.since(WARM).as_secs();
    permille(bytes(&world, &flows, WARM, END), setting.rate(from) * seconds)
}

/// What became of UDP.
#[derive(Debug, Clone, Copy)]
pub struct UdpFigures {
    /// Lost packets per million.
    pub lost: u64,
    /// One way, µs.
    pub p99: u64,
    /// In thousandths of all.
    pub overtaken: u64,
    /// Bytes on the wire beyond those of the flow's packets, in thousandths of them.
    pub overhead: u64,
}

/// UDP from `from` of `share` thousandths of the links' sum.
#[must_use]
pub fn udp(setting: &Setting, from: Side, share: u64) -> UdpFigures {
    let every = 1228 * 1_000_000_000 * 1000 / (setting.rate(from) * share);
    udp_every(setting, from, 1228, Duration::from_nanos(every))
}

/// UDP packets of `length` from `from`, one `every` so often.
#[must_use]
pub fn udp_every(setting: &Setting, from: Side, length: usize, every: Duration) -> UdpFigures {
    let mut world = setting.world(2);
    let start = Time::from_millis(300);
    let flow = world.add(|flow| Traffic::Udp(Udp::new(flow, from, length, every, start, END)));
    world.run_until(END + Duration::from_secs(2));
    check(&world);
    let tally = world.net.ledger.tally(flow, from);
    let delays = settled(&world, flow);
    let wire: u64 = world.links.iter_mut().map(|link| link.pipe(from).counters().bytes_in).sum();
    let own = tally.sent * length as u64;
    UdpFigures {
        lost: (tally.sent - tally.came) * 1_000_000 / tally.sent.max(1),
        p99: quantile(&delays, 990),
        overtaken: permille(tally.overtaken, tally.sent),
        overhead: permille(wire.saturating_sub(own), own),
    }
}

/// The 99th percentile of pings' round trips under a saturating transfer, µs; and how many got
/// lost, in thousandths.
#[must_use]
pub fn ping_under_load(setting: &Setting, bulk: Bulk, from: Side) -> (u64, u64) {
    let mut world = setting.world(3);
    add_bulk(&mut world, bulk, from, 1, Time::from_millis(100));
    let every = Duration::from_millis(50);
    let ping = world.add(|flow| Traffic::Ping(Ping::new(flow, every, WARM, END)));
    world.run_until(END + Duration::from_secs(1));
    check(&world);
    let delays = settled(&world, ping);
    let sent = world.net.ledger.tally(ping, Side::Router).sent;
    (quantile(&delays, 990), permille(sent - delays.len() as u64, sent))
}

/// Of one download and pings beside it: goodput in thousandths of the links' sum, the 99th
/// percentile of pings' round trips, µs, and the bytes that the links carried beyond those that
/// arrived, in thousandths of these.
#[must_use]
pub fn all_at_once(setting: &Setting, bulk: Bulk) -> (u64, u64, u64) {
    let mut world = setting.world(6);
    let flows = add_bulk(&mut world, bulk, Side::Server, 1, Time::from_millis(100));
    let every = Duration::from_millis(50);
    let ping = world.add(|flow| Traffic::Ping(Ping::new(flow, every, WARM, END)));
    world.run_until(END);
    check(&world);
    let rate = setting.rate(Side::Server);
    let share = permille(bytes(&world, &flows, WARM, END), rate * END.since(WARM).as_secs());
    let arrived = bytes(&world, &flows, Time::ZERO, END);
    let wire: u64 =
        world.links.iter_mut().map(|link| link.pipe(Side::Server).counters().bytes_in).sum();
    let overhead = permille(wire.saturating_sub(arrived), arrived);
    (share, quantile(&settled(&world, ping), 990), overhead)
}

/// What a cut did.
#[derive(Debug, Clone, Copy)]
pub struct CutFigures {
    /// Longest time without a UDP packet, µs.
    pub udp_gap: u64,
    /// UDP packets that got lost.
    pub udp_lost: u64,
    /// Longest time without bulk data, µs.
    pub bulk_gap: u64,
    /// After the link was back, until bulk reached 90 % of what it had before, ms; 0: never.
    pub back: u64,
}

/// Cuts link `cut` without a sign at 5 s for 3 s, 50 UDP packets a second and bulk running.
#[must_use]
pub fn cut(setting: &Setting, bulk: Bulk, from: Side, cut: usize, seed: u64) -> CutFigures {
    let mut world = setting.world(seed);
    let flows = add_bulk(&mut world, bulk, from, 1, Time::from_millis(100));
    let end = Time::from_millis(14_000);
    let udp = add_call(&mut world, from, Time::from_millis(500), end);
    let (at, back) = (Time::from_millis(5_003), Time::from_millis(8_000));
    world.at(at, move |now, world| world.links[cut].set_cut(now, true));
    world.at(back, move |now, world| world.links[cut].set_cut(now, false));
    world.run_until(end);
    check(&world);
    let usual = bytes(&world, &flows, WARM, at) * 1000 / at.since(WARM).as_millis() as u64;
    let window = Duration::from_millis(400);
    let returned = (0..50)
        .map(|step| back + Duration::from_millis(step * 100))
        .find(|&from| bytes(&world, &flows, from, from + window) * 1000 / 400 >= usual * 9 / 10);
    let until = Time::from_millis(7_000);
    let tally = world.net.ledger.tally(udp, from);
    let flying = 10;
    let arrivals = |flow: usize| world.traffic(flow).arrivals();
    CutFigures {
        udp_gap: arrivals(udp).longest_gap(before(at, 200), until),
        udp_lost: (tally.sent - tally.came).saturating_sub(flying),
        bulk_gap: arrivals(flows[0]).longest_gap(before(at, 200), until),
        back: returned.map_or(0, |at| at.since(back).as_millis() as u64 + 400),
    }
}

/// Adds a call: small datagrams every 20 ms.
pub fn add_call(world: &mut World, from: Side, start: Time, end: Time) -> usize {
    let every = Duration::from_millis(20);
    world.add(|flow| Traffic::Udp(Udp::new(flow, from, 228, every, start, end)))
}

/// Goodput of a bulk transfer before, and for a second each from one second after its first link's
/// rate became `percent` of what it was and from one second after it became so again the old.
#[must_use]
pub fn follow(setting: &Setting, bulk: Bulk, from: Side, percent: u64) -> [u64; 3] {
    let mut world = setting.world(5);
    let flows = add_bulk(&mut world, bulk, from, 1, Time::from_millis(100));
    let old = *setting.links[0].from_side(from);
    let mut new = old;
    let rate = old.rate.map_or(0, |rate| rate.bits_per_second()) * percent / 100;
    new.rate = Some(wanbond_lab::units::Rate::from_bits_per_second(rate));
    let (first, second) = (Time::from_millis(6_000), Time::from_millis(12_000));
    world.at(first, move |now, world| world.links[0].pipe(from).set_shape(now, new));
    world.at(second, move |now, world| world.links[0].pipe(from).set_shape(now, old));
    world.run_until(Time::from_millis(18_000));
    check(&world);
    let sum = setting.rate(from);
    let changed = sum - old.rate.map_or(0, |rate| rate.bits_per_second() / 8) + rate / 8;
    let share = |from: u64, to: u64, sum: u64| {
        let (from, to) = (Time::from_millis(from), Time::from_millis(to));
        permille(bytes(&world, &flows, from, to), sum * to.since(from).as_millis() as u64 / 1000)
    };
    [share(4_000, 6_000, sum), share(8_000, 10_000, changed), share(14_000, 16_000, sum)]
}

const fn before(at: Time, millis: u64) -> Time {
    at.offset(-(millis as i64 * 1_000_000))
}
