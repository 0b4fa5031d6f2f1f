//! Scenario files: which WANs there are, what they are like, and what happens to them when.
//!
//! See `scenarios/` for examples and the README for every key.

mod change;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::emulator::{Filter, Shape};
use crate::netem;
use crate::units::{Rate, duration, optional_duration};

pub use change::{ChangeError, ShapeChange};

/// A scenario that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a scenario.
    #[error("{}: {source}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: Box<toml::de::Error>,
    },
    /// It contradicts itself.
    #[error("scenario {name:?}: {what}")]
    Invalid {
        /// The scenario's name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// A whole scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short, for file names and tables.
    pub name: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// Of the links' randomness.
    #[serde(default = "one")]
    pub seed: u64,
    /// The routers; one plain one if left out.
    #[serde(default = "one_router")]
    pub router: Vec<RouterSpec>,
    /// The WANs of all routers, in order of their default routes' metrics.
    pub wan: Vec<WanSpec>,
    /// What happens by itself once the timeline is started.
    #[serde(default)]
    pub event: Vec<Event>,
}

/// A router and its LAN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterSpec {
    /// Whether its kernel speaks MPTCP.
    pub mptcp: bool,
    /// Hosts on its LAN. With more than one they hang on a bridge.
    pub lan_hosts: usize,
}

impl Default for RouterSpec {
    fn default() -> Self {
        Self { mptcp: true, lan_hosts: 1 }
    }
}

/// A WAN: a router's device, an ISP behind it, and the emulated link between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WanSpec {
    /// Its name, and that of the router's device.
    pub name: String,
    /// Index of the router it belongs to.
    #[serde(default)]
    pub router: usize,
    /// A plain veth instead of an emulated link: as fast as the machine, and nothing to set, cut
    /// or count apart from the device's own counters.
    #[serde(default)]
    pub veth: bool,
    /// Shaped by the kernel's netem, where it has that, instead of the lab's emulator: rate, delay,
    /// loss and queue only.
    #[serde(default)]
    pub netem: bool,
    /// From the Internet to the router.
    #[serde(default)]
    pub down: Shape,
    /// From the router to the Internet.
    #[serde(default)]
    pub up: Shape,
    /// MTU of the line.
    #[serde(default = "ethernet_mtu")]
    pub mtu: u32,
    /// Dead from the start, though the device is up.
    #[serde(default)]
    pub cut: bool,
    /// What the ISP does to packets.
    #[serde(default)]
    pub filter: Filter,
    /// Whether the ISP offers IPv6.
    #[serde(default = "yes")]
    pub ipv6: bool,
    /// The role in wanbond's configuration: `bond`, `backup`, `overflow` or `off`.
    #[serde(default = "bond")]
    pub role: String,
}

/// Something that happens to a WAN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, after the timeline's start.
    #[serde(with = "duration")]
    pub at: Duration,
    /// Again after each such time; left out: once.
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// To which WAN.
    pub wan: String,
    /// What.
    #[serde(rename = "do")]
    pub action: Action,
    /// For `set`: what changes towards the router.
    #[serde(default, skip_serializing_if = "ShapeChange::is_empty")]
    pub down: ShapeChange,
    /// For `set`: what changes towards the Internet.
    #[serde(default, skip_serializing_if = "ShapeChange::is_empty")]
    pub up: ShapeChange,
}

/// What an [`Event`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Cut the link without a sign.
    Cut,
    /// Mend it.
    Restore,
    /// Change what it is like.
    Set,
}

