//! The highest or lowest value of a recent time.

use std::time::Duration;

use crate::Time;

/// Which value wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extreme {
    Highest,
    Lowest,
}

/// Remembers the extreme of the last `memory` to within half of it, in two halves of that time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Windowed<T> {
    which: Extreme,
    now: Option<T>,
    before: Option<T>,
    since: Time,
}

impl<T: Copy + Ord> Windowed<T> {
    pub(super) const fn new(which: Extreme) -> Self {
        Self { which, now: None, before: None, since: Time::ZERO }
    }

    /// Takes a value; those older than `memory` no longer count.
    pub(super) fn add(&mut self, now: Time, value: T, memory: Duration) {
        if now.since(self.since) >= memory / 2 {
            self.before = if now.since(self.since) >= memory { None } else { self.now };
            self.now = None;
            self.since = now;
        }
        self.now = Some(self.now.map_or(value, |old| self.better(old, value)));
    }

    /// Forgets all but `value`.
    pub(super) fn reset(&mut self, now: Time, value: T) {
        (self.now, self.before, self.since) = (Some(value), None, now);
    }

    /// The extreme.
    pub(super) fn get(&self) -> Option<T> {
        match (self.now, self.before) {
            (Some(now), Some(before)) => Some(self.better(now, before)),
            (now, before) => now.or(before),
        }
    }

    fn better(&self, a: T, b: T) -> T {
        match self.which {
            Extreme::Highest => a.max(b),
            Extreme::Lowest => a.min(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_values_go() {
        let mut rate = Windowed::new(Extreme::Highest);
        let memory = Duration::from_secs(1);
        rate.add(Time::from_millis(0), 9, memory);
        rate.add(Time::from_millis(400), 5, memory);
        assert_eq!(rate.get(), Some(9));
        rate.add(Time::from_millis(600), 4, memory);
        assert_eq!(rate.get(), Some(9));
        rate.add(Time::from_millis(1100), 3, memory);
        assert_eq!(rate.get(), Some(4));
        rate.add(Time::from_millis(5000), 1, memory);
        assert_eq!(rate.get(), Some(1));
    }
}
