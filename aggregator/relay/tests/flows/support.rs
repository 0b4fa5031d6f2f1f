//! Two pumps joined by a lane, and bytes that can be checked.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::lane::{FlowKeys, FrameKind, Open, OpenHead, RecordType, Target};
use wanbond_proto::session::{FlowId, Freshness, Session};
use wanbond_relay::{BufferPool, FlowEnd, LaneFault, LaneStream, Pump, Side, Traffic, drain};

/// Ends a test that would never end; no test depends on how fast it is.
pub(crate) async fn within<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), test).await.expect("the test hangs")
}

pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (one, other) = tokio::join!(connecting, listener.accept());
    let (one, other) = (one.unwrap(), other.unwrap().0);
    for stream in [&one, &other] {
        stream.set_nodelay(true).unwrap();
        // Bounded, as a fast reader's would grow to tens of MB; but never small: loopback's segments
        // of 64 KiB get stuck for 200 ms at a time in windows that hardly hold one.
        socket2::SockRef::from(stream).set_recv_buffer_size(1 << 20).unwrap();
    }
    (one, other)
}

/// A lane between flows, with both its ends.
pub(crate) struct Lane {
    pub(crate) sessions: (Session, Session),
    pub(crate) router: LaneStream,
    pub(crate) server: LaneStream,
    pub(crate) pools: [Arc<BufferPool>; 2],
}

/// What is left of one end when its pump has ended.
struct Half {
    /// Dropped, as the daemons do, if it broke.
    lane: Option<LaneStream>,
    keys: FlowKeys,
    end: Result<FlowEnd, LaneFault>,
    /// Payload bytes from and to the plain socket.
    moved: [usize; 2],
}

/// A flow in progress.
pub(crate) struct Flow {
    pub(crate) client: TcpStream,
    pub(crate) target: TcpStream,
    pub(crate) pools: [Arc<BufferPool>; 2],
    sessions: (Session, Session),
    router: JoinHandle<Half>,
    server: JoinHandle<Half>,
}

/// How a flow ended.
pub(crate) struct Ended {
    pub(crate) router: Result<FlowEnd, LaneFault>,
    pub(crate) server: Result<FlowEnd, LaneFault>,
    /// At the router: bytes from the client, and to it.
    pub(crate) moved: [usize; 2],
    /// The lane, if both ends say that it can be used again.
    pub(crate) lane: Option<Lane>,
}

impl Ended {
    /// The lane of a flow that ended in these ways.
    pub(crate) fn lane_after(self, router: FlowEnd, server: FlowEnd) -> Lane {
        assert_eq!((self.router.unwrap(), self.server.unwrap()), (router, server));
        self.lane.expect("the lane is free again")
    }
}

impl Lane {
    pub(crate) async fn new(suite: Suite) -> Self {
        let (router, server) = tcp_pair().await;
        Self::over(suite, router, server).await
    }

    /// A lane whose connection ends in these two; Hello and Ready have been exchanged.
    pub(crate) async fn over(suite: Suite, router: TcpStream, server: TcpStream) -> Self {
        let mut sessions = super::session::sessions(suite);
        let pools = [BufferPool::new(8 << 20), BufferPool::new(8 << 20)];
        let mut router = LaneStream::new(router, Arc::clone(&pools[0]));
        let mut server = LaneStream::new(server, Arc::clone(&pools[1]));
        let flow = sessions.0.next_flow_id();
        router.queue_hello(&sessions.0, flow);
        router.flush().await.unwrap();
        let keys = accept_open(&mut server, &sessions.1, RecordType::Hello).await;
        server.set_lane_keys(keys);
        server.set_freshness(Freshness([9; 16]));
        server.queue_lane_record(RecordType::Ready, &[9; 16]);
        server.flush().await.unwrap();
        let frame = router.frame().await.unwrap();
        assert_eq!(router.handle_lane_record(&frame).unwrap(), RecordType::Ready);
        assert_eq!(router.freshness(), Some(Freshness([9; 16])));
        Self { sessions, router, server, pools }
    }

    /// Opens a flow and sets both pumps going.
    pub(crate) async fn flow(mut self) -> Flow {
        let (client, router_plain) = tcp_pair().await;
        let (target, server_plain) = tcp_pair().await;
        assert!(self.router.is_usable());
        let id = self.sessions.0.next_flow_id();
        let open = Open {
            instead_of: Vec::new(),
            handover: false,
            target: Target::Name("target.example".into(), 80),
        };
        let mut router_keys = self.router.queue_open(&self.sessions.0, id, &open);
        self.router.flush().await.unwrap();
        let mut server_keys =
            accept_open(&mut self.server, &self.sessions.1, RecordType::Open).await;
        self.server.queue_record(&mut server_keys.seal, RecordType::Connected, &[]);
        self.server.flush().await.unwrap();
        let frame = self.router.frame().await.unwrap();
        let record = frame.open(&mut router_keys.open, self.router.frame_bytes(&frame)).unwrap();
        assert_eq!(record.kind, RecordType::Connected);
        self.router.consume(&frame);
        // In the middle of a flow either end may ask whether the other is there.
        self.server.queue_lane_record(RecordType::Ping, &[]);
        Flow {
            client,
            target,
            pools: self.pools,
            sessions: self.sessions,
            router: pump(Side::Router, router_plain, self.router, router_keys),
            server: pump(Side::Server, server_plain, self.server, server_keys),
        }
    }

