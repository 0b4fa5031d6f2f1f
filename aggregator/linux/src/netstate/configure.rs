//! Giving a device of ours its addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::LinkFlags;

use crate::netlink::{LinkMessage, Message, Object};

use super::{Netlink, NetlinkError};

impl Netlink {
    /// Sets a device up, with this MTU in bytes and exactly these addresses (IPv6 link-local ones
    /// aside), each as the one host of its network. For a device that is ours, such as the
    /// tunnel's; it takes all of that with it when it goes. Returns which addresses the kernel
    /// refused, such as IPv6 ones where it is switched off.
    ///
    /// # Errors
    /// If there is no such device, or it can't be set up.
    pub async fn configure_device(
        &self,
        device: &str,
        mtu: u32,
        addresses: &[IpAddr],
    ) -> Result<Vec<(IpAddr, std::io::Error)>, NetlinkError> {
        let what = || format!("set up the device {device}");
        let link =
            self.links().await?.into_iter().find(|link| link.name == device).ok_or_else(|| {
                NetlinkError::Refused {
                    what: what(),
                    source: std::io::Error::from_raw_os_error(libc::ENODEV),
                }
            })?;
        if !link.up || link.mtu != mtu {
            let mut message = LinkMessage::default();
            message.header.index = link.index;
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
            message.mtu = Some(mtu);
            self.command(what, Message::set(Object::Link(message)), 0).await?;
        }
        let wanted: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        let mut present = BTreeSet::new();
        let mut strange = Vec::new();
        self.each_address(|parsed| {
            let local = matches!(parsed.addr.ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if parsed.index != link.index || local {
                return;
            }
            let alone = parsed.addr.prefix_len == host_len(parsed.addr.ip);
            if alone && wanted.contains(&parsed.addr.ip) {
                present.insert(parsed.addr.ip);
            } else {
                strange.push((parsed.addr.ip, parsed.addr.prefix_len));
            }
        })
        .await?;
        for (ip, length) in strange {
            let message = address(link.index, ip, length);
            let request = Message::del(Object::Address(message));
            self.command(|| format!("remove {ip}/{length} from {device}"), request, 0).await?;
        }
        let mut refused = Vec::new();
        for ip in wanted.difference(&present).copied() {
            let mut message = address(link.index, ip, host_len(ip));
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            let request = Message::new(Object::Address(message));
            let result = self
                .command(|| format!("add {ip} to {device}"), request, NLM_F_CREATE | NLM_F_REPLACE)
                .await;
            match result {
                Ok(()) => {}
                Err(NetlinkError::Refused { source, .. }) => refused.push((ip, source)),
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }
}

fn host_len(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn address(index: u32, ip: IpAddr, length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = length;
    message.header.flags = AddressHeaderFlags::empty();
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}
