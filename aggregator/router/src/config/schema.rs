//! From UCI sections to a [`Config`]: which sections and options there are, and what is right.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use wanbond_control::words::{list, nearest};
use wanbond_control::{Bytes, Role, TcpMode};
use wanbond_linux::prefix::IpPrefix;

use super::uci::{Document, Section, Value, Word};
use super::{Config, Globals, Loaded, Problem, Server, Wan, WanLink, bypass};
use crate::bypass::Rule;

const SECTIONS: &[&str] = &["wanbond", "server", "wan", "bypass"];
const GLOBAL_OPTIONS: &[&str] = &[
    "enabled",
    "lan",
    "tcp",
    "when_server_down",
    "bypass",
    "dns",
    "wan_dns",
    "dnsmasq_dir",
    "dnsmasq_restart",
    "redirect_port",
    "log_level",
];
const SERVER_OPTIONS: &[&str] = &["enabled", "code"];
const WAN_OPTIONS: &[&str] = &["enabled", "interface", "device", "role", "quota", "billing_day"];

/// Linux's IFNAMSIZ without its NUL.
const LONGEST_DEVICE: usize = 15;

/// Reads every section; all problems, sorted by line, if there are any.
pub(super) fn read(file: &str, document: Document) -> Result<Loaded, Vec<Problem>> {
    let mut report = Report { file, errors: Vec::new(), warnings: Vec::new() };
    for note in document.notes {
        report.warn(Some(note.line), note.message);
    }
    let mut skipped = Vec::new();
    let mut globals: Option<(usize, Globals)> = None;
    let mut servers: Vec<(usize, Server)> = Vec::new();
    let mut wans: Vec<(usize, Wan)> = Vec::new();
    // Names of sections whose values were wrong: they exist, so nobody must miss them.
    let mut broken_servers = 0usize;
    let mut broken_wans = 0usize;
    let mut rules: Vec<(usize, Rule)> = Vec::new();

    for section in &document.sections {
        let mut reader = SectionReader::new(section, &mut report);
        match section.kind.as_str() {
            "wanbond" => {
                reader.unknown_options(GLOBAL_OPTIONS);
                let read = read_globals(&mut reader);
                match &globals {
                    None => globals = Some((section.line, read)),
                    Some((line, _)) => report.error(
                        Some(section.line),
                        format!("there is a section of type wanbond already (line {line}); put all of its options there"),
                    ),
                }
            }
            "server" => {
                reader.unknown_options(SERVER_OPTIONS);
                if !reader.enabled() {
                    skipped.push(reader.what);
                } else if let Some(server) = read_server(&mut reader, servers.len()) {
                    servers.push((section.line, server));
                } else {
                    broken_servers += 1;
                }
            }
            "wan" => {
                reader.unknown_options(WAN_OPTIONS);
                if !reader.enabled() {
                    skipped.push(reader.what);
                } else if let Some(wan) = read_wan(&mut reader) {
                    wans.push((section.line, wan));
                } else {
                    broken_wans += 1;
                }
            }
            "bypass" => {
                reader.unknown_options(bypass::OPTIONS);
                if !reader.enabled() {
                    skipped.push(reader.what);
                } else if let Some(rule) = bypass::read(&mut reader, rules.len()) {
                    rules.push((section.line, rule));
                }
            }
            kind => {
                let message = match nearest(kind, SECTIONS) {
                    Some(right) => format!(
                        "a section of type '{kind}' means nothing here; did you mean '{right}'?"
                    ),
                    None => format!("a section of type '{kind}' means nothing here and is ignored"),
                };
                report.warn(Some(section.line), message);
            }
        }
    }

    let globals = globals.map(|(_, globals)| globals).unwrap_or_default();
    check_servers(&servers, &mut report);
    check_wans(&wans, &globals, &mut report);
    bypass::check(&rules, &globals.lan, &wans, &skipped, broken_wans > 0, &mut report);
    if globals.enabled && servers.is_empty() && broken_servers == 0 {
        report.error(None, "there is no server; run 'wanbond-server router add NAME' on the server and paste what it prints into a section: config server 'vps', option code '…'".to_owned());
    }
    if globals.enabled && broken_wans == 0 {
        let living = wans.iter().filter(|(_, wan)| wan.role != Role::Off).count();
        match (living, wans.is_empty()) {
            (0, true) => report.error(None, "there is no WAN; add a section for each link: config wan 'fibre', option interface 'wan' (or option device 'eth1')".to_owned()),
            (0, false) => report.warn(None, "every WAN has the role 'off', so nothing can be carried; give one of them the role 'bond'".to_owned()),
            (1, _) => report.warn(None, "there is only one WAN in use; bonding needs a second one".to_owned()),
            _ => {}
        }
    }

    let Report { mut errors, mut warnings, .. } = report;
    errors.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    warnings.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    if !errors.is_empty() {
        return Err(errors);
    }
    let servers = servers.into_iter().map(|(_, server)| server).collect();
    let wans = wans.into_iter().map(|(_, wan)| wan).collect();
    let bypass = rules.into_iter().map(|(_, rule)| rule).collect();
    Ok(Loaded { config: Config { globals, servers, wans, bypass }, warnings, skipped })
}

