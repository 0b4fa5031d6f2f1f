//! The TCP of the simulation behaves like Linux's (CUBIC, SACK, RACK-TLP, PRR, HyStart, delayed
//! acknowledgements; no pacing): conclusions about packets in the tunnel stand on it.
//!
//! Here it runs over one plain link without any tunnel.

use std::time::Duration;

use wanbond_lab::emulator::Shape;
use wanbond_sim::link::{LinkSpec, millionths};
use wanbond_sim::traffic::{Tcp, Traffic};
use wanbond_sim::{Side, Time, World};

/// Payload and whole of a full packet.
const MSS: u64 = 1348;
const PACKET: u64 = 1400;
const ENDLESS: u64 = 1 << 40;

/// An upload over a plain link.
fn upload(link: &LinkSpec, bytes: u64) -> World {
    let mut world = World::bare(link, 11);
    world.add(|flow| Traffic::Tcp(Box::new(Tcp::new(flow, Side::Router, bytes, Time::ZERO))));
    world
}

fn tcp(world: &World) -> &Tcp {
    match world.traffic(0) {
        Traffic::Tcp(tcp) => tcp,
        _ => unreachable!("the only flow is TCP"),
    }
}

/// Mean rate of what arrived in a span of seconds, as packets on the link, kbit/s.
fn kbits(world: &World, flow: usize, from: u64, to: u64) -> u64 {
    let at = |second| Time::from_millis(second * 1000);
    let bytes = world.traffic(flow).arrivals().bytes(at(from), at(to));
    bytes * PACKET / MSS * 8 / 1000 / (to - from)
}

#[test]
fn it_fills_a_link_whose_queue_is_a_round_trip_long() {
    // Rate, one-way delay, queue.
    for (rate, delay, queue) in
        [(100_000, 15, 30), (20_000, 20, 40), (8_000, 20, 100), (50_000, 50, 100)]
    {
        let mut world = upload(&LinkSpec::even(rate, delay, queue), ENDLESS);
        world.run_until(Time::from_millis(35_000));
        let share = kbits(&world, 0, 5, 35) * 1000 / rate;
        assert!((950..=1000).contains(&share), "{rate} kbit/s, {delay} ms: {share} permille");
        assert_eq!(tcp(&world).timeouts, [], "{rate} kbit/s, {delay} ms");
    }
}

#[test]
fn a_short_queue_costs_it_throughput() {
    // A tenth of a round trip: it falls to 0.7 and comes back slowly, so some of the link is idle.
    let mut world = upload(&LinkSpec::even(50_000, 50, 10), ENDLESS);
    world.run_until(Time::from_millis(60_000));
    let share = kbits(&world, 0, 10, 60) * 1000 / 50_000;
    assert!((700..940).contains(&share), "{share} permille");
}

#[test]
fn it_begins_with_ten_segments_at_once() {
    // RFC 6928, and no pacing: the link's queue sees them all.
    let mut world = upload(&LinkSpec::even(10_000, 20, 100), ENDLESS);
    world.run_until(Time::from_millis(1));
    let counters = *world.links[0].pipe(Side::Router).counters();
    assert_eq!((counters.packets_in, counters.queue_peak_bytes), (10, 10 * PACKET));
}

#[test]
fn slow_start_doubles_and_ends_by_delay_where_the_queue_is_long() {
    // A queue of four round trips: without HyStart it would be filled, and overflow.
    let mut world = upload(&LinkSpec::even(50_000, 20, 160), ENDLESS);
    let mut windows = Vec::new();
    for step in 1..=4 {
        world.run_until(Time::from_millis(step * 42));
        windows.push(tcp(&world).window());
    }
    assert!(windows.windows(2).all(|pair| pair[1] * 10 >= pair[0] * 17), "{windows:?}");
    world.run_until(Time::from_millis(1_500));
    let counters = *world.links[0].pipe(Side::Router).counters();
    assert_eq!(counters.dropped_queue, 0);
    // The link's own round trip is 179 segments.
    let window = tcp(&world).window();
    assert!((80..500).contains(&window), "{window}");
}

#[test]
fn a_loss_takes_the_window_to_seven_tenths_and_it_grows_back() {
    let mut world = upload(&LinkSpec::even(20_000, 25, 50), ENDLESS);
    world.run_until(Time::from_millis(10_000));
    let (mut before, mut at) = (tcp(&world).window(), 10_000);
    let retransmitted = tcp(&world).retransmitted;
    while tcp(&world).retransmitted == retransmitted {
        before = tcp(&world).window();
        at += 1;
        world.run_until(Time::from_millis(at));
        assert!(at < 60_000, "no loss in a minute");
    }
    world.run_until(Time::from_millis(at + 250));
    let after = tcp(&world).window();
    assert!((65..=76).contains(&(after * 100 / before)), "from {before} to {after}");
    // RFC 9438 §4.2: W(t) = 0.4 (t - K)³ + W, in seconds and segments, until it is lost again.
    let most = before as f64;
    let k = (0.3 * most / 0.4).cbrt();
    for millis in (500..=2_500).step_by(250) {
        world.run_until(Time::from_millis(at + millis));
        let window = tcp(&world).window() as f64;
        let expected = most - 0.4 * (k - millis as f64 / 1000.0).powi(3);
        let share = window / expected;
        assert!((0.94..=1.06).contains(&share), "{window} of {expected:.0} after {millis} ms");
    }
}

