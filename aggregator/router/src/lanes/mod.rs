//! Lanes: warm connections to the server, each carrying one flow at a time.
//!
//! - [`connect`]: opening one on the best living WAN, racing a second WAN when the first is slow.
//! - [`demand`]: how many should wait warm.
//! - [`pool`]: the idle ones; taking, giving back, keeping the number right.
//! - [`preference`]: when flows are better off on the tunnel's streams.

pub(crate) mod connect;
mod demand;
mod pool;
pub(crate) mod preference;

use wanbond_control::words::MptcpState;
use wanbond_proto::Time;
use wanbond_proto::datagram::PathId;
use wanbond_relay::LaneStream;

pub(crate) use pool::LanePool;
pub(crate) use pool::{BusyLane, LaneUnavailable, keep_warm, try_wan};

/// A lane of the router.
pub(crate) struct Lane {
    pub(crate) stream: LaneStream,
    /// The path of its first subflow.
    pub(crate) path: PathId,
    pub(crate) mptcp: MptcpState,
    pub(crate) opened: Time,
    /// It has carried a flow before.
    pub(crate) reused: bool,
}
