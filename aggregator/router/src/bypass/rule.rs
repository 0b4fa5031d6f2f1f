//! What a rule says, what it can't say, and which of two makes the other useless.

use std::fmt;
use std::str::FromStr;

use wanbond_linux::prefix::IpPrefix;

/// IP protocol numbers with ports.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Protocols by the names that people know them by.
const PROTOCOLS: &[(&str, &[u8])] = &[
    ("tcp", &[6]),
    ("udp", &[17]),
    ("icmp", &[1, 58]),
    ("igmp", &[2]),
    ("esp", &[50]),
    ("ah", &[51]),
    ("gre", &[47]),
    ("ipip", &[4]),
    ("sctp", &[132]),
];

/// Which of the LAN's connections go another way, and which way. Of each list that is not empty, one
/// entry must fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The section's name, or `bypass` and a number.
    pub name: String,
    /// Networks or devices of the LAN.
    pub lan: Vec<String>,
    /// Hardware addresses of hosts of the LAN.
    pub macs: Vec<Mac>,
    /// Addresses of hosts of the LAN.
    pub sources: Vec<IpPrefix>,
    /// Where it goes.
    pub destinations: Vec<IpPrefix>,
    /// IP protocols.
    pub protocols: Vec<Protocol>,
    /// Destination ports.
    pub ports: Vec<Ports>,
    /// Names of what it goes to, with all below them.
    pub domains: Vec<Domain>,
    /// Where it goes instead.
    pub to: Target,
    /// What if that can't be used.
    pub fallback: Fallback,
}

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Over the living WANs, as without wanbond.
    Direct,
    /// Over the WAN of this name.
    Wan(String),
    /// As packets through the tunnel, never around the server.
    Tunnel,
    /// As if there were no rule: an exception from rules that follow.
    Bond,
}

/// What becomes of connections whose WAN can't be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fallback {
    /// They are bonded.
    #[default]
    Bond,
    /// They are refused.
    None,
}

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

/// An IP protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    name: Option<&'static str>,
    number: u8,
}

/// Ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// A domain name in lower case, without a final dot. It means everything below it too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(String);

/// A rule that can fit nothing, or everything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Nothing is said about what it is for.
    #[error(
        "it says nothing about what it is for; add lan_device, mac, source, destination, protocol, port or domain"
    )]
    Everything,
    /// Names and addresses at once.
    #[error(
        "it has both destination and domain, and both would have to fit; make a section for each"
    )]
    TwiceWhere,
    /// Addresses of families that never meet.
    #[error(
        "source and destination are of different families (IPv4 and IPv6), so nothing fits both"
    )]
    Families,
    /// A port of something that has none.
    #[error("option port goes with protocol tcp, udp or sctp only; {0} has no ports")]
    NoPorts(String),
    /// A way out that is not needed.
    #[error("option fallback goes with option to 'wan:NAME' only")]
    Fallback,
}

impl Rule {
    /// Whether it can fit something, and not everything.
    ///
    /// # Errors
    /// What is wrong with it as a whole. `has_fallback`: one was named.
    pub fn check(&self, has_fallback: bool) -> Result<(), RuleError> {
        let says = [
            self.lan.is_empty(),
            self.macs.is_empty(),
            self.sources.is_empty(),
            self.destinations.is_empty(),
            self.protocols.is_empty(),
            self.ports.is_empty(),
            self.domains.is_empty(),
        ];
        if says.iter().all(|empty| *empty) {
            return Err(RuleError::Everything);
        }
        if !self.destinations.is_empty() && !self.domains.is_empty() {
            return Err(RuleError::TwiceWhere);
        }
        let common = |source: &IpPrefix| {
            self.destinations.iter().any(|destination| destination.family() == source.family())
        };
        if !self.sources.is_empty()
            && !self.destinations.is_empty()
            && !self.sources.iter().any(common)
        {
            return Err(RuleError::Families);
        }
        if !self.ports.is_empty()
            && let Some(odd) = self.protocols.iter().find(|p| !WITH_PORTS.contains(&p.number))
        {
            return Err(RuleError::NoPorts(odd.to_string()));
        }
        if has_fallback && !matches!(self.to, Target::Wan(_)) {
            return Err(RuleError::Fallback);
        }
        Ok(())
    }

    /// Protocol numbers; a port alone means TCP and UDP.
    #[must_use]
    pub fn protocol_numbers(&self) -> Vec<u8> {
        if self.protocols.is_empty() && !self.ports.is_empty() {
            return vec![6, 17];
        }
        self.protocols.iter().map(|protocol| protocol.number).collect()
    }

