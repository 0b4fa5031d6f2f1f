//! Windows over numbers that may be used once each (after RFC 6479).

/// Numbers a window remembers behind the highest seen.
///
/// Opens race each other over lanes of different delay: at 10,000 opens a second and a second of
/// skew, this still knows every one. 2 KiB of memory.
pub const WINDOW_BITS: u64 = 16_384;
const WORDS: usize = (WINDOW_BITS / 32) as usize;

/// What a window says of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen: now marked as seen.
    Fresh,
    /// Seen before.
    Seen,
    /// Too far behind to know; to be refused.
    TooOld,
}

/// Remembers exactly which of the last [`WINDOW_BITS`] numbers were seen.
pub struct ReplayWindow {
    /// One more than the highest number seen.
    end: u64,
    bits: Box<[u32; WORDS]>,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { end: 0, bits: Box::new([0; WORDS]) }
    }
}

impl ReplayWindow {
    /// Marks `number` as seen and says whether it was new.
    pub fn accept(&mut self, number: u64) -> Verdict {
        if number >= self.end {
            self.advance(number);
        } else if self.end - number > WINDOW_BITS {
            return Verdict::TooOld;
        }
        let (word, bit) = place(number);
        if self.bits[word] & bit != 0 {
            return Verdict::Seen;
        }
        self.bits[word] |= bit;
        Verdict::Fresh
    }

    fn advance(&mut self, number: u64) {
        let end = number.saturating_add(1);
        if end - self.end >= WINDOW_BITS {
            self.bits.fill(0);
        } else {
            for skipped in self.end..end {
                let (word, bit) = place(skipped);
                self.bits[word] &= !bit;
            }
        }
        self.end = end;
    }
}

fn place(number: u64) -> (usize, u32) {
    let index = (number % WINDOW_BITS) as usize;
    (index / 32, 1 << (index % 32))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a model that remembers everything.
        #[test]
        fn never_accepts_twice_and_refuses_only_the_old(
            steps in prop::collection::vec((any::<bool>(), 0..40_000u64), 1..400)
        ) {
            let mut window = ReplayWindow::default();
            let mut seen = BTreeSet::new();
            let mut top = 0u64;
            for (forward, delta) in steps {
                let number = if forward { top.saturating_add(delta / 8) } else { top.saturating_sub(delta) };
                let verdict = window.accept(number);
                let too_old = number < top && top - number > WINDOW_BITS;
                let expected = if too_old { Verdict::TooOld }
                    else if seen.contains(&number) { Verdict::Seen }
                    else { Verdict::Fresh };
                prop_assert_eq!(verdict, expected);
                if !too_old { seen.insert(number); top = top.max(number + 1); }
            }
        }
    }

    #[test]
    fn the_last_number_of_all() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.accept(u64::MAX - 1), Verdict::Fresh);
        assert_eq!(window.accept(u64::MAX - 1), Verdict::Seen);
        assert_eq!(window.accept(0), Verdict::TooOld);
    }
}
