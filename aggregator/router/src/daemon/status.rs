//! The status document.

use std::time::Duration;

use wanbond_control::status::{
    Flows, FlowsByWay, LanePool, MptcpSupport, PathStatus, QuotaStatus, ServerChoice, ServerLink,
    Status, TunnelStatus, WanStatus,
};
use wanbond_control::words::{Carrier, PathState, Role, ServerState};
use wanbond_proto::Time;
use wanbond_proto::tunnel::{Liveness, PathFigures};
use wanbond_proto::wan::{Reason, State};
use wanbond_relay::tunnel::TunnelDriver;

use super::brain::Brain;
use crate::config;
use crate::lanes::connect::{StreamsFor, streams_for};
use crate::link::Known;
use crate::shared::{Shared, WanSocket, read};
use crate::wan::Wan;
use crate::wan::duty::Duty;

/// Events shown with the status; all that are kept can be asked for.
const EVENTS: usize = 20;
/// Rates are measured anew for a status when the last measurement is older than this.
const FRESH: Duration = Duration::from_millis(900);

impl Brain {
    /// The router's status now.
    pub(super) fn status(&mut self) -> Status {
        if self.shared.clock.now().since(self.last_sample) > FRESH {
            self.sample_rates();
        }
        let shared = &self.shared;
        let now = shared.clock.now();
        let counters = &shared.counters;
        let lanes = shared.lanes.subflows_by_address();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: shared.uptime_s(),
            kernel: kernel(),
            enabled: self.config.globals.enabled,
            problem: shared.lasting.problem(),
            tcp: self.config.globals.tcp,
            when_server_down: self.config.globals.when_server_down,
            lan: self.lan.clone(),
            mptcp: MptcpSupport {
                supported: shared.mptcp,
                congestion: shared.congestion.clone().unwrap_or_else(system_congestion),
            },
            server: self.server(),
            servers: self.servers(),
            wans: self
                .wans
                .iter()
                .map(|wan| {
                    let own = |s: &WanSocket| lanes.get(&s.source).copied().unwrap_or(0);
                    wan_status(shared, wan, now, wan.sockets.iter().map(own).sum())
                })
                .collect(),
            lanes: LanePool {
                idle: shared.lanes.idle() as u32,
                busy: shared.lanes.busy(),
                target: shared.lanes.target(shared) as u32,
                opened_total: read(&shared.lanes.opened),
                reused_total: read(&shared.lanes.reused),
                failed_total: read(&shared.lanes.failed),
            },
            flows: Flows {
                active: read(&counters.flows_active) as u32,
                total: read(&counters.flows_total),
                by_way: FlowsByWay {
                    mptcp: read(&counters.flows_mptcp),
                    tcp: read(&counters.flows_tcp),
                    stream: read(&counters.flows_stream),
                    ..FlowsByWay::default()
                },
                refused_total: read(&counters.refused),
                unreachable_total: read(&counters.unreachable),
                timed_out_total: read(&counters.timed_out),
                reset_total: read(&counters.reset),
                retried_total: read(&counters.retried),
                handed_over_total: read(&counters.handed_over),
            },
            tunnel: shared.tunnel().map(|tunnel| tunnel_status(&tunnel)),
            streams_why: streams_why(shared),
            bypass: self.bypass_status(),
            events: shared.events().latest(EVENTS).cloned().collect(),
        }
    }

    fn servers(&self) -> Vec<ServerChoice> {
        let (all, current) = self.shared.servers.all();
        let now = self.shared.clock.now();
        let used = self.server();
        let choice = |(place, (server, known)): (usize, (&config::Server, Known))| {
            let in_use = place == current;
            let used = used.as_ref().filter(|_| in_use);
            ServerChoice {
                name: server.name.clone(),
                endpoint: server
                    .code
                    .endpoints
                    .first()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                in_use,
                state: match (used, known.asked, known.rtt) {
                    (Some(used), ..) => used.state,
                    (None, None, _) => ServerState::Unknown,
                    (None, _, Some(_)) => ServerState::Standby,
                    (None, _, None) => ServerState::Unreachable,
                },
                why: used.map_or(known.why, |used| used.why.clone()),
                rtt_ms: used.map_or(known.rtt.map(ms), |used| used.rtt_ms),
                asked_age_s: known
                    .asked
                    .filter(|_| !in_use)
                    .map(|asked| now.since(asked).as_secs_f64()),
            }
        };
        all.into_iter().enumerate().map(choice).collect()
    }

    fn server(&self) -> Option<ServerLink> {
        let shared = &self.shared;
        let server = shared.servers.current()?;
        let standing = shared.standing();
        let session = shared.sessions.current();
        let now = shared.clock.now();
        let up = || self.wans.iter().filter(|wan| wan.health.state() == State::Up);
        let udp = up().any(|wan| wan.health.reason() == Reason::Answers);
        let address = shared.server.borrow().0.first().map(ToString::to_string);
        let configured = server.code.endpoints.first().map(ToString::to_string);
        Some(ServerLink {
            name: server.name.clone(),
            endpoint: address.or(configured).unwrap_or_default(),
            state: standing.state,
            since_s: seconds(standing.since),
            why: standing.why,
            session_age_s: session
                .as_ref()
                .map(|s| s.with(|s| now.since(s.created()).as_secs_f64())),
            rtt_ms: up().filter_map(|wan| wan.health.rtt().srtt()).min().map(ms),
            cipher: session
                .as_ref()
                .map(|s| s.with(|s| s.suite().name().to_owned()))
                .unwrap_or_default(),
            carrier: session.is_some().then_some(if udp { Carrier::Udp } else { Carrier::Tcp }),
            version: String::new(),
        })
    }
}

