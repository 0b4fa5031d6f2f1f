//! Where a redirected connection was going to.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The destination the client asked for, before our nft rule redirected it here.
///
/// The kernel answers for any tracked connection: one that was not redirected gives the
/// listener's own address, and an untracked one an error (`ENOENT`). Works for plain TCP only, as
/// the kernel refuses it on MPTCP sockets; the LAN's listener is plain TCP for that reason.
pub fn original_dst(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    // An IPv4 client on a dual-stack listener is tracked as IPv4, so what the peer is counts, not
    // what the socket is.
    let is_v4 = match stream.peer_addr()?.ip() {
        IpAddr::V4(_) => true,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().is_some(),
    };
    let address = if is_v4 { socket.original_dst_v4() } else { socket.original_dst_v6() }?;
    address
        .as_socket()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an IP address"))
}
