//! What OpenWrt tells of the router: where its networks are, and who else steers the same traffic.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;
use wanbond_control::{Event, EventKind};

use super::brain::Brain;
use crate::config::WanLink;
use crate::netifd::Interfaces;
use crate::wan::facts::Facts;

/// As [`Ubus`](crate::ubus::Ubus) finds it.
pub(super) struct Surroundings {
    /// netifd's networks.
    pub(super) interfaces: watch::Receiver<Arc<Interfaces>>,
    /// What else steers the same traffic, in a sentence.
    pub(super) rival: watch::Receiver<Option<String>>,
}

impl Surroundings {
    /// Returns when something has changed.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.interfaces.changed() => {}
            Ok(()) = self.rival.changed() => {}
            // They are closed only when the daemon ends.
            else => std::future::pending().await,
        }
    }
}

impl Brain {
    /// Acts on a change.
    pub(super) fn surroundings_changed(&mut self) {
        if let Some(rival) = self.surroundings.rival.borrow_and_update().clone() {
            warn!(problem = rival, "nothing is bonded while another package steers the traffic");
            let event = Event::new(self.shared.uptime_s(), EventKind::Limit, rival);
            self.shared.log(event.warning());
        }
        self.apply_at = Some(Instant::now());
    }

    /// What the kernel says of each WAN's link, wherever netifd has it now; one sentence for those
    /// that can't be used. The LAN's devices are looked up with them.
    pub(super) fn find_links(&mut self) -> Vec<Result<Facts, String>> {
        let interfaces = Arc::clone(&self.surroundings.interfaces.borrow());
        self.lan = interfaces.devices(&self.config.globals.lan);
        let rival = self.surroundings.rival.borrow().clone();
        let find = |link: &WanLink| match link {
            WanLink::Device(device) => Facts::find(&self.net, device, &[]),
            WanLink::Interface(name) => {
                let place = interfaces.place(name)?;
                Facts::find(&self.net, &place.device, &place.routes)
            }
        };
        let mut found: Vec<Result<Facts, String>> = Vec::with_capacity(self.wans.len());
        for wan in &self.wans {
            let facts = rival.clone().map_or_else(|| find(&wan.config.link), Err);
            let facts = facts.and_then(|facts| {
                let same = |(_, other): &(_, &Result<Facts, String>)| {
                    other.as_ref().is_ok_and(|other| other.device == facts.device)
                };
                match self.wans.iter().zip(&found).find(same) {
                    Some((other, _)) => Err(format!(
                        "{} is wan {}'s device, which takes IPv4 and IPv6: remove this section",
                        facts.device, other.name
                    )),
                    None => Ok(facts),
                }
            });
            found.push(facts);
        }
        found
    }
}
