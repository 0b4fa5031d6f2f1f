//! What a metered WAN that only stands by costs in a month, by the sizes of what is really sent.

use std::time::Duration;

use wanbond_proto::Time;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::datagram::{Message, OVERHEAD};
use wanbond_proto::handshake::{RouterHandshake, RouterIdentity};
use wanbond_proto::inner::Instance;
use wanbond_proto::keys::SecretKey;
use wanbond_proto::pairing::{PairingCode, RouterSeed};
use wanbond_proto::wan::{State, WanHealth};

use crate::daemon::SPARED_TRY_EVERY;
use crate::link::{ASK_COSTLY_EVERY, ASK_EVERY};

const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);
/// What a metered WAN may cost while nothing needs it.
const MOST: u64 = 5_000_000;
/// IPv6 and UDP.
const HEADERS: usize = 40 + 8;
/// A connection to the server, a question and an answer on it, and its end: what the lab counts, doubled.
const TCP_TRY: u64 = 4_000;

/// A ping and its answer, bytes.
fn ping() -> u64 {
    let length = |message: Message| {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        (bytes.len() + OVERHEAD + HEADERS) as u64
    };
    let observed = "[2001:db8::1]:1".parse().ok();
    length(Message::Ping(1, 1)) + length(Message::Pong(1, observed))
}

/// A handshake that is not taken further, bytes: the answer is never longer than the question.
fn handshake() -> u64 {
    let server = SecretKey::from_bytes([7; 32]).public();
    let code = PairingCode { server, endpoints: Vec::new(), seed: RouterSeed::from_bytes([9; 32]) };
    let identity = RouterIdentity::from_code(&code);
    let start = RouterHandshake::start(identity, 1, [3; 32], &Suite::ALL, Instance([1; 8]));
    let init = start.expect("the key is one").init(Time::ZERO);
    2 * (init.len() + HEADERS) as u64
}

#[test]
fn a_metered_wan_that_stands_by_costs_less_than_five_megabytes_a_month() {
    let mut now = Time::ZERO;
    let mut health = WanHealth::new(now);
    health.set_link(now, true);
    // It comes up, as any other does, and from then on is spared.
    let (mut pings, mut spared) = (0, false);
    while now.since(Time::ZERO) < MONTH {
        if let Some(number) = health.handle_timeout(now) {
            pings += 1;
            now += Duration::from_millis(60);
            health.handle_pong(now, number);
        }
        if !spared && health.state() == State::Up {
            spared = true;
            health.set_spared(now, true);
        }
        let next = health.poll_timeout().expect("it is asked on").max(now);
        now = next.max(now + Duration::from_micros(1));
    }
    assert_eq!(health.state(), State::Up);
    let tries = MONTH.as_secs() / SPARED_TRY_EVERY.as_secs() + 1;
    let total = pings * ping() + tries * TCP_TRY;
    assert!(total < MOST, "{total} bytes: {pings} pings of {} bytes, {tries} tries", ping());
    // If it were much less, a WAN that has died while it stood by would be noticed late.
    assert!(total > MOST / 2, "{total} bytes");
}

#[test]
fn asking_a_server_that_stands_by_is_cheap_where_it_costs() {
    let month = |every: Duration| MONTH.as_secs() / every.as_secs() * handshake();
    let (metered, free) = (month(ASK_COSTLY_EVERY), month(ASK_EVERY));
    assert!(metered < MOST, "{metered} bytes over a metered WAN");
    assert!(free < 5 * MOST, "{free} bytes over one that costs nothing");
}
