//! What we put into the kernel, and how it is taken out again.
//!
//! | what | how it is known to be ours |
//! |---|---|
//! | routes and rules | route protocol numbers of our own, see [`Owner::route_protocol`], [`Owner::tunnel_protocol`] and [`Owner::bypass_protocol`] |
//! | firewall rules | tables of our own, see [`Owner::nft_table`], [`Owner::tunnel_table`] and [`Owner::bypass_table`] |
//! | MPTCP endpoints and limits, sysctls | written in the [`Journal`] before they are set |
//!
//! [`cleanup`] undoes all of it and may be called at any time, any number of times: on exit, at
//! the next start after a crash, and by hand.

mod cleanup;
mod journal;

use std::path::Path;

pub use cleanup::{CleanupReport, cleanup};
pub(crate) use journal::Changed;
pub use journal::{Journal, JournalError, OwnedEndpoint};

/// Whose things they are. Router and server may run on one host, and neither may clean up what is
/// the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Owner {
    /// The router daemon.
    Router,
    /// The server daemon.
    Server,
}

impl Owner {
    /// Number that marks our routes and rules (`rtm_protocol`, `FRA_PROTOCOL`). Not among those
    /// that `/etc/iproute2/rt_protos` or any routing daemon is known to use.
    #[must_use]
    pub const fn route_protocol(self) -> u8 {
        match self {
            Self::Router => 119, // 'w'
            Self::Server => 120,
        }
    }

    /// As [`Self::route_protocol`], for what belongs to the tunnel, which comes and goes apart from
    /// the WANs. The server has nothing else.
    #[must_use]
    pub const fn tunnel_protocol(self) -> u8 {
        match self {
            Self::Router => 121,
            Self::Server => Self::Server.route_protocol(),
        }
    }

    /// As [`Self::tunnel_protocol`], for the rules of what goes around the bond; the router's only.
    #[must_use]
    pub const fn bypass_protocol(self) -> u8 {
        match self {
            Self::Router => 122,
            Self::Server => Self::Server.route_protocol(),
        }
    }

    /// Name of the nftables table, of family `inet`, for what goes around the bond.
    #[must_use]
    pub const fn bypass_table(self) -> &'static str {
        match self {
            Self::Router => "wanbond-bypass",
            Self::Server => Self::Server.nft_table(),
        }
    }

    /// Name of the nftables table, of family `inet`, for what goes through the tunnel.
    #[must_use]
    pub const fn tunnel_table(self) -> &'static str {
        match self {
            Self::Router => "wanbond-tunnel",
            Self::Server => Self::Server.nft_table(),
        }
    }

    /// Name of the nftables table, of family `inet`, that a router's drill cuts a WAN with.
    pub const DRILL_TABLE: &str = "wanbond-drill";

    /// Name of our nftables table, of family `inet`.
    #[must_use]
    pub const fn nft_table(self) -> &'static str {
        match self {
            Self::Router => "wanbond",
            Self::Server => "wanbond-server",
        }
    }

    /// Where the journal lies: on a file system that a reboot empties, as it empties the kernel.
    #[must_use]
    pub fn run_dir(self) -> &'static Path {
        match self {
            Self::Router => Path::new("/run/wanbond"),
            Self::Server => Path::new("/run/wanbond-server"),
        }
    }
}
