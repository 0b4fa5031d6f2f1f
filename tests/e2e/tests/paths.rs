//! WANs that are not alike: one blocks, one strips, one is IPv4 only; traffic both ways at once.

mod common;

use std::net::IpAddr;

use wanbond_control::{MptcpState, WanState};
use wanbond_e2e::{PATIENCE, QUICK, carried, http, http_v6, lab, running};
use wanbond_lab::emulator::Filter;
use wanbond_lab::topology::VPS_V4;
use wanbond_lab::traffic::{Download, download, upload};
use wanbond_lab::{Lab, LabError};

fn start(lab: &Lab) -> Result<(), LabError> {
    lab.server().start()?;
    lab.router(0).start()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wan_that_blocks_udp_carries_lanes_and_says_so() {
    let Some(lab) = lab(QUICK) else { return };
    lab.wan("wan1").set_filter(Filter { block_udp: true, ..Filter::default() }).unwrap();
    start(&lab).unwrap();
    let up = |s: &wanbond_control::Status| s.wans.iter().all(|wan| wan.state == WanState::Up);
    let status = lab.router(0).wait_status(PATIENCE, "both WANs up", up).unwrap();
    assert!(status.wans[0].why.contains("UDP"), "{:?}", status.wans[0]);
    assert!(!status.wans[1].why.contains("UDP"), "{:?}", status.wans[1]);
    let before = carried(&lab, "wan1").0;
    let got = download(lab.lan(0), &Download::new(http(), 20_000_000)).await;
    assert!(got.complete, "{got:?}");
    let by_wan1 = carried(&lab, "wan1").0 - before;
    assert!(by_wan1 > 3_000_000, "{by_wan1} bytes over the WAN without UDP");
    // It comes back to UDP by itself.
    lab.wan("wan1").set_filter(Filter::default()).unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "no more talk of UDP", |s| !s.wans[0].why.contains("UDP"))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wan_that_strips_mptcp_does_not_spoil_the_other() {
    let Some(lab) = lab(QUICK) else { return };
    lab.wan("wan1").set_filter(Filter { strip_mptcp: true, ..Filter::default() }).unwrap();
    start(&lab).unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "wan1 stripped, wan2 working, both up", |s| {
            s.wans[0].mptcp == MptcpState::Stripped
                && s.wans[1].mptcp == MptcpState::Working
                && s.wans.iter().all(|wan| wan.state == WanState::Up)
        })
        .unwrap();
    for target in [http(), http_v6()] {
        let job = Download::new(target, 3_000_000);
        let (down, up) = tokio::join!(
            download(lab.lan(0), &job),
            upload(lab.lan(0), target, 2_000_000, PATIENCE)
        );
        assert!(down.complete && up.complete, "{down:?}\n{up:?}");
    }
    // When the living one goes, the stripped one serves, by streams or as plain TCP.
    lab.wan("wan2").cut().unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "wan2 down", |s| s.wans[1].state == WanState::Down)
        .unwrap();
    let from = common::seen_from(lab.lan(0), http()).await.unwrap();
    assert_eq!(from, IpAddr::from(VPS_V4));
    let ways = lab.router(0).status().unwrap().flows.by_way;
    assert!(ways.tcp + ways.stream > 0, "{ways:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_at_once_use_both_wans() {
    let Some(lab) = running(QUICK) else { return };
    let before = [carried(&lab, "wan1"), carried(&lab, "wan2")];
    let jobs = [http(), http_v6()].map(|target| Download::new(target, 15_000_000));
    let (down_v4, down_v6, up_v4, up_v6) = tokio::join!(
        download(lab.lan(0), &jobs[0]),
        download(lab.lan(0), &jobs[1]),
        upload(lab.lan(0), http(), 15_000_000, PATIENCE),
        upload(lab.lan(0), http_v6(), 15_000_000, PATIENCE)
    );
    for got in [&down_v4, &down_v6, &up_v4, &up_v6] {
        assert!(got.complete && got.bytes == 15_000_000, "{got:?}");
    }
    for (wan, before) in ["wan1", "wan2"].iter().zip(before) {
        let (down, up) = carried(&lab, wan);
        let moved = (down - before.0, up - before.1);
        // A fair half would be 15 MB each way.
        assert!(moved.0 > 4_000_000 && moved.1 > 4_000_000, "{wan}: {moved:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wan_dead_and_alive_again_loses_no_byte() {
    let Some(lab) = running(QUICK) else { return };
    let job = Download::new(http(), 40_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        wanbond_e2e::wait_until("some of it has come", || {
            job.progress.load(std::sync::atomic::Ordering::Relaxed) > 5_000_000
        })
        .await;
        lab.wan("wan1").cut().unwrap();
        lab.wan("wan2").cut().unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        lab.wan("wan2").restore().unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        lab.wan("wan1").restore().unwrap();
    });
    assert!(got.complete, "{got:?}");
    wanbond_e2e::all_up(&lab);
}
