//! The router's side.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{DEVICE, TunnelProblem, configure, forward_v4, restore, route, set, still_there};
use crate::firewall::{self, CAME_THROUGH, LanTunnel, MARK};
use crate::netlink::{Netlink, NetlinkError};
use crate::owned::{Journal, Owner};
use crate::prefix::{Family, IpPrefix};
use crate::routing::{MAIN_TABLE, OwnedRoute, OwnedRule, RouteKind, RuleAction};
use crate::sysctl;

/// The table that leads into the tunnel. The WANs' are 7000 to 7015.
pub(crate) const TABLE: u32 = 7900;
/// Priorities of the rules, before those of the WANs (7000 and up), which go by source address: what the
/// router itself asks has a WAN's until it is translated.
const OWN: u32 = 6997;
const MARKED_NEAR: u32 = 6998;
const MARKED: u32 = 6999;
/// And of one after all tables (main: 32766, default: 32767).
const LAST: u32 = 32768;

/// What becomes of the LAN's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LanPlan {
    /// Which packets, and the tunnel's end if there is one at present.
    pub firewall: LanTunnel,
    /// The server's inner addresses, reached through the tunnel by everybody.
    pub server: (Ipv4Addr, Ipv6Addr),
    /// Refuse the packets while the tunnel is not there; else they go their usual way.
    pub block: bool,
}

impl LanPlan {
    /// The routes and rules.
    ///
    /// ```text
    /// 6997: from 10.239.0.2 lookup 7900                    tests from the inner address
    /// 6997: from all to 10.239.0.1/32 lookup 7900           the server's end
    /// 6998: fwmark M lookup main suppress_prefixlength 0   what is near is not on the Internet
    /// 6999: fwmark M lookup 7900
    /// 32768: fwmark F lookup 7900                          no WAN has IPv4: for its reverse-path filter
    /// default dev wanbond0 table 7900
    /// unreachable default table 7900 metric 4294967295     with `block`
    /// ```
    #[must_use]
    pub fn routing(&self) -> (Vec<OwnedRoute>, Vec<OwnedRule>) {
        let mut routes = Vec::new();
        let mut rules = Vec::new();
        let LanTunnel { end, ipv4, ipv6, .. } = &self.firewall;
        let (server_v4, server_v6) = self.server;
        for (wanted, family, own, server) in [
            (*ipv4, Family::V4, end.as_ref().map(|e| IpAddr::V4(e.v4)), IpAddr::V4(server_v4)),
            (*ipv6, Family::V6, end.as_ref().map(|e| IpAddr::V6(e.v6)), IpAddr::V6(server_v6)),
        ] {
            let any = IpPrefix::any(family);
            if let Some(own) = own {
                let mut way = OwnedRoute::unicast(TABLE, any, DEVICE);
                way.source = Some(own);
                routes.push(way);
                rules.push(OwnedRule::from(IpPrefix::host(own), OWN, TABLE));
                let mut to_server = OwnedRule::new(family, OWN, RuleAction::Table(TABLE));
                to_server.destination = Some(IpPrefix::host(server));
                rules.push(to_server);
            }
            if self.block {
                let mut last = OwnedRoute::special(TABLE, any, RouteKind::Unreachable);
                last.metric = u32::MAX;
                routes.push(last);
            }
            if wanted || own.is_some() {
                // Answers to forwarded connections are marked whether or not the LAN's own
                // packets of the family are.
                let mut near = OwnedRule::new(family, MARKED_NEAR, RuleAction::Table(MAIN_TABLE));
                near.fwmark = Some((MARK, MARK));
                near.suppress_prefix_len = Some(0);
                let mut far = OwnedRule::new(family, MARKED, RuleAction::Table(TABLE));
                far.fwmark = Some((MARK, MARK));
                rules.extend([near, far]);
            }
            if own.is_some() && family == Family::V4 {
                let mut last = OwnedRule::new(family, LAST, RuleAction::Table(TABLE));
                last.fwmark = Some((CAME_THROUGH, CAME_THROUGH));
                rules.push(last);
            }
        }
        (routes, rules)
    }
}

/// Puts a [`LanPlan`] into the kernel.
#[derive(Clone)]
pub struct LanKernel {
    netlink: Netlink,
    journal: Journal,
    firewall: Option<LanTunnel>,
}

impl LanKernel {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// When no netlink socket is to be had.
    pub async fn new(journal: Journal) -> Result<Self, NetlinkError> {
        let netlink = Netlink::for_tunnel(Owner::Router).await?;
        Ok(Self { netlink, journal, firewall: None })
    }

