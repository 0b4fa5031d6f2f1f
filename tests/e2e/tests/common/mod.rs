//! What several themes share and only they need: a router that does as it likes, and captures.

#![allow(dead_code, reason = "each theme is a program of its own and uses a part of this")]

pub(crate) mod capture;
pub(crate) mod chaos;
pub(crate) mod name_server;
pub(crate) mod ongoing;
pub(crate) mod rogue;

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use wanbond_e2e::PATIENCE;
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::VPS_V4;

/// Where the lab's server listens.
pub(crate) fn server_address() -> SocketAddr {
    (VPS_V4, wanbond_proto::pairing::DEFAULT_PORT).into()
}

/// The address that a target sees a LAN host's connection come from: the VPS's if it is bonded,
/// the ISP's if it goes out directly.
pub(crate) async fn seen_from(lan: &Namespace, http: SocketAddr) -> std::io::Result<IpAddr> {
    let work = async {
        let mut stream = lan.tcp_connect(http).await?;
        stream.write_all(b"GET /peer HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let ip = answer.rsplit("\r\n").next().and_then(|ip| ip.parse().ok());
        ip.ok_or_else(|| std::io::Error::other(format!("no address in {answer:?}")))
    };
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// A listener in a namespace.
pub(crate) fn listen(ns: &Namespace, address: SocketAddr) -> TcpListener {
    TcpListener::from_std(ns.tcp_listener(address).expect("the address is free")).expect("tokio")
}

/// Connects, within the patience of a test.
pub(crate) async fn connect(ns: &Namespace, to: SocketAddr) -> TcpStream {
    timeout(PATIENCE, ns.tcp_connect(to)).await.expect("connects in time").expect("connects")
}

/// Whether the stream ends with a reset; what comes before is dropped.
pub(crate) async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match timeout(PATIENCE, stream.read(&mut buffer)).await.expect("the connection ends") {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Random bytes.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    use std::io::Read as _;
    let mut out = [0; N];
    let mut file = std::fs::File::open("/dev/urandom").expect("the kernel's random bytes");
    file.read_exact(&mut out).expect("the kernel's random bytes");
    out
}
