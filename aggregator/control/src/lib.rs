//! wanbond-control: the words and documents in which wanbond is watched and steered.
//!
//! One set of types for everyone: the daemons fill them, the command line prints them, ubus, LuCI,
//! the metrics and the lab read them. Nothing here does I/O or knows a clock.
//!
//! - [`words`]: closed sets of words ([`Role`], [`WanState`], …) with one spelling each, shared by
//!   the configuration file, the command line and JSON.
//! - [`units`]: numbers as people write and read them (`50 GB`, `48.2 Mbit/s`, `2 h 03 min`).
//! - [`status`]: the router's status, the one document behind `wanbond status --json`.
//! - [`server`]: the server's status, behind `wanbond-server status --json`.
//! - [`history`]: what each WAN did in the last minutes, hours and days.
//! - [`diagnosis`]: what is wrong or slow, and what to do.
//! - [`metrics`]: the statuses as Prometheus text.
//! - [`event`]: what happened, numbered, and the bounded log that keeps it.
//! - [`task`]: long jobs, and their reports: [`pairing`], [`speed`], [`drill`].
//! - [`support`]: all that helps who is to help.
//! - [`request`]: what is asked over the local control socket, and the answers.
//!
//! # How the documents grow
//!
//! Fields are added, never renamed or given another meaning. A reader ignores what it doesn't
//! know, takes the default for what is missing, and reads a word newer than itself as `unknown`.
//!
//! # Time
//!
//! Routers often have no right clock, so no document carries a date. A field `…_at_s` or `since_s`
//! counts seconds from the daemon's start, on the same clock as `uptime_s`; a field `…_age_s`
//! says how long ago.

#![forbid(unsafe_code)]

pub mod diagnosis;
pub mod drill;
pub mod event;
pub mod history;
pub mod metrics;
pub mod pairing;
pub mod request;
pub mod server;
pub mod speed;
pub mod status;
pub mod support;
pub mod task;
pub mod units;
pub mod words;

pub use diagnosis::Diagnosis;
pub use event::{Event, EventLog};
pub use history::History;
pub use request::{ErrorReply, Request, Response};
pub use server::ServerStatus;
pub use status::Status;
pub use task::{Task, Work};
pub use units::Bytes;
pub use words::{
    Carrier, DnsWay, ErrorCode, EventKind, Level, LogLevel, MptcpState, PathState, Role,
    ServerState, TaskState, TcpMode, UnknownWord, WanState, WhenServerDown,
};

/// The name of the router's control socket in the abstract namespace (shown as `@wanbond`).
///
/// Abstract, because such a socket belongs to one network namespace and vanishes with its owner.
pub const ROUTER_SOCKET: &str = "wanbond";

/// The name of the server's control socket in the abstract namespace.
pub const SERVER_SOCKET: &str = "wanbond-server";
