//! What LAN hosts do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http;
use super::pattern::Pattern;
use super::report::{Connections, End, Quantiles, Recorder, Transfer};
use crate::ns::Namespace;

/// A download to make.
#[derive(Debug, Clone)]
pub struct Download {
    /// The HTTP origin.
    pub from: SocketAddr,
    /// How many bytes.
    pub bytes: u64,
    /// Which bytes.
    pub seed: u64,
    /// Stop, in order, after this time.
    pub time: Option<Duration>,
    /// How long a silence is borne before it counts as a failure.
    pub patience: Duration,
    /// Where the bytes so far can be seen meanwhile. Not of 64 bits: MIPS has none such.
    pub progress: Arc<AtomicUsize>,
}

impl Download {
    /// So many bytes, with no limit of time.
    #[must_use]
    pub fn new(from: SocketAddr, bytes: u64) -> Self {
        Self {
            from,
            bytes,
            seed: bytes ^ 0x776f_6e64,
            time: None,
            patience: Duration::from_secs(30),
            progress: Arc::default(),
        }
    }

    /// As many bytes as come in this time.
    #[must_use]
    pub fn timed(from: SocketAddr, time: Duration) -> Self {
        // More than any machine passes in a day.
        Self { time: Some(time), ..Self::new(from, 1 << 50) }
    }
}

/// Downloads, comparing every byte.
pub async fn download(ns: &Namespace, job: &Download) -> Transfer {
    let start = Instant::now();
    let mut recorder = Recorder::new(start);
    let deadline = job.time.map(|time| tokio::time::Instant::from_std(start + time));
    let mut connect = Duration::ZERO;
    let end = {
        let work = receive(ns, job, &mut recorder, &mut connect);
        match deadline {
            Some(deadline) => {
                tokio::time::timeout_at(deadline, work).await.unwrap_or(Ok(End::TimeUp))
            }
            None => work.await,
        }
    };
    let end = end.unwrap_or_else(|error| End::Failed(error.to_string()));
    // Out of time without a byte is a failure, not a slow line.
    let end = match end {
        End::TimeUp if recorder.bytes() == 0 => End::Failed("no byte came".into()),
        end => end,
    };
    Transfer { connect_ms: connect.as_secs_f64() * 1e3, ..recorder.finish(end) }
}

async fn receive(
    ns: &Namespace,
    job: &Download,
    recorder: &mut Recorder,
    connect: &mut Duration,
) -> io::Result<End> {
    let start = Instant::now();
    let mut stream = patient(job.patience, ns.tcp_connect(job.from)).await?;
    *connect = start.elapsed();
    let pattern = Pattern::new(job.seed);
    stream
        .write_all(request("GET", &format!("/bytes/{}", job.bytes), job.seed, 0).as_bytes())
        .await?;
    let mut buffer = Vec::new();
    let length = patient(job.patience, http::read_response(&mut stream, &mut buffer)).await?;
    if length != job.bytes {
        return Ok(End::Failed(format!("{length} bytes offered, {} asked for", job.bytes)));
    }
    let mut piece = buffer;
    piece.reserve(256 * 1024);
    loop {
        if let Some(at) = pattern.first_wrong(recorder.bytes(), &piece) {
            return Ok(End::Wrong(at));
        }
        if !piece.is_empty() {
            recorder.arrived(piece.len());
            job.progress.fetch_add(piece.len(), Ordering::Relaxed);
        }
        if recorder.bytes() >= job.bytes {
            return Ok(End::Complete);
        }
        piece.clear();
        if patient(job.patience, stream.read_buf(&mut piece)).await? == 0 {
            return Ok(End::Failed("closed too early".into()));
        }
    }
}