/// Why new flows ride streams; empty while they don't.
fn streams_why(shared: &Shared) -> String {
    match streams_for(shared) {
        None => "",
        Some(StreamsFor::Configured) => "the configuration says so (option tcp 'stream')",
        Some(StreamsFor::NoMptcp) => "this kernel has no MPTCP, or it is switched off",
        Some(StreamsFor::Stripped) => {
            "something on the way of a WAN removes MPTCP, and lanes would leave that WAN out"
        }
        Some(StreamsFor::Latency) => {
            "MPTCP fills the lines' queues, and everybody's packets would wait there"
        }
    }
    .to_owned()
}

fn tunnel_status(tunnel: &TunnelDriver) -> TunnelStatus {
    let figures = tunnel.figures();
    TunnelStatus {
        live: tunnel.is_live(),
        tx_packets_total: figures.packets_in,
        rx_packets_total: figures.packets_out,
        dropped_total: figures.dropped,
        repaired_total: figures.repaired,
        duplicated_total: figures.duplicated,
        parities_total: figures.parities,
        recovered_total: figures.recovered,
        duplicates_total: figures.duplicates,
        late_total: figures.late,
        given_up_total: figures.given_up,
    }
}

fn path_status(figures: &PathFigures, carrier: Carrier) -> PathStatus {
    PathStatus {
        carrier,
        state: match figures.liveness {
            Liveness::Live => PathState::Live,
            Liveness::Suspect => PathState::Suspect,
            Liveness::Down => PathState::Down,
        },
        rtt_ms: figures.srtt.map(ms),
        tx_capacity_bps: (figures.rate > 0).then(|| figures.rate.saturating_mul(8)),
        tx_queue_ms: ms(figures.queue),
        in_flight: figures.in_flight,
        datagram: figures.datagram.into(),
    }
}

fn wan_status(shared: &Shared, wan: &Wan, now: Time, lanes: u32) -> WanStatus {
    let facts = wan.facts.as_ref().ok();
    let rtt = wan.health.rtt();
    let (rx_peak_bps, tx_peak_bps) = wan.past.peaks();
    let path = shared.tunnel().and_then(|tunnel| tunnel.path_figures(wan.path));
    WanStatus {
        name: wan.name.to_string(),
        interface: match &wan.config.link {
            config::WanLink::Interface(name) => Some(name.clone()),
            config::WanLink::Device(_) => None,
        },
        device: facts.map(|f| f.device.clone()),
        role: if wan.is_paused() { wan.config.role } else { wan.role },
        state: wan.state(),
        since_s: seconds(wan.health.since()),
        why: if wan.role == Role::Off { String::new() } else { wan.why(now) },
        addresses: facts
            .map(|f| f.sources())
            .into_iter()
            .flatten()
            .map(|a| a.to_string())
            .collect(),
        gateways: facts
            .map(|f| f.ways.iter().filter_map(|w| w.gateway).map(|g| g.to_string()).collect())
            .unwrap_or_default(),
        public_address: wan.observed.map(|address| address.ip().to_string()),
        rtt_ms: rtt.srtt().map(ms),
        rtt_min_ms: rtt.min().map(ms),
        jitter_ms: rtt.srtt().map(|_| ms(rtt.rttvar())),
        loss_percent: rtt.srtt().map(|_| f64::from(wan.health.loss_ppm()) / 10_000.0),
        rx_bps: wan.rate.rx_bps,
        tx_bps: wan.rate.tx_bps,
        rx_bytes: wan.rate.total.rx,
        tx_bytes: wan.rate.total.tx,
        rx_peak_bps,
        tx_peak_bps,
        mtu: facts.map(|f| f.mtu),
        tunnel: path.as_ref().map(|figures| {
            let over_tcp = wan.carrier.as_ref().is_some_and(|carrier| carrier.end().is_some());
            path_status(figures, if over_tcp { Carrier::Tcp } else { Carrier::Udp })
        }),
        mptcp: wan.mptcp,
        lanes,
        flaps: wan.health.flaps(now),
        quota: wan.config.quota.map(|limit| QuotaStatus {
            limit_bytes: limit.0,
            used_bytes: wan.ledger.used,
            billing_day: wan.config.billing_day,
            exhausted: wan.is_exhausted(),
        }),
        udp_blocked: wan.health.reason() == Reason::AnswersTcpOnly,
        standby: wan.duty == Duty::Standby,
    }
}

fn seconds(time: Time) -> f64 {
    time.as_micros() as f64 / 1e6
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 100.0
}

fn kernel() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    read.trim().to_owned()
}

fn system_congestion() -> String {
    wanbond_linux::sysctl::get("net.ipv4.tcp_congestion_control").unwrap_or_default()
}
