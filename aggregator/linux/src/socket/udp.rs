//! UDP sockets.

use std::io;
use std::net::SocketAddr;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Binds a UDP socket, to one device if named (which needs `CAP_NET_RAW`, or Linux 5.7).
///
/// `buffer_bytes` is what to ask for in each direction; root may go beyond `net.core.rmem_max`,
/// others get as much as it allows. An IPv6 wildcard takes IPv6 only, so that both families can be
/// bound to one port.
///
/// # Errors
/// From making, binding to the device and binding to the address; buffers are best effort.
pub fn udp_bind(
    local: SocketAddr,
    device: Option<&str>,
    buffer_bytes: Option<usize>,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(bytes) = buffer_bytes {
        if setsockopt(&socket, sockopt::RcvBufForce, &bytes).is_err() {
            let _ = socket.set_recv_buffer_size(bytes);
        }
        if setsockopt(&socket, sockopt::SndBufForce, &bytes).is_err() {
            let _ = socket.set_send_buffer_size(bytes);
        }
    }
    socket.bind(&local.into())?;
    UdpSocket::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_families_share_a_port() {
        let v4 = udp_bind("0.0.0.0:0".parse().unwrap(), None, Some(1 << 18)).unwrap();
        let port = v4.local_addr().unwrap().port();
        let v6 = udp_bind(SocketAddr::new("::".parse().unwrap(), port), Some("lo"), None);
        assert!(v6.is_ok(), "{v6:?}");
    }
}
