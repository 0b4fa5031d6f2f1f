//! Opening a lane: on the best living WAN, by its source address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;
use wanbond_control::words::{MptcpState, Role, TcpMode};
use wanbond_linux::socket::{ConnectOptions, connect, mptcp_info, mptcp_info_supported};
use wanbond_proto::wan::State;
use wanbond_relay::LaneStream;

use super::Lane;
use crate::shared::{Shared, WanEvidence, WanView};
use crate::wan::duty::Duty;

/// Bytes that wait unsent in the kernel before a socket stops being writable: enough to keep every
/// subflow busy between two wake-ups, little enough that bulk does not delay what comes after it.
const NOTSENT_LOWAT: u32 = 128 * 1024;
/// How long a connect over one WAN may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// A second WAN is tried when the first has not answered for this long, or for two round trips.
const RACE_AFTER: Duration = Duration::from_millis(200);

/// A SYN that is not answered is sent again after a second (RFC 6298 §2), and after a few the kernel
/// leaves MPTCP out of it: such a connection says nothing about what networks strip.
const SYN_SENT_AGAIN: Duration = Duration::from_millis(950);

/// The WANs in the order in which a lane is tried over them: living before silent ones, then by
/// role, then by round-trip time.
pub(super) fn candidates(wans: &[WanView]) -> Vec<WanView> {
    let mut usable: Vec<WanView> =
        wans.iter().filter(|wan| wan.is_linked() && wan.role != Role::Off).cloned().collect();
    usable.sort_by_key(|wan| {
        let life = match wan.state {
            State::Up => 0,
            State::Probing => 1,
            State::Down => 2,
        };
        let role = match (wan.duty, wan.role) {
            (Duty::Active, Role::Bond) => 0,
            (Duty::Active, _) => 1,
            (_, Role::Overflow) => 2,
            _ => 3,
        };
        // On a WAN that strips MPTCP a lane would be alone there.
        let stripped = wan.mptcp == MptcpState::Stripped;
        (life, role, stripped, wan.srtt.unwrap_or(Duration::MAX))
    });
    usable
}

/// Where to connect from and to: the first family that the WAN and the server share.
fn addresses(shared: &Shared, wan: &WanView) -> Option<(IpAddr, SocketAddr)> {
    let server = shared.server.borrow();
    wan.sockets.iter().find_map(|s| Some((s.source, server.reachable_from(s.source)?)))
}

/// Connects to the server over one WAN, as the first subflow of an MPTCP connection where the
/// kernel can.
pub(crate) async fn connect_over(shared: &Shared, wan: &WanView) -> io::Result<TcpStream> {
    let (source, server) = addresses(shared, wan).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let options = ConnectOptions {
        source: Some(source),
        mptcp: shared.mptcp,
        congestion: shared.congestion.clone(),
        notsent_lowat: Some(NOTSENT_LOWAT),
        ..ConnectOptions::default()
    };
    timeout(CONNECT_TIME, connect(server, &options))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Opens a lane over this WAN; its Hello is on the way, and the server's Ready not waited for.
async fn open_over(shared: Arc<Shared>, wan: WanView) -> io::Result<Lane> {
    let session = shared.sessions.current().ok_or(io::ErrorKind::NotConnected)?;
    let started = Instant::now();
    let stream = match connect_over(&shared, &wan).await {
        Ok(stream) => stream,
        Err(error) => {
            debug!(wan = %wan.name, %error, "lane not connected");
            let _ = shared.evidence.try_send(WanEvidence::LaneFailed { path: wan.path });
            return Err(error);
        }
    };
    let mptcp = if !shared.mptcp {
        MptcpState::Unsupported
    } else if !mptcp_info_supported() {
        MptcpState::Unknown
    } else if mptcp_info(&stream)?.is_some() {
        MptcpState::Working
    } else if started.elapsed() >= SYN_SENT_AGAIN {
        MptcpState::Unknown
    } else {
        MptcpState::Stripped
    };
    let plain = mptcp != MptcpState::Working && mptcp_info_supported();
    if shared.tcp == TcpMode::Mptcp && (plain || mptcp == MptcpState::Unsupported) {
        return Err(io::Error::other(
            "MPTCP does not get through, and the configuration allows nothing else",
        ));
    }
    let mut lane = LaneStream::new(stream, Arc::clone(&shared.pool));
    let flow = session.next_flow_id();
    session.with(|s| lane.queue_hello(s, flow));
    lane.flush().await.map_err(io::Error::other)?;
    Ok(Lane { stream: lane, path: wan.path, mptcp, opened: shared.clock.now(), reused: false })
}

/// Why flows ride the tunnel's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamsFor {
    /// The user wants it.
    Configured,
    /// This kernel has no MPTCP.
    NoMptcp,
    /// A living WAN would be left out: something on its way strips MPTCP.
    Stripped,
    /// MPTCP fills the lines' queues: [`super::preference`].
    Latency,
}

