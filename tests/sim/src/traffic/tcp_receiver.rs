//! The receiving half of a TCP connection.

use std::time::Duration;

use crate::Time;

/// Linux's longest delay for a bulk flow.
const DELAY: Duration = Duration::from_millis(40);
/// The first segments are acknowledged one by one.
const QUICK: u64 = 16;
/// What options have room for beside timestamps (RFC 2018).
const BLOCKS: usize = 3;

/// What a segment calls for.
pub(super) struct Taken {
    /// Segments that can be read now.
    pub readable: u64,
    /// An acknowledgement is to go out now.
    pub answer: bool,
}

/// Receives segments, by their number.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// The first that has not come.
    pub next: u64,
    /// The timestamp to send back (RFC 7323 §4.3).
    pub echo: u32,
    /// What came beyond it, as `from..to`, latest first.
    blocks: Vec<(u64, u64)>,
    unanswered: u32,
    due: Option<Time>,
}

impl Receiver {
    pub(super) fn take(&mut self, now: Time, segment: u64, stamp: u32) -> Taken {
        let before = self.next;
        if segment <= before && (self.unanswered == 0 || segment < before) {
            self.echo = stamp;
        }
        let known =
            segment < before || self.blocks.iter().any(|&(from, to)| (from..to).contains(&segment));
        if !known {
            self.insert(segment);
        }
        self.unanswered += 1;
        let answer = known
            || !self.blocks.is_empty()
            || self.next > before + 1
            || self.unanswered >= 2
            || self.next <= QUICK;
        if !answer && self.due.is_none() {
            self.due = Some(now + DELAY);
        }
        Taken { readable: self.next - before, answer }
    }

    fn insert(&mut self, segment: u64) {
        let (mut from, mut to) = (segment, segment + 1);
        self.blocks.retain(|&(low, high)| {
            let touches = high >= from && low <= to;
            if touches {
                (from, to) = (from.min(low), to.max(high));
            }
            !touches
        });
        if from == self.next {
            self.next = to;
        } else {
            self.blocks.insert(0, (from, to));
        }
    }

    pub(super) const fn due(&self) -> Option<Time> {
        self.due
    }

    /// An acknowledgement goes out: the blocks it tells.
    pub(super) fn answer(&mut self) -> &[(u64, u64)] {
        self.unanswered = 0;
        self.due = None;
        &self.blocks[..self.blocks.len().min(BLOCKS)]
    }
}
