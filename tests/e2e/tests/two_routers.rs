//! One server, several routers: each for itself.

mod common;

use std::net::IpAddr;

use common::{connect, seen_from};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_control::ServerState;
use wanbond_e2e::{PATIENCE, http, http_v6};
use wanbond_lab::Lab;
use wanbond_lab::scenario::Scenario;
use wanbond_lab::topology::{ORIGIN_V4, VPS_V4};
use wanbond_lab::traffic::{Download, download, origin, upload};

const SCENARIO: &str = r#"
    name = "two-routers"
    [[router]]
    [[router]]
    [[wan]]
    name = "a1"
    down = { rate = "40Mbit/s", delay = "5ms" }
    up = { rate = "40Mbit/s", delay = "5ms" }
    [[wan]]
    name = "a2"
    down = { rate = "40Mbit/s", delay = "5ms" }
    up = { rate = "40Mbit/s", delay = "5ms" }
    [[wan]]
    name = "b1"
    router = 1
    down = { rate = "40Mbit/s", delay = "10ms" }
    up = { rate = "40Mbit/s", delay = "10ms" }
    [[wan]]
    name = "b2"
    router = 1
    down = { rate = "40Mbit/s", delay = "10ms" }
    up = { rate = "40Mbit/s", delay = "10ms" }
"#;

fn running() -> Option<Lab> {
    let scenario = Scenario::parse(SCENARIO, "two-routers".as_ref()).expect("a scenario");
    let lab = Lab::build_or_skip(&scenario)?;
    lab.server().start().unwrap();
    for router in 0..2 {
        lab.router(router).start().unwrap();
        lab.router(router).wait_ready(PATIENCE).unwrap();
    }
    Some(lab)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_routers_at_once_are_served_and_told_apart() {
    let Some(lab) = running() else { return };
    let (a, b) = (lab.lan_of(0, 0), lab.lan_of(1, 0));
    let (down_a, down_b) = (Download::new(http(), 9_000_000), Download::new(http_v6(), 12_000_000));
    let (one, two, three) = tokio::join!(
        download(a, &down_a),
        download(b, &down_b),
        upload(b, http(), 3_000_000, PATIENCE)
    );
    assert!(one.complete && two.complete && three.complete, "{one:?}\n{two:?}\n{three:?}");

    let status = lab.server().status().unwrap();
    let of = |name: &str| status.routers.iter().find(|r| r.name == name).unwrap();
    let (first, second) = (of("router1"), of("router2"));
    assert!(first.connected && second.connected, "{status:?}");
    assert_eq!((first.flows_total, second.flows_total), (1, 2), "{status:?}");
    // What went to each is what it has asked for, and the heads of the answers.
    assert!((9_000_000..9_100_000).contains(&first.tx_bytes), "{first:?}");
    assert!((12_000_000..12_100_000).contains(&second.tx_bytes), "{second:?}");
    assert!((3_000_000..3_100_000).contains(&second.rx_bytes), "{second:?}");
    // Each comes from the addresses of its own WANs.
    for (router, wans) in [(first, ["a1", "a2"]), (second, ["b1", "b2"])] {
        let own: Vec<_> = wans.iter().map(|w| lab.wan(w).net().public_v4().to_string()).collect();
        assert!(!router.addresses.is_empty(), "{router:?}");
        for address in router.addresses.iter().filter(|a| !a.contains(':')) {
            assert!(own.contains(address), "{router:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_one_router_leaves_the_other_s_flows_alone() {
    let Some(lab) = running() else { return };
    let echo = (ORIGIN_V4, origin::ECHO).into();
    let mut flows = [connect(lab.lan_of(0, 0), echo).await, connect(lab.lan_of(1, 0), echo).await];
    let mut byte = [0];
    for flow in &mut flows {
        flow.write_all(b"x").await.unwrap();
        timeout(PATIENCE, flow.read_exact(&mut byte)).await.unwrap().unwrap();
    }
    lab.server().remove_router("router1").unwrap();
    assert!(common::is_reset(&mut flows[0]).await, "the removed router's flow ends, as an abort");
    lab.router(0)
        .wait_status(PATIENCE, "unknown router", |status| {
            status.server.as_ref().is_some_and(|s| s.state == ServerState::UnknownRouter)
        })
        .unwrap();
    flows[1].write_all(b"y").await.unwrap();
    timeout(PATIENCE, flows[1].read_exact(&mut byte)).await.unwrap().unwrap();
    assert_eq!(byte, *b"y");
    assert_eq!(seen_from(lab.lan_of(1, 0), http()).await.unwrap(), IpAddr::from(VPS_V4));
    let status = lab.server().status().unwrap();
    assert_eq!(status.routers.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["router2"]);
}
