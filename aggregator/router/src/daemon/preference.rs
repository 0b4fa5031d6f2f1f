//! Looks whether TCP is better off on the tunnel's streams.

use tracing::info;
use wanbond_control::words::{MptcpState, Role, TcpMode};
use wanbond_control::{Event, EventKind};
use wanbond_proto::wan::{Reason, State};

use super::brain::Brain;
use crate::lanes::preference::{LOOK, Seen};
use crate::wan::duty::Duty;

/// A WAN with less than this share of what all carry, as a divisor, fills no line.
const PART: u64 = 20;

impl Brain {
    /// Looks at the lines' queues if that is due; only while there is traffic.
    pub(super) fn look_at_queues(&mut self) {
        let now = self.shared.clock.now();
        let since = now.since(self.queues_seen.0);
        if self.shared.tcp != TcpMode::Auto || !self.shared.mptcp || since < LOOK {
            return;
        }
        let carried = self.shared.traffic.both();
        let bytes = carried.wrapping_sub(self.queues_seen.1);
        self.queues_seen = (now, carried);
        let flows = (bytes as u64).saturating_mul(8_000) / (since.as_millis().max(1) as u64);
        let carrying = |wan: &&mut crate::wan::Wan| {
            wan.health.state() == State::Up && wan.duty == Duty::Active
        };
        let bps = |wan: &crate::wan::Wan| wan.rate.rx_bps + wan.rate.tx_bps;
        let all: u64 = self.wans.iter_mut().filter(carrying).map(|wan| bps(wan)).sum();
        // That the others are full shows in their queues, which streams keep short.
        let overflows = self
            .wans
            .iter()
            .any(|wan| wan.role == Role::Overflow && wan.health.state() == State::Up);
        let mut seen = Seen {
            queue: std::time::Duration::ZERO,
            bps: all,
            flows: flows > all / 2,
            possible: !overflows && self.shared.tunnel().is_some_and(|tunnel| tunnel.is_live()),
            processor: self.processor.busy_percent(),
        };
        for wan in self.wans.iter_mut().filter(carrying) {
            seen.possible &= wan.health.reason() == Reason::Answers;
            let Some(srtt) = wan.health.rtt().srtt() else { continue };
            let queue = wan.calm.queue(now, srtt);
            if wan.mptcp == MptcpState::Working && bps(wan) >= all / PART {
                seen.queue = seen.queue.max(queue);
            }
        }
        let before = (self.preference.streams(), self.preference.is_worse());
        self.preference.look(now, seen);
        let after = (self.preference.streams(), self.preference.is_worse());
        if before != after {
            info!(streams = after.0, worse = after.1, ?seen, "what TCP rides on");
            let message = match after {
                (true, _) => "TCP goes over streams: MPTCP filled the lines' queues",
                (_, true) => "TCP goes over MPTCP again: streams bring less here",
                _ => "TCP goes over MPTCP again",
            };
            self.shared.log(Event::new(self.shared.uptime_s(), EventKind::TcpWay, message));
            self.shared.streams_preferred.send_replace(after.0);
        }
    }
}
