//! How many bytes of a lane may be under way at once.
//!
//! Left alone, the kernel takes as much of a transfer as its send buffer holds, and hands each
//! subflow more than the line can carry. Two things suffer. What waits in a line's queue delays
//! everybody's small packets on that WAN; and what waits in a subflow that dies has to be sent
//! again, in front of everything else, over what is left. So a lane that is always full is held to
//! twice what its subflows can have in flight, and to just that while their round trips say that a
//! queue stands in the lines. Never to less: BBR would take the smaller rate for the line's, MPTCP
//! not telling it that there was nothing to send, and go down in circles.
//!
//! The queue is steered as FAST TCP does it (Wei, Jin, Low and Hegde, "FAST TCP", 2006): towards a
//! fixed delay on top of the shortest round trip, whatever the rate. Each lane does so by itself;
//! lanes that share a line see the same queue, and settle.
//!
//! All of it is arithmetic on times and sizes that are passed in.

use std::time::{Duration, Instant};

/// The queue to steer for, on the mean of the lines: short enough for a call beside a download,
/// long enough to keep the lines busy between two turns of the scheduler.
const QUEUE: Duration = Duration::from_millis(20);
/// No lane gets less: with half of it, one of the scheduler's turns, subflows run dry in turn.
const LEAST: usize = 32 * 1024;
/// Between two looks at the subflows; longer where the round trip is.
const INTERVAL: Duration = Duration::from_millis(100);
/// BBR shrinks a window to nothing for a fifth of a second when it measures the round trip: what
/// counts is the largest of at least this long.
const WINDOWS: Duration = Duration::from_secs(1);
/// How long a smoothed round trip is remembered as the line's own: BBR empties the queue to measure
/// it more often than that.
const ROUND_TRIPS: Duration = Duration::from_secs(10);
/// A subflow that has come needs this long to find its rate, and so do those that are left after
/// one went, or a line that has lost.
const SETTLING: Duration = Duration::from_secs(3);
/// A subflow with less than this share of the rate, as a divisor, is not waited for.
const MINOR: u128 = 24;

/// What the kernel says of one subflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubflowSample {
    /// Smoothed round trip.
    pub(crate) srtt: Duration,
    /// Shortest round trip of the last minutes.
    pub(crate) min_rtt: Duration,
    /// Congestion window, in bytes.
    pub(crate) window: usize,
    /// Segments sent again since it began.
    pub(crate) retransmitted: u32,
}

/// Bounds what a lane has under way, by what its subflows say.
#[derive(Debug, Default)]
pub(crate) struct SendWindow {
    /// In bytes; none while the lane may have as much as it likes.
    bound: Option<usize>,
    /// When the subflows were last looked at.
    last: Option<Instant>,
    /// Until the next look.
    interval: Duration,
    /// What the subflows can have in flight.
    windows: Extreme<usize>,
    /// The lines' own round trips, subflow by subflow, as negative numbers of µs.
    round_trips: Vec<Extreme<i64>>,
    /// Segments that all subflows have sent again.
    retransmitted: u64,
    /// Until then the lane gets all that it can use: a subflow has not found its rate yet, or one
    /// loses, and what comes behind a gap counts as under way until that is filled.
    generous: Option<Instant>,
}

