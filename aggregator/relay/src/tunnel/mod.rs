//! Drives a [`Tunnel`]: keys, sockets and time for the pure machine; the same at both ends.
//!
//! ```text
//! TUN reader ──▶ handle_packets ─┐                     ┌─ UDP readers: open outside the lock
//!                                ▼                     ▼
//!                        core (one lock) ◀────────── receive
//!                          │         │
//!                          │         └─▶ deliver: packets to the sink (TUN), in batches
//!                          └─▶ pump: poll, seal outside the lock, send in batches
//! ```
//!
//! Whoever has changed something delivers and pumps, so that nothing is handed from task to task;
//! the timer task pumps when time alone changes something. Only where a reader has more to read at
//! once and there is a second core does a helper do so instead, beside the reader.

pub mod device;
mod gather;
mod helper;
mod outbox;
mod stream;
mod timer;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use tracing::{debug, trace};
use wanbond_proto::Time;
use wanbond_proto::datagram::{
    MAX_PATHS, PathId, TunnelOpener, TunnelSealer, TunnelWindows, index_of,
};
use wanbond_proto::session::{Role, Session};
use wanbond_proto::tunnel::{
    PathFigures, Standing, Tunnel, TunnelConfig, TunnelEvent, TunnelFigures,
};

use crate::clock::Clock;
use crate::tcp::TcpEnd;
use crate::udp::UdpEnd;

use helper::Helper;
use outbox::Outbox;
use stream::{StreamTable, Wake};
use timer::Timer;

pub use stream::TunnelStream;

/// IP and UDP header, bytes.
const OVERHEAD_V4: u16 = 28;
const OVERHEAD_V6: u16 = 48;
/// What a TCP header with time stamps and a frame's head have more than a UDP header.
const OVERHEAD_TCP: u16 = 32 + 4 - 8;
const USUAL_MTU: u16 = 1500;
/// The largest packet that goes into the tunnel, bytes: fits whole into one datagram where links
/// take 1476 bytes and more, and is split below.
pub const TUN_MTU: u16 = 1400;

/// Takes what comes through the tunnel.
pub trait TunnelSink: Send + Sync {
    /// Takes all `packets`, in this order; their buffers stay. Must not use the tunnel.
    fn deliver(&self, packets: &[Vec<u8>]);

    /// The router has opened a stream.
    fn opened(&self, stream: TunnelStream) {
        drop(stream);
    }

    /// The tunnel has noticed something, such as a path that does not answer.
    fn noticed(&self, event: TunnelEvent) {
        let _ = event;
    }
}

/// What a path's datagrams go out through.
#[derive(Clone)]
pub enum PathEnd {
    /// A UDP socket.
    Udp(Arc<UdpEnd>),
    /// A TCP connection, where UDP is blocked.
    Tcp(Arc<TcpEnd>),
}

