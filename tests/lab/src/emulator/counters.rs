//! What went through a link, what did not and why, and how punctual the emulator itself was.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Totals of one direction of a link since it was made. Bytes are of IP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Packets handed to the link.
    pub packets_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Packets that came out.
    pub packets_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Dropped for want of room in the queue.
    pub dropped_queue: u64,
    /// Lost at random, each alone.
    pub dropped_loss: u64,
    /// Lost in a burst.
    pub dropped_burst: u64,
    /// Lost because the link was cut: offered meanwhile, or under way at that moment.
    pub dropped_cut: u64,
    /// Swallowed by a filter, such as blocked UDP.
    pub dropped_filter: u64,
    /// Extra copies that came out.
    pub duplicated: u64,
    /// Packets held back so that others passed them.
    pub held_back: u64,
    /// The most bytes that ever waited for the line.
    pub queue_peak_bytes: u64,
}

impl Counters {
    /// Everything that was dropped.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped_queue
            + self.dropped_loss
            + self.dropped_burst
            + self.dropped_cut
            + self.dropped_filter
    }
}

/// Sub-buckets per power of two: a reading is at most an eighth too high.
const STEPS: usize = 8;

/// How late packets left, against the moment the link's description asks for.
#[derive(Debug, Clone)]
pub struct Lateness {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Lateness {
    fn default() -> Self {
        Self { buckets: vec![0; 64 * STEPS], count: 0, max: Duration::ZERO }
    }
}

impl Lateness {
    /// Notes one packet.
    pub fn record(&mut self, late: Duration) {
        let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(late);
    }

    /// Adds another's packets.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The summary so far.
    #[must_use]
    pub fn report(&self) -> LatenessReport {
        LatenessReport {
            packets: self.count,
            p50_us: self.quantile(0.5).as_secs_f64() * 1e6,
            p99_us: self.quantile(0.99).as_secs_f64() * 1e6,
            max_us: self.max.as_secs_f64() * 1e6,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    fn quantile(&self, q: f64) -> Duration {
        let mut seen = 0;
        for (index, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen as f64 >= self.count as f64 * q && seen > 0 {
                return Duration::from_nanos(upper(index)).min(self.max);
            }
        }
        self.max
    }
}

/// The emulator's lateness in figures: where the maximum nears what a test measures, the test
/// proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LatenessReport {
    /// Packets it is made of.
    pub packets: u64,
    /// Median, in µs.
    pub p50_us: f64,
    /// 99th percentile, in µs.
    pub p99_us: f64,
    /// Worst, in µs.
    pub max_us: f64,
}

const fn bucket(nanos: u64) -> usize {
    if nanos < STEPS as u64 {
        return nanos as usize;
    }
    let log = nanos.ilog2() as usize;
    let step = (nanos >> (log - 3)) as usize & (STEPS - 1);
    (log - 2) * STEPS + step
}

const fn upper(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let (log, step) = (index / STEPS + 2, (index % STEPS) as u64);
    ((STEPS as u64 + step + 1) << (log - 3)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_s_upper_end_is_at_most_an_eighth_above() {
        for nanos in (0..2000).chain([1_000_000, 123_456_789, u64::MAX / 3]) {
            let top = upper(bucket(nanos));
            assert!(top >= nanos && top - nanos <= nanos / 8 + 1, "{nanos} {top}");
        }
    }

    #[test]
    fn quantiles_of_a_known_series() {
        let mut late = Lateness::default();
        for us in 1..=1000 {
            late.record(Duration::from_micros(us));
        }
        let report = late.report();
        assert!((495.0..570.0).contains(&report.p50_us), "{report:?}");
        assert!((985.0..=1000.0).contains(&report.p99_us), "{report:?}");
        assert!((report.max_us - 1000.0).abs() < 1e-6);
    }
}
