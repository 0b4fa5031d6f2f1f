//! What a client of the LAN sees of its connection is what the target did.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use wanbond_e2e::{PATIENCE, QUICK, http, lab, running, wait_until};
use wanbond_lab::topology::{BLACKHOLE_V4, ORIGIN_V4, SECOND_V4, UNREACHABLE_V4};
use wanbond_lab::traffic::{connections, fetch, origin};
use wanbond_lab::{Lab, ns::Namespace};

async fn connect(lab: &Lab, to: SocketAddr) -> TcpStream {
    timeout(PATIENCE, lab.lan(0).tcp_connect(to)).await.unwrap().unwrap()
}

/// A listener of the test's own on the Internet's second address.
fn listen(inet: &Namespace, port: u16) -> (TcpListener, SocketAddr) {
    let address = SocketAddr::from((SECOND_V4, port));
    let listener = inet.tcp_listener(address).unwrap();
    listener.set_nonblocking(true).unwrap();
    (TcpListener::from_std(listener).unwrap(), address)
}

/// Client and target ends of a connection through wanbond.
async fn pair(lab: &Lab, port: u16) -> (TcpStream, TcpStream) {
    let (listener, address) = listen(lab.inet(), port);
    let client = connect(lab, address).await;
    let (target, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    (client, target)
}

async fn is_reset(stream: &mut TcpStream) -> bool {
    let mut byte = [0; 64];
    loop {
        match timeout(PATIENCE, stream.read(&mut byte)).await.expect("the connection ends") {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_unreachable_and_timed_out_targets_reset_the_client() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().init(&[&wanbond_lab::topology::VPS_V4.to_string()]).unwrap();
    let settings = lab.server().state_dir().join("server.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let text = text.replace("#connect_timeout = 20", "connect_timeout = 2");
    assert!(text.contains("\nconnect_timeout = 2"), "the option is where it was: {text}");
    std::fs::write(&settings, text).unwrap();
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    wanbond_e2e::all_up(&lab);
    for target in [
        SocketAddr::from((SECOND_V4, 4444)),
        SocketAddr::from((UNREACHABLE_V4, 80)),
        SocketAddr::from((BLACKHOLE_V4, 80)),
    ] {
        let mut client = connect(&lab, target).await;
        client.write_all(b"hello").await.unwrap();
        assert!(is_reset(&mut client).await, "{target}");
    }
    let flows = lab.router(0).status().unwrap().flows;
    let counted = (flows.refused_total, flows.unreachable_total, flows.timed_out_total);
    assert_eq!(counted, (1, 1, 1), "{flows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_close_each_way() {
    let Some(lab) = running(QUICK) else { return };
    let (mut client, mut target) = pair(&lab, 5001).await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut target).await, b"question");
    target.write_all(b"answer after the end").await.unwrap();
    drop(target);
    assert_eq!(read_all(&mut client).await, b"answer after the end");

    let (mut client, mut target) = pair(&lab, 5002).await;
    target.write_all(b"greeting").await.unwrap();
    target.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, b"greeting");
    client.write_all(b"late words").await.unwrap();
    drop(client);
    assert_eq!(read_all(&mut target).await, b"late words");
}

#[tokio::test(flavor = "multi_thread")]
async fn aborts_pass_each_way_and_lanes_are_used_again() {
    let Some(lab) = running(QUICK) else { return };
    for round in 0..6u16 {
        let (mut client, mut target) = pair(&lab, 5100 + round).await;
        client.write_all(b"x").await.unwrap();
        let mut byte = [0];
        timeout(PATIENCE, target.read_exact(&mut byte)).await.unwrap().unwrap();
        let (gone, left) =
            if round % 2 == 0 { (client, &mut target) } else { (target, &mut client) };
        socket2::SockRef::from(&gone).set_linger(Some(Duration::ZERO)).unwrap();
        drop(gone);
        assert!(is_reset(left).await, "round {round}");
    }
    let lanes = lab.router(0).status().unwrap().lanes;
    assert!(lanes.reused_total >= 4, "{lanes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_is_heard_at_once() {
    let Some(lab) = running(QUICK) else { return };
    let mut client = connect(&lab, (ORIGIN_V4, origin::BANNER).into()).await;
    let mut banner = vec![0; origin::GREETING.len()];
    timeout(PATIENCE, client.read_exact(&mut banner)).await.unwrap().unwrap();
    assert_eq!(banner, origin::GREETING);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_and_a_slow_writer_cost_no_memory() {
    let Some(lab) = running("unshaped") else { return };
    let before = (lab.router(0).usage().unwrap().rss, lab.server().usage().unwrap().rss);
    let (mut client, mut target) = pair(&lab, 5200).await;
    // As much as the sockets on the way take, and then some: the writer is held up.
    let block = vec![7; 1 << 20];
    let mut sent = 0u64;
    while let Ok(written) = timeout(Duration::from_secs(1), target.write(&block)).await {
        sent += written.unwrap() as u64;
        assert!(sent < 1 << 30, "nobody reads, yet everything is taken");
    }
    let after = (lab.router(0).usage().unwrap().rss, lab.server().usage().unwrap().rss);
    assert!(after.0 < before.0 + (4 << 20), "router: {before:?} {after:?}");
    assert!(after.1 < before.1 + (4 << 20), "server: {before:?} {after:?}");
    drop(target);
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = timeout(PATIENCE, client.read(&mut buffer)).await.unwrap().unwrap();
        if n == 0 {
            break;
        }
        received += n as u64;
    }
    assert_eq!(received, sent);

    let (mut client, mut target) = pair(&lab, 5201).await;
    for byte in 0..20u8 {
        client.write_all(&[byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(client);
    assert_eq!(read_all(&mut target).await, (0..20).collect::<Vec<u8>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_short_connections_leave_nothing_behind() {
    let Some(lab) = running("unshaped") else { return };
    let start = lab.router(0).usage().unwrap().descriptors;
    let done = connections(lab.lan(0), http(), 10_000, 500, 200, PATIENCE).await;
    assert_eq!((done.ok, done.failed), (10_000, 0), "{:?}", done.errors);
    let status = lab.router(0).status().unwrap();
    assert_eq!(status.flows.reset_total, 0, "{:?}", status.flows);
    wait_until("no flow is open any more", || {
        lab.router(0).status().is_ok_and(|s| s.flows.active == 0 && s.lanes.busy == 0)
    })
    .await;
    // Idle lanes stay warm for a while; nothing but lanes may be open.
    wait_until("descriptors are those of lanes", || {
        let lanes = lab.router(0).status().map_or(0, |s| s.lanes.idle as usize);
        lab.router(0).usage().is_ok_and(|u| u.descriptors <= start + lanes)
    })
    .await;
    let status = lab.server().status().unwrap();
    assert_eq!(status.flows.active, 0, "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_connections_fit_a_small_router() {
    let Some(lab) = running("unshaped") else { return };
    let mut held = Vec::new();
    for (number, most) in [(1000, 24_000_000), (2000, 40_000_000)] {
        while held.len() < number {
            held.push(connect(&lab, (ORIGIN_V4, origin::ECHO).into()).await);
        }
        wait_until("all are open", || {
            lab.router(0).status().is_ok_and(|s| s.flows.active as usize == number)
        })
        .await;
        // Each has carried something, and rests.
        for client in &mut held {
            client.write_all(b"!").await.unwrap();
            let mut byte = [0];
            timeout(PATIENCE, client.read_exact(&mut byte)).await.unwrap().unwrap();
        }
        let rss = lab.router(0).usage().unwrap().rss;
        println!("router RSS with {number} idle connections: {:.1} MB", rss as f64 / 1e6);
        assert!(rss < most, "{rss} bytes with {number} connections");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_opens_in_one_round_trip() {
    let Some(lab) = running("adsl") else { return };
    let mut with = Vec::new();
    for seed in 0..9 {
        with.push(fetch(lab.lan(0), http(), 100, seed, PATIENCE).await.unwrap().first_byte);
    }
    let (_, left) = lab.router(0).stop().unwrap();
    assert!(left.is_empty(), "{left:?}");
    let mut without = Vec::new();
    for seed in 0..9 {
        without.push(fetch(lab.lan(0), http(), 100, seed, PATIENCE).await.unwrap().first_byte);
    }
    with.sort();
    without.sort();
    let rtt = Duration::from_millis(40);
    let in_rtts = |time: Duration| time.as_secs_f64() / rtt.as_secs_f64();
    println!("first byte: {:.2} RTT with, {:.2} without", in_rtts(with[4]), in_rtts(without[4]));
    // One round trip less than without: half of that is slack enough on any machine.
    assert!(with[4] + rtt / 2 < without[4], "{with:?} {without:?}");
}
