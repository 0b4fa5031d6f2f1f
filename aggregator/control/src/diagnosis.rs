//! What is wrong or slow, and what to do about it, in words.
//!
//! [`diagnose`] draws its conclusions from the status document and a few facts beside it; it measures
//! nothing itself, so that the same rules serve the daemon, tests and documents from elsewhere.

use serde::{Deserialize, Serialize};

use crate::status::{Status, WanStatus};
use crate::units::{Bytes, bit_rate, milliseconds};
use crate::words::{Level, MptcpState, ServerState, WanState};

/// Loss from which TCP suffers visibly, percent.
const SOME_LOSS: f64 = 1.0;
const MUCH_LOSS: f64 = 5.0;
/// What waits longer than this in a queue is felt in calls and games, milliseconds.
const LONG_QUEUE_MS: f64 = 100.0;
/// A processor with less to spare than this holds traffic up, percent.
const FULL_CPU: u8 = 90;
/// A WAN this much slower to answer than the best, and than this, helps single connections little.
const FAR_FACTOR: f64 = 6.0;
const FAR_MS: f64 = 250.0;
/// What the tunnel begins with, before it has tried what passes: IPv6 asks every link for packets of
/// 1280 bytes (RFC 8200 §5), 1232 of UDP payload.
const UNTRIED_DATAGRAM: u32 = 1232;
/// The tunnel's packets are of up to this many bytes; in smaller datagrams they don't go in one piece.
const WHOLE_PACKET: u32 = 1400;
/// IPv6 and UDP headers, and what the search for the size leaves open, bytes.
const MOST_HEADERS: u32 = 48 + 8;
/// Share of the time in which a window, not a line, held sending up.
const WINDOW_SHARE: u8 = 30;

/// A single connection is slow where it would need more of a window than this share of what there is,
/// percent.
const MUCH_OF_WINDOW: u64 = 80;

/// What is beside the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// How busy the router's processor was of late, percent; none if not known.
    pub cpu_percent: Option<u8>,
    /// Whether the system's clock shows a year that can be right.
    pub clock_is_set: bool,
    /// The share of the time with something to send in which lanes waited for the server's receive
    /// window, percent; none while nothing was sent.
    pub window_limited_percent: Option<u8>,
    /// How busy the server says that its processor is, percent; none while it has enough to spare.
    pub server_cpu_percent: Option<u8>,
    /// The largest window of a TCP connection that the router receives by, bytes; none if not known.
    pub receive_window: Option<u64>,
    /// WANs over which somebody else answers in the server's place.
    pub portals: Vec<Portal>,
    /// Whether the name server that the router's programs ask answers; none if that was not tried.
    pub names_answered: Option<bool>,
}

/// A captive portal: a network that wants a login before it lets anything through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portal {
    /// The WAN.
    pub wan: String,
    /// Where to log in; empty where that is not told.
    pub login: String,
}

/// The findings, the gravest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Diagnosis {
    /// Never empty: that all is well is a finding too.
    pub findings: Vec<Finding>,
}

/// One thing found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// A warning is something to be mended.
    pub level: Level,
    /// What it is about: `router`, `server`, or a WAN's name.
    pub about: String,
    /// What is the case.
    pub what: String,
    /// What to do; empty where there is nothing to do.
    pub advice: String,
}

/// Collects findings.
struct Report(Vec<Finding>);

impl Report {
    fn warn(&mut self, about: &str, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Level::Warning, about, what.into(), advice.into());
    }

    fn note(&mut self, about: &str, what: impl Into<String>, advice: impl Into<String>) {
        self.add(Level::Info, about, what.into(), advice.into());
    }

    fn add(&mut self, level: Level, about: &str, what: String, advice: String) {
        self.0.push(Finding { level, about: about.to_owned(), what, advice });
    }
}

