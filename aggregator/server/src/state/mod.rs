//! The state directory.
//!
//! ```text
//! DIR/                 0700
//!   server.toml        settings, for people to edit
//!   key                0600, the server's secret X25519 key
//!   key.previous       0600, the one before it, while routers still use it
//!   routers/NAME.toml  0600, one file per router: keys, inner number, limits, port forwards
//!   usage/             what routers have moved this month, written by the daemon
//!   fleet/             only where servers share a list of routers ([`crate::fleet`])
//!     settings.toml    0600, where that list is, and the key it is sealed with
//!     routers/         0600, the list as last seen: files like those in routers/
//! ```
//!
//! The command line writes here and nowhere else; a running daemon [watches](watch) and follows.
//! Files are put in place whole: written under a hidden name, flushed to the disk, then renamed or
//! linked, so that neither a crash nor a reader ever meets half a file. Keys stand in the files,
//! pairing codes don't: a code is shown once, when it is made. Where the daemon runs as a user of
//! its own, the directory is that user's, and so is whatever root's commands write there.

mod error;
mod file;
mod fleet;
mod keys;
mod names;
mod numbers;
pub mod watch;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use ring::rand::{SecureRandom as _, SystemRandom};
use wanbond_proto::forward::{Forward, MAX_FORWARDS, Protocol};
use wanbond_proto::pairing::{Endpoint, PairingCode, RouterSeed};
use zeroize::Zeroizing;

use crate::config::{self, Config};
use crate::directory::RouterEntry;
use crate::forwards::{self, Conflict, Ports};
use crate::inner::unique_local;
use crate::limits::RouterLimits;

pub use error::StateError;
pub(crate) use file::{read as router_from_text, write as router_to_text};
pub use names::{BadName, MAX_NAME, check_name};

type Result<T> = std::result::Result<T, StateError>;

/// What [`StateDir::init`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initialised {
    /// Everything was made.
    Created,
    /// There was a state already; key and settings stay as they were.
    Kept,
    /// There was a state already; the key stays and the endpoints are new.
    EndpointsReplaced,
}

/// All routers' files, the good and the broken.
#[derive(Debug, Default)]
pub struct Routers {
    /// What could be read, by name.
    pub entries: Vec<RouterEntry>,
    /// What could not.
    pub broken: Vec<StateError>,
}

