//! The bytes of handshake messages. Multi-byte numbers are big endian.
//!
//! Every message starts with type, version and two zero bytes; later versions keep that, the
//! place of the index behind it, and mac1, so that a mismatch of versions can be told.

use ring::digest;
use ring::hmac;
use thiserror::Error;

use crate::crypto::aead::{AuthError, Suite};
use crate::crypto::noise::{MESSAGE_1_OVERHEAD, MESSAGE_2_OVERHEAD};
use crate::inner::{Inner, Instance};
use crate::keys::PublicKey;

/// The version of the protocol spoken here.
pub const VERSION: u8 = 1;

pub(super) const INIT: u8 = 1;
pub(super) const RESPONSE: u8 = 2;
pub(super) const COOKIE_REPLY: u8 = 3;
pub(super) const NOTICE: u8 = 4;
const UNKNOWN_SESSION: u8 = 5;

pub(super) const MAC_LEN: usize = 16;
/// Type, version, two zero bytes, the sender's index.
pub(super) const INIT_HEADER: usize = 8;
/// As above, and the receiver's index.
pub(super) const RESPONSE_HEADER: usize = 12;
/// An Init is at least this long, whatever it carries: an answer is never longer than its cause,
/// so that the server can't be used to multiply traffic.
pub(super) const MIN_INIT: usize = 200;
const MAX_INIT: usize = 1200;
const UNKNOWN_SESSION_LEN: usize = 8 + MAC_LEN;
const NOTICE_LEN: usize = 12 + MAC_LEN;

/// Why a handshake message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// Not a handshake message, or one that is cut.
    #[error("not a handshake message")]
    Malformed,
    /// Not made for this end or this handshake, or damaged.
    #[error("handshake message failed authentication")]
    Unauthentic,
    /// The other end offers no encryption this one has.
    #[error("no common encryption")]
    NoCommonSuite,
}

impl From<snow::Error> for HandshakeError {
    fn from(_: snow::Error) -> Self {
        Self::Unauthentic
    }
}

impl From<AuthError> for HandshakeError {
    fn from(_: AuthError) -> Self {
        Self::Unauthentic
    }
}

/// What a server says instead of a response. Proven only to come from somebody who saw the Init,
/// so a router shows it and goes on trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Notice {
    /// The server speaks other versions than the router.
    #[error(
        "the server speaks protocol versions {min} to {max}, this router {VERSION}: {}",
        if *min > VERSION { "update wanbond on the router" } else { "update wanbond on the server" }
    )]
    OtherVersion {
        /// Lowest version that the server speaks.
        min: u8,
        /// Highest version that the server speaks.
        max: u8,
    },
    /// The server has no such router: its code was wrong, or it was removed.
    #[error(
        "the server does not know this router: it was removed there, or the pairing code is of another server; run `wanbond-server router add` and paste the new code"
    )]
    UnknownRouter,
    /// The router is known but switched off at the server.
    #[error("the server has this router disabled")]
    Disabled,
    /// Nothing common to encrypt with.
    #[error("router and server share no encryption; update the older of the two")]
    NoCommonSuite,
}

impl Notice {
    fn to_bytes(self) -> [u8; 4] {
        match self {
            Self::OtherVersion { min, max } => [1, min, max, 0],
            Self::UnknownRouter => [2, 0, 0, 0],
            Self::Disabled => [3, 0, 0, 0],
            Self::NoCommonSuite => [4, 0, 0, 0],
        }
    }

    fn from_bytes([kind, a, b, _]: [u8; 4]) -> Option<Self> {
        match kind {
            1 => Some(Self::OtherVersion { min: a, max: b }),
            2 => Some(Self::UnknownRouter),
            3 => Some(Self::Disabled),
            4 => Some(Self::NoCommonSuite),
            _ => None,
        }
    }

    pub(super) fn encode(self, server: &PublicKey, index: u32, init_mac: &[u8]) -> Vec<u8> {
        let mut out = vec![NOTICE, VERSION, 0, 0];
        out.extend_from_slice(&index.to_be_bytes());
        out.extend_from_slice(&self.to_bytes());
        let mac = notice_mac(server, &out, init_mac);
        out.extend_from_slice(&mac);
        out
    }

