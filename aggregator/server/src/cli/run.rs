//! `wanbond-server run`: puts the parts together and follows signals.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use wanbond_linux::netstate::Netlink;

use crate::config::Config;
use crate::egress::Egress;
use crate::limits::{Budget, Limits, Machine};
use crate::serve::{self, ServeContext};
use crate::state::StateDir;
use crate::state::watch::Follower;
use crate::usage::{Ledger, Month};

/// What a stop may take beyond the drain: putting the kernel's settings back.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// How often the endpoints' names are resolved again, to refuse what is ourselves.
const ENDPOINTS_EVERY: Duration = Duration::from_secs(600);

/// Serves until told to stop.
pub(super) fn run(state: StateDir) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(serve(state));
    // Look-ups that hang in the C library must not hold up the end.
    runtime.shutdown_background();
    result
}

async fn serve(state: StateDir) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let hangup = signal(SignalKind::hangup())?;

    let key = state.key()?;
    let previous_key = state.previous_key()?;
    let ledger = Arc::new(Ledger::open(state.path(), Month::now()));
    let follower = Arc::new(Follower::start(state)?.with_fleet().context("can't start a thread")?);
    let config = follower.config();
    let now = Arc::clone(&config.borrow());
    let machine = Machine::detect();
    let limits = Budget::new(Limits::resolve(&now.limits, machine));
    let netlink = Netlink::new().await.context("can't ask the kernel for its addresses")?;
    let own = netlink.local_addresses().await.context("can't list this server's addresses")?;
    let egress = Arc::new(Egress::new(now.egress.clone(), Arc::new(move |ip| own.contains(ip))));

    let (stop, shutdown) = watch::channel(false);
    let context = ServeContext {
        config: config.clone(),
        key,
        previous_key,
        directory: follower.directory(),
        egress: Arc::clone(&egress),
        limits: Arc::clone(&limits),
        ledger,
        shutdown,
    };
    let mut serving = tokio::spawn(serve::run(context));
    let following = follow(follower, hangup);
    let settings = apply(config.clone(), machine, egress, limits);

    let background = async { tokio::join!(following, settings) };
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        _ = background => None,
    };
    if let Some(ended) = ended {
        return ended?;
    }
    let drain = config.borrow().drain;
    tracing::info!(drain_s = drain.as_secs(), "stopping");
    crate::notify::stopping();
    let _ = stop.send(true);
    tokio::select! {
        ended = tokio::time::timeout(drain + STOP_GRACE, &mut serving) => match ended {
            Ok(ended) => ended?,
            Err(_) => anyhow::bail!("stopped while something was still going on"),
        },
        _ = terminate.recv() => anyhow::bail!("stopped at once"),
        _ = interrupt.recv() => anyhow::bail!("stopped at once"),
    }
}

async fn follow(follower: Arc<Follower>, mut hangup: Signal) {
    let watching = follower.run();
    let signals = async {
        while hangup.recv().await.is_some() {
            tracing::info!("reading the settings again");
            follower.reload();
        }
    };
    tokio::join!(watching, signals);
}

/// Puts changed settings in force.
async fn apply(
    mut config: watch::Receiver<Arc<Config>>,
    machine: Machine,
    egress: Arc<Egress>,
    limits: Arc<Budget>,
) {
    loop {
        let now = Arc::clone(&config.borrow_and_update());
        egress.set_config(now.egress.clone());
        limits.set_limits(Limits::resolve(&now.limits, machine));
        let hosts: Vec<&str> = now.endpoints.iter().map(|e| e.host.as_str()).collect();
        egress.set_endpoints(&hosts).await;
        match tokio::time::timeout(ENDPOINTS_EVERY, config.changed()).await {
            Err(_again) => {}
            Ok(Ok(())) => {}
            Ok(Err(_closed)) => return std::future::pending().await,
        }
    }
}
