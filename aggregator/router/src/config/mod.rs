//! The configuration: `/etc/config/wanbond`, in UCI syntax, read by the daemon itself.
//!
//! [`load`] reads the file into a [`Config`] that can hold no wrong value, or tells everything
//! that is wrong with it at once, each with file, line, option and what would be right. What is
//! allowed but probably not meant (an unknown option, a WAN alone) comes beside it as warnings.
//!
//! ```text
//! config wanbond 'globals'
//!     option enabled '1'               # default 1
//!     list lan 'lan'                   # netifd networks or devices; default 'lan'
//!     option tcp 'auto'                # auto | mptcp | stream | packet
//!     option when_server_down 'direct' # direct | block
//!     list bypass '192.0.2.0/24'       # destinations that are never bonded
//!     option dns 'bond'                # bond | direct: what the router itself asks name servers
//!     list wan_dns '192.0.2.53'        # name servers of WANs, where they can't be found in resolv.conf
//!     option dnsmasq_dir '/etc/dnsmasq.d'     # where dnsmasq reads more configuration, and what
//!     option dnsmasq_restart 'COMMAND'        # starts it anew; both are found on OpenWrt
//!     option redirect_port '65102'     # where redirected TCP is accepted on the router
//!     option log_level 'info'          # error | warn | info | debug | trace
//!
//! config server 'vps'
//!     option code 'wanbond1:…'         # what `wanbond-server router add` printed
//!
//! config wan 'fibre'
//!     option interface 'wan'           # netifd name; or option device 'eth1'
//!     option role 'bond'               # bond | backup | overflow | off; default bond
//!     option quota '50 GB'             # a month; default none
//!     option billing_day '14'          # the quota's month starts here; default 1
//!
//! config bypass 'console'              # looked at in order, the first that fits decides
//!     list mac '02:11:22:aa:bb:cc'     # of each of these lists one entry must fit:
//!     list lan_device 'guest'          # a network or device in list lan
//!     list source '192.168.1.50'       # hosts or networks of the LAN
//!     list destination '192.0.2.0/24'  # where it goes
//!     list protocol 'udp'              # tcp | udp | icmp | esp | …, or a number
//!     list port '5060-5070'            # destination ports
//!     list domain 'example.net'        # and all below it; not together with destination
//!     option to 'wan:fibre'            # direct | wan:NAME | tunnel | bond
//!     option fallback 'bond'           # bond | none: if that WAN is down
//! ```
//!
//! Servers, WANs and bypasses take `option enabled '0'`, and are then skipped unread.

mod bypass;
mod explain;
mod schema;
pub mod uci;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use thiserror::Error;
use wanbond_control::{Bytes, DnsWay, LogLevel, Role, TcpMode, WhenServerDown};
use wanbond_linux::prefix::IpPrefix;
use wanbond_proto::pairing::PairingCode;

use crate::bypass::Rule;

pub use explain::explain;

/// Where the configuration is unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/config/wanbond";

/// The port on which the router accepts the LAN's redirected TCP unless told otherwise: next to
/// the server's port, in the range that no one is assigned (RFC 6335 §6).
pub const DEFAULT_REDIRECT_PORT: u16 = 65102;

/// Larger files are not configurations.
const LARGEST_FILE: u64 = 1 << 20;

/// What the router is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What is said once.
    pub globals: Globals,
    /// The enabled servers, in the order of preference; at least one if wanbond is enabled.
    pub servers: Vec<Server>,
    /// The enabled WANs; at least one if wanbond is enabled. Names and links are unique.
    pub wans: Vec<Wan>,
    /// The enabled rules for what goes another way, in their order. Names are unique.
    pub bypass: Vec<Rule>,
}

impl Config {
    /// That of a router that is not set up: switched off, with nothing in it.
    #[must_use]
    pub fn idle() -> Self {
        let globals = Globals { enabled: false, ..Globals::default() };
        Self { globals, servers: Vec::new(), wans: Vec::new(), bypass: Vec::new() }
    }
}

