//! The links that could be WANs: those of the configuration, and those that nobody has configured yet.

use std::sync::Arc;

use wanbond_control::words::Role;
use wanbond_linux::tunnel;

use super::brain::Brain;
use crate::config::WanLink;
use crate::wan::facts::Facts;

/// A link that is a WAN, or could be one.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// Its section's name; without one, its interface's or device's.
    pub(crate) name: String,
    pub(crate) interface: Option<String>,
    pub(crate) configured: bool,
    /// Its role, or one that suits it.
    pub(crate) role: Role,
    /// What the kernel says of it, or one sentence on why it can't be used.
    pub(crate) facts: Result<Facts, String>,
}

impl Brain {
    /// Every link that is a WAN, or could be one, whether wanbond is switched on or not.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let interfaces = Arc::clone(&self.surroundings.interfaces.borrow());
        let find = |link: &WanLink| match link {
            WanLink::Device(device) => Facts::find(&self.net, device, &[]),
            WanLink::Interface(name) => {
                let place = interfaces.place(name)?;
                Facts::find(&self.net, &place.device, &place.routes)
            }
        };
        let mut found: Vec<Candidate> = self
            .wans
            .iter()
            .map(|wan| Candidate {
                name: wan.name.to_string(),
                interface: match &wan.config.link {
                    WanLink::Interface(name) => Some(name.clone()),
                    WanLink::Device(_) => None,
                },
                configured: true,
                role: wan.role,
                facts: find(&wan.config.link),
            })
            .collect();
        let lan = interfaces.devices(&self.config.globals.lan);
        let more: Vec<WanLink> = match interfaces.uplinks() {
            Some(names) => {
                names.into_iter().map(|name| WanLink::Interface(name.to_owned())).collect()
            }
            None => {
                let leads_out = self.net.devices.values().filter(|d| !d.gateways.is_empty());
                let mut names: Vec<&String> = leads_out.map(|device| &device.name).collect();
                names.sort();
                names.into_iter().map(|name| WanLink::Device(name.clone())).collect()
            }
        };
        for link in more {
            let facts = find(&link);
            let Ok(Facts { device, .. }) = &facts else { continue };
            // netifd has an interface for each family on one device; one WAN takes both.
            let known = found.iter().any(|c| c.facts.as_ref().is_ok_and(|f| f.device == *device));
            if known || device == tunnel::DEVICE || lan.contains(device) {
                continue;
            }
            let mobile = interfaces.is_mobile(link.name()) || device.starts_with("wwan");
            found.push(Candidate {
                name: link.name().to_owned(),
                interface: match &link {
                    WanLink::Interface(name) => Some(name.clone()),
                    WanLink::Device(_) => None,
                },
                configured: false,
                role: if mobile { Role::Overflow } else { Role::Bond },
                facts,
            });
        }
        found
    }
}
