//! `wanbond-lab`: labs and the demo from the command line.
#![forbid(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};
use wanbond_lab::control::{Answer, Request, ask, serve};
use wanbond_lab::measure::{self, Subject};
use wanbond_lab::scenario::Scenario;
use wanbond_lab::units::Fraction;
use wanbond_lab::{Lab, demo, privilege, registry};

type Failure = Box<dyn std::error::Error>;

/// A laboratory for wanbond: network namespaces, emulated links, real daemons, real traffic.
#[derive(Debug, Parser)]
#[command(name = "wanbond-lab", version)]
struct Cli {
    /// Which running lab is meant, where there are several
    #[arg(long, global = true, value_name = "ID")]
    lab: Option<String>,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build a lab, start the daemons in it, and keep it until Ctrl-C or `down`
    Up {
        /// A scenario file, or the name of one that is built in
        #[arg(long, default_value = "adsl")]
        scenario: String,
        /// Leave the daemons out: only namespaces, links and origin servers
        #[arg(long)]
        bare: bool,
        /// How the LAN's TCP goes: auto, mptcp, stream or packet
        #[arg(long, default_value = "auto")]
        tcp: String,
        /// How much the daemons log, such as debug
        #[arg(long)]
        log: Option<String>,
    },
    /// Download over each line alone and through wanbond, cut a line, show and plot it all
    Demo {
        /// A scenario file or name; again for more. Default: adsl and fibre-lte
        #[arg(long)]
        scenario: Vec<String>,
        /// Leave the last lab up until Ctrl-C or `down`
        #[arg(long)]
        keep: bool,
        /// Half the time, less telling figures
        #[arg(long)]
        quick: bool,
        /// Where plots and figures go
        #[arg(long, default_value = "target/demo", value_name = "DIR")]
        out: PathBuf,
    },
    /// Measure goodput, latency under load, datagrams and cuts, beside the project's aims
    Measure {
        /// A scenario file or name; again for more. Default: adsl and fibre-lte
        #[arg(long)]
        scenario: Vec<String>,
        /// How the LAN's TCP goes: auto, mptcp, stream or packet; again for more. Default: mptcp,
        /// stream and packet
        #[arg(long)]
        tcp: Vec<String>,
        /// What to measure; again for more. Default: goodput, datagrams and cut
        #[arg(long)]
        what: Vec<Subject>,
        /// Let every line lose this share of its packets, such as "2 %"
        #[arg(long)]
        loss: Option<Fraction>,
        /// How often; the median counts
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Where all values go, as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// List the running labs
    List,
    /// End a running lab
    Down,
    /// Remove what killed labs have left behind
    Sweep,
    /// Print the WANs' counters of a running lab as JSON
    Counters,
    /// Change a link of a running lab
    #[command(subcommand)]
    Link(LinkVerb),
    /// Run a program (default: a shell) in a namespace of a running lab
    Enter {
        /// Which: lan, router, isp-NAME, vps, inet
        namespace: String,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

#[derive(Debug, Subcommand)]
enum LinkVerb {
    /// Words: cut, restore, rate=5Mbit/s, delay=20ms, jitter=, loss=0.3%, queue=100ms or 64KiB,
    /// duplicate=, reorder=; for one direction down.rate= or up.rate=
    Set {
        /// Which WAN
        wan: String,
        /// What changes
        #[arg(required = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let builds = matches!(cli.command, Verb::Up { .. } | Verb::Demo { .. } | Verb::Measure { .. });
    if builds && let Err(error) = privilege::ensure() {
        eprintln!("wanbond-lab: {error}");
        return ExitCode::FAILURE;
    }
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wanbond-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let lab = cli.lab.as_deref();
    match cli.command {
        Verb::Up { scenario, bare, tcp, log } => {
            up(&load(&scenario)?, bare, &tcp, log.as_deref())?;
        }
        Verb::Demo { scenario, keep, quick, out } => {
            return run_demo(&load_all(scenario)?, keep, &demo::Options { quick, out });
        }
        Verb::Measure { scenario, tcp, what, loss, rounds, json } => {
            let mut scenarios = load_all(scenario)?;
            if let Some(loss) = loss {
                scenarios.iter_mut().for_each(|own| *own = measure::with_loss(own, loss));
            }
            let tcp = or_else(tcp, &["mptcp", "stream", "packet"]);
            let subjects = match what.as_slice() {
                [] => vec![Subject::Goodput, Subject::Datagrams, Subject::Cut],
                some => some.to_vec(),
            };
            run_measure(&scenarios, &tcp, &measure::Options { subjects, rounds }, json.as_deref())?;
        }
        Verb::List => {
            for (id, path, _) in registry::running()? {
                println!("{id}  {}", path.display());
            }
        }
        Verb::Down => match ask(&find(lab)?, &Request::Down)? {
            Answer::Error(error) => return Err(error.into()),
            _ => println!("going down"),
        },
        Verb::Sweep => {
            for id in registry::sweep()? {
                println!("{id}");
            }
        }
        Verb::Counters => match ask(&find(lab)?, &Request::Counters)? {
            Answer::Counters(counters) => println!("{}", serde_json::to_string_pretty(&counters)?),
            other => return Err(format!("{other:?}").into()),
        },
        Verb::Link(LinkVerb::Set { wan, words }) => {
            match ask(&find(lab)?, &Request::Link { wan, words })? {
                Answer::Error(error) => return Err(error.into()),
                _ => println!("done"),
            }
        }
        Verb::Enter { namespace, command } => return enter(lab, &namespace, &command),
    }
    Ok(ExitCode::SUCCESS)
}

/// The scenarios of these names, or those that everything is measured on.
fn load_all(names: Vec<String>) -> Result<Vec<Scenario>, Failure> {
    or_else(names, &["adsl", "fibre-lte"]).iter().map(|name| load(name)).collect()
}

fn or_else(given: Vec<String>, usual: &[&str]) -> Vec<String> {
    if given.is_empty() { usual.iter().map(|&one| one.to_owned()).collect() } else { given }
}

fn load(name: &str) -> Result<Scenario, Failure> {
    let is_path = name.contains('/') || Path::new(name).extension().is_some();
    Ok(if is_path { Scenario::load(Path::new(name))? } else { Scenario::named(name)? })
}

fn up(scenario: &Scenario, bare: bool, tcp: &str, log: Option<&str>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = on_signal(&runtime)?;
    let lab = Lab::build(scenario)?;
    if !bare {
        if let Some(level) = log {
            lab.server().set_log_level(level);
            lab.router(0).set_log_level(level);
        }
        lab.server().start()?;
        let mut config = lab.router(0).pair()?;
        tcp.clone_into(&mut config.tcp);
        lab.router(0).configure(&config)?;
        lab.router(0).start()?;
    }
    keep_up(&lab, &stop)
}

/// Keeps a lab until it is told to end, its timeline running.
fn keep_up(lab: &Lab, stop: &AtomicBool) -> Result<(), Failure> {
    print_hints(lab);
    let over = AtomicBool::new(false);
    let ended = || stop.load(Ordering::Relaxed) || over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // A day: who keeps a lab longer starts another.
            if let Err(error) = lab.play_until(Duration::from_secs(86_400), ended) {
                eprintln!("wanbond-lab: timeline: {error}");
            }
        });
        let served = serve(lab, ended);
        over.store(true, Ordering::Relaxed);
        Ok(served?)
    })
}

