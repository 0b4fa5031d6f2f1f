//! `SOL_MPTCP`: whether a connection is MPTCP, over which subflows, and how each one fares.
//!
//! The options came with Linux 5.16; their structures (`linux/mptcp.h`) grow at the end and are
//! read by offset.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;
use std::sync::OnceLock;

use socket2::{Domain, Protocol, Socket, Type};

use super::info::{TCP_INFO_SPACE, TcpInfo, TcpState};
use super::sys::{Fields, getsockopt};

const SOL_MPTCP: libc::c_int = 284;
const MPTCP_INFO: libc::c_int = 1;
const MPTCP_TCPINFO: libc::c_int = 2;
const MPTCP_SUBFLOW_ADDRS: libc::c_int = 3;

const MPTCP_INFO_FLAG_FALLBACK: u32 = 1;

/// `struct mptcp_subflow_data`: four 32-bit words before the array.
const SUBFLOW_HEADER: usize = 16;
/// `struct mptcp_subflow_addrs`: two `sockaddr_storage`.
const SUBFLOW_ADDRS: usize = 256;
const SOCKADDR_STORAGE: usize = 128;
/// More subflows than a connection can have: the first, and at most 8 more on either side.
const MAX_SUBFLOWS: usize = 20;

/// Whether this kernel makes MPTCP sockets: it is built in and `net.mptcp.enabled` is 1.
///
/// Asked anew each time, as the setting can change.
#[must_use]
pub fn mptcp_supported() -> bool {
    mptcp_socket(Domain::IPV4).is_ok()
}

pub(super) fn mptcp_socket(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP))
}

/// Whether this kernel can tell an MPTCP connection from one that fell back (Linux 5.16).
///
/// Where it can't, [`mptcp_info`] is always `None` and [`subflows`] empty.
#[must_use]
pub fn mptcp_info_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        mptcp_socket(Domain::IPV4)
            .is_ok_and(|socket| getsockopt(&socket, SOL_MPTCP, MPTCP_INFO, &mut [0; 64]).is_ok())
    })
}

/// Figures of a whole MPTCP connection. `Option` fields need Linux 6.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MptcpInfo {
    /// Subflows in use, counting the first one.
    ///
    /// Before Linux 6.5 the first subflow is counted even after it closed.
    pub subflows: u8,
    /// The most subflows this connection may add to the first.
    pub subflows_max: u8,
    /// Addresses of the peer taken from its ADD_ADDR.
    pub add_addr_accepted: u8,
    /// The connection's local token, which names it to the path manager and in `ss -M`.
    pub token: u32,
    /// Segments retransmitted on the MPTCP level, that is re-injected on another subflow.
    pub retransmits: Option<u32>,
    /// Data bytes re-injected.
    pub bytes_retrans: Option<u64>,
    /// Data bytes sent, without re-injections.
    pub bytes_sent: Option<u64>,
    /// Data bytes received.
    pub bytes_received: Option<u64>,
    /// Data bytes the peer has acknowledged.
    pub bytes_acked: Option<u64>,
    /// Time since data was last received on any subflow, ms. Linux 6.10.
    pub last_data_received_ms: Option<u32>,
    /// Time since an acknowledgement was last received on any subflow, ms. Linux 6.10.
    pub last_ack_received_ms: Option<u32>,
}

impl MptcpInfo {
    /// `None` when the connection has fallen back, or when the structure is too short.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let fields = Fields(bytes);
        if fields.u32(8)? & MPTCP_INFO_FLAG_FALLBACK != 0 {
            return None;
        }
        let extra = fields.u8(0)?;
        Some(Self {
            // `mptcpi_subflows_total` where the kernel has it; else the first and the extra ones.
            subflows: fields.u8(80).unwrap_or(extra.saturating_add(1)),
            subflows_max: fields.u8(3)?,
            add_addr_accepted: fields.u8(2)?,
            token: fields.u32(12)?,
            // Older kernels end at 48 with padding here, so the next field decides.
            retransmits: fields.u64(48).and(fields.u32(44)),
            bytes_retrans: fields.u64(48),
            bytes_sent: fields.u64(56),
            bytes_received: fields.u64(64),
            bytes_acked: fields.u64(72),
            last_data_received_ms: fields.u32(88),
            last_ack_received_ms: fields.u32(92),
        })
    }
}

/// Figures of an MPTCP connection; `None` when it is plain TCP: it never was MPTCP, or it has
/// fallen back because the peer or something in between doesn't speak it.
pub fn mptcp_info(socket: impl AsFd) -> io::Result<Option<MptcpInfo>> {
    let mut buffer = [0; 256];
    match getsockopt(&socket, SOL_MPTCP, MPTCP_INFO, &mut buffer) {
        Ok(len) => Ok(MptcpInfo::parse(&buffer[..len])),
        Err(error) if not_mptcp(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn not_mptcp(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOPROTOOPT))
}

/// One TCP connection of an MPTCP one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subflow {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
    /// How it fares.
    pub tcp: TcpInfo,
}

