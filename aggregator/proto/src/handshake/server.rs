//! The server's half of the handshake.

use std::net::SocketAddr;
use std::time::Duration;

use snow::HandshakeState;

use super::cookie::CookieJar;
use super::message::{
    Answer, HandshakeError, InitView, Notice, Offer, RESPONSE, RESPONSE_HEADER, VERSION, Welcome,
    check, mac, mac1_key, prologue,
};
use crate::Time;
use crate::crypto::aead::Suite;
use crate::crypto::noise;
use crate::inner::Instance;
use crate::keys::{KEY_LEN, PresharedKey, PublicKey, SecretKey};
use crate::session::{Role, Session};

/// Public-key handshakes a second above which addresses must be proven. One costs some 0.2 ms on a
/// small VPS: at this rate a flood takes 2 % of a core.
const BUSY_PER_SECOND: u32 = 100;

/// Counts handshakes to tell when the server is under load.
#[derive(Default)]
pub struct HandshakeLoad {
    window: Time,
    count: u32,
    busy_until: Time,
}

impl HandshakeLoad {
    /// Counts one Init and says whether addresses must now be proven.
    pub fn count(&mut self, now: Time) -> bool {
        if now.since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.count = 0;
        }
        self.count += 1;
        if self.count > BUSY_PER_SECOND {
            // Stay wary for a while, so that a pulsing flood gains nothing (as WireGuard does).
            self.busy_until = now + Duration::from_secs(1);
        }
        now < self.busy_until
    }
}

/// What the sender of an Init has shown of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Nothing needs to be shown: the server is not busy, or TCP has proven the address.
    Open,
    /// The cookie is asked for.
    ProveAddress,
}

/// What to do about an Init.
pub enum Verdict {
    /// Look up the router with [`PendingRouter::public`], then accept or refuse it.
    Pending(Box<PendingRouter>),
    /// Send this back and forget the Init.
    Answer(Vec<u8>),
}

/// The server's long-lived half: its key and cookies.
pub struct ServerHandshake {
    secret: SecretKey,
    public: PublicKey,
    suites: Vec<Suite>,
}

impl ServerHandshake {
    /// `suites`: what this end can use, fastest first.
    #[must_use]
    pub fn new(secret: SecretKey, suites: &[Suite]) -> Self {
        let public = secret.public();
        Self { secret, public, suites: suites.to_vec() }
    }

    /// The server's public key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Takes an Init that came from `source`.
    ///
    /// `random`: 32 bytes for the ephemeral key, 24 for a cookie's nonce.
    ///
    /// # Errors
    /// [`HandshakeError`]: say nothing. The sender does not know this server.
    pub fn handle(
        &self,
        message: &[u8],
        source: SocketAddr,
        admission: Admission,
        cookies: &CookieJar,
        random: ([u8; KEY_LEN], [u8; 24]),
    ) -> Result<Verdict, HandshakeError> {
        let init = InitView::parse(message)?;
        check(&mac(&mac1_key(&self.public), &[init.before_mac1]), init.mac1)?;
        if message[1] != VERSION {
            let notice = Notice::OtherVersion { min: VERSION, max: VERSION };
            return Ok(Verdict::Answer(notice.encode(&self.public, init.index, init.mac1)));
        }
        if admission == Admission::ProveAddress && !cookies.proves(&init, source) {
            return Ok(Verdict::Answer(cookies.reply(&self.public, &init, source, random.1)));
        }
        let mut noise = noise::responder(&self.secret, prologue(), random.0)?;
        let mut payload = vec![0; init.noise.len()];
        let length = noise.read_message(init.noise, &mut payload)?;
        let offered = Offer::decode(&payload[..length])?;
        let public: [u8; KEY_LEN] = noise
            .get_remote_static()
            .and_then(|key| key.try_into().ok())
            .ok_or(HandshakeError::Unauthentic)?;
        let mut mac1 = [0; 16];
        mac1.copy_from_slice(init.mac1);
        let pending = PendingRouter {
            noise,
            router: PublicKey::from_bytes(public),
            router_index: init.index,
            suite: choose(&self.suites, &offered.suites),
            instance: offered.instance,
            source,
            server: self.public,
            mac1,
        };
        if pending.suite.is_none() {
            return Ok(Verdict::Answer(pending.refuse(Notice::NoCommonSuite)));
        }
        Ok(Verdict::Pending(Box::new(pending)))
    }
}

/// The suite that is fast on both ends: the router's favourite where the server has it in hardware
/// too, else the one that the slower end can do.
fn choose(own: &[Suite], offered: &[Suite]) -> Option<Suite> {
    let rank = |suites: &[Suite], suite| suites.iter().position(|&s| s == suite);
    // The router is the weaker machine: its order decides between equals.
    Suite::ALL
        .into_iter()
        .filter_map(|suite| {
            let theirs = rank(offered, suite)?;
            let ours = rank(own, suite)?;
            Some((theirs * 2 + ours, suite))
        })
        .min_by_key(|&(cost, _)| cost)
        .map(|(_, suite)| suite)
}

/// A router that has shown its key; whether it is admitted is the caller's to say.
pub struct PendingRouter {
    noise: HandshakeState,
    router: PublicKey,
    router_index: u32,
    suite: Option<Suite>,
    instance: Instance,
    source: SocketAddr,
    server: PublicKey,
    mac1: [u8; 16],
}

impl PendingRouter {
    /// The router's key.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.router
    }

    /// The answer that refuses the router.
    #[must_use]
    pub fn refuse(&self, notice: Notice) -> Vec<u8> {
        notice.encode(&self.server, self.router_index, &self.mac1)
    }

    /// Admits the router: the response to send, and the session, unconfirmed until the router uses
    /// it. `index` is random and not in use by another session of this server.
    ///
    /// # Errors
    /// [`HandshakeError`]: the response could not be made.
    pub fn accept(
        mut self,
        now: Time,
        psk: &PresharedKey,
        index: u32,
        welcome: Welcome,
    ) -> Result<(Vec<u8>, Session), HandshakeError> {
        let suite = self.suite.ok_or(HandshakeError::NoCommonSuite)?;
        self.noise.set_psk(2, psk.as_bytes())?;
        let answer = Answer { suite, observed: Some(self.source), welcome }.encode();
        let mut response = vec![RESPONSE, VERSION, 0, 0];
        response.extend_from_slice(&index.to_be_bytes());
        response.extend_from_slice(&self.router_index.to_be_bytes());
        response.resize(RESPONSE_HEADER + answer.len() + noise::MESSAGE_2_OVERHEAD, 0);
        let written = self.noise.write_message(&answer, &mut response[RESPONSE_HEADER..])?;
        response.truncate(RESPONSE_HEADER + written);
        let mac1 = mac(&mac1_key(&self.router), &[&response]);
        response.extend_from_slice(&mac1);
        let session = Session::new(
            Role::Server,
            now,
            index,
            self.router_index,
            suite,
            self.router,
            Some(self.source),
            self.instance,
            welcome,
            &self.noise.dangerously_get_raw_split(),
            self.noise.get_handshake_hash(),
        );
        Ok((response, session))
    }
}
