//! UDP: handshakes, pings of every path, and the tunnels' datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::trace;
use wanbond_linux::socket::udp_bind;
use wanbond_proto::datagram::{Message, PathId, index_of, is_tunnel};
use wanbond_proto::handshake::{is_handshake, unknown_session};
use wanbond_relay::tunnel::{PathSocket, TunnelDriver, by_session};
use wanbond_relay::udp::{Inbox, UdpEnd};

use super::Shared;

/// What the socket of all routers may hold.
const BUFFER_BYTES: usize = 8 << 20;

/// A UDP socket that answers from the address it was asked at: a VPS can have several.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpEnd> {
    UdpEnd::new(udp_bind(address, None, Some(BUFFER_BYTES))?)
}

/// Serves a socket until it is dropped.
pub(super) async fn serve(shared: Arc<Shared>, socket: UdpEnd) {
    let socket = Arc::new(socket);
    let mut inbox = Inbox::default();
    let (mut out, mut news) = (Vec::with_capacity(256), Vec::new());
    // Whose datagrams were among those received together.
    let mut touched: Vec<Arc<TunnelDriver>> = Vec::new();
    loop {
        if let Err(error) = socket.receive(&mut inbox).await {
            // An ICMP error about something sent earlier; the socket itself is fine.
            trace!(%error, "UDP");
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        let more = inbox.is_full();
        for mut arrival in inbox.arrivals() {
            let (from, to) = (arrival.from, arrival.to);
            let mut tunnel = Vec::new();
            for datagram in arrival.datagrams() {
                if is_tunnel(datagram) {
                    tunnel.push(datagram);
                } else if handle(&shared, datagram, from, &mut out, &mut news) {
                    if !news.is_empty() {
                        socket.send(from, to, &news, None);
                    }
                    // A full buffer loses the answer, as the network might.
                    socket.send(from, to, &out, None);
                }
            }
            by_session(tunnel, |index, mut datagrams| {
                let Some(session) = shared.sessions.get(index) else {
                    let first = datagrams.first_mut().map(|first| &**first).unwrap_or_default();
                    if let Some(answer) = unknown_session::encode(index, first) {
                        socket.send(from, to, &answer, None);
                    }
                    return;
                };
                let way = PathSocket { udp: Arc::clone(&socket), destination: from, source: to };
                let tunnel = shared.tunnels.of(&session, from);
                if tunnel.receive(session.tunnel(), &way, datagrams.into_iter()) {
                    shared.sessions.confirm(&session, from);
                    session.router.seen_at(from);
                    if !touched.iter().any(|known| Arc::ptr_eq(known, &tunnel)) {
                        touched.push(tunnel);
                    }
                }
            });
        }
        for tunnel in touched.drain(..) {
            tunnel.settle(more);
        }
    }
}

/// Handles one datagram; `true` if `out` is to be sent back, and before it `news`, if not empty.
fn handle(
    shared: &Shared,
    datagram: &mut [u8],
    from: SocketAddr,
    out: &mut Vec<u8>,
    news: &mut Vec<u8>,
) -> bool {
    news.clear();
    if is_handshake(datagram) {
        let answer = shared.sessions.handle_handshake(datagram, from, false);
        out.clear();
        out.extend_from_slice(answer.as_deref().unwrap_or_default());
        return answer.is_some();
    }
    let Some(index) = index_of(datagram) else { return false };
    let Some(session) = shared.sessions.get(index) else {
        let answer = unknown_session::encode(index, datagram);
        out.clear();
        out.extend_from_slice(answer.as_deref().unwrap_or_default());
        return answer.is_some();
    };
    let mut keys = session.datagrams();
    let (path, message): (PathId, _) = match keys.open(datagram) {
        Ok((path, message)) => (path, Message::decode(message)),
        Err(error) => {
            trace!(%from, %error, "datagram dropped");
            return false;
        }
    };
    let answered = if let Some(Message::Ping(number, known)) = message {
        let mut message = Vec::with_capacity(32);
        let forwards = session.router.forwards();
        if forwards.version != known {
            Message::Forwards(forwards).encode(&mut message);
            keys.seal(path, &message, news);
            message.clear();
        }
        Message::Pong(number, Some(from)).encode(&mut message);
        keys.seal(path, &message, out);
        true
    } else {
        false
    };
    drop(keys);
    shared.sessions.confirm(&session, from);
    session.router.seen_at(from);
    answered
}
