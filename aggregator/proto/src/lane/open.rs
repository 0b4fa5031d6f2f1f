//! The open record: where a flow goes.
//!
//! ```text
//! ┌───────┬──────────────┬───────────┬────────────────────────────┐
//! │ count │ instead of   │ target    │ options of later versions, │
//! │ 8 bit │ count ×64 bit│           │ skipped                    │
//! └───────┴──────────────┴───────────┴────────────────────────────┘
//! count: 0 to 7 in the low three bits; the fourth says that it is a handover; the others are 0 and not
//!        looked at
//! target: 1, IPv4, port │ 2, IPv6, port │ 3, length, name, port │ 4, service, seconds
//! ```

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use super::service::ServiceKind;
use crate::session::FlowId;

const COUNT: u8 = 7;
const HANDOVER: u8 = 8;

/// Where a flow goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address.
    Address(SocketAddr),
    /// A host name and port, resolved by the server.
    Name(String, u16),
    /// A service of the server itself, for at most so many seconds.
    Service(ServiceKind, u16),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Service(kind, _) => write!(f, "service {kind:?}"),
        }
    }
}

/// An open record is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed open record")]
pub struct OpenError;

/// The content of an open record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// The flows that this one stands in for, whose fate is unknown: at most [`Self::MOST_INSTEAD`].
    pub instead_of: Vec<FlowId>,
    /// Both ends have heard of that flow, which goes on here: [`super::RecordType::Handover`].
    pub handover: bool,
    /// Where it goes.
    pub target: Target,
}

impl Open {
    /// As many flows can be named as what this one stands in for.
    pub const MOST_INSTEAD: usize = COUNT as usize;

    /// Appends the record's payload to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.instead_of.len() <= Self::MOST_INSTEAD);
        let count = self.instead_of.len().min(Self::MOST_INSTEAD);
        out.push(count as u8 | if self.handover { HANDOVER } else { 0 });
        for FlowId(id) in &self.instead_of[..count] {
            out.extend_from_slice(&id.to_be_bytes());
        }
        let port = match &self.target {
            Target::Address(address) => {
                match address.ip().to_canonical() {
                    IpAddr::V4(ip) => {
                        out.push(1);
                        out.extend_from_slice(&ip.octets());
                    }
                    IpAddr::V6(ip) => {
                        out.push(2);
                        out.extend_from_slice(&ip.octets());
                    }
                }
                address.port()
            }
            Target::Name(name, port) => {
                let name = &name.as_bytes()[..name.len().min(255)];
                out.push(3);
                out.push(name.len() as u8);
                out.extend_from_slice(name);
                *port
            }
            Target::Service(kind, seconds) => {
                out.extend_from_slice(&[4, *kind as u8]);
                *seconds
            }
        };
        out.extend_from_slice(&port.to_be_bytes());
    }

    /// Reads a record's payload.
    ///
    /// # Errors
    /// [`OpenError`] if it is cut or names no target.
    pub fn decode(payload: &[u8]) -> Result<Self, OpenError> {
        Self::parse(payload).ok_or(OpenError)
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let (&count, rest) = payload.split_first()?;
        let (ids, rest) = rest.split_at_checked(8 * usize::from(count & COUNT))?;
        let (ids, _) = ids.as_chunks::<8>();
        let instead_of = ids.iter().map(|id| FlowId(u64::from_be_bytes(*id))).collect();
        let (&kind, rest) = rest.split_first()?;
        let port = |rest: &[u8]| rest.first_chunk().map(|b| u16::from_be_bytes(*b));
        let target = match kind {
            1 => {
                let (ip, rest) = rest.split_first_chunk::<4>()?;
                Target::Address(SocketAddr::new(IpAddr::from(*ip), port(rest)?))
            }
            2 => {
                let (ip, rest) = rest.split_first_chunk::<16>()?;
                Target::Address(SocketAddr::new(IpAddr::from(*ip), port(rest)?))
            }
            3 => {
                let (&length, rest) = rest.split_first()?;
                let name = rest.get(..usize::from(length)).filter(|name| !name.is_empty())?;
                let name = std::str::from_utf8(name).ok()?;
                Target::Name(name.to_owned(), port(&rest[usize::from(length)..])?)
            }
            4 => {
                let (&kind, rest) = rest.split_first()?;
                Target::Service(ServiceKind::from_byte(kind)?, port(rest)?)
            }
            _ => return None,
        };
        Some(Self { instead_of, handover: count & HANDOVER != 0, target })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target() -> impl Strategy<Value = Target> {
        prop_oneof![
            (any::<[u8; 4]>(), any::<u16>())
                .prop_map(|(ip, port)| Target::Address(SocketAddr::new(IpAddr::from(ip), port))),
            (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| {
                Target::Address(SocketAddr::new(IpAddr::from(ip).to_canonical(), port))
            }),
            ("[a-z0-9.-]{1,255}", any::<u16>()).prop_map(|(name, port)| Target::Name(name, port)),
            (1..=3u8, any::<u16>()).prop_map(|(kind, seconds)| {
                Target::Service(ServiceKind::from_byte(kind).expect("a kind"), seconds)
            }),
        ]
    }

    proptest! {
        #[test]
        fn round_trip(
            target in target(),
            old in prop::collection::vec(any::<u64>(), 0..=Open::MOST_INSTEAD),
            handover in any::<bool>(),
            later in any::<[u8; 3]>(),
        ) {
            let instead_of = old.into_iter().map(FlowId).collect();
            let open = Open { instead_of, handover, target };
            let mut bytes = Vec::new();
            open.encode(&mut bytes);
            prop_assert_eq!(Open::decode(&bytes), Ok(open.clone()));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Open::decode(&bytes[..cut]), Err(OpenError));
            }
            bytes.extend_from_slice(&later);
            prop_assert_eq!(Open::decode(&bytes), Ok(open));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Open::decode(&bytes);
        }
    }
}
