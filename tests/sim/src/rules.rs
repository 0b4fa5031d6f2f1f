//! What must hold in every run, however bad the links are.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use wanbond_proto::tunnel::stream::StreamLimits;
use wanbond_proto::tunnel::{Liveness, TunnelConfig};

use crate::net::{MTU, Side};
use crate::plan::{Flow, Plan};
use crate::{Time, World};

/// How long streams and TCP connections may take for the rest of what they have, once links are
/// well: what the slowest link would take, and this.
const LEAST_REST: Duration = Duration::from_secs(150);
/// After all paths were gone, they are used again within this time: a slow probe and two answers.
const RETURN: Duration = Duration::from_secs(5);
/// An idle tunnel has come to rest after this time, …
const TO_REST: Duration = Duration::from_secs(10);
/// … and is then looked at for so long, …
const IDLE: Duration = Duration::from_secs(60);
/// … in which each end may send so many datagrams per path: searching for a larger datagram or
/// telling the peer something may fall into it, a timer that runs in circles may not.
const IDLE_DATAGRAMS: u64 = 8;

/// Runs a plan to its end: what is wrong. Empty: nothing.
#[must_use]
pub fn broken(plan: &Plan) -> Vec<String> {
    catch_unwind(AssertUnwindSafe(|| run(plan))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        vec![format!("panicked: {}", text.unwrap_or("no text"))]
    })
}

fn run(plan: &Plan) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut world = plan.world();
    let calm = plan.calm_at();
    if let Some(blackout) = plan.blackout {
        let back = Time::from_millis(5_000) + blackout;
        world.run_until(back + RETURN);
        for side in Side::BOTH {
            if !world.net.end(side).tunnel.is_live() {
                wrong.push(format!("{side:?}: no path is back {RETURN:?} after all were away"));
            }
        }
    }
    world.run_until(calm);
    let unfinished = finish(plan, &mut world, calm);
    wrong.extend(unfinished);
    let rested = world.now() + TO_REST;
    world.run_until(rested);
    at_rest(&mut world, &mut wrong);
    world.settle();
    if let Some(faults) = world.net.ledger.faults() {
        wrong.push(faults);
    }
    accounts(plan, &mut world, &mut wrong);
    memory(&world, &mut wrong);
    liveness(plan, &world, &mut wrong);
    wrong
}

/// Lets streams and TCP come to their ends, and what waits go out. Which flows did not end.
fn finish(plan: &Plan, world: &mut World, calm: Time) -> Vec<String> {
    let bytes: u64 = plan.flows.iter().map(Flow::must_arrive).sum();
    // The slowest rate there may be by now is 100 kbit/s, see `Trouble`.
    let rest = LEAST_REST + Duration::from_millis(bytes * 8 / 100);
    let mut left: Vec<usize> = (0..plan.flows.len()).collect();
    while world.now() < calm + rest {
        left.retain(|&flow| !world.traffic(flow).is_done());
        let held = |side| world.net.ends[side as usize].tunnel.held_bytes();
        if left.is_empty() && Side::BOTH.into_iter().all(|side| held(side) == 0) {
            return Vec::new();
        }
        let next = world.now() + Duration::from_millis(500);
        world.run_until(next);
    }
    left.iter()
        .map(|&flow| {
            format!("flow {flow} has not ended {rest:?} after trouble has: {:?}", plan.flows[flow])
        })
        .collect()
}

/// Nothing is left to do, so nothing is done.
fn at_rest(world: &mut World, wrong: &mut Vec<String>) {
    let sent = world.datagrams;
    for side in Side::BOTH {
        let tunnel = &mut world.net.end(side).tunnel;
        let held = tunnel.held_bytes();
        if held != 0 {
            wrong.push(format!("{side:?}: {held} bytes of packets are held at rest"));
        }
        let (streams, memory) = (tunnel.streams().len(), tunnel.streams().memory());
        if streams != 0 || memory > StreamLimits::default().spare_memory {
            wrong.push(format!("{side:?}: {streams} streams, {memory} bytes at rest"));
        }
    }
    let (wakeups, from) = (world.wakeups, world.now());
    world.run_until(from + IDLE);
    let wakeups = world.wakeups - wakeups;
    let most = IDLE_DATAGRAMS * world.links.len() as u64;
    for side in Side::BOTH {
        let sent = world.datagrams[side.index()] - sent[side.index()];
        if sent > most {
            wrong.push(format!("{side:?}: sent {sent} datagrams in {IDLE:?} of idleness"));
        }
    }
    if wakeups > 4 * most {
        wrong.push(format!("woken {wakeups} times in {IDLE:?} of idleness"));
    }
}

/// What was lost was lost by links, or dropped on purpose; what came late is counted.
fn accounts(plan: &Plan, world: &mut World, wrong: &mut Vec<String>) {
    for side in Side::BOTH {
        let tally = world.net.ledger.total(side);
        let sender = world.net.end(side).tunnel.figures();
        let receiver = world.net.end(side.other()).tunnel.figures();
        let mut say = |what: &str, a: u64, b: u64| {
            let mut text = format!("{side:?}: {what}: {a}, {b}");
            let _ = write!(text, " (sender {sender:?}, receiver {receiver:?}, {tally:?})");
            wrong.push(text);
        };
        if tally.sent != sender.packets_in {
            say("packets in, by the ledger and by the tunnel", tally.sent, sender.packets_in);
        }
        if tally.came != receiver.packets_out {
            say("packets out, by the ledger and by the tunnel", tally.came, receiver.packets_out);
        }
        if tally.made > receiver.recovered {
            say(
                "packets that no datagram brought, made of parities",
                tally.made,
                receiver.recovered,
            );
        }
        if tally.never_carried != sender.dropped {
            say("packets that were never sent, dropped", tally.never_carried, sender.dropped);
        }
    }
    // What waits for repairs is in order but where it came too late.
    for side in Side::BOTH {
        let waits = |flow: &Flow| matches!(flow, Flow::Tcp { .. } | Flow::Udp { quic: true, .. });
        let flows = (0..plan.flows.len()).filter(|&flow| waits(&plan.flows[flow]));
        let overtaken: u64 = flows.map(|flow| world.net.ledger.tally(flow, side).overtaken).sum();
        let late = world.net.end(side.other()).tunnel.figures().late;
        if overtaken > late {
            wrong.push(format!("{side:?}: {overtaken} packets out of order, {late} came late"));
        }
    }
}

fn memory(world: &World, wrong: &mut Vec<String>) {
    let config = TunnelConfig::small(0);
    let packets = config.queue + config.reorder + 2 * MTU;
    let limits = config.streams;
    let streams = limits.session_send_buffer + limits.session_window_max;
    let streams = streams as usize + limits.spare_memory;
    for side in Side::BOTH {
        let peak = world.peaks[side.index()];
        if peak.packets > packets || peak.streams > streams {
            wrong.push(format!("{side:?}: {peak:?} bytes in memory"));
        }
    }
}

/// Links that are well are never given up.
fn liveness(plan: &Plan, world: &World, wrong: &mut Vec<String>) {
    if !plan.is_steady() {
        return;
    }
    for (at, side, event) in &world.events {
        let wanbond_proto::tunnel::TunnelEvent::Path(id, liveness) = event;
        if *liveness == Liveness::Down {
            let ms = at.as_nanos() / 1_000_000;
            wrong.push(format!(
                "{side:?}: path {} is given up at {ms} ms, and is well",
                id.number()
            ));
        }
    }
}
