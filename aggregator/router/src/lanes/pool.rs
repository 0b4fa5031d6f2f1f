//! The idle lanes.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use wanbond_relay::boxed;

use socket2::SockRef;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, trace};
use wanbond_control::words::MptcpState;
use wanbond_linux::socket::{TcpState, mptcp_info, subflows};
use wanbond_proto::Time;
use wanbond_proto::wan::State;
use wanbond_relay::LaneStream;

use super::Lane;
use super::connect::{NotReady, open, open_stream, open_warm, streams_for};
use super::demand::Demand;
use crate::link::LinkHint;
use crate::shared::{Shared, count};

/// Lanes that are being warmed at once: a burst must not crowd out the flows it is for.
const WARMING: usize = 8;
/// Pause after a lane could not be opened.
const AFTER_FAILURE: Duration = Duration::from_millis(300);
/// Between looks at idle lanes. The kernel tells of a closed one when it is taken, so this is
/// only to have the memory back.
const TIDY: Duration = Duration::from_secs(15);
/// Idle lanes above the target are closed slowly: the next burst may be near.
const CLOSE_SHARE: usize = 4;
/// A lane that lacks a subflow is left this long for the kernel to join the WAN.
const JOIN_TIME: Duration = Duration::from_secs(3);

/// No lane could be had in time.
#[derive(Debug, Error)]
#[error("no lane to the server: {0}")]
pub(crate) struct LaneUnavailable(#[from] io::Error);

/// The idle lanes, and figures on all of them.
#[derive(Default)]
pub(crate) struct LanePool {
    idle: Mutex<Vec<Lane>>,
    demand: Mutex<Demand>,
    /// Tells the keeper that a lane was taken, or that WANs or the session changed.
    changed: Notify,
    busy: Mutex<BTreeMap<u8, u32>>,
    /// Every lane's connection, to be looked at, and when it was opened.
    all: Mutex<Vec<(Weak<TcpStream>, Time)>>,
    pub(crate) opened: AtomicUsize,
    pub(crate) reused: AtomicUsize,
    pub(crate) failed: AtomicUsize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard stays valid after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lane in use; counted as busy while it lives.
pub(crate) struct BusyLane {
    lane: Option<Lane>,
    shared: Arc<Shared>,
}

impl std::ops::Deref for BusyLane {
    type Target = Lane;

    fn deref(&self) -> &Lane {
        self.lane.as_ref().expect("a busy lane holds its lane until it is given back")
    }
}

impl std::ops::DerefMut for BusyLane {
    fn deref_mut(&mut self) -> &mut Lane {
        self.lane.as_mut().expect("a busy lane holds its lane until it is given back")
    }
}

impl BusyLane {
    fn new(lane: Lane, shared: &Arc<Shared>) -> Self {
        *lock(&shared.lanes.busy).entry(lane.path.number()).or_default() += 1;
        Self { lane: Some(lane), shared: Arc::clone(shared) }
    }

    /// Its connection, for a flow that keeps it to its end.
    pub(crate) fn into_stream(mut self) -> LaneStream {
        let lane = self.lane.take().expect("a busy lane holds its lane until it is given back");
        self.shared.lanes.release(lane.path.number());
        lane.stream
    }

    /// Gives the lane back for the next flow; what it carried must be over on both ends.
    pub(crate) fn give_back(mut self) {
        if let Some(mut lane) = self.lane.take() {
            let shared = Arc::clone(&self.shared);
            shared.lanes.release(lane.path.number());
            if lane.stream.carrier().is_stream() {
                // The next one costs nothing.
                lane.stream.finish();
                return;
            }
            lane.reused = true;
            if lane.stream.is_usable() {
                lock(&shared.lanes.idle).push(lane);
                shared.lanes.changed.notify_one();
            }
        }
    }
}

impl Drop for BusyLane {
    fn drop(&mut self) {
        if let Some(lane) = self.lane.take() {
            self.shared.lanes.release(lane.path.number());
            count(&self.shared.lanes.failed);
            self.shared.lanes.changed.notify_one();
        }
    }
}

impl LanePool {
    fn release(&self, path: u8) {
        if let Some(count) = lock(&self.busy).get_mut(&path) {
            *count = count.saturating_sub(1);
        }
    }

    /// Lanes waiting.
    pub(crate) fn idle(&self) -> usize {
        lock(&self.idle).len()
    }

    /// Lanes carrying a flow.
    pub(crate) fn busy(&self) -> u32 {
        lock(&self.busy).values().sum()
    }

    /// How many lanes should wait.
    pub(crate) fn target(&self, shared: &Shared) -> usize {
        lock(&self.demand).target(shared.clock.now())
    }

    /// A lane was opened.
    fn note_opened(&self, lane: &Lane) {
        count(&self.opened);
        let mut all = lock(&self.all);
        if all.len() == all.capacity() {
            all.retain(|(stream, _)| stream.strong_count() > 0);
        }
        all.push((lane.stream.carrier().watch(), lane.opened));
    }

    /// How many lanes have a subflow from each local address. Asks the kernel about every lane.
    pub(crate) fn subflows_by_address(&self) -> BTreeMap<IpAddr, u32> {
        let mut counts = BTreeMap::new();
        let lanes: Vec<_> = lock(&self.all).iter().filter_map(|(lane, _)| lane.upgrade()).collect();
        for lane in lanes {
            let joined = subflows(&*lane).unwrap_or_default();
            let plain = if joined.is_empty() { lane.local_addr().ok() } else { None };
            for address in joined.iter().map(|subflow| subflow.local).chain(plain) {
                *counts.entry(address.ip().to_canonical()).or_default() += 1;
            }
        }
        counts
    }

    /// How many MPTCP lanes have no subflow from any of a WAN's addresses, though they have had the
    /// time to join it and could. Asks the kernel about every lane.
    pub(crate) fn lacking(&self, now: Time, sources: &[IpAddr]) -> usize {
        let old = |opened: Time| now.since(opened) >= JOIN_TIME;
        let lanes: Vec<_> = lock(&self.all)
            .iter()
            .filter(|(_, opened)| old(*opened))
            .filter_map(|(lane, _)| lane.upgrade())
            .collect();
        let lacks = |lane: &Arc<TcpStream>| {
            let joined = subflows(lane).unwrap_or_default();
            let family = |ip: &IpAddr| joined.iter().any(|s| s.remote.is_ipv4() == ip.is_ipv4());
            let has = |ip: &IpAddr| {
                joined.iter().any(|s| s.local.ip() == *ip && s.tcp.state == TcpState::Established)
            };
            sources.iter().any(family) && !sources.iter().any(has)
        };
        lanes.iter().filter(|lane| lacks(lane)).count()
    }

    /// Of the time in which lanes had something to send, the share in which they waited for the
    /// server's receive window, percent.
    pub(crate) fn window_limited_percent(&self) -> Option<u8> {
        let lanes: Vec<_> = lock(&self.all).iter().filter_map(|(lane, _)| lane.upgrade()).collect();
        let (mut busy, mut limited) = (0u64, 0u64);
        for subflow in lanes.iter().flat_map(|lane| subflows(lane).unwrap_or_default()) {
            busy = busy.saturating_add(subflow.tcp.busy_us.unwrap_or(0));
            limited = limited.saturating_add(subflow.tcp.rwnd_limited_us.unwrap_or(0));
        }
        let share = limited.saturating_mul(100).checked_div(busy)?;
        Some(u8::try_from(share).unwrap_or(100).min(100))
    }

    /// Lanes by the path they were opened on.
    pub(crate) fn by_path(&self) -> BTreeMap<u8, u32> {
        let mut counts = lock(&self.busy).clone();
        for lane in lock(&self.idle).iter() {
            *counts.entry(lane.path.number()).or_default() += 1;
        }
        counts
    }

    /// WANs or the session have changed: look whether the idle lanes still fit.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Closes every idle lane: the server went away, or the daemon stops.
    pub(crate) fn close_idle(&self) {
        lock(&self.idle).clear();
    }

    /// Ends every lane, those with flows as well: they lead to a server that is not used any more.
    pub(crate) fn end_all(&self) {
        self.close_idle();
        for (lane, _) in lock(&self.all).drain(..) {
            if let Some(lane) = lane.upgrade() {
                // Whoever waits for it hears that it has ended. What is closed already stays so.
                let _ = SockRef::from(&*lane).shutdown(Shutdown::Both);
            }
        }
    }

    /// The lane that was used last: its window is the most open.
    fn take_idle(&self, shared: &Shared) -> Option<Lane> {
        loop {
            let mut lane = lock(&self.idle).pop()?;
            if lane.stream.is_usable() && fits(shared, &lane) {
                return Some(lane);
            }
        }
    }

    /// A lane for a flow: an idle one, or a new one.
    ///
    /// # Errors
    /// [`LaneUnavailable`] if none could be had until `deadline`.
    pub(crate) async fn take(
        &self,
        shared: &Arc<Shared>,
        deadline: Instant,
    ) -> Result<BusyLane, LaneUnavailable> {
        lock(&self.demand).opened(shared.clock.now());
        loop {
            let failed = match self.try_take(shared, deadline).await {
                Ok(lane) => return Ok(BusyLane::new(lane, shared)),
                Err(failed) => failed,
            };
            count(&self.failed);
            if Instant::now() + AFTER_FAILURE >= deadline {
                return Err(failed.into());
            }
            // A session may be being made, a WAN coming up.
            let mut sessions = shared.sessions.subscribe();
            let mut wans = shared.wans.subscribe();
            tokio::select! {
                _ = sessions.changed() => {}
                _ = wans.changed() => {}
                () = sleep(AFTER_FAILURE) => {}
            }
        }
    }

    /// A stream of the tunnel, whatever the flows of these days ride on.
    ///
    /// # Errors
    /// There is no tunnel.
    pub(crate) fn stream(&self, shared: &Arc<Shared>) -> io::Result<BusyLane> {
        Ok(BusyLane::new(open_stream(shared)?, shared))
    }

    async fn try_take(&self, shared: &Arc<Shared>, deadline: Instant) -> io::Result<Lane> {
        if streams_for(shared).is_some()
            && let Ok(lane) = open_stream(shared)
        {
            return Ok(lane);
        }
        if let Some(lane) = self.take_idle(shared) {
            count(&self.reused);
            self.changed.notify_one();
            return Ok(lane);
        }
        let mut sessions = shared.sessions.subscribe();
        if shared.sessions.current().is_none() {
            timeout_at(deadline, sessions.changed())
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?
                .map_err(io::Error::other)?;
        }
        let lane = timeout_at(deadline, open(shared))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        self.note_opened(&lane);
        Ok(lane)
    }
}

/// Whether an idle lane may be used: a plain one only while its WAN lives; one that came to be
/// while a WAN was away only until the kernel had its time to join that WAN.
fn fits(shared: &Shared, lane: &Lane) -> bool {
    let wans = shared.wans.borrow();
    let living = |wan: &&crate::shared::WanView| wan.state == State::Up && wan.is_linked();
    let all_dead = wans.iter().filter(living).count() == 0;
    match lane.mptcp {
        // Its first subflow would go on over a WAN that costs money and is not needed.
        MptcpState::Working => !wans.iter().any(|wan| wan.path == lane.path && wan.spared),
        _ => all_dead || wans.iter().filter(living).any(|wan| wan.path == lane.path),
    }
}

/// Whether an idle MPTCP lane has fewer subflows than there are living WANs.
fn lacks_subflows(shared: &Shared, lane: &Lane) -> bool {
    if lane.mptcp != MptcpState::Working || shared.clock.now().since(lane.opened) < JOIN_TIME {
        return false;
    }
    let living = shared.wans.borrow().iter().filter(|wan| wan.joins_lanes()).count();
    let subflows = lane
        .stream
        .carrier()
        .socket()
        .and_then(|socket| mptcp_info(socket).ok().flatten())
        .map(|info| info.subflows);
    subflows.is_some_and(|subflows| usize::from(subflows) < living)
}

/// Keeps the right number of idle lanes, for as long as it is polled.
pub(crate) async fn keep_warm(shared: Arc<Shared>) {
    let pool = &shared.lanes;
    let mut warming = JoinSet::new();
    let mut not_before = Instant::now();
    let mut tidy_at = Instant::now() + TIDY;
    loop {
        if Instant::now() >= tidy_at {
            let lacking = tidy(&shared);
            tidy_at = Instant::now() + if lacking { JOIN_TIME } else { TIDY };
        }
        let ready = shared.sessions.current().is_some()
            && shared.wans.borrow().iter().any(|wan| wan.state == State::Up);
        let missing = pool.target(&shared).saturating_sub(pool.idle() + warming.len());
        if ready && Instant::now() >= not_before {
            for _ in 0..missing.min(WARMING.saturating_sub(warming.len())) {
                let shared = Arc::clone(&shared);
                warming.spawn(boxed(async move { open_warm(&shared, None).await }));
            }
        }
        let retry = (ready && missing > 0 && not_before > Instant::now()).then_some(not_before);
        let tidy = (pool.idle() > 0).then_some(tidy_at);
        let wake = [retry, tidy].into_iter().flatten().min();
        tokio::select! {
            () = pool.changed.notified() => tidy_at = tidy_at.min(Instant::now() + JOIN_TIME),
            Some(joined) = warming.join_next() => match joined {
                Ok(Ok(lane)) => {
                    pool.note_opened(&lane);
                    trace!(path = lane.path.number(), "lane warm");
                    lock(&pool.idle).insert(0, lane);
                }
                Ok(Err(error)) => {
                    count(&pool.failed);
                    debug!(%error, "lane not opened");
                    tell_link(&shared, error);
                    not_before = Instant::now() + AFTER_FAILURE;
                }
                Err(error) => debug!(%error, "opening a lane panicked"),
            },
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
    }
}

/// Passes an "unknown session" that a lane brought on to whom it concerns.
fn tell_link(shared: &Shared, error: io::Error) {
    if let Some(inner) = error.into_inner()
        && let Ok(not_ready) = inner.downcast::<NotReady>()
        && let Some(message) = not_ready.0
    {
        let _ = shared.link.try_send(LinkHint::Message(message));
    }
}

/// Drops idle lanes that are closed or don't fit, and a share of those above the target. `true` if
/// some are left that have not been joined by every WAN.
fn tidy(shared: &Shared) -> bool {
    let target = shared.lanes.target(shared);
    let mut idle = lock(&shared.lanes.idle);
    idle.retain_mut(|lane| lane.stream.is_usable() && fits(shared, lane));
    let before = idle.len();
    // Half at a time: a WAN that is slow to join must not cost all lanes at once.
    let mut allowed = before.div_ceil(2);
    let mut left = false;
    idle.retain(|lane| {
        let lacks = lacks_subflows(shared, lane);
        let drop = lacks && allowed > 0;
        allowed -= usize::from(drop);
        left |= lacks && !drop;
        !drop
    });
    if idle.len() < before {
        shared.lanes.changed.notify_one();
    }
    let above = idle.len().saturating_sub(target);
    // The front holds those unused for longest.
    idle.drain(..above.div_ceil(CLOSE_SHARE));
    left
}

/// Tries whether TCP gets through over a WAN on which UDP has not been answered. The lane, if it
/// comes about, joins the pool.
pub(crate) async fn try_wan(shared: Arc<Shared>, wan: crate::shared::WanView) {
    match open_warm(&shared, Some(wan)).await {
        Ok(lane) => {
            shared.lanes.note_opened(&lane);
            lock(&shared.lanes.idle).insert(0, lane);
        }
        Err(error) => tell_link(&shared, error),
    }
}