impl SendWindow {
    /// Whether the subflows should be looked at, now that the lane takes no more: one that takes all
    /// it is given is left alone.
    #[must_use]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval)
    }

    /// Takes what the subflows say at `now`; gives the new bound in bytes where it changes.
    pub(crate) fn sample(&mut self, now: Instant, subflows: &[SubflowSample]) -> Option<usize> {
        self.last = Some(now);
        self.interval = INTERVAL;
        if subflows.len() != self.round_trips.len() {
            self.round_trips = vec![Extreme::default(); subflows.len()];
            self.generous = Some(now + SETTLING);
        }
        let retransmitted = subflows.iter().map(|subflow| u64::from(subflow.retransmitted)).sum();
        if retransmitted > self.retransmitted {
            self.generous = Some(now + SETTLING);
        }
        self.retransmitted = retransmitted;
        let lines: Vec<Line> =
            subflows.iter().zip(&mut self.round_trips).map(|(s, own)| s.line(now, own)).collect();
        let mean = mean_of(&lines)?;
        self.interval = INTERVAL.max(2 * mean.srtt);
        let before = self.windows.get();
        let windows = self.windows.take(now, WINDOWS, needed(&lines));
        let generous = self.generous.is_some_and(|until| now < until)
            || before.is_none_or(|before| windows > before + before / 10);
        let queue = mean.srtt.saturating_sub(mean.rtt);
        if self.bound.is_none() && generous && queue < QUEUE {
            return None;
        }
        let most = 2 * windows + LEAST;
        let bound = match self.bound {
            Some(bound) if !generous => steer(bound, queue, mean.rtt).clamp(windows, most),
            _ => most,
        };
        let bound = bound.max(LEAST);
        // Each change is a system call, and a few percent are nobody's gain.
        let changes = self.bound.is_none_or(|old| bound.abs_diff(old) > old / 32);
        changes.then(|| *self.bound.insert(bound))
    }
}

/// One step towards [`QUEUE`]: half of what is missing, and never far.
fn steer(bound: usize, queue: Duration, rtt: Duration) -> usize {
    let wanted = micros(rtt + QUEUE).max(1);
    let permille = (500 * (micros(QUEUE) - micros(queue)) / wanted).clamp(-200, 150);
    let step = i64::try_from(bound).unwrap_or(i64::MAX / 1000) * permille / 1000;
    usize::try_from(i64::try_from(bound).unwrap_or(i64::MAX).saturating_add(step)).unwrap_or(LEAST)
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX / 1000)
}

/// A subflow's line as it is now.
#[derive(Debug, Clone, Copy)]
struct Line {
    srtt: Duration,
    /// Its round trip without a queue of ours.
    rtt: Duration,
    window: usize,
}

impl Line {
    /// Bytes per second that the window allows.
    fn rate(&self) -> u128 {
        self.window as u128 * 1_000_000 / self.srtt.as_micros().max(1)
    }
}

impl SubflowSample {
    /// The line's own round trip is the least that was smoothed lately, which has its jitter in
    /// it. Lanes that fill a line together may never see it empty, so that is believed to a point.
    fn line(&self, now: Instant, own: &mut Extreme<i64>) -> Line {
        let least = -own.take(now, ROUND_TRIPS, -micros(self.srtt));
        let jitter = micros(self.min_rtt / 4).max(10_000);
        let rtt = least.clamp(micros(self.min_rtt), micros(self.min_rtt).saturating_add(jitter));
        let rtt = Duration::from_micros(u64::try_from(rtt).unwrap_or(0));
        Line { srtt: self.srtt, rtt: rtt.min(self.srtt), window: self.window }
    }
}

/// Round trips of all subflows, each counting by its window: a slow far line says little about
/// what most bytes meet.
fn mean_of(lines: &[Line]) -> Option<Line> {
    let window: usize = lines.iter().map(|line| line.window).sum();
    let mean = |time: fn(&Line) -> Duration| {
        let sum: u128 = lines.iter().map(|line| time(line).as_micros() * line.window as u128).sum();
        let mean = sum.checked_div(window as u128)?;
        u64::try_from(mean).ok().map(Duration::from_micros)
    };
    Some(Line { srtt: mean(|line| line.srtt)?, rtt: mean(|line| line.rtt)?, window })
}

