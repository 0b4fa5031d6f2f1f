//! wanbond-lab: a small Internet on one machine, to show wanbond at work and to test it.
//!
//! A [`Lab`] is built from a [`scenario::Scenario`]: network namespaces for LAN hosts, routers,
//! ISPs, a VPS and the Internet behind it; an emulated link between each router and each of its
//! ISPs; origin servers. The *real* daemons run in it, and real kernels' TCP and MPTCP talk
//! through it. [`topology`] has the picture and the addresses.
//!
//! # Life of a lab
//! [`Lab::build`] takes about a tenth of a second. A test then starts the daemons
//! ([`Lab::server`], [`Lab::router`]), makes [`traffic`] from a LAN host, and does things to a
//! [`Wan`]. Dropping the lab ends the daemons and everything else.
//!
//! # Invariants
//! * **Nothing is left behind**, however a lab ends, and labs don't meet: namespaces have no
//!   names; they and the processes in them live as long as threads of the lab's own process
//!   ([`ns`]). What remains of a killed lab is a folder, which the next one sweeps ([`registry`]).
//! * **Links are exact**: what a link does is decided by the pure machine in [`emulator`], which
//!   takes time as an argument. The thread that drives it says how late it was.
//! * **Every byte is checked**: streams are of a known pattern and are compared where they arrive.
#![forbid(unsafe_code)]

pub mod control;
mod daemon;
pub mod demo;
pub mod emulator;
mod error;
mod lab;
pub mod measure;
mod netem;
pub mod ns;
pub mod privilege;
pub mod registry;
pub mod scenario;
pub mod topology;
pub mod traffic;
mod tun;
pub mod units;
mod wan;

pub use daemon::{KernelState, Router, RouterConfig, Server, Usage, find_binary};
pub use error::LabError;
pub use lab::Lab;
pub use wan::Wan;
