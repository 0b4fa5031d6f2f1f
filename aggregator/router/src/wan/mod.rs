//! The configured WANs: what the kernel knows of their links, how healthy they are.
//!
//! - [`carrier`]: the connection for its datagrams where UDP is blocked.
//! - [`duty`], [`quota`]: from roles and what was carried to what each does now.
//! - [`facts`]: from device name to addresses, gateway, routes.
//! - [`socket`]: the UDP socket of each address, and reading it.
//! - [`counters`]: bytes in and out of devices.
//! - [`history`]: what was measured, second by second, hour by hour.

pub(crate) mod carrier;
pub(crate) mod counters;
pub(crate) mod duty;
pub(crate) mod facts;
pub(crate) mod hindrance;
pub(crate) mod history;
pub(crate) mod quota;
pub(crate) mod socket;
#[cfg(test)]
mod standby_tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tracing::{info, warn};
use wanbond_control::words::{MptcpState, Role, WanState};
use wanbond_proto::Time;
use wanbond_proto::datagram::PathId;
use wanbond_proto::wan::{Reason, State, WanHealth};

use crate::config;
use crate::lanes::preference::Calm;
use crate::shared::{Shared, WanSocket, WanView};
use carrier::WanCarrier;
use counters::{DeviceBytes, Rate};
use duty::Duty;
use facts::Facts;
use hindrance::Hindrance;
use history::{Past, Step};
use quota::Ledger;

/// What is less is no load, bits per second.
const BUSY: u64 = 300_000;
/// A queue stands when the round trip is longer than the best by a quarter and this.
const QUEUED: Duration = Duration::from_millis(12);

/// One configured WAN.
pub(crate) struct Wan {
    pub(crate) config: config::Wan,
    pub(crate) path: PathId,
    pub(crate) name: Arc<str>,
    /// As configured, or as changed at run time.
    pub(crate) role: Role,
    /// What it does now, in that role.
    pub(crate) duty: Duty,
    /// What it has carried this month; kept where there is a quota.
    pub(crate) ledger: Ledger,
    /// What of `rate.total` is in the ledger.
    pub(crate) booked: u64,
    pub(crate) health: WanHealth,
    /// What the kernel says of the link, or what is wrong with it.
    pub(crate) facts: Result<Facts, String>,
    pub(crate) sockets: Vec<WanSocket>,
    readers: Vec<AbortHandle>,
    /// Where UDP is blocked.
    pub(crate) carrier: Option<WanCarrier>,
    pub(crate) observed: Option<SocketAddr>,
    pub(crate) mptcp: MptcpState,
    pub(crate) rate: Rate,
    pub(crate) past: Past,
    /// When `past` was last added to, and the bytes carried until then.
    noted: (Time, DeviceBytes),
    /// When a lane is tried over it next, where UDP is not answered.
    pub(crate) next_tcp_try: Time,
    /// Since when the server has not answered over it.
    pub(crate) silent_since: Option<Time>,
    /// Its MPTCP endpoints are to be made anew, so that connections join it again.
    pub(crate) renew_endpoints: bool,
    /// When it is to be looked whether lanes use it.
    pub(crate) look_at_lanes: Option<Time>,
    /// How often in a row lanes lacked it.
    pub(crate) repairs: u32,
    /// Whether MPTCP is better off without it.
    pub(crate) hindrance: Hindrance,
    pub(crate) calm: Calm,
}

impl Wan {
    pub(crate) fn new(config: config::Wan, path: PathId, now: Time) -> Self {
        Self {
            name: config.name.as_str().into(),
            role: config.role,
            duty: Duty::default(),
            ledger: Ledger::default(),
            booked: 0,
            health: WanHealth::new(now),
            facts: Err("not looked at yet".to_owned()),
            sockets: Vec::new(),
            readers: Vec::new(),
            carrier: None,
            observed: None,
            mptcp: MptcpState::Unknown,
            rate: Rate::default(),
            past: Past::default(),
            noted: (now, DeviceBytes::default()),
            next_tcp_try: now,
            silent_since: None,
            renew_endpoints: false,
            look_at_lanes: None,
            repairs: 0,
            hindrance: Hindrance::default(),
            calm: Calm::default(),
            path,
            config,
        }
    }

    /// Takes what the kernel says now. `true` if that changed anything.
    pub(crate) fn set_facts(&mut self, shared: &Arc<Shared>, facts: Result<Facts, String>) -> bool {
        let facts = if self.role == Role::Off { Err("switched off".to_owned()) } else { facts };
        if facts == self.facts {
            return false;
        }
        let now = shared.clock.now();
        let same_paths = match (&facts, &self.facts) {
            (Ok(new), Ok(old)) => new.same_paths(old),
            _ => false,
        };
        self.facts = facts;
        if same_paths {
            return true;
        }
        self.close();
        self.observed = None;
        self.mptcp = MptcpState::Unknown;
        match &self.facts {
            Ok(facts) => {
                info!(wan = %self.name, device = %facts.device, addresses = ?facts.sources(), "link up");
                match socket::open(shared, self.path, facts) {
                    Ok((sockets, readers)) => {
                        self.sockets = sockets;
                        self.readers = readers;
                    }
                    Err(error) => {
                        warn!(wan = %self.name, %error, "no UDP socket on this WAN");
                        self.facts = Err(format!("its address can't be used: {error}"));
                    }
                }
            }
            Err(why) => info!(wan = %self.name, %why, "link unusable"),
        }
        self.next_tcp_try = now + crate::daemon::TCP_TRY_AFTER;
        self.health.set_link(now, self.facts.is_ok());
        true
    }

