//! What the kernel should hold around the tunnel, given the configuration and the session.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tracing::{debug, info, warn};
use wanbond_control::words::{DnsWay, TcpMode, WhenServerDown};
use wanbond_linux::firewall::{LanTunnel, Names, PortForward, Transport, TunnelEnd};
use wanbond_linux::netstate::NetlinkError;
use wanbond_linux::owned::Journal;
use wanbond_linux::prefix::{Family, IpPrefix};
use wanbond_linux::tunnel::{DEVICE, LanKernel, LanPlan};
use wanbond_proto::forward::{Forward, Protocol};
use wanbond_proto::handshake::Egress;
use wanbond_proto::inner::Inner;

use crate::config::Globals;

/// A tunnel that carries packets: its device is open and the server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelUp {
    /// The addresses that the server gave.
    pub inner: Inner,
    /// The largest packet that the device takes, bytes.
    pub mtu: u16,
    /// The port forwards that the server told of.
    pub forwards: Vec<Forward>,
    /// The server does not answer at present.
    pub silent: bool,
}

/// What the kernel should hold; `None`: nothing, the LAN's packets go their usual way.
///
/// `server` are the server's addresses, which never go through the tunnel; `egress` is what the
/// server can reach, `names` what the router asks name servers.
#[must_use]
pub fn plan(
    globals: &Globals,
    lan: &[String],
    server: &[IpAddr],
    egress: Egress,
    names: Names,
    up: Option<&TunnelUp>,
) -> Option<LanPlan> {
    let block = globals.when_server_down == WhenServerDown::Block;
    if !globals.enabled || (up.is_none() && !block) {
        return None;
    }
    let mut bypass = globals.bypass.clone();
    bypass.extend(server.iter().map(|ip| IpPrefix::host(*ip)));
    let (bypass_v4, bypass_v6) = bypass.into_iter().partition(|p| p.family() == Family::V4);
    Some(LanPlan {
        firewall: LanTunnel {
            devices: lan.to_vec(),
            tcp: globals.tcp == TcpMode::Packet,
            silent: up.is_some_and(|up| up.silent),
            // Refused is refused, whatever the server could reach if it were there.
            ipv4: egress.ipv4 || up.is_none(),
            ipv6: egress.ipv6 || up.is_none(),
            bypass_v4,
            bypass_v6,
            names: (globals.dns == DnsWay::Bond).then_some(names),
            block,
            end: up.map(end),
        },
        server: up.map_or((Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED), |up| {
            (up.inner.server_v4, up.inner.server_v6)
        }),
        block,
    })
}

fn end(up: &TunnelUp) -> TunnelEnd {
    let prefix = up.inner.prefix;
    TunnelEnd {
        device: DEVICE.to_owned(),
        mtu: up.mtu,
        v4: up.inner.v4,
        v6: up.inner.v6,
        server_v4: up.inner.server_v4,
        server_v6: up.inner.server_v6,
        prefix: prefix.and_then(|(network, length)| IpPrefix::new(network.into(), length)),
        forwards: up.forwards.iter().map(port_forward).collect(),
    }
}

fn port_forward(forward: &Forward) -> PortForward {
    let (first, last) = forward.ports();
    PortForward {
        transport: match forward.protocol() {
            Protocol::Tcp => Transport::Tcp,
            Protocol::Udp => Transport::Udp,
        },
        first,
        last,
        to: forward.host(),
        to_port: (forward.host_port() != first).then(|| forward.host_port()),
    }
}

/// Keeps the kernel at a plan.
pub struct TunnelKernel {
    kernel: LanKernel,
    /// Whether something of ours may be there.
    there: bool,
    /// What was last complained of, to say it once.
    told: Vec<String>,
}

impl TunnelKernel {
    /// Touches nothing yet. What an earlier run left is for
    /// [`cleanup`](wanbond_linux::owned::cleanup).
    ///
    /// # Errors
    /// When no netlink socket is to be had.
    pub async fn new(journal: Journal) -> Result<Self, NetlinkError> {
        Ok(Self { kernel: LanKernel::new(journal).await?, there: false, told: Vec::new() })
    }

