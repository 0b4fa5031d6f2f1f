//! Router and server from Init to session.

use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::datagram::{Message, PathId};
use wanbond_proto::handshake::{
    Admission, HandshakeError, RouterHandshake, RouterIdentity, Verdict, Welcome, unknown_session,
};
use wanbond_proto::keys::{PresharedKey, PublicKey, SecretKey};
use wanbond_proto::session::{FlowId, Freshness};

use crate::support::{
    INNER, NOW, ROUTER_INDEX, ROUTER_INSTANCE, SERVER_INDEX, Server, WELCOME, code, flipped, mac1,
    router, router_with, session_of, sessions, source,
};

#[test]
fn both_ends_know_the_same_of_each_other() {
    for suite in Suite::ALL {
        let (router, server) = sessions(suite);
        assert_eq!((router.suite(), server.suite()), (suite, suite));
        assert_eq!(router.peer(), code().server);
        assert_eq!(server.peer(), code().seed.static_secret().public());
        assert_eq!((router.local_index(), router.remote_index()), (ROUTER_INDEX, SERVER_INDEX));
        assert_eq!((server.local_index(), server.remote_index()), (SERVER_INDEX, ROUTER_INDEX));
        assert_eq!((router.observed(), router.egress()), (Some(source()), WELCOME.egress));
        assert_eq!(router.peer_instance(), WELCOME.instance);
        assert_eq!(server.peer_instance(), ROUTER_INSTANCE);
        assert_eq!((router.inner(), server.inner()), (Some(INNER), Some(INNER)));
    }
}

#[test]
fn keys_agree_both_ways() {
    for suite in Suite::ALL {
        let (router, server) = sessions(suite);
        for freshness in [None, Some(Freshness([7; 16]))] {
            let mut a = router.flow_keys(FlowId(3), freshness);
            let mut b = server.flow_keys(FlowId(3), freshness);
            for (from, to) in [(&mut a.seal, &mut b.open), (&mut b.seal, &mut a.open)] {
                let mut data = b"hello".to_vec();
                let tag = from.seal(b"head", &mut data);
                data.extend_from_slice(&tag);
                assert_eq!(to.open(b"head", &mut data).unwrap(), b"hello");
            }
        }
        let (mut a, mut b) = (router.datagram_keys(), server.datagram_keys());
        let path = PathId::new(2).unwrap();
        let mut wire = Vec::new();
        a.seal(path, b"up", &mut wire);
        assert_eq!(b.open(&mut wire).unwrap(), (path, &mut b"up".to_owned()[..]));
        b.seal(path, b"down", &mut wire);
        assert_eq!(a.open(&mut wire).unwrap(), (path, &mut b"down".to_owned()[..]));
    }
}

#[test]
fn the_suite_is_one_that_both_do_fast() {
    use Suite::{Aes128Gcm as Aes, ChaCha20Poly1305 as ChaCha};
    for (ours, theirs, agreed) in [
        (&[Aes, ChaCha][..], &[Aes, ChaCha][..], Aes),
        (&[Aes, ChaCha], &[ChaCha, Aes], ChaCha),
        (&[ChaCha, Aes], &[Aes, ChaCha], Aes),
        (&[ChaCha], &[Aes, ChaCha], ChaCha),
        (&[Aes, ChaCha], &[ChaCha], ChaCha),
    ] {
        let mut router = router(theirs);
        let (response, session) = Server::new(ours).accept(&router.init(NOW));
        assert_eq!(session.suite(), agreed, "server {ours:?}, router {theirs:?}");
        assert_eq!(session_of(router.handle(NOW, &response)).suite(), agreed);
    }
}

#[test]
fn a_stranger_to_the_server_hears_nothing() {
    let server = Server::new(&Suite::ALL);
    let mut other = code();
    other.server = SecretKey::from_bytes([1; 32]).public();
    let init = router_with(&other, 1, [2; 32], &Suite::ALL).init(NOW);
    for admission in [Admission::Open, Admission::ProveAddress] {
        let verdict = server.hear(&init, source(), admission);
        assert_eq!(verdict.err(), Some(HandshakeError::Unauthentic));
    }
}

#[test]
fn another_shared_key_makes_no_session_and_spoils_none() {
    let server = Server::new(&Suite::ALL);
    let mut router = router(&Suite::ALL);
    let init = router.init(NOW);
    let wrong = PresharedKey::from_bytes([0; 32]);
    let (response, _) =
        server.pending(&init).accept(NOW, &wrong, SERVER_INDEX + 1, WELCOME).unwrap();
    assert_eq!(router.handle(NOW, &response).err(), Some(HandshakeError::Unauthentic));
    // Only from here on would a response with the right key count.
    let (response, _) = server.accept(&init);
    assert_eq!(session_of(router.handle(NOW, &response)).remote_index(), SERVER_INDEX);
}

#[test]
fn forged_responses_leave_the_handshake_as_it_was() {
    let server = Server::new(&Suite::ALL);
    let mut router = router(&Suite::ALL);
    let (response, _) = server.accept(&router.init(NOW));
    let key = code().seed.static_secret().public();
    let end = response.len() - 16;
    // By somebody who knows the router's public key: mac1 fits.
    for at in 12..end {
        let mut forged = response.clone();
        forged[at] ^= 0x40;
        let mac = mac1(&key, &forged[..end]);
        forged[end..].copy_from_slice(&mac);
        assert_eq!(router.handle(NOW, &forged).err(), Some(HandshakeError::Unauthentic), "{at}");
    }
    // And an endless one.
    let mut long = response[..12].to_vec();
    long.resize(70_000, 0);
    let mac = mac1(&key, &long);
    long.extend_from_slice(&mac);
    assert_eq!(router.handle(NOW, &long).err(), Some(HandshakeError::Unauthentic));
    session_of(router.handle(NOW, &response));
    // The handshake is over: nothing more comes of it.
    assert!(router.handle(NOW, &response).is_err());
}

