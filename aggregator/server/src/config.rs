//! `server.toml`, parsed once into types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use thiserror::Error;
use wanbond_linux::prefix::{Family, IpPrefix};
use wanbond_proto::pairing::Endpoint;

use crate::limits::LimitsSection;

/// `server.toml` as types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where routers reach this server; at least one.
    pub endpoints: Vec<Endpoint>,
    /// Ports listened on, UDP and TCP, in order and each once; at least one.
    pub ports: Vec<u16>,
    /// Addresses listened on; none means all, IPv6 and IPv4.
    pub listen: Vec<IpAddr>,
    /// How long a stopping server lets flows finish.
    pub drain: Duration,
    /// Where routers' flows may go, and how.
    pub egress: EgressConfig,
    /// How much is allowed.
    pub limits: LimitsSection,
    /// The addresses inside the tunnel.
    pub inner: InnerConfig,
    /// Name servers that are asked what routers ask; none: those of `/etc/resolv.conf`.
    pub dns: Vec<IpAddr>,
    /// Where figures are served over HTTP: a loopback address; none: nowhere.
    pub metrics: Option<SocketAddr>,
}

/// The networks that inner addresses are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerConfig {
    /// IPv4: `inner_ipv4`.
    pub v4: IpPrefix,
    /// IPv6: `inner_ipv6`; without it one that follows from the server's key.
    pub v6: Option<IpPrefix>,
    /// A network routed to this server of which every router gets a /64: `routed_ipv6`.
    pub routed: Option<IpPrefix>,
}

impl Default for InnerConfig {
    fn default() -> Self {
        // A corner of 10.0.0.0/8 that home routers, clouds and container engines leave alone.
        let v4 = IpPrefix::new(IpAddr::V4(Ipv4Addr::new(10, 239, 0, 0)), 16);
        Self { v4: v4.unwrap_or(IpPrefix::ANY_V4), v6: None, routed: None }
    }
}

/// The `[egress]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressConfig {
    /// Allowed although private, special or the server's own.
    pub allow: Vec<IpPrefix>,
    /// Refused whatever else is said.
    pub deny: Vec<IpPrefix>,
    /// Target ports refused.
    pub deny_ports: Vec<u16>,
    /// When a target that does not answer is given up.
    pub connect_timeout: Duration,
    /// Address to connect from over IPv4.
    pub source_v4: Option<Ipv4Addr>,
    /// Address to connect from over IPv6.
    pub source_v6: Option<Ipv6Addr>,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            deny_ports: Vec::new(),
            // Windows gives up a connection after 21 s and Linux sends its fifth SYN after 15 s:
            // waiting longer keeps sockets for clients that have left.
            connect_timeout: Duration::from_secs(20),
            source_v4: None,
            source_v6: None,
        }
    }
}

/// What is wrong with a `server.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not TOML, an unknown key or a wrong value; the text shows the line.
    #[error("{0}")]
    Syntax(String),
    /// No endpoints.
    #[error("`endpoints` is empty; name at least one, such as endpoints = [\"vps.example.net\"]")]
    NoEndpoint,
    /// More endpoints than a pairing code holds.
    #[error("`endpoints` has {0} entries, a pairing code has room for {MAX_ENDPOINTS}")]
    TooManyEndpoints(usize),
    /// `ports = []` or a zero in it.
    #[error("`ports` must name at least one port, each from 1 to 65535")]
    BadPorts,
    /// Two source addresses of one family.
    #[error("`egress.source` has two addresses of one family; at most one IPv4 and one IPv6")]
    TwoSources,
    /// An inner IPv4 network of another family, or too large or small.
    #[error("`inner_ipv4` must be an IPv4 network from /8 to /28, such as \"10.239.0.0/16\"")]
    BadInnerV4,
    /// An inner IPv6 network of another family, or too large or small.
    #[error(
        "`inner_ipv6` must be an IPv6 network from /16 to /112, such as \"fd12:3456:789a::/64\""
    )]
    BadInnerV6,
    /// A routed network that no /64 can be taken from.
    #[error(
        "`routed_ipv6` must be an IPv6 network from /32 to /63, of which each router gets a /64"
    )]
    BadRouted,
    /// An address for figures that others can reach.
    #[error("`metrics` must be a loopback address and port, such as \"127.0.0.1:65102\"")]
    BadMetrics,
    /// A connect time-out nobody can mean.
    #[error("`egress.connect_timeout` must be from 1 to 300 seconds")]
    BadTimeout,
}

