//! Listeners, sessions and lanes: what the server does once it runs.
//!
//! - [`sessions`]: handshakes and what they leave, by index.
//! - [`routers`]: who is at the other end, with permits and figures.
//! - [`lane`]: one connection from a router, flow after flow.
//! - [`flow`]: one flow on it.
//! - [`moves`]: flows that go on on another lane.
//! - [`carrier`]: datagrams over a connection, where UDP is blocked.
//! - [`datagrams`]: UDP: handshakes, the answers to pings, the tunnels' datagrams.
//! - [`tun_kernel`]: what the kernel holds around the tunnel's device.
//! - [`tunnels`]: the tunnels of all routers, and the one TUN device behind them.
//! - [`service`]: what this server itself offers routers, to measure by.
//! - [`metrics`]: figures for Prometheus.
//! - [`names`]: answers what routers ask of a name server.
//! - [`status`]: the document behind `wanbond-server status`.

mod carrier;
mod datagrams;
mod flow;
mod kernel;
mod lane;
mod metrics;
mod moves;
mod names;
mod routers;
mod service;
mod sessions;
mod status;
pub mod tun_kernel;
mod tunnels;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};
use wanbond_linux::processor::Processor;
use wanbond_linux::socket::{
    ListenOptions, StreamOptions, choose_congestion, listen, mptcp_supported, raise_nofile_limit,
    tune,
};
use wanbond_linux::tun::TunQueue;
use wanbond_proto::handshake::Egress as Families;
use wanbond_proto::keys::SecretKey;
use wanbond_relay::tunnel::{TUN_MTU, device};
use wanbond_relay::{BufferPool, Clock};

use crate::config::Config;
use crate::directory::Directory;
use crate::egress::Egress;
use crate::inner::InnerNetwork;
use crate::limits::Budget;
use crate::usage::{Ledger, Month};
use routers::LiveRouters;
use sessions::Sessions;
use status::Refusals;
use tun_kernel::{TunnelKernel, TunnelSources};
use tunnels::Tunnels;

/// Bytes that wait unsent in a lane's socket before it stops being writable.
const NOTSENT_LOWAT: u32 = 128 * 1024;
const BACKLOG: i32 = 4096;
/// Between looks at sessions that have run out.
const SWEEP: Duration = Duration::from_secs(30);
/// Between looks at what routers have moved: a limit is passed by what goes through in that time.
const METER: Duration = Duration::from_secs(5);
/// The traffic's file is written every so many of these.
const METERS_PER_SAVE: u32 = 60;

/// What serving stands on.
#[derive(Clone)]
pub struct ServeContext {
    /// `server.toml`, as it changes.
    pub config: watch::Receiver<Arc<Config>>,
    /// The server's static key.
    pub key: SecretKey,
    /// The key before it, if routers that were paired with that one are still admitted.
    pub previous_key: Option<SecretKey>,
    /// Who is admitted, as it changes.
    pub directory: Arc<Directory>,
    /// The way out.
    pub egress: Arc<Egress>,
    /// How much.
    pub limits: Arc<Budget>,
    /// How much was moved this month.
    pub ledger: Arc<Ledger>,
    /// Becomes true when the server is to stop: take nothing new, let flows finish for
    /// `config.drain`, then return.
    pub shutdown: watch::Receiver<bool>,
}

/// What lanes share.
pub(crate) struct Shared {
    sessions: Sessions,
    routers: Arc<LiveRouters>,
    tunnels: Arc<Tunnels>,
    pool: Arc<BufferPool>,
    egress: Arc<Egress>,
    limits: Arc<Budget>,
    directory: Arc<Directory>,
    stopping: watch::Receiver<bool>,
    refusals: Refusals,
    clock: Clock,
    listen: Vec<String>,
    stream_options: StreamOptions,
    /// How busy this machine's processor was of late, percent.
    load: AtomicU8,
}

impl Shared {
    /// Counts what routers have moved, and ends what belongs to those that may move no more.
    fn meter(&self) {
        if self.routers.meter(Month::now()) {
            self.sessions.sweep();
        }
    }

    fn save_usage(&self) {
        if let Err(error) = self.routers.ledger().save() {
            warn!(%error, "this month's traffic can't be written down");
        }
    }
}

