//! What the kernel holds for connections that go around the bond: their firewall table, which marks
//! them ([`Bypass`]), and the rules that lead what is marked to its WAN.

use crate::firewall::{
    self, BYPASS, Bypass, BypassWay, FirewallError, MARK, ONLY, WAN_BITS, wan_mark,
};
use crate::netlink::{Netlink, NetlinkError};
use crate::owned::Owner;
use crate::prefix::Family;
use crate::routing::{Failure, MAIN_TABLE, OwnedRule, RuleAction};
use crate::tunnel::TABLE as TUNNEL_TABLE;

/// Priorities of the rules: behind those of the WANs' own addresses (7000 to 7015). A WAN's is this and
/// its number.
const OVER_WAN: u32 = 7800;
const NEAR: u32 = 7816;
const NO_OTHER_WAN: u32 = 7817;
const ONLY_NEAR: u32 = 7818;
const ONLY_TUNNEL: u32 = 7819;
const NO_TUNNEL: u32 = 7820;

/// What should be in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BypassPlan {
    /// What is marked how.
    pub firewall: Bypass,
    /// The routing table of each WAN that has one, by the WAN's number.
    pub tables: Vec<(u8, u32)>,
}

impl BypassPlan {
    /// The rules.
    ///
    /// ```text
    /// 7801: fwmark 0x21000000/0x2f000000 lookup 7001        WAN 1's own table
    /// 7816: fwmark 0x20000000/0x20000000 lookup main suppress_prefixlength 0
    /// 7817: fwmark 0x20000000/0x20000000 unreachable        not out of another
    /// 7818: fwmark 0x40000000/0x40000000 lookup main suppress_prefixlength 0
    /// 7819: fwmark 0x40000000/0x40000000 lookup 7900        the tunnel's
    /// 7820: fwmark 0x40000000/0x40000000 unreachable
    /// ```
    #[must_use]
    pub fn rules(&self) -> Vec<OwnedRule> {
        let mut rules = Vec::new();
        let marked = |family, priority, mark: u32, mask: u32, action| {
            let mut rule = OwnedRule::new(family, priority, action);
            rule.fwmark = Some((mark, mask));
            rule
        };
        let only = self.firewall.rules.iter().any(|rule| rule.way == BypassWay::Tunnel);
        for family in [Family::V4, Family::V6] {
            for &(number, table) in &self.tables {
                let priority = OVER_WAN + u32::from(number);
                let (mark, mask) = (wan_mark(number), BYPASS | WAN_BITS);
                rules.push(marked(family, priority, mark, mask, RuleAction::Table(table)));
            }
            let mut near = marked(family, NEAR, BYPASS, BYPASS, RuleAction::Table(MAIN_TABLE));
            near.suppress_prefix_len = Some(0);
            rules.push(near);
            rules.push(marked(family, NO_OTHER_WAN, BYPASS, BYPASS, RuleAction::Unreachable));
            if only {
                let mut near = marked(family, ONLY_NEAR, ONLY, ONLY, RuleAction::Table(MAIN_TABLE));
                near.suppress_prefix_len = Some(0);
                let through = RuleAction::Table(TUNNEL_TABLE);
                rules.push(near);
                rules.push(marked(family, ONLY_TUNNEL, ONLY, ONLY, through));
                rules.push(marked(family, NO_TUNNEL, ONLY, ONLY, RuleAction::Unreachable));
            }
        }
        rules
    }
}

/// Something that could not be put in place. The rest was; it is tried again at the next call.
#[derive(Debug, thiserror::Error)]
pub enum BypassProblem {
    /// Rules can't be set.
    #[error(transparent)]
    Routing(NetlinkError),
    /// One rule can't be set.
    #[error("{0}")]
    Rule(Failure),
    /// The firewall table can't be set.
    #[error(transparent)]
    Firewall(FirewallError),
}

/// Puts a [`BypassPlan`] into the kernel.
#[derive(Clone)]
pub struct BypassKernel {
    netlink: Netlink,
    applied: Option<Bypass>,
}