    /// Makes the kernel hold the plan, or nothing. To be called whenever the plan, a device or an
    /// address has changed. `false` if something failed and is to be tried again.
    pub async fn apply(&mut self, plan: Option<&LanPlan>) -> bool {
        let was = self.there;
        let problems = match plan {
            Some(plan) => {
                self.there = true;
                self.kernel.apply(plan).await
            }
            None if !self.there => return true,
            None => self.kernel.remove().await,
        };
        let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
        for problem in told.iter().filter(|problem| !self.told.contains(problem)) {
            warn!(problem, "not everything around the tunnel could be set");
        }
        self.told = told;
        if plan.is_none() {
            self.there = !self.told.is_empty();
        }
        if let Some(plan) = plan.filter(|plan| plan.firewall.silent) {
            debug!(block = plan.block, "the LAN's other packets wait or go their usual way");
        } else if was == self.there {
            debug!(there = self.there, "looked at what stands around the tunnel");
        } else {
            info!(tunnelled = self.there, "the LAN's other packets");
        }
        self.told.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EGRESS: Egress = Egress { ipv4: true, ipv6: false };

    fn up() -> TunnelUp {
        let forward = |first, last, host: &str, to| {
            Forward::new(Protocol::Tcp, first, last, host.parse().unwrap(), to).unwrap()
        };
        TunnelUp {
            inner: Inner {
                v4: "10.239.0.2".parse().unwrap(),
                v6: "2001:db8:1:1::1".parse().unwrap(),
                prefix: Some(("2001:db8:1:1::".parse().unwrap(), 64)),
                server_v4: "10.239.0.1".parse().unwrap(),
                server_v6: "fd77::1".parse().unwrap(),
            },
            mtu: 1400,
            silent: false,
            forwards: vec![forward(8080, 8080, "192.168.1.10", 80), forward(90, 99, "fd00::1", 90)],
        }
    }

    fn plan_of(globals: &Globals, up: Option<&TunnelUp>) -> Option<LanPlan> {
        plan(
            globals,
            &["br-lan".to_owned()],
            &["203.0.113.5".parse().unwrap()],
            EGRESS,
            Names::default(),
            up,
        )
    }

    #[test]
    fn a_living_tunnel_takes_the_lans_packets() {
        let globals =
            Globals { bypass: vec!["192.0.2.0/24".parse().unwrap()], ..Globals::default() };
        let plan = plan_of(&globals, Some(&up())).unwrap();
        assert!(!plan.block && !plan.firewall.tcp && plan.firewall.ipv4 && !plan.firewall.ipv6);
        let bypass: Vec<String> = plan.firewall.bypass_v4.iter().map(ToString::to_string).collect();
        assert_eq!(bypass, ["192.0.2.0/24", "203.0.113.5/32"]);
        let end = plan.firewall.end.unwrap();
        assert_eq!(end.prefix.unwrap().to_string(), "2001:db8:1:1::/64");
        assert_eq!(end.forwards[0].to_port, Some(80));
        assert_eq!(end.forwards[1].to_port, None);
        let packets = Globals { tcp: TcpMode::Packet, ..Globals::default() };
        assert!(plan_of(&packets, Some(&up())).unwrap().firewall.tcp);
        let silent = plan_of(&packets, Some(&TunnelUp { silent: true, ..up() })).unwrap();
        assert!(silent.firewall.silent && silent.firewall.end.is_some() && !silent.block);
    }

    #[test]
    fn a_dead_one_leaves_them_alone_or_refuses_them() {
        let direct = Globals::default();
        assert_eq!(plan_of(&direct, None), None);
        let block = Globals { when_server_down: WhenServerDown::Block, ..Globals::default() };
        let plan = plan_of(&block, None).unwrap();
        assert!(plan.block && plan.firewall.end.is_none());
        assert!(plan.firewall.ipv4 && plan.firewall.ipv6);
        assert!(plan_of(&block, Some(&up())).unwrap().block, "no leak while it goes down");
        let off = Globals { enabled: false, ..block };
        assert_eq!(plan_of(&off, Some(&up())), None);
    }
}
