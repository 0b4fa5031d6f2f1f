//! What the daemon's tasks share.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use wanbond_control::words::{MptcpState, Role, ServerState, TcpMode};
use wanbond_control::{Event, EventKind, EventLog};
use wanbond_proto::Time;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::datagram::PathId;
use wanbond_proto::forward::Forwards;
use wanbond_proto::handshake::RouterIdentity;
use wanbond_proto::inner::Instance;
use wanbond_proto::tunnel::Liveness;
use wanbond_proto::wan::State;
use wanbond_relay::tcp::TcpEnd;
use wanbond_relay::tunnel::TunnelDriver;
use wanbond_relay::udp::UdpEnd;
use wanbond_relay::{BufferPool, Clock, Traffic};

use crate::bypass::sniff::Sniffer;
use crate::daemon::Lasting;
use crate::flow::Haste;
use crate::lanes::LanePool;
use crate::link::{LinkHint, Prober, ServerAddresses, Servers, Sessions};
use crate::wan::duty::Duty;

/// A WAN as those see it who choose one: a snapshot, replaced as a whole on every change.
#[derive(Clone)]
pub(crate) struct WanView {
    /// Its path in the session.
    pub path: PathId,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its network device, while there is one.
    pub device: Option<Arc<str>>,
    /// What it is for.
    pub role: Role,
    /// What it does now.
    pub duty: Duty,
    /// Nothing shall go over it but now and then a ping.
    pub spared: bool,
    /// What goes over it costs.
    pub metered: bool,
    /// Whether it lives.
    pub state: State,
    /// What becomes of MPTCP over it.
    pub mptcp: MptcpState,
    /// Largest IP packet that its link takes, bytes.
    pub mtu: u16,
    /// Smoothed RTT, if known.
    pub srtt: Option<Duration>,
    /// Its addresses that have a way out, IPv4 first, and the UDP socket bound to each.
    pub sockets: Vec<WanSocket>,
    /// The connection that carries its datagrams, where UDP is blocked.
    pub carrier: Option<Arc<TcpEnd>>,
}

/// A WAN's address with the UDP socket bound to it.
#[derive(Clone)]
pub(crate) struct WanSocket {
    /// The WAN's own address.
    pub source: IpAddr,
    /// Bound to it and to the device.
    pub udp: Arc<UdpEnd>,
}

impl WanView {
    /// Whether lanes are to have a subflow over it.
    #[must_use]
    pub(crate) fn joins_lanes(&self) -> bool {
        self.state == State::Up && self.is_linked() && !self.spared
    }

    /// Whether it has an address and a gateway.
    #[must_use]
    pub(crate) fn is_linked(&self) -> bool {
        !self.sockets.is_empty()
    }
}

/// What lanes tell about WANs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WanEvidence {
    /// A pong came.
    Pong { path: PathId, number: u32, observed: Option<std::net::SocketAddr> },
    /// A lane was connected over the WAN, and the server has answered on it.
    LaneUp { path: PathId, rtt: Duration, mptcp: MptcpState },
    /// A lane could not be connected over it.
    LaneFailed { path: PathId },
    /// The connection that carries its datagrams has come or gone.
    CarrierChanged { path: PathId },
    /// It could not be made, or broke.
    CarrierLost { path: PathId },
    /// What the tunnel makes of its path.
    Tunnel { path: PathId, liveness: Liveness },
}

/// Figures that only grow, as the status shows them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) flows_active: AtomicUsize,
    pub(crate) flows_total: AtomicUsize,
    pub(crate) flows_mptcp: AtomicUsize,
    pub(crate) flows_tcp: AtomicUsize,
    pub(crate) flows_stream: AtomicUsize,
    pub(crate) refused: AtomicUsize,
    pub(crate) unreachable: AtomicUsize,
    pub(crate) timed_out: AtomicUsize,
    pub(crate) reset: AtomicUsize,
    pub(crate) retried: AtomicUsize,
    pub(crate) handed_over: AtomicUsize,
}

pub(crate) fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn read(counter: &AtomicUsize) -> u64 {
    counter.load(Ordering::Relaxed) as u64
}

/// Where the router stands with its server.
#[derive(Debug, Clone)]
pub(crate) struct ServerStanding {
    pub(crate) state: ServerState,
    pub(crate) since: Time,
    pub(crate) why: String,
}

/// What the daemon's tasks share.
pub(crate) struct Shared {
    /// The daemon's clock.
    pub clock: Clock,
    /// Buffers of all flows.
    pub pool: Arc<BufferPool>,
    /// Bytes of all flows.
    pub traffic: Traffic,
    /// What this machine encrypts fast.
    pub suites: Vec<Suite>,
    /// How many bytes a second.
    pub sealed: u64,
    /// This run of the daemon, as the server knows it.
    pub instance: Instance,
    /// Every WAN of the configuration that is not off.
    pub wans: watch::Sender<Arc<[WanView]>>,
    /// The configured servers, and which is in use.
    pub servers: Servers,
    /// The addresses of the server in use.
    pub server: watch::Sender<ServerAddresses>,
    /// The port forwards that lead here.
    pub forwards: watch::Sender<Forwards>,
    /// The sessions.
    pub sessions: Sessions,
    /// Figures for the status.
    pub counters: Counters,
    /// The lanes.
    pub lanes: LanePool,
    pub(crate) evidence: mpsc::Sender<WanEvidence>,
    pub(crate) link: mpsc::Sender<LinkHint>,
    pub(crate) flow_started: tokio::sync::Notify,
    pub(crate) congestion: Option<String>,
    pub(crate) mptcp: bool,
    pub(crate) tcp: TcpMode,
    /// With `auto`: TCP is better off on streams, though MPTCP works.
    pub(crate) streams_preferred: watch::Sender<bool>,
    /// The server is gone, and the LAN's new connections go out around it.
    pub(crate) direct: watch::Sender<bool>,
    /// What outlives this run.
    pub(crate) lasting: Arc<Lasting>,
    /// The server answers what it is asked as a name server.
    pub(crate) names_answered: watch::Sender<bool>,
    /// Rules for connections that tell where they go.
    pub(crate) sniffer: Sniffer,
    pub(crate) haste: Haste,
    /// How busy the server said that its processor is, percent, and when.
    pub(crate) server_load: Mutex<Option<(u8, Time)>>,
    tunnel: RwLock<Option<Arc<TunnelDriver>>>,
    standing: watch::Sender<ServerStanding>,
    events: Mutex<EventLog>,
    /// The number of the latest event.
    news: watch::Sender<u64>,
}

