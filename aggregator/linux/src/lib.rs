//! wanbond-linux: everything that only the Linux kernel can do for us.
//!
//! The rest of the project is ordinary Rust: a pure core that decides, and daemons that move bytes.
//! This crate is the edge they stand on. It is the only one that may use `unsafe`, and does so in
//! six system calls (`socket/sys.rs`, `tun/sys.rs`) and to wait for the TUN device (`tun/queue.rs`).
//!
//! # What is here
//!
//! | module | what it is for |
//! |---|---|
//! | [`socket`] | TCP and MPTCP connections and listeners, UDP sockets, what the kernel knows about a connection and its subflows, where a redirected one was going |
//! | [`netstate`] | links, addresses and default routes as they are, and a hint when they change |
//! | [`routing`] | a routing table and a rule per WAN, so that a source address chooses the WAN |
//! | [`mptcp_pm`] | MPTCP endpoints: from which addresses connections open further subflows |
//! | [`firewall`] | the nftables tables: the LAN's TCP to us, other packets into the tunnel, what goes around both, NAT and forwards on the VPS |
//! | [`bypass`] | that table and its routing rules, kept as they should be |
//! | [`sysctl`] | kernel settings |
//! | [`tun`] | the TUN device: packets out of it and into it, many in one system call |
//! | [`tunnel`] | addresses, routes and rules around the tunnel's device, at both ends |
//! | [`owned`] | which of all that is ours, and how to take it out again |
//! | [`special`] | addresses that are not of the public Internet |
//! | [`processor`] | how busy the machine is, and how finely it keeps time |
//! | [`program`] | starting `nft` and others |
//! | [`control_socket`] | how the command line reaches the running daemon |
//!
//! # Who owns what in the kernel
//!
//! A router is a shared place: netifd, firewall4, other VPNs and the person who owns it all have
//! routes, rules and tables of their own. So everything that we add can be told from what others
//! added: routes and rules carry a protocol number of our own, firewall rules live in a table of
//! our own, and what can carry no mark (MPTCP endpoints and limits, settings) is written in a
//! [`Journal`](owned::Journal) *before* it is changed. What is not ours is neither changed nor
//! removed, not even when it is in the way: that is an error to report, for one route or one
//! endpoint, and the rest goes on. The router's and the server's things are told apart too
//! ([`Owner`](owned::Owner)), as both daemons may run on one host.
//!
//! # Life cycle
//!
//! 1. **Start.** The daemon opens its journal and calls [`cleanup`](owned::cleanup): whatever a
//!    crashed run left behind goes.
//! 2. **Run.** Desired state in, difference applied: [`apply_wan_routes`], [`PathManager::apply`]
//!    and [`Redirect::apply`] take *all* that is wanted each time, compare it with what is there,
//!    and change only what differs. They can be called whenever something may have changed:
//!    [`ChangeStream::next`] says when.
//! 3. **End.** [`cleanup`](owned::cleanup) again, on SIGTERM and by `wanbond cleanup`. Killed in
//!    between, the next start does it. Nothing outlives a reboot, the journal included.
//!
//! # How a WAN is chosen
//!
//! By source address, never by mark or device: MPTCP copies both onto every subflow of a
//! connection, and all of them would end on one WAN. [`socket::connect`] binds the first subflow to
//! the address of the best living WAN, the rule for that address leads to that WAN's table, and the
//! further subflows come from the other WANs' addresses because those are endpoints.
//!
//! # Old kernels
//!
//! From 5.15 to 6.18 much was added. Structures are read by offset up to the length that the
//! kernel returned, what it didn't tell is `None`, and socket options that it refuses are left at
//! that. Only what can't be done without is an error: [`PmError::Unsupported`] says that there is
//! no MPTCP, and the daemons go on with plain TCP.
//!
//! [`apply_wan_routes`]: netstate::Netlink::apply_wan_routes
//! [`PathManager::apply`]: mptcp_pm::PathManager::apply
//! [`Redirect::apply`]: firewall::Redirect::apply
//! [`ChangeStream::next`]: netstate::ChangeStream::next
//! [`PmError::Unsupported`]: mptcp_pm::PmError::Unsupported

#![cfg(target_os = "linux")]

pub mod bypass;
pub mod control_socket;
pub mod firewall;
pub mod mptcp_pm;
mod netlink;
pub mod netstate;
pub mod owned;
pub mod prefix;
pub mod processor;
pub mod program;
pub mod routing;
pub mod socket;
pub mod special;
pub mod sysctl;
pub mod tun;
pub mod tunnel;
