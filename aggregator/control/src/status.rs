//! The router's status: one document for `wanbond status --json`, ubus, LuCI and the lab.
//!
//! Directions are as the router sees them: `rx` is what came in from the Internet (download),
//! `tx` what went out (upload). Rates are bits per second, counters bytes.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::words::{
    Carrier, MptcpState, PathState, Role, ServerState, TcpMode, WanState, WhenServerDown,
};

/// The router's status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Seconds since the daemon's start; the clock of every `…_at_s` and `since_s` here.
    pub uptime_s: f64,
    /// The running kernel's release, such as `6.12.51`.
    pub kernel: String,
    /// Whether wanbond is switched on in its configuration.
    pub enabled: bool,
    /// What is wrong with the configuration file, each thing in a line; what was right before is
    /// used meanwhile, or nothing is touched. Empty while all is well.
    pub problem: String,
    /// How the LAN's TCP goes, as configured.
    pub tcp: TcpMode,
    /// What happens while the server is down, as configured.
    pub when_server_down: WhenServerDown,
    /// The devices whose traffic is bonded.
    pub lan: Vec<String>,
    /// What the kernel offers of MPTCP.
    pub mptcp: MptcpSupport,
    /// The server in use; none where none is configured.
    pub server: Option<ServerLink>,
    /// Every configured server, in the order of the configuration.
    pub servers: Vec<ServerChoice>,
    /// Every configured WAN, in the order of the configuration.
    pub wans: Vec<WanStatus>,
    /// The pool of lanes.
    pub lanes: LanePool,
    /// The LAN's TCP flows.
    pub flows: Flows,
    /// The tunnel; none before there is a session.
    pub tunnel: Option<TunnelStatus>,
    /// Why new flows ride the tunnel's streams; empty while they ride lanes.
    pub streams_why: String,
    /// What goes another way than the bond's.
    pub bypass: BypassStatus,
    /// What happened of late, oldest first.
    pub events: Vec<Event>,
}

/// What goes another way than the bond's, by the rules of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BypassStatus {
    /// The rules, in their order.
    pub rules: Vec<BypassRuleStatus>,
    /// How the addresses of the rules' domains are found, in a sentence; empty without such rules.
    pub domains_by: String,
    /// What keeps the rules from working, in a sentence; empty while all is well.
    pub problem: String,
}

/// A rule for what goes another way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BypassRuleStatus {
    /// The name of its section in the configuration.
    pub name: String,
    /// What it is for, in words.
    pub fits: String,
    /// Where it sends that, as configured: `direct`, `wan:NAME`, `tunnel` or `bond`.
    pub to: String,
    /// Where that goes at the moment, in words.
    pub now: String,
    /// Connections that it has taken since the daemon's start, or since the rule came.
    pub connections: u64,
    /// Addresses that its domains are known to have; none for a rule without domains.
    pub addresses: Option<u64>,
}

/// What the kernel offers of MPTCP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MptcpSupport {
    /// The kernel can open MPTCP sockets.
    pub supported: bool,
    /// The congestion control that lanes use, such as `bbr`.
    pub congestion: String,
}

/// How the router stands with its server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerLink {
    /// The name of its section in the configuration.
    pub name: String,
    /// The address and port in use, or the host name until one is.
    pub endpoint: String,
    /// Where it stands.
    pub state: ServerState,
    /// When it got there, in seconds after the daemon's start.
    pub since_s: f64,
    /// One sentence on the reason; empty while all is well.
    pub why: String,
    /// The age of the session in seconds; none without one.
    pub session_age_s: Option<f64>,
    /// The round trip over the best WAN, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The AEAD agreed on, such as `aes-256-gcm`; empty without a session.
    pub cipher: String,
    /// What the session's own messages travel on.
    pub carrier: Option<Carrier>,
    /// The server's version, as it says; empty if it has not.
    pub version: String,
}

/// One of the configured servers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerChoice {
    /// The name of its section in the configuration.
    pub name: String,
    /// Its first endpoint, as its pairing code has it.
    pub endpoint: String,
    /// It is the one in use.
    pub in_use: bool,
    /// Where it stands; `unknown` until it has been asked.
    pub state: ServerState,
    /// One sentence on the reason; empty while all is well.
    pub why: String,
    /// The round trip, in milliseconds; of one that stands by, of its last answer.
    pub rtt_ms: Option<f64>,
    /// How long ago one that stands by was last asked, in seconds.
    pub asked_age_s: Option<f64>,
}

/// One WAN.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WanStatus {
    /// The name of its section in the configuration.
    pub name: String,
    /// Its netifd interface, where it was configured by one.
    pub interface: Option<String>,
    /// Its network device, once known.
    pub device: Option<String>,
    /// The role it has now; of a paused one, what it comes back to.
    pub role: Role,
    /// What it is able to do.
    pub state: WanState,
    /// When it got into this state, in seconds after the daemon's start.
    pub since_s: f64,
    /// One sentence on why it is in this state; empty while it is simply up.
    pub why: String,
    /// Its own addresses, without prefix lengths.
    pub addresses: Vec<String>,
    /// Its gateways, one per address family; none on point-to-point links.
    pub gateways: Vec<String>,
    /// The address that the server sees, where it tells.
    pub public_address: Option<String>,
    /// Smoothed round trip to the server, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The shortest round trip seen since the link came up, in milliseconds.
    pub rtt_min_ms: Option<f64>,
    /// The variation of the round trip, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// Packets lost of late, in percent of those sent.
    pub loss_percent: Option<f64>,
    /// Download over this WAN now, in bits per second.
    pub rx_bps: u64,
    /// Upload over this WAN now, in bits per second.
    pub tx_bps: u64,
    /// Bytes in since the daemon's start.
    pub rx_bytes: u64,
    /// Bytes out since the daemon's start.
    pub tx_bytes: u64,
    /// The most that came in over this WAN in a second of the last ten minutes, in bits per second.
    pub rx_peak_bps: u64,
    /// The most that went out, likewise.
    pub tx_peak_bps: u64,
    /// The device's MTU in bytes.
    pub mtu: Option<u32>,
    /// The tunnel's view of this WAN; none before there is a session.
    pub tunnel: Option<PathStatus>,
    /// What became of MPTCP over this WAN.
    pub mptcp: MptcpState,
    /// Lanes that have a subflow over this WAN.
    pub lanes: u32,
    /// Whether UDP to the server is blocked on its way, while TCP gets through.
    pub udp_blocked: bool,
    /// Whether it only stands by at the moment, as its role or its quota has it.
    pub standby: bool,
    /// How often in short order it went away again; such a WAN has to answer steadily before it is
    /// used.
    pub flaps: u32,
    /// What it may carry in a month and has carried; none without a quota.
    pub quota: Option<QuotaStatus>,
}

