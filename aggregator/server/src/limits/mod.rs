//! What one router, one stranger and all together may take.
//!
//! Everything counted is a permit that gives back what it took when it is dropped, so nothing
//! leaks on any way out. A refusal says which limit it was, for the log, the status and the
//! router. Limits can be changed at any time: permits already given stay valid, new ones are
//! measured by the new numbers.

mod bucket;
mod config;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use thiserror::Error;
use wanbond_proto::Time;
use wanbond_proto::keys::PublicKey;

pub use bucket::TokenBucket;
pub use config::{EffectiveRouterLimits, Limits, LimitsSection, Machine, RouterLimits};

/// Which limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// All routers' flows together.
    #[error("the server has no room for more flows")]
    Flows,
    /// The router's flows.
    #[error("the router has no more flows left")]
    RouterFlows,
    /// The router's lanes.
    #[error("the router has no more lanes left")]
    RouterLanes,
    /// The router opens flows too fast; there is room again after so long.
    #[error("the router opens flows too fast")]
    OpenRate(Duration),
    /// All routers' buffers together.
    #[error("the server has no room for more buffers")]
    Buffers,
    /// The router's buffers.
    #[error("the router has no more buffers left")]
    RouterBuffers,
    /// Connections without proof, in all.
    #[error("too many connections that have not proved who they are")]
    Unproven,
    /// Connections without proof from one address.
    #[error("too many connections from one address that have not proved who they are")]
    UnprovenPerAddress,
}

impl Refusal {
    /// The limit's name in status documents.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flows => "flow_limit",
            Self::RouterFlows => "router_flow_limit",
            Self::RouterLanes => "router_lane_limit",
            Self::OpenRate(_) => "router_open_rate",
            Self::Buffers => "buffer_limit",
            Self::RouterBuffers => "router_buffer_limit",
            Self::Unproven => "unproven_limit",
            Self::UnprovenPerAddress => "unproven_address_limit",
        }
    }
}

/// A number that never passes a bound: of things in memory, so the machine's own width is enough.
#[derive(Debug, Default)]
struct Gauge(AtomicUsize);

impl Gauge {
    fn take(&self, amount: u64, most: u64) -> bool {
        let Ok(amount) = usize::try_from(amount) else { return false };
        let add = |now: usize| now.checked_add(amount).filter(|&sum| sum as u64 <= most);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    fn give_back(&self, amount: u64) {
        // It was taken, so it fits.
        self.0.fetch_sub(usize::try_from(amount).unwrap_or_default(), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed) as u64
    }
}

/// All counters of the server; share it in an [`Arc`].
#[derive(Debug)]
pub struct Budget {
    limits: RwLock<Limits>,
    flows: Gauge,
    buffers: Gauge,
    unproven: Mutex<Unproven>,
    // Weak: a router that is gone takes no memory. Swept when the map has doubled.
    routers: Mutex<HashMap<PublicKey, Weak<RouterBudget>>>,
}

#[derive(Debug, Default)]
struct Unproven {
    total: u32,
    by_source: HashMap<IpAddr, u32>,
}

impl Budget {
    /// Counters at zero.
    #[must_use]
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(limits),
            flows: Gauge::default(),
            buffers: Gauge::default(),
            unproven: Mutex::default(),
            routers: Mutex::default(),
        })
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts other limits in force.
    pub fn set_limits(&self, limits: Limits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Flows of all routers now.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.flows.get()
    }

    /// Bytes in buffers of all routers now.
    #[must_use]
    pub fn buffers(&self) -> u64 {
        self.buffers.get()
    }

    /// Connections without proof now.
    #[must_use]
    pub fn unproven_connections(&self) -> u32 {
        lock(&self.unproven).total
    }

    /// The counters of one router, the same for all its sessions, with its limits set anew.
    pub fn router(self: &Arc<Self>, key: PublicKey, own: RouterLimits) -> Arc<RouterBudget> {
        let mut routers = lock(&self.routers);
        if let Some(router) = routers.get(&key).and_then(Weak::upgrade) {
            router.set_limits(own);
            return router;
        }
        if routers.len() == routers.capacity() {
            routers.retain(|_, router| router.strong_count() > 0);
        }
        let router = Arc::new(RouterBudget {
            server: Arc::clone(self),
            own: RwLock::new(own),
            flows: Gauge::default(),
            lanes: Gauge::default(),
            buffers: Gauge::default(),
            opens: Mutex::new(None),
        });
        routers.insert(key, Arc::downgrade(&router));
        router
    }

    /// Room for a connection that has not proved who it is. Drop the permit when it has, or when
    /// it ends.
    ///
    /// # Errors
    /// [`Refusal::Unproven`] or [`Refusal::UnprovenPerAddress`].
    pub fn unproven(self: &Arc<Self>, from: IpAddr) -> Result<UnprovenPermit, Refusal> {
        let limits = self.limits();
        let source = source_of(from);
        let mut unproven = lock(&self.unproven);
        if unproven.total >= limits.unproven {
            return Err(Refusal::Unproven);
        }
        let count = unproven.by_source.entry(source).or_default();
        if *count >= limits.unproven_per_address {
            return Err(Refusal::UnprovenPerAddress);
        }
        *count += 1;
        unproven.total += 1;
        Ok(UnprovenPermit { server: Arc::clone(self), source })
    }
}

