//! An hour of flapping links on the virtual clock: they are cut, unplugged, get other addresses, become
//! slow, lossy and well again, while streams, TCP connections as packets and pings go through the tunnel.
//! Everything that was begun ends, nothing is made up, and memory stays bounded.
//!
//! `WANBOND_SIM_HOUR_SEEDS=A-B` runs other hours than the usual ones.

use std::time::Duration;

use wanbond_lab::emulator::{QueueLimit, Time};
use wanbond_lab::units::Rate;
use wanbond_proto::tunnel::{Liveness, TunnelConfig};
use wanbond_sim::link::{ETHERNET, IP_UDP, LinkSpec, millionths};
use wanbond_sim::net::MTU;
use wanbond_sim::traffic::{Ping, StreamTransfer, Tcp, Traffic};
use wanbond_sim::{Random, Side, World};

/// Seconds in which things happen.
const HOUR: u64 = 3600;
/// Until everything has ended, seconds: a few time-outs that have doubled.
const REST: u64 = 240;
/// The run is planned in stretches of so many seconds, so that no list grows long.
const STRETCH: u64 = 10;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// A WAN's next trouble, and when it is free for another one.
fn trouble(world: &mut World, random: &mut Random, link: usize, at: u64) -> u64 {
    let cut = |world: &mut World, until: u64| {
        world.at(ms(at), move |now, world| world.links[link].set_cut(now, true));
        world.at(ms(until), move |now, world| world.links[link].set_cut(now, false));
    };
    match random.within(0, 9) {
        0..=3 => {
            let until = at + random.scaled(20, 20_000);
            cut(world, until);
            until
        }
        4 => {
            let until = at + random.scaled(200, 20_000);
            cut(world, until);
            world.at(ms(at), move |now, world| {
                let id = world.links[link].id;
                let end = world.net.end(Side::Router);
                let at = end.clock(now);
                end.tunnel.path_lost(at, id);
            });
            world.at(ms(until), move |now, world| plug_in(now, world, link));
            until
        }
        5 | 6 => {
            // Half of them by a NAT, of which the router knows nothing.
            let known = random.once_in(2);
            world.at(ms(at), move |now, world| {
                world.links[link].change_address();
                if known {
                    plug_in(now, world, link);
                }
            });
            at
        }
        _ => {
            let (rate, delay) = (random.within(400, 6_000), random.scaled(2, 150));
            let loss = if random.once_in(2) { random.scaled(100, 50_000) } else { 0 };
            world.at(ms(at), move |now, world| {
                for side in Side::BOTH {
                    let pipe = world.links[link].pipe(side);
                    let mut shape = *pipe.shape();
                    shape.rate = Some(Rate::from_bits_per_second(rate * 1000));
                    shape.delay = Duration::from_millis(delay);
                    shape.loss = millionths(loss);
                    shape.queue = QueueLimit::Time(Duration::from_millis(120));
                    pipe.set_shape(now, shape);
                }
            });
            at
        }
    }
}

fn plug_in(now: Time, world: &mut World, link: usize) {
    let id = world.links[link].id;
    let end = world.net.end(Side::Router);
    let at = end.clock(now);
    end.tunnel.set_path(at, id, IP_UDP, ETHERNET);
}

fn side(random: &mut Random) -> Side {
    if random.once_in(2) { Side::Router } else { Side::Server }
}

fn run(seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    let links = [
        LinkSpec::even(4_000, 8, 120),
        LinkSpec::even(2_500, 30, 120),
        LinkSpec::even(1_500, 60, 200),
    ];
    let mut world = World::new(&links, seed);
    let mut flows = Vec::new();
    world.add(|flow| {
        Traffic::Ping(Ping::new(flow, Duration::from_millis(500), ms(100), ms(HOUR * 1000)))
    });
    let mut free = [1_000; 3];
    for stretch in 0..HOUR / STRETCH {
        let (from, to) = (stretch * STRETCH * 1000, (stretch + 1) * STRETCH * 1000);
        for (link, free) in free.iter_mut().enumerate() {
            while *free < to && to < HOUR * 1000 {
                let at = (*free).max(from) + random.within(100, 8_000);
                *free = trouble(&mut world, &mut random, link, at) + 500;
            }
        }
        let start = ms(from + random.within(0, STRETCH * 1000 - 1));
        let (from_side, bytes) = (side(&mut random), random.scaled(1_000, 600_000));
        flows.push(match stretch % 2 {
            0 => world.add(|_| Traffic::Stream(StreamTransfer::new(from_side, bytes, start))),
            _ => world
                .add(|flow| Traffic::Tcp(Box::new(Tcp::new(flow, from_side, bytes / 2, start)))),
        });
        world.run_until(ms(to));
    }
    // Every link well again.
    for (link, spec) in links.iter().enumerate() {
        world.links[link].set_cut(ms(HOUR * 1000), false);
        for side in Side::BOTH {
            let shape = *spec.from_side(side);
            world.links[link].pipe(side).set_shape(ms(HOUR * 1000), shape);
        }
    }
    world.run_until(ms((HOUR + REST) * 1000));

    let mut wrong = Vec::new();
    for flow in flows {
        if !world.traffic(flow).is_done() {
            wrong.push(format!("flow {flow} has not ended"));
        }
    }
    wrong.extend(world.net.ledger.faults());
    let config = TunnelConfig::small(0);
    let packets = config.queue + config.reorder + 2 * MTU;
    for side in Side::BOTH {
        let peak = world.peaks[side.index()];
        if peak.packets > packets {
            wrong.push(format!("{side:?}: {peak:?} bytes in memory"));
        }
        let tunnel = &mut world.net.ends[side.index()].tunnel;
        let (held, streams) = (tunnel.held_bytes(), tunnel.streams().len());
        if held != 0 || streams != 0 {
            wrong.push(format!("{side:?}: something is held at rest"));
        }
        for link in &world.links {
            let liveness = tunnel.path_figures(link.id).map(|figures| figures.liveness);
            if liveness != Some(Liveness::Live) {
                wrong.push(format!("{side:?}: path {} is {liveness:?}", link.id.number()));
            }
        }
    }
    wrong
}

#[test]
fn an_hour_of_flapping_links_loses_nothing() {
    let seeds = std::env::var("WANBOND_SIM_HOUR_SEEDS").unwrap_or_else(|_| "1-4".to_owned());
    let ends = seeds.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let (first, last): (u64, u64) = ends.unwrap_or_else(|| panic!("{seeds}: two numbers, as 1-4"));
    let seeds: Vec<u64> = (first..=last).collect();
    let failed: Vec<(u64, Vec<String>)> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            seeds.iter().map(|&seed| scope.spawn(move || (seed, run(seed)))).collect();
        runs.into_iter().map(|run| run.join().expect("a run panicked")).collect()
    });
    let failed: Vec<_> = failed.into_iter().filter(|(_, wrong)| !wrong.is_empty()).collect();
    assert!(failed.is_empty(), "WANBOND_SIM_HOUR_SEEDS: {failed:#?}");
}
