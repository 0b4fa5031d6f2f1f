//! A server that is gone: around it, or nowhere, as the configuration says, and back. How long that
//! takes is printed, not asserted.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use common::seen_from;
use tokio::time::timeout;
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, running};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, VPS_V4};
use wanbond_lab::traffic::origin;

/// Everything to the VPS vanishes: not even "port unreachable" comes back.
const DEAD: &str = "table inet dead { chain in { type filter hook input priority -300; drop; }; }";
const ALIVE: &str = "delete table inet dead";

/// Connects again and again until the target sees the LAN come from one of `wanted`. Gives how long
/// that took.
async fn until_seen_as(lab: &Lab, wanted: &[IpAddr]) -> Duration {
    let start = Instant::now();
    loop {
        // A browser gives up on a connection sooner, too, when others go through.
        let from = timeout(Duration::from_millis(1500), seen_from(lab.lan(0), http())).await;
        if from.is_ok_and(|from| from.is_ok_and(|from| wanted.contains(&from))) {
            return start.elapsed();
        }
        assert!(start.elapsed() < PATIENCE, "never seen as {wanted:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn isps(lab: &Lab) -> Vec<IpAddr> {
    lab.wans().map(|wan| IpAddr::from(wan.net().public_v4())).collect()
}

async fn goes_around(lab: &Lab, what: &str) {
    let before = lab.router(0).status().unwrap().uptime_s;
    let around = until_seen_as(lab, &isps(lab)).await;
    let status = lab.router(0).status().unwrap();
    let told = status
        .events
        .iter()
        .filter(|event| event.at_s > before)
        .map(|event| format!("{:.0} ms: {}", (event.at_s - before) * 1e3, event.message));
    println!("{what}: around it after {} ms", around.as_millis());
    println!("{}", told.collect::<Vec<_>>().join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_connections_go_around_a_server_that_is_gone_and_back() {
    let Some(lab) = running(QUICK) else { return };
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), IpAddr::from(VPS_V4));
    lab.server().kill().unwrap();
    goes_around(&lab, "killed while in use").await;
    lab.server().start().unwrap();
    let back = until_seen_as(&lab, &[VPS_V4.into()]).await;
    println!("its restart: used again after {} ms", back.as_millis());
    all_up(&lab);

    // A machine that is gone says nothing, and nobody asked it anything for a while.
    tokio::time::sleep(Duration::from_secs(4)).await;
    lab.vps().nft(DEAD).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    goes_around(&lab, "vanished while idle").await;
    lab.vps().nft(ALIVE).unwrap();
    let back = until_seen_as(&lab, &[VPS_V4.into()]).await;
    println!("its return: used again after {} ms", back.as_millis());
    all_up(&lab);
}

/// Whether the origin's UDP echo answers the LAN.
async fn udp_answers(lab: &Lab) -> bool {
    let socket = lab.lan(0).udp_socket(([0, 0, 0, 0], 0).into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    let to = SocketAddr::from((ORIGIN_V4, origin::ECHO));
    let mut answer = [0; 64];
    for _ in 0..5 {
        let _ = socket.send_to(b"a question", to).await;
        let heard = timeout(Duration::from_millis(300), socket.recv_from(&mut answer)).await;
        if heard.is_ok_and(|heard| heard.is_ok()) {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn where_direct_is_not_allowed_nothing_leaves_around_a_server_that_is_gone() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.when_server_down = "block".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    assert!(udp_answers(&lab).await, "before");
    let captures: Vec<_> = lab
        .wans()
        .map(|wan| {
            let filter = format!("host {ORIGIN_V4}");
            let device = wan.name().to_owned();
            common::capture::Capture::start(&lab, lab.router(0).ns(), &device, &filter)
        })
        .collect();
    lab.vps().nft(DEAD).unwrap();
    let accepted = lab.origin().accepted();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(4) {
        assert!(!udp_answers(&lab).await, "a datagram went around the server");
        let _ = timeout(Duration::from_millis(300), seen_from(lab.lan(0), http())).await;
    }
    assert_eq!(lab.origin().accepted(), accepted, "a connection went around the server");
    for capture in &captures {
        // A file header and nothing else.
        assert!(capture.bytes().len() <= 24, "packets to the target on a WAN");
    }
    lab.vps().nft(ALIVE).unwrap();
    let back = until_seen_as(&lab, &[VPS_V4.into()]).await;
    println!("used again {} ms after its return", back.as_millis());
    wanbond_e2e::wait_until("flows are answered again", || lab.origin().accepted() > accepted)
        .await;
    assert!(udp_answers(&lab).await, "after");
}
