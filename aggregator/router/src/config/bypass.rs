//! `config bypass` sections.

use super::schema::{Report, SectionReader, link_name};
use super::{Config, Wan};
use crate::bypass::{Protocol, Rule, Target};
use wanbond_control::Role;
use wanbond_linux::prefix::IpPrefix;

pub(super) const OPTIONS: &[&str] = &[
    "enabled",
    "lan_device",
    "mac",
    "source",
    "destination",
    "protocol",
    "port",
    "domain",
    "to",
    "fallback",
];

/// Longer names don't fit into nftables' with what we put around them.
const LONGEST_NAME: usize = 64;

/// Reads a section; `None` if something is wrong with it, all of which was told.
pub(super) fn read(reader: &mut SectionReader<'_, '_>, earlier: usize) -> Option<Rule> {
    let before = reader.report.errors.len();
    let prefix = |text: &str| text.parse::<IpPrefix>().map_err(|error| error.to_string());
    let to = match reader.one("to") {
        Some(word) => reader.valid(&word, "to", str::parse::<Target>),
        None if reader.section.get("to").is_none() => {
            let message = format!(
                "{} has no option to; write direct, wan:NAME (the name of a wan section), tunnel or bond",
                reader.what
            );
            reader.report.error(Some(reader.section.line), message);
            None
        }
        None => None,
    };
    let fallback = match reader.one("fallback") {
        Some(word) => reader.valid(&word, "fallback", str::parse),
        None => Some(super::super::bypass::Fallback::default()),
    };
    let name = reader.section.name.clone().unwrap_or_else(|| format!("bypass{}", earlier + 1));
    if name.len() > LONGEST_NAME {
        let message = format!("{}: names have at most {LONGEST_NAME} characters here", reader.what);
        reader.report.error(Some(reader.section.line), message);
    }
    let rule = Rule {
        name,
        lan: reader.all("lan_device", link_name),
        macs: reader.all("mac", str::parse),
        sources: reader.all("source", prefix),
        destinations: reader.all("destination", prefix),
        protocols: reader.all("protocol", Protocol::parse).into_iter().flatten().collect(),
        ports: reader.all("port", str::parse),
        domains: reader.all("domain", str::parse),
        to: to?,
        fallback: fallback?,
    };
    if reader.report.errors.len() > before {
        return None;
    }
    if let Err(error) = rule.check(reader.section.get("fallback").is_some()) {
        let message = format!("{}: {error}", reader.what);
        reader.report.error(Some(reader.section.line), message);
        return None;
    }
    Some(rule)
}

/// What is wrong with rules among each other and with the rest.
pub(super) fn check(
    rules: &[(usize, Rule)],
    lan: &[String],
    wans: &[(usize, Wan)],
    skipped: &[String],
    broken_wans: bool,
    report: &mut Report<'_>,
) {
    for (i, (line, rule)) in rules.iter().enumerate() {
        let earlier = &rules[..i];
        if let Some((other, _)) = earlier.iter().find(|(_, other)| other.name == rule.name) {
            let message = format!(
                "there is a bypass '{}' already (line {other}); give this one another name",
                rule.name
            );
            report.error(Some(*line), message);
        }
        if let Some((at, other)) = earlier.iter().find(|(_, other)| other.hides(rule)) {
            let message = format!(
                "bypass '{}' is of no use: bypass '{}' (line {at}) stands before it and takes all \
                 that it is for; put it before that one",
                rule.name, other.name
            );
            report.warn(Some(*line), message);
        }
        if let Some(odd) = rule.lan.iter().find(|name| !lan.contains(name)) {
            let message = format!(
                "option 'lan_device' of bypass '{}': '{odd}' is not in list lan, so nothing of it \
                 is bonded anyway; there are {}",
                rule.name,
                lan.join(", ")
            );
            report.error(Some(*line), message);
        }
        if let Target::Wan(name) = &rule.to {
            check_wan(*line, &rule.name, name, wans, skipped, broken_wans, report);
        }
    }
}

fn check_wan(
    line: usize,
    rule: &str,
    name: &str,
    wans: &[(usize, Wan)],
    skipped: &[String],
    broken_wans: bool,
    report: &mut Report<'_>,
) {
    let option = format!("option 'to' of bypass '{rule}'");
    match wans.iter().find(|(_, wan)| wan.name == name) {
        Some((_, wan)) if wan.role == Role::Off => report.warn(
            Some(line),
            format!("{option}: wan '{name}' has the role 'off', so the rule does nothing"),
        ),
        Some(_) => {}
        None if skipped.contains(&format!("wan '{name}'")) => {
            report.error(Some(line), format!("{option}: wan '{name}' is not enabled"));
        }
        // The missing one may be one that is wrong, which was told.
        None if broken_wans => {}
        None => {
            let known: Vec<&str> = wans.iter().map(|(_, wan)| wan.name.as_str()).collect();
            let message =
                format!("{option}: there is no wan '{name}'; there are: {}", known.join(", "));
            report.error(Some(line), message);
        }
    }
}

/// What rules do, a line for each.
pub(super) fn explain(config: &Config) -> Vec<String> {
    let line = |rule: &Rule| {
        let way = match (&rule.to, rule.fallback) {
            (Target::Direct, _) => "over the living WANs, not bonded".to_owned(),
            (Target::Wan(name), crate::bypass::Fallback::Bond) => {
                format!("over wan {name}; bonded while that is down")
            }
            (Target::Wan(name), crate::bypass::Fallback::None) => {
                format!("over wan {name} or not at all")
            }
            (Target::Tunnel, _) => "as packets through the tunnel or not at all".to_owned(),
            (Target::Bond, _) => "bonded".to_owned(),
        };
        format!("{}: {rule} → {way}", rule.name)
    };
    config.bypass.iter().map(line).collect()
}
