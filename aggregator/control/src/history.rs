//! What a WAN did of late, as columns ready for a graph.

use serde::{Deserialize, Serialize};

/// A stretch of a WAN's past, in steps of equal length, oldest first. All columns are equally long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The WAN's name.
    pub name: String,
    /// The length of a step in seconds.
    pub step_s: u32,
    /// When the last step ended, in seconds after the daemon's start.
    pub until_s: f64,
    /// Download in each step, in bits per second.
    pub rx_bps: Vec<u64>,
    /// Upload in each step, in bits per second.
    pub tx_bps: Vec<u64>,
    /// Mean round trip of each step in milliseconds; none while nothing answered.
    pub rtt_ms: Vec<Option<f64>>,
    /// Packets lost in each step, in percent; none while the WAN was not asked.
    pub loss_percent: Vec<Option<f64>>,
}
