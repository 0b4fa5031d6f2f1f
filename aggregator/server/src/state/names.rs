//! Router names: what is allowed as a file's name and in a log line.

use thiserror::Error;

/// The longest name, in bytes.
pub const MAX_NAME: usize = 64;

/// A text is not a router's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "'{0}' is not a router name; use up to {MAX_NAME} letters, digits, '-', '_' and '.', starting with a letter or digit"
)]
pub struct BadName(pub String);

/// Checks a router's name. Starting with a letter or digit keeps it from looking like an option
/// or a hidden file.
///
/// # Errors
/// [`BadName`], with what is allowed.
pub fn check_name(name: &str) -> Result<(), BadName> {
    let good = name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if good { Ok(()) } else { Err(BadName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "home-router_2.lan", "0", &"x".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".a", "-a", "a/b", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
