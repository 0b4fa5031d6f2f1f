//! Seeing that another program takes tables away: a firewall that restarts flushes every table there is.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Membership of NFNLGRP_NFTABLES (7, linux/netfilter/nfnetlink.h), as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// NFNL_SUBSYS_NFTABLES (10) and NFT_MSG_DELTABLE (2), linux/netfilter/nf_tables.h.
const TABLE_DELETED: u16 = 10 << 8 | 2;
/// NFTA_TABLE_NAME.
const NAME: u16 = 1;
/// nlmsghdr, then nfgenmsg.
const HEADERS: usize = 16 + 4;

/// Hears of tables that are deleted in this network namespace, by whomever.
#[derive(Debug)]
pub struct TableWatch(AsyncFd<OwnedFd>);

impl TableWatch {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the kernel has no nftables, or the runtime no I/O.
    pub fn new() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP))?;
        // SAFETY: an `OwnedFd` is open and the same until it is dropped, with the `AsyncFd`.
        Ok(Self(unsafe { AsyncFd::register(socket)? }))
    }

    /// Returns when one of `tables` may have been deleted, be it to be replaced in the same step. Can be
    /// dropped and called again.
    ///
    /// # Errors
    /// When the socket broke.
    pub async fn deleted(&self, tables: &[&str]) -> io::Result<()> {
        // Each datagram holds one notification or some; names have at most 255 bytes.
        let mut buffer = [0; 8192];
        loop {
            let received = self
                .0
                .async_io(Interest::READABLE, |socket| {
                    Ok(recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?)
                })
                .await;
            match received {
                Ok(length) if names_one(&buffer[..length], tables) => return Ok(()),
                Ok(_) => {}
                // Some were lost for want of room: any may have been.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the notifications tell of the end of one of `tables`.
fn names_one(mut notifications: &[u8], tables: &[&str]) -> bool {
    while let Some(length) = notifications.first_chunk().map(|l| u32::from_ne_bytes(*l) as usize) {
        let Some(message) = notifications.get(..length).filter(|m| m.len() >= HEADERS) else {
            return false;
        };
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        if kind == TABLE_DELETED && name(&message[HEADERS..]).is_some_and(|n| tables.contains(&n)) {
            return true;
        }
        notifications = notifications.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// The table's name in a notification's attributes.
fn name(mut attributes: &[u8]) -> Option<&str> {
    while let Some([l0, l1, k0, k1]) = attributes.first_chunk() {
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([*k0, *k1]) == NAME {
            let end = value.iter().position(|byte| *byte == 0)?;
            return std::str::from_utf8(&value[..end]).ok();
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(kind: u16, table: &str) -> Vec<u8> {
        let value = [table.as_bytes(), &[0]].concat();
        // A handle before it, as the kernel may order them.
        let mut attributes = [&8u16.to_ne_bytes()[..], &3u16.to_ne_bytes(), &[0; 4]].concat();
        let length = u16::try_from(4 + value.len()).unwrap();
        attributes.extend([length.to_ne_bytes(), NAME.to_ne_bytes()].concat());
        attributes.extend(&value);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
        let length = u32::try_from(HEADERS + attributes.len()).unwrap();
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &[0; 4], &attributes].concat()
    }

    #[test]
    fn only_the_end_of_our_tables_counts() {
        let ours = ["wanbond", "wanbond-tunnel"];
        assert!(names_one(&notification(TABLE_DELETED, "wanbond"), &ours));
        assert!(!names_one(&notification(TABLE_DELETED, "fw4"), &ours));
        assert!(!names_one(&notification(10 << 8, "wanbond"), &ours));
        let both =
            [notification(TABLE_DELETED, "fw4"), notification(TABLE_DELETED, "wanbond-tunnel")];
        assert!(names_one(&both.concat(), &ours));
    }

    #[test]
    fn cut_notifications_do_no_harm() {
        let whole = notification(TABLE_DELETED, "wanbond");
        for length in 0..whole.len() {
            assert!(!names_one(&whole[..length], &["wanbond"]));
        }
        let mut zero = whole;
        zero[20..22].fill(0);
        assert!(!names_one(&zero, &["wanbond"]));
    }
}
