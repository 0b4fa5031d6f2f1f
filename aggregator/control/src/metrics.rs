//! The statuses as Prometheus text (exposition format 0.0.4).
//!
//! Names follow <https://prometheus.io/docs/practices/naming>: base units (seconds, bytes, ratios),
//! `_total` on what only grows. A state is a family with one series per state, 1 for the present
//! one, so that alerts need no numbers for words.

use std::fmt::Write as _;

use crate::server::{RouterStatus, ServerStatus};
use crate::status::{Status, WanStatus};
use crate::words::{MptcpState, ServerState, WanState};

/// The MIME type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes families of metrics.
struct Page(String);

/// Labels and value of one series.
type Series<'a> = (Vec<(&'a str, &'a str)>, f64);

impl Page {
    fn family<'a>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        series: impl IntoIterator<Item = Series<'a>>,
    ) {
        let mut head = true;
        for (labels, value) in series {
            if std::mem::take(&mut head) {
                let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
            }
            self.0.push_str(name);
            for (n, (label, text)) in labels.iter().enumerate() {
                self.0.push(if n == 0 { '{' } else { ',' });
                let _ = write!(self.0, "{label}=\"{}\"", escape(text));
            }
            if !labels.is_empty() {
                self.0.push('}');
            }
            let _ = writeln!(self.0, " {value}");
        }
    }

    fn gauge<'a>(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = Series<'a>>) {
        self.family(name, "gauge", help, series);
    }

    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = Series<'a>>,
    ) {
        self.family(name, "counter", help, series);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn one<'a>(value: f64) -> [Series<'a>; 1] {
    [(Vec::new(), value)]
}

fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows floating point only")]
fn float(count: u64) -> f64 {
    count as f64
}

/// A router's metrics.
#[must_use]
pub fn router(status: &Status) -> String {
    let mut page = Page(String::new());
    let info = vec![("version", status.version.as_str()), ("kernel", status.kernel.as_str())];
    page.gauge("wanbond_info", "The daemon and its kernel.", [(info, 1.0)]);
    page.gauge("wanbond_uptime_seconds", "Since the daemon's start.", one(status.uptime_s));
    let server = status.server.iter().flat_map(|server| {
        ServerState::ALL.iter().map(move |state| {
            let labels = vec![("server", server.name.as_str()), ("state", state.as_str())];
            (labels, flag(*state == server.state))
        })
    });
    page.gauge("wanbond_server_state", "How the router stands with its server.", server);
    wans(&mut page, &status.wans);
    let lanes = &status.lanes;
    for (name, help, value) in [
        ("wanbond_lanes_idle", "Lanes that wait for a flow.", lanes.idle),
        ("wanbond_lanes_busy", "Lanes that carry a flow.", lanes.busy),
        ("wanbond_flows_active", "The LAN's TCP flows that are open.", status.flows.active),
    ] {
        page.gauge(name, help, one(f64::from(value)));
    }
    let ways = &status.flows.by_way;
    let by_way = [
        ("mptcp", ways.mptcp),
        ("tcp", ways.tcp),
        ("stream", ways.stream),
        ("packet", ways.packet),
        ("direct", ways.direct),
    ];
    page.counter(
        "wanbond_flows_total",
        "The LAN's TCP flows by the way they went.",
        by_way.map(|(way, count)| (vec![("way", way)], float(count))),
    );
    let flows = &status.flows;
    let ends = [
        ("refused", flows.refused_total),
        ("unreachable", flows.unreachable_total),
        ("timed_out", flows.timed_out_total),
        ("reset", flows.reset_total),
        ("retried", flows.retried_total),
        ("handed_over", flows.handed_over_total),
    ];
    page.counter(
        "wanbond_flow_troubles_total",
        "Flows that were refused, cut or opened again, by what happened.",
        ends.map(|(what, count)| (vec![("what", what)], float(count))),
    );
    if let Some(tunnel) = &status.tunnel {
        page.gauge("wanbond_tunnel_live", "Some WAN carries the tunnel.", one(flag(tunnel.live)));
        let fates = [
            ("sent", tunnel.tx_packets_total),
            ("received", tunnel.rx_packets_total),
            ("dropped", tunnel.dropped_total),
            ("repaired", tunnel.repaired_total),
            ("duplicated", tunnel.duplicated_total),
            ("parities", tunnel.parities_total),
            ("recovered", tunnel.recovered_total),
            ("late", tunnel.late_total),
            ("given_up", tunnel.given_up_total),
        ];
        page.counter(
            "wanbond_tunnel_packets_total",
            "The tunnel's packets by what became of them.",
            fates.map(|(fate, count)| (vec![("fate", fate)], float(count))),
        );
    }
    page.0
}