fn read_globals(reader: &mut SectionReader<'_, '_>) -> Globals {
    let mut globals = Globals { enabled: reader.enabled(), ..Globals::default() };
    if reader.section.get("lan").is_some() {
        globals.lan.clear();
        for word in reader.many("lan") {
            if let Some(name) = reader.valid(&word, "lan", link_name) {
                if globals.lan.contains(&name) {
                    reader.warn_option(&word, "lan", &format!("'{name}' is named twice"));
                } else {
                    globals.lan.push(name);
                }
            }
        }
    }
    if let Some(word) = reader.one("tcp")
        && let Some(tcp) = reader.valid(&word, "tcp", tcp_mode)
    {
        globals.tcp = tcp;
    }
    if let Some(answer) = reader.parsed("when_server_down") {
        globals.when_server_down = answer;
    }
    if let Some(level) = reader.parsed("log_level") {
        globals.log_level = level;
    }
    if let Some(word) = reader.one("redirect_port")
        && let Some(port) = reader.valid(&word, "redirect_port", port)
    {
        globals.redirect_port = port;
    }
    let prefix = |text: &str| text.parse::<IpPrefix>().map_err(|error| error.to_string());
    globals.bypass = reader.all("bypass", prefix);
    if let Some(way) = reader.parsed("dns") {
        globals.dns = way;
    }
    globals.wan_dns = reader.all("wan_dns", ip);
    globals.dnsmasq_dir = reader.one("dnsmasq_dir").and_then(|word| {
        reader.valid(&word, "dnsmasq_dir", |text| match PathBuf::from(text) {
            path if path.is_absolute() => Ok(path),
            _ => Err(format!("'{text}' is not a folder's whole path, such as '/etc/dnsmasq.d'")),
        })
    });
    globals.dnsmasq_restart = reader.one("dnsmasq_restart").map(|word| word.text);
    globals
}

fn read_server(reader: &mut SectionReader<'_, '_>, earlier: usize) -> Option<Server> {
    if reader.section.get("code").is_none() {
        let message = format!(
            "{} has no option code; paste what 'wanbond-server router add NAME' printed",
            reader.what
        );
        reader.report.error(Some(reader.section.line), message);
        return None;
    }
    let name = reader.section.name.clone();
    let code = reader.parsed("code")?;
    Some(Server { name: name.unwrap_or_else(|| format!("server{}", earlier + 1)), code })
}

fn read_wan(reader: &mut SectionReader<'_, '_>) -> Option<Wan> {
    // All options are read before anything is given up, so that all problems are told.
    let link = read_link(reader);
    let role = reader.parsed_or_wrong("role").map(Option::unwrap_or_default);
    let quota = match reader.one("quota") {
        Some(word) => reader.valid(&word, "quota", quota).map(Some),
        None => Some(None),
    };
    let billing_day = match reader.one("billing_day") {
        Some(word) => {
            if reader.section.get("quota").is_none() {
                reader.warn_option(&word, "billing_day", "without option quota it has no effect");
            }
            reader.valid(&word, "billing_day", billing_day)
        }
        None => Some(1),
    };
    let link = link?;
    let name = reader.section.name.clone().unwrap_or_else(|| link.name().to_owned());
    Some(Wan { name, link, role: role?, quota: quota?, billing_day: billing_day? })
}

