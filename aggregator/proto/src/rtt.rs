//! Round-trip time estimation (RFC 6298) with the minimum seen.

use std::time::Duration;

/// SRTT, RTTVAR and minimum of a path.
#[derive(Debug, Clone, Copy, Default)]
pub struct RttEstimator {
    srtt: Option<Duration>,
    rttvar: Duration,
    min: Option<Duration>,
}

impl RttEstimator {
    /// Takes a sample (RFC 6298 §2).
    pub fn sample(&mut self, rtt: Duration) {
        match self.srtt {
            None => {
                self.srtt = Some(rtt);
                self.rttvar = rtt / 2;
            }
            Some(srtt) => {
                self.rttvar = (self.rttvar * 3 + srtt.abs_diff(rtt)) / 4;
                self.srtt = Some((srtt * 7 + rtt) / 8);
            }
        }
        self.min = Some(self.min.map_or(rtt, |min| min.min(rtt)));
    }

    /// Smoothed round-trip time.
    #[must_use]
    pub const fn srtt(&self) -> Option<Duration> {
        self.srtt
    }

    /// Its mean deviation.
    #[must_use]
    pub const fn rttvar(&self) -> Duration {
        self.rttvar
    }

    /// The shortest seen.
    #[must_use]
    pub const fn min(&self) -> Option<Duration> {
        self.min
    }

    /// When an answer is overdue: SRTT + 4 RTTVAR (RFC 6298 §2.3), or `unknown` before any sample.
    #[must_use]
    pub fn overdue_after(&self, unknown: Duration) -> Duration {
        self.srtt.map_or(unknown, |srtt| srtt + 4 * self.rttvar)
    }
}
