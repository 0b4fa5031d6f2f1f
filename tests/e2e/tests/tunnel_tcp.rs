//! TCP through the tunnel, as its streams and as packets: every byte arrives, over both WANs,
//! whatever happens to WANs and server meanwhile.

use std::time::Duration;

use tokio::time::sleep;
use wanbond_control::WanState;
use wanbond_e2e::{PATIENCE, QUICK, carried, http, lab};
use wanbond_lab::Lab;
use wanbond_lab::traffic::{Download, download, upload};

/// Each WAN has carried at least this share of what both have.
const REAL_SHARE: f64 = 0.15;

/// A lab whose router sends TCP by `way`.
fn running(way: &str) -> Option<Lab> {
    let lab = lab(QUICK)?;
    lab.server().start().expect("the server starts");
    let mut config = lab.router(0).pair().expect("a pairing code");
    config.tcp = way.to_owned();
    lab.router(0).configure(&config).expect("written");
    lab.router(0).start().expect("the router starts");
    lab.router(0)
        .wait_status(PATIENCE, "all WANs up", |status| {
            status.wans.iter().all(|wan| wan.state == WanState::Up)
        })
        .expect("every WAN comes up");
    Some(lab)
}

fn of_wans(lab: &Lab, up: bool) -> [u64; 2] {
    ["wan1", "wan2"].map(|wan| {
        let (down_bytes, up_bytes) = carried(lab, wan);
        if up { up_bytes } else { down_bytes }
    })
}

fn both_carried(lab: &Lab, before: [u64; 2], up: bool) {
    let after = of_wans(lab, up);
    let moved = [0, 1].map(|wan| (after[wan] - before[wan]) as f64);
    let least = moved[0].min(moved[1]) / (moved[0] + moved[1]);
    assert!(least > REAL_SHARE, "one WAN carried only {:.0} %", least * 100.0);
}

fn stream_flows(lab: &Lab) -> u64 {
    lab.router(0).status().expect("a status").flows.by_way.stream
}

async fn every_byte_over_both(way: &str) -> Option<Lab> {
    let lab = running(way)?;
    let before = of_wans(&lab, false);
    let got = download(lab.lan(0), &Download::new(http(), 20_000_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    both_carried(&lab, before, false);
    let before = of_wans(&lab, true);
    let sent = upload(lab.lan(0), http(), 20_000_000, PATIENCE).await;
    assert!(sent.is_sound() && sent.complete, "{sent:?}");
    both_carried(&lab, before, true);

    // A WAN goes silent and comes back.
    let job = Download::new(http(), 60_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        sleep(Duration::from_millis(1500)).await;
        lab.wan("wan1").cut().unwrap();
        sleep(Duration::from_secs(2)).await;
        lab.wan("wan1").restore().unwrap();
    });
    assert!(got.is_sound() && got.complete, "{got:?}");
    Some(lab)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_carry_every_byte_over_both_wans() {
    let Some(lab) = every_byte_over_both("stream").await else { return };
    assert!(stream_flows(&lab) >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_carry_every_byte_over_both_wans() {
    let Some(lab) = every_byte_over_both("packet").await else { return };
    assert_eq!(stream_flows(&lab), 0);

    // The server is silent for a while: its machine is busy, or its network is. A connection in the
    // tunnel can't go on by another address, so it waits.
    let job = Download::new(http(), 60_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        sleep(Duration::from_millis(1500)).await;
        for wan in ["wan1", "wan2"] {
            lab.wan(wan).cut().unwrap();
        }
        sleep(Duration::from_secs(3)).await;
        for wan in ["wan1", "wan2"] {
            lab.wan(wan).restore().unwrap();
        }
    });
    assert!(got.is_sound() && got.complete, "{got:?}");
}
