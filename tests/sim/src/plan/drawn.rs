//! Plans drawn at random.

use std::time::Duration;

use wanbond_lab::emulator::Burst;
use wanbond_proto::tunnel::{LEAST_DATAGRAM, Standing};

use super::{Flow, LinkPlan, Plan, Trouble, What};
use crate::Random;
use crate::hostile::Hostility;
use crate::link::{ETHERNET, LinkSpec, millionths};
use crate::net::Side;

/// Bytes.
const LEAST_QUEUE: u64 = 8_000;
/// Trouble begins between these, ms.
const TROUBLE: (u64, u64) = (500, 15_000);

pub(super) fn plan(seed: u64) -> Plan {
    let mut random = Random::new(seed);
    let r = &mut random;
    // Each kind of trouble is absent from many runs, so that none hides what another would show.
    let links: Vec<_> = (0..r.within(1, 4)).map(|_| link(r)).collect();
    let flows = (0..r.within(1, 6)).map(|_| flow(r)).collect();
    let troubles = match r.within(0, 3) {
        0 => Vec::new(),
        most => (0..most * 2).map(|_| trouble(r, links.len())).collect(),
    };
    let hostility = r.once_in(3).then(|| hostility(r));
    let blackout = r.once_in(20).then(|| Duration::from_secs(60));
    Plan { seed, links, flows, troubles, hostility, blackout }
}

fn side(r: &mut Random) -> Side {
    if r.once_in(2) { Side::Router } else { Side::Server }
}

fn link(r: &mut Random) -> LinkPlan {
    let down = r.scaled(300, 20_000);
    let up = (down / r.within(1, 8)).max(200);
    let delay = r.scaled(1, 300);
    // No link's queue is shorter than a few packets.
    let queue = r.scaled(20, 400).max(LEAST_QUEUE * 8 / up);
    let spec = LinkSpec::uneven(down, up, delay, queue);
    let jitter = if r.once_in(2) { r.scaled(1, 40) } else { 0 };
    let overtaking = r.once_in(8);
    let loss = match r.within(0, 7) {
        0..=3 => 0,
        4..=6 => r.scaled(100, 30_000),
        _ => r.scaled(30_000, 200_000),
    };
    let burst = r.once_in(6).then(|| Burst {
        enter: millionths(r.scaled(100, 10_000)),
        leave: millionths(r.scaled(10_000, 500_000)),
        loss: millionths(r.within(500_000, 1_000_000)),
    });
    let reorder = if r.once_in(6) { r.scaled(100, 50_000) } else { 0 };
    let reorder_by = Duration::from_millis(r.scaled(1, 60));
    let duplicate = if r.once_in(6) { r.scaled(100, 50_000) } else { 0 };
    let spec = spec.with(|shape| {
        shape.jitter = Duration::from_millis(jitter.min(delay));
        shape.reordering_jitter = overtaking && jitter > 0;
        shape.loss = millionths(loss);
        shape.burst = burst;
        shape.reorder = millionths(reorder);
        shape.reorder_by = reorder_by;
        shape.duplicate = millionths(duplicate);
    });
    let most = if r.once_in(3) {
        r.within(LEAST_DATAGRAM.into(), ETHERNET.into()) as u16
    } else {
        ETHERNET
    };
    LinkPlan { spec, most }
}

fn flow(r: &mut Random) -> Flow {
    let start = r.within(0, 8_000);
    match r.within(0, 5) {
        0 | 1 => {
            // Now and then more than the links carry.
            let flood = r.once_in(6);
            let length = if flood { 1_200 } else { r.scaled(60, 1_400) as usize };
            let rate = if flood { 12_000_000 } else { r.scaled(20_000, 2_000_000) };
            let every = Duration::from_nanos(length as u64 * 8 * 1_000_000_000 / rate);
            let every = every.max(Duration::from_millis(1));
            Flow::Udp { from: side(r), length, every, start, quic: r.once_in(4) }
        }
        2 => Flow::Ping { every: Duration::from_millis(r.scaled(10, 1_000)) },
        3 => Flow::Tcp { from: side(r), bytes: r.scaled(2_000, 1_000_000), start },
        _ => {
            let pause = if r.once_in(4) {
                let from = r.within(0, 10_000);
                (from, from + r.within(100, 20_000))
            } else {
                (0, 0)
            };
            Flow::Stream { from: side(r), bytes: r.scaled(1, 2_000_000), start, pause }
        }
    }
}

fn trouble(r: &mut Random, links: usize) -> Trouble {
    let at = r.within(TROUBLE.0, TROUBLE.1);
    let link = r.within(0, links as u64 - 1) as usize;
    let what = match r.within(0, 9) {
        0..=2 => What::Cut(r.scaled(20, 5_000)),
        3 => What::Unplugged(r.scaled(100, 5_000)),
        4 => {
            What::Rate(side(r), *[10, 30, 50, 200, 400].get(r.within(0, 4) as usize).unwrap_or(&50))
        }
        5 => What::Delay(r.scaled(1, 400)),
        6 => What::Loss(r.scaled(1_000, 300_000)),
        7 => What::Most(r.within(LEAST_DATAGRAM.into(), ETHERNET.into()) as u16),
        8 => What::Address(r.once_in(2)),
        _ => What::Standing(match r.within(0, 2) {
            0 => Standing::Off,
            1 => Standing::Spare,
            _ => Standing::Bond,
        }),
    };
    Trouble { at, link, what }
}

fn hostility(r: &mut Random) -> Hostility {
    let rate = |r: &mut Random| if r.once_in(2) { r.scaled(10, 2_000) } else { 0 };
    Hostility {
        damage: rate(r),
        repeat: rate(r),
        invent: rate(r),
        turn_back: rate(r),
        divert: rate(r),
        pretend: if r.once_in(3) { rate(r) } else { 0 },
    }
}
