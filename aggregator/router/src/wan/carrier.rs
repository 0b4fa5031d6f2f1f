//! The connection that carries a WAN's datagrams where UDP is blocked on its way.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::{future, io};
use wanbond_relay::boxed;

use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, info};
use wanbond_linux::socket::{ConnectOptions, connect};
use wanbond_proto::lane::{Frame, FrameKind, HEAD_LEN, LaneError};
use wanbond_relay::tcp::TcpEnd;
use wanbond_relay::tunnel::{PathEnd, PathSocket, TunnelDriver};
use wanbond_relay::{LaneFault, LaneStream};

use super::socket;
use crate::link::LinkHint;
use crate::shared::{Shared, WanEvidence, WanView};

const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Between two connections: the first pause, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const MOST_PAUSE: Duration = Duration::from_secs(10);
/// A connection that has lasted for so long was no failure.
const LASTED: Duration = Duration::from_secs(30);
/// Between pings: they keep a NAT's mapping, bring the port forwards, and show that the server is there.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// What an answer may take, behind all that waits in the connection.
const ANSWER_TIME: Duration = Duration::from_secs(3);
/// Bytes that wait unsent in the kernel: more would only be late.
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Keeps the connection for as long as it lives.
pub(crate) struct WanCarrier {
    end: watch::Receiver<Option<Arc<TcpEnd>>>,
    doubt: Arc<Notify>,
    task: AbortHandle,
}

impl WanCarrier {
    /// Connects over `wan`, again and again.
    pub(crate) fn start(shared: &Arc<Shared>, wan: WanView) -> Self {
        let (sender, end) = watch::channel(None);
        let doubt = Arc::new(Notify::new());
        let task =
            Keeper { shared: Arc::clone(shared), wan, end: sender, doubt: Arc::clone(&doubt) };
        Self { end, doubt, task: tokio::spawn(boxed(task.run())).abort_handle() }
    }

    /// The connection, while there is one.
    pub(crate) fn end(&self) -> Option<Arc<TcpEnd>> {
        self.end.borrow().clone()
    }

    /// The tunnel hears nothing over it: it is looked at.
    pub(crate) fn doubt(&self) {
        self.doubt.notify_one();
    }
}

impl Drop for WanCarrier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Keeper {
    shared: Arc<Shared>,
    wan: WanView,
    end: watch::Sender<Option<Arc<TcpEnd>>>,
    doubt: Arc<Notify>,
}

impl Keeper {
    async fn run(self) {
        let mut pause = PAUSE;
        loop {
            self.wait_for_session().await;
            let started = Instant::now();
            let mut server = self.shared.server.subscribe();
            let outcome = tokio::select! {
                outcome = self.connect_and_carry() => outcome,
                // The connection may lead to one that is not wanted any more.
                _ = server.changed() => Ok(()),
            };
            self.end.send_replace(None);
            self.tell(WanEvidence::CarrierChanged { path: self.wan.path });
            if let Err(error) = outcome {
                debug!(wan = %self.wan.name, %error, "connection for datagrams");
                self.tell(WanEvidence::CarrierLost { path: self.wan.path });
            }
            pause = if started.elapsed() >= LASTED { PAUSE } else { (pause * 2).min(MOST_PAUSE) };
            sleep(pause).await;
        }
    }

    fn tell(&self, evidence: WanEvidence) {
        // One of many kinds of evidence, where there are too many.
        let _ = self.shared.evidence.try_send(evidence);
    }

    async fn wait_for_session(&self) {
        let mut sessions = self.shared.sessions.subscribe();
        while self.shared.sessions.current().is_none() {
            if sessions.changed().await.is_err() {
                return future::pending().await;
            }
        }
    }

    async fn connect_and_carry(&self) -> Result<(), LaneFault> {
        let (source, server) = {
            let server = self.shared.server.borrow();
            let mut ways = self.wan.sockets.iter();
            ways.find_map(|s| Some((s.source, server.reachable_from(s.source)?)))
                .ok_or(io::ErrorKind::AddrNotAvailable)
                .map_err(io::Error::from)?
        };
        let options = options(&self.shared, source);
        let stream = timeout(CONNECT_TIME, connect(server, &options)).await;
        let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let mut lane = LaneStream::new(stream, Arc::clone(&self.shared.pool));
        let Some(connection) = lane.carrier().connection() else { return Ok(()) };
        let end = TcpEnd::start(connection);
        info!(wan = %self.wan.name, "UDP is blocked: the tunnel goes over a TCP connection here");
        let way =
            PathSocket { end: PathEnd::Tcp(Arc::clone(&end)), destination: server, source: None };
        // The first datagram shows the server what the connection is for.
        self.ping(&way);
        self.end.send_replace(Some(end));
        self.tell(WanEvidence::CarrierChanged { path: self.wan.path });
        self.carry(&mut lane, &way).await
    }

    fn ping(&self, way: &PathSocket) {
        // Not one of the numbered: those ask whether UDP passes.
        if let Some(ping) = socket::sealed_ping(&self.shared, self.wan.path, u32::MAX) {
            way.send(&ping, None);
        }
    }

    async fn carry(&self, lane: &mut LaneStream, way: &PathSocket) -> Result<(), LaneFault> {
        let mut next_ping = Instant::now() + PING_INTERVAL;
        let mut answer_by = Some(Instant::now() + ANSWER_TIME);
        loop {
            tokio::select! {
                frame = lane.frame() => {
                    answer_by = None;
                    self.take_all(lane, frame?, way)?;
                }
                () = self.doubt.notified(), if answer_by.is_none() => {
                    self.ping(way);
                    answer_by = Some(Instant::now() + ANSWER_TIME);
                }
                () = sleep_until(next_ping) => {
                    self.ping(way);
                    next_ping = Instant::now() + PING_INTERVAL;
                    answer_by.get_or_insert(Instant::now() + ANSWER_TIME);
                }
                () = sleep_until(answer_by.unwrap_or(next_ping)), if answer_by.is_some() => {
                    return Err(io::Error::from(io::ErrorKind::TimedOut).into());
                }
            }
        }
    }

    /// Takes a frame, and those that have come with it.
    fn take_all(
        &self,
        lane: &mut LaneStream,
        mut frame: Frame,
        way: &PathSocket,
    ) -> Result<(), LaneFault> {
        let mut news = None;
        let outcome = loop {
            match frame.kind {
                FrameKind::Datagram => news = self.take(lane, &frame, way).or(news),
                FrameKind::Handshake => {
                    let message = lane.frame_bytes(&frame)[HEAD_LEN..].to_vec();
                    let _ = self.shared.link.try_send(LinkHint::Message(message));
                }
                _ => break Err(LaneError::Unexpected.into()),
            }
            lane.consume(&frame);
            match lane.poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(next)) => frame = next,
                Poll::Ready(Err(fault)) => break Err(fault),
                Poll::Pending => break Ok(()),
            }
        };
        if let Some(tunnel) = news {
            tunnel.settle(false);
        }
        outcome
    }

    fn take(
        &self,
        lane: &mut LaneStream,
        frame: &Frame,
        way: &PathSocket,
    ) -> Option<Arc<TunnelDriver>> {
        let datagram = &mut lane.frame_bytes(frame)[HEAD_LEN..];
        socket::take(&self.shared, self.wan.path, way, std::iter::once(datagram))
    }
}

fn options(shared: &Shared, source: IpAddr) -> ConnectOptions {
    ConnectOptions {
        source: Some(source),
        congestion: shared.congestion.clone(),
        notsent_lowat: Some(NOTSENT_LOWAT),
        ..ConnectOptions::default()
    }
}
