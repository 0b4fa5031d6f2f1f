//! The kernel's MPTCP path manager: endpoints and limits, over generic netlink (`mptcp_pm`).
//!
//! An endpoint of kind `subflow` makes every MPTCP client connection of this network namespace
//! open a further subflow from that address. Removing it closes those subflows and sends what they
//! had in flight over the others, at once, where the kernel by itself would wait for its
//! retransmission time-outs: this is how a dead WAN is left.
//!
//! Ids are chosen here and never soon reused, as re-adding under an old id has had bugs in the
//! kernel, and a peer that still remembers the old address confuses the two.

mod genl;
mod manager;
mod message;
mod reconcile;

pub use manager::{Limits, PathManager, PmError};
pub use message::{Endpoint, EndpointFlags};
pub use reconcile::{DesiredEndpoint, EndpointsApplied};