/// What [`Shared::new`] is made of.
pub(crate) struct SharedParts {
    pub(crate) clock: Clock,
    pub(crate) pool: Arc<BufferPool>,
    pub(crate) suites: Vec<Suite>,
    pub(crate) sealed: u64,
    pub(crate) instance: Instance,
    pub(crate) evidence: mpsc::Sender<WanEvidence>,
    pub(crate) link: mpsc::Sender<LinkHint>,
    pub(crate) congestion: Option<String>,
    pub(crate) mptcp: bool,
    pub(crate) servers: Servers,
    pub(crate) tcp: TcpMode,
    pub(crate) lasting: Arc<Lasting>,
}

impl Shared {
    pub(crate) fn new(parts: SharedParts) -> Arc<Self> {
        let since = parts.clock.now();
        Arc::new(Self {
            clock: parts.clock,
            pool: parts.pool,
            traffic: Traffic::default(),
            suites: parts.suites,
            sealed: parts.sealed,
            instance: parts.instance,
            wans: watch::Sender::new(Arc::new([])),
            servers: parts.servers,
            server: watch::Sender::default(),
            forwards: watch::Sender::default(),
            sessions: Sessions::default(),
            counters: Counters::default(),
            lanes: LanePool::default(),
            evidence: parts.evidence,
            link: parts.link,
            flow_started: tokio::sync::Notify::new(),
            congestion: parts.congestion,
            mptcp: parts.mptcp,
            tcp: parts.tcp,
            streams_preferred: watch::Sender::new(false),
            direct: watch::Sender::new(false),
            lasting: parts.lasting,
            names_answered: watch::Sender::new(false),
            sniffer: Sniffer::default(),
            haste: Haste::default(),
            server_load: Mutex::default(),
            tunnel: RwLock::default(),
            standing: watch::Sender::new(ServerStanding {
                state: ServerState::Connecting,
                since,
                why: String::new(),
            }),
            events: Mutex::new(EventLog::new(EventLog::DEFAULT_CAPACITY)),
            news: watch::Sender::default(),
        })
    }

    /// The tunnel to the server, once there is a session.
    pub(crate) fn tunnel(&self) -> Option<Arc<TunnelDriver>> {
        self.tunnel.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_tunnel(&self, tunnel: Option<Arc<TunnelDriver>>) {
        *self.tunnel.write().unwrap_or_else(PoisonError::into_inner) = tunnel;
    }

    /// Returns once new connections go out around the server: there is nothing to be waited for any
    /// more, and who is reset tries again, directly.
    pub(crate) async fn gone_direct(&self) {
        // The sender is ours and can't have gone.
        let _ = self.direct.subscribe().wait_for(|direct| *direct).await;
    }

    /// What handshakes are made with that see whether a server is there.
    pub(crate) fn prober(&self, identity: RouterIdentity) -> Prober {
        Prober { identity, suites: self.suites.clone(), instance: self.instance, clock: self.clock }
    }

    /// Seconds since the daemon's start.
    pub(crate) fn uptime_s(&self) -> f64 {
        self.clock.now().as_micros() as f64 / 1e6
    }

    pub(crate) fn standing(&self) -> ServerStanding {
        self.standing.borrow().clone()
    }

    pub(crate) fn watch_standing(&self) -> watch::Receiver<ServerStanding> {
        self.standing.subscribe()
    }

    /// Notes where the server stands; `true` if that is news.
    pub(crate) fn set_server_state(&self, state: ServerState, why: &str) -> bool {
        let since = self.clock.now();
        let news = self.standing.send_if_modified(|standing| {
            let news = standing.state != state || standing.why != why;
            if news {
                let since = if standing.state == state { standing.since } else { since };
                *standing = ServerStanding { state, since, why: why.to_owned() };
            }
            news
        });
        if news {
            let name = self.servers.name();
            let message = if why.is_empty() {
                format!("server {name}: {state}")
            } else {
                format!("server {name}: {state}: {why}")
            };
            let event =
                Event::new(self.uptime_s(), EventKind::ServerState, message).of_server(name);
            let good = matches!(state, ServerState::Connected | ServerState::Connecting);
            self.log(if good { event } else { event.warning() });
        }
        news
    }

    pub(crate) fn log(&self, event: Event) {
        let number = self.events().push(event);
        self.news.send_replace(number);
    }

    /// Changes with each event.
    pub(crate) fn watch_events(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    pub(crate) fn events(&self) -> MutexGuard<'_, EventLog> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lanes have a subflow over each path, by path number.
    pub(crate) fn lanes_by_path(&self) -> BTreeMap<u8, u32> {
        self.lanes.by_path()
    }
}
