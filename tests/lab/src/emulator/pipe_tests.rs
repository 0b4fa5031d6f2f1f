//! Properties of the pure link.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::emulator::{Burst, QueueLimit};
use crate::units::{Fraction, Rate};

fn share(value: f64) -> Fraction {
    Fraction::new(value).unwrap()
}

fn rate(bits: u64) -> Option<Rate> {
    Some(Rate::from_bits_per_second(bits))
}

/// Offers packets of these lengths with these gaps (µs) and polls exactly when asked to.
/// Gives each packet's number with the moment it came out.
fn run(pipe: &mut Pipe<usize>, input: &[(u64, u32)]) -> Vec<(usize, Time)> {
    let mut out = Vec::new();
    let mut now = Time::ZERO;
    let drain = |pipe: &mut Pipe<usize>, until: Option<Time>, out: &mut Vec<(usize, Time)>| {
        while let Some(due) = pipe.next_due().filter(|&due| until.is_none_or(|t| due <= t)) {
            while let Some(delivery) = pipe.poll(due) {
                assert!(delivery.due <= due);
                out.push((delivery.packet, delivery.due));
            }
        }
    };
    for (index, &(gap, len)) in input.iter().enumerate() {
        now = now + Duration::from_micros(gap);
        drain(pipe, Some(now), &mut out);
        pipe.offer(now, len, index);
    }
    drain(pipe, None, &mut out);
    out
}

fn packets() -> impl Strategy<Value = Vec<(u64, u32)>> {
    proptest::collection::vec((0_u64..3000, 28_u32..1501), 1..300)
}

proptest! {
    /// A busy line passes exactly its rate: the n-th packet of a burst leaves when all bits up to
    /// it have passed, to the nanosecond.
    #[test]
    fn rate_is_exact(lens in proptest::collection::vec(28_u32..1501, 1..200), bits in 10_000_u64..2_000_000_000) {
        let shape = Shape { rate: rate(bits), queue: QueueLimit::Bytes(u64::MAX), ..Shape::default() };
        let mut pipe = Pipe::new(shape, 1);
        let input: Vec<_> = lens.iter().map(|&len| (0, len)).collect();
        let mut sum = 0_u128;
        for ((_, due), len) in run(&mut pipe, &input).into_iter().zip(&lens) {
            sum += u128::from(*len) * 8;
            prop_assert_eq!(u128::from(due.as_nanos()), (sum * 1_000_000_000).div_ceil(u128::from(bits)));
        }
    }

    /// Without the reordering options nothing ever overtakes, whatever else is set.
    #[test]
    fn order_is_kept(input in packets(), seed in any::<u64>(), jitter in 0_u64..40) {
        let shape = Shape {
            rate: rate(5_000_000),
            delay: Duration::from_millis(10),
            jitter: Duration::from_millis(jitter),
            loss: share(0.05),
            duplicate: share(0.05),
            ..Shape::default()
        };
        let out = run(&mut Pipe::new(shape, seed), &input);
        prop_assert!(out.is_sorted_by_key(|&(_, due)| due));
        prop_assert!(out.is_sorted_by_key(|&(index, _)| index));
    }

    /// No packet waits longer than the queue's time (plus one packet that came when it was empty),
    /// and what is not delivered is counted under its cause.
    #[test]
    fn queue_is_bounded(input in packets(), queue_ms in 1_u64..200, bits in 100_000_u64..20_000_000) {
        let shape = Shape {
            rate: rate(bits),
            queue: QueueLimit::Time(Duration::from_millis(queue_ms)),
            ..Shape::default()
        };
        let mut pipe = Pipe::new(shape, 1);
        let out = run(&mut pipe, &input);
        let mut arrived = Vec::new();
        let mut now = Time::ZERO;
        for &(gap, _) in &input {
            now = now + Duration::from_micros(gap);
            arrived.push(now);
        }
        for (index, due) in out {
            let own = Duration::from_nanos(nanos_for_bits(u64::from(input[index].1) * 8, bits));
            let most = Duration::from_millis(queue_ms).max(own) + Duration::from_nanos(1);
            prop_assert!(due.since(arrived[index]) <= most);
        }
        let c = *pipe.counters();
        prop_assert_eq!(c.packets_in, input.len() as u64);
        prop_assert_eq!(c.packets_in, c.packets_out + c.dropped());
        prop_assert_eq!(c.dropped(), c.dropped_queue);
        prop_assert_eq!(pipe.waiting_bytes(), 0);
    }

    /// The same seed and input give the same output; so a failing test can be run again.
    #[test]
    fn seeds_repeat(input in packets(), seed in any::<u64>()) {
        let shape = Shape {
            rate: rate(3_000_000),
            delay: Duration::from_millis(5),
            jitter: Duration::from_millis(3),
            reordering_jitter: true,
            loss: share(0.1),
            burst: Some(Burst { enter: share(0.05), leave: share(0.3), loss: share(0.9) }),
            duplicate: share(0.1),
            reorder: share(0.1),
            ..Shape::default()
        };
        let (mut a, mut b) = (Pipe::new(shape, seed), Pipe::new(shape, seed));
        prop_assert_eq!(run(&mut a, &input), run(&mut b, &input));
        prop_assert_eq!(a.counters(), b.counters());
    }

    /// Changing the rate midway neither loses nor doubles a bit: the rest goes at the new rate.
    #[test]
    fn rate_changes_midway(first in 100_000_u64..10_000_000, second in 100_000_u64..10_000_000, at_us in 0_u64..100_000) {
        let shape = Shape { rate: rate(first), queue: QueueLimit::Bytes(u64::MAX), ..Shape::default() };
        let mut pipe = Pipe::new(shape, 1);
        for index in 0..20 {
            pipe.offer(Time::ZERO, 1500, index);
        }
        let change = Time::from_nanos(at_us * 1000);
        let mut last = Time::ZERO;
        while let Some(d) = pipe.poll(change) { last = d.due; }
        pipe.set_shape(change, Shape { rate: rate(second), ..shape });
        while let Some(due) = pipe.next_due() {
            while let Some(d) = pipe.poll(due) { last = d.due; }
        }
        let bits = 20.0 * 12_000.0;
        let before = (first as f64 * change.as_nanos() as f64 / 1e9).min(bits);
        let wanted = if before < bits {
            change.as_nanos() as f64 + (bits - before) / second as f64 * 1e9
        } else {
            bits / first as f64 * 1e9
        };
        // A bit of either rate is the rounding allowed at the change.
        let slack = 1e9 / first as f64 + 1e9 / second as f64 + 2.0;
        prop_assert!((last.as_nanos() as f64 - wanted).abs() <= slack, "{last:?} {wanted}");
    }
}

