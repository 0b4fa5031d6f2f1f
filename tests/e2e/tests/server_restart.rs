//! A server that stops, dies and comes back: the router finds it again, without being restarted.

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::seen_from;
use wanbond_control::{ServerState, Status};
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, running};
use wanbond_lab::Lab;
use wanbond_lab::topology::VPS_V4;
use wanbond_lab::traffic::connections;

fn vps() -> IpAddr {
    VPS_V4.into()
}

fn connected(status: &Status) -> bool {
    status.server.as_ref().is_some_and(|s| s.state == ServerState::Connected)
}

/// A running lab in which connections wait for the server, however long it is away: a busy machine
/// may take long to start it.
fn running_patiently() -> Option<Lab> {
    let lab = lab(QUICK)?;
    let mut config = lab.router(0).pair().unwrap();
    config.when_server_down = "block".into();
    lab.router(0).configure(&config).unwrap();
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    Some(lab)
}

/// Ten flows, opened while the server is away, and answered by it when it is back.
async fn flows_opened_meanwhile(lab: &Lab, away: Duration) {
    let pid = lab.router(0).pid();
    let flows = async {
        let flows = (0..10).map(|_| seen_from(lab.lan(0), http()));
        let mut set = Vec::new();
        for flow in flows {
            set.push(flow.await);
        }
        set
    };
    let (answers, ()) = tokio::join!(flows, async {
        tokio::time::sleep(away).await;
        lab.server().start().unwrap();
    });
    for answer in answers {
        assert_eq!(answer.unwrap(), vps());
    }
    all_up(lab);
    let done = connections(lab.lan(0), http(), 50, 5, 2000, PATIENCE).await;
    assert_eq!((done.ok, done.failed), (50, 0), "{:?}", done.errors);
    assert_eq!(lab.router(0).pid(), pid, "nobody has started the router again");
    assert!(lab.router(0).ended().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_opened_while_a_stopped_server_is_away_are_answered() {
    let Some(lab) = running_patiently() else { return };
    assert!(lab.server().stop().unwrap().success());
    flows_opened_meanwhile(&lab, Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_opened_while_a_killed_server_is_away_are_answered() {
    let Some(lab) = running_patiently() else { return };
    lab.server().kill().unwrap();
    flows_opened_meanwhile(&lab, Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_at_once_is_used_at_once() {
    let Some(lab) = running_patiently() else { return };
    for round in 0..4 {
        lab.server().kill().unwrap();
        lab.server().start().unwrap();
        let from = seen_from(lab.lan(0), http()).await;
        assert_eq!(from.ok(), Some(vps()), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_server_stays_away_the_lan_goes_out_directly() {
    let Some(lab) = running(QUICK) else { return };
    lab.server().kill().unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "the server is said to be gone", |status| !connected(status))
        .unwrap();
    let isps: Vec<_> = lab.wans().map(|wan| IpAddr::from(wan.net().public_v4())).collect();
    let start = std::time::Instant::now();
    loop {
        // Connections of the first seconds may have been refused: they waited for the server.
        if seen_from(lab.lan(0), http()).await.is_ok_and(|from| isps.contains(&from)) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the LAN has no way out");
    }
    lab.server().start().unwrap();
    lab.router(0).wait_status(PATIENCE, "the server is found again", connected).unwrap();
    all_up(&lab);
    wait_until_bonded(&lab).await;
}

/// The redirect follows the session by a moment.
async fn wait_until_bonded(lab: &Lab) {
    let start = std::time::Instant::now();
    while seen_from(lab.lan(0), http()).await.ok() != Some(vps()) {
        assert!(start.elapsed() < PATIENCE, "the LAN is not bonded again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
