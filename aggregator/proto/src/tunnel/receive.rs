//! What one path has received, and when to say so.

use std::time::Duration;

use super::wire::{self, AckHead, MAX_RANGES};
use crate::Time;

/// An acknowledgement waits at most this long for more datagrams to cover.
const MOST_DELAY: Duration = Duration::from_millis(10);
const LEAST_DELAY: Duration = Duration::from_millis(2);
/// So many datagrams are acknowledged at once, whatever the time.
const EVERY: u32 = 32;
/// Ranges remembered; older gaps are past repair.
const REMEMBERED: usize = MAX_RANGES * 2;

/// The receiving half of a path.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// Inclusive, highest first, never touching.
    ranges: Vec<(u64, u64)>,
    largest_at: Time,
    /// Datagrams to be acknowledged since the last acknowledgement.
    unacknowledged: u32,
    due: Option<Time>,
    /// The stamp of the latest datagram in the order of sending, and its one-way delay.
    latest_stamp: Option<u32>,
}

impl Receiver {
    /// Notes a datagram that came for the first time. `srtt` bounds how long its acknowledgement
    /// may wait.
    pub(super) fn note(
        &mut self,
        now: Time,
        number: u64,
        stamp: u32,
        wants_ack: bool,
        srtt: Option<Duration>,
    ) {
        let newest = self.ranges.first().is_none_or(|&(_, high)| number > high);
        let gap = self.ranges.first().is_some_and(|&(_, high)| number > high + 1);
        self.insert(number);
        if newest {
            self.largest_at = now;
        }
        if self.latest_stamp.is_none_or(|latest| stamp.wrapping_sub(latest) as i32 > 0) {
            self.latest_stamp = Some(stamp);
        }
        if !wants_ack {
            return;
        }
        self.unacknowledged += 1;
        let delay = srtt.map_or(MOST_DELAY, |srtt| (srtt / 4).clamp(LEAST_DELAY, MOST_DELAY));
        let at = if self.unacknowledged >= EVERY {
            now
        } else if gap {
            // A loss should be mended soon; one in a row of losses soon enough.
            now + LEAST_DELAY
        } else {
            now + delay
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// An answer is wanted now.
    pub(super) fn hurry(&mut self, now: Time) {
        self.due = Some(now);
    }

    /// When an acknowledgement is to go out by itself.
    pub(super) const fn due(&self) -> Option<Time> {
        self.due
    }

    /// Whether there is something new to say.
    pub(super) const fn has_news(&self) -> bool {
        self.due.is_some()
    }

    /// The highest send stamp that has come.
    pub(super) const fn latest_stamp(&self) -> Option<u32> {
        self.latest_stamp
    }

    /// Writes an acknowledgement of at most `room` bytes. `false` if not even a short one fits, or
    /// nothing has come.
    pub(super) fn write(&mut self, now: Time, path: u8, room: usize, out: &mut Vec<u8>) -> bool {
        let Some(&(_, largest)) = self.ranges.first() else { return false };
        let Some(most) = wire::ranges_in(room) else { return false };
        let head = AckHead {
            path,
            largest: largest as u32,
            at: self.largest_at.as_micros() as u32,
            delay: now.as_micros().saturating_sub(self.largest_at.as_micros()),
        };
        wire::encode_ack(head, &self.ranges[..most.min(self.ranges.len())], out);
        self.due = None;
        self.unacknowledged = 0;
        true
    }

    fn insert(&mut self, number: u64) {
        // Nearly always at the start of the list.
        let place = self.ranges.iter().position(|&(low, _)| number + 1 >= low);
        let Some(place) = place else {
            if self.ranges.len() < REMEMBERED {
                self.ranges.push((number, number));
            }
            return;
        };
        let (low, high) = self.ranges[place];
        if number + 1 == low {
            self.ranges[place].0 = number;
            if let Some(&(below_low, below_high)) = self.ranges.get(place + 1)
                && below_high + 1 == number
            {
                self.ranges[place].0 = below_low;
                self.ranges.remove(place + 1);
            }
        } else if number <= high {
            // Seen; the replay window lets none through.
        } else if number == high + 1 {
            self.ranges[place].1 = number;
            if place > 0 && self.ranges[place - 1].0 == number + 1 {
                self.ranges[place - 1].0 = self.ranges[place].0;
                self.ranges.remove(place);
            }
        } else {
            self.ranges.insert(place, (number, number));
            self.ranges.truncate(REMEMBERED);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_came(numbers in prop::collection::vec(0u64..60, 1..80)) {
            let mut receiver = Receiver::default();
            let mut model = BTreeSet::new();
            for number in numbers {
                if model.insert(number) {
                    receiver.note(Time::ZERO, number, 0, true, None);
                }
            }
            let got: BTreeSet<u64> = receiver.ranges.iter().flat_map(|&(l, h)| l..=h).collect();
            prop_assert_eq!(got, model);
            for pair in receiver.ranges.windows(2) {
                prop_assert!(pair[1].1 + 1 < pair[0].0, "touching: {:?}", receiver.ranges);
            }
        }
    }
}
