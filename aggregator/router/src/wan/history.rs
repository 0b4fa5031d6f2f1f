//! What a WAN did of late, in bounded memory: 1 s steps for 10 minutes, 10 s steps for 3 hours,
//! 5 min steps for 7 days. About 45 kB a WAN.

use wanbond_control::History;

/// Seconds in a step, and how many are kept, from fine to coarse. Each step is a whole number of
/// the one before.
const RINGS: [(u32, usize); 3] = [(1, 600), (10, 1080), (300, 2016)];

/// One step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Step {
    /// Kilobits per second: up to 4 Tbit/s.
    rx_kbps: u32,
    tx_kbps: u32,
    /// Tenths of a millisecond; [`UNKNOWN`] while nothing answered.
    rtt: u16,
    /// Hundredths of a percent; [`UNKNOWN`].
    loss: u16,
}

const UNKNOWN: u16 = u16::MAX;

impl Step {
    /// Rates in bits per second, round trip in milliseconds, loss in percent.
    pub(crate) fn new(rx_bps: u64, tx_bps: u64, rtt: Option<f64>, loss: Option<f64>) -> Self {
        let kbps = |bps: u64| u32::try_from(bps / 1000).unwrap_or(u32::MAX);
        // `as` saturates, and the top value is taken.
        let small = |value: Option<f64>, scale: f64| {
            value.map_or(UNKNOWN, |value| ((value * scale) as u16).min(UNKNOWN - 1))
        };
        Self {
            rx_kbps: kbps(rx_bps),
            tx_kbps: kbps(tx_bps),
            rtt: small(rtt, 10.0),
            loss: small(loss, 100.0),
        }
    }

    fn mean(steps: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> u32| {
            let sum: u64 = steps.iter().map(|step| u64::from(of(step))).sum();
            u32::try_from(sum / steps.len().max(1) as u64).unwrap_or(u32::MAX)
        };
        let known = |of: fn(&Self) -> u16| {
            let values = || steps.iter().map(of).filter(|value| *value != UNKNOWN);
            let sum: u32 = values().map(u32::from).sum();
            sum.checked_div(values().count() as u32).map_or(UNKNOWN, |mean| mean as u16)
        };
        Self {
            rx_kbps: mean(|step| step.rx_kbps),
            tx_kbps: mean(|step| step.tx_kbps),
            rtt: known(|step| step.rtt),
            loss: known(|step| step.loss),
        }
    }
}

/// The newest steps of one length. Memory grows with them, up to its bound.
#[derive(Debug, Default)]
struct Ring {
    steps: Vec<Step>,
    /// Where the oldest stands, once full.
    start: usize,
}

impl Ring {
    fn push(&mut self, step: Step, most: usize) {
        if self.steps.len() < most {
            self.steps.push(step);
        } else {
            self.steps[self.start] = step;
            self.start = (self.start + 1) % most;
        }
    }

    fn latest(&self, count: usize) -> impl Iterator<Item = &Step> {
        let (newer, older) = self.steps.split_at(self.start);
        older.iter().chain(newer).skip(self.steps.len().saturating_sub(count))
    }
}

/// One WAN's past.
#[derive(Debug, Default)]
pub(crate) struct Past {
    rings: [Ring; RINGS.len()],
    /// Fine steps that are not yet part of a coarser one.
    open: [Vec<Step>; RINGS.len()],
    /// Seconds written so far, from the daemon's start.
    until: u32,
}

impl Past {
    /// Notes how it was since the last call; `now` in seconds from the daemon's start. Steps that
    /// lie between are all like this one.
    pub(crate) fn note(&mut self, now: u32, step: Step) {
        // After a long sleep of the machine, only what is kept.
        let steps = now.saturating_sub(self.until).min(RINGS[2].0 * RINGS[2].1 as u32);
        for _ in 0..steps {
            self.add(0, step);
        }
        self.until = now.max(self.until);
    }

