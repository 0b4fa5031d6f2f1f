//! What netifd knows: OpenWrt's networks by name, and the device that each of them has now.
//!
//! `network.interface dump` is asked for over ubus ([`crate::ubus`]); this is what its answer means. With
//! it, a WAN is `option interface 'wan'`, whatever device DHCP, PPPoE or a modem brings it up on, and
//! its gateway is known even where another WAN's default route of the same metric has taken the place
//! in the kernel's table.

pub(crate) mod rivals;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use wanbond_linux::prefix::{Family, IpPrefix};

use crate::ubus::Value;

/// Protocols of OpenWrt's packages for mobile modems.
const MOBILE: &[&str] = &["3g", "directip", "mbim", "modemmanager", "ncm", "qmi", "wwan", "xmm"];

/// netifd's interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Interfaces {
    /// There is no netifd, or it has not answered yet: names are those of devices.
    #[default]
    Unknown,
    /// All of them.
    Known(Vec<Interface>),
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    name: String,
    up: bool,
    /// Whether a protocol made it beside one of /etc/config/network, such as `wan_6`.
    dynamic: bool,
    /// What is going on, if it is not up.
    why: String,
    /// How it gets its addresses, such as `dhcp` or `qmi`.
    proto: String,
    /// The device that carries IP, such as `pppoe-wan`.
    device: Option<String>,
    /// Its default routes.
    routes: Vec<DefaultRoute>,
}

/// A default route of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DefaultRoute {
    pub(crate) family: Family,
    /// None on a point-to-point link.
    pub(crate) gateway: Option<IpAddr>,
    /// The only addresses of ours that it is for.
    pub(crate) only_from: Option<IpPrefix>,
}

/// Where an interface is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) device: String,
    pub(crate) routes: Vec<DefaultRoute>,
}

impl Interfaces {
    /// From the answer to `network.interface dump`; `None` if it is none.
    pub(crate) fn from_dump(dump: &Value) -> Option<Self> {
        let all = dump.get("interface")?.elements();
        Some(Self::Known(all.iter().filter_map(Interface::read).collect()))
    }

    /// Where `name` is, or one sentence on why it is nowhere.
    pub(crate) fn place(&self, name: &str) -> Result<Place, String> {
        let Self::Known(all) = self else {
            return Ok(Place { device: name.to_owned(), routes: Vec::new() });
        };
        let Some(interface) = all.iter().find(|interface| interface.name == name) else {
            return Err(format!("there is no network {name} in /etc/config/network"));
        };
        match &interface.device {
            Some(device) if interface.up => {
                Ok(Place { device: device.clone(), routes: routes(all, interface) })
            }
            _ => Err(format!("network {name} is {}", interface.why)),
        }
    }

    /// The names of those that are up and have a default route: they lead to the Internet. None where
    /// there is no netifd.
    pub(crate) fn uplinks(&self) -> Option<Vec<&str>> {
        let Self::Known(all) = self else { return None };
        let configured_beside = |this: &Interface| {
            all.iter().any(|other| other.up && !other.dynamic && other.device == this.device)
        };
        let leads_out = |interface: &&Interface| {
            interface.up
                && !routes(all, interface).is_empty()
                && !(interface.dynamic && configured_beside(interface))
        };
        Some(all.iter().filter(leads_out).map(|interface| interface.name.as_str()).collect())
    }

    /// Whether `name` is a mobile link, by the protocol its modem speaks.
    pub(crate) fn is_mobile(&self, name: &str) -> bool {
        let Self::Known(all) = self else { return false };
        all.iter()
            .any(|interface| interface.name == name && MOBILE.contains(&interface.proto.as_str()))
    }

    /// The devices of the networks or devices in `names`. Those of networks that are down are left
    /// out; a name that netifd does not know is a device's.
    pub(crate) fn devices(&self, names: &[String]) -> Vec<String> {
        let Self::Known(all) = self else { return names.to_vec() };
        let mut devices: Vec<String> = names
            .iter()
            .filter_map(|name| match all.iter().find(|interface| interface.name == *name) {
                Some(interface) => interface.device.clone(),
                None => Some(name.clone()),
            })
            .collect();
        devices.dedup();
        devices
    }
}

/// The default routes of an interface and of those beside it, on the same device: IPv6 often has one of its
/// own (`wan6`), and modems one for each family (`wwan_4`, `wwan_6`).
fn routes(all: &[Interface], interface: &Interface) -> Vec<DefaultRoute> {
    let beside = |other: &&Interface| {
        other.up && other.name != interface.name && other.device == interface.device
    };
    let others = all.iter().filter(beside).flat_map(|other| &other.routes);
    interface.routes.iter().chain(others).copied().collect()
}

impl Interface {
    fn read(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        let truth = |name: &str| entry.get(name).and_then(Value::as_bool).unwrap_or_default();
        let why = if truth("pending") {
            "being brought up"
        } else if entry.get("available").is_some() && !truth("available") {
            "without its device"
        } else {
            "down"
        };
        let error = entry.get("errors").and_then(|errors| {
            errors.elements().iter().rev().find_map(|error| error.get("code")?.as_str())
        });
        Some(Self {
            name: text("interface")?,
            up: truth("up"),
            dynamic: truth("dynamic"),
            proto: text("proto").unwrap_or_default(),
            why: error.map_or_else(|| why.to_owned(), |error| format!("{why} ({error})")),
            device: text("l3_device").or_else(|| text("device")),
            routes: entry
                .get("route")
                .map(Value::elements)
                .unwrap_or_default()
                .iter()
                .filter_map(DefaultRoute::read)
                .collect(),
        })
    }
}

impl DefaultRoute {
    fn read(entry: &Value) -> Option<Self> {
        if entry.get("mask")?.as_integer()? != 0 {
            return None;
        }
        let target: IpAddr = entry.get("target")?.as_str()?.parse().ok()?;
        let gateway = entry.get("nexthop").and_then(Value::as_str);
        let gateway: Option<IpAddr> = gateway.and_then(|text| text.parse().ok());
        let only_from = entry.get("source").and_then(Value::as_str);
        let only_from: Option<IpPrefix> = only_from.and_then(|text| text.parse().ok());
        Some(Self {
            family: Family::of(&target),
            gateway: gateway.filter(|gateway| !gateway.is_unspecified()),
            only_from: only_from.filter(|prefix| !prefix.is_default()),
        })
    }
}
