//! The fleet's part of the state directory: which fleet this server is in, and its routers as last
//! seen.
//!
//! Changes of the fleet's routers go to etcd first. The files follow, and are all that the running
//! server admits by: without etcd they stay as they are.

use std::fs;
use std::io;
use std::path::PathBuf;

use wanbond_proto::pairing::{PairingCode, RouterSeed};
use zeroize::Zeroizing;

use super::{Result, StateDir, StateError, file, io_error, make_dir, numbers, put, sync_dir_of};
use crate::directory::RouterEntry;
use crate::fleet::{Fleet, FleetError, FleetKey, List, Member, Settings, SettingsError};

/// How often a change is tried while others change the same router.
const TRIES: usize = 5;

impl StateDir {
    fn fleet_path(&self) -> PathBuf {
        self.path().join("fleet")
    }

    /// The folder of the fleet's routers, as last seen.
    #[must_use]
    pub fn fleet_routers_path(&self) -> PathBuf {
        self.fleet_path().join("routers")
    }

    fn fleet_settings_path(&self) -> PathBuf {
        self.fleet_path().join("settings.toml")
    }

    /// The fleet this server is in.
    ///
    /// # Errors
    /// If the file is wrong or can't be read.
    pub fn fleet_settings(&self) -> Result<Option<Settings>> {
        let path = self.fleet_settings_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let wrong = |error: SettingsError| StateError::BadFleet { path: path.clone(), error };
        Settings::from_text(&text).map(Some).map_err(wrong)
    }

    /// A connection to the fleet this server is in.
    ///
    /// # Errors
    /// If the settings are wrong.
    pub fn fleet(&self) -> Result<Option<Fleet>> {
        Ok(self.fleet_settings()?.map(|settings| Fleet::new(&settings)).transpose()?)
    }

    /// This server as the others of a fleet know it.
    fn member(&self) -> Result<Option<Member>> {
        Ok(Member::new(self.key()?.public(), &self.config()?.endpoints))
    }

    /// Begins a fleet, or begins it anew where etcd has lost it: with the routers of the fleet that
    /// are known here, and the key it had. `settings` may name a new key, or none for the one of
    /// before.
    ///
    /// # Errors
    /// [`FleetError::AlreadyThere`], [`FleetError::OtherKey`]; if etcd can't be reached or says no.
    pub fn start_fleet(&self, settings: &Settings) -> Result<()> {
        settings.check().map_err(FleetError::from)?;
        let fleet = Fleet::new(settings)?;
        // All that can be wrong here is looked at first.
        let member = self.member()?;
        make_dir(&self.routers_path())?;
        let _lock = self.lock()?;
        let entries = self.read_routers()?.entries;
        if !fleet.mark()? {
            // Whether it is this one's is told by reading it.
            fleet.list()?;
            return Err(FleetError::AlreadyThere(settings.prefix.clone()).into());
        }
        let mut shared = entries.iter().filter(|entry| entry.shared);
        let done = shared
            .try_for_each(|entry| Ok(fleet.put_router(entry, 0).map(drop)?))
            .and_then(|()| self.enter(settings, &fleet, member));
        if done.is_err() {
            // A fleet whose key nobody has is in everybody's way.
            let _ = fleet.unmark();
        }
        done
    }

    /// Takes part in a fleet that another server has begun.
    ///
    /// # Errors
    /// [`FleetError::NoFleet`], [`FleetError::OtherKey`]; if etcd can't be reached or says no.
    pub fn join_fleet(&self, settings: &Settings) -> Result<()> {
        settings.check().map_err(FleetError::from)?;
        let fleet = Fleet::new(settings)?;
        let member = self.member()?;
        make_dir(&self.routers_path())?;
        let _lock = self.lock()?;
        fleet.list()?;
        self.enter(settings, &fleet, member)
    }

    fn enter(&self, settings: &Settings, fleet: &Fleet, member: Option<Member>) -> Result<()> {
        if let Some(member) = member {
            fleet.publish(&member)?;
        }
        make_dir(&self.fleet_path())?;
        make_dir(&self.fleet_routers_path())?;
        put(&self.fleet_settings_path(), settings.to_text().as_bytes(), 0o600)?;
        self.write_mirror(&fleet.list()?)
    }

    /// Goes on alone: what the fleet's routers are now, they stay, as this server's own. Returns
    /// why the others could not be told, if so.
    ///
    /// # Errors
    /// [`FleetError::NotInOne`]; I/O.
    pub fn leave_fleet(&self) -> Result<Option<FleetError>> {
        let settings = self.fleet_settings()?.ok_or(FleetError::NotInOne)?;
        let member = self.member()?;
        let _lock = self.lock()?;
        for entry in self.read_routers()?.entries.iter().filter(|entry| entry.shared) {
            self.put_router(&RouterEntry { shared: false, ..entry.clone() })?;
        }
        let path = self.fleet_path();
        fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
        sync_dir_of(&path)?;
        let told = Fleet::new(&settings)
            .and_then(|fleet| member.map_or(Ok(()), |member| fleet.forget(&member.name)));
        Ok(told.err().filter(|error| !matches!(error, FleetError::NoSuchServer(_))))
    }

