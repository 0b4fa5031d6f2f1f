//! A WAN that is so far and slow that MPTCP brings less with it is set aside by measurement, is said to
//! be, and is used again as soon as it is near. That the verdict runs out is tested on a clock of its own,
//! in `router/src/wan/hindrance.rs`.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use wanbond_control::{Status, WanState};
use wanbond_e2e::{PATIENCE, all_up, carried, http};
use wanbond_lab::Lab;
use wanbond_lab::emulator::Direction;
use wanbond_lab::scenario::{Scenario, ShapeChange};
use wanbond_lab::traffic::{Download, download};

const SCENARIO: &str = r#"
    name = "hindrance"
    [[wan]]
    name = "fibre"
    down = { rate = "30Mbit/s", delay = "5ms", queue = "100ms" }
    up = { rate = "30Mbit/s", delay = "5ms", queue = "100ms" }
    [[wan]]
    name = "lte"
    down = { rate = "15Mbit/s", delay = "20ms", queue = "100ms" }
    up = { rate = "15Mbit/s", delay = "20ms", queue = "100ms" }
    [[wan]]
    name = "far"
    down = { rate = "2Mbit/s", delay = "200ms", queue = "100ms" }
    up = { rate = "2Mbit/s", delay = "200ms", queue = "100ms" }
"#;

/// A small router's: what came over the near WANs waits in it for what comes over the far one, so that
/// a connection over all three reaches half of what the near two carry.
const MEMORY: &str = "net.ipv4.tcp_rmem=4096 131072 2500000";

/// Whether the kernel holds the WAN back for when there is no other.
fn is_backup(lab: &Lab, wan: &str) -> bool {
    let endpoints = lab.router(0).ns().output("ip", &["mptcp", "endpoint", "show"]).unwrap();
    let text = String::from_utf8(endpoints.stdout).unwrap();
    let source = lab.wan(wan).net().router_v4().to_string();
    let line = text.lines().find(|line| line.starts_with(&format!("{source} ")));
    line.unwrap_or_else(|| panic!("no endpoint of {wan}: {text}")).contains(" backup")
}

/// Looks now and then; a measurement takes a dozen seconds.
async fn wait(lab: &Lab, what: &str, is_it: impl Fn(&Status) -> bool) {
    let start = Instant::now();
    while !lab.router(0).status().is_ok_and(|status| is_it(&status)) {
        assert!(start.elapsed() < 2 * PATIENCE, "waited in vain: {what}");
        sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_and_slow_wan_is_set_aside_and_used_again_once_it_is_near() {
    let scenario = Scenario::parse(SCENARIO, "hindrance".as_ref()).expect("the scenario is right");
    let Some(lab) = Lab::build_or_skip(&scenario) else { return };
    lab.router(0).ns().output("sysctl", &["-q", "-w", MEMORY]).unwrap();
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.tcp = "mptcp".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    assert!(["fibre", "lte", "far"].iter().all(|wan| !is_backup(&lab, wan)));

    let job = Download::timed(http(), Duration::from_secs(600));
    let checks = async {
        wait(&lab, "the far one is set aside", |status| {
            let far = &status.wans[2];
            far.state == WanState::Up && far.why.contains("TCP is faster without it")
        })
        .await;
        assert!(is_backup(&lab, "far"));
        assert!(!is_backup(&lab, "fibre") && !is_backup(&lab, "lte"));
        let status = lab.router(0).status().unwrap();
        assert!(status.wans[..2].iter().all(|wan| wan.why.is_empty()), "{status:?}");

        let near = ShapeChange { delay: Some(Duration::from_millis(10)), ..ShapeChange::default() };
        for direction in [Direction::Down, Direction::Up] {
            lab.wan("far").change(direction, &near).unwrap();
        }
        wait(&lab, "it is not said to be far any more", |status| status.wans[2].why.is_empty())
            .await;
        let start = Instant::now();
        while is_backup(&lab, "far") {
            assert!(start.elapsed() < PATIENCE, "it is still a backup");
            sleep(Duration::from_millis(200)).await;
        }
        let before = carried(&lab, "far").0;
        wait(&lab, "it carries", |_| carried(&lab, "far").0 > before + 400_000).await;
    };
    tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        () = checks => {}
    }
}
