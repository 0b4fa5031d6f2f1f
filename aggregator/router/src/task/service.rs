//! Flows to the server's own services, to measure by: over lanes and streams as the LAN's connections
//! go, or over one WAN alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use wanbond_linux::socket::{ConnectOptions, connect};
use wanbond_proto::lane::{
    FlowKeys, FrameKind, LaneError, Open, RecordType, ResetReason, ServiceKind, Target,
};
use wanbond_relay::{LaneEvent, LaneFault, LaneStream, drain};

use crate::lanes::BusyLane;
use crate::lanes::connect::open_stream;
use crate::shared::{Shared, WanView};

/// How long the server may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(8);
/// What may still come after a flow was ended: what a long, fast line holds.
const DRAIN_BYTES: usize = 32 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// What carries a flow.
enum Held {
    /// One of the LAN's lanes, to be given back.
    Pool(BusyLane),
    /// A connection or stream of its own.
    Own(LaneStream),
}

/// A flow to a service.
pub(crate) struct ServiceFlow {
    held: Held,
    keys: FlowKeys,
}

/// What happens on it.
pub(crate) enum Heard {
    /// What was sent is written, or nothing of interest.
    Flushed,
    /// Data: so many bytes, and what they say as a number, if they are eight.
    Data(usize, Option<u64>),
    /// The server has ended it.
    End,
}

impl ServiceFlow {
    /// As the LAN's connections go now.
    pub(crate) async fn over_lanes(
        shared: &Arc<Shared>,
        kind: ServiceKind,
        time: Duration,
    ) -> Result<Self, String> {
        let lane = shared.lanes.take(shared, Instant::now() + ANSWER_TIME).await;
        Self::start(shared, Held::Pool(lane.map_err(|error| error.to_string())?), kind, time).await
    }

    /// Through the tunnel, on a stream.
    pub(crate) async fn over_stream(
        shared: &Arc<Shared>,
        kind: ServiceKind,
        time: Duration,
    ) -> Result<Self, String> {
        let lane = open_stream(shared).map_err(|error| format!("no stream: {error}"))?;
        Self::start(shared, Held::Own(lane.stream), kind, time).await
    }

    /// Over this WAN alone, on a connection bound to its device.
    pub(crate) async fn over_wan(
        shared: &Arc<Shared>,
        wan: &WanView,
        device: &str,
        kind: ServiceKind,
        time: Duration,
    ) -> Result<Self, String> {
        let server = shared.server.borrow().clone();
        let way =
            wan.sockets.iter().find_map(|s| Some((s.source, server.reachable_from(s.source)?)));
        let (source, address) =
            way.ok_or("it has no address that the server can be reached from")?;
        let options = ConnectOptions {
            source: Some(source),
            device: Some(device.to_owned()),
            congestion: shared.congestion.clone(),
            ..ConnectOptions::default()
        };
        let stream = timeout(ANSWER_TIME, connect(address, &options))
            .await
            .map_err(|_| "no connection to the server over it".to_owned())?
            .map_err(|error| format!("no connection to the server over it: {error}"))?;
        let lane = LaneStream::new(stream, Arc::clone(&shared.pool));
        Self::start(shared, Held::Own(lane), kind, time).await
    }

    async fn start(
        shared: &Shared,
        mut held: Held,
        kind: ServiceKind,
        time: Duration,
    ) -> Result<Self, String> {
        let session = shared.sessions.current().ok_or("there is no session with the server")?;
        let seconds = u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        let open = Open {
            instead_of: Vec::new(),
            handover: false,
            target: Target::Service(kind, seconds),
        };
        let flow = session.next_flow_id();
        let keys = session.with(|s| held.stream().queue_open(s, flow, &open));
        let mut flow = Self { held, keys };
        match timeout(ANSWER_TIME, flow.connected()).await {
            Ok(Ok(())) => Ok(flow),
            Ok(Err(LaneFault::Io(error))) => Err(format!(
                "the server has ended the connection ({error}); is wanbond-server older than this router?"
            )),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => Err("the server does not answer".to_owned()),
        }
    }

    /// Waits until the server has taken it.
    async fn connected(&mut self) -> Result<(), LaneFault> {
        loop {
            match self.step().await? {
                None => {}
                Some((RecordType::Connected, _)) => return Ok(()),
                Some((RecordType::Reset, reason)) => {
                    let reason = reason.first().map(|byte| ResetReason::from_byte(*byte));
                    return Err(io::Error::other(match reason {
                        Some(ResetReason::TooMany) => "too many tests of this router at once",
                        _ => "the server refuses",
                    })
                    .into());
                }
                Some(_) => return Err(LaneError::Unexpected.into()),
            }
        }
    }

    /// What happens next.
    ///
    /// # Errors
    /// The connection is lost.
    pub(crate) async fn next(&mut self) -> Result<Heard, LaneFault> {
        Ok(match self.step().await? {
            None => Heard::Flushed,
            Some((RecordType::Data, data)) => {
                let number = <[u8; 8]>::try_from(&*data).ok().map(u64::from_be_bytes);
                Heard::Data(data.len(), number)
            }
            Some(_) => Heard::End,
        })
    }

    /// A record, if it is one that comes.
    async fn step(&mut self) -> Result<Option<(RecordType, Vec<u8>)>, LaneFault> {
        let stream = self.held.stream();
        let LaneEvent::Frame(frame) = stream.event().await? else { return Ok(None) };
        match frame.kind {
            FrameKind::LaneRecord => {
                stream.handle_lane_record(&frame)?;
                Ok(None)
            }
            FrameKind::Record => {
                let record = frame.open(&mut self.keys.open, stream.frame_bytes(&frame))?;
                let step = (record.kind, record.payload.to_vec());
                stream.consume(&frame);
                Ok(Some(step))
            }
            FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => {
                Err(LaneError::Unexpected.into())
            }
        }
    }

    /// Whether all that was sent is written.
    pub(crate) fn is_flushed(&mut self) -> bool {
        self.held.stream().queued() == 0
    }

    /// Queues data; [`Self::next`] writes them.
    pub(crate) fn send(&mut self, data: &[u8]) {
        self.held.stream().queue_record(&mut self.keys.seal, RecordType::Data, data);
    }

    /// Ends it, and gives its lane back.
    pub(crate) async fn finish(mut self) {
        let stream = self.held.stream();
        stream.queue_record(&mut self.keys.seal, RecordType::Reset, &[ResetReason::Aborted as u8]);
        let end = async {
            stream.flush().await?;
            drain(stream, &mut self.keys, DRAIN_BYTES).await
        };
        let clean = matches!(timeout(DRAIN_TIME, end).await, Ok(Ok(true)));
        if let (Held::Pool(lane), true) = (self.held, clean) {
            lane.give_back();
        }
    }
}

impl Held {
    fn stream(&mut self) -> &mut LaneStream {
        match self {
            Self::Pool(lane) => &mut lane.stream,
            Self::Own(stream) => stream,
        }
    }
}
