//! `wanbond-server forward …`: public ports that lead to hosts behind routers.

use clap::{Args, Subcommand};
use serde::Serialize;
use wanbond_proto::forward::{Forward, Protocol};

use crate::forwards::{self, Ports, Target};
use crate::state::StateDir;

#[derive(Debug, Subcommand)]
pub(super) enum ForwardCommand {
    /// Lead ports of this server's public addresses to a host in a router's LAN
    Add {
        /// The router's name
        router: String,
        #[command(flatten)]
        ports: PublicPorts,
        /// The host's address in the LAN; with no port, that of the public side
        #[arg(long, value_name = "HOST[:PORT]")]
        to: Target,
    },
    /// List the forwards of all routers, or of one
    List {
        /// The router's name
        router: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove forwards
    Remove {
        /// The router's name
        router: String,
        #[command(flatten)]
        ports: PublicPorts,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct PublicPorts {
    /// TCP ports
    #[arg(long, value_name = "PORT[-PORT]")]
    tcp: Vec<Ports>,
    /// UDP ports
    #[arg(long, value_name = "PORT[-PORT]")]
    udp: Vec<Ports>,
}

impl PublicPorts {
    fn all(&self) -> Vec<(Protocol, Ports)> {
        let tcp = self.tcp.iter().map(|ports| (Protocol::Tcp, *ports));
        tcp.chain(self.udp.iter().map(|ports| (Protocol::Udp, *ports))).collect()
    }
}

pub(super) fn run(state: &StateDir, command: &ForwardCommand) -> anyhow::Result<()> {
    match command {
        ForwardCommand::Add { router, ports, to } => {
            let made: Result<Vec<Forward>, _> = ports
                .all()
                .into_iter()
                .map(|(protocol, ports)| forwards::forward(protocol, ports, *to))
                .collect();
            let made = made?;
            state.add_forwards(router, &made, forwards::listening)?;
            for forward in made {
                println!("router '{router}': {forward}");
            }
        }
        ForwardCommand::Remove { router, ports } => {
            let ports = ports.all();
            state.remove_forwards(router, &ports)?;
            for (protocol, ports) in ports {
                println!("router '{router}': {} {ports} removed", protocol.name());
            }
        }
        ForwardCommand::List { router, json } => list(state, router.as_deref(), *json)?,
    }
    Ok(())
}

/// A forward as documents show it.
#[derive(Serialize)]
pub(super) struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    router: Option<String>,
    protocol: &'static str,
    first_port: u16,
    last_port: u16,
    host: String,
    host_port: u16,
}

impl Shown {
    pub(super) fn new(router: Option<&str>, forward: &Forward) -> Self {
        let (first_port, last_port) = forward.ports();
        Self {
            router: router.map(str::to_owned),
            protocol: forward.protocol().name(),
            first_port,
            last_port,
            host: forward.host().to_string(),
            host_port: forward.host_port(),
        }
    }
}

fn list(state: &StateDir, router: Option<&str>, json: bool) -> anyhow::Result<()> {
    let entries = match router {
        Some(name) => vec![state.router(name)?],
        None => {
            let routers = state.routers()?;
            for error in &routers.broken {
                eprintln!("wanbond-server: {error}");
            }
            routers.entries
        }
    };
    let all: Vec<(&str, &Forward)> = entries
        .iter()
        .flat_map(|entry| entry.forwards.iter().map(|forward| (entry.name.as_str(), forward)))
        .collect();
    if json {
        let shown: Vec<Shown> = all.iter().map(|(name, f)| Shown::new(Some(name), f)).collect();
        println!("{}", serde_json::to_string_pretty(&shown)?);
        return Ok(());
    }
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, forward) in &all {
        println!("{name:width$}  {forward}");
    }
    if all.is_empty() {
        eprintln!(
            "no forwards; add one with `wanbond-server forward add ROUTER --tcp PORT --to HOST`"
        );
    }
    Ok(())
}
