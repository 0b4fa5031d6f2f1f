//! Random lives of many streams over a random network.

use proptest::prelude::*;

use super::super::{StreamId, StreamLimits, Streams};
use super::world::{Dice, World};
use crate::session::Role;

/// Small enough that every limit is met.
const TIGHT: StreamLimits = StreamLimits {
    send_buffer: 40_000,
    unsent_buffer: 9_000,
    session_send_buffer: 150_000,
    stream_window_initial: 80_000,
    stream_window_max: 200_000,
    session_window_max: 400_000,
    streams: 0,
    spare_memory: 100_000,
};

fn some_stream(world: &World, end: usize, dice: &mut Dice) -> Option<StreamId> {
    let living: Vec<StreamId> =
        world.apps[end].iter().filter(|(_, app)| !app.closed).map(|(&id, _)| id).collect();
    living.get(dice.roll(living.len() as u64) as usize).copied()
}

/// What the applications are about.
#[derive(Debug, Clone, Copy)]
struct Plan {
    streams: usize,
    /// Bytes to write on each, per direction.
    bytes: u64,
}

/// Something an application does.
fn act(world: &mut World, dice: &mut Dice, plan: Plan) {
    let end = dice.roll(2) as usize;
    if !world.waits_to_open && world.apps[0].len() < plan.streams && dice.chance(20) {
        world.open();
    }
    let Some(id) = some_stream(world, end, dice) else { return };
    // Some readers dawdle.
    let lazy = id.0 % 5 == 0 && dice.chance(95);
    match dice.roll(1000) {
        0..450 => write(world, dice, end, id, plan),
        450..990 if !lazy => {
            let length = if dice.chance(20) { dice.roll(50) } else { dice.roll(30_000) };
            world.read(end, id, 1 + length as usize);
        }
        990 => world.reset(end, id, dice.roll(256) as u8),
        991 => world.stop(end, id, dice.roll(256) as u8),
        _ => {}
    }
}

/// Writes on, and finishes once the plan is fulfilled.
fn write(world: &mut World, dice: &mut Dice, end: usize, id: StreamId, plan: Plan) {
    let length = if dice.chance(50) { dice.roll(100) } else { dice.roll(20_000) };
    let left = plan.bytes.saturating_sub(world.apps[end][&id].written);
    world.write(end, id, length.min(left));
    if left == 0 {
        world.finish(end, id);
    }
}

/// Something the network does; `bad` is how bad it is, in percent.
fn happen(world: &mut World, dice: &mut Dice, bad: u64) {
    world.tick(dice.roll(3000));
    match dice.roll(10) {
        0..4 => {
            let from = dice.roll(2) as usize;
            let room = if dice.chance(20) { 192 + dice.roll(300) } else { 1400 };
            world.send(from, room as usize);
        }
        4..8 if !world.flying.is_empty() => {
            // Mostly the oldest, as on a real path.
            let pick = if dice.chance(bad) { dice.roll(world.flying.len() as u64) } else { 0 };
            let datagram = world.flying.remove(pick as usize);
            if dice.chance(bad) {
                world.lost.push(datagram);
                return;
            }
            if dice.chance(bad / 4) {
                world.arrive(&datagram);
            }
            world.arrive(&datagram);
            world.arrived.push(datagram);
        }
        8 if !world.arrived.is_empty() => {
            for _ in 0..1 + dice.roll(8).min(world.arrived.len() as u64 - 1) {
                let pick = if dice.chance(bad) { dice.roll(world.arrived.len() as u64) } else { 0 };
                let datagram = world.arrived.remove(pick as usize);
                if dice.chance(bad) {
                    // The acknowledgement is lost, or comes after all.
                    world.lost(&datagram);
                    if dice.chance(50) {
                        continue;
                    }
                }
                world.acked(&datagram);
                if dice.chance(bad / 4) {
                    world.acked(&datagram);
                    world.lost(&datagram);
                }
            }
        }
        9 if dice.chance(bad / 4) && !world.flying.is_empty() => {
            // A path is suspect: what flies is queued again, and may arrive nevertheless.
            let half = world.flying.len() / 2;
            for datagram in &world.flying[half..] {
                for &frame in &datagram.frames {
                    world.ends[datagram.from].requeue(frame);
                }
            }
        }
        9 => {
            if let Some(datagram) = world.lost.pop() {
                world.lost(&datagram);
            }
        }
        _ => {}
    }
}

