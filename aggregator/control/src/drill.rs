//! What a drill found: a WAN is cut for some seconds as a dead line would be, and what connections feel
//! is measured.

use serde::{Deserialize, Serialize};

/// What a drill found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrillReport {
    /// The WAN that was cut.
    pub wan: String,
    /// For how long, in seconds.
    pub seconds: f64,
    /// All of it in words.
    pub message: String,
    /// When it was known that the WAN was gone, in milliseconds after the cut; none if it never was.
    pub detected_after_ms: Option<f64>,
    /// The longest time in which any of the measuring connections got nothing, in milliseconds.
    pub longest_silence_ms: f64,
    /// Measuring connections that went on.
    pub flows: u32,
    /// Those that broke.
    pub flows_lost: u32,
    /// When the WAN was up again, in milliseconds after the end of the cut; none if it was not soon.
    pub back_after_ms: Option<f64>,
    /// When it carried a good part of what it had before, likewise; none too where it had carried
    /// next to nothing.
    pub used_after_ms: Option<f64>,
    /// Each measuring connection.
    pub probes: Vec<DrillProbe>,
    /// Packets of the LAN in the tunnel that were sent again because they were lost.
    pub repaired: u64,
    /// Packets of the LAN in the tunnel that were lost for good.
    pub lost: u64,
    /// What the drill moved over all WANs, in bytes; it counts towards quotas.
    pub used_bytes: u64,
}

/// A measuring connection to the server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrillProbe {
    /// `lane` and `stream` ask something every 10 ms and wait for the answer, over a lane and through
    /// the tunnel; `download` loads as fast as it can.
    pub kind: String,
    /// The longest time without anything before the cut, in milliseconds.
    pub usual_silence_ms: f64,
    /// The longest time without anything from the cut on, in milliseconds.
    pub longest_silence_ms: f64,
    /// It broke.
    pub broken: bool,
}
