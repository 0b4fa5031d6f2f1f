//! Opening a flow on a lane, and again on another when that one fails before it has answered.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::debug;
use wanbond_proto::handshake::unknown_session;
use wanbond_proto::lane::{FlowKeys, FrameKind, LaneError, Open, RecordType, ResetReason, Target};
use wanbond_proto::session::FlowId;
use wanbond_relay::LaneFault;

use super::haste::Awaited;
use super::is_lane_only;
use crate::lanes::connect::{handshake_message, stream_possible};
use crate::lanes::{BusyLane, LaneUnavailable};
use crate::link::LinkHint;
use crate::shared::{Shared, count};
use crate::wan::counters;

/// How long a client is kept waiting for a lane: a session being made anew, a WAN coming back.
const PATIENCE: Duration = Duration::from_secs(15);
/// What is kept of the client's first bytes until the server has answered, so that they can be
/// sent again. The client waits after that; it will have heard of the answer by then.
const RETAINED: usize = 64 * 1024;
/// A lane is asked for a sign of life when an answer takes longer than this and two
/// round trips.
const ASK_AFTER: Duration = Duration::from_millis(250);
/// And given up when none came for this long and three more.
const GIVE_UP_AFTER: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 5;

/// Why a flow was not opened.
#[derive(Debug, Error)]
pub(super) enum NotOpened {
    #[error("the server answers: {0:?}")]
    Target(ResetReason),
    #[error("the client went away: {0}")]
    Client(io::Error),
    #[error(transparent)]
    NoLane(#[from] LaneUnavailable),
    #[error("lane after lane failed")]
    Lanes,
    #[error("the server is gone, and connections go around it")]
    ServerGone,
    #[error("{0}")]
    Protocol(LaneFault),
}

/// A flow whose target is connected.
pub(super) struct Opened {
    pub(super) client: TcpStream,
    pub(super) lane: BusyLane,
    pub(super) keys: FlowKeys,
    /// What the server knows it by.
    pub(super) asked: Asked,
    /// The client has ended its direction, and the server knows.
    pub(super) sending_ended: bool,
}

/// What one attempt came to.
enum Attempt {
    Connected {
        lane: BusyLane,
        keys: FlowKeys,
        asked: Asked,
    },
    /// The target, or the server's rules, said no.
    Refused {
        reason: ResetReason,
        lane: BusyLane,
        keys: FlowKeys,
    },
    /// The lane failed, or the server did not take the flow: try another.
    Again {
        taken: Taken,
    },
    /// The lane is silent, and the flow is to be asked for over the tunnel.
    Haste(Asked),
    /// The server does not know the session, and so has not taken the flow.
    Forgotten {
        session: u32,
    },
    NoLane(LaneUnavailable),
    Client {
        error: io::Error,
        lane: BusyLane,
        keys: FlowKeys,
    },
    Fault(LaneFault),
}

/// Whether the server may have taken the flow.
enum Taken {
    No,
    Perhaps(Asked),
}

/// A flow that was asked for, to be named when it is asked for elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) flow: FlowId,
    pub(super) session: u32,
}

/// What is known of the client's direction.
#[derive(Default)]
struct Early {
    bytes: Vec<u8>,
    ended: bool,
}

/// Opens a flow to `target`.
pub(super) async fn open(
    shared: &Arc<Shared>,
    client: TcpStream,
    target: SocketAddr,
) -> Result<Opened, (Option<TcpStream>, NotOpened)> {
    let deadline = Instant::now() + PATIENCE;
    let mut early = Early::default();
    let mut unanswered = Vec::new();
    let mut attempts = 0;
    // Over the tunnel, next.
    let mut haste = false;
    shared.haste.opened();
    while attempts < ATTEMPTS && Instant::now() < deadline {
        let attempt = async {
            let lane = match std::mem::take(&mut haste).then(|| shared.lanes.stream(shared)) {
                Some(Ok(stream)) => stream,
                _ => shared.lanes.take(shared, deadline).await?,
            };
            Ok(try_open(shared, &client, target, lane, &mut early, &unanswered).await)
        };
        let attempt = tokio::select! {
            attempt = attempt => attempt,
            () = shared.gone_direct() => return Err((Some(client), NotOpened::ServerGone)),
        };
        match attempt.unwrap_or_else(Attempt::NoLane) {
            Attempt::NoLane(error) => return Err((Some(client), error.into())),
            Attempt::Connected { lane, keys, asked } => {
                return Ok(Opened { client, lane, keys, asked, sending_ended: early.ended });
            }
            Attempt::Refused { reason, lane, keys } => {
                tokio::spawn(boxed(super::recover(lane, keys)));
                return Err((Some(client), NotOpened::Target(reason)));
            }
            Attempt::Client { error, lane, keys } => {
                tokio::spawn(boxed(super::recover(lane, keys)));
                return Err((None, NotOpened::Client(error)));
            }
            Attempt::Fault(fault) => return Err((Some(client), NotOpened::Protocol(fault))),
            Attempt::Again { taken: Taken::No } => attempts += 1,
            Attempt::Again { taken: Taken::Perhaps(asked) } => {
                unanswered.push(asked);
                attempts += 1;
            }
            Attempt::Haste(asked) => {
                unanswered.push(asked);
                attempts += 1;
                haste = true;
            }
            // Every lane would say the same until there is a new session, so this is no attempt.
            Attempt::Forgotten { session } => {
                if !session_replaced(shared, session, deadline).await {
                    break;
                }
            }
        }
        count(&shared.counters.retried);
    }
    Err((Some(client), NotOpened::Lanes))
}