    pub(super) fn decode(
        message: &[u8],
        server: &PublicKey,
        index: u32,
        init_mac: &[u8],
    ) -> Result<Self, HandshakeError> {
        if message.len() != NOTICE_LEN || read_u32(message, 4) != Some(index) {
            return Err(HandshakeError::Malformed);
        }
        let (body, mac) = message.split_at(NOTICE_LEN - MAC_LEN);
        check(&notice_mac(server, body, init_mac), mac)?;
        body[8..].try_into().ok().and_then(Self::from_bytes).ok_or(HandshakeError::Malformed)
    }
}

fn notice_mac(server: &PublicKey, body: &[u8], init_mac: &[u8]) -> [u8; MAC_LEN] {
    mac(&hash_key(b"wanbond1 notice", server.as_bytes()), &[body, init_mac])
}

/// The first bytes of a message of a version that is not spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outdated {
    /// The version that the message names.
    pub version: u8,
}

/// Whether a datagram or frame is a handshake message, by its first byte.
#[must_use]
pub fn is_handshake(message: &[u8]) -> bool {
    matches!(message.first(), Some(&(INIT..=UNKNOWN_SESSION)))
}

/// The index of the router's handshake or session that an answer is for; `None` for an Init and
/// whatever is no answer.
#[must_use]
pub fn receiver_of(message: &[u8]) -> Option<u32> {
    match *message.first()? {
        RESPONSE => read_u32(message, 8),
        COOKIE_REPLY | NOTICE | UNKNOWN_SESSION => read_u32(message, 4),
        _ => None,
    }
}

/// The server's "I have no such session", with the end of what it could not read as proof that it
/// comes from somebody on the path. A hint to make a new session, nothing more.
pub mod unknown_session {
    use super::{MAC_LEN, UNKNOWN_SESSION, UNKNOWN_SESSION_LEN, VERSION, read_u32};

    /// The answer to `cause`, a record or datagram sealed for session `index`; `None` if the cause
    /// is shorter than the answer would be.
    #[must_use]
    pub fn encode(index: u32, cause: &[u8]) -> Option<Vec<u8>> {
        if cause.len() < UNKNOWN_SESSION_LEN {
            return None;
        }
        let proof = &cause[cause.len() - MAC_LEN..];
        let mut out = vec![UNKNOWN_SESSION, VERSION, 0, 0];
        out.extend_from_slice(&index.to_be_bytes());
        out.extend_from_slice(proof);
        Some(out)
    }

    /// The session index and proof of such an answer.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<(u32, [u8; MAC_LEN])> {
        if message.len() != UNKNOWN_SESSION_LEN || message[0] != UNKNOWN_SESSION {
            return None;
        }
        Some((read_u32(message, 4)?, message[8..].try_into().ok()?))
    }
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// An Init as it lies in its bytes.
pub(super) struct InitView<'a> {
    pub(super) index: u32,
    pub(super) noise: &'a [u8],
    pub(super) before_mac1: &'a [u8],
    pub(super) mac1: &'a [u8],
    pub(super) before_mac2: &'a [u8],
    pub(super) mac2: &'a [u8],
}

impl<'a> InitView<'a> {
    pub(super) fn parse(message: &'a [u8]) -> Result<Self, HandshakeError> {
        if !(MIN_INIT..=MAX_INIT).contains(&message.len()) || message[0] != INIT {
            return Err(HandshakeError::Malformed);
        }
        let (before_mac2, mac2) = message.split_at(message.len() - MAC_LEN);
        let (before_mac1, mac1) = before_mac2.split_at(before_mac2.len() - MAC_LEN);
        Ok(Self {
            index: read_u32(message, 4).ok_or(HandshakeError::Malformed)?,
            noise: before_mac1.get(INIT_HEADER..).ok_or(HandshakeError::Malformed)?,
            before_mac1,
            mac1,
            before_mac2,
            mac2,
        })
    }
}

/// What the router tells in its Init: the suites it can use, fastest first, which run of it this
/// is, and zeros that bring the message to [`MIN_INIT`]. Later versions append before the zeros.
pub(super) struct Offer {
    pub(super) suites: Vec<Suite>,
    pub(super) instance: Instance,
}

