//! Which path a packet goes over.

use std::time::Duration;

use super::path::{Path, Standing};
use super::queue::{FlowView, Leave};
use crate::datagram::MAX_PATHS;

/// A path that delivers this much later than the first is not worth it to a flow of packets…
const MOST_SKEW: i64 = 100_000;
/// … unless it carries this share (one in …) of all.
const WORTH_SHARE: u64 = 4;
/// What hurries goes over paths that deliver at most so much later than the first, µs…
pub(super) const QUICK_SKEW: i64 = 30_000;
/// A backlog that takes the best path longer than this calls for the others.
const MOST_BACKLOG: i64 = 8_000;
/// A path that loses more than this, in thousandths, makes flows wait for repairs all the time.
const LOSSY: u64 = 4;
const LEAST_BACKLOG: i64 = 1_000;
/// A packet that waits for the best path this much longer than another would be slower goes there.
const WAITED: Duration = Duration::from_millis(8);

/// The paths that may be used now, first the one on which a packet arrives first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    indexes: [u8; MAX_PATHS],
    /// How much later than the first each delivers, µs.
    skew: [i64; MAX_PATHS],
    /// Whether flows that need several paths use this one.
    bulk: [bool; MAX_PATHS],
    len: usize,
    best_rate: u64,
    /// Of all paths together, bytes per second.
    pub rate: u64,
}

impl Order {
    /// `unusable` and `spare`: what the peer makes of the paths, bits by number.
    pub(super) fn new(paths: &[Path], unusable: u16, spare: u16) -> Self {
        let mut order = Self {
            indexes: [0; MAX_PATHS],
            skew: [0; MAX_PATHS],
            bulk: [false; MAX_PATHS],
            len: 0,
            best_rate: 0,
            rate: 0,
        };
        let is_spare =
            |path: &Path| path.standing == Standing::Spare || spare & (1 << path.id.number()) != 0;
        let usable = |path: &Path| path.is_usable() && unusable & (1 << path.id.number()) == 0;
        let bond = paths.iter().any(|path| usable(path) && !is_spare(path));
        let mut total = 0;
        for (index, path) in paths.iter().enumerate().take(MAX_PATHS) {
            if !usable(path) || (bond && is_spare(path)) {
                continue;
            }
            order.indexes[order.len] = index as u8;
            order.len += 1;
            total += path.congestion.rate();
        }
        order.rate = total;
        let arrival = |index: u8| paths[usize::from(index)].arrival();
        order.indexes[..order.len].sort_unstable_by_key(|&index| arrival(index));
        let Some(&best) = order.indexes[..order.len].first() else { return order };
        order.best_rate = paths[usize::from(best)].congestion.pacing_rate();
        for at in 0..order.len {
            let path = &paths[usize::from(order.indexes[at])];
            order.skew[at] = path.arrival() - arrival(best);
            order.bulk[at] =
                order.skew[at] <= MOST_SKEW || path.congestion.rate() * WORTH_SHARE >= total;
        }
        order
    }

    /// Indexes of the paths, best first.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let (indexes, len) = (self.indexes, self.len);
        indexes.into_iter().take(len).map(usize::from)
    }

    /// The best path but `other`, by index.
    pub(super) fn best_but(&self, other: usize) -> Option<usize> {
        self.iter().find(|&index| index != other)
    }

    /// How much longer than over the first path a packet takes to be delivered in its order, when
    /// its flow uses all paths that bulk does: for the slowest, and for a repair.
    pub(super) fn bulk_delay(&self, paths: &[Path]) -> (Duration, Duration) {
        let mut skew = 0;
        let mut repair = Duration::ZERO;
        for at in (0..self.len).filter(|&at| self.bulk[at]) {
            let path = &paths[usize::from(self.indexes[at])];
            skew = skew.max(self.skew[at]);
            if path.congestion.loss() > LOSSY {
                repair = repair.max(path.rtt.srtt().unwrap_or_default());
            }
        }
        (Duration::from_micros(u64::try_from(skew).unwrap_or(0)), repair)
    }

    /// Whether the path of this index is used by whatever fills paths.
    pub(super) fn fills(&self, index: usize) -> bool {
        (0..self.len).any(|at| usize::from(self.indexes[at]) == index && self.bulk[at])
    }

    /// Whether what hurries goes over the path at `at` in the order.
    pub(super) fn is_quick(&self, at: usize) -> bool {
        self.skew[at] <= QUICK_SKEW
    }

    /// Whether streams use the path at `at` in the order.
    pub(super) fn is_bulk(&self, at: usize) -> bool {
        self.bulk[at]
    }

    /// Whether a flow's first packet may go over the path at `at` in the order, `backlog` bytes
    /// being queued in all.
    pub(super) fn may(&self, at: usize, flow: &FlowView, backlog: usize) -> Leave {
        if at == 0 {
            return Leave::Yes;
        }
        let skew = Duration::from_micros(u64::try_from(self.skew[at]).unwrap_or(0));
        if flow.waited > skew + WAITED {
            return if flow.small { Leave::Yes } else { Leave::Spread };
        }
        if flow.small || !self.bulk[at] {
            return Leave::No;
        }
        let drain = backlog as u64 * 1_000_000 / self.best_rate.max(1);
        let enough = self.skew[at].clamp(LEAST_BACKLOG, MOST_BACKLOG);
        if flow.spread {
            return Leave::Yes;
        }
        if drain > enough as u64 { Leave::Spread } else { Leave::No }
    }
}
