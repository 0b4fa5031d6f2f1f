//! Several servers, one list of routers.
//!
//! A server's routers are files, and that is all most need. Servers of a *fleet* have a second
//! list, which they share through etcd: whoever is put there by one is admitted by all. What each
//! knows of it stays in files too, so that a server without etcd goes on with the routers it knew,
//! over a restart of its own as well.
//!
//! ```text
//! PREFIX fleet            that there is a fleet here: without it, an empty etcd is not believed
//! PREFIX routers/NAME     one router: what its file says, but for its inner number
//! PREFIX servers/ENDPOINT one server: its public key and endpoints, for pairing codes
//! ```
//!
//! What is shared, and what never:
//!
//! - Each server keeps a key of its own. Who takes one server over can neither pass for another
//!   nor read what others carry. So a router has one pairing code per server, all with the same
//!   router's keys.
//! - Of a router, etcd holds what each server holds: its public key, the key shared with it,
//!   limits, forwards. Its own secret is in its codes only, which are kept nowhere.
//! - Every value is [sealed](seal) with the *fleet's key*, which goes from server to server by
//!   hand and never to etcd. Who reads etcd learns names and nothing else. Who writes to it can
//!   take routers out, or put back what stood there before, but can't add one of his own.
//! - Inner numbers, what a month has carried, `server.toml`, local routers stay where they are.
//!
//! [`etcd`] speaks to etcd, [`follow`] keeps the files equal to the list while the daemon runs,
//! and [`crate::state`] has the files themselves.

pub mod etcd;
mod follow;
mod seal;
mod settings;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use wanbond_proto::keys::PublicKey;
use wanbond_proto::pairing::Endpoint;

use crate::directory::RouterEntry;
use crate::state::{check_name, router_from_text, router_to_text};
use etcd::{Etcd, EtcdError, Listing};

pub use follow::follow;
pub use seal::{FleetKey, SealError};
pub use settings::{DEFAULT_PREFIX, Settings, SettingsError};

const MARKER: &str = "fleet";
const MARKER_VALUE: &[u8] = b"wanbond fleet, format 1";
const ROUTERS: &str = "routers/";
const SERVERS: &str = "servers/";
/// Longer values are nobody's router: a file with all the forwards there can be has a tenth of it.
const LONGEST_VALUE: usize = 256 << 10;

/// What can go wrong with a fleet. Each text says what to do.
#[derive(Debug, Error)]
pub enum FleetError {
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// Sealing.
    #[error("can't seal what etcd is to hold: {0}")]
    Seal(#[from] SealError),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nothing there, where there was a fleet.
    #[error(
        "etcd has no fleet under '{0}': was it emptied? The routers known here stay admitted; `wanbond-server fleet start` on one server puts them back there"
    )]
    NoFleet(String),
    /// Somebody else's fleet, or a mistyped key.
    #[error(
        "the fleet under '{0}' in etcd has another key; copy the key of a server that is in it, or choose another --prefix"
    )]
    OtherKey(String),
    /// `fleet start` where there is one.
    #[error(
        "there is a fleet under '{0}' in etcd already; join it with `wanbond-server fleet join`, or choose another --prefix"
    )]
    AlreadyThere(String),
    /// This server is in none.
    #[error("this server is in no fleet; see `wanbond-server fleet --help`")]
    NotInOne,
    /// This server is in one.
    #[error("this server is in a fleet already; leave it first: `wanbond-server fleet leave`")]
    InOne,
    /// Others kept changing the same router.
    #[error("router '{0}' is being changed from another server; try again")]
    Busy(String),
    /// `fleet forget` of a server that is not there.
    #[error("there is no server '{0}' in the fleet; `wanbond-server fleet status` shows them")]
    NoSuchServer(String),
}

type Result<T> = std::result::Result<T, FleetError>;

