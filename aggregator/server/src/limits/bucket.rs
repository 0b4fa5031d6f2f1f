//! A token bucket: so many a second over a long time, so many at once after a quiet time.

use std::time::Duration;

use wanbond_proto::Time;

/// A token bucket with the time handed in.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    /// Tokens, in millionths, as a second has a million microseconds.
    level: u64,
    at: Time,
}

const TOKEN: u64 = 1_000_000;

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn full(burst: u32, now: Time) -> Self {
        Self { level: u64::from(burst) * TOKEN, at: now }
    }

    /// Takes a token from a bucket that fills with `per_second` up to `burst`.
    ///
    /// # Errors
    /// How long until there is one, if there is none.
    pub fn take(&mut self, now: Time, per_second: u32, burst: u32) -> Result<(), Duration> {
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let gained = micros.saturating_mul(u64::from(per_second));
        let most = u64::from(burst.max(1)) * TOKEN;
        self.level = self.level.saturating_add(gained).min(most);
        // Never backwards: a late caller must not be given the same time twice.
        self.at = self.at.max(now);
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                Ok(())
            }
            None if per_second == 0 => Err(Duration::MAX),
            None => {
                Err(Duration::from_micros((TOKEN - self.level).div_ceil(u64::from(per_second))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn burst_then_rate() {
        let mut bucket = TokenBucket::full(3, Time::ZERO);
        for _ in 0..3 {
            assert_eq!(bucket.take(Time::ZERO, 10, 3), Ok(()));
        }
        assert_eq!(bucket.take(Time::ZERO, 10, 3), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(Time::from_millis(99), 10, 3), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(Time::from_millis(100), 10, 3), Ok(()));
        assert_eq!(bucket.take(Time::from_millis(100), 0, 3), Err(Duration::MAX));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            steps in prop::collection::vec(0u64..200_000, 1..300),
            rate in 1u32..100,
            burst in 1u32..20,
        ) {
            let mut bucket = TokenBucket::full(burst, Time::ZERO);
            let mut now = 0;
            let mut taken = 0u64;
            for step in steps {
                now += step;
                if bucket.take(Time::from_micros(now), rate, burst).is_ok() {
                    taken += 1;
                }
                prop_assert!(taken * TOKEN <= u64::from(burst) * TOKEN + now * u64::from(rate));
            }
        }
    }
}
