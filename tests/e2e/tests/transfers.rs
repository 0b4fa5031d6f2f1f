//! Bytes arrive, all and right, over every WAN, whatever happens to the WANs meanwhile.

use std::time::Duration;

use wanbond_e2e::{PATIENCE, QUICK, all_up, carried, http, http_v6, lab, running, wait_until};
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, echo, origin, upload};

/// Each WAN has carried at least this share of what both have.
const REAL_SHARE: f64 = 0.15;

fn both_carried(lab: &wanbond_lab::Lab, before: [(u64, u64); 2], up: bool) {
    let moved = |(down_0, up_0): (u64, u64), (down_1, up_1): (u64, u64)| {
        if up { up_1 - up_0 } else { down_1 - down_0 }
    };
    let one = moved(before[0], carried(lab, "wan1")) as f64;
    let two = moved(before[1], carried(lab, "wan2")) as f64;
    let least = one.min(two) / (one + two);
    assert!(least > REAL_SHARE, "one WAN carried only {:.0} %", least * 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_and_uploads_use_both_wans() {
    let Some(lab) = running(QUICK) else { return };
    for target in [http(), http_v6()] {
        let before = [carried(&lab, "wan1"), carried(&lab, "wan2")];
        let got = download(lab.lan(0), &Download::new(target, 20_000_000)).await;
        assert!(got.is_sound() && got.complete, "{target}: {got:?}");
        both_carried(&lab, before, false);

        let before = [carried(&lab, "wan1"), carried(&lab, "wan2")];
        let sent = upload(lab.lan(0), target, 20_000_000, PATIENCE).await;
        assert!(sent.is_sound() && sent.complete, "{target}: {sent:?}");
        both_carried(&lab, before, true);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_at_once_is_byte_exact() {
    let Some(lab) = running("unshaped") else { return };
    let bytes = if std::env::var_os("WANBOND_FULL").is_some() { 1 << 30 } else { 128 << 20 };
    let got = echo(lab.lan(0), (ORIGIN_V4, origin::ECHO).into(), bytes, PATIENCE).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_wan_costs_no_byte_and_comes_back() {
    let Some(lab) = running(QUICK) else { return };
    let job = Download::new(http(), 60_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        lab.wan("wan1").cut().unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        lab.wan("wan1").restore().unwrap();
    });
    assert!(got.is_sound() && got.complete, "{got:?}");
    all_up(&lab);
    let before = [carried(&lab, "wan1"), carried(&lab, "wan2")];
    // Lanes that were joined again, or opened since, carry the next one over both.
    let got = download(lab.lan(0), &Download::new(http(), 30_000_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    both_carried(&lab, before, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_address_in_the_middle_costs_no_byte() {
    let Some(lab) = running(QUICK) else { return };
    let job = Download::new(http(), 40_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.wan("wan1").readdress().unwrap();
    });
    assert!(got.is_sound() && got.complete, "{got:?}");
    all_up(&lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pulled_modem_costs_no_byte() {
    let Some(lab) = running(QUICK) else { return };
    let job = Download::new(http(), 40_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        lab.wan("wan2").unplug().unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        lab.wan("wan2").plug().unwrap();
    });
    assert!(got.is_sound() && got.complete, "{got:?}");
    all_up(&lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wan_dead_at_start_delays_nothing() {
    let Some(lab) = lab(QUICK) else { return };
    // The first WAN has the default route of the lowest metric.
    lab.wan("wan1").cut().unwrap();
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "a WAN up", |s| {
            s.wans.iter().any(|w| w.state == wanbond_control::WanState::Up)
        })
        .unwrap();
    let got = download(lab.lan(0), &Download::new(http(), 2_000_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    lab.wan("wan1").restore().unwrap();
    all_up(&lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_readable_on_the_wan() {
    let Some(lab) = running(QUICK) else { return };
    let mut captures = Vec::new();
    for wan in ["wan1", "wan2"] {
        let file = lab.dir().join(format!("{wan}.pcap"));
        let mut tcpdump = wanbond_lab::ns::Namespace::command("tcpdump");
        tcpdump.args(["-i", "any", "-U", "-w"]).arg(&file);
        captures.push((lab.wan(wan).isp().spawn(tcpdump).unwrap(), file));
    }
    wait_until("tcpdump captures", || captures.iter().all(|(_, f)| f.exists())).await;
    let got = download(lab.lan(0), &Download::new(http(), 3_000_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    let full = || captures.iter().map(|(_, f)| f.metadata().map_or(0, |m| m.len())).sum::<u64>();
    wait_until("the capture has the bytes", || full() > 3_000_000).await;
    for (child, path) in &mut captures {
        child.kill().unwrap();
        child.wait().unwrap();
        let bytes = std::fs::read(&*path).unwrap();
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
        assert!(!has(b"GET /bytes") && !has(b"HTTP/1.1") && !has(b"origin"), "readable text");
        assert!(!has(&ORIGIN_V4.octets()), "the target's address");
        // The capture itself works: the server's address is there, and real traffic.
        assert!(has(&wanbond_lab::topology::VPS_V4.octets()), "nothing captured");
        assert!(bytes.len() > 100_000, "only {} bytes captured", bytes.len());
    }
}
