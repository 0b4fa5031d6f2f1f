//! How busy the machine's processor is, and how finely it keeps time.

use std::time::Duration;

use nix::time::{ClockId, clock_getres};

/// Since the start of the machine, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
}

/// Compares two looks.
#[derive(Debug, Default)]
pub struct Processor {
    before: Option<Ticks>,
    last: Option<Ticks>,
}

impl Processor {
    /// Takes a look.
    pub fn look(&mut self) {
        let now = std::fs::read_to_string("/proc/stat").ok().and_then(|text| parse(&text));
        self.before = std::mem::replace(&mut self.last, now);
    }

    /// How busy it was between the last two looks, or since the last one if that is a while ago.
    #[must_use]
    pub fn busy_percent(&mut self) -> Option<u8> {
        if self.before.is_none() {
            self.look();
        }
        busy(self.before?, self.last?)
    }
}

/// Whether a sleep of some microseconds is about that long. Without high-resolution timers (time(7)) it
/// lasts until the next tick, up to 10 ms away.
#[must_use]
pub fn sleeps_are_short() -> bool {
    const FINE: Duration = Duration::from_micros(100);
    clock_getres(ClockId::CLOCK_MONOTONIC).is_ok_and(|resolution| Duration::from(resolution) < FINE)
}

fn busy(from: Ticks, to: Ticks) -> Option<u8> {
    let all = to.all.checked_sub(from.all)?;
    let idle = to.idle.checked_sub(from.idle)?.min(all);
    u8::try_from((all - idle).checked_mul(100)?.checked_div(all)?).ok()
}

/// The first line of `/proc/stat` (proc_stat(5)): `cpu user nice system idle iowait irq softirq steal`.
fn parse(text: &str) -> Option<Ticks> {
    let figures = text.lines().next()?.strip_prefix("cpu ")?;
    let figures: Vec<u64> =
        figures.split_ascii_whitespace().take(8).map_while(|figure| figure.parse().ok()).collect();
    let idle = figures.get(3)? + figures.get(4)?;
    Some(Ticks { all: figures.iter().sum(), idle })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_figures() {
        let from = parse("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2\n").unwrap();
        assert_eq!(from, Ticks { all: 1000, idle: 800 });
        assert_eq!(busy(from, Ticks { all: 1100, idle: 825 }), Some(75));
        assert_eq!(busy(from, from), None);
        assert_eq!(parse("cpu 1 2"), None);
        assert_eq!(parse("nonsense"), None);
    }
}
