//! Connections to targets on the routers' behalf.
//!
//! A target is an address or a name. Every address, and every address a name resolves to, is
//! [judged](policy) before a connection is tried, so a name can't lead where an address may not.
//! Names are tried by [Happy Eyeballs](eyeballs). Errors keep apart what the LAN host should see:
//! refused, unreachable, timed out.

pub mod eyeballs;
pub mod policy;
pub mod resolve;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use nix::errno::Errno;
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::Instant;
use wanbond_linux::socket::ConnectOptions;
use wanbond_proto::lane::Target;

use crate::config::EgressConfig;
use eyeballs::{Action, Eyeballs};
pub use policy::Denial;
use resolve::{Resolve, ResolveError, SystemResolver};

/// Why there is no connection to the target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EgressError {
    /// The target refused.
    #[error("connection refused")]
    Refused,
    /// The target's network or host can't be reached.
    #[error("network or host unreachable")]
    Unreachable,
    /// This server has no route to any target of that address family.
    #[error("the server has no route for this address family")]
    NoRoute,
    /// The target did not answer in time.
    #[error("timed out")]
    TimedOut,
    /// The target is not allowed.
    #[error("not allowed: {0}")]
    Denied(Denial),
    /// The name does not exist or has no address.
    #[error("no such name")]
    NameNotFound,
    /// The name could not be resolved now.
    #[error("name resolution failed")]
    NameFailure,
    /// The server has no sockets, ports or memory left.
    #[error("the server has no sockets left")]
    TooMany,
    /// Something else, as the system says it.
    #[error("{0}")]
    Other(String),
}

impl EgressError {
    /// How much an error tells about a target of several addresses; the highest is reported.
    fn weight(&self) -> u8 {
        match self {
            Self::Refused => 8,
            Self::TimedOut => 7,
            Self::Unreachable => 6,
            Self::TooMany => 5,
            Self::Other(_) => 4,
            Self::NoRoute => 3,
            Self::Denied(_) => 2,
            Self::NameFailure => 1,
            Self::NameNotFound => 0,
        }
    }

    fn or(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }
}

/// Whether an address is one of this server's own, asked for each target.
pub type IsOwn = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Opens connections to targets; share it in an [`Arc`].
pub struct Egress {
    config: RwLock<Arc<EgressConfig>>,
    is_own: IsOwn,
    // The endpoints' addresses: a VPS behind its provider's NAT has its public address on no
    // interface, and would be reached through it all the same.
    endpoints: RwLock<HashSet<IpAddr>>,
    resolver: Arc<dyn Resolve>,
}

impl Egress {
    /// With the system's resolver.
    #[must_use]
    pub fn new(config: EgressConfig, is_own: IsOwn) -> Self {
        Self::with_resolver(config, is_own, Arc::new(SystemResolver::default()))
    }

    /// With a resolver of one's own.
    #[must_use]
    pub fn with_resolver(config: EgressConfig, is_own: IsOwn, resolver: Arc<dyn Resolve>) -> Self {
        Self {
            config: RwLock::new(Arc::new(config)),
            is_own,
            endpoints: RwLock::default(),
            resolver,
        }
    }

    /// Puts other settings in force for new connections.
    pub fn set_config(&self, config: EgressConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Takes the addresses behind these hosts as the server's own too; names are resolved. Those
    /// that can't be resolved now are left out.
    pub async fn set_endpoints(&self, hosts: &[&str]) {
        let mut own = HashSet::new();
        for host in hosts {
            if let Ok(ip) = host.parse::<IpAddr>() {
                own.insert(ip.to_canonical());
                continue;
            }
            for v6 in [true, false] {
                own.extend(self.resolver.resolve(host, v6).await.unwrap_or_default());
            }
        }
        *self.endpoints.write().unwrap_or_else(PoisonError::into_inner) = own;
    }

    /// The addresses that [`Self::set_endpoints`] found.
    #[must_use]
    pub fn endpoint_addresses(&self) -> Vec<IpAddr> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.iter().copied().collect()
    }

