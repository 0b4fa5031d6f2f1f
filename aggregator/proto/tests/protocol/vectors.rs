//! Known answers: what goes over the wire for fixed keys, compared with `tests/vectors`.
//!
//! A difference means that this version no longer speaks to the last one. If that is wanted
//! (and the protocol's version was raised), `WANBOND_WRITE_VECTORS=1 cargo test -p wanbond-proto`
//! writes them anew.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::datagram::{Message, PathId};
use wanbond_proto::handshake::{Admission, Notice, unknown_session};
use wanbond_proto::lane::{
    FrameKind, Open, PAYLOAD_AT, RECORD_OVERHEAD, RecordType, ResetReason, Target, seal_open,
    seal_record,
};
use wanbond_proto::pairing::PairingCode;
use wanbond_proto::session::{FlowId, Freshness};

use crate::support::{
    INNER, NOW, ROUTER_INSTANCE, Server, WELCOME, address, code, router, sessions, source,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn line(out: &mut String, name: &str, bytes: &[u8]) {
    let _ = writeln!(out, "{name} = {}", hex(bytes));
}

fn compare(name: &str, made: &str, kept: &str) {
    if std::env::var_os("WANBOND_WRITE_VECTORS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
        std::fs::write(path, made).unwrap();
        return;
    }
    for (made, kept) in made.lines().zip(kept.lines()) {
        assert_eq!(made, kept, "{name}");
    }
    assert_eq!(made.lines().count(), kept.lines().count(), "{name}");
}

/// The text of a pairing code with this body and a checksum that fits.
pub(crate) fn pairing_text(body: &[u8]) -> String {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&digest::digest(&digest::SHA256, body).as_ref()[..4]);
    format!("wanbond1:{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[test]
fn pairing() {
    let code = code();
    let mut out = String::new();
    line(&mut out, "server public key", code.server.as_bytes());
    line(&mut out, "seed", &[0x52; 32]);
    line(&mut out, "router secret key", &code.seed.static_secret().to_bytes());
    line(&mut out, "preshared key", code.seed.preshared_key().as_bytes());
    let _ = writeln!(out, "endpoints = {} {}", code.endpoints[0], code.endpoints[1]);
    let _ = writeln!(out, "code = {code}");
    compare("pairing.txt", &out, include_str!("../vectors/pairing.txt"));

    // The layout, written out by hand.
    let mut body = code.server.as_bytes().to_vec();
    body.extend_from_slice(&[0x52; 32]);
    body.extend_from_slice(b"\x02\xfe\x4d\x0fvps.example.net\x01\xbb\x0b2001:db8::1");
    assert_eq!(pairing_text(&body), code.to_string());
    // What a later version appends is skipped.
    body.extend_from_slice(b"later");
    assert_eq!(pairing_text(&body).parse::<PairingCode>(), Ok(code));
}

#[test]
fn handshake() {
    let mut out = String::new();
    let server = Server::new(&Suite::ALL);
    line(&mut out, "server secret key", &[0x51; 32]);
    line(&mut out, "router secret key", &code().seed.static_secret().to_bytes());
    line(&mut out, "preshared key", code().seed.preshared_key().as_bytes());
    line(&mut out, "router ephemeral", &[0x55; 32]);
    line(&mut out, "server ephemeral", &[0x53; 32]);
    line(&mut out, "router instance", &ROUTER_INSTANCE.0);
    line(&mut out, "server instance", &WELCOME.instance.0);
    line(&mut out, "inner addresses", &INNER.encode());
    let mut router = router(&Suite::ALL);
    let init = router.init(NOW);
    line(&mut out, "init", &init);
    line(&mut out, "response", &server.accept(&init).0);
    let _ = writeln!(out, "address = {}", source());
    line(&mut out, "cookie secret", &[0x61; 32]);
    line(&mut out, "cookie nonce", &[0x54; 24]);
    let reply = server.answer(&init, source(), Admission::ProveAddress);
    line(&mut out, "cookie reply", &reply);
    assert!(router.handle(NOW, &reply).is_ok());
    line(&mut out, "init with cookie", &router.init(NOW));
    for (name, notice) in [
        ("other version", Notice::OtherVersion { min: 2, max: 3 }),
        ("unknown router", Notice::UnknownRouter),
        ("disabled", Notice::Disabled),
        ("no common suite", Notice::NoCommonSuite),
    ] {
        line(&mut out, &format!("notice: {name}"), &server.pending(&init).refuse(notice));
    }
    let unknown = unknown_session::encode(0x0102_0304, &[0xee; 40]).unwrap();
    line(&mut out, "unknown session 01020304, to 40 bytes of ee", &unknown);
    compare("handshake.txt", &out, include_str!("../vectors/handshake.txt"));
}

#[test]
fn lane() {
    let mut out = String::new();
    for suite in Suite::ALL {
        let _ = writeln!(out, "# {}", suite.name());
        let (router, server) = sessions(suite);
        let mut frame = Vec::new();
        let mut keys = router.flow_keys(FlowId(0), None);
        let index = router.remote_index();
        seal_open(&mut keys.seal, index, FlowId(0), false, RecordType::Hello, &[], &mut frame);
        line(&mut out, "flow 0, hello", &frame);
        let mut keys = server.flow_keys(FlowId(0), None);
        let record = |keys: &mut wanbond_proto::lane::FlowKeys, kind, record, payload: &[u8]| {
            let mut frame = vec![0; payload.len() + RECORD_OVERHEAD];
            frame[PAYLOAD_AT..PAYLOAD_AT + payload.len()].copy_from_slice(payload);
            seal_record(&mut keys.seal, kind, record, &mut frame, payload.len());
            frame
        };
        let ready = record(&mut keys, FrameKind::LaneRecord, RecordType::Ready, &[0x77; 16]);
        line(&mut out, "flow 0, ready", &ready);

        let fresh = Some(Freshness([0x77; 16]));
        let mut up = router.flow_keys(FlowId(1), fresh);
        let mut down = server.flow_keys(FlowId(1), fresh);
        let open = Open {
            instead_of: vec![FlowId(0x0a0b)],
            handover: false,
            target: Target::Address(address("198.51.100.9:443")),
        };
        let mut payload = Vec::new();
        open.encode(&mut payload);
        frame.clear();
        seal_open(&mut up.seal, index, FlowId(1), true, RecordType::Open, &payload, &mut frame);
        line(&mut out, "flow 1, open, payload", &payload);
        line(&mut out, "flow 1, open", &frame);
        for (name, is_up, kind, payload) in [
            ("up, data", true, RecordType::Data, &b"GET / HTTP/1.1\r\n"[..]),
            ("up, fin", true, RecordType::Fin, b""),
            ("down, connected", false, RecordType::Connected, b""),
            ("down, data", false, RecordType::Data, b"HTTP/1.1 204 No Content\r\n"),
            ("down, reset", false, RecordType::Reset, &[ResetReason::Aborted as u8]),
            ("down, done", false, RecordType::Done, b""),
        ] {
            let end = if is_up { &mut up } else { &mut down };
            let frame = record(end, FrameKind::Record, kind, payload);
            line(&mut out, &format!("flow 1, {name}"), &frame);
        }
    }
    for (name, target) in [
        ("ipv6", Target::Address(address("[2001:db8::9]:80"))),
        ("name", Target::Name("example.net".into(), 8080)),
    ] {
        let mut payload = Vec::new();
        Open { instead_of: Vec::new(), handover: false, target }.encode(&mut payload);
        line(&mut out, &format!("open payload, {name}"), &payload);
    }
    compare("lane.txt", &out, include_str!("../vectors/lane.txt"));
}

#[test]
fn datagram() {
    let mut out = String::new();
    for suite in Suite::ALL {
        let _ = writeln!(out, "# {}", suite.name());
        let (router, server) = sessions(suite);
        let (mut up, mut down) = (router.datagram_keys(), server.datagram_keys());
        let (mut message, mut wire) = (Vec::new(), Vec::new());
        Message::Ping(0x0102_0304, 0).encode(&mut message);
        line(&mut out, "ping", &message);
        for n in 0..2 {
            up.seal(PathId::new(3).unwrap(), &message, &mut wire);
            line(&mut out, &format!("up, path 3, counter {n}"), &wire);
        }
        message.clear();
        Message::Pong(0x0102_0304, Some(source())).encode(&mut message);
        line(&mut out, "pong", &message);
        down.seal(PathId::new(3).unwrap(), &message, &mut wire);
        line(&mut out, "down, path 3, counter 0", &wire);
    }
    compare("datagram.txt", &out, include_str!("../vectors/datagram.txt"));
}
