//! The VPS of a lab and the server daemon on it.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;
use wanbond_control::ServerStatus;

use super::process::{Process, Usage, find_binary, tail, wait_for};
use super::{GRACE, READY, run_cli};
use crate::error::LabError;
use crate::lab::Lab;
use crate::ns::Namespace;
use crate::topology::VPS_V4;

/// The server daemon's program.
pub(crate) const BINARY: &str = "wanbond-server";

/// What a lab keeps of its server.
#[derive(Debug, Default)]
pub(crate) struct ServerNode {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    initialised: bool,
    process: Option<Process>,
    log_level: Option<String>,
}

/// The server of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Server<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) node: &'a ServerNode,
}

impl<'a> Server<'a> {
    /// Its namespace.
    #[must_use]
    pub const fn ns(&self) -> &'a Namespace {
        self.lab.vps()
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.lab.dir().join("server")
    }

    /// Its log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.lab.log_dir().join("server.log")
    }

    /// The end of its log.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.log_path(), 1000)
    }

    /// How much it logs from the next start on, such as `debug`.
    pub fn set_log_level(&self, level: &str) {
        self.state().log_level = Some(level.into());
    }

    /// Makes its state directory with these endpoints, as its owner would.
    ///
    /// # Errors
    /// When the program is missing or says no.
    pub fn init(&self, endpoints: &[&str]) -> Result<(), LabError> {
        let mut args = vec!["init"];
        for endpoint in endpoints {
            args.extend(["--endpoint", endpoint]);
        }
        self.cli(&args)?;
        self.state().initialised = true;
        Ok(())
    }

    /// Admits a router and gives its pairing code. Makes the state directory first if need be,
    /// with the VPS's IPv4 address as endpoint.
    ///
    /// # Errors
    /// When the program is missing or says no.
    pub fn add_router(&self, name: &str) -> Result<String, LabError> {
        self.ensure_initialised()?;
        Ok(self.cli(&["router", "add", name])?.trim().to_owned())
    }

    /// Revokes a router.
    ///
    /// # Errors
    /// When the program says no.
    pub fn remove_router(&self, name: &str) -> Result<(), LabError> {
        self.cli(&["router", "remove", name]).map(drop)
    }

    /// Runs its command line with this state directory; gives what it printed.
    ///
    /// # Errors
    /// When the program is missing or says no.
    pub fn cli(&self, args: &[&str]) -> Result<String, LabError> {
        let dir = self.state_dir();
        run_cli(self.ns(), &find_binary(BINARY)?, |command| {
            command.arg("--state").arg(dir).args(args);
        })
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Errors
    /// When it is running already, the program is missing, or it does not come up.
    pub fn start(&self) -> Result<(), LabError> {
        self.ensure_initialised()?;
        let mut state = self.state();
        if state.process.is_some() {
            return Err(self.error("the server runs already"));
        }
        let (dir, level) = (self.state_dir(), state.log_level.clone());
        let process = Process::start(self.ns(), BINARY, &self.log_path(), |command| {
            command.arg("--state").arg(dir);
            if let Some(level) = level {
                command.args(["--log", &level]);
            }
            command.arg("run");
        })?;
        state.process = Some(process);
        drop(state);
        wait_for(READY, || {
            let ended = self.ended();
            (ended.is_some() || self.status().is_ok()).then_some(ended)
        })
        .filter(Option::is_none)
        .map(drop)
        .ok_or_else(|| self.error("the server does not come up"))
    }

    /// Asks the daemon to end, and waits.
    ///
    /// # Errors
    /// When it does not run, or does not end in time and is killed.
    pub fn stop(&self) -> Result<ExitStatus, LabError> {
        let process = self.take()?;
        process.stop(GRACE).ok_or_else(|| self.error("the server does not end at SIGTERM"))
    }

    /// Kills the daemon with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<(), LabError> {
        self.take()?.kill();
        Ok(())
    }

    /// Has it read its settings again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> Result<(), LabError> {
        let state = self.state();
        let process =
            state.process.as_ref().ok_or_else(|| self.error("the server does not run"))?;
        process.signal(Signal::SIGHUP);
        Ok(())
    }

    /// How the daemon ended by itself, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.state().process.as_mut().and_then(Process::ended)
    }

    /// Its status document.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<ServerStatus, LabError> {
        let json = self.cli(&["status", "--json"])?;
        serde_json::from_str(&json).map_err(|error| self.error(&format!("status: {error}: {json}")))
    }

    /// What its process uses.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self) -> Result<Usage, LabError> {
        let pid = self.state().process.as_ref().map(Process::pid);
        pid.and_then(|pid| Usage::of(pid).ok()).ok_or_else(|| self.error("the server does not run"))
    }

    /// Its process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.state().process.as_ref().map(Process::pid)
    }

    fn ensure_initialised(&self) -> Result<(), LabError> {
        let initialised = self.state().initialised;
        if initialised { Ok(()) } else { self.init(&[&VPS_V4.to_string()]) }
    }

    fn take(&self) -> Result<Process, LabError> {
        let process = self.state().process.take();
        process.ok_or_else(|| self.error("the server does not run"))
    }

    fn state(&self) -> MutexGuard<'a, State> {
        self.node.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, what: &str) -> LabError {
        LabError::Daemon { what: what.into(), log: tail(&self.log_path(), 40) }
    }
}
