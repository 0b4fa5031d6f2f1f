//! The journal: what was in the kernel before us, and what of ours carries no mark.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Owner;
use crate::socket::netns_cookie;

/// The journal can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("can't {action} the journal {}: {source}", path.display())]
pub struct JournalError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// An MPTCP endpoint we added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedEndpoint {
    /// Its id.
    pub id: u8,
    /// Its address.
    pub address: IpAddr,
}

/// A value we changed: what it was and what we made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changed<T> {
    pub(crate) before: T,
    pub(crate) ours: T,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// By name, with slashes.
    pub(crate) sysctls: BTreeMap<String, Changed<String>>,
    pub(crate) endpoints: Vec<OwnedEndpoint>,
    /// The last id given to an endpoint, so that the next one gets another.
    pub(crate) last_endpoint_id: u8,
    /// MPTCP limits: subflows, accepted ADD_ADDRs.
    pub(crate) limits: Option<Changed<(u32, u32)>>,
}

impl Record {
    /// Whether there is nothing to undo. The last id alone is no trace in the kernel.
    fn is_clean(&self) -> bool {
        self.sysctls.is_empty() && self.endpoints.is_empty() && self.limits.is_none()
    }
}

/// A small file, written before the kernel is changed. Cheap to clone; clones share it.
///
/// There is one per network namespace, named after its cookie, so that labs don't collide.
#[derive(Debug, Clone)]
pub struct Journal {
    owner: Owner,
    path: Arc<Path>,
    record: Arc<Mutex<Record>>,
}

impl Journal {
    /// Opens the journal of this thread's network namespace in the usual place.
    ///
    /// # Errors
    /// When the directory can't be made or the file not be read.
    pub fn open(owner: Owner) -> Result<Self, JournalError> {
        Self::open_in(owner.run_dir(), owner)
    }

    /// As [`Self::open`], in another directory.
    ///
    /// A file that makes no sense is put aside (`.corrupt`) and told of in the log: better to
    /// start without than not at all.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_in(dir: &Path, owner: Owner) -> Result<Self, JournalError> {
        let fail = |action, path: &Path| {
            let path = path.to_owned();
            move |source| JournalError { action, path, source }
        };
        let cookie = netns_cookie().map_err(fail("name", dir))?;
        let path = dir.join(format!("{cookie}.json"));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .map_err(fail("make room for", &path))?;
        let record = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                let aside = path.with_extension("corrupt");
                tracing::warn!(path = %path.display(), %error, "journal makes no sense, put aside");
                let _ = fs::rename(&path, aside);
                Record::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(fail("read", &path)(error)),
        };
        Ok(Self { owner, path: path.into(), record: Arc::new(Mutex::new(record)) })
    }

    /// Whose journal this is.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        self.owner
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it holds nothing to undo.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lock().is_clean()
    }

    /// The MPTCP endpoints we added.
    #[must_use]
    pub fn endpoints(&self) -> Vec<OwnedEndpoint> {
        self.lock().endpoints.clone()
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.lock())
    }

    /// Changes the record and writes it, if it did change. On failure the record stays as it was.
    pub(crate) fn update<T>(
        &self,
        change: impl FnOnce(&mut Record) -> T,
    ) -> Result<T, JournalError> {
        let mut record = self.lock();
        let mut next = record.clone();
        let result = change(&mut next);
        if next != *record {
            self.write(&next)?;
            *record = next;
        }
        Ok(result)
    }

    fn write(&self, record: &Record) -> Result<(), JournalError> {
        let fail = |source| JournalError { action: "write", path: self.path.to_path_buf(), source };
        if record.is_clean() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail(error)),
                _ => Ok(()),
            };
        }
        // Written beside and renamed: a crash leaves the old one or the new one. No fsync, as
        // neither the file nor what it tells of survives a power cut.
        let beside = self.path.with_extension("new");
        let text = serde_json::to_vec_pretty(record).map_err(|e| fail(e.into()))?;
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&beside, &self.path))
            .map_err(fail)
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        // The record is only replaced as a whole, so a panic elsewhere can't have left it halfway.
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(id: u8) -> OwnedEndpoint {
        OwnedEndpoint { id, address: "192.0.2.1".parse().unwrap() }
    }

    #[test]
    fn survives_a_crash_and_leaves_no_file_when_clean() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open_in(dir.path(), Owner::Router).unwrap();
        assert!(journal.is_clean() && !journal.path().exists());
        journal
            .update(|record| {
                record.endpoints.push(endpoint(7));
                record.last_endpoint_id = 7;
                record.limits = Some(Changed { before: (2, 0), ours: (8, 8) });
            })
            .unwrap();

        let again = Journal::open_in(dir.path(), Owner::Router).unwrap();
        assert_eq!(again.endpoints(), [endpoint(7)]);
        assert_eq!(again.read(|record| record.limits.clone().unwrap().before), (2, 0));
        again
            .update(|record| {
                record.endpoints.clear();
                record.limits = None;
            })
            .unwrap();
        assert!(again.is_clean());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn nonsense_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = Journal::open_in(dir.path(), Owner::Router).unwrap().path().to_owned();
        fs::write(&path, "{half").unwrap();
        assert!(Journal::open_in(dir.path(), Owner::Router).unwrap().is_clean());
        assert!(path.with_extension("corrupt").exists());
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("run");
        let journal = Journal::open_in(&inside, Owner::Server).unwrap();
        fs::remove_dir(&inside).unwrap();
        assert!(journal.update(|record| record.endpoints.push(endpoint(1))).is_err());
        assert!(journal.is_clean());
    }
}
