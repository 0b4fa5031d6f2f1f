//! Following the state directory while the daemon runs.
//!
//! inotify tells of every change by whatever process, in whatever network namespace. Changes are
//! gathered for a moment (an editor writes a file in several steps), then everything is read
//! again. What can't be read keeps its old value and is logged.

use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::{StateDir, StateError};
use crate::config::Config;
use crate::directory::{Change, Directory};

/// How long to wait for a burst of changes to end. `router add` makes three events within a
/// millisecond; an editor's save takes some more.
const SETTLE: Duration = Duration::from_millis(50);

/// A burst that doesn't end is acted on after this.
const SETTLE_AT_MOST: Duration = Duration::from_millis(500);

/// Keeps a [`Directory`] and a [`Config`] equal to what the state directory says.
#[derive(Debug)]
pub struct Follower {
    state: StateDir,
    directory: Arc<Directory>,
    config: watch::Sender<Arc<Config>>,
    /// Told at each change: the fleet this server is in may be another.
    wake: Option<mpsc::Sender<()>>,
}

impl Follower {
    /// Reads everything once.
    ///
    /// # Errors
    /// If `server.toml` or the list of routers can't be read. A broken router file is only logged.
    pub fn start(state: StateDir) -> Result<Self, StateError> {
        let config = watch::Sender::new(Arc::new(state.config()?));
        let follower = Self { state, directory: Arc::new(Directory::new()), config, wake: None };
        follower.read_routers()?;
        Ok(follower)
    }

