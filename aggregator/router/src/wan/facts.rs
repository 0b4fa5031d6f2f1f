//! What the kernel knows of a WAN's link.

use std::net::IpAddr;

use wanbond_linux::netstate::{Device, NetState};
use wanbond_linux::prefix::Family;
use wanbond_linux::routing::WanRoute;
use wanbond_proto::datagram::PathId;

use crate::netifd::DefaultRoute;

/// Tables and rule priorities of WANs: one of each per WAN, the same number. Below the main table's
/// rule (32766) and away from what netifd (10000 and up) and mwan3 (1000–3999) use.
const FIRST_TABLE: u32 = 7000;

/// A usable link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) device: String,
    pub(crate) ifindex: u32,
    pub(crate) mtu: u32,
    /// An address with a way out for each family that has one, IPv4 first.
    pub(crate) ways: Vec<Way>,
}

/// An address and its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) source: IpAddr,
    prefix_len: u8,
    pub(crate) gateway: Option<IpAddr>,
}

impl Facts {
    /// What `link` (a device name) is in `state`, or one sentence on why it can't be used. `routes` are
    /// netifd's default routes through it, for those that the kernel's table has no room for:
    /// of two WANs with the same metric, only one is there.
    pub(crate) fn find(
        state: &NetState,
        link: &str,
        routes: &[DefaultRoute],
    ) -> Result<Self, String> {
        let Some(device) = state.devices.get(link) else {
            return Err(format!("there is no device {link}"));
        };
        if !device.up {
            return Err(format!("{link} has no carrier, or is switched off"));
        }
        let ways: Vec<Way> = [Family::V4, Family::V6]
            .into_iter()
            .filter_map(|family| {
                let mut routes = routes.iter().filter(|route| route.family == family);
                way(device, family).or_else(|| routes.find_map(|route| way_by(device, *route)))
            })
            .collect();
        if ways.is_empty() {
            return Err(if device.addresses.is_empty() {
                format!("{link} has no address")
            } else {
                format!("{link} has an address but no default route")
            });
        }
        Ok(Self { device: device.name.clone(), ifindex: device.index, mtu: device.mtu, ways })
    }

    pub(crate) fn sources(&self) -> Vec<IpAddr> {
        self.ways.iter().map(|way| way.source).collect()
    }

    /// Whether sockets bound for `other` are still right.
    pub(crate) fn same_paths(&self, other: &Self) -> bool {
        self.ifindex == other.ifindex && self.ways == other.ways
    }

    /// Whether it has a way out.
    pub(crate) fn has_way(&self, family: Family) -> bool {
        self.ways.iter().any(|way| Family::of(&way.source) == family)
    }

    /// The routing table of a WAN.
    pub(crate) fn table(path: PathId) -> u32 {
        FIRST_TABLE + u32::from(path.number())
    }

    /// The routes that its addresses need.
    pub(crate) fn routes(&self, path: PathId) -> impl Iterator<Item = WanRoute> {
        let table = Self::table(path);
        self.ways.iter().map(move |way| WanRoute {
            table,
            device: self.device.clone(),
            source: way.source,
            prefix_len: way.prefix_len,
            gateway: way.gateway,
            rule_priority: table,
        })
    }
}

fn way(device: &Device, family: Family) -> Option<Way> {
    let (gateway, address) = device.way_out(family)?;
    Some(Way { source: address.ip, prefix_len: address.prefix_len, gateway: gateway.via })
}

/// As netifd has it.
fn way_by(device: &Device, route: DefaultRoute) -> Option<Way> {
    let address = match route.only_from {
        Some(prefix) => device.address_in(prefix)?,
        None => device.address(route.family)?,
    };
    Some(Way { source: address.ip, prefix_len: address.prefix_len, gateway: route.gateway })
}
