//! Endpoints as the `mptcp_pm` family writes them (`linux/mptcp_pm.h`).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::genl::{Attribute, each};

pub(super) const FAMILY: &str = "mptcp_pm";
pub(super) const VERSION: u8 = 1;

pub(super) const CMD_ADD_ADDR: u8 = 1;
pub(super) const CMD_DEL_ADDR: u8 = 2;
pub(super) const CMD_GET_ADDR: u8 = 3;
pub(super) const CMD_SET_LIMITS: u8 = 5;
pub(super) const CMD_GET_LIMITS: u8 = 6;
pub(super) const CMD_SET_FLAGS: u8 = 7;

const ATTR_ADDR: u16 = 1;
const ATTR_RCV_ADD_ADDRS: u16 = 2;
const ATTR_SUBFLOWS: u16 = 3;

const ADDR_FAMILY: u16 = 1;
const ADDR_ID: u16 = 2;
const ADDR_ADDR4: u16 = 3;
const ADDR_ADDR6: u16 = 4;
const ADDR_PORT: u16 = 5;
const ADDR_FLAGS: u16 = 6;
const ADDR_IF_IDX: u16 = 7;

const FLAG_SIGNAL: u32 = 1 << 0;
const FLAG_SUBFLOW: u32 = 1 << 1;
const FLAG_BACKUP: u32 = 1 << 2;
const FLAG_FULLMESH: u32 = 1 << 3;
const FLAG_IMPLICIT: u32 = 1 << 4;

/// What an endpoint is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct EndpointFlags {
    /// Client connections open a subflow from it.
    pub subflow: bool,
    /// It is announced to peers, so that they open a subflow to it.
    pub signal: bool,
    /// Peers shall send on its subflows only when there are no others.
    pub backup: bool,
    /// Subflows go to every address of the peer.
    pub fullmesh: bool,
    /// The kernel made it by itself, for a subflow that came from no known endpoint.
    pub implicit: bool,
}

impl EndpointFlags {
    pub(super) fn bits(self) -> u32 {
        [
            (self.signal, FLAG_SIGNAL),
            (self.subflow, FLAG_SUBFLOW),
            (self.backup, FLAG_BACKUP),
            (self.fullmesh, FLAG_FULLMESH),
            (self.implicit, FLAG_IMPLICIT),
        ]
        .into_iter()
        .filter_map(|(set, bit)| set.then_some(bit))
        .sum()
    }

    fn from_bits(bits: u32) -> Self {
        Self {
            signal: bits & FLAG_SIGNAL != 0,
            subflow: bits & FLAG_SUBFLOW != 0,
            backup: bits & FLAG_BACKUP != 0,
            fullmesh: bits & FLAG_FULLMESH != 0,
            implicit: bits & FLAG_IMPLICIT != 0,
        }
    }
}

/// A local address MPTCP may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The kernel's number for it, 1–255. When adding, `None` lets the kernel choose.
    pub id: Option<u8>,
    /// The address.
    pub address: IpAddr,
    /// The link its subflows are bound to, by index.
    pub ifindex: Option<u32>,
    /// The port it is announced with; `None` for that of the connection.
    pub port: Option<u16>,
    /// What it is for.
    pub flags: EndpointFlags,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(id) = self.id {
            write!(f, " id {id}")?;
        }
        for (set, name) in [
            (self.flags.subflow, "subflow"),
            (self.flags.signal, "signal"),
            (self.flags.backup, "backup"),
            (self.flags.fullmesh, "fullmesh"),
            (self.flags.implicit, "implicit"),
        ] {
            if set {
                write!(f, " {name}")?;
            }
        }
        if let Some(index) = self.ifindex {
            write!(f, " dev {index}")?;
        }
        Ok(())
    }
}

impl Endpoint {
    pub(super) fn to_attribute(self) -> Attribute {
        let (family, address) = match self.address {
            IpAddr::V4(v4) => (libc::AF_INET, Attribute::new(ADDR_ADDR4, v4.octets())),
            IpAddr::V6(v6) => (libc::AF_INET6, Attribute::new(ADDR_ADDR6, v6.octets())),
        };
        // The kernel's numbers for families all fit.
        let family = u16::try_from(family).unwrap_or_default();
        let mut inner = vec![Attribute::new(ADDR_FAMILY, family.to_ne_bytes()), address];
        if let Some(id) = self.id {
            inner.push(Attribute::new(ADDR_ID, [id]));
        }
        if let Some(port) = self.port {
            inner.push(Attribute::new(ADDR_PORT, port.to_ne_bytes()));
        }
        inner.push(Attribute::new(ADDR_FLAGS, self.flags.bits().to_ne_bytes()));
        if let Some(index) = self.ifindex {
            inner.push(Attribute::new(ADDR_IF_IDX, index.to_ne_bytes()));
        }
        Attribute::nested(ATTR_ADDR, &inner)
    }