fn wans(page: &mut Page, wans: &[WanStatus]) {
    let states = wans.iter().flat_map(|wan| {
        WanState::ALL.iter().map(move |state| {
            let labels = vec![("wan", wan.name.as_str()), ("state", state.as_str())];
            (labels, flag(*state == wan.state))
        })
    });
    page.gauge("wanbond_wan_state", "What the WAN is able to do.", states);
    let roles =
        wans.iter().map(|wan| (vec![("wan", wan.name.as_str()), ("role", wan.role.as_str())], 1.0));
    page.gauge("wanbond_wan_role", "What the WAN is for.", roles);
    let mptcp = wans
        .iter()
        .map(|wan| (vec![("wan", wan.name.as_str())], flag(wan.mptcp == MptcpState::Working)));
    page.gauge("wanbond_wan_mptcp", "MPTCP gets through over the WAN.", mptcp);
    let mut gauge = |name: &str, help: &str, of: &dyn Fn(&WanStatus) -> Option<f64>| {
        let series = wans
            .iter()
            .filter_map(|wan| Some((vec![("wan", wan.name.as_str())], of(wan)?)))
            .collect::<Vec<_>>();
        page.gauge(name, help, series);
    };
    let path = |wan: &WanStatus, of: fn(&crate::status::PathStatus) -> Option<f64>| {
        wan.tunnel.as_ref().and_then(of)
    };
    gauge("wanbond_wan_rtt_seconds", "Smoothed round trip to the server.", &|wan| {
        wan.rtt_ms.map(|ms| ms / 1e3)
    });
    gauge("wanbond_wan_jitter_seconds", "Variation of the round trip.", &|wan| {
        wan.jitter_ms.map(|ms| ms / 1e3)
    });
    gauge("wanbond_wan_loss_ratio", "Packets lost of late.", &|wan| {
        wan.loss_percent.map(|percent| percent / 100.0)
    });
    gauge("wanbond_wan_lanes", "Lanes with a subflow over the WAN.", &|wan| {
        Some(f64::from(wan.lanes))
    });
    gauge("wanbond_wan_flaps", "How often in short order it went away.", &|wan| {
        Some(f64::from(wan.flaps))
    });
    gauge("wanbond_wan_tx_capacity_bits_per_second", "What it can send, as measured.", &|wan| {
        path(wan, |path| path.tx_capacity_bps.map(float))
    });
    gauge("wanbond_wan_tx_queue_seconds", "Wait in the WAN's queue.", &|wan| {
        path(wan, |path| Some(path.tx_queue_ms / 1e3))
    });
    gauge("wanbond_wan_quota_bytes", "What it may carry in a month.", &|wan| {
        wan.quota.map(|quota| float(quota.limit_bytes))
    });
    gauge("wanbond_wan_quota_used_bytes", "What it has carried this month.", &|wan| {
        wan.quota.map(|quota| float(quota.used_bytes))
    });
    for (name, help, of) in [
        (
            "wanbond_wan_received_bytes_total",
            "Bytes in since the daemon's start.",
            (|wan| wan.rx_bytes) as fn(&WanStatus) -> u64,
        ),
        ("wanbond_wan_sent_bytes_total", "Bytes out since the daemon's start.", |wan| wan.tx_bytes),
    ] {
        let series = wans.iter().map(|wan| (vec![("wan", wan.name.as_str())], float(of(wan))));
        page.counter(name, help, series);
    }
}

/// A server's metrics.
#[must_use]
pub fn server(status: &ServerStatus) -> String {
    let mut page = Page(String::new());
    let info = vec![("version", status.version.as_str()), ("kernel", status.kernel.as_str())];
    page.gauge("wanbond_server_info", "The daemon and its kernel.", [(info, 1.0)]);
    page.gauge("wanbond_server_uptime_seconds", "Since the daemon's start.", one(status.uptime_s));
    let flows = &status.flows;
    page.gauge("wanbond_server_flows", "Flows open now.", one(f64::from(flows.active)));
    page.counter("wanbond_server_flows_total", "Flows since the start.", one(float(flows.total)));
    let ends = [
        ("refused", flows.refused_total),
        ("unreachable", flows.unreachable_total),
        ("timed_out", flows.timed_out_total),
        ("reset", flows.reset_total),
    ];
    page.counter(
        "wanbond_server_flows_failed_total",
        "Flows that did not end well.",
        ends.map(|(reason, count)| (vec![("reason", reason)], float(count))),
    );
    page.counter(
        "wanbond_server_refusals_total",
        "What limits and rules refused.",
        status
            .refusals
            .iter()
            .map(|(reason, count)| (vec![("reason", reason.as_str())], float(*count))),
    );
    routers(&mut page, &status.routers);
    page.0
}

