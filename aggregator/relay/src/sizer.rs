//! How much to put into one record.

use std::time::{Duration, Instant};

use wanbond_proto::lane::MAX_PAYLOAD;

/// A record should take no longer than this on the way: it is what it adds to latency.
const RECORD_TIME: Duration = Duration::from_millis(8);
/// Over how long the rate is measured.
const WINDOW: Duration = Duration::from_millis(20);
/// After a pause this long the past says nothing.
const FORGET: Duration = Duration::from_secs(1);
const LEAST: usize = 4 * 1024;
/// The first records of a flow: one read of what a client sends at once, and no delay worth
/// speaking of on any line that carries video.
const FIRST: usize = 16 * 1024;

/// Sizes records by the rate at which the lane has lately taken them.
pub struct RecordSizer {
    size: usize,
    since: Option<Instant>,
    bytes: usize,
}

impl Default for RecordSizer {
    fn default() -> Self {
        Self { size: FIRST, since: None, bytes: 0 }
    }
}

impl RecordSizer {
    /// The payload that the next record should have at most, in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// Counts `bytes` that the lane took at `now`.
    pub fn wrote(&mut self, now: Instant, bytes: usize) {
        let Some(since) = self.since else {
            self.since = Some(now);
            self.bytes = bytes;
            return;
        };
        let elapsed = now.saturating_duration_since(since);
        self.bytes += bytes;
        if elapsed >= FORGET {
            *self = Self { since: Some(now), ..Self::default() };
        } else if elapsed >= WINDOW {
            let per_record =
                self.bytes as u128 * RECORD_TIME.as_micros() / elapsed.as_micros().max(1);
            // Whole KiB keep the buffers' classes fitting.
            let wish = usize::try_from(per_record).unwrap_or(MAX_PAYLOAD) / 1024 * 1024;
            self.size = wish.clamp(LEAST, MAX_PAYLOAD);
            self.since = Some(now);
            self.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_a_second_at(bytes_per_ms: usize) -> usize {
        let start = Instant::now();
        let mut sizer = RecordSizer::default();
        for ms in 0..1000 {
            sizer.wrote(start + Duration::from_millis(ms), bytes_per_ms);
        }
        sizer.size()
    }

    #[test]
    fn follows_the_rate() {
        assert_eq!(after_a_second_at(100), LEAST);
        // 17 Mbit/s: 8 ms are 17 kB.
        assert_eq!(after_a_second_at(2146), 16 * 1024);
        assert_eq!(after_a_second_at(125_000), MAX_PAYLOAD);
    }

    #[test]
    fn starts_anew_after_a_pause() {
        let start = Instant::now();
        let mut sizer = RecordSizer::default();
        for ms in 0..100 {
            sizer.wrote(start + Duration::from_millis(ms), 100);
        }
        assert_eq!(sizer.size(), LEAST);
        sizer.wrote(start + Duration::from_secs(10), 100);
        assert_eq!(sizer.size(), FIRST);
    }
}
