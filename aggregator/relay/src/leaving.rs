//! The lane that a flow leaves for another, until each end has said its last on it.

use std::task::{Context, Poll, ready};

use wanbond_proto::lane::{FlowKeys, RecordType};

use crate::lane::{LaneFault, LaneStream};

/// See the module.
pub(crate) struct Leaving {
    pub(crate) lane: LaneStream,
    pub(crate) keys: FlowKeys,
    /// The other end's last word has not come yet: what comes next of the flow comes here.
    pub(crate) receiving: bool,
}

impl Leaving {
    /// Says this end's last word, behind what is queued.
    pub(crate) fn new(mut lane: LaneStream, mut keys: FlowKeys, receiving: bool) -> Self {
        lane.queue_record(&mut keys.seal, RecordType::Handover, &[]);
        Self { lane, keys, receiving }
    }

    /// Writes on. Ready when both ends have said their last: nothing can be lost then by closing it.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneFault>> {
        ready!(self.lane.poll_flush(cx))?;
        if self.receiving { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}
