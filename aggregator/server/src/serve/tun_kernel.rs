//! What the kernel should hold around the tunnel, and keeping it so.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};
use wanbond_linux::firewall::{self, Outside, PortForward, Transport, VpsTunnel};
use wanbond_linux::netstate::{Netlink, NetlinkError};
use wanbond_linux::owned::{Journal, Owner};
use wanbond_linux::special::is_special;
use wanbond_linux::tunnel::{DEVICE, VpsKernel, VpsPlan};
use wanbond_proto::forward::Protocol;

use crate::config::{Config, EgressConfig};
use crate::directory::Directory;
use crate::egress::Egress;
use crate::egress::policy::AZURE_PLATFORM;
use crate::forwards::{self, Conflict, Routed};
use crate::inner::InnerNetwork;

/// How often to look whether all is still there: a reload of nftables flushes everybody's tables.
const LOOK: Duration = Duration::from_secs(5);
/// Pause after the kernel has refused something.
const AFTER_PROBLEM: Duration = Duration::from_secs(5);

/// What the kernel should hold.
///
/// `own` are this server's addresses, `ipv6` says whether it has a way out over IPv6.
#[must_use]
pub fn plan(
    egress: &EgressConfig,
    inner: &InnerNetwork,
    mtu: u16,
    mut own: Vec<IpAddr>,
    ipv6: bool,
    forwards: &[Routed],
) -> VpsPlan {
    // Refused as the server's own are: unless it is allowed.
    own.push(AZURE_PLATFORM);
    own.sort_unstable();
    own.dedup();
    VpsPlan {
        firewall: VpsTunnel {
            device: DEVICE.to_owned(),
            mtu,
            inner_v4: inner.v4(),
            inner_v6: inner.v6(),
            server: inner.server(),
            routed: inner.routed(),
            outside: Outside {
                deny: egress.deny.clone(),
                allow: egress.allow.clone(),
                deny_ports: egress.deny_ports.clone(),
                own,
                source_v4: egress.source_v4,
                source_v6: egress.source_v6,
            },
            forwards: forwards.iter().filter_map(|routed| port_forward(inner, routed)).collect(),
        },
        ipv6: ipv6 || inner.routed().is_some(),
    }
}

/// The server's half of a forward: to the router's inner address, the same port.
fn port_forward(inner: &InnerNetwork, routed: &Routed) -> Option<PortForward> {
    let addresses = inner.of(routed.number)?;
    let (first, last) = routed.forward.ports();
    Some(PortForward {
        transport: match routed.forward.protocol() {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        },
        first,
        last,
        to: match routed.forward.host() {
            IpAddr::V4(_) => addresses.v4.into(),
            IpAddr::V6(_) => addresses.v6.into(),
        },
        to_port: None,
    })
}

/// What [`TunnelKernel::keep`] follows.
#[derive(Clone)]
pub struct TunnelSources {
    /// `server.toml`, as it changes.
    pub config: watch::Receiver<Arc<Config>>,
    /// The routers, as they change.
    pub directory: Arc<Directory>,
    /// Knows addresses that are this server's elsewhere.
    pub egress: Arc<Egress>,
    /// The inner networks, as they were at the start.
    pub inner: InnerNetwork,
    /// The largest packet that the tunnel's device takes, bytes.
    pub mtu: u16,
}

/// Keeps the kernel as it should be around the tunnel's device.
pub struct TunnelKernel {
    kernel: VpsKernel,
    netlink: Netlink,
    told: Vec<String>,
}

impl TunnelKernel {
    /// Touches nothing yet. What an earlier run left is for
    /// [`cleanup`](wanbond_linux::owned::cleanup).
    ///
    /// # Errors
    /// When no netlink socket is to be had.
    pub async fn new(journal: Journal) -> Result<Self, NetlinkError> {
        Ok(Self {
            kernel: VpsKernel::new(journal).await?,
            netlink: Netlink::for_tunnel(Owner::Server).await?,
            told: Vec::new(),
        })
    }

