//! What the kernel knows about links: a snapshot, and a hint when it is out of date.
//!
//! [`Netlink::snapshot`](crate::netlink::Netlink::snapshot) asks for everything anew each time. A
//! router has a dozen links and changes are rare, so there is no state to keep in step, and
//! nothing to go wrong when a notification is lost.

mod configure;
mod local;
mod parse;
mod snapshot;

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::route::RouteFlags;
use netlink_packet_route::rule::RuleAttribute;

pub use crate::netlink::{ChangeStream, Netlink, NetlinkError};
pub use local::LocalAddresses;

use crate::netlink::{Message, Object, Verb};
use crate::owned::Owner;
use crate::prefix::{Family, IpPrefix};

/// The links of a network namespace, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetState {
    /// The links.
    pub devices: BTreeMap<String, Device>,
}

impl NetState {
    /// The link with this index.
    #[must_use]
    pub fn by_index(&self, index: u32) -> Option<&Device> {
        self.devices.values().find(|device| device.index == index)
    }

    /// The link that has this address.
    #[must_use]
    pub fn by_address(&self, ip: IpAddr) -> Option<&Device> {
        self.devices.values().find(|device| device.addresses.iter().any(|addr| addr.ip == ip))
    }
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The kernel's number for it.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether packets can go: it is administratively up, and has a carrier. A tunnel or PPP
    /// link, whose operational state is unknown, counts as up.
    pub up: bool,
    /// Whether this is the loopback link.
    pub loopback: bool,
    /// Largest packet, bytes. 0 if the kernel didn't say.
    pub mtu: u32,
    /// Usable addresses of global scope: not tentative, not deprecated, not failed. Stable ones
    /// before temporary ones, IPv4 before IPv6, else as the kernel lists them.
    pub addresses: Vec<Addr>,
    /// Default routes through this link that are not ours, best (lowest metric) first.
    pub gateways: Vec<Gateway>,
}

impl Device {
    /// Networks that are directly on this link, from its addresses.
    pub fn subnets(&self) -> impl Iterator<Item = IpPrefix> {
        self.addresses.iter().filter_map(Addr::subnet)
    }

    /// The best usable address of a family.
    #[must_use]
    pub fn address(&self, family: Family) -> Option<&Addr> {
        self.addresses.iter().find(|addr| Family::of(&addr.ip) == family)
    }

    /// The best usable address out of a network.
    #[must_use]
    pub fn address_in(&self, prefix: IpPrefix) -> Option<&Addr> {
        self.addresses.iter().find(|addr| prefix.contains(addr.ip))
    }

    /// The best default route of a family for which there is a usable address, and that address.
    #[must_use]
    pub fn way_out(&self, family: Family) -> Option<(&Gateway, &Addr)> {
        self.gateways.iter().filter(|gateway| gateway.family == family).find_map(|gateway| {
            let preferred = |addr: &&Addr| Some(addr.ip) == gateway.source;
            let address = match gateway.only_from {
                Some(prefix) => self.address_in(prefix),
                None => self.addresses.iter().find(preferred).or_else(|| self.address(family)),
            };
            Some((gateway, address?))
        })
    }
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addr {
    /// The address.
    pub ip: IpAddr,
    /// How much of it names the network.
    pub prefix_len: u8,
    /// The other end of a point-to-point link.
    pub peer: Option<IpAddr>,
    /// A privacy address (RFC 8981), soon replaced by another.
    pub temporary: bool,
}

impl Addr {
    /// The network on the link. `None` only for a prefix length that makes no sense.
    #[must_use]
    pub fn subnet(&self) -> Option<IpPrefix> {
        IpPrefix::new(self.peer.unwrap_or(self.ip), self.prefix_len)
    }
}

/// A default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// The family it serves.
    pub family: Family,
    /// The next hop; `None` on links that need none. May be of the other family (RFC 5549).
    pub via: Option<IpAddr>,
    /// Its metric: of several, the lowest wins.
    pub metric: u32,
    /// The source address it prefers.
    pub source: Option<IpAddr>,
    /// The only source addresses that it is for: OpenWrt routes each provider's IPv6 prefix so.
    pub only_from: Option<IpPrefix>,
    /// The routing table it is in; 254 is the main one.
    pub table: u32,
}

/// Whether a netlink notification tells of something that a snapshot would show. What we add
/// ourselves doesn't count, or each reconciliation would call for the next one. What is removed
/// does, as others may remove what is ours.
pub(crate) fn concerns_us(message: &Message) -> bool {
    let ours = |protocol: u8| {
        [Owner::Router, Owner::Server].into_iter().any(|owner| {
            [owner.route_protocol(), owner.tunnel_protocol(), owner.bypass_protocol()]
                .contains(&protocol)
        })
    };
    match (message.verb, &message.object) {
        (Verb::New, Object::Route(route)) => {
            !ours(u8::from(route.header.protocol))
                && !route.header.flags.contains(RouteFlags::Cloned)
        }
        (Verb::Del, Object::Route(route)) => !route.header.flags.contains(RouteFlags::Cloned),
        (Verb::New, Object::Rule(rule)) => !rule
            .attributes
            .iter()
            .any(|a| matches!(a, RuleAttribute::Protocol(p) if ours(u8::from(*p)))),
        _ => true,
    }
}
