//! The host's own addresses, kept up to date.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Netlink, NetlinkError};
use crate::netlink::AbortOnDrop;

/// Every address this host answers on, of any scope, kept up to date in the background. Cheap to
/// clone and to ask.
#[derive(Clone)]
pub struct LocalAddresses {
    addresses: watch::Receiver<HashSet<IpAddr>>,
    _task: Arc<AbortOnDrop>,
}

impl LocalAddresses {
    /// Whether `ip` is this host. An IPv4-mapped address is looked up as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.addresses.borrow().contains(&ip.to_canonical())
    }

    /// The addresses as they are now.
    #[must_use]
    pub fn to_set(&self) -> HashSet<IpAddr> {
        self.addresses.borrow().clone()
    }
}

impl Netlink {
    /// The host's own addresses, from now on.
    ///
    /// # Errors
    /// When the first listing fails. Later failures leave the last known addresses in place.
    pub async fn local_addresses(&self) -> Result<LocalAddresses, NetlinkError> {
        let mut changes = self.changes();
        let first = self.all_addresses().await?.into_iter().collect();
        let (sender, addresses) = watch::channel(first);
        let netlink = self.clone();
        let task = AbortOnDrop::spawn(async move {
            loop {
                changes.next().await;
                match netlink.all_addresses().await {
                    Ok(now) => drop(sender.send(now.into_iter().collect())),
                    Err(error) => tracing::warn!(%error, "own addresses may be out of date"),
                }
            }
        });
        Ok(LocalAddresses { addresses, _task: Arc::new(task) })
    }
}
