//! The nftables tables.
//!
//! - [`Redirect`], the router's: it brings the LAN's TCP to the daemon.
//! - [`LanTunnel`], the router's: which of the LAN's packets go into the tunnel, and what may come
//!   out of it.
//! - [`Bypass`], the router's: what goes neither way, and where it goes instead.
//! - [`Cut`], the router's: a WAN taken away for a drill.
//! - [`VpsTunnel`], the server's: where packets out of the tunnel may go, and under which address.

mod bypass;
mod cut;
mod lan_tunnel;
mod names;
mod nft;
mod ports;
mod render;
mod vps_tunnel;
mod watch;

pub use bypass::{
    BYPASS, Bypass, BypassRule, BypassWan, BypassWay, ONLY, WAN_BITS, domain_set, wan_mark,
};
pub use cut::Cut;
pub use lan_tunnel::{CAME_THROUGH, LanTunnel, MARK, TunnelEnd};
pub use names::{Names, OWN};
pub use nft::{
    FirewallError, Taken, bypass_counters, dropping_forward_chains, is_present, note_address,
    remove,
};
pub use ports::{PortForward, Transport};
pub use render::Redirect;
pub use vps_tunnel::{Outside, VpsTunnel};
pub use watch::TableWatch;
