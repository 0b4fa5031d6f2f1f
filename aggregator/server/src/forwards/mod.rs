//! Port forwards: as people write them, and what they must not collide with.

mod listeners;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use thiserror::Error;
use wanbond_proto::forward::{Forward, ForwardError, Protocol};

use crate::directory::RouterEntry;

pub use listeners::listening;

/// Why a text is no forward.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Not `PORT` or `PORT-PORT`.
    #[error("'{0}' is no port; write a number from 1 to 65535, or a range such as 5000-5010")]
    Ports(String),
    /// Not `HOST` or `HOST:PORT`.
    #[error(
        "'{0}' is no host; write the IP address it has in the router's LAN, with or without a port: 192.168.1.10:80, [fd00::10]:80"
    )]
    Target(String),
    /// The parts don't go together.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// Public ports, from first to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last; the same for a single port.
    pub last: u16,
}

impl std::str::FromStr for Ports {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let port = |text: &str| -> Option<u16> {
            // The number's own parser would take a plus sign.
            let plain = text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|&port| plain && port != 0)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (port(first.trim()), port(last.trim())) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(ParseError::Ports(text.to_owned())),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last == self.first { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

/// A host in a LAN, perhaps with a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub host: IpAddr,
    /// Its port; none means the public one.
    pub port: Option<u16>,
}

impl std::str::FromStr for Target {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let plain = text.trim();
        let bare = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let target = if let Ok(address) = plain.parse::<std::net::SocketAddr>() {
            Some((address.ip(), Some(address.port())))
        } else if let Some(v6) = bare {
            v6.parse::<Ipv6Addr>().ok().map(|v6| (IpAddr::V6(v6), None))
        } else {
            plain.parse().ok().map(|host| (host, None))
        };
        match target {
            Some((host, port)) if port != Some(0) => Ok(Self { host, port }),
            _ => Err(ParseError::Target(text.to_owned())),
        }
    }
}

/// A forward from its parts.
///
/// # Errors
/// If they don't go together.
pub fn forward(protocol: Protocol, ports: Ports, to: Target) -> Result<Forward, ParseError> {
    let port = to.port.unwrap_or(ports.first);
    Ok(Forward::new(protocol, ports.first, ports.last, to.host, port)?)
}

/// Where a forward leads, as [`Target`] reads it.
#[must_use]
pub fn target_text(forward: &Forward) -> String {
    let (first, _) = forward.ports();
    match forward.host() {
        host if forward.host_port() == first => host.to_string(),
        host => std::net::SocketAddr::new(host, forward.host_port()).to_string(),
    }
}

/// Why a port can't be forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Conflict {
    /// Another forward has it.
    #[error("{protocol} port {port} is forwarded already, to router '{router}' ({other})", protocol = protocol.name())]
    Taken {
        /// The protocol.
        protocol: Protocol,
        /// The first port that both want.
        port: u16,
        /// Whose the other one is.
        router: String,
        /// The other one.
        other: Forward,
    },
    /// The server's own.
    #[error("{protocol} port {port} is this server's own, routers reach it there", protocol = protocol.name())]
    Own {
        /// The protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
    },
    /// Somebody listens there, such as the SSH server.
    #[error(
        "a program on this server listens on {protocol} port {port}{hint}; a forward would take it away, choose another public port",
        protocol = protocol.name(),
        hint = if *port == 22 { " (SSH)" } else { "" }
    )]
    Listening {
        /// The protocol.
        protocol: Protocol,
        /// The port.
        port: u16,
    },
}

fn first_shared(forward: &Forward, first: u16) -> u16 {
    forward.ports().0.max(first)
}

/// Whether a forward may stand beside those of all routers and this server's own ports.
///
/// # Errors
/// What is in its way.
pub fn check<'a>(
    forward: &Forward,
    others: impl IntoIterator<Item = (&'a str, &'a Forward)>,
    own_ports: &[u16],
) -> Result<(), Conflict> {
    let protocol = forward.protocol();
    let (first, last) = forward.ports();
    if let Some(&port) = own_ports.iter().find(|port| (first..=last).contains(port)) {
        return Err(Conflict::Own { protocol, port });
    }
    match others.into_iter().find(|(_, other)| forward.collides(other)) {
        Some((router, &other)) => Err(Conflict::Taken {
            protocol,
            port: first_shared(forward, other.ports().0),
            router: router.to_owned(),
            other,
        }),
        None => Ok(()),
    }
}