/// Why flows ride the tunnel's streams now, if they do.
pub(crate) fn streams_for(shared: &Shared) -> Option<StreamsFor> {
    match shared.tcp {
        TcpMode::Stream => Some(StreamsFor::Configured),
        TcpMode::Mptcp | TcpMode::Packet => None,
        TcpMode::Auto => {
            let reason = if shared.mptcp { StreamsFor::Stripped } else { StreamsFor::NoMptcp };
            let left_out = shared.wans.borrow().iter().any(|wan| {
                wan.state == State::Up
                    && wan.duty == Duty::Active
                    && (!shared.mptcp || wan.mptcp == MptcpState::Stripped)
            });
            let preferred = || shared.streams_preferred.borrow().then_some(StreamsFor::Latency);
            let live = || shared.tunnel().is_some_and(|tunnel| tunnel.is_live());
            left_out.then_some(reason).or_else(preferred).filter(|_| live())
        }
    }
}

/// Whether a single flow may ride a stream now, though the others ride lanes.
pub(crate) fn stream_possible(shared: &Shared) -> bool {
    matches!(shared.tcp, TcpMode::Auto | TcpMode::Stream)
        && shared.tunnel().is_some_and(|tunnel| tunnel.is_live())
}

/// A lane on a stream of the tunnel: there at once.
pub(crate) fn open_stream(shared: &Arc<Shared>) -> io::Result<Lane> {
    let not_connected = || io::Error::from(io::ErrorKind::NotConnected);
    let session = shared.sessions.current().ok_or_else(not_connected)?;
    let tunnel = shared.tunnel().ok_or_else(not_connected)?;
    let best = candidates(&shared.wans.borrow()).into_iter().next().ok_or_else(not_connected)?;
    let mut lane = LaneStream::new(tunnel.open_stream()?, Arc::clone(&shared.pool));
    let flow = session.next_flow_id();
    session.with(|s| lane.queue_hello(s, flow));
    Ok(Lane {
        stream: lane,
        path: best.path,
        mptcp: MptcpState::Unknown,
        opened: shared.clock.now(),
        reused: false,
    })
}

/// Opens a lane over the best WAN that answers.
///
/// # Errors
/// The last WAN's error if none answered.
pub(super) async fn open(shared: &Arc<Shared>) -> io::Result<Lane> {
    let mut waiting = candidates(&shared.wans.borrow()).into_iter();
    if !shared.mptcp {
        // Plain lanes use one WAN each: spread them.
        let mut all: Vec<WanView> = waiting.collect();
        let by_path = shared.lanes_by_path();
        let living = all.iter().take_while(|wan| wan.state == State::Up).count();
        all[..living].sort_by_key(|wan| by_path.get(&wan.path.number()).copied().unwrap_or(0));
        waiting = all.into_iter();
    }
    let mut racing = JoinSet::new();
    let mut error: io::Error = io::ErrorKind::NetworkUnreachable.into();
    let mut next_at = Instant::now();
    loop {
        if Instant::now() >= next_at
            && let Some(wan) = waiting.next()
        {
            let patience = wan.srtt.map_or(RACE_AFTER, |srtt| RACE_AFTER.max(2 * srtt));
            next_at = Instant::now() + patience;
            racing.spawn(boxed(open_over(Arc::clone(shared), wan)));
        }
        tokio::select! {
            Some(joined) = racing.join_next() => match joined {
                Ok(Ok(lane)) => return Ok(lane),
                Ok(Err(failed)) => {
                    error = failed;
                    // No need to wait for a WAN that has said no.
                    next_at = Instant::now();
                }
                Err(panicked) => error = io::Error::other(panicked),
            },
            () = sleep_until(next_at), if waiting.len() > 0 => {}
            else => return Err(error),
        }
    }
}

/// Opens a lane over exactly this WAN and waits until the server has answered on it: the lane is
/// then warm, and the WAN known to work.
pub(super) async fn open_warm(shared: &Arc<Shared>, wan: Option<WanView>) -> io::Result<Lane> {
    let started = Instant::now();
    let mut lane = match wan {
        Some(wan) => open_over(Arc::clone(shared), wan).await?,
        None => open(shared).await?,
    };
    let ready = timeout(CONNECT_TIME, wait_ready(&mut lane));
    ready.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    // A connect and a question: two round trips.
    let rtt = started.elapsed() / 2;
    let _ =
        shared.evidence.try_send(WanEvidence::LaneUp { path: lane.path, rtt, mptcp: lane.mptcp });
    Ok(lane)
}

async fn wait_ready(lane: &mut Lane) -> io::Result<()> {
    use wanbond_proto::lane::FrameKind;
    while lane.stream.freshness().is_none() {
        let frame = lane.stream.frame().await.map_err(io::Error::other)?;
        if frame.kind != FrameKind::LaneRecord {
            return Err(io::Error::other(NotReady(handshake_message(&mut lane.stream, &frame))));
        }
        lane.stream.handle_lane_record(&frame).map_err(io::Error::other)?;
    }
    Ok(())
}

/// The lane brought a handshake message ("unknown session") where Ready was expected.
#[derive(Debug)]
pub(super) struct NotReady(pub(super) Option<Vec<u8>>);

impl std::fmt::Display for NotReady {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server does not take the lane's session")
    }
}

impl std::error::Error for NotReady {}

/// The handshake message in a frame, if it is one.
pub(crate) fn handshake_message(
    lane: &mut LaneStream,
    frame: &wanbond_proto::lane::Frame,
) -> Option<Vec<u8>> {
    use wanbond_proto::lane::{FrameKind, HEAD_LEN};
    (frame.kind == FrameKind::Handshake).then(|| lane.frame_bytes(frame)[HEAD_LEN..].to_vec())
}