    /// Follows the fleet too, if and while this server is in one.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub fn with_fleet(mut self) -> std::io::Result<Self> {
        let (wake, woken) = mpsc::channel();
        let state = self.state.clone();
        std::thread::Builder::new()
            .name("fleet".into())
            .spawn(move || crate::fleet::follow(&state, &woken))?;
        self.wake = Some(wake);
        Ok(self)
    }

    /// The routers, always as the files say.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    /// `server.toml`, always as the file says.
    #[must_use]
    pub fn config(&self) -> watch::Receiver<Arc<Config>> {
        self.config.subscribe()
    }

    /// Reads everything again; what is wrong is logged and stays as it was.
    pub fn reload(&self) {
        if let Some(wake) = &self.wake {
            // Ends only with this.
            let _ = wake.send(());
        }
        match self.state.config() {
            Ok(config) => {
                let changed = self.config.send_if_modified(|current| {
                    let changed = **current != config;
                    if changed {
                        *current = Arc::new(config);
                    }
                    changed
                });
                if changed {
                    tracing::info!("server.toml has changed");
                }
            }
            Err(error) => tracing::warn!(%error, "keeping the old settings"),
        }
        match self.read_routers() {
            Ok(change) => {
                for name in &change.added {
                    tracing::info!(router = %name, "router added");
                }
                for name in &change.changed {
                    tracing::info!(router = %name, "router changed");
                }
                for name in &change.removed {
                    tracing::info!(router = %name, "router removed");
                }
            }
            Err(error) => tracing::warn!(%error, "keeping the old list of routers"),
        }
    }

    fn read_routers(&self) -> Result<Change, StateError> {
        let routers = self.state.routers()?;
        let mut entries = routers.entries;
        for error in &routers.broken {
            // A bad edit must not throw out a router that is connected: its last good state stays.
            if let StateError::BadRouter { path, .. } | StateError::Io { path, .. } = error {
                let name = path.file_stem().map(|stem| stem.to_string_lossy());
                let old = self.directory.snapshot();
                entries.extend(
                    old.iter()
                        .filter(|e| Some(e.name.as_str()) == name.as_deref())
                        .map(|e| (**e).clone()),
                );
            }
            tracing::warn!(%error, "router file can't be used");
        }
        Ok(self.directory.replace(entries))
    }

    /// Follows changes until dropped. Without inotify, and should it fail later, looks every two
    /// seconds.
    pub async fn run(&self) {
        let mut watcher = Watcher::new(&self.state);
        // A change between the first reading and the watch is not missed.
        self.reload();
        loop {
            match &watcher {
                Ok(active) => match active.changed().await {
                    // The first to look at the fleet's folder once there is one.
                    Ok(Seen::Changed) if active.sees_all(&self.state) => self.reload(),
                    Ok(_) => {
                        watcher = Watcher::new(&self.state);
                        self.reload();
                    }
                    Err(error) => watcher = Err(error),
                },
                Err(error) => {
                    tracing::debug!(%error, "no inotify, looking at the files now and then");
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    watcher = Watcher::new(&self.state);
                    self.reload();
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Something in the directories.
    Changed,
    /// The directories themselves were moved or removed: the watch is on the wrong ones.
    Moved,
}

struct Watcher {
    events: AsyncFd<Events>,
    fleet: bool,
}

/// tokio asks for the older of the two descriptor traits.
struct Events(Inotify);

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Watcher {
    fn new(state: &StateDir) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let paths: [PathBuf; 2] = [state.path().to_owned(), state.routers_path()];
        for path in &paths {
            inotify.add_watch(path, flags)?;
        }
        let fleet = inotify.add_watch(&state.fleet_routers_path(), flags).is_ok();
        // Its successor is unsafe, for types whose descriptor may change or close while it is
        // registered; `Events` owns its one.
        #[expect(deprecated)]
        let events = AsyncFd::new(Events(inotify))?;
        Ok(Self { events, fleet })
    }

    /// Whether it watches everything there is.
    fn sees_all(&self, state: &StateDir) -> bool {
        self.fleet == state.fleet_routers_path().is_dir()
    }

    /// Waits for a change and for the burst it belongs to.
    async fn changed(&self) -> std::io::Result<Seen> {
        let mut seen = self.read().await?;
        let end = tokio::time::Instant::now() + SETTLE_AT_MOST;
        loop {
            let until = end.min(tokio::time::Instant::now() + SETTLE);
            match tokio::time::timeout_at(until, self.read()).await {
                Err(_settled) => return Ok(seen),
                Ok(more) => {
                    if more? == Seen::Moved {
                        seen = Seen::Moved;
                    }
                    if tokio::time::Instant::now() >= end {
                        return Ok(seen);
                    }
                }
            }
        }
    }

    async fn read(&self) -> std::io::Result<Seen> {
        let moved = AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_UNMOUNT;
        loop {
            let mut ready = self.events.readable().await?;
            let Ok(events) = ready.try_io(|fd| Ok(fd.get_ref().0.read_events()?)) else { continue };
            let any_moved = events?.iter().any(|event| event.mask.intersects(moved));
            return Ok(if any_moved { Seen::Moved } else { Seen::Changed });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn changes_are_followed_and_bad_edits_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path());
        state.init(&["vps.example".parse().unwrap()]).unwrap();
        state.add_router("first", 1).unwrap();
        let follower = Arc::new(Follower::start(state.clone()).unwrap());
        let directory = follower.directory();
        let mut config = follower.config();
        assert_eq!(directory.snapshot().len(), 1);
        let running = Arc::clone(&follower);
        let task = tokio::spawn(async move { running.run().await });
        let names = || {
            let mut names: Vec<_> = directory.snapshot().iter().map(|e| e.name.clone()).collect();
            names.sort();
            names
        };
        let mut routers = directory.subscribe();

        state.add_router("second", 1).unwrap();
        wait(routers.wait_for(|now| now.len() == 2)).await;
        // A bad edit of one, a removal of the other: only the removal counts.
        fs::write(dir.path().join("routers/first.toml"), "enabled = ?").unwrap();
        state.remove_router("second").unwrap();
        wait(routers.wait_for(|now| now.len() == 1)).await;
        assert_eq!(names(), ["first"]);

        let text = fs::read_to_string(state.config_path()).unwrap();
        fs::write(state.config_path(), "nonsense").unwrap();
        tokio::time::sleep(SETTLE * 3).await;
        assert!(!config.has_changed().unwrap());
        fs::write(state.config_path(), text.replace("#drain = 1", "drain = 4")).unwrap();
        wait(config.wait_for(|now| now.drain.as_secs() == 4)).await;

        // The whole directory is put aside and restored.
        let routers_dir = dir.path().join("routers");
        fs::rename(&routers_dir, dir.path().join("aside")).unwrap();
        tokio::time::sleep(SETTLE * 3).await;
        assert_eq!(names(), ["first"]);
        fs::create_dir(&routers_dir).unwrap();
        wait(routers.wait_for(|now| now.is_empty())).await;
        task.abort();
    }

    async fn wait<T>(future: impl Future<Output = Result<T, watch::error::RecvError>>) {
        tokio::time::timeout(Duration::from_secs(10), future).await.unwrap().unwrap();
    }
}
