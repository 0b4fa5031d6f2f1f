//! The command line of `wanbond`.
//!
//! `run` and `cleanup` belong to the daemon; everything else is a [`ClientCommand`] and is carried
//! out here: `check` reads the configuration and explains it, `status` and `wan` talk to the
//! daemon of this network namespace over its control socket.
//!
//! Exit codes: 0 done, 1 the answer is no (a wrong configuration, a refused request, no daemon),
//! 2 it could not be tried (an unreadable file, a wrong command line).

mod client;
mod task;
mod view;

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use wanbond_control::request::{Request, Response, WanAction, to_line};
use wanbond_control::{LogLevel, ROUTER_SOCKET, Role, metrics};

use crate::bypass::dnsmasq;
use crate::config::{self, LoadError};
use crate::ubus::Value;

pub use client::{Client, ClientError};
pub use task::{DrillArgs, PairingArgs, SpeedtestArgs};
pub use view::{Look, render, render_diagnosis};

/// Milliseconds between two documents of `status --watch`.
const WATCH_INTERVAL_MS: u32 = 1000;

/// Joins several Internet links into one.
#[derive(Debug, Parser)]
#[command(name = "wanbond", version, disable_help_subcommand = true)]
pub struct Cli {
    /// The configuration file, in UCI syntax
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH, global = true)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the router daemon in the foreground, logging to stderr
    Run(RunArgs),
    /// Remove everything from the kernel that a daemon that died has left there
    Cleanup,
    /// What needs no daemon of its own.
    #[command(flatten)]
    Client(ClientCommand),
}

/// How to run the daemon.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// How much to log, instead of what the configuration says: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<LogLevel>,
    /// Where OpenWrt's ubusd listens, if there is one
    #[arg(long, value_name = "SOCKET", default_value = crate::ubus::SOCKET)]
    pub ubus: PathBuf,
    /// Where the configuration is wrong or missing, touch nothing and wait for SIGHUP, instead of
    /// ending; requests are answered meanwhile
    #[arg(long)]
    pub wait: bool,
}

/// A command that is carried out by [`run_client_command`].
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Check the configuration and explain what it means
    Check,
    /// Show how the WANs, the server and the flows are
    Status(StatusArgs),
    /// Say what is wrong or slow, and what to do about it
    Diagnose(DiagnoseArgs),
    /// Show what a WAN did of late, as JSON: rates, round trips and losses, ready for a graph
    History(HistoryArgs),
    /// Check a pairing code: is the server reached, over which WANs, and what passes there; changes nothing
    Pairing(PairingArgs),
    /// Measure how fast each WAN is, and all together, between this router and its own server
    Speedtest(SpeedtestArgs),
    /// Take a WAN out for some seconds as if its line were cut, and tell what connections felt
    Drill(DrillArgs),
    /// Print all that helps who is to help, as JSON, without keys and pairing codes
    Support,
    /// Take a WAN in or out of use, or give it another role, until the daemon is restarted
    Wan(WanArgs),
}

/// How to show the status.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// As JSON; with --watch one line for each document
    #[arg(long)]
    pub json: bool,
    /// Again every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// As metrics for Prometheus, such as for its node exporter's textfile collector
    #[arg(long, conflicts_with_all = ["json", "watch"])]
    pub prometheus: bool,
}

/// How to show a diagnosis.
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// Which past to show.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// The WAN's name in the configuration
    pub name: String,
    /// How far back: 1 s steps for 10 min, 10 s steps for 3 h, 5 min steps for 7 days
    #[arg(long, default_value_t = 600)]
    pub seconds: u32,
}

/// What to do to which WAN.
#[derive(Debug, Args)]
pub struct WanArgs {
    /// The WAN's name in the configuration
    pub name: String,
    /// What to do.
    #[command(subcommand)]
    pub verb: WanVerb,
}

