//! Datagrams: any order, each once, per path.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::datagram::{
    DatagramError, DatagramKeys, MAX_PATHS, Message, OVERHEAD, PathId, index_of,
};
use wanbond_proto::replay::WINDOW_BITS;

use crate::support::{ROUTER_INDEX, SERVER_INDEX, address, flipped, sessions};

fn ends(suite: Suite) -> (DatagramKeys, DatagramKeys) {
    let (router, server) = sessions(suite);
    (router.datagram_keys(), server.datagram_keys())
}

fn path(number: u8) -> PathId {
    PathId::new(number).unwrap()
}

proptest! {
    #[test]
    fn each_is_taken_once_in_any_order(
        paths in vec(0..4u8, 1..60),
        order in vec(any::<prop::sample::Index>(), 1..120),
        aes: bool,
    ) {
        let suite = if aes { Suite::Aes128Gcm } else { Suite::ChaCha20Poly1305 };
        let (mut seal, mut open) = ends(suite);
        let sent: Vec<_> = paths.iter().enumerate().map(|(n, &number)| {
            let mut wire = Vec::new();
            seal.seal(path(number), &[n as u8; 5], &mut wire);
            wire
        }).collect();
        let mut taken = BTreeSet::new();
        for index in order {
            let n = index.index(sent.len());
            let mut wire = sent[n].clone();
            let result = open.open(&mut wire).map(|(path, message)| (path, message.to_vec()));
            let expected = if taken.insert(n) {
                Ok((path(paths[n]), vec![n as u8; 5]))
            } else {
                Err(DatagramError::Replayed)
            };
            prop_assert_eq!(result, expected);
        }
    }

    #[test]
    fn messages_round_trip(number: u32, ip in prop_oneof![Just(None), any::<[u8; 4]>().prop_map(Some)], port: u16) {
        let observed = ip.filter(|ip| *ip != [0; 4]).map(|ip| (ip, port).into());
        let load = Message::Load((number % 101) as u8);
        for message in [Message::Ping(number, number ^ 7), Message::Pong(number, observed), load] {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            prop_assert_eq!(Message::decode(&bytes), Some(message));
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_uses_nothing_up() {
    for suite in Suite::ALL {
        let (mut seal, mut open) = ends(suite);
        let mut wire = Vec::new();
        seal.seal(path(3), b"payload", &mut wire);
        assert_eq!(wire.len(), b"payload".len() + OVERHEAD);
        for bit in 0..wire.len() * 8 {
            assert!(open.open(&mut flipped(&wire, bit)).is_err(), "{bit}");
        }
        assert_eq!(open.open(&mut wire).unwrap(), (path(3), &mut b"payload".to_owned()[..]));
    }
}

#[test]
fn what_is_too_late_to_tell_is_dropped() {
    let (mut seal, mut open) = ends(Suite::Aes128Gcm);
    let (mut first, mut wire) = (Vec::new(), Vec::new());
    seal.seal(path(0), b"", &mut first);
    let mut second = Vec::new();
    seal.seal(path(0), b"", &mut second);
    for _ in 0..WINDOW_BITS - 1 {
        seal.seal(path(0), b"", &mut wire);
    }
    open.open(&mut wire).unwrap();
    assert_eq!(open.open(&mut first), Err(DatagramError::Replayed));
    open.open(&mut second).unwrap();
    // Other paths have windows of their own.
    seal.seal(path(1), b"", &mut wire);
    open.open(&mut wire).unwrap();
}

#[test]
fn a_datagram_names_its_receiver_and_is_for_it_alone() {
    let (mut router, mut server) = ends(Suite::ChaCha20Poly1305);
    let mut wire = Vec::new();
    router.seal(path(0), b"", &mut wire);
    assert_eq!(index_of(&wire), Some(SERVER_INDEX));
    assert_eq!(router.open(&mut wire), Err(DatagramError::Unauthentic), "reflected");
    server.seal(path(0), b"", &mut wire);
    assert_eq!(index_of(&wire), Some(ROUTER_INDEX));
    assert_eq!(index_of(&wire[..OVERHEAD - 1]), None);
    assert_eq!(PathId::new(MAX_PATHS as u8), None);
}

#[test]
fn a_pong_shows_mapped_addresses_as_ipv4() {
    let mut bytes = Vec::new();
    Message::Pong(1, Some(address("[::ffff:192.0.2.1]:5"))).encode(&mut bytes);
    assert_eq!(Message::decode(&bytes), Some(Message::Pong(1, Some(address("192.0.2.1:5")))));
}