impl Scenario {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// When it can't be read, is not TOML of this form, or contradicts itself.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ScenarioError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    /// One of the scenarios in this crate's `scenarios` folder by its name, such as `adsl`.
    /// They are built in, so no path is needed.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn named(name: &str) -> Result<Self, ScenarioError> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let known: Vec<_> = BUILT_IN.iter().map(|(known, _)| *known).collect();
            ScenarioError::Invalid {
                name: name.into(),
                what: format!("unknown; there are {}", known.join(", ")),
            }
        })?;
        Self::parse(text, Path::new(name))
    }

    /// Reads a scenario from its text; `path` is for messages.
    ///
    /// # Errors
    /// When it is not TOML of this form or contradicts itself.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|source| ScenarioError::Parse {
            path: path.into(),
            source: Box::new(source),
        })?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Whether it can be built.
    ///
    /// # Errors
    /// With the first contradiction.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let wrong = |what: String| Err(ScenarioError::Invalid { name: self.name.clone(), what });
        if self.wan.is_empty() || self.router.is_empty() {
            return wrong("needs a WAN and a router".into());
        }
        // Subnets are numbered with one byte.
        if self.wan.len() > 200 || self.router.len() > 100 {
            return wrong("at most 200 WANs and 100 routers".into());
        }
        for (index, wan) in self.wan.iter().enumerate() {
            let letters = wan.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            // A device's name: IFNAMSIZ is 16 with its final zero.
            if !letters || !(1..=15).contains(&wan.name.len()) {
                return wrong(format!("{:?} can't be a device's name", wan.name));
            }
            if ["lo", "lan", "vps", "inet"].contains(&wan.name.as_str()) {
                return wrong(format!("the name {:?} is taken", wan.name));
            }
            if self.wan[..index].iter().any(|other| other.name == wan.name) {
                return wrong(format!("two WANs called {:?}", wan.name));
            }
            if wan.router >= self.router.len() {
                return wrong(format!(
                    "{} belongs to router {}, which is not there",
                    wan.name, wan.router
                ));
            }
            let plain = wan.down == Shape::default() && wan.up == Shape::default();
            if wan.veth && !(plain && wan.filter.is_idle() && !wan.cut) {
                return wrong(format!("{} is a plain veth, which can't be shaped", wan.name));
            }
            if wan.netem {
                let beyond = [&wan.down, &wan.up].into_iter().find_map(netem::beyond);
                if let Some(beyond) = beyond {
                    return wrong(format!("{}: {beyond}", wan.name));
                }
                if wan.veth || !wan.filter.is_idle() {
                    return wrong(format!(
                        "{}: a netem link is no plain veth and has no filter",
                        wan.name
                    ));
                }
            }
            // What IPv6 needs.
            if !(1280..=65_535).contains(&wan.mtu) {
                return wrong(format!("{}: an MTU of {}", wan.name, wan.mtu));
            }
        }
        for event in &self.event {
            match self.wan.iter().find(|wan| wan.name == event.wan) {
                None => {
                    return wrong(format!("an event is about {:?}, which is no WAN", event.wan));
                }
                Some(wan) if wan.veth => return wrong(format!("{} is a plain veth", wan.name)),
                Some(_) => {}
            }
            if event.every == Some(Duration::ZERO) {
                return wrong("an event can't repeat every 0 ms".into());
            }
        }
        Ok(())
    }

    /// What happens by itself within `horizon`, in order.
    #[must_use]
    pub fn timeline(&self, horizon: Duration) -> Vec<(Duration, &Event)> {
        let mut all = Vec::new();
        for event in &self.event {
            let mut at = event.at;
            while at <= horizon {
                all.push((at, event));
                let Some(every) = event.every else { break };
                at += every;
            }
        }
        all.sort_by_key(|(at, _)| *at);
        all
    }

    /// The sum of the WANs' rates of the first router: (down, up) in bit/s; none without rates.
    #[must_use]
    pub fn total_rates(&self) -> Option<(u64, u64)> {
        let sum = |pick: fn(&WanSpec) -> &Shape| {
            let mine = self.wan.iter().filter(|wan| wan.router == 0);
            mine.map(|wan| pick(wan).rate.map(Rate::bits_per_second)).sum::<Option<u64>>()
        };
        Some((sum(|wan| &wan.down)?, sum(|wan| &wan.up)?))
    }
}

const BUILT_IN: &[(&str, &str)] = &[
    ("adsl", include_str!("../../scenarios/adsl.toml")),
    ("fibre-lte", include_str!("../../scenarios/fibre-lte.toml")),
    ("starlink", include_str!("../../scenarios/starlink.toml")),
    ("unequal", include_str!("../../scenarios/unequal.toml")),
    ("unshaped", include_str!("../../scenarios/unshaped.toml")),
    ("three-wans", include_str!("../../scenarios/three-wans.toml")),
];

const fn one() -> u64 {
    1
}

fn one_router() -> Vec<RouterSpec> {
    vec![RouterSpec::default()]
}

const fn ethernet_mtu() -> u32 {
    1500
}

const fn yes() -> bool {
    true
}

fn bond() -> String {
    "bond".into()
}

#[cfg(test)]
mod tests;