    /// Makes a router of this server one of the fleet's.
    ///
    /// # Errors
    /// If there is no such router here, or one of its name in the fleet; if etcd can't be reached
    /// or says no.
    pub fn share_router(&self, name: &str) -> Result<()> {
        let fleet = self.fleet()?.ok_or(FleetError::NotInOne)?;
        let _lock = self.lock()?;
        let entry = self.read_router(name)?;
        if entry.shared {
            return Err(StateError::RouterShared(name.to_owned()));
        }
        if !fleet.put_router(&entry, 0)? {
            return Err(StateError::RouterExists(name.to_owned()));
        }
        // There for a moment under both: the daemon goes by this server's own.
        self.put_router(&RouterEntry { shared: true, ..entry.clone() })?;
        self.remove_file(&self.router_path(&entry.name, false), name)
    }

    /// Reads the fleet's list and makes the files equal to it.
    ///
    /// # Errors
    /// If etcd can't be reached, says no, or has no such fleet (any more): nothing changes then. If
    /// the files can't be written.
    pub fn mirror(&self, fleet: &Fleet) -> Result<List> {
        // Under the lock, so that no older list is written over a newer one.
        let _lock = self.lock()?;
        let list = fleet.list()?;
        self.write_mirror(&list)?;
        Ok(list)
    }

