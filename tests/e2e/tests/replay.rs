//! What was seen on the wire once is of no use to who sends it again.

mod common;

use std::net::{IpAddr, SocketAddr};

use common::capture::Capture;
use common::rogue::{Answer, RawLane, Rogue};
use tokio::net::UdpSocket;
use wanbond_e2e::{QUICK, all_up, http, lab, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, SECOND_V4, VPS_V4};
use wanbond_lab::traffic::{connections, origin};
use wanbond_proto::lane::{Target, handshake_frame};

async fn bonded(lab: &Lab) {
    let from = common::seen_from(lab.lan(0), http()).await.unwrap();
    assert_eq!(from, IpAddr::from(VPS_V4));
}

/// A stranger's socket, on an address that no router has.
fn stranger(lab: &Lab) -> UdpSocket {
    let socket = lab.inet().udp_socket((SECOND_V4, 0).into()).unwrap();
    UdpSocket::from_std(socket).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_lane_bytes_open_no_connection() {
    let Some(lab) = lab(QUICK) else { return };
    let code = lab.server().add_router("rogue").unwrap();
    lab.server().start().unwrap();
    let mut rogue = Rogue::admitted(lab.inet(), &code).await;
    let target = Target::Address((ORIGIN_V4, origin::ECHO).into());

    // As it is on a lane that has not heard of the server yet, the weakest moment: nothing of the
    // server's is in the keys.
    let mut cold = rogue.cold_lane().await;
    rogue.open(&mut cold, &target, b"transfer 100").await;
    assert_eq!(cold.answer().await, Answer::Connected);
    assert_eq!(cold.data().await, b"transfer 100");
    let mut warm = rogue.warm_lane().await;
    rogue.open(&mut warm, &target, b"transfer 200").await;
    assert_eq!(warm.answer().await, Answer::Connected);
    assert_eq!(warm.data().await, b"transfer 200");
    assert_eq!(lab.origin().accepted(), 2);

    for recorded in [&cold.sent, &warm.sent] {
        for cut in [recorded.len(), recorded.len() - 1, recorded.len() / 2] {
            let mut lane = RawLane::new(lab.inet()).await;
            lane.send(&recorded[..cut]).await;
            // A stranger learns at most that this was used before, which he knew.
            assert!(lane.rest().await.len() < 200);
        }
    }
    // The open of the warm lane, behind a Hello of our own on another lane: other freshness.
    let hello = warm.sent.len() - open_length(&warm.sent);
    let mut other = rogue.warm_lane().await;
    other.send(&warm.sent[hello..]).await;
    other.rest().await;
    // With the first bytes changed, it is not even a replay.
    for place in [0, 5, 12, 20, 40] {
        let mut changed = cold.sent.clone();
        changed[place] ^= 1;
        let mut lane = RawLane::new(lab.inet()).await;
        lane.send(&changed).await;
        lane.rest().await;
    }
    // The session still serves, and its flow is the only one that has come.
    let mut lane = rogue.warm_lane().await;
    rogue.open(&mut lane, &target, b"fine").await;
    assert_eq!(lane.answer().await, Answer::Connected);
    assert_eq!(lane.data().await, b"fine");
    assert_eq!(lab.origin().accepted(), 3, "a replay reached a target");
}

/// The length of what follows the first frame.
fn open_length(bytes: &[u8]) -> usize {
    let first = wanbond_proto::lane::next_frame(bytes).unwrap().unwrap();
    bytes.len() - first.range.end
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_handshakes_leave_the_router_connected() {
    let Some(lab) = running(QUICK) else { return };
    let code = lab.server().add_router("rogue").unwrap();
    let mut rogue = Rogue::admitted(lab.inet(), &code).await;
    let target = Target::Address((ORIGIN_V4, origin::ECHO).into());
    let mut lane = rogue.warm_lane().await;
    rogue.open(&mut lane, &target, b"before").await;
    assert_eq!(lane.answer().await, Answer::Connected);

    let init = rogue.init.clone();
    let socket = stranger(&lab);
    for _ in 0..500 {
        socket.send_to(&init, common::server_address()).await.unwrap();
    }
    for _ in 0..20 {
        let mut lane = RawLane::new(lab.inet()).await;
        lane.send(&handshake_frame(&init)).await;
        drop(lane);
    }
    // An answer is never longer than what asked for it: nobody is flooded by way of this server.
    let mut answer = [0; 2048];
    while let Ok(Ok((length, _))) =
        tokio::time::timeout(std::time::Duration::from_millis(200), socket.recv_from(&mut answer))
            .await
    {
        assert!(length <= init.len(), "{length} bytes for {}", init.len());
    }
    // The session that was there before goes on, though its Init came many times again.
    assert_eq!(lane.data().await, b"before");
    let mut lane = rogue.warm_lane().await;
    rogue.open(&mut lane, &target, b"after").await;
    assert_eq!(lane.answer().await, Answer::Connected);
    let status = lab.server().status().unwrap();
    let of = |name: &str| status.routers.iter().find(|r| r.name == name).unwrap().clone();
    assert_eq!(of("rogue").sessions, 1, "{status:?}");
    assert!(of("router1").connected, "{status:?}");
    bonded(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn captured_traffic_of_a_real_router_is_worth_nothing() {
    let Some(lab) = running(QUICK) else { return };
    let to_server = format!("dst host {VPS_V4} and dst port 65101");
    let captures: Vec<_> =
        lab.wans().map(|wan| Capture::start(&lab, wan.isp(), "vps", &to_server)).collect();
    // From the first word on.
    lab.router(0).stop().unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    assert_eq!(connections(lab.lan(0), http(), 20, 4, 2000, wanbond_e2e::PATIENCE).await.ok, 20);
    wait_until("handshakes, pings and lanes are captured", || {
        captures.iter().all(|c| c.datagrams().len() > 3)
            && captures.iter().map(|c| c.streams().len()).sum::<usize>() >= 2
    })
    .await;
    let accepted = lab.origin().accepted();
    let socket = stranger(&lab);
    let server: SocketAddr = common::server_address();
    for capture in &captures {
        for datagram in capture.datagrams() {
            socket.send_to(&datagram, server).await.unwrap();
        }
        for stream in capture.streams() {
            let mut lane = RawLane::new(lab.inet()).await;
            lane.send(&stream).await;
            lane.rest().await;
        }
    }
    bonded(&lab).await;
    assert_eq!(lab.origin().accepted(), accepted + 1, "a replay reached a target");
    let status = lab.server().status().unwrap();
    let router = &status.routers[0];
    assert!(router.connected, "{status:?}");
    let stranger = SECOND_V4.to_string();
    assert!(!router.addresses.contains(&stranger), "the router moved to its replayer: {router:?}");
    all_up(&lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_every_shape_is_met_with_silence() {
    let Some(lab) = running(QUICK) else { return };
    let socket = stranger(&lab);
    let server = common::server_address();
    // Nothing of the server's key is known here: whatever it looks like, no answer may come.
    for round in 0..400_usize {
        let mut bytes: [u8; 1400] = common::random();
        let kinds = [1, 2, 3, 4, 5, 0x10, 0x11, bytes[0]];
        bytes[0] = kinds[round % kinds.len()];
        if round % 3 == 0 {
            // As a message of the right version.
            bytes[1..4].copy_from_slice(&[1, 0, 0]);
        }
        let length = [1, 4, 27, 28, 64, 148, 200, 300, 1200, 1400][round % 10];
        // An unknown session is answered, so that a restarted server is noticed at once; never
        // with more than was sent.
        if [0x10, 0x11].contains(&bytes[0]) {
            continue;
        }
        socket.send_to(&bytes[..length], server).await.unwrap();
    }
    let mut lanes = Vec::new();
    for round in 0..60_usize {
        let mut bytes: [u8; 1400] = common::random();
        bytes[0] = [0x16, b'G', 0, 0xff, bytes[0] | 0x80, 1][round % 6];
        let mut lane = RawLane::new(lab.inet()).await;
        lane.send(&bytes).await;
        lanes.push(lane);
    }
    for lane in lanes {
        let answer = lane.rest().await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    let mut answer = [0; 2048];
    // All of it has been read by then: a real flow went behind it.
    bonded(&lab).await;
    assert!(socket.try_recv(&mut answer).is_err(), "{answer:?}");
}
