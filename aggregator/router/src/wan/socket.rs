//! A WAN's UDP sockets: bound to its addresses and its device, so that what is sent there goes
//! there.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tracing::trace;
use wanbond_linux::socket::udp_bind;
use wanbond_proto::datagram::{Message, PathId, index_of};
use wanbond_proto::handshake::is_handshake;

use super::facts::Facts;
use crate::link::LinkHint;
use crate::shared::{Shared, WanEvidence, WanSocket};

/// Opens a socket for each address, and begins to read them.
pub(crate) fn open(
    shared: &Arc<Shared>,
    path: PathId,
    facts: &Facts,
) -> io::Result<(Vec<WanSocket>, Vec<AbortHandle>)> {
    let mut sockets = Vec::new();
    let mut readers = Vec::new();
    for source in facts.sources() {
        let udp = udp_bind(SocketAddr::new(source, 0), Some(&facts.device), None)?;
        let udp = Arc::new(udp);
        let reader = tokio::spawn(read(Arc::clone(shared), path, Arc::clone(&udp)));
        readers.push(reader.abort_handle());
        sockets.push(WanSocket { source, udp });
    }
    Ok((sockets, readers))
}

async fn read(shared: Arc<Shared>, path: PathId, udp: Arc<UdpSocket>) {
    let mut buffer = [0; 2048];
    loop {
        // ICMP errors surface here; the next datagram may be fine.
        let Ok((length, from)) = udp.recv_from(&mut buffer).await else {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        if !shared.server.borrow().0.contains(&from) {
            trace!(%from, "datagram from elsewhere");
            continue;
        }
        let datagram = &mut buffer[..length];
        if is_handshake(datagram) {
            let _ = shared.link.try_send(LinkHint::Message(datagram.to_vec()));
            continue;
        }
        let Some(session) = index_of(datagram).and_then(|index| shared.sessions.by_index(index))
        else {
            continue;
        };
        let message = match session.datagrams().open(datagram) {
            Ok((_, message)) => Message::decode(message),
            Err(error) => {
                trace!(%from, %error, "datagram dropped");
                continue;
            }
        };
        if let Some(Message::Pong(number, observed)) = message {
            let _ = shared.evidence.try_send(WanEvidence::Pong { path, number, observed });
        }
    }
}

/// Sends a ping over a WAN. `false` where there is no session, or no server to send it to, yet.
pub(crate) fn ping(shared: &Shared, path: PathId, sockets: &[WanSocket], number: u32) -> bool {
    let Some(session) = shared.sessions.current() else { return false };
    let server = shared.server.borrow();
    let way = sockets.iter().find_map(|s| Some((&s.udp, server.reachable_from(s.source)?)));
    let Some((udp, address)) = way else { return false };
    let mut message = Vec::with_capacity(32);
    Message::Ping(number).encode(&mut message);
    let mut datagram = Vec::with_capacity(64);
    session.datagrams().seal(path, &message, &mut datagram);
    // What the kernel refuses to send counts as lost, rightly.
    let _ = udp.try_send_to(&datagram, address);
    true
}