/// Who is one stranger: an IPv4 address, or an IPv6 /64, which is the least a site is given.
fn source_of(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection that has not proved who it is.
#[derive(Debug)]
#[must_use]
pub struct UnprovenPermit {
    server: Arc<Budget>,
    source: IpAddr,
}

impl Drop for UnprovenPermit {
    fn drop(&mut self) {
        let mut unproven = lock(&self.server.unproven);
        unproven.total -= 1;
        if let Some(count) = unproven.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                unproven.by_source.remove(&self.source);
            }
        }
    }
}

/// The counters of one router.
#[derive(Debug)]
pub struct RouterBudget {
    server: Arc<Budget>,
    own: RwLock<RouterLimits>,
    flows: Gauge,
    lanes: Gauge,
    buffers: Gauge,
    opens: Mutex<Option<TokenBucket>>,
}

impl RouterBudget {
    /// The limits in force for this router.
    #[must_use]
    pub fn limits(&self) -> EffectiveRouterLimits {
        let own = *self.own.read().unwrap_or_else(PoisonError::into_inner);
        self.server.limits().router.overridden(&own)
    }

    /// Puts other limits of its own in force.
    pub fn set_limits(&self, own: RouterLimits) {
        *self.own.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// Its flows now.
    #[must_use]
    pub fn flows(&self) -> u64 {
        self.flows.get()
    }

    /// Its lanes now.
    #[must_use]
    pub fn lanes(&self) -> u64 {
        self.lanes.get()
    }

    /// Bytes in its buffers now.
    #[must_use]
    pub fn buffers(&self) -> u64 {
        self.buffers.get()
    }

    /// Room for a lane.
    ///
    /// # Errors
    /// [`Refusal::RouterLanes`].
    pub fn lane(self: &Arc<Self>) -> Result<LanePermit, Refusal> {
        if !self.lanes.take(1, self.limits().lanes.into()) {
            return Err(Refusal::RouterLanes);
        }
        Ok(LanePermit { router: Arc::clone(self) })
    }

    /// Room for a flow opened at `now`.
    ///
    /// # Errors
    /// [`Refusal::RouterFlows`], [`Refusal::Flows`] or [`Refusal::OpenRate`]. A flow refused for
    /// want of room costs no token.
    pub fn flow(self: &Arc<Self>, now: Time) -> Result<FlowPermit, Refusal> {
        let limits = self.limits();
        if !self.flows.take(1, limits.flows.into()) {
            return Err(Refusal::RouterFlows);
        }
        if !self.server.flows.take(1, self.server.limits().flows.into()) {
            self.flows.give_back(1);
            return Err(Refusal::Flows);
        }
        // From here on the permit gives both back.
        let permit = FlowPermit { router: Arc::clone(self) };
        lock(&self.opens)
            .get_or_insert_with(|| TokenBucket::full(limits.open_burst, now))
            .take(now, limits.opens_per_second, limits.open_burst)
            .map_err(Refusal::OpenRate)?;
        Ok(permit)
    }

    /// Room for `bytes` in buffers.
    ///
    /// # Errors
    /// [`Refusal::RouterBuffers`] or [`Refusal::Buffers`].
    pub fn buffer(self: &Arc<Self>, bytes: u64) -> Result<BufferPermit, Refusal> {
        let mut permit = BufferPermit { router: Arc::clone(self), bytes: 0 };
        permit.resize(bytes)?;
        Ok(permit)
    }
}

/// Room for one lane.
#[derive(Debug)]
#[must_use]
pub struct LanePermit {
    router: Arc<RouterBudget>,
}

impl Drop for LanePermit {
    fn drop(&mut self) {
        self.router.lanes.give_back(1);
    }
}

/// Room for one flow.
#[derive(Debug)]
#[must_use]
pub struct FlowPermit {
    router: Arc<RouterBudget>,
}

impl Drop for FlowPermit {
    fn drop(&mut self) {
        self.router.flows.give_back(1);
        self.router.server.flows.give_back(1);
    }
}

/// Room for bytes in buffers.
#[derive(Debug)]
#[must_use]
pub struct BufferPermit {
    router: Arc<RouterBudget>,
    bytes: u64,
}

impl BufferPermit {
    /// How many bytes it is for.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it one for `bytes`; less always works.
    ///
    /// # Errors
    /// [`Refusal::RouterBuffers`] or [`Refusal::Buffers`]; the permit is as before then.
    pub fn resize(&mut self, bytes: u64) -> Result<(), Refusal> {
        let router = &self.router;
        if let Some(more) = bytes.checked_sub(self.bytes) {
            if !router.buffers.take(more, router.limits().buffers) {
                return Err(Refusal::RouterBuffers);
            }
            if !router.server.buffers.take(more, router.server.limits().buffers) {
                router.buffers.give_back(more);
                return Err(Refusal::Buffers);
            }
        } else {
            let less = self.bytes - bytes;
            router.buffers.give_back(less);
            router.server.buffers.give_back(less);
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for BufferPermit {
    fn drop(&mut self) {
        self.router.buffers.give_back(self.bytes);
        self.router.server.buffers.give_back(self.bytes);
    }
}

// What is counted stays right even if a thread died with the lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
