//! WANs that change, come and go while connections are open: the connections go on.
//!
//! Each change happens to three routers at once, whose LANs' TCP goes over MPTCP lanes, over the
//! tunnel's streams, and through it as packets; each has UDP sessions beside that.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::ongoing::{Ongoing, while_all_goes_on};
use tokio::time::sleep;
use wanbond_control::{Status, WanState};
use wanbond_e2e::{PATIENCE, QUICK, carried, http, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::scenario::Scenario;
use wanbond_lab::topology::{VPS_V4, VPS_V6};
use wanbond_lab::traffic::{Download, download};

/// How the LAN's TCP goes, for each router, and its WANs.
const WAYS: [(&str, [&str; 2]); 3] =
    [("mptcp", ["a1", "a2"]), ("stream", ["b1", "b2"]), ("packet", ["c1", "c2"])];

/// Three routers with two lines each.
fn scenario() -> Scenario {
    let mut text = String::from("name = \"three-ways\"\n[[router]]\n[[router]]\n[[router]]\n");
    for (router, (_, wans)) in WAYS.iter().enumerate() {
        for wan in wans {
            text += &format!(
                "[[wan]]\nname = \"{wan}\"\nrouter = {router}\n\
                 down = {{ rate = \"10Mbit/s\", delay = \"5ms\", queue = \"100ms\" }}\n\
                 up = {{ rate = \"10Mbit/s\", delay = \"5ms\", queue = \"100ms\" }}\n"
            );
        }
    }
    Scenario::parse(&text, "three-ways".as_ref()).expect("the scenario is right")
}

/// A lab with the three routers up.
async fn three_ways() -> Option<Lab> {
    let lab = Lab::build_or_skip(&scenario())?;
    // Reachable over both families.
    lab.server().init(&[&VPS_V4.to_string(), &VPS_V6.to_string()]).expect("the server's keys");
    for (router, (way, _)) in WAYS.iter().enumerate() {
        let mut config = lab.router(router).pair().expect("a pairing code");
        config.tcp = (*way).to_owned();
        lab.router(router).configure(&config).expect("written");
    }
    lab.server().start().expect("the server starts");
    for router in 0..WAYS.len() {
        lab.router(router).start().expect("the router starts");
    }
    for router in 0..WAYS.len() {
        wait_until("all WANs up", || {
            let status = lab.router(router).status();
            status.is_ok_and(|status| {
                status.wans.len() == 2
                    && status.wans.iter().all(|wan| wan.state == WanState::Up)
                    && (router != 0 || status.lanes.idle > 0)
            })
        })
        .await;
    }
    Some(lab)
}

/// Lets the same happen to each router, at once, while connections and sessions are open.
async fn in_every_way(lab: &Lab, act: impl AsyncFn(&mut Ongoing, [&str; 2])) {
    let act = &act;
    let one = |router: usize| {
        while_all_goes_on(lab, router, async move |ongoing: &mut Ongoing| {
            act(ongoing, WAYS[router].1).await;
        })
    };
    tokio::join!(one(0), one(1), one(2));
}

/// Waits until a WAN carries the download.
async fn is_used(lab: &Lab, wan: &str) {
    let before = carried(lab, wan).0;
    wait_until(&format!("{wan} carries a real share"), || carried(lab, wan).0 > before + 800_000)
        .await;
}

fn state_of(status: &Status, wan: &str) -> Option<WanState> {
    status.wans.iter().find(|w| w.name == wan).map(|w| w.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn new_addresses_and_gateways_end_no_connection() {
    let Some(lab) = three_ways().await else { return };
    in_every_way(&lab, async |ongoing, [one, other]| {
        // A lease brings another address, then another gateway.
        lab.wan(one).readdress().unwrap();
        is_used(&lab, one).await;
        lab.wan(one).regateway().unwrap();
        is_used(&lab, one).await;
        ongoing.goes_on("another address, another gateway").await;
        // Both at once: not a moment with two.
        lab.wan(one).readdress().unwrap();
        lab.wan(other).readdress().unwrap();
        is_used(&lab, one).await;
        is_used(&lab, other).await;
        ongoing.goes_on("both have other addresses").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pulled_modems_and_redialled_lines_end_no_connection() {
    let Some(lab) = three_ways().await else { return };
    in_every_way(&lab, async |ongoing, [one, other]| {
        lab.wan(one).unplug().unwrap();
        ongoing.goes_on("a modem is pulled").await;
        lab.wan(one).plug().unwrap();
        is_used(&lab, one).await;
        // PPPoE, after its nightly disconnect.
        lab.wan(other).redial().unwrap();
        is_used(&lab, other).await;
        ongoing.goes_on("a line was dialled anew").await;
        lab.wan(one).redial().unwrap();
        lab.wan(other).redial().unwrap();
        is_used(&lab, one).await;
        is_used(&lab, other).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn families_that_come_and_go_end_no_connection() {
    let Some(lab) = three_ways().await else { return };
    in_every_way(&lab, async |ongoing, [one, other]| {
        lab.wan(one).set_ipv6(false).unwrap();
        is_used(&lab, one).await;
        lab.wan(one).set_ipv6(true).unwrap();
        is_used(&lab, one).await;
        ongoing.goes_on("one WAN's IPv6 went and came").await;
        lab.wan(one).set_ipv4(false).unwrap();
        sleep(Duration::from_secs(1)).await;
        ongoing.goes_on("one WAN has IPv6 only").await;
        lab.wan(one).set_ipv4(true).unwrap();
        is_used(&lab, one).await;
        ongoing.goes_on("it has IPv4 again").await;
        lab.wan(one).set_ipv4(false).unwrap();
        lab.wan(other).set_ipv4(false).unwrap();
        sleep(Duration::from_secs(2)).await;
        // An MPTCP connection's subflows all go to the address that it began with: it waits.
        if ongoing.router() != 0 {
            ongoing.goes_on("there is IPv6 only").await;
        }
        lab.wan(one).set_ipv4(true).unwrap();
        lab.wan(other).set_ipv4(true).unwrap();
        is_used(&lab, one).await;
        is_used(&lab, other).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_wans_gone_for_a_minute_end_no_connection() {
    let Some(lab) = three_ways().await else { return };
    in_every_way(&lab, async |ongoing, [one, other]| {
        // Silent: nobody is told.
        lab.wan(one).cut().unwrap();
        lab.wan(other).cut().unwrap();
        sleep(Duration::from_secs(10)).await;
        lab.wan(other).restore().unwrap();
        ongoing.goes_on("after 10 s of silence, one line is back").await;
        lab.wan(one).restore().unwrap();
        is_used(&lab, one).await;
        is_used(&lab, other).await;
        // Gone: no device, no address, and others when they are back.
        lab.wan(one).unplug().unwrap();
        lab.wan(other).unplug().unwrap();
        // A sender far away, whose packets come through as they are, asks again after pauses that
        // double: its connection takes as long again.
        let gone = if ongoing.router() == 2 { 12 } else { 58 };
        sleep(Duration::from_secs(gone)).await;
        lab.wan(one).redial().unwrap();
        ongoing.goes_on("after a time without any device, one is back").await;
        lab.wan(other).redial().unwrap();
        is_used(&lab, one).await;
        is_used(&lab, other).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wans_added_and_removed_by_a_reload_end_no_connection() {
    let Some(lab) = three_ways().await else { return };
    in_every_way(&lab, async |ongoing, [one, other]| {
        let router = lab.router(ongoing.router());
        let both = router.configuration().expect("it is configured");
        let only = |name: &str| {
            let mut config = both.clone();
            config.wans.retain(|(device, _)| device == name);
            config
        };
        for (left, gone) in [(one, other), (other, one)] {
            router.configure(&only(left)).unwrap();
            router.reload().unwrap();
            wait_until(&format!("{gone} is gone"), || {
                router.status().is_ok_and(|status| state_of(&status, gone).is_none())
            })
            .await;
            is_used(&lab, left).await;
            ongoing.goes_on("one WAN was removed").await;
            router.configure(&both).unwrap();
            router.reload().unwrap();
            is_used(&lab, gone).await;
            is_used(&lab, left).await;
        }
    })
    .await;
    for router in 0..WAYS.len() {
        let (_, left) = lab.router(router).stop().unwrap();
        assert_eq!(left, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_could_not_join_a_returned_wan_is_repaired() {
    let Some(lab) = running(QUICK) else { return };
    // What the ISP's new box might do for a while: every new connection is refused.
    let refuse = "table inet refuse { chain out { type filter hook output priority 0; \
         oifname wan1 tcp flags & (syn | ack) == syn reject with tcp reset; }; }";
    let job = Download::timed(http(), Duration::from_secs(300));
    let progress: &AtomicUsize = &job.progress;
    tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        () = async {
            wait_until("it has begun", || progress.load(Ordering::Relaxed) > 3_000_000).await;
            lab.wan("wan1").cut().unwrap();
            lab.router(0)
                .wait_status(PATIENCE, "wan1 down", |s| state_of(s, "wan1") == Some(WanState::Down))
                .unwrap();
            lab.router(0).ns().nft(refuse).unwrap();
            lab.wan("wan1").restore().unwrap();
            lab.router(0)
                .wait_status(PATIENCE, "wan1 up", |s| state_of(s, "wan1") == Some(WanState::Up))
                .unwrap();
            sleep(Duration::from_secs(1)).await;
            let status = lab.router(0).status().unwrap();
            assert_eq!(status.wans[0].lanes, 0, "none could join: {:?}", status.wans[0]);
            lab.router(0).ns().nft("delete table inet refuse").unwrap();
            let before = carried(&lab, "wan1").0;
            wait_until("wan1 is used", || carried(&lab, "wan1").0 > before + 4_000_000).await;
        } => {}
    }
}
