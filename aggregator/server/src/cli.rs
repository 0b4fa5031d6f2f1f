//! The commands.

mod forward;
mod qr;
mod run;
mod status;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use serde::Serialize;
use tracing_subscriber::filter::Targets;
use wanbond_proto::pairing::Endpoint;

use crate::directory::RouterEntry;
use crate::inner::InnerNetwork;
use crate::limits::RouterLimits;
use crate::state::{Initialised, StateDir};

/// The VPS side of wanbond: admits routers and carries their connections to the Internet.
#[derive(Debug, Parser)]
#[command(name = "wanbond-server", version)]
struct Cli {
    /// Where keys, settings and routers are kept
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc/wanbond-server")]
    state: PathBuf,
    /// What to log: error, warn, info, debug or trace, also per part as in
    /// info,wanbond_server::egress=debug (default: $WANBOND_LOG, or info)
    #[arg(long, global = true, value_name = "LEVELS")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the state directory: the key and server.toml
    Init {
        /// Where routers reach this server; given again later, replaces the list
        #[arg(long = "endpoint", value_name = "HOST[:PORT]")]
        endpoints: Vec<Endpoint>,
    },
    /// Add, list, show and remove routers; a running server follows at once
    #[command(subcommand)]
    Router(RouterCommand),
    /// Lead public ports to hosts behind routers; a running server follows at once
    #[command(subcommand)]
    Forward(forward::ForwardCommand),
    /// Serve in the foreground until SIGTERM; SIGHUP reads the settings again
    Run,
    /// What the running server is doing
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// As metrics for Prometheus
        #[arg(long, conflicts_with = "json")]
        prometheus: bool,
    },
}

#[derive(Debug, Subcommand)]
enum RouterCommand {
    /// Add a router and print its pairing code, which can't be shown again
    Add {
        /// Up to 64 letters, digits, '-', '_' and '.'
        name: String,
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
}

/// Runs the program with the process's arguments.
#[must_use]
pub fn main() -> ExitCode {
    match execute(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wanbond-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<()> {
    let state = StateDir::new(cli.state);
    match cli.command {
        Command::Init { endpoints } => init(&state, &endpoints),
        Command::Router(RouterCommand::Add { name, print_qr }) => add(&state, &name, print_qr),
        Command::Router(RouterCommand::List { json }) => list(&state, json),
        Command::Router(RouterCommand::Show { name, json }) => show(&state, &name, json),
        Command::Router(RouterCommand::Remove { name, json }) => remove(&state, &name, json),
        Command::Forward(command) => forward::run(&state, &command),
        Command::Run => {
            start_log(cli.log)?;
            run::run(state)
        }
        Command::Status { json: true, .. } => status::print(status::Look::Json),
        Command::Status { prometheus: true, .. } => status::print(status::Look::Prometheus),
        Command::Status { .. } => status::print(status::Look::Text),
    }
}

fn init(state: &StateDir, endpoints: &[Endpoint]) -> anyhow::Result<()> {
    let done = state.init(endpoints)?;
    let path = state.path().display();
    match done {
        Initialised::Created => println!("{path}: ready"),
        Initialised::Kept => println!("{path}: was ready already; key and settings are kept"),
        Initialised::EndpointsReplaced => println!(
            "{path}: endpoints replaced, the key is kept; routers paired before use the endpoints of their code"
        ),
    }
    println!("public key: {}", state.key()?.public());
    for endpoint in state.config()?.endpoints {
        println!("endpoint: {endpoint}");
    }
    Ok(())
}

fn add(state: &StateDir, name: &str, print_qr: bool) -> anyhow::Result<()> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let code = state.add_router(name, now.as_secs())?.to_string();
    if print_qr {
        match qr::draw(&code) {
            Some(picture) => eprint!("{picture}"),
            None => eprintln!("the code is too long for a QR code; use the text"),
        }
    }
    println!("{code}");
    Ok(())
}

/// A router as the command line shows it: no secrets.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    public_key: String,
    created: u64,
    enabled: bool,
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
        println!("{:width$}  {state:8}  {}", entry.name, entry.public_key);
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
    let limits = shown.limits;
    for (what, value) in [
        ("flows", limits.flows),
        ("lanes", limits.lanes),
        ("opens per second", limits.opens_per_second),
        ("open burst", limits.open_burst),
        ("buffers (MiB)", limits.buffers_mib),
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

/// Logs go to standard error; systemd's journal adds the time itself.
fn start_log(wanted: Option<String>) -> anyhow::Result<()> {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    let wanted = wanted.or_else(|| std::env::var("WANBOND_LOG").ok());
    let wanted = wanted.as_deref().filter(|text| !text.is_empty()).unwrap_or("info");
    let filter: Targets = wanted.parse().with_context(|| {
        format!("'{wanted}' is no log level; use error, warn, info, debug or trace")
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(lines.without_time()).init();
    } else {
        registry.with(lines).init();
    }
    Ok(())
}
