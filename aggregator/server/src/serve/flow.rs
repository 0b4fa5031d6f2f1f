//! One flow on a lane, as the server carries it: admitted, connected, pumped to its end, and moved to
//! another lane if the router asks for it there.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, trace};
use wanbond_proto::lane::{
    FlowKeys, Frame, FrameKind, LaneError, Open, RecordType, ResetReason, Target,
};
use wanbond_relay::{Again, FlowEnd, LaneEvent, LaneFault, Pump, Side};

use super::Shared;
use super::lane::{Lane, LaneEnd, told};
use super::moves::{Move, Moving, Old, Successor};
use super::service;
use super::sessions::ServerSession;
use crate::egress::EgressError;
use crate::limits::FlowPermit;

/// What a flow may send before its target is connected; the router stops there too.
const EARLY_BYTES: usize = 128 * 1024;
/// A target that takes longer is told of: the router need not ask elsewhere.
const SIGN_OF_LIFE: Duration = Duration::from_millis(5);
/// For how long a flow can move: a router that has heard nothing for so long has given up.
const MOVABLE: Duration = Duration::from_secs(20);
/// The lane of a flow that can move is gone, or the flow has ended: how long a new lane may take.
const SUCCESSION: Duration = Duration::from_secs(5);

/// A flow that a router opens.
pub(super) struct NewFlow {
    pub(super) session: Arc<ServerSession>,
    pub(super) keys: FlowKeys,
    pub(super) open: Open,
    /// `None` if its id was used before.
    pub(super) moves: Option<Move>,
}

enum Connecting {
    Connected(TcpStream),
    Failed(EgressError),
    Aborted,
}

/// What the client sends while its target is being connected.
#[derive(Default)]
struct Early {
    bytes: Vec<u8>,
    /// The client has ended its direction.
    finished: bool,
    /// What a new lane will bring again.
    again: Again,
}

impl Early {
    /// Takes a record. `false` if the client has aborted.
    fn take(&mut self, kind: RecordType, payload: &[u8]) -> Result<bool, LaneError> {
        match kind {
            RecordType::Data => {
                let new = self.again.skip(payload.len());
                if self.finished && new < payload.len() {
                    return Err(LaneError::Unexpected);
                }
                self.bytes.extend_from_slice(&payload[new..]);
            }
            RecordType::Fin if self.again.fin => self.again.fin = false,
            RecordType::Fin if !self.finished => self.finished = true,
            RecordType::Reset => return Ok(false),
            _ => return Err(LaneError::Unexpected),
        }
        Ok(true)
    }
}

impl Lane {
    pub(super) async fn flow(&mut self, flow: NewFlow) -> Result<(), LaneEnd> {
        let NewFlow { session, mut keys, open, moves } = flow;
        let Some(mut moves) = moves else {
            return self.refuse(&mut keys, ResetReason::Stale).await;
        };
        match session.flows().instead_of(&open.instead_of) {
            Old::None if open.handover => return self.refuse(&mut keys, ResetReason::Stale).await,
            Old::None => {}
            Old::Carried(to) => {
                let handover = open.handover;
                return Err(LaneEnd::Moves(Box::new(Moving { to, keys, moves, handover })));
            }
            Old::Stays => return self.refuse(&mut keys, ResetReason::AlreadyOpen).await,
        }
        // Held for as long as the flow lasts.
        let permit = match self.admit(&session) {
            Ok(permit) => permit,
            Err(reason) => return self.refuse(&mut keys, reason).await,
        };
        let target = open.target;
        if let Target::Service(kind, seconds) = target {
            let Some(_permit) = session.router.admit_service() else {
                return self.refuse(&mut keys, ResetReason::TooMany).await;
            };
            let time = Duration::from_secs(seconds.into());
            let traffic = &session.router.traffic;
            service::serve(&mut self.lane, &mut keys, kind, time, traffic).await?;
            return Ok(self.done(&mut keys).await?);
        }
        let mut early = Early::default();
        let stream = match self.connect(&target, &mut keys, &mut early, &mut moves).await? {
            Connecting::Connected(stream) => stream,
            Connecting::Failed(error) => {
                debug!(router = session.router.name(), %target, %error, "target not connected");
                self.shared.refusals.target(&error);
                return self.refuse(&mut keys, reset_reason(&error)).await;
            }
            Connecting::Aborted => return Ok(self.done(&mut keys).await?),
        };
        let (end, unheard) = self.pump(&session, stream, &mut keys, &early, moves).await?;
        drop(permit);
        if end != FlowEnd::Complete {
            self.shared.refusals.reset();
            trace!(%target, ?end, "flow aborted");
        } else if let Some((sent, moves)) = unheard {
            self.say_again(&sent, moves).await?;
        }
        Ok(())
    }