#[test]
fn every_second_segment_is_acknowledged() {
    let mut world = upload(&LinkSpec::even(20_000, 20, 40), ENDLESS);
    world.run_until(Time::from_millis(10_000));
    let data = world.links[0].pipe(Side::Router).counters().packets_out;
    let acknowledgements = world.links[0].pipe(Side::Server).counters().packets_in;
    let share = acknowledgements * 1000 / data;
    assert!((490..=560).contains(&share), "{share} permille");
}

#[test]
fn a_lost_tail_is_probed_for() {
    // Eight packets fit into the queue: the last two of the first ten are lost.
    let mut world = upload(&LinkSpec::even(10_000, 50, 9), 10 * MSS);
    world.run_until(Time::from_millis(100));
    assert_eq!(world.links[0].pipe(Side::Router).counters().dropped_queue, 2);
    world.run_until(Time::from_millis(1_000));
    assert!(tcp(&world).is_done());
    assert_eq!(tcp(&world).timeouts, []);
    assert!((2..=3).contains(&tcp(&world).retransmitted), "{}", tcp(&world).retransmitted);
}

#[test]
fn time_outs_double_while_nothing_comes_through() {
    let mut world = upload(&LinkSpec::even(10_000, 20, 40), ENDLESS);
    let (from, to) = (Time::from_millis(3_000), Time::from_millis(13_000));
    world.at(from, |now, world| world.links[0].set_cut(now, true));
    world.at(to, |now, world| world.links[0].set_cut(now, false));
    world.run_until(Time::from_millis(30_000));
    let timeouts = &tcp(&world).timeouts;
    let first = timeouts[0].since(from).as_millis();
    // A probe after two round trips, then RFC 6298 with Linux's least of 200 ms.
    assert!((240..=700).contains(&first), "{first} ms");
    let waits: Vec<_> =
        timeouts.windows(2).map(|pair| pair[1].since(pair[0]).as_millis()).collect();
    assert!(waits.len() >= 4, "{waits:?}");
    let doubles = |pair: &[u128]| pair[1] * 10 >= pair[0] * 19 && pair[1] * 10 <= pair[0] * 21;
    assert!(waits.windows(2).all(doubles), "{waits:?}");
    assert!(kbits(&world, 0, 25, 30) > 9_000, "does not come back");
}

/// RFC 9438 §4.3 and §5.1: the mean window of CUBIC or, where that is more, of Reno.
fn expected_kbits(loss: f64, rtt: f64) -> f64 {
    let reno = (1.5 / loss).sqrt();
    let cubic = 1.054 * rtt.powf(0.75) / loss.powf(0.75);
    reno.max(cubic) * PACKET as f64 * 8.0 / rtt / 1000.0
}

#[test]
fn random_loss_costs_it_what_it_costs_cubic() {
    for (loss, delay) in [(5_000, 15), (1_000, 15), (1_000, 50), (20_000, 20)] {
        let link = LinkSpec::even(100_000, delay, 60);
        let up = Shape { loss: millionths(loss), ..link.up };
        let mut world = upload(&LinkSpec { up, ..link }, ENDLESS);
        world.run_until(Time::from_millis(125_000));
        let rate = kbits(&world, 0, 5, 125) as f64;
        let expected = expected_kbits(loss as f64 / 1e6, delay as f64 / 500.0);
        assert!(
            (0.6..1.5).contains(&(rate / expected)),
            "{loss} ppm, {delay} ms: {rate} of {expected:.0} kbit/s"
        );
    }
}

#[test]
fn reordering_is_learnt() {
    let by = Duration::from_millis(5);
    let link = LinkSpec::even(20_000, 20, 40)
        .with(|shape| (shape.reorder, shape.reorder_by) = (millionths(10_000), by));
    let mut world = upload(&link, ENDLESS);
    world.run_until(Time::from_millis(20_000));
    assert!(kbits(&world, 0, 5, 20) > 18_000, "{}", kbits(&world, 0, 5, 20));
    assert_eq!(tcp(&world).timeouts, []);
}

#[test]
fn two_share_a_link() {
    let mut world = upload(&LinkSpec::even(20_000, 20, 40), ENDLESS);
    let start = Time::from_millis(5_000);
    world.add(|flow| Traffic::Tcp(Box::new(Tcp::new(flow, Side::Router, ENDLESS, start))));
    world.run_until(Time::from_millis(90_000));
    let (one, two) = (kbits(&world, 0, 30, 90), kbits(&world, 1, 30, 90));
    assert!(one + two > 19_000, "{one} + {two}");
    assert!(one.max(two) < 2 * one.min(two), "{one} and {two}");
}
