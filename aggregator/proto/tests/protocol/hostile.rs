//! Any bytes into every decoder: an error, never a panic.

use std::sync::{LazyLock, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::datagram::{Message, index_of};
use wanbond_proto::handshake::{
    Admission, RouterHandshake, Verdict, is_handshake, receiver_of, unknown_session,
};
use wanbond_proto::keys::{PublicKey, SecretKey};
use wanbond_proto::lane::{Frame, FrameKind, Open, OpenHead, next_frame};
use wanbond_proto::pairing::{Endpoint, PairingCode};
use wanbond_proto::session::FlowId;

use crate::support::{NOW, Server, code, mac1, router, sessions, source};

static SERVER: LazyLock<Server> = LazyLock::new(|| Server::new(&Suite::ALL));
static ROUTER: LazyLock<Mutex<RouterHandshake>> = LazyLock::new(|| Mutex::new(router(&Suite::ALL)));

/// Bytes that begin as if they meant something.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![0u8, 1, 2, 3, 4, 5, 0x10, 0x11, 0x12, 0x7f, 0xff]);
    prop_oneof![
        vec(any::<u8>(), 0..300),
        (first, vec(any::<u8>(), 0..1400)).prop_map(|(first, mut rest)| {
            rest.insert(0, first);
            rest
        }),
    ]
}

proptest! {
    #[test]
    fn server_handshake(message in bytes(), prove: bool) {
        let admission = if prove { Admission::ProveAddress } else { Admission::Open };
        prop_assert!(SERVER.hear(&message, source(), admission).is_err());
    }

    /// Behind a mac1 that fits, since the server's key is no secret to its routers.
    #[test]
    fn server_handshake_behind_mac1(
        version in 0..3u8, body in vec(any::<u8>(), 160..1400), prove: bool
    ) {
        let mut message = vec![1, version];
        message.extend_from_slice(&body);
        let mac = mac1(&code().server, &message);
        message.extend_from_slice(&mac);
        message.extend_from_slice(&[0; 16]);
        let admission = if prove { Admission::ProveAddress } else { Admission::Open };
        if let Ok(verdict) = SERVER.hear(&message, source(), admission) {
            let Verdict::Answer(answer) = verdict else {
                return Err(TestCaseError::fail("garbage was taken for a router"));
            };
            prop_assert!(answer.len() <= message.len());
        }
    }

    #[test]
    fn router_handshake(message in bytes()) {
        prop_assert!(ROUTER.lock().unwrap().handle(NOW, &message).is_err());
    }

    #[test]
    fn small_readers(message in bytes()) {
        let _ = is_handshake(&message);
        let _ = receiver_of(&message);
        let _ = unknown_session::decode(&message);
        let _ = unknown_session::encode(1, &message);
        let _ = index_of(&message);
        let _ = Message::decode(&message);
        let _ = Open::decode(&message);
        let _ = OpenHead::read(&message);
    }

    #[test]
    fn frames(message in bytes()) {
        if let Ok(Some(frame)) = next_frame(&message) {
            prop_assert!(frame.range.start == 0 && frame.range.end <= message.len());
        }
        let (router, _) = sessions(Suite::ChaCha20Poly1305);
        for kind in [FrameKind::Handshake, FrameKind::Open, FrameKind::Record, FrameKind::LaneRecord] {
            let frame = Frame { kind, range: 0..message.len() };
            let mut keys = router.flow_keys(FlowId(0), None);
            prop_assert!(frame.open(&mut keys.open, &mut message.clone()).is_err());
        }
    }

    #[test]
    fn datagrams(mut message in bytes()) {
        let (router, _) = sessions(Suite::Aes128Gcm);
        prop_assert!(router.datagram_keys().open(&mut message).is_err());
    }

    #[test]
    fn texts(text in ".{0,200}", tail in "[A-Za-z0-9_-]{0,300}", bytes in vec(any::<u8>(), 0..200)) {
        let _ = text.parse::<PairingCode>();
        let _ = text.parse::<Endpoint>();
        let _ = text.parse::<PublicKey>();
        let _ = text.parse::<SecretKey>();
        let text = format!("wanbond1:{tail}");
        prop_assert!(text.parse::<PairingCode>().is_err());
        // A checksum that fits, over anything.
        let checked = crate::vectors::pairing_text(&bytes);
        let _ = checked.parse::<PairingCode>();
    }

    /// Whatever is read as an endpoint is written so that it reads the same.
    #[test]
    fn endpoints(text in "\\[?[a-z0-9.:+-]{1,20}\\]?(:[+0-9]{1,6})?") {
        if let Ok(endpoint) = text.parse::<Endpoint>() {
            let again = endpoint.to_string().parse::<Endpoint>();
            prop_assert_eq!(Ok(&endpoint), again.as_ref());
            prop_assert!(!text.contains('+'), "{} is no endpoint", text);
        }
    }
}