    /// Reads the endpoint in an answer's attributes. `None` if there is none that makes sense.
    pub(super) fn parse(attributes: &[u8]) -> Option<Self> {
        let (_, nested) = each(attributes).find(|(kind, _)| *kind == ATTR_ADDR)?;
        let mut address = None;
        let (mut id, mut ifindex, mut port) = (None, None, None);
        let mut flags = EndpointFlags::default();
        for (kind, value) in each(nested) {
            match kind {
                ADDR_ID => id = value.first().copied().filter(|id| *id != 0),
                ADDR_ADDR4 => {
                    address = Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?)));
                }
                ADDR_ADDR6 => {
                    address = Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)));
                }
                ADDR_PORT => {
                    port = value.try_into().ok().map(u16::from_ne_bytes).filter(|port| *port != 0);
                }
                ADDR_FLAGS => flags = EndpointFlags::from_bits(number(value)?),
                ADDR_IF_IDX => ifindex = number(value).filter(|index| *index != 0),
                _ => {}
            }
        }
        Some(Self { id, address: address?, ifindex, port, flags })
    }
}

/// An attribute that names an endpoint by its id alone.
pub(super) fn by_id(id: u8) -> Attribute {
    Attribute::nested(ATTR_ADDR, &[Attribute::new(ADDR_ID, [id])])
}

pub(super) fn limits(subflows: u32, add_addr_accepted: u32) -> [Attribute; 2] {
    [
        Attribute::new(ATTR_RCV_ADD_ADDRS, add_addr_accepted.to_ne_bytes()),
        Attribute::new(ATTR_SUBFLOWS, subflows.to_ne_bytes()),
    ]
}

/// Subflows and accepted ADD_ADDRs.
pub(super) fn parse_limits(attributes: &[u8]) -> Option<(u32, u32)> {
    let (mut subflows, mut accepted) = (None, None);
    for (kind, value) in each(attributes) {
        match kind {
            ATTR_SUBFLOWS => subflows = number(value),
            ATTR_RCV_ADD_ADDRS => accepted = number(value),
            _ => {}
        }
    }
    Some((subflows?, accepted?))
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::genl::GenlMessage;
    use super::*;

    fn attributes(attributes: &[Attribute]) -> Vec<u8> {
        GenlMessage::new(0, 0, 0, attributes).attributes
    }

    #[test]
    fn endpoints_survive_the_trip() {
        let all = EndpointFlags { subflow: true, signal: true, backup: true, ..Default::default() };
        for endpoint in [
            Endpoint {
                id: Some(200),
                address: "192.0.2.1".parse().unwrap(),
                ifindex: Some(3),
                port: Some(65101),
                flags: all,
            },
            Endpoint {
                id: None,
                address: "2001:db8::1".parse().unwrap(),
                ifindex: None,
                port: None,
                flags: EndpointFlags::default(),
            },
        ] {
            assert_eq!(Endpoint::parse(&attributes(&[endpoint.to_attribute()])), Some(endpoint));
        }
    }

    /// As `ip mptcp endpoint add 192.0.2.1 dev <3> id 7 subflow` sends it.
    #[cfg(target_endian = "little")]
    #[test]
    fn the_bytes_are_the_kernels() {
        let endpoint = Endpoint {
            id: Some(7),
            address: "192.0.2.1".parse().unwrap(),
            ifindex: Some(3),
            port: None,
            flags: EndpointFlags { subflow: true, ..Default::default() },
        };
        assert_eq!(
            attributes(&[endpoint.to_attribute()]),
            [
                44, 0, 1, 0x80, // nested, the address
                6, 0, 1, 0, 2, 0, 0, 0, // AF_INET, padded
                8, 0, 3, 0, 192, 0, 2, 1, // the address
                5, 0, 2, 0, 7, 0, 0, 0, // the id, padded
                8, 0, 6, 0, 2, 0, 0, 0, // flags
                8, 0, 7, 0, 3, 0, 0, 0, // the link
            ]
        );
    }

    #[test]
    fn garbage_is_no_endpoint() {
        assert_eq!(Endpoint::parse(&[]), None);
        assert_eq!(Endpoint::parse(&[3, 0, 1]), None);
        assert_eq!(Endpoint::parse(&[255; 40]), None);
        let short = Attribute::nested(1, &[Attribute::new(3, [1, 2, 3])]);
        assert_eq!(Endpoint::parse(&attributes(&[short])), None);
        let no_address = by_id(4);
        assert_eq!(Endpoint::parse(&attributes(&[no_address])), None);
    }

    #[test]
    fn limits_survive_the_trip() {
        assert_eq!(parse_limits(&attributes(&limits(8, 2))), Some((8, 2)));
        assert_eq!(parse_limits(&[]), None);
    }
}
