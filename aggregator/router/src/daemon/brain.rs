//! The task that owns the WANs and decides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};
use wanbond_control::words::{MptcpState, Role, ServerState, TcpMode, WhenServerDown};
use wanbond_control::{Event, EventKind};
use wanbond_linux::netstate::{NetState, Netlink};
use wanbond_linux::owned::Journal;
use wanbond_proto::Time;
use wanbond_proto::datagram::{MAX_PATHS, PathId};
use wanbond_proto::wan::{Reason, State};

use super::AFTER_KERNEL_ERROR;
use super::control::Asked;
use super::kernel::{Kernel, Wanted};
use super::tunnel::TunnelKeeper;
use crate::config::Config;
use crate::link::LinkHint;
use crate::shared::{Shared, WanEvidence, WanView};
use crate::wan::facts::Facts;
use crate::wan::{Wan, counters, socket};

/// A WAN whose pings are not answered for this long is tried by TCP.
pub(crate) const TCP_TRY_AFTER: Duration = Duration::from_millis(1500);
/// And again after this long.
const TCP_TRY_EVERY: Duration = Duration::from_secs(10);
/// Rates are measured this often while flows are active.
const TICK: Duration = Duration::from_secs(1);
/// `when_server_down 'direct'`: the redirect is taken away when the server has been gone for this
/// long. A restart of the server is shorter.
const DIRECT_AFTER: Duration = Duration::from_secs(3);

pub(crate) struct Brain {
    pub(super) config: Config,
    pub(super) shared: Arc<Shared>,
    netlink: Netlink,
    kernel: Kernel,
    tunnel: TunnelKeeper,
    pub(super) wans: Vec<Wan>,
    pub(super) lan: Vec<String>,
    net: NetState,
    /// When what is in the kernel must be looked at again.
    apply_at: Option<Instant>,
    tick_at: Option<Instant>,
    last_bytes: usize,
    pub(super) last_sample: Time,
    announced: Vec<(State, Reason)>,
}

impl Brain {
    pub(super) async fn new(config: Config, shared: Arc<Shared>, journal: Journal) -> Result<Self> {
        let netlink = Netlink::new().await.context("netlink")?;
        let tunnel = TunnelKeeper::new(journal.clone()).await.context("netlink")?;
        let kernel = Kernel::new(netlink.clone(), journal, config.globals.enabled).await;
        let mut brain = Self {
            lan: config.globals.lan.clone(),
            wans: Vec::new(),
            shared,
            netlink,
            kernel,
            tunnel,
            net: NetState::default(),
            apply_at: Some(Instant::now()),
            tick_at: None,
            last_bytes: 0,
            last_sample: Time::ZERO,
            announced: Vec::new(),
            config: Config { wans: Vec::new(), ..config.clone() },
        };
        brain.reconfigure(config);
        Ok(brain)
    }

    /// Takes a configuration: WANs that are in both keep what is known of them.
    fn reconfigure(&mut self, config: Config) {
        let now = self.shared.clock.now();
        let mut old = std::mem::take(&mut self.wans);
        for wan in &config.wans {
            let kept =
                old.iter().position(|w| w.config.name == wan.name && w.config.link == wan.link);
            if let Some(place) = kept {
                let mut kept = old.remove(place);
                if kept.config.role != wan.role {
                    kept.role = wan.role;
                }
                kept.config = wan.clone();
                self.wans.push(kept);
                continue;
            }
            let taken = |path: &PathId| self.wans.iter().chain(&old).any(|wan| wan.path == *path);
            let free = (0..MAX_PATHS as u8).filter_map(PathId::new).find(|path| !taken(path));
            let Some(path) = free else {
                warn!(wan = wan.name, limit = MAX_PATHS, "too many WANs, this one is left out");
                continue;
            };
            self.wans.push(Wan::new(wan.clone(), path, now));
        }
        self.announced = self.wans.iter().map(|w| (w.health.state(), w.health.reason())).collect();
        self.lan.clone_from(&config.globals.lan);
        self.config = config;
        self.apply_at = Some(Instant::now());
    }

