//! The simulation itself: its links do what they say, and nothing is invented on the way.

use std::time::Duration;

use wanbond_lab::emulator::{Burst, Counters, Shape};
use wanbond_proto::tunnel::Liveness;
use wanbond_sim::link::{LinkSpec, millionths};
use wanbond_sim::traffic::{StreamTransfer, Traffic, Udp};
use wanbond_sim::{Hostile, Hostility, Side, Time, World};

/// Bytes of a packet.
const LENGTH: usize = 1000;
const END: Time = Time::from_millis(20_000);

/// UDP at `kbits` over a bare link: what it took on the way, µs, and the link's counters.
fn over(link: &LinkSpec, kbits: u64) -> (Vec<u64>, Counters, World) {
    let mut world = World::bare(link, 7);
    let every = Duration::from_nanos(LENGTH as u64 * 8 * 1_000_000 / kbits);
    let start = Time::from_millis(10);
    let udp = |flow| Traffic::Udp(Udp::new(flow, Side::Router, LENGTH, every, start, END));
    let flow = world.add(udp);
    world.run_until(END + Duration::from_secs(2));
    let delays = world.traffic(flow).delays().iter().map(|&(_, delay)| delay).collect();
    let counters = *world.links[0].pipe(Side::Router).counters();
    (delays, counters, world)
}

fn link(change: impl Fn(&mut Shape)) -> LinkSpec {
    LinkSpec::even(10_000, 25, 100).with(change)
}

/// A share in millionths, and how far it may be off by chance: five standard deviations.
fn share(part: u64, whole: u64) -> (f64, f64) {
    let (part, whole) = (part as f64, whole as f64);
    let share = part / whole;
    (share * 1e6, (share * (1.0 - share) / whole).sqrt() * 5e6)
}

#[test]
fn an_idle_link_takes_its_delay_and_the_packet_its_time_on_the_line() {
    let (delays, counters, world) = over(&link(|_| ()), 5_000);
    // 8,000 bits at 10 Mbit/s.
    assert!(delays.iter().all(|&delay| delay == 25_800), "{:?}", delays.iter().max());
    assert_eq!((counters.dropped(), counters.packets_in), (0, delays.len() as u64));
    assert_eq!(world.net.ledger.faults(), None);
}

#[test]
fn a_busy_link_passes_its_rate_and_its_queue_is_as_long_as_it_says() {
    let (delays, counters, _) = over(&link(|_| ()), 15_000);
    let seconds = 20;
    let passed = counters.bytes_out / seconds;
    // And what stands in the queue at the end.
    let most = 10_000_000 / 8 + 125_000 / seconds;
    assert!(passed.abs_diff(most) < 10_000, "{passed} bytes a second");
    // Tail drop at 100 ms: the last that got in waited for all before.
    let longest = *delays.iter().max().unwrap();
    assert!((124_000..=125_800).contains(&longest), "{longest}");
    assert!(counters.queue_peak_bytes <= 125_000, "{counters:?}");
    assert_eq!(counters.dropped(), counters.dropped_queue);
    assert!(counters.dropped_queue > 0);
}

#[test]
fn random_losses_come_at_their_rate_and_each_by_itself() {
    let (delays, counters, world) = over(&link(|shape| shape.loss = millionths(20_000)), 9_000);
    let (lost, off) = share(counters.dropped_loss, counters.packets_in);
    assert!((lost - 20_000.0).abs() < off, "{lost} of a million");
    let tally = world.net.ledger.tally(0, Side::Router);
    assert_eq!(tally.sent - tally.came, counters.dropped_loss);
    assert_eq!(tally.came, delays.len() as u64);
    // Had they come in pairs, there would be half as many gaps as losses.
    let Traffic::Udp(_) = world.traffic(0) else { unreachable!() };
    let sent: Vec<_> = world.traffic(0).delays().iter().map(|&(sent, _)| sent).collect();
    let every = Duration::from_nanos(LENGTH as u64 * 8 * 1_000_000 / 9_000);
    let gaps = sent.windows(2).filter(|pair| pair[1].since(pair[0]) > every * 3 / 2).count() as u64;
    assert!(gaps * 100 > counters.dropped_loss * 93, "{gaps} of {}", counters.dropped_loss);
}

#[test]
fn bursts_take_their_share_and_come_in_rows() {
    let burst =
        Burst { enter: millionths(5_000), leave: millionths(100_000), loss: millionths(1_000_000) };
    let (_, counters, world) = over(&link(|shape| shape.burst = Some(burst)), 9_000);
    // Of all time 5/105 is bad; a burst is ten packets long, so chance has more room.
    let (lost, off) = share(counters.dropped_burst, counters.packets_in);
    assert!((lost - 47_619.0).abs() < off * 20_f64.sqrt(), "{lost} of a million");
    let sent: Vec<_> = world.traffic(0).delays().iter().map(|&(sent, _)| sent).collect();
    let every = Duration::from_nanos(LENGTH as u64 * 8 * 1_000_000 / 9_000);
    let gaps = sent.windows(2).filter(|pair| pair[1].since(pair[0]) > every * 3 / 2).count() as u64;
    let long = counters.dropped_burst as f64 / gaps as f64;
    assert!((7.0..14.0).contains(&long), "{long} packets a burst");
}

