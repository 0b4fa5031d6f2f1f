//! What a check of a pairing code found: before anything is written, what would come of it.

use serde::{Deserialize, Serialize};

use crate::words::{MptcpState, Role};

/// What a check of a pairing code found. Holds nothing secret.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairingReport {
    /// The server took the code over some WAN: a connection can be made.
    pub reached: bool,
    /// One sentence on why not, or on what is worth knowing; may be empty.
    pub why: String,
    /// The server's endpoints as the code names them, such as `vps.example.net:65101`.
    pub endpoints: Vec<String>,
    /// The addresses that they stand for now.
    pub addresses: Vec<String>,
    /// The configured server that has this very code, if one has.
    pub configured: Option<String>,
    /// Whether this router's kernel has MPTCP.
    pub mptcp_supported: bool,
    /// Every WAN that could be used, the configured ones first.
    pub wans: Vec<PairingWan>,
}

/// What came of a pairing code over one WAN.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairingWan {
    /// The name of its section in the configuration; without one, of its interface or device.
    pub name: String,
    /// Its netifd interface, where there is netifd.
    pub interface: Option<String>,
    /// Its network device, once known.
    pub device: Option<String>,
    /// It has a section in the configuration.
    pub configured: bool,
    /// The role it has, or one that suits it: `overflow` for mobile links, which often cost by
    /// volume.
    pub role: Role,
    /// Its own address that the server was tried from.
    pub address: Option<String>,
    /// The server took the code over it.
    pub reached: bool,
    /// One sentence on why not, or on what is worth knowing; empty while all is well.
    pub why: String,
    /// The round trip to the server in milliseconds.
    pub rtt_ms: Option<f64>,
    /// UDP passes both ways.
    pub udp: bool,
    /// TCP connections come about and are answered by the server itself.
    pub tcp: bool,
    /// What becomes of MPTCP on its way.
    pub mptcp: MptcpState,
    /// The address that the server sees.
    pub public_address: Option<String>,
}
