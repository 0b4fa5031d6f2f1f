//! How many flows may be asked for a second time soon, when the first lane says nothing.

use std::sync::{Mutex, PoisonError};

/// Second requests allowed in a row: what a page opens at once while a WAN dies.
const MOST: u32 = 32 * COST;
/// A second request costs as much as this many opens give: where all answers are late, because a
/// processor or a line is full, little is added to it.
const COST: u32 = 4;

/// A budget of second requests that opens fill.
#[derive(Debug)]
pub(crate) struct Haste(Mutex<u32>);

impl Default for Haste {
    fn default() -> Self {
        Self(Mutex::new(MOST))
    }
}

impl Haste {
    fn with<T>(&self, act: impl FnOnce(&mut u32) -> T) -> T {
        // A number stays valid after any panic.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A flow was opened.
    pub(super) fn opened(&self) {
        self.with(|left| *left = MOST.min(*left + 1));
    }

    /// Takes a second request out of the budget, if one is left.
    pub(super) fn take(&self) -> bool {
        self.with(|left| {
            let some = *left >= COST;
            if some {
                *left -= COST;
            }
            some
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_a_flood_is_a_share_of_the_opens() {
        let haste = Haste::default();
        assert_eq!((0..1000).filter(|_| haste.take()).count(), 32);
        let taken = (0..1000).filter(|_| {
            haste.opened();
            haste.take()
        });
        assert_eq!(taken.count(), 250);
    }

    #[test]
    fn calm_fills_it_and_no_more() {
        let haste = Haste::default();
        while haste.take() {}
        (0..100_000).for_each(|_| haste.opened());
        assert_eq!((0..1000).filter(|_| haste.take()).count(), 32);
    }
}