/// A WAN as a path of the tunnel.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathStatus {
    /// Whether it answers.
    pub state: PathState,
    /// What its datagrams travel on: UDP, or TCP where UDP is blocked.
    pub carrier: Carrier,
    /// Smoothed round trip in milliseconds.
    pub rtt_ms: Option<f64>,
    /// What the WAN is known to be able to send, in bits per second; none before it was tried.
    pub tx_capacity_bps: Option<u64>,
    /// How long what is sent now waits in the WAN's queue, in milliseconds.
    pub tx_queue_ms: f64,
    /// Bytes on their way to the server.
    pub in_flight: u64,
    /// The largest datagram that passes, in bytes of UDP payload.
    pub datagram: u32,
}

/// A WAN's quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuotaStatus {
    /// Bytes in both directions together that it may carry in a month.
    pub limit_bytes: u64,
    /// Bytes that it has carried in this month, over restarts.
    pub used_bytes: u64,
    /// The day of the month on which it starts anew.
    pub billing_day: u8,
    /// It has carried all it may, and is used in an emergency only.
    pub exhausted: bool,
}

/// The tunnel's packets, since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TunnelStatus {
    /// Some WAN answers.
    pub live: bool,
    /// Packets taken from the LAN.
    pub tx_packets_total: u64,
    /// Packets handed to the LAN.
    pub rx_packets_total: u64,
    /// Packets dropped to keep queues short.
    pub dropped_total: u64,
    /// Packets sent again because they were lost.
    pub repaired_total: u64,
    /// Packets sent over two WANs from the start.
    pub duplicated_total: u64,
    /// Parities sent, each of which lets the other end make one lost packet of a group.
    pub parities_total: u64,
    /// Lost packets that were made of parities.
    pub recovered_total: u64,
    /// Packets that came more than once.
    pub duplicates_total: u64,
    /// Packets that came too late to be put in order.
    pub late_total: u64,
    /// Packets that were given up.
    pub given_up_total: u64,
}

/// The pool of lanes: warm connections to the server, each carrying one flow at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LanePool {
    /// Warm and waiting for a flow.
    pub idle: u32,
    /// Carrying a flow.
    pub busy: u32,
    /// How many idle ones the pool aims to have.
    pub target: u32,
    /// Opened since the daemon's start.
    pub opened_total: u64,
    /// Flows that rode a lane which had carried another before.
    pub reused_total: u64,
    /// Lanes that could not be opened or broke.
    pub failed_total: u64,
}

/// The LAN's TCP flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flows {
    /// Open now.
    pub active: u32,
    /// Since the daemon's start.
    pub total: u64,
    /// The same total, by the way they went.
    pub by_way: FlowsByWay,
    /// Their target refused the connection.
    pub refused_total: u64,
    /// Their target could not be reached.
    pub unreachable_total: u64,
    /// Their target did not answer in time.
    pub timed_out_total: u64,
    /// They were cut in the middle by either end.
    pub reset_total: u64,
    /// They were opened a second time because their lane broke before it answered.
    pub retried_total: u64,
    /// They went on on a stream of the tunnel in the middle, or back on a lane.
    pub handed_over_total: u64,
}

/// Flows by the way they went, since the daemon's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlowsByWay {
    /// Over an MPTCP lane.
    pub mptcp: u64,
    /// Over a lane that is plain TCP, where MPTCP is missing or stripped.
    pub tcp: u64,
    /// Over a stream in the tunnel.
    pub stream: u64,
    /// As packets through the tunnel.
    pub packet: u64,
    /// Directly, around the server.
    pub direct: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_fields_and_new_ones_are_no_trouble() {
        let status: Status = serde_json::from_str(
            r#"{"version":"9.9","warp":{"factor":7},
                "server":{"state":"teleporting","carrier":"pigeon"},
                "wans":[{"name":"fibre","state":"up","role":"overflow"}]}"#,
        )
        .unwrap();
        assert_eq!(status.version, "9.9");
        let server = status.server.unwrap();
        assert_eq!(server.state, ServerState::Unknown);
        assert_eq!(server.carrier, Some(Carrier::Unknown));
        assert_eq!(status.wans[0].state, WanState::Up);
        assert_eq!(status.wans[0].role, Role::Overflow);
        assert_eq!(status.wans[0].rtt_ms, None);
    }

    #[test]
    fn a_document_round_trips() {
        let status = Status {
            version: "0.1.0".into(),
            uptime_s: 12.5,
            server: Some(ServerLink { rtt_ms: Some(23.4), ..ServerLink::default() }),
            wans: vec![WanStatus { rx_bytes: u64::MAX, ..WanStatus::default() }],
            ..Status::default()
        };
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
