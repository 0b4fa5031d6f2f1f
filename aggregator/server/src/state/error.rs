//! What can go wrong with the state directory.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use wanbond_proto::forward::MAX_FORWARDS;

use super::BadName;
use crate::config::ConfigError;
use crate::fleet::{FleetError, SettingsError};
use crate::forwards::Conflict;

/// What can go wrong with the state directory. Each text says what to do.
#[derive(Debug, Error)]
pub enum StateError {
    /// There is no state directory yet.
    #[error("{0} is no state directory yet; run `wanbond-server --state {0} init --endpoint HOST`")]
    NotInitialised(PathBuf),
    /// The first `init` was given no endpoint.
    #[error("name where routers reach this server: `init --endpoint HOST[:PORT]`")]
    NoEndpoint,
    /// A file or directory can't be read or written.
    #[error("can't {action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The key file's content is no key.
    #[error(
        "{path} is damaged: {reason}; restore it from a backup, or remove it, run init again and pair every router anew"
    )]
    DamagedKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Others can read the secret key.
    #[error("{path} can be read by others (mode {mode:03o}); run `chmod 600 {path}`")]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// `server.toml` is wrong.
    #[error("{path} is wrong: {error}\ncorrect it, or move it away and run init again")]
    BadConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: ConfigError,
    },
    /// A router's file is wrong.
    #[error("{path} is wrong: {reason}\ncorrect it, or remove the router and add it again")]
    BadRouter {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Not a name for a router.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// There is a router of this name.
    #[error(
        "there is a router '{0}' already; choose another name, or remove it first (its code then stops working)"
    )]
    RouterExists(String),
    /// There is no router of this name.
    #[error("there is no router '{0}'; `wanbond-server router list` shows them")]
    NoSuchRouter(String),
    /// The router has all the forwards it can have.
    #[error(
        "router '{0}' has {MAX_FORWARDS} port forwards, more it can't have; join some to a range"
    )]
    TooManyForwards(String),
    /// There is no such forward.
    #[error("router '{router}' has no forward of {what}; `wanbond-server forward list` shows them")]
    NoSuchForward {
        /// The router's name.
        router: String,
        /// Protocol and ports.
        what: String,
    },
    /// `fleet share` of one that is.
    #[error("router '{0}' is the fleet's already")]
    RouterShared(String),
    /// What this server's fleet is, is wrong.
    #[error("{path} is wrong: {error}\ncorrect it, or remove it and join the fleet again")]
    BadFleet {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: SettingsError,
    },
    /// The list that servers share.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// A forward is in the way of another thing.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// The key before the last rotation is still there.
    #[error(
        "the last rotation is not over: pair the other routers anew, then run `wanbond-server key forget-previous`"
    )]
    KeyInRotation,
    /// No rotation is going on.
    #[error("there is no key from before a rotation")]
    NoPreviousKey,
    /// The system's random numbers failed.
    #[error("the system gave no random numbers")]
    NoRandomness,
}
