//! Seeded choices for runs.

/// A SplitMix64 generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed, the same choices.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Any number.
    pub const fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number of `from..=to`.
    pub const fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.any() % (to - from + 1)
    }

    /// A number of `from..=to`, each power of two as likely as the next: for rates and delays.
    pub fn scaled(&mut self, from: u64, to: u64) -> u64 {
        let span = (to / from.max(1)).max(1).ilog2();
        let low = from << self.within(0, span.into());
        self.within(low.min(to), (low * 2).min(to))
    }

    /// True once in `times`.
    pub const fn once_in(&mut self, times: u64) -> bool {
        self.any().is_multiple_of(times)
    }
}

/// SplitMix64's mixing step.
pub(crate) const fn mix(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