    /// A flow has ended of which the router may have heard nothing: says all of it again where the
    /// router asks for it. Whatever comes on this lane shows that it has.
    async fn say_again(&mut self, sent: &[u8], mut moves: Move) -> Result<(), LaneEnd> {
        let mut stopping = self.shared.stopping.clone();
        loop {
            let mut successor = tokio::select! {
                biased;
                successor = moves.next() => successor,
                frame = self.lane.frame() => match frame {
                    Ok(_) => return Ok(()),
                    Err(fault @ LaneFault::Io(_)) => {
                        succession(&mut moves, &self.shared).await.ok_or(fault)?
                    }
                    Err(fault) => return Err(fault.into()),
                },
                () = told(&mut stopping) => return Ok(()),
                () = sleep(SUCCESSION) => return Ok(()),
            };
            successor.lane.queue_again(&mut successor.keys.seal, sent);
            successor.lane.queue_record(&mut successor.keys.seal, RecordType::Fin, &[]);
            let mut keys = self.move_here(successor, &mut moves);
            self.done(&mut keys).await?;
            // What the router sent again is skipped.
            while let Ok(frame) = timeout(SUCCESSION, self.lane.frame()).await {
                let frame = frame?;
                if frame.kind != FrameKind::Record {
                    break;
                }
                self.lane.consume(&frame);
            }
        }
    }

    /// Room for the flow.
    fn admit(&self, session: &ServerSession) -> Result<FlowPermit, ResetReason> {
        session.router.admit_flow(self.shared.clock.now()).map_err(|refusal| {
            debug!(router = session.router.name(), %refusal, "flow refused");
            self.shared.refusals.limit(&refusal);
            ResetReason::TooMany
        })
    }

    async fn refuse(&mut self, keys: &mut FlowKeys, reason: ResetReason) -> Result<(), LaneEnd> {
        self.lane.queue_record(&mut keys.seal, RecordType::Reset, &[reason as u8]);
        Ok(self.done(keys).await?)
    }

    async fn done(&mut self, keys: &mut FlowKeys) -> Result<(), LaneFault> {
        self.lane.queue_record(&mut keys.seal, RecordType::Done, &[]);
        self.lane.flush().await
    }

