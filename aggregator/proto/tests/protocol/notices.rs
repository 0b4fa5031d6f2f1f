//! What a server says when it admits nobody, and who can say it.

use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::handshake::{
    Admission, HandshakeError, Notice, Reply, VERSION, is_handshake, receiver_of, unknown_session,
};

use crate::support::{
    NOW, ROUTER_INDEX, Server, code, flipped, mac1, mac1_of, notice_mac, router, router_with,
    session_of, source,
};

fn notice_of(reply: Result<Reply, HandshakeError>) -> Notice {
    match reply {
        Ok(Reply::Notice(notice)) => notice,
        Ok(_) => panic!("took a notice for something else"),
        Err(error) => panic!("{error}"),
    }
}

/// A notice as a server of version `version` writes it.
fn written(version: u8, kind: [u8; 4], index: u32, init_mac1: &[u8]) -> Vec<u8> {
    let mut message = vec![4, version, 0, 0];
    message.extend_from_slice(&index.to_be_bytes());
    message.extend_from_slice(&kind);
    let mac = notice_mac(&code().server, &message, init_mac1);
    message.extend_from_slice(&mac);
    message
}

#[test]
fn unknown_and_disabled_routers_are_told() {
    let server = Server::new(&Suite::ALL);
    let mut router = router(&Suite::ALL);
    for notice in [Notice::UnknownRouter, Notice::Disabled] {
        let pending = server.pending(&router.init(NOW));
        assert_eq!(pending.public(), code().seed.static_secret().public());
        let message = pending.refuse(notice);
        assert!(is_handshake(&message));
        assert_eq!(receiver_of(&message), Some(ROUTER_INDEX));
        assert_eq!(notice_of(router.handle(NOW, &message)), notice);
    }
    assert!(Notice::UnknownRouter.to_string().contains("wanbond-server router add"));
    // A notice is a hint: a router that is admitted after all gets its session.
    let (response, _) = server.accept(&router.init(NOW));
    session_of(router.handle(NOW, &response));
}

#[test]
fn no_common_suite_is_told() {
    let server = Server::new(&[Suite::Aes128Gcm]);
    let mut router = router(&[Suite::ChaCha20Poly1305]);
    let message = server.answer(&router.init(NOW), source(), Admission::Open);
    assert_eq!(notice_of(router.handle(NOW, &message)), Notice::NoCommonSuite);
}

#[test]
fn a_newer_router_is_told_what_this_server_speaks() {
    let server = Server::new(&Suite::ALL);
    let mut init = router(&Suite::ALL).init(NOW);
    init[1] = VERSION + 1;
    let end = init.len() - 32;
    let mac = mac1(&code().server, &init[..end]);
    init[end..end + 16].copy_from_slice(&mac);
    let message = server.answer(&init, source(), Admission::Open);
    let expected = written(VERSION, [1, VERSION, VERSION, 0], ROUTER_INDEX, &mac);
    assert_eq!(message, expected);
}

#[test]
fn a_mismatch_of_versions_names_the_end_to_update() {
    let mut router = router(&Suite::ALL);
    let init = router.init(NOW);
    let mut said = |min, max| {
        let message = written(max, [1, min, max, 0], ROUTER_INDEX, mac1_of(&init));
        notice_of(router.handle(NOW, &message)).to_string()
    };
    assert_eq!(
        said(2, 3),
        "the server speaks protocol versions 2 to 3, this router 1: update wanbond on the router"
    );
    assert_eq!(
        said(0, 0),
        "the server speaks protocol versions 0 to 0, this router 1: update wanbond on the server"
    );
}

#[test]
fn only_who_saw_the_init_can_write_a_notice() {
    let mut router = router(&Suite::ALL);
    let init = router.init(NOW);
    // Knows the server's key and has guessed the index, but not the mac.
    let other = router_with(&code(), ROUTER_INDEX, [3; 32], &Suite::ALL).init(NOW);
    for init_mac1 in [&[0; 16][..], mac1_of(&other)] {
        let forged = written(VERSION, [2, 0, 0, 0], ROUTER_INDEX, init_mac1);
        assert_eq!(router.handle(NOW, &forged).err(), Some(HandshakeError::Unauthentic));
    }
    let right = written(VERSION, [2, 0, 0, 0], ROUTER_INDEX, mac1_of(&init));
    for bit in 0..right.len() * 8 {
        assert!(router.handle(NOW, &flipped(&right, bit)).is_err(), "{bit}");
    }
    let unknown_kind = written(VERSION, [9, 0, 0, 0], ROUTER_INDEX, mac1_of(&init));
    assert_eq!(router.handle(NOW, &unknown_kind).err(), Some(HandshakeError::Malformed));
    assert_eq!(notice_of(router.handle(NOW, &right)), Notice::UnknownRouter);
}

#[test]
fn unknown_session_repeats_the_end_of_its_cause() {
    let cause: Vec<u8> = (0..40).collect();
    let message = unknown_session::encode(7, &cause).unwrap();
    assert!(is_handshake(&message));
    assert_eq!(receiver_of(&message), Some(7));
    let (index, proof) = unknown_session::decode(&message).unwrap();
    assert_eq!((index, &proof[..]), (7, &cause[24..]));
    assert_eq!(unknown_session::encode(7, &cause[..15]), None);
    assert_eq!(unknown_session::decode(&message[..23]), None);
}
