//! A WAN that dies without a sign: what applications feel, and whether it is used again after its
//! return. Durations are printed, not asserted: a busy machine may take its time.

use std::time::Duration;

use wanbond_control::{EventKind, Status};
use wanbond_e2e::{all_up, carried, http, running};
use wanbond_lab::Lab;
use wanbond_lab::traffic::{Download, STEP, Series, Transfer, download};

const CUT_AT: Duration = Duration::from_secs(4);
const CUT_FOR: Duration = Duration::from_secs(3);
const LENGTH: Duration = Duration::from_secs(12);

/// Downloads over `scenario`, with `wan` cut in the middle. Gives also its bytes since its return.
async fn cut(scenario: &str, wan: &str) -> Option<(Lab, Transfer, u64)> {
    let lab = running(scenario)?;
    let job = Download::timed(http(), LENGTH);
    let (got, (cut_at, since)) = tokio::join!(download(lab.lan(0), &job), async {
        tokio::time::sleep(CUT_AT).await;
        let cut_at = lab.router(0).status().unwrap().uptime_s;
        lab.wan(wan).cut().unwrap();
        tokio::time::sleep(CUT_FOR).await;
        lab.wan(wan).restore().unwrap();
        (cut_at, carried(&lab, wan).0)
    });
    let status = lab.router(0).status().unwrap();
    println!(
        "{scenario}, {wan} cut: longest gap {:.0} ms; noticed after {}; Mbit/s by 0.5 s {:?}",
        got.longest_gap_ms,
        noticed(&status, wan, cut_at),
        by_half_seconds(&got.series)
    );
    let returned = carried(&lab, wan).0 - since;
    Some((lab, got, returned))
}

fn noticed(status: &Status, wan: &str, cut_at: f64) -> String {
    let down = status.events.iter().find(|event| {
        event.kind == EventKind::WanState
            && event.wan.as_deref() == Some(wan)
            && event.at_s > cut_at
    });
    down.map_or("never".into(), |event| format!("{:.0} ms", (event.at_s - cut_at) * 1e3))
}

fn by_half_seconds(series: &Series) -> Vec<u64> {
    let steps = 500 / STEP.as_millis() as usize;
    series.0.chunks(steps).map(|s| s.iter().sum::<u64>() * 16 / 1_000_000).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_of_two_alike_is_left_and_used_again() {
    let Some((lab, got, returned)) = cut("adsl", "wan1").await else { return };
    assert!(got.is_sound(), "{got:?}");
    // 8.4 Mbit/s for 5 s is 5.2 MB.
    assert!(returned > 1_000_000, "only {returned} bytes over it since its return");
    all_up(&lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_of_two_unlike_is_left_and_used_again() {
    for (wan, least) in [("fibre", 10_000_000), ("lte", 3_000_000)] {
        let Some((lab, got, returned)) = cut("fibre-lte", wan).await else { return };
        assert!(got.is_sound(), "{got:?}");
        assert!(returned > least, "only {returned} bytes over {wan} since its return");
        all_up(&lab);
    }
}
