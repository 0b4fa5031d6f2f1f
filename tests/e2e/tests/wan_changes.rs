//! WANs that change, come and go while connections are open: the connections go on.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use wanbond_control::{Status, WanState};
use wanbond_e2e::{PATIENCE, QUICK, all_up, carried, http, lab, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, origin};

/// An open connection to the origin's echo.
async fn open_echo(lab: &Lab) -> TcpStream {
    let to = (ORIGIN_V4, origin::ECHO).into();
    timeout(PATIENCE, lab.lan(0).tcp_connect(to)).await.unwrap().unwrap()
}

async fn echoes(stream: &mut TcpStream) {
    stream.write_all(b"still there?").await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"still there?");
}

/// Lets `act` happen in the middle of a download, each byte of which is compared.
async fn while_downloading(lab: &Lab, act: impl AsyncFnOnce(&Download)) {
    let mut job = Download::timed(http(), Duration::from_secs(300));
    job.patience = Duration::from_secs(100);
    tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        () = async {
            arrived(&job, 3_000_000).await;
            act(&job).await;
            arrived(&job, 1_000_000).await;
        } => {}
    }
}

/// Waits until so many more bytes have come.
async fn arrived(job: &Download, more: usize) {
    let goal = job.progress.load(Ordering::Relaxed) + more;
    wait_until("more bytes", || job.progress.load(Ordering::Relaxed) >= goal).await;
}

/// Waits until a WAN carries the download again.
async fn is_used(lab: &Lab, wan: &str) {
    let before = carried(lab, wan).0;
    wait_until(&format!("{wan} carries a real share"), || carried(lab, wan).0 > before + 4_000_000)
        .await;
}

fn state_of(status: &Status, wan: &str) -> Option<WanState> {
    status.wans.iter().find(|w| w.name == wan).map(|w| w.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_wans_gone_and_back_ends_no_connection() {
    let Some(lab) = running(QUICK) else { return };
    let away = if std::env::var_os("WANBOND_FULL").is_some() { 58 } else { 13 };
    let mut quiet = open_echo(&lab).await;
    echoes(&mut quiet).await;
    while_downloading(&lab, async |job| {
        lab.wan("wan1").cut().unwrap();
        lab.wan("wan2").cut().unwrap();
        tokio::time::sleep(Duration::from_secs(away)).await;
        let before = job.progress.load(Ordering::Relaxed);
        let back = std::time::Instant::now();
        lab.wan("wan2").restore().unwrap();
        wait_until("bytes come again", || job.progress.load(Ordering::Relaxed) > before).await;
        println!(
            "after {away} s without any WAN: bytes again {} ms after its return",
            back.elapsed().as_millis()
        );
        lab.wan("wan1").restore().unwrap();
        is_used(&lab, "wan2").await;
        is_used(&lab, "wan1").await;
    })
    .await;
    echoes(&mut quiet).await;
    all_up(&lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_addresses_and_gateways_end_no_connection() {
    let Some(lab) = running(QUICK) else { return };
    let mut quiet = open_echo(&lab).await;
    echoes(&mut quiet).await;
    while_downloading(&lab, async |_| {
        lab.wan("wan1").readdress().unwrap();
        is_used(&lab, "wan1").await;
        lab.wan("wan1").regateway().unwrap();
        is_used(&lab, "wan1").await;
        // Both at once: not a moment with two.
        lab.wan("wan1").readdress().unwrap();
        lab.wan("wan2").readdress().unwrap();
        is_used(&lab, "wan1").await;
        is_used(&lab, "wan2").await;
    })
    .await;
    echoes(&mut quiet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wans_added_and_removed_by_a_reload_end_no_connection() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let both = lab.router(0).pair().unwrap();
    let only = |name: &str| {
        let mut config = both.clone();
        config.wans.retain(|(device, _)| device == name);
        config
    };
    lab.router(0).configure(&only("wan1")).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let mut quiet = open_echo(&lab).await;
    echoes(&mut quiet).await;
    while_downloading(&lab, async |_| {
        lab.router(0).configure(&both).unwrap();
        lab.router(0).reload().unwrap();
        is_used(&lab, "wan2").await;
        lab.router(0).configure(&only("wan2")).unwrap();
        lab.router(0).reload().unwrap();
        lab.router(0)
            .wait_status(PATIENCE, "wan1 gone", |s| state_of(s, "wan1").is_none())
            .unwrap();
        is_used(&lab, "wan2").await;
    })
    .await;
    echoes(&mut quiet).await;
    let (_, left) = lab.router(0).stop().unwrap();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_could_not_join_a_returned_wan_is_repaired() {
    let Some(lab) = running(QUICK) else { return };
    // What the ISP's new box might do for a while: every new connection is refused.
    let refuse = "table inet refuse { chain out { type filter hook output priority 0; \
         oifname wan1 tcp flags & (syn | ack) == syn reject with tcp reset; }; }";
    while_downloading(&lab, async |_| {
        lab.wan("wan1").cut().unwrap();
        lab.router(0)
            .wait_status(PATIENCE, "wan1 down", |s| state_of(s, "wan1") == Some(WanState::Down))
            .unwrap();
        lab.router(0).ns().nft(refuse).unwrap();
        lab.wan("wan1").restore().unwrap();
        lab.router(0)
            .wait_status(PATIENCE, "wan1 up", |s| state_of(s, "wan1") == Some(WanState::Up))
            .unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let status = lab.router(0).status().unwrap();
        assert_eq!(status.wans[0].lanes, 0, "none could join: {:?}", status.wans[0]);
        lab.router(0).ns().nft("delete table inet refuse").unwrap();
        is_used(&lab, "wan1").await;
    })
    .await;
}
