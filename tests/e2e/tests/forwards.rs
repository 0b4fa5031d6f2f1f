//! Packets that are no redirected TCP go through the tunnel, and public ports lead to LAN hosts.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};
use wanbond_e2e::{PATIENCE, QUICK, running};
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::{ORIGIN_V4, VPS_V4, lan_host};

fn udp(ns: &Namespace, address: SocketAddr) -> UdpSocket {
    let socket = ns.udp_socket(address).expect("the address is free");
    socket.set_nonblocking(true).expect("a socket");
    UdpSocket::from_std(socket).expect("tokio")
}

/// Asks until `here` hears of it, and returns who asked and whom `here` heard it from. From a port
/// of its own each time: what connection tracking has once taken for the VPS stays there.
async fn heard_from(
    ns: &Namespace,
    source: Ipv4Addr,
    here: &UdpSocket,
    to: SocketAddr,
) -> (SocketAddr, SocketAddr) {
    let start = Instant::now();
    let mut bytes = [0; 16];
    loop {
        let client = udp(ns, (source, 0).into());
        client.send_to(b"question", to).await.expect("sent");
        if let Ok(heard) = timeout(Duration::from_millis(500), here.recv_from(&mut bytes)).await {
            let (_, from) = heard.expect("a datagram");
            here.send_to(b"answer", from).await.expect("sent");
            let (length, by) =
                timeout(PATIENCE, client.recv_from(&mut bytes)).await.expect("in time").unwrap();
            assert_eq!((&bytes[..length], by), (&b"answer"[..], to));
            return (client.local_addr().unwrap(), from);
        }
        assert!(start.elapsed() < PATIENCE, "nothing comes through");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn public_ports_lead_to_lan_hosts_while_they_are_forwarded() {
    let Some(lab) = running(QUICK) else { return };
    let host = lan_host(0, 0).0;
    // Out: as the VPS.
    let outside = udp(lab.inet(), (ORIGIN_V4, 5353).into());
    let (_, seen) = heard_from(lab.lan(0), host, &outside, (ORIGIN_V4, 5353).into()).await;
    assert_eq!(seen.ip(), IpAddr::from(VPS_V4));

    // In: the running daemons follow the command line.
    let router = lab.router(0).name();
    let to = format!("{host}:80");
    let add = ["forward", "add", &router, "--tcp", "8080", "--to", &to];
    lab.server().cli(&add).expect("a forward of TCP");
    let add = ["forward", "add", &router, "--udp", "5000-5009", "--to", &host.to_string()];
    lab.server().cli(&add).expect("a forward of UDP");
    let server = udp(lab.lan(0), (host, 5007).into());
    let (client, seen) = heard_from(lab.inet(), ORIGIN_V4, &server, (VPS_V4, 5007).into()).await;
    assert_eq!(seen, client, "the client's own address and port");

    let listener = common::listen(lab.lan(0), (host, 80).into());
    let mut caller = common::connect(lab.inet(), (VPS_V4, 8080).into()).await;
    let (mut called, peer) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    assert_eq!(peer, caller.local_addr().unwrap());
    let sent = vec![7; 200_000];
    let (writing, mut received) = (sent.clone(), Vec::new());
    let write = async {
        caller.write_all(&writing).await.unwrap();
        caller.shutdown().await.unwrap();
    };
    let read = called.read_to_end(&mut received);
    let (_, read) = timeout(PATIENCE, async { tokio::join!(write, read) }).await.unwrap();
    read.unwrap();
    assert!(received == sent);

    lab.server().cli(&["forward", "remove", &router, "--tcp", "8080"]).expect("removed");
    let start = Instant::now();
    while lab.inet().tcp_connect((VPS_V4, 8080).into()).await.is_ok() {
        assert!(start.elapsed() < PATIENCE, "still forwarded");
        sleep(Duration::from_millis(100)).await;
    }
    let (ended, left) = lab.router(0).stop().expect("the router stops");
    assert!(ended.success() && left.is_empty(), "{ended}: {left:?}");
}