/// Serves until `shutdown`.
///
/// # Errors
/// When nothing can be listened on.
pub async fn run(context: ServeContext) -> anyhow::Result<()> {
    raise_nofile_limit();
    let kernel = kernel::Settings::apply().await;
    let result = serve(context, &kernel).await;
    kernel.undo().await;
    result
}

async fn serve(mut context: ServeContext, kernel: &kernel::Settings) -> anyhow::Result<()> {
    let config = Arc::clone(&context.config.borrow());
    let congestion = choose_congestion();
    let mptcp = mptcp_supported();
    if !mptcp {
        warn!("this kernel has no MPTCP, or net.mptcp.enabled is 0: no connection uses two WANs");
    }
    let stream_options =
        StreamOptions { congestion: congestion.clone(), notsent_lowat: Some(NOTSENT_LOWAT) };
    let options = ListenOptions {
        mptcp,
        backlog: BACKLOG,
        v6_only: true,
        congestion,
        notsent_lowat: Some(NOTSENT_LOWAT),
        ..ListenOptions::default()
    };
    let addresses = listen_addresses(&config);
    let mut listeners = Vec::new();
    let mut sockets = Vec::new();
    let mut said = Vec::new();
    for &(address, optional) in &addresses {
        match (listen(address, &options), datagrams::bind(address)) {
            (Ok(tcp), Ok(udp)) => {
                said.push(format!("tcp {address}"));
                said.push(format!("udp {address}"));
                listeners.push(tcp);
                sockets.push(udp);
            }
            (Err(error), _) | (_, Err(error)) if optional => {
                info!(%address, %error, "not listening there");
            }
            (Err(error), _) | (_, Err(error)) => {
                return Err(error).with_context(|| {
                    format!("can't listen on {address}; is another program, or another server, using that port?")
                });
            }
        }
    }
    info!(listen = ?said, mptcp, "serving");

    let clock = Clock::start();
    let routers = LiveRouters::new(
        Arc::clone(&context.directory),
        Arc::clone(&context.limits),
        Arc::clone(&context.ledger),
    );
    let (streams, mut opened) = mpsc::unbounded_channel();
    let tunnels = Tunnels::new(clock, random_seed, streams);
    let device = open_device();
    if let Some(device) = &device {
        tunnels.set_device(Arc::clone(device));
    }
    let inner = InnerNetwork::new(&config.inner, &context.key.public());
    let shared = Arc::new(Shared {
        sessions: Sessions::new(
            &[Some(context.key.clone()), context.previous_key.clone()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>(),
            Arc::clone(&routers),
            clock,
            families(),
            inner,
        ),
        routers: Arc::clone(&routers),
        tunnels: Arc::clone(&tunnels),
        pool: BufferPool::new(
            usize::try_from(context.limits.limits().buffers).unwrap_or(usize::MAX),
        ),
        egress: Arc::clone(&context.egress),
        limits: Arc::clone(&context.limits),
        directory: Arc::clone(&context.directory),
        stopping: context.shutdown.clone(),
        refusals: Refusals::default(),
        clock,
        listen: said,
        stream_options,
        load: AtomicU8::new(0),
    });

    let mut background = JoinSet::new();
    for socket in sockets {
        background.spawn(datagrams::serve(Arc::clone(&shared), socket));
    }
    background.spawn(status::serve(Arc::clone(&shared)));
    if let Some(address) = config.metrics {
        background.spawn(metrics::serve(Arc::clone(&shared), address));
    }
    if let (Some(device), Some(journal)) = (device, kernel.journal()) {
        let reading = Arc::clone(&tunnels);
        background.spawn(async move { reading.read(&device).await });
        let sources = TunnelSources {
            config: context.config.clone(),
            directory: Arc::clone(&context.directory),
            egress: Arc::clone(&context.egress),
            inner,
            mtu: TUN_MTU,
        };
        let mut around = TunnelKernel::new(journal.clone()).await.context("netlink")?;
        background.spawn(async move { around.keep(sources).await });
        background.spawn(names::serve(inner, config.dns.clone()));
    }
    background.spawn(follow(Arc::clone(&shared)));
    let mut lanes = JoinSet::new();
    let mut accepting = JoinSet::new();
    let (accepted, mut incoming) = mpsc::channel(64);
    for listener in listeners {
        accepting.spawn(accept(listener, accepted.clone()));
    }
    crate::notify::ready();
    loop {
        tokio::select! {
            Some((stream, peer)) = incoming.recv() => {
                tune(&stream, &shared.stream_options);
                lanes.spawn(lane::serve(Arc::clone(&shared), stream, peer));
            }
            Some((stream, peer)) = opened.recv() => {
                lanes.spawn(lane::serve(Arc::clone(&shared), stream, peer));
            }
            Some(_) = lanes.join_next() => {}
            _ = context.shutdown.wait_for(|stop| *stop) => break,
        }
    }
    // No new connections; idle lanes say goodbye at once, busy ones when their flow has ended.
    accepting.shutdown().await;
    drop(incoming);
    let until = Instant::now() + context.config.borrow().drain;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match timeout(left, lanes.join_next()).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    if !lanes.is_empty() {
        info!(lanes = lanes.len(), "flows still going on are cut");
    }
    lanes.shutdown().await;
    shared.meter();
    shared.save_usage();
    Ok(())
}

/// The tunnels' device. Without it the server carries TCP only, and says so.
fn open_device() -> Option<Arc<TunQueue>> {
    match device::open() {
        Ok(device) => Some(device),
        Err(error) => {
            warn!(%error, "no tunnel device: only TCP is carried");
            None
        }
    }
}

fn random_seed() -> u64 {
    let mut seed = [0; 8];
    // The seed only keeps others from making flows collide.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut seed);
    u64::from_ne_bytes(seed)
}

/// Where to listen, and whether it may be missing there: IPv6 is, on some VPSes.
fn listen_addresses(config: &Config) -> Vec<(SocketAddr, bool)> {
    let everywhere: [(IpAddr, bool); 2] =
        [(Ipv4Addr::UNSPECIFIED.into(), false), (Ipv6Addr::UNSPECIFIED.into(), true)];
    let addresses: Vec<(IpAddr, bool)> = if config.listen.is_empty() {
        everywhere.to_vec()
    } else {
        config.listen.iter().map(|&ip| (ip, false)).collect()
    };
    let with_ports = addresses.into_iter().flat_map(|(ip, optional)| {
        config.ports.iter().map(move |&port| (SocketAddr::new(ip, port), optional))
    });
    with_ports.collect()
}

/// The families that this server has a way out for: asked of its routes, nothing is sent.
fn families() -> Families {
    // Any address of the public Internet will do; these belong to the DNS root servers' operators.
    let route = |own: &str, to: &str| {
        std::net::UdpSocket::bind(own).and_then(|socket| socket.connect(to)).is_ok()
    };
    Families {
        ipv4: route("0.0.0.0:0", "198.41.0.4:53"),
        ipv6: route("[::]:0", "[2001:503:ba3e::2:30]:53"),
    }
}

async fn accept(
    listener: TcpListener,
    accepted: mpsc::Sender<(tokio::net::TcpStream, SocketAddr)>,
) {
    loop {
        match listener.accept().await {
            Ok(connection) => {
                if accepted.send(connection).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                debug!(%error, "connection gone at once");
            }
            Err(error) => {
                warn!(%error, "connections can't be accepted; is the limit of open files too low?");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Drops what has run out, and what belongs to removed routers.
async fn follow(shared: Arc<Shared>) {
    let routers = Arc::clone(&shared.routers);
    let mut processor = Processor::default();
    let meter = async {
        loop {
            for _ in 0..METERS_PER_SAVE {
                sleep(METER).await;
                shared.meter();
                processor.look();
                shared.load.store(processor.busy_percent().unwrap_or(0), Ordering::Relaxed);
            }
            shared.save_usage();
        }
    };
    let sweep = async {
        loop {
            sleep(SWEEP).await;
            shared.sessions.set_egress(families());
            shared.sessions.sweep();
            let sessions = shared.sessions.by_router();
            shared.tunnels.sweep(|key| sessions.contains_key(key));
        }
    };
    tokio::join!(routers.follow_directory(|| shared.sessions.sweep()), sweep, meter);
}
