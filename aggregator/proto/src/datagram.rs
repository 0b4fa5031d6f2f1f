//! The session's datagrams: what rides UDP, on any path.
//!
//! ```text
//! 0      1      2            8            12
//! ┌──────┬──────┬────────────┬────────────┬──────────────┬─────────┐
//! │ 0x10 │ path │ counter    │ session    │ sealed       │ tag     │
//! │      │      │ 48 bit     │ index      │ messages     │ 16      │
//! └──────┴──────┴────────────┴────────────┴──────────────┴─────────┘
//! ```
//!
//! The nonce is path ‖ counter, so paths never wait for each other's numbers and each has a replay
//! window of its own. The header is authenticated.

use thiserror::Error;

use crate::crypto::aead::{AeadKey, Suite, TAG_LEN};
use crate::crypto::kdf;
use crate::replay::{ReplayWindow, Verdict};
use crate::session::Role;

/// The first byte of a datagram.
pub const DATAGRAM: u8 = 0x10;
/// Bytes before the sealed part.
pub const HEADER_LEN: usize = 12;
/// Bytes a datagram has beside what it carries.
pub const OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Paths a session can have at once.
pub const MAX_PATHS: usize = 16;

const COUNTER_BITS: u32 = 48;

/// Names a path (a WAN of the router) within a session; chosen by the router, below [`MAX_PATHS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(u8);

impl PathId {
    /// The path with this number, if it is below [`MAX_PATHS`].
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if (number as usize) < MAX_PATHS { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// Not a datagram of this protocol.
    #[error("malformed datagram")]
    Malformed,
    /// Forged or damaged.
    #[error("datagram failed authentication")]
    Unauthentic,
    /// Came before, or too late to tell.
    #[error("datagram repeated")]
    Replayed,
}

/// The session index that a datagram is for.
#[must_use]
pub fn index_of(datagram: &[u8]) -> Option<u32> {
    (*datagram.first()? == DATAGRAM && datagram.len() >= OVERHEAD)
        .then(|| datagram[8..].first_chunk().map(|b| u32::from_be_bytes(*b)))?
}

/// One end's keys, counters and replay windows for a session's datagrams.
pub struct DatagramKeys {
    seal: AeadKey,
    open: AeadKey,
    remote_index: u32,
    counters: [u64; MAX_PATHS],
    windows: [Option<ReplayWindow>; MAX_PATHS],
}

impl DatagramKeys {
    pub(crate) fn derive(role: Role, suite: Suite, remote_index: u32, secret: &[u8; 32]) -> Self {
        let prk = kdf::prk(secret);
        let up = AeadKey::derive(suite, &prk, &[b"up"]);
        let down = AeadKey::derive(suite, &prk, &[b"down"]);
        let (seal, open) = match role {
            Role::Router => (up, down),
            Role::Server => (down, up),
        };
        Self {
            seal,
            open,
            remote_index,
            counters: [0; MAX_PATHS],
            windows: [const { None }; MAX_PATHS],
        }
    }

    /// Turns `message` into a datagram for `path`, in `out` (cleared before).
    pub fn seal(&mut self, path: PathId, message: &[u8], out: &mut Vec<u8>) {
        let counter = &mut self.counters[usize::from(path.0)];
        let number = *counter;
        *counter += 1;
        out.clear();
        out.push(DATAGRAM);
        out.push(path.0);
        out.extend_from_slice(&number.to_be_bytes()[2..]);
        out.extend_from_slice(&self.remote_index.to_be_bytes());
        out.extend_from_slice(message);
        let (header, body) = out.split_at_mut(HEADER_LEN);
        let tag = self.seal.seal(nonce(path, number), header, body);
        out.extend_from_slice(&tag);
    }

    /// Opens a datagram in place: its path and what it carries.
    ///
    /// # Errors
    /// [`DatagramError`]: the datagram is to be dropped, nothing has changed.
    pub fn open<'a>(
        &mut self,
        datagram: &'a mut [u8],
    ) -> Result<(PathId, &'a mut [u8]), DatagramError> {
        if datagram.len() < OVERHEAD || datagram[0] != DATAGRAM {
            return Err(DatagramError::Malformed);
        }
        let path = PathId::new(datagram[1]).ok_or(DatagramError::Malformed)?;
        let mut number = [0; 8];
        number[2..].copy_from_slice(&datagram[2..8]);
        let number = u64::from_be_bytes(number);
        let (header, body) = datagram.split_at_mut(HEADER_LEN);
        let plain = self
            .open
            .open(nonce(path, number), header, body)
            .map_err(|_| DatagramError::Unauthentic)?;
        let window = self.windows[usize::from(path.0)].get_or_insert_default();
        match window.accept(number) {
            Verdict::Fresh => Ok((path, plain)),
            Verdict::Seen | Verdict::TooOld => Err(DatagramError::Replayed),
        }
    }
}

fn nonce(path: PathId, number: u64) -> u64 {
    u64::from(path.0) << COUNTER_BITS | number
}

/// What a datagram carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// "Are you there?", with a number that the answer repeats.
    Ping(u32),
    /// The answer, with the number and the address that the ping came from.
    Pong(u32, Option<std::net::SocketAddr>),
}

impl Message {
    const PING: u8 = 1;
    const PONG: u8 = 2;

    /// Appends the message's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ping(number) => {
                out.push(Self::PING);
                out.extend_from_slice(&number.to_be_bytes());
                // As long as the answer, so that the server never sends more than it was sent.
                out.extend_from_slice(&[0; 18]);
            }
            Self::Pong(number, observed) => {
                out.push(Self::PONG);
                out.extend_from_slice(&number.to_be_bytes());
                let (ip, port) = match observed {
                    Some(address) => {
                        let ip = match address.ip() {
                            std::net::IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                            std::net::IpAddr::V6(v6) => v6,
                        };
                        (ip, address.port())
                    }
                    None => (std::net::Ipv6Addr::UNSPECIFIED, 0),
                };
                out.extend_from_slice(&ip.octets());
                out.extend_from_slice(&port.to_be_bytes());
            }
        }
    }

    /// Reads a message; `None` for one of a kind that this version does not know.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let number = u32::from_be_bytes(*number);
        match kind {
            Self::PING => Some(Self::Ping(number)),
            Self::PONG => {
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                let (port, _) = rest.split_first_chunk::<2>()?;
                let ip = std::net::Ipv6Addr::from(*ip).to_canonical();
                let observed = (!ip.is_unspecified())
                    .then(|| std::net::SocketAddr::new(ip, u16::from_be_bytes(*port)));
                Some(Self::Pong(number, observed))
            }
            _ => None,
        }
    }
}
