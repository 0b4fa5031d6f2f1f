//! A router of a lab and the daemon on it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use wanbond_control::{ServerState, Status, WanState};

use super::process::{Process, Usage, find_binary, tail, wait_for};
use super::{GRACE, KernelState, READY, run_cli};
use crate::error::LabError;
use crate::lab::Lab;
use crate::ns::Namespace;
use crate::topology::LAN;

/// The router daemon's program.
pub(crate) const BINARY: &str = "wanbond";

/// What a lab keeps per router.
#[derive(Debug)]
pub(crate) struct RouterNode {
    pub(crate) ns: Namespace,
    pub(crate) lan: Vec<Namespace>,
    pub(crate) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    process: Option<Process>,
    config: Option<RouterConfig>,
    log_level: Option<String>,
    before: Option<KernelState>,
}

/// What `/etc/config/wanbond` says on a lab's router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// The LAN's device or network.
    pub lan: String,
    /// `auto`, `mptcp`, `stream` or `packet`.
    pub tcp: String,
    /// `direct` or `block`.
    pub when_server_down: String,
    /// The pairing code.
    pub code: String,
    /// The WANs: device and role.
    pub wans: Vec<(String, String)>,
    /// More lines of the globals section.
    pub globals: Vec<String>,
    /// More sections.
    pub extra: String,
}

impl RouterConfig {
    /// As UCI text.
    #[must_use]
    pub fn to_uci(&self) -> String {
        let mut text = format!(
            "config wanbond 'globals'\n\toption enabled '1'\n\tlist lan '{}'\n\
             \toption tcp '{}'\n\toption when_server_down '{}'\n",
            self.lan, self.tcp, self.when_server_down
        );
        for line in &self.globals {
            let _ = writeln!(text, "\t{line}");
        }
        let _ = writeln!(text, "\nconfig server 'vps'\n\toption code '{}'", self.code);
        for (device, role) in &self.wans {
            // A section's name knows no hyphen.
            let name = device.replace('-', "_");
            let _ = writeln!(
                text,
                "\nconfig wan '{name}'\n\toption device '{device}'\n\toption role '{role}'"
            );
        }
        text + &self.extra
    }
}

/// A router of a lab.
#[derive(Debug, Clone, Copy)]
pub struct Router<'a> {
    pub(crate) lab: &'a Lab,
    pub(crate) index: usize,
    pub(crate) node: &'a RouterNode,
}

