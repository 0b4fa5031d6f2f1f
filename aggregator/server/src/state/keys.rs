//! The server's secret keys: the present one, and the one before it while routers still use that.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use wanbond_proto::keys::{KeyError, PublicKey, SecretKey};
use zeroize::Zeroizing;

use super::{Result, StateDir, StateError, io_error, put, put_new, random, sync_dir_of};

impl StateDir {
    /// The secret key.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.path().join("key")
    }

    /// The secret key before the last [`Self::rotate_key`].
    #[must_use]
    pub fn previous_key_path(&self) -> PathBuf {
        self.path().join("key.previous")
    }

    /// The server's secret key.
    ///
    /// # Errors
    /// If it is missing, damaged or readable by others.
    pub fn key(&self) -> Result<SecretKey> {
        let path = self.key_path();
        read(&path)?.ok_or_else(|| self.missing("read", &path, io::ErrorKind::NotFound.into()))
    }

    /// The key before the last rotation, if routers paired with it are still admitted.
    ///
    /// # Errors
    /// If it is damaged or readable by others.
    pub fn previous_key(&self) -> Result<Option<SecretKey>> {
        read(&self.previous_key_path())
    }

    /// Makes a key where there is none. Two at once must not end with one that only one of them
    /// has shown.
    pub(super) fn make_key(&self) -> Result<()> {
        put_new(&self.key_path(), text(&SecretKey::from_bytes(random()?)).as_bytes())
    }

    /// Makes a new key for the codes of the future and keeps the present one beside it, for routers
    /// paired until now. Both count from the server's next start. Returns the new public key.
    ///
    /// # Errors
    /// [`StateError::KeyInRotation`] while there is a key from before the last rotation; I/O.
    pub fn rotate_key(&self) -> Result<PublicKey> {
        let _lock = self.lock()?;
        let old = self.key()?;
        // Made new, not over an older one: that one's routers would be lost unheard.
        match put_new(&self.previous_key_path(), text(&old).as_bytes()) {
            Err(StateError::Io { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StateError::KeyInRotation);
            }
            done => done?,
        }
        let new = SecretKey::from_bytes(random()?);
        put(&self.key_path(), text(&new).as_bytes(), 0o600)?;
        Ok(new.public())
    }

    /// Ends a rotation: from the next start on, routers paired with the old key are not admitted.
    ///
    /// # Errors
    /// [`StateError::NoPreviousKey`]; I/O.
    pub fn forget_previous_key(&self) -> Result<()> {
        let path = self.previous_key_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StateError::NoPreviousKey),
            Err(error) => Err(io_error("remove", &path)(error)),
            Ok(()) => sync_dir_of(&path),
        }
    }
}

fn text(key: &SecretKey) -> Zeroizing<String> {
    Zeroizing::new(key.to_text() + "\n")
}

/// `None` if there is no file.
fn read(path: &Path) -> Result<Option<SecretKey>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("read", path))?;
    let path = path.to_owned();
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StateError::OpenKey { path, mode });
    }
    let damaged = |reason: String| StateError::DamagedKey { path: path.clone(), reason };
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(|error| damaged(error.to_string()))?;
    text.trim().parse().map(Some).map_err(|error: KeyError| damaged(error.to_string()))
}
