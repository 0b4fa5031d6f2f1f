//! What the owner of a server sees and decides: figures, monthly limits, new keys.

mod common;

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::seen_from;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use wanbond_control::{ServerState, ServerStatus, Status};
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, VPS_V4};
use wanbond_lab::traffic::{Download, download};

fn connected(status: &Status) -> bool {
    status.server.as_ref().is_some_and(|s| s.state == ServerState::Connected)
}

fn month(status: &ServerStatus) -> u64 {
    status.routers.iter().map(|router| router.month_rx_bytes + router.month_tx_bytes).sum()
}

async fn figures(lab: &Lab) -> String {
    let work = async {
        let mut stream = lab.vps().tcp_connect((Ipv4Addr::LOCALHOST, 65102).into()).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map(|_| text)
    };
    timeout(PATIENCE, work).await.expect("in time").expect("an answer")
}

/// The value of a figure, with its labels in the name.
fn figure(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_counted_over_restarts_and_shown_to_collectors() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().init(&[&VPS_V4.to_string()]).unwrap();
    let settings = lab.server().state_dir().join("server.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace("#metrics =", "metrics =")).unwrap();
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let done = download(lab.lan(0), &Download::new(http(), 3_000_000)).await;
    assert_eq!((done.bytes, done.error.as_deref()), (3_000_000, None));

    let text = figures(&lab).await;
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert_eq!(figure(&text, "wanbond_server_router_connected{router=\"router1\"}"), 1.0);
    let sent = figure(&text, "wanbond_server_router_sent_bytes_total{router=\"router1\"}");
    assert!(sent >= 3e6, "{sent}");
    // What goes through the tunnel counts too.
    let before = lab.server().status().unwrap().routers[0].tx_bytes;
    wait_until("pings are answered and counted", || {
        let ping = ["-c1", "-W2", "-s1000", &ORIGIN_V4.to_string()];
        let answered = lab.lan(0).output("ping", &ping).is_ok();
        answered && lab.server().status().unwrap().routers[0].tx_bytes >= before + 1000
    })
    .await;

    wait_until("this month's sum follows", || month(&lab.server().status().unwrap()) >= 3_000_000)
        .await;
    assert!(lab.server().stop().unwrap().success());
    lab.server().start().unwrap();
    assert!(month(&lab.server().status().unwrap()) >= 3_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_beyond_its_month_is_refused_until_it_may_move_more() {
    let Some(lab) = running(QUICK) else { return };
    let limit = |gb| lab.server().cli(&["router", "limit", "router1", "--monthly-gb", gb]).unwrap();
    limit("0");
    lab.router(0).wait_status(PATIENCE, "refused", |status| !connected(status)).unwrap();
    // As configured, the LAN goes out directly meanwhile.
    let isps: Vec<_> = lab.wans().map(|wan| IpAddr::from(wan.net().public_v4())).collect();
    wait_until("the server has ended its sessions", || {
        lab.server().status().unwrap().routers.iter().all(|router| !router.connected)
    })
    .await;
    // Flows of the moment of change are cut.
    let direct = async {
        while !seen_from(lab.lan(0), http()).await.is_ok_and(|from| isps.contains(&from)) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, direct).await.expect("the LAN goes out directly");
    limit("1000");
    all_up(&lab);
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), VPS_V4);
    let shown = lab.server().status().unwrap().routers[0].month_limit_bytes;
    assert_eq!(shown, Some(1_000_000_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_key_changes_without_losing_a_router() {
    let Some(lab) = running(QUICK) else { return };
    let restart = || {
        assert!(lab.server().stop().unwrap().success());
        lab.server().start().unwrap();
    };
    lab.server().cli(&["key", "rotate"]).unwrap();
    restart();
    // With the old code, and the old key.
    lab.router(0).wait_status(PATIENCE, "connected again", connected).unwrap();
    all_up(&lab);
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), VPS_V4);

    let code = lab.server().cli(&["router", "rekey", "router1"]).unwrap();
    lab.router(0).wait_status(PATIENCE, "the old code refused", |s| !connected(s)).unwrap();
    let config = lab.router(0).config(code.trim().to_owned());
    lab.router(0).configure(&config).unwrap();
    lab.router(0).reload().unwrap();
    all_up(&lab);
    lab.server().cli(&["key", "forget-previous"]).unwrap();
    restart();
    lab.router(0).wait_status(PATIENCE, "connected with the new key", connected).unwrap();
    all_up(&lab);
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), VPS_V4);
}
