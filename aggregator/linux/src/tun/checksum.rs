//! The Internet checksum (RFC 1071).
//!
//! Sums are in the machine's own byte order and unfolded: the ones' complement sum does not mind,
//! as long as all of it, the result too, is read and written in that order.

/// A sum not yet folded. 64 KiB of 32-bit words are far from filling it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum(u64);

impl Sum {
    pub(super) const ZERO: Self = Self(0);

    /// Adds bytes. Of several pieces, only the last may be of odd length.
    #[must_use]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        // So plain that the compiler makes vector instructions of it.
        let mut sum: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        if !rest.is_empty() {
            let mut word = [0; 4];
            word[..rest.len()].copy_from_slice(rest);
            sum += u64::from(u32::from_ne_bytes(word));
        }
        Self(self.0 + sum)
    }

    /// Adds a 16-bit number that stands in the packet in network byte order.
    #[must_use]
    pub(super) fn number(self, number: u16) -> Self {
        Self(self.0 + u64::from(number.to_be()))
    }

    /// The folded sum, as its two bytes stand in a packet.
    pub(super) fn folded(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_ne_bytes()
    }

    /// The checksum: the folded sum's complement.
    pub(super) fn checksum(self) -> [u8; 2] {
        self.folded().map(|byte| !byte)
    }

    /// Whether a sum over data *with* its checksum says that the data are whole.
    pub(super) fn is_valid(self) -> bool {
        self.folded() == [0xff; 2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rfcs_example() {
        // RFC 1071 §3: the sum of these is ddf2.
        let sum = Sum::ZERO.bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.folded(), [0xdd, 0xf2]);
        assert_eq!(sum.checksum(), [0x22, 0x0d]);
    }

    proptest! {
        #[test]
        fn as_summed_by_hand(bytes in prop::collection::vec(any::<u8>(), 0..200), number: u16) {
            let mut slow = u32::from(number);
            for pair in bytes.chunks(2) {
                slow += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            }
            while slow > 0xffff {
                slow = (slow & 0xffff) + (slow >> 16);
            }
            let fast = Sum::ZERO.number(number).bytes(&bytes).folded();
            prop_assert_eq!(u16::from_be_bytes(fast), slow as u16);
        }
    }
}
