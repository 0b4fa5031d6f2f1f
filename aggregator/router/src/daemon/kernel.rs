//! What the daemon wants to be in the kernel, and putting it there.

use std::net::IpAddr;

use tracing::{debug, info, warn};
use wanbond_linux::firewall::{self, Redirect};
use wanbond_linux::mptcp_pm::{DesiredEndpoint, Limits, PathManager, PmError};
use wanbond_linux::netstate::Netlink;
use wanbond_linux::owned::{Journal, Owner};
use wanbond_linux::prefix::{Family, IpPrefix};
use wanbond_linux::routing::WanRoute;
use wanbond_linux::sysctl;
use wanbond_proto::handshake::Egress;

use crate::config::Globals;
use crate::link::ServerAddresses;

/// Settings for the whole namespace. A kernel may lack some; none is needed to work.
const SETTINGS: &[(&str, &str)] = &[
    // A lane that has idled keeps its congestion window (RFC 2861 would halve it).
    ("net.ipv4.tcp_slow_start_after_idle", "0"),
    // One bad outage must not switch MPTCP off for an hour.
    ("net.mptcp.blackhole_timeout", "0"),
];

/// An MPTCP endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndpointWanted {
    pub(super) address: IpAddr,
    pub(super) ifindex: u32,
    pub(super) backup: bool,
    /// Taken away first if it is there: subflows from it are made anew.
    pub(super) renew: bool,
}

/// All that the daemon wants to be in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) routes: Vec<WanRoute>,
    /// `None`: leave them as they are.
    pub(super) endpoints: Option<Vec<EndpointWanted>>,
    /// Devices whose reverse-path filter must be loose: answers come in on a WAN that the main
    /// table would not use.
    pub(super) loose_devices: Vec<String>,
    pub(super) redirect: Option<Redirect>,
}

/// Applies it.
pub(super) struct Kernel {
    netlink: Netlink,
    paths: Option<PathManager>,
    journal: Journal,
    redirect: Option<Redirect>,
    /// Told once, not at every attempt.
    complained: bool,
    /// Another program may have taken our table.
    suspicious: bool,
}

impl Kernel {
    pub(super) async fn new(netlink: Netlink, journal: Journal, enabled: bool) -> Self {
        let paths = match PathManager::new().await {
            Ok(paths) => Some(paths),
            Err(PmError::Unsupported) => None,
            Err(error) => {
                warn!(%error, "no MPTCP path manager: connections stay on their first WAN");
                None
            }
        };
        if enabled {
            for error in sysctl::set_all(&journal, SETTINGS) {
                debug!(%error, "setting left alone");
            }
            if let Some(paths) = &paths
                && let Err(error) = paths.raise_limits(Limits::MAX, &journal).await
            {
                warn!(%error, "MPTCP limits can't be raised: not every WAN may be joined");
            }
        }
        Self { netlink, paths, journal, redirect: None, complained: false, suspicious: false }
    }

    /// Whether the LAN's TCP comes to us now.
    pub(super) const fn redirects(&self) -> bool {
        self.redirect.is_some()
    }

    /// Makes the kernel hold what is wanted. `false` if something failed and is to be tried again.
    pub(super) async fn apply(&mut self, wanted: &Wanted) -> bool {
        let mut good = true;
        for device in &wanted.loose_devices {
            self.loosen(device);
        }
        match self.netlink.apply_wan_routes(&wanted.routes).await {
            Ok(applied) => {
                for failure in &applied.failed {
                    good = false;
                    warn!(what = %failure.what, error = %failure.error, "route or rule not set");
                }
            }
            Err(error) => {
                good = false;
                warn!(%error, "routes can't be set");
            }
        }
        if let Some(endpoints) = &wanted.endpoints {
            good &= self.apply_endpoints(endpoints).await;
        }
        if std::mem::take(&mut self.suspicious)
            && self.redirect.is_some()
            && matches!(firewall::is_present(Owner::Router.nft_table()).await, Ok(false))
        {
            info!("another program has removed the firewall table: it is set again");
            self.redirect = None;
        }
        if wanted.redirect != self.redirect {
            good &= self.set_redirect(wanted.redirect.clone()).await;
        }
        good
    }