fn routers(page: &mut Page, routers: &[RouterStatus]) {
    type Figure = fn(&RouterStatus) -> Option<f64>;
    let figures: [(&str, &str, &str, Figure); 10] = [
        ("connected", "gauge", "Whether it has a live session.", |r| Some(flag(r.connected))),
        ("addresses", "gauge", "Public addresses it comes from.", |r| {
            Some(float(r.addresses.len() as u64))
        }),
        ("lanes", "gauge", "Its lanes open now.", |r| Some(f64::from(r.lanes))),
        ("flows", "gauge", "Its flows open now.", |r| Some(f64::from(r.flows))),
        ("flows_total", "counter", "Its flows since the start.", |r| Some(float(r.flows_total))),
        ("received_bytes_total", "counter", "From it, since the start.", |r| {
            Some(float(r.rx_bytes))
        }),
        ("sent_bytes_total", "counter", "To it, since the start.", |r| Some(float(r.tx_bytes))),
        ("month_received_bytes", "gauge", "From it, this month.", |r| {
            Some(float(r.month_rx_bytes))
        }),
        ("month_sent_bytes", "gauge", "To it, this month.", |r| Some(float(r.month_tx_bytes))),
        ("month_limit_bytes", "gauge", "What it may move in a month.", |r| {
            r.month_limit_bytes.map(float)
        }),
    ];
    for (name, kind, help, figure) in figures {
        let values =
            routers.iter().filter_map(|r| Some((vec![("router", r.name.as_str())], figure(r)?)));
        page.family(&format!("wanbond_server_router_{name}"), kind, help, values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PathStatus;

    #[test]
    fn a_routers_text() {
        let wan = WanStatus {
            name: "the \"fast\" one".into(),
            state: WanState::Up,
            rtt_ms: Some(12.5),
            rx_bytes: 7,
            tunnel: Some(PathStatus { tx_capacity_bps: Some(8_000_000), ..PathStatus::default() }),
            ..WanStatus::default()
        };
        let status = Status { version: "1".into(), wans: vec![wan], ..Status::default() };
        let text = router(&status);
        for line in [
            "# TYPE wanbond_wan_state gauge",
            r#"wanbond_wan_state{wan="the \"fast\" one",state="up"} 1"#,
            r#"wanbond_wan_state{wan="the \"fast\" one",state="down"} 0"#,
            r#"wanbond_wan_rtt_seconds{wan="the \"fast\" one"} 0.0125"#,
            "# TYPE wanbond_wan_received_bytes_total counter",
            r#"wanbond_wan_received_bytes_total{wan="the \"fast\" one"} 7"#,
            r#"wanbond_wan_tx_capacity_bits_per_second{wan="the \"fast\" one"} 8000000"#,
            r#"wanbond_flows_total{way="mptcp"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
        // What is not known has no series, and a family without series no head.
        assert!(!text.contains("wanbond_wan_loss_ratio") && !text.contains("wanbond_tunnel"));
        sound(&text);
    }

    #[test]
    fn a_servers_text() {
        let mut status = ServerStatus {
            routers: vec![RouterStatus { name: "home".into(), ..RouterStatus::default() }],
            ..ServerStatus::default()
        };
        status.refusals.insert("flow_limit".into(), 3);
        let text = server(&status);
        assert!(text.contains("wanbond_server_router_connected{router=\"home\"} 0\n"), "{text}");
        assert!(text.contains("wanbond_server_refusals_total{reason=\"flow_limit\"} 3\n"));
        sound(&text);
    }

    /// Every line is a comment or a series, and each family stands together, once.
    fn sound(text: &str) {
        let mut seen = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap().to_owned();
                assert!(!seen.contains(&name), "{name} twice");
                seen.push(name);
            } else if !line.starts_with("# HELP ") {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(seen.last().map(String::as_str), Some(name), "{line}");
                let (_, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
            }
        }
    }
}