/// As many as a pairing code holds.
pub const MAX_ENDPOINTS: usize = 16;

impl Config {
    /// Reads `server.toml`.
    ///
    /// # Errors
    /// What is wrong, with the line where that is known.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: File =
            toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        let endpoints: Vec<Endpoint> =
            file.endpoints.into_inner().into_iter().map(|Text(endpoint)| endpoint).collect();
        match endpoints.len() {
            0 => return Err(ConfigError::NoEndpoint),
            n if n > MAX_ENDPOINTS => return Err(ConfigError::TooManyEndpoints(n)),
            _ => {}
        }
        let mut ports =
            file.ports.unwrap_or_else(|| endpoints.iter().map(|endpoint| endpoint.port).collect());
        if ports.is_empty() || ports.contains(&0) {
            return Err(ConfigError::BadPorts);
        }
        let mut seen = std::collections::HashSet::new();
        ports.retain(|&port| seen.insert(port));
        Ok(Self {
            endpoints,
            ports,
            listen: file.listen,
            // Ten seconds let pages finish and don't hold up a reboot.
            drain: Duration::from_secs(file.drain.unwrap_or(1).min(3600)),
            egress: file.egress.check()?,
            limits: file.limits,
            dns: file.dns,
            metrics: file
                .metrics
                .map(|Text(address): Text<SocketAddr>| {
                    // Figures name routers and what they do: nobody else's business.
                    if address.ip().is_loopback() && address.port() != 0 {
                        Ok(address)
                    } else {
                        Err(ConfigError::BadMetrics)
                    }
                })
                .transpose()?,
            inner: inner(file.inner_ipv4, file.inner_ipv6, file.routed_ipv6)?,
        })
    }

    /// Where in the text the value of `endpoints` stands, to put another in its place.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn endpoints_span(text: &str) -> Result<Range<usize>, ConfigError> {
        let file: File =
            toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        Ok(file.endpoints.span())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    endpoints: toml::Spanned<Vec<Text<Endpoint>>>,
    ports: Option<Vec<u16>>,
    #[serde(default)]
    listen: Vec<IpAddr>,
    drain: Option<u64>,
    inner_ipv4: Option<Text<IpPrefix>>,
    inner_ipv6: Option<Text<IpPrefix>>,
    routed_ipv6: Option<Text<IpPrefix>>,
    #[serde(default)]
    dns: Vec<IpAddr>,
    metrics: Option<Text<SocketAddr>>,
    #[serde(default)]
    egress: Egress,
    #[serde(default)]
    limits: LimitsSection,
}

