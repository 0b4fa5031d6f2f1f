//! UDP: handshakes, and pings of every path.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::trace;
use wanbond_linux::socket::udp_bind;
use wanbond_proto::datagram::{Message, PathId, index_of};
use wanbond_proto::handshake::{is_handshake, unknown_session};

use super::Shared;

/// Datagrams taken by one system call.
const BATCH: usize = 8;
/// Room for each; the kernel joins datagrams of one sender (GRO) up to 64 KiB.
const ROOM: usize = 64 * 1024;
const BUFFER_BYTES: usize = 1 << 20;

/// A UDP socket that answers from the address it was asked at: a VPS can have several.
pub(super) struct Socket {
    udp: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    pub(super) fn bind(address: SocketAddr) -> io::Result<Self> {
        let udp = udp_bind(address, None, Some(BUFFER_BYTES))?;
        let state = UdpSocketState::new(UdpSockRef::from(&udp))?;
        Ok(Self { udp, state })
    }

    async fn receive(
        &self,
        buffers: &mut [Vec<u8>],
        metas: &mut [RecvMeta; BATCH],
    ) -> io::Result<usize> {
        loop {
            self.udp.readable().await?;
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let received = self.udp.try_io(Interest::READABLE, || {
                self.state.recv(UdpSockRef::from(&self.udp), &mut slices, metas)
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                received => return received,
            }
        }
    }

    /// Answers from the address that was written to. A full buffer loses the answer, as the
    /// network might.
    fn answer(&self, meta: &RecvMeta, contents: &[u8]) {
        let transmit = Transmit {
            destination: meta.addr,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: meta.dst_ip,
        };
        let sent = self.udp.try_io(Interest::WRITABLE, || {
            self.state.try_send(UdpSockRef::from(&self.udp), &transmit)
        });
        if let Err(error) = sent {
            trace!(to = %meta.addr, %error, "answer not sent");
        }
    }
}

/// Serves a socket until it is dropped.
pub(super) async fn serve(shared: Arc<Shared>, socket: Socket) {
    let mut buffers = vec![vec![0; ROOM]; BATCH];
    let mut metas = [RecvMeta::default(); BATCH];
    let mut out = Vec::with_capacity(256);
    loop {
        let received = match socket.receive(&mut buffers, &mut metas).await {
            Ok(received) => received,
            Err(error) => {
                // An ICMP error about something sent earlier; the socket itself is fine.
                trace!(%error, "UDP");
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        for (buffer, meta) in buffers.iter_mut().zip(&metas).take(received) {
            let stride = meta.stride.max(1);
            for datagram in buffer[..meta.len].chunks_mut(stride) {
                if handle(&shared, datagram, meta.addr, &mut out) {
                    socket.answer(meta, &out);
                }
            }
        }
    }
}

/// Handles one datagram; `true` if `out` is to be sent back.
fn handle(shared: &Shared, datagram: &mut [u8], from: SocketAddr, out: &mut Vec<u8>) -> bool {
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
    let answered = if let Some(Message::Ping(number)) = message {
        let mut pong = Vec::with_capacity(32);
        Message::Pong(number, Some(from)).encode(&mut pong);
        keys.seal(path, &pong, out);
        true
    } else {
        false
    };
    drop(keys);
    shared.sessions.confirm(&session, from);
    session.router.seen_at(from);
    answered
}
