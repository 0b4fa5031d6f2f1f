//! What the daemons say of themselves is what happens on the lines.

use std::time::Duration;

use wanbond_control::{History, PathState};
use wanbond_e2e::{QUICK, carried, http, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::traffic::{Download, download};

fn history(lab: &Lab, wan: &str, seconds: &str) -> History {
    let text = lab.router(0).cli(&["history", wan, "--seconds", seconds]).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_history_and_metrics_tell_of_a_download() {
    let Some(lab) = running("adsl") else { return };
    let before = lab.router(0).status().unwrap();
    let line = carried(&lab, "wan1").0;
    let got = download(lab.lan(0), &Download::timed(http(), Duration::from_secs(6))).await;
    assert!(got.is_sound(), "{got:?}");
    let line = carried(&lab, "wan1").0 - line;
    wait_until("the last second is in the history", || {
        let seen: u64 = history(&lab, "wan1", "600").rx_bps.iter().sum();
        seen / 8 > line / 2
    })
    .await;

    let status = lab.router(0).status().unwrap();
    let wan = &status.wans[0];
    let told = wan.rx_bytes - before.wans[0].rx_bytes;
    assert!(told.abs_diff(line) < line / 5, "{told} bytes told, {line} carried");
    // The line's own rate is 8.41 Mbit/s; a second that was told of late may look faster.
    assert!((4_000_000..17_000_000).contains(&wan.rx_peak_bps), "{}", wan.rx_peak_bps);
    assert!(wan.rtt_ms.is_some_and(|ms| ms >= 40.0), "{:?}", wan.rtt_ms);
    let path = wan.tunnel.as_ref().expect("the tunnel knows the WAN");
    assert_eq!(path.state, PathState::Live);
    assert!(path.datagram > 500, "{path:?}");
    assert!(status.tunnel.is_some_and(|tunnel| tunnel.live));
    // Whether such a download fills the lines' queues depends on how busy the machine is.
    let why = status.streams_why;
    assert!(why.is_empty() || why.contains("queues"), "{why}");

    let past = history(&lab, "wan1", "60");
    assert_eq!(past.step_s, 1);
    let columns = [past.tx_bps.len(), past.rtt_ms.len(), past.loss_percent.len()];
    assert_eq!(columns, [past.rx_bps.len(); 3]);
    assert!(lab.router(0).cli(&["history", "wan9"]).is_err());

    let metrics = lab.router(0).cli(&["status", "--prometheus"]).unwrap();
    for wan in ["wan1", "wan2"] {
        let line = format!("wanbond_wan_state{{wan=\"{wan}\",state=\"up\"}} 1\n");
        assert!(metrics.contains(&line), "{metrics}");
    }
    let metrics = lab.server().cli(&["status", "--prometheus"]).unwrap();
    let line = "wanbond_server_router_connected{router=\"router1\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diagnosis_names_what_is_wrong_and_what_to_do() {
    let Some(lab) = running(QUICK) else { return };
    let diagnose = || lab.router(0).cli(&["diagnose"]).unwrap();
    // What the machine that runs the tests adds (a busy processor, late packets) is not the lab's
    // business.
    let text = diagnose();
    assert!(!text.contains("! server") && !text.contains("no device"), "{text}");
    lab.wan("wan2").unplug().unwrap();
    wait_until("the pulled modem is named", || diagnose().contains("! wan2: ")).await;
    let text = diagnose();
    assert!(text.contains("there is no device wan2"), "{text}");
    assert!(text.contains("look at its cable or modem"), "{text}");
    assert!(text.contains("wan1 alone carries everything"), "{text}");
    lab.server().stop().unwrap();
    wait_until("the server is named", || diagnose().contains("! server: ")).await;
    assert!(diagnose().contains("65101"), "{}", diagnose());
    let json = lab.router(0).cli(&["diagnose", "--json"]).unwrap();
    let diagnosis: wanbond_control::Diagnosis = serde_json::from_str(&json).unwrap();
    assert!(diagnosis.findings.iter().any(|finding| finding.about == "server"), "{json}");
}
