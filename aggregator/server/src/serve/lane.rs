//! One lane: its frames between flows. What a flow is to the server: [`super::flow`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tracing::{debug, trace};
use wanbond_proto::handshake::unknown_session;
use wanbond_proto::lane::{Frame, FrameKind, LaneError, Open, OpenHead, RecordType};
use wanbond_proto::replay::Verdict;
use wanbond_proto::session::{FlowId, Freshness};
use wanbond_relay::{Carrier, LaneFault, LaneStream};

use super::Shared;
use super::carrier::DatagramCarrier;
use super::flow::NewFlow;
use super::moves::Moving;
use super::routers::LiveRouter;
use crate::limits::{LanePermit, Refusal};

/// How long an unknown peer may hold a connection without showing a session.
const GREETING_TIME: Duration = Duration::from_secs(10);
/// Handshake messages on one connection: one, and one after a cookie or a version answer.
const MAX_HANDSHAKES: u32 = 4;

#[derive(Debug, Error)]
pub(super) enum LaneEnd {
    #[error(transparent)]
    Fault(#[from] LaneFault),
    #[error("no session shown in time")]
    Silent,
    #[error("no such session: {0:#010x}")]
    UnknownSession(u32),
    #[error("router removed or disabled")]
    Revoked,
    #[error(transparent)]
    NoRoom(#[from] Refusal),
    #[error("server is stopping")]
    Stopping,
    /// Another task, whose flow this lane carries from now on, has it.
    #[error("a flow moves here")]
    Moves(Box<Moving>),
}

impl From<LaneError> for LaneEnd {
    fn from(error: LaneError) -> Self {
        Self::Fault(error.into())
    }
}

/// Serves a new connection until it ends.
pub(crate) async fn serve(shared: Arc<Shared>, stream: impl Into<Carrier>, peer: SocketAddr) {
    let unproven = match shared.limits.unproven(peer.ip()) {
        Ok(permit) => permit,
        Err(refusal) => {
            debug!(%peer, %refusal, "connection refused");
            shared.refusals.limit(&refusal);
            return;
        }
    };
    let lane = LaneStream::new(stream, Arc::clone(&shared.pool));
    let mut server = Lane { shared, lane, peer, known: None, last_flow: None, handshakes: 0 };
    let greeted = tokio::time::timeout(GREETING_TIME, server.greet()).await;
    drop(unproven);
    let end = match greeted {
        Ok(Ok(Greeting::Datagrams(carrier))) => server.carry(carrier).await,
        Ok(Ok(Greeting::Lane)) => server.serve(None).await,
        Ok(Ok(Greeting::Flow(first))) => server.serve(Some(*first)).await,
        Ok(Err(end)) => end,
        Err(_) => LaneEnd::Silent,
    };
    match end {
        LaneEnd::Moves(moving) => {
            let Lane { lane, peer, last_flow, .. } = server;
            moving.send(lane, peer, last_flow).await;
        }
        LaneEnd::Fault(LaneFault::Io(error)) => trace!(%peer, %error, "lane closed"),
        end => debug!(%peer, %end, "lane ended"),
    }
}

pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) lane: LaneStream,
    pub(super) peer: SocketAddr,
    /// Who is at the other end, once shown, and the room for this lane.
    known: Option<(Arc<LiveRouter>, LanePermit)>,
    /// The last flow opened here, with its session: ids only grow on a lane.
    pub(super) last_flow: Option<(u32, FlowId)>,
    handshakes: u32,
}

impl Lane {
    /// Until the peer has shown a session by an authentic first record.
    async fn greet(&mut self) -> Result<Greeting, LaneEnd> {
        loop {
            let frame = self.lane.frame().await?;
            match frame.kind {
                FrameKind::Handshake => self.handshake(&frame).await?,
                FrameKind::Open => {
                    let first = self.read_open(&frame).await?;
                    return Ok(
                        first.map_or(Greeting::Lane, |first| Greeting::Flow(Box::new(first)))
                    );
                }
                FrameKind::Datagram => {
                    let carrier = DatagramCarrier::new(&self.lane, self.peer);
                    let mut carrier = carrier.ok_or(LaneError::Unexpected)?;
                    let heard = carrier.take(&self.shared, &mut self.lane, &frame);
                    let router = heard.ok_or(LaneError::Unauthentic)?;
                    self.known = Some((Arc::clone(&router), router.admit_lane()?));
                    return Ok(Greeting::Datagrams(carrier));
                }
                FrameKind::Record | FrameKind::LaneRecord => {
                    return Err(LaneError::Unexpected.into());
                }
            }
        }
    }

    /// Carries datagrams for as long as the router may.
    async fn carry(&mut self, mut carrier: DatagramCarrier) -> LaneEnd {
        let mut stopping = self.shared.stopping.clone();
        let Some((router, _)) = &self.known else { return LaneEnd::Silent };
        tokio::select! {
            fault = carrier.run(&self.shared, &mut self.lane, router) => fault.into(),
            () = router.revoked() => LaneEnd::Revoked,
            () = told(&mut stopping) => LaneEnd::Stopping,
        }
    }