    /// Connects to the target, while taking what the client sends meanwhile, which it then has.
    async fn connect(
        &mut self,
        target: &Target,
        keys: &mut FlowKeys,
        early: &mut Early,
        moves: &mut Move,
    ) -> Result<Connecting, LaneEnd> {
        let shared = Arc::clone(&self.shared);
        let mut connect = std::pin::pin!(shared.egress.connect(target));
        let mut sign_of_life = Some(Instant::now() + SIGN_OF_LIFE);
        // The lane is lost, and the router may ask elsewhere until then.
        let mut lost: Option<(LaneFault, Instant)> = None;
        let connected = loop {
            let reads = early.bytes.len() < EARLY_BYTES || self.lane.queued() > 0;
            let timer = lost.as_ref().map(|(_, until)| *until).or(sign_of_life);
            // The first flow of a lane is often whole in the buffer already, but the connection
            // must not wait for it.
            tokio::select! {
                biased;
                connected = &mut connect, if lost.is_none() => break connected,
                successor = moves.next() => {
                    if successor.handover {
                        // Only what has been answered is handed over.
                        drop(tokio::spawn(successor.refuse()));
                        continue;
                    }
                    *keys = self.move_here(successor, moves);
                    early.again = Again { bytes: early.bytes.len(), fin: early.finished };
                    lost = None;
                }
                event = self.lane.event(), if reads && lost.is_none() => match event {
                    Ok(LaneEvent::Flushed) => {}
                    Ok(LaneEvent::Frame(frame)) => {
                        if !self.early(&frame, keys, early)? {
                            return Ok(Connecting::Aborted);
                        }
                    }
                    Err(fault @ LaneFault::Io(_)) => lost = Some((fault, Instant::now() + SUCCESSION)),
                    Err(fault) => return Err(fault.into()),
                },
                () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                    if let Some((fault, _)) = lost {
                        return Err(fault.into());
                    }
                    sign_of_life = None;
                    self.lane.queue_lane_record(RecordType::Pong, &[]);
                }
            }
        };
        let stream = match connected {
            Ok(stream) => stream,
            Err(error) => return Ok(Connecting::Failed(error)),
        };
        let mut rest = early.bytes.as_slice();
        while !rest.is_empty() {
            let sent = match stream.try_write(rest) {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    stream.writable().await.map(|()| 0).unwrap_or(0)
                }
                // Reading the socket tells the same, and the pump passes it on.
                Err(_) => break,
            };
            rest = &rest[sent..];
        }
        if early.finished {
            let _ = socket2::SockRef::from(&stream).shutdown(std::net::Shutdown::Write);
        }
        Ok(Connecting::Connected(stream))
    }

    /// A frame before the target is connected. `false` if the client has aborted.
    fn early(
        &mut self,
        frame: &Frame,
        keys: &mut FlowKeys,
        early: &mut Early,
    ) -> Result<bool, LaneEnd> {
        match frame.kind {
            FrameKind::LaneRecord => {
                self.lane.handle_lane_record(frame)?;
                Ok(true)
            }
            FrameKind::Record => {
                let record = frame.open(&mut keys.open, self.lane.frame_bytes(frame))?;
                let goes_on = early.take(record.kind, record.payload)?;
                self.lane.consume(frame);
                Ok(goes_on)
            }
            FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => {
                Err(LaneError::Unexpected.into())
            }
        }
    }

    /// Goes on on this lane. Gives the flow's keys there.
    fn move_here(&mut self, successor: Box<Successor>, moves: &mut Move) -> FlowKeys {
        self.lane = successor.lane;
        self.peer = successor.peer;
        self.last_flow = successor.last_flow;
        *moves = successor.moves;
        successor.keys
    }

    /// Tells the router that the target is connected, and carries the flow to its end. If it is not
    /// known whether the router has heard of it, gives also what was sent.
    async fn pump(
        &mut self,
        session: &ServerSession,
        stream: TcpStream,
        keys: &mut FlowKeys,
        early: &Early,
        moves: Move,
    ) -> Result<(FlowEnd, Option<(Vec<u8>, Move)>), LaneEnd> {
        self.lane.queue_record(&mut keys.seal, RecordType::Connected, &[]);
        let traffic = &session.router.traffic;
        let shared = Arc::clone(&self.shared);
        let pump = Pump::new(Side::Server, stream, &mut self.lane, keys, traffic);
        let pump = if early.finished { pump.receiving_ended() } else { pump };
        let mut pump = pump.movable(early.bytes.len(), early.again);
        let until = Instant::now() + MOVABLE;
        let mut moves = moves;
        let mut here = None;
        let end = loop {
            let movable = pump.is_movable();
            let successor = tokio::select! {
                biased;
                successor = moves.next() => Some(successor),
                end = pump.run() => match end {
                    Err(fault @ LaneFault::Io(_)) if pump.is_movable() => {
                        Some(succession(&mut moves, &shared).await.ok_or(fault)?)
                    }
                    end => break end?,
                },
                () = sleep_until(until), if movable => None,
            };
            match successor {
                Some(successor) if successor.handover && !pump.is_leaving() => {
                    here = Some((successor.peer, successor.last_flow));
                    pump.hand_over(successor.lane, successor.keys);
                    moves = successor.moves;
                }
                Some(successor) if !successor.handover && pump.is_movable() => {
                    here = Some((successor.peer, successor.last_flow));
                    pump.move_to(successor.lane, successor.keys);
                    moves = successor.moves;
                }
                Some(successor) => drop(tokio::spawn(successor.refuse())),
                None => pump.settle(),
            }
        };
        let unheard = pump.into_sent().map(|sent| (sent, moves));
        if let Some((peer, last_flow)) = here {
            (self.peer, self.last_flow) = (peer, last_flow);
        }
        Ok((end, unheard))
    }
}

/// The new lane of a flow whose own is gone, if there is one in time.
async fn succession(moves: &mut Move, shared: &Shared) -> Option<Box<Successor>> {
    let mut stopping = shared.stopping.clone();
    tokio::select! {
        successor = moves.next() => Some(successor),
        () = told(&mut stopping) => None,
        () = sleep(SUCCESSION) => None,
    }
}

fn reset_reason(error: &EgressError) -> ResetReason {
    match error {
        EgressError::Refused => ResetReason::Refused,
        EgressError::Unreachable | EgressError::NoRoute => ResetReason::Unreachable,
        EgressError::TimedOut => ResetReason::TimedOut,
        EgressError::Denied(_) => ResetReason::Denied,
        EgressError::NameNotFound => ResetReason::NameNotFound,
        EgressError::NameFailure => ResetReason::NameFailure,
        EgressError::TooMany => ResetReason::TooMany,
        EgressError::Other(_) => ResetReason::Internal,
    }
}