/// A server of the fleet, as the others know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its first endpoint: its name in the fleet.
    pub name: String,
    /// Its public key.
    pub public_key: PublicKey,
    /// Where routers reach it.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Serialize, Deserialize)]
struct MemberText {
    public_key: String,
    endpoints: Vec<String>,
}

impl Member {
    /// The server with this key and these endpoints; none without an endpoint.
    #[must_use]
    pub fn new(public_key: PublicKey, endpoints: &[Endpoint]) -> Option<Self> {
        let name = endpoints.first()?.to_string();
        Some(Self { name, public_key, endpoints: endpoints.to_vec() })
    }

    fn to_text(&self) -> String {
        let text = MemberText {
            public_key: self.public_key.to_string(),
            endpoints: self.endpoints.iter().map(ToString::to_string).collect(),
        };
        // Texts only: nothing TOML can't hold.
        toml::to_string(&text).unwrap_or_default()
    }

    fn from_text(name: &str, text: &str) -> std::result::Result<Self, String> {
        let file: MemberText = toml::from_str(text).map_err(|error| error.to_string())?;
        let public_key = file.public_key.parse().map_err(|error| format!("{error}"))?;
        let endpoints: std::result::Result<Vec<Endpoint>, _> =
            file.endpoints.iter().take(crate::config::MAX_ENDPOINTS).map(|e| e.parse()).collect();
        let endpoints = endpoints.map_err(|error| error.to_string())?;
        if endpoints.is_empty() {
            return Err("it has no endpoint".into());
        }
        Ok(Self { name: name.to_owned(), public_key, endpoints })
    }
}

/// A router of the fleet's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The router, without an inner number.
    pub entry: RouterEntry,
    /// etcd's revision when it was put.
    pub revision: i64,
}

/// Something under the fleet's prefix that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Its key, without the prefix.
    pub name: String,
    /// etcd's revision when it was put.
    pub revision: i64,
    /// What is wrong.
    pub reason: String,
}

/// The fleet at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// etcd's revision at that moment.
    pub revision: i64,
    /// The routers that could be read, by name.
    pub routers: Vec<Listed>,
    /// The servers, by name.
    pub servers: Vec<Member>,
    /// What could not be read.
    pub bad: Vec<Bad>,
}

impl List {
    /// The router of this name.
    #[must_use]
    pub fn router(&self, name: &str) -> Option<&Listed> {
        self.routers.iter().find(|listed| listed.entry.name == name)
    }

    /// Whether there is something under a router's name, be it readable or not.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let bad = |bad: &Bad| bad.name.strip_prefix(ROUTERS) == Some(name);
        self.router(name).is_some() || self.bad.iter().any(bad)
    }
}

/// A fleet's list in etcd. Every call blocks, for some seconds at worst.
#[derive(Debug)]
pub struct Fleet {
    etcd: Etcd,
    prefix: String,
    key: FleetKey,
}

impl Fleet {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// If the settings make no sense.
    pub fn new(settings: &Settings) -> Result<Self> {
        let prefix = settings.prefix.clone();
        Ok(Self { etcd: Etcd::new(settings.access.clone())?, prefix, key: settings.key.clone() })
    }

    /// Reads the whole list.
    ///
    /// # Errors
    /// If etcd can't be reached or says no; [`FleetError::NoFleet`] and [`FleetError::OtherKey`]:
    /// such a list is to be believed in nothing.
    pub fn list(&self) -> Result<List> {
        self.understand(self.etcd.list(&self.prefix)?)
    }

