//! The lab proves itself: a built one carries what its scenario says, no more, and leaves nothing.
//!
//! Needs the right to make network namespaces. What is asserted is counted in packets and bytes
//! or in the emulator's own time, never in a wall clock that a busy machine could stretch.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use wanbond_lab::emulator::{Direction, Filter};
use wanbond_lab::scenario::{Scenario, ShapeChange};
use wanbond_lab::topology::{
    BLACKHOLE_V4, ORIGIN_V4, ORIGIN_V6, SECOND_V4, UNREACHABLE_V4, VPS_V4, VPS_V6,
};
use wanbond_lab::traffic::{Download, connections, download, echo, fetch, origin, upload};
use wanbond_lab::{KernelState, Lab};

const PATIENCE: Duration = Duration::from_secs(20);
const HTTP: (std::net::Ipv4Addr, u16) = (ORIGIN_V4, origin::HTTP);

fn build(text: &str) -> Option<Lab> {
    Lab::build_or_skip(&Scenario::parse(text, Path::new("test")).unwrap())
}

fn small() -> Option<Lab> {
    build(
        "name = 'small'\n\
         [[wan]]\nname = 'wan1'\n\
         down = { rate = '20 Mbit/s', delay = '5 ms' }\nup = { rate = '5 Mbit/s', delay = '5 ms' }\n\
         [[wan]]\nname = 'wan2'\n\
         down = { rate = '10 Mbit/s', delay = '5 ms' }\nup = { rate = '5 Mbit/s', delay = '5 ms' }\n",
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_arrive_right_both_ways_and_over_both_families() {
    let Some(lab) = small() else { return };
    for ip in [SocketAddr::from(HTTP), (ORIGIN_V6, origin::HTTP).into()] {
        let got = download(lab.lan(0), &Download::new(ip, 2_000_000)).await;
        assert!(got.complete, "{got:?}");
        let got = upload(lab.lan(0), ip, 500_000, PATIENCE).await;
        assert!(got.complete && got.bytes == 500_000, "{got:?}");
    }
    let got = echo(lab.lan(0), (ORIGIN_V4, origin::ECHO).into(), 300_000, PATIENCE).await;
    assert!(got.complete, "{got:?}");
    let many = connections(lab.lan(0), HTTP.into(), 200, 50, 100, PATIENCE).await;
    assert_eq!((many.ok, many.failed), (200, 0), "{:?}", many.errors);
    assert_eq!(many.total.count, 200);
}

/// A line that is kept busy passes its rate, whatever the machine does meanwhile: the emulator's
/// queue is full all the time, so what has come out is what the line's time allows.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_line_passes_its_rate() {
    let Some(lab) = small() else { return };
    let wan = lab.wan("wan1");
    wan.prefer().unwrap();
    let job = Download::timed(HTTP.into(), Duration::from_secs(6));
    let work = download(lab.lan(0), &job);
    let count = async {
        // Slow start is over, and the queue is standing.
        tokio::time::sleep(Duration::from_secs(2)).await;
        // The clock encloses the counting, so a pause between the two never makes it look faster.
        let (start, from) = (std::time::Instant::now(), wan.counters().unwrap());
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (to, time) = (wan.counters().unwrap(), start.elapsed());
        #[expect(clippy::cast_precision_loss)]
        let mbit = (to.down.bytes_out - from.down.bytes_out) as f64 * 8e-6 / time.as_secs_f64();
        mbit
    };
    let (got, mbit) = tokio::join!(work, count);
    assert!(got.is_sound(), "{got:?}");
    let report = wan.counters().unwrap();
    // A line never passes more than its rate (but for what came out late, of the time before).
    // Less would be the sender's doing on a machine that is too busy to send.
    assert!(mbit < 20.0 * 1.02 || report.lateness.max_us > 20_000.0, "{mbit} Mbit/s, {report:?}");
    assert!(mbit > 20.0 * 0.5, "{mbit} Mbit/s, {report:?}");
    assert!(report.down.dropped_queue > 0, "{report:?}");
    // 100 ms at 20 Mbit/s.
    assert!(report.down.queue_peak_bytes <= 250_000, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_line_passes_nothing_and_carries_on_when_mended() {
    let Some(lab) = small() else { return };
    let wan = lab.wan("wan1");
    wan.prefer().unwrap();
    wan.cut().unwrap();
    let before = wan.counters().unwrap();
    let patience = Duration::from_millis(1500);
    let error = fetch(lab.lan(0), HTTP.into(), 10, 1, patience).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    let after = wan.counters().unwrap();
    assert!(after.cut);
    assert_eq!(after.up.packets_out, before.up.packets_out);
    assert_eq!(after.down.packets_out, before.down.packets_out);
    assert!(after.up.dropped_cut > before.up.dropped_cut);
    wan.restore().unwrap();
    fetch(lab.lan(0), HTTP.into(), 10, 1, PATIENCE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_says_so_or_is_silent() {
    let Some(lab) = small() else { return };
    let connect = |addr: SocketAddr| {
        let lab = &lab;
        async move {
            let work = lab.lan(0).tcp_connect(addr);
            tokio::time::timeout(Duration::from_secs(2), work).await
        }
    };
    let error = |result: Result<std::io::Result<_>, _>| result.unwrap().unwrap_err().kind();
    let refused = error(connect((SECOND_V4, 81).into()).await);
    assert_eq!(refused, std::io::ErrorKind::ConnectionRefused);
    let unreachable = error(connect((UNREACHABLE_V4, 80).into()).await);
    assert_eq!(unreachable, std::io::ErrorKind::HostUnreachable);
    assert!(connect((BLACKHOLE_V4, 80).into()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_world_sees_the_isp_s_address_and_each_line_is_its_own() {
    let Some(lab) = small() else { return };
    for wan in lab.wans() {
        wan.prefer().unwrap();
        let before = wan.counters().unwrap();
        let mut stream = lab.lan(0).tcp_connect(HTTP.into()).await.unwrap();
        let ask = b"GET /peer HTTP/1.1\r\n\r\n";
        tokio::io::AsyncWriteExt::write_all(&mut stream, ask).await.unwrap();
        let mut answer = vec![0; 500];
        let len = tokio::io::AsyncReadExt::read(&mut stream, &mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..len]).into_owned();
        assert!(answer.ends_with(&wan.net().public_v4().to_string()), "{answer}");
        assert!(wan.counters().unwrap().up.packets_out >= before.up.packets_out + 3);
        wan.unprefer().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vps_is_reached_through_every_isp() {
    let Some(lab) = small() else { return };
    let v4 = lab.vps().tcp_listener((VPS_V4, 4000).into()).unwrap();
    let v6 = lab.vps().tcp_listener((VPS_V6, 4000).into()).unwrap();
    for wan in lab.wans() {
        wan.prefer().unwrap();
        for listener in [&v4, &v6] {
            let addr = listener.local_addr().unwrap();
            lab.lan(0).tcp_connect(addr).await.unwrap();
        }
        wan.unprefer().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wans_change_while_the_lab_runs() {
    let Some(lab) = small() else { return };
    let wan = lab.wan("wan1");
    let works = || async { fetch(lab.lan(0), HTTP.into(), 1000, 1, PATIENCE).await.unwrap() };
    works().await;

    let router = lab.router(0);
    let before = KernelState::capture(router.ns()).unwrap();
    wan.readdress().unwrap();
    works().await;
    let changes = KernelState::capture(router.ns()).unwrap().changes_since(&before);
    assert!(changes.iter().any(|line| line.contains("100.64.1.3")), "{changes:?}");
    assert!(!changes.iter().any(|line| line.contains("metric 20")), "{changes:?}");

    wan.regateway().unwrap();
    works().await;

    // Without the device the second line carries; with it again, the first, under the addresses
    // it had.
    wan.unplug().unwrap();
    assert!(router.ns().device_bytes("wan1").is_err());
    let other = lab.wan("wan2").counters().unwrap().up.packets_out;
    works().await;
    assert!(lab.wan("wan2").counters().unwrap().up.packets_out > other);
    wan.plug().unwrap();
    let own = wan.counters().unwrap().up.packets_out;
    works().await;
    assert!(wan.counters().unwrap().up.packets_out > own);

    let change = ShapeChange { delay: Some(Duration::from_millis(60)), ..Default::default() };
    wan.change(Direction::Up, &change).unwrap();
    let slow = works().await;
    assert!(slow.connect >= Duration::from_millis(65), "{slow:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isp_that_blocks_udp_or_strips_mptcp() {
    let Some(lab) = small() else { return };
    let wan = lab.wan("wan1");
    wan.set_filter(Filter { strip_mptcp: true, block_udp: true }).unwrap();
    let udp = lab.lan(0).udp_socket("0.0.0.0:0".parse().unwrap()).unwrap();
    let udp = tokio::net::UdpSocket::from_std(udp).unwrap();
    udp.send_to(b"hello", (ORIGIN_V4, origin::ECHO)).await.unwrap();
    let mut answer = [0; 16];
    let silence = tokio::time::timeout(Duration::from_millis(300), udp.recv(&mut answer)).await;
    assert!(silence.is_err());
    assert_eq!(wan.counters().unwrap().up.dropped_filter, 1);
    // TCP with its checksums mended still works.
    fetch(lab.lan(0), HTTP.into(), 1000, 1, PATIENCE).await.unwrap();

    wan.set_filter(Filter::default()).unwrap();
    udp.send_to(b"hello", (ORIGIN_V4, origin::ECHO)).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, udp.recv(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer[..heard], b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_routers_with_two_hosts_each() {
    let two = build(
        "name = 'two'\n[[router]]\nlan_hosts = 2\n[[router]]\nmptcp = false\nlan_hosts = 2\n\
         [[wan]]\nname = 'a'\n[[wan]]\nname = 'b'\nrouter = 1\n",
    );
    let Some(lab) = two else { return };
    for router in 0..2 {
        for host in 0..2 {
            fetch(lab.lan_of(router, host), HTTP.into(), 1000, 1, PATIENCE).await.unwrap();
        }
        let mptcp = lab.router(router).ns().output("sysctl", &["-n", "net.mptcp.enabled"]).unwrap();
        assert_eq!(mptcp.stdout, if router == 0 { b"1\n" } else { b"0\n" });
    }
    let all = lab.namespaces().count();
    // Two routers, four hosts, two ISPs, the VPS and the Internet.
    assert_eq!(all, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn labs_side_by_side_do_not_meet_and_leave_nothing() {
    let (Some(a), Some(b)) = (small(), small()) else { return };
    assert_ne!(a.id(), b.id());
    a.wan("wan1").cut().unwrap();
    a.wan("wan2").cut().unwrap();
    fetch(b.lan(0), HTTP.into(), 1000, 1, PATIENCE).await.unwrap();
    let patience = Duration::from_millis(300);
    assert!(fetch(a.lan(0), HTTP.into(), 1000, 1, patience).await.is_err());

    // A child that would outlive its lab by far.
    let mut command = wanbond_lab::ns::Namespace::command("sleep");
    command.arg("1000");
    let mut child = a.lan(0).spawn(command).unwrap();
    let (dir, paths) = (a.dir().to_owned(), a.namespaces().map(|ns| ns.path()).collect::<Vec<_>>());
    assert!(paths.iter().all(|path| path.exists()));
    drop(a);
    assert!(!child.wait().unwrap().success());
    assert!(!dir.exists());
    assert!(paths.iter().all(|path| !path.exists()));
    fetch(b.lan(0), HTTP.into(), 1000, 1, PATIENCE).await.unwrap();
}