/// Uploads so many bytes to the HTTP origin; the report is the origin's own.
pub async fn upload(ns: &Namespace, to: SocketAddr, bytes: u64, patience: Duration) -> Transfer {
    let start = Instant::now();
    let work = async {
        let mut stream = patient(patience, ns.tcp_connect(to)).await?;
        let connect = start.elapsed();
        // One that is given up ends at once: what lies in buffers on its way would be in the way of
        // what is measured next.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let seed = bytes ^ 0x7570;
        stream.write_all(request("POST", "/sink", seed, bytes).as_bytes()).await?;
        let pattern = Pattern::new(seed);
        let mut sent = 0;
        while sent < bytes {
            let most = usize::try_from(bytes - sent).unwrap_or(usize::MAX).min(256 * 1024);
            sent += patient(patience, stream.write(pattern.piece(sent, most))).await? as u64;
        }
        let mut buffer = Vec::new();
        let length = patient(patience, http::read_response(&mut stream, &mut buffer)).await?;
        while (buffer.len() as u64) < length {
            if patient(patience, stream.read_buf(&mut buffer)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        SockRef::from(&stream).set_linger(None)?;
        let report: Transfer = serde_json::from_slice(&buffer)?;
        Ok::<_, io::Error>(Transfer { connect_ms: connect.as_secs_f64() * 1e3, ..report })
    };
    work.await.unwrap_or_else(|error| Recorder::new(start).finish(End::Failed(error.to_string())))
}

/// Sends bytes to an echo server and checks them as they come back, both ways at once; then
/// half-closes and waits for the other half.
pub async fn echo(ns: &Namespace, to: SocketAddr, bytes: u64, patience: Duration) -> Transfer {
    let start = Instant::now();
    let mut recorder = Recorder::new(start);
    let pattern = Pattern::new(bytes ^ 0x6563_686f);
    let work = async {
        let stream = patient(patience, ns.tcp_connect(to)).await?;
        let connect = start.elapsed();
        let (mut reader, mut writer) = stream.into_split();
        let send = async {
            let mut sent = 0;
            while sent < bytes {
                let most = usize::try_from(bytes - sent).unwrap_or(usize::MAX).min(256 * 1024);
                sent += patient(patience, writer.write(pattern.piece(sent, most))).await? as u64;
            }
            writer.shutdown().await
        };
        let receive = async {
            let mut chunk = vec![0; 256 * 1024];
            loop {
                let len = patient(patience, reader.read(&mut chunk)).await?;
                if len == 0 {
                    return Ok(match recorder.bytes() == bytes {
                        true => End::Complete,
                        false => End::Failed("closed too early".into()),
                    });
                }
                if let Some(at) = pattern.first_wrong(recorder.bytes(), &chunk[..len]) {
                    return Ok(End::Wrong(at));
                }
                recorder.arrived(len);
            }
        };
        let ((), end) = tokio::try_join!(send, receive)?;
        Ok::<_, io::Error>((connect, end))
    };
    let (connect, end) =
        work.await.unwrap_or_else(|error| (Duration::ZERO, End::Failed(error.to_string())));
    Transfer { connect_ms: connect.as_secs_f64() * 1e3, ..recorder.finish(end) }
}

/// One short request: connect, ask, first byte, last byte.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Until connected.
    pub connect: Duration,
    /// Until the answer's first byte.
    pub first_byte: Duration,
    /// Until its last.
    pub total: Duration,
}

/// Fetches `bytes` over a connection of its own, and checks them.
///
/// # Errors
/// When the connection fails, ends early or brings a wrong byte.
pub async fn fetch(
    ns: &Namespace,
    from: SocketAddr,
    bytes: u64,
    seed: u64,
    patience: Duration,
) -> io::Result<Timing> {
    let start = Instant::now();
    let mut stream: TcpStream = patient(patience, ns.tcp_connect(from)).await?;
    let connect = start.elapsed();
    stream.set_nodelay(true)?;
    stream.write_all(request("GET", &format!("/bytes/{bytes}"), seed, 0).as_bytes()).await?;
    let mut buffer = Vec::new();
    patient(patience, stream.read_buf(&mut buffer)).await?;
    let first_byte = start.elapsed();
    let length = patient(patience, http::read_response(&mut stream, &mut buffer)).await?;
    while (buffer.len() as u64) < length {
        if patient(patience, stream.read_buf(&mut buffer)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let total = start.elapsed();
    match Pattern::new(seed).first_wrong(0, &buffer) {
        None if length == bytes => Ok(Timing { connect, first_byte, total }),
        None => Err(io::Error::other(format!("{length} bytes instead of {bytes}"))),
        Some(at) => Err(io::Error::other(format!("byte {at} is wrong"))),
    }
}

/// Many short connections, `concurrency` at a time, each fetching `bytes`.
pub async fn connections(
    ns: &Namespace,
    from: SocketAddr,
    count: usize,
    concurrency: usize,
    bytes: u64,
    patience: Duration,
) -> Connections {
    let start = Instant::now();
    let next = AtomicUsize::new(0);
    let worker = || async {
        let mut done = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count {
                return done;
            }
            done.push(fetch(ns, from, bytes, seed as u64, patience).await);
        }
    };
    let results =
        futures_util::future::join_all((0..concurrency.min(count)).map(|_| worker())).await;
    let mut report = Connections { seconds: start.elapsed().as_secs_f64(), ..Default::default() };
    let mut timings = Vec::new();
    for result in results.into_iter().flatten() {
        match result {
            Ok(timing) => timings.push(timing),
            Err(error) => {
                report.failed += 1;
                if report.errors.len() < 10 {
                    report.errors.push(error.to_string());
                }
            }
        }
    }
    let pick =
        |f: fn(&Timing) -> Duration| Quantiles::of(&timings.iter().map(f).collect::<Vec<_>>());
    report.ok = timings.len();
    report.connect = pick(|t| t.connect);
    report.first_byte = pick(|t| t.first_byte);
    report.total = pick(|t| t.total);
    report
}

fn request(method: &str, path: &str, seed: u64, length: u64) -> String {
    format!(
        "{method} {path}?seed={seed} HTTP/1.1\r\nHost: origin\r\nContent-Length: {length}\r\n\r\n"
    )
}

/// Waits so long for one step.
async fn patient<T>(time: Duration, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(time, step).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long"))
    })
}