/// Lets every stream reach its end, on a network that still is `bad`. Whoever is not told to go on
/// waits for ever, and the test fails.
fn wind_down(world: &mut World, dice: &mut Dice, bad: u64, plan: Plan) {
    for _ in 0..300_000 {
        happen(world, dice, bad);
        if !world.waits_to_open && world.apps[0].len() < plan.streams {
            world.open();
        }
        for end in 0..2 {
            if let Some(id) = some_stream(world, end, dice) {
                world.read(end, id, 40_000);
                write(world, dice, end, id, plan);
            }
        }
        let idle = world.flying.is_empty() && world.arrived.is_empty() && world.lost.is_empty();
        if idle
            && world.apps[0].len() >= plan.streams
            && world.ends.iter().all(|end| end.is_empty() && !end.has_pending())
        {
            return;
        }
    }
    let (router, server) = (&world.ends[0], &world.ends[1]);
    panic!("streams that never end: {router:?} {server:?} {:?}", world.apps);
}

fn live(seed: u64) {
    let mut dice = Dice(seed);
    let bad = [0, 3, 10, 40][dice.roll(4) as usize];
    let (streams, bytes) = [(200, 300), (20, 30_000), (8, 150_000)][dice.roll(3) as usize];
    let plan = Plan { streams, bytes };
    let mut world = World::new(TIGHT);
    world.limits = TIGHT.sane();
    for step in 0..3000 {
        act(&mut world, &mut dice, plan);
        happen(&mut world, &mut dice, bad);
        if step % 16 == 0 {
            world.check();
        }
    }
    wind_down(&mut world, &mut dice, bad, plan);
    for end in &world.ends {
        assert_eq!(end.memory(), 0);
        assert_eq!(end.pending_bytes(), 0);
        assert_eq!(end.inbound.unread(), 0);
        assert_eq!(end.queues.unacked, 0);
    }
    for (&id, app) in &world.apps[0] {
        assert!(app.closed);
        // A stream reset before its first frame left may still be told, but never has a reader.
        if world.apps[1].contains_key(&id) {
            world.check_end(0, id);
            world.check_end(1, id);
        }
    }
}

#[test]
fn every_byte_once_and_every_stream_to_its_end() {
    for seed in 0..60 {
        let run = std::panic::catch_unwind(|| live(seed));
        assert!(run.is_ok(), "seed {seed}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_seed(seed in any::<u64>()) {
        live(seed);
    }
}

proptest! {
    /// Bytes that no peer would send: an error or nothing, but no panic and bounded memory.
    #[test]
    fn any_frames(
        server in any::<bool>(),
        frames in prop::collection::vec(
            (0x3eu8..0x48, prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..24)),
            0..200,
        ),
    ) {
        let role = if server { Role::Server } else { Role::Router };
        let mut streams = Streams::new(role, TIGHT);
        if !server {
            for _ in 0..4 {
                let id = streams.open().expect("allowed");
                streams.write(id, &[7; 3000]).expect("open");
            }
        }
        let mut sent = Vec::new();
        let mut out = Vec::new();
        for (kind, bytes) in frames {
            if let Ok(taken) = streams.handle_frame(kind, &bytes) {
                prop_assert!(taken <= bytes.len());
            }
            while let Some(event) = streams.poll_event() {
                if let super::super::StreamEvent::Opened(id) = event {
                    let _ = streams.write(id, &[1; 200]);
                }
            }
            out.clear();
            sent.extend(streams.poll_frame(400, &mut out));
            if sent.len() % 3 == 0 {
                sent.iter().for_each(|&frame| streams.on_lost(frame));
            }
            if sent.len() % 7 == 6 {
                sent.drain(..3).for_each(|frame| streams.on_acked(frame));
            }
        }
        prop_assert!(streams.memory() < 4_000_000);
    }
}
