//! Connections and sessions that must live through whatever is done to WANs and daemons.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use wanbond_e2e::http;
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, ORIGIN_V6, SECOND_V4, SECOND_V6};
use wanbond_lab::traffic::{Download, download, origin};

/// How long it may take until something goes on, on a machine that has much else to do. Longer than
/// elsewhere: TCP asks again after pauses that double.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where the far ends of the UDP sessions listen.
const UDP_PORT: u16 = 4500;

/// What goes on.
pub(crate) struct Ongoing {
    router: usize,
    quiet: Vec<TcpStream>,
    sessions: Vec<Session>,
    arrived: Arc<AtomicUsize>,
}

/// Opens connections to the echo and UDP sessions, of both families, begins a download each byte of
/// which is compared, lets `act` happen, and sees whether all goes on.
pub(crate) async fn while_all_goes_on(
    lab: &Lab,
    router: usize,
    act: impl AsyncFnOnce(&mut Ongoing),
) {
    let mut job = Download::timed(http(), Duration::from_secs(7200));
    // Nothing comes while no WAN is there; whether anything comes after that is asked below.
    job.patience = Duration::from_secs(300);
    let mut quiet = Vec::new();
    for origin in [IpAddr::from(ORIGIN_V4), ORIGIN_V6.into()] {
        let connecting = lab.lan_of(router, 0).tcp_connect((origin, origin::ECHO).into());
        quiet.push(timeout(PATIENCE, connecting).await.expect("in time").expect("it connects"));
    }
    let port = UDP_PORT + u16::try_from(router).expect("few routers");
    let mut sessions = Vec::new();
    for far in [IpAddr::from(SECOND_V4), SECOND_V6.into()] {
        sessions.push(Session::start(lab, router, (far, port).into()));
    }
    let arrived = Arc::clone(&job.progress);
    let mut ongoing = Ongoing { router, quiet, sessions, arrived };
    tokio::select! {
        got = download(lab.lan_of(router, 0), &job) => {
            panic!("router {router}: the download has ended: {:?}", got.error)
        }
        () = async {
            ongoing.goes_on("at the start").await;
            act(&mut ongoing).await;
            ongoing.goes_on("at the end").await;
        } => {}
    }
}

impl Ongoing {
    /// Waits until the download brings more, each quiet connection echoes, and each session has its
    /// answer from the same far end.
    ///
    /// # Panics
    /// If something does not go on.
    pub(crate) async fn goes_on(&mut self, when: &str) {
        let start = Instant::now();
        let router = self.router;
        let since = self.arrived.load(Ordering::Relaxed);
        for (place, stream) in self.quiet.iter_mut().enumerate() {
            stream.write_all(b"still there?").await.unwrap_or_else(|error| {
                panic!("router {router}, {when}: quiet connection {place}: {error}")
            });
        }
        for session in &self.sessions {
            session.answers().await.unwrap_or_else(|| {
                panic!("router {router}, {when}: no answer from {}", session.far)
            });
        }
        let udp = start.elapsed();
        for (place, stream) in self.quiet.iter_mut().enumerate() {
            let mut answer = [0; 12];
            match timeout(PATIENCE, stream.read_exact(&mut answer)).await {
                Ok(Ok(_)) => assert_eq!(&answer, b"still there?"),
                other => panic!("router {router}, {when}: quiet connection {place}: {other:?}"),
            }
        }
        let quiet = start.elapsed();
        while self.arrived.load(Ordering::Relaxed) < since + 1_000_000 {
            assert!(
                start.elapsed() < PATIENCE,
                "router {router}, {when}: the download stands still"
            );
            sleep(Duration::from_millis(20)).await;
        }
        println!(
            "router {router}, {when}: sessions after {} ms, quiet connections {} ms, bulk {} ms",
            udp.as_millis(),
            quiet.as_millis(),
            start.elapsed().as_millis()
        );
        for session in &self.sessions {
            let peers = session.peers.lock().unwrap();
            assert_eq!(peers.len(), 1, "router {router}, {when}: the far end saw {peers:?}");
        }
    }

    pub(crate) const fn router(&self) -> usize {
        self.router
    }
}

/// A UDP session between a host of the LAN and one of the Internet, which sees where it comes from.
struct Session {
    near: UdpSocket,
    far: SocketAddr,
    peers: Arc<Mutex<BTreeSet<SocketAddr>>>,
    echo: AbortHandle,
}

impl Session {
    fn start(lab: &Lab, router: usize, far: SocketAddr) -> Self {
        let socket = lab.inet().udp_socket(far).expect("the port is free");
        let socket = UdpSocket::from_std(socket).expect("tokio");
        let peers = Arc::<Mutex<BTreeSet<SocketAddr>>>::default();
        let seen = Arc::clone(&peers);
        let echo = tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
                seen.lock().unwrap().insert(peer);
                let _ = socket.send_to(&buffer[..len], peer).await;
            }
        });
        let any: IpAddr = match far {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let near = lab.lan_of(router, 0).udp_socket((any, 0).into()).expect("a socket");
        let near = UdpSocket::from_std(near).expect("tokio");
        Self { near, far, peers, echo: echo.abort_handle() }
    }

    /// Asks until it is answered.
    async fn answers(&self) -> Option<()> {
        let start = Instant::now();
        let mut buffer = [0; 64];
        while start.elapsed() < PATIENCE {
            // While no WAN is there, the kernel may say so.
            let _ = self.near.send_to(b"still there?", self.far).await;
            let heard = timeout(Duration::from_millis(250), self.near.recv_from(&mut buffer)).await;
            if matches!(heard, Ok(Ok((_, from))) if from == self.far) {
                return Some(());
            }
        }
        None
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.echo.abort();
    }
}
