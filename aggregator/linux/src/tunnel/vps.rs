//! The server's side.

use std::net::IpAddr;

use super::{DEVICE, TunnelProblem, configure, forward_v4, restore, route, set, still_there};
use crate::firewall::{self, VpsTunnel};
use crate::netlink::{Netlink, NetlinkError};
use crate::owned::{Journal, Owner};
use crate::prefix::Family;
use crate::routing::{MAIN_TABLE, OwnedRoute};
use crate::sysctl;

/// Before that of the route by which a DHCPv6 client, or the owner, rejects the whole of what was
/// delegated and is not in use: those have the kernel's usual 1024.
const ROUTED_METRIC: u32 = 512;

/// How the server passes routers' packets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpsPlan {
    /// Where they may go, and what comes back.
    pub firewall: VpsTunnel,
    /// Pass IPv6 on. Forwarding it is one switch for the whole machine, so it stays off where there
    /// is no IPv6 anyway.
    pub ipv6: bool,
}

impl VpsPlan {
    /// The routes, all in the main table: the inner networks and the routed one are the tunnel's.
    #[must_use]
    pub fn routes(&self) -> Vec<OwnedRoute> {
        let VpsTunnel { inner_v4, inner_v6, routed, server, .. } = &self.firewall;
        let mut v4 = OwnedRoute::unicast(MAIN_TABLE, *inner_v4, DEVICE);
        v4.source = Some(IpAddr::V4(server.0));
        let mut routes = vec![v4];
        if self.ipv6 {
            let mut v6 = OwnedRoute::unicast(MAIN_TABLE, *inner_v6, DEVICE);
            v6.source = Some(IpAddr::V6(server.1));
            routes.push(v6);
            routes.extend(routed.map(|routed| OwnedRoute {
                metric: ROUTED_METRIC,
                ..OwnedRoute::unicast(MAIN_TABLE, routed, DEVICE)
            }));
        }
        routes
    }
}

/// Puts a [`VpsPlan`] into the kernel.
#[derive(Clone)]
pub struct VpsKernel {
    netlink: Netlink,
    journal: Journal,
    firewall: Option<VpsTunnel>,
}

impl VpsKernel {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// When no netlink socket is to be had.
    pub async fn new(journal: Journal) -> Result<Self, NetlinkError> {
        let netlink = Netlink::for_tunnel(Owner::Server).await?;
        Ok(Self { netlink, journal, firewall: None })
    }

    /// Makes the kernel hold this plan, in place of the last. Call it again after a device or an
    /// address has come or gone, and when the tunnel's device was opened anew. Empty: all is well.
    pub async fn apply(&mut self, plan: &VpsPlan) -> Vec<TunnelProblem> {
        let mut problems = Vec::new();
        // First: from the moment that packets can go, it is said where they may.
        let table = Owner::Server.tunnel_table();
        if self.firewall.as_ref() != Some(&plan.firewall) || !still_there(table).await {
            match plan.firewall.apply().await {
                Ok(()) => self.firewall = Some(plan.firewall.clone()),
                Err(error) => {
                    problems.push(TunnelProblem::Firewall(error));
                    if self.firewall.is_none() {
                        // Forwarding without rules would open the server's networks.
                        return problems;
                    }
                }
            }
        }
        let (v4, v6) = plan.firewall.server;
        let mut addresses = vec![IpAddr::V4(v4)];
        addresses.extend(plan.ipv6.then_some(IpAddr::V6(v6)));
        configure(&self.netlink, &self.journal, plan.firewall.mtu, &addresses, &mut problems).await;
        let mut routes = plan.routes();
        if problems.iter().any(|p| matches!(p, TunnelProblem::Address(IpAddr::V6(_), _))) {
            // IPv6 is switched off here: told once, not once more for every route.
            routes.retain(|route| route.destination.family() == Family::V4);
        }
        route(&self.netlink, &routes, &[], &mut problems).await;
        let links = self.netlink.links().await.unwrap_or_default();
        let names: Vec<&str> =
            links.iter().filter(|link| !link.loopback).map(|link| link.name.as_str()).collect();
        forward_v4(&self.journal, &names, &mut problems);
        if plan.ipv6 {
            self.forward_v6(&names, &mut problems);
        }
        problems
    }

    /// Takes everything out.
    pub async fn remove(&mut self) -> Vec<TunnelProblem> {
        let mut problems = Vec::new();
        route(&self.netlink, &[], &[], &mut problems).await;
        restore(&self.journal, &mut problems);
        match firewall::remove(Owner::Server.tunnel_table()).await {
            Ok(_) => self.firewall = None,
            Err(error) => problems.push(TunnelProblem::Firewall(error)),
        }
        problems
    }

    /// A host that forwards IPv6 no longer listens to routers, and would lose the default route
    /// it has from them: 2 says to listen all the same (`accept_ra` in the kernel's ip-sysctl).
    fn forward_v6(&self, devices: &[&str], problems: &mut Vec<TunnelProblem>) {
        const FORWARDING: &str = "net/ipv6/conf/all/forwarding";
        if sysctl::get(FORWARDING).is_ok_and(|value| value == "1") {
            return;
        }
        for device in devices.iter().filter(|device| **device != DEVICE) {
            let name = format!("net/ipv6/conf/{device}/accept_ra");
            if sysctl::get(&name).is_ok_and(|value| value == "1") {
                set(&self.journal, &name, "2", problems);
            }
        }
        set(&self.journal, FORWARDING, "1", problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Outside;
    use crate::routing::render;

    #[test]
    fn routes_lead_into_the_tunnel() {
        let mut plan = VpsPlan {
            firewall: VpsTunnel {
                device: DEVICE.into(),
                mtu: 1400,
                inner_v4: "10.239.0.0/16".parse().unwrap(),
                inner_v6: "fd01::/64".parse().unwrap(),
                server: ("10.239.0.1".parse().unwrap(), "fd01::1".parse().unwrap()),
                routed: Some("2001:db8:1::/56".parse().unwrap()),
                outside: Outside::default(),
                forwards: Vec::new(),
            },
            ipv6: true,
        };
        assert_eq!(
            render(&plan.routes(), &[]),
            "10.239.0.0/16 dev wanbond0 table 254 src 10.239.0.1\n\
             fd01::/64 dev wanbond0 table 254 src fd01::1\n\
             2001:db8:1::/56 dev wanbond0 table 254 metric 512\n"
        );
        plan.ipv6 = false;
        assert_eq!(plan.routes().len(), 1);
    }
}
