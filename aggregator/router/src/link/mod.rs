//! The session with the server: making it, renewing it, and making it again when the server has
//! forgotten it; and which of several servers it is made with ([`servers`]).

mod endpoint;
mod handshake;
mod probe;
mod servers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;
use wanbond_proto::datagram::DatagramKeys;
use wanbond_proto::session::{FlowId, Session};
use wanbond_relay::tunnel::TunnelKeys;

pub(crate) use endpoint::ServerAddresses;
pub(crate) use endpoint::resolve;
pub(crate) use handshake::{LinkHint, random};
pub(crate) use probe::{Answer, Prober, taken};
#[cfg(test)]
pub(crate) use servers::{ASK_COSTLY_EVERY, ASK_EVERY};
pub(crate) use servers::{Known, Servers, keep};

/// The router's end of a session, shared by everything that uses it.
pub(crate) struct LinkSession {
    session: Mutex<Session>,
    datagrams: Mutex<DatagramKeys>,
    tunnel: TunnelKeys,
    local_index: u32,
    remote_index: u32,
}

impl LinkSession {
    fn new(session: Session) -> Self {
        Self {
            datagrams: Mutex::new(session.datagram_keys()),
            tunnel: TunnelKeys::new(&session),
            local_index: session.local_index(),
            remote_index: session.remote_index(),
            session: Mutex::new(session),
        }
    }

    /// How the server names it.
    #[must_use]
    pub(crate) const fn remote_index(&self) -> u32 {
        self.remote_index
    }

    /// The keys of the session's datagrams.
    pub(crate) fn datagrams(&self) -> MutexGuard<'_, DatagramKeys> {
        lock(&self.datagrams)
    }

    /// The keys of the tunnel's datagrams.
    #[must_use]
    pub(crate) const fn tunnel(&self) -> &TunnelKeys {
        &self.tunnel
    }

    /// A flow id that was never used.
    #[must_use]
    pub(crate) fn next_flow_id(&self) -> FlowId {
        lock(&self.session).next_flow_id()
    }

    /// Looks at the session.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&Session) -> T) -> T {
        look(&lock(&self.session))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard stays valid after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The present session, and the one before it, for what is still on its way.
#[derive(Default)]
pub(crate) struct Sessions {
    slots: RwLock<Slots>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Slots {
    current: Option<Arc<LinkSession>>,
    previous: Option<Arc<LinkSession>>,
}

impl Sessions {
    /// The session for anything new.
    #[must_use]
    pub(crate) fn current(&self) -> Option<Arc<LinkSession>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner).current.clone()
    }

    /// The session that this end calls `index`.
    #[must_use]
    pub(crate) fn by_index(&self, index: u32) -> Option<Arc<LinkSession>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        [&slots.current, &slots.previous]
            .into_iter()
            .flatten()
            .find(|session| session.local_index == index)
            .cloned()
    }

    /// Tells of each new session, and of a lost one.
    #[must_use]
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn install(&self, session: Arc<LinkSession>) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.previous = slots.current.replace(session);
        drop(slots);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Forgets all: another server is used.
    fn clear(&self) {
        *self.slots.write().unwrap_or_else(PoisonError::into_inner) = Slots::default();
        self.changed.send_modify(|n| *n += 1);
    }

    /// Forgets the session if it still is the one that the server calls `remote_index`.
    fn forget(&self, remote_index: u32) -> bool {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        if slots.current.as_ref().is_none_or(|s| s.remote_index != remote_index) {
            return false;
        }
        slots.current = None;
        slots.previous = None;
        drop(slots);
        self.changed.send_modify(|n| *n += 1);
        true
    }
}