    fn add(&mut self, ring: usize, step: Step) {
        let (length, most) = RINGS[ring];
        self.rings[ring].push(step, most);
        let Some(&(coarser, _)) = RINGS.get(ring + 1) else { return };
        self.open[ring].push(step);
        if self.open[ring].len() as u32 * length >= coarser {
            let mean = Step::mean(&self.open[ring]);
            self.open[ring].clear();
            self.add(ring + 1, mean);
        }
    }

    /// The most that came in and went out in a step of the finest ring, bits per second.
    pub(crate) fn peaks(&self) -> (u64, u64) {
        let most = |of: fn(&Step) -> u32| {
            u64::from(self.rings[0].steps.iter().map(of).max().unwrap_or(0)) * 1000
        };
        (most(|step| step.rx_kbps), most(|step| step.tx_kbps))
    }

    /// The last `seconds`, in the finest steps that reach back so far.
    pub(crate) fn show(&self, name: &str, seconds: u32) -> History {
        let reaches = |&(length, most): &(u32, usize)| length * most as u32 >= seconds;
        let ring = RINGS.iter().position(reaches).unwrap_or(RINGS.len() - 1);
        let (step_s, _) = RINGS[ring];
        let count = seconds.div_ceil(step_s) as usize;
        let known = |value: u16, scale: f64| (value != UNKNOWN).then(|| f64::from(value) / scale);
        let mut history = History {
            name: name.to_owned(),
            step_s,
            until_s: f64::from(self.until - self.until % step_s),
            ..History::default()
        };
        for step in self.rings[ring].latest(count) {
            history.rx_bps.push(u64::from(step.rx_kbps) * 1000);
            history.tx_bps.push(u64::from(step.tx_kbps) * 1000);
            history.rtt_ms.push(known(step.rtt, 10.0));
            history.loss_percent.push(known(step.loss, 100.0));
        }
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(mbps: u64) -> Step {
        Step::new(mbps * 1_000_000, 0, Some(mbps as f64), None)
    }

    #[test]
    fn finer_steps_become_coarser_ones() {
        let mut past = Past::default();
        for second in 1..=20 {
            past.note(second, rate(u64::from(second)));
        }
        let fine = past.show("fibre", 5);
        assert_eq!((fine.step_s, fine.until_s), (1, 20.0));
        assert_eq!(fine.rx_bps, [16, 17, 18, 19, 20].map(|m| m * 1_000_000));
        assert_eq!(fine.rtt_ms[4], Some(20.0));
        assert_eq!(fine.loss_percent, [None; 5]);
        let coarse = past.show("fibre", 3600);
        assert_eq!(coarse.step_s, 10);
        assert_eq!(coarse.rx_bps, [5_500_000, 15_500_000]);
        assert_eq!(past.peaks(), (20_000_000, 0));
    }

    #[test]
    fn gaps_are_filled_and_memory_is_bounded() {
        let mut past = Past::default();
        past.note(30 * 86_400, rate(3));
        for (seconds, step, count) in [(600, 1, 600), (10_800, 10, 1080), (604_800, 300, 2016)] {
            let shown = past.show("x", seconds);
            assert_eq!((shown.step_s, shown.rx_bps.len()), (step, count));
            assert!(shown.rx_bps.iter().all(|bps| *bps == 3_000_000));
        }
        // A clock that stands still or goes back adds nothing.
        past.note(7, rate(9));
        assert_eq!(past.peaks().0, 3_000_000);
        assert!(past.open.iter().all(|open| open.len() <= 30));
        assert_eq!(past.show("x", u32::MAX).rx_bps.len(), 2016);
    }

    #[test]
    fn what_was_not_known_is_not_counted() {
        let mut past = Past::default();
        for second in 1..=10 {
            let rtt = (second % 2 == 0).then_some(40.0);
            past.note(second, Step::new(u64::MAX, 1, rtt, Some(100.0)));
        }
        let coarse = past.show("x", 700);
        assert_eq!(coarse.rtt_ms, [Some(40.0)]);
        assert_eq!(coarse.loss_percent, [Some(100.0)]);
        assert_eq!(coarse.rx_bps, [u64::from(u32::MAX) * 1000]);
    }
}
