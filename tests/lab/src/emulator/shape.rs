//! What one direction of a link is like. The scenario file's `down = { … }` and `up = { … }`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{Fraction, Rate, duration, duration_or_bytes};

/// One direction of a link: everything that can be set, and changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// Rate of IP-level bytes; none: as fast as the machine.
    pub rate: Option<Rate>,
    /// One-way propagation delay.
    #[serde(with = "duration")]
    pub delay: Duration,
    /// The delay wanders by up to this much to either side. Packets keep their order (see
    /// [`Shape::reordering_jitter`]): the delay drifts with time instead of jumping per packet.
    #[serde(with = "duration")]
    pub jitter: Duration,
    /// Draw the jitter for every packet alone, which lets packets overtake one another.
    pub reordering_jitter: bool,
    /// Probability that a packet is lost, each independently.
    pub loss: Fraction,
    /// Loss in bursts, besides `loss`.
    pub burst: Option<Burst>,
    /// How much waits for the line before newcomers are dropped. Of no effect without a rate.
    #[serde(with = "duration_or_bytes")]
    pub queue: QueueLimit,
    /// Probability that a packet arrives twice.
    pub duplicate: Fraction,
    /// Probability that a packet is held back by `reorder_by` while others pass it.
    pub reorder: Fraction,
    /// How long a packet chosen by `reorder` is held back.
    #[serde(with = "duration")]
    pub reorder_by: Duration,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            rate: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reordering_jitter: false,
            loss: Fraction::ZERO,
            burst: None,
            // A usual home router's or modem's buffer at its own rate.
            queue: QueueLimit::Time(Duration::from_millis(100)),
            duplicate: Fraction::ZERO,
            reorder: Fraction::ZERO,
            reorder_by: Duration::from_millis(10),
        }
    }
}

impl Shape {
    /// The most bytes that may wait, this packet included; none: no bound.
    #[must_use]
    pub fn queue_bytes(&self) -> Option<u64> {
        let rate = self.rate?;
        Some(match self.queue {
            QueueLimit::Bytes(bytes) => bytes,
            QueueLimit::Time(time) => rate.bytes_in(time),
        })
    }
}

/// The bound of the queue in front of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueLimit {
    /// As many bytes as the line carries in this time, at its rate of the moment.
    Time(Duration),
    /// This many bytes.
    Bytes(u64),
}

/// Loss in bursts: the Gilbert–Elliott model. The line is good or bad, and may change its state
/// before each packet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Probability, per packet, that a good line turns bad.
    pub enter: Fraction,
    /// Probability, per packet, that a bad line turns good: a burst lasts 1/leave packets.
    pub leave: Fraction,
    /// Probability that a packet on a bad line is lost.
    #[serde(default = "Fraction::one")]
    pub loss: Fraction,
}