    /// Makes the kernel hold what the sources say now. `false` if something failed and is to be
    /// tried again.
    pub async fn apply(&mut self, sources: &TunnelSources) -> bool {
        let config = Arc::clone(&sources.config.borrow());
        let routers: Vec<_> = sources.directory.snapshot().iter().cloned().collect();
        let (forwards, conflicts) = forwards::in_force(&routers, &config.ports);
        let mut told: Vec<String> = conflicts
            .iter()
            .map(|(router, conflict): &(String, Conflict)| {
                format!("a forward of router '{router}' is left out: {conflict}")
            })
            .collect();
        let mut own = sources.egress.endpoint_addresses();
        match self.netlink.local_addresses().await {
            Ok(local) => own.extend(local.to_set()),
            Err(error) => told.push(error.to_string()),
        }
        // Special addresses are refused as such.
        own.retain(|ip| !is_special(*ip));
        let ipv6 = super::families().ipv6;
        let plan = plan(&config.egress, &sources.inner, sources.mtu, own, ipv6, &forwards);
        let problems = self.kernel.apply(&plan).await;
        let good = problems.is_empty();
        told.extend(problems.iter().map(ToString::to_string));
        for problem in told.iter().filter(|problem| !self.told.contains(problem)) {
            warn!(problem, "not everything around the tunnel could be set");
        }
        self.told = told;
        good
    }

    /// Applies now and at every change of settings, routers or this machine's network, for as long
    /// as it is polled. Begin it when the tunnel's device is open.
    pub async fn keep(&mut self, mut sources: TunnelSources) {
        let mut routers = sources.directory.subscribe();
        let mut network = self.netlink.changes();
        let (v4, v6) = sources.inner.server();
        info!(%v4, %v6, mtu = sources.mtu, "tunnel");
        for chain in firewall::dropping_forward_chains().await.unwrap_or_default() {
            // Whether a rule of it lets them through can't be told from here.
            info!(
                chain,
                "another firewall drops forwarded packets unless told otherwise: have it accept \
                 what comes in or goes out by {DEVICE}"
            );
        }
        loop {
            sources.config.mark_unchanged();
            routers.mark_unchanged();
            let good = self.apply(&sources).await;
            let pause = if good { LOOK } else { AFTER_PROBLEM };
            tokio::select! {
                changed = sources.config.changed() => if changed.is_err() { return },
                changed = routers.changed() => if changed.is_err() { return },
                () = network.next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes everything out.
    pub async fn remove(&mut self) {
        for problem in self.kernel.remove().await {
            warn!(%problem, "not everything around the tunnel could be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use wanbond_proto::forward::Forward;
    use wanbond_proto::keys::PublicKey;

    use super::*;
    use crate::config::InnerConfig;

    fn inner(routed: Option<&str>) -> InnerNetwork {
        let config = InnerConfig {
            v6: Some("fd01:203:405::/64".parse().unwrap()),
            routed: routed.map(|text| text.parse().unwrap()),
            ..InnerConfig::default()
        };
        InnerNetwork::new(&config, &PublicKey::from_bytes([1; 32]))
    }

    fn routed(host: &str, number: u32) -> Routed {
        let forward = Forward::new(Protocol::Udp, 50, 60, host.parse().unwrap(), 50).unwrap();
        Routed { router: "home".into(), number, forward }
    }

    #[test]
    fn forwards_lead_to_the_routers_inner_addresses() {
        let forwards =
            [routed("192.168.1.2", 4), routed("fd00::2", 4), routed("192.168.1.2", u32::MAX)];
        let egress = EgressConfig::default();
        let to = |plan: VpsPlan| -> Vec<String> {
            plan.firewall.forwards.iter().map(|f| f.to.to_string()).collect()
        };
        let plain = plan(&egress, &inner(None), 1400, Vec::new(), false, &forwards);
        assert!(!plain.ipv6);
        assert_eq!(to(plain), ["10.239.0.5", "fd01:203:405::5"]);
        let inner = inner(Some("2001:db8:1::/56"));
        let with_prefix = plan(&egress, &inner, 1400, Vec::new(), false, &forwards);
        assert!(with_prefix.ipv6);
        assert_eq!(to(with_prefix), ["10.239.0.5", "2001:db8:1:4::1"]);
    }

    #[test]
    fn packets_are_judged_as_flows_are() {
        let egress = EgressConfig {
            allow: vec!["10.20.0.0/16".parse().unwrap()],
            deny: vec!["192.0.2.0/24".parse().unwrap()],
            deny_ports: vec![25],
            ..EgressConfig::default()
        };
        let own = vec!["203.0.113.5".parse().unwrap()];
        let text = plan(&egress, &inner(None), 1400, own, true, &[]).firewall.render().unwrap();
        for part in [
            "th dport { 25 } reject",
            "ip daddr { 192.0.2.0/24 } reject",
            "ip daddr { 10.20.0.0/16 } accept",
            "168.63.129.16/32",
            "203.0.113.5/32",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