fn read_link(reader: &mut SectionReader<'_, '_>) -> Option<WanLink> {
    let interface = reader.one("interface");
    let device = reader.one("device");
    match (interface, device) {
        (Some(word), None) => reader.valid(&word, "interface", link_name).map(WanLink::Interface),
        (None, Some(word)) => reader.valid(&word, "device", device_name).map(WanLink::Device),
        (Some(interface), Some(device)) => {
            let message = format!(
                "the WAN also has option interface (line {}); keep interface where netifd runs \
                 (OpenWrt), else device",
                interface.line
            );
            reader.error_option(&device, "device", &message);
            None
        }
        (None, None) => {
            // A list where one value is expected has been told already.
            let named = |option| reader.section.get(option).is_some();
            if !named("interface") && !named("device") {
                let message = format!(
                    "{} names no link; add option interface (a netifd name such as 'wan') or \
                     option device (such as 'eth1')",
                    reader.what
                );
                reader.report.error(Some(reader.section.line), message);
            }
            None
        }
    }
}

fn check_servers(servers: &[(usize, Server)], report: &mut Report<'_>) {
    for (i, (line, server)) in servers.iter().enumerate() {
        if let Some((_, twin)) = servers[..i].iter().find(|(_, other)| other.code == server.code) {
            let message = format!(
                "server '{}' has the same code as server '{}'; remove one of them",
                server.name, twin.name
            );
            report.error(Some(*line), message);
        }
    }
}

fn check_wans(wans: &[(usize, Wan)], globals: &Globals, report: &mut Report<'_>) {
    let mut names: HashMap<&str, usize> = HashMap::new();
    let mut links: HashMap<&WanLink, (&str, usize)> = HashMap::new();
    for (line, wan) in wans {
        // Section names are unique; but an anonymous WAN takes its link's name.
        if let Some(other) = names.insert(&wan.name, *line) {
            let message = format!(
                "there is a wan '{}' already (line {other}); give this one another name",
                wan.name
            );
            report.error(Some(*line), message);
        }
        if let Some((other, at)) = links.insert(&wan.link, (&wan.name, *line)) {
            let message = format!(
                "wan '{}' has the same {} as wan '{other}' (line {at}); remove one of them",
                wan.name, wan.link
            );
            report.error(Some(*line), message);
        }
        if globals.lan.iter().any(|lan| lan == wan.link.name()) {
            let message = format!(
                "wan '{}' uses {}, which is also in list lan; it can only be one of both",
                wan.name, wan.link
            );
            report.error(Some(*line), message);
        }
    }
}

/// Collects problems.
pub(super) struct Report<'a> {
    file: &'a str,
    pub(super) errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Report<'_> {
    pub(super) fn error(&mut self, line: Option<usize>, message: String) {
        self.errors.push(Problem { file: self.file.to_owned(), line, message });
    }

    pub(super) fn warn(&mut self, line: Option<usize>, message: String) {
        self.warnings.push(Problem { file: self.file.to_owned(), line, message });
    }
}

/// Reads one section's options and reports on them under the section's name.
pub(super) struct SectionReader<'a, 'r> {
    pub(super) section: &'a Section,
    /// `wan 'lte'`, or `the wan without a name`.
    pub(super) what: String,
    pub(super) report: &'a mut Report<'r>,
}

impl<'a, 'r> SectionReader<'a, 'r> {
    fn new(section: &'a Section, report: &'a mut Report<'r>) -> Self {
        let what = match &section.name {
            Some(name) => format!("{} '{name}'", section.kind),
            None => format!("the {} without a name (line {})", section.kind, section.line),
        };
        Self { section, what, report }
    }

    fn unknown_options(&mut self, known: &[&str]) {
        for option in &self.section.options {
            if known.contains(&option.name.as_str()) {
                continue;
            }
            let message = match nearest(&option.name, known) {
                Some(right) => format!(
                    "option '{}' of {}: there is no such option; did you mean '{right}'?",
                    option.name, self.what
                ),
                None => format!(
                    "option '{}' of {}: there is no such option, it is ignored; there are {}",
                    option.name,
                    self.what,
                    list(known).replace(" or ", " and ")
                ),
            };
            self.report.warn(Some(option.line()), message);
        }
    }

