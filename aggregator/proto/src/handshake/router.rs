//! The router's half of the handshake.

use snow::HandshakeState;

use super::cookie::{COOKIE_LIFETIME, mac2, read_reply};
use super::message::{
    Answer, COOKIE_REPLY, HandshakeError, INIT, MAC_LEN, NOTICE, Notice, Offer, RESPONSE,
    RESPONSE_HEADER, RESPONSE_LEN, VERSION, check, mac, mac1_key, prologue, read_u32,
};
use crate::Time;
use crate::crypto::aead::Suite;
use crate::crypto::noise;
use crate::inner::Instance;
use crate::keys::{KEY_LEN, PresharedKey, PublicKey, SecretKey};
use crate::pairing::PairingCode;
use crate::session::{Role, Session};

/// Who the router is and whom it trusts.
#[derive(Clone, Debug)]
pub struct RouterIdentity {
    secret: SecretKey,
    psk: PresharedKey,
    server: PublicKey,
}

impl RouterIdentity {
    /// What a pairing code says.
    #[must_use]
    pub fn from_code(code: &PairingCode) -> Self {
        Self {
            secret: code.seed.static_secret(),
            psk: code.seed.preshared_key(),
            server: code.server,
        }
    }

    /// The router's public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.secret.public()
    }
}

/// What a message from the server means.
pub enum Reply {
    /// A session, ready to be used.
    Session(Box<Session>),
    /// The server wants this address proven: send [`RouterHandshake::init`] again.
    SendAgain,
    /// The server says why it does not answer. A hint: go on trying, less often.
    Notice(Notice),
}

/// One handshake in progress. Its Init may be sent on several paths and again after a time-out;
/// the first response makes the session.
pub struct RouterHandshake {
    identity: RouterIdentity,
    index: u32,
    noise: HandshakeState,
    /// The Init without mac2.
    body: Vec<u8>,
    cookie: Option<([u8; MAC_LEN], Time)>,
    suites: Vec<Suite>,
}

impl RouterHandshake {
    /// Begins a handshake.
    ///
    /// `index` is random and not in use by another session of this router, `ephemeral` 32 random
    /// bytes, `suites` what this end can use, fastest first, `instance` drawn once at the daemon's
    /// start.
    ///
    /// # Errors
    /// [`HandshakeError::Unauthentic`] if the server's public key is no usable point.
    pub fn start(
        identity: RouterIdentity,
        index: u32,
        ephemeral: [u8; KEY_LEN],
        suites: &[Suite],
        instance: Instance,
    ) -> Result<Self, HandshakeError> {
        let mut noise = noise::initiator(
            &identity.secret,
            &identity.server,
            &identity.psk,
            prologue(),
            ephemeral,
        )?;
        let offer = Offer::encode(suites, instance);
        let mut body = vec![INIT, VERSION, 0, 0];
        body.extend_from_slice(&index.to_be_bytes());
        let start = body.len();
        body.resize(start + offer.len() + noise::MESSAGE_1_OVERHEAD, 0);
        let written = noise.write_message(&offer, &mut body[start..])?;
        body.truncate(start + written);
        let mac1 = mac(&mac1_key(&identity.server), &[&body]);
        body.extend_from_slice(&mac1);
        Ok(Self { identity, index, noise, body, cookie: None, suites: suites.to_vec() })
    }

    /// The index that answers to this handshake name.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The Init to send, with the cookie if the server gave one.
    #[must_use]
    pub fn init(&self, now: Time) -> Vec<u8> {
        let mut message = self.body.clone();
        let mac2 = match &self.cookie {
            Some((cookie, at)) if now.since(*at) < COOKIE_LIFETIME => mac2(cookie, &self.body),
            _ => [0; MAC_LEN],
        };
        message.extend_from_slice(&mac2);
        message
    }

    fn mac1(&self) -> &[u8] {
        &self.body[self.body.len() - MAC_LEN..]
    }

    /// Takes an answer. On an error nothing has changed, and a later answer may still be right.
    ///
    /// # Errors
    /// [`HandshakeError`]: the message is not an answer to this handshake.
    pub fn handle(&mut self, now: Time, message: &[u8]) -> Result<Reply, HandshakeError> {
        match message.first() {
            Some(&RESPONSE) => self.handle_response(now, message),
            Some(&COOKIE_REPLY) => {
                let cookie = read_reply(message, &self.identity.server, self.index, self.mac1())?;
                self.cookie = Some((cookie, now));
                Ok(Reply::SendAgain)
            }
            Some(&NOTICE) => {
                Notice::decode(message, &self.identity.server, self.index, self.mac1())
                    .map(Reply::Notice)
            }
            _ => Err(HandshakeError::Malformed),
        }
    }

    fn handle_response(&mut self, now: Time, message: &[u8]) -> Result<Reply, HandshakeError> {
        if message.len() < RESPONSE_LEN
            || message[1] != VERSION
            || read_u32(message, 8) != Some(self.index)
        {
            return Err(HandshakeError::Malformed);
        }
        let (body, mac1) = message.split_at(message.len() - MAC_LEN);
        check(&mac(&mac1_key(&self.identity.public()), &[body]), mac1)?;
        let server_index = read_u32(message, 4).ok_or(HandshakeError::Malformed)?;
        let mut payload = [0; 1500];
        // snow restores its state when a message does not decrypt.
        let length = self
            .noise
            .read_message(&body[RESPONSE_HEADER..], &mut payload)
            .map_err(HandshakeError::from)?;
        let answer = Answer::decode(&payload[..length])?;
        if !self.suites.contains(&answer.suite) {
            return Err(HandshakeError::NoCommonSuite);
        }
        Ok(Reply::Session(Box::new(Session::new(
            Role::Router,
            now,
            self.index,
            server_index,
            answer.suite,
            self.identity.server,
            answer.observed,
            answer.welcome.instance,
            answer.welcome,
            &self.noise.dangerously_get_raw_split(),
            self.noise.get_handshake_hash(),
        ))))
    }
}
