//! The routers that are admitted right now.
//!
//! A [`Directory`] is cheap to ask (one lock held for a hash look-up) and tells its watchers when
//! it changes, so that sessions of a removed router end at once. Whoever knows the routers feeds
//! it: the files of the state directory.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;
use wanbond_proto::forward::Forward;
use wanbond_proto::keys::{PresharedKey, PublicKey};

use crate::limits::RouterLimits;

/// A router that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterEntry {
    /// The name it was added under.
    pub name: String,
    /// Its static public key: who it is on the wire.
    pub public_key: PublicKey,
    /// The key shared with it.
    pub psk: PresharedKey,
    /// When it was added, in seconds since 1970.
    pub created: u64,
    /// What it may take instead of the defaults.
    pub limits: RouterLimits,
    /// A disabled router is known, listed and refused.
    pub enabled: bool,
    /// Its number, from which its inner addresses follow ([`crate::inner`]); 0 if it has none yet.
    pub inner: u32,
    /// Public ports that lead to hosts behind it.
    pub forwards: Vec<Forward>,
    /// Whether it is on the list that this server shares with others ([`crate::fleet`]).
    pub shared: bool,
}

/// All routers at one moment.
#[derive(Default)]
pub struct Snapshot {
    by_key: HashMap<PublicKey, Arc<RouterEntry>>,
}

impl Snapshot {
    /// The router with this key, disabled ones included.
    #[must_use]
    pub fn get(&self, key: &PublicKey) -> Option<&Arc<RouterEntry>> {
        self.by_key.get(key)
    }

    /// Every router, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<RouterEntry>> {
        self.by_key.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_key.values().map(|entry| &entry.name)).finish()
    }
}

/// What a [`Directory::replace`] changed, by name and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Routers that were not there.
    pub added: Vec<String>,
    /// Routers that are no longer there.
    pub removed: Vec<String>,
    /// Routers of which something else than the key changed.
    pub changed: Vec<String>,
}

impl Change {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// The routers that are admitted right now; share it in an [`Arc`].
#[derive(Debug)]
pub struct Directory {
    // A watch channel is both the lock around the present snapshot and the notification.
    current: watch::Sender<Arc<Snapshot>>,
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl Directory {
    /// A directory without routers.
    #[must_use]
    pub fn new() -> Self {
        Self { current: watch::Sender::new(Arc::default()) }
    }

    /// The enabled router with this key: the one to admit.
    #[must_use]
    pub fn admit(&self, key: &PublicKey) -> Option<Arc<RouterEntry>> {
        self.current.borrow().get(key).filter(|entry| entry.enabled).cloned()
    }

    /// Whether a router admitted as `entry` would be admitted with the same keys now. Its limits
    /// may have changed meanwhile; that ends no session.
    #[must_use]
    pub fn still_admits(&self, entry: &RouterEntry) -> bool {
        self.admit(&entry.public_key).is_some_and(|now| now.psk == entry.psk)
    }

    /// All routers now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    /// Told at every change. Ask [`Self::still_admits`] of each session then.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    /// Makes `entries` the routers admitted from now on. Of two with the same key the one whose
    /// name comes first stays. Watchers are told if anything changed.
    pub fn replace(&self, mut entries: Vec<RouterEntry>) -> Change {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let mut change = Change::default();
        self.current.send_if_modified(|current| {
            let mut next = Snapshot { by_key: HashMap::with_capacity(entries.len()) };
            for entry in entries {
                let key = entry.public_key;
                if let Some(first) = next.by_key.get(&key) {
                    tracing::warn!(router = %entry.name, same_as = %first.name,
                        "two routers have the same key, ignoring the second");
                    continue;
                }
                let kept = match current.get(&key) {
                    Some(old) if **old == entry => Arc::clone(old),
                    Some(_) => {
                        change.changed.push(entry.name.clone());
                        Arc::new(entry)
                    }
                    None => {
                        change.added.push(entry.name.clone());
                        Arc::new(entry)
                    }
                };
                next.by_key.insert(key, kept);
            }
            let gone = current.iter().filter(|old| next.get(&old.public_key).is_none());
            change.removed = gone.map(|old| old.name.clone()).collect();
            change.removed.sort();
            if change.is_empty() {
                return false;
            }
            *current = Arc::new(next);
            true
        });
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, id: u8) -> RouterEntry {
        RouterEntry {
            name: name.into(),
            public_key: PublicKey::from_bytes([id; 32]),
            psk: PresharedKey::from_bytes([id; 32]),
            created: 0,
            limits: RouterLimits::default(),
            enabled: true,
            inner: id.into(),
            forwards: Vec::new(),
            shared: false,
        }
    }

    #[test]
    fn changes_are_told_once() {
        let directory = Directory::new();
        let mut watcher = directory.subscribe();
        let change = directory.replace(vec![entry("b", 2), entry("a", 1)]);
        assert_eq!(change.added, ["a", "b"]);
        assert!(watcher.has_changed().unwrap());
        watcher.mark_unchanged();
        assert!(directory.replace(vec![entry("a", 1), entry("b", 2)]).is_empty());
        assert!(!watcher.has_changed().unwrap());

        let admitted = directory.admit(&PublicKey::from_bytes([1; 32])).unwrap();
        assert!(directory.still_admits(&admitted));
        let change = directory.replace(vec![entry("b", 2)]);
        assert_eq!(change.removed, ["a"]);
        assert!(!directory.still_admits(&admitted));
    }

    #[test]
    fn disabled_and_re_keyed_routers_are_not_admitted() {
        let directory = Directory::new();
        directory.replace(vec![entry("a", 1)]);
        let admitted = directory.admit(&PublicKey::from_bytes([1; 32])).unwrap();
        directory.replace(vec![RouterEntry { enabled: false, ..entry("a", 1) }]);
        assert!(!directory.still_admits(&admitted));
        let psk = PresharedKey::from_bytes([9; 32]);
        directory.replace(vec![RouterEntry { psk, ..entry("a", 1) }]);
        assert!(!directory.still_admits(&admitted));
        let limits = RouterLimits { flows: Some(3), ..RouterLimits::default() };
        let change = directory.replace(vec![RouterEntry { limits, ..entry("a", 1) }]);
        assert_eq!(change.changed, ["a"]);
        assert!(directory.still_admits(&admitted));
    }

    #[test]
    fn the_first_of_two_with_one_key_stays() {
        let directory = Directory::new();
        directory.replace(vec![entry("z", 1), entry("a", 1)]);
        assert_eq!(directory.snapshot().len(), 1);
        assert_eq!(directory.admit(&PublicKey::from_bytes([1; 32])).unwrap().name, "a");
    }
}
