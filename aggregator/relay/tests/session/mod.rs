//! Both ends' sessions, by a handshake without a network.

use wanbond_proto::Time;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::handshake::{
    Admission, CookieJar, Egress, Reply, RouterHandshake, RouterIdentity, ServerHandshake, Verdict,
    Welcome,
};
use wanbond_proto::inner::Instance;
use wanbond_proto::keys::SecretKey;
use wanbond_proto::pairing::{PairingCode, RouterSeed};
use wanbond_proto::session::Session;

/// The router's and the server's.
pub(crate) fn sessions(suite: Suite) -> (Session, Session) {
    let secret = SecretKey::from_bytes([1; 32]);
    let code = PairingCode {
        server: secret.public(),
        endpoints: vec!["vps.example".parse().unwrap()],
        seed: RouterSeed::from_bytes([2; 32]),
    };
    let now = Time::ZERO;
    let identity = RouterIdentity::from_code(&code);
    let mut router =
        RouterHandshake::start(identity, 1, [3; 32], &[suite], Instance([8; 8])).unwrap();
    let jar = CookieJar::new(now, [[4; 32], [5; 32]]);
    let source = "192.0.2.1:1".parse().unwrap();
    let random = ([6; 32], [7; 24]);
    let verdict = ServerHandshake::new(secret, &[suite])
        .handle(&router.init(now), source, Admission::Open, &jar, random)
        .unwrap();
    let Verdict::Pending(pending) = verdict else { panic!("the Init was refused") };
    let welcome = Welcome {
        egress: Egress { ipv4: true, ipv6: true },
        instance: Instance([9; 8]),
        inner: None,
    };
    let (response, server) = pending.accept(now, &code.seed.preshared_key(), 2, welcome).unwrap();
    let Ok(Reply::Session(session)) = router.handle(now, &response) else {
        panic!("the Response was refused")
    };
    (*session, server)
}