#[test]
fn every_flipped_bit_is_noticed() {
    let server = Server::new(&Suite::ALL);
    let mut router = router(&Suite::ALL);
    let init = router.init(NOW);
    // mac2, the last 16 bytes, is looked at only when the address must be proven.
    for bit in 0..(init.len() - 16) * 8 {
        assert!(server.hear(&flipped(&init, bit), source(), Admission::Open).is_err(), "{bit}");
    }
    let (response, _) = server.accept(&init);
    for bit in 0..response.len() * 8 {
        assert!(router.handle(NOW, &flipped(&response, bit)).is_err(), "{bit}");
    }
    for length in 0..init.len() {
        assert!(server.hear(&init[..length], source(), Admission::Open).is_err(), "{length}");
    }
    for length in 0..response.len() {
        assert!(router.handle(NOW, &response[..length]).is_err(), "{length}");
    }
    session_of(router.handle(NOW, &response));
}

#[test]
fn a_repeated_init_gives_keys_to_nobody() {
    let server = Server::new(&Suite::ALL);
    let mut router = router(&Suite::ALL);
    let init = router.init(NOW);
    let (response, _first) = server.accept(&init);
    let session = session_of(router.handle(NOW, &response));
    // Recorded and sent again: the server draws another ephemeral key and index.
    let random = ([0x99; 32], [0; 24]);
    let verdict =
        server.half.handle(&init, source(), Admission::Open, &server.jar, random).unwrap();
    let Verdict::Pending(pending) = verdict else { panic!("it looks like a first one") };
    let psk = code().seed.preshared_key();
    let (answer, second) = pending.accept(NOW, &psk, SERVER_INDEX + 1, WELCOME).unwrap();
    // What the router sends in its session, which is all there is to record, confirms nothing.
    let mut wire = Vec::new();
    session.datagram_keys().seal(PathId::new(0).unwrap(), b"ping", &mut wire);
    assert!(second.datagram_keys().open(&mut wire).is_err());
    let mut data = vec![0; 5];
    let tag = session.flow_keys(FlowId(0), None).seal.seal(b"", &mut data);
    data.extend_from_slice(&tag);
    assert!(second.flow_keys(FlowId(0), None).open.open(b"", &mut data).is_err());
    // And the router does not take the second answer for one of its own.
    assert!(router.handle(NOW, &answer).is_err());
}

#[test]
fn two_handshakes_never_make_the_same_session() {
    let server = Server::new(&Suite::ALL);
    let (_, a) = server.accept(&router_with(&code(), 1, [1; 32], &Suite::ALL).init(NOW));
    let (_, b) = server.accept(&router_with(&code(), 1, [2; 32], &Suite::ALL).init(NOW));
    let first = |session: &wanbond_proto::session::Session| {
        session.flow_keys(FlowId(0), None).seal.seal(b"", &mut [0; 8])
    };
    assert_ne!(first(&a), first(&b));
}

#[test]
fn a_response_is_for_its_own_init() {
    let server = Server::new(&Suite::ALL);
    let one = router_with(&code(), ROUTER_INDEX, [1; 32], &Suite::ALL);
    let mut two = router_with(&code(), ROUTER_INDEX, [2; 32], &Suite::ALL);
    let (response, _) = server.accept(&one.init(NOW));
    assert_eq!(two.handle(NOW, &response).err(), Some(HandshakeError::Unauthentic));
}

#[test]
fn a_server_without_inner_addresses_says_so() {
    let server = Server::new(&Suite::ALL);
    let mut router = router(&Suite::ALL);
    let pending = server.pending(&router.init(NOW));
    let welcome = Welcome { inner: None, ..WELCOME };
    let psk = code().seed.preshared_key();
    let (response, session) = pending.accept(NOW, &psk, SERVER_INDEX, welcome).unwrap();
    assert_eq!(session.inner(), None);
    assert_eq!(session_of(router.handle(NOW, &response)).inner(), None);
}

#[test]
fn low_order_points_are_refused() {
    let mut bad = code();
    bad.server = PublicKey::from_bytes([0; 32]);
    let identity = RouterIdentity::from_code(&bad);
    let started = RouterHandshake::start(identity, 1, [1; 32], &Suite::ALL, ROUTER_INSTANCE);
    assert_eq!(started.err(), Some(HandshakeError::Unauthentic));

    let server = Server::new(&Suite::ALL);
    let mut init = router(&Suite::ALL).init(NOW);
    init[8..40].fill(0);
    let end = init.len() - 32;
    let mac = mac1(&code().server, &init[..end]);
    init[end..end + 16].copy_from_slice(&mac);
    let verdict = server.hear(&init, source(), Admission::Open);
    assert_eq!(verdict.err(), Some(HandshakeError::Unauthentic));
}

#[test]
fn no_answer_is_longer_than_its_cause() {
    let server = Server::new(&Suite::ALL);
    let init = router(&[]).init(NOW);
    assert!(server.answer(&init, source(), Admission::Open).len() <= init.len());
    let init = router(&Suite::ALL).init(NOW);
    assert!(server.answer(&init, source(), Admission::ProveAddress).len() <= init.len());
    assert!(server.accept(&init).0.len() <= init.len());
    for length in 0..100 {
        let answer = unknown_session::encode(1, &vec![0; length]);
        assert!(answer.is_none_or(|answer| answer.len() <= length), "to {length} bytes");
    }
    let length = |message: Message| {
        let mut out = Vec::new();
        message.encode(&mut out);
        out.len()
    };
    assert!(length(Message::Pong(1, Some(source()))) <= length(Message::Ping(1, 0)));
}
