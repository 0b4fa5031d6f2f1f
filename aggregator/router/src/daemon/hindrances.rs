//! Watches for WANs that TCP is better off without.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;
use wanbond_control::words::MptcpState;
use wanbond_control::{Event, EventKind};
use wanbond_proto::wan::State;

use super::brain::Brain;
use crate::wan::Wan;
use crate::wan::duty::Duty;
use crate::wan::hindrance::Seen;

impl Brain {
    /// Looks at what each WAN brings beside the others, once a second while there is traffic.
    pub(super) fn look_for_hindrances(&mut self) {
        let now = self.shared.clock.now();
        let seen: Vec<Option<Seen>> = self.wans.iter().map(seen).collect();
        for place in 0..self.wans.len() {
            let Some(own) = seen[place] else { continue };
            let others = self.wans.iter().zip(&seen).enumerate();
            let carrying = others
                .filter(|(other, (wan, _))| *other != place && !wan.hindrance.is_aside())
                .filter_map(|(_, (_, seen))| *seen);
            let together = together(carrying);
            let wan = &mut self.wans[place];
            let was = (wan.hindrance.is_aside(), wan.hindrance.is_settled());
            wan.hindrance.look(now, own, together);
            let is = (wan.hindrance.is_aside(), wan.hindrance.is_settled());
            if is.0 != was.0 {
                self.apply_at = Some(Instant::now());
            }
            if is.1 != was.1 {
                info!(wan = %wan.name, aside = is.1, "far and slow beside the others");
                let message = if is.1 {
                    format!("WAN {} is so far that TCP is faster without it", wan.name)
                } else {
                    format!("WAN {} is tried again for TCP", wan.name)
                };
                let event = Event::new(self.shared.uptime_s(), EventKind::WanRole, message);
                self.shared.log(event.of_wan(wan.name.to_string()));
            }
        }
    }
}

/// A WAN that MPTCP uses, or would.
fn seen(wan: &Wan) -> Option<Seen> {
    let carries = wan.health.state() == State::Up
        && wan.duty == Duty::Active
        && wan.mptcp == MptcpState::Working;
    let rtt = wan.health.rtt().min().filter(|_| carries)?;
    Some(Seen { rtt, bps: wan.rate.rx_bps.max(wan.rate.tx_bps) })
}

/// Several as one: the sum of their rates, and the round trip that most of their bytes have.
fn together(all: impl Iterator<Item = Seen>) -> Option<Seen> {
    let all: Vec<Seen> = all.collect();
    let bps: u64 = all.iter().map(|seen| seen.bps).sum();
    let nearest = all.iter().map(|seen| seen.rtt).min()?;
    let weighted: u128 = all.iter().map(|seen| seen.rtt.as_micros() * u128::from(seen.bps)).sum();
    let rtt = weighted
        .checked_div(u128::from(bps))
        .and_then(|us| u64::try_from(us).ok())
        .map_or(nearest, Duration::from_micros);
    Some(Seen { rtt, bps })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_as_far_as_most_of_their_bytes() {
        let seen = |ms, bps| Seen { rtt: Duration::from_millis(ms), bps };
        assert_eq!(together([].into_iter()), None);
        assert_eq!(together([seen(40, 0), seen(10, 0)].into_iter()), Some(seen(10, 0)));
        assert_eq!(together([seen(10, 300), seen(50, 100)].into_iter()), Some(seen(20, 400)));
    }
}