    /// Whether everything that fits `later` fits this already, so that a rule behind this one is of no
    /// use.
    #[must_use]
    pub fn hides(&self, later: &Self) -> bool {
        let covers = |wide: &[IpPrefix], narrow: &[IpPrefix]| {
            all_in(wide, narrow, |w, n| w.contains(n.addr()) && w.prefix_len() <= n.prefix_len())
        };
        let protocols = self.protocol_numbers();
        all_in(&self.lan, &later.lan, |a, b| a == b)
            && all_in(&self.macs, &later.macs, |a, b| a == b)
            && covers(&self.sources, &later.sources)
            && covers(&self.destinations, &later.destinations)
            && all_in(&protocols, &later.protocol_numbers(), |a, b| a == b)
            && all_in(&self.ports, &later.ports, |w, n| w.first <= n.first && n.last <= w.last)
            && all_in(&self.domains, &later.domains, |wide, narrow| wide.covers(&narrow.0))
    }
}

/// Whether each of `narrow` is in one of `wide`; an empty list is all there is.
fn all_in<T>(wide: &[T], narrow: &[T], contains: impl Fn(&T, &T) -> bool) -> bool {
    wide.is_empty()
        || (!narrow.is_empty() && narrow.iter().all(|n| wide.iter().any(|w| contains(w, n))))
}

