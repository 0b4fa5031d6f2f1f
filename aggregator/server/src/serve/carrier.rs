//! A connection that carries a router's datagrams, over a WAN where UDP is blocked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::timeout;
use wanbond_proto::datagram::{index_of, is_tunnel};
use wanbond_proto::lane::{Frame, FrameKind, HEAD_LEN, LaneError};
use wanbond_relay::tcp::TcpEnd;
use wanbond_relay::tunnel::{PathEnd, PathSocket, TunnelDriver};
use wanbond_relay::{LaneFault, LaneStream};

use super::Shared;
use super::datagrams::{Answers, take_tunnel};
use super::routers::LiveRouter;

/// A router sends a ping every few seconds; one that sends nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(90);

/// The connection's sending side, and what came over it.
pub(super) struct DatagramCarrier {
    way: PathSocket,
    answers: Answers,
    /// Whose tunnel it carries, once it has.
    tunnel: Option<Arc<TunnelDriver>>,
}

impl DatagramCarrier {
    /// Takes the connection of `lane` for datagrams; `None` where it is none, but a tunnel's stream.
    pub(super) fn new(lane: &LaneStream, peer: SocketAddr) -> Option<Self> {
        let end = TcpEnd::start(lane.carrier().connection()?);
        let way = PathSocket { end: PathEnd::Tcp(end), destination: peer, source: None };
        Some(Self { way, answers: Answers::default(), tunnel: None })
    }

    /// Takes a frame with a datagram. Gives whose it is, if it is authentic. What it brings to the
    /// tunnel is to be [settled](Self::settle).
    pub(super) fn take(
        &mut self,
        shared: &Shared,
        lane: &mut LaneStream,
        frame: &Frame,
    ) -> Option<Arc<LiveRouter>> {
        let datagram = &mut lane.frame_bytes(frame)[HEAD_LEN..];
        let heard = if is_tunnel(datagram) {
            let taken = index_of(datagram)
                .and_then(|index| take_tunnel(shared, &self.way, index, vec![datagram]));
            taken.map(|(router, tunnel)| {
                self.tunnel = Some(tunnel);
                router
            })
        } else {
            self.answers.take(shared, &self.way, datagram)
        };
        lane.consume(frame);
        heard
    }

    fn settle(&self) {
        if let Some(tunnel) = &self.tunnel {
            tunnel.settle(false);
        }
    }

    /// Carries datagrams until the connection ends. `router`: whose it is. Another's datagrams end it.
    pub(super) async fn run(
        &mut self,
        shared: &Shared,
        lane: &mut LaneStream,
        router: &Arc<LiveRouter>,
    ) -> LaneFault {
        self.settle();
        loop {
            let mut frame = match timeout(SILENCE, lane.frame()).await {
                Ok(Ok(frame)) => frame,
                Ok(Err(fault)) => return fault,
                Err(_) => return std::io::Error::from(std::io::ErrorKind::TimedOut).into(),
            };
            loop {
                if frame.kind != FrameKind::Datagram {
                    return LaneError::Unexpected.into();
                }
                let heard = self.take(shared, lane, &frame);
                if heard.is_some_and(|heard| !Arc::ptr_eq(&heard, router)) {
                    return LaneError::Unexpected.into();
                }
                match lane.poll_frame(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(next)) => frame = next,
                    Poll::Ready(Err(fault)) => return fault,
                    Poll::Pending => break,
                }
            }
            self.settle();
        }
    }
}

impl Drop for DatagramCarrier {
    fn drop(&mut self) {
        if let Some(tunnel) = &self.tunnel {
            tunnel.end_lost(&self.way.end);
        }
    }
}
