//! `wanbond-server router …`: who is admitted, and what they may take.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde::Serialize;
use wanbond_proto::pairing::PairingCode;

use super::{forward, qr};
use crate::directory::RouterEntry;
use crate::inner::InnerNetwork;
use crate::limits::RouterLimits;
use crate::state::StateDir;

#[derive(Debug, Subcommand)]
pub(super) enum RouterCommand {
    /// Add a router and print its pairing code, which can't be shown again. In a fleet: one code
    /// per server, this one's first
    Add {
        /// Up to 64 letters, digits, '-', '_' and '.'
        name: String,
        /// To this server alone, though it is in a fleet
        #[arg(long)]
        local: bool,
        /// Draw the code as a QR code too, on standard error
        #[arg(long)]
        print_qr: bool,
    },
    /// List the routers
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show one router
    Show {
        /// Its name
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a router: its sessions end and its code is worth nothing
    Remove {
        /// Its name
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Give a router new keys: prints its new code, and ends the old one's worth
    Rekey {
        /// Its name
        name: String,
        /// Draw the code as a QR code too, on standard error
        #[arg(long)]
        print_qr: bool,
    },
    /// Refuse a router and end its sessions until it is enabled again
    Disable {
        /// Its name
        name: String,
    },
    /// Admit a router that was disabled
    Enable {
        /// Its name
        name: String,
    },
    /// Set what a router may take; `default` goes back to the server's default
    Limit {
        /// Its name
        name: String,
        #[command(flatten)]
        limits: LimitArguments,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct LimitArguments {
    /// Flows at once
    #[arg(long)]
    flows: Option<Amount>,
    /// Lanes at once
    #[arg(long)]
    lanes: Option<Amount>,
    /// New flows a second
    #[arg(long)]
    opens_per_second: Option<Amount>,
    /// New flows at once after a quiet time
    #[arg(long)]
    open_burst: Option<Amount>,
    /// Bytes that wait in buffers, in MiB
    #[arg(long)]
    buffers_mib: Option<Amount>,
    /// Bytes in a calendar month, both directions, in units of 10^9
    #[arg(long)]
    monthly_gb: Option<Amount>,
}

/// A number, or the server's default.
#[derive(Debug, Clone, Copy)]
struct Amount(Option<u32>);

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self(None));
        }
        let number = text.parse().map_err(|_| format!("'{text}' is no number; or say default"))?;
        Ok(Self(Some(number)))
    }
}

impl LimitArguments {
    fn apply(&self, limits: &mut RouterLimits) {
        for (given, limit) in [
            (self.flows, &mut limits.flows),
            (self.lanes, &mut limits.lanes),
            (self.opens_per_second, &mut limits.opens_per_second),
            (self.open_burst, &mut limits.open_burst),
            (self.buffers_mib, &mut limits.buffers_mib),
            (self.monthly_gb, &mut limits.monthly_gb),
        ] {
            if let Some(Amount(amount)) = given {
                *limit = amount;
            }
        }
    }
}

pub(super) fn run(state: &StateDir, command: &RouterCommand) -> anyhow::Result<()> {
    match command {
        RouterCommand::Add { name, local, print_qr } => add(state, name, *local, *print_qr),
        RouterCommand::List { json } => list(state, *json),
        RouterCommand::Show { name, json } => show(state, name, *json),
        RouterCommand::Remove { name, json } => remove(state, name, *json),
        RouterCommand::Rekey { name, print_qr } => {
            print_codes(state, &state.rekey_router(name)?, *print_qr)
        }
        RouterCommand::Disable { name } => enable(state, name, false),
        RouterCommand::Enable { name } => enable(state, name, true),
        RouterCommand::Limit { name, limits } => {
            state.change_router(name, |entry| limits.apply(&mut entry.limits))?;
            show(state, name, false)
        }
    }
}

fn enable(state: &StateDir, name: &str, enabled: bool) -> anyhow::Result<()> {
    state.change_router(name, |entry| entry.enabled = enabled)?;
    println!("router '{name}' {}", if enabled { "enabled" } else { "disabled" });
    Ok(())
}

fn add(state: &StateDir, name: &str, local: bool, print_qr: bool) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = now.as_secs();
    if local {
        print_code(&state.add_local_router(name, now)?, print_qr);
        return Ok(());
    }
    print_codes(state, &state.add_router(name, now)?, print_qr)
}

