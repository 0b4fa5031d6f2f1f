//! A set of numbers as sorted ranges: few of them, changing mostly at its two ends.

use std::collections::VecDeque;

/// Deques that grew beyond this many entries are given back once they are empty.
const KEEP: usize = 16;

/// Gives an emptied deque's memory back if it had grown large.
pub(super) fn relax<T>(deque: &mut VecDeque<T>) {
    if deque.is_empty() && deque.capacity() > KEEP {
        *deque = VecDeque::new();
    }
}

/// Disjoint half-open ranges that don't touch each other, in order.
#[derive(Debug, Default, Clone)]
pub(super) struct Ranges(VecDeque<(u64, u64)>);

impl Ranges {
    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
        relax(&mut self.0);
    }

    /// The first range that ends at or after `at`.
    fn from(&self, at: u64) -> usize {
        match self.0.back() {
            Some(&(_, end)) if end < at => self.0.len(),
            _ => self.0.partition_point(|&(_, end)| end < at),
        }
    }

    /// Adds `start..end`; `false` if all of it was there.
    pub(super) fn insert(&mut self, start: u64, end: u64) -> bool {
        if start >= end {
            return false;
        }
        let at = self.from(start);
        let Some(&(first, last)) = self.0.get(at) else {
            self.0.push_back((start, end));
            return true;
        };
        if end < first {
            self.0.insert(at, (start, end));
            return true;
        }
        if first <= start && end <= last {
            return false;
        }
        let mut merged = (first.min(start), last.max(end));
        let mut past = at + 1;
        while let Some(&(next, last)) = self.0.get(past) {
            if next > merged.1 {
                break;
            }
            merged.1 = merged.1.max(last);
            past += 1;
        }
        self.0[at] = merged;
        if past > at + 1 {
            self.0.drain(at + 1..past);
        }
        true
    }

    /// Takes one number out; `false` if it was not there.
    pub(super) fn remove(&mut self, number: u64) -> bool {
        let at = self.0.partition_point(|&(_, end)| end <= number);
        let Some(&(start, end)) = self.0.get(at).filter(|range| range.0 <= number) else {
            return false;
        };
        match (start == number, end == number + 1) {
            (true, true) => drop(self.0.remove(at)),
            (true, false) => self.0[at].0 += 1,
            (false, true) => self.0[at].1 -= 1,
            (false, false) => {
                self.0[at].1 = number;
                self.0.insert(at + 1, (number + 1, end));
            }
        }
        relax(&mut self.0);
        true
    }

    /// Takes the first range out if it starts at or before `at`, and tells where it ends.
    pub(super) fn take_reached(&mut self, at: u64) -> Option<u64> {
        let &(start, end) = self.0.front()?;
        if start > at {
            return None;
        }
        self.0.pop_front();
        relax(&mut self.0);
        Some(end)
    }

    /// The part of `start..end` before the first number of it that is in the set, and where to
    /// look on: `(gap, next)`. `None` once there is no gap left.
    pub(super) fn next_gap(&self, mut start: u64, end: u64) -> Option<(u64, u64)> {
        let mut at = self.0.partition_point(|&(_, range_end)| range_end <= start);
        while start < end {
            match self.0.get(at) {
                Some(&(first, last)) if first <= start => {
                    start = last;
                    at += 1;
                }
                Some(&(first, _)) => return Some((start, first.min(end))),
                None => return Some((start, end)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn like_a_set(ops in prop::collection::vec((0u8..4, 0u64..60, 0u64..12), 0..120)) {
            let mut ranges = Ranges::default();
            let mut model = std::collections::BTreeSet::new();
            for (op, start, length) in ops {
                let end = start + length;
                match op {
                    0 | 1 => {
                        let fresh = (start..end).any(|n| !model.contains(&n));
                        model.extend(start..end);
                        prop_assert_eq!(ranges.insert(start, end), fresh);
                    }
                    2 => prop_assert_eq!(ranges.remove(start), model.remove(&start)),
                    _ => {
                        let mut missing = Vec::new();
                        let mut at = start;
                        while let Some((from, to)) = ranges.next_gap(at, end) {
                            prop_assert!(from < to && to <= end);
                            missing.extend(from..to);
                            at = to;
                        }
                        let expected: Vec<u64> =
                            (start..end).filter(|n| !model.contains(n)).collect();
                        prop_assert_eq!(missing, expected);
                    }
                }
                let all: Vec<u64> = ranges.0.iter().flat_map(|&(a, b)| a..b).collect();
                prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<_>>());
                let apart = ranges.0.iter().zip(ranges.0.iter().skip(1)).all(|(a, b)| a.1 < b.0);
                prop_assert!(apart);
            }
        }
    }
}
