//! Traffic: servers in the lab's Internet, and what its LAN hosts do with them.
//!
//! Every byte is of a known [`Pattern`] and is compared where it arrives.

mod client;
mod datagrams;
mod http;
pub mod origin;
mod pattern;
mod report;

pub use client::{Download, Timing, connections, download, echo, fetch, upload};
pub use datagrams::{Datagrams, Flow, stream};
pub use pattern::Pattern;
pub use report::{Connections, Quantiles, STEP, Series, Transfer};
