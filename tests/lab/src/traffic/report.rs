//! What traffic reports: structs that serialise to JSON.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// One stretch of a [`Series`].
pub const STEP: Duration = Duration::from_millis(100);

/// Bytes that arrived in each [`STEP`] since the start of the operation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Series(pub Vec<u64>);

impl Series {
    /// Mean rate in Mbit/s from `from` to the end, leaving out the last, incomplete step; zero
    /// when that is nothing.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub fn mbit_after(&self, from: Duration) -> f64 {
        let first = usize::try_from(from.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        let last = self.0.len().saturating_sub(1);
        let steps = self.0.get(first..last).unwrap_or_default();
        if steps.is_empty() {
            return 0.0;
        }
        steps.iter().sum::<u64>() as f64 * 8.0 / 1e6 / (steps.len() as f64 * STEP.as_secs_f64())
    }
}

/// Records a stream as it arrives.
#[derive(Debug)]
pub(crate) struct Recorder {
    start: Instant,
    last: Option<Instant>,
    bytes: u64,
    series: Vec<u64>,
    first_byte: Option<Duration>,
    longest_gap: Duration,
    gap_at: Duration,
}

impl Recorder {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            last: None,
            bytes: 0,
            series: Vec::new(),
            first_byte: None,
            longest_gap: Duration::ZERO,
            gap_at: Duration::ZERO,
        }
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn arrived(&mut self, len: usize) {
        let now = Instant::now();
        let at = now.saturating_duration_since(self.start);
        self.first_byte.get_or_insert(at);
        self.gap_until(now);
        self.last = Some(now);
        self.bytes += len as u64;
        let step = usize::try_from(at.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        // A day of steps: no transfer of a lab is longer.
        if step < 864_000 {
            if self.series.len() <= step {
                self.series.resize(step + 1, 0);
            }
            self.series[step] += len as u64;
        }
    }

    /// Silence counts from the first byte on, and at the end up to the moment the reader gave up.
    fn gap_until(&mut self, now: Instant) {
        let Some(last) = self.last else { return };
        let gap = now.saturating_duration_since(last);
        if gap > self.longest_gap {
            self.longest_gap = gap;
            self.gap_at = last.saturating_duration_since(self.start);
        }
    }

    pub(crate) fn finish(mut self, end: End) -> Transfer {
        let now = Instant::now();
        if matches!(end, End::Failed(_)) {
            self.gap_until(now);
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let took = self.last.unwrap_or(now).saturating_duration_since(self.start);
        let (complete, wrong_at, error) = match end {
            End::Complete => (true, None, None),
            End::TimeUp => (false, None, None),
            End::Wrong(at) => (false, Some(at), None),
            End::Failed(error) => (false, None, Some(error)),
        };
        Transfer {
            bytes: self.bytes,
            seconds: took.as_secs_f64(),
            connect_ms: 0.0,
            first_byte_ms: self.first_byte.map(ms),
            longest_gap_ms: ms(self.longest_gap),
            gap_at_s: self.gap_at.as_secs_f64(),
            complete,
            wrong_at,
            error,
            series: Series(self.series),
        }
    }
}

/// How a transfer ended.
#[derive(Debug)]
pub(crate) enum End {
    /// With all its bytes, each right.
    Complete,
    /// When the time it was given was over; each byte so far was right.
    TimeUp,
    /// At a wrong byte.
    Wrong(u64),
    /// Too early.
    Failed(String),
}

/// One transfer, seen where its bytes arrive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// Payload bytes that arrived and were right.
    pub bytes: u64,
    /// From the start of connecting to the last byte.
    pub seconds: f64,
    /// How long connect took; 0 where it is not known (the sink's side of an upload).
    pub connect_ms: f64,
    /// From the start of connecting to the first payload byte.
    pub first_byte_ms: Option<f64>,
    /// The longest time between two arrivals, in ms.
    pub longest_gap_ms: f64,
    /// When that silence began, in seconds after the start.
    pub gap_at_s: f64,
    /// Whether all bytes that were asked for arrived, each right.
    pub complete: bool,
    /// The first wrong byte's place.
    pub wrong_at: Option<u64>,
    /// Why it ended too early.
    pub error: Option<String>,
    /// Bytes over time.
    pub series: Series,
}

impl Transfer {
    /// Whether every byte that came was right and nothing failed; it may have run out of time.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.wrong_at.is_none() && self.error.is_none()
    }

    /// Mean goodput over all of it, in Mbit/s.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a statistic")]
    pub fn mbit(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes as f64 * 8.0 / 1e6 / self.seconds } else { 0.0 }
    }
}

/// Quantiles of a set of times, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many.
    pub count: usize,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

impl Quantiles {
    /// Of these times.
    #[must_use]
    pub fn of(times: &[Duration]) -> Self {
        let mut ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        // The nearest rank: the smallest value that at least this share does not exceed.
        let at = |permille: usize| {
            let rank = (ms.len() * permille).div_ceil(1000).max(1);
            ms.get(rank - 1).copied().unwrap_or_default()
        };
        Self {
            count: ms.len(),
            min: at(0),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            max: at(1000),
        }
    }
}

/// Many short connections.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Connections {
    /// Answered in full, each byte right.
    pub ok: usize,
    /// Not so.
    pub failed: usize,
    /// Some of the reasons.
    pub errors: Vec<String>,
    /// Time to connect.
    pub connect: Quantiles,
    /// Time from the start of connecting to the answer's first byte.
    pub first_byte: Quantiles,
    /// Time from the start of connecting to the answer's last byte.
    pub total: Quantiles,
    /// The whole set's time.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_leave_out_the_warm_up_and_the_last_step() {
        // 1 Mbit in every full step is 10 Mbit/s.
        let series = Series(vec![0, 9, 125_000, 125_000, 125_000, 3]);
        assert!((series.mbit_after(Duration::from_millis(200)) - 10.0).abs() < 1e-9);
        assert!(series.mbit_after(Duration::from_secs(9)).abs() < 1e-9);
    }

    #[test]
    fn quantiles_of_a_hundred() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        let q = Quantiles::of(&times);
        assert_eq!((q.min, q.p50, q.p90, q.p99, q.max), (1.0, 50.0, 90.0, 99.0, 100.0));
        assert_eq!(Quantiles::of(&[]), Quantiles::default());
    }
}
