//! Stream bytes in blocks of one size, which go from stream to stream through a pool.
//!
//! Blocks lie on multiples of their size in the stream, so a byte is found by division, a hole costs
//! nothing to fill later, and however the peer cuts its data, a stream takes no more memory than
//! its window, rounded up.

use std::collections::VecDeque;

use super::ranges::relax;

/// Bytes in a block: about three datagrams, so that a stream with little to say takes little.
pub(super) const BLOCK: usize = 4096;

type Block = Box<[u8; BLOCK]>;

/// Free blocks, kept for the next stream that needs one.
#[derive(Debug)]
pub(super) struct Pool {
    free: Vec<Block>,
    keep: usize,
    used: usize,
}

impl Pool {
    /// A pool that keeps up to `keep` bytes of free blocks.
    pub(super) fn new(keep: usize) -> Self {
        Self { free: Vec::new(), keep: keep / BLOCK, used: 0 }
    }

    fn take(&mut self) -> Block {
        self.used += 1;
        self.free.pop().unwrap_or_else(|| Box::new([0; BLOCK]))
    }

    fn give(&mut self, block: Block) {
        self.used -= 1;
        if self.free.len() < self.keep {
            self.free.push(block);
        }
    }

    /// Bytes in blocks that hold data.
    pub(super) fn used(&self) -> usize {
        self.used * BLOCK
    }
}

/// A stretch of a stream's bytes, some of which may be missing.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: VecDeque<Option<Block>>,
    /// Which block of the stream is the first here.
    first: u64,
}

const fn block_of(offset: u64) -> u64 {
    offset / BLOCK as u64
}

const fn within(offset: u64) -> usize {
    (offset % BLOCK as u64) as usize
}

impl Blocks {
    /// Writes `data` at `offset`, which must not lie in what was released.
    pub(super) fn write(&mut self, mut offset: u64, mut data: &[u8], pool: &mut Pool) {
        if self.blocks.is_empty() {
            self.first = block_of(offset);
        }
        // Something out of order may come to lie before all that is held.
        while block_of(offset) < self.first {
            self.blocks.push_front(None);
            self.first -= 1;
        }
        while !data.is_empty() {
            let index = (block_of(offset) - self.first) as usize;
            if index >= self.blocks.len() {
                self.blocks.resize_with(index + 1, || None);
            }
            let at = within(offset);
            let (part, rest) = data.split_at(data.len().min(BLOCK - at));
            let block = self.blocks[index].get_or_insert_with(|| pool.take());
            block[at..at + part.len()].copy_from_slice(part);
            offset += part.len() as u64;
            data = rest;
        }
    }

    /// The bytes of `start..end`, block by block; they must have been written and not released.
    pub(super) fn parts(&self, start: u64, end: u64) -> impl Iterator<Item = &[u8]> {
        let mut at = start;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let index = block_of(at).checked_sub(self.first)? as usize;
            let block = self.blocks.get(index)?.as_deref()?;
            let from = within(at);
            let length = ((end - at) as usize).min(BLOCK - from);
            at += length as u64;
            Some(&block[from..from + length])
        })
    }

    /// Gives back what lies before `offset`; `written` is where the last byte ends.
    pub(super) fn release(&mut self, offset: u64, written: u64, pool: &mut Pool) {
        if offset >= written {
            return self.clear(pool);
        }
        while !self.blocks.is_empty() && self.first < block_of(offset) {
            if let Some(Some(block)) = self.blocks.pop_front() {
                pool.give(block);
            }
            self.first += 1;
        }
    }

    /// Gives back everything.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        for block in self.blocks.drain(..).flatten() {
            pool.give(block);
        }
        relax(&mut self.blocks);
    }
}
