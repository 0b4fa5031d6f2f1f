//! Making it so.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::rule::RuleMessage;

use super::kernel::{RouteFacts, RuleFacts, kernel_family};
use super::{OwnedRoute, OwnedRule, WanRoute};
use crate::netlink::{Message, Netlink, NetlinkError, Object};
use crate::prefix::{Family, IpPrefix};

/// What a reconciliation did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Routes and rules added.
    pub added: usize,
    /// Routes and rules of ours removed.
    pub removed: usize,
    /// Routes and rules that were there already.
    pub unchanged: usize,
    /// What could not be done. The rest was. Tried again at the next call.
    pub failed: Vec<Failure>,
}

impl Applied {
    /// Whether everything was in place already.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.added == 0 && self.removed == 0 && self.failed.is_empty()
    }
}

/// One route or rule that could not be set.
#[derive(Debug)]
pub struct Failure {
    /// The route or rule.
    pub what: String,
    /// Why. `AlreadyExists` means that somebody else's stands in its place.
    pub error: std::io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.error)
    }
}

impl Netlink {
    /// Gives each WAN its table and rule, and takes away what is ours and not asked for. This is
    /// all of our routing: call either this or [`Self::apply_routing`], always with everything.
    ///
    /// # Errors
    /// When the socket broke down or nothing can be listed. A single route that the kernel
    /// refuses is in [`Applied::failed`].
    pub async fn apply_wan_routes(&self, desired: &[WanRoute]) -> Result<Applied, NetlinkError> {
        let elsewhere = self.networks_besides(desired).await?;
        let mut routes = Vec::new();
        let mut rules = Vec::new();
        for wan in desired {
            let (more, rule) = wan.expand(&elsewhere);
            routes.extend(more);
            rules.push(rule);
        }
        self.apply_routing(&routes, &rules).await
    }

    /// The networks on links that are none of these WANs.
    pub async fn networks_besides(&self, wans: &[WanRoute]) -> Result<Vec<IpPrefix>, NetlinkError> {
        let state = self.snapshot().await?;
        let networks: BTreeSet<IpPrefix> = state
            .devices
            .values()
            .filter(|device| {
                device.up && !device.loopback && !wans.iter().any(|wan| wan.device == device.name)
            })
            .flat_map(|device| device.subnets().collect::<Vec<_>>())
            .collect();
        Ok(networks.into_iter().collect())
    }

    /// Adds the routes and rules that are missing and removes ours that are not listed.
    ///
    /// # Errors
    /// As [`Self::apply_wan_routes`].
    pub async fn apply_routing(
        &self,
        routes: &[OwnedRoute],
        rules: &[OwnedRule],
    ) -> Result<Applied, NetlinkError> {
        let mut applied = Applied::default();
        // Rules that are not wanted go first and new ones come last, so that no rule ever leads to
        // a half-built table.
        let present = self.own_rules().await?;
        let wanted: BTreeSet<RuleFacts> = rules.iter().cloned().map(RuleFacts).collect();
        for rule in present.difference(&wanted) {
            let result = self.delete_rule(rule).await;
            applied.count_removed(format!("remove {}", rule.0), result)?;
        }
        self.apply_routes(routes, &mut applied).await?;
        for rule in wanted.difference(&present) {
            let result = self.add_rule(rule).await;
            applied.count_added(rule.0.to_string(), result)?;
        }
        applied.unchanged += wanted.intersection(&present).count();
        Ok(applied)
    }

    async fn apply_routes(
        &self,
        routes: &[OwnedRoute],
        applied: &mut Applied,
    ) -> Result<(), NetlinkError> {
        let indices: HashMap<String, u32> =
            self.links().await?.into_iter().map(|device| (device.name, device.index)).collect();
        // With the text to speak of each, in the order asked for.
        let mut wanted: Vec<(RouteFacts, String)> = Vec::new();
        for route in routes {
            let oif = match &route.device {
                None => None,
                Some(name) => match indices.get(name) {
                    Some(index) => Some(*index),
                    None => {
                        applied.fail(route.to_string(), libc::ENODEV);
                        continue;
                    }
                },
            };
            let facts = RouteFacts::wanted(route, oif);
            if !wanted.iter().any(|(other, _)| *other == facts) {
                wanted.push((facts, route.to_string()));
            }
        }
        let present = self.own_routes().await?;
        let is_wanted = |route: &RouteFacts| wanted.iter().any(|(facts, _)| facts == route);
        let mut stale: BTreeMap<_, Vec<&RouteFacts>> = BTreeMap::new();
        for route in present.iter().filter(|route| !is_wanted(route)) {
            stale.entry(route.key()).or_default().push(route);
        }

        for (route, text) in &wanted {
            if present.contains(route) {
                applied.unchanged += 1;
                continue;
            }
            // Where one of ours holds the place, the kernel exchanges the two in one step. It must
            // not replace what is somebody else's, so otherwise it is told to insist on a free
            // place.
            let mut in_the_way = stale.remove(&route.key()).unwrap_or_default();
            let replaces = in_the_way.len() == 1;
            if !replaces {
                for old in in_the_way.drain(..) {
                    let result = self.delete_route(old).await;
                    applied.count_removed(format!("remove {old:?}"), result)?;
                }
            }
            let mode = if replaces { NLM_F_REPLACE } else { NLM_F_EXCL };
            let result = self.add_route(route, mode).await;
            if result.is_ok() {
                applied.removed += in_the_way.len();
            } else if let Some(old) = in_the_way.pop() {
                // Still there, still not wanted.
                stale.entry(route.key()).or_default().push(old);
            }
            applied.count_added(text.clone(), result)?;
        }
        for route in stale.into_values().flatten() {
            let result = self.delete_route(route).await;
            applied.count_removed(format!("remove {route:?}"), result)?;
        }
        Ok(())
    }

