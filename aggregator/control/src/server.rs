//! The server's status: the document behind `wanbond-server status --json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The server's status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// The daemon's version.
    pub version: String,
    /// Seconds since the daemon's start; the clock of every `since_s` here.
    pub uptime_s: f64,
    /// The running kernel's release.
    pub kernel: String,
    /// The addresses listened on, as `udp 0.0.0.0:65101`.
    pub listen: Vec<String>,
    /// Every admitted router, by name.
    pub routers: Vec<RouterStatus>,
    /// All routers' flows together.
    pub flows: ServerFlows,
    /// What was refused since the start, by reason, such as `private_address` or `flow_limit`.
    pub refusals: BTreeMap<String, u64>,
    /// The limits in force.
    pub limits: Limits,
}

/// One router, as the server sees it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterStatus {
    /// The name it was added under.
    pub name: String,
    /// Whether it has a live session.
    pub connected: bool,
    /// When it connected or was lost, in seconds after the server's start; none if never seen.
    pub since_s: Option<f64>,
    /// Its live sessions: one, or two while one takes over from the other.
    pub sessions: u32,
    /// Its open lanes.
    pub lanes: u32,
    /// Its open flows.
    pub flows: u32,
    /// Flows since the server's start.
    pub flows_total: u64,
    /// Bytes that came from it since the server's start: payload of flows, and packets.
    pub rx_bytes: u64,
    /// As above, that went to it.
    pub tx_bytes: u64,
    /// As `rx_bytes`, in this calendar month (UTC), over restarts.
    pub month_rx_bytes: u64,
    /// As above, that went to it.
    pub month_tx_bytes: u64,
    /// How many of both together it may move in a month; none: no limit.
    pub month_limit_bytes: Option<u64>,
    /// The public addresses it comes from, one per WAN.
    pub addresses: Vec<String>,
}

/// Flows of all routers together, since the server's start unless said otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerFlows {
    /// Open now.
    pub active: u32,
    /// All of them.
    pub total: u64,
    /// The target refused the connection.
    pub refused_total: u64,
    /// The target could not be reached.
    pub unreachable_total: u64,
    /// The target did not answer in time.
    pub timed_out_total: u64,
    /// Cut in the middle by either end.
    pub reset_total: u64,
}

/// The limits in force; none means unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Lanes of one router.
    pub lanes_per_router: Option<u32>,
    /// Flows of one router.
    pub flows_per_router: Option<u32>,
    /// Buffers of one router, in bytes.
    pub memory_per_router_bytes: Option<u64>,
    /// Connections that have not proved who they are yet.
    pub unproven_connections: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_fields_and_new_ones_are_no_trouble() {
        let status: ServerStatus = serde_json::from_str(
            r#"{"uptime_s":3,"moons":2,"refusals":{"private_address":4},
                "routers":[{"name":"home","connected":true,"since_s":1.5}]}"#,
        )
        .unwrap();
        assert!(status.routers[0].connected);
        assert_eq!(status.refusals["private_address"], 4);
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<ServerStatus>(&text).unwrap(), status);
    }
}