    fn understand(&self, listing: Listing) -> Result<List> {
        let mut list = List {
            revision: listing.revision,
            routers: Vec::new(),
            servers: Vec::new(),
            bad: Vec::new(),
        };
        let mut marked = false;
        for entry in listing.entries {
            // What is no text is shown as well as it can be.
            let key = String::from_utf8_lossy(&entry.key);
            let Some(name) = key.strip_prefix(&self.prefix) else { continue };
            if name == MARKER {
                let value = self.key.open(MARKER, &entry.value);
                if !value.is_ok_and(|value| **value == *MARKER_VALUE) {
                    return Err(FleetError::OtherKey(self.prefix.clone()));
                }
                marked = true;
                continue;
            }
            let revision = entry.revision;
            if let Err(reason) = self.read(name, &entry.value, revision, &mut list) {
                list.bad.push(Bad { name: name.to_owned(), revision, reason });
            }
        }
        if !marked {
            return Err(FleetError::NoFleet(self.prefix.clone()));
        }
        list.routers.sort_by(|a, b| a.entry.name.cmp(&b.entry.name));
        Ok(list)
    }

    fn read(
        &self,
        name: &str,
        value: &[u8],
        revision: i64,
        list: &mut List,
    ) -> std::result::Result<(), String> {
        if value.len() > LONGEST_VALUE {
            return Err("it is too long".into());
        }
        let open = || {
            let value = self.key.open(name, value).map_err(|error| error.to_string())?;
            String::from_utf8(value.to_vec()).map_err(|_| "it is no text".to_owned())
        };
        if let Some(router) = name.strip_prefix(ROUTERS) {
            check_name(router).map_err(|error| error.to_string())?;
            let mut entry = router_from_text(router, &open()?)?;
            entry.inner = 0;
            entry.shared = true;
            list.routers.push(Listed { entry, revision });
        } else if let Some(server) = name.strip_prefix(SERVERS) {
            list.servers.push(Member::from_text(server, &open()?)?);
        } else {
            return Err("it is neither a router nor a server".into());
        }
        Ok(())
    }

    /// Puts a router, if it is still as it was at this revision (0: not there); whether it was.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn put_router(&self, entry: &RouterEntry, revision: i64) -> Result<bool> {
        let name = format!("{ROUTERS}{}", entry.name);
        let text = router_to_text(&RouterEntry { inner: 0, ..entry.clone() });
        let value = self.key.seal(&name, text.as_bytes())?;
        Ok(self.etcd.put_if(&self.at(&name), &value, revision)?)
    }

    /// Removes a router, be its entry readable or not; whether there was one.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn remove_router(&self, name: &str) -> Result<bool> {
        Ok(self.etcd.delete(&self.at(&format!("{ROUTERS}{name}")))?)
    }

    /// Tells the others of a server.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn publish(&self, member: &Member) -> Result<()> {
        let name = format!("{SERVERS}{}", member.name);
        let value = self.key.seal(&name, member.to_text().as_bytes())?;
        Ok(self.etcd.put(&self.at(&name), &value)?)
    }

    /// Takes a server out: no more codes are printed for it.
    ///
    /// # Errors
    /// [`FleetError::NoSuchServer`]; if etcd can't be reached or says no.
    pub fn forget(&self, server: &str) -> Result<()> {
        if self.etcd.delete(&self.at(&format!("{SERVERS}{server}")))? {
            Ok(())
        } else {
            Err(FleetError::NoSuchServer(server.to_owned()))
        }
    }

    /// Makes it a fleet where there is none; whether there was none.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn mark(&self) -> Result<bool> {
        let value = self.key.seal(MARKER, MARKER_VALUE)?;
        Ok(self.etcd.put_if(&self.at(MARKER), &value, 0)?)
    }

    /// Takes back what [`Self::mark`] did.
    ///
    /// # Errors
    /// If etcd can't be reached or says no.
    pub fn unmark(&self) -> Result<()> {
        Ok(self.etcd.delete(&self.at(MARKER)).map(drop)?)
    }

    /// Waits until the list has changed after `revision`; whether it has within `time`.
    ///
    /// # Errors
    /// If etcd can't be reached, goes away meanwhile or says no.
    pub fn wait(&self, revision: i64, time: Duration) -> Result<bool> {
        Ok(self.etcd.wait(&self.prefix, revision, time)?)
    }

    fn at(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[cfg(test)]
mod tests;
