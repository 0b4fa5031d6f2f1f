//! UDP sockets and tunnels over them, on loopback, with and without what the kernel can do for them.

mod driver;
mod sockets;
mod tcp;

#[path = "../session/mod.rs"]
mod session;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use wanbond_relay::udp::UdpEnd;

/// What the kernel may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offloads {
    /// Cut what is sent.
    pub(crate) segmentation: bool,
    /// Join what is received.
    pub(crate) joining: bool,
}

impl Offloads {
    pub(crate) const ALL: [Self; 4] = [
        Self { segmentation: true, joining: true },
        Self { segmentation: true, joining: false },
        Self { segmentation: false, joining: true },
        Self { segmentation: false, joining: false },
    ];
}

/// A socket on loopback, and its address.
pub(crate) async fn socket(offloads: Offloads) -> (UdpEnd, SocketAddr) {
    let udp = UdpEnd::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()).unwrap();
    let address = udp.socket().local_addr().unwrap();
    if !offloads.segmentation {
        refuse_segmentation(&udp).await;
    }
    if !offloads.joining {
        setsockopt(udp.socket(), sockopt::UdpGroSegment, &false).unwrap();
    }
    (udp, address)
}

/// Has the kernel refuse to cut once, as one does that can't: by asking for more pieces than any
/// kernel makes of one call (`UDP_MAX_SEGMENTS`, 128 at most). Whatever the reason, the socket then
/// must do without.
async fn refuse_segmentation(udp: &UdpEnd) {
    let sink = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    assert!(udp.send(sink.local_addr().unwrap(), None, &[0; 20 * 400], Some(20)));
    assert_eq!(udp.most_segments(), 1, "400 segments were taken by the kernel");
}

/// Ends a test that would never end; no test depends on how fast it is.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), test).await.expect("the test hangs")
}
