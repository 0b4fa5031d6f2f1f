//! UDP: handshakes, pings of every path, and the tunnels' datagrams.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tracing::trace;
use wanbond_linux::socket::udp_bind;
use wanbond_proto::datagram::{DatagramKeys, Message, PathId, index_of, is_tunnel};
use wanbond_proto::handshake::{is_handshake, unknown_session};
use wanbond_relay::tunnel::{PathEnd, PathSocket, TunnelDriver, by_session};
use wanbond_relay::udp::{Inbox, UdpEnd};

use super::Shared;
use super::routers::LiveRouter;

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
    let mut answers = Answers::default();
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
            let way = PathSocket {
                end: PathEnd::Udp(Arc::clone(&socket)),
                destination: arrival.from,
                source: arrival.to,
            };
            let mut tunnel = Vec::new();
            for datagram in arrival.datagrams() {
                if is_tunnel(datagram) {
                    tunnel.push(datagram);
                } else if is_handshake(datagram) {
                    let answer = shared.sessions.handle_handshake(datagram, way.destination, false);
                    if let Some(answer) = answer {
                        way.send(&answer, None);
                    }
                } else {
                    answers.take(&shared, &way, datagram);
                }
            }
            by_session(tunnel, |index, datagrams| {
                if let Some((_, tunnel)) = take_tunnel(&shared, &way, index, datagrams)
                    && !touched.iter().any(|known| Arc::ptr_eq(known, &tunnel))
                {
                    touched.push(tunnel);
                }
            });
        }
        for tunnel in touched.drain(..) {
            tunnel.settle(more);
        }
    }
}

/// Takes the tunnel's datagrams that came by `way`. Gives whose they are, if any was authentic: the
/// tunnel is then to be settled.
pub(super) fn take_tunnel(
    shared: &Shared,
    way: &PathSocket,
    index: u32,
    mut datagrams: Vec<&mut [u8]>,
) -> Option<(Arc<LiveRouter>, Arc<TunnelDriver>)> {
    let Some(session) = shared.sessions.get(index) else {
        let first = datagrams.first_mut().map(|first| &**first).unwrap_or_default();
        if let Some(answer) = unknown_session::encode(index, first) {
            way.send(&answer, None);
        }
        return None;
    };
    let from = way.destination;
    let tunnel = shared.tunnels.of(&session, from);
    if !tunnel.receive(session.tunnel(), way, datagrams.into_iter()) {
        return None;
    }
    shared.sessions.confirm(&session, from);
    session.router.seen_at(from);
    Some((Arc::clone(&session.router), tunnel))
}

/// Answers to the sessions' own datagrams; buffers used again each time.
#[derive(Default)]
pub(super) struct Answers {
    message: Vec<u8>,
    sealed: Vec<u8>,
}

impl Answers {
    /// Takes a datagram of a session itself that came by `way`, and answers it. Gives whose it is, if
    /// it was authentic.
    pub(super) fn take(
        &mut self,
        shared: &Shared,
        way: &PathSocket,
        datagram: &mut [u8],
    ) -> Option<Arc<LiveRouter>> {
        let index = index_of(datagram)?;
        let from = way.destination;
        let Some(session) = shared.sessions.get(index) else {
            if let Some(answer) = unknown_session::encode(index, datagram) {
                way.send(&answer, None);
            }
            return None;
        };
        let mut keys = session.datagrams();
        let (path, message) = match keys.open(datagram) {
            Ok((path, message)) => (path, Message::decode(message)),
            Err(error) => {
                trace!(%from, %error, "datagram dropped");
                return None;
            }
        };
        if let Some(Message::Ping(number, known)) = message {
            let forwards = session.router.forwards();
            if forwards.version != known {
                self.answer(&mut keys, way, path, &Message::Forwards(forwards));
            }
            self.answer(&mut keys, way, path, &Message::Pong(number, Some(from)));
            let load = shared.load.load(Ordering::Relaxed);
            if load >= Message::BUSY {
                self.answer(&mut keys, way, path, &Message::Load(load));
            }
        }
        drop(keys);
        shared.sessions.confirm(&session, from);
        session.router.seen_at(from);
        if let Some(tunnel) = session.driver().get() {
            tunnel.heard(path, way);
        }
        Some(Arc::clone(&session.router))
    }

    fn answer(
        &mut self,
        keys: &mut DatagramKeys,
        way: &PathSocket,
        path: PathId,
        message: &Message,
    ) {
        self.message.clear();
        message.encode(&mut self.message);
        keys.seal(path, &self.message, &mut self.sealed);
        // A full buffer loses the answer, as the network might.
        way.send(&self.sealed, None);
    }
}
