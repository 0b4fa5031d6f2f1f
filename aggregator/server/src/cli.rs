//! The commands.

mod fleet;
mod forward;
mod key;
mod probe;
mod qr;
mod router;
mod run;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use wanbond_proto::pairing::Endpoint;

use crate::inner::InnerNetwork;
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
    /// Add, list, show, change and remove routers; a running server follows at once
    #[command(subcommand)]
    Router(router::RouterCommand),
    /// Replace the server's key, gently
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Lead public ports to hosts behind routers; a running server follows at once
    #[command(subcommand)]
    Forward(forward::ForwardCommand),
    /// Share the list of routers with other servers, through etcd
    #[command(subcommand)]
    Fleet(fleet::FleetCommand),
    /// Say what the settings mean, or what is wrong with them
    Check,
    /// Ask, from here or anywhere, whether a wanbond server answers over UDP and TCP
    Probe {
        /// Where; without any, at this server's own endpoints
        #[arg(value_name = "HOST[:PORT]")]
        endpoints: Vec<Endpoint>,
    },
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
        Command::Router(command) => router::run(&state, &command),
        Command::Key(command) => key::run(&state, &command),
        Command::Forward(command) => forward::run(&state, &command),
        Command::Fleet(command) => fleet::run(&state, &command),
        Command::Check => check(&state),
        Command::Probe { endpoints } if endpoints.is_empty() => {
            probe::run(&state.config()?.endpoints)
        }
        Command::Probe { endpoints } => probe::run(&endpoints),
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

/// One fact a line, `name: value`, which scripts read too.
fn check(state: &StateDir) -> anyhow::Result<()> {
    let config = state.config()?;
    println!("public key: {}", state.key()?.public());
    for endpoint in &config.endpoints {
        println!("endpoint: {endpoint}");
    }
    for port in &config.ports {
        println!("port: {port}");
    }
    for address in &config.listen {
        println!("listen: {address}");
    }
    let network = InnerNetwork::new(&config.inner, &state.key()?.public());
    println!("inner IPv4: {}", network.v4());
    println!("inner IPv6: {}", network.v6());
    if let Some(routed) = network.routed() {
        println!("routed IPv6: {routed}");
    }
    let routers = state.routers()?;
    if let Some(previous) = state.previous_key()? {
        println!("previous public key: {}", previous.public());
    }
    if let Some(fleet) = state.fleet_settings()? {
        for url in &fleet.access.urls {
            println!("fleet: {url}");
        }
    }
    println!("routers: {}", routers.entries.len());
    match routers.broken.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
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
