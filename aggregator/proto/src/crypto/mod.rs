//! Primitives, all from `ring` and `x25519-dalek`: nothing here is our own cryptography.

pub mod aead;
pub mod kdf;
pub(crate) mod noise;