fn inner(
    v4: Option<Text<IpPrefix>>,
    v6: Option<Text<IpPrefix>>,
    routed: Option<Text<IpPrefix>>,
) -> Result<InnerConfig, ConfigError> {
    let is = |prefix: &IpPrefix, family, lengths: RangeInclusive<u8>| {
        prefix.family() == family && lengths.contains(&prefix.prefix_len())
    };
    let config = InnerConfig {
        v4: v4.map_or_else(|| InnerConfig::default().v4, |Text(prefix)| prefix),
        v6: v6.map(|Text(prefix)| prefix),
        routed: routed.map(|Text(prefix)| prefix),
    };
    if !is(&config.v4, Family::V4, 8..=28) {
        return Err(ConfigError::BadInnerV4);
    }
    if config.v6.is_some_and(|prefix| !is(&prefix, Family::V6, 16..=112)) {
        return Err(ConfigError::BadInnerV6);
    }
    if config.routed.is_some_and(|prefix| !is(&prefix, Family::V6, 32..=63)) {
        return Err(ConfigError::BadRouted);
    }
    Ok(config)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Egress {
    allow: Vec<Text<IpPrefix>>,
    deny: Vec<Text<IpPrefix>>,
    deny_ports: Vec<u16>,
    connect_timeout: Option<u64>,
    source: Vec<IpAddr>,
}

impl Egress {
    fn check(self) -> Result<EgressConfig, ConfigError> {
        let mut config = EgressConfig {
            allow: self.allow.into_iter().map(|Text(prefix)| prefix).collect(),
            deny: self.deny.into_iter().map(|Text(prefix)| prefix).collect(),
            deny_ports: self.deny_ports,
            ..EgressConfig::default()
        };
        if let Some(seconds) = self.connect_timeout {
            if !(1..=300).contains(&seconds) {
                return Err(ConfigError::BadTimeout);
            }
            config.connect_timeout = Duration::from_secs(seconds);
        }
        for source in self.source {
            let twice = match source {
                IpAddr::V4(v4) => config.source_v4.replace(v4).is_some(),
                IpAddr::V6(v6) => config.source_v6.replace(v6).is_some(),
            };
            if twice {
                return Err(ConfigError::TwoSources);
            }
        }
        Ok(config)
    }
}

/// A value written as text in the file, with its own parser's error.
struct Text<T>(T);

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// The `server.toml` that `init` writes. `inner_v6` is drawn for this server.
#[must_use]
pub fn template(endpoints: &[Endpoint], inner_v6: IpPrefix) -> String {
    TEMPLATE
        .replace("@ENDPOINTS@", &endpoints_value(endpoints))
        .replace("@INNER6@", &inner_v6.to_string())
}

/// Endpoints as a TOML value.
#[must_use]
pub fn endpoints_value(endpoints: &[Endpoint]) -> String {
    let list: Vec<String> = endpoints.iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    format!("[{}]", list.join(", "))
}

const TEMPLATE: &str = include_str!("server.toml");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints(list: &[&str]) -> Vec<Endpoint> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_template_is_valid_and_so_are_its_examples() {
        let list = endpoints(&["vps.example.net", "[2001:db8::1]:443"]);
        let text = template(&list, "fd01:203:405::/64".parse().unwrap());
        let config = Config::parse(&text).unwrap();
        assert_eq!(config.endpoints, list);
        assert_eq!(config.ports, [65101, 443]);
        assert_eq!(config.egress, EgressConfig::default());
        let v6 = "fd01:203:405::/64".parse().ok();
        assert_eq!(config.inner, InnerConfig { v6, ..InnerConfig::default() });
        // Every commented-out setting must be one that works when the # is taken away.
        let lines = text.lines().map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        });
        let all = lines.collect::<Vec<_>>().join("\n");
        let config = Config::parse(&all).unwrap_or_else(|error| panic!("{error}\n{all}"));
        assert!(!config.egress.allow.is_empty() && config.egress.source_v6.is_some());
        assert!(config.inner.routed.is_some() && config.metrics.is_some());
        assert_eq!(config.dns.len(), 2);
        assert!(config.limits.router.monthly_gb.is_some());
        assert!(config.limits.router.open_burst.is_some() && config.limits.flows.is_some());
    }

    #[test]
    fn errors_name_the_line_and_the_value() {
        for (text, part) in [
            ("", "missing field `endpoints`"),
            ("endpoints = []", "at least one"),
            ("endpoints = [\"a b\"]", "'a b' is not an endpoint"),
            ("endpoints = [\"a\"]\nport = 1", "unknown field `port`"),
            ("endpoints = [\"a\"]\nports = []", "at least one port"),
            ("endpoints = [\"a\"]\n[egress]\nallow = [\"10.0.0.0/99\"]", "line 3"),
            ("endpoints = [\"a\"]\n[egress]\nsource = [\"1.1.1.1\", \"1.1.1.2\"]", "two addresses"),
            ("endpoints = [\"a\"]\n[egress]\nconnect_timeout = 0", "from 1 to 300"),
            ("endpoints = [\"a\"]\n[limits]\nflow = 1", "unknown field `flow`"),
            ("endpoints = [\"a\"]\ninner_ipv4 = \"fd00::/64\"", "`inner_ipv4` must be"),
            ("endpoints = [\"a\"]\ninner_ipv4 = \"10.0.0.0/30\"", "`inner_ipv4` must be"),
            ("endpoints = [\"a\"]\ninner_ipv6 = \"10.0.0.0/8\"", "`inner_ipv6` must be"),
            ("endpoints = [\"a\"]\nrouted_ipv6 = \"2001:db8::/64\"", "`routed_ipv6` must be"),
            ("endpoints = [\"a\"]\nmetrics = \"0.0.0.0:65102\"", "loopback"),
            ("endpoints = [\"a\"", "line 1"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = Config::parse(&text);
        }
    }
}
