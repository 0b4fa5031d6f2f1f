//! Remembers over restarts what WANs with a quota have carried. Written seldom: on routers it is
//! flash.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::config;
use crate::wan::quota::{Day, EARLIEST, Ledger};

/// Written at the latest after this long, if anything was carried.
const AT_LATEST: Duration = Duration::from_secs(6 * 3600);
/// And after this share of a quota: at most fifty times a month and WAN.
const AFTER_SHARE: u64 = 50;

/// Today, by the system's clock.
pub(super) fn today() -> Day {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs() / 86_400).unwrap_or(0)
}

/// Whether the system's clock can be right.
pub(super) fn clock_is_set() -> bool {
    today() >= EARLIEST
}

/// Where it is kept: with the machine's state, or beside a configuration that is elsewhere.
pub(super) fn path_for(config: &Path) -> PathBuf {
    if config == Path::new(config::DEFAULT_PATH) {
        PathBuf::from("/etc/wanbond/usage.json")
    } else {
        config.with_extension("usage.json")
    }
}

/// What is written down, by the WANs' names.
pub(super) struct Usage {
    path: PathBuf,
    written: BTreeMap<String, Ledger>,
    now: BTreeMap<String, Ledger>,
    at: Instant,
    complained: bool,
}

impl Usage {
    /// Reads what an earlier run has written. What can't be read is begun anew.
    pub(super) fn load(path: PathBuf) -> Self {
        let written = match std::fs::read(&path) {
            Ok(bytes) => parse(&bytes),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    warn!(path = %path.display(), %error, "what was carried this month is not known");
                }
                BTreeMap::new()
            }
        };
        Self { path, now: written.clone(), written, at: Instant::now(), complained: false }
    }

    /// What a WAN has carried.
    pub(super) fn of(&self, wan: &str) -> Ledger {
        self.now.get(wan).copied().unwrap_or_default()
    }

    /// A WAN has carried this by now, of a quota of `limit`.
    pub(super) fn set(&mut self, wan: &str, ledger: Ledger, limit: u64) {
        self.now.insert(wan.to_owned(), ledger);
        let written = self.written.get(wan).copied().unwrap_or_default();
        let much = ledger.used.abs_diff(written.used) > limit / AFTER_SHARE;
        let other = (ledger.since, ledger.told) != (written.since, written.told);
        let late = self.at.elapsed() > AT_LATEST && self.now != self.written;
        if much || other || late {
            self.write();
        }
    }

    fn write(&mut self) {
        self.at = Instant::now();
        match self.try_write() {
            Ok(()) => {
                debug!(path = %self.path.display(), "what was carried is written down");
                self.written.clone_from(&self.now);
                self.complained = false;
            }
            Err(error) => {
                // Not at every byte.
                self.written.clone_from(&self.now);
                if !std::mem::replace(&mut self.complained, true) {
                    warn!(path = %self.path.display(), %error, "what was carried can't be written down: \
                        a restart will forget it");
                }
            }
        }
    }

    fn try_write(&self) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let wans: serde_json::Map<String, Value> = self
            .now
            .iter()
            .map(|(name, ledger)| {
                let entry =
                    json!({ "since": ledger.since, "used": ledger.used, "told": ledger.told });
                (name.clone(), entry)
            })
            .collect();
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, Value::Object(wans).to_string())?;
        std::fs::rename(&beside, &self.path)
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        if self.now != self.written {
            self.write();
        }
    }
}

fn parse(bytes: &[u8]) -> BTreeMap<String, Ledger> {
    let Ok(Value::Object(wans)) = serde_json::from_slice(bytes) else { return BTreeMap::new() };
    wans.into_iter()
        .map(|(name, entry)| {
            let number = |key: &str| entry.get(key).and_then(Value::as_u64).unwrap_or(0);
            let ledger = Ledger {
                since: i64::try_from(number("since")).unwrap_or(0),
                used: number("used"),
                told: u8::try_from(number("told")).unwrap_or(0),
            };
            (name, ledger)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_carried_is_known_after_a_restart_and_seldom_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = path_for(&folder.path().join("router.uci"));
        let ledger = |used| Ledger { since: 20_600, used, told: 0 };
        {
            let mut usage = Usage::load(path.clone());
            usage.set("lte", ledger(10), 10_000);
            assert!(path.exists(), "the month has begun");
            std::fs::remove_file(&path).unwrap();
            usage.set("lte", ledger(200), 10_000);
            assert!(!path.exists(), "written for two percent");
            usage.set("lte", ledger(300), 10_000);
            assert!(path.exists());
            usage.set("lte", ledger(301), 10_000);
        }
        assert_eq!(Usage::load(path.clone()).of("lte"), ledger(301), "written at the end");
        std::fs::write(&path, "{\"lte\": 7, \"x").unwrap();
        assert_eq!(Usage::load(path).of("lte"), Ledger::default());
    }
}
