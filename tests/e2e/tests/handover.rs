//! Where MPTCP fills the queues of slow lines, TCP goes on on the tunnel's streams in the middle of its
//! connections: each byte arrives, nothing is connected twice, the reason is said, and where the tunnel
//! can't be had any more lanes are used again.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::sleep;
use wanbond_control::{EventKind, Status};
use wanbond_e2e::{PATIENCE, http, http_v6, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::emulator::Filter;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, echo, fetch, origin, upload};

/// Longer than it takes on lines of 16 and 1.5 Mbit/s.
const TAKES: Duration = Duration::from_secs(120);

fn handed_over(status: &Status) -> u64 {
    status.flows.handed_over_total
}

/// Looks now and then until `is_it`.
async fn wait_status(lab: &Lab, what: &str, is_it: impl Fn(&Status) -> bool) -> Status {
    let start = Instant::now();
    loop {
        let status = lab.router(0).status().unwrap();
        if is_it(&status) {
            return status;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}: {status:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_go_on_on_streams_where_lanes_fill_the_queues() {
    let Some(lab) = running("adsl") else { return };
    let lan = lab.lan(0);
    let to_echo = SocketAddr::from((ORIGIN_V4, origin::ECHO));
    let before = lab.origin().accepted();
    let job = |from| Download { patience: TAKES, ..Download::new(from, 12_000_000) };
    let (first, second) = (job(http()), job(http_v6()));
    let (one, other, sent, echoed) = tokio::join!(
        download(lan, &first),
        download(lan, &second),
        upload(lan, http(), 1_000_000, TAKES),
        echo(lan, to_echo, 400_000, TAKES),
    );
    for got in [&one, &other, &sent, &echoed] {
        assert!(got.is_sound() && got.complete, "{got:?}");
    }
    assert_eq!(lab.origin().accepted() - before, 4, "connections at the target");
    let status = lab.router(0).status().unwrap();
    assert!(handed_over(&status) >= 2, "{:?}", status.flows);
    assert!(status.flows.by_way.mptcp >= 4, "they began on lanes: {:?}", status.flows);
    assert_eq!(status.flows.reset_total, 0, "{:?}", status.flows);
    assert!(status.streams_why.contains("queues"), "{}", status.streams_why);
    assert!(status.events.iter().any(|event| event.kind == EventKind::TcpWay), "{status:?}");

    // What is opened now rides a stream from the start.
    let got = fetch(lan, http(), 50_000, 7, PATIENCE).await;
    assert!(got.is_ok(), "{got:?}");
    let ways = lab.router(0).status().unwrap().flows.by_way;
    assert_eq!(ways.stream, status.flows.by_way.stream + 1, "{ways:?}");

    // A WAN that lets no UDP through carries the tunnel badly, but lanes well: what runs goes back.
    let before = handed_over(&status);
    let job = Download { patience: TAKES, ..Download::timed(http(), Duration::from_secs(600)) };
    let back = async {
        wait_until("the download has begun", || job.progress.load(Ordering::Relaxed) > 0).await;
        lab.wan("wan1").set_filter(Filter { block_udp: true, ..Filter::default() }).unwrap();
        let status = wait_status(&lab, "lanes are used again", |status| {
            status.streams_why.is_empty() && handed_over(status) > before
        })
        .await;
        let had = job.progress.load(Ordering::Relaxed);
        wait_until("the download goes on", || {
            job.progress.load(Ordering::Relaxed) > had + 1_000_000
        })
        .await;
        let got = fetch(lan, http(), 50_000, 8, PATIENCE).await;
        assert!(got.is_ok(), "{got:?}");
        let ways = lab.router(0).status().unwrap().flows.by_way;
        assert!(ways.mptcp > status.flows.by_way.mptcp, "{ways:?}");
    };
    tokio::select! {
        got = download(lan, &job) => panic!("the download has ended: {got:?}"),
        () = back => {}
    }
}