impl Offer {
    pub(super) fn encode(suites: &[Suite], instance: Instance) -> Vec<u8> {
        let mut out = vec![suites.len() as u8];
        out.extend(suites.iter().map(|suite| suite.code()));
        out.extend_from_slice(&instance.0);
        let fixed = INIT_HEADER + MESSAGE_1_OVERHEAD + 2 * MAC_LEN;
        out.resize(out.len().max(MIN_INIT - fixed), 0);
        out
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, HandshakeError> {
        let (&count, rest) = payload.split_first().ok_or(HandshakeError::Malformed)?;
        let (codes, rest) =
            rest.split_at_checked(usize::from(count)).ok_or(HandshakeError::Malformed)?;
        let instance = Instance(*rest.first_chunk().ok_or(HandshakeError::Malformed)?);
        // Suites of later versions are skipped.
        let suites = codes.iter().filter_map(|&code| Suite::from_code(code)).collect();
        Ok(Self { suites, instance })
    }
}

/// The families of addresses that a server can reach targets by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// IPv4 targets.
    pub ipv4: bool,
    /// IPv6 targets.
    pub ipv6: bool,
}

/// What a server tells every router it admits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// What the server can reach.
    pub egress: Egress,
    /// Which run of the server this is.
    pub instance: Instance,
    /// The addresses inside the tunnel; `None` if the server has none for this router.
    pub inner: Option<Inner>,
}

/// What the server tells in its Response.
pub(super) struct Answer {
    pub(super) suite: Suite,
    /// The address the Init came from, as the server saw it.
    pub(super) observed: Option<std::net::SocketAddr>,
    pub(super) welcome: Welcome,
}

const EGRESS_AT: usize = 1 + 16 + 2;
const INSTANCE_AT: usize = EGRESS_AT + 1;
const INNER_AT: usize = INSTANCE_AT + Instance::LEN;

impl Answer {
    const LEN: usize = INNER_AT + Inner::LEN;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[0] = self.suite.code();
        let Welcome { egress, instance, inner } = &self.welcome;
        out[EGRESS_AT] = u8::from(egress.ipv4) | u8::from(egress.ipv6) << 1;
        out[INSTANCE_AT..INNER_AT].copy_from_slice(&instance.0);
        if let Some(inner) = inner {
            out[INNER_AT..].copy_from_slice(&inner.encode());
        }
        if let Some(address) = self.observed {
            let ip = match address.ip() {
                std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                std::net::IpAddr::V6(v6) => v6,
            };
            out[1..17].copy_from_slice(&ip.octets());
            out[17..19].copy_from_slice(&address.port().to_be_bytes());
        }
        out
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Self, HandshakeError> {
        let bytes: &[u8; Self::LEN] = payload.first_chunk().ok_or(HandshakeError::Malformed)?;
        let suite = Suite::from_code(bytes[0]).ok_or(HandshakeError::NoCommonSuite)?;
        let mut octets = [0; 16];
        octets.copy_from_slice(&bytes[1..17]);
        let ip = std::net::Ipv6Addr::from(octets).to_canonical();
        let port = u16::from_be_bytes([bytes[17], bytes[18]]);
        let observed = (!ip.is_unspecified()).then(|| std::net::SocketAddr::new(ip, port));
        let families = bytes[EGRESS_AT];
        let egress = Egress { ipv4: families & 1 != 0, ipv6: families & 2 != 0 };
        let instance =
            Instance(*bytes[INSTANCE_AT..].first_chunk().ok_or(HandshakeError::Malformed)?);
        let inner = bytes[INNER_AT..].first_chunk().ok_or(HandshakeError::Malformed)?;
        let welcome = Welcome { egress, instance, inner: Inner::decode(inner) };
        Ok(Self { suite, observed, welcome })
    }
}

/// The length of a Response.
pub(super) const RESPONSE_LEN: usize = RESPONSE_HEADER + MESSAGE_2_OVERHEAD + Answer::LEN + MAC_LEN;
const _: () = assert!(RESPONSE_LEN <= MIN_INIT, "an answer must not be longer than its cause");

pub(super) fn prologue() -> &'static [u8] {
    b"wanbond protocol 1"
}

/// The key of mac1 for messages to the holder of `key`.
pub(super) fn mac1_key(key: &PublicKey) -> [u8; 32] {
    hash_key(b"wanbond1 mac1", key.as_bytes())
}

pub(super) fn hash_key(label: &[u8], data: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(data);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// HMAC-SHA256, cut to 16 bytes.
pub(super) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; MAC_LEN] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; MAC_LEN];
    out.copy_from_slice(&context.sign().as_ref()[..MAC_LEN]);
    out
}

pub(super) fn check(expected: &[u8; MAC_LEN], found: &[u8]) -> Result<(), HandshakeError> {
    use subtle::ConstantTimeEq as _;
    if expected.as_slice().ct_eq(found).into() { Ok(()) } else { Err(HandshakeError::Unauthentic) }
}
