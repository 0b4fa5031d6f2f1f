//! The TUN device: the LAN's packets come out of it, and what came through the tunnel goes in.
//!
//! A system call for each packet would limit the tunnel to what a weak core makes of system calls.
//! So the device is opened with the header that virtual network cards have (`IFF_VNET_HDR`), and
//! the kernel hands over up to 64 KiB of one TCP connection as *one* packet, with the size into
//! which to cut it, and takes such packets too. Cutting and joining are ours:
//!
//! ```text
//!  kernel ─ one read, 64 KiB ─▶ segment ─▶ plain packets, one by one ─▶ caller
//!  caller ─ plain packets ─▶ coalesce ─▶ one write, 64 KiB ─▶ kernel
//! ```
//!
//! | file | what is in it |
//! |---|---|
//! | `device` | opening, with as much of this as the kernel has |
//! | `queue` | reading and writing |
//! | [`segment`] | cutting, pure |
//! | [`coalesce`] | joining, pure |
//! | `headers`, `checksum`, `vnet` | what both need to know of IP, TCP, UDP and the header in front |
//! | `sys` | three ioctls |
//!
//! # What is promised
//!
//! - What is cut or joined is what would have been sent without: joining packets and cutting the
//!   result gives the same packets (but the IPv4 identification where "don't fragment" makes it
//!   meaningless).
//! - A packet whose checksum is wrong is never joined, and so never put right.
//! - Packets of one flow keep their order.
//! - Nothing is allocated per packet, and no payload is copied by us on its way in or out.
//!
//! # What else a device needs
//!
//! It is made without addresses, down, and with the kernel's MTU of 1500 bytes:
//! [`Netlink::configure_device`](crate::netstate::Netlink::configure_device) does all three. It goes,
//! with its addresses and routes, when the last [`TunQueue`] is dropped or the process ends,
//! however it ends.

mod checksum;
pub mod coalesce;
mod device;
mod headers;
mod queue;
pub mod segment;
mod sys;
mod vnet;

pub use device::{Offloads, Tun, TunError, TunOptions};
pub use queue::{Received, RecvBuffer, Sent, TunQueue};
pub use vnet::{Gso, VnetHeader};
