//! What a speed test measured.

use serde::{Deserialize, Serialize};

/// What a speed test measured, between the router and its own server. The time in which connections
/// gather speed is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpeedReport {
    /// The server's name in the configuration.
    pub server: String,
    /// How long each direction was measured, in seconds.
    pub seconds: u32,
    /// Each WAN alone.
    pub wans: Vec<Speed>,
    /// All together, as the LAN's connections go; none if one WAN was asked for.
    pub together: Option<Speed>,
    /// What the whole test moved over all WANs, in bytes; it counts towards quotas.
    pub used_bytes: u64,
}

/// How fast it was over one WAN, or over all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Speed {
    /// The WAN's name; empty for all together.
    pub name: String,
    /// One sentence on why it was not measured; empty if it was.
    pub why: String,
    /// Download, in bits per second of data.
    pub down_bps: Option<u64>,
    /// Upload, in bits per second of data that arrived.
    pub up_bps: Option<u64>,
    /// The round trip before the test, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The longest round trip during the test, smoothed, in milliseconds.
    pub rtt_loaded_ms: Option<f64>,
    /// What its device carried meanwhile, in bytes.
    pub used_bytes: u64,
}
