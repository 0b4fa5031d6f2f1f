//! How much each router has moved this month, kept over restarts.
//!
//! ```text
//! DIR/usage/traffic.json   month, and per public key the bytes from and to the router
//! ```
//!
//! Months are calendar months in UTC, as providers count them. The file is written every few minutes
//! and at the end: a crash costs what came since. A router that has reached its `monthly_gb` is
//! refused until the next month, as if it were disabled.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use wanbond_proto::keys::PublicKey;

/// Bytes of one router in one month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From the router.
    pub received: u64,
    /// To the router.
    pub sent: u64,
}

impl Traffic {
    /// Both directions.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

/// A calendar month, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Month {
    year: u32,
    month: u32,
}

impl Month {
    /// The month of a moment in seconds since 1970.
    #[must_use]
    pub fn of(seconds: u64) -> Self {
        // Days to a civil date, by Howard Hinnant's algorithm: years begin in March, so that the leap
        // day is their last.
        let days = seconds / 86_400 + 719_468;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + days / 146_097 * 400 + u64::from(month <= 2);
        Self { year: u32::try_from(year).unwrap_or(0), month: u32::try_from(month).unwrap_or(0) }
    }

    /// This month.
    #[must_use]
    pub fn now() -> Self {
        Self::of(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct File {
    month: Month,
    /// By public key as text: a router keeps its name, its key says whether it is the same.
    routers: BTreeMap<String, Traffic>,
}

/// The traffic of all routers in the present month.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    month: Month,
    routers: HashMap<PublicKey, Entry>,
    changed: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    traffic: Traffic,
    /// What the router's counters showed last; they begin anew with each start.
    seen: Traffic,
}

impl Ledger {
    /// Goes on from what the state directory holds. A file that makes no sense is told of in the log
    /// and begun anew: traffic is no reason not to serve.
    #[must_use]
    pub fn open(state: &Path, now: Month) -> Self {
        let path = state.join("usage").join("traffic.json");
        let file = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(path = %path.display(), %error, "traffic is counted anew");
                File::default()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "traffic is counted anew");
                }
                File::default()
            }
        };
        let same = file.month == now;
        let routers = file.routers.into_iter().filter(|_| same).filter_map(|(key, traffic)| {
            Some((key.parse().ok()?, Entry { traffic, ..Entry::default() }))
        });
        let inner = Inner { month: now, routers: routers.collect(), changed: false };
        Self { path, inner: Mutex::new(inner) }
    }

    /// Takes what a router's counters show now. They may begin anew at zero at any time.
    pub fn count(&self, key: PublicKey, shown: Traffic, now: Month) {
        let mut inner = self.lock();
        inner.begin(now);
        let entry = inner.routers.entry(key).or_default();
        let since = |shown: u64, seen: u64| shown.checked_sub(seen).unwrap_or(shown);
        let more = Traffic {
            received: since(shown.received, entry.seen.received),
            sent: since(shown.sent, entry.seen.sent),
        };
        entry.traffic.received = entry.traffic.received.saturating_add(more.received);
        entry.traffic.sent = entry.traffic.sent.saturating_add(more.sent);
        entry.seen = shown;
        inner.changed |= more != Traffic::default();
    }

    /// Begins a new month, if there is one.
    pub fn begin(&self, now: Month) {
        self.lock().begin(now);
    }

    /// What a router has moved this month.
    #[must_use]
    pub fn of(&self, key: &PublicKey) -> Traffic {
        self.lock().routers.get(key).map(|entry| entry.traffic).unwrap_or_default()
    }

    /// Writes the file, if anything has changed since the last time.
    ///
    /// # Errors
    /// When the state directory can't be written; the next call tries again.
    pub fn save(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.changed {
            return Ok(());
        }
        let routers = inner.routers.iter();
        let file = File {
            month: inner.month,
            routers: routers.map(|(key, entry)| (key.to_string(), entry.traffic)).collect(),
        };
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = self.path.with_extension("new");
        fs::write(&beside, serde_json::to_vec_pretty(&file)?)?;
        fs::rename(&beside, &self.path)?;
        inner.changed = false;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Sums stay right whatever panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A month that has passed is forgotten. A clock that steps back begins nothing.
    fn begin(&mut self, now: Month) {
        if now > self.month {
            self.month = now;
            self.changed = true;
            for entry in self.routers.values_mut() {
                entry.traffic = Traffic::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OCTOBER: Month = Month { year: 2026, month: 10 };
    const NOVEMBER: Month = Month { year: 2026, month: 11 };

    fn key(id: u8) -> PublicKey {
        PublicKey::from_bytes([id; 32])
    }

    fn bytes(received: u64, sent: u64) -> Traffic {
        Traffic { received, sent }
    }

    #[test]
    fn months_begin_and_end_where_the_calendar_says() {
        for (seconds, year, month) in [
            (0, 1970, 1),
            (951_782_400, 2000, 2),    // 29 February
            (951_868_800, 2000, 3),    // the day after
            (1_793_491_199, 2026, 10), // the last second of October
            (1_793_491_200, 2026, 11),
            (1_798_761_599, 2026, 12),
            (1_798_761_600, 2027, 1),
        ] {
            assert_eq!(Month::of(seconds), Month { year, month }, "{seconds}");
        }
    }

    #[test]
    fn counters_are_added_up_over_restarts_and_months() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), OCTOBER);
        ledger.count(key(1), bytes(10, 100), OCTOBER);
        ledger.count(key(1), bytes(15, 100), OCTOBER);
        // The router's figures began anew.
        ledger.count(key(1), bytes(1, 2), OCTOBER);
        assert_eq!(ledger.of(&key(1)), bytes(16, 102));
        ledger.save().unwrap();

        let ledger = Ledger::open(dir.path(), OCTOBER);
        assert_eq!((ledger.of(&key(1)), ledger.of(&key(2))), (bytes(16, 102), bytes(0, 0)));
        ledger.count(key(1), bytes(4, 0), OCTOBER);
        assert_eq!(ledger.of(&key(1)).total(), 122);
        // Only what comes in the new month counts in it.
        ledger.count(key(1), bytes(7, 0), NOVEMBER);
        assert_eq!(ledger.of(&key(1)), bytes(3, 0));
        ledger.count(key(1), bytes(9, 0), OCTOBER);
        assert_eq!(ledger.of(&key(1)), bytes(5, 0), "a clock that steps back");
        ledger.save().unwrap();
        assert_eq!(Ledger::open(dir.path(), OCTOBER).of(&key(1)), bytes(0, 0));
        assert_eq!(Ledger::open(dir.path(), NOVEMBER).of(&key(1)), bytes(5, 0));
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("usage")).unwrap();
        fs::write(dir.path().join("usage/traffic.json"), "{half").unwrap();
        let ledger = Ledger::open(dir.path(), OCTOBER);
        ledger.save().unwrap();
        assert!(fs::read_to_string(dir.path().join("usage/traffic.json")).unwrap() == "{half");
        ledger.count(key(1), bytes(1, 1), OCTOBER);
        ledger.save().unwrap();
        assert_eq!(Ledger::open(dir.path(), OCTOBER).of(&key(1)), bytes(1, 1));
    }
}
