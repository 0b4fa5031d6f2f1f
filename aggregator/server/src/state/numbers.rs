//! Which routers need a number for their inner addresses, and which they get.

use std::collections::BTreeSet;

use crate::directory::RouterEntry;

/// The number after the highest, so that what the kernel remembers of a removed router's addresses
/// never meets a new one; the lowest free one when there is none after it.
pub(super) fn next(entries: &[RouterEntry]) -> u32 {
    free(&entries.iter().map(|entry| entry.inner).collect())
}

fn free(taken: &BTreeSet<u32>) -> u32 {
    let highest = taken.last().copied().unwrap_or(0);
    // Four thousand million files would have to be there for there to be none.
    highest.checked_add(1).or_else(|| (1..).find(|n| !taken.contains(n))).unwrap_or(0)
}

/// Routers without a number, and those with one that an older router has: their places in
/// `entries`, with the numbers they get. Oldest first, so that it comes out the same each time.
pub(super) fn missing(entries: &[RouterEntry]) -> Vec<(usize, u32)> {
    let mut order: Vec<usize> = (0..entries.len()).collect();
    order.sort_by_key(|&place| (entries[place].created, &entries[place].name));
    let mut taken = BTreeSet::new();
    let mut without = Vec::new();
    for place in order {
        let number = entries[place].inner;
        if number == 0 || !taken.insert(number) {
            without.push(place);
        }
    }
    without
        .into_iter()
        .map(|place| {
            let number = free(&taken);
            taken.insert(number);
            (place, number)
        })
        .collect()
}
