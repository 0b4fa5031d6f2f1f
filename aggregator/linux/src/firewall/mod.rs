//! The one nftables table: it brings the LAN's TCP to the router daemon.

mod nft;
mod render;

pub use nft::{FirewallError, remove};
pub use render::Redirect;