/// Says what is wrong or slow.
#[must_use]
pub fn diagnose(status: &Status, beside: &Surroundings) -> Diagnosis {
    let mut report = Report(Vec::new());
    if !status.problem.is_empty() {
        report.warn(
            "router",
            format!("its configuration is wrong and not in use: {}", status.problem),
            "correct it and reload; 'wanbond check' explains what the file means",
        );
    } else if !status.enabled {
        report.warn(
            "router",
            "wanbond is switched off by its configuration",
            "set option enabled '1' in the globals section and reload",
        );
    }
    if !status.enabled {
        return Diagnosis { findings: report.0 };
    }
    server(&mut report, status);
    let best = status.wans.iter().filter_map(|wan| wan.rtt_min_ms).min_by(f64::total_cmp);
    for wan in &status.wans {
        let portal = beside.portals.iter().find(|portal| portal.wan == wan.name);
        diagnose_wan(&mut report, wan, best, portal, port(status));
    }
    together(&mut report, status, beside);
    router(&mut report, status, beside);
    // Stable, so that each kind stays in order.
    report.0.sort_by_key(|finding| finding.level != Level::Warning);
    if report.0.iter().all(|finding| finding.level != Level::Warning) {
        report.0.insert(
            0,
            Finding {
                level: Level::Info,
                about: "router".to_owned(),
                what: "nothing is wrong as far as can be seen from here".to_owned(),
                advice: String::new(),
            },
        );
    }
    Diagnosis { findings: report.0 }
}

fn server(report: &mut Report, status: &Status) {
    let Some(server) = &status.server else {
        report.warn("server", "no server is configured", "run 'wanbond-server router add NAME' on the VPS and paste what it prints into a server section");
        return;
    };
    let why = if server.why.is_empty() { String::new() } else { format!(": {}", server.why) };
    let any_link = status.wans.iter().any(|wan| !wan.addresses.is_empty());
    let advice = match server.state {
        ServerState::Connected | ServerState::Standby | ServerState::Unknown => return,
        ServerState::UnknownRouter => {
            "the router was removed there, or the code is another server's: run 'wanbond-server router add NAME' and paste the new code"
        }
        ServerState::WrongKey => "the VPS was set up anew: paste a new code",
        ServerState::UnresolvedName => {
            "look whether DNS works on the router ('nslookup NAME'), or pair with the server's address instead of a name"
        }
        ServerState::VersionMismatch => "bring router and server to the same version",
        ServerState::NoWan
        | ServerState::Connecting
        | ServerState::Unreachable
        | ServerState::Off
            if !any_link =>
        {
            "no WAN has an address: see the WANs below"
        }
        _ => {
            "look whether the VPS runs ('wanbond-server status' there), and whether its firewall and its provider let port 65101 through, TCP and UDP"
        }
    };
    report.warn(
        "server",
        format!("it is {}{why}", server.state.as_str().replace('_', " ")),
        advice,
    );
}

/// The server's port, as its endpoint ends with it.
fn port(status: &Status) -> &str {
    let server = status.server.as_ref();
    server.and_then(|server| server.endpoint.rsplit_once(':')).map_or("65101", |(_, port)| port)
}

