//! A UDP socket that sends and receives many datagrams by one system call.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::{debug, trace};

/// Messages taken by one system call.
const BATCH: usize = 8;
/// Room for each: the kernel joins datagrams of one sender (GRO) up to this.
const ROOM: usize = 64 * 1024;

/// A UDP socket with what the kernel offers it: segmentation, joining, the address written to.
pub struct UdpEnd {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl UdpEnd {
    /// Takes a bound socket over. Its datagrams are never fragmented on the way.
    ///
    /// # Errors
    /// Where the socket's options can't be set.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket, state })
    }

    /// The socket.
    #[must_use]
    pub const fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// How many datagrams one call may send.
    #[must_use]
    pub fn most_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// Sends `contents`, datagrams of `segment` bytes each (the last may be shorter), from `source`
    /// if that is known. `false` if the kernel did not take them: as if lost on the way.
    pub fn send(
        &self,
        destination: SocketAddr,
        source: Option<IpAddr>,
        contents: &[u8],
        segment: Option<usize>,
    ) -> bool {
        let transmit =
            Transmit { destination, ecn: None, contents, segment_size: segment, src_ip: source };
        // Past Tokio, which knows of a new socket's readiness only later: nobody waits for it here.
        let sent = self.state.try_send(UdpSockRef::from(&self.socket), &transmit);
        match (sent, segment) {
            (Ok(()), _) => true,
            // The kernel will not cut them, which nothing tells before it is tried: from now on
            // they go one by one, and so do these.
            (Err(error), Some(size)) if self.most_segments() == 1 => {
                debug!(to = %destination, %error, "no segmentation of UDP here");
                let mut datagrams = contents.chunks(size.max(1));
                datagrams.all(|datagram| self.send(destination, source, datagram, None))
            }
            (Err(error), _) => {
                trace!(to = %destination, %error, "datagram not sent");
                false
            }
        }
    }

    /// Waits for datagrams.
    ///
    /// # Errors
    /// An ICMP error about something sent earlier, for one; the socket itself is then fine.
    pub async fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        loop {
            self.socket.readable().await?;
            let Inbox { buffers, metas, count } = &mut *inbox;
            *count = 0;
            let mut slices = buffers.each_mut().map(|b| IoSliceMut::new(b));
            let received = self.socket.try_io(Interest::READABLE, || {
                *count = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, metas)?;
                // Fewer than there is room for were all: saying so saves asking in vain.
                if *count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match received {
                _ if *count > 0 => return Ok(()),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
    }
}

/// Buffers for received datagrams, used again for each call.
pub struct Inbox {
    buffers: [Vec<u8>; BATCH],
    metas: [RecvMeta; BATCH],
    count: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            buffers: std::array::from_fn(|_| vec![0; ROOM]),
            metas: [RecvMeta::default(); BATCH],
            count: 0,
        }
    }
}

/// Datagrams from one source that were received together.
pub struct Arrival<'a> {
    /// Where they came from.
    pub from: SocketAddr,
    /// The own address that they were sent to.
    pub to: Option<IpAddr>,
    bytes: &'a mut [u8],
    stride: usize,
}

impl Arrival<'_> {
    /// The datagrams.
    pub fn datagrams(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_mut(self.stride)
    }
}

impl Inbox {
    /// Whether the last call received as much as it could: there is likely more.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.count == BATCH
    }

    /// What the last call received.
    pub fn arrivals(&mut self) -> impl Iterator<Item = Arrival<'_>> {
        self.buffers.iter_mut().zip(&self.metas).take(self.count).map(|(buffer, meta)| Arrival {
            from: meta.addr,
            to: meta.dst_ip,
            bytes: &mut buffer[..meta.len],
            stride: meta.stride.max(1),
        })
    }
}
