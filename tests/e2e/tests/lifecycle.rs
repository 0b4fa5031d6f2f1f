//! Daemons that stop, die and come back; routers that are added, removed and wrong.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_control::{MptcpState, ServerState};
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::emulator::Filter;
use wanbond_lab::topology::{ORIGIN_V4, VPS_V4};
use wanbond_lab::traffic::{Download, connections, download, fetch, origin};

async fn works(lab: &Lab) {
    let got = download(lab.lan(0), &Download::new(http(), 200_000)).await;
    assert!(got.is_sound() && got.complete, "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_restart_loses_no_new_flow() {
    let Some(lab) = running(QUICK) else { return };
    let (done, ()) = tokio::join!(connections(lab.lan(0), http(), 300, 4, 500, PATIENCE), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let ended = lab.server().stop().unwrap();
        assert!(ended.success(), "{ended}");
        lab.server().start().unwrap();
    });
    // A flow that was past its opening when the server stopped may be cut with it.
    assert!(done.ok >= 296, "{done:?}");
    works(&lab).await;
    assert_eq!(connections(lab.lan(0), http(), 20, 2, 500, PATIENCE).await.failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_found_again() {
    let Some(lab) = running(QUICK) else { return };
    lab.server().kill().unwrap();
    lab.server().start().unwrap();
    let again = fetch(lab.lan(0), http(), 500, 1, PATIENCE).await;
    assert!(again.is_ok(), "{again:?}");
    all_up(&lab);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_router_leaves_nothing_once_it_has_run_again() {
    let Some(lab) = running(QUICK) else { return };
    works(&lab).await;
    lab.router(0).kill().unwrap();
    assert!(!lab.router(0).kernel_changes().unwrap().is_empty(), "a killed daemon can't clean up");
    lab.router(0).start().unwrap();
    all_up(&lab);
    works(&lab).await;
    let (ended, left) = lab.router(0).stop().unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_takes_everything_out_after_a_crash() {
    let Some(lab) = running(QUICK) else { return };
    lab.router(0).kill().unwrap();
    lab.router(0).cli(&["cleanup"]).unwrap();
    assert_eq!(lab.router(0).kernel_changes().unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_another_server_and_of_a_removed_router_say_so() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let gone = lab.server().add_router("gone").unwrap();
    lab.server().remove_router("gone").unwrap();
    let mut config = lab.router(0).pair().unwrap();
    let good = config.code.clone();
    config.code = gone;
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    let status = lab
        .router(0)
        .wait_status(PATIENCE, "unknown router", |s| {
            s.server.as_ref().is_some_and(|s| s.state == ServerState::UnknownRouter)
        })
        .unwrap();
    let why = status.server.unwrap().why;
    assert!(why.contains("pairing code"), "{why}");
    config.code = good;
    lab.router(0).configure(&config).unwrap();
    lab.router(0).reload().unwrap();
    all_up(&lab);
    works(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_router_is_cut_off_at_once() {
    let Some(lab) = running(QUICK) else { return };
    let mut client = lab.lan(0).tcp_connect((ORIGIN_V4, origin::ECHO).into()).await.unwrap();
    client.write_all(b"x").await.unwrap();
    let mut byte = [0];
    timeout(PATIENCE, client.read_exact(&mut byte)).await.unwrap().unwrap();
    let name = lab.server().status().unwrap().routers[0].name.clone();
    lab.server().remove_router(&name).unwrap();
    let end = timeout(PATIENCE, client.read(&mut byte)).await.expect("the flow ends");
    assert!(!matches!(end, Ok(1..)), "{end:?}");
    lab.router(0)
        .wait_status(PATIENCE, "unknown router", |s| {
            s.server.as_ref().is_some_and(|s| s.state == ServerState::UnknownRouter)
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_mptcp_connections_still_work() {
    let Some(lab) = lab(QUICK) else { return };
    let strip = Filter { strip_mptcp: true, ..Filter::default() };
    lab.wan("wan1").set_filter(strip).unwrap();
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "wan1 stripped, wan2 working", |s| {
            s.wans[0].mptcp == MptcpState::Stripped && s.wans[1].mptcp == MptcpState::Working
        })
        .unwrap();
    works(&lab).await;
    lab.wan("wan2").set_filter(strip).unwrap();
    lab.router(0).stop().unwrap();
    lab.router(0).start().unwrap();
    let status = lab
        .router(0)
        .wait_status(PATIENCE, "both stripped", |s| {
            s.wans.iter().all(|w| w.mptcp == MptcpState::Stripped)
        })
        .unwrap();
    assert!(status.wans[0].why.contains("MPTCP"), "{}", status.wans[0].why);
    works(&lab).await;
    let ways = lab.router(0).status().unwrap().flows.by_way;
    assert!(ways.tcp + ways.stream > 0, "{ways:?}");

    lab.router(0).stop().unwrap();
    lab.router(0).ns().sysctl(&[("net.mptcp.enabled", "0")]).unwrap();
    lab.router(0).start().unwrap();
    lab.router(0).wait_ready(PATIENCE).unwrap();
    assert!(!lab.router(0).status().unwrap().mptcp.supported);
    works(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_udp_is_blocked_tcp_carries_the_session_too() {
    let Some(lab) = lab(QUICK) else { return };
    for wan in ["wan1", "wan2"] {
        lab.wan(wan).set_filter(Filter { block_udp: true, ..Filter::default() }).unwrap();
    }
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    let status = lab
        .router(0)
        .wait_status(PATIENCE, "a WAN up by TCP", |s| {
            s.wans.iter().any(|w| w.state == wanbond_control::WanState::Up)
        })
        .unwrap();
    assert!(status.wans.iter().any(|w| w.why.contains("UDP")), "{:?}", status.wans);
    works(&lab).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_gets_no_answer_and_hurts_nobody() {
    let Some(lab) = running(QUICK) else { return };
    let accepted = lab.origin().accepted();
    let server = std::net::SocketAddr::from((VPS_V4, 65101));
    let udp = lab.inet().udp_socket(([203, 0, 113, 11], 0).into()).unwrap();
    udp.set_nonblocking(true).unwrap();
    let mut noise = 1u32;
    for round in 0..200usize {
        let bytes: Vec<u8> = (0..20 + round * 5)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        let mut shaped = bytes.clone();
        // Half of it begins like something the server knows; but none like a datagram of a session,
        // for which it may say that it does not know it.
        shaped[0] = [1, 2, 3, 4, 5, 6][round % 6];
        let bytes = if matches!(bytes[0], 0x10 | 0x11) { vec![0; 40] } else { bytes };
        udp.send_to(&bytes, server).unwrap();
        udp.send_to(&shaped, server).unwrap();
        if round % 10 == 0 {
            let mut tcp = lab.inet().tcp_connect(server).await.unwrap();
            shaped[0] = [1, 0x10, 0x11, 0x12, 0xff][round / 10 % 5];
            let _ = tcp.write_all(&shaped).await;
            let _ = tcp.shutdown().await;
            let mut answer = Vec::new();
            let _ = timeout(PATIENCE, tcp.read_to_end(&mut answer)).await.expect("it is closed");
            // "Unknown session" is all that a stranger may hear, and only in the shape of an open.
            assert!(answer.len() <= 28, "{} bytes of answer", answer.len());
        }
    }
    works(&lab).await;
    let mut answer = [0; 64];
    assert!(udp.recv(&mut answer).is_err(), "an answer to garbage");
    wait_until("nobody else came", || lab.origin().accepted() == accepted + 1).await;
}
