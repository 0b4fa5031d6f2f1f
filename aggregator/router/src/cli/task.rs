//! Commands that take long: begins the task, shows how far it is, and renders its report.
//!
//! The task ends with this program (Ctrl-C): the daemon notices that the connection is closed.

use std::io::{self, IsTerminal as _, Read as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use wanbond_control::drill::DrillReport;
use wanbond_control::pairing::{PairingReport, PairingWan};
use wanbond_control::request::{Request, Response, Secret};
use wanbond_control::speed::SpeedReport;
use wanbond_control::units::{Bytes, bit_rate, milliseconds};
use wanbond_control::words::{MptcpState, TaskState};
use wanbond_control::{ROUTER_SOCKET, Task, Work};

use super::view::{clean, wrap};
use super::{Client, ClientError, Failure, indented};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// All WANs.
const TOGETHER: &str = "together";
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

/// What to measure.
#[derive(Debug, Args)]
pub struct SpeedtestArgs {
    /// This WAN only, even if it only stands by; without it each one, and all together
    pub name: Option<String>,
    /// How long each direction is measured, 2 to 30
    #[arg(long, default_value_t = 5)]
    pub seconds: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// What to cut.
#[derive(Debug, Args)]
pub struct DrillArgs {
    /// The WAN's name in the configuration
    pub name: String,
    /// For how long, 1 to 60
    #[arg(long, default_value_t = 5)]
    pub seconds: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

pub(super) fn speedtest(args: &SpeedtestArgs, out: &mut io::Stdout) -> Result<ExitCode, Failure> {
    let request = Request::Speedtest { name: args.name.clone(), seconds: Some(args.seconds) };
    run(&request, args.json, out)
}

pub(super) fn drill(args: &DrillArgs, out: &mut io::Stdout) -> Result<ExitCode, Failure> {
    let request = Request::Drill { name: args.name.clone(), seconds: Some(args.seconds) };
    run(&request, args.json, out)
}

pub(super) fn support(out: &mut impl Write) -> Result<ExitCode, Failure> {
    let mut client = Client::connect(ROUTER_SOCKET)?;
    client.send(&Request::Support)?;
    match client.receive()? {
        Response::Support(bundle) => {
            write!(out, "{}", indented(&bundle)?)?;
            Ok(ExitCode::SUCCESS)
        }
        other => Err(ClientError::Unexpected(Box::new(other)).into()),
    }
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
        true => indented(&task)?,
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
            Work::Drill(report) => report.as_ref().is_some_and(|report| report.flows_lost == 0),
            Work::Speedtest(_) | Work::Unknown => true,
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
        Work::Speedtest(Some(report)) => render_speed(&mut out, report),
        Work::Drill(Some(report)) => render_drill(&mut out, report),
        _ => out.push_str("Done.\n"),
    }
    out
}

fn render_speed(out: &mut String, report: &SpeedReport) {
    let names = report.wans.iter().map(|wan| wan.name.chars().count());
    let width = names.chain([TOGETHER.len()]).max().unwrap_or_default();
    let line = |name: &str, down: &str, up: &str, rtt: &str| {
        format!("{name:width$}  {down:>13}  {up:>13}  {rtt}").trim_end().to_owned() + "\n"
    };
    out.push_str(&line("WAN", "Down", "Up", "Round trip, in use"));
    for speed in report.wans.iter().chain(&report.together) {
        let name = if speed.name.is_empty() { TOGETHER.to_owned() } else { clean(&speed.name) };
        let rate = |bps: Option<u64>| bps.map_or_else(|| "-".to_owned(), bit_rate);
        let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), milliseconds);
        let rtt = format!("{}, {}", ms(speed.rtt_ms), ms(speed.rtt_loaded_ms));
        if speed.down_bps.is_none() && speed.up_bps.is_none() {
            wrap(out, &format!("{name:width$}  "), &clean(&speed.why));
            continue;
        }
        out.push_str(&line(&name, &rate(speed.down_bps), &rate(speed.up_bps), &rtt));
        if !speed.why.is_empty() {
            wrap(out, &" ".repeat(width + 2), &clean(&speed.why));
        }
    }
    let used = format!("The test moved {} over the WANs.", Bytes(report.used_bytes));
    wrap(out, "", &used);
}

fn render_drill(out: &mut String, report: &DrillReport) {
    wrap(out, "", &clean(&report.message));
    for probe in &report.probes {
        let what = match probe.kind.as_str() {
            "lane" => "over a lane, a question every 10 ms",
            "stream" => "through the tunnel, a question every 10 ms",
            "download" => "a download as fast as it goes",
            other => other,
        };
        let longest = milliseconds(probe.longest_silence_ms);
        let usual = milliseconds(probe.usual_silence_ms);
        let end = if probe.broken { "; it broke" } else { "" };
        let text =
            format!("{}: at most {longest} without data, before the cut {usual}{end}", clean(what));
        wrap(out, "  ", &text);
    }
    let packets = format!(
        "Of the LAN's packets in the tunnel {} were sent again, {} were lost.",
        report.repaired, report.lost
    );
    wrap(out, "", &packets);
    wrap(out, "", &format!("The drill moved {} over the WANs.", Bytes(report.used_bytes)));
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
    use wanbond_control::drill::DrillProbe;
    use wanbond_control::speed::Speed;
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
    fn a_speed_test_is_a_table() {
        let speed = |name: &str, down, up| Speed {
            name: name.into(),
            down_bps: Some(down),
            up_bps: Some(up),
            rtt_ms: Some(10.0),
            rtt_loaded_ms: Some(24.0),
            ..Speed::default()
        };
        let spared = Speed { name: "lte".into(), why: "it is metered".into(), ..Speed::default() };
        let report = SpeedReport {
            wans: vec![speed("fibre", 94_000_000, 40_000_000), spared],
            together: Some(speed("", 120_000_000, 50_000_000)),
            used_bytes: 230_000_000,
            ..SpeedReport::default()
        };
        let text = render(&task(Work::Speedtest(Some(Box::new(report)))));
        let wanted = "WAN                Down             Up  Round trip, in use\n\
            fibre       94.0 Mbit/s    40.0 Mbit/s  10.0 ms, 24.0 ms\n\
            lte       it is metered\n\
            together     120 Mbit/s    50.0 Mbit/s  10.0 ms, 24.0 ms\n\
            The test moved 230 MB over the WANs.\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_drill_is_told_in_words_and_figures() {
        let probe = DrillProbe {
            kind: "download".into(),
            usual_silence_ms: 9.0,
            longest_silence_ms: 212.0,
            broken: true,
        };
        let report = DrillReport {
            message: "fibre was cut.".into(),
            probes: vec![probe],
            flows_lost: 1,
            used_bytes: 1000,
            ..DrillReport::default()
        };
        let task = task(Work::Drill(Some(Box::new(report))));
        let text = render(&task);
        assert!(
            text.starts_with("fibre was cut.\n  a download as fast as it goes: at most 212 ms")
        );
        assert!(text.contains("it broke") && !is_well(&task), "{text}");
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