impl Protocol {
    /// From a name or number; some names mean two protocols.
    ///
    /// # Errors
    /// In words.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        if let Some((name, numbers)) = PROTOCOLS.iter().find(|(name, _)| *name == text) {
            return Ok(numbers.iter().map(|n| Self { name: Some(name), number: *n }).collect());
        }
        match text.parse() {
            Ok(number) if number > 0 => Ok(vec![Self { name: None, number }]),
            _ => {
                let names: Vec<&str> = PROTOCOLS.iter().map(|(name, _)| *name).collect();
                Err(format!(
                    "'{text}' is not a protocol; use {}, or a protocol number from 1 to 255",
                    names.join(", ")
                ))
            }
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.write_str(name),
            None => write!(f, "protocol {}", self.number),
        }
    }
}

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a hardware address, such as '02:11:22:aa:bb:cc'");
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let mut octets = [0; 6];
        if parts.len() != octets.len() {
            return Err(wrong());
        }
        for (octet, part) in octets.iter_mut().zip(parts) {
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(wrong());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if octets[0] & 1 != 0 {
            return Err(format!(
                "'{text}' is a group's hardware address, which no host sends from"
            ));
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.map(|octet| format!("{octet:02x}")).join(":"))
    }
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "'{text}' is not a port or a range; use numbers from 1 to 65535, such as '443' or '5060-5070'"
            )
        };
        let number = |text: &str| match text.parse() {
            Ok(port) if port != 0 && !text.starts_with('+') => Ok(port),
            _ => Err(wrong()),
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = Self { first: number(first)?, last: number(last)? };
        if ports.first > ports.last {
            return Err(format!("'{text}' begins after its end; write '{last}-{first}'"));
        }
        Ok(ports)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl Domain {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` is this or below it; case and a final dot don't count.
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
        let own = self.0.as_bytes();
        let Some(before) = name.len().checked_sub(own.len()) else { return false };
        name[before..].eq_ignore_ascii_case(own) && (before == 0 || name[before - 1] == b'.')
    }
}

impl FromStr for Domain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
            return Err(format!(
                "'{text}': what is below a domain is meant anyway; write '{rest}'"
            ));
        }
        if text.contains("://") || text.contains('/') {
            return Err(format!(
                "'{text}' is not a domain, such as 'example.net'; leave out what stands around the name"
            ));
        }
        // RFC 1123 §2.1, and underscores, which are met in the wild.
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        let numeric =
            name.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if name.len() > 253 || !name.split('.').all(label) || numeric {
            let hint = if !name.is_ascii() { "; write it in its ASCII form (xn--…)" } else { "" };
            return Err(format!("'{text}' is not a domain, such as 'example.net'{hint}"));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "direct" => Ok(Self::Direct),
            "tunnel" => Ok(Self::Tunnel),
            "bond" => Ok(Self::Bond),
            _ => match text.strip_prefix("wan:") {
                Some(name) if !name.is_empty() => Ok(Self::Wan(name.to_owned())),
                _ => Err(format!(
                    "'{text}' is no way to go; use direct, wan:NAME (the name of a wan section), tunnel or bond"
                )),
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Wan(name) => write!(f, "wan:{name}"),
            Self::Tunnel => f.write_str("tunnel"),
            Self::Bond => f.write_str("bond"),
        }
    }
}

impl FromStr for Fallback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "bond" => Ok(Self::Bond),
            "none" => Ok(Self::None),
            _ => Err(format!("'{text}' is not a fallback; use bond or none")),
        }
    }
}

/// What it is for, in a line.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let mut add = |what: &str, entries: Vec<String>| {
            if !entries.is_empty() {
                parts.push(format!("{what} {}", entries.join(", ")));
            }
        };
        let texts = |list: &[IpPrefix]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        add("in by", self.lan.clone());
        add("from", self.macs.iter().map(ToString::to_string).collect());
        add("from", texts(&self.sources));
        add("to", texts(&self.destinations));
        add("to", self.domains.iter().map(ToString::to_string).collect());
        let mut protocols: Vec<String> = self.protocols.iter().map(ToString::to_string).collect();
        protocols.dedup();
        add("by", protocols);
        add("port", self.ports.iter().map(ToString::to_string).collect());
        f.write_str(&parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule {
            name: "x".into(),
            lan: Vec::new(),
            macs: Vec::new(),
            sources: Vec::new(),
            destinations: Vec::new(),
            protocols: Vec::new(),
            ports: Vec::new(),
            domains: Vec::new(),
            to: Target::Direct,
            fallback: Fallback::Bond,
        }
    }

    fn net(text: &str) -> Vec<IpPrefix> {
        vec![text.parse().unwrap()]
    }

    fn port(text: &str) -> Vec<Ports> {
        vec![text.parse().unwrap()]
    }

    fn domain(text: &str) -> Domain {
        text.parse().unwrap()
    }

    #[test]
    fn a_domain_is_all_below_it() {
        let video = domain("Video.Example.net.");
        assert_eq!(video.as_str(), "video.example.net");
        for name in ["video.example.net", "cdn.VIDEO.example.net.", "a.b.video.example.net"] {
            assert!(video.covers(name), "{name}");
        }
        for name in ["example.net", "myvideo.example.net", "video.example.net.org", ""] {
            assert!(!video.covers(name), "{name}");
        }
    }

    #[test]
    fn wrong_words_are_told_with_what_is_right() {
        let domain = |text: &str| text.parse::<Domain>().unwrap_err();
        assert!(domain("*.example.net").ends_with("write 'example.net'"));
        assert!(domain("https://example.net/x").contains("leave out what stands around"));
        assert!(domain("münchen.de").contains("xn--"));
        for bad in ["", ".", "a..b", "-a.de", "192.0.2.1", "a b.de", &"x".repeat(64)] {
            let _ = domain(bad);
        }
        assert_eq!(
            "70-5".parse::<Ports>().unwrap_err(),
            "'70-5' begins after its end; write '5-70'"
        );
        for bad in ["", "0", "+5", "1-", "65536", "a"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
        for bad in ["", "02:11:22:aa:bb", "02:11:22:aa:bb:cg", "0:1:2:3:4:5", "01:00:5e:00:00:01"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert_eq!("AA-bb-00-01-02-03".parse::<Mac>().unwrap().to_string(), "aa:bb:00:01:02:03");
        assert!("wan:".parse::<Target>().unwrap_err().contains("use direct, wan:NAME"));
        assert!(Protocol::parse("0").is_err() && Protocol::parse("icmpv9").is_err());
        assert_eq!(Protocol::parse("icmp").unwrap().len(), 2);
        assert_eq!(Protocol::parse("89").unwrap()[0].to_string(), "protocol 89");
    }

    #[test]
    fn rules_that_fit_nothing_or_everything_are_wrong() {
        assert_eq!(rule().check(false), Err(RuleError::Everything));
        let both =
            Rule { destinations: net("192.0.2.0/24"), domains: vec![domain("a.de")], ..rule() };
        assert_eq!(both.check(false), Err(RuleError::TwiceWhere));
        let apart =
            Rule { sources: net("192.168.1.0/24"), destinations: net("2001:db8::/32"), ..rule() };
        assert_eq!(apart.check(false), Err(RuleError::Families));
        let icmp = Protocol::parse("icmp").unwrap();
        let no_port = Rule { protocols: icmp, ports: port("80"), ..rule() };
        assert_eq!(no_port.check(false), Err(RuleError::NoPorts("icmp".into())));
        let right = Rule { ports: port("80"), ..rule() };
        assert_eq!(right.check(false), Ok(()));
        assert_eq!(right.check(true), Err(RuleError::Fallback));
        assert_eq!(right.protocol_numbers(), [6, 17]);
    }

    #[test]
    fn what_is_hidden_by_an_earlier_rule_is_known() {
        let lan = Rule { sources: net("192.168.1.0/24"), ..rule() };
        let host = Rule { sources: net("192.168.1.7"), ports: port("80-90"), ..rule() };
        assert!(lan.hides(&host) && !host.hides(&lan) && lan.hides(&lan));
        let web = Rule { ports: port("1-1000"), ..rule() };
        assert!(web.hides(&host));
        let udp = Rule { protocols: Protocol::parse("udp").unwrap(), ..rule() };
        assert!(!udp.hides(&web), "TCP is left");
        let site = Rule { domains: vec![domain("a.example.net")], ..rule() };
        let all = Rule { domains: vec![domain("example.net")], ..rule() };
        assert!(all.hides(&site) && !site.hides(&all) && !site.hides(&web));
    }

    #[test]
    fn a_rule_in_a_line() {
        let rule = Rule {
            lan: vec!["guest".into()],
            protocols: Protocol::parse("icmp").unwrap(),
            sources: net("192.168.1.7"),
            ..rule()
        };
        assert_eq!(rule.to_string(), "in by guest; from 192.168.1.7/32; by icmp");
    }
}
