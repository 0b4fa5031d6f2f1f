use wanbond_control::status::{Flows, FlowsByWay, LanePool, MptcpSupport};
use wanbond_control::{Carrier, EventKind, Role};

use super::*;

fn status() -> Status {
    let mut status = Status {
        version: "0.1.0".into(),
        uptime_s: 7392.4,
        kernel: "6.12.51".into(),
        enabled: true,
        mptcp: MptcpSupport { supported: true, congestion: "bbr".into() },
        server: Some(ServerLink {
            name: "vps".into(),
            endpoint: "198.51.100.7:65101".into(),
            state: ServerState::Connected,
            since_s: 3.2,
            rtt_ms: Some(23.44),
            cipher: "chacha20-poly1305".into(),
            carrier: Some(Carrier::Udp),
            ..ServerLink::default()
        }),
        lanes: LanePool {
            idle: 3,
            busy: 2,
            target: 4,
            opened_total: 41,
            reused_total: 1210,
            failed_total: 1,
        },
        flows: Flows {
            active: 2,
            total: 1251,
            by_way: FlowsByWay { mptcp: 1240, tcp: 11, ..FlowsByWay::default() },
            refused_total: 3,
            reset_total: 12,
            ..Flows::default()
        },
        ..Status::default()
    };
    status.wans = vec![
        WanStatus {
            name: "fibre".into(),
            device: Some("eth1".into()),
            state: WanState::Up,
            since_s: 2.0,
            addresses: vec!["192.0.2.17".into(), "2001:db8:1::17".into()],
            public_address: Some("203.0.113.9".into()),
            rtt_ms: Some(23.44),
            loss_percent: Some(0.0),
            rx_bps: 48_234_567,
            tx_bps: 785_000,
            rx_bytes: 5_210_000_000,
            tx_bytes: 98_000_000,
            mptcp: MptcpState::Working,
            ..WanStatus::default()
        },
        WanStatus {
            name: "lte-in-the-barn".into(),
            device: Some("wwan0".into()),
            role: Role::Overflow,
            state: WanState::Down,
            since_s: 7380.0,
            why: "the server has not answered over it for 300 ms, while it answers over fibre"
                .into(),
            addresses: vec!["10.64.0.2".into()],
            ..WanStatus::default()
        },
    ];
    status.events = vec![
        Event::new(0.0, EventKind::Started, "started"),
        Event::new(3.2, EventKind::ServerState, "connected").of_server("vps"),
        Event::new(
            7380.0,
            EventKind::WanState,
            "down: the server has not answered over it for 300 ms, while it answers over fibre",
        )
        .of_wan("lte-in-the-barn")
        .warning(),
    ];
    status
}

#[test]
fn a_whole_status() {
    let text = render(&status(), Look::default());
    let expected = "\
wanbond 0.1.0, up 2 h 03 min, kernel 6.12.51, bbr
Server  vps connected, for 2 h 03 min
        198.51.100.7:65101, 23.4 ms, chacha20-poly1305, over udp

WAN        Role     State        RTT   Loss        Down          Up MPTCP
fibre      bond     up       23.4 ms  0.0 % 48.2 Mbit/s  785 kbit/s working
  eth1, 192.0.2.17, 2001:db8:1::17, seen as 203.0.113.9,
  5.21 GB down, 98.0 MB up
lte-in-th… overflow down           -      -     0 bit/s     0 bit/s unknown
  wwan0, 10.64.0.2, 0 B down, 0 B up
  the server has not answered over it for 300 ms, while it answers over fibre
  (for 12 s)
together                                    48.2 Mbit/s  785 kbit/s

Lanes   3 idle of 4 wanted, 2 busy; 41 opened, 1210 reused, 1 failed
Flows   2 open, 1251 in all (1240 mptcp, 11 plain tcp); 3 refused, 12 reset

Of late
  2 h 03 min ago  started
  2 h 03 min ago  vps: connected
        12 s ago  lte-in-the-barn: down: the server has not answered over it for
                  300 ms, while it answers over fibre
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn every_state_fits_80_columns() {
    for state in WanState::ALL {
        for server in ServerState::ALL {
            let mut status = status();
            status.wans[0].state = *state;
            status.wans[0].rtt_ms = Some(12_345.0);
            status.wans[0].loss_percent = Some(100.0);
            status.wans[0].rx_bps = u64::MAX;
            status.wans[0].mptcp = MptcpState::Unsupported;
            let link = status.server.as_mut().unwrap();
            link.state = *server;
            link.why = "because ".repeat(30);
            for line in render(&status, Look::default()).lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }
}

#[test]
fn colours_change_nothing_but_colour() {
    let coloured = render(&status(), Look { colour: true });
    assert!(coloured.contains("\x1b[32mup\x1b[0m"));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').unwrap().1;
    }
    plain.push_str(rest);
    let lines = |text: &str| text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&plain), lines(&render(&status(), Look::default())));
}

#[test]
fn an_empty_status_and_a_hostile_one() {
    let text = render(&Status::default(), Look::default());
    assert!(text.contains("Switched off") && text.contains("none configured"), "{text}");
    assert!(text.contains("without MPTCP") && text.contains("No WAN"), "{text}");
    let mut hostile = status();
    hostile.wans[0].name = "\x1b]0;pwned\x07".into();
    hostile.events[0].message = "a\nb\x1b[2J".into();
    hostile.server.as_mut().unwrap().why = "\r\x1b[1A".into();
    let text = render(&hostile, Look::default());
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}
