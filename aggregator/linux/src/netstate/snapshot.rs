//! Asking the kernel for everything at once.

use std::collections::HashMap;
use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::route::RouteMessage;

use crate::netlink::{LinkMessage, Object};

use super::{Device, NetState, Netlink, NetlinkError, parse};

impl Netlink {
    /// Links, their usable addresses and the default routes through them, as they are now.
    ///
    /// # Errors
    /// When the kernel refuses or the socket broke down.
    pub async fn snapshot(&self) -> Result<NetState, NetlinkError> {
        let mut devices: HashMap<u32, Device> =
            self.links().await?.into_iter().map(|device| (device.index, device)).collect();

        self.each_address(|parsed| {
            if parsed.usable
                && let Some(device) = devices.get_mut(&parsed.index)
            {
                device.addresses.push(parsed.addr);
            }
        })
        .await?;

        let ours = self.protocol;
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            self.each_route(family, |route| {
                if u8::from(route.header.protocol) == ours {
                    return;
                }
                for (index, gateway) in parse::default_routes(route) {
                    if let Some(device) = devices.get_mut(&index) {
                        device.gateways.push(gateway);
                    }
                }
            })
            .await?;
        }

        for device in devices.values_mut() {
            device.addresses.sort_by_key(|addr| (addr.ip.is_ipv6(), addr.temporary));
            device.gateways.sort_by_key(|gateway| (gateway.metric, gateway.table != 254));
        }
        Ok(NetState {
            devices: devices.into_values().map(|device| (device.name.clone(), device)).collect(),
        })
    }

    /// Every link, without addresses and routes.
    pub(crate) async fn links(&self) -> Result<Vec<Device>, NetlinkError> {
        let mut devices = Vec::new();
        self.dump("links", Object::Link(LinkMessage::default()), |object| {
            if let Object::Link(link) = object {
                devices.extend(parse::device(&link));
            }
        })
        .await?;
        Ok(devices)
    }

    /// Every address of this host, whatever its scope and state.
    pub(crate) async fn all_addresses(&self) -> Result<Vec<IpAddr>, NetlinkError> {
        let mut addresses = Vec::new();
        self.each_address(|parsed| addresses.push(parsed.addr.ip)).await?;
        Ok(addresses)
    }

    pub(super) async fn each_address(
        &self,
        mut each: impl FnMut(parse::ParsedAddress) + Send,
    ) -> Result<(), NetlinkError> {
        self.dump("addresses", Object::Address(AddressMessage::default()), |object| {
            if let Object::Address(message) = object
                && let Some(parsed) = parse::address(&message)
            {
                each(parsed);
            }
        })
        .await
    }

    pub(crate) async fn each_route(
        &self,
        family: AddressFamily,
        mut each: impl FnMut(&RouteMessage) + Send,
    ) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        self.dump("routes", Object::Route(message), |object| {
            if let Object::Route(route) = object {
                each(&route);
            }
        })
        .await
    }
}
