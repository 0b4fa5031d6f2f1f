//! Between our routes and rules and the kernel's messages.
//!
//! [`RouteFacts`] and [`RuleFacts`] are what can be compared: what we asked for and what the
//! kernel shows come to the same value exactly when there is nothing to do.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use netlink_packet_route::rule::{RuleAction as KernelAction, RuleAttribute, RuleMessage};

use super::{OwnedRoute, OwnedRule, RouteKind, RuleAction};
use crate::prefix::{Family, IpPrefix};

/// FRA_SUPPRESS_PREFIXLEN is -1 for "don't", and always shown.
const NO_SUPPRESSION: u32 = u32::MAX;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RouteFacts {
    pub(super) table: u32,
    pub(super) destination: IpPrefix,
    pub(super) metric: u32,
    pub(super) kind: RouteKind,
    pub(super) oif: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    pub(super) onlink: bool,
    pub(super) source: Option<IpAddr>,
}

impl RouteFacts {
    pub(super) fn wanted(route: &OwnedRoute, oif: Option<u32>) -> Self {
        Self {
            table: route.table,
            destination: route.destination,
            metric: route.effective_metric(),
            kind: route.kind,
            oif,
            gateway: route.gateway,
            onlink: route.onlink,
            source: route.source,
        }
    }

    /// What the kernel keeps one route for: a second one of the same key is refused.
    pub(super) fn key(&self) -> (u32, IpPrefix, u32) {
        (self.table, self.destination, self.metric)
    }

    pub(super) fn from_message(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        let family = family(header.address_family)?;
        let kind = match header.kind {
            RouteType::Unicast => RouteKind::Unicast,
            RouteType::Throw => RouteKind::Throw,
            RouteType::Unreachable => RouteKind::Unreachable,
            RouteType::BlackHole => RouteKind::Blackhole,
            _ => return None,
        };
        let mut facts = Self {
            table: u32::from(header.table),
            destination: IpPrefix::any(family),
            metric: 0,
            kind,
            oif: None,
            gateway: None,
            onlink: header.flags.contains(RouteFlags::Onlink),
            source: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(table) => facts.table = *table,
                RouteAttribute::Priority(metric) => facts.metric = *metric,
                RouteAttribute::Oif(oif) => facts.oif = Some(*oif),
                RouteAttribute::Gateway(ip) => facts.gateway = address(ip),
                RouteAttribute::PrefSource(ip) => facts.source = address(ip),
                RouteAttribute::Destination(ip) => {
                    facts.destination =
                        IpPrefix::new(address(ip)?, header.destination_prefix_length)?;
                }
                _ => {}
            }
        }
        if kind != RouteKind::Unicast {
            // IPv6 shows the loopback device on routes that send nowhere.
            facts.oif = None;
        }
        Some(facts)
    }

    pub(super) fn to_message(&self, protocol: u8) -> RouteMessage {
        let mut message = RouteMessage::default();
        let family = self.destination.family();
        message.header = RouteHeader {
            address_family: kernel_family(family),
            destination_prefix_length: self.destination.prefix_len(),
            table: small_table(self.table),
            protocol: RouteProtocol::from(protocol),
            // IPv4 wants to know how far away the next hop is; IPv6 ignores it.
            scope: if self.kind == RouteKind::Unicast && self.gateway.is_none() {
                RouteScope::Link
            } else {
                RouteScope::Universe
            },
            kind: match self.kind {
                RouteKind::Unicast => RouteType::Unicast,
                RouteKind::Throw => RouteType::Throw,
                RouteKind::Unreachable => RouteType::Unreachable,
                RouteKind::Blackhole => RouteType::BlackHole,
            },
            flags: if self.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
            ..RouteHeader::default()
        };
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(self.table));
        if !self.destination.is_default() {
            attributes.push(RouteAttribute::Destination(self.destination.addr().into()));
        }
        if self.metric != 0 {
            attributes.push(RouteAttribute::Priority(self.metric));
        }
        attributes.extend(self.oif.map(RouteAttribute::Oif));
        attributes.extend(self.gateway.map(|ip| RouteAttribute::Gateway(ip.into())));
        attributes.extend(self.source.map(|ip| RouteAttribute::PrefSource(ip.into())));
        message
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RuleFacts(pub(super) OwnedRule);

