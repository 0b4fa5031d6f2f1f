//! From netlink messages to our types.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::LinkFlags;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteType, RouteVia,
};

use super::{Addr, Device, Gateway};
use crate::netlink::LinkMessage;
use crate::prefix::{Family, IpPrefix};

pub(super) fn device(link: &LinkMessage) -> Option<Device> {
    let flags = link.header.flags;
    Some(Device {
        index: link.header.index,
        name: link.name.clone()?,
        // The kernel sets IFF_RUNNING when the operational state is up or unknown (RFC 2863), and
        // IFF_LOWER_UP with the carrier.
        up: flags.contains(LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        mtu: link.mtu.unwrap_or(0),
        addresses: Vec::new(),
        gateways: Vec::new(),
    })
}

/// An address, with the index of its link and whether it can be used as a source.
pub(super) struct ParsedAddress {
    pub(super) index: u32,
    pub(super) addr: Addr,
    pub(super) usable: bool,
}

pub(super) fn address(message: &AddressMessage) -> Option<ParsedAddress> {
    let mut local = None;
    let mut address = None;
    // The header's eight bits, unless the attribute with all of them is there.
    let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // IFA_ADDRESS is the peer's on a point-to-point link, and the same as IFA_LOCAL (or alone, in
    // IPv6) elsewhere.
    let ip = local.or(address)?;
    let peer = address.filter(|peer| *peer != ip);
    let unusable = AddressFlags::Tentative | AddressFlags::Dadfailed | AddressFlags::Deprecated;
    // An optimistic address may be used while its uniqueness is still being checked.
    let optimistic = flags.contains(AddressFlags::Optimistic)
        && !flags.intersects(AddressFlags::Dadfailed | AddressFlags::Deprecated);
    let global = matches!(message.header.scope, AddressScope::Universe | AddressScope::Site);
    Some(ParsedAddress {
        index: message.header.index,
        addr: Addr {
            ip,
            prefix_len: message.header.prefix_len,
            peer,
            // The same bit means "secondary" in IPv4.
            temporary: ip.is_ipv6() && flags.contains(AddressFlags::Secondary),
        },
        usable: global && (optimistic || !flags.intersects(unusable)),
    })
}

/// The next hops of a default route that packets can take now, with the indices of their links.
pub(super) fn default_routes(route: &RouteMessage) -> Vec<(u32, Gateway)> {
    let header = &route.header;
    let family = match header.address_family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return Vec::new(),
    };
    if header.destination_prefix_length != 0
        || header.kind != RouteType::Unicast
        || header.flags.intersects(RouteFlags::Dead | RouteFlags::Cloned)
    {
        return Vec::new();
    }
    let mut gateway = Gateway {
        family,
        via: None,
        metric: 0,
        source: None,
        only_from: None,
        table: u32::from(header.table),
    };
    let mut index = None;
    let mut hops: &[_] = &[];
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Priority(metric) => gateway.metric = *metric,
            RouteAttribute::PrefSource(ip) => gateway.source = route_address(ip),
            RouteAttribute::Source(ip) => {
                let prefix = |ip| IpPrefix::new(ip, header.source_prefix_length);
                gateway.only_from = route_address(ip).and_then(prefix);
            }
            RouteAttribute::Table(table) => gateway.table = *table,
            RouteAttribute::MultiPath(list) => hops = list,
            other => gateway.via = via(other).or(gateway.via),
        }
    }
    let mut found = Vec::new();
    if let Some(index) = index {
        found.push((index, gateway));
    }
    for hop in hops {
        if !hop.flags.contains(RouteNextHopFlags::Dead) {
            let via = hop.attributes.iter().find_map(via);
            found.push((hop.interface_index, Gateway { via, ..gateway }));
        }
    }
    found
}