    /// Another server is used: all that is known of the way to the old one is forgotten, and its
    /// sockets are opened anew when the link is next looked at.
    pub(crate) fn forget_server(&mut self, now: Time) {
        self.close();
        self.carrier = None;
        self.facts = Err("another server is used".to_owned());
        self.health.set_link(now, false);
    }

    /// Adds to its history how it was since the last time.
    pub(crate) fn note_history(&mut self, now: Time) {
        let (since, before) = self.noted;
        let micros = u64::try_from(now.since(since).as_micros()).unwrap_or(u64::MAX).max(1);
        let bps = |bytes: u64| bytes.saturating_mul(8_000_000) / micros;
        let total = self.rate.total;
        let up = self.health.state() == State::Up;
        let rtt = self.health.rtt().srtt().filter(|_| up).map(|rtt| rtt.as_secs_f64() * 1e3);
        let loss = up.then(|| f64::from(self.health.loss_ppm()) / 1e4);
        let step = Step::new(bps(total.rx - before.rx), bps(total.tx - before.tx), rtt, loss);
        let seconds = u32::try_from(now.as_micros() / 1_000_000).unwrap_or(u32::MAX);
        self.past.note(seconds, step);
        self.noted = (now, total);
    }

    /// Has a connection carry its datagrams where, and only where, UDP is blocked. `true` if that
    /// changed anything.
    pub(crate) fn follow_carrier(&mut self, shared: &Arc<Shared>) -> bool {
        let wanted = self.role != Role::Off
            && !self.is_spared()
            && self.health.state() == State::Up
            && self.health.reason() == Reason::AnswersTcpOnly;
        if wanted == self.carrier.is_some() {
            return false;
        }
        self.carrier = wanted.then(|| WanCarrier::start(shared, self.view()));
        true
    }

    /// Closes its sockets.
    pub(crate) fn close(&mut self) {
        self.carrier = None;
        self.sockets.clear();
        for reader in self.readers.drain(..) {
            reader.abort();
        }
    }

    pub(crate) fn view(&self) -> WanView {
        WanView {
            path: self.path,
            name: Arc::clone(&self.name),
            device: self.facts.as_ref().ok().map(|facts| facts.device.as_str().into()),
            role: self.role,
            duty: self.duty,
            spared: self.is_spared(),
            metered: self.is_metered(),
            state: self.health.state(),
            mptcp: self.mptcp,
            mtu: self
                .facts
                .as_ref()
                .map_or(0, |facts| u16::try_from(facts.mtu).unwrap_or(u16::MAX)),
            srtt: self.health.rtt().srtt(),
            sockets: self.sockets.clone(),
            carrier: self.carrier.as_ref().and_then(WanCarrier::end),
        }
    }

    /// Whether what goes over it costs money.
    pub(crate) fn is_metered(&self) -> bool {
        self.config.quota.is_some()
    }

    /// Whether nothing shall go over it but now and then a ping: it costs money and is not needed.
    pub(crate) fn is_spared(&self) -> bool {
        self.duty == Duty::Standby && self.is_metered()
    }

    /// Whether it has carried all that it may this month.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.config.quota.is_some_and(|limit| self.ledger.is_exhausted(limit.0))
    }

    /// Whether more would go over it if it could: what is sent waits in its queue.
    pub(crate) fn is_full(&self, shared: &Shared) -> bool {
        let (rx_peak, tx_peak) = self.past.peaks();
        let rate = &self.rate;
        let busy = rate.rx_bps.max(rate.tx_bps) > BUSY
            && (rate.rx_bps > rx_peak / 2 || rate.tx_bps > tx_peak / 2);
        let rtt = self.health.rtt();
        let queued =
            rtt.srtt().zip(rtt.min()).is_some_and(|(now, least)| now > least + least / 4 + QUEUED);
        let path = || shared.tunnel().and_then(|tunnel| tunnel.path_figures(self.path));
        let sending = || {
            path().is_some_and(|path| {
                path.rate > 0 && rate.tx_bps / 8 > path.rate / 20 * 17 && !path.queue.is_zero()
            })
        };
        busy && (queued || sending())
    }

    /// Whether it was switched off by hand.
    pub(crate) fn is_paused(&self) -> bool {
        self.role == Role::Off && self.config.role != Role::Off
    }

    /// The state as people are told.
    pub(crate) fn state(&self) -> WanState {
        match (self.role, self.health.state()) {
            (Role::Off, _) if self.is_paused() => WanState::Paused,
            (Role::Off, _) => WanState::Off,
            (_, State::Down) => WanState::Down,
            (_, State::Probing) => WanState::Probing,
            (_, State::Up) => WanState::Up,
        }
    }

    /// One sentence on the state; empty while all is well.
    pub(crate) fn why(&self, now: Time) -> String {
        if let Err(why) = &self.facts {
            return why.clone();
        }
        let flaps = self.health.flaps(now);
        if flaps > 0 && self.health.reason() == Reason::Silent {
            return format!(
                "the server does not answer over it any more; it has gone {} times in short order, \
                 so it must answer steadily before it is used again",
                flaps + 1
            );
        }
        match self.health.reason() {
            Reason::Answers if self.mptcp == MptcpState::Stripped => {
                "something on the way removes MPTCP: connections over it are plain TCP".to_owned()
            }
            Reason::Answers if self.hindrance.is_settled() => {
                "it is so far that TCP is faster without it; the tunnel uses it".to_owned()
            }
            Reason::Answers => String::new(),
            Reason::AnswersTcpOnly => {
                "UDP is blocked on the way: the tunnel goes over a TCP connection here".to_owned()
            }
            Reason::NoAnswerYet => "waiting for the server's answer over it".to_owned(),
            Reason::Silent => "the server does not answer over it any more".to_owned(),
            Reason::NoLink => "no link".to_owned(),
        }
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.close();
    }
}
