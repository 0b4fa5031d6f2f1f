//! A server under load has addresses proven.

use std::time::Duration;

use wanbond_proto::Time;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::handshake::{
    Admission, HandshakeError, HandshakeLoad, Reply, RouterHandshake, Verdict,
};

use crate::support::{
    NOW, ROUTER_INDEX, Server, address, code, flipped, router, router_with, session_of, source,
};

const LIFETIME: Duration = Duration::from_secs(120);

/// A router that has been given a cookie.
fn with_cookie(server: &Server) -> RouterHandshake {
    let mut router = router(&Suite::ALL);
    let reply = server.answer(&router.init(NOW), source(), Admission::ProveAddress);
    assert!(matches!(router.handle(NOW, &reply), Ok(Reply::SendAgain)));
    router
}

fn is_proven(server: &Server, init: &[u8], from: &str) -> bool {
    matches!(server.hear(init, address(from), Admission::ProveAddress), Ok(Verdict::Pending(_)))
}

#[test]
fn a_proven_address_is_let_in() {
    let server = Server::new(&Suite::ALL);
    let mut router = with_cookie(&server);
    let init = router.init(NOW);
    assert!(is_proven(&server, &init, "192.0.2.7:40000"));
    // The same address as an IPv6 socket shows it.
    assert!(is_proven(&server, &init, "[::ffff:192.0.2.7]:40000"));
    let (response, _) = server.accept(&init);
    session_of(router.handle(NOW, &response));
}

#[test]
fn a_cookie_is_good_for_its_address_only() {
    let server = Server::new(&Suite::ALL);
    let init = with_cookie(&server).init(NOW);
    for other in ["192.0.2.7:40001", "192.0.2.8:40000", "[2001:db8::7]:40000"] {
        assert!(!is_proven(&server, &init, other), "{other}");
    }
}

#[test]
fn a_cookie_outlives_one_change_of_the_secret_and_not_two() {
    let mut server = Server::new(&Suite::ALL);
    let init = with_cookie(&server).init(NOW);
    assert!(!server.jar.is_stale(NOW + LIFETIME - Duration::from_millis(1)));
    assert!(server.jar.is_stale(NOW + LIFETIME));
    server.jar.rotate(NOW + LIFETIME, [1; 32]);
    assert!(!server.jar.is_stale(NOW + LIFETIME));
    assert!(is_proven(&server, &init, "192.0.2.7:40000"));
    server.jar.rotate(NOW + 2 * LIFETIME, [2; 32]);
    assert!(!is_proven(&server, &init, "192.0.2.7:40000"));
}

#[test]
fn the_router_forgets_an_old_cookie() {
    let server = Server::new(&Suite::ALL);
    let router = with_cookie(&server);
    let last = router.init(NOW + LIFETIME - Duration::from_micros(1));
    assert!(is_proven(&server, &last, "192.0.2.7:40000"));
    let later = router.init(NOW + LIFETIME);
    assert_eq!(later[later.len() - 16..], [0; 16]);
    assert!(!is_proven(&server, &later, "192.0.2.7:40000"));
}

#[test]
fn an_altered_mac2_proves_nothing() {
    let server = Server::new(&Suite::ALL);
    let init = with_cookie(&server).init(NOW);
    for bit in (init.len() - 16) * 8..init.len() * 8 {
        assert!(!is_proven(&server, &flipped(&init, bit), "192.0.2.7:40000"), "{bit}");
    }
}

#[test]
fn a_cookie_reply_is_bound_to_its_init() {
    let server = Server::new(&Suite::ALL);
    let mut asked = router(&Suite::ALL);
    let reply = server.answer(&asked.init(NOW), source(), Admission::ProveAddress);
    let mut other = router_with(&code(), ROUTER_INDEX, [9; 32], &Suite::ALL);
    assert_eq!(other.handle(NOW, &reply).err(), Some(HandshakeError::Unauthentic));
    for bit in 0..reply.len() * 8 {
        assert!(asked.handle(NOW, &flipped(&reply, bit)).is_err(), "{bit}");
    }
    for length in 0..reply.len() {
        assert!(asked.handle(NOW, &reply[..length]).is_err(), "{length}");
    }
    assert!(matches!(asked.handle(NOW, &reply), Ok(Reply::SendAgain)));
}

#[test]
fn load_is_noticed_and_forgotten() {
    let second = Duration::from_secs(1);
    let mut load = HandshakeLoad::default();
    let mut now = Time::ZERO;
    // A hundred a second, for as long as it likes.
    for _ in 0..5 {
        now += second;
        assert!((0..100).all(|_| !load.count(now)));
    }
    assert!(load.count(now), "one more");
    now += second / 2;
    assert!(load.count(now), "still wary");
    now += second;
    assert!(!load.count(now), "calm again");
}
