//! The tunnels of all routers, and the one TUN device behind them.
//!
//! What comes out of the device is for one router, told by its destination; what comes out of a
//! router's tunnel must have that router's own source, or it could speak for another.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use tokio::sync::mpsc;
use tracing::{debug, info};
use wanbond_linux::tun::TunQueue;
use wanbond_proto::inner::{Inner, Instance, destination_of};
use wanbond_proto::keys::PublicKey;
use wanbond_proto::session::Role;
use wanbond_proto::tunnel::TunnelConfig;
use wanbond_relay::Clock;
use wanbond_relay::tunnel::device::{read_packets, write_packets};
use wanbond_relay::tunnel::{TunnelDriver, TunnelSink, TunnelStream};

use super::routers::LiveRouter;
use super::sessions::ServerSession;

/// Streams that routers have opened, to be served as lanes.
pub(crate) type NewStreams = mpsc::UnboundedSender<(TunnelStream, SocketAddr)>;

/// All tunnels.
pub(crate) struct Tunnels {
    clock: Clock,
    random: fn() -> u64,
    streams: NewStreams,
    live: Mutex<HashMap<PublicKey, Live>>,
    inner: RwLock<ByInner>,
    /// Packets need a device; streams don't.
    device: OnceLock<Arc<TunQueue>>,
}

struct Live {
    instance: Instance,
    driver: Arc<TunnelDriver>,
    inner: Option<Inner>,
}

/// Which tunnel leads to an inner address.
#[derive(Default)]
struct ByInner {
    v4: HashMap<Ipv4Addr, Way>,
    v6: HashMap<Ipv6Addr, Way>,
    /// By the first half of the address: routers' prefixes are /64.
    prefixes: HashMap<u64, Way>,
}

/// A tunnel, and whose traffic it is.
#[derive(Clone)]
struct Way {
    driver: Arc<TunnelDriver>,
    router: Arc<LiveRouter>,
}

impl ByInner {
    fn add(&mut self, inner: &Inner, way: &Way) {
        self.v4.insert(inner.v4, way.clone());
        self.v6.insert(inner.v6, way.clone());
        if let Some((prefix, _)) = inner.prefix {
            self.prefixes.insert(first_half(prefix), way.clone());
        }
    }

    fn remove(&mut self, inner: &Inner) {
        self.v4.remove(&inner.v4);
        self.v6.remove(&inner.v6);
        if let Some((prefix, _)) = inner.prefix {
            self.prefixes.remove(&first_half(prefix));
        }
    }

    fn find(&self, destination: IpAddr) -> Option<Way> {
        match destination {
            IpAddr::V4(v4) => self.v4.get(&v4),
            IpAddr::V6(v6) => self.v6.get(&v6).or_else(|| self.prefixes.get(&first_half(v6))),
        }
        .cloned()
    }
}

fn first_half(address: Ipv6Addr) -> u64 {
    (u128::from(address) >> 64) as u64
}

/// Lets a router's packets through if they are its own.
struct RouterSink {
    device: Option<Arc<TunQueue>>,
    inner: Option<Inner>,
    router: Arc<LiveRouter>,
    streams: NewStreams,
    /// Where the router's session came from: streams share its limits.
    seen_at: SocketAddr,
}

impl TunnelSink for RouterSink {
    fn deliver(&self, packets: &[Vec<u8>]) {
        let (Some(device), Some(inner)) = (&self.device, &self.inner) else { return };
        let own = packets.iter().map(Vec::as_slice).filter(|packet| {
            let own = inner.permits_source(packet);
            if !own {
                debug!(
                    router = self.router.name(),
                    "packet with a source that is not the router's"
                );
            }
            own
        });
        let received = &self.router.packets.received;
        let own = own.inspect(|packet| {
            received.fetch_add(packet.len(), Ordering::Relaxed);
        });
        write_packets(device, own);
    }

    fn opened(&self, stream: TunnelStream) {
        let _ = self.streams.send((stream, self.seen_at));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these guard stays valid after any panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tunnels {
    /// None yet. `random` seeds each tunnel.
    pub(crate) fn new(clock: Clock, random: fn() -> u64, streams: NewStreams) -> Arc<Self> {
        Arc::new(Self {
            clock,
            random,
            streams,
            live: Mutex::default(),
            inner: RwLock::default(),
            device: OnceLock::new(),
        })
    }

    /// The TUN device is open.
    pub(crate) fn set_device(&self, device: Arc<TunQueue>) {
        let _ = self.device.set(device);
    }

    /// The tunnel that a session belongs to.
    pub(crate) fn of(&self, session: &ServerSession, from: SocketAddr) -> Arc<TunnelDriver> {
        let made = session.driver().get_or_init(|| self.find_or_start(session, from));
        Arc::clone(made)
    }

    fn find_or_start(&self, session: &ServerSession, from: SocketAddr) -> Arc<TunnelDriver> {
        let (key, instance) = (session.session.peer(), session.session.peer_instance());
        let mut live = lock(&self.live);
        if let Some(old) = live.get(&key) {
            if old.instance == instance {
                return Arc::clone(&old.driver);
            }
            info!(
                router = session.router.name(),
                "the router has started anew: so does its tunnel"
            );
        }
        let inner = session.session.inner();
        let sink = RouterSink {
            device: self.device.get().cloned(),
            inner,
            router: Arc::clone(&session.router),
            streams: self.streams.clone(),
            seen_at: from,
        };
        let config = TunnelConfig::large((self.random)());
        let driver = TunnelDriver::start(Role::Server, self.clock, &config, Box::new(sink));
        let mut by_inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = live.insert(key, Live { instance, driver: Arc::clone(&driver), inner })
            && let Some(inner) = &old.inner
        {
            by_inner.remove(inner);
        }
        if let Some(inner) = &inner {
            let way = Way { driver: Arc::clone(&driver), router: Arc::clone(&session.router) };
            by_inner.add(inner, &way);
        }
        driver
    }

    /// Ends the tunnels of routers that have no session any more.
    pub(crate) fn sweep(&self, has_session: impl Fn(&PublicKey) -> bool) {
        let mut by_inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        lock(&self.live).retain(|key, live| {
            let keep = has_session(key);
            if !keep && let Some(inner) = &live.inner {
                by_inner.remove(inner);
            }
            keep
        });
    }

    fn find(&self, destination: IpAddr) -> Option<Way> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).find(destination)
    }

    /// Hands what comes out of the device to the routers' tunnels, for as long as it is polled.
    pub(crate) async fn read(&self, device: &TunQueue) {
        read_packets(device, |packets| {
            let mut packets = packets.iter().peekable();
            while let Some(first) = packets.peek() {
                let destination = destination_of(first);
                // What is read together is mostly for one router.
                let these = std::iter::from_fn(|| {
                    packets.next_if(|packet| destination_of(packet) == destination)
                });
                let way = destination.and_then(|destination| self.find(destination));
                match way {
                    Some(Way { driver, router }) => {
                        driver.handle_packets(these.inspect(|packet| {
                            router.packets.sent.fetch_add(packet.len(), Ordering::Relaxed);
                        }));
                    }
                    None => these.for_each(drop),
                }
            }
        })
        .await;
    }
}
