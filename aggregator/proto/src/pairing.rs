//! The pairing code: the one line a person copies from the VPS to the router.
//!
//! `wanbond1:` and base64url of: the server's public key (32 bytes), the router's seed (32
//! bytes), the number of endpoints (1 byte) and for each its port (2 bytes, big endian), the
//! length of its host (1 byte) and the host as text; last a checksum (4 bytes, the start of
//! SHA-256 of all before), so that a mistyped or cut code is told apart from a wrong one.
//!
//! Both the router's static key and the pre-shared key are derived from the seed, so the server
//! keeps only what it needs to admit the router and cannot show the code again.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::kdf;
use crate::keys::{KEY_LEN, PresharedKey, PublicKey, SecretKey};

/// The UDP and TCP port a server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 65101;

const PREFIX: &str = "wanbond1:";
const CHECKSUM_LEN: usize = 4;
const MAX_ENDPOINTS: usize = 16;

/// Why a text is not a pairing code, in words for the person who pasted it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PairingError {
    /// Something else was pasted.
    #[error(
        "a pairing code starts with \"{PREFIX}\"; copy the whole line that `wanbond-server router add` printed"
    )]
    NotACode,
    /// A code of a newer format.
    #[error("this pairing code has format {0}, this version reads format 1; update this router")]
    OtherFormat(String),
    /// A character that a code can't contain.
    #[error("the pairing code has a character that doesn't belong there; copy it again")]
    NotBase64,
    /// Too short, too long, or its checksum does not fit.
    #[error("the pairing code is cut or mistyped (its checksum does not fit); copy it again")]
    Damaged,
    /// Whole, but names no server address.
    #[error(
        "the pairing code names no server address; run `wanbond-server init --endpoint HOST` and add the router again"
    )]
    NoEndpoint,
}

/// Where a server is reached: a host name or address, and the port (UDP and TCP alike).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A DNS name, an IPv4 or an IPv6 address (without brackets).
    pub host: String,
    /// The port, UDP and TCP.
    pub port: u16,
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "'{0}' is not an endpoint; use HOST, HOST:PORT, an IPv4 address or an IPv6 address in brackets"
)]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = || EndpointError(text.to_owned());
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Ok(Self { host: text.to_owned(), port: DEFAULT_PORT });
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (inside, after) = rest.split_once(']').ok_or_else(error)?;
            inside.parse::<std::net::Ipv6Addr>().map_err(|_| error())?;
            match after.strip_prefix(':') {
                Some(port) => (inside, Some(port)),
                None if after.is_empty() => (inside, None),
                None => return Err(error()),
            }
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let port = match port {
            None => DEFAULT_PORT,
            // Digits only: `parse` alone would take a sign too.
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().ok().filter(|&p: &u16| p != 0).ok_or_else(error)?
            }
            Some(_) => return Err(error()),
        };
        if !is_host(host) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

fn is_host(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    // RFC 1123 §2.1 names; all-numeric ones would be mistyped addresses.
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().any(|b| b.is_ascii_alphabetic())
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The secret from which one router's keys are derived. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RouterSeed([u8; KEY_LEN]);

impl RouterSeed {
    /// Takes 32 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The router's static key.
    #[must_use]
    pub fn static_secret(&self) -> SecretKey {
        SecretKey::from_bytes(kdf::expand_key(&kdf::extract(b"wanbond1 seed", &self.0), b"static"))
    }

    /// The key shared by this router and the server.
    #[must_use]
    pub fn preshared_key(&self) -> PresharedKey {
        PresharedKey::from_bytes(kdf::expand_key(&kdf::extract(b"wanbond1 seed", &self.0), b"psk"))
    }
}

/// All a router must know of its server, and the secret that admits it.
#[derive(Clone)]
pub struct PairingCode {
    /// The server's static public key: what the router trusts.
    pub server: PublicKey,
    /// Where the server is reached, best first; at least one.
    pub endpoints: Vec<Endpoint>,
    /// The router's secret.
    pub seed: RouterSeed,
}

impl PartialEq for PairingCode {
    fn eq(&self, other: &Self) -> bool {
        self.server == other.server
            && self.endpoints == other.endpoints
            && PresharedKey::from_bytes(self.seed.0) == PresharedKey::from_bytes(other.seed.0)
    }
}

impl Eq for PairingCode {}

impl fmt::Debug for PairingCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairingCode")
            .field("server", &self.server)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for PairingCode {
    /// The code itself: **this is a secret**.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(self.server.as_bytes());
        bytes.extend_from_slice(&self.seed.0);
        let endpoints = &self.endpoints[..self.endpoints.len().min(MAX_ENDPOINTS)];
        bytes.push(endpoints.len() as u8);
        for endpoint in endpoints {
            bytes.extend_from_slice(&endpoint.port.to_be_bytes());
            // Endpoint::from_str bounds a host at 253 bytes.
            bytes.push(endpoint.host.len().min(255) as u8);
            bytes.extend_from_slice(&endpoint.host.as_bytes()[..endpoint.host.len().min(255)]);
        }
        let checksum = digest::digest(&digest::SHA256, &bytes);
        bytes.extend_from_slice(&checksum.as_ref()[..CHECKSUM_LEN]);
        let text = URL_SAFE_NO_PAD.encode(&bytes);
        bytes.zeroize();
        write!(f, "{PREFIX}{text}")
    }
}

