//! Flows that move to another lane: a router that has heard nothing of a flow where it opened it opens it
//! anew elsewhere, and names the old one; or it hands over one that runs. Whoever carries the flow gets
//! the new lane, and goes on there.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::oneshot::{Receiver, Sender, channel};
use wanbond_proto::lane::{FlowKeys, RecordType, ResetReason};
use wanbond_proto::replay::{ReplayWindow, Verdict};
use wanbond_proto::session::FlowId;
use wanbond_relay::LaneStream;

/// The flow ids of a session: which were used, and which are carried by whom.
#[derive(Default)]
pub(crate) struct FlowIds(Mutex<Ids>);

#[derive(Default)]
struct Ids {
    used: ReplayWindow,
    carried: HashMap<FlowId, Sender<Box<Successor>>>,
}

/// What became of the flows that a new one stands in for.
pub(super) enum Old {
    /// None had come, and none will be taken now.
    None,
    /// This one is carried, and can be told of the new lane.
    Carried(Sender<Box<Successor>>),
    /// One had come, and can't move.
    Stays,
}

impl FlowIds {
    fn lock(&self) -> MutexGuard<'_, Ids> {
        // What it guards stays valid after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks an id as used, and says whether it was new.
    pub(super) fn take(&self, flow: FlowId) -> Verdict {
        self.lock().used.accept(flow.0)
    }

    /// Marks a flow's id as used. `None` if it was before; else where the flow hears of a move.
    pub(super) fn begin(self: &Arc<Self>, flow: FlowId) -> Option<Move> {
        let mut ids = self.lock();
        (ids.used.accept(flow.0) == Verdict::Fresh).then(|| {
            let (sender, successor) = channel();
            ids.carried.insert(flow, sender);
            Move { ids: Arc::clone(self), flow, successor }
        })
    }

    /// Marks these as used, whatever comes of them later, and says where the flow is now.
    pub(super) fn instead_of(&self, old: &[FlowId]) -> Old {
        let mut ids = self.lock();
        let mut found = Old::None;
        for flow in old {
            if ids.used.accept(flow.0) == Verdict::Fresh {
                continue;
            }
            // Each id leads to one move: the next names the id that this one is made under.
            match ids.carried.remove(flow) {
                Some(carrier) => found = Old::Carried(carrier),
                None if matches!(found, Old::None) => found = Old::Stays,
                None => {}
            }
        }
        found
    }
}

/// Where a flow hears that it is to go on on another lane.
pub(super) struct Move {
    ids: Arc<FlowIds>,
    flow: FlowId,
    successor: Receiver<Box<Successor>>,
}

impl Move {
    /// Waits for a new lane. For ever, if none can come.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped.
    pub(super) async fn next(&mut self) -> Box<Successor> {
        if !self.successor.is_terminated()
            && let Ok(successor) = (&mut self.successor).await
        {
            return successor;
        }
        std::future::pending().await
    }
}

impl Drop for Move {
    fn drop(&mut self) {
        self.ids.lock().carried.remove(&self.flow);
        if self.successor.is_terminated() {
            return;
        }
        self.successor.close();
        if let Ok(successor) = self.successor.try_recv() {
            // Where all ends, nobody is told.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(successor.refuse());
            }
        }
    }
}

/// A lane that takes over a flow.
pub(super) struct Successor {
    pub(super) lane: LaneStream,
    pub(super) keys: FlowKeys,
    pub(super) peer: SocketAddr,
    pub(super) last_flow: Option<(u32, FlowId)>,
    /// Where the flow hears of its next move.
    pub(super) moves: Move,
    /// Both ends have heard of the flow: nothing is to be sent again.
    pub(super) handover: bool,
}

impl Successor {
    /// The flow does not move any more: tells the router.
    pub(super) async fn refuse(mut self: Box<Self>) {
        let reason = [ResetReason::AlreadyOpen as u8];
        self.lane.queue_record(&mut self.keys.seal, RecordType::Reset, &reason);
        self.lane.queue_record(&mut self.keys.seal, RecordType::Done, &[]);
        // If that fails, the router hears of it without a word.
        let _ = self.lane.flush().await;
    }
}

/// A flow's new lane, on the way to who carries it.
pub(super) struct Moving {
    pub(super) to: Sender<Box<Successor>>,
    pub(super) keys: FlowKeys,
    pub(super) moves: Move,
    pub(super) handover: bool,
}

impl std::fmt::Debug for Moving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moving").field("flow", &self.moves.flow).finish_non_exhaustive()
    }
}

impl Moving {
    pub(super) async fn send(
        self,
        lane: LaneStream,
        peer: SocketAddr,
        last_flow: Option<(u32, FlowId)>,
    ) {
        let Self { to, keys, moves, handover } = self;
        let successor = Successor { lane, keys, peer, last_flow, moves, handover };
        if let Err(successor) = to.send(Box::new(successor)) {
            // It has just ended.
            successor.refuse().await;
        }
    }
}