/// One line on standard output, and in a fleet one for each other server, if the router is the
/// fleet's.
fn print_codes(state: &StateDir, code: &PairingCode, print_qr: bool) -> anyhow::Result<()> {
    print_code(code, print_qr);
    let key = code.seed.static_secret().public();
    let shared = |entry: &RouterEntry| entry.shared && entry.public_key == key;
    if !state.routers()?.entries.iter().any(shared) {
        return Ok(());
    }
    match state.codes_elsewhere(&code.seed) {
        Ok(others) => others.iter().for_each(|code| print_code(code, print_qr)),
        Err(error) => eprintln!(
            "that was this server's code; for the others', give it to `wanbond-server fleet codes` later: {error}"
        ),
    }
    Ok(())
}

fn print_code(code: &PairingCode, print_qr: bool) {
    let code = code.to_string();
    if print_qr {
        match qr::draw(&code) {
            Some(picture) => eprint!("{picture}"),
            None => eprintln!("the code is too long for a QR code; use the text"),
        }
    }
    println!("{code}");
}

/// A router as the command line shows it: no secrets.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    public_key: String,
    created: u64,
    enabled: bool,
    fleet: bool,
    limits: &'a RouterLimits,
    inner_ipv4: Option<Ipv4Addr>,
    inner_ipv6: Option<Ipv6Addr>,
    prefix: Option<String>,
    forwards: Vec<forward::Shown>,
}

impl<'a> Shown<'a> {
    fn new(entry: &'a RouterEntry, network: Option<&InnerNetwork>) -> Self {
        let inner = network.and_then(|network| network.of(entry.inner));
        let prefix = inner.and_then(|inner| inner.prefix);
        Self {
            name: &entry.name,
            public_key: entry.public_key.to_string(),
            created: entry.created,
            enabled: entry.enabled,
            fleet: entry.shared,
            limits: &entry.limits,
            inner_ipv4: inner.map(|inner| inner.v4),
            inner_ipv6: inner.map(|inner| inner.v6),
            prefix: prefix.map(|(network, length)| format!("{network}/{length}")),
            forwards: entry.forwards.iter().map(|f| forward::Shown::new(None, f)).collect(),
        }
    }
}

/// The inner networks; none if the settings or the key can't be read, which is then told when it
/// matters.
fn network(state: &StateDir) -> Option<InnerNetwork> {
    Some(InnerNetwork::new(&state.config().ok()?.inner, &state.key().ok()?.public()))
}

fn list(state: &StateDir, json: bool) -> anyhow::Result<()> {
    let routers = state.routers()?;
    for error in &routers.broken {
        eprintln!("wanbond-server: {error}");
    }
    if json {
        let network = network(state);
        let entries = routers.entries.iter();
        let shown: Vec<Shown<'_>> = entries.map(|e| Shown::new(e, network.as_ref())).collect();
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    let width = routers.entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    for entry in &routers.entries {
        let state = if entry.enabled { "enabled" } else { "disabled" };
        let fleet = if entry.shared { "  fleet" } else { "" };
        println!("{:width$}  {state:8}  {}{fleet}", entry.name, entry.public_key);
    }
    if routers.entries.is_empty() {
        eprintln!("no routers yet; add one with `wanbond-server router add NAME`");
    }
    Ok(())
}

fn show(state: &StateDir, name: &str, json: bool) -> anyhow::Result<()> {
    let entry = state.router(name)?;
    let shown = Shown::new(&entry, network(state).as_ref());
    if json {
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    println!("name: {}", shown.name);
    println!("public key: {}", shown.public_key);
    println!("created: {} (seconds since 1970)", shown.created);
    println!("enabled: {}", if shown.enabled { "yes" } else { "no" });
    if shown.fleet {
        println!("of the fleet: yes");
    }
    let limits = shown.limits;
    for (what, value) in [
        ("flows", limits.flows),
        ("lanes", limits.lanes),
        ("opens per second", limits.opens_per_second),
        ("open burst", limits.open_burst),
        ("buffers (MiB)", limits.buffers_mib),
        ("monthly traffic (GB)", limits.monthly_gb),
    ] {
        match value {
            Some(value) => println!("{what}: {value}"),
            None => println!("{what}: server's default"),
        }
    }
    for (what, value) in [
        ("inner IPv4", shown.inner_ipv4.map(|ip| ip.to_string())),
        ("inner IPv6", shown.inner_ipv6.map(|ip| ip.to_string())),
        ("prefix", shown.prefix),
    ] {
        println!("{what}: {}", value.as_deref().unwrap_or("none"));
    }
    for forward in &entry.forwards {
        println!("forward: {forward}");
    }
    Ok(())
}

fn remove(state: &StateDir, name: &str, json: bool) -> anyhow::Result<()> {
    state.remove_router(name)?;
    if json {
        println!("{}", serde_json::json!({ "removed": name }));
    } else {
        println!("router '{name}' removed");
    }
    Ok(())
}
