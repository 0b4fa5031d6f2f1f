//! A flow that runs on an MPTCP lane goes on on a stream, where flows are better off on streams, or back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::debug;
use wanbond_proto::lane::{FlowKeys, FrameKind, Open, RecordType, Target};
use wanbond_relay::{LaneEvent, LaneStream, boxed};

use super::open::Asked;
use crate::shared::Shared;

/// A flow is handed over at most so often.
const MOST: u8 = 3;
/// How long a lane may take to be had.
const PATIENCE: Duration = Duration::from_secs(5);
/// A flow that moves less has nothing to win.
const BUSY: usize = 64 * 1024;

/// Whether a flow is to be handed over, and when.
pub(super) struct Wish {
    preferred: watch::Receiver<bool>,
    on_stream: bool,
    /// How often it may still be asked for elsewhere.
    left: u8,
}

impl Wish {
    /// Of a flow that has just been opened. One that rides a stream for another reason stays there.
    pub(super) fn new(shared: &Shared, on_stream: bool) -> Self {
        let preferred = shared.streams_preferred.subscribe();
        let other_reason = on_stream && !*preferred.borrow();
        Self { preferred, on_stream, left: if other_reason { 0 } else { MOST } }
    }

    /// After how many more bytes the flow is to be handed over.
    pub(super) fn after(&mut self) -> usize {
        let streams = *self.preferred.borrow_and_update();
        if self.left > 0 && streams != self.on_stream { BUSY } else { usize::MAX }
    }

    /// Waits until that may be answered otherwise.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as all that is shared.
        if self.left == 0 || self.preferred.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the flow rides a stream.
    pub(super) const fn on_stream(&self) -> bool {
        self.on_stream
    }

    /// It is to be asked for: on a stream?
    pub(super) const fn ask(&mut self) -> bool {
        self.left = self.left.saturating_sub(1);
        !self.on_stream
    }

    /// It goes on elsewhere.
    pub(super) const fn done(&mut self) {
        self.on_stream = !self.on_stream;
    }
}

/// Asks the server to go on with a flow on a stream, or on a lane. `None` if it does not: the flow stays.
pub(super) async fn ask(
    shared: Arc<Shared>,
    asked: Asked,
    target: SocketAddr,
    on_stream: bool,
) -> Option<(LaneStream, FlowKeys, Asked)> {
    // A flow's id means something in its session only.
    let session = shared.sessions.current().filter(|s| s.remote_index() == asked.session)?;
    let mut lane = if on_stream {
        shared.lanes.stream(&shared).ok()?
    } else {
        shared.lanes.take(&shared, Instant::now() + PATIENCE).await.ok()?
    };
    if lane.stream.carrier().is_stream() != on_stream {
        lane.give_back();
        return None;
    }
    let flow = session.next_flow_id();
    let target = Target::Address(target);
    let open = Open { instead_of: vec![asked.flow], handover: true, target };
    let mut keys = session.with(|s| lane.stream.queue_open(s, flow, &open));
    loop {
        let frame = match lane.stream.event().await.ok()? {
            LaneEvent::Flushed => continue,
            LaneEvent::Frame(frame) => frame,
        };
        match frame.kind {
            FrameKind::LaneRecord => drop(lane.stream.handle_lane_record(&frame).ok()?),
            FrameKind::Record => {
                let bytes = lane.stream.frame_bytes(&frame);
                let kind = frame.open(&mut keys.open, bytes).ok()?.kind;
                lane.stream.consume(&frame);
                if kind == RecordType::Connected {
                    let asked = Asked { flow, session: asked.session };
                    return Some((lane.into_stream(), keys, asked));
                }
                debug!(?kind, "flow not handed over");
                tokio::spawn(boxed(super::recover(lane, keys)));
                return None;
            }
            FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => return None,
        }
    }
}
