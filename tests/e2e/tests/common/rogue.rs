//! A router that does as it likes: speaks the lane protocol byte by byte, and keeps what it sent.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wanbond_e2e::PATIENCE;
use wanbond_lab::ns::Namespace;
use wanbond_proto::Time;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::handshake::{Notice, Reply, RouterHandshake, RouterIdentity};
use wanbond_proto::inner::Instance;
use wanbond_proto::lane::{
    FlowKeys, Frame, FrameKind, HEAD_LEN, Open, PAYLOAD_AT, RECORD_OVERHEAD, RecordType,
    ResetReason, Target, handshake_frame, next_frame, seal_open, seal_record,
};
use wanbond_proto::pairing::PairingCode;
use wanbond_proto::session::{Freshness, Session};

use super::{connect, random, server_address};

/// A router with a session.
pub(crate) struct Rogue<'a> {
    ns: &'a Namespace,
    pub(crate) session: Session,
    /// The handshake message that made the session.
    pub(crate) init: Vec<u8>,
}

/// What the server said to an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Connected,
    Reset(ResetReason),
    /// The connection ended without a word.
    Closed,
}

impl<'a> Rogue<'a> {
    /// Makes a session over TCP, from `ns`, as the router that `code` belongs to. A running server
    /// may take a moment to hear of a router that has just been added.
    pub(crate) async fn admitted(ns: &'a Namespace, code: &str) -> Self {
        let start = Instant::now();
        loop {
            match Self::shake_hands(ns, code).await {
                Ok(rogue) => return rogue,
                Err(notice) => assert!(start.elapsed() < PATIENCE, "{notice}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn shake_hands(ns: &'a Namespace, code: &str) -> Result<Self, Notice> {
        let code: PairingCode = code.parse().expect("a pairing code");
        let identity = RouterIdentity::from_code(&code);
        let index = u32::from_be_bytes(random());
        let mut handshake =
            RouterHandshake::start(identity, index, random(), &Suite::ALL, Instance(random()))
                .expect("a good key");
        let init = handshake.init(Time::ZERO);
        let mut lane = RawLane::new(ns).await;
        lane.send(&handshake_frame(&init)).await;
        let (frame, bytes) = lane.frame().await.expect("the server answers");
        assert_eq!(frame.kind, FrameKind::Handshake);
        match handshake.handle(Time::ZERO, &bytes[HEAD_LEN..]).expect("a right answer") {
            Reply::Session(session) => Ok(Self { ns, session: *session, init }),
            Reply::SendAgain => panic!("a cookie over TCP"),
            Reply::Notice(notice) => Err(notice),
        }
    }

    /// A lane that has said nothing yet.
    pub(crate) async fn cold_lane(&self) -> RawLane {
        RawLane::new(self.ns).await
    }

    /// A lane that the server has given its freshness.
    pub(crate) async fn warm_lane(&mut self) -> RawLane {
        let mut lane = RawLane::new(self.ns).await;
        let flow = self.session.next_flow_id();
        let mut keys = self.session.flow_keys(flow, None);
        let mut hello = Vec::new();
        let index = self.session.remote_index();
        seal_open(&mut keys.seal, index, flow, false, RecordType::Hello, &[], &mut hello);
        lane.send(&hello).await;
        let (frame, mut bytes) = lane.frame().await.expect("the server is ready");
        assert_eq!(frame.kind, FrameKind::LaneRecord);
        let record = frame.open(&mut keys.open, &mut bytes).expect("authentic");
        assert_eq!(record.kind, RecordType::Ready);
        lane.freshness = Some(Freshness((&*record.payload).try_into().expect("16 bytes")));
        lane
    }

    /// Opens a flow and sends its first bytes in the same breath.
    pub(crate) async fn open(&mut self, lane: &mut RawLane, target: &Target, early: &[u8]) {
        let mut payload = Vec::new();
        Open { instead_of: Vec::new(), handover: false, target: target.clone() }
            .encode(&mut payload);
        self.open_raw(lane, &payload, early).await;
    }

    /// Opens a flow with an open record as it comes.
    pub(crate) async fn open_raw(&mut self, lane: &mut RawLane, payload: &[u8], early: &[u8]) {
        let flow = self.session.next_flow_id();
        let mut keys = self.session.flow_keys(flow, lane.freshness);
        let mut bytes = Vec::new();
        let fresh = lane.freshness.is_some();
        let index = self.session.remote_index();
        seal_open(&mut keys.seal, index, flow, fresh, RecordType::Open, payload, &mut bytes);
        if !early.is_empty() {
            let mut record = vec![0; early.len() + RECORD_OVERHEAD];
            record[PAYLOAD_AT..PAYLOAD_AT + early.len()].copy_from_slice(early);
            let data = RecordType::Data;
            seal_record(&mut keys.seal, FrameKind::Record, data, &mut record, early.len());
            bytes.extend_from_slice(&record);
        }
        lane.keys = Some(keys);
        lane.send(&bytes).await;
    }
}

/// A connection to the server, in our own hands.
pub(crate) struct RawLane {
    stream: TcpStream,
    /// All that was sent on it.
    pub(crate) sent: Vec<u8>,
    received: Vec<u8>,
    freshness: Option<Freshness>,
    keys: Option<FlowKeys>,
}

impl RawLane {
    pub(crate) async fn new(ns: &Namespace) -> Self {
        Self::to(ns, server_address()).await
    }

    async fn to(ns: &Namespace, server: SocketAddr) -> Self {
        let stream = connect(ns, server).await;
        Self { stream, sent: Vec::new(), received: Vec::new(), freshness: None, keys: None }
    }

    /// Writes; that the server may have closed the connection shows when it is read.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the server reads");
    }

    /// The next frame; none at the connection's end.
    pub(crate) async fn frame(&mut self) -> Option<(Frame, Vec<u8>)> {
        loop {
            if let Some(frame) = next_frame(&self.received).expect("the server sends frames") {
                let rest = self.received.split_off(frame.range.end);
                return Some((frame, std::mem::replace(&mut self.received, rest)));
            }
            let read = self.stream.read_buf(&mut self.received);
            match timeout(PATIENCE, read).await.expect("the server answers or closes") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// What the server says to the flow that was opened last.
    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            let Some((frame, mut bytes)) = self.frame().await else { return Answer::Closed };
            if frame.kind != FrameKind::Record {
                continue;
            }
            let keys = self.keys.as_mut().expect("a flow was opened");
            let record = frame.open(&mut keys.open, &mut bytes).expect("authentic");
            match record.kind {
                RecordType::Connected => return Answer::Connected,
                RecordType::Reset => {
                    return Answer::Reset(ResetReason::from_byte(record.payload[0]));
                }
                other => panic!("{other:?} as an answer to an open"),
            }
        }
    }

    /// The next piece of the flow's data.
    pub(crate) async fn data(&mut self) -> Vec<u8> {
        let (frame, mut bytes) = self.frame().await.expect("the flow goes on");
        let keys = self.keys.as_mut().expect("a flow was opened");
        let record = frame.open(&mut keys.open, &mut bytes).expect("authentic");
        assert_eq!(record.kind, RecordType::Data);
        record.payload.to_vec()
    }

    /// Everything that comes until the server closes the connection.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let _ = self.stream.shutdown().await;
        let read = self.stream.read_to_end(&mut self.received);
        // A reset is an end, too.
        let _ = timeout(PATIENCE, read).await.expect("the server closes the connection");
        self.received
    }
}