fn print_hints(lab: &Lab) {
    println!("\nlab {} is up: scenario {}\n", lab.id(), lab.scenario().name);
    for ns in lab.namespaces() {
        println!("  {:<14} {}", ns.name(), ns.enter_hint());
    }
    println!(
        "\n  logs           {}\n\
         \x20 or             wanbond-lab enter router [-- COMMAND]\n\
         \x20 counters       wanbond-lab counters\n\
         \x20 change a link  wanbond-lab link set {} rate=2Mbit/s | cut | restore\n\
         \x20 end            Ctrl-C, or wanbond-lab down\n",
        lab.log_dir().display(),
        lab.scenario().wan[0].name
    );
}

fn run_measure(
    scenarios: &[Scenario],
    tcp: &[String],
    options: &measure::Options,
    json: Option<&Path>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut reports = Vec::new();
    for scenario in scenarios {
        for tcp in tcp {
            let report = measure::run(&runtime, scenario, tcp, options)?;
            print!("{}", measure::render(&report));
            reports.push(report);
        }
    }
    if let Some(path) = json {
        std::fs::write(path, serde_json::to_vec_pretty(&reports)?)?;
    }
    Ok(())
}

fn run_demo(
    scenarios: &[Scenario],
    keep: bool,
    options: &demo::Options,
) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Runtime::new()?;
    let stop = on_signal(&runtime)?;
    let stopped = || async {
        while !stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut failures = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        let lab = Lab::build(scenario)?;
        let outcome = runtime.block_on(async {
            tokio::select! {
                outcome = demo::run(&lab, options) => Some(outcome),
                () = stopped() => None,
            }
        });
        match outcome {
            None => return Ok(ExitCode::from(130)),
            Some(outcome) => {
                let found = outcome?.failures;
                failures.extend(found.into_iter().map(|what| format!("{}: {what}", scenario.name)));
            }
        }
        if keep && index + 1 == scenarios.len() {
            keep_up(&lab, &stop)?;
        }
    }
    for failure in &failures {
        eprintln!("FAILED {failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Becomes true at Ctrl-C or SIGTERM; a second signal ends the process at once, which the kernel
/// answers by taking the lab away.
fn on_signal(runtime: &tokio::runtime::Runtime) -> Result<Arc<AtomicBool>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let _guard = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind)?;
        let stop = Arc::clone(&stop);
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
            }
        });
    }
    Ok(stop)
}

/// The folder of the lab that is meant.
fn find(id: Option<&str>) -> Result<PathBuf, Failure> {
    let mut labs = registry::running()?;
    if let Some(id) = id {
        labs.retain(|(known, ..)| known == id);
    }
    match labs.as_slice() {
        [] => Err("no such lab runs".into()),
        [(_, path, _)] => Ok(path.clone()),
        several => {
            let ids: Vec<_> = several.iter().map(|(id, ..)| id.as_str()).collect();
            Err(format!("several labs run, say which with --lab: {}", ids.join(", ")).into())
        }
    }
}

fn enter(id: Option<&str>, namespace: &str, command: &[String]) -> Result<ExitCode, Failure> {
    let Answer::Namespaces(all) = ask(&find(id)?, &Request::Namespaces)? else {
        return Err("the lab does not say".into());
    };
    let Some((_, tid)) = all.iter().find(|(name, _)| name == namespace) else {
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        return Err(format!("no namespace {namespace:?}, only {}", names.join(", ")).into());
    };
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &tid.to_string(), "--net", "--mount"]);
    if !nix::unistd::geteuid().is_root() {
        nsenter.args(["--user", "--preserve-credentials"]);
    }
    nsenter.arg("--");
    match command {
        [] => nsenter.arg(std::env::var_os("SHELL").unwrap_or_else(|| "sh".into())),
        command => nsenter.args(command),
    };
    Err(nsenter.exec().into())
}
