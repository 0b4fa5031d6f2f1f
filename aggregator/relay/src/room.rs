//! Room for what comes, in lanes whose subflows changed.
//!
//! Linux's MPTCP, as of 6.18, leaves two states to themselves:
//!
//! - *A subflow that joins late keeps a small buffer.* The connection's receive buffer has grown with
//!   what it carries, the new subflow's is as small as any begins with, and follows only when the
//!   connection's grows again. Its window is tiny beside the connection's, so the sender enlarges it to
//!   its own liking and, it seems, in the end goes beyond what the receiver allows. What comes there is dropped on
//!   the level of MPTCP when TCP has acknowledged it already. Each such hole is filled after a timer by one
//!   piece of some KB, and that timer is as long as that of the subflow that waits longest: half a
//!   minute where one is dead. The lane crawls.
//! - *A buffer is full of what came out of order.* Windows count bytes and buffers memory, and after losses
//!   the two differ. Then nothing more is taken out of the subflows, not even the missing piece.
//!   TCP throws something away then, MPTCP does not. Nothing ever comes again.
//!
//! So a lane on which something comes is looked at twice a second: where its subflows are others than
//! before, its buffer grows a little, which makes theirs as large; one that stays full gets more room.

use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, trace};
use wanbond_linux::socket::{
    level_receive_buffers, socket_memory, subflow_addresses, widen_receive_buffer,
};

use crate::carrier::Carrier;

/// Between two looks at a lane.
const EVERY: Duration = Duration::from_millis(500);
/// A buffer that is full is not made larger than this.
const LARGEST: u32 = 64 << 20;

/// Sees to it that a lane has room.
#[derive(Default)]
pub(crate) struct Lookout {
    /// None while nothing waits in the lane.
    next: Option<Pin<Box<Sleep>>>,
    /// Bytes read as of the last look.
    seen: usize,
    /// The subflows as of the last look.
    subflows: u64,
    full: Full,
}

impl Lookout {
    /// To be called when there is nothing to read, having read so many bytes so far; wakes the task to be
    /// called again in time.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, carrier: &Carrier, read: usize) {
        let Some(stream) = carrier.socket() else { return };
        if self.next.is_none() && self.seen == read {
            return;
        }
        let next = self.next.get_or_insert_with(|| Box::pin(sleep(EVERY)));
        while next.as_mut().poll(cx).is_ready() {
            self.seen = read;
            if !look(stream, read, &mut self.subflows, &mut self.full) {
                self.next = None;
                return;
            }
            next.as_mut().reset(Instant::now() + EVERY);
        }
    }
}

/// Does what is to be done; `false` if nothing waits in the lane.
fn look(stream: &TcpStream, read: usize, subflows: &mut u64, full: &mut Full) -> bool {
    // A kernel that does not tell can't be helped.
    let Ok(memory) = socket_memory(stream) else { return false };
    let addresses = subflow_addresses(stream).unwrap_or_default();
    let now = hash(&addresses);
    if std::mem::replace(subflows, now) != now
        && !addresses.is_empty()
        && let Err(error) = level_receive_buffers(stream)
    {
        trace!(%error, "a lane's subflows keep their buffers");
    }
    if let Some(more) = full.look(read, memory.received, memory.receive_limit) {
        let widened = widen_receive_buffer(stream, more);
        debug!(?memory, ?widened, "a lane was stuck with a full receive buffer");
    }
    memory.received > 0
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Since when a buffer is full from which nothing can be read.
#[derive(Debug, Default)]
struct Full(Option<usize>);

impl Full {
    /// Takes a look: bytes read so far, what the buffer holds and may hold. Gives how much it should hold if
    /// it was full at the look before already, and nothing was read since.
    fn look(&mut self, read: usize, held: u32, limit: u32) -> Option<u32> {
        let full = held >= limit && held > 0;
        let before = std::mem::replace(&mut self.0, full.then_some(read));
        (full && before == Some(read) && limit < LARGEST).then(|| limit.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_stays_full_gets_wider() {
        let mut full = Full::default();
        assert_eq!(full.look(7, 1000, 1000), None, "it may be read in a moment");
        assert_eq!(full.look(7, 1001, 1000), Some(2000));
        // The missing piece lay deeper.
        assert_eq!(full.look(7, 2000, 2000), Some(4000));
        assert_eq!(full.look(7, 2100, 4000), None);
        assert_eq!(full.look(7, 4000, 4000), None);
        assert_eq!(full.look(7, LARGEST, LARGEST), None, "not without end");
    }

    #[test]
    fn one_that_is_read_from_stays_as_it_is() {
        let mut full = Full::default();
        assert_eq!(full.look(7, 1000, 1000), None);
        assert_eq!(full.look(8, 1000, 1000), None);
        assert_eq!(full.look(8, 0, 1000), None);
        assert_eq!(full.look(8, 1000, 1000), None);
        assert_eq!(Full(Some(8)).look(8, 0, 0), None, "an empty one is not full");
    }
}
