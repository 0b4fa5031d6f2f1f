//! What the servers of a fleet share and etcd must not know: the fleet's key, and what it seals.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use thiserror::Error;
use wanbond_proto::crypto::kdf;
use wanbond_proto::keys::{KeyError, PresharedKey};
use zeroize::Zeroizing;

/// A sealed value can't be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealError {
    /// Not in the form in which values are sealed.
    #[error("it was not put there by wanbond, or is damaged")]
    Form,
    /// Another key or place than it was sealed for, or changed since.
    #[error("it was sealed with another fleet's key, or changed since")]
    Key,
    /// The system's random numbers failed.
    #[error("the system gave no random numbers")]
    NoRandomness,
}

const FORMAT: &str = "wanbond1.";

/// The key that all servers of a fleet have. Values are sealed with ChaCha20-Poly1305 under a key
/// that follows from it, a random nonce, and the name they are put under: what was sealed for one
/// name opens under no other.
#[derive(Clone)]
pub struct FleetKey {
    text: Zeroizing<String>,
    entries: Zeroizing<[u8; 32]>,
}

impl FleetKey {
    /// A new one.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn draw() -> Result<Self, SealError> {
        let mut bytes = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| SealError::NoRandomness)?;
        Ok(Self::from_bytes(&bytes))
    }

    fn from_bytes(bytes: &[u8; 32]) -> Self {
        let prk = kdf::extract(b"wanbond1 fleet", bytes);
        let entries = Zeroizing::new(kdf::expand_key(&prk, b"entries"));
        let text = Zeroizing::new(PresharedKey::from_bytes(*bytes).to_text());
        Self { text, entries }
    }

    fn cipher(&self) -> Result<LessSafeKey, SealError> {
        // The length is right, so this never fails.
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*self.entries);
        key.map(LessSafeKey::new).map_err(|_| SealError::Key)
    }

    /// As people carry it from one server to the next.
    #[must_use]
    pub fn to_text(&self) -> &str {
        &self.text
    }

    /// A value as etcd gets it.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut sealed = value.to_vec();
        self.cipher()?
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| SealError::Form)?;
        let whole = [&nonce[..], &sealed].concat();
        Ok(format!("{FORMAT}{}", URL_SAFE_NO_PAD.encode(whole)).into_bytes())
    }

    /// What was sealed under this name.
    ///
    /// # Errors
    /// [`SealError`], with what may be the reason.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let text = sealed.strip_prefix(FORMAT.as_bytes()).ok_or(SealError::Form)?;
        let whole = URL_SAFE_NO_PAD.decode(text).map_err(|_| SealError::Form)?;
        let (nonce, sealed) = whole.split_at_checked(NONCE_LEN).ok_or(SealError::Form)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Form)?;
        let mut value = Zeroizing::new(sealed.to_vec());
        let length = self
            .cipher()?
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut value)
            .map_err(|_| SealError::Key)?
            .len();
        value.truncate(length);
        Ok(value)
    }
}

impl std::str::FromStr for FleetKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        // Keys are all of one form; this one is read as a shared key is.
        text.parse::<PresharedKey>().map(|key| Self::from_bytes(key.as_bytes()))
    }
}

impl std::fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FleetKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_under_the_same_name_only() {
        let key = FleetKey::draw().unwrap();
        let sealed = key.seal("routers/home", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(&**key.open("routers/home", &sealed).unwrap(), b"secret");
        let same: FleetKey = key.to_text().parse().unwrap();
        assert_eq!(&**same.open("routers/home", &sealed).unwrap(), b"secret");

        assert_eq!(key.open("routers/other", &sealed), Err(SealError::Key));
        let other = FleetKey::draw().unwrap();
        assert_eq!(other.open("routers/home", &sealed), Err(SealError::Key));
        assert_ne!(key.seal("routers/home", b"secret").unwrap(), sealed);
        let mut changed = sealed;
        let last = changed.len() - 5;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        assert_eq!(key.open("routers/home", &changed), Err(SealError::Key));
    }

    proptest! {
        #[test]
        fn no_value_panics(value: Vec<u8>, formed: bool) {
            let key = FleetKey::from_bytes(&[7; 32]);
            let value = if formed {
                format!("{FORMAT}{}", URL_SAFE_NO_PAD.encode(value)).into_bytes()
            } else {
                value
            };
            prop_assert!(key.open("x", &value).is_err());
        }
    }
}
