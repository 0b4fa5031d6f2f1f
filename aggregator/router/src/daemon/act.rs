//! What follows from the WANs' health: in the kernel, in the tunnel, for those who choose a WAN, and
//! for people.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use wanbond_control::words::{MptcpState, Role, ServerState, TcpMode, WhenServerDown};
use wanbond_control::{Event, EventKind};
use wanbond_proto::wan::{Reason, State};

use super::AFTER_KERNEL_ERROR;
use super::brain::Brain;
use super::kernel::{EndpointWanted, Wanted};
use super::usage;
use crate::link::LinkHint;
use crate::shared::WanView;
use crate::wan::Wan;
use crate::wan::duty::{self, Candidate, Duty};
use crate::wan::facts::Facts;

/// `when_server_down 'direct'`: the redirect is taken away when the server has been gone for this
/// long, which is known half a second after it went. What was begun before waits for the server; so
/// a restart that is quicker costs nothing, and one that is slower some connections around it.
const DIRECT_AFTER: Duration = Duration::from_millis(200);
/// Subflows that have been silent for so long wait in ever longer pauses before they try again:
/// new ones are quicker.
const STALE_AFTER: Duration = Duration::from_secs(2);
/// How long the kernel is given to join a WAN that has come back to the lanes there are.
const JOIN_TIME: Duration = Duration::from_secs(2);
/// Between two looks whether lanes use every WAN, while there are flows.
const LOOK_AT_LANES: Duration = Duration::from_secs(3);
/// And at most, while repairs are of no use.
const MOST_REPAIR_PAUSE: Duration = Duration::from_secs(300);

impl Brain {
    /// Looks at the kernel, and makes it what it should be.
    pub(super) async fn apply(&mut self) {
        self.apply_at = None;
        match self.netlink.snapshot().await {
            Ok(net) => self.net = net,
            Err(error) => {
                warn!(%error, "the kernel's links can't be listed");
                self.apply_at = Some(Instant::now() + AFTER_KERNEL_ERROR);
                return;
            }
        }
        if !self.config.globals.enabled {
            return;
        }
        if !self.goes_direct() {
            // Before the redirect is there: what it brings is to be waited for.
            self.set_direct(false);
        }
        // Routes come first: sockets are of use only with them.
        let facts = self.find_links();
        let wanted = self.wanted(&facts);
        if !self.kernel.apply(&wanted).await {
            self.apply_at = Some(Instant::now() + AFTER_KERNEL_ERROR);
        }
        let mut changed = false;
        for (wan, facts) in self.wans.iter_mut().zip(facts) {
            changed |= wan.set_facts(&self.shared, facts);
        }
        if changed {
            self.sample_rates();
            let _ = self.shared.link.try_send(LinkHint::WansChanged);
        }
        self.announced.resize(self.wans.len(), (State::Down, Reason::NoLink));
        let facts: Vec<_> = self.wans.iter().map(|wan| wan.facts.clone()).collect();
        let again = self.wanted(&facts);
        if again != wanted && !self.kernel.apply(&again).await {
            self.apply_at = Some(Instant::now() + AFTER_KERNEL_ERROR);
        }
        for wan in &mut self.wans {
            wan.renew_endpoints = false;
        }
        self.publish();
        self.set_direct(self.goes_direct() && !self.kernel.redirects());
        if !self.apply_bypass().await {
            self.apply_at = Some(Instant::now() + AFTER_KERNEL_ERROR);
        }
        let devices =
            self.wans.iter().filter_map(|wan| Some(wan.facts.as_ref().ok()?.device.clone()));
        let devices = devices.collect();
        if !self.tunnel.update(&self.shared, &self.config.globals, &self.lan, devices).await {
            self.apply_at = Some(Instant::now() + AFTER_KERNEL_ERROR);
        } else if let Some(at) = self.tunnel.update_at() {
            self.apply_at = Some(self.apply_at.map_or(at, |set| set.min(at)));
        }
    }

    /// Takes the endpoints of WANs that have gone silent away, before anything else: the kernel then
    /// moves what was on its way over them to the others.
    pub(super) async fn drop_silent(&mut self) {
        self.urgent = false;
        let facts: Vec<_> = self.wans.iter().map(|wan| wan.facts.clone()).collect();
        if let Some(endpoints) = self.wanted(&facts).endpoints {
            // Again at the next apply, if it fails.
            let _ = self.kernel.apply_endpoints(&endpoints).await;
        }
    }

    /// When the redirect is to be taken away because the server is gone.
    pub(super) fn direct_at(&self) -> Option<Instant> {
        let standing = self.shared.standing();
        let gone = standing.state != ServerState::Connected;
        (gone
            && self.kernel.redirects()
            && self.config.globals.when_server_down == WhenServerDown::Direct)
            .then(|| self.instant(standing.since + DIRECT_AFTER))
    }

    fn set_direct(&self, direct: bool) {
        self.shared.direct.send_if_modified(|was| std::mem::replace(was, direct) != direct);
    }