/// A forward with the router it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The router's name.
    pub router: String,
    /// The router's number ([`crate::inner`]).
    pub number: u32,
    /// The forward.
    pub forward: Forward,
}

/// The forwards in force: those of enabled routers, in the order of their names, without the ones
/// that collide with an earlier one or with this server's ports. What edits by hand brought about
/// is told of in the second list.
#[must_use]
pub fn in_force(
    routers: &[Arc<RouterEntry>],
    own_ports: &[u16],
) -> (Vec<Routed>, Vec<(String, Conflict)>) {
    let mut sorted: Vec<&Arc<RouterEntry>> = routers.iter().filter(|r| r.enabled).collect();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut kept: Vec<Routed> = Vec::new();
    let mut conflicts = Vec::new();
    for entry in sorted {
        for forward in &entry.forwards {
            let others = kept.iter().map(|routed| (routed.router.as_str(), &routed.forward));
            match check(forward, others, own_ports) {
                Ok(()) => kept.push(Routed {
                    router: entry.name.clone(),
                    number: entry.inner,
                    forward: *forward,
                }),
                Err(conflict) => conflicts.push((entry.name.clone(), conflict)),
            }
        }
    }
    (kept, conflicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(text: (&str, &str)) -> Result<Forward, ParseError> {
        forward(Protocol::Tcp, text.0.parse()?, text.1.parse()?)
    }

    #[test]
    fn as_people_write_them() {
        for (ports, to, shown) in [
            ("80", "192.168.1.10", "tcp 80 to 192.168.1.10"),
            ("8080", "192.168.1.10:80", "tcp 8080 to 192.168.1.10:80"),
            ("5000-5010", "192.168.1.10:5000", "tcp 5000-5010 to 192.168.1.10"),
            ("80", "fd00::10", "tcp 80 to fd00::10"),
            ("80", "[fd00::10]", "tcp 80 to fd00::10"),
            ("80", "[fd00::10]:81", "tcp 80 to [fd00::10]:81"),
        ] {
            let made = make((ports, to)).unwrap();
            assert_eq!(made.to_string(), shown);
            assert_eq!(make((ports, &target_text(&made))), Ok(made));
        }
        for (ports, to, part) in [
            ("0", "10.0.0.1", "is no port"),
            ("80-70", "10.0.0.1", "is no port"),
            ("+80", "10.0.0.1", "is no port"),
            ("70000", "10.0.0.1", "is no port"),
            ("-", "10.0.0.1", "is no port"),
            ("80", "nas", "is no host"),
            ("80", "10.0.0.1:0", "is no host"),
            ("80", "127.0.0.1", "not the address of a host"),
            ("80-90", "10.0.0.1:100", "keeps its numbers"),
        ] {
            let error = make((ports, to)).unwrap_err().to_string();
            assert!(error.contains(part), "{ports} {to}: {error}");
        }
    }

    #[test]
    fn conflicts_are_told() {
        let web = make(("80", "192.168.1.10")).unwrap();
        let range = make(("70-90", "192.168.1.11")).unwrap();
        let six = make(("80", "fd00::1")).unwrap();
        let told = |forward: &Forward| check(forward, [("home", &web)], &[65101]).err();
        assert_eq!(told(&six), None);
        let text = told(&range).unwrap().to_string();
        assert_eq!(
            text,
            "tcp port 80 is forwarded already, to router 'home' (tcp 80 to 192.168.1.10)"
        );
        let own = make(("65000-65200", "192.168.1.11")).unwrap();
        assert!(told(&own).unwrap().to_string().contains("tcp port 65101 is this server's own"));
        let ssh = Conflict::Listening { protocol: Protocol::Tcp, port: 22 };
        assert!(ssh.to_string().contains("listens on tcp port 22 (SSH)"));
    }
}
