//! `wanbond`: the router daemon and its command line.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use tracing::level_filters::LevelFilter;
use wanbond::bypass::dnsmasq;
use wanbond::cli::{Cli, Command, run_client_command};
use wanbond::{config, daemon};
use wanbond_control::LogLevel;
use wanbond_linux::owned::{Journal, Owner, cleanup};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Command::Client(command) => return run_client_command(&cli.config, command),
        Command::Run(args) => {
            // The configuration is read again by the daemon, which reports what is wrong with it.
            let configured = config::load(&cli.config).map(|l| l.config.globals.log_level);
            start_log(args.log.or(configured.ok()).unwrap_or_default());
            let run = daemon::run(cli.config.clone(), args.ubus.clone(), args.wait);
            runtime().and_then(|runtime| runtime.block_on(run))
        }
        Command::Cleanup => {
            start_log(LogLevel::Warn);
            runtime().and_then(|runtime| runtime.block_on(clean()))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "wanbond: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn clean() -> Result<()> {
    let socket = wanbond_linux::control_socket::connect(wanbond_control::ROUTER_SOCKET).await;
    anyhow::ensure!(
        socket.is_err(),
        "wanbond is running here and would miss what is removed; stop it first"
    );
    let journal = Journal::open(Owner::Router).context("the journal of kernel changes")?;
    let report = cleanup(&journal).await;
    dnsmasq::clean(&journal).await;
    anyhow::ensure!(report.errors.is_empty(), "{report}");
    println!("{report}");
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    // Two threads carry what a small router can; more only add wake-ups.
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let runtime = if threads == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    runtime.context("the runtime")
}

fn start_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // procd and systemd put their own time on each line.
    tracing_subscriber::fmt()
        .with_max_level(level)
        .without_time()
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
}
