//! The router daemon: starts everything, keeps the kernel as it should be, and undoes it at the
//! end.
//!
//! One task, [`Brain`], owns the WANs and decides; it takes evidence in (netlink, pongs, lanes that
//! connect or fail, time), runs each WAN's state machine, and applies what follows: routes, MPTCP
//! endpoints, the redirect. Flows, lanes and the session are tasks of their own, which read
//! snapshots of its decisions.

mod act;
mod brain;
mod bypass;
mod candidates;
mod control;
mod hindrances;
mod jobs;
mod kernel;
mod lasting;
mod look;
mod preference;
mod status;
mod surroundings;
pub mod tun_kernel;
mod tunnel;
mod usage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};
use wanbond_control::ROUTER_SOCKET;
use wanbond_control::{Event, EventKind};
use wanbond_linux::control_socket;
use wanbond_linux::owned::{Journal, Owner, cleanup};
use wanbond_linux::socket::{
    ListenOptions, choose_congestion, listen, mptcp_supported, raise_nofile_limit,
};
use wanbond_proto::inner::Instance;
use wanbond_relay::{BufferPool, Clock, fast_suites};

use crate::bypass::dnsmasq;
use crate::config::{self, Config};
use crate::link::Servers;
use crate::shared::{Shared, SharedParts};
use crate::ubus::Ubus;
use crate::{flow, lanes, link};
use brain::Brain;
#[cfg(test)]
pub(crate) use brain::SPARED_TRY_EVERY;
pub(crate) use brain::TCP_TRY_AFTER;
pub(crate) use candidates::Candidate;
pub(crate) use control::{Asked, ask};
pub(crate) use lasting::Lasting;
use surroundings::Surroundings;
use usage::Usage;

/// How long flows are given to end when the daemon stops: none. A router that stops is being
/// restarted or upgraded, and what waits for it is the person.
const BACKLOG: i32 = 1024;

/// Reads the configuration and runs until SIGTERM or SIGINT. SIGHUP reads it again. `ubus` is where
/// ubusd listens, if there is one. With `wait`, a configuration that is wrong or missing is waited for:
/// until then nothing is touched, and requests are answered.
///
/// # Errors
/// The configuration is wrong, another daemon runs here, or the kernel lacks what can't be done
/// without.
pub async fn run(path: PathBuf, ubus: PathBuf, wait: bool) -> Result<()> {
    let control = match control_socket::bind(ROUTER_SOCKET) {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            bail!("wanbond is running in this network namespace already")
        }
        Err(error) => return Err(error).context("the control socket"),
    };
    let journal = Journal::open(Owner::Router).context("the journal of kernel changes")?;
    let left = cleanup(&journal).await;
    if !left.is_noop() {
        warn!(%left, "cleaned up after a run that did not end in order");
    }
    raise_nofile_limit();

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (requests, mut asked) = mpsc::channel(16);
    let _control =
        AbortOnDrop(tokio::spawn(boxed(control::serve(control, requests.clone()))).abort_handle());

    let lasting = Arc::new(Lasting::new(path.clone()));
    let mut config = match load(&path) {
        Ok(config) => config,
        Err(problem) if wait => {
            error!(%problem, "the configuration is waited for");
            lasting.set_problem(problem.to_string());
            Config::idle()
        }
        Err(problem) => return Err(problem.into()),
    };
    // It outlives runs: who calls while the daemon starts anew gets an answer, too.
    let (interfaces, interfaces_seen) = watch::channel(Arc::default());
    let (rival, rival_seen) = watch::channel(None);
    let (present, present_seen) = watch::channel(None);
    let ubus = Ubus { socket: ubus, run: present_seen, requests, interfaces, rival };
    let mut ubus = tokio::spawn(boxed(ubus.run()));
    let _ubus = AbortOnDrop(ubus.abort_handle());
    let result = loop {
        let (reload, reloads) = mpsc::channel::<Config>(1);
        let usage = usage::path_for(&path);
        let surroundings =
            Surroundings { interfaces: interfaces_seen.clone(), rival: rival_seen.clone() };
        let outside = Outside { surroundings, usage: &usage, present: &present, lasting: &lasting };
        let run = run_with(config.clone(), &journal, reloads, &mut asked, outside);
        tokio::pin!(run);
        let ended = loop {
            tokio::select! {
                ended = &mut run => break Some(ended),
                Err(panic) = &mut ubus => break Some(Err(panic).context("what serves ubus failed")),
                _ = terminate.recv() => break None,
                _ = interrupt.recv() => break None,
                _ = hangup.recv() => match load(&path) {
                    Ok(new) if needs_restart(&config, &new) => {
                        info!("configuration changed, starting anew with it");
                        lasting.set_problem(String::new());
                        config = new;
                        break Some(Ok(()));
                    }
                    Ok(new) => {
                        lasting.set_problem(String::new());
                        config = new.clone();
                        let _ = reload.send(new).await;
                    }
                    Err(problem) => {
                        error!(%problem, "the new configuration is wrong, the old one stays");
                        lasting.set_problem(problem.to_string());
                    }
                },
            }
        };
        lasting.tasks.cancel(None, "the daemon ended, or started anew with another configuration");
        match ended {
            None => break Ok(()),
            Some(Err(problem)) => break Err(problem),
            Some(Ok(())) => {}
        }
    };
    info!("stopping");
    // Who still asks is told so.
    asked.close();
    while asked.try_recv().is_ok() {}
    let report = cleanup(&journal).await;
    dnsmasq::clean(&journal).await;
    if report.errors.is_empty() {
        info!(%report, "kernel state removed");
    } else {
        warn!(%report, "not all kernel state could be removed");
    }
    result
}

