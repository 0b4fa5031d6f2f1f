//! Beside OpenWrt's firewall, whose restart flushes every table.

use wanbond_e2e::{QUICK, http, running, wait_until};
use wanbond_lab::traffic::{Download, download};

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_restart_does_not_end_bonding() {
    let Some(lab) = running(QUICK) else { return };
    let tables = || {
        let shown = lab.router(0).ns().output("nft", &["list", "tables"]).unwrap();
        String::from_utf8_lossy(&shown.stdout).into_owned()
    };
    let ours = ["table inet wanbond\n", "table inet wanbond-tunnel\n"];
    let all_there = || ours.iter().all(|table| tables().contains(table));
    wait_until("both tables are there", all_there).await;
    for restart in 1..=2 {
        lab.router(0).ns().nft("flush ruleset\ntable inet fw4 {}\n").unwrap();
        wait_until(&format!("both are there again, time {restart}"), all_there).await;
    }
    let got = download(lab.lan(0), &Download::new(http(), 200_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    let status = lab.router(0).status().unwrap();
    assert!(status.flows.total > 0, "it went through the daemon");
    let (ended, left) = lab.router(0).stop().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(!left.iter().any(|change| change.contains("wanbond")), "{left:?}");
}
