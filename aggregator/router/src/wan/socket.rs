//! A WAN's UDP sockets: bound to its addresses and its device, so that what is sent there goes
//! there.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use wanbond_relay::boxed;

use tokio::task::AbortHandle;
use tracing::trace;
use wanbond_linux::socket::udp_bind;
use wanbond_proto::datagram::{Message, PathId, index_of, is_tunnel};
use wanbond_proto::handshake::is_handshake;
use wanbond_relay::tunnel::{PathEnd, PathSocket, TunnelDriver, by_session};
use wanbond_relay::udp::{Inbox, UdpEnd};

use super::facts::Facts;
use crate::link::LinkHint;
use crate::shared::{Shared, WanEvidence, WanSocket};

/// What a WAN's socket may hold: 100 ms at 160 Mbit/s.
const BUFFER_BYTES: usize = 2 << 20;

/// Opens a socket for each address, and begins to read them.
pub(crate) fn open(
    shared: &Arc<Shared>,
    path: PathId,
    facts: &Facts,
) -> io::Result<(Vec<WanSocket>, Vec<AbortHandle>)> {
    let mut sockets = Vec::new();
    let mut readers = Vec::new();
    for source in facts.sources() {
        let udp = udp_bind(SocketAddr::new(source, 0), Some(&facts.device), Some(BUFFER_BYTES))?;
        let udp = Arc::new(UdpEnd::new(udp)?);
        let reader = tokio::spawn(boxed(read(Arc::clone(shared), path, Arc::clone(&udp))));
        readers.push(reader.abort_handle());
        sockets.push(WanSocket { source, udp });
    }
    Ok((sockets, readers))
}

async fn read(shared: Arc<Shared>, path: PathId, udp: Arc<UdpEnd>) {
    let mut inbox = Inbox::default();
    loop {
        // ICMP errors surface here; the next datagram may be fine.
        if udp.receive(&mut inbox).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        }
        let (more, mut news) = (inbox.is_full(), None);
        for mut arrival in inbox.arrivals() {
            let from = arrival.from;
            if !shared.server.borrow().0.contains(&from) {
                trace!(%from, "datagram from elsewhere");
                continue;
            }
            let end = PathEnd::Udp(Arc::clone(&udp));
            let way = PathSocket { end, destination: from, source: None };
            news = take(&shared, path, &way, arrival.datagrams()).or(news);
        }
        if let Some(tunnel) = news {
            tunnel.settle(more);
        }
    }
}

/// Takes datagrams of the server's that came by `way`. Gives the tunnel if it is to be settled.
pub(super) fn take<'a>(
    shared: &Shared,
    path: PathId,
    way: &PathSocket,
    datagrams: impl Iterator<Item = &'a mut [u8]>,
) -> Option<Arc<TunnelDriver>> {
    let mut of_tunnel = Vec::new();
    for datagram in datagrams {
        if is_tunnel(datagram) {
            of_tunnel.push(datagram);
        } else {
            handle(shared, path, way.destination, datagram);
        }
    }
    let mut news = None;
    by_session(of_tunnel, |index, datagrams| {
        let (Some(session), Some(tunnel)) = (shared.sessions.by_index(index), shared.tunnel())
        else {
            return;
        };
        if tunnel.receive(session.tunnel(), way, datagrams.into_iter()) {
            news = Some(tunnel);
        }
    });
    news
}

/// Takes a datagram that is not the tunnel's.
fn handle(shared: &Shared, path: PathId, from: SocketAddr, datagram: &mut [u8]) {
    if is_handshake(datagram) {
        let _ = shared.link.try_send(LinkHint::Message(datagram.to_vec()));
        return;
    }
    let Some(session) = index_of(datagram).and_then(|index| shared.sessions.by_index(index)) else {
        return;
    };
    let message = match session.datagrams().open(datagram) {
        Ok((_, message)) => Message::decode(message),
        Err(error) => {
            trace!(%from, %error, "datagram dropped");
            return;
        }
    };
    match message {
        Some(Message::Pong(number, observed)) => {
            let _ = shared.evidence.try_send(WanEvidence::Pong { path, number, observed });
        }
        Some(Message::Forwards(forwards)) => {
            shared.forwards.send_if_modified(|known| {
                let news = *known != forwards;
                *known = forwards;
                news
            });
        }
        Some(Message::Load(percent)) => {
            let mut load = shared.server_load.lock().unwrap_or_else(PoisonError::into_inner);
            *load = Some((percent, shared.clock.now()));
        }
        Some(Message::Ping(..)) | None => {}
    }
}

/// Sends a ping over a WAN. `false` where there is no session, or no server to send it to, yet.
pub(crate) fn ping(shared: &Shared, path: PathId, sockets: &[WanSocket], number: u32) -> bool {
    let Some(datagram) = sealed_ping(shared, path, number) else { return false };
    let server = shared.server.borrow();
    let way = sockets.iter().find_map(|s| Some((&s.udp, server.reachable_from(s.source)?)));
    let Some((udp, address)) = way else { return false };
    // What the kernel refuses to send counts as lost, rightly.
    udp.send(address, None, &datagram, None);
    true
}

/// A ping as a datagram; `None` without a session.
pub(super) fn sealed_ping(shared: &Shared, path: PathId, number: u32) -> Option<Vec<u8>> {
    let session = shared.sessions.current()?;
    let mut message = Vec::with_capacity(32);
    Message::Ping(number, shared.forwards.borrow().version).encode(&mut message);
    let mut datagram = Vec::with_capacity(64);
    session.datagrams().seal(path, &message, &mut datagram);
    Some(datagram)
}
