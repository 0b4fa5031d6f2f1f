//! What each WAN is for, changed while connections are open; metered WANs; quotas.

use std::time::Duration;

use wanbond_control::status::WanStatus;
use wanbond_control::{EventKind, Role, WanState};
use wanbond_e2e::{PATIENCE, QUICK, carried, http, lab, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::traffic::{Download, download};

fn wan(lab: &Lab, name: &str) -> WanStatus {
    let status = lab.router(0).status().unwrap();
    status.wans.into_iter().find(|wan| wan.name == name).expect("the WAN is there")
}

/// A lab whose second WAN has these options.
fn with_second(scenario: &str, options: &str) -> Option<Lab> {
    let lab = lab(scenario)?;
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.wans.retain(|(device, _)| device == "wan1");
    config.extra = format!("\nconfig wan 'wan2'\n\toption device 'wan2'\n{options}");
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    wanbond_e2e::all_up(&lab);
    Some(lab)
}

/// Lets `act` happen in the middle of a download that must not fail.
async fn while_downloading(lab: &Lab, act: impl AsyncFnOnce()) {
    let job = Download::timed(http(), Duration::from_secs(300));
    tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        () = act() => {}
    }
}

/// Waits until a WAN carries the download.
async fn is_used(lab: &Lab, wan: &str) {
    let before = carried(lab, wan).0;
    wait_until(&format!("{wan} carries"), || carried(lab, wan).0 > before + 500_000).await;
}

/// Waits until a WAN carries next to nothing while the other does.
async fn is_left(lab: &Lab, wan: &str, other: &str) {
    let start = std::time::Instant::now();
    loop {
        let before = (carried(lab, wan).0, carried(lab, other).0);
        wait_until(&format!("{other} carries"), || carried(lab, other).0 > before.1 + 1_500_000)
            .await;
        if carried(lab, wan).0 - before.0 < 150_000 {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{wan} still carries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_change_under_a_running_connection() {
    let Some(lab) = running(QUICK) else { return };
    let wanbond = |words: &[&str]| lab.router(0).cli(words).unwrap();
    while_downloading(&lab, async || {
        is_used(&lab, "wan2").await;
        wanbond(&["wan", "wan2", "role", "backup"]);
        is_left(&lab, "wan2", "wan1").await;
        assert!(wan(&lab, "wan2").standby);
        // Its turn has come.
        lab.wan("wan1").cut().unwrap();
        is_used(&lab, "wan2").await;
        lab.wan("wan1").restore().unwrap();
        is_left(&lab, "wan2", "wan1").await;
        wanbond(&["wan", "wan2", "role", "bond"]);
        is_used(&lab, "wan2").await;
        wanbond(&["wan", "wan1", "down"]);
        is_left(&lab, "wan1", "wan2").await;
        let paused = wan(&lab, "wan1");
        assert_eq!((paused.state, paused.role), (WanState::Paused, Role::Bond));
        wanbond(&["wan", "wan1", "up"]);
        is_used(&lab, "wan1").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overflow_is_used_while_the_others_are_full_and_costs_nothing_before() {
    let options = "\toption role 'overflow'\n\toption quota '10 GB'\n";
    let Some(lab) = with_second("adsl", options) else { return };
    wait_until("it stands by", || wan(&lab, "wan2").standby).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let total = || {
        let (down, up) = carried(&lab, "wan2");
        down + up
    };
    let before = total();
    // A little traffic, which the first line carries with ease, for some seconds.
    for seed in 0..12 {
        let got = download(lab.lan(0), &Download::new(http(), 20_000 + seed)).await;
        assert!(got.complete, "{got:?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let spent = total() - before;
    assert!(spent < 3000, "{spent} bytes over a metered line that only stands by");
    while_downloading(&lab, async || is_used(&lab, "wan2").await).await;
    // Streams keep the queues short by which it is seen that the others are full.
    assert_eq!(lab.router(0).status().unwrap().streams_why, "");
    wait_until("it stands by again", || wan(&lab, "wan2").standby).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_told_of_kept_over_restarts_and_ends_the_use_of_a_wan() {
    let options = "\toption role 'bond'\n\toption quota '6 MB'\n";
    let Some(lab) = with_second(QUICK, options) else { return };
    let told = || {
        let status = lab.router(0).status().unwrap();
        status.events.iter().filter(|event| event.kind == EventKind::Quota).count()
    };
    while_downloading(&lab, async || {
        wait_until("the quota is used up", || wan(&lab, "wan2").quota.is_some_and(|q| q.exhausted))
            .await;
        is_left(&lab, "wan2", "wan1").await;
    })
    .await;
    assert!((1..=3).contains(&told()), "{} events", told());
    assert!(wan(&lab, "wan2").standby);
    let used = wan(&lab, "wan2").quota.unwrap().used_bytes;
    lab.router(0).stop().unwrap();
    lab.router(0).start().unwrap();
    wanbond_e2e::all_up(&lab);
    let again = wan(&lab, "wan2").quota.unwrap();
    assert!(again.exhausted && again.used_bytes >= used, "{again:?}, {used} before");
    // In an emergency it serves.
    while_downloading(&lab, async || {
        is_left(&lab, "wan2", "wan1").await;
        lab.wan("wan1").cut().unwrap();
        is_used(&lab, "wan2").await;
    })
    .await;
}
