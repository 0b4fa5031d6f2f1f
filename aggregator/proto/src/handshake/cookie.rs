//! Cookies: how a busy server has an address proven before it does public-key work for it.
//!
//! A cookie is a MAC of the sender's address under a secret that changes every two minutes; it is
//! returned encrypted under a key that only somebody who knows the server's public key and saw the
//! reply can make, bound to the Init's mac1.

use std::net::SocketAddr;
use std::time::Duration;

use zeroize::Zeroize as _;

use super::message::{
    COOKIE_REPLY, HandshakeError, InitView, MAC_LEN, VERSION, check, hash_key, mac, read_u32,
};
use crate::Time;
use crate::crypto::aead::{AeadKey, Suite, TAG_LEN};
use crate::crypto::kdf;
use crate::keys::PublicKey;

const NONCE_LEN: usize = 24;
const REPLY_LEN: usize = 8 + NONCE_LEN + MAC_LEN + TAG_LEN;

/// How long a cookie is good, and how often its secret changes.
pub(super) const COOKIE_LIFETIME: Duration = Duration::from_secs(120);

/// The server's cookie secret: the present one and the one before it, so that a cookie handed out
/// just before a change still serves.
pub struct CookieJar {
    secret: [u8; 32],
    previous: [u8; 32],
    changed: Time,
}

impl CookieJar {
    /// Starts with two random secrets.
    #[must_use]
    pub fn new(now: Time, random: [[u8; 32]; 2]) -> Self {
        let [secret, previous] = random;
        Self { secret, previous, changed: now }
    }

    /// Whether it is time to call [`Self::rotate`].
    #[must_use]
    pub fn is_stale(&self, now: Time) -> bool {
        now.since(self.changed) >= COOKIE_LIFETIME
    }

    /// Changes the secret for 32 fresh random bytes.
    pub fn rotate(&mut self, now: Time, random: [u8; 32]) {
        self.previous = std::mem::replace(&mut self.secret, random);
        self.changed = now;
    }

    fn cookie(secret: &[u8; 32], source: SocketAddr) -> [u8; MAC_LEN] {
        let port = source.port().to_be_bytes();
        match source.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => mac(secret, &[&ip.octets(), &port]),
            std::net::IpAddr::V6(ip) => mac(secret, &[&ip.octets(), &port]),
        }
    }

    pub(super) fn proves(&self, init: &InitView<'_>, source: SocketAddr) -> bool {
        [&self.secret, &self.previous].into_iter().any(|secret| {
            let cookie = Self::cookie(secret, source);
            check(&mac2(&cookie, init.before_mac2), init.mac2).is_ok()
        })
    }

    pub(super) fn reply(
        &self,
        server: &PublicKey,
        init: &InitView<'_>,
        source: SocketAddr,
        nonce: [u8; NONCE_LEN],
    ) -> Vec<u8> {
        let mut out = vec![COOKIE_REPLY, VERSION, 0, 0];
        out.extend_from_slice(&init.index.to_be_bytes());
        out.extend_from_slice(&nonce);
        let mut cookie = Self::cookie(&self.secret, source);
        let tag = reply_key(server, &nonce).seal(0, init.mac1, &mut cookie);
        out.extend_from_slice(&cookie);
        out.extend_from_slice(&tag);
        out
    }
}

impl Drop for CookieJar {
    fn drop(&mut self) {
        self.secret.zeroize();
        self.previous.zeroize();
    }
}

/// A key for one reply, so that the random nonce can be as long as chance needs it.
fn reply_key(server: &PublicKey, nonce: &[u8; NONCE_LEN]) -> AeadKey {
    let prk = kdf::prk(&hash_key(b"wanbond1 cookie", server.as_bytes()));
    AeadKey::derive(Suite::ChaCha20Poly1305, &prk, &[b"reply", nonce])
}

/// The mac2 that `cookie` gives to an Init.
pub(super) fn mac2(cookie: &[u8; MAC_LEN], before_mac2: &[u8]) -> [u8; MAC_LEN] {
    mac(&hash_key(b"wanbond1 mac2", cookie), &[before_mac2])
}

/// Reads a reply to the Init with this index and mac1.
pub(super) fn read_reply(
    message: &[u8],
    server: &PublicKey,
    index: u32,
    init_mac1: &[u8],
) -> Result<[u8; MAC_LEN], HandshakeError> {
    let is_reply = message.len() == REPLY_LEN && message[..4] == [COOKIE_REPLY, VERSION, 0, 0];
    if !is_reply || read_u32(message, 4) != Some(index) {
        return Err(HandshakeError::Malformed);
    }
    let (nonce, sealed) =
        message[8..].split_first_chunk::<NONCE_LEN>().ok_or(HandshakeError::Malformed)?;
    let mut sealed = sealed.to_vec();
    let plain = reply_key(server, nonce).open(0, init_mac1, &mut sealed)?;
    <[u8; MAC_LEN]>::try_from(&*plain).map_err(|_| HandshakeError::Malformed)
}
