//! Networks that let no UDP through, as in hotels and offices: the tunnel goes over TCP there, and
//! over UDP again once that passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};
use wanbond_control::{Carrier, Status, WanState};
use wanbond_e2e::{PATIENCE, QUICK, carried, http, lab};
use wanbond_lab::Lab;
use wanbond_lab::emulator::Filter;
use wanbond_lab::ns::Namespace;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, upload};

const ECHO_PORT: u16 = 7;

fn no_udp() -> Filter {
    Filter { block_udp: true, ..Filter::default() }
}

/// A lab whose router sends TCP as packets through the tunnel; UDP passes where `blocked` does not
/// say otherwise.
fn start(blocked: &[&str]) -> Option<Lab> {
    let lab = lab(QUICK)?;
    for wan in blocked {
        lab.wan(wan).set_filter(no_udp()).expect("a filter");
    }
    lab.server().start().expect("the server starts");
    let mut config = lab.router(0).pair().expect("a pairing code");
    config.tcp = "packet".to_owned();
    lab.router(0).configure(&config).expect("written");
    lab.router(0).start().expect("the router starts");
    Some(lab)
}

/// Waits until the WANs' tunnel paths live and travel on these.
fn wait_carriers(lab: &Lab, wanted: [Carrier; 2]) -> Status {
    let there = |status: &Status| {
        status.wans.iter().zip(wanted).all(|(wan, carrier)| {
            let path = wan.tunnel.as_ref();
            wan.state == WanState::Up
                && path.is_some_and(|path| path.carrier == carrier && path.rtt_ms.is_some())
        })
    };
    lab.router(0).wait_status(PATIENCE, "paths over the right carriers", there).unwrap()
}

/// Sends datagrams to the origin's echo port until one comes back.
async fn udp_passes(lan: &Namespace) -> bool {
    let socket = lan.udp_socket(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    let socket = UdpSocket::from_std(socket).unwrap();
    let mut buffer = [0; 64];
    for n in 0..40_u8 {
        socket.send_to(&[n; 16], (ORIGIN_V4, ECHO_PORT)).await.unwrap();
        if timeout(Duration::from_millis(250), socket.recv_from(&mut buffer)).await.is_ok() {
            return true;
        }
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_wan_passes_udp_the_tunnel_goes_over_tcp_until_one_does() {
    let Some(lab) = start(&["wan1", "wan2"]) else { return };
    let status = wait_carriers(&lab, [Carrier::Tcp; 2]);
    assert!(status.wans.iter().all(|wan| wan.udp_blocked && wan.why.contains("TCP")), "{status:?}");
    assert!(udp_passes(lab.lan(0)).await, "no answer to UDP through the tunnel");
    let before = [carried(&lab, "wan1"), carried(&lab, "wan2")];
    let got = download(lab.lan(0), &Download::new(http(), 12_000_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
    let sent = upload(lab.lan(0), http(), 6_000_000, PATIENCE).await;
    assert!(sent.is_sound() && sent.complete, "{sent:?}");
    for (wan, before) in ["wan1", "wan2"].iter().zip(before) {
        let after = carried(&lab, wan);
        assert!(after.0 - before.0 > 1_000_000, "{wan} carried {} bytes down", after.0 - before.0);
        assert!(after.1 - before.1 > 500_000, "{wan} carried {} bytes up", after.1 - before.1);
    }

    // UDP passes again while something is on the way.
    let job = Download::new(http(), 40_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        sleep(Duration::from_secs(1)).await;
        lab.wan("wan1").set_filter(Filter::default()).unwrap();
        lab.wan("wan2").set_filter(Filter::default()).unwrap();
    });
    assert!(got.is_sound() && got.complete, "{got:?}");
    let status = wait_carriers(&lab, [Carrier::Udp; 2]);
    assert!(status.wans.iter().all(|wan| !wan.udp_blocked), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_that_is_blocked_in_the_middle_of_a_transfer_costs_no_connection() {
    let Some(lab) = start(&[]) else { return };
    wait_carriers(&lab, [Carrier::Udp; 2]);
    let job = Download::new(http(), 60_000_000);
    let (got, ()) = tokio::join!(download(lab.lan(0), &job), async {
        sleep(Duration::from_secs(1)).await;
        lab.wan("wan1").set_filter(no_udp()).unwrap();
    });
    assert!(got.is_sound() && got.complete, "{got:?}");
    wait_carriers(&lab, [Carrier::Tcp, Carrier::Udp]);

    // The connection that carries the datagrams goes silent with its WAN, and both come back.
    lab.wan("wan1").cut().unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "wan1 down", |s| s.wans[0].state == WanState::Down)
        .unwrap();
    assert!(udp_passes(lab.lan(0)).await, "no answer to UDP over the other WAN");
    lab.wan("wan1").restore().unwrap();
    wait_carriers(&lab, [Carrier::Tcp, Carrier::Udp]);
}
