//! What of a stream has been, or is to be, sent again.
//!
//! A range's *copy* is how often it was sent before. Losing a copy that has a later one on its way or
//! in the queue asks for nothing: the later one speaks for the range. So a datagram may be given up
//! early (its path is suspect), sent again elsewhere, and be declared lost or acknowledged after
//! all, in any order.

use std::collections::VecDeque;

use super::ranges::relax;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    /// How often it was sent before the present copy.
    copy: u8,
    /// Whether the present copy is still to be sent.
    queued: bool,
}

/// Ranges with a copy beyond the first, not acknowledged; the queued ones are to be sent.
#[derive(Debug, Default)]
pub(super) struct Resends {
    /// In order, disjoint.
    pieces: VecDeque<Piece>,
    queued: u64,
    /// Nothing queued starts before this.
    from: u64,
}

impl Resends {
    /// How many numbers are queued.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        relax(&mut self.pieces);
        self.queued = 0;
    }

    /// The first piece that starts at or after `at`, which is made a border.
    fn split(&mut self, at: u64) -> usize {
        let index = self.pieces.partition_point(|piece| piece.end <= at);
        match self.pieces.get_mut(index) {
            Some(piece) if piece.start < at => {
                let mut tail = *piece;
                piece.end = at;
                tail.start = at;
                self.pieces.insert(index + 1, tail);
                index + 1
            }
            _ => index,
        }
    }

    /// Joins what became alike around the pieces `first..=last`.
    fn join(&mut self, first: usize, last: usize) {
        for index in (first.max(1)..=last.min(self.pieces.len().saturating_sub(1))).rev() {
            let (left, right) = (self.pieces[index - 1], self.pieces[index]);
            let alike = (left.copy, left.queued) == (right.copy, right.queued);
            if left.end == right.start && alike {
                self.pieces[index - 1].end = right.end;
                self.pieces.remove(index);
            }
        }
    }

    /// Copy number `copy` of `start..end` is lost, and none of it was acknowledged. Queues what has
    /// no later copy.
    pub(super) fn lose(&mut self, start: u64, end: u64, copy: u8) {
        let mut at = start;
        let mut queued = false;
        let first = self.split(start);
        self.split(end);
        let mut index = first;
        while at < end {
            match self.pieces.get_mut(index) {
                Some(piece) if piece.start == at => {
                    if piece.copy <= copy && !piece.queued {
                        piece.copy = copy.saturating_add(1);
                        piece.queued = true;
                        self.queued += piece.end - piece.start;
                        queued = true;
                    }
                    at = piece.end;
                }
                later => {
                    let gap_end = later.map_or(end, |piece| piece.start.min(end));
                    let copy = copy.saturating_add(1);
                    let piece = Piece { start: at, end: gap_end, copy, queued: true };
                    self.pieces.insert(index, piece);
                    self.queued += gap_end - at;
                    queued = true;
                    at = gap_end;
                }
            }
            index += 1;
        }
        if queued {
            self.from = self.from.min(start);
        }
        self.join(first, index);
    }

    /// `start..end` was acknowledged.
    pub(super) fn acked(&mut self, start: u64, end: u64) {
        if self.pieces.is_empty() {
            return;
        }
        let first = self.split(start);
        let past = self.split(end);
        let freed: u64 = self
            .pieces
            .range(first..past)
            .filter(|piece| piece.queued)
            .map(|piece| piece.end - piece.start)
            .sum();
        self.queued -= freed;
        self.pieces.drain(first..past);
        relax(&mut self.pieces);
    }

    /// The first queued range, and which copy sending it makes.
    pub(super) fn next(&self) -> Option<(u64, u64, u8)> {
        if self.queued == 0 {
            return None;
        }
        let index = self.pieces.partition_point(|piece| piece.start < self.from);
        let piece = self.pieces.range(index..).find(|piece| piece.queued)?;
        Some((piece.start, piece.end, piece.copy))
    }

    /// `start..end`, the front of what [`Self::next`] told, has been sent.
    pub(super) fn sent(&mut self, start: u64, end: u64) {
        let first = self.split(start);
        self.split(end);
        if let Some(piece) = self.pieces.get_mut(first) {
            piece.queued = false;
            self.queued -= piece.end - piece.start;
        }
        // With nothing queued the next loss sets this to its own start.
        self.from = if self.queued == 0 { u64::MAX } else { end };
        self.join(first, first + 1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the module's documentation says, number by number.
    #[derive(Debug, Clone, Copy, PartialEq)]
    struct Number {
        copy: u8,
        queued: bool,
        acked: bool,
    }

    proptest! {
        #[test]
        fn like_numbers_one_by_one(ops in prop::collection::vec((0u8..4, 0u64..50, 1u64..12), 0..150)) {
            let mut resends = Resends::default();
            let mut model = [Number { copy: 0, queued: false, acked: false }; 64];
            for (op, start, length) in ops {
                let end = start + length;
                match op {
                    0 => {
                        resends.acked(start, end);
                        for number in &mut model[start as usize..end as usize] {
                            number.acked = true;
                            number.queued = false;
                        }
                    }
                    1 | 2 => {
                        // Copies of the first number, if all are on their way.
                        let copy = model[start as usize].copy;
                        if model[start as usize..end as usize].iter().any(|n| n.acked) {
                            continue;
                        }
                        resends.lose(start, end, copy);
                        for number in &mut model[start as usize..end as usize] {
                            if number.copy <= copy && !number.queued {
                                number.copy = copy + 1;
                                number.queued = true;
                            }
                        }
                    }
                    _ => {
                        let first = model.iter().position(|n| n.queued);
                        let next = resends.next();
                        prop_assert_eq!(next.map(|n| n.0 as usize), first);
                        if let Some((from, to, copy)) = next {
                            let to = to.min(from + length);
                            for number in &mut model[from as usize..to as usize] {
                                prop_assert!(number.queued && number.copy == copy);
                                number.queued = false;
                            }
                            resends.sent(from, to);
                        }
                    }
                }
                let queued = model.iter().filter(|n| n.queued).count();
                prop_assert_eq!(resends.queued(), queued as u64);
                for pair in resends.pieces.iter().zip(resends.pieces.iter().skip(1)) {
                    prop_assert!(pair.0.end <= pair.1.start);
                }
            }
        }
    }
}
