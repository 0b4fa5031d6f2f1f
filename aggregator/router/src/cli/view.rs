//! A status for people: a table of the WANs and what stands around it, within 80 columns.

use std::fmt::Write as _;

use wanbond_control::status::{ServerLink, WanStatus};
use wanbond_control::units::{Bytes, bit_rate, duration, milliseconds};
use wanbond_control::words::{Level, MptcpState, PathState, ServerState, WanState};
use wanbond_control::{Diagnosis, Event, Status};

const WIDTH: usize = 80;
/// The events shown; all that are kept are in the JSON.
const EVENTS: usize = 5;
const COLUMNS: [Column; 8] = [
    Column { title: "WAN", width: 10, right: false },
    Column { title: "Role", width: 8, right: false },
    Column { title: "State", width: 8, right: false },
    Column { title: "RTT", width: 7, right: true },
    Column { title: "Loss", width: 6, right: true },
    Column { title: "Down", width: 11, right: true },
    Column { title: "Up", width: 11, right: true },
    Column { title: "MPTCP", width: 11, right: false },
];

struct Column {
    title: &'static str,
    width: usize,
    right: bool,
}

/// How the text may look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// With terminal colours.
    pub colour: bool,
}

#[derive(Clone, Copy)]
enum Tint {
    Good,
    Poor,
    Bad,
    Faint,
    Plain,
}

