//! Speed tests and drills against the real server, and the support bundle.

use std::time::Duration;

use wanbond_control::drill::DrillReport;
use wanbond_control::speed::SpeedReport;
use wanbond_control::support::SupportBundle;
use wanbond_control::words::TaskState;
use wanbond_control::{Task, WanState, Work};
use wanbond_e2e::{PATIENCE, QUICK, all_up, carried, running, wait_until};
use wanbond_lab::Lab;

fn task(lab: &Lab, args: &[&str]) -> Work {
    let text = lab.router(0).cli(&[args, &["--json"]].concat()).unwrap();
    let task: Task = serde_json::from_str(&text).unwrap();
    assert_eq!(task.state, TaskState::Done, "{text}");
    task.work
}

fn speedtest(lab: &Lab, args: &[&str]) -> SpeedReport {
    match task(lab, &[&["speedtest", "--seconds", "2"], args].concat()) {
        Work::Speedtest(Some(report)) => *report,
        other => panic!("{other:?}"),
    }
}

fn drill(lab: &Lab, wan: &str, seconds: &str) -> DrillReport {
    match task(lab, &["drill", wan, "--seconds", seconds]) {
        Work::Drill(Some(report)) => *report,
        other => panic!("{other:?}"),
    }
}

fn is_cut(lab: &Lab) -> bool {
    let shown = lab.router(0).ns().output("nft", &["list", "tables"]).unwrap();
    String::from_utf8_lossy(&shown.stdout).contains("wanbond-drill")
}

/// What a line of 50 Mbit/s can carry, and a little for the clocks.
const LINE: u64 = 55_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_speed_test_measures_each_wan_and_all_together() {
    let Some(lab) = running(QUICK) else { return };
    let before = carried(&lab, "wan1");
    let report = speedtest(&lab, &[]);
    println!("{report:?}");
    assert_eq!(report.wans.len(), 2);
    for wan in &report.wans {
        // A busy machine may be slow; faster than the line nothing is.
        for bps in [wan.down_bps.unwrap(), wan.up_bps.unwrap()] {
            assert!((100_000..LINE).contains(&bps), "{wan:?}");
        }
        assert!(wan.rtt_ms.is_some() && wan.why.is_empty(), "{wan:?}");
        assert!(wan.used_bytes > 100_000, "{wan:?}");
    }
    let together = report.together.as_ref().unwrap();
    for bps in [together.down_bps.unwrap(), together.up_bps.unwrap()] {
        assert!((100_000..2 * LINE).contains(&bps), "{together:?}");
    }
    let after = carried(&lab, "wan1");
    let moved = after.0 + after.1 - before.0 - before.1;
    let told = report.wans[0].used_bytes;
    assert!(told <= moved + moved / 5 && report.used_bytes >= told, "{told} told, {moved} moved");

    // The WAN that was asked for is the one that is used.
    let (first, second) = (carried(&lab, "wan1").0, carried(&lab, "wan2").0);
    let report = speedtest(&lab, &["wan2"]);
    assert!(report.together.is_none() && report.wans.len() == 1, "{report:?}");
    let (first, second) = (carried(&lab, "wan1").0 - first, carried(&lab, "wan2").0 - second);
    assert!(second > 10 * first, "{second} bytes over wan2, {first} over wan1");
    assert!(lab.router(0).cli(&["speedtest", "wan9"]).is_err());

    let text = lab.router(0).cli(&["support"]).unwrap();
    let bundle: SupportBundle = serde_json::from_str(&text).unwrap();
    assert!(bundle.configuration.contains("option code '(removed)'"), "{text}");
    assert!(!text.contains("wanbond1:"), "a pairing code in {text}");
    assert_eq!((bundle.history.len(), bundle.status.wans.len()), (2, 2));
    assert!(bundle.task.is_some_and(|task| matches!(task.work, Work::Speedtest(Some(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_cuts_a_wan_tells_what_was_felt_and_brings_it_back() {
    let Some(lab) = running(QUICK) else { return };
    let report = drill(&lab, "wan1", "8");
    println!("{report:?}");
    assert!(report.detected_after_ms.is_some(), "{report:?}");
    assert_eq!((report.flows, report.flows_lost), (3, 0), "{report:?}");
    // Whoever had to wait for its return waited for longer.
    assert!(report.longest_silence_ms < 8000.0, "{report:?}");
    assert!(!is_cut(&lab));
    all_up(&lab);

    // A daemon that dies in the middle leaves no cut behind.
    let mut dying = None;
    std::thread::scope(|scope| {
        let drilling = scope.spawn(|| lab.router(0).cli(&["drill", "wan1", "--seconds", "60"]));
        while !is_cut(&lab) {
            std::thread::sleep(Duration::from_millis(50));
        }
        lab.router(0).kill().unwrap();
        dying = Some(drilling.join());
    });
    assert!(dying.is_some_and(|ended| ended.unwrap().is_err()));
    assert!(is_cut(&lab));
    lab.router(0).start().unwrap();
    assert!(!is_cut(&lab));
    all_up(&lab);
    // The last one is not cut.
    lab.wan("wan2").cut().unwrap();
    let down = |s: &wanbond_control::Status| s.wans[1].state == WanState::Down;
    lab.router(0).wait_status(PATIENCE, "wan2 is down", down).unwrap();
    let refused = lab.router(0).cli(&["drill", "wan1"]).unwrap_err().to_string();
    assert!(refused.contains("the only one that is up"), "{refused}");
    let refused = lab.router(0).cli(&["drill", "wan2"]).unwrap_err().to_string();
    assert!(refused.contains("nothing to be cut"), "{refused}");
    lab.wan("wan2").restore().unwrap();
    wait_until("no cut is left", || !is_cut(&lab)).await;
}
