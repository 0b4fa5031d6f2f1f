//! The task that owns the WANs and decides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use wanbond_relay::boxed;

use anyhow::{Context as _, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use wanbond_control::words::MptcpState;
use wanbond_control::{Event, EventKind};
use wanbond_linux::firewall::TableWatch;
use wanbond_linux::netstate::{NetState, Netlink};
use wanbond_linux::owned::{Journal, Owner};
use wanbond_linux::processor::Processor;
use wanbond_proto::Time;
use wanbond_proto::datagram::{MAX_PATHS, PathId};
use wanbond_proto::tunnel::Liveness;
use wanbond_proto::wan::{Reason, State};

use super::bypass::BypassKeeper;
use super::control::Asked;
use super::kernel::Kernel;
use super::surroundings::Surroundings;
use super::tunnel::TunnelKeeper;
use super::usage::Usage;
use crate::config::Config;
use crate::lanes::preference::Preference;
use crate::shared::{Shared, WanEvidence};
use crate::wan::duty::{Duty, Overflow};
use crate::wan::{Wan, counters, socket};

/// A WAN whose pings are not answered for this long is tried by TCP.
pub(crate) const TCP_TRY_AFTER: Duration = Duration::from_millis(1500);
/// And again after this long.
const TCP_TRY_EVERY: Duration = Duration::from_secs(10);
/// Or after this long, where the connection that carried its datagrams has broken.
const AFTER_CARRIER_LOST: Duration = Duration::from_secs(1);
/// A WAN that strips MPTCP is tried again after this long.
const STRIPPED_TRY_EVERY: Duration = Duration::from_secs(60);
/// A WAN that costs money and is not needed is tried by TCP this seldom.
pub(crate) const SPARED_TRY_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Rates are measured this often while flows are active.
const TICK: Duration = Duration::from_secs(1);
/// And this often while little happens, for the history.
const IDLE_TICK: Duration = Duration::from_secs(10);
/// Traffic that is worth a look each second, bits per second.
const WORTH_A_LOOK: u64 = 50_000;
/// What WANs' devices have received is looked at this often while flows are active.
const LOOK: Duration = Duration::from_millis(25);

/// What another program's change of the firewall is given to end.
const AFTER_FLUSH: Duration = Duration::from_millis(100);

pub(crate) struct Brain {
    pub(super) config: Config,
    pub(super) shared: Arc<Shared>,
    pub(super) netlink: Netlink,
    pub(super) kernel: Kernel,
    pub(super) tunnel: TunnelKeeper,
    pub(super) wans: Vec<Wan>,
    pub(super) lan: Vec<String>,
    pub(super) net: NetState,
    /// When what is in the kernel must be looked at again.
    pub(super) apply_at: Option<Instant>,
    /// A WAN has gone silent and another lives.
    pub(super) urgent: bool,
    tick_at: Option<Instant>,
    look_at: Option<Instant>,
    last_bytes: usize,
    pub(super) last_sample: Time,
    pub(super) announced: Vec<(State, Reason)>,
    pub(super) surroundings: Surroundings,
    pub(super) overflow: Overflow,
    pub(super) preference: Preference,
    /// When the lines' queues were last looked at, and what flows had carried by then.
    pub(super) queues_seen: (Time, usize),
    pub(super) usage: Usage,
    pub(super) processor: Processor,
    pub(super) bypass: BypassKeeper,
}

impl Brain {
    pub(super) async fn new(
        config: Config,
        shared: Arc<Shared>,
        journal: Journal,
        surroundings: Surroundings,
        usage: Usage,
    ) -> Result<Self> {
        let netlink = Netlink::new().await.context("netlink")?;
        let tunnel = TunnelKeeper::new(journal.clone()).await.context("netlink")?;
        let of_bypass = journal.clone();
        let kernel = Kernel::new(netlink.clone(), journal, config.globals.enabled).await;
        let sealed = shared.sealed;
        let mut brain = Self {
            lan: config.globals.lan.clone(),
            wans: Vec::new(),
            shared,
            netlink,
            kernel,
            tunnel,
            net: NetState::default(),
            apply_at: Some(Instant::now()),
            urgent: false,
            tick_at: Some(Instant::now() + TICK),
            look_at: None,
            last_bytes: 0,
            last_sample: Time::ZERO,
            announced: Vec::new(),
            surroundings,
            overflow: Overflow::default(),
            preference: Preference::new(sealed),
            queues_seen: (Time::ZERO, 0),
            usage,
            processor: Processor::default(),
            bypass: BypassKeeper::new(of_bypass).await.context("netlink")?,
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
            let mut wan = Wan::new(wan.clone(), path, now);
            wan.ledger = self.usage.of(&wan.name);
            self.wans.push(wan);
        }
        self.announced = self.wans.iter().map(|w| (w.health.state(), w.health.reason())).collect();
        self.lan.clone_from(&config.globals.lan);
        self.config = config;
        self.assign_duties();
        self.apply_at = Some(Instant::now());
    }

    pub(super) async fn run(
        &mut self,
        mut evidence: mpsc::Receiver<WanEvidence>,
        mut reloads: mpsc::Receiver<Config>,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> Result<()> {
        let mut changes = self.netlink.changes();
        let mut tables = TableWatch::new().inspect_err(|error| debug!(%error, "nftables")).ok();
        let mut sessions = self.shared.sessions.subscribe();
        let mut standing = self.shared.watch_standing();
        let mut server = self.shared.server.subscribe();
        let mut forwards = self.shared.forwards.subscribe();
        let mut names = self.shared.names_answered.subscribe();
        let mut servers = self.shared.servers.subscribe();
        let shared = Arc::clone(&self.shared);
        loop {
            if self.urgent {
                self.drop_silent().await;
            }
            if self.apply_at.is_some_and(|at| at <= Instant::now()) {
                self.apply().await;
            }
            let wake = self.wake_at();
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
                    for wan in self.wans.iter().filter(|wan| !wan.is_spared()) {
                        // Not one of the numbered: only to be heard of.
                        let _ = socket::ping(&shared, wan.path, &wan.sockets, u32::MAX);
                    }
                    shared.lanes.wake();
                    self.apply_at = Some(Instant::now());
                }
                _ = standing.changed() => self.apply_at = Some(Instant::now()),
                _ = names.changed() => self.apply_at = Some(Instant::now()),
                _ = servers.changed() => {
                    let now = shared.clock.now();
                    self.wans.iter_mut().for_each(|wan| wan.forget_server(now));
                    self.apply_at = Some(Instant::now());
                }
                _ = forwards.changed() => self.apply_at = Some(Instant::now()),
                _ = server.changed() => self.apply_at = Some(Instant::now()),
                () = tables_lost(&mut tables) => {
                    self.kernel.suspect_firewall();
                    self.bypass.suspect_firewall();
                    // A firewall that is restarted deletes first and then puts its own there.
                    self.apply_at.get_or_insert(Instant::now() + AFTER_FLUSH);
                }
                () = self.surroundings.changed() => self.surroundings_changed(),
                () = shared.flow_started.notified() => self.start_ticking(),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            self.let_time_pass();
            self.announce();
        }
    }

    pub(super) fn instant(&self, at: Time) -> Instant {
        Instant::now() + at.since(self.shared.clock.now())
    }

    /// When something is due. While it is switched off there is nothing to look at, however long
    /// that has been due.
    fn wake_at(&self) -> Option<Instant> {
        if !self.config.globals.enabled {
            return self.apply_at;
        }
        let times =
            [self.health_timeout(), self.apply_at, self.tick_at, self.look_at, self.direct_at()];
        times.into_iter().flatten().min()
    }

    fn health_timeout(&self) -> Option<Instant> {
        let next = self.wans.iter().filter_map(|wan| wan.health.poll_timeout()).min()?;
        Some(self.instant(next))
    }

    fn take_evidence(&mut self, evidence: WanEvidence) {
        let now = self.shared.clock.now();
        let path = match &evidence {
            WanEvidence::Pong { path, .. }
            | WanEvidence::LaneUp { path, .. }
            | WanEvidence::LaneFailed { path }
            | WanEvidence::CarrierChanged { path }
            | WanEvidence::CarrierLost { path }
            | WanEvidence::Tunnel { path, .. } => *path,
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
                if wan.mptcp != mptcp && mptcp != MptcpState::Unknown {
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
            WanEvidence::Tunnel { liveness: Liveness::Live, .. } => {
                wan.health.handle_sign_of_life(now);
            }
            WanEvidence::CarrierChanged { .. } => self.apply_at = Some(Instant::now()),
            WanEvidence::CarrierLost { .. } => {
                wan.health.handle_tcp_failed(now);
                wan.next_tcp_try = wan.next_tcp_try.min(now + AFTER_CARRIER_LOST);
            }
            WanEvidence::Tunnel { .. } => {
                wan.health.handle_suspicion(now);
                if let Some(carrier) = &wan.carrier {
                    carrier.doubt();
                }
                // The tunnel carries something: time to look closely.
                self.start_ticking();
            }
        }
    }

    /// Looks at what has come in over every WAN.
    fn look(&mut self) {
        let now = self.shared.clock.now();
        let all = counters::read_all();
        let sound = self.wans.iter().filter(|wan| wan.health.is_sound(now)).count();
        for wan in &mut self.wans {
            let others = sound - usize::from(wan.health.is_sound(now));
            wan.health.set_alternative(others > 0);
            if let Ok(facts) = &wan.facts
                && let Some(bytes) = all.get(&facts.device)
            {
                wan.health.handle_received(now, bytes.rx_packets);
            }
        }
        self.look_at_queues();
        self.look_at = Some(Instant::now() + LOOK);
    }

    /// Pings that are due, time-outs, ticks.
    fn let_time_pass(&mut self) {
        if !self.config.globals.enabled {
            return;
        }
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look();
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
            let answers = wan.health.state() == State::Up && wan.health.reason() == Reason::Answers;
            let known = answers && !matches!(wan.mptcp, MptcpState::Unknown | MptcpState::Stripped);
            if wan.facts.is_ok() && !known && now >= wan.next_tcp_try {
                // That MPTCP is stripped need not be so for ever.
                let stripped = answers && wan.mptcp == MptcpState::Stripped;
                let pause = match (wan.is_spared(), stripped) {
                    (true, _) => SPARED_TRY_EVERY,
                    (false, true) => STRIPPED_TRY_EVERY,
                    (false, false) => TCP_TRY_EVERY,
                };
                wan.next_tcp_try = now + pause;
                tokio::spawn(boxed(crate::lanes::try_wan(Arc::clone(&self.shared), wan.view())));
            }
        }
        if self.tick_at.is_some_and(|at| at <= Instant::now()) {
            self.tick();
        }
        if self.direct_at().is_some_and(|at| at <= Instant::now()) {
            self.apply_at = Some(Instant::now());
        }
    }

    pub(super) fn start_ticking(&mut self) {
        let soon = Instant::now() + TICK;
        if self.tick_at.is_none_or(|at| at > soon) {
            self.sample_rates();
            self.tick_at = Some(soon);
        }
        self.set_active(true);
    }

    fn set_active(&mut self, active: bool) {
        let now = self.shared.clock.now();
        for wan in &mut self.wans {
            wan.health.set_active(now, active && wan.duty != Duty::Off && !wan.is_spared());
        }
        if !active {
            self.look_at = None;
        } else if self.look_at.is_none() {
            self.look_at = Some(Instant::now());
        }
    }

    fn tick(&mut self) {
        self.sample_rates();
        self.processor.look();
        let bytes = self.shared.traffic.both();
        let moved = bytes != self.last_bytes;
        self.last_bytes = bytes;
        self.set_active(moved);
        self.repair_lanes();
        self.count_and_weigh();
        if !self.preference.streams() {
            self.look_for_hindrances();
        }
        if self.apply_at.is_none() {
            // Round-trip times have moved on.
            self.publish();
        }
        let flows = self.shared.counters.flows_active.load(Ordering::Relaxed);
        let now = self.shared.clock.now();
        let mut lively = flows > 0 || moved || self.overflow.on;
        for wan in &mut self.wans {
            wan.note_history(now);
            lively |= wan.rate.rx_bps + wan.rate.tx_bps > WORTH_A_LOOK;
        }
        self.tick_at = Some(Instant::now() + if lively { TICK } else { IDLE_TICK });
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
}

/// Returns when one of our firewall tables may have been deleted; never where that can't be known.
async fn tables_lost(watch: &mut Option<TableWatch>) {
    let router = Owner::Router;
    let ours = [router.nft_table(), router.tunnel_table(), router.bypass_table()];
    if let Some(there) = watch {
        match there.deleted(&ours).await {
            Ok(()) => return,
            Err(error) => warn!(%error, "tables that others delete are not noticed any more"),
        }
        *watch = None;
    }
    std::future::pending::<()>().await;
}
