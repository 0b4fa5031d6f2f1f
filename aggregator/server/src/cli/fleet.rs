//! `wanbond-server fleet …`: one list of routers for several servers.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use wanbond_proto::pairing::PairingCode;
use zeroize::Zeroizing;

use crate::fleet::etcd::Access;
use crate::fleet::{DEFAULT_PREFIX, Fleet, FleetError, FleetKey, Settings, SettingsError};
use crate::state::StateDir;

#[derive(Debug, Subcommand)]
pub(super) enum FleetCommand {
    /// Begin a fleet: prints the fleet's key, which every other server needs to join. Where etcd
    /// has lost the fleet, puts it back there
    Start {
        #[command(flatten)]
        etcd: EtcdArguments,
    },
    /// Take part in a fleet that another server has begun
    Join {
        #[command(flatten)]
        etcd: EtcdArguments,
        /// The file with the fleet's key; - is the standard input
        #[arg(long, value_name = "FILE")]
        fleet_key: PathBuf,
    },
    /// Go on alone; the fleet's routers stay admitted, as this server's own
    Leave,
    /// What the fleet is, and whether etcd answers
    Status,
    /// Print the fleet's key, for the next server
    Key,
    /// Make routers of this server the fleet's
    Share {
        /// Their names
        #[arg(required_unless_present = "all")]
        names: Vec<String>,
        /// All of them
        #[arg(long, conflicts_with = "names")]
        all: bool,
    },
    /// Print a router's codes for every server, from any one of its codes (on the standard input)
    Codes,
    /// Print no more codes for a server that is gone
    Forget {
        /// Its first endpoint, as `fleet status` shows it
        server: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct EtcdArguments {
    /// etcd's address, such as https://10.0.0.5:2379; repeatable (default: those of before)
    #[arg(long = "etcd", value_name = "URL")]
    urls: Vec<String>,
    /// The user to be in etcd
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// The file with that user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Who signs etcd's certificate, PEM (default: the public authorities)
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The certificate to show to etcd, PEM
    #[arg(long, value_name = "FILE", requires = "private_key")]
    certificate: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    private_key: Option<PathBuf>,
    /// What the names of the fleet's entries in etcd begin with
    #[arg(long, value_name = "TEXT", default_value = DEFAULT_PREFIX)]
    prefix: String,
}

impl EtcdArguments {
    /// The files are read now: the daemon may not be able to, and they may change or go.
    fn settings(&self, key: FleetKey) -> anyhow::Result<Settings> {
        let text = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let password =
            text(&self.password_file)?.map(|text| text.trim_end_matches('\n').to_owned());
        let plain = |text: Option<Zeroizing<String>>| text.map(|text| (*text).clone());
        Ok(Settings {
            access: Access {
                urls: self.urls.clone(),
                user: self.user.clone().zip(password),
                ca: plain(text(&self.ca)?),
                identity: plain(text(&self.certificate)?).zip(plain(text(&self.private_key)?)),
            },
            prefix: self.prefix.clone(),
            key,
        })
    }
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    if path.as_os_str() == "-" {
        let mut text = Zeroizing::new(String::new());
        std::io::stdin().read_to_string(&mut text).context("can't read the standard input")?;
        return Ok(text);
    }
    fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("can't read {}", path.display()))
}

pub(super) fn run(state: &StateDir, command: &FleetCommand) -> anyhow::Result<()> {
    match command {
        FleetCommand::Start { etcd } => start(state, etcd),
        FleetCommand::Join { etcd, fleet_key } => join(state, etcd, fleet_key),
        FleetCommand::Leave => leave(state),
        FleetCommand::Status => status(state),
        FleetCommand::Key => {
            let settings = state.fleet_settings()?.ok_or(FleetError::NotInOne)?;
            println!("{}", settings.key.to_text());
            Ok(())
        }
        FleetCommand::Share { names, all } => share(state, names, *all),
        FleetCommand::Codes => codes(state),
        FleetCommand::Forget { server } => {
            let fleet = state.fleet()?.ok_or(FleetError::NotInOne)?;
            fleet.forget(server)?;
            println!("server '{server}' forgotten; one that runs puts itself back");
            Ok(())
        }
    }
}

fn start(state: &StateDir, etcd: &EtcdArguments) -> anyhow::Result<()> {
    let before = state.fleet_settings()?;
    let settings = match &before {
        Some(settings) if etcd.urls.is_empty() => settings.clone(),
        _ => etcd.settings(state.fleet_key()?)?,
    };
    match state.start_fleet(&settings) {
        // Ours, and in its place.
        Err(crate::state::StateError::Fleet(FleetError::AlreadyThere(_))) if before.is_some() => {
            eprintln!("the fleet is there already; nothing was changed");
        }
        done => done?,
    }
    println!("{}", settings.key.to_text());
    eprintln!(
        "that is the fleet's key: keep it like a password. On each other server:\n  \
         wanbond-server fleet join --etcd {} --fleet-key FILE",
        settings.access.urls.join(" --etcd ")
    );
    let own = state.routers()?.entries.iter().filter(|entry| !entry.shared).count();
    if own > 0 {
        eprintln!(
            "routers that are this server's own: {own}; `wanbond-server fleet share --all` makes them the fleet's"
        );
    }
    Ok(())
}

fn join(state: &StateDir, etcd: &EtcdArguments, key: &Path) -> anyhow::Result<()> {
    let key = read(key)?.parse().map_err(|error| SettingsError::Key(format!("{error}")))?;
    let settings = etcd.settings(key)?;
    if let Some(before) = state.fleet_settings()?
        && (before.key.to_text() != settings.key.to_text() || before.prefix != settings.prefix)
    {
        return Err(FleetError::InOne.into());
    }
    state.join_fleet(&settings)?;
    let shared = state.routers()?.entries.iter().filter(|entry| entry.shared).count();
    println!("joined; routers of the fleet: {shared}");
    Ok(())
}

fn leave(state: &StateDir) -> anyhow::Result<()> {
    if let Some(error) = state.leave_fleet()? {
        eprintln!("the others were not told: {error}");
    }
    println!("left; the fleet's routers are this server's own now");
    Ok(())
}

/// One fact a line, `name: value`, which scripts read too.
fn status(state: &StateDir) -> anyhow::Result<()> {
    let settings = state.fleet_settings()?.ok_or(FleetError::NotInOne)?;
    for url in &settings.access.urls {
        println!("etcd: {url}");
    }
    println!("prefix: {}", settings.prefix);
    let routers = state.routers()?.entries;
    let shared = routers.iter().filter(|entry| entry.shared).count();
    println!("the fleet's routers, as known here: {shared}");
    println!("this server's own routers: {}", routers.len() - shared);
    let list = Fleet::new(&settings)?.list()?;
    let own = state.key()?.public();
    for server in &list.servers {
        let this = if server.public_key == own { " (this one)" } else { "" };
        println!("server: {}{this}", server.name);
    }
    println!("the fleet's routers in etcd: {}", list.routers.len());
    for listed in &list.routers {
        let name = &listed.entry.name;
        if routers.iter().any(|router| router.name == *name && !router.shared) {
            println!("not used here, as this server has its own of that name: {name}");
        }
    }
    for bad in &list.bad {
        println!("can't be used: {}: {}", bad.name, bad.reason);
    }
    Ok(())
}

fn share(state: &StateDir, names: &[String], all: bool) -> anyhow::Result<()> {
    let every: Vec<String> = if all {
        let own = state.routers()?.entries.into_iter().filter(|entry| !entry.shared);
        own.map(|entry| entry.name).collect()
    } else {
        names.to_vec()
    };
    for name in &every {
        state.share_router(name)?;
        println!("router '{name}' is the fleet's");
    }
    if every.is_empty() {
        eprintln!("this server has no routers of its own");
    }
    Ok(())
}

fn codes(state: &StateDir) -> anyhow::Result<()> {
    let fleet = state.fleet()?.ok_or(FleetError::NotInOne)?;
    let mut line = Zeroizing::new(String::new());
    std::io::stdin().read_line(&mut line).context("can't read the standard input")?;
    let code: PairingCode = line.trim().parse()?;
    let key = code.seed.static_secret().public();
    let list = fleet.list()?;
    anyhow::ensure!(
        list.routers.iter().any(|listed| listed.entry.public_key == key),
        "that code's router is not on the fleet's list; `wanbond-server fleet share NAME` puts it there"
    );
    for server in list.servers {
        let seed = code.seed.clone();
        println!(
            "{}",
            PairingCode { server: server.public_key, endpoints: server.endpoints, seed }
        );
    }
    Ok(())
}
