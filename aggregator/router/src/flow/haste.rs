//! Whether a flow is asked for a second time soon, when its first lane says nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Second requests allowed in a row: what a page opens at once while a WAN dies.
const MOST: u32 = 32 * COST;
/// A second request costs as much as this many opens give: where all answers are late, because a
/// processor or a line is full, little is added to it.
const COST: u32 = 4;

/// The server says within 5 ms that it has an open. What has not come after this and a round trip is
/// overdue, and looked after from then on.
const OVERDUE: Duration = Duration::from_millis(5);
/// Between two looks, beside a quarter of a round trip.
const LOOK: Duration = Duration::from_millis(25);

/// An answer that is waited for, and what the WANs bring meanwhile: where all of them bring something, it
/// is late for the queues, and asking again would only add to those.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) look_at: Instant,
    every: Duration,
    received: Vec<Option<u64>>,
}

impl Awaited {
    /// An answer to what has been sent just now.
    pub(super) fn new(now: Instant, srtt: Duration) -> Self {
        Self { look_at: now + srtt + OVERDUE, every: LOOK + srtt / 4, received: Vec::new() }
    }

    /// It is still awaited, and the WANs that carry lanes have received so many packets by now. `true`
    /// if nothing at all has come over one of them since the look before.
    pub(super) fn is_silent(&mut self, now: Instant, received: Vec<Option<u64>>) -> bool {
        self.look_at = now + self.every;
        let before = std::mem::replace(&mut self.received, received);
        before.len() == self.received.len()
            && before.iter().zip(&self.received).any(|(old, new)| old.is_some() && old == new)
    }
}

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
    fn only_where_a_wan_brings_nothing_is_there_haste() {
        let start = Instant::now();
        let mut awaited = Awaited::new(start, Duration::from_millis(40));
        assert_eq!(awaited.look_at, start + Duration::from_millis(45));
        let at = awaited.look_at;
        let mut look = |wans: &[Option<u64>]| awaited.is_silent(at, wans.to_vec());
        assert!(!look(&[Some(7), Some(0)]), "one look shows nothing");
        assert!(!look(&[Some(8), Some(1)]));
        assert!(look(&[Some(8), Some(2)]));
        assert!(!look(&[Some(8)]), "they are others now");
        assert!(look(&[Some(8)]));
        // Where the kernel does not tell, nothing is concluded.
        assert!(!look(&[None]));
        assert!(!look(&[None]));
        assert_eq!(awaited.look_at, at + Duration::from_millis(35));
    }

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