#[test]
fn jitter_wanders_and_reorders_only_where_it_is_told_to() {
    let ten = Duration::from_millis(10);
    let (delays, _, world) = over(&link(|shape| shape.jitter = ten), 5_000);
    let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!(*least >= 15_800 && *most <= 35_800 && most - least > 15_000, "{least} to {most}");
    assert_eq!(world.net.ledger.tally(0, Side::Router).overtaken, 0);
    let reordering = link(|shape| (shape.jitter, shape.reordering_jitter) = (ten, true));
    let (_, counters, world) = over(&reordering, 5_000);
    assert!(world.net.ledger.tally(0, Side::Router).overtaken > counters.packets_in / 10);
}

#[test]
fn some_are_held_back_and_some_come_twice() {
    let spec = link(|shape| {
        (shape.reorder, shape.reorder_by) = (millionths(10_000), Duration::from_millis(30));
    });
    let (_, counters, world) = over(&spec, 5_000);
    let (back, off) = share(counters.held_back, counters.packets_in);
    assert!((back - 10_000.0).abs() < off, "{back} of a million");
    assert_eq!(world.net.ledger.tally(0, Side::Router).overtaken, counters.held_back);
    // Without a tunnel nobody takes the second ones out, and the ledger says so.
    let (_, counters, world) = over(&link(|shape| shape.duplicate = millionths(10_000)), 5_000);
    let faults = world.net.ledger.faults().unwrap();
    assert!(faults.starts_with(&format!("{} faults", counters.duplicated)), "{faults}");
}

#[test]
fn a_cut_link_loses_what_is_under_way_and_carries_on_when_mended() {
    let mut world = World::bare(&link(|_| ()), 7);
    let every = Duration::from_millis(10);
    let udp = |flow| Traffic::Udp(Udp::new(flow, Side::Router, LENGTH, every, Time::ZERO, END));
    let flow = world.add(udp);
    let (from, to) = (Time::from_millis(5_005), Time::from_millis(6_005));
    world.at(from, |now, world| world.links[0].set_cut(now, true));
    world.at(to, |now, world| world.links[0].set_cut(now, false));
    world.run_until(END + Duration::from_secs(1));
    let gap = world.traffic(flow).arrivals().longest_gap(Time::ZERO, END);
    // The first after it was sent 5 ms later; the last before it had come 30 ms earlier.
    assert!((1_000_000..1_060_000).contains(&gap), "{gap}");
    let tally = world.net.ledger.tally(flow, Side::Router);
    assert_eq!(tally.sent - tally.came, 103, "{tally:?}");
}

/// A world with a tunnel over one link and a stream both ways through it.
fn with_streams() -> World {
    let mut world = World::new(&[link(|_| ())], 3);
    for from in Side::BOTH {
        world
            .add(|_| Traffic::Stream(StreamTransfer::new(from, 2_000_000, Time::from_millis(300))));
    }
    world
}

fn finish(world: &mut World) {
    world.run_until(Time::from_millis(60_000));
    assert!((0..2).all(|flow| world.traffic(flow).is_done()), "a stream has not ended");
    world.settle();
    assert_eq!(world.net.ledger.faults(), None);
}

#[test]
fn what_is_damaged_invented_or_repeated_is_refused() {
    let all =
        Hostility { damage: 50, repeat: 50, invent: 50, turn_back: 50, divert: 0, pretend: 0 };
    let none = Hostility { damage: 0, repeat: 0, invent: 0, turn_back: 0, divert: 0, pretend: 0 };
    let refused = |hostility| {
        let mut world = with_streams();
        world.meddle(Hostile::new(hostility, 1, 5));
        finish(&mut world);
        (world.refused, world.datagrams[0] + world.datagrams[1])
    };
    assert_eq!(refused(none).0, 0);
    let kinds = [
        Hostility { damage: 50, ..none },
        Hostility { repeat: 50, ..none },
        Hostility { invent: 50, ..none },
        Hostility { turn_back: 50, ..none },
        all,
    ];
    for hostility in kinds {
        let (refused, datagrams) = refused(hostility);
        let each = if hostility == all { 4 } else { 1 };
        let expected = datagrams * each / 50;
        assert!(refused > expected / 2 && refused < expected * 2, "{hostility:?}: {refused}");
    }
}

#[test]
fn datagrams_larger_than_the_link_takes_do_not_pass() {
    let mut world = with_streams();
    world.links[0].most = 1_300;
    finish(&mut world);
    for side in Side::BOTH {
        let id = world.links[0].id;
        let size = world.net.end(side).tunnel.path_figures(id).unwrap().datagram;
        assert!((1_232..=1_300).contains(&size), "{size}");
        assert!(world.links[0].pipe(side).counters().dropped_filter > 0);
    }
}

#[test]
fn the_server_follows_an_address_that_changes() {
    let mut world = with_streams();
    world.at(Time::from_millis(1_000), |_, world| world.links[0].change_address());
    finish(&mut world);
    let (id, address) = (world.links[0].id, world.links[0].address);
    let end = world.net.end(Side::Server);
    assert_eq!(end.envelope.destination(id), Some(address));
    assert_eq!(end.tunnel.path_figures(id).unwrap().liveness, Liveness::Live);
}
