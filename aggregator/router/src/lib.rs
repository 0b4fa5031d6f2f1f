//! wanbond, the router daemon and its command line.
//!
//! The way of a connection through the files here:
//!
//! 1. [`daemon`] keeps the kernel so that the LAN's TCP comes to us (`kernel.rs`), and the WANs'
//!    state ([`wan`], decided by `wanbond_proto::wan`).
//! 2. [`flow`] accepts a connection, asks [`lanes`] for a lane, opens the flow on it, and lets
//!    `wanbond_relay` move the bytes.
//! 3. [`lanes`] keeps warm connections to the server, opened on the best living WAN.
//! 4. [`link`] keeps the session with the server that all of it is sealed with.
//!
//! [`bypass`] is for what goes neither way: rules, and what the kernel does by them.
//!
//! On OpenWrt, [`netifd`] tells where the networks are, over [`ubus`], which also serves others.
//!
//! [`task`] runs what takes long and is asked for: checks, tests, drills.
//!
//! [`config`] reads `/etc/config/wanbond`, [`cli`] is the command line, [`shared`] what the tasks
//! share.

#![forbid(unsafe_code)]

pub mod bypass;
pub mod cli;
pub mod config;
pub mod daemon;
mod flow;
mod lanes;
mod link;
mod netifd;
mod shared;
mod task;
pub mod ubus;
mod wan;
