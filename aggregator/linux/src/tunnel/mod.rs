//! What the kernel holds around the tunnel's device, at both ends.
//!
//! The device itself is the daemons': they open it, and it goes with them. Around it stand its
//! addresses, routes and rules, a firewall table, and some settings. [`LanKernel`] puts them in
//! place on a router, [`VpsKernel`] on a server; both take all that is wanted each time and change
//! what differs, so they can be called whenever something may have changed. All of it is known to
//! be ours and taken out by [`cleanup`](crate::owned::cleanup) too.
//!
//! ```text
//! LAN host ─▶ mark ─▶ rule ─▶ table 7900 ─▶ NAT to inner address ─▶ wanbond0 ══▶ wanbond0 ─▶
//!                                      may it go there? ─▶ NAT to the server's address ─▶ Internet
//! ```

mod lan;
mod vps;

use std::net::IpAddr;

pub(crate) use lan::TABLE;
pub use lan::{LanKernel, LanPlan};
pub use vps::{VpsKernel, VpsPlan};

use crate::firewall::{self, FirewallError};
use crate::netlink::{Netlink, NetlinkError};
use crate::owned::Journal;
use crate::routing::{Failure, OwnedRoute, OwnedRule};
use crate::sysctl::{self, SysctlError};

/// The tunnel's device, at both ends.
pub const DEVICE: &str = "wanbond0";

/// Something around the tunnel that could not be put in place. The rest was; it is tried again at
/// the next call.
#[derive(Debug, thiserror::Error)]
pub enum TunnelProblem {
    /// The device is not there or can't be set up.
    #[error(transparent)]
    Device(NetlinkError),
    /// The device didn't get an address.
    #[error("{DEVICE} can't have the address {0}: {1}")]
    Address(IpAddr, #[source] std::io::Error),
    /// Routes and rules can't be set.
    #[error(transparent)]
    Routing(NetlinkError),
    /// One route or rule can't be set.
    #[error("{0}")]
    Route(Failure),
    /// The firewall table can't be set.
    #[error(transparent)]
    Firewall(FirewallError),
    /// A setting can't be changed.
    #[error(transparent)]
    Setting(SysctlError),
}

/// Sets the device up. Its kind of link has no neighbours to find: no link-local address, no
/// solicitations of routers.
async fn configure(
    netlink: &Netlink,
    journal: &Journal,
    mtu: u16,
    addresses: &[IpAddr],
    problems: &mut Vec<TunnelProblem>,
) {
    // 1: none (IN6_ADDR_GEN_MODE_NONE). Absent where IPv6 is.
    let _ = sysctl::set(journal, &format!("net/ipv6/conf/{DEVICE}/addr_gen_mode"), "1");
    match netlink.configure_device(DEVICE, u32::from(mtu), addresses).await {
        Ok(refused) => {
            problems.extend(refused.into_iter().map(|(ip, e)| TunnelProblem::Address(ip, e)));
        }
        Err(error) => problems.push(TunnelProblem::Device(error)),
    }
}

async fn route(
    netlink: &Netlink,
    routes: &[OwnedRoute],
    rules: &[OwnedRule],
    problems: &mut Vec<TunnelProblem>,
) {
    match netlink.apply_routing(routes, rules).await {
        Ok(applied) => problems.extend(applied.failed.into_iter().map(TunnelProblem::Route)),
        Err(error) => problems.push(TunnelProblem::Routing(error)),
    }
}

/// Whether nobody has flushed the table; many a firewall's script begins by flushing them all.
async fn still_there(table: &str) -> bool {
    !matches!(firewall::is_present(table).await, Ok(false))
}

fn set(journal: &Journal, name: &str, value: &str, problems: &mut Vec<TunnelProblem>) {
    if let Err(error) = sysctl::set(journal, name, value) {
        problems.push(TunnelProblem::Setting(error));
    }
}

/// Lets packets that come in by these devices be passed on. Not the switch for all (`ip_forward`),
/// which would make a router of the machine for every other link too, and changes more than it
/// says. Where that is on, all of them may already.
fn forward_v4(journal: &Journal, devices: &[&str], problems: &mut Vec<TunnelProblem>) {
    if sysctl::get("net/ipv4/ip_forward").is_ok_and(|value| value == "1") {
        return;
    }
    for device in devices {
        let name = format!("net/ipv4/conf/{device}/forwarding");
        // A device may still have to come, or be going.
        if sysctl::get(&name).is_ok() {
            set(journal, &name, "1", problems);
        }
    }
}

/// Puts back what was set for the tunnel.
fn restore(journal: &Journal, problems: &mut Vec<TunnelProblem>) {
    let of_tunnel = |name: &str| {
        let last = name.rsplit('/').next().unwrap_or_default();
        name.contains(&format!("/{DEVICE}/")) || matches!(last, "forwarding" | "accept_ra")
    };
    let (_, errors) = sysctl::restore_those(journal, of_tunnel);
    problems.extend(errors.into_iter().map(TunnelProblem::Setting));
}
