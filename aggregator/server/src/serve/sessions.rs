//! The sessions of all routers: made by handshakes, found by index, dropped with their router.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::{debug, info, warn};
use wanbond_proto::Time;
use wanbond_proto::datagram::DatagramKeys;
use wanbond_proto::handshake::{
    Admission, CookieJar, Egress, HandshakeError, HandshakeLoad, Notice, PendingRouter,
    ServerHandshake, Verdict, Welcome,
};
use wanbond_proto::inner::Instance;
use wanbond_proto::keys::{PublicKey, SecretKey};
use wanbond_proto::session::{GRACE, Session};
use wanbond_relay::tunnel::{TunnelDriver, TunnelKeys};
use wanbond_relay::{Clock, fast_suites};

use crate::inner::InnerNetwork;

use super::moves::FlowIds;
use super::routers::{LiveRouter, LiveRouters};

/// Sessions that a router may have begun and not confirmed: its Init comes over each of up to 16
/// paths, four times where a round trip is long, and it uses the first answer that reaches it. More
/// come only from somebody who repeats them.
const MAX_UNCONFIRMED: usize = 64;

/// A session with what the server keeps beside it.
pub(crate) struct ServerSession {
    pub(crate) session: Session,
    pub(crate) router: Arc<LiveRouter>,
    flows: Arc<FlowIds>,
    datagrams: Mutex<DatagramKeys>,
    tunnel: TunnelKeys,
    driver: OnceLock<Arc<TunnelDriver>>,
    confirmed: AtomicBool,
}

impl ServerSession {
    /// The ids of its flows.
    pub(super) const fn flows(&self) -> &Arc<FlowIds> {
        &self.flows
    }