    async fn serve(&mut self, mut first: Option<NewFlow>) -> LaneEnd {
        let mut stopping = self.shared.stopping.clone();
        loop {
            let Some((router, _)) = &self.known else { return LaneEnd::Silent };
            let router = Arc::clone(router);
            let result = tokio::select! {
                result = self.next(first.take()) => result,
                () = router.revoked() => return LaneEnd::Revoked,
                // Only between flows: a flow in progress is given time to end.
                () = told(&mut stopping) => {
                    self.lane.queue_lane_record(RecordType::Goodbye, &[]);
                    return self.lane.flush().await.err().map_or(LaneEnd::Stopping, Into::into);
                }
            };
            let outcome = match result {
                Ok(Some(flow)) => {
                    tokio::select! {
                        result = self.flow(flow) => result,
                        () = router.revoked() => return LaneEnd::Revoked,
                    }
                }
                Ok(None) => Ok(()),
                Err(end) => Err(end),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn next(&mut self, first: Option<NewFlow>) -> Result<Option<NewFlow>, LaneEnd> {
        if first.is_some() { Ok(first) } else { self.step().await }
    }

    /// Handles one frame between flows; an open one gives the flow to be served.
    async fn step(&mut self) -> Result<Option<NewFlow>, LaneEnd> {
        let frame = self.lane.frame().await?;
        match frame.kind {
            FrameKind::Handshake => self.handshake(&frame).await?,
            FrameKind::LaneRecord => {
                self.lane.handle_lane_record(&frame)?;
                self.lane.flush().await?;
            }
            // What the router sent of a flow before it knew that the flow was over.
            FrameKind::Record => self.lane.consume(&frame),
            FrameKind::Datagram => return Err(LaneError::Unexpected.into()),
            FrameKind::Open => return self.read_open(&frame).await,
        }
        Ok(None)
    }

    async fn handshake(&mut self, frame: &Frame) -> Result<(), LaneEnd> {
        self.handshakes += 1;
        if self.handshakes > MAX_HANDSHAKES {
            return Err(LaneError::Unexpected.into());
        }
        let message = self.lane.frame_bytes(frame)[wanbond_proto::lane::HEAD_LEN..].to_vec();
        self.lane.consume(frame);
        match self.shared.sessions.handle_handshake(&message, self.peer, true) {
            Some(answer) => {
                self.lane.queue_handshake(&answer);
                Ok(self.lane.flush().await?)
            }
            // Silence, as over UDP: who does not know this server learns nothing.
            None => Err(LaneError::Unauthentic.into()),
        }
    }

    /// Reads an open frame: a Hello is answered here.
    async fn read_open(&mut self, frame: &Frame) -> Result<Option<NewFlow>, LaneEnd> {
        let bytes = self.lane.frame_bytes(frame);
        let head = OpenHead::read(bytes).ok_or(LaneError::Unexpected)?;
        let Some(session) = self.shared.sessions.get(head.session_index) else {
            let answer = unknown_session::encode(head.session_index, bytes);
            if let Some(answer) = answer {
                self.lane.queue_handshake(&answer);
                self.lane.flush().await?;
            }
            return Err(LaneEnd::UnknownSession(head.session_index));
        };
        let freshness = match (head.fresh, self.lane.freshness()) {
            (true, None) => return Err(LaneError::Unexpected.into()),
            (true, freshness) => freshness,
            (false, _) => None,
        };
        let mut keys = session.session.flow_keys(head.flow, freshness);
        let record = frame.open(&mut keys.open, self.lane.frame_bytes(frame))?;
        let (kind, open) = (record.kind, Open::decode(record.payload));
        self.lane.consume(frame);
        self.shared.sessions.confirm(&session, self.peer);
        if self.known.is_none() {
            let permit = session.router.admit_lane()?;
            session.router.seen_at(self.peer);
            self.known = Some((Arc::clone(&session.router), permit));
        }
        if self
            .last_flow
            .is_some_and(|(index, last)| index == head.session_index && last >= head.flow)
        {
            return Err(LaneError::Unexpected.into());
        }
        self.last_flow = Some((head.session_index, head.flow));
        match (kind, open) {
            (RecordType::Hello, _) => {
                if session.flows().take(head.flow) != Verdict::Fresh {
                    return Err(LaneError::Unauthentic.into());
                }
                let nonce = self.shared.sessions.random();
                self.lane.set_lane_keys(keys);
                self.lane.set_freshness(Freshness(nonce));
                self.lane.queue_lane_record(RecordType::Ready, &nonce);
                self.lane.flush().await?;
                Ok(None)
            }
            (RecordType::Open, Ok(open)) => {
                let moves = session.flows().begin(head.flow);
                Ok(Some(NewFlow { session, keys, open, moves }))
            }
            _ => Err(LaneError::Unexpected.into()),
        }
    }
}

/// Returns when the server is stopping.
pub(super) async fn told(stopping: &mut tokio::sync::watch::Receiver<bool>) {
    // A dropped sender is a stop as well.
    let _ = stopping.wait_for(|&stopping| stopping).await;
}

/// What a connection turns out to be.
enum Greeting {
    /// A lane, which waits for flows.
    Lane,
    /// A lane with its first flow.
    Flow(Box<NewFlow>),
    /// It carries datagrams.
    Datagrams(DatagramCarrier),
}