    /// Removes every route and rule that carries our number.
    pub(crate) async fn remove_own_routing(&self) -> Result<Applied, NetlinkError> {
        self.apply_routing(&[], &[]).await
    }

    async fn own_routes(&self) -> Result<Vec<RouteFacts>, NetlinkError> {
        let ours = self.protocol;
        let mut found = Vec::new();
        for family in [Family::V4, Family::V6] {
            self.each_route(kernel_family(family), |route| {
                if u8::from(route.header.protocol) == ours {
                    found.extend(RouteFacts::from_message(route));
                }
            })
            .await?;
        }
        Ok(found)
    }

    async fn own_rules(&self) -> Result<BTreeSet<RuleFacts>, NetlinkError> {
        let ours = self.protocol;
        let mut found = BTreeSet::new();
        for family in [Family::V4, Family::V6] {
            let mut message = RuleMessage::default();
            message.header.family = kernel_family(family);
            let listed = self.dump("rules", Object::Rule(message), |object| {
                if let Object::Rule(rule) = object
                    && let Some((facts, protocol)) = RuleFacts::from_message(&rule)
                    && protocol == ours
                {
                    found.insert(facts);
                }
            });
            match listed.await {
                // A kernel without IPv6 has no rules for it.
                Err(NetlinkError::Refused { source, .. })
                    if family == Family::V6
                        && matches!(
                            source.raw_os_error(),
                            Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
                        ) => {}
                other => other?,
            }
        }
        Ok(found)
    }

    async fn add_route(&self, route: &RouteFacts, mode: u16) -> Result<(), NetlinkError> {
        let message = route.to_message(self.protocol);
        let request = Message::new(Object::Route(message));
        self.command(|| format!("add {route:?}"), request, NLM_F_CREATE | mode).await
    }

    async fn delete_route(&self, route: &RouteFacts) -> Result<(), NetlinkError> {
        let message = route.to_message(self.protocol);
        let request = Message::del(Object::Route(message));
        let result = self.command(|| format!("remove {route:?}"), request, 0).await;
        // The kernel was faster: it removes routes with their device or address.
        ignore(result, &[libc::ESRCH, libc::ENOENT, libc::ENODEV])
    }

    async fn add_rule(&self, rule: &RuleFacts) -> Result<(), NetlinkError> {
        let message = rule.to_message(self.protocol);
        let request = Message::new(Object::Rule(message));
        self.command(|| format!("add {}", rule.0), request, NLM_F_CREATE | NLM_F_EXCL).await
    }

    async fn delete_rule(&self, rule: &RuleFacts) -> Result<(), NetlinkError> {
        let message = rule.to_message(self.protocol);
        let request = Message::del(Object::Rule(message));
        let result = self.command(|| format!("remove {}", rule.0), request, 0).await;
        ignore(result, &[libc::ENOENT])
    }
}

fn ignore(result: Result<(), NetlinkError>, codes: &[i32]) -> Result<(), NetlinkError> {
    match result {
        Err(NetlinkError::Refused { source, .. })
            if source.raw_os_error().is_some_and(|code| codes.contains(&code)) =>
        {
            Ok(())
        }
        other => other,
    }
}

impl Applied {
    fn fail(&mut self, what: String, code: i32) {
        self.failed.push(Failure { what, error: std::io::Error::from_raw_os_error(code) });
    }

    fn count_added(
        &mut self,
        what: String,
        result: Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        if self.settle(what, result)? {
            self.added += 1;
        }
        Ok(())
    }

    fn count_removed(
        &mut self,
        what: String,
        result: Result<(), NetlinkError>,
    ) -> Result<(), NetlinkError> {
        if self.settle(what, result)? {
            self.removed += 1;
        }
        Ok(())
    }

    /// Keeps a refusal and goes on; a broken socket ends it all.
    fn settle(
        &mut self,
        what: String,
        result: Result<(), NetlinkError>,
    ) -> Result<bool, NetlinkError> {
        match result {
            Ok(()) => Ok(true),
            Err(NetlinkError::Refused { source: error, .. }) => {
                self.failed.push(Failure { what, error });
                Ok(false)
            }
            Err(other) => Err(other),
        }
    }
}