/// Waits until the session is another than the one that the server has forgotten, or none.
/// `false` if that took too long.
async fn session_replaced(shared: &Shared, forgotten: u32, deadline: Instant) -> bool {
    let mut changes = shared.sessions.subscribe();
    while shared.sessions.current().is_some_and(|s| s.remote_index() == forgotten) {
        if timeout_at(deadline, changes.changed()).await.is_err() {
            return false;
        }
    }
    true
}

async fn try_open(
    shared: &Arc<Shared>,
    client: &TcpStream,
    target: SocketAddr,
    mut lane: BusyLane,
    early: &mut Early,
    unanswered: &[Asked],
) -> Attempt {
    let Some(session) = shared.sessions.current() else {
        return Attempt::Again { taken: Taken::No };
    };
    let flow = session.next_flow_id();
    // A flow id means something within its session only. If that is gone, so is what the server
    // did with it.
    let ours = unanswered.iter().filter(|asked| asked.session == session.remote_index());
    let instead_of = ours.map(|asked| asked.flow).collect();
    let open = Open { instead_of, handover: false, target: Target::Address(target) };
    let mut keys = session.with(|s| lane.stream.queue_open(s, flow, &open));
    for piece in early.bytes.chunks(16 * 1024) {
        lane.stream.queue_record(&mut keys.seal, RecordType::Data, piece);
    }
    if early.ended {
        lane.stream.queue_record(&mut keys.seal, RecordType::Fin, &[]);
    }
    let asked = Asked { flow, session: session.remote_index() };

    let srtt = shared
        .wans
        .borrow()
        .iter()
        .find(|wan| wan.path == lane.path)
        .and_then(|wan| wan.srtt)
        .unwrap_or_default();
    let start = Instant::now();
    let hasty = unanswered.is_empty() && !lane.stream.carrier().is_stream();
    let mut awaited = hasty.then(|| Awaited::new(start, srtt));
    let mut ask_at = Some(start + ASK_AFTER + 2 * srtt);
    let mut give_up_at: Option<Instant> = None;
    loop {
        let flushing = lane.stream.queued() > 0;
        let reading = !early.ended && early.bytes.len() < RETAINED && !flushing;
        let timer = [awaited.as_ref().map(|awaited| awaited.look_at), give_up_at, ask_at];
        let timer = timer.into_iter().flatten().min();
        tokio::select! {
            biased;
            event = poll_lane(&mut lane, flushing) => match event {
                LaneEvent::Flushed => {}
                LaneEvent::Fault(fault) if is_lane_only(&fault) => {
                    debug!(%fault, "lane lost before it answered");
                    return Attempt::Again { taken: Taken::Perhaps(asked) };
                }
                LaneEvent::Fault(fault) => return Attempt::Fault(fault),
                LaneEvent::Frame(frame) => match frame.kind {
                    FrameKind::LaneRecord => match lane.stream.handle_lane_record(&frame) {
                        // The server stops taking opens; it may have been faster than ours.
                        Ok(RecordType::Goodbye) => return Attempt::Again { taken: Taken::No },
                        Ok(RecordType::Pong) => {
                            // The server has it; it is the target that takes its time.
                            awaited = None;
                            give_up_at = None;
                        }
                        Ok(_) => {}
                        Err(fault) => return Attempt::Fault(fault),
                    },
                    FrameKind::Handshake => {
                        let message = handshake_message(&mut lane.stream, &frame).unwrap_or_default();
                        // It may speak of an older session, in which the lane was opened.
                        let forgotten = unknown_session::decode(&message)
                            .is_some_and(|(index, _)| index == session.remote_index());
                        let _ = shared.link.try_send(LinkHint::Message(message));
                        if forgotten {
                            return Attempt::Forgotten { session: session.remote_index() };
                        }
                        return Attempt::Again { taken: Taken::No };
                    }
                    FrameKind::Record => {
                        let bytes = lane.stream.frame_bytes(&frame);
                        let (kind, reason) = match frame.open(&mut keys.open, bytes) {
                            Ok(record) => (record.kind, record.payload.first().copied()),
                            Err(error) => return Attempt::Fault(error.into()),
                        };
                        lane.stream.consume(&frame);
                        match kind {
                            RecordType::Connected => return Attempt::Connected { lane, keys, asked },
                            RecordType::Reset => {
                                let reason = reason.map_or(ResetReason::Internal, ResetReason::from_byte);
                                if reason.may_retry() {
                                    tokio::spawn(boxed(super::recover(lane, keys)));
                                    return Attempt::Again { taken: Taken::No };
                                }
                                return Attempt::Refused { reason, lane, keys };
                            }
                            _ => return Attempt::Fault(LaneError::Unexpected.into()),
                        }
                    }
                    FrameKind::Open | FrameKind::Datagram => return Attempt::Fault(LaneError::Unexpected.into()),
                },
            },
            ready = client.readable(), if reading => {
                if let Err(error) = read_client(client, ready, early, &mut lane, &mut keys) {
                    lane.stream.queue_record(
                        &mut keys.seal,
                        RecordType::Reset,
                        &[ResetReason::Aborted as u8],
                    );
                    if lane.stream.flush().await.is_err() {
                        return Attempt::Again { taken: Taken::Perhaps(asked) };
                    }
                    return Attempt::Client { error, lane, keys };
                }
            }
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                let now = Instant::now();
                if let Some(looked) = awaited.as_mut().filter(|awaited| awaited.look_at <= now) {
                    if !stream_possible(shared) {
                        awaited = None;
                    } else if looked.is_silent(now, received(shared)) {
                        awaited = None;
                        if shared.haste.take() {
                            debug!(%target, "WAN is silent, asking over the tunnel");
                            return Attempt::Haste(asked);
                        }
                    }
                } else if give_up_at.is_some() {
                    debug!(%target, "lane is silent, trying another");
                    return Attempt::Again { taken: Taken::Perhaps(asked) };
                } else {
                    ask_at = None;
                    awaited = None;
                    lane.stream.queue_lane_record(RecordType::Ping, &[]);
                    give_up_at = Some(Instant::now() + GIVE_UP_AFTER + 3 * srtt);
                }
            }
        }
    }
}

