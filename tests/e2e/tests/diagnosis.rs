//! What is wrong or slow is found and named, with what to do: each kind is made, one after the other.

mod common;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::listen;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wanbond_control::{Diagnosis, WanState};
use wanbond_e2e::{PATIENCE, QUICK, http, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::emulator::{Direction, Filter, Shape};
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, upload};

/// What is found about somebody, as one text.
fn found(lab: &Lab, about: &str) -> String {
    let json = lab.router(0).cli(&["diagnose", "--json"]).unwrap();
    let diagnosis: Diagnosis = serde_json::from_str(&json).unwrap();
    let findings = diagnosis.findings.iter().filter(|finding| finding.about == about);
    findings.map(|finding| format!("{} ({})\n", finding.what, finding.advice)).collect()
}

/// Waits until it is found, and gives all about this somebody.
async fn finds(lab: &Lab, about: &str, words: &str) -> String {
    wait_until(&format!("{about}: {words}"), || found(lab, about).contains(words)).await;
    found(lab, about)
}

async fn no_more(lab: &Lab, about: &str, words: &str) {
    wait_until(&format!("{about}: no {words}"), || !found(lab, about).contains(words)).await;
}

/// A hotel's network: HTTP is answered by its own machine, all else is dropped.
const PORTAL: &str = "table ip portal {\n\
     chain pre { type nat hook prerouting priority dstnat; iifname line tcp dport 80 redirect to :8080; }\n\
     chain none { type filter hook forward priority filter; iifname line drop; oifname line drop; }\n}\n\
     table ip6 portal {\n\
     chain none { type filter hook forward priority filter; iifname line drop; oifname line drop; }\n}\n";

const LOGIN: &str = "http://login.hotel.example/welcome";

/// Its machine, which asks everybody to log in.
async fn ask_to_log_in(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.read(&mut [0; 1024]).await;
        let answer =
            format!("HTTP/1.1 302 Found\r\nLocation: {LOGIN}\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_captive_portal_is_told_from_a_dead_line() {
    let Some(lab) = running(QUICK) else { return };
    let wan = lab.wan("wan1");
    // Tasks of their own, here and below: to ask the daemon blocks.
    let listener = listen(wan.isp(), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)));
    let portal = tokio::spawn(ask_to_log_in(listener));
    wan.isp().nft(PORTAL).unwrap();
    let text = finds(&lab, "wan1", "captive portal").await;
    assert!(text.contains(LOGIN), "{text}");
    assert!(!found(&lab, "wan2").contains("portal"));
    // Somebody logs in.
    wan.isp().nft("delete table ip portal\ndelete table ip6 portal\n").unwrap();
    no_more(&lab, "wan1", "captive portal").await;
    // A line that is dead is no portal, whatever a web server on the VPS would say.
    wan.cut().unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "wan1 down", |s| s.wans[0].state == WanState::Down)
        .unwrap();
    let text = finds(&lab, "wan1", "the fault lies further on").await;
    assert!(!text.contains("portal") && text.contains("port 65101"), "{text}");
    portal.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_networks_do_to_packets_is_found() {
    let Some(lab) = running(QUICK) else { return };
    let wan = lab.wan("wan1");
    wan.set_filter(Filter { block_udp: true, ..Filter::default() }).unwrap();
    finds(&lab, "wan1", "UDP to the server's port 65101 is blocked").await;
    wan.set_filter(Filter::default()).unwrap();
    no_more(&lab, "wan1", "UDP to the server").await;

    // Found by new connections only: the link comes anew.
    lab.router(0).stop().unwrap();
    wan.set_filter(Filter { strip_mptcp: true, ..Filter::default() }).unwrap();
    // And what is larger than this gets lost, silently.
    let small = "table inet small { chain passing { type filter hook forward priority filter; \
         meta length > 1350 ip protocol udp drop; }; }";
    wan.isp().nft(small).unwrap();
    lab.router(0).start().unwrap();
    finds(&lab, "wan1", "removes MPTCP from connections to port 65101").await;
    // What passes is found while there is traffic.
    let job = Download::timed(http(), Duration::from_secs(300));
    let text = tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        text = finds(&lab, "wan1", "only datagrams of up to") => text,
    };
    assert!(text.contains("MTU"), "{text}");
}

/// A line of 4 Mbit/s with a long queue.
fn narrow(loss: &str) -> Shape {
    Shape {
        rate: Some("4Mbit/s".parse().unwrap()),
        delay: Duration::from_millis(5),
        loss: loss.parse().unwrap(),
        queue: wanbond_lab::emulator::QueueLimit::Time(Duration::from_millis(600)),
        ..Shape::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_and_a_queue_that_others_fill_are_found() {
    let Some(lab) = running(QUICK) else { return };
    let wan = lab.wan("wan1");
    let job = Download::timed(http(), Duration::from_secs(300));
    for direction in [Direction::Up, Direction::Down] {
        wan.set(direction, narrow("8%")).unwrap();
    }
    tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        _ = finds(&lab, "wan1", "of its packets are lost") => {}
    }
    for direction in [Direction::Up, Direction::Down] {
        wan.set(direction, narrow("0%")).unwrap();
    }
    // Somebody on the router uploads without wanbond's knowing, and fills the queue as most do.
    let router = lab.router(0).ns();
    router.output("sysctl", &["-q", "-w", "net.ipv4.tcp_congestion_control=reno"]).unwrap();
    let job = Download::timed(http(), Duration::from_secs(300));
    tokio::select! {
        got = download(lab.lan(0), &job) => panic!("the download has ended: {got:?}"),
        got = upload(router, http(), 1 << 40, PATIENCE) => panic!("the upload has ended: {got:?}"),
        _ = finds(&lab, "wan1", "in its queue") => {}
    }
}

/// Keeps a processor busy, behind everybody else, until it is dropped.
struct Busy(Child);

impl Busy {
    fn start() -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "19", "setpriv", "--pdeathsig", "KILL", "--"]);
        command.args(["sh", "-c", "while :; do :; done"]).stdin(Stdio::null());
        Self(command.spawn().expect("nice and sh"))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_processors_on_both_ends_and_mute_name_servers_are_found() {
    let Some(lab) = running(QUICK) else { return };
    // The router's programs ask the router itself, where nothing answers yet.
    let file = lab.dir().join("resolv.conf");
    std::fs::write(&file, "nameserver 192.168.77.1\n").unwrap();
    let bind = ["--bind", &file.display().to_string(), "/etc/resolv.conf"];
    lab.router(0).ns().output("mount", &bind).unwrap();
    lab.router(0).stop().unwrap();
    lab.router(0).start().unwrap();
    finds(&lab, "router", "names can't be looked up").await;
    let at: Ipv4Addr = "192.168.77.1".parse().unwrap();
    let names = common::name_server::NameServer::start(lab.router(0).ns(), at, ORIGIN_V4);
    no_more(&lab, "router", "names can't be looked up").await;
    assert!(names.asked_by().contains(&IpAddr::from(at)));

    // Router and VPS are the same machine here.
    let cores = std::thread::available_parallelism().unwrap().get();
    let busy: Vec<_> = (0..cores).map(|_| Busy::start()).collect();
    finds(&lab, "router", "its processor is").await;
    finds(&lab, "server", "its processor is").await;
    drop(busy);
}
