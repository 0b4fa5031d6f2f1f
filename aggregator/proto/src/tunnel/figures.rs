//! What a tunnel tells of itself.

use std::time::Duration;

use super::Tunnel;
use super::path::Liveness;
use crate::datagram::PathId;

/// Figures of one path, for people.
#[derive(Debug, Clone, Copy)]
pub struct PathFigures {
    /// Whether it answers.
    pub liveness: Liveness,
    /// Smoothed round-trip time.
    pub srtt: Option<Duration>,
    /// The link's rate as known, bytes per second; 0 if unknown.
    pub rate: u64,
    /// The standing queue of this direction.
    pub queue: Duration,
    /// Bytes on their way.
    pub in_flight: u64,
    /// Largest datagram, bytes of UDP payload.
    pub datagram: u16,
}

/// Figures of a tunnel that only grow.
#[derive(Debug, Clone, Copy, Default)]
pub struct TunnelFigures {
    /// Packets that were taken to be sent, and that were delivered.
    pub packets_in: u64,
    /// Packets handed out.
    pub packets_out: u64,
    /// Packets dropped at the entry, to keep queues short.
    pub dropped: u64,
    /// Packets sent again.
    pub repaired: u64,
    /// Packets sent twice from the start.
    pub duplicated: u64,
    /// Parities sent: each lets the other end make one lost packet of a group.
    pub parities: u64,
    /// Lost packets that were made of parities here.
    pub recovered: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// Packets that came after their place was given up.
    pub late: u64,
    /// Gaps given up.
    pub given_up: u64,
}

impl Tunnel {
    /// Figures of a path.
    #[must_use]
    pub fn path_figures(&self, id: PathId) -> Option<PathFigures> {
        let path = self.paths.iter().find(|path| path.id == id)?;
        Some(PathFigures {
            liveness: path.liveness,
            srtt: path.rtt.srtt(),
            rate: path.congestion.rate(),
            queue: Duration::from_micros(path.congestion.queue()),
            in_flight: path.sent.in_flight(),
            datagram: path.mtu.size(),
        })
    }

    /// Figures of the tunnel.
    #[must_use]
    pub fn figures(&self) -> TunnelFigures {
        TunnelFigures {
            dropped: self.queue.dropped,
            repaired: self.repair.repaired,
            duplicates: self.reorder.duplicates,
            late: self.reorder.late,
            given_up: self.reorder.given_up,
            ..self.figures
        }
    }
}
