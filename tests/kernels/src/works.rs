//! Everything is there and does its part, without figures: for processors that are emulated too
//! slowly for any.

use std::time::Duration;

use anyhow::{Result, ensure};
use wanbond_control::{MptcpState, TcpMode, WanState};
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, origin};

use crate::bond::Bond;
use crate::probe::{Kind, answers};
use crate::report::Report;
use crate::scenarios;

/// For each step, on an emulated processor beside others.
const PATIENCE: Duration = Duration::from_secs(120);
/// Of a download.
const BYTES: u64 = 300_000;

/// Pairs, moves bytes, cuts a WAN and mends it, stops.
pub(crate) async fn check(report: &mut Report) -> Result<()> {
    report.about("works");
    let (bond, took) = Bond::start_slowly(report, &scenarios::named("20+10")?, TcpMode::Auto)?;
    report.must("paired, every WAN up", true, format!("{} ms", took.as_millis()));
    let lab = &bond.lab;
    let router = lab.router(0);
    let job =
        Download { patience: PATIENCE, ..Download::new((ORIGIN_V4, origin::HTTP).into(), BYTES) };
    let got = download(lab.lan(0), &job).await;
    report.must("download, every byte right", got.complete, format!("{:?}", got.error));
    let status = router.wait_status(PATIENCE, "subflows over every WAN", |status| {
        status.wans.iter().all(|wan| wan.mptcp == MptcpState::Working && wan.lanes > 0)
    })?;
    report.must(
        "went over an MPTCP lane",
        status.flows.by_way.mptcp > 0,
        status.flows.by_way.mptcp,
    );
    for (kind, name) in [(Kind::Udp, "UDP"), (Kind::Ping, "ping")] {
        let came = answers(lab.lan(0), kind, PATIENCE).await;
        report.must(&format!("{name} through the tunnel"), came, came);
    }
    let packets = router.status()?.tunnel.map_or(0, |tunnel| tunnel.rx_packets_total);
    report.must("the tunnel has carried packets", packets > 0, packets);
    for (what, program, args, wanted) in [
        ("TUN device", "ip", &["link", "show", "wanbond0"][..], "wanbond0"),
        ("redirect", "nft", &["list", "table", "inet", "wanbond"], "redirect"),
        ("tunnel's table", "nft", &["list", "table", "inet", "wanbond-tunnel"], "mark set"),
        ("rules", "ip", &["rule"], "7001:"),
    ] {
        let text = said(&bond, program, args)?;
        report.must(
            what,
            text.contains(wanted),
            if text.contains(wanted) { "there" } else { &text },
        );
    }
    endpoints(&bond, report)?;
    let ended = bond.stop(report);
    ensure!(ended.is_ok(), "{ended:?}");
    Ok(())
}

/// An MPTCP endpoint goes with its WAN, and comes back under another id.
fn endpoints(bond: &Bond, report: &mut Report) -> Result<()> {
    let lab = &bond.lab;
    let router = lab.router(0);
    let list = || said(bond, "ip", &["mptcp", "endpoint", "show"]);
    let wan = lab.wan("slow");
    let address = format!("{} ", wan.net().router_v4());
    let line = |text: &str| text.lines().find(|line| line.starts_with(&address)).map(str::to_owned);
    let before = line(&list()?);
    report.must("endpoint of slow", before.is_some(), before.clone().unwrap_or_default());
    let state = |wanted| {
        router.wait_status(PATIENCE, "the WAN is seen", move |status| {
            status.wans.iter().any(|wan| wan.name == "slow" && wan.state == wanted)
        })
    };
    wan.cut()?;
    state(WanState::Down)?;
    let gone = line(&list()?);
    report.must("endpoint gone with its WAN", gone.is_none(), gone.unwrap_or_default());
    wan.restore()?;
    state(WanState::Up)?;
    let after = line(&list()?);
    let fresh = after.is_some() && after != before;
    report.must("endpoint back, under another id", fresh, after.unwrap_or_default());
    Ok(())
}

fn said(bond: &Bond, program: &str, args: &[&str]) -> Result<String> {
    let output = bond.lab.router(0).ns().output(program, args)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