    /// Makes the kernel hold this plan, in place of the last. Call it again after a device or an
    /// address has come or gone, and when the tunnel's device was opened anew. Empty: all is well.
    pub async fn apply(&mut self, plan: &LanPlan) -> Vec<TunnelProblem> {
        let mut problems = Vec::new();
        if let Some(end) = &plan.firewall.end {
            let addresses = [IpAddr::V4(end.v4), IpAddr::V6(end.v6)];
            configure(&self.netlink, &self.journal, end.mtu, &addresses, &mut problems).await;
            self.settle(&plan.firewall.devices, &mut problems);
        }
        let (mut routes, mut rules) = plan.routing();
        if problems.iter().any(|p| matches!(p, TunnelProblem::Address(IpAddr::V6(_), _))) {
            // IPv6 is switched off here: told once, not once more for every route.
            routes.retain(|route| route.destination.family() == Family::V4);
            rules.retain(|rule| rule.family == Family::V4);
        }
        route(&self.netlink, &routes, &rules, &mut problems).await;
        // Last: what is marked has its way then.
        let table = Owner::Router.tunnel_table();
        if self.firewall.as_ref() != Some(&plan.firewall) || !still_there(table).await {
            match plan.firewall.apply().await {
                Ok(()) => self.firewall = Some(plan.firewall.clone()),
                Err(error) => problems.push(TunnelProblem::Firewall(error)),
            }
        }
        problems
    }

    /// Takes everything out: the LAN's packets go their usual way.
    pub async fn remove(&mut self) -> Vec<TunnelProblem> {
        let mut problems = Vec::new();
        match firewall::remove(Owner::Router.tunnel_table()).await {
            Ok(_) => self.firewall = None,
            Err(error) => problems.push(TunnelProblem::Firewall(error)),
        }
        route(&self.netlink, &[], &[], &mut problems).await;
        restore(&self.journal, &mut problems);
        problems
    }

    /// Forwarding between the LAN and the tunnel, and a reverse-path filter that bears with
    /// packets of the whole Internet coming in where the main table would not send them.
    fn settle(&self, lan: &[String], problems: &mut Vec<TunnelProblem>) {
        // IPv6 has no switch per device, and turning on its forwarding would change how WANs get
        // their addresses; a router has it on.
        let devices: Vec<&str> = lan.iter().map(String::as_str).chain([DEVICE]).collect();
        forward_v4(&self.journal, &devices, problems);
        let own = format!("net/ipv4/conf/{DEVICE}/rp_filter");
        let filters = [own.as_str(), "net/ipv4/conf/all/rp_filter"].map(sysctl::get);
        let any = |value: &str| filters.iter().flatten().any(|set| set == value);
        if any("1") {
            set(&self.journal, &own, "2", problems);
        }
        if any("1") || any("2") {
            // A loose one still drops what no route at all would lead back to, as where WANs have
            // IPv6 only: it is to see the rule for what came through the tunnel.
            let name = format!("net/ipv4/conf/{DEVICE}/src_valid_mark");
            set(&self.journal, &name, "1", problems);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::firewall::TunnelEnd;
    use super::*;
    use crate::routing::render;

    fn plan() -> LanPlan {
        LanPlan {
            firewall: LanTunnel {
                devices: vec!["br-lan".into()],
                tcp: false,
                silent: false,
                ipv4: true,
                ipv6: true,
                bypass_v4: Vec::new(),
                bypass_v6: Vec::new(),
                names: None,
                block: false,
                end: Some(TunnelEnd {
                    device: DEVICE.into(),
                    mtu: 1400,
                    v4: "10.239.0.2".parse().unwrap(),
                    v6: "fd01::2".parse().unwrap(),
                    server_v4: "10.239.0.1".parse().unwrap(),
                    server_v6: "fd01::1".parse().unwrap(),
                    prefix: None,
                    forwards: Vec::new(),
                }),
            },
            server: ("10.239.0.1".parse().unwrap(), "fd01::1".parse().unwrap()),
            block: false,
        }
    }

    fn text(plan: &LanPlan) -> String {
        let (routes, rules) = plan.routing();
        render(&routes, &rules)
    }

    #[test]
    fn through_the_tunnel() {
        assert_eq!(
            text(&plan()),
            "default dev wanbond0 table 7900 src 10.239.0.2\n\
             default6 dev wanbond0 table 7900 src fd01::2\n\
             rule 6997: from 10.239.0.2 lookup 7900\n\
             rule 6997: from all to 10.239.0.1/32 lookup 7900\n\
             rule 6998: from all fwmark 0x10000000/0x10000000 lookup 254 suppress_prefixlength 0\n\
             rule 6999: from all fwmark 0x10000000/0x10000000 lookup 7900\n\
             rule 32768: from all fwmark 0x8000000/0x8000000 lookup 7900\n\
             rule6 6997: from fd01::2 lookup 7900\n\
             rule6 6997: from all to fd01::1/128 lookup 7900\n\
             rule6 6998: from all fwmark 0x10000000/0x10000000 lookup 254 suppress_prefixlength 0\n\
             rule6 6999: from all fwmark 0x10000000/0x10000000 lookup 7900\n"
        );
    }

    #[test]
    fn refused_while_it_is_gone() {
        let mut plan = LanPlan { block: true, ..plan() };
        plan.firewall.end = None;
        plan.firewall.ipv6 = false;
        assert_eq!(
            text(&plan),
            "unreachable default table 7900 metric 4294967295\n\
             unreachable default6 table 7900 metric 4294967295\n\
             rule 6998: from all fwmark 0x10000000/0x10000000 lookup 254 suppress_prefixlength 0\n\
             rule 6999: from all fwmark 0x10000000/0x10000000 lookup 7900\n"
        );
    }
}
