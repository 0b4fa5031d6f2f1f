use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::wire::PacketFlags;
use super::*;

fn frame(sequence: u32, ordered: bool, bytes: &[u8]) -> PacketFrame<'_> {
    let flags = PacketFlags { ordered, ..PacketFlags::default() };
    PacketFrame { flags, slot: 3, sequence: sequence & 0x00ff_ffff, bytes }
}

/// Over the path of bit 1.
fn arrival(stamp: u32) -> Arrival {
    Arrival { now: Time::from_millis(1), path: 1, stamp }
}

fn progress(latest: u32, bound: u32) -> PathProgress {
    PathProgress { bit: 1, spread: true, latest, bound }
}

fn take(reorder: &mut Reorder, frame: &PacketFrame<'_>, stamp: u32, out: &mut Vec<u32>) {
    reorder.take(frame, arrival(stamp), Vec::new, |packet| {
        out.push(u32::from_be_bytes(packet[..4].try_into().unwrap()));
    });
}

/// A time at which every gap is over.
fn give_up(reorder: &mut Reorder, out: &mut Vec<u32>) {
    let paths = [progress(u32::MAX / 2, 0)];
    let progress = Progress { paths: &paths, repair: Duration::ZERO };
    let again = reorder.advance(Time::from_millis(1), &progress, |packet| {
        out.push(u32::from_be_bytes(packet[..4].try_into().unwrap()));
    });
    assert_eq!(again, None);
}

proptest! {
    /// Whatever the order, each comes out once; and in order, but for those that come after their
    /// place was given up.
    #[test]
    fn each_once_and_in_order(
        moves in prop::collection::vec((0usize..40, any::<bool>(), prop::bool::weighted(0.1)), 1..300),
        start in prop_oneof![Just(0u32), Just(0x00ff_ff80)],
    ) {
        let mut reorder = Reorder::new(1 << 20);
        let mut out = Vec::new();
        if start > 0 {
            // In two strides, as each is taken for the shorter way round.
            take(&mut reorder, &frame(0x7f_fff0, true, &[0; 4]), 0, &mut out);
            give_up(&mut reorder, &mut out);
            take(&mut reorder, &frame(start, true, &start.to_be_bytes()), 0, &mut out);
            give_up(&mut reorder, &mut out);
        }
        let mut sent: Vec<u32> = (start + u32::from(start > 0)..).take(moves.len()).collect();
        let mut order = Vec::new();
        // Displaced by a bounded distance, some twice, some lost.
        for (index, &(by, _, _)) in moves.iter().enumerate() {
            let to = (index + by).min(sent.len() - 1);
            sent.swap(index, to);
        }
        for (number, &(_, twice, lost)) in sent.iter().zip(&moves) {
            if !lost { order.push(*number); }
            if twice && !lost { order.push(*number); }
        }
        let before = out.len();
        for number in &order {
            take(&mut reorder, &frame(*number, true, &number.to_be_bytes()), *number, &mut out);
        }
        let delivered = &out[before..];
        prop_assert!(delivered.windows(2).all(|pair| pair[0] < pair[1]), "{delivered:?}");
        give_up(&mut reorder, &mut out);
        let delivered = &out[before..];
        prop_assert!(delivered.windows(2).all(|pair| pair[0] < pair[1]), "{delivered:?}");
        let got: BTreeSet<_> = delivered.iter().copied().collect();
        prop_assert_eq!(got, order.iter().copied().collect::<BTreeSet<_>>());
        prop_assert_eq!(reorder.bytes(), 0);
    }

    #[test]
    fn without_order_nothing_waits(numbers in prop::collection::vec(0u32..12_000, 1..300)) {
        let mut reorder = Reorder::new(1 << 20);
        let mut out = Vec::new();
        let mut fresh = Vec::new();
        for number in numbers {
            take(&mut reorder, &frame(number, false, &number.to_be_bytes()), 0, &mut out);
            if !fresh.contains(&number) { fresh.push(number); }
        }
        prop_assert_eq!(out, fresh);
    }
}