fn via(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(ip) => route_address(ip),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

pub(crate) fn route_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::address::AddressHeaderFlags;
    use netlink_packet_route::route::RouteNextHop;

    fn link(flags: LinkFlags) -> LinkMessage {
        let mut link = LinkMessage::default();
        link.header.index = 3;
        link.header.flags = flags;
        link.name = Some("wwan0".into());
        link.mtu = Some(1430);
        link
    }

    #[test]
    fn up_means_carrier_too() {
        let up = LinkFlags::Up | LinkFlags::Running | LinkFlags::LowerUp;
        let parsed = device(&link(up)).unwrap();
        assert!(parsed.up && !parsed.loopback);
        assert_eq!((parsed.index, parsed.name.as_str(), parsed.mtu), (3, "wwan0", 1430));
        assert!(!device(&link(LinkFlags::Up)).unwrap().up);
        assert!(!device(&link(LinkFlags::Up | LinkFlags::LowerUp)).unwrap().up);
        assert!(device(&LinkMessage::default()).is_none());
    }

    fn addr(ip: &str, flags: u32) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 64;
        message.header.flags = AddressHeaderFlags::empty();
        message.attributes = vec![
            AddressAttribute::Address(ip.parse().unwrap()),
            AddressAttribute::Flags(AddressFlags::from_bits_retain(flags)),
        ];
        message
    }

    #[test]
    fn only_settled_addresses_are_usable() {
        let usable = |flags| address(&addr("2001:db8::1", flags)).unwrap().usable;
        assert!(usable(0x80)); // permanent
        assert!(usable(0x301)); // temporary
        assert!(!usable(0x40)); // tentative
        assert!(!usable(0x48)); // failed
        assert!(!usable(0x20)); // deprecated
        assert!(usable(0x44)); // optimistic
        assert!(!usable(0x4c));
        let mut link_local = addr("fe80::1", 0x80);
        link_local.header.scope = AddressScope::Link;
        assert!(!address(&link_local).unwrap().usable);
    }

    #[test]
    fn temporary_is_an_ipv6_notion() {
        assert!(address(&addr("2001:db8::1", 0x01)).unwrap().addr.temporary);
        assert!(!address(&addr("192.0.2.1", 0x01)).unwrap().addr.temporary);
    }

    #[test]
    fn point_to_point_links_have_a_peer() {
        let mut message = addr("198.51.100.1", 0x80);
        message.attributes.push(AddressAttribute::Local("192.0.2.9".parse().unwrap()));
        let parsed = address(&message).unwrap().addr;
        assert_eq!(parsed.ip.to_string(), "192.0.2.9");
        assert_eq!(parsed.peer.unwrap().to_string(), "198.51.100.1");
    }

    fn default_route() -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.kind = RouteType::Unicast;
        route.header.table = 254;
        route
    }

    #[test]
    fn default_routes_of_all_shapes() {
        let mut route = default_route();
        route.attributes = vec![
            RouteAttribute::Oif(4),
            RouteAttribute::Priority(10),
            RouteAttribute::Gateway(RouteAddress::Inet("192.0.2.254".parse().unwrap())),
        ];
        let found = default_routes(&route);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, 4);
        assert_eq!(found[0].1.via, Some("192.0.2.254".parse().unwrap()));
        assert_eq!((found[0].1.metric, found[0].1.table), (10, 254));

        let mut limited = route.clone();
        limited.header.source_prefix_length = 24;
        let source = RouteAddress::Inet("198.51.100.7".parse().unwrap());
        limited.attributes.push(RouteAttribute::Source(source));
        let found = default_routes(&limited);
        assert_eq!(found[0].1.only_from, Some("198.51.100.0/24".parse().unwrap()));

        route.header.destination_prefix_length = 8;
        assert!(default_routes(&route).is_empty());

        let mut multipath = default_route();
        let hop = |index, flags| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            hop.flags = flags;
            hop.attributes = vec![RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()))];
            hop
        };
        multipath.attributes = vec![RouteAttribute::MultiPath(vec![
            hop(4, RouteNextHopFlags::empty()),
            hop(5, RouteNextHopFlags::Dead),
        ])];
        let found = default_routes(&multipath);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1.via), (4, Some("fe80::1".parse().unwrap())));

        let mut unreachable = default_route();
        unreachable.header.kind = RouteType::Unreachable;
        unreachable.attributes = vec![RouteAttribute::Oif(1)];
        assert!(default_routes(&unreachable).is_empty());
    }
}
