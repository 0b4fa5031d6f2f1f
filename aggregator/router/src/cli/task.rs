//! Commands that take long: begins the task, shows how far it is, and renders its report.
//!
//! The task ends with this program (Ctrl-C): the daemon notices that the connection is closed.

use std::io::{self, IsTerminal as _, Read as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use wanbond_control::pairing::{PairingReport, PairingWan};
use wanbond_control::request::{Request, Response, Secret};
use wanbond_control::units::milliseconds;
use wanbond_control::words::{MptcpState, TaskState};
use wanbond_control::{ROUTER_SOCKET, Task, Work};

use super::view::{clean, wrap};
use super::{Client, ClientError, Failure};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Longer ones are no pairing code.
const LONGEST_CODE: u64 = 4000;

/// Which pairing code to check.
#[derive(Debug, Args)]
pub struct PairingArgs {
    /// What `wanbond-server router add` printed; - reads it from the standard input
    pub code: String,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn pairing(args: &PairingArgs, out: &mut io::Stdout) -> Result<ExitCode, Failure> {
    let mut code = args.code.clone();
    if code == "-" {
        code.clear();
        io::stdin().take(LONGEST_CODE).read_to_string(&mut code)?;
    }
    run(&Request::Pairing { code: Secret(code) }, args.json, out)
}

/// Runs a task to its end, and shows its report. The exit code says whether all is well.
fn run(request: &Request, json: bool, out: &mut io::Stdout) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(ROUTER_SOCKET)?;
    let mut line = ProgressLine { shown: false, terminal: io::stderr().is_terminal() };
    let mut task = ask(&mut client, request)?;
    while !task.is_over() {
        line.show(&task);
        std::thread::sleep(LOOK);
        task = ask(&mut client, &Request::Task { id: Some(task.id), cancel: false })?;
    }
    line.clear();
    let text = match json {
        true => serde_json::to_string_pretty(&task).map_err(io::Error::from)? + "\n",
        false => render(&task),
    };
    out.write_all(text.as_bytes())?;
    Ok(if is_well(&task) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(client: &mut Client, request: &Request) -> Result<Task, ClientError> {
    client.send(request)?;
    match client.receive()? {
        Response::Task(task) => Ok(*task),
        other => Err(ClientError::Unexpected(Box::new(other))),
    }
}

fn is_well(task: &Task) -> bool {
    task.state == TaskState::Done
        && match &task.work {
            Work::Pairing(report) => report.as_ref().is_some_and(|report| report.reached),
            Work::Unknown => true,
        }
}

/// How far a task is, on a terminal, in a line that is written over.
struct ProgressLine {
    shown: bool,
    terminal: bool,
}

impl ProgressLine {
    fn show(&mut self, task: &Task) {
        if self.terminal {
            let share = task.progress * 100.0;
            let _ = write!(io::stderr(), "\r\x1b[K{share:3.0} %  {}", clean(&task.step));
            self.shown = true;
        }
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

/// A task that is over, as text of at most 80 columns.
fn render(task: &Task) -> String {
    let mut out = String::new();
    if task.state != TaskState::Done {
        wrap(&mut out, "Failed: ", &clean(&task.error));
        return out;
    }
    match &task.work {
        Work::Pairing(Some(report)) => render_pairing(&mut out, report),
        _ => out.push_str("Done.\n"),
    }
    out
}

fn render_pairing(out: &mut String, report: &PairingReport) {
    let server = clean(&report.endpoints.join(", "));
    let verdict = match (report.reached, &report.configured) {
        (false, _) => format!("The code does not work. {}", clean(&report.why)),
        (true, None) => format!("The code works: {server} takes it."),
        (true, Some(name)) => {
            format!("The code works: {server} takes it. It is that of server '{}'.", clean(name))
        }
    };
    wrap(out, "", &verdict);
    for wan in &report.wans {
        wrap(out, "  ", &pairing_wan(wan));
        if !wan.why.is_empty() {
            wrap(out, "      ", &clean(&wan.why));
        }
    }
    if report.reached && !report.mptcp_supported {
        wrap(out, "", "This kernel has no MPTCP: TCP will go through the tunnel.");
    }
}

fn pairing_wan(wan: &PairingWan) -> String {
    let mut facts = Vec::new();
    match &wan.device {
        Some(device) if *device != wan.name => facts.push(clean(device)),
        _ => {}
    }
    facts.push(if wan.reached { "reached" } else { "not reached" }.to_owned());
    facts.extend(wan.rtt_ms.map(milliseconds));
    if wan.reached {
        facts.push(if wan.udp { "UDP passes" } else { "no UDP" }.to_owned());
        facts.push(if wan.tcp { "TCP passes" } else { "no TCP" }.to_owned());
        if wan.tcp && wan.mptcp != MptcpState::Unknown {
            facts.push(format!("MPTCP {}", wan.mptcp));
        }
    }
    facts.extend(wan.public_address.as_deref().map(|a| format!("seen as {}", clean(a))));
    if !wan.configured {
        facts.push(format!("would suit as {}", wan.role));
        facts.push("not configured yet".to_owned());
    }
    let facts: Vec<_> = facts.iter().map(|fact| fact.replace(' ', "\u{a0}")).collect();
    format!("{}: {}", clean(&wan.name), facts.join(", "))
}

#[cfg(test)]
mod tests {
    use wanbond_control::words::Role;

    use super::*;

    fn task(work: Work) -> Task {
        Task { id: 1, work, state: TaskState::Done, progress: 1.0, ..Task::default() }
    }

    #[test]
    fn a_pairing_is_shown_wan_by_wan() {
        let good = PairingWan {
            name: "fibre".into(),
            device: Some("eth1".into()),
            configured: true,
            reached: true,
            udp: true,
            tcp: true,
            rtt_ms: Some(12.3),
            mptcp: MptcpState::Working,
            ..PairingWan::default()
        };
        let bad = PairingWan {
            name: "wwan".into(),
            role: Role::Overflow,
            why: "no answer from 192.0.2.1:65101 over it".into(),
            ..PairingWan::default()
        };
        let report = PairingReport {
            reached: true,
            endpoints: vec!["vps.example:65101".into()],
            mptcp_supported: true,
            wans: vec![good, bad],
            ..PairingReport::default()
        };
        let task = task(Work::Pairing(Some(Box::new(report))));
        let wanted = "The code works: vps.example:65101 takes it.\n\
            \x20 fibre: eth1, reached, 12.3 ms, UDP passes, TCP passes, MPTCP working\n\
            \x20 wwan: not reached, would suit as overflow, not configured yet\n\
            \x20     no answer from 192.0.2.1:65101 over it\n";
        assert_eq!(render(&task), wanted);
        assert!(is_well(&task));
    }

    #[test]
    fn what_failed_says_why() {
        let failed = Task {
            state: TaskState::Failed,
            error: "a pairing code starts with \"wanbond1:\"".into(),
            ..task(Work::Pairing(None))
        };
        assert_eq!(render(&failed), "Failed: a pairing code starts with \"wanbond1:\"\n");
        assert!(!is_well(&failed) && !is_well(&task(Work::Pairing(None))));
    }
}