/// A state directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// The state directory at `path`, which need not exist yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `server.toml`.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.path.join("server.toml")
    }

    /// The directory of the routers' files.
    #[must_use]
    pub fn routers_path(&self) -> PathBuf {
        self.path.join("routers")
    }

    fn router_path(&self, name: &str, shared: bool) -> PathBuf {
        let folder = if shared { self.fleet_routers_path() } else { self.routers_path() };
        folder.join(format!("{name}.toml"))
    }

    /// Makes the directory, the key and `server.toml`, each where it is missing. Endpoints, if
    /// given, replace those of an existing `server.toml`, of which all else is kept. Ports listened
    /// on follow the endpoints unless `ports` is set there.
    ///
    /// # Errors
    /// [`StateError::NoEndpoint`] if there is no `server.toml` yet and no endpoint is given;
    /// [`StateError::DamagedKey`] and [`StateError::BadConfig`] if what is there can't be used;
    /// I/O.
    pub fn init(&self, endpoints: &[Endpoint]) -> Result<Initialised> {
        let config_path = self.config_path();
        let old = match fs::read_to_string(&config_path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error("read", &config_path)(error)),
        };
        // All that can be wrong is looked at before anything is changed.
        let bad_config = |error| StateError::BadConfig { path: config_path.clone(), error };
        let text = match &old {
            None if endpoints.is_empty() => return Err(StateError::NoEndpoint),
            None => {
                let [a, b, c, d, e, ..] = random()?;
                Some(config::template(endpoints, unique_local([a, b, c, d, e])))
            }
            Some(text) => {
                Config::parse(text).map_err(bad_config)?;
                (!endpoints.is_empty())
                    .then(|| -> Result<String> {
                        let span = Config::endpoints_span(text).map_err(bad_config)?;
                        let mut text = text.clone();
                        text.replace_range(span, &config::endpoints_value(endpoints));
                        Ok(text)
                    })
                    .transpose()?
            }
        };
        if let Some(text) = &text {
            Config::parse(text).map_err(bad_config)?;
        }
        make_dir(&self.path)?;
        make_dir(&self.routers_path())?;
        let had_key = self.key_path().exists();
        if had_key {
            self.key()?;
        } else {
            self.make_key()?;
        }
        if let Some(text) = text {
            put(&config_path, text.as_bytes(), 0o600)?;
        }
        Ok(match (old.is_some() && had_key, endpoints.is_empty()) {
            (false, _) => Initialised::Created,
            (true, true) => Initialised::Kept,
            (true, false) => Initialised::EndpointsReplaced,
        })
    }

    /// `server.toml`.
    ///
    /// # Errors
    /// If it is missing or wrong.
    pub fn config(&self) -> Result<Config> {
        let path = self.config_path();
        let text = fs::read_to_string(&path).map_err(|error| self.missing("read", &path, error))?;
        Config::parse(&text).map_err(|error| StateError::BadConfig { path, error })
    }

    /// Every router's file. One that can't be read keeps none of the others from being read.
    /// Routers without a number, and of two with the same the younger, are given one.
    ///
    /// # Errors
    /// If the directory can't be listed.
    pub fn routers(&self) -> Result<Routers> {
        let routers = self.read_routers()?;
        if numbers::missing(&routers.entries).is_empty() {
            return Ok(routers);
        }
        let _lock = self.lock()?;
        let mut routers = self.read_routers()?;
        self.give_numbers(&mut routers.entries);
        Ok(routers)
    }

    /// Numbers the routers that need it. Call it under the lock. What can't be written holds for
    /// this run, and is likely to come out the same in the next.
    fn give_numbers(&self, entries: &mut [RouterEntry]) {
        for (place, number) in numbers::missing(entries) {
            let entry = &mut entries[place];
            entry.inner = number;
            let path = self.router_path(&entry.name, entry.shared);
            let written = fs::read_to_string(&path)
                .map_err(io_error("read", &path))
                .map(Zeroizing::new)
                .and_then(|text| {
                    let text = Zeroizing::new(file::with_number(&text, number));
                    put(&path, text.as_bytes(), 0o600)
                });
            if let Err(error) = written {
                tracing::warn!(router = entry.name, %error, "its inner number can't be kept");
            }
        }
    }

    /// Keeps other processes from changing the routers at the same time.
    fn lock(&self) -> Result<Flock<File>> {
        let path = self.routers_path();
        let dir = File::open(&path).map_err(|error| self.missing("open", &path, error))?;
        Flock::lock(dir, FlockArg::LockExclusive)
            .map_err(|(_, error)| io_error("lock", &path)(error.into()))
    }

    fn read_routers(&self) -> Result<Routers> {
        let mut routers = Routers::default();
        self.read_folder(false, &mut routers)?;
        if self.fleet_routers_path().is_dir() {
            self.read_folder(true, &mut routers)?;
        }
        routers.entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(routers)
    }

    /// Adds a folder's routers. Where the fleet has one of the same name as this server, this
    /// server's counts.
    fn read_folder(&self, shared: bool, routers: &mut Routers) -> Result<()> {
        let folder = if shared { self.fleet_routers_path() } else { self.routers_path() };
        for name in self.router_names(&folder)? {
            if shared && self.router_path(&name, false).exists() {
                tracing::debug!(router = name, "the fleet has another of this name");
                continue;
            }
            match self.read_router_at(&name, shared) {
                Ok(entry) => routers.entries.push(entry),
                // Removed since it was listed.
                Err(StateError::NoSuchRouter(_)) => {}
                Err(error) => routers.broken.push(error),
            }
        }
        Ok(())
    }

    /// The names of the routers whose files are in a folder.
    fn router_names(&self, folder: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let list = fs::read_dir(folder).map_err(|error| self.missing("list", folder, error))?;
        for item in list {
            let item = item.map_err(io_error("list", folder))?;
            let file_name = item.file_name();
            let Some(name) = file_name.to_str().and_then(|name| name.strip_suffix(".toml")) else {
                continue;
            };
            // Hidden files are being written, others are an editor's.
            if check_name(name).is_ok() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// One router.
    ///
    /// # Errors
    /// If there is none of that name, or its file is wrong.
    pub fn router(&self, name: &str) -> Result<RouterEntry> {
        let entry = self.read_router(name)?;
        if entry.inner != 0 {
            return Ok(entry);
        }
        let all = self.routers()?.entries;
        Ok(all.into_iter().find(|numbered| numbered.name == name).unwrap_or(entry))
    }

    fn read_router(&self, name: &str) -> Result<RouterEntry> {
        match self.read_router_at(name, false) {
            Err(StateError::NoSuchRouter(_)) => self.read_router_at(name, true),
            read => read,
        }
    }

    fn read_router_at(&self, name: &str, shared: bool) -> Result<RouterEntry> {
        check_name(name)?;
        let path = self.router_path(name, shared);
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NoSuchRouter(name.to_owned()));
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        file::read(name, &text)
            .map(|entry| RouterEntry { shared, ..entry })
            .map_err(|reason| StateError::BadRouter { path, reason })
    }

    /// Whether a router is the fleet's, as far as is known here.
    fn is_shared(&self, name: &str) -> Result<bool> {
        check_name(name)?;
        Ok(!self.router_path(name, false).exists() && self.fleet_settings()?.is_some())
    }

    /// Adds a router, `created` seconds after 1970, and returns its code, which is kept nowhere.
    /// Where this server is in a fleet, it is the fleet's.
    ///
    /// # Errors
    /// If the name is bad or taken, or the state can't be read or written, or etcd not be reached.
    pub fn add_router(&self, name: &str, created: u64) -> Result<PairingCode> {
        let shared = self.fleet_settings()?.is_some();
        self.add(name, created, shared)
    }

    /// Adds a router to this server alone, be it in a fleet or not.
    ///
    /// # Errors
    /// As [`Self::add_router`].
    pub fn add_local_router(&self, name: &str, created: u64) -> Result<PairingCode> {
        self.add(name, created, false)
    }

    fn add(&self, name: &str, created: u64, shared: bool) -> Result<PairingCode> {
        check_name(name)?;
        let server = self.key()?.public();
        let endpoints = self.config()?.endpoints;
        let seed = RouterSeed::from_bytes(random()?);
        make_dir(&self.routers_path())?;
        let _lock = self.lock()?;
        let mut others = self.read_routers()?.entries;
        self.give_numbers(&mut others);
        if others.iter().any(|other| other.name == name) {
            return Err(StateError::RouterExists(name.to_owned()));
        }
        let entry = RouterEntry {
            name: name.to_owned(),
            public_key: seed.static_secret().public(),
            psk: seed.preshared_key(),
            created,
            limits: RouterLimits::default(),
            enabled: true,
            inner: numbers::next(&others),
            forwards: Vec::new(),
            shared,
        };
        if let Some(fleet) = self.fleet()?.filter(|_| shared) {
            self.add_shared(&fleet, &entry)?;
            return Ok(PairingCode { server, endpoints, seed });
        }
        let text = Zeroizing::new(file::write(&entry));
        match put_new(&self.router_path(name, false), text.as_bytes()) {
            Err(StateError::Io { error, .. }) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StateError::RouterExists(name.to_owned()))
            }
            Err(error) => Err(error),
            Ok(()) => Ok(PairingCode { server, endpoints, seed }),
        }
    }

    /// Removes a router, be its file right or wrong.
    ///
    /// # Errors
    /// If there is none of that name, or its file can't be removed.
    pub fn remove_router(&self, name: &str) -> Result<()> {
        if self.is_shared(name)? {
            let _lock = self.lock()?;
            return self.remove_shared(name);
        }
        self.remove_file(&self.router_path(name, false), name)
    }

    fn remove_file(&self, path: &Path, name: &str) -> Result<()> {
        match fs::remove_file(path) {
            Ok(()) => sync_dir_of(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StateError::NoSuchRouter(name.to_owned()))
            }
            Err(error) => Err(io_error("remove", path)(error)),
        }
    }

    /// Gives a router new keys, and returns the code with them. Its old code stops working at once;
    /// its number, limits and forwards stay.
    ///
    /// # Errors
    /// If there is no such router, or the state can't be read or written.
    pub fn rekey_router(&self, name: &str) -> Result<PairingCode> {
        let server = self.key()?.public();
        let endpoints = self.config()?.endpoints;
        let seed = RouterSeed::from_bytes(random()?);
        self.change_router(name, |entry| {
            entry.public_key = seed.static_secret().public();
            entry.psk = seed.preshared_key();
        })?;
        Ok(PairingCode { server, endpoints, seed })
    }

    /// Changes a router's file.
    ///
    /// # Errors
    /// If there is no such router, or its file is wrong or can't be written.
    pub fn change_router(&self, name: &str, change: impl Fn(&mut RouterEntry)) -> Result<()> {
        self.edit(name, &|entry, _| {
            change(entry);
            Ok(())
        })
    }

    /// Changes a router wherever it is kept; `edit` is given all routers too, and may be called
    /// again with a newer state of both.
    fn edit(
        &self,
        name: &str,
        edit: &dyn Fn(&mut RouterEntry, &[RouterEntry]) -> Result<()>,
    ) -> Result<()> {
        let _lock = self.lock()?;
        if self.is_shared(name)? {
            return self.edit_shared(name, edit);
        }
        let mut entries = self.read_routers()?.entries;
        self.give_numbers(&mut entries);
        let mut entry = self.read_router_at(name, false)?;
        edit(&mut entry, &entries)?;
        self.put_router(&entry)
    }

    /// Adds forwards to a router. `listening` says which ports programs on this machine have.
    ///
    /// # Errors
    /// If there is no such router, a port is taken, or the file can't be written.
    pub fn add_forwards(
        &self,
        name: &str,
        wanted: &[Forward],
        listening: impl Fn(Protocol) -> BTreeSet<u16>,
    ) -> Result<()> {
        let own_ports = self.config()?.ports;
        self.edit(name, &|entry, entries| {
            for forward in wanted {
                let others = entries.iter().filter(|other| other.name != name).chain([&*entry]);
                let others = others
                    .flat_map(|other| other.forwards.iter().map(|forward| (&*other.name, forward)));
                forwards::check(forward, others, &own_ports)?;
                let (first, last) = forward.ports();
                let protocol = forward.protocol();
                if let Some(&port) = listening(protocol).range(first..=last).next() {
                    return Err(Conflict::Listening { protocol, port }.into());
                }
                if entry.forwards.len() == MAX_FORWARDS {
                    return Err(StateError::TooManyForwards(name.to_owned()));
                }
                entry.forwards.push(*forward);
            }
            Ok(())
        })
    }

    /// Removes the forwards of exactly these ports from a router.
    ///
    /// # Errors
    /// If there is no such router or forward, or the file can't be written.
    pub fn remove_forwards(&self, name: &str, ports: &[(Protocol, Ports)]) -> Result<()> {
        self.edit(name, &|entry, _| {
            for (protocol, ports) in ports {
                let before = entry.forwards.len();
                entry.forwards.retain(|forward| {
                    (forward.protocol(), forward.ports()) != (*protocol, (ports.first, ports.last))
                });
                if entry.forwards.len() == before {
                    let what = format!("{} {ports}", protocol.name());
                    return Err(StateError::NoSuchForward { router: name.to_owned(), what });
                }
            }
            Ok(())
        })
    }

    fn put_router(&self, entry: &RouterEntry) -> Result<()> {
        let text = Zeroizing::new(file::write(entry));
        put(&self.router_path(&entry.name, entry.shared), text.as_bytes(), 0o600)
    }

    fn missing(&self, action: &'static str, path: &Path, error: io::Error) -> StateError {
        if error.kind() == io::ErrorKind::NotFound {
            StateError::NotInitialised(self.path.clone())
        } else {
            io_error(action, path)(error)
        }
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |error| StateError::Io { action, path, error }
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StateError::NoRandomness)?;
    Ok(bytes)
}