/// Whether the change concerns more than WANs and LANs: another server, another port.
fn needs_restart(old: &Config, new: &Config) -> bool {
    old.globals.enabled != new.globals.enabled
        || old.globals.redirect_port != new.globals.redirect_port
        || old.globals.tcp != new.globals.tcp
        || old.servers != new.servers
}

fn load(path: &Path) -> Result<Config, config::LoadError> {
    let loaded = config::load(path)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    Ok(loaded.config)
}

/// What a run has from outside.
struct Outside<'a> {
    surroundings: Surroundings,
    /// Where it is written down what WANs have carried.
    usage: &'a Path,
    /// Where it says that it is the present one.
    present: &'a watch::Sender<Option<Arc<Shared>>>,
    /// What outlives the run.
    lasting: &'a Arc<Lasting>,
}

/// Runs with this configuration until it fails; reloads that need no restart come in.
async fn run_with(
    config: Config,
    journal: &Journal,
    reloads: mpsc::Receiver<Config>,
    asked: &mut mpsc::Receiver<Asked>,
    outside: Outside<'_>,
) -> Result<()> {
    let (evidence, evidence_in) = mpsc::channel(256);
    let (link, link_in) = mpsc::channel(64);
    let mptcp = mptcp_supported();
    if !mptcp {
        warn!("this kernel has no MPTCP, or net.mptcp.enabled is 0: each connection uses one WAN");
    }
    let fast = fast_suites();
    let shared = Shared::new(SharedParts {
        clock: Clock::start(),
        pool: BufferPool::new(buffer_limit()),
        suites: fast.iter().map(|(suite, _)| *suite).collect(),
        sealed: fast.first().map_or(0, |(_, bytes)| *bytes),
        instance: Instance(link::random()),
        evidence,
        link,
        congestion: choose_congestion(),
        mptcp,
        servers: Servers::new(config.servers.clone()),
        tcp: config.globals.tcp,
        lasting: Arc::clone(outside.lasting),
    });
    shared.log(Event::new(0.0, EventKind::Started, "wanbond started"));
    let mut tasks = JoinSet::new();
    if config.globals.enabled {
        for listener in listeners(config.globals.redirect_port).await? {
            tasks.spawn(boxed(flow::serve(Arc::clone(&shared), listener)));
        }
        tasks.spawn(boxed(lanes::keep_warm(Arc::clone(&shared))));
        if !config.servers.is_empty() {
            tasks.spawn(boxed(crate::bypass::ask::watch_server(Arc::clone(&shared))));
            tasks.spawn(boxed(link::keep(Arc::clone(&shared), link_in)));
        }
    } else {
        info!("switched off by its configuration: nothing is touched");
    }
    outside.present.send_replace(Some(Arc::clone(&shared)));
    let usage = Usage::load(outside.usage.to_owned());
    let mut brain =
        Brain::new(config, Arc::clone(&shared), journal.clone(), outside.surroundings, usage)
            .await?;
    let result = tokio::select! {
        result = brain.run(evidence_in, reloads, asked) => result,
        Some(ended) = tasks.join_next() => match ended {
            Ok(()) => Err(anyhow::anyhow!("a part of the daemon ended by itself")),
            Err(panic) => Err(panic).context("a part of the daemon failed"),
        },
    };
    shared.lanes.close_idle();
    result
}

async fn listeners(port: u16) -> Result<Vec<tokio::net::TcpListener>> {
    // After a reload, the tasks of the run before may be just letting go of the port.
    for _ in 0..40 {
        match try_listeners(port) {
            Err(error) if is_in_use(&error) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result,
        }
    }
    try_listeners(port)
}

fn is_in_use(error: &anyhow::Error) -> bool {
    let io = error.root_cause().downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

fn try_listeners(port: u16) -> Result<Vec<tokio::net::TcpListener>> {
    let options = ListenOptions { backlog: BACKLOG, v6_only: true, ..ListenOptions::default() };
    let v4 = listen(([0, 0, 0, 0], port).into(), &options)
        .with_context(|| format!("port {port}, to which TCP is redirected, can't be listened on; set option redirect_port to a free one"))?;
    let mut listeners = vec![v4];
    match listen((std::net::Ipv6Addr::UNSPECIFIED, port).into(), &options) {
        Ok(v6) => listeners.push(v6),
        Err(error) => info!(%error, "no IPv6 here"),
    }
    Ok(listeners)
}

/// A sixteenth of the memory for flows' buffers: 8 MB on a router with 128 MB.
fn buffer_limit() -> usize {
    const LEAST: usize = 4 << 20;
    const MOST: usize = 256 << 20;
    let total_kb = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<usize>().ok()
    });
    total_kb.map_or(LEAST, |kb| (kb.saturating_mul(1024) / 16).clamp(LEAST, MOST))
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Pause between attempts at what only a person can mend.
const AFTER_KERNEL_ERROR: Duration = Duration::from_secs(2);