    fn error_option(&mut self, word: &Word, name: &str, why: &str) {
        let message = format!("option '{name}' of {}: {why}", self.what);
        self.report.error(Some(word.line), message);
    }

    fn warn_option(&mut self, word: &Word, name: &str, why: &str) {
        let message = format!("option '{name}' of {}: {why}", self.what);
        self.report.warn(Some(word.line), message);
    }

    /// The value of an option that has one; a list is an error.
    pub(super) fn one(&mut self, name: &str) -> Option<Word> {
        match &self.section.get(name)?.value {
            Value::Single(word) => Some(word.clone()),
            Value::List(words) => {
                let first = words.first()?;
                let why =
                    format!("it has one value, not a list; write option {name} '{}'", first.text);
                self.error_option(first, name, &why);
                None
            }
        }
    }

    /// The values of a list. An option is taken as a list with blanks between, as OpenWrt does.
    fn many(&mut self, name: &str) -> Vec<Word> {
        match self.section.get(name).map(|option| &option.value) {
            None => Vec::new(),
            Some(Value::List(words)) => words.clone(),
            Some(Value::Single(word)) => {
                let split = word.text.split_whitespace();
                split.map(|text| Word { line: word.line, text: text.to_owned() }).collect()
            }
        }
    }

    /// The right ones of a list's values.
    pub(super) fn all<T>(
        &mut self,
        name: &str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let words = self.many(name);
        words.iter().filter_map(|word| self.valid(word, name, &check)).collect()
    }

    pub(super) fn valid<T>(
        &mut self,
        word: &Word,
        name: &str,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match check(&word.text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.error_option(word, name, &why);
                None
            }
        }
    }

    /// The parsed value; none if it is not set or wrong.
    fn parsed<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<T> {
        self.parsed_or_wrong(name).flatten()
    }

    /// None if it is wrong, `Some(None)` if it is not set.
    fn parsed_or_wrong<T: FromStr<Err: Display>>(&mut self, name: &str) -> Option<Option<T>> {
        if self.section.get(name).is_none() {
            return Some(None);
        }
        let word = self.one(name)?;
        self.valid(&word, name, |text| text.parse().map_err(|error| format!("{error}"))).map(Some)
    }

    fn enabled(&mut self) -> bool {
        let Some(word) = self.one("enabled") else { return true };
        self.valid(&word, "enabled", boolean).unwrap_or(true)
    }
}

/// UCI's booleans, all of them.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "yes" | "on" | "true" | "enabled" => Ok(true),
        "0" | "no" | "off" | "false" | "disabled" => Ok(false),
        _ => Err(format!("'{text}' is neither on nor off; use 1 or 0")),
    }
}

fn tcp_mode(text: &str) -> Result<TcpMode, String> {
    text.parse::<TcpMode>().map_err(|error| error.to_string())
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("'{text}' is not a port; use a number from 1 to 65535")),
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("'{text}' is not an address, such as 192.0.2.53"))
}

fn quota(text: &str) -> Result<Bytes, String> {
    match text.parse::<Bytes>() {
        Ok(Bytes(0)) => {
            Err("a quota of nothing; use role 'off' for a WAN that must not be used".to_owned())
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

fn billing_day(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(day @ 1..=31) => Ok(day),
        _ => Err(format!("'{text}' is not a day of the month; use a number from 1 to 31")),
    }
}

/// A netifd interface's name, or where both are possible a device's.
pub(super) fn link_name(text: &str) -> Result<String, String> {
    let wrong = |b: u8| !b.is_ascii_graphic() || b == b'/';
    if text.is_empty() || text == "." || text == ".." || text.bytes().any(wrong) {
        return Err(format!(
            "'{text}' is not the name of a network or device, such as 'wan' or 'eth1'"
        ));
    }
    Ok(text.to_owned())
}

fn device_name(text: &str) -> Result<String, String> {
    let name = link_name(text)?;
    if name.len() > LONGEST_DEVICE {
        return Err(format!(
            "'{text}' is too long for a device; names have at most {LONGEST_DEVICE} characters"
        ));
    }
    Ok(name)
}
