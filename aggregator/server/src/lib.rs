//! wanbond-server: the VPS side. It admits paired routers and carries their flows to the Internet.
//!
//! Read it in this order:
//!
//! - [`state`]: the directory on disk (`server.toml`, `key`, `routers/*.toml`), how the command
//!   line changes it and how the running daemon notices.
//! - [`config`]: `server.toml`, parsed once into types; every default has its reason beside it.
//! - [`directory`]: the routers admitted right now, in memory. The files feed it.
//! - [`fleet`]: the list of routers that several servers share through etcd, where wanted.
//! - [`inner`]: the addresses inside the tunnel, the server's and each router's.
//! - [`forwards`]: public ports that lead to hosts behind routers.
//! - [`usage`]: what each router has moved this month.
//! - [`limits`]: what one router, one stranger and all together may take.
//! - [`egress`]: connections to targets: which addresses are allowed, names, time-outs.
//! - [`serve`]: listeners, sessions and lanes, standing on all of the above.
//! - [`notify`]: telling systemd how far we are.
//! - [`cli`]: the commands.
//!
//! Two things hold everywhere: a file that can't be read never takes down what already works,
//! and nothing a router or a stranger sends makes the server connect into the VPS itself.

#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod directory;
pub mod egress;
pub mod fleet;
pub mod forwards;
pub mod inner;
pub mod limits;
pub mod notify;
pub mod serve;
pub mod state;
pub mod usage;
