//! `Noise_IKpsk2_25519_ChaChaPoly_SHA256` (noiseprotocol.org, revision 34) by the `snow` crate,
//! on primitives from `ring` and `x25519-dalek`, with the ephemeral key handed in.

use ring::{aead, digest};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::Zeroize as _;

use crate::keys::{KEY_LEN, PresharedKey, PublicKey, SecretKey};

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_SHA256";

/// Bytes that message 1 adds to its payload: e, encrypted s, and the payload's tag.
pub(crate) const MESSAGE_1_OVERHEAD: usize = 32 + 48 + 16;
/// Bytes that message 2 adds to its payload: e and the payload's tag.
pub(crate) const MESSAGE_2_OVERHEAD: usize = 32 + 16;

/// Starts a handshake as the router: it knows the server's key and the shared key.
pub(crate) fn initiator(
    local: &SecretKey,
    server: &PublicKey,
    psk: &PresharedKey,
    prologue: &[u8],
    ephemeral: [u8; KEY_LEN],
) -> Result<HandshakeState, snow::Error> {
    let secret = local.to_bytes();
    builder(ephemeral)?
        .local_private_key(&secret)?
        .remote_public_key(server.as_bytes())?
        .psk(2, psk.as_bytes())?
        .prologue(prologue)?
        .build_initiator()
}

/// Answers a handshake as the server; the shared key is set once the router is known.
pub(crate) fn responder(
    local: &SecretKey,
    prologue: &[u8],
    ephemeral: [u8; KEY_LEN],
) -> Result<HandshakeState, snow::Error> {
    let secret = local.to_bytes();
    builder(ephemeral)?.local_private_key(&secret)?.prologue(prologue)?.build_responder()
}

fn builder<'a>(ephemeral: [u8; KEY_LEN]) -> Result<Builder<'a>, snow::Error> {
    let params: NoiseParams = PATTERN.parse()?;
    Ok(Builder::with_resolver(params, Box::new(Resolver { ephemeral })))
}

struct Resolver {
    ephemeral: [u8; KEY_LEN],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Ephemeral(Some(self.ephemeral))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| Box::<Sha256>::default() as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly)
            .then(|| Box::<ChaChaPoly>::default() as Box<dyn Cipher>)
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.ephemeral.zeroize();
    }
}

/// Gives the one ephemeral key that a handshake needs, once.
struct Ephemeral(Option<[u8; KEY_LEN]>);

impl Random for Ephemeral {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        if dest.len() != bytes.len() {
            return Err(snow::Error::Rng);
        }
        dest.copy_from_slice(&bytes);
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    secret: [u8; KEY_LEN],
    public: [u8; KEY_LEN],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(&secret[..KEY_LEN]);
        self.public = *SecretKey::from_bytes(self.secret).public().as_bytes();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = [0; KEY_LEN];
        rng.try_fill_bytes(&mut secret)?;
        self.set(&secret);
        secret.zeroize();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &self.secret
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let public: [u8; KEY_LEN] =
            public.get(..KEY_LEN).and_then(|p| p.try_into().ok()).ok_or(snow::Error::Dh)?;
        let shared = x25519_dalek::StaticSecret::from(self.secret)
            .diffie_hellman(&x25519_dalek::PublicKey::from(public));
        // An all-zero result means a low-order point (RFC 7748 §6.1): refuse it.
        if !shared.was_contributory() {
            return Err(snow::Error::Dh);
        }
        out[..KEY_LEN].copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

impl Drop for X25519 {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(self.0.clone().finish().as_ref());
    }
}

struct ChaChaPoly(aead::LessSafeKey);

impl Default for ChaChaPoly {
    fn default() -> Self {
        Self(chacha_key(&[0; KEY_LEN]))
    }
}

fn chacha_key(key: &[u8; KEY_LEN]) -> aead::LessSafeKey {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key);
    aead::LessSafeKey::new(key.expect("32 bytes are what ChaCha20 takes"))
}

/// Noise §12.3: 32 bits of zeros and the counter, little endian.
fn chacha_nonce(number: u64) -> aead::Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_le_bytes());
    aead::Nonce::assume_unique_for_key(nonce)
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.0 = chacha_key(key);
    }

    fn encrypt(&self, number: u64, aad: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let (body, rest) = out.split_at_mut(plaintext.len());
        body.copy_from_slice(plaintext);
        let tag = self
            .0
            .seal_in_place_separate_tag(chacha_nonce(number), aead::Aad::from(aad), body)
            .expect("handshake messages are short");
        rest[..16].copy_from_slice(tag.as_ref());
        plaintext.len() + 16
    }

    fn decrypt(
        &self,
        number: u64,
        aad: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let mut data = ciphertext.to_vec();
        let plain = self
            .0
            .open_in_place(chacha_nonce(number), aead::Aad::from(aad), &mut data)
            .map_err(|_| snow::Error::Decrypt)?;
        out.get_mut(..plain.len()).ok_or(snow::Error::Decrypt)?.copy_from_slice(plain);
        Ok(plain.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    fn key(text: &str) -> [u8; 32] {
        hex(text).try_into().unwrap()
    }

    /// The vector for this pattern in the public "cacophony" collection.
    #[test]
    fn known_answer() {
        let psk = PresharedKey::from_bytes(key(
            "54686973206973206d7920417573747269616e20706572737065637469766521",
        ));
        let prologue = hex("4a6f686e2047616c74");
        let mut router = initiator(
            &SecretKey::from_bytes(key(
                "e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1",
            )),
            &PublicKey::from_bytes(key(
                "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62",
            )),
            &psk,
            &prologue,
            key("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a"),
        )
        .unwrap();
        let mut server = responder(
            &SecretKey::from_bytes(key(
                "4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893",
            )),
            &prologue,
            key("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b"),
        )
        .unwrap();

        let mut wire = [0; 256];
        let mut plain = [0; 256];
        let payload = hex("4c756477696720766f6e204d69736573");
        let n = router.write_message(&payload, &mut wire).unwrap();
        assert_eq!(n, payload.len() + MESSAGE_1_OVERHEAD);
        assert_eq!(
            wire[..n],
            hex(
                "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79442ec9b09893d0f510791784c10cbc959f25b1766e0def6e301d14fbca1c7790ac829b8b3674f5f649a5f0e98479662cbfbf2b2c47cd4b09fcd266cd29d7cb675f1808849707847840f6d178ec4d3733aa"
            )
        );
        let n = server.read_message(&wire[..n], &mut plain).unwrap();
        assert_eq!(plain[..n], payload);
        server.set_psk(2, psk.as_bytes()).unwrap();

        let payload = hex("4d757272617920526f746862617264");
        let n = server.write_message(&payload, &mut wire).unwrap();
        assert_eq!(n, payload.len() + MESSAGE_2_OVERHEAD);
        assert_eq!(
            wire[..n],
            hex(
                "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f1448088439a1b3cebf680b2c74217fcb5eba4ff58a9468cd90c4aca6194f57479b379a7"
            )
        );
        let n = router.read_message(&wire[..n], &mut plain).unwrap();
        assert_eq!(plain[..n], payload);
        assert_eq!(
            router.get_handshake_hash(),
            hex("8310f86394dc0dabb40beb8210031556db4403ab1202db7034c526232147a700")
        );
        assert_eq!(router.dangerously_get_raw_split(), server.dangerously_get_raw_split());
    }
}
