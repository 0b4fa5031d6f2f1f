//! Bytes that can be told right from wrong at any place of a stream.
//!
//! A stream is a walk round a fixed ring of pseudo-random bytes, its seed choosing where to
//! start. The ring's length is a prime just below 2²⁰, so that no block size of any layer divides
//! it: a piece lost, doubled or moved shows at once. Checking is comparing memory, fast enough
//! for gigabytes even without optimisation.

use std::sync::OnceLock;

use crate::emulator::mix;

const RING: usize = 1_048_573;

fn ring() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        (0..(RING as u64).div_ceil(8)).flat_map(|n| mix(n).to_le_bytes()).take(RING).collect()
    })
}

/// A stream of known bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pattern {
    start: u64,
}

impl Pattern {
    /// The stream of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { start: mix(seed) % RING as u64 }
    }

    /// The longest piece that can be had from `offset` without copying: at most `most` bytes,
    /// never empty unless `most` is 0.
    #[must_use]
    pub fn piece(&self, offset: u64, most: usize) -> &'static [u8] {
        let ring = ring();
        // In range: the remainder of a number below 2^20.
        let at = usize::try_from((self.start + offset) % RING as u64).unwrap_or(0);
        &ring[at..RING.min(at + most)]
    }

    /// Fills `buffer` with the stream's bytes from `offset` on.
    pub fn fill(&self, mut offset: u64, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            let piece = self.piece(offset, rest.len());
            let (head, tail) = rest.split_at_mut(piece.len());
            head.copy_from_slice(piece);
            offset += piece.len() as u64;
            rest = tail;
        }
    }

    /// Where the first wrong byte is, counted from the stream's start, if any.
    #[must_use]
    pub fn first_wrong(&self, mut offset: u64, mut bytes: &[u8]) -> Option<u64> {
        while !bytes.is_empty() {
            let piece = self.piece(offset, bytes.len());
            let (head, tail) = bytes.split_at(piece.len());
            if head != piece {
                let at = head.iter().zip(piece).position(|(a, b)| a != b).unwrap_or(0);
                return Some(offset + at as u64);
            }
            offset += piece.len() as u64;
            bytes = tail;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_filled_is_right_and_one_flipped_bit_is_found(
            seed: u64, offset in 0_u64..1 << 40, len in 1_usize..5000, at: prop::sample::Index, bit in 0_u32..8,
        ) {
            let pattern = Pattern::new(seed);
            let mut bytes = vec![0; len];
            pattern.fill(offset, &mut bytes);
            prop_assert_eq!(pattern.first_wrong(offset, &bytes), None);
            let at = at.index(len);
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(pattern.first_wrong(offset, &bytes), Some(offset + at as u64));
        }

        #[test]
        fn a_moved_piece_is_found(seed: u64, offset in 0_u64..1 << 30, by in 1_u64..1_000_000) {
            let pattern = Pattern::new(seed);
            let mut bytes = vec![0; 64];
            pattern.fill(offset, &mut bytes);
            prop_assert!(pattern.first_wrong(offset + by, &bytes).is_some());
        }
    }

    #[test]
    fn the_ring_closes() {
        let pattern = Pattern::new(1);
        let mut across = vec![0; 3 * RING];
        pattern.fill(5, &mut across);
        assert_eq!(across[..RING], across[RING..2 * RING]);
        assert_eq!(pattern.first_wrong(5, &across), None);
    }
}