    /// Whether the lane carries another flow.
    pub(crate) async fn check(self) -> Self {
        let mut flow = self.flow().await;
        for (from, to) in [(true, b"ping"), (false, b"pong")] {
            let (from, to, text) = if from {
                (&mut flow.client, &mut flow.target, to)
            } else {
                (&mut flow.target, &mut flow.client, to)
            };
            from.write_all(text).await.unwrap();
            from.shutdown().await.unwrap();
            let mut got = Vec::new();
            to.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, text);
        }
        flow.ended().await.lane_after(FlowEnd::Complete, FlowEnd::Complete)
    }
}

impl Flow {
    /// Waits for both pumps; frees the lane as the daemons do.
    pub(crate) async fn ended(self) -> Ended {
        let Self { sessions, pools, router, server: mut serving, .. } = self;
        let mut server = None;
        let freeing = async {
            let mut router = router.await.unwrap();
            let mut free = matches!(router.end, Ok(FlowEnd::Complete));
            if let (false, Some(lane)) = (free, &mut router.lane) {
                // Fails where the server has dropped the lane, which its own end tells too.
                free = drain(lane, &mut router.keys, usize::MAX).await.unwrap_or(false);
            }
            (router, free)
        };
        // The server reads on for the next open, so that the router gets rid of what it has queued.
        let serve_on = async {
            let ended = server.insert((&mut serving).await.unwrap());
            skip_rest(ended.lane.as_mut()).await;
        };
        let (router, free) = tokio::select! {
            freed = freeing => freed,
            () = serve_on => unreachable!("nothing is opened meanwhile"),
        };
        let server = match server {
            Some(server) => server,
            None => serving.await.unwrap(),
        };
        let lane = match (router.lane, server.lane) {
            (Some(router), Some(server)) if free => Some(Lane { sessions, router, server, pools }),
            _ => None,
        };
        Ended { router: router.end, server: server.end, moved: router.moved, lane }
    }

    /// Ends the server's pump and its lane connection on the spot.
    pub(crate) async fn kill_server(self) -> (TcpStream, TcpStream, LaneFault) {
        self.server.abort();
        assert!(self.server.await.is_err_and(|error| error.is_cancelled()));
        let Err(fault) = self.router.await.unwrap().end else { panic!("nothing was noticed") };
        (self.client, self.target, fault)
    }

    /// Waits until neither end holds a buffer.
    pub(crate) async fn holds_nothing(&self) {
        while self.pools.iter().any(|pool| pool.lent() > 0) {
            tokio::task::yield_now().await;
        }
    }
}

fn pump(
    side: Side,
    plain: TcpStream,
    mut lane: LaneStream,
    mut keys: FlowKeys,
) -> JoinHandle<Half> {
    tokio::spawn(async move {
        let traffic = Traffic::default();
        let end = Pump::new(side, plain, &mut lane, &mut keys, &traffic).run().await;
        let moved = [&traffic.sent, &traffic.received].map(|bytes| bytes.load(Ordering::Relaxed));
        Half { lane: end.is_ok().then_some(lane), keys, end, moved }
    })
}

/// Skips what still comes of a flow that has ended at the server.
async fn skip_rest(lane: Option<&mut LaneStream>) {
    let Some(lane) = lane else { return std::future::pending().await };
    while let Ok(frame) = lane.frame().await {
        match frame.kind {
            FrameKind::Record => lane.consume(&frame),
            FrameKind::LaneRecord => {
                lane.handle_lane_record(&frame).unwrap();
            }
            FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => {
                panic!("nobody sent one")
            }
        }
    }
    std::future::pending::<()>().await;
}

/// The server's part of an open: skips what was on its way of the flow before.
pub(crate) async fn accept_open(
    lane: &mut LaneStream,
    session: &Session,
    kind: RecordType,
) -> FlowKeys {
    loop {
        let frame = lane.frame().await.unwrap();
        match frame.kind {
            FrameKind::Open => {
                let head = OpenHead::read(lane.frame_bytes(&frame)).unwrap();
                let freshness = if head.fresh { lane.freshness() } else { None };
                let mut keys = session.flow_keys(FlowId(head.flow.0), freshness);
                let bytes = lane.frame_bytes(&frame);
                assert_eq!(frame.open(&mut keys.open, bytes).unwrap().kind, kind);
                lane.consume(&frame);
                return keys;
            }
            FrameKind::Record => lane.consume(&frame),
            FrameKind::LaneRecord => {
                lane.handle_lane_record(&frame).unwrap();
            }
            FrameKind::Handshake | FrameKind::Datagram => panic!("nobody sent one"),
        }
    }
}

/// xorshift64: the same bytes and sizes in every run.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_be_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// Whether the peer sees the connection reset, whatever it could still read before.
pub(crate) async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}