    /// Whether the LAN's connections are to go around a server that is gone.
    fn goes_direct(&self) -> bool {
        let standing = self.shared.standing();
        let gone_for = self.shared.clock.now().since(standing.since);
        standing.state != ServerState::Connected
            && self.config.globals.when_server_down == WhenServerDown::Direct
            && (!self.kernel.redirects() || gone_for >= DIRECT_AFTER)
    }

    /// What the kernel should hold, given the links.
    fn wanted(&self, facts: &[Result<Facts, String>]) -> Wanted {
        let direct = self.goes_direct();
        let egress = self.shared.sessions.current().map(|session| session.with(|s| s.egress()));
        let used = |wan: &Wan| wan.role != Role::Off;
        let living = |wan: &Wan| used(wan) && wan.health.state() == State::Up;
        let any_living = self.wans.iter().any(living);
        let pairs = || self.wans.iter().zip(facts).filter_map(|(w, f)| Some((w, f.as_ref().ok()?)));
        Wanted {
            routes: pairs().filter(|(w, _)| used(w)).flat_map(|(w, f)| f.routes(w.path)).collect(),
            // While no WAN answers, the last known ones stay: their connections are still there when
            // the first comes back.
            endpoints: any_living.then(|| {
                pairs()
                    .filter(|(w, _)| living(w) && !w.is_spared())
                    .flat_map(|(w, f)| {
                        f.ways.iter().map(move |way| EndpointWanted {
                            address: way.source,
                            ifindex: f.ifindex,
                            backup: w.duty == Duty::Standby || w.hindrance.is_aside(),
                            renew: w.renew_endpoints,
                        })
                    })
                    .collect()
            }),
            loose_devices: pairs().map(|(_, f)| f.device.clone()).collect(),
            redirect: (!direct && self.config.globals.tcp != TcpMode::Packet).then(|| {
                super::kernel::redirect(
                    &self.config.globals,
                    &self.lan,
                    &self.shared.server.borrow(),
                    egress,
                )
            }),
        }
    }

    /// Shows the WANs to those who choose one.
    pub(super) fn publish(&self) {
        let views: Arc<[WanView]> =
            self.wans.iter().filter(|wan| wan.role != Role::Off).map(Wan::view).collect();
        self.shared.wans.send_replace(views);
        self.shared.lanes.wake();
    }

    /// Acts on what the state machines have decided.
    pub(super) fn announce(&mut self) {
        let now = self.shared.clock.now();
        let mut changed = false;
        let mut risen = false;
        let any_lived = self.announced.iter().any(|(state, _)| *state == State::Up);
        let any_lives = self.wans.iter().any(|wan| wan.health.state() == State::Up);
        for (wan, before) in self.wans.iter_mut().zip(&mut self.announced) {
            let state = (wan.health.state(), wan.health.reason());
            if state == *before {
                continue;
            }
            if state.0 == State::Up && before.0 != State::Up {
                risen = true;
                // Its endpoints were left while it was silent, as there was no other WAN.
                let silent = wan.silent_since.take();
                wan.renew_endpoints |=
                    !any_lived && silent.is_some_and(|since| now.since(since) > STALE_AFTER);
                wan.look_at_lanes = Some(now + JOIN_TIME);
                wan.repairs = 0;
            }
            if state.1 == Reason::Silent {
                wan.silent_since.get_or_insert(now);
                if before.0 == State::Up && any_lives {
                    self.urgent = true;
                    if let Some(tunnel) = self.shared.tunnel() {
                        tunnel.path_silent(wan.path);
                    }
                }
            }
            *before = state;
            changed = true;
            let why = wan.why(now);
            let name = &wan.name;
            let words = wan.state();
            info!(wan = %name, state = %words, %why, "WAN changed");
            if wan.role == Role::Off {
                // Whoever did that was told when it got this role.
                continue;
            }
            let message = if why.is_empty() {
                format!("WAN {name} is {words}")
            } else {
                format!("WAN {name} is {words}: {why}")
            };
            let event = Event::new(self.shared.uptime_s(), EventKind::WanState, message)
                .of_wan(name.to_string());
            let bad = wan.health.state() == State::Down;
            self.shared.log(if bad { event.warning() } else { event });
        }
        self.assign_duties();
        for wan in &mut self.wans {
            changed |= wan.follow_carrier(&self.shared);
        }
        if changed {
            self.apply_at = Some(Instant::now());
            let _ = self.shared.link.try_send(LinkHint::WansChanged);
            // A WAN that went down must not be chosen any more. One that came up must not be chosen
            // yet: a connection that is begun before its address is an MPTCP endpoint is never
            // joined by others (the kernel looks at its creation whether there will be work).
            // `apply` publishes it.
            if !risen {
                self.publish();
            }
            self.judge_server();
        }
        if risen {
            // Lanes are looked at while there are flows.
            self.start_ticking();
        }
    }

