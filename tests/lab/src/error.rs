//! What can go wrong with a lab.

use std::io;
use std::path::PathBuf;

use crate::emulator::EmulatorError;
use crate::ns::NsError;
use crate::scenario::ScenarioError;

/// A lab could not be built or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] NsError),
    /// The link emulator.
    #[error(transparent)]
    Emulator(#[from] EmulatorError),
    /// A TUN device.
    #[error("TUN device {name}: {source} (needs /dev/net/tun, readable and writable)")]
    Tun {
        /// Which.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// A link can't do what was asked: a plain veth can't be shaped, cut or unplugged.
    #[error("{0}")]
    Link(String),
    /// A file of the lab.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A daemon's binary is missing.
    #[error(
        "{name} not found in {}; build it with `cargo build --profile lab`, or set WANBOND_BIN_DIR",
        searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    NoBinary {
        /// Which.
        name: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A daemon or its CLI did not do what was asked.
    #[error("{what}\n{log}")]
    Daemon {
        /// What was asked.
        what: String,
        /// The end of its log.
        log: String,
    },
    /// Traffic could not even be tried.
    #[error("{what}: {source}")]
    Traffic {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl LabError {
    /// Whether this user may not make labs on this machine, rather than something being wrong.
    #[must_use]
    pub fn is_missing_privilege(&self) -> bool {
        let (Self::Namespace(NsError::Create { source, .. }) | Self::Tun { source, .. }) = self
        else {
            return false;
        };
        source.kind() == io::ErrorKind::PermissionDenied
    }
}
