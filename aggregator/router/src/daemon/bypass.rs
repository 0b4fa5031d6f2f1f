//! Keeps what goes around the bond as the configuration says, while WANs come and go.

use std::net::IpAddr;
use std::sync::Arc;
use wanbond_relay::boxed;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::{debug, info, warn};
use wanbond_control::Status;
use wanbond_control::status::{BypassRuleStatus, BypassStatus};
use wanbond_control::words::Role;
use wanbond_linux::bypass::BypassKernel;
use wanbond_linux::firewall::bypass_counters;
use wanbond_linux::netstate::NetlinkError;
use wanbond_linux::owned::Journal;
use wanbond_linux::prefix::Family;
use wanbond_proto::wan::State;

use super::brain::Brain;
use crate::bypass::dnsmasq::Settings;
use crate::bypass::domains::{self, Found, Wanted};
use crate::bypass::plan::{WanNow, plan};
use crate::bypass::sniff::{Sniffed, Way};
use crate::bypass::{Fallback, Rule, Target};
use crate::netifd::Interfaces;
use crate::wan::duty::Duty;
use crate::wan::facts::Facts;

/// The kernel's part, as the daemon keeps it.
pub(super) struct BypassKeeper {
    kernel: BypassKernel,
    /// Another program may have taken the table.
    suspicious: bool,
    /// What was last complained of, to say it once.
    told: Vec<String>,
    wanted: watch::Sender<Wanted>,
    /// That has been said at least once.
    began: bool,
    domains: watch::Receiver<Found>,
    keeping: AbortHandle,
}

impl Drop for BypassKeeper {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

impl BypassKeeper {
    /// Touches nothing yet.
    ///
    /// # Errors
    /// When no netlink socket is to be had.
    pub(super) async fn new(journal: Journal) -> Result<Self, NetlinkError> {
        let kernel = BypassKernel::new().await?;
        let (wanted, to_do) = watch::channel(Wanted::default());
        let (found, domains) = watch::channel(None);
        let keeping = tokio::spawn(boxed(domains::keep(to_do, found, journal))).abort_handle();
        Ok(Self {
            kernel,
            suspicious: false,
            told: Vec::new(),
            wanted,
            began: false,
            domains,
            keeping,
        })
    }

    /// Has the firewall table looked at when it is next applied.
    pub(super) const fn suspect_firewall(&mut self) {
        self.suspicious = true;
    }
}

impl Brain {
    /// Makes the kernel send what the rules say where they say. `false` if something failed and is to
    /// be tried again.
    pub(super) async fn apply_bypass(&mut self) -> bool {
        let interfaces = Arc::clone(&self.surroundings.interfaces.borrow());
        let rival = self.surroundings.rival.borrow().is_some();
        let plan = plan(
            &self.config.bypass,
            &self.config.globals.bypass,
            &self.lan,
            |names| interfaces.devices(names),
            &self.wans_now(),
            self.bypass.kernel.is_applied(),
        );
        let plan = plan.filter(|_| !rival);
        let keeper = &mut self.bypass;
        let suspicious = std::mem::take(&mut keeper.suspicious);
        let (fresh, problems) = keeper.kernel.apply(plan.as_ref(), suspicious).await;
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for problem in told.iter().filter(|problem| !keeper.told.contains(problem)) {
            warn!(problem, "what goes around the bond could not all be set");
        }
        keeper.told = told;
        let globals = &self.config.globals;
        let settings =
            Settings { dir: globals.dnsmasq_dir.clone(), restart: globals.dnsmasq_restart.clone() };
        let rules: Arc<[Rule]> =
            if plan.is_some() { self.config.bypass.as_slice().into() } else { Arc::new([]) };
        keeper.wanted.send_if_modified(|wanted| {
            let before = wanted.clone();
            *wanted = Wanted { rules, settings, tables: before.tables + u32::from(fresh) };
            // The first time, what an earlier run has left is taken away.
            *wanted != before || !std::mem::replace(&mut keeper.began, true)
        });
        let sniffed = if plan.is_some() { self.sniffed(&interfaces) } else { Vec::new() };
        self.shared.sniffer.set(sniffed, fresh);
        if fresh {
            info!(rules = self.config.bypass.len(), "what goes around the bond");
        } else {
            debug!(there = plan.is_some(), "looked at what goes around the bond");
        }
        self.bypass.told.is_empty()
    }

