//! The routers that are being served: their permits and figures, and their end when they are
//! removed.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tracing::info;
use wanbond_proto::Time;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::forward::Forwards;
use wanbond_proto::keys::{PresharedKey, PublicKey};
use wanbond_relay::Traffic;

use crate::directory::{Directory, RouterEntry};
use crate::limits::{Budget, FlowPermit, LanePermit, Refusal, RouterBudget};
use crate::usage::{self, Ledger, Month};

/// Addresses shown of a router: its WANs', and a few that it had before.
const ADDRESSES: usize = 16;

/// Flows of a router that this server itself serves at once: those of one test.
const MOST_SERVICES: usize = 8;

/// Room for a flow that this server itself serves.
pub(crate) struct ServicePermit<'a>(&'a AtomicUsize);

impl Drop for ServicePermit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All routers that have been seen since the start and are still admitted.
pub(crate) struct LiveRouters {
    directory: Arc<Directory>,
    budget: Arc<Budget>,
    ledger: Arc<Ledger>,
    live: Mutex<HashMap<PublicKey, Arc<LiveRouter>>>,
}

impl LiveRouters {
    pub(crate) fn new(
        directory: Arc<Directory>,
        budget: Arc<Budget>,
        ledger: Arc<Ledger>,
    ) -> Arc<Self> {
        Arc::new(Self { directory, budget, ledger, live: Mutex::default() })
    }

    /// The router with this key, if it is admitted and may move more this month.
    pub(crate) fn get(&self, key: &PublicKey) -> Option<Arc<LiveRouter>> {
        let entry = self.directory.admit(key)?;
        if self.is_exhausted(&entry) {
            return None;
        }
        let mut live = lock(&self.live);
        if let Some(router) = live.get(key).filter(|router| router.is_admitted()) {
            return Some(Arc::clone(router));
        }
        let budget = self.budget.router(*key, entry.limits);
        let router = Arc::new(LiveRouter::new(entry, budget));
        live.insert(*key, Arc::clone(&router));
        Some(router)
    }

    /// What routers have moved.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Bytes that a router may move in a month.
    pub(crate) fn monthly_limit(&self, entry: &RouterEntry) -> Option<u64> {
        self.budget.limits().router.overridden(&entry.limits).monthly
    }

    fn is_exhausted(&self, entry: &RouterEntry) -> bool {
        self.monthly_limit(entry)
            .is_some_and(|limit| self.ledger.of(&entry.public_key).total() >= limit)
    }

    /// Counts what routers have moved and ends those that have reached their limit; whether there
    /// were any.
    pub(crate) fn meter(&self, now: Month) -> bool {
        self.ledger.begin(now);
        let mut ended = false;
        lock(&self.live).retain(|key, router| {
            let (received, sent) = router.moved();
            self.ledger.count(*key, usage::Traffic { received, sent }, now);
            let entry = self.directory.admit(key);
            let exhausted = entry.is_some_and(|entry| self.is_exhausted(&entry));
            if exhausted {
                info!(
                    router = router.name(),
                    "monthly traffic used up: the router is refused until the next month"
                );
                router.revoked.send_replace(true);
                ended = true;
            }
            !exhausted
        });
        ended
    }

    /// Whether the directory has the key, even if disabled.
    pub(crate) fn is_known(&self, key: &PublicKey) -> bool {
        self.directory.snapshot().get(key).is_some()
    }

    /// The router with this key, if it has been seen.
    pub(crate) fn seen(&self, key: &PublicKey) -> Option<Arc<LiveRouter>> {
        lock(&self.live).get(key).cloned()
    }

