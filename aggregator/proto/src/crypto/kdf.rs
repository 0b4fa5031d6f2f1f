//! HKDF with SHA-256 (RFC 5869).

use ring::hkdf;

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Extract: condenses `secret` under a public `salt`.
#[must_use]
pub fn extract(salt: &[u8], secret: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret)
}

/// HKDF-Expand of several parts of context to `N` bytes, `N` ≤ 255 × 32.
#[must_use]
pub fn expand<const N: usize>(prk: &hkdf::Prk, info: &[&[u8]]) -> [u8; N] {
    const { assert!(N <= 255 * 32) };
    let mut out = [0; N];
    // Fails only for more than 255 × 32 bytes, which does not compile above.
    if let Ok(okm) = prk.expand(info, Len(N)) {
        let filled = okm.fill(&mut out);
        debug_assert!(filled.is_ok());
    }
    out
}

/// HKDF-Expand to one 32-byte key.
#[must_use]
pub fn expand_key(prk: &hkdf::Prk, label: &[u8]) -> [u8; 32] {
    expand(prk, &[label])
}

/// A 32-byte key as the pseudo-random key of further expansions.
#[must_use]
pub fn prk(key: &[u8; 32]) -> hkdf::Prk {
    hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, key)
}

#[cfg(test)]
mod tests {
    /// RFC 5869 appendix A.1.
    #[test]
    fn known_answer() {
        let prk = super::extract(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], &[0x0b; 22]);
        let okm: [u8; 42] = super::expand(
            &prk,
            &[&[0xf0, 0xf1, 0xf2, 0xf3, 0xf4], &[0xf5, 0xf6, 0xf7, 0xf8, 0xf9]],
        );
        let hex: String = okm.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }
}