fn diagnose_wan(
    report: &mut Report,
    wan: &WanStatus,
    best_rtt_ms: Option<f64>,
    portal: Option<&Portal>,
    port: &str,
) {
    let name = wan.name.as_str();
    match wan.state {
        WanState::Off | WanState::Paused => {
            let what = if wan.state == WanState::Off {
                "it is switched off by its role"
            } else {
                "it is paused"
            };
            report.note(name, what, format!("'wanbond wan {name} up' switches it on"));
            return;
        }
        WanState::Down | WanState::Probing if wan.addresses.is_empty() => {
            report.warn(name, wan.why.as_str(), "look at its cable or modem, at what the provider wants (VLAN, PPPoE name, APN), and whether its interface is up ('ifstatus', 'ip address')");
            return;
        }
        WanState::Down | WanState::Probing => {
            if let Some(portal) = portal {
                let place = match portal.login.as_str() {
                    "" => "open any page over this WAN alone".to_owned(),
                    login => format!("open {login} over this WAN alone"),
                };
                report.warn(
                    name,
                    "a captive portal is in the way: the network answers in the server's place",
                    format!(
                        "{place} and log in; wanbond uses the WAN once it lets traffic through"
                    ),
                );
                return;
            }
            report.warn(name, wan.why.as_str(), format!("it has an address, so the fault lies further on: the line or the provider is down, or a firewall stops port {port}"));
            return;
        }
        WanState::Up | WanState::Degraded | WanState::Unknown => {}
    }
    if wan.flaps > 0 {
        report.warn(name, format!("it has gone away {} times in short order", wan.flaps + 1), "look at its cable, its reception, or the modem's log; role backup keeps it out of the way meanwhile");
    }
    if wan.udp_blocked {
        report.warn(
            name,
            format!("UDP to the server's port {port} is blocked on its way: the tunnel goes over TCP here, where a lost packet holds up those behind it"),
            "ask the provider, or move the server to another port, such as 443",
        );
    }
    if wan.mptcp == MptcpState::Stripped {
        report.note(name, format!("something on its way removes MPTCP from connections to port {port}"), "nothing has to be done: TCP goes through the tunnel instead; another port of the server may pass");
    }
    if let Some(loss) = wan.loss_percent.filter(|loss| *loss >= SOME_LOSS) {
        let what = format!("{loss:.1} % of its packets are lost");
        let advice =
            "look at its reception or cable; in use, a too short queue loses packets as well";
        if loss >= MUCH_LOSS {
            report.warn(name, what, advice);
        } else {
            report.note(name, what, advice);
        }
    }
    if let (Some(now), Some(least)) = (wan.rtt_ms, wan.rtt_min_ms)
        && now - least >= LONG_QUEUE_MS
    {
        let what = format!("packets wait {} in its queue", milliseconds(now - least));
        report.warn(name, what, "something fills it: look for uploads that do not go through wanbond, or limit the modem's queue (SQM)");
    }
    if let (Some(least), Some(best)) = (wan.rtt_min_ms, best_rtt_ms)
        && least >= FAR_MS
        && least >= FAR_FACTOR * best
    {
        let what = format!(
            "it answers after {}, the best WAN after {}",
            milliseconds(least),
            milliseconds(best)
        );
        report.note(name, what, "single connections gain little from it; role overflow uses it when the others are full");
    }
    if let (Some(path), Some(mtu)) = (&wan.tunnel, wan.mtu)
        && path.datagram > UNTRIED_DATAGRAM
        && path.datagram < WHOLE_PACKET.min(mtu.saturating_sub(MOST_HEADERS))
        && !wan.udp_blocked
    {
        let what = format!("only datagrams of up to {} bytes pass", path.datagram);
        report.note(name, what, "packets are split to fit; a wrong MTU on the modem or a tunnel on the way is the usual cause");
    }
    if let Some(quota) = wan.quota {
        let limit = Bytes(quota.limit_bytes);
        let share = quota.used_bytes.saturating_mul(100) / quota.limit_bytes.max(1);
        if quota.exhausted {
            report.warn(
                name,
                format!("its quota of {limit} is used up: it helps in an emergency only"),
                format!(
                    "it begins anew on day {} of the month; a larger one is set by option quota",
                    quota.billing_day
                ),
            );
        } else if share >= 75 {
            report.note(name, format!("{share} % of its {limit} are used"), String::new());
        }
    }
}

/// What no WAN has to answer for alone.
fn together(report: &mut Report, status: &Status, beside: &Surroundings) {
    let up: Vec<&WanStatus> = status.wans.iter().filter(|wan| wan.state == WanState::Up).collect();
    if status.wans.is_empty() {
        report.warn("router", "no WAN is configured", "add a wan section for each link");
    } else if status.wans.len() == 1 {
        report.note("router", "there is one WAN only: nothing to bond", String::new());
    } else if up.len() == 1 {
        report.note(
            "router",
            format!("{} alone carries everything at the moment", up[0].name),
            String::new(),
        );
    }
    if !status.streams_why.is_empty() {
        report.note(
            "router",
            format!("TCP goes through the tunnel: {}", status.streams_why),
            String::new(),
        );
    }
    let capacity: u64 = up.iter().map(|wan| wan.rx_peak_bps).sum();
    let longest = up.iter().filter_map(|wan| wan.rtt_min_ms).fold(0.0, f64::max);
    if let Some(window) = beside.receive_window {
        let needed = (capacity as f64 / 8.0 * longest / 1000.0) as u64;
        if needed > window / 100 * MUCH_OF_WINDOW {
            report.note(
                "router",
                format!(
                    "a single download is held up by the router's receive window of {}",
                    Bytes(window)
                ),
                "raise the last figure of net.ipv4.tcp_rmem on the router, if it has the memory",
            );
        }
    }
    if capacity > 0 && up.len() > 1 {
        report.note(
            "router",
            format!(
                "the most seen in the last ten minutes: {} down over all WANs",
                bit_rate(capacity)
            ),
            String::new(),
        );
    }
}