    fn write_mirror(&self, list: &List) -> Result<()> {
        let folder = self.fleet_routers_path();
        if self.fleet_settings()?.is_none() {
            // Left meanwhile.
            return Ok(());
        }
        make_dir(&folder)?;
        for listed in &list.routers {
            self.write_mirrored(&listed.entry)?;
        }
        for name in self.router_names(&folder)? {
            // One that can't be read there any more stays as it was: that removes nobody.
            if !list.has(&name) {
                let path = self.router_path(&name, true);
                match self.remove_file(&path, &name) {
                    Ok(()) | Err(StateError::NoSuchRouter(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Writes one of the fleet's routers, with the number it has here, if anything has changed.
    fn write_mirrored(&self, entry: &RouterEntry) -> Result<()> {
        let path = self.router_path(&entry.name, true);
        let old = fs::read_to_string(&path).map(Zeroizing::new).ok();
        let old = old.and_then(|text| file::read(&entry.name, &text).ok());
        let inner = old.as_ref().map_or(0, |old| old.inner);
        let new = RouterEntry { inner, shared: true, ..entry.clone() };
        if old.is_some_and(|old| RouterEntry { shared: true, ..old } == new) {
            return Ok(());
        }
        self.put_router(&new)
    }

    /// Adds a router to the fleet. Call it under the lock.
    pub(super) fn add_shared(&self, fleet: &Fleet, entry: &RouterEntry) -> Result<()> {
        let list = fleet.list()?;
        self.write_mirror(&list)?;
        if list.has(&entry.name) || !fleet.put_router(entry, 0)? {
            return Err(StateError::RouterExists(entry.name.clone()));
        }
        let mut all = self.read_routers()?.entries;
        self.give_numbers(&mut all);
        self.put_router(&RouterEntry { inner: numbers::next(&all), ..entry.clone() })
    }

    /// Changes one of the fleet's routers. Call it under the lock.
    pub(super) fn edit_shared(
        &self,
        name: &str,
        edit: &dyn Fn(&mut RouterEntry, &[RouterEntry]) -> Result<()>,
    ) -> Result<()> {
        let fleet = self.fleet()?.ok_or(FleetError::NotInOne)?;
        for _ in 0..TRIES {
            let list = fleet.list()?;
            self.write_mirror(&list)?;
            let listed =
                list.router(name).ok_or_else(|| StateError::NoSuchRouter(name.to_owned()))?;
            let mut entry = listed.entry.clone();
            edit(&mut entry, &self.read_routers()?.entries)?;
            if fleet.put_router(&entry, listed.revision)? {
                return self.write_mirrored(&entry);
            }
        }
        Err(FleetError::Busy(name.to_owned()).into())
    }

    /// Removes one of the fleet's routers. Call it under the lock.
    pub(super) fn remove_shared(&self, name: &str) -> Result<()> {
        let fleet = self.fleet()?.ok_or_else(|| StateError::NoSuchRouter(name.to_owned()))?;
        let there = fleet.remove_router(name)?;
        match self.remove_file(&self.router_path(name, true), name) {
            Err(StateError::NoSuchRouter(_)) if there => Ok(()),
            done => done,
        }
    }

    /// The codes by which the router of this one reaches the other servers of the fleet.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn codes_elsewhere(&self, seed: &RouterSeed) -> Result<Vec<PairingCode>> {
        let Some(fleet) = self.fleet()? else { return Ok(Vec::new()) };
        let own = self.key()?.public();
        let servers = fleet.list()?.servers.into_iter().filter(|server| server.public_key != own);
        let code = |server: Member| PairingCode {
            server: server.public_key,
            endpoints: server.endpoints,
            seed: seed.clone(),
        };
        Ok(servers.map(code).collect())
    }

    /// The key of a fleet yet to begin, or of the one this server is in.
    ///
    /// # Errors
    /// If the settings are wrong, or the system gives no random numbers.
    pub fn fleet_key(&self) -> Result<FleetKey> {
        match self.fleet_settings()? {
            Some(settings) => Ok(settings.key),
            None => Ok(FleetKey::draw().map_err(FleetError::from)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::etcd::Access;
    use crate::fleet::{Bad, Listed};
    use crate::limits::RouterLimits;
    use wanbond_proto::keys::{PresharedKey, PublicKey};

    fn state() -> (tempfile::TempDir, StateDir) {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::new(dir.path().join("state"));
        state.init(&["vps.example".parse().unwrap()]).unwrap();
        (dir, state)
    }

    /// As after a join, of a fleet whose etcd nobody can reach.
    fn enter(state: &StateDir) {
        let settings = Settings {
            access: Access { urls: vec!["http://127.0.0.1:9".into()], ..Access::default() },
            prefix: "/x/".into(),
            key: FleetKey::draw().unwrap(),
        };
        make_dir(&state.fleet_routers_path()).unwrap();
        put(&state.fleet_settings_path(), settings.to_text().as_bytes(), 0o600).unwrap();
    }

    fn listed(name: &str, id: u8) -> Listed {
        let entry = RouterEntry {
            name: name.into(),
            public_key: PublicKey::from_bytes([id; 32]),
            psk: PresharedKey::from_bytes([id; 32]),
            created: id.into(),
            limits: RouterLimits::default(),
            enabled: true,
            inner: 0,
            forwards: Vec::new(),
            shared: true,
        };
        Listed { entry, revision: 1 }
    }

    fn list(routers: Vec<Listed>) -> List {
        List { revision: 1, routers, servers: Vec::new(), bad: Vec::new() }
    }

    fn shown(state: &StateDir) -> Vec<(String, bool, u32)> {
        let routers = state.routers().unwrap();
        assert!(routers.broken.is_empty(), "{:?}", routers.broken);
        routers.entries.into_iter().map(|e| (e.name, e.shared, e.inner)).collect()
    }

    #[test]
    fn the_files_follow_the_list_and_keep_their_numbers() {
        let (_dir, state) = state();
        state.add_router("own", 1).unwrap();
        enter(&state);
        state.write_mirror(&list(vec![listed("a", 1), listed("b", 2)])).unwrap();
        let first = [("a".into(), true, 2), ("b".into(), true, 3), ("own".into(), false, 1)];
        assert_eq!(shown(&state), first);

        // One is changed, one is taken out, one can't be read any more, one is new.
        let mut changed = listed("a", 9);
        changed.entry.enabled = false;
        let bad = Bad { name: "routers/b".into(), revision: 3, reason: "?".into() };
        let now = List { bad: vec![bad], ..list(vec![changed.clone(), listed("c", 3)]) };
        state.write_mirror(&now).unwrap();
        let numbers = [("a", 2), ("b", 3), ("c", 4)];
        for (name, number) in numbers {
            assert_eq!(state.router(name).unwrap().inner, number, "{name}");
        }
        assert_eq!(state.router("a").unwrap(), RouterEntry { inner: 2, ..changed.entry });
        state.write_mirror(&list(vec![])).unwrap();
        assert_eq!(shown(&state), [("own".into(), false, 1)]);
    }

    #[test]
    fn this_server_s_own_router_counts_before_the_fleet_s() {
        let (_dir, state) = state();
        let code = state.add_router("home", 1).unwrap();
        enter(&state);
        state.write_mirror(&list(vec![listed("home", 5)])).unwrap();
        let key = code.seed.static_secret().public();
        assert_eq!(state.router("home").unwrap().public_key, key);
        assert_eq!(shown(&state), [("home".into(), false, 1)]);
        state.remove_router("home").unwrap();
        assert_eq!(shown(&state), [("home".into(), true, 1)]);
    }

    #[test]
    fn without_etcd_nothing_of_the_fleet_s_changes_and_leaving_keeps_it() {
        let (_dir, state) = state();
        enter(&state);
        state.write_mirror(&list(vec![listed("a", 1)])).unwrap();
        let unreachable = |error: StateError| error.to_string().contains("can't be reached");
        assert!(unreachable(state.add_router("b", 2).unwrap_err()));
        assert!(unreachable(state.remove_router("a").unwrap_err()));
        assert!(unreachable(state.change_router("a", |e| e.enabled = false).unwrap_err()));
        state.add_local_router("b", 2).unwrap();
        assert_eq!(shown(&state), [("a".into(), true, 1), ("b".into(), false, 2)]);

        assert!(state.leave_fleet().unwrap().is_some());
        assert_eq!(shown(&state), [("a".into(), false, 1), ("b".into(), false, 2)]);
        state.remove_router("a").unwrap();
        assert!(matches!(state.leave_fleet(), Err(StateError::Fleet(FleetError::NotInOne))));
    }
}