    /// Gives each WAN its duty, and acts on what has changed.
    pub(super) fn assign_duties(&mut self) {
        let candidates: Vec<_> = self
            .wans
            .iter()
            .map(|wan| Candidate {
                role: wan.role,
                up: wan.health.state() == State::Up,
                exhausted: wan.is_exhausted(),
            })
            .collect();
        let duties = duty::assign(&candidates, self.overflow.on);
        let now = self.shared.clock.now();
        for (wan, duty) in self.wans.iter_mut().zip(duties) {
            let was = std::mem::replace(&mut wan.duty, duty);
            wan.health.set_spared(now, wan.is_spared());
            if was == duty {
                continue;
            }
            self.apply_at = Some(Instant::now());
            if wan.health.state() == State::Up && duty != Duty::Off && was != Duty::Off {
                let used = duty == Duty::Active;
                info!(wan = %wan.name, role = %wan.role, used, "standby or not");
                let words = if used { "is used now" } else { "stands by again" };
                let message = format!("WAN {} ({}) {words}", wan.name, wan.role);
                let event = Event::new(self.shared.uptime_s(), EventKind::WanRole, message);
                self.shared.log(event.of_wan(wan.name.to_string()));
            }
        }
    }

    /// Books what metered WANs have carried, and looks whether the others are full.
    pub(super) fn count_and_weigh(&mut self) {
        let today = usage::today();
        for wan in &mut self.wans {
            let Some(limit) = wan.config.quota else { continue };
            let carried = wan.rate.total.rx.saturating_add(wan.rate.total.tx);
            let more = carried.saturating_sub(wan.booked);
            wan.booked = carried;
            let told = wan.ledger.add(today, wan.config.billing_day, more, limit.0);
            self.usage.set(&wan.name, wan.ledger, limit.0);
            if let Some(share) = told {
                let left = if share >= 100 { "; it is used only in an emergency now" } else { "" };
                let message = format!(
                    "WAN {} has carried {share} % of its {limit} this month{left}",
                    wan.name
                );
                warn!(wan = %wan.name, share, %limit, "quota");
                let event = Event::new(self.shared.uptime_s(), EventKind::Quota, message);
                self.shared.log(event.of_wan(wan.name.to_string()).warning());
            }
        }
        let bond = |wan: &&Wan| {
            wan.role == Role::Bond && !wan.is_exhausted() && wan.health.state() == State::Up
        };
        let mut bonds = self.wans.iter().filter(bond).peekable();
        let full = bonds.peek().is_some() && bonds.all(|wan| wan.is_full(&self.shared));
        self.overflow.look(full);
        self.assign_duties();
    }

    /// Looks whether the lanes use every living WAN, and has the kernel join the WAN anew where not:
    /// it does not do so by itself once it has failed.
    pub(super) fn repair_lanes(&mut self) {
        let now = self.shared.clock.now();
        for wan in &mut self.wans {
            let usable = wan.health.state() == State::Up
                && wan.duty == Duty::Active
                && wan.mptcp == MptcpState::Working;
            if !usable || wan.look_at_lanes.is_some_and(|at| now < at) {
                continue;
            }
            let sources: Vec<_> = wan.sockets.iter().map(|socket| socket.source).collect();
            let lacking = self.shared.lanes.lacking(now, &sources);
            if lacking == 0 {
                wan.repairs = 0;
                wan.look_at_lanes = Some(now + LOOK_AT_LANES);
                continue;
            }
            let pause = (2 * JOIN_TIME).saturating_mul(1 << wan.repairs.min(8));
            wan.look_at_lanes = Some(now + pause.min(MOST_REPAIR_PAUSE));
            wan.repairs += 1;
            wan.renew_endpoints = true;
            self.apply_at = Some(Instant::now());
            info!(wan = %wan.name, lacking, "connections lack this WAN: it is joined anew");
        }
    }

    /// The server is unreachable when no WAN reaches it, and reached again with the first that does.
    pub(super) fn judge_server(&self) {
        let silent = |wan: &&Wan| wan.health.reason() == Reason::Silent;
        let any_up = self.wans.iter().any(|wan| wan.health.state() == State::Up);
        let connected = self.shared.standing().state == ServerState::Connected;
        if any_up && !connected && self.shared.sessions.current().is_some() {
            self.shared.set_server_state(ServerState::Connected, "");
        } else if !any_up && connected && self.wans.iter().any(|wan| silent(&wan)) {
            let why = "the server has stopped answering over every WAN";
            self.shared.set_server_state(ServerState::Unreachable, why);
            // It may be there again without knowing the session.
            let _ = self.shared.link.try_send(LinkHint::ServerSilent);
        }
    }

    /// Changes a WAN's role until the next reload or start.
    pub(super) fn set_role(&mut self, place: usize, role: Role) {
        let wan = &mut self.wans[place];
        if wan.role == role {
            return;
        }
        let was = std::mem::replace(&mut wan.role, role);
        info!(wan = %wan.name, %was, %role, "role changed");
        let name = &wan.name;
        let message = match (was, role) {
            (_, Role::Off) if wan.is_paused() => format!("WAN {name} is paused"),
            (Role::Off, _) => format!("WAN {name} is resumed, its role is {role}"),
            _ => format!("WAN {name}: {was} → {role}"),
        };
        let event = Event::new(self.shared.uptime_s(), EventKind::WanRole, message);
        self.shared.log(event.of_wan(wan.name.to_string()));
        self.assign_duties();
        self.apply_at = Some(Instant::now());
    }
}