fn router(report: &mut Report, status: &Status, beside: &Surroundings) {
    if let Some(busy) = beside.cpu_percent.filter(|busy| *busy >= FULL_CPU) {
        report.warn(
            "router",
            format!("its processor is {busy} % busy: it holds traffic up"),
            "see what runs ('top'); a faster router, or one with AES instructions, bonds more",
        );
    }
    if let Some(busy) = beside.server_cpu_percent.filter(|busy| *busy >= FULL_CPU) {
        report.warn(
            "server",
            format!("its processor is {busy} % busy: it holds traffic up"),
            "see what runs there ('top'); a VPS with more or faster processors serves more",
        );
    }
    if beside.names_answered == Some(false) {
        report.warn(
            "router",
            "names can't be looked up: the name server that the router asks does not answer",
            "look at /etc/resolv.conf and whether dnsmasq runs; 'option dns' says whether questions go through the bond",
        );
    }
    if !beside.clock_is_set {
        report.note(
            "router",
            "its clock is not set",
            "wanbond does not need it, but quotas' months and certificates do: let NTP run",
        );
    }
    if beside.window_limited_percent.is_some_and(|share| share >= WINDOW_SHARE) {
        report.note(
            "router",
            "uploads wait for the server's receive window",
            "raise net.ipv4.tcp_rmem on the server, if it has the memory",
        );
    }
    if !status.mptcp.supported {
        report.note("router", "this kernel has no MPTCP, or net.mptcp.enabled is 0", "OpenWrt 24.10 and newer have it on all but small-flash targets; TCP goes through the tunnel meanwhile");
    } else if status.mptcp.congestion != "bbr" {
        report.note(
            "router",
            format!("lanes use {} congestion control", status.mptcp.congestion),
            "install kmod-tcp-bbr: lines that lose packets are used far better with BBR",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{MptcpSupport, PathStatus, QuotaStatus, ServerLink};

    const FINE: Surroundings = Surroundings {
        cpu_percent: Some(20),
        clock_is_set: true,
        window_limited_percent: None,
        server_cpu_percent: None,
        receive_window: Some(3 << 20),
        portals: Vec::new(),
        names_answered: Some(true),
    };

    fn wan(name: &str) -> WanStatus {
        WanStatus {
            name: name.into(),
            state: WanState::Up,
            addresses: vec!["192.0.2.1".into()],
            rtt_ms: Some(20.0),
            rtt_min_ms: Some(18.0),
            loss_percent: Some(0.0),
            mptcp: MptcpState::Working,
            mtu: Some(1500),
            tunnel: Some(PathStatus { datagram: 1452, ..PathStatus::default() }),
            ..WanStatus::default()
        }
    }

    fn healthy() -> Status {
        Status {
            enabled: true,
            mptcp: MptcpSupport { supported: true, congestion: "bbr".into() },
            server: Some(ServerLink { state: ServerState::Connected, ..ServerLink::default() }),
            wans: vec![wan("fibre"), wan("lte")],
            ..Status::default()
        }
    }

    fn warnings(status: &Status, beside: &Surroundings) -> Vec<String> {
        let findings = diagnose(status, beside).findings;
        let grave = findings.iter().take_while(|finding| finding.level == Level::Warning);
        grave.map(|f| format!("{}: {} ({})", f.about, f.what, f.advice)).collect()
    }

    #[test]
    fn a_healthy_router_is_told_so() {
        let findings = diagnose(&healthy(), &FINE).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].what.contains("nothing is wrong"));
    }

    #[test]
    fn each_trouble_is_named_with_what_to_do() {
        type Change = fn(&mut Status);
        let cases: [(Change, &str); 12] = [
            (|s| s.enabled = false, "router: wanbond is switched off"),
            (
                |s| s.problem = "wanbond:3: what".into(),
                "router: its configuration is wrong and not in use: wanbond:3",
            ),
            (|s| s.server = None, "server: no server is configured"),
            (
                |s| s.server.as_mut().unwrap().state = ServerState::Unreachable,
                "server: it is unreachable",
            ),
            (
                |s| s.server.as_mut().unwrap().state = ServerState::UnknownRouter,
                "server: it is unknown router",
            ),
            (
                |s| {
                    s.wans[1].state = WanState::Down;
                    s.wans[1].addresses.clear();
                    s.wans[1].why = "wwan0 has no carrier".into();
                },
                "lte: wwan0 has no carrier (look at its cable",
            ),
            (
                |s| {
                    s.wans[1].state = WanState::Down;
                    s.wans[1].why = "silent".into();
                },
                "lte: silent (it has an address",
            ),
            (|s| s.wans[1].flaps = 2, "lte: it has gone away 3 times"),
            (|s| s.wans[0].udp_blocked = true, "fibre: UDP to the server's port 65101 is blocked"),
            (|s| s.wans[0].loss_percent = Some(7.0), "fibre: 7.0 % of its packets are lost"),
            (|s| s.wans[0].rtt_ms = Some(400.0), "fibre: packets wait 382 ms in its queue"),
            (
                |s| {
                    s.wans[1].quota = Some(QuotaStatus {
                        limit_bytes: 10,
                        used_bytes: 10,
                        billing_day: 3,
                        exhausted: true,
                    });
                },
                "lte: its quota of 10 B is used up",
            ),
        ];
        for (change, expected) in cases {
            let mut status = healthy();
            change(&mut status);
            let found = warnings(&status, &FINE);
            assert_eq!(found.len(), 1, "{expected}: {found:?}");
            assert!(found[0].starts_with(expected), "{found:?} instead of {expected}");
            assert!(!found[0].ends_with("()"), "no advice: {found:?}");
        }
        let full = Surroundings { cpu_percent: Some(99), ..FINE };
        assert!(warnings(&healthy(), &full)[0].contains("99 % busy"));
        let full = Surroundings { server_cpu_percent: Some(97), ..FINE };
        assert!(warnings(&healthy(), &full)[0].starts_with("server: its processor is 97 % busy"));
        let mute = Surroundings { names_answered: Some(false), ..FINE };
        assert!(warnings(&healthy(), &mute)[0].starts_with("router: names can't be looked up"));
    }

    #[test]
    fn datagrams_that_do_not_pass_though_the_link_takes_them_are_noted() {
        let noted = |mtu: u32, datagram: u32| {
            let mut status = healthy();
            status.wans[0].mtu = Some(mtu);
            status.wans[0].tunnel = Some(PathStatus { datagram, ..PathStatus::default() });
            let findings = diagnose(&status, &FINE).findings;
            findings.iter().any(|finding| finding.what.contains("only datagrams of up to"))
        };
        assert!(noted(1500, 1300));
        // Not tried yet; enough for a whole packet; as small as the link.
        assert!(!noted(1500, 1232) && !noted(1500, 1472) && !noted(1358, 1310));
    }

    #[test]
    fn a_portal_is_named_with_its_login_page() {
        let mut status = healthy();
        status.wans[1].state = WanState::Down;
        status.wans[1].why = "silent".into();
        let portal = |login: &str| Surroundings {
            portals: vec![Portal { wan: "lte".into(), login: login.into() }],
            ..FINE
        };
        let found = warnings(&status, &portal("http://login.hotel/"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("lte: a captive portal is in the way"), "{found:?}");
        assert!(found[0].contains("(open http://login.hotel/ over this WAN alone"), "{found:?}");
        assert!(warnings(&status, &portal(""))[0].contains("(open any page over"));
        // One that has let the server through since is none.
        assert_eq!(warnings(&healthy(), &portal("")), Vec::<String>::new());
    }

    #[test]
    fn a_small_window_is_told_of_where_it_is_felt() {
        let mut status = healthy();
        status.wans[0].rx_peak_bps = 400_000_000;
        status.wans[1].rtt_min_ms = Some(60.0);
        let of = |window| {
            let beside = Surroundings { receive_window: Some(window), ..FINE };
            let findings = diagnose(&status, &beside).findings;
            findings.iter().any(|finding| finding.what.contains("receive window"))
        };
        // 400 Mbit/s over 60 ms: 3 MB.
        assert!(of(2_000_000) && of(3_500_000) && !of(4_000_000));
    }

    #[test]
    fn notes_come_after_warnings() {
        let mut status = healthy();
        status.wans[0].mptcp = MptcpState::Stripped;
        status.wans[0].tunnel.as_mut().unwrap().datagram = 1300;
        status.wans[1].rtt_min_ms = Some(600.0);
        status.wans[1].rtt_ms = Some(610.0);
        status.wans[1].udp_blocked = true;
        let beside = Surroundings { clock_is_set: false, window_limited_percent: Some(60), ..FINE };
        let findings = diagnose(&status, &beside).findings;
        let levels: Vec<_> = findings.iter().map(|f| f.level == Level::Warning).collect();
        assert_eq!(levels, [true, false, false, false, false, false], "{findings:?}");
        for word in ["removes MPTCP", "1300 bytes", "after 600 ms", "clock", "receive window"] {
            assert!(findings.iter().any(|f| f.what.contains(word)), "{word}: {findings:?}");
        }
    }
}