    /// Makes the kernel hold these MPTCP endpoints. `false` if something failed and is to be tried
    /// again.
    pub(super) async fn apply_endpoints(&self, wanted: &[EndpointWanted]) -> bool {
        if self.paths.is_none() {
            return true;
        }
        let mut good = true;
        if wanted.iter().any(|endpoint| endpoint.renew) {
            let kept = wanted.iter().filter(|endpoint| !endpoint.renew);
            good &= self.set_endpoints(kept).await;
        }
        good & self.set_endpoints(wanted.iter()).await
    }

    async fn set_endpoints(&self, wanted: impl Iterator<Item = &EndpointWanted>) -> bool {
        let Some(paths) = &self.paths else { return true };
        let desired: Vec<DesiredEndpoint> = wanted
            .map(|endpoint| DesiredEndpoint {
                address: endpoint.address,
                ifindex: Some(endpoint.ifindex),
                backup: endpoint.backup,
            })
            .collect();
        match paths.apply(&desired, &self.journal).await {
            Ok(applied) => {
                for (address, error) in &applied.failed {
                    warn!(%address, %error, "MPTCP endpoint not set");
                }
                if !applied.is_noop() {
                    debug!(added = ?applied.added, removed = ?applied.removed, "MPTCP endpoints");
                }
                applied.failed.is_empty()
            }
            Err(error) => {
                warn!(%error, "MPTCP endpoints can't be set");
                false
            }
        }
    }

    /// Has the firewall table looked at when it is next applied.
    pub(super) const fn suspect_firewall(&mut self) {
        self.suspicious = true;
    }

    async fn set_redirect(&mut self, wanted: Option<Redirect>) -> bool {
        let result = match &wanted {
            Some(redirect) => redirect.apply().await,
            None => firewall::remove(Owner::Router.nft_table()).await.map(|_| ()),
        };
        match result {
            Ok(()) => {
                if wanted.is_some() != self.redirect.is_some() {
                    info!(redirected = wanted.is_some(), "the LAN's TCP");
                }
                self.redirect = wanted;
                self.complained = false;
                true
            }
            Err(error) => {
                if !self.complained {
                    warn!(%error, "the firewall table can't be set: the LAN's TCP is not bonded");
                    self.complained = true;
                }
                false
            }
        }
    }

    /// Strict reverse-path filtering would drop what comes in on a WAN that is not the default
    /// route's. The kernel uses the stricter of `all` and the device (ip-sysctl), loose being 2.
    fn loosen(&self, device: &str) {
        let name = format!("net/ipv4/conf/{device}/rp_filter");
        let strict = |name: &str| sysctl::get(name).is_ok_and(|value| value.trim() == "1");
        if (strict(&name) || strict("net/ipv4/conf/all/rp_filter"))
            && let Err(error) = sysctl::set(&self.journal, &name, "2")
        {
            warn!(device, %error, "reverse-path filter stays strict: this WAN may not work");
        }
    }
}

/// The redirect of the LAN's TCP.
pub(super) fn redirect(
    globals: &Globals,
    lan: &[String],
    server: &ServerAddresses,
    egress: Option<Egress>,
) -> Redirect {
    let mut bypass = globals.bypass.clone();
    bypass.extend(server.0.iter().map(|address| IpPrefix::host(address.ip())));
    let (bypass_v4, bypass_v6) =
        bypass.into_iter().partition(|prefix| prefix.family() == Family::V4);
    // Until the server has said, take what nearly every VPS has.
    let egress = egress.unwrap_or(Egress { ipv4: true, ipv6: false });
    Redirect {
        devices: lan.to_vec(),
        port: globals.redirect_port,
        ipv4: egress.ipv4,
        ipv6: egress.ipv6,
        bypass_v4,
        bypass_v6,
    }
}