/// What must be under way to fill all windows. What has come over a near line waits at the far end
/// for what was sent before it over a farther one, and still counts as under way.
fn needed(lines: &[Line]) -> usize {
    let rate: u128 = lines.iter().map(Line::rate).sum();
    let counts = |line: &&Line| line.rate() * MINOR >= rate;
    let farthest = lines.iter().filter(counts).map(|line| line.rtt).max().unwrap_or_default();
    let longest = (farthest + QUEUE).as_micros();
    let of_one = |line: &Line| {
        let filled = line.rate() * longest / 1_000_000;
        line.window.max(usize::try_from(filled).unwrap_or(line.window))
    };
    lines.iter().map(of_one).sum()
}

/// The largest of what was lately taken, for at least a stretch of time and at most two.
#[derive(Debug, Clone, Copy, Default)]
struct Extreme<T> {
    /// In this stretch, and in the one before.
    most: (Option<T>, Option<T>),
    since: Option<Instant>,
}

impl<T: Copy + Ord> Extreme<T> {
    fn get(&self) -> Option<T> {
        self.most.0.max(self.most.1)
    }

    fn take(&mut self, now: Instant, stretch: Duration, value: T) -> T {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= stretch {
            self.most = (None, self.most.0);
            self.since = Some(now);
        }
        self.most.0 = self.most.0.max(Some(value));
        self.get().unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Two lines of these rates, in bytes per ms, and one lane that always has more to send.
    struct Lines {
        lines: [(usize, Duration); 2],
        now: Instant,
        window: SendWindow,
        bound: usize,
    }

    impl Lines {
        fn new(lines: [(usize, Duration); 2]) -> Self {
            Self { lines, now: Instant::now(), window: SendWindow::default(), bound: 4 << 20 }
        }

        /// What is under way beyond what the lines hold stands in their queues, in proportion; the
        /// kernel's own windows are twice what the lines hold.
        fn queue(&self) -> Duration {
            let rate: usize = self.lines.iter().map(|(rate, _)| rate).sum();
            let held: usize =
                self.lines.iter().map(|(rate, rtt)| rate * rtt.as_millis() as usize).sum();
            MS * u32::try_from(self.bound.min(2 * held).saturating_sub(held) / rate).unwrap()
        }

        fn step(&mut self) {
            let queue = self.queue();
            let samples = self.lines.map(|(rate, rtt)| SubflowSample {
                srtt: rtt + queue,
                min_rtt: rtt,
                window: 2 * rate * rtt.as_millis() as usize,
                retransmitted: 0,
            });
            self.now += 100 * MS;
            if self.window.is_due(self.now)
                && let Some(bound) = self.window.sample(self.now, &samples)
            {
                self.bound = bound;
            }
        }

        fn run(&mut self, seconds: u32) {
            for _ in 0..seconds * 10 {
                self.step();
            }
        }
    }

    #[test]
    fn a_standing_queue_brings_the_bound_down_to_the_windows() {
        for (rate, rtt) in [(1_000, 40), (6_250, 40), (125_000, 30), (3_000, 150)] {
            let mut lines = Lines::new([(rate, rtt * MS), (rate / 2, rtt * MS)]);
            lines.run(8);
            let windows = 2 * (rate + rate / 2) * rtt as usize;
            let bound = lines.window.bound.unwrap();
            assert!(bound >= windows && bound < windows + windows / 2, "{rate} {rtt}: {bound}");
        }
    }

    #[test]
    fn lossy_lines_get_all_that_they_can_use() {
        let mut window = SendWindow::default();
        let mut now = Instant::now();
        let mut bound = 0;
        for retransmitted in 0..100 {
            let sample =
                SubflowSample { srtt: 90 * MS, min_rtt: 40 * MS, window: 400_000, retransmitted };
            now += 200 * MS;
            bound = window.sample(now, &[sample]).unwrap_or(bound);
        }
        assert!(bound >= 800_000, "{bound}");
    }

    #[test]
    fn a_line_that_becomes_faster_is_filled() {
        let mut lines = Lines::new([(2_000, 40 * MS), (2_000, 40 * MS)]);
        lines.run(8);
        lines.lines[0].0 = 10_000;
        lines.run(3);
        assert!(lines.queue() > QUEUE / 3, "{:?}", lines.queue());
    }

    #[test]
    fn a_far_line_does_not_starve_a_near_one() {
        // 12.5 MB/s over 12 ms and 5 MB/s over 60 ms.
        let line = |rate: usize, ms: u32| Line {
            srtt: MS * (ms + 15),
            rtt: MS * ms,
            window: rate * (ms as usize + 15),
        };
        let both = needed(&[line(12_500, 12), line(5_000, 60)]);
        assert_eq!(both, (12_500 + 5_000) * 80);
        // A trickle over 400 ms is not waited for.
        let more = needed(&[line(12_500, 12), line(5_000, 60), line(250, 400)]);
        assert_eq!(more, both + 250 * 415);
    }

    #[test]
    fn a_subflow_that_comes_back_is_given_room() {
        let mut lines = Lines::new([(5_000, 40 * MS), (5_000, 40 * MS)]);
        lines.run(8);
        let alone =
            SubflowSample { srtt: 55 * MS, min_rtt: 40 * MS, window: 400_000, retransmitted: 0 };
        let mut now = lines.now;
        for _ in 0..50 {
            now += 120 * MS;
            lines.window.sample(now, &[alone]);
        }
        let before = lines.window.bound.unwrap();
        let young =
            SubflowSample { srtt: 40 * MS, min_rtt: 40 * MS, window: 14_480, retransmitted: 0 };
        let bound = lines.window.sample(now + 120 * MS, &[alone, young]).unwrap_or(before);
        assert!(bound >= 400_000 && bound >= before, "{bound} {before}");
    }

    #[test]
    fn a_window_that_is_small_for_a_moment_is_no_reason() {
        let mut lines = Lines::new([(5_000, 40 * MS), (5_000, 40 * MS)]);
        lines.run(8);
        let before = lines.bound;
        let now = lines.now + 200 * MS;
        // BBR measures the round trip of one of them.
        let probing =
            SubflowSample { srtt: 40 * MS, min_rtt: 40 * MS, window: 4 * 1448, retransmitted: 0 };
        let other =
            SubflowSample { srtt: 55 * MS, min_rtt: 40 * MS, window: 400_000, retransmitted: 0 };
        let bound = lines.window.sample(now, &[probing, other]).unwrap_or(before);
        assert!(bound >= before, "{bound} {before}");
    }

    #[test]
    fn nothing_is_bounded_before_a_queue_stands_or_the_windows_have_settled() {
        let mut window = SendWindow::default();
        let mut now = Instant::now();
        let mut size = 15_000;
        for _ in 0..8 {
            let sample =
                SubflowSample { srtt: 41 * MS, min_rtt: 40 * MS, window: size, retransmitted: 0 };
            assert_eq!(window.sample(now, &[sample]), None);
            now += 100 * MS;
            size *= 2;
        }
        // Grown by too little to be still at its start.
        let settled = SubflowSample {
            srtt: 41 * MS,
            min_rtt: 40 * MS,
            window: size / 2 + 1,
            retransmitted: 0,
        };
        assert!(window.sample(now + SETTLING, &[settled]).is_some());
    }

    #[test]
    fn the_subflows_are_looked_at_seldom_and_of_plain_tcp_there_are_none() {
        let mut window = SendWindow::default();
        let now = Instant::now();
        assert!(window.is_due(now));
        let sample = SubflowSample { srtt: MS, min_rtt: MS, window: 14_480, retransmitted: 0 };
        window.sample(now, &[sample]);
        assert!(!window.is_due(now + INTERVAL / 2));
        assert!(window.is_due(now + INTERVAL));
        assert_eq!(window.sample(now + INTERVAL, &[]), None, "plain TCP");
        assert!(!window.is_due(now + INTERVAL * 3 / 2));
    }
}