    pub(crate) fn datagrams(&self) -> MutexGuard<'_, DatagramKeys> {
        lock(&self.datagrams)
    }

    /// The keys of the tunnel's datagrams.
    pub(crate) const fn tunnel(&self) -> &TunnelKeys {
        &self.tunnel
    }

    /// The router's tunnel, once it has used the session for it.
    pub(crate) const fn driver(&self) -> &OnceLock<Arc<TunnelDriver>> {
        &self.driver
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard stays valid after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Table {
    by_index: HashMap<u32, Arc<ServerSession>>,
    by_router: HashMap<PublicKey, OfRouter>,
}

#[derive(Default)]
struct OfRouter {
    /// Oldest first.
    unconfirmed: Vec<u32>,
    current: Option<u32>,
    /// Confirmed before the current one, and when to drop them.
    retiring: Vec<(u32, Time)>,
}

/// All sessions, and the handshakes that make them.
pub(crate) struct Sessions {
    /// With each of the server's keys, the present one first.
    handshakes: Vec<ServerHandshake>,
    cookies: Mutex<CookieJar>,
    load: Mutex<HandshakeLoad>,
    table: Mutex<Table>,
    routers: Arc<LiveRouters>,
    egress: Mutex<Egress>,
    instance: Instance,
    inner: InnerNetwork,
    random: SystemRandom,
    clock: Clock,
}

impl Sessions {
    pub(crate) fn new(
        keys: &[SecretKey],
        routers: Arc<LiveRouters>,
        clock: Clock,
        egress: Egress,
        inner: InnerNetwork,
    ) -> Self {
        let random = SystemRandom::new();
        let suites: Vec<_> = fast_suites().into_iter().map(|(suite, _)| suite).collect();
        let cookies = CookieJar::new(clock.now(), [bytes(&random), bytes(&random)]);
        Self {
            handshakes: keys.iter().map(|key| ServerHandshake::new(key.clone(), &suites)).collect(),
            cookies: Mutex::new(cookies),
            load: Mutex::default(),
            table: Mutex::default(),
            routers,
            egress: Mutex::new(egress),
            instance: Instance(bytes(&random)),
            inner,
            random,
            clock,
        }
    }

    /// What this server can reach has changed: told in the next handshakes.
    pub(crate) fn set_egress(&self, egress: Egress) {
        *lock(&self.egress) = egress;
    }

    /// Random bytes for the callers.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        bytes(&self.random)
    }

    /// Answers a handshake message, or stays silent. `proven`: TCP has shown that the source
    /// address is real.
    pub(crate) fn handle_handshake(
        &self,
        message: &[u8],
        source: SocketAddr,
        proven: bool,
    ) -> Option<Vec<u8>> {
        let now = self.clock.now();
        let busy = lock(&self.load).count(now);
        let mut cookies = lock(&self.cookies);
        if cookies.is_stale(now) {
            cookies.rotate(now, self.random());
        }
        let admission = if busy && !proven { Admission::ProveAddress } else { Admission::Open };
        let random = (self.random(), self.random());
        let mut verdict = Err(HandshakeError::Malformed);
        for handshake in &self.handshakes {
            verdict = handshake.handle(message, source, admission, &cookies, random);
            if verdict.is_ok() {
                break;
            }
        }
        drop(cookies);
        match verdict {
            Ok(Verdict::Answer(answer)) => Some(answer),
            Ok(Verdict::Pending(pending)) => self.admit(*pending, source, now),
            Err(error) => {
                debug!(%source, %error, "handshake dropped");
                None
            }
        }
    }

    fn admit(&self, pending: PendingRouter, source: SocketAddr, now: Time) -> Option<Vec<u8>> {
        let public = pending.public();
        let Some(router) = self.routers.get(&public) else {
            debug!(%source, router = %public, "handshake of a router that is not admitted");
            let known = self.routers.is_known(&public);
            return Some(pending.refuse(if known {
                Notice::Disabled
            } else {
                Notice::UnknownRouter
            }));
        };
        let mut table = lock(&self.table);
        let index = loop {
            let index = u32::from_be_bytes(self.random());
            if !table.by_index.contains_key(&index) {
                break index;
            }
        };
        let welcome = Welcome {
            egress: *lock(&self.egress),
            instance: self.instance,
            inner: self.inner.of(router.number()),
        };
        let (response, session) = match pending.accept(now, router.preshared_key(), index, welcome)
        {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(router = router.name(), %error, "handshake could not be answered");
                return None;
            }
        };
        debug!(router = router.name(), %source, index, suite = session.suite().name(), "handshake");
        let datagrams = session.datagram_keys();
        let session = ServerSession {
            tunnel: TunnelKeys::new(&session),
            driver: OnceLock::new(),
            session,
            router,
            flows: Arc::default(),
            datagrams: Mutex::new(datagrams),
            confirmed: AtomicBool::new(false),
        };
        table.by_index.insert(index, Arc::new(session));
        let of_router = table.by_router.entry(public).or_default();
        of_router.unconfirmed.push(index);
        let dropped = (of_router.unconfirmed.len() > MAX_UNCONFIRMED)
            .then(|| of_router.unconfirmed.remove(0));
        if let Some(index) = dropped {
            table.by_index.remove(&index);
        }
        Some(response)
    }

    /// The session that this end calls `index`, if it may still be used.
    pub(crate) fn get(&self, index: u32) -> Option<Arc<ServerSession>> {
        let session = lock(&self.table).by_index.get(&index).cloned()?;
        (!session.session.is_expired(self.clock.now()) && session.router.is_admitted())
            .then_some(session)
    }

    /// The router has used the session: it takes over from the one before.
    pub(crate) fn confirm(&self, session: &ServerSession, source: SocketAddr) {
        if session.confirmed.swap(true, Ordering::Relaxed) {
            return;
        }
        let now = self.clock.now();
        let index = session.session.local_index();
        let mut table = lock(&self.table);
        let of_router = table.by_router.entry(session.session.peer()).or_default();
        of_router.unconfirmed.retain(|&i| i != index);
        if let Some(old) = of_router.current.replace(index) {
            of_router.retiring.push((old, now + GRACE));
        }
        session.router.session_began(now, session.session.suite(), source);
    }

    /// Drops sessions that are over. To be called every now and then.
    pub(crate) fn sweep(&self) {
        let now = self.clock.now();
        let mut table = lock(&self.table);
        let Table { by_index, by_router } = &mut *table;
        by_router.retain(|public, of_router| {
            let known = self.routers.get(public).is_some();
            let is_over = |index: &u32| {
                !known
                    || by_index
                        .get(index)
                        .is_none_or(|s| s.session.is_expired(now) || !s.router.is_admitted())
            };
            let mut over = Vec::new();
            of_router.unconfirmed.retain(|index| keep(!is_over(index), *index, &mut over));
            of_router
                .retiring
                .retain(|(index, at)| keep(*at > now && !is_over(index), *index, &mut over));
            if of_router.current.is_some_and(|index| is_over(&index)) {
                over.extend(of_router.current.take());
                if let Some(router) = self.routers.seen(public) {
                    info!(router = router.name(), "router gone: its session has run out");
                    router.session_ended(now);
                }
            }
            for index in over {
                by_index.remove(&index);
            }
            of_router.current.is_some()
                || !of_router.unconfirmed.is_empty()
                || !of_router.retiring.is_empty()
        });
    }

    /// How many confirmed sessions each router has.
    pub(crate) fn by_router(&self) -> HashMap<PublicKey, u32> {
        let count = |of: &OfRouter| u32::from(of.current.is_some()) + of.retiring.len() as u32;
        lock(&self.table).by_router.iter().map(|(key, of)| (*key, count(of))).collect()
    }
}

fn keep(keep: bool, index: u32, over: &mut Vec<u32>) -> bool {
    if !keep {
        over.push(index);
    }
    keep
}

fn bytes<const N: usize>(random: &SystemRandom) -> [u8; N] {
    let mut out = [0; N];
    // The kernel's generator fails only where it does not exist; going on with zeros would be worse.
    random.fill(&mut out).expect("the kernel's random generator works");
    out
}