fn make_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        give_to_owner_of_folder(&File::open(path)?, path)
    };
    make().map_err(io_error("make", path))
}

/// What root writes for a daemon that runs as another user must be readable to that one. Anybody
/// else's files are as they should be already.
fn give_to_owner_of_folder(file: &File, path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|_| geteuid().is_root()) else { return Ok(()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let owner = fs::metadata(folder)?;
    if owner.uid() != 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

/// Puts a whole file at `path`, in place of what is there.
fn put(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let hidden = write_hidden(path, content, mode)?;
    fs::rename(&hidden, path).map_err(io_error("write", path))?;
    sync_dir_of(path)
}

/// Puts a whole file at `path`, or fails with `AlreadyExists`.
fn put_new(path: &Path, content: &[u8]) -> Result<()> {
    let hidden = write_hidden(path, content, 0o600)?;
    let linked = fs::hard_link(&hidden, path).map_err(io_error("write", path));
    let removed = fs::remove_file(&hidden).map_err(io_error("remove", &hidden));
    linked.and(removed)?;
    sync_dir_of(path)
}

fn write_hidden(path: &Path, content: &[u8], mode: u32) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || {
        // Left by a crash of a process that had our number.
        let _ = fs::remove_file(&hidden);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&hidden)?;
        give_to_owner_of_folder(&file, &hidden)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(io_error("write", &hidden))?;
    Ok(hidden)
}

fn sync_dir_of(path: &Path) -> Result<()> {
    let Some(dir) = path.parent() else { return Ok(()) };
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("write", dir))
}

#[cfg(test)]
mod tests;
