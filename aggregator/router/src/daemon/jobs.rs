//! Long jobs as they are asked for: whether they can be begun, and what they stand on.

use std::sync::Arc;
use std::time::Duration;

use wanbond_control::diagnosis::diagnose;
use wanbond_control::request::ErrorReply;
use wanbond_control::support::{Machine, SupportBundle, without_secrets};
use wanbond_control::words::{ErrorCode, Role, ServerState};
use wanbond_control::{Task, Work};
use wanbond_proto::handshake::RouterIdentity;
use wanbond_proto::pairing::PairingCode;
use wanbond_proto::wan::State;

use super::brain::Brain;
use crate::config::Server;
use crate::task::drill::Drill;
use crate::task::pairing::Check;
use crate::task::speedtest::{SpeedTest, Subject};
use crate::wan::Wan;

/// How long a direction is measured, in seconds, unless told otherwise.
const SPEED_SECONDS: u32 = 5;
/// How long a WAN is cut, in seconds, unless told otherwise.
const DRILL_SECONDS: u32 = 5;
/// Of WANs' past in a support bundle.
const PAST_SECONDS: u32 = 600;

impl Brain {
    pub(super) fn begin_pairing(&mut self, code: &str) -> Result<Task, ErrorReply> {
        let shared = &self.shared;
        let parsed = code.parse::<PairingCode>();
        let is_same = |server: &&Server| parsed.as_ref().is_ok_and(|code| *code == server.code);
        let configured = self.config.servers.iter().find(is_same).map(|s| s.name.clone());
        let check = parsed.map(|code| Check {
            prober: shared.prober(RouterIdentity::from_code(&code)),
            code,
            candidates: self.candidates(),
            configured,
            pool: Arc::clone(&shared.pool),
            mptcp: shared.mptcp,
        });
        shared.lasting.tasks.begin(Work::Pairing(None), |progress| async move {
            check.map_err(|error| error.to_string())?.run(progress).await
        })
    }

    pub(super) fn begin_speedtest(
        &mut self,
        name: Option<&str>,
        seconds: Option<u32>,
    ) -> Result<Task, ErrorReply> {
        let only = name.map(|name| self.place(name)).transpose()?;
        self.must_be_connected()?;
        let left_out = |wan: &Wan| match wan.health.state() {
            _ if wan.role == Role::Off => Some("it is switched off".to_owned()),
            State::Up if only.is_none() && wan.is_spared() => {
                Some("it is metered and only stands by; name it to have it measured".to_owned())
            }
            State::Up => None,
            _ => Some(wan.why(self.shared.clock.now())),
        };
        let wanted = |place: usize| only.is_none_or(|only| only == place);
        let subjects: Vec<Subject> = self
            .wans
            .iter()
            .enumerate()
            .filter(|(place, _)| wanted(*place))
            .map(|(_, wan)| Subject {
                name: wan.name.to_string(),
                device: wan.facts.as_ref().map(|facts| facts.device.clone()).unwrap_or_default(),
                left_out: left_out(wan),
            })
            .collect();
        let test = SpeedTest {
            shared: Arc::clone(&self.shared),
            subjects,
            together: only.is_none(),
            seconds: seconds.unwrap_or(SPEED_SECONDS).clamp(2, 30),
        };
        let tasks = &self.shared.lasting.tasks;
        tasks.begin(Work::Speedtest(None), |progress| test.run(progress))
    }

    pub(super) fn begin_drill(
        &mut self,
        name: &str,
        seconds: Option<u32>,
    ) -> Result<Task, ErrorReply> {
        let place = self.place(name)?;
        self.must_be_connected()?;
        let refuse = |message: String| Err(ErrorReply::new(ErrorCode::Failed, message));
        let is_up = |wan: &Wan| wan.role != Role::Off && wan.health.state() == State::Up;
        let wan = &self.wans[place];
        let device = match &wan.facts {
            Ok(facts) if is_up(wan) => facts.device.clone(),
            _ => return refuse(format!("WAN {name} is not up, so there is nothing to be cut")),
        };
        let others = self.wans.iter().filter(|other| other.path != wan.path && is_up(other));
        if others.count() == 0 {
            return refuse(format!(
                "WAN {name} is the only one that is up: cutting it would cut everything"
            ));
        }
        let drill = Drill {
            shared: Arc::clone(&self.shared),
            name: name.to_owned(),
            device,
            devices: self
                .wans
                .iter()
                .filter_map(|wan| Some(wan.facts.as_ref().ok()?.device.clone()))
                .collect(),
            time: Duration::from_secs(seconds.unwrap_or(DRILL_SECONDS).clamp(1, 60).into()),
        };
        let tasks = &self.shared.lasting.tasks;
        tasks.begin(Work::Drill(None), |progress| drill.run(progress))
    }

    fn must_be_connected(&self) -> Result<(), ErrorReply> {
        if self.config.globals.enabled && self.shared.standing().state == ServerState::Connected {
            return Ok(());
        }
        let message = "there is no connection to the server; 'wanbond diagnose' says why";
        Err(ErrorReply::new(ErrorCode::Failed, message))
    }

    /// All that helps who is to help.
    pub(super) fn support(&mut self) -> SupportBundle {
        let status = self.status();
        let text = std::fs::read_to_string(&self.shared.lasting.config_path);
        SupportBundle {
            diagnosis: diagnose(&status, &self.surroundings_now()),
            configuration: match text {
                Ok(text) => without_secrets(&text),
                Err(error) => format!("(it can't be read: {error})"),
            },
            events: self.shared.events().since(0).cloned().collect(),
            history: self.wans.iter().map(|wan| wan.past.show(&wan.name, PAST_SECONDS)).collect(),
            task: self.shared.lasting.tasks.show(None, false).ok(),
            machine: machine(),
            status,
        }
    }
}

fn machine() -> Machine {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = |name: &str| {
        let line = memory.lines().find(|line| line.starts_with(name))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    Machine {
        architecture: std::env::consts::ARCH.to_owned(),
        processors: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
        memory_kb: kb("MemTotal:").unwrap_or_default(),
        available_kb: kb("MemAvailable:").unwrap_or_default(),
        system: system.unwrap_or_default().trim_matches('"').to_owned(),
    }
}
