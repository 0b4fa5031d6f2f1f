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
//!
//! The first byte is 0x10 for messages of the session itself (pings), 0x11 for the bodies of the
//! [tunnel](crate::tunnel). Each kind has keys and counters of its own; the tunnel counts its
//! datagrams itself, on over sessions.

use thiserror::Error;

use crate::crypto::aead::{AeadKey, Suite, TAG_LEN};
use crate::crypto::kdf;
use crate::forward::Forwards;
use crate::replay::{ReplayWindow, Verdict};
use crate::session::Role;

/// The first byte of a datagram.
pub const DATAGRAM: u8 = 0x10;
/// The first byte of a tunnel's datagram.
pub const TUNNEL: u8 = 0x11;
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
    (matches!(*datagram.first()?, DATAGRAM | TUNNEL) && datagram.len() >= OVERHEAD)
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
        let (path, number, plain) = open_kind(&self.open, DATAGRAM, datagram)?;
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

/// Whether a datagram is the tunnel's.
#[must_use]
pub fn is_tunnel(datagram: &[u8]) -> bool {
    datagram.first() == Some(&TUNNEL)
}

/// Seals the tunnel's datagrams of one session.
pub struct TunnelSealer {
    key: AeadKey,
    remote_index: u32,
    next: [u64; MAX_PATHS],
}

impl TunnelSealer {
    /// Seals the body that stands in `datagram` behind [`HEADER_LEN`] bytes of room: writes header
    /// and tag. `false`, and nothing sealed, for a number that is not above the path's last: a
    /// nonce must never be used twice.
    #[must_use]
    pub fn seal(
        &mut self,
        path: PathId,
        number: u64,
        datagram: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) -> bool {
        let next = &mut self.next[usize::from(path.0)];
        if number < *next || number >> COUNTER_BITS != 0 {
            return false;
        }
        *next = number + 1;
        let (header, body) = datagram.split_at_mut(HEADER_LEN);
        header[0] = TUNNEL;
        header[1] = path.0;
        header[2..8].copy_from_slice(&number.to_be_bytes()[2..]);
        header[8..].copy_from_slice(&self.remote_index.to_be_bytes());
        *tag = self.key.seal(nonce(path, number), header, body);
        true
    }
}

/// Opens the tunnel's datagrams of one session. Has no state, so that several threads can; what it
/// opens must then be [accepted](TunnelWindows::accept).
pub struct TunnelOpener {
    key: AeadKey,
}

impl TunnelOpener {
    /// Opens a datagram in place: its path, its number and its body.
    ///
    /// # Errors
    /// [`DatagramError`]: the datagram is to be dropped.
    pub fn open<'a>(
        &self,
        datagram: &'a mut [u8],
    ) -> Result<(PathId, u64, &'a mut [u8]), DatagramError> {
        open_kind(&self.key, TUNNEL, datagram)
    }
}

/// Opens a datagram that begins with `kind`, in place: its path, its number and its body.
fn open_kind<'a>(
    key: &AeadKey,
    kind: u8,
    datagram: &'a mut [u8],
) -> Result<(PathId, u64, &'a mut [u8]), DatagramError> {
    if datagram.len() < OVERHEAD || datagram[0] != kind {
        return Err(DatagramError::Malformed);
    }
    let path = PathId::new(datagram[1]).ok_or(DatagramError::Malformed)?;
    let mut number = [0; 8];
    number[2..].copy_from_slice(&datagram[2..8]);
    let number = u64::from_be_bytes(number);
    let (header, body) = datagram.split_at_mut(HEADER_LEN);
    let plain =
        key.open(nonce(path, number), header, body).map_err(|_| DatagramError::Unauthentic)?;
    Ok((path, number, plain))
}

/// Which of the tunnel's datagrams of one session have come.
#[derive(Default)]
pub struct TunnelWindows {
    windows: [Option<ReplayWindow>; MAX_PATHS],
    newest: [Option<u64>; MAX_PATHS],
}

impl TunnelWindows {
    /// Notes a datagram that was opened. `None` if it came before, or too late to tell; else
    /// whether it is the path's newest, so that its source is where the path leads now.
    pub fn accept(&mut self, path: PathId, number: u64) -> Option<bool> {
        let place = usize::from(path.0);
        let window = self.windows[place].get_or_insert_default();
        if window.accept(number) != Verdict::Fresh {
            return None;
        }
        let newest = self.newest[place].is_none_or(|newest| number > newest);
        if newest {
            self.newest[place] = Some(number);
        }
        Some(newest)
    }
}

/// The tunnel's two directions in one session, from one end's point of view.
pub(crate) fn tunnel_keys(
    role: Role,
    suite: Suite,
    remote_index: u32,
    secret: &[u8; 32],
) -> (TunnelSealer, TunnelOpener) {
    let prk = kdf::prk(secret);
    let up = AeadKey::derive(suite, &prk, &[b"up"]);
    let down = AeadKey::derive(suite, &prk, &[b"down"]);
    let (seal, open) = match role {
        Role::Router => (up, down),
        Role::Server => (down, up),
    };
    (TunnelSealer { key: seal, remote_index, next: [0; MAX_PATHS] }, TunnelOpener { key: open })
}

/// What a datagram carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// "Are you there?", with a number that the answer repeats, and the version of the port
    /// forwards that the router has.
    Ping(u32, u32),
    /// The answer, with the number and the address that the ping came from.
    Pong(u32, Option<std::net::SocketAddr>),
    /// The router's port forwards, where it has others. Nobody acknowledges it: the next ping asks
    /// again.
    Forwards(Forwards),
    /// How busy the server's processor is, percent. It says so beside its answers to pings while that
    /// is [much](Message::BUSY).
    Load(u8),
}

impl Message {
    /// A server whose processor is busier than this, in percent, says so.
    pub const BUSY: u8 = 75;

    const PING: u8 = 1;
    const PONG: u8 = 2;
    const FORWARDS: u8 = 3;
    const LOAD: u8 = 4;

    /// Appends the message's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ping(number, forwards) => {
                out.push(Self::PING);
                out.extend_from_slice(&number.to_be_bytes());
                out.extend_from_slice(&forwards.to_be_bytes());
                // As long as the answer, so that the server never sends more than it was sent.
                out.extend_from_slice(&[0; 14]);
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
            Self::Forwards(forwards) => {
                out.push(Self::FORWARDS);
                forwards.encode(out);
            }
            Self::Load(percent) => out.extend_from_slice(&[Self::LOAD, *percent]),
        }
    }

    /// Reads a message; `None` for one of a kind that this version does not know.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        if kind == Self::FORWARDS {
            return Forwards::decode(rest).ok().map(Self::Forwards);
        }
        if kind == Self::LOAD {
            return rest.first().map(|percent| Self::Load((*percent).min(100)));
        }
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let number = u32::from_be_bytes(*number);
        match kind {
            Self::PING => {
                let (forwards, _) = rest.split_first_chunk::<4>()?;
                Some(Self::Ping(number, u32::from_be_bytes(*forwards)))
            }
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
