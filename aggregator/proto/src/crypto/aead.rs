//! One direction's authenticated encryption: a key, an IV and a counter.

use ring::aead::{self, LessSafeKey, UnboundKey};
use ring::hkdf::Prk;
use thiserror::Error;

use super::kdf;

/// Bytes that sealing adds behind the plaintext.
pub const TAG_LEN: usize = 16;
/// Length of an AEAD nonce, and of the IV it is made from, in bytes.
pub const NONCE_LEN: usize = 12;

/// Records after which a sequential key is replaced by one derived from it. 2^20 records of
/// 64 KiB are 2^32 AES blocks, far below what costs AES-GCM its margin (RFC 8446 §5.5).
const RATCHET_RECORDS: u64 = 1 << 20;

/// An AEAD both ends can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Suite {
    /// AES-128-GCM (NIST SP 800-38D): where both ends have AES instructions.
    Aes128Gcm,
    /// ChaCha20-Poly1305 (RFC 8439): everywhere else.
    ChaCha20Poly1305,
}

impl Suite {
    /// All, strongest claim to be fast first.
    pub const ALL: [Self; 2] = [Self::Aes128Gcm, Self::ChaCha20Poly1305];

    /// The number it has on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Aes128Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    /// The suite with this number, if there is one.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.code() == code)
    }

    /// The name people know it by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes-128-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// What did not decrypt: forged, damaged, out of order, or meant for another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("authentication failed")]
pub struct AuthError;

/// A key and IV of one direction, with explicit nonces. Each nonce is used once: the callers'
/// counters see to it.
pub struct AeadKey {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
}

impl AeadKey {
    /// Derives key and IV from `prk` for the purpose that `info` names.
    #[must_use]
    pub fn derive(suite: Suite, prk: &Prk, info: &[&[u8]]) -> Self {
        let material: [u8; 32 + NONCE_LEN] = kdf::expand(prk, info);
        let algorithm = suite.algorithm();
        let (key, iv) = material.split_at(32);
        let key = &key[..algorithm.key_len()];
        let mut own_iv = [0; NONCE_LEN];
        own_iv.copy_from_slice(iv);
        // `key` has exactly the algorithm's length, the only thing that can be refused.
        let key = UnboundKey::new(algorithm, key).expect("key length is the algorithm's");
        Self { key: LessSafeKey::new(key), iv: own_iv }
    }

    /// IV XOR number, as TLS 1.3 makes nonces (RFC 8446 §5.3).
    fn nonce(&self, number: u64) -> aead::Nonce {
        let mut nonce = self.iv;
        for (byte, n) in nonce[NONCE_LEN - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= n;
        }
        aead::Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts `data` in place and returns the tag.
    #[must_use]
    pub fn seal(&self, number: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(number), aead::Aad::from(aad), data)
            // Refused only for more than 64 GiB of data at once.
            .expect("a record is far below the AEAD's limit");
        let mut out = [0; TAG_LEN];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// Decrypts `data` (ciphertext and tag) in place; the plaintext is its start, returned.
    ///
    /// # Errors
    /// [`AuthError`]; `data` is then not to be used.
    pub fn open<'a>(
        &self,
        number: u64,
        aad: &[u8],
        data: &'a mut [u8],
    ) -> Result<&'a mut [u8], AuthError> {
        self.key
            .open_in_place(self.nonce(number), aead::Aad::from(aad), data)
            .map_err(|_| AuthError)
    }
}

/// Sequential use of an [`AeadKey`] over an ordered carrier: numbers are implied, so nothing can
/// be left out, repeated or swapped; the key is replaced every 2^20 records.
pub struct Sequence {
    key: AeadKey,
    suite: Suite,
    ratchet: [u8; 32],
    next: u64,
}

impl Sequence {
    /// Derives the direction named by `info` from `prk`.
    #[must_use]
    pub fn derive(suite: Suite, prk: &Prk, info: &[&[u8]]) -> Self {
        let secret: [u8; 32] = kdf::expand(prk, info);
        Self::from_secret(suite, secret)
    }

    fn from_secret(suite: Suite, secret: [u8; 32]) -> Self {
        let prk = kdf::prk(&secret);
        Self { key: AeadKey::derive(suite, &prk, &[b"key"]), suite, ratchet: secret, next: 0 }
    }

    fn take_number(&mut self) -> u64 {
        if self.next == RATCHET_RECORDS {
            let secret = kdf::expand_key(&kdf::prk(&self.ratchet), b"ratchet");
            *self = Self::from_secret(self.suite, secret);
        }
        let number = self.next;
        self.next += 1;
        number
    }

    /// Encrypts the next record in place and returns its tag.
    #[must_use]
    pub fn seal(&mut self, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let number = self.take_number();
        self.key.seal(number, aad, data)
    }

    /// Decrypts the next record in place.
    ///
    /// # Errors
    /// [`AuthError`]: after it the sequence is broken and the carrier must be dropped.
    pub fn open<'a>(&mut self, aad: &[u8], data: &'a mut [u8]) -> Result<&'a mut [u8], AuthError> {
        let number = self.take_number();
        self.key.open(number, aad, data)
    }
}

impl Drop for Sequence {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.ratchet.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(suite: Suite) -> (Sequence, Sequence) {
        let prk = kdf::prk(&[3; 32]);
        (Sequence::derive(suite, &prk, &[b"x"]), Sequence::derive(suite, &prk, &[b"x"]))
    }

    #[test]
    fn sequences_agree_across_the_ratchet() {
        for suite in Suite::ALL {
            let (mut a, mut b) = pair(suite);
            a.next = RATCHET_RECORDS - 2;
            b.next = RATCHET_RECORDS - 2;
            for i in 0..5u8 {
                let mut data = vec![i; 20];
                let tag = a.seal(b"h", &mut data);
                data.extend_from_slice(&tag);
                assert_eq!(b.open(b"h", &mut data).unwrap(), &[i; 20]);
            }
            assert_eq!(a.next, 3);
        }
    }

    #[test]
    fn a_left_out_record_is_noticed() {
        let (mut a, mut b) = pair(Suite::Aes128Gcm);
        let mut first = [1u8; 4];
        let _ = a.seal(b"", &mut first);
        let mut second = vec![2u8; 4];
        let tag = a.seal(b"", &mut second);
        second.extend_from_slice(&tag);
        assert_eq!(b.open(b"", &mut second), Err(AuthError));
    }

    #[test]
    fn header_is_covered() {
        let (mut a, mut b) = pair(Suite::ChaCha20Poly1305);
        let mut data = vec![2u8; 4];
        let tag = a.seal(b"head", &mut data);
        data.extend_from_slice(&tag);
        assert_eq!(b.open(b"heal", &mut data), Err(AuthError));
    }
}