impl PathEnd {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Udp(a), Self::Udp(b)) => Arc::ptr_eq(a, b),
            (Self::Tcp(a), Self::Tcp(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// Where a path's datagrams go out.
#[derive(Clone)]
pub struct PathSocket {
    /// The socket or connection.
    pub end: PathEnd,
    /// The peer.
    pub destination: SocketAddr,
    /// The own address to send from, where a UDP socket has several.
    pub source: Option<IpAddr>,
}

impl PathSocket {
    fn is_same_way(&self, other: &Self) -> bool {
        self.end.is(&other.end)
            && self.destination.ip() == other.destination.ip()
            && self.source == other.source
    }

    fn overhead(&self) -> u16 {
        // An IPv4 peer of an IPv6 socket is still reached by IPv4.
        let ip = self.destination.ip().to_canonical();
        let udp = if ip.is_ipv4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
        match self.end {
            PathEnd::Udp(_) => udp,
            PathEnd::Tcp(_) => udp + OVERHEAD_TCP,
        }
    }

    /// The largest datagram that may pass. TCP cuts its segments by itself.
    fn largest(&self, mtu: u16) -> u16 {
        match self.end {
            PathEnd::Udp(_) => mtu.saturating_sub(self.overhead()),
            PathEnd::Tcp(_) => USUAL_MTU - OVERHEAD_V4,
        }
    }

    fn most_segments(&self) -> usize {
        match &self.end {
            PathEnd::Udp(udp) => udp.most_segments(),
            PathEnd::Tcp(_) => usize::MAX,
        }
    }

    /// Sends `contents`, datagrams of `segment` bytes each (the last may be shorter). `false` if they
    /// were not taken: as if lost on the way.
    pub fn send(&self, contents: &[u8], segment: Option<usize>) -> bool {
        match &self.end {
            PathEnd::Udp(udp) => udp.send(self.destination, self.source, contents, segment),
            PathEnd::Tcp(tcp) => tcp.send(contents, segment),
        }
    }
}

/// One session's keys for the tunnel.
pub struct TunnelKeys {
    opener: TunnelOpener,
    windows: Mutex<TunnelWindows>,
    /// Until a tunnel uses the session.
    sealer: Mutex<Option<TunnelSealer>>,
    fresh: AtomicBool,
}

impl TunnelKeys {
    /// The keys of `session`. To be made once per session.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        let (sealer, opener) = session.tunnel_keys();
        Self {
            opener,
            windows: Mutex::default(),
            sealer: Mutex::new(Some(sealer)),
            fresh: AtomicBool::new(true),
        }
    }
}

struct Core {
    tunnel: Tunnel,
    streams: StreamTable,
}

/// A tunnel with its sockets.
pub struct TunnelDriver {
    own: Weak<Self>,
    role: Role,
    clock: Clock,
    core: Mutex<Core>,
    paths: Mutex<[Option<PathSocket>; MAX_PATHS]>,
    outbox: Mutex<Outbox>,
    /// Somebody wanted to pump while another did.
    again: AtomicBool,
    /// Packets on their way to the sink. Whoever has the lock delivers, so that they keep their
    /// order; what was delivered stays in here until its buffers go back to the core.
    delivery: Mutex<Vec<Vec<u8>>>,
    helper: Helper,
    timer: Timer,
    sink: Box<dyn TunnelSink>,
}

/// Sorts the tunnel's datagrams by the session they are for.
pub fn by_session<'a>(
    mut datagrams: Vec<&'a mut [u8]>,
    mut each: impl FnMut(u32, Vec<&'a mut [u8]>),
) {
    while let Some(index) = datagrams.first().and_then(|first| index_of(first)) {
        // Nearly always all of them.
        if datagrams.iter().all(|datagram| index_of(datagram) == Some(index)) {
            return each(index, datagrams);
        }
        let (these, others) =
            datagrams.into_iter().partition(|datagram| index_of(datagram) == Some(index));
        datagrams = others;
        each(index, these);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard stays valid after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TunnelDriver {
    /// A tunnel without paths. Its timer runs until the last reference to it goes.
    #[must_use]
    pub fn start(
        role: Role,
        clock: Clock,
        config: &TunnelConfig,
        sink: Box<dyn TunnelSink>,
    ) -> Arc<Self> {
        let driver = Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            role,
            clock,
            core: Mutex::new(Core {
                tunnel: Tunnel::new(role, clock.now(), config),
                streams: StreamTable::default(),
            }),
            paths: Mutex::default(),
            outbox: Mutex::default(),
            again: AtomicBool::new(false),
            delivery: Mutex::default(),
            helper: Helper::default(),
            timer: Timer::default(),
            sink,
        });
        timer::run(&driver);
        helper::run(&driver);
        driver
    }

    /// Sends by this session from now on.
    pub fn use_session(&self, keys: &TunnelKeys) {
        keys.fresh.store(false, Ordering::Relaxed);
        if let Some(sealer) = lock(&keys.sealer).take() {
            lock(&self.outbox).set_sealer(sealer);
            self.pump();
        }
    }

    /// A path goes over this socket now. `mtu`: of its link, bytes of IP packet. Nothing changes if
    /// it did so before.
    pub fn set_path(&self, id: PathId, socket: PathSocket, mtu: u16) {
        {
            let mut paths = lock(&self.paths);
            let place = &mut paths[usize::from(id.number())];
            let same = place.as_ref().is_some_and(|old| old.is_same_way(&socket));
            let (overhead, largest) = (socket.overhead(), socket.largest(mtu));
            *place = Some(socket);
            if same {
                return;
            }
            let now = self.clock.now();
            lock(&self.core).tunnel.set_path(now, id, overhead, largest);
        }
        self.pump();
    }

    /// A path's link is gone.
    pub fn path_lost(&self, id: PathId) {
        let had = lock(&self.paths)[usize::from(id.number())].take();
        if had.is_some() {
            lock(&self.core).tunnel.path_lost(self.clock.now(), id);
            self.pump();
        }
    }

    /// A connection is gone, and the paths that went over it.
    pub fn end_lost(&self, end: &PathEnd) {
        let mut lost = Vec::new();
        for (number, place) in (0..).zip(lock(&self.paths).iter_mut()) {
            if place.take_if(|socket| socket.end.is(end)).is_some() {
                lost.extend(PathId::new(number));
            }
        }
        for &id in &lost {
            lock(&self.core).tunnel.path_lost(self.clock.now(), id);
        }
        if !lost.is_empty() {
            self.pump();
        }
    }

    /// Whoever knows better says that nothing comes through a path any more. It may answer again.
    pub fn path_silent(&self, id: PathId) {
        lock(&self.core).tunnel.path_lost(self.clock.now(), id);
        self.pump();
    }

    /// What a path is to be used for.
    pub fn set_standing(&self, id: PathId, standing: Standing) {
        lock(&self.core).tunnel.set_standing(self.clock.now(), id, standing);
        self.pump();
    }

    /// Takes datagrams that came from one source, by `way` back. Others than the tunnel's are to
    /// be sorted out before. `true` if any was authentic: [`Self::settle`] is then to be called,
    /// once for all that were received together.
    pub fn receive<'a>(
        &self,
        keys: &TunnelKeys,
        way: &PathSocket,
        datagrams: impl Iterator<Item = &'a mut [u8]>,
    ) -> bool {
        let mut opened: Vec<(PathId, u64, &mut [u8])> = datagrams
            .filter_map(|datagram| match keys.opener.open(datagram) {
                Ok(opened) => Some(opened),
                Err(error) => {
                    trace!(from = %way.destination, %error, "tunnel datagram dropped");
                    None
                }
            })
            .collect();
        let mut roamed = None;
        {
            let mut windows = lock(&keys.windows);
            opened.retain(|&(path, number, _)| match windows.accept(path, number) {
                None => false,
                Some(newest) => {
                    if newest {
                        roamed = Some(path);
                    }
                    true
                }
            });
        }
        if opened.is_empty() {
            return false;
        }
        if keys.fresh.load(Ordering::Relaxed) {
            self.use_session(keys);
        }
        if let (Role::Server, Some(path)) = (self.role, roamed) {
            self.follow(path, way);
        }
        let mut core = lock(&self.core);
        let now = self.clock.now();
        for (path, number, body) in opened {
            if let Err(error) = core.tunnel.handle_datagram(now, path, number, body) {
                debug!(from = %way.destination, %error, "tunnel datagram");
            }
        }
        true
    }

    /// Hands over what has become ready and sends what has become due. `more`: the caller has more
    /// to read at once, and a helper may do it meanwhile.
    pub fn settle(&self, more: bool) {
        if more && self.helper.takes_over() {
            return;
        }
        // Where the helper is still at it, this waits: nothing piles up.
        self.deliver();
        self.pump();
    }

    /// Something authentic and new of the router's has come by `way`, though not of its tunnel: a NAT
    /// that has given it another address while the tunnel was idle shows so first.
    pub fn heard(&self, id: PathId, way: &PathSocket) {
        let elsewhere = lock(&self.paths)[usize::from(id.number())]
            .as_ref()
            .is_some_and(|old| old.end.is(&way.end) && old.destination != way.destination);
        if elsewhere {
            self.follow(id, way);
        }
    }

    /// The router's address on a path is another.
    fn follow(&self, id: PathId, way: &PathSocket) {
        let known = lock(&self.paths)[usize::from(id.number())]
            .as_ref()
            .is_some_and(|old| old.is_same_way(way) && old.destination == way.destination);
        if !known {
            self.set_path(id, way.clone(), USUAL_MTU);
        }
    }

    /// Takes packets that are to reach the other end.
    pub fn handle_packets<'a>(&self, packets: impl Iterator<Item = &'a [u8]>) {
        let mut total = 0;
        {
            let mut core = lock(&self.core);
            let now = self.clock.now();
            for bytes in packets {
                let mut packet = core.tunnel.buffer();
                packet.extend_from_slice(bytes);
                total += packet.len();
                core.tunnel.handle_packet(now, packet);
            }
        }
        // A full batch: the device has more.
        if total < device::BATCH || !self.helper.takes_over() {
            self.pump();
        }
    }

    /// Gives the packets that are ready to the sink.
    fn deliver(&self) {
        let mut packets = lock(&self.delivery);
        {
            let mut core = lock(&self.core);
            for packet in packets.drain(..) {
                core.tunnel.recycle(packet);
            }
            while let Some(packet) = core.tunnel.poll_packet() {
                packets.push(packet);
            }
        }
        if !packets.is_empty() {
            self.sink.deliver(&packets);
        }
    }

    /// Tells those who wait for streams, and what was noticed.
    fn tell(&self, mut wake: Wake) {
        wake.wake();
        if !wake.opened.is_empty()
            && let Some(own) = self.own.upgrade()
        {
            for id in wake.opened {
                self.sink.opened(own.stream(id));
            }
        }
        for event in wake.noticed {
            self.sink.noticed(event);
        }
    }

    /// Sends what may be sent now.
    pub fn pump(&self) {
        loop {
            let mut outbox = match self.outbox.try_lock() {
                Ok(outbox) => outbox,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    // Whoever pumps looks once more.
                    self.again.store(true, Ordering::SeqCst);
                    match self.outbox.try_lock() {
                        Ok(outbox) => outbox,
                        Err(_) => return,
                    }
                }
            };
            self.again.store(false, Ordering::SeqCst);
            self.pump_with(&mut outbox);
            drop(outbox);
            if !self.again.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    fn pump_with(&self, outbox: &mut Outbox) {
        loop {
            let mut wake = Wake::default();
            let (full, ready);
            {
                let mut core = lock(&self.core);
                let Core { tunnel, streams } = &mut *core;
                let now = self.clock.now();
                tunnel.handle_timeout(now);
                full = outbox.fill(now, tunnel);
                streams.follow(tunnel, &mut wake);
                while let Some(event) = tunnel.poll_event() {
                    wake.noticed.push(event);
                }
                ready = tunnel.has_packets();
                if !full {
                    self.timer.set(tunnel.poll_timeout());
                }
            }
            outbox.send(&self.paths);
            self.tell(wake);
            if ready {
                self.deliver();
            }
            if !full {
                return;
            }
        }
    }

    /// Whether any path answers.
    #[must_use]
    pub fn is_live(&self) -> bool {
        lock(&self.core).tunnel.is_live()
    }

    /// Figures of a path.
    #[must_use]
    pub fn path_figures(&self, id: PathId) -> Option<PathFigures> {
        lock(&self.core).tunnel.path_figures(id)
    }

    /// Figures of the tunnel.
    #[must_use]
    pub fn figures(&self) -> TunnelFigures {
        lock(&self.core).tunnel.figures()
    }

    fn on_timer(&self, _now: Time) {
        self.pump();
    }
}