impl Look {
    fn paint(self, tint: Tint, text: &str) -> String {
        let code = match tint {
            _ if !self.colour => return text.to_owned(),
            Tint::Good => "32",
            Tint::Poor => "33",
            Tint::Bad => "31",
            Tint::Faint => "2",
            Tint::Plain => return text.to_owned(),
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// The status as text, with a newline at the end.
#[must_use]
pub fn render(status: &Status, look: Look) -> String {
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        out,
        "wanbond {}, up {}, kernel {}{}",
        clean(&status.version),
        duration(status.uptime_s),
        clean(&status.kernel),
        mptcp(status)
    );
    if !status.problem.is_empty() {
        let text = "The configuration is wrong and not in use:";
        let _ = writeln!(out, "{}", look.paint(Tint::Bad, text));
        for line in status.problem.lines() {
            wrap(&mut out, "  ", &clean(line));
        }
    } else if !status.enabled {
        let text = "Switched off: option enabled '0' in the configuration.";
        let _ = writeln!(out, "{}", look.paint(Tint::Poor, text));
    }
    match &status.server {
        Some(link) => server(&mut out, status.uptime_s, link, look),
        None => out.push_str("Server  none configured\n"),
    }
    for other in status.servers.iter().filter(|server| !server.in_use) {
        let mut text = format!("{} {}", clean(&other.name), other.state.as_str().replace('_', " "));
        if let Some(rtt) = other.rtt_ms {
            let _ = write!(text, ", {}", milliseconds(rtt));
        }
        if !other.why.is_empty() {
            let _ = write!(text, ": {}", clean(&other.why));
        }
        wrap(&mut out, "        ", &text);
    }
    out.push('\n');
    wans(&mut out, status, look);
    out.push('\n');
    let lanes = &status.lanes;
    let _ = writeln!(
        out,
        "Lanes   {} idle of {} wanted, {} busy; {} opened, {} reused, {} failed",
        lanes.idle,
        lanes.target,
        lanes.busy,
        lanes.opened_total,
        lanes.reused_total,
        lanes.failed_total
    );
    flows(&mut out, status);
    bypass(&mut out, status, look);
    events(&mut out, status, look);
    out
}

fn bypass(out: &mut String, status: &Status, look: Look) {
    let bypass = &status.bypass;
    for (i, rule) in bypass.rules.iter().enumerate() {
        let head = if i == 0 { "Bypass  " } else { "        " };
        let mut text = format!(
            "{}: {}; {}\u{a0}connections",
            clean(&rule.name),
            clean(&rule.now),
            rule.connections
        );
        if let Some(addresses) = rule.addresses {
            let _ = write!(text, ", {addresses}\u{a0}addresses");
        }
        wrap(out, head, &text);
    }
    if !bypass.domains_by.is_empty() {
        wrap(out, "        ", &format!("domains by {}", clean(&bypass.domains_by)));
    }
    if !bypass.problem.is_empty() {
        let _ = writeln!(out, "        {}", look.paint(Tint::Bad, &clean(&bypass.problem)));
    }
}

fn mptcp(status: &Status) -> String {
    match (&status.mptcp.supported, status.mptcp.congestion.as_str()) {
        (false, _) => " without MPTCP".to_owned(),
        (true, "") => String::new(),
        (true, congestion) => format!(", {}", clean(congestion)),
    }
}

fn server(out: &mut String, now_s: f64, link: &ServerLink, look: Look) {
    let (tint, state) = match link.state {
        ServerState::Connected => (Tint::Good, "connected"),
        ServerState::Standby => (Tint::Plain, "stands by"),
        ServerState::Connecting => (Tint::Poor, "connecting"),
        ServerState::UnknownRouter => (Tint::Bad, "does not know this router"),
        ServerState::WrongKey => (Tint::Bad, "has another key than the pairing code says"),
        ServerState::Unreachable => (Tint::Bad, "unreachable"),
        ServerState::UnresolvedName => (Tint::Bad, "its name is not found"),
        ServerState::VersionMismatch => (Tint::Bad, "speaks another version"),
        ServerState::NoWan => (Tint::Bad, "no WAN to reach it over"),
        ServerState::Off => (Tint::Faint, "off"),
        ServerState::Unknown => (Tint::Plain, "in an unknown state"),
    };
    let name = clean(&link.name);
    let since = duration(now_s - link.since_s);
    let _ = writeln!(out, "Server  {name} {}, for {since}", look.paint(tint, state));
    if !link.why.is_empty() {
        wrap(out, "        ", &clean(&link.why));
    }
    let mut facts = vec![clean(&link.endpoint)];
    facts.extend(link.rtt_ms.map(milliseconds));
    facts.push(clean(&link.cipher));
    facts.extend(link.carrier.map(|carrier| format!("over {carrier}")));
    facts.retain(|fact| !fact.is_empty());
    if !facts.is_empty() {
        wrap(out, "        ", &facts.join(", "));
    }
}

fn wans(out: &mut String, status: &Status, look: Look) {
    if status.wans.is_empty() {
        out.push_str("No WAN is configured.\n");
        return;
    }
    row(out, &COLUMNS.map(|column| (column.title.to_owned(), Tint::Faint)), look);
    for wan in &status.wans {
        row(out, &cells(wan), look);
        let mut facts: Vec<String> = Vec::new();
        facts.extend(wan.device.as_deref().map(clean));
        facts.extend(wan.addresses.iter().map(|address| clean(address)));
        facts.extend(wan.public_address.as_deref().map(|a| format!("seen as {}", clean(a))));
        let traffic = format!("{} down, {} up", Bytes(wan.rx_bytes), Bytes(wan.tx_bytes));
        facts.push(traffic.replace(' ', "\u{a0}"));
        wrap(out, "  ", &facts.join(", "));
        if let Some(line) = path_facts(wan) {
            wrap(out, "  ", &line);
        }
        if !wan.why.is_empty() {
            let age = duration(status.uptime_s - wan.since_s);
            wrap(out, "  ", &format!("{} (for {age})", clean(&wan.why)));
        }
    }
    if status.wans.len() > 1 {
        let sum = |of: fn(&WanStatus) -> u64| {
            bit_rate(status.wans.iter().map(of).fold(0, u64::saturating_add))
        };
        let mut total = [(); 8].map(|()| (String::new(), Tint::Plain));
        total[0].0 = "together".to_owned();
        total[5].0 = sum(|wan| wan.rx_bps);
        total[6].0 = sum(|wan| wan.tx_bps);
        row(out, &total, look);
    }
}

/// A diagnosis as text of at most 80 columns.
#[must_use]
pub fn render_diagnosis(diagnosis: &Diagnosis) -> String {
    let mut out = String::new();
    for finding in &diagnosis.findings {
        let mark = if finding.level == Level::Warning { "!" } else { "-" };
        wrap(
            &mut out,
            &format!("{mark} "),
            &format!("{}: {}", clean(&finding.about), clean(&finding.what)),
        );
        if !finding.advice.is_empty() {
            wrap(&mut out, "    ", &clean(&finding.advice));
        }
    }
    out
}

/// What the tunnel has found out, where there is something; and the quota.
fn path_facts(wan: &WanStatus) -> Option<String> {
    let mut facts: Vec<String> = Vec::new();
    if wan.standby && wan.state == WanState::Up {
        facts.push("stands by".to_owned());
    }
    if let Some(path) = &wan.tunnel {
        if path.state != PathState::Live {
            facts.push(format!("tunnel {}", path.state));
        }
        facts.extend(path.tx_capacity_bps.map(|bps| format!("can send {}", bit_rate(bps))));
        // Less is what any link has that is in use.
        if path.tx_queue_ms >= 20.0 {
            facts.push(format!("queue {}", milliseconds(path.tx_queue_ms)));
        }
    }
    facts.extend(
        wan.jitter_ms.filter(|ms| *ms >= 5.0).map(|ms| format!("jitter {}", milliseconds(ms))),
    );
    facts.extend(wan.quota.map(|quota| {
        let share = quota.used_bytes.saturating_mul(100) / quota.limit_bytes.max(1);
        let limit = Bytes(quota.limit_bytes);
        format!("{share} % of {limit} used this month, from day {}", quota.billing_day)
    }));
    let facts: Vec<String> = facts.iter().map(|fact| fact.replace(' ', "\u{a0}")).collect();
    (!facts.is_empty()).then(|| facts.join(", "))
}

fn cells(wan: &WanStatus) -> [(String, Tint); 8] {
    let state = match wan.state {
        WanState::Up => Tint::Good,
        WanState::Probing | WanState::Degraded => Tint::Poor,
        WanState::Down => Tint::Bad,
        WanState::Off | WanState::Paused => Tint::Faint,
        WanState::Unknown => Tint::Plain,
    };
    let mptcp = match wan.mptcp {
        MptcpState::Working => Tint::Good,
        MptcpState::Stripped | MptcpState::Unsupported => Tint::Poor,
        MptcpState::Unknown => Tint::Faint,
    };
    let dash = || "-".to_owned();
    [
        (clean(&wan.name), Tint::Plain),
        (wan.role.to_string(), Tint::Plain),
        (wan.state.to_string(), state),
        (wan.rtt_ms.map_or_else(dash, milliseconds), Tint::Plain),
        (wan.loss_percent.map_or_else(dash, |loss| format!("{loss:.1} %")), Tint::Plain),
        (bit_rate(wan.rx_bps), Tint::Plain),
        (bit_rate(wan.tx_bps), Tint::Plain),
        (wan.mptcp.to_string(), mptcp),
    ]
}

fn flows(out: &mut String, status: &Status) {
    let flows = &status.flows;
    let ways = &flows.by_way;
    let by_way = [
        ("mptcp", ways.mptcp),
        ("plain tcp", ways.tcp),
        ("stream", ways.stream),
        ("packet", ways.packet),
        ("direct", ways.direct),
    ];
    let ends = [
        ("refused", flows.refused_total),
        ("unreachable", flows.unreachable_total),
        ("timed out", flows.timed_out_total),
        ("reset", flows.reset_total),
        ("retried", flows.retried_total),
        ("handed over", flows.handed_over_total),
    ];
    let mut text = format!("{} open, {} in all", flows.active, flows.total);
    if let Some(ways) = counts(&by_way) {
        let _ = write!(text, " ({ways})");
    }
    if let Some(ends) = counts(&ends) {
        let _ = write!(text, "; {ends}");
    }
    wrap(out, "Flows   ", &text);
    if !status.streams_why.is_empty() {
        wrap(out, "        ", &format!("as streams of the tunnel: {}", clean(&status.streams_why)));
    }
}

/// Those that are not nought, as `3 refused, 1 reset`; none if all are.
fn counts(named: &[(&str, u64)]) -> Option<String> {
    let texts: Vec<_> =
        named.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{n} {name}")).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn events(out: &mut String, status: &Status, look: Look) {
    let latest = &status.events[status.events.len().saturating_sub(EVENTS)..];
    if latest.is_empty() {
        return;
    }
    out.push_str("\nOf late\n");
    for event in latest {
        let age = duration(status.uptime_s - event.at_s);
        let mut text = String::new();
        wrap(&mut text, &format!("{age:>12} ago  "), &sentence(event));
        let tint = if event.level == Level::Warning { Tint::Poor } else { Tint::Plain };
        let _ = writeln!(out, "{}", look.paint(tint, text.trim_end_matches('\n')));
    }
}

fn sentence(event: &Event) -> String {
    match event.wan.as_ref().or(event.server.as_ref()) {
        Some(about) => format!("{}: {}", clean(about), clean(&event.message)),
        None => clean(&event.message),
    }
}

fn row(out: &mut String, cells: &[(String, Tint); 8], look: Look) {
    let mut line = String::new();
    for (column, (text, tint)) in COLUMNS.iter().zip(cells) {
        let text = shorten(text, column.width);
        let gap = " ".repeat(column.width - text.chars().count());
        // Padding stands outside the colour codes, which have no width.
        let text = look.paint(*tint, &text);
        let cell = if column.right { gap + &text } else { text + &gap };
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&cell);
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// Text that can't steer the terminal, whoever wrote it.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Appends `head` and `text` in lines of at most 80 columns, all but the first indented by the
/// width of `head`. No line is broken at a no-break space.
pub(super) fn wrap(out: &mut String, head: &str, text: &str) {
    let indent = " ".repeat(head.chars().count());
    let mut line = head.to_owned();
    let mut fresh = true;
    for word in text.split(' ') {
        let length = line.chars().count() + usize::from(!fresh) + word.chars().count();
        if length > WIDTH && !fresh {
            end_line(out, &line);
            line.clone_from(&indent);
            fresh = true;
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    end_line(out, &line);
}

fn end_line(out: &mut String, line: &str) {
    out.push_str(&line.trim_end().replace('\u{a0}', " "));
    out.push('\n');
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
