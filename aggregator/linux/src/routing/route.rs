//! One route of ours.

use std::fmt;
use std::net::IpAddr;

use crate::prefix::{Family, IpPrefix};

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Sends it on, through a device.
    Unicast,
    /// Stops looking in this table: the next rule decides.
    Throw,
    /// Tells the sender that there is no way.
    Unreachable,
    /// Drops it silently.
    Blackhole,
}

/// The metric IPv6 gives a route that says none (`IP6_RT_PRIO_USER`). Saying it makes what we want
/// and what the kernel shows the same.
const V6_DEFAULT_METRIC: u32 = 1024;

/// A route in one of our tables.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnedRoute {
    /// The routing table.
    pub table: u32,
    /// Where to.
    pub destination: IpPrefix,
    /// Of several routes to the same destination the lowest metric wins. 0 means the kernel's
    /// default, which is 0 for IPv4 and 1024 for IPv6.
    pub metric: u32,
    /// What it does.
    pub kind: RouteKind,
    /// The link, for a unicast route.
    pub device: Option<String>,
    /// The next hop, for a unicast route that needs one.
    pub gateway: Option<IpAddr>,
    /// Take the gateway to be on the link even if no address says so.
    pub onlink: bool,
    /// Source address for packets that have none yet.
    pub source: Option<IpAddr>,
}

impl OwnedRoute {
    /// A route through a device, to be completed by the caller.
    #[must_use]
    pub fn unicast(table: u32, destination: IpPrefix, device: impl Into<String>) -> Self {
        Self {
            device: Some(device.into()),
            ..Self::special(table, destination, RouteKind::Unicast)
        }
    }

    /// A route that sends nowhere.
    #[must_use]
    pub const fn special(table: u32, destination: IpPrefix, kind: RouteKind) -> Self {
        Self {
            table,
            destination,
            metric: 0,
            kind,
            device: None,
            gateway: None,
            onlink: false,
            source: None,
        }
    }

    /// The metric the kernel will show.
    pub(super) fn effective_metric(&self) -> u32 {
        match self.destination.family() {
            Family::V6 if self.metric == 0 => V6_DEFAULT_METRIC,
            _ => self.metric,
        }
    }
}

/// In the words of `ip route`, so that it can be compared by eye.
impl fmt::Display for OwnedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Throw => f.write_str("throw ")?,
            RouteKind::Unreachable => f.write_str("unreachable ")?,
            RouteKind::Blackhole => f.write_str("blackhole ")?,
        }
        if self.destination.is_default() {
            f.write_str(match self.destination.family() {
                Family::V4 => "default",
                Family::V6 => "default6",
            })?;
        } else {
            write!(f, "{}", self.destination)?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        write!(f, " table {}", self.table)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        Ok(())
    }
}