    /// The rules for connections that the daemon itself carries.
    fn sniffed(&self, interfaces: &Interfaces) -> Vec<Sniffed> {
        let wans = self.wans_now();
        let sources = |picked: &dyn Fn(&WanNow) -> bool| -> Vec<IpAddr> {
            let picked = wans.iter().zip(&self.wans).filter(|(now, _)| picked(now));
            picked
                .filter_map(|(_, wan)| Some(wan.facts.as_ref().ok()?.sources()))
                .flatten()
                .collect()
        };
        let alive = |now: &WanNow| now.ipv4 || now.ipv6;
        let way = |rule: &Rule| match &rule.to {
            Target::Tunnel | Target::Bond => Way::Usual,
            Target::Direct => match sources(&|now| now.shares && alive(now)) {
                none if none.is_empty() => Way::Usual,
                some => Way::From(some),
            },
            Target::Wan(name) => match sources(&|now| now.name == *name && alive(now)) {
                none if none.is_empty() && rule.fallback == Fallback::None => Way::Nowhere,
                none if none.is_empty() => Way::Usual,
                some => Way::From(some),
            },
        };
        let sniffed = |rule: &Rule| Sniffed {
            rule: rule.clone(),
            devices: interfaces.devices(&rule.lan),
            way: way(rule),
        };
        self.config.bypass.iter().map(sniffed).collect()
    }

    fn wans_now(&self) -> Vec<WanNow> {
        let lives = |state: State| state == State::Up;
        // All silent: it may be the server that is gone, and not one of them.
        let none_up = !self.wans.iter().any(|w| w.role != Role::Off && lives(w.health.state()));
        let mut wans: Vec<WanNow> = self
            .wans
            .iter()
            .map(|wan| {
                let facts = wan.facts.as_ref().ok().filter(|_| wan.role != Role::Off);
                let usable = none_up || lives(wan.health.state());
                let has = |family| usable && facts.is_some_and(|facts| facts.has_way(family));
                WanNow {
                    name: wan.name.to_string(),
                    number: wan.path.number(),
                    table: facts.map(|_| Facts::table(wan.path)),
                    ipv4: has(Family::V4),
                    ipv6: has(Family::V6),
                    shares: wan.duty == Duty::Active && !wan.is_spared(),
                }
            })
            .collect();
        let any = |wans: &[WanNow]| wans.iter().any(|w| w.shares && (w.ipv4 || w.ipv6));
        for lowest in [Role::Bond, Role::Overflow, Role::Backup] {
            if any(&wans) {
                break;
            }
            for (now, wan) in wans.iter_mut().zip(&self.wans) {
                now.shares |= wan.role == lowest;
            }
        }
        wans
    }

    /// The rules as the status shows them, without what nftables has counted.
    pub(super) fn bypass_status(&self) -> BypassStatus {
        let wans = self.wans_now();
        let rule = |rule: &Rule| BypassRuleStatus {
            name: rule.name.clone(),
            fits: rule.to_string(),
            to: rule.to.to_string(),
            now: now(rule, &wans),
            connections: 0,
            addresses: (!rule.domains.is_empty()).then_some(0),
        };
        BypassStatus {
            rules: self.config.bypass.iter().map(rule).collect(),
            domains_by: self.domains_by(),
            problem: self.bypass.told.join("; "),
        }
    }
}

impl Brain {
    /// How the addresses of domains are found; empty where no rule has any.
    fn domains_by(&self) -> String {
        if self.config.bypass.iter().all(|rule| rule.domains.is_empty()) {
            return String::new();
        }
        let found = &*self.bypass.domains.borrow();
        match found {
            Some(Ok(())) => "dnsmasq, and the names that connections give themselves".to_owned(),
            Some(Err(why)) => {
                format!("the names that connections give themselves (TLS, QUIC, HTTP): {why}")
            }
            None => "the names that connections give themselves (TLS, QUIC, HTTP)".to_owned(),
        }
    }
}

/// Where what fits a rule goes at the moment.
fn now(rule: &Rule, wans: &[WanNow]) -> String {
    let alive = |wan: &&WanNow| wan.ipv4 || wan.ipv6;
    match &rule.to {
        Target::Bond => "bonded".to_owned(),
        Target::Tunnel => "through the tunnel".to_owned(),
        Target::Direct => {
            let sharing = wans.iter().filter(|wan| wan.shares).filter(alive);
            let names: Vec<&str> = sharing.map(|wan| wan.name.as_str()).collect();
            if names.is_empty() {
                return "bonded, as no WAN is up".to_owned();
            }
            format!("over {}", names.join(", "))
        }
        Target::Wan(name) => {
            if wans.iter().filter(alive).any(|wan| wan.name == *name) {
                return format!("over {name}");
            }
            match rule.fallback {
                Fallback::Bond => format!("bonded, as {name} is down"),
                Fallback::None => format!("refused, as {name} is down"),
            }
        }
    }
}

/// Fills in what nftables has counted.
pub(super) async fn with_counters(mut status: Box<Status>) -> Box<Status> {
    let rules = &mut status.bypass.rules;
    let names: Vec<_> =
        rules.iter().map(|rule| (rule.name.clone(), rule.addresses.is_some())).collect();
    match bypass_counters(&names).await {
        Ok(taken) => {
            for (rule, taken) in rules.iter_mut().zip(taken) {
                rule.connections = taken.connections;
                rule.addresses = rule.addresses.map(|_| taken.addresses as u64);
            }
        }
        // Just going, or not there yet; why is told elsewhere.
        Err(error) => debug!(%error, "what was counted is not known"),
    }
    status
}
