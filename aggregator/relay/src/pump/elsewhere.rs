//! A flow goes on on another lane: a young one from its beginning, one that runs from where it is.

use wanbond_proto::lane::{FlowKeys, RecordType, ResetReason};

use super::{Pump, Side};
use crate::lane::LaneStream;
use crate::leaving::Leaving;
use crate::moving::{Again, Kept};
use crate::sizer::RecordSizer;

/// Whether the router has asked for the flow to go on on another lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handover {
    No,
    Asked,
    /// The server has said its last on this lane, before its answer was seen on the other.
    Ahead,
}

impl Pump<'_> {
    /// The flow may move to another lane, until the router has said that it hears of it on this one: see
    /// [`Self::move_to`]. `received`: bytes of the other end that were passed on before; `again`: if it
    /// has moved already, what this lane brings once more.
    #[must_use]
    pub fn movable(mut self, received: usize, again: Again) -> Self {
        self.kept = Some(Kept::new(received));
        self.again = again;
        self
    }

    /// Whether the flow can still move.
    #[must_use]
    pub const fn is_movable(&self) -> bool {
        self.kept.is_some()
    }

    /// What a flow that has ended in order had sent, if it could still move: it is not known whether
    /// any of it has arrived.
    #[must_use]
    pub fn into_sent(mut self) -> Option<Vec<u8>> {
        self.kept.take().map(Kept::into_sent)
    }

    /// It stays where it is: forgets what moving would take.
    pub fn settle(&mut self) {
        self.kept = None;
    }

    /// Goes on on another lane, where the other end begins anew: it has heard nothing of the flow,
    /// not even the answer, and sends all of its own again. Nothing happens if the flow can't move.
    pub fn move_to(&mut self, lane: LaneStream, keys: FlowKeys) {
        let Some(kept) = &self.kept else { return };
        if let Some((_, rest)) = self.deliver.take() {
            self.backlog.extend_from_slice(self.lane.received(&rest));
        }
        *self.lane = lane;
        *self.keys = keys;
        self.sizer = RecordSizer::default();
        self.again = Again { bytes: kept.received(), fin: !self.receiving };
        self.done = false;
        let seal = &mut self.keys.seal;
        self.lane.queue_again(seal, kept.sent());
        if self.end.is_some() {
            self.lane.queue_record(seal, RecordType::Reset, &[ResetReason::Aborted as u8]);
        } else if !self.sending {
            self.lane.queue_record(seal, RecordType::Fin, &[]);
        }
    }

    /// The server is being asked to go on on another lane, and may do so from now on.
    pub const fn expect_handover(&mut self) {
        self.handover = Handover::Asked;
    }

    /// The server was asked in vain.
    pub fn stay(&mut self) {
        self.handover = Handover::No;
    }

    /// It has gone on there, and says nothing more on this one.
    #[must_use]
    pub fn is_handed_over(&self) -> bool {
        self.handover == Handover::Ahead
    }

    /// Both ends go on on another lane, after what is on its way on this one. The router has asked for
    /// it, and the server has answered, or does now.
    pub fn hand_over(&mut self, lane: LaneStream, keys: FlowKeys) {
        debug_assert!(self.leaving.is_none());
        self.settle();
        let lane = std::mem::replace(self.lane, lane);
        let keys = std::mem::replace(self.keys, keys);
        if self.side == Side::Server {
            self.lane.queue_record(&mut self.keys.seal, RecordType::Connected, &[]);
        }
        self.sizer = RecordSizer::default();
        self.leaving = Some(Box::new(Leaving::new(lane, keys, !self.is_handed_over())));
        self.handover = Handover::No;
    }

    /// Whether it is on its way from one lane to another: it can't be sent to a third meanwhile.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }
}
