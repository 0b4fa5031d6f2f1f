//! A WAN's own routing table, for what has the WAN's address as its source.

use std::fmt::Write;
use std::net::IpAddr;

use super::{OwnedRoute, OwnedRule, RouteKind};
use crate::prefix::{Family, IpPrefix};

/// One address of one WAN, and how packets from it get out.
///
/// It expands to a table and one rule:
///
/// ```text
/// 192.168.8.0/24 dev wwan0 table 7001 src 192.168.8.20     the WAN's own network
/// throw 192.168.1.0/24 table 7001                          other links' networks: not through here
/// default via 192.168.8.1 dev wwan0 table 7001 src 192.168.8.20
/// unreachable default table 7001 metric 4294967295         never out of another WAN
/// rule 7001: from 192.168.8.20 lookup 7001
/// ```
///
/// The throw routes keep answers from the WAN's address to LAN hosts in the LAN. Networks that
/// overlap the WAN's own have none: two modems with the same network behind them are common, and
/// each must reach its own.
///
/// When the device goes down, the kernel takes the first routes away at once. Without the
/// unreachable one, packets would then fall through to the main table and leave by another WAN,
/// with an address that is not routed back there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WanRoute {
    /// The table, best one per WAN and family; IPv4 and IPv6 may share a number.
    pub table: u32,
    /// The WAN's device.
    pub device: String,
    /// The WAN's address.
    pub source: IpAddr,
    /// The prefix length of that address.
    pub prefix_len: u8,
    /// The next hop; `None` where the link has none (PPP, some LTE modems).
    pub gateway: Option<IpAddr>,
    /// Priority of the rule. Must be below 32766 to come before the main table.
    pub rule_priority: u32,
}

impl WanRoute {
    /// The WAN's own network.
    fn subnet(&self) -> Option<IpPrefix> {
        IpPrefix::new(self.source, self.prefix_len)
    }

    /// The routes and the rule. `elsewhere` are networks on links that are no WAN.
    #[must_use]
    pub fn expand(&self, elsewhere: &[IpPrefix]) -> (Vec<OwnedRoute>, OwnedRule) {
        let family = Family::of(&self.source);
        let any = IpPrefix::any(family);
        let subnet = self.subnet();
        let mut routes = Vec::new();

        // A network of one address is the own address: nothing else is there.
        if let Some(subnet) = subnet.filter(|subnet| !subnet.is_host()) {
            let mut route = OwnedRoute::unicast(self.table, subnet, &self.device);
            route.source = Some(self.source);
            routes.push(route);
        }
        for network in elsewhere {
            if network.family() == family
                && !network.is_default()
                && !subnet.is_some_and(|subnet| subnet.overlaps(network))
            {
                routes.push(OwnedRoute::special(self.table, *network, RouteKind::Throw));
            }
        }
        let mut default = OwnedRoute::unicast(self.table, any, &self.device);
        default.source = Some(self.source);
        default.gateway = self.gateway;
        default.onlink = self.gateway.is_some_and(|gateway| !self.on_link(gateway));
        routes.push(default);

        let mut last = OwnedRoute::special(self.table, any, RouteKind::Unreachable);
        last.metric = u32::MAX;
        routes.push(last);

        let rule = OwnedRule::from(IpPrefix::host(self.source), self.rule_priority, self.table);
        (routes, rule)
    }

    /// Whether the kernel can tell by itself that the gateway is on the link.
    fn on_link(&self, gateway: IpAddr) -> bool {
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        link_local
            || self.subnet().is_some_and(|subnet| !subnet.is_host() && subnet.contains(gateway))
    }
}

/// What is wanted, one line each, for logs and tests.
#[must_use]
pub fn render(routes: &[OwnedRoute], rules: &[OwnedRule]) -> String {
    let mut text = String::new();
    for route in routes {
        let _ = writeln!(text, "{route}");
    }
    for rule in rules {
        let _ = writeln!(text, "{rule}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wan(source: &str, prefix_len: u8, gateway: Option<&str>) -> WanRoute {
        WanRoute {
            table: 7001,
            device: "wwan0".into(),
            source: source.parse().unwrap(),
            prefix_len,
            gateway: gateway.map(|ip| ip.parse().unwrap()),
            rule_priority: 7001,
        }
    }

    fn text(wan: &WanRoute, elsewhere: &[&str]) -> String {
        let elsewhere: Vec<_> = elsewhere.iter().map(|text| text.parse().unwrap()).collect();
        let (routes, rule) = wan.expand(&elsewhere);
        render(&routes, &[rule])
    }

    #[test]
    fn a_modem_with_a_lan_beside_it() {
        let lans = ["192.168.1.0/24", "fd00::/64", "192.168.8.0/24", "192.168.0.0/16"];
        assert_eq!(
            text(&wan("192.168.8.20", 24, Some("192.168.8.1")), &lans),
            "192.168.8.0/24 dev wwan0 table 7001 src 192.168.8.20\n\
             throw 192.168.1.0/24 table 7001\n\
             default via 192.168.8.1 dev wwan0 table 7001 src 192.168.8.20\n\
             unreachable default table 7001 metric 4294967295\n\
             rule 7001: from 192.168.8.20 lookup 7001\n"
        );
    }

    #[test]
    fn ppp_has_no_gateway_and_no_network() {
        assert_eq!(
            text(&wan("203.0.113.9", 32, None), &[]),
            "default dev wwan0 table 7001 src 203.0.113.9\n\
             unreachable default table 7001 metric 4294967295\n\
             rule 7001: from 203.0.113.9 lookup 7001\n"
        );
    }

    #[test]
    fn a_gateway_outside_the_network_is_on_the_link_by_decree() {
        assert_eq!(
            text(&wan("203.0.113.9", 32, Some("10.0.0.1")), &[]),
            "default via 10.0.0.1 dev wwan0 table 7001 src 203.0.113.9 onlink\n\
             unreachable default table 7001 metric 4294967295\n\
             rule 7001: from 203.0.113.9 lookup 7001\n"
        );
    }

    #[test]
    fn ipv6_with_a_link_local_gateway() {
        assert_eq!(
            text(&wan("2001:db8:1::5", 64, Some("fe80::1")), &["2001:db8:2::/64", "10.0.0.0/8"]),
            "2001:db8:1::/64 dev wwan0 table 7001 src 2001:db8:1::5\n\
             throw 2001:db8:2::/64 table 7001\n\
             default6 via fe80::1 dev wwan0 table 7001 src 2001:db8:1::5\n\
             unreachable default6 table 7001 metric 4294967295\n\
             rule6 7001: from 2001:db8:1::5 lookup 7001\n"
        );
    }
}
