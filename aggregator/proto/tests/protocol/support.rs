//! A router and a server with fixed keys, and the macs that an attacker could compute too.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use ring::{digest, hmac};
use wanbond_proto::Time;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::handshake::{
    Admission, CookieJar, Egress, HandshakeError, PendingRouter, Reply, RouterHandshake,
    RouterIdentity, ServerHandshake, Verdict, Welcome,
};
use wanbond_proto::inner::{Inner, Instance};
use wanbond_proto::keys::{PublicKey, SecretKey};
use wanbond_proto::pairing::{PairingCode, RouterSeed};
use wanbond_proto::session::Session;

pub(crate) const NOW: Time = Time::from_millis(5_000);
pub(crate) const ROUTER_INDEX: u32 = 0x1111_2222;
pub(crate) const SERVER_INDEX: u32 = 0x3333_4444;
pub(crate) const ROUTER_INSTANCE: Instance = Instance([0x71; 8]);
pub(crate) const INNER: Inner = Inner {
    v4: Ipv4Addr::new(10, 239, 1, 2),
    v6: Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 1),
    prefix: Some((Ipv6Addr::new(0x2001, 0xdb8, 1, 1, 0, 0, 0, 0), 64)),
    server_v4: Ipv4Addr::new(10, 239, 0, 1),
    server_v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1),
};
pub(crate) const WELCOME: Welcome = Welcome {
    egress: Egress { ipv4: true, ipv6: false },
    instance: Instance([0x72; 8]),
    inner: Some(INNER),
};

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn source() -> SocketAddr {
    address("192.0.2.7:40000")
}

// Public-key work is slow without optimisation, so what can be shared is made once.
static CODE: LazyLock<PairingCode> = LazyLock::new(|| PairingCode {
    server: SecretKey::from_bytes([0x51; 32]).public(),
    endpoints: vec!["vps.example.net".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()],
    seed: RouterSeed::from_bytes([0x52; 32]),
});
static SESSIONS: LazyLock<[(Session, Session); 2]> = LazyLock::new(|| Suite::ALL.map(new_sessions));

pub(crate) fn code() -> PairingCode {
    CODE.clone()
}

/// A server and what it needs beside its key.
pub(crate) struct Server {
    pub(crate) half: ServerHandshake,
    pub(crate) jar: CookieJar,
}

impl Server {
    pub(crate) fn new(suites: &[Suite]) -> Self {
        Self {
            half: ServerHandshake::new(SecretKey::from_bytes([0x51; 32]), suites),
            jar: CookieJar::new(NOW, [[0x61; 32], [0x62; 32]]),
        }
    }

    pub(crate) fn hear(
        &self,
        init: &[u8],
        from: SocketAddr,
        admission: Admission,
    ) -> Result<Verdict, HandshakeError> {
        self.half.handle(init, from, admission, &self.jar, ([0x53; 32], [0x54; 24]))
    }

    /// An Init that gets as far as telling the router's key.
    pub(crate) fn pending(&self, init: &[u8]) -> PendingRouter {
        match self.hear(init, source(), Admission::Open).unwrap() {
            Verdict::Pending(pending) => *pending,
            Verdict::Answer(answer) => panic!("answered with {answer:02x?}"),
        }
    }

    /// An Init that is answered at once.
    pub(crate) fn answer(&self, init: &[u8], from: SocketAddr, admission: Admission) -> Vec<u8> {
        match self.hear(init, from, admission).unwrap() {
            Verdict::Answer(answer) => answer,
            Verdict::Pending(_) => panic!("looked at the Init"),
        }
    }

    pub(crate) fn accept(&self, init: &[u8]) -> (Vec<u8>, Session) {
        self.pending(init).accept(NOW, &code().seed.preshared_key(), SERVER_INDEX, WELCOME).unwrap()
    }
}

pub(crate) fn router(suites: &[Suite]) -> RouterHandshake {
    router_with(&code(), ROUTER_INDEX, [0x55; 32], suites)
}

pub(crate) fn router_with(
    code: &PairingCode,
    index: u32,
    ephemeral: [u8; 32],
    suites: &[Suite],
) -> RouterHandshake {
    let identity = RouterIdentity::from_code(code);
    RouterHandshake::start(identity, index, ephemeral, suites, ROUTER_INSTANCE).unwrap()
}

pub(crate) fn session_of(reply: Result<Reply, HandshakeError>) -> Session {
    match reply.unwrap() {
        Reply::Session(session) => *session,
        Reply::SendAgain => panic!("asked to send again"),
        Reply::Notice(notice) => panic!("refused: {notice}"),
    }
}

/// The two ends of one session: router's, server's.
pub(crate) fn new_sessions(suite: Suite) -> (Session, Session) {
    let mut router = router(&[suite]);
    let (response, server) = Server::new(&[suite]).accept(&router.init(NOW));
    (session_of(router.handle(NOW, &response)), server)
}

/// The same two for every caller.
pub(crate) fn sessions(suite: Suite) -> (&'static Session, &'static Session) {
    let place = Suite::ALL.iter().position(|&s| s == suite).unwrap();
    let (router, server) = &SESSIONS[place];
    (router, server)
}

fn label_key(label: &[u8], data: &[u8]) -> hmac::Key {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(data);
    hmac::Key::new(hmac::HMAC_SHA256, context.finish().as_ref())
}

fn short_mac(key: &hmac::Key, parts: &[&[u8]]) -> [u8; 16] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    *context.sign().as_ref().first_chunk().unwrap()
}

/// mac1 of a message to `receiver`, as anyone who knows its public key can make it.
pub(crate) fn mac1(receiver: &PublicKey, before: &[u8]) -> [u8; 16] {
    short_mac(&label_key(b"wanbond1 mac1", receiver.as_bytes()), &[before])
}

/// The mac of a notice about the Init with `init_mac1`.
pub(crate) fn notice_mac(server: &PublicKey, body: &[u8], init_mac1: &[u8]) -> [u8; 16] {
    short_mac(&label_key(b"wanbond1 notice", server.as_bytes()), &[body, init_mac1])
}

/// mac1 as it stands in an Init.
pub(crate) fn mac1_of(init: &[u8]) -> &[u8] {
    &init[init.len() - 32..init.len() - 16]
}

/// `message` with one bit flipped.
pub(crate) fn flipped(message: &[u8], bit: usize) -> Vec<u8> {
    let mut changed = message.to_vec();
    changed[bit / 8] ^= 1 << (bit % 8);
    changed
}