#[test]
fn a_cut_lets_nothing_through_and_loses_what_is_under_way() {
    let shape =
        Shape { rate: rate(1_000_000), delay: Duration::from_millis(50), ..Shape::default() };
    let mut pipe = Pipe::new(shape, 1);
    for index in 0..5 {
        pipe.offer(Time::ZERO, 1000, index);
    }
    // Two have left the line and are in flight, three wait.
    pipe.set_cut(Time::from_millis(20), true);
    pipe.offer(Time::from_millis(30), 1000, 5);
    assert_eq!(pipe.next_due(), None);
    assert_eq!(pipe.poll(Time::from_millis(1000)), None);
    assert_eq!(pipe.counters().dropped_cut, 6);
    pipe.set_cut(Time::from_millis(1000), false);
    pipe.offer(Time::from_millis(1000), 1000, 6);
    assert_eq!(pipe.next_due(), Some(Time::from_millis(1008)));
    assert_eq!(pipe.poll(Time::from_millis(1058)).map(|d| d.packet), Some(6));
}

#[test]
fn losses_come_at_their_rates() {
    let input: Vec<_> = (0..100_000).map(|_| (10, 100)).collect();
    let mut pipe = Pipe::new(Shape { loss: share(0.003), ..Shape::default() }, 7);
    run(&mut pipe, &input);
    assert!((200..400).contains(&pipe.counters().dropped_loss), "{:?}", pipe.counters());

    // Bad for 1/0.25 packets in every 1/0.01 + 1/0.25: 3.8 %.
    let burst = Burst { enter: share(0.01), leave: share(0.25), loss: Fraction::one() };
    let mut pipe = Pipe::new(Shape { burst: Some(burst), ..Shape::default() }, 7);
    let out = run(&mut pipe, &input);
    assert!((3300..4400).contains(&pipe.counters().dropped_burst), "{:?}", pipe.counters());
    let bursts = out.windows(2).filter(|w| w[1].0 - w[0].0 > 1).count() as u64;
    let mean = pipe.counters().dropped_burst as f64 / bursts as f64;
    assert!((3.5..4.5).contains(&mean), "bursts of {mean}");
}

#[test]
fn jitter_stays_within_its_bounds_and_uses_them() {
    let shape = Shape {
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(5),
        ..Shape::default()
    };
    let input: Vec<_> = (0..20_000).map(|_| (500, 100)).collect();
    let mut at = 0;
    let delays: Vec<u64> = run(&mut Pipe::new(shape, 3), &input)
        .into_iter()
        .map(|(_, due)| {
            at += 500_000;
            due.as_nanos() - at
        })
        .collect();
    let (low, high) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!((25_000_000..26_000_000).contains(low), "{low}");
    assert!((34_000_000..=35_000_000).contains(high), "{high}");
}

#[test]
fn reordering_is_there_when_asked_for() {
    let shape =
        Shape { reorder: share(0.1), reorder_by: Duration::from_millis(3), ..Shape::default() };
    let input: Vec<_> = (0..1000).map(|_| (1000, 100)).collect();
    let out = run(&mut Pipe::new(shape, 3), &input);
    assert_eq!(out.len(), 1000);
    assert!(!out.is_sorted_by_key(|&(index, _)| index));
}
