//! The servers of the lab's Internet, on [`ORIGIN_V4`] and [`ORIGIN_V6`].
//!
//! | port | |
//! |---|---|
//! | 80 | HTTP: `GET /bytes/N?seed=S[&rate=BYTES_PER_SECOND]`, `POST /sink?seed=S` (answers a [`Transfer`] as JSON), `GET /peer` (the client's address) |
//! | 7 | echo, TCP and UDP |
//! | 9 | reads everything, answers nothing |
//! | 22 | speaks first: a banner, then echo |
//!
//! They run inside the lab's process on its own small runtime, so a test that blocks does not
//! stop them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;

use super::http::{self, Request};
use super::pattern::Pattern;
use super::report::{End, Recorder, Transfer};
use crate::ns::Namespace;
use crate::topology::{ORIGIN_V4, ORIGIN_V6};

/// HTTP.
pub const HTTP: u16 = 80;
/// Echo, over TCP and UDP.
pub const ECHO: u16 = 7;
/// Reads everything and answers nothing.
pub const DISCARD: u16 = 9;
/// Speaks first, then echoes.
pub const BANNER: u16 = 22;
/// What [`BANNER`] says.
pub const GREETING: &[u8] = b"SSH-2.0-wanbond_lab\r\n";

/// What the origin has seen.
#[derive(Debug, Default)]
pub struct Stats {
    accepted: AtomicUsize,
    closed: AtomicUsize,
    uploaded: AtomicUsize,
}

impl Stats {
    /// TCP connections accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed) as u64
    }

    /// Bytes of uploads that came so far.
    #[must_use]
    pub fn uploaded(&self) -> u64 {
        self.uploaded.load(Ordering::Relaxed) as u64
    }

    /// TCP connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.accepted().saturating_sub(self.closed.load(Ordering::Relaxed) as u64)
    }
}

/// Starts all servers in `ns` on `runtime`.
pub(crate) fn start(runtime: &Runtime, ns: &Namespace) -> io::Result<Arc<Stats>> {
    let stats = Arc::new(Stats::default());
    let _guard = runtime.enter();
    for ip in [IpAddr::from(ORIGIN_V4), ORIGIN_V6.into()] {
        for port in [HTTP, ECHO, DISCARD, BANNER] {
            let listener = TcpListener::from_std(ns.tcp_listener((ip, port).into())?)?;
            runtime.spawn(accept(listener, port, Arc::clone(&stats)));
        }
        let udp = UdpSocket::from_std(ns.udp_socket((ip, ECHO).into())?)?;
        runtime.spawn(echo_datagrams(udp));
    }
    Ok(stats)
}

async fn accept(listener: TcpListener, port: u16, stats: Arc<Stats>) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors, most likely: some will come free.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        stats.accepted.fetch_add(1, Ordering::Relaxed);
        let stats = Arc::clone(&stats);
        tokio::spawn(async move {
            // A client that goes away is no concern of the server's.
            let _ = serve(stream, peer, port, &stats).await;
            stats.closed.fetch_add(1, Ordering::Relaxed);
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    peer: SocketAddr,
    port: u16,
    stats: &Stats,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match port {
        HTTP => serve_http(stream, peer, stats).await,
        DISCARD => discard(stream).await,
        BANNER => {
            stream.write_all(GREETING).await?;
            echo(stream).await
        }
        _ => echo(stream).await,
    }
}

async fn serve_http(mut stream: TcpStream, peer: SocketAddr, stats: &Stats) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = http::read_request(&mut stream, &mut buffer).await? {
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/peer") => {
                http::respond(&mut stream, peer.ip().to_string().as_bytes()).await?;
            }
            ("GET", path) if path.starts_with("/bytes/") => {
                let Ok(bytes) = path["/bytes/".len()..].parse() else {
                    http::refuse(&mut stream).await?;
                    continue;
                };
                send_bytes(&mut stream, &request, bytes).await?;
            }
            ("POST", "/sink") => {
                let report = sink(&mut stream, &mut buffer, &request, stats).await;
                let json = serde_json::to_vec(&report).unwrap_or_default();
                http::respond(&mut stream, &json).await?;
                if !report.complete {
                    return Ok(());
                }
            }
            _ => http::refuse(&mut stream).await?,
        }
    }
    Ok(())
}

async fn send_bytes(stream: &mut TcpStream, request: &Request, bytes: u64) -> io::Result<()> {
    http::respond_head(stream, bytes).await?;
    let pattern = Pattern::new(request.number("seed").unwrap_or(0));
    let rate = request.number("rate");
    let start = Instant::now();
    let mut sent = 0;
    while sent < bytes {
        let most = usize::try_from(bytes - sent).unwrap_or(usize::MAX).min(256 * 1024);
        // With a rate: twenty pieces a second, each sent when its time has come.
        let most = rate
            .map_or(most, |rate| most.min(usize::try_from(rate / 20).unwrap_or(usize::MAX).max(1)));
        sent += stream.write(pattern.piece(sent, most)).await? as u64;
        if let Some(rate) = rate {
            let due = Duration::from_micros(sent.saturating_mul(1_000_000) / rate.max(1));
            tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
        }
    }
    Ok(())
}

/// Reads an upload; `buffer` may hold its beginning.
async fn sink(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    request: &Request,
    stats: &Stats,
) -> Transfer {
    let pattern = Pattern::new(request.number("seed").unwrap_or(0));
    let mut recorder = Recorder::new(Instant::now());
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let left = request.content_length - recorder.bytes();
        if left == 0 {
            return recorder.finish(End::Complete);
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        let len = if buffer.is_empty() {
            match stream.read(&mut chunk[..most]).await {
                Ok(0) => return recorder.finish(End::Failed("closed too early".into())),
                Ok(len) => len,
                Err(error) => return recorder.finish(End::Failed(error.to_string())),
            }
        } else {
            let len = most.min(buffer.len());
            chunk[..len].copy_from_slice(&buffer[..len]);
            buffer.drain(..len);
            len
        };
        if let Some(at) = pattern.first_wrong(recorder.bytes(), &chunk[..len]) {
            return recorder.finish(End::Wrong(at));
        }
        recorder.arrived(len);
        stats.uploaded.fetch_add(len, Ordering::Relaxed);
    }
}

async fn discard(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    while stream.read(&mut chunk).await? > 0 {}
    Ok(())
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

async fn echo_datagrams(socket: UdpSocket) {
    let mut packet = vec![0; 65_535];
    loop {
        // An ICMP error of an earlier answer may show here; the next datagram is another matter.
        if let Ok((len, peer)) = socket.recv_from(&mut packet).await {
            let _ = socket.send_to(&packet[..len], peer).await;
        }
    }
}