/// The subflows of an MPTCP connection, the first one first while it lives. Empty for plain TCP.
pub fn subflows(socket: impl AsFd) -> io::Result<Vec<Subflow>> {
    // Addresses and figures come from two calls, between which a subflow may come or go. Asking
    // for the addresses on both sides of the figures shows it; a few tries outlast any burst.
    let mut before = addresses(&socket)?;
    for _ in 0..4 {
        let figures = subflow_array(&socket, MPTCP_TCPINFO, TCP_INFO_SPACE)?;
        let after = addresses(&socket)?;
        if before == after && figures.count() == after.len() {
            let infos = figures.elements().map(TcpInfo::parse);
            return Ok(after
                .into_iter()
                .zip(infos)
                .filter_map(|(addresses, tcp)| {
                    let (local, remote) = addresses?;
                    Some(Subflow { local, remote, tcp: tcp? })
                })
                // The first subflow stays in the kernel's list after it closed, as a shell.
                .filter(|subflow| subflow.tcp.state != TcpState::Close)
                .collect());
        }
        before = after;
    }
    Err(io::Error::new(io::ErrorKind::Interrupted, "the subflows keep changing"))
}

/// The figures of each subflow, without the addresses: one system call. Empty for plain TCP.
pub fn subflow_infos(socket: impl AsFd) -> io::Result<Vec<TcpInfo>> {
    let figures = subflow_array(&socket, MPTCP_TCPINFO, TCP_INFO_SPACE)?;
    let infos = figures.elements().filter_map(TcpInfo::parse);
    Ok(infos.filter(|info| info.state != TcpState::Close).collect())
}

/// The addresses of each subflow, ours first: one system call. Empty for plain TCP.
pub fn subflow_addresses(socket: impl AsFd) -> io::Result<Vec<(SocketAddr, SocketAddr)>> {
    Ok(addresses(&socket)?.into_iter().flatten().collect())
}

type Ends = Option<(SocketAddr, SocketAddr)>;

fn addresses(socket: &impl AsFd) -> io::Result<Vec<Ends>> {
    let array = subflow_array(socket, MPTCP_SUBFLOW_ADDRS, SUBFLOW_ADDRS)?;
    Ok(array.elements().map(parse_ends).collect())
}

fn parse_ends(bytes: &[u8]) -> Ends {
    let remote = bytes.get(SOCKADDR_STORAGE..)?;
    Some((parse_sockaddr(bytes)?, parse_sockaddr(remote)?))
}

/// A `struct sockaddr_in` or `sockaddr_in6`. An IPv4-mapped address comes back as IPv4.
fn parse_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let fields = Fields(bytes);
    let port = u16::from_be_bytes(fields.bytes(2)?);
    match i32::from(fields.u16(0)?) {
        libc::AF_INET => {
            Some(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(fields.bytes::<4>(4)?), port)))
        }
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(fields.bytes::<16>(8)?);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, fields.u32(24)?)),
            })
        }
        _ => None,
    }
}

/// An answer of the options that return one element per subflow.
struct SubflowArray {
    bytes: Vec<u8>,
    stride: usize,
}

impl SubflowArray {
    fn elements(&self) -> std::slice::ChunksExact<'_, u8> {
        self.bytes.chunks_exact(self.stride)
    }

    fn count(&self) -> usize {
        self.elements().len()
    }
}

/// Asks for one array. `element` is the most we want of each element; the kernel says how much
/// it gave.
fn subflow_array(
    socket: &impl AsFd,
    option: libc::c_int,
    element: usize,
) -> io::Result<SubflowArray> {
    let mut buffer = vec![0; SUBFLOW_HEADER + MAX_SUBFLOWS * element];
    let word = |n: usize| u32::try_from(n).unwrap_or(0).to_ne_bytes();
    buffer[0..4].copy_from_slice(&word(SUBFLOW_HEADER));
    buffer[12..16].copy_from_slice(&word(element));
    match getsockopt(socket, SOL_MPTCP, option, &mut buffer) {
        Ok(len) => {
            buffer.truncate(len);
            parse_subflow_array(buffer).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer makes no sense")
            })
        }
        Err(error) if not_mptcp(&error) => Ok(SubflowArray { bytes: Vec::new(), stride: 1 }),
        Err(error) => Err(error),
    }
}

fn parse_subflow_array(mut buffer: Vec<u8>) -> Option<SubflowArray> {
    let fields = Fields(&buffer);
    let header = fields.u32(0)? as usize;
    let count = fields.u32(4)? as usize;
    let stride = fields.u32(12)? as usize;
    if stride == 0 {
        return None;
    }
    let end = header.checked_add(count.checked_mul(stride)?)?.min(buffer.len());
    buffer.truncate(end);
    let bytes = buffer.split_off(header.min(buffer.len()));
    Some(SubflowArray { bytes, stride })
}

#[cfg(test)]
#[path = "mptcp_tests.rs"]
mod tests;