impl FromStr for PairingCode {
    type Err = PairingError;

    fn from_str(text: &str) -> Result<Self, PairingError> {
        // Terminals and mails wrap lines; white space can't be part of a code.
        let text: String = text.split_whitespace().collect();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let format = text.strip_prefix("wanbond").and_then(|rest| rest.split_once(':'));
            return Err(match format {
                Some((digits, _))
                    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) =>
                {
                    PairingError::OtherFormat(digits.to_owned())
                }
                _ => PairingError::NotACode,
            });
        };
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|error| match error {
            base64::DecodeError::InvalidByte(..) => PairingError::NotBase64,
            _ => PairingError::Damaged,
        })?;
        let body_len = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(PairingError::Damaged)?;
        let (body, checksum) = bytes.split_at(body_len);
        if &digest::digest(&digest::SHA256, body).as_ref()[..CHECKSUM_LEN] != checksum {
            return Err(PairingError::Damaged);
        }
        parse_body(body).ok_or(PairingError::Damaged)?
    }
}

fn parse_body(body: &[u8]) -> Option<Result<PairingCode, PairingError>> {
    let (server, rest) = body.split_first_chunk::<KEY_LEN>()?;
    let (seed, rest) = rest.split_first_chunk::<KEY_LEN>()?;
    let (&count, mut rest) = rest.split_first()?;
    let mut endpoints = Vec::with_capacity(usize::from(count).min(MAX_ENDPOINTS));
    for _ in 0..count {
        let (port, after) = rest.split_first_chunk::<2>()?;
        let (&length, after) = after.split_first()?;
        let host = after.get(..usize::from(length))?;
        rest = &after[usize::from(length)..];
        let host = std::str::from_utf8(host).ok()?;
        let port = u16::from_be_bytes(*port);
        if !is_host(host) || port == 0 {
            return None;
        }
        endpoints.push(Endpoint { host: host.to_owned(), port });
    }
    // Bytes left over belong to fields that later versions may append.
    if endpoints.is_empty() {
        return Some(Err(PairingError::NoEndpoint));
    }
    Some(Ok(PairingCode {
        server: PublicKey::from_bytes(*server),
        endpoints,
        seed: RouterSeed::from_bytes(*seed),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> PairingCode {
        PairingCode {
            server: SecretKey::from_bytes([7; 32]).public(),
            endpoints: vec![
                "vps.example.net".parse().unwrap(),
                "[2001:db8::1]:443".parse().unwrap(),
            ],
            seed: RouterSeed::from_bytes([9; 32]),
        }
    }

    #[test]
    fn round_trip_and_wrapped_lines() {
        let text = code().to_string();
        assert_eq!(text.parse::<PairingCode>().unwrap(), code());
        let (a, b) = text.split_at(50);
        assert_eq!(format!(" {a}\r\n  {b}\n").parse::<PairingCode>().unwrap(), code());
    }

    #[test]
    fn every_single_character_change_is_noticed() {
        let text = code().to_string();
        for i in PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(changed.parse::<PairingCode>().is_err(), "{i}");
            assert!(text[..i].parse::<PairingCode>().is_err(), "cut at {i}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        assert_eq!("hello".parse::<PairingCode>(), Err(PairingError::NotACode));
        assert_eq!(
            "wanbond2:AAAA".parse::<PairingCode>(),
            Err(PairingError::OtherFormat("2".into()))
        );
        assert_eq!("wanbond1:ä".parse::<PairingCode>(), Err(PairingError::NotBase64));
        let none = PairingCode { endpoints: vec![], ..code() };
        assert_eq!(none.to_string().parse::<PairingCode>(), Err(PairingError::NoEndpoint));
    }

    #[test]
    fn endpoints() {
        let ok = |t: &str| t.parse::<Endpoint>().unwrap().to_string();
        assert_eq!(ok("vps.example"), "vps.example:65101");
        assert_eq!(ok("198.51.100.1:99"), "198.51.100.1:99");
        assert_eq!(ok("2001:db8::1"), "[2001:db8::1]:65101");
        assert_eq!(ok("[2001:db8::1]"), "[2001:db8::1]:65101");
        for bad in [
            "",
            ":1",
            "a b",
            "host:",
            "host:0",
            "host:65536",
            "[::1",
            "[x]:1",
            "1.2.3",
            "-a.b",
            "a..b",
            "[::1]x",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