#[test]
fn a_gap_waits_for_every_path() {
    let mut reorder = Reorder::new(1 << 20);
    let mut out = Vec::new();
    take(&mut reorder, &frame(1, true, &1u32.to_be_bytes()), 1000, &mut out);
    let mut look = |now, latest: [u32; 2]| {
        let paths = latest.map(|latest| progress(latest, 50_000));
        let progress = Progress { paths: &paths, repair: Duration::ZERO };
        reorder.advance(Time::from_micros(now), &progress, |_| ())
    };
    // One path has delivered something later, the other has until 1,000 + 50,000.
    assert_eq!(look(3000, [1000, 900]), Some(Time::from_micros(51_000)));
    assert_eq!(look(4000, [1000, 1000]), None);
}

#[test]
fn a_gap_waits_only_for_paths_that_bring_such_packets() {
    let mut reorder = Reorder::new(1 << 20);
    // A flow that was on one path and now begins to use another.
    for (path, sequence, ordered) in [(1, 0, false), (2, 2, true)] {
        let arrival = Arrival { path, ..arrival(1000 + sequence) };
        let packet = frame(sequence, ordered, &[0; 4]);
        reorder.take(&packet, arrival, Vec::new, |_| ());
    }
    let mut look = |now, third_spreads| {
        let path = |bit, latest| PathProgress { bit, spread: false, ..progress(latest, 50_000) };
        let third = PathProgress { bound: 90_000, spread: third_spreads, ..path(4, 0) };
        let progress =
            Progress { paths: &[path(1, 1000), path(2, 1002), third], repair: Duration::ZERO };
        reorder.advance(Time::from_micros(now), &progress, |_| ())
    };
    assert_eq!(look(3000, true), Some(Time::from_micros(91_002)));
    assert_eq!(look(4000, false), Some(Time::from_micros(51_002)));
    // Seconds later its last packets over the first are forgotten.
    let late = Time::from_millis(5000);
    let third = frame(3, true, &[0; 4]);
    reorder.take(&third, Arrival { path: 2, now: late, stamp: 1003 }, Vec::new, |_| ());
    let path = PathProgress { bit: 1, spread: false, latest: 1000, bound: 9_000_000 };
    let progress = Progress { paths: &[path], repair: Duration::ZERO };
    let mut out = 0;
    assert_eq!(reorder.advance(late, &progress, |_| out += 1), None);
    assert_eq!(out, 2);
}

#[test]
fn a_gap_that_is_repaired_waits_longer() {
    let mut reorder = Reorder::new(1 << 20);
    let flags = PacketFlags { ordered: true, repaired: true, ..PacketFlags::default() };
    let packet = PacketFrame { flags, slot: 3, sequence: 1, bytes: &[0; 4] };
    reorder.take(&packet, arrival(0), Vec::new, |_| panic!("a gap is before it"));
    let paths = [progress(0, 0)];
    let progress = Progress { paths: &paths, repair: Duration::from_millis(80) };
    let look = |reorder: &mut Reorder, ms, out: &mut Vec<Vec<u8>>| {
        reorder.advance(Time::from_millis(ms), &progress, |packet| out.push(packet))
    };
    let mut out = Vec::new();
    assert_eq!(look(&mut reorder, 10, &mut out), Some(Time::from_millis(90)));
    assert_eq!(look(&mut reorder, 50, &mut out), Some(Time::from_millis(90)));
    assert!(out.is_empty());
    assert_eq!(look(&mut reorder, 90, &mut out), None);
    assert_eq!(out.len(), 1);
}

#[test]
fn halves_are_joined_in_either_order() {
    for first in [true, false] {
        let mut reorder = Reorder::new(1 << 20);
        let half = |part, bytes| {
            let flags = PacketFlags { ordered: true, repaired: true, part, protected: false };
            PacketFrame { flags, slot: 3, sequence: 0, bytes }
        };
        let mut halves = [half(Part::First, b"one "), half(Part::Second, b"packet")];
        if !first {
            halves.reverse();
        }
        let mut out = Vec::new();
        for half in halves {
            reorder.take(&half, arrival(0), Vec::new, |packet| out.push(packet));
        }
        assert_eq!(out, [b"one packet"]);
    }
}

#[test]
fn memory_is_bounded() {
    let mut reorder = Reorder::new(10_000);
    let mut delivered = 0;
    for sequence in 1..200u32 {
        let packet = [0; 1000];
        reorder.take(&frame(sequence, true, &packet), arrival(0), Vec::new, |_| delivered += 1);
        assert!(reorder.bytes() <= 10_000);
    }
    assert!(delivered > 180, "{delivered}");
}