/// What to do to a WAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum WanVerb {
    /// Use it again
    Up,
    /// Take it out of use
    Down,
    /// Give it another role
    Role {
        /// bond, backup, overflow or off
        role: Role,
    },
}

impl From<WanVerb> for WanAction {
    fn from(verb: WanVerb) -> Self {
        match verb {
            WanVerb::Up => Self::Up,
            WanVerb::Down => Self::Down,
            WanVerb::Role { role } => Self::Role { role },
        }
    }
}

/// Carries out a command that is not the daemon's, writing to stdout and stderr.
#[must_use]
pub fn run_client_command(config: &Path, command: &ClientCommand) -> ExitCode {
    let mut out = io::stdout();
    let done = match command {
        ClientCommand::Check => check(config, &mut out, &mut io::stderr()),
        ClientCommand::Status(args) => status(args, &mut out),
        ClientCommand::Diagnose(args) => diagnose(args, &mut out),
        ClientCommand::History(args) => history(args, &mut out),
        ClientCommand::Pairing(args) => task::pairing(args, &mut out),
        ClientCommand::Speedtest(args) => task::speedtest(args, &mut out),
        ClientCommand::Drill(args) => task::drill(args, &mut out),
        ClientCommand::Support => task::support(&mut out),
        ClientCommand::Wan(args) => wan(args, &mut out),
    };
    match done {
        Ok(code) => code,
        // `wanbond status | head` is no failure.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            // Where stderr is gone too, the exit code alone has to say it.
            let _ = writeln!(io::stderr(), "wanbond: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("can't write the answer: {0}")]
    Output(#[from] io::Error),
}

fn check(path: &Path, out: &mut impl Write, errors: &mut impl Write) -> Result<ExitCode, Failure> {
    match config::load(path) {
        Ok(loaded) => {
            write!(out, "{}", config::explain(&loaded))?;
            out.flush()?;
            for warning in &loaded.warnings {
                writeln!(errors, "warning: {warning}")?;
            }
            if loaded.config.bypass.iter().any(|rule| !rule.domains.is_empty())
                && let Some(why) = dnsmasq::lacks_sets()
            {
                writeln!(
                    errors,
                    "warning: domains of bypasses count for connections that name them (TLS, HTTP) only: {why}"
                )?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(errors, "{error}")?;
            Ok(match error {
                LoadError::Unreadable { .. } => ExitCode::from(2),
                LoadError::Wrong(_) => ExitCode::FAILURE,
            })
        }
    }
}

fn status(args: &StatusArgs, out: &mut io::Stdout) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(ROUTER_SOCKET)?;
    let terminal = out.is_terminal();
    let look = Look { colour: terminal && std::env::var_os("NO_COLOR").is_none() };
    let request = match args.watch {
        true => Request::Watch { interval_ms: Some(WATCH_INTERVAL_MS) },
        false => Request::Status,
    };
    client.send(&request)?;
    let in_place = args.watch && terminal && !args.json;
    if in_place {
        write!(out, "\x1b[2J")?;
    }
    loop {
        let status = match client.receive()? {
            Response::Status(status) => status,
            other => return Err(ClientError::Unexpected(Box::new(other)).into()),
        };
        let mut text = match (args.json, args.watch) {
            _ if args.prometheus => metrics::router(&status),
            (false, _) => render(&status, look),
            (true, true) => to_line(&status).map_err(io::Error::from)?,
            (true, false) => indented(&status)?,
        };
        if in_place {
            // Home; every line overwrites its predecessor and clears what was longer; then
            // whatever was below. In one write, so that nothing flickers.
            text = format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n"));
        } else if args.watch && !args.json {
            text.push('\n');
        }
        out.write_all(text.as_bytes())?;
        out.flush()?;
        if !args.watch {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// A document as indented JSON. By way of a [`Value`], so that the code that writes each kind of
/// document is there once and not twice.
fn indented(document: &impl Serialize) -> io::Result<String> {
    let value: Value = serde_json::from_str(&to_line(document)?)?;
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn diagnose(args: &DiagnoseArgs, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(ROUTER_SOCKET)?;
    client.send(&Request::Diagnose)?;
    match client.receive()? {
        Response::Diagnosis(diagnosis) => {
            let text = match args.json {
                true => indented(&diagnosis)?,
                false => render_diagnosis(&diagnosis),
            };
            write!(out, "{text}")?;
            Ok(ExitCode::SUCCESS)
        }
        other => Err(ClientError::Unexpected(Box::new(other)).into()),
    }
}

fn history(args: &HistoryArgs, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(ROUTER_SOCKET)?;
    client.send(&Request::History { name: args.name.clone(), seconds: Some(args.seconds) })?;
    match client.receive()? {
        Response::History(history) => {
            write!(out, "{}", to_line(&history).map_err(io::Error::from)?)?;
            Ok(ExitCode::SUCCESS)
        }
        other => Err(ClientError::Unexpected(Box::new(other)).into()),
    }
}

fn wan(args: &WanArgs, out: &mut impl Write) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(ROUTER_SOCKET)?;
    client.send(&Request::Wan { name: args.name.clone(), action: args.verb.into() })?;
    match client.receive()? {
        Response::Done(done) => {
            writeln!(out, "{}", done.message)?;
            Ok(ExitCode::SUCCESS)
        }
        other => Err(ClientError::Unexpected(Box::new(other)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_read() {
        let cli = parse("wanbond --config /tmp/x run --log debug").unwrap();
        assert_eq!(cli.config, Path::new("/tmp/x"));
        assert!(matches!(cli.command, Command::Run(RunArgs { log: Some(LogLevel::Debug), .. })));
        let cli = parse("wanbond check").unwrap();
        assert_eq!(cli.config, Path::new("/etc/config/wanbond"));
        let wan = |line: &str| match parse(line).unwrap().command {
            Command::Client(ClientCommand::Wan(args)) => (args.name, WanAction::from(args.verb)),
            other => panic!("{other:?}"),
        };
        assert_eq!(wan("wanbond wan lte down"), ("lte".to_owned(), WanAction::Down));
        assert_eq!(
            wan("wanbond wan lte role backup"),
            ("lte".to_owned(), WanAction::Role { role: Role::Backup })
        );
        assert!(matches!(parse("wanbond cleanup").unwrap().command, Command::Cleanup));
    }

    #[test]
    fn wrong_words_are_told_the_right_ones() {
        let error = parse("wanbond wan lte role main").unwrap_err();
        assert!(
            error.contains("'main' is not a role; use bond, backup, overflow or off"),
            "{error}"
        );
        assert!(parse("wanbond run --log loud").unwrap_err().contains("is not a log level"));
        assert!(parse("wanbond").is_err());
    }

    #[test]
    fn check_explains_or_lists_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wanbond");
        let check = |path: &Path| {
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            let code = check(path, &mut out, &mut errors).unwrap();
            (code, String::from_utf8(out).unwrap(), String::from_utf8(errors).unwrap())
        };
        assert_eq!(check(&path).0, ExitCode::from(2));
        std::fs::write(&path, "config wanbond g\n\toption enabled 'perhaps'\n").unwrap();
        let (code, out, errors) = check(&path);
        assert_eq!((code, out.as_str()), (ExitCode::FAILURE, ""));
        assert!(errors.contains("wanbond:2: option 'enabled'"), "{errors}");
        std::fs::write(&path, "config wanbond g\n\toption enabled '0'\n\toption tpc 'auto'\n")
            .unwrap();
        let (code, out, errors) = check(&path);
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(out.starts_with("wanbond is off"), "{out}");
        assert!(
            errors.starts_with("warning: ") && errors.contains("did you mean 'tcp'?"),
            "{errors}"
        );
    }
}