    pub(super) async fn run(
        &mut self,
        mut evidence: mpsc::Receiver<WanEvidence>,
        mut reloads: mpsc::Receiver<Config>,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> Result<()> {
        let mut changes = self.netlink.changes();
        let mut sessions = self.shared.sessions.subscribe();
        let mut standing = self.shared.watch_standing();
        let mut server = self.shared.server.subscribe();
        let mut forwards = self.shared.forwards.subscribe();
        let shared = Arc::clone(&self.shared);
        loop {
            if self.apply_at.is_some_and(|at| at <= Instant::now()) {
                self.apply().await;
            }
            let wake = [self.health_timeout(), self.apply_at, self.tick_at, self.direct_at()];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                () = changes.next() => self.apply_at = Some(Instant::now()),
                Some(found) = evidence.recv() => self.take_evidence(found),
                Some(config) = reloads.recv() => {
                    info!("configuration read again");
                    let at = self.shared.uptime_s();
                    self.shared.log(Event::new(at, EventKind::Reloaded, "configuration read again"));
                    self.reconfigure(config);
                }
                Some(asked) = asked.recv() => self.answer(asked),
                _ = sessions.changed() => {
                    // Whatever the paths are, the new session must be confirmed and they measured.
                    for wan in &self.wans {
                        // Not one of the numbered: only to be heard of.
                        let _ = socket::ping(&shared, wan.path, &wan.sockets, u32::MAX);
                    }
                    shared.lanes.wake();
                    self.apply_at = Some(Instant::now());
                }
                _ = standing.changed() => self.apply_at = Some(Instant::now()),
                _ = forwards.changed() => self.apply_at = Some(Instant::now()),
                _ = server.changed() => self.apply_at = Some(Instant::now()),
                () = shared.flow_started.notified() => self.start_ticking(),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.let_time_pass();
            self.announce();
        }
    }

    fn instant(&self, at: Time) -> Instant {
        Instant::now() + at.since(self.shared.clock.now())
    }

    fn health_timeout(&self) -> Option<Instant> {
        if !self.config.globals.enabled {
            return None;
        }
        let next = self.wans.iter().filter_map(|wan| wan.health.poll_timeout()).min()?;
        Some(self.instant(next))
    }

    /// When the redirect is to be taken away because the server is gone.
    fn direct_at(&self) -> Option<Instant> {
        let standing = self.shared.standing();
        let gone = standing.state != ServerState::Connected;
        (gone
            && self.kernel.redirects()
            && self.config.globals.when_server_down == WhenServerDown::Direct)
            .then(|| self.instant(standing.since + DIRECT_AFTER))
    }

    fn take_evidence(&mut self, evidence: WanEvidence) {
        let now = self.shared.clock.now();
        let path = match &evidence {
            WanEvidence::Pong { path, .. }
            | WanEvidence::LaneUp { path, .. }
            | WanEvidence::LaneFailed { path } => *path,
        };
        let Some(wan) = self.wans.iter_mut().find(|wan| wan.path == path) else { return };
        match evidence {
            WanEvidence::Pong { number, observed, .. } => {
                wan.health.handle_pong(now, number);
                if observed.is_some() {
                    wan.observed = observed;
                }
            }
            WanEvidence::LaneUp { rtt, mptcp, .. } => {
                wan.health.handle_tcp_connected(now, rtt);
                if wan.mptcp != mptcp {
                    wan.mptcp = mptcp;
                    let event = Event::new(
                        self.shared.uptime_s(),
                        EventKind::WanMptcp,
                        format!("WAN {}: MPTCP {mptcp}", wan.name),
                    )
                    .of_wan(wan.name.to_string());
                    let bad = mptcp == MptcpState::Stripped;
                    self.shared.log(if bad { event.warning() } else { event });
                }
            }
            WanEvidence::LaneFailed { .. } => wan.health.handle_tcp_failed(now),
        }
    }

    /// Pings that are due, time-outs, ticks.
    fn let_time_pass(&mut self) {
        if !self.config.globals.enabled {
            return;
        }
        let now = self.shared.clock.now();
        for wan in &mut self.wans {
            if let Some(number) = wan.health.handle_timeout(now)
                && !socket::ping(&self.shared, wan.path, &wan.sockets, number)
            {
                wan.health.withdraw(number);
            }
            // A lane over the WAN tells whether TCP gets through where UDP does not, and what
            // becomes of MPTCP there.
            let known = wan.health.state() == State::Up
                && wan.health.reason() == Reason::Answers
                && wan.mptcp != MptcpState::Unknown;
            if wan.facts.is_ok() && !known && now >= wan.next_tcp_try {
                wan.next_tcp_try = now + TCP_TRY_EVERY;
                tokio::spawn(crate::lanes::try_wan(Arc::clone(&self.shared), wan.view()));
            }
        }
        if self.tick_at.is_some_and(|at| at <= Instant::now()) {
            self.tick();
        }
        if self.direct_at().is_some_and(|at| at <= Instant::now()) {
            self.apply_at = Some(Instant::now());
        }
    }

    fn start_ticking(&mut self) {
        if self.tick_at.is_none() {
            self.sample_rates();
            self.tick_at = Some(Instant::now() + TICK);
        }
        self.set_active(true);
    }

    fn set_active(&mut self, active: bool) {
        let now = self.shared.clock.now();
        for wan in &mut self.wans {
            wan.health.set_active(now, active && wan.role != Role::Off);
        }
    }

    fn tick(&mut self) {
        self.sample_rates();
        let traffic = &self.shared.traffic;
        let bytes = traffic
            .sent
            .load(Ordering::Relaxed)
            .wrapping_add(traffic.received.load(Ordering::Relaxed));
        let moved = bytes != self.last_bytes;
        self.last_bytes = bytes;
        self.set_active(moved);
        if self.apply_at.is_none() {
            // Round-trip times have moved on.
            self.publish();
        }
        let flows = self.shared.counters.flows_active.load(Ordering::Relaxed);
        // One last tick after the last flow shows its rate as zero.
        self.tick_at = (flows > 0 || moved).then(|| Instant::now() + TICK);
    }

    pub(super) fn sample_rates(&mut self) {
        let now = self.shared.clock.now();
        self.last_sample = now;
        let all = counters::read_all();
        for wan in &mut self.wans {
            if let Ok(facts) = &wan.facts
                && let Some(&bytes) = all.get(&facts.device)
            {
                wan.rate.sample(now, &facts.device, bytes);
            }
        }
    }

    /// Looks at the kernel, and makes it what it should be.
    async fn apply(&mut self) {
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
        // Routes come first: sockets are of use only with them.
        let facts: Vec<_> =
            self.wans.iter().map(|wan| Facts::find(&self.net, wan.config.link.name())).collect();
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
        self.publish();
        if !self.tunnel.update(&self.shared, &self.config.globals, &self.lan).await {
            self.apply_at = Some(Instant::now() + AFTER_KERNEL_ERROR);
        }
    }

    /// What the kernel should hold, given the links.
    fn wanted(&self, facts: &[Result<Facts, String>]) -> Wanted {
        let standing = self.shared.standing();
        let now = self.shared.clock.now();
        let gone = standing.state != ServerState::Connected;
        let direct = gone
            && self.config.globals.when_server_down == WhenServerDown::Direct
            && (!self.kernel.redirects() || now.since(standing.since) >= DIRECT_AFTER);
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
                    .filter(|(w, _)| living(w))
                    .flat_map(|(w, f)| {
                        let backup = w.role == Role::Backup;
                        f.ways.iter().map(move |way| (way.source, f.ifindex, backup))
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
    fn publish(&self) {
        let views: Arc<[WanView]> =
            self.wans.iter().filter(|wan| wan.role != Role::Off).map(Wan::view).collect();
        self.shared.wans.send_replace(views);
        self.shared.lanes.wake();
    }

    /// Acts on what the state machines have decided.
    fn announce(&mut self) {
        let mut changed = false;
        let mut risen = false;
        for (wan, before) in self.wans.iter().zip(&mut self.announced) {
            let state = (wan.health.state(), wan.health.reason());
            if state == *before {
                continue;
            }
            risen |= state.0 == State::Up && before.0 != State::Up;
            *before = state;
            changed = true;
            let why = wan.why();
            let name = &wan.name;
            let words = wan.state();
            info!(wan = %name, state = %words, %why, "WAN changed");
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
    }

    /// The server is unreachable when no WAN reaches it, and reached again with the first that does.
    fn judge_server(&self) {
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
        let event = Event::new(
            self.shared.uptime_s(),
            EventKind::WanRole,
            format!("WAN {}: {was} → {role}", wan.name),
        );
        self.shared.log(event.of_wan(wan.name.to_string()));
        self.apply_at = Some(Instant::now());
    }
}
