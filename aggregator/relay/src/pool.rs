//! Buffers for records on their way.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use wanbond_proto::lane::MAX_FRAME;

/// Sizes of buffers in bytes: a few small records, an ordinary read, the longest frame.
const CLASSES: [usize; 3] = [4 * 1024 + 64, 16 * 1024 + 64, MAX_FRAME];

/// Buffers of a class kept for the next user. More would only hold memory after a burst.
const KEPT: [usize; 3] = [64, 64, 16];

/// Lends buffers and takes them back. Past its limit it lends only small ones, so memory stays
/// near the limit while every flow still moves.
pub struct BufferPool {
    free: [Mutex<Vec<Box<[u8]>>>; 3],
    lent: AtomicUsize,
    limit: usize,
}

impl BufferPool {
    /// A pool that aims to lend no more than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { free: Default::default(), lent: AtomicUsize::new(0), limit })
    }

    /// Bytes lent now.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// A buffer of at least `least` bytes, near `wish` bytes if the limit allows it.
    ///
    /// # Panics
    /// If `least` exceeds the longest frame: a mistake of the caller.
    #[must_use]
    pub fn lend(self: &Arc<Self>, least: usize, wish: usize) -> Buffer {
        assert!(least <= MAX_FRAME, "no frame is that long");
        let size = if self.lent() < self.limit { wish.max(least) } else { least };
        let class = CLASSES.iter().position(|&c| c >= size).unwrap_or(CLASSES.len() - 1);
        let kept = self.free[class].lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| vec![0; CLASSES[class]].into_boxed_slice());
        self.lent.fetch_add(bytes.len(), Ordering::Relaxed);
        Buffer { bytes, class, pool: Arc::clone(self) }
    }
}

/// A lent buffer; goes back when dropped.
pub struct Buffer {
    bytes: Box<[u8]>,
    class: usize,
    pool: Arc<BufferPool>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.lent.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        let mut free = self.pool.free[self.class].lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT[self.class] {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lends_small_past_the_limit_and_takes_back() {
        let pool = BufferPool::new(20_000);
        let big = pool.lend(1, MAX_FRAME);
        assert_eq!(big.len(), MAX_FRAME);
        let small = pool.lend(1, MAX_FRAME);
        assert_eq!(small.len(), CLASSES[0]);
        // What must be, must be: a frame that has begun has to end somewhere.
        let needed = pool.lend(CLASSES[1] + 1, 0);
        assert_eq!(needed.len(), MAX_FRAME);
        drop((big, small, needed));
        assert_eq!(pool.lent(), 0);
        assert_eq!(pool.lend(1, MAX_FRAME).len(), MAX_FRAME);
    }
}
