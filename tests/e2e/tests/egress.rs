//! Where connections may go: never into the VPS, its provider's network or a private one.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::rogue::{Answer, Rogue};
use tokio::net::TcpListener;
use tokio::time::timeout;
use wanbond_e2e::{QUICK, lab, running};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, SECOND_V4, VPS_V4, VPS_V6};
use wanbond_lab::traffic::origin;
use wanbond_proto::lane::{ResetReason, Target};

/// Where something listens on the VPS that nobody outside may reach.
const SECRET: u16 = 8125;

/// Listens on every address of the VPS; gives the number of connections that came.
fn secret_services(lab: &Lab) -> Arc<AtomicUsize> {
    let reached = Arc::new(AtomicUsize::new(0));
    for ip in ["0.0.0.0", "::"] {
        let listener = common::listen(lab.vps(), SocketAddr::new(ip.parse().unwrap(), SECRET));
        tokio::spawn(count(listener, Arc::clone(&reached)));
    }
    reached
}

async fn count(listener: TcpListener, reached: Arc<AtomicUsize>) {
    while listener.accept().await.is_ok() {
        reached.fetch_add(1, Ordering::SeqCst);
    }
}

/// Asks for a target on a lane of its own.
async fn ask(rogue: &mut Rogue<'_>, target: &Target) -> Answer {
    let mut lane = rogue.warm_lane().await;
    rogue.open(&mut lane, target, b"hello").await;
    lane.answer().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_can_not_reach_into_the_server_or_its_network() {
    let Some(lab) = lab(QUICK) else { return };
    let code = lab.server().add_router("rogue").unwrap();
    lab.server().start().unwrap();
    let reached = secret_services(&lab);
    let mut rogue = Rogue::admitted(lab.inet(), &code).await;

    // That the rogue speaks the language: an honest target is connected and heard.
    let mut lane = rogue.warm_lane().await;
    rogue.open(&mut lane, &Target::Address((ORIGIN_V4, origin::BANNER).into()), b"").await;
    assert_eq!(lane.answer().await, Answer::Connected);
    assert_eq!(lane.data().await, origin::GREETING);

    let addresses = [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "::1",
        "::", // the server itself
        "10.202.1.1",
        "10.202.2.1", // its cables to the ISPs
        "10.202.1.2",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.77.1",
        "192.168.77.10", // private
        "169.254.169.254",
        "100.64.1.2",
        "168.63.129.16", // clouds' services, carriers' NAT
        "fe80::1",
        "fd00:77::1",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
        "2002:a00:1::", // wrapped IPv4
        "64:ff9b:1::7f00:1",
        "::127.0.0.1",
    ];
    let own = [IpAddr::from(VPS_V4), VPS_V6.into()];
    for ip in addresses.iter().map(|ip| ip.parse().unwrap()).chain(own) {
        let answer = ask(&mut rogue, &Target::Address(SocketAddr::new(ip, SECRET))).await;
        assert_eq!(answer, Answer::Reset(ResetReason::Denied), "{ip}");
    }

    // An address in the clothes of IPv6, which an honest router would never send.
    let mut mapped = vec![0, 2];
    mapped.extend("::ffff:127.0.0.1".parse::<std::net::Ipv6Addr>().unwrap().octets());
    mapped.extend(SECRET.to_be_bytes());
    let mut lane = rogue.warm_lane().await;
    rogue.open_raw(&mut lane, &mapped, b"hello").await;
    assert_eq!(lane.answer().await, Answer::Reset(ResetReason::Denied));

    // Names that lead there, and spellings that the C library takes for addresses.
    for name in ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "::1"] {
        let answer = ask(&mut rogue, &Target::Name(name.into(), SECRET)).await;
        let refused = matches!(
            answer,
            Answer::Reset(
                ResetReason::Denied | ResetReason::NameNotFound | ResetReason::NameFailure
            )
        );
        assert!(refused, "{name}: {answer:?}");
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0, "something on the VPS was reached");

    // And the server says what it has refused.
    let status = lab.server().status().unwrap();
    let refused = status.refusals["private_address"] + status.refusals["own_address"];
    assert!(refused >= addresses.len() as u64 + 3, "{:?}", status.refusals);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_makes_no_sense_ends_the_lane_and_nothing_else() {
    let Some(lab) = running(QUICK) else { return };
    let code = lab.server().add_router("rogue").unwrap();
    let mut rogue = Rogue::admitted(lab.inet(), &code).await;
    let honest = |ip: u8| [vec![0, 1, 203, 0, 113, ip], 80u16.to_be_bytes().to_vec()].concat();
    let long_name = [vec![0, 3, 255], vec![b'a'; 255], vec![0, 80]].concat();
    let opens: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff],
        vec![0, 9, 1, 2, 3],
        vec![0, 1, 203, 0],
        vec![0, 3, 0, 0, 80],
        vec![0, 3, 200, b'x'],
        vec![0, 3, 2, 0xff, 0xfe, 0, 80],
        // Port 0, a name that is too long for a name.
        vec![0, 1, 203, 0, 113, 10, 0, 0],
        long_name,
    ];
    for payload in opens {
        let mut lane = rogue.warm_lane().await;
        rogue.open_raw(&mut lane, &payload, b"").await;
        assert_ne!(lane.answer().await, Answer::Connected, "{payload:?}");
    }
    // What a later version appends is skipped.
    let mut lane = rogue.warm_lane().await;
    let later = [honest(10), vec![1, 2, 3]].concat();
    rogue.open_raw(&mut lane, &later, b"").await;
    assert_eq!(lane.answer().await, Answer::Connected);
    wanbond_e2e::all_up(&lab);
    let vps = common::seen_from(lab.lan(0), wanbond_e2e::http()).await.unwrap();
    assert_eq!(vps, IpAddr::from(VPS_V4), "the honest router goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_and_local_targets_of_lan_hosts_are_left_alone() {
    let Some(lab) = running(QUICK) else { return };
    let before = lab.router(0).status().unwrap().flows.total;
    // The router's own services stay reachable for the LAN.
    let own = common::listen(lab.router(0).ns(), "192.168.77.1:8080".parse().unwrap());
    common::connect(lab.lan(0), own.local_addr().unwrap()).await;
    timeout(wanbond_e2e::PATIENCE, own.accept()).await.unwrap().unwrap();
    // Nobody is there; what counts is that no flow is made of it.
    for target in ["10.9.9.9:80", "172.16.9.9:80", "192.168.9.9:80", "169.254.9.9:80"] {
        let to: SocketAddr = target.parse().unwrap();
        let _ = timeout(Duration::from_millis(300), lab.lan(0).tcp_connect(to)).await;
    }
    // The server's own address is not redirected either: wanbond would carry itself.
    let server = common::connect(lab.lan(0), common::server_address()).await;
    drop(server);
    assert_eq!(lab.router(0).status().unwrap().flows.total, before);
    // And one that is redirected does count.
    let vps = common::seen_from(lab.lan(0), wanbond_e2e::http()).await.unwrap();
    assert_eq!(vps, IpAddr::from(VPS_V4));
    assert_eq!(lab.router(0).status().unwrap().flows.total, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_s_owner_can_deny_and_allow_targets() {
    let Some(lab) = lab(QUICK) else { return };
    let code = lab.server().add_router("rogue").unwrap();
    let settings = lab.server().state_dir().join("server.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    let lists = format!(
        "[egress]\nallow = [\"127.0.0.0/8\"]\ndeny = [\"{SECOND_V4}\"]\ndeny_ports = [25]\n"
    );
    let text = text.replace("[egress]\n", &lists);
    std::fs::write(&settings, text).unwrap();
    lab.server().start().unwrap();
    let reached = secret_services(&lab);
    let mut rogue = Rogue::admitted(lab.inet(), &code).await;
    let to = |ip: &str, port| Target::Address(SocketAddr::new(ip.parse().unwrap(), port));
    assert_eq!(ask(&mut rogue, &to("127.0.0.1", SECRET)).await, Answer::Connected);
    let denied = Answer::Reset(ResetReason::Denied);
    assert_eq!(ask(&mut rogue, &to("203.0.113.11", 80)).await, denied);
    assert_eq!(ask(&mut rogue, &to("203.0.113.10", 25)).await, denied);
    assert_eq!(ask(&mut rogue, &to("203.0.113.10", origin::ECHO)).await, Answer::Connected);
    wanbond_e2e::wait_until("the allowed one came", || reached.load(Ordering::SeqCst) == 1).await;
}