    /// Connects to a target, with Nagle's algorithm off and keepalive on.
    ///
    /// # Errors
    /// Why not; of a name's several addresses what tells most.
    pub async fn connect(&self, target: &Target) -> Result<TcpStream, EgressError> {
        let config = Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner));
        let connecting = async {
            match target {
                Target::Address(address) => self.connect_address(&config, *address).await,
                Target::Name(name, port) => match name.parse::<IpAddr>() {
                    Ok(ip) => self.connect_address(&config, SocketAddr::new(ip, *port)).await,
                    Err(_) => self.connect_name(&config, name, *port).await,
                },
                // These lead nowhere.
                Target::Service(..) => Err(EgressError::NoRoute),
            }
        };
        tokio::time::timeout(config.connect_timeout, connecting)
            .await
            .unwrap_or(Err(EgressError::TimedOut))
    }

    fn check(&self, config: &EgressConfig, address: SocketAddr) -> Result<(), EgressError> {
        let is_own = |ip: IpAddr| {
            (self.is_own)(ip)
                || self.endpoints.read().unwrap_or_else(PoisonError::into_inner).contains(&ip)
        };
        policy::check(config, &is_own, address).map_err(EgressError::Denied)
    }

    async fn connect_address(
        &self,
        config: &EgressConfig,
        address: SocketAddr,
    ) -> Result<TcpStream, EgressError> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.check(config, address)?;
        let source = match address {
            SocketAddr::V4(_) => config.source_v4.map(IpAddr::V4),
            SocketAddr::V6(_) => config.source_v6.map(IpAddr::V6),
        };
        let options = ConnectOptions { source, ..ConnectOptions::default() };
        match wanbond_linux::socket::connect(address, &options).await {
            Ok(stream) => {
                keep_alive(&stream);
                Ok(stream)
            }
            Err(error) => Err(classify(&error, address)),
        }
    }

    async fn connect_name(
        &self,
        config: &EgressConfig,
        name: &str,
        port: u16,
    ) -> Result<TcpStream, EgressError> {
        let start = Instant::now();
        let mut eyeballs = Eyeballs::new();
        let mut v6_answer = Some(self.resolver.resolve(name, true));
        let mut v4_answer = Some(self.resolver.resolve(name, false));
        let mut attempts = FuturesUnordered::new();
        let mut worst = EgressError::NameNotFound;
        loop {
            let wake = match eyeballs.poll(start.elapsed()) {
                Action::Connect(ip) => {
                    attempts.push(self.connect_address(config, SocketAddr::new(ip, port)));
                    continue;
                }
                Action::Exhausted => return Err(worst),
                Action::Wait(until) => until.map(|after| start + after),
            };
            let (v6, answer) = tokio::select! {
                biased;
                Some(result) = attempts.next(), if !attempts.is_empty() => {
                    match result {
                        // The others are dropped, and their sockets closed with them.
                        Ok(stream) => return Ok(stream),
                        Err(error) => {
                            worst = worst.or(error);
                            eyeballs.handle_failure(start.elapsed());
                        }
                    }
                    continue;
                }
                answer = pending_or(&mut v6_answer) => (true, answer),
                answer = pending_or(&mut v4_answer) => (false, answer),
                () = sleep_until(wake) => continue,
            };
            let addresses = answer.unwrap_or_else(|error| {
                if error == ResolveError::Failed {
                    worst = worst.clone().or(EgressError::NameFailure);
                }
                Vec::new()
            });
            eyeballs.handle_answer(start.elapsed(), v6, addresses);
        }
    }
}

/// An answer that is asked for once, then never comes again.
async fn pending_or(answer: &mut Option<resolve::Answer>) -> Result<Vec<IpAddr>, ResolveError> {
    let Some(future) = answer else { return std::future::pending().await };
    let result = future.await;
    *answer = None;
    result
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A target that vanished without a word is noticed after four minutes of silence, not never: the
/// flow's lane and memory are given back.
fn keep_alive(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(120))
        .with_interval(Duration::from_secs(30))
        .with_retries(4);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keepalive) {
        tracing::trace!(%error, "keepalive refused");
    }
}

fn classify(error: &io::Error, address: SocketAddr) -> EgressError {
    let Some(code) = error.raw_os_error() else {
        return EgressError::Other(error.to_string());
    };
    match Errno::from_raw(code) {
        Errno::ECONNREFUSED | Errno::ECONNRESET => EgressError::Refused,
        Errno::ENETUNREACH | Errno::EAFNOSUPPORT if !has_route(address) => EgressError::NoRoute,
        Errno::EHOSTUNREACH | Errno::EHOSTDOWN | Errno::ENETUNREACH | Errno::ENETDOWN => {
            EgressError::Unreachable
        }
        Errno::ETIMEDOUT => EgressError::TimedOut,
        Errno::EACCES | Errno::EPERM => EgressError::Denied(Denial::Firewall),
        // EADDRNOTAVAIL: every local port towards this target is taken.
        Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::EADDRNOTAVAIL => {
            EgressError::TooMany
        }
        _ => EgressError::Other(error.to_string()),
    }
}

/// Whether this host has a route there: connecting a UDP socket looks it up and sends nothing.
/// "Network unreachable" from here is told apart so from the same said by a router far away.
fn has_route(address: SocketAddr) -> bool {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests;