    /// Ends what belongs to routers that are no longer admitted, whenever the directory changes.
    pub(crate) async fn follow_directory(&self, changed: impl Fn()) {
        let mut changes = self.directory.subscribe();
        while changes.changed().await.is_ok() {
            lock(&self.live).retain(|key, router| {
                if !self.directory.still_admits(&router.entry) {
                    info!(router = router.name(), "router removed or disabled: its sessions end");
                    router.revoked.send_replace(true);
                    return false;
                }
                if let Some(now) = self.directory.admit(key) {
                    router.budget.set_limits(now.limits);
                    *lock(&router.forwards) = Forwards::new(now.forwards.clone());
                }
                true
            });
            changed();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard stays valid after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One router, alive.
pub(crate) struct LiveRouter {
    entry: Arc<RouterEntry>,
    budget: Arc<RouterBudget>,
    revoked: watch::Sender<bool>,
    /// What flows carried.
    pub(crate) traffic: Traffic,
    /// What the tunnel's packets carried.
    pub(crate) packets: Traffic,
    pub(crate) flows_total: AtomicUsize,
    /// Flows of its that this server itself serves.
    services: AtomicUsize,
    standing: Mutex<Standing>,
    forwards: Mutex<Forwards>,
}

/// What is shown of a router.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    pub(crate) connected: bool,
    pub(crate) since: Option<Time>,
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl LiveRouter {
    fn new(entry: Arc<RouterEntry>, budget: Arc<RouterBudget>) -> Self {
        Self {
            forwards: Mutex::new(Forwards::new(entry.forwards.clone())),
            entry,
            budget,
            revoked: watch::Sender::new(false),
            traffic: Traffic::default(),
            packets: Traffic::default(),
            flows_total: AtomicUsize::new(0),
            services: AtomicUsize::new(0),
            standing: Mutex::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.entry.name
    }

    /// The number that its inner addresses follow from.
    pub(crate) fn number(&self) -> u32 {
        self.entry.inner
    }

    /// The ports that lead to it.
    pub(crate) fn forwards(&self) -> Forwards {
        lock(&self.forwards).clone()
    }

    pub(crate) fn preshared_key(&self) -> &PresharedKey {
        &self.entry.psk
    }

    /// Bytes from and to the router, in flows and packets.
    pub(crate) fn moved(&self) -> (u64, u64) {
        let sum = |a: &AtomicUsize, b: &AtomicUsize| {
            a.load(Ordering::Relaxed) as u64 + b.load(Ordering::Relaxed) as u64
        };
        // At the server, what comes from the lane came from the router.
        (
            sum(&self.traffic.received, &self.packets.received),
            sum(&self.traffic.sent, &self.packets.sent),
        )
    }

    pub(crate) fn is_admitted(&self) -> bool {
        !*self.revoked.borrow()
    }

    /// Returns when the router is no longer admitted.
    pub(crate) async fn revoked(&self) {
        // The sender lives in `self`.
        let _ = self.revoked.subscribe().wait_for(|&revoked| revoked).await;
    }

    pub(crate) fn admit_lane(&self) -> Result<LanePermit, Refusal> {
        self.budget.lane()
    }

    pub(crate) fn admit_flow(&self, now: Time) -> Result<FlowPermit, Refusal> {
        let permit = self.budget.flow(now)?;
        self.flows_total.fetch_add(1, Ordering::Relaxed);
        Ok(permit)
    }

    /// Room for one more flow that this server itself serves, while what is returned lives.
    pub(crate) fn admit_service(&self) -> Option<ServicePermit<'_>> {
        let permit = ServicePermit(&self.services);
        (self.services.fetch_add(1, Ordering::Relaxed) < MOST_SERVICES).then_some(permit)
    }

    pub(crate) fn budget(&self) -> &RouterBudget {
        &self.budget
    }

    pub(crate) fn standing(&self) -> Standing {
        lock(&self.standing).clone()
    }

    pub(crate) fn session_began(&self, now: Time, suite: Suite, source: SocketAddr) {
        let mut standing = lock(&self.standing);
        if !standing.connected {
            standing.connected = true;
            standing.since = Some(now);
            info!(router = self.name(), %source, cipher = suite.name(), "router connected");
        }
    }

    pub(crate) fn session_ended(&self, now: Time) {
        let mut standing = lock(&self.standing);
        standing.connected = false;
        standing.since = Some(now);
        standing.addresses.clear();
    }

    /// Something authentic came from this address.
    pub(crate) fn seen_at(&self, source: SocketAddr) {
        let mut standing = lock(&self.standing);
        let ip = source.ip().to_canonical();
        if !standing.addresses.contains(&ip) {
            if standing.addresses.len() == ADDRESSES {
                standing.addresses.pop_first();
            }
            standing.addresses.insert(ip);
        }
    }
}
