//! The nftables tables.
//!
//! - [`Redirect`], the router's: it brings the LAN's TCP to the daemon.
//! - [`LanTunnel`], the router's: which of the LAN's packets go into the tunnel, and what may come
//!   out of it.
//! - [`VpsTunnel`], the server's: where packets out of the tunnel may go, and under which address.

mod lan_tunnel;
mod nft;
mod ports;
mod render;
mod vps_tunnel;
mod watch;

pub use lan_tunnel::{LanTunnel, MARK, TunnelEnd};
pub use nft::{FirewallError, dropping_forward_chains, is_present, remove};
pub use ports::{PortForward, Transport};
pub use render::Redirect;
pub use vps_tunnel::{Outside, VpsTunnel};
pub use watch::TableWatch;