/// What is said once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Globals {
    /// Off means: run, but touch nothing.
    pub enabled: bool,
    /// Netifd networks or device names whose traffic is bonded; without netifd, device names.
    pub lan: Vec<String>,
    /// How the LAN's TCP goes.
    pub tcp: TcpMode,
    /// What happens while no server can be reached.
    pub when_server_down: WhenServerDown,
    /// Destinations that are never bonded.
    pub bypass: Vec<IpPrefix>,
    /// How the router's own questions to name servers go.
    pub dns: DnsWay,
    /// Name servers that may answer only in a WAN's own network, besides those that are found.
    pub wan_dns: Vec<IpAddr>,
    /// Where dnsmasq reads more configuration.
    pub dnsmasq_dir: Option<PathBuf>,
    /// What starts dnsmasq anew, in words of the shell.
    pub dnsmasq_restart: Option<String>,
    /// The port on which redirected TCP is accepted.
    pub redirect_port: u16,
    /// How much is logged.
    pub log_level: LogLevel,
}

impl Default for Globals {
    fn default() -> Self {
        Self {
            enabled: true,
            lan: vec!["lan".to_owned()],
            tcp: TcpMode::default(),
            when_server_down: WhenServerDown::default(),
            bypass: Vec::new(),
            dns: DnsWay::default(),
            wan_dns: Vec::new(),
            dnsmasq_dir: None,
            dnsmasq_restart: None,
            redirect_port: DEFAULT_REDIRECT_PORT,
            log_level: LogLevel::default(),
        }
    }
}

/// A server that this router is paired with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The section's name, or `server` and a number.
    pub name: String,
    /// Its key, its addresses and the router's secret.
    pub code: PairingCode,
}

/// A link to the Internet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wan {
    /// The section's name, or that of its interface or device.
    pub name: String,
    /// Which link it is.
    pub link: WanLink,
    /// When it is used.
    pub role: Role,
    /// Bytes in both directions together that it may carry in a month.
    pub quota: Option<Bytes>,
    /// The day of the month on which the quota starts anew, 1–31; the last day in months that
    /// are shorter.
    pub billing_day: u8,
}

/// How a WAN's link is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WanLink {
    /// A netifd interface, whose device may come, go and change.
    Interface(String),
    /// A network device.
    Device(String),
}

impl WanLink {
    /// The name of the interface or device.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Interface(name) | Self::Device(name) => name,
        }
    }
}

impl fmt::Display for WanLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Device(name) => write!(f, "device {name}"),
        }
    }
}

/// A right configuration and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is probably not meant, by line.
    pub warnings: Vec<Problem>,
    /// The sections that are skipped because they are not enabled, as `wan 'lte'`.
    pub skipped: Vec<String>,
}

/// Something wrong, or probably not meant, in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// The line, from 1; none where the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong, where, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file can't be read.
    #[error("{}: {source}{}", path.display(), if source.kind() == io::ErrorKind::NotFound {
        "; create it, or name another one with --config FILE"
    } else {
        ""
    })]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is wrong. Displayed, every problem has a line.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the configuration file.
///
/// # Errors
/// If it can't be read, or with everything that is wrong in it.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let mut text = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST_FILE {
        let message = "larger than 1 MiB, so it is no configuration";
        return Err(unreadable(io::Error::new(io::ErrorKind::FileTooLarge, message)));
    }
    parse(&path.display().to_string(), &text).map_err(LoadError::Wrong)
}

/// Reads a configuration from its text. `file` is what problems call it.
///
/// # Errors
/// Everything that is wrong in it, by line.
pub fn parse(file: &str, text: &[u8]) -> Result<Loaded, Vec<Problem>> {
    let problem = |line, message| Problem { file: file.to_owned(), line: Some(line), message };
    match uci::parse(text) {
        Ok(document) => schema::read(file, document),
        Err(errors) => {
            Err(errors.into_iter().map(|e| problem(e.line, e.fault.to_string())).collect())
        }
    }
}

#[cfg(test)]
mod tests;