impl RuleFacts {
    /// What the rule is, and whose: rules without a protocol number are of protocol 0.
    pub(super) fn from_message(message: &RuleMessage) -> Option<(Self, u8)> {
        let header = &message.header;
        let family = family(header.family)?;
        let action = match header.action {
            KernelAction::ToTable => RuleAction::Table(u32::from(header.table)),
            KernelAction::Unreachable => RuleAction::Unreachable,
            KernelAction::Blackhole => RuleAction::Blackhole,
            _ => return None,
        };
        let mut rule = OwnedRule::new(family, 0, action);
        let mut protocol = 0;
        let (mut mark, mut mask) = (0, 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Source(ip) => rule.source = IpPrefix::new(*ip, header.src_len),
                RuleAttribute::Destination(ip) => {
                    rule.destination = IpPrefix::new(*ip, header.dst_len);
                }
                RuleAttribute::FwMark(value) => mark = *value,
                RuleAttribute::FwMask(value) => mask = *value,
                RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
                RuleAttribute::SuppressPrefixLen(len) if *len != NO_SUPPRESSION => {
                    rule.suppress_prefix_len = u8::try_from(*len).ok();
                }
                RuleAttribute::Table(table) if matches!(rule.action, RuleAction::Table(_)) => {
                    rule.action = RuleAction::Table(*table);
                }
                RuleAttribute::Protocol(number) => protocol = u8::from(*number),
                _ => {}
            }
        }
        if mask != 0 {
            rule.fwmark = Some((mark, mask));
        }
        Some((Self(rule), protocol))
    }

    pub(super) fn to_message(&self, protocol: u8) -> RuleMessage {
        let rule = &self.0;
        let mut message = RuleMessage::default();
        message.header.family = kernel_family(rule.family);
        message.header.src_len = rule.source.map_or(0, |source| source.prefix_len());
        message.header.dst_len = rule.destination.map_or(0, |prefix| prefix.prefix_len());
        let attributes = &mut message.attributes;
        match rule.action {
            RuleAction::Table(table) => {
                message.header.action = KernelAction::ToTable;
                message.header.table = small_table(table);
                attributes.push(RuleAttribute::Table(table));
            }
            RuleAction::Unreachable => message.header.action = KernelAction::Unreachable,
            RuleAction::Blackhole => message.header.action = KernelAction::Blackhole,
        }
        attributes.push(RuleAttribute::Priority(rule.priority));
        attributes.push(RuleAttribute::Protocol(RouteProtocol::from(protocol)));
        attributes.extend(rule.source.map(|prefix| RuleAttribute::Source(prefix.addr())));
        attributes.extend(rule.destination.map(|prefix| RuleAttribute::Destination(prefix.addr())));
        if let Some((mark, mask)) = rule.fwmark {
            attributes.push(RuleAttribute::FwMark(mark));
            attributes.push(RuleAttribute::FwMask(mask));
        }
        attributes.extend(rule.input.clone().map(RuleAttribute::Iifname));
        if let Some(len) = rule.suppress_prefix_len {
            attributes.push(RuleAttribute::SuppressPrefixLen(u32::from(len)));
        }
        message
    }
}

fn family(family: AddressFamily) -> Option<Family> {
    match family {
        AddressFamily::Inet => Some(Family::V4),
        AddressFamily::Inet6 => Some(Family::V6),
        _ => None,
    }
}

pub(super) fn kernel_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

/// The header's table field, which has eight bits; the attribute holds the number in any case.
fn small_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_survives_the_trip() {
        for (destination, gateway, source) in [
            ("0.0.0.0/0", Some("192.0.2.1"), "192.0.2.9"),
            ("192.0.2.0/24", None, "192.0.2.9"),
            ("::/0", Some("fe80::1"), "2001:db8::9"),
            ("2001:db8::/64", None, "2001:db8::9"),
        ] {
            let mut route = OwnedRoute::unicast(70_000, destination.parse().unwrap(), "eth1");
            route.gateway = gateway.map(|ip| ip.parse().unwrap());
            route.source = Some(source.parse().unwrap());
            route.onlink = gateway.is_some();
            let facts = RouteFacts::wanted(&route, Some(3));
            let message = facts.to_message(119);
            assert_eq!(u8::from(message.header.protocol), 119);
            assert_eq!(RouteFacts::from_message(&message), Some(facts), "{route}");
        }
    }

    #[test]
    fn routes_to_nowhere_have_no_device() {
        let any = IpPrefix::ANY_V6;
        let wanted = RouteFacts::wanted(&OwnedRoute::special(7, any, RouteKind::Unreachable), None);
        let mut message = wanted.to_message(119);
        message.attributes.push(RouteAttribute::Oif(1));
        assert_eq!(RouteFacts::from_message(&message), Some(wanted));
    }

    #[test]
    fn a_rule_survives_the_trip() {
        let mut rule = OwnedRule::from("192.0.2.9/32".parse().unwrap(), 7000, 70_000);
        rule.destination = Some("198.51.100.0/24".parse().unwrap());
        rule.fwmark = Some((0x100, 0xff00));
        rule.input = Some("br-lan".into());
        rule.suppress_prefix_len = Some(0);
        let blackhole = OwnedRule::new(Family::V6, 1, RuleAction::Blackhole);
        for rule in [rule, blackhole] {
            let mut message = RuleFacts(rule.clone()).to_message(119);
            if rule.suppress_prefix_len.is_none() {
                message.attributes.push(RuleAttribute::SuppressPrefixLen(NO_SUPPRESSION));
            }
            assert_eq!(RuleFacts::from_message(&message), Some((RuleFacts(rule), 119)));
        }
    }
}
