//! The lane that a flow leaves for another, until each end knows that the other has had all of it.

use std::task::{Context, Poll, ready};

use wanbond_proto::lane::{FlowKeys, RecordType};

use crate::lane::{LaneFault, LaneStream};

/// See the module.
pub(crate) struct Leaving {
    pub(crate) lane: LaneStream,
    pub(crate) keys: FlowKeys,
    /// The other end's last word has not come yet: what comes next of the flow comes here.
    pub(crate) receiving: bool,
    /// This direction of the connection is ended.
    ended: bool,
}

impl Leaving {
    /// Says this end's last word, behind what is queued.
    pub(crate) fn new(mut lane: LaneStream, mut keys: FlowKeys, receiving: bool) -> Self {
        lane.queue_record(&mut keys.seal, RecordType::Handover, &[]);
        Self { lane, keys, receiving, ended: false }
    }

    /// Writes on, and ends this direction once the other end's last word has come. Ready when that has
    /// ended its own, and so has read all. A connection that is closed before that is reset where MPTCP
    /// sends something twice, and what this end wrote is lost.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneFault>> {
        ready!(self.lane.poll_flush(cx))?;
        if self.receiving {
            return Poll::Pending;
        }
        if !self.ended {
            self.ended = true;
            self.lane.end_writing();
        }
        while let Ok(frame) = ready!(self.lane.poll_frame(cx)) {
            self.lane.consume(&frame);
        }
        Poll::Ready(Ok(()))
    }
}