/// Packets that the WANs have brought which carry lanes.
fn received(shared: &Shared) -> Vec<Option<u64>> {
    // Nobody waits for the lock while the kernel is asked.
    let wans = Arc::clone(&shared.wans.borrow());
    let carrying = wans.iter().filter(|wan| wan.joins_lanes());
    counters::received(carrying.filter_map(|wan| wan.device.as_deref()))
}

enum LaneEvent {
    Flushed,
    Frame(wanbond_proto::lane::Frame),
    Fault(LaneFault),
}

/// What happens first on the lane: all is written, or a frame has come.
async fn poll_lane(lane: &mut BusyLane, flushing: bool) -> LaneEvent {
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        if flushing && let Poll::Ready(flushed) = lane.stream.poll_flush(cx) {
            return Poll::Ready(flushed.map_or_else(LaneEvent::Fault, |()| LaneEvent::Flushed));
        }
        lane.stream.poll_frame(cx).map(|f| f.map_or_else(LaneEvent::Fault, LaneEvent::Frame))
    })
    .await
}

/// Reads what the client has sent, keeps it, and queues it on the lane.
fn read_client(
    client: &TcpStream,
    ready: io::Result<()>,
    early: &mut Early,
    lane: &mut BusyLane,
    keys: &mut FlowKeys,
) -> io::Result<()> {
    ready?;
    let start = early.bytes.len();
    early.bytes.reserve_exact((RETAINED - start).min(4096));
    match client.try_read_buf(&mut early.bytes) {
        Ok(0) => {
            early.ended = true;
            lane.stream.queue_record(&mut keys.seal, RecordType::Fin, &[]);
        }
        Ok(_) => {
            lane.stream.queue_record(&mut keys.seal, RecordType::Data, &early.bytes[start..]);
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