impl BypassKernel {
    /// Touches nothing yet. What an earlier run has left is for [`cleanup`](crate::owned::cleanup).
    ///
    /// # Errors
    /// When no netlink socket is to be had.
    pub async fn new() -> Result<Self, NetlinkError> {
        Ok(Self { netlink: Netlink::for_bypass(Owner::Router).await?, applied: None })
    }

    /// Whether it has put anything there.
    #[must_use]
    pub const fn is_applied(&self) -> bool {
        self.applied.is_some()
    }

    /// Makes the kernel hold this plan, or nothing. `suspicious`: another program may have taken the
    /// table away. Gives whether the table is a new one, whose sets are empty, and what went wrong.
    pub async fn apply(
        &mut self,
        plan: Option<&BypassPlan>,
        suspicious: bool,
    ) -> (bool, Vec<BypassProblem>) {
        let mut problems = Vec::new();
        let table = Owner::Router.bypass_table();
        let Some(plan) = plan else {
            if self.applied.is_some() {
                match firewall::remove(table).await {
                    Ok(_) => self.applied = None,
                    Err(error) => problems.push(BypassProblem::Firewall(error)),
                }
                self.route(&[], &mut problems).await;
            }
            return (false, problems);
        };
        // What is marked has its way then.
        self.route(&plan.rules(), &mut problems).await;
        if suspicious && matches!(firewall::is_present(table).await, Ok(false)) {
            self.applied = None;
        }
        let fresh = self.applied.is_none();
        if self.applied.as_ref() == Some(&plan.firewall) {
            return (false, problems);
        }
        match plan.firewall.apply(self.applied.as_ref()).await {
            Ok(()) => self.applied = Some(plan.firewall.clone()),
            Err(error) => {
                // Perhaps it is not what it was: the next attempt begins with an empty one.
                self.applied = None;
                problems.push(BypassProblem::Firewall(error));
                return (false, problems);
            }
        }
        (fresh, problems)
    }

    async fn route(&self, rules: &[OwnedRule], problems: &mut Vec<BypassProblem>) {
        match self.netlink.apply_routing(&[], rules).await {
            Ok(applied) => problems.extend(applied.failed.into_iter().map(BypassProblem::Rule)),
            Err(error) => problems.push(BypassProblem::Routing(error)),
        }
    }
}

// A mark that means the WAN 0 must not be taken for none.
const _: () = assert!(wan_mark(0) != 0 && wan_mark(0) & MARK == 0);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::BypassRule;
    use crate::routing::render;

    #[test]
    fn golden_rules() {
        let rule = BypassRule::any("x", BypassWay::Any);
        let mut plan = BypassPlan {
            firewall: Bypass { rules: vec![rule], ..Bypass::default() },
            tables: vec![(0, 7000), (3, 7003)],
        };
        let v4 = |text: String| {
            text.lines()
                .filter(|l| l.starts_with("rule "))
                .map(|l| format!("{l}\n"))
                .collect::<String>()
        };
        let wans = "rule 7800: from all fwmark 0x20000000/0x2f000000 lookup 7000\n\
             rule 7803: from all fwmark 0x23000000/0x2f000000 lookup 7003\n\
             rule 7816: from all fwmark 0x20000000/0x20000000 lookup 254 suppress_prefixlength 0\n\
             rule 7817: from all fwmark 0x20000000/0x20000000 unreachable\n";
        assert_eq!(v4(render(&[], &plan.rules())), wans);
        plan.firewall.rules[0].way = BypassWay::Tunnel;
        let only = "rule 7818: from all fwmark 0x40000000/0x40000000 lookup 254 suppress_prefixlength 0\n\
             rule 7819: from all fwmark 0x40000000/0x40000000 lookup 7900\n\
             rule 7820: from all fwmark 0x40000000/0x40000000 unreachable\n";
        assert_eq!(v4(render(&[], &plan.rules())), format!("{wans}{only}"));
        assert_eq!(
            render(&[], &plan.rules()).lines().filter(|l| l.starts_with("rule6")).count(),
            7
        );
    }
}