impl<'a> Router<'a> {
    /// Its namespace.
    #[must_use]
    pub const fn ns(&self) -> &'a Namespace {
        &self.node.ns
    }

    /// A host on its LAN.
    ///
    /// # Panics
    /// When the scenario has no such host.
    #[must_use]
    pub fn lan(&self, host: usize) -> &'a Namespace {
        &self.node.lan[host]
    }

    /// The name it is admitted under by the server.
    #[must_use]
    pub fn name(&self) -> String {
        format!("router{}", self.index + 1)
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.lab.dir().join(format!("{}.uci", self.name()))
    }

    /// Where its daemon looks for ubusd. There is none, unless a test starts one.
    #[must_use]
    pub fn ubus_path(&self) -> PathBuf {
        self.lab.dir().join(format!("{}.ubus", self.name()))
    }

    /// Its log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.lab.log_dir().join(format!("{}.log", self.name()))
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

    /// Pairs it with the lab's server: has the server admit it and writes the configuration for
    /// all its WANs. Gives the configuration, for tests that want another one.
    ///
    /// # Errors
    /// When the server's program is missing or says no.
    pub fn pair(&self) -> Result<RouterConfig, LabError> {
        let code = self.lab.server().add_router(&self.name())?;
        let config = self.config(code);
        self.configure(&config)?;
        Ok(config)
    }

    /// The configuration for all its WANs with this pairing code.
    #[must_use]
    pub fn config(&self, code: String) -> RouterConfig {
        let mine = self.lab.wans().filter(|wan| wan.spec().router == self.index);
        RouterConfig {
            lan: LAN.into(),
            tcp: "auto".into(),
            when_server_down: "direct".into(),
            code,
            wans: mine.map(|wan| (wan.name().to_owned(), wan.spec().role.clone())).collect(),
            globals: Vec::new(),
            extra: String::new(),
        }
    }

    /// Writes its configuration. A running daemon reads it at [`Router::reload`].
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn configure(&self, config: &RouterConfig) -> Result<(), LabError> {
        let path = self.config_path();
        std::fs::write(&path, config.to_uci()).map_err(|source| LabError::File { path, source })?;
        self.state().config = Some(config.clone());
        Ok(())
    }

    /// What was written last by [`Router::configure`].
    #[must_use]
    pub fn configuration(&self) -> Option<RouterConfig> {
        self.state().config.clone()
    }

    /// Starts the daemon, paired first if it is not yet, and waits until it answers its control
    /// socket. See [`Router::wait_ready`] for more.
    ///
    /// # Errors
    /// When it runs already, the program is missing, or it does not come up.
    pub fn start(&self) -> Result<(), LabError> {
        let configured = self.state().config.is_some();
        if !configured {
            self.pair()?;
        }
        if self.state().process.is_some() {
            return Err(self.error(&format!("{} runs already", self.name())));
        }
        let before = KernelState::capture(self.ns())?;
        let (config, ubus) = (self.config_path(), self.ubus_path());
        let level = self.state().log_level.clone();
        let process = Process::start_jailed(self.ns(), BINARY, &self.log_path(), |command| {
            command.arg("--config").arg(config).args(["run", "--wait", "--ubus"]).arg(ubus);
            if let Some(level) = level {
                command.args(["--log", &level]);
            }
        })?;
        {
            let mut state = self.state();
            // After a kill -9 the state to come back to is the one before the first start.
            state.before.get_or_insert(before);
            state.process = Some(process);
        }
        wait_for(READY, || {
            let ended = self.ended();
            (ended.is_some() || self.status().is_ok()).then_some(ended)
        })
        .filter(Option::is_none)
        .map(drop)
        .ok_or_else(|| self.error(&format!("{} does not come up", self.name())))
    }

    /// Waits until the session stands and every WAN that is not cut or off is up.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn wait_ready(&self, time: Duration) -> Result<Status, LabError> {
        let dead = |device: Option<&str>| {
            let mut wans = self.lab.wans().filter(|wan| Some(wan.name()) == device);
            wans.any(|wan| wan.counters().is_ok_and(|counters| counters.cut))
        };
        self.wait_status(time, "the server and every living WAN up", |status| {
            let server = status.server.as_ref().is_some_and(|s| s.state == ServerState::Connected);
            let settled = |wan: &wanbond_control::status::WanStatus| {
                wan.state == WanState::Up
                    || wan.role == wanbond_control::Role::Off
                    || dead(wan.device.as_deref())
            };
            server && status.wans.iter().all(settled) && status.lanes.idle > 0
        })
    }

    /// Waits until the status is as `wanted` says; `what` is for the message.
    ///
    /// # Errors
    /// When that does not come about in time.
    pub fn wait_status(
        &self,
        time: Duration,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status, LabError> {
        let found = wait_for(time, || {
            std::thread::sleep(Duration::from_millis(20));
            self.status().ok().filter(|status| wanted(status))
        });
        found.ok_or_else(|| {
            let last = self.status().ok().and_then(|s| serde_json::to_string_pretty(&s).ok());
            self.error(&format!(
                "not within {time:?}: {what}; status: {}",
                last.unwrap_or_default()
            ))
        })
    }

    /// Asks the daemon to end, and waits. Gives how it ended and what it left in the kernel or
    /// took from it, which should be nothing.
    ///
    /// # Errors
    /// When it does not run, or does not end in time and is killed.
    pub fn stop(&self) -> Result<(ExitStatus, Vec<String>), LabError> {
        let process = self.take()?;
        let ended = process.stop(GRACE);
        let status = ended.ok_or_else(|| self.error("the router does not end at SIGTERM"))?;
        let left = self.kernel_changes()?;
        self.state().before = None;
        Ok((status, left))
    }

    /// Kills the daemon with SIGKILL, which leaves its rules in the kernel.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&self) -> Result<(), LabError> {
        self.take()?.kill();
        Ok(())
    }

    /// What differs in the kernel from before the daemon's first start.
    ///
    /// # Errors
    /// When `ip` or `nft` fail.
    pub fn kernel_changes(&self) -> Result<Vec<String>, LabError> {
        let before = self.state().before.clone();
        let now = KernelState::capture(self.ns())?;
        Ok(before.map(|before| now.changes_since(&before)).unwrap_or_default())
    }

    /// Has it read its configuration again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> Result<(), LabError> {
        let state = self.state();
        let process =
            state.process.as_ref().ok_or_else(|| self.error("the router does not run"))?;
        process.signal(Signal::SIGHUP);
        Ok(())
    }

    /// How the daemon ended by itself, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.state().process.as_mut().and_then(Process::ended)
    }

    /// Its process, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.state().process.as_ref().map(Process::pid)
    }

    /// What its process uses.
    ///
    /// # Errors
    /// When it does not run.
    pub fn usage(&self) -> Result<Usage, LabError> {
        let usage = self.pid().and_then(|pid| Usage::of(pid).ok());
        usage.ok_or_else(|| self.error("the router does not run"))
    }

    /// Its status document.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status, LabError> {
        let json = self.cli(&["status", "--json"])?;
        serde_json::from_str(&json).map_err(|error| self.error(&format!("status: {error}: {json}")))
    }

    /// Runs its command line with this configuration; gives what it printed.
    ///
    /// # Errors
    /// When the program is missing or says no.
    pub fn cli(&self, args: &[&str]) -> Result<String, LabError> {
        let config = self.config_path();
        run_cli(self.ns(), &find_binary(BINARY)?, |command| {
            command.arg("--config").arg(config).args(args);
        })
    }

    fn take(&self) -> Result<Process, LabError> {
        let process = self.state().process.take();
        process.ok_or_else(|| self.error("the router does not run"))
    }

    fn state(&self) -> MutexGuard<'a, State> {
        self.node.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, what: &str) -> LabError {
        LabError::Daemon { what: what.into(), log: tail(&self.log_path(), 40) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_as_a_person_would_write_it() {
        let config = RouterConfig {
            lan: "lan".into(),
            tcp: "auto".into(),
            when_server_down: "direct".into(),
            code: "wanbond1:x".into(),
            wans: vec![("fibre".into(), "bond".into()), ("lte-a".into(), "backup".into())],
            globals: vec!["option log 'debug'".into()],
            extra: String::new(),
        };
        let wanted = "config wanbond 'globals'\n\toption enabled '1'\n\tlist lan 'lan'\n\
            \toption tcp 'auto'\n\toption when_server_down 'direct'\n\toption log 'debug'\n\n\
            config server 'vps'\n\toption code 'wanbond1:x'\n\n\
            config wan 'fibre'\n\toption device 'fibre'\n\toption role 'bond'\n\n\
            config wan 'lte_a'\n\toption device 'lte-a'\n\toption role 'backup'\n";
        assert_eq!(config.to_uci(), wanted);
    }
}
