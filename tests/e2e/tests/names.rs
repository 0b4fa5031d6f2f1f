//! Questions for names: through the bond, on two WANs at once, and nowhere else where nothing may leave
//! around the server.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use common::capture::Capture;
use common::name_server::{NameServer, ask};
use common::seen_from;
use tokio::time::timeout;
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, http_v6, lab, running, wait_until};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, SECOND_V4, VPS_V4, VPS_V6};

const ONCE: Duration = Duration::from_secs(3);

/// Where a name server in the Internet listens.
fn far() -> SocketAddr {
    (SECOND_V4, 53).into()
}

/// A lab whose server asks that one, and whose router knows an address as that of a WAN's name server.
fn with_names(theirs: IpAddr, when_server_down: &str) -> Option<Lab> {
    let lab = lab(QUICK)?;
    let mut config = lab.router(0).pair().unwrap();
    let file = lab.server().state_dir().join("server.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("dns = [\"{SECOND_V4}\"]\n{text}")).unwrap();
    config.globals.push(format!("list wan_dns '{theirs}'"));
    config.when_server_down = when_server_down.into();
    lab.router(0).configure(&config).unwrap();
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    Some(lab)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_router_asks_goes_through_the_bond() {
    let theirs = IpAddr::from([192, 0, 2, 53]);
    let Some(lab) = with_names(theirs, "direct") else { return };
    let server = NameServer::start(lab.inet(), SECOND_V4, ORIGIN_V4);
    let router = lab.router(0).ns();
    // One that answers everybody is asked through the tunnel. Nobody else is at the other address: it is
    // the server's name server that answers.
    let vps = IpAddr::from(VPS_V4);
    for to in [far(), SocketAddr::new(theirs, 53)] {
        let start = Instant::now();
        while ask(router, to, "a.test", ONCE).await.is_none() || !server.asked_by().contains(&vps) {
            assert!(start.elapsed() < PATIENCE, "{to} is not asked by the VPS");
        }
        server.asked_by();
        assert!(ask(router, to, "a.test", ONCE).await.is_some());
        assert_eq!(Vec::from_iter(server.asked_by()), [vps], "{to}");
    }
    // The hosts' own questions likewise.
    assert!(ask(lab.lan(0), far(), "a.test", ONCE).await.is_some());
    assert_eq!(Vec::from_iter(server.asked_by()), [vps]);
    // Without the server, they go as they would without wanbond.
    lab.server().kill().unwrap();
    let start = Instant::now();
    while ask(router, far(), "a.test", Duration::from_millis(300)).await.is_none() {
        assert!(start.elapsed() < PATIENCE, "no answer around the server");
    }
    assert!(!server.asked_by().contains(&vps));
    let (_, left) = lab.router(0).stop().unwrap();
    assert_eq!(left, Vec::<String>::new());
}

/// Asks steadily for so long; how long answers took, and how many never came.
async fn ask_steadily(lab: &Lab, time: Duration) -> (Vec<Duration>, usize) {
    let until = Instant::now() + time;
    let mut asking = tokio::task::JoinSet::new();
    // Namespaces are the lab's: questions are asked from here, answers waited for together.
    let mut sockets = Vec::new();
    while Instant::now() < until {
        let socket = lab.lan(0).udp_socket(([0, 0, 0, 0], 0).into()).unwrap();
        sockets.push(tokio::net::UdpSocket::from_std(socket).unwrap());
        let socket = sockets.pop().unwrap();
        asking.spawn(async move {
            let start = Instant::now();
            let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
            socket.send_to(question, far()).await.ok()?;
            let mut answer = [0; 512];
            timeout(ONCE, socket.recv_from(&mut answer)).await.ok()?.ok()?;
            Some(start.elapsed())
        });
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let answers = asking.join_all().await;
    let missing = answers.iter().filter(|answer| answer.is_none()).count();
    let mut came: Vec<Duration> = answers.into_iter().flatten().collect();
    came.sort_unstable();
    (came, missing)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wan_that_goes_silent_delays_no_answer() {
    let Some(lab) = running(QUICK) else { return };
    let _server = NameServer::start(lab.inet(), SECOND_V4, ORIGIN_V4);
    ask_steadily(&lab, Duration::from_secs(2)).await;
    let part = |sorted: &[Duration], percent: usize| sorted[(sorted.len() - 1) * percent / 100];
    for wan in ["wan1", "wan2"] {
        let (usual, missing) = ask_steadily(&lab, Duration::from_secs(3)).await;
        assert_eq!(missing, 0, "before");
        let before = lab.router(0).status().unwrap().tunnel.unwrap().duplicated_total;
        let (during, ()) = tokio::join!(ask_steadily(&lab, Duration::from_secs(3)), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            lab.wan(wan).cut().unwrap();
        });
        let (during, missing) = during;
        let twice = lab.router(0).status().unwrap().tunnel.unwrap().duplicated_total - before;
        println!(
            "{wan} cut: {} answers, median {:?}, 95 % {:?}, last {:?}; usually {:?}, {:?}, {:?}; {twice} asked twice",
            during.len(),
            part(&during, 50),
            part(&during, 95),
            during[during.len() - 1],
            part(&usual, 50),
            part(&usual, 95),
            usual[usual.len() - 1],
        );
        // Without the second way, what was under way at the cut (a tenth of a second and more of
        // questions) would have come after the silence was noticed, or never.
        assert_eq!(missing, 0, "an answer never came");
        assert!(twice > 10, "only {twice} asked twice");
        // A busy machine delays some, before and now alike; it is not all of them.
        let bearable = 2 * usual[usual.len() - 1] + Duration::from_millis(60);
        let late = during.iter().filter(|took| **took > bearable).count();
        assert!(late <= 2, "{late} answers later than {bearable:?}");
        lab.wan(wan).restore().unwrap();
        all_up(&lab);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_may_leave_no_question_does() {
    let theirs = IpAddr::from(SECOND_V4);
    let Some(lab) = with_names(theirs, "block") else { return };
    let server = NameServer::start(lab.inet(), SECOND_V4, ORIGIN_V4);
    let (router, host) = (lab.router(0).ns(), lab.lan(0));
    // A name server that answers in its own network only, at the modem's address.
    let modem = lab.wan("wan1").net().gateway_v4();
    let near = NameServer::start(lab.wan("wan1").isp(), modem, ORIGIN_V4);
    // What a kernel says to its neighbours by itself is not the LAN's.
    let filter = format!("not host {VPS_V4} and not host {VPS_V6} and not src net fe80::/10");
    let captures: Vec<_> =
        lab.wans().map(|wan| Capture::start(&lab, router, wan.name(), &filter)).collect();
    let ask_all = async |patience: Duration| {
        let mut answers = 0;
        for ns in [router, host] {
            for to in [far(), (modem, 53).into()] {
                answers += usize::from(ask(ns, to, "a.test", patience).await.is_some());
            }
        }
        // Whatever else a host sends: TCP of both families, packets, other ports of the same.
        let _ = timeout(patience, seen_from(host, http())).await;
        let _ = timeout(patience, seen_from(host, http_v6())).await;
        let _ = host.output("ping", &["-c", "1", "-W", "1", &ORIGIN_V4.to_string()]);
        let _ = timeout(patience, router.tcp_connect((SECOND_V4, 53).into())).await;
        let _ = timeout(patience, router.tcp_connect((SECOND_V4, 853).into())).await;
        answers
    };
    wait_until("the server answers questions", || {
        let rules = router.output("nft", &["list", "table", "inet", "wanbond-tunnel"]).unwrap();
        String::from_utf8_lossy(&rules.stdout).contains("chain name_servers")
    })
    .await;
    // All but the host's to the modem are answered by the server's.
    assert_eq!(ask_all(ONCE).await, 3, "with the server");
    lab.server().kill().unwrap();
    ask_all(Duration::from_millis(300)).await;
    let gone = lab.router(0).wait_status(PATIENCE, "the server is gone", |status| {
        status.server.as_ref().is_some_and(|s| s.state != wanbond_control::ServerState::Connected)
    });
    gone.unwrap();
    assert_eq!(ask_all(Duration::from_millis(300)).await, 0, "without the server");
    // A restart of the router finds nothing, and lets nothing out.
    lab.router(0).kill().unwrap();
    lab.router(0).start().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ask_all(Duration::from_millis(300)).await, 0, "after a restart");
    let vps = IpAddr::from(VPS_V4);
    assert!(server.asked_by().iter().all(|from| *from == vps));
    assert!(near.asked_by().is_empty(), "the modem was asked");
    for capture in &captures {
        // A file header and nothing else.
        let bytes = capture.bytes();
        assert!(bytes.len() <= 24, "packets around the server: {:02x?}", &bytes[24..]);
    }
    lab.server().start().unwrap();
    all_up(&lab);
    let start = Instant::now();
    while ask(host, far(), "a.test", ONCE).await.is_none() {
        assert!(start.elapsed() < PATIENCE, "no answer after its return");
    }
}
