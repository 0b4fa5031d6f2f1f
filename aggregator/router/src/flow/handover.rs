//! A flow that runs on an MPTCP lane goes on on a stream, where flows are better off on streams.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::debug;
use wanbond_proto::lane::{FlowKeys, FrameKind, Open, RecordType, Target};
use wanbond_relay::{LaneEvent, LaneStream, boxed};

use super::open::Asked;
use crate::shared::Shared;

/// A flow that moves less has nothing to win.
const BUSY: usize = 64 * 1024;

/// Whether a flow is to be handed over, and when.
pub(super) struct Wish {
    preferred: watch::Receiver<bool>,
    /// It rides a lane and has not been asked for elsewhere: at most once in a flow's life.
    open: bool,
}

impl Wish {
    pub(super) fn new(shared: &Shared, on_stream: bool) -> Self {
        Self { preferred: shared.streams_preferred.subscribe(), open: !on_stream }
    }

    /// After how many more bytes the flow is to be handed over.
    pub(super) fn after(&mut self) -> usize {
        if self.open && *self.preferred.borrow_and_update() { BUSY } else { usize::MAX }
    }

    /// Waits until that may be answered otherwise.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as all that is shared.
        if !self.open || self.preferred.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// It is being asked for.
    pub(super) const fn done(&mut self) {
        self.open = false;
    }
}

/// Asks the server to go on with a flow on a stream. `None` if it does not: the flow stays.
pub(super) async fn ask(
    shared: Arc<Shared>,
    asked: Asked,
    target: SocketAddr,
) -> Option<(LaneStream, FlowKeys)> {
    // A flow's id means something in its session only.
    let session = shared.sessions.current().filter(|s| s.remote_index() == asked.session)?;
    let mut lane = shared.lanes.stream(&shared).ok()?;
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
                    return Some((lane.into_stream(), keys));
                }
                debug!(?kind, "flow not handed over");
                tokio::spawn(boxed(super::recover(lane, keys)));
                return None;
            }
            FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => return None,
        }
    }
}
