//! Taking everything of ours out of the kernel.

use std::fmt;

use super::{Journal, Owner};
use crate::firewall::{self, FirewallError};
use crate::mptcp_pm::{PathManager, PmError};
use crate::netlink::Netlink;
use crate::sysctl;

/// What was found and removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CleanupReport {
    /// Routes and rules that carried our number.
    pub routes_and_rules: usize,
    /// Whether our firewall table was there.
    pub table: bool,
    /// MPTCP endpoints that were ours.
    pub endpoints: usize,
    /// Whether MPTCP limits were put back.
    pub limits: bool,
    /// Settings put back.
    pub sysctls: usize,
    /// What could not be undone, in words. The rest was.
    pub errors: Vec<String>,
}

impl CleanupReport {
    /// Whether there was nothing of ours.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for CleanupReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "removed {} routes and rules, {} MPTCP endpoints, {} firewall table; restored {} \
             settings{}",
            self.routes_and_rules,
            self.endpoints,
            if self.table { "the" } else { "no" },
            self.sysctls,
            if self.limits { " and the MPTCP limits" } else { "" },
        )?;
        for error in &self.errors {
            write!(f, "; {error}")?;
        }
        Ok(())
    }
}

/// Removes every trace of the journal's owner from this network namespace.
///
/// Can be called at any time and any number of times. Goes on after errors, which the report
/// lists. The redirect goes first: from then on the LAN's new connections go their usual way.
pub async fn cleanup(journal: &Journal) -> CleanupReport {
    let mut report = CleanupReport::default();
    let owner = journal.owner();
    let mut tables = vec![owner.nft_table(), owner.tunnel_table(), owner.bypass_table()];
    tables.dedup();
    if owner == Owner::Router {
        tables.push(Owner::DRILL_TABLE);
    }
    for table in tables {
        match firewall::remove(table).await {
            Ok(removed) => report.table |= removed,
            // Who has no nft has no table of ours.
            Err(FirewallError::Missing) => {}
            Err(error) => report.errors.push(error.to_string()),
        }
    }

    match PathManager::new().await {
        Ok(manager) => match manager.undo(journal).await {
            Ok((applied, limits)) => {
                report.endpoints = applied.removed.len();
                report.limits = limits;
                report.errors.extend(applied.failed.iter().map(|(_, error)| error.to_string()));
            }
            Err(error) => report.errors.push(error.to_string()),
        },
        Err(PmError::Unsupported) => {}
        Err(error) => report.errors.push(error.to_string()),
    }

    for netlink in [
        Netlink::for_bypass(owner).await,
        Netlink::for_tunnel(owner).await,
        Netlink::for_owner(owner).await,
    ] {
        let removed = match netlink {
            Ok(netlink) => netlink.remove_own_routing().await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(applied) => {
                report.routes_and_rules += applied.removed;
                report.errors.extend(applied.failed.iter().map(ToString::to_string));
            }
            Err(error) => report.errors.push(error.to_string()),
        }
    }

    let (restored, errors) = sysctl::restore(journal);
    report.sysctls = restored;
    report.errors.extend(errors.iter().map(ToString::to_string));
    report
}
