//! What goes around the bond: rules by host, port and address, WANs that die under them, changes at
//! run time.

mod common;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use common::{connect, listen, seen_from};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_control::WanState;
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, http_v6, lab};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, SECOND_V4, VPS_V4, VPS_V6};
use wanbond_lab::traffic::origin;

const UDP: u16 = 5000;

/// A lab whose router has these `config bypass` sections.
fn with_rules(rules: &str) -> Option<Lab> {
    let lab = lab(QUICK)?;
    lab.server().start().unwrap();
    set_rules(&lab, rules);
    lab.router(0).start().unwrap();
    all_up(&lab);
    Some(lab)
}

fn set_rules(lab: &Lab, rules: &str) {
    let mut config = match std::fs::read_to_string(lab.router(0).config_path()) {
        Ok(text) => {
            let code = text.split("option code '").nth(1).and_then(|rest| rest.split('\'').next());
            lab.router(0).config(code.expect("it is paired").to_owned())
        }
        Err(_) => lab.router(0).pair().unwrap(),
    };
    config.extra = rules.to_owned();
    lab.router(0).configure(&config).unwrap();
}

fn isp(lab: &Lab, wan: &str) -> IpAddr {
    lab.wan(wan).net().public_v4().into()
}

/// The address that a UDP server in the Internet sees the LAN's packets come from.
async fn udp_seen_from(lab: &Lab, port: u16) -> IpAddr {
    let to = SocketAddr::from((SECOND_V4, port));
    let server = tokio::net::UdpSocket::from_std(lab.inet().udp_socket(to).unwrap()).unwrap();
    let host = lab.lan(0).udp_socket(([0, 0, 0, 0], 0).into()).unwrap();
    let host = tokio::net::UdpSocket::from_std(host).unwrap();
    let mut question = [0; 16];
    for _ in 0..100 {
        // Refused for a moment, perhaps.
        let _ = host.send_to(b"who am I?", to).await;
        let heard = timeout(Duration::from_millis(300), server.recv_from(&mut question)).await;
        if let Ok(Ok((_, from))) = heard {
            return from.ip();
        }
    }
    panic!("nothing came to {to}");
}

async fn until_seen_from(lab: &Lab, http: SocketAddr, wanted: IpAddr) {
    let start = std::time::Instant::now();
    loop {
        let seen = timeout(Duration::from_secs(2), seen_from(lab.lan(0), http)).await;
        if matches!(&seen, Ok(Ok(from)) if *from == wanted) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "never seen from {wanted}, last {seen:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn connections(lab: &Lab, rule: &str) -> u64 {
    let status = lab.router(0).status().unwrap();
    status.bypass.rules.iter().find(|r| r.name == rule).expect("the rule is there").connections
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_send_what_they_name_where_they_say() {
    let Some(lab) = lab(QUICK) else { return };
    let link = lab.lan(0).output("cat", &["/sys/class/net/eth0/address"]).unwrap().stdout;
    let mac = String::from_utf8(link).unwrap().trim().to_owned();
    lab.server().start().unwrap();
    set_rules(
        &lab,
        &format!(
            "\nconfig bypass 'exception'\n\toption source '192.168.77.10'\n\toption port '81'\n\toption to 'bond'\n\
             config bypass 'host'\n\toption mac '{mac}'\n\tlist port '80-81'\n\toption protocol 'tcp'\n\toption to 'wan:wan2'\n\
             config bypass 'media'\n\toption destination '{SECOND_V4}'\n\toption port '{UDP}'\n\toption to 'direct'\n\
             config bypass 'packets'\n\toption port '82'\n\toption protocol 'tcp'\n\toption to 'tunnel'\n"
        ),
    );
    lab.router(0).start().unwrap();
    all_up(&lab);

    let flows = || lab.router(0).status().unwrap().flows.total;
    let before = flows();
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), isp(&lab, "wan2"));
    let v6 = seen_from(lab.lan(0), http_v6()).await.unwrap();
    assert_eq!(v6, IpAddr::from(lab.wan("wan2").net().router_v6()));
    let media = udp_seen_from(&lab, UDP).await;
    assert!([isp(&lab, "wan1"), isp(&lab, "wan2")].contains(&media), "{media}");
    assert_eq!(udp_seen_from(&lab, UDP + 1).await, IpAddr::from(VPS_V4));
    // Its own connections are the kernel's: the daemon has seen none.
    assert_eq!(flows(), before);

    // The tunnel's packets come from the VPS too, and are no flow either.
    let packets = listen(lab.inet(), (SECOND_V4, 82).into());
    let stream = connect(lab.lan(0), (SECOND_V4, 82).into()).await;
    let (_, from) = timeout(PATIENCE, packets.accept()).await.unwrap().unwrap();
    assert_eq!(from.ip(), IpAddr::from(VPS_V4));
    assert_eq!(flows(), before);
    drop(stream);
    // And what is excepted is bonded.
    let bonded = listen(lab.inet(), (SECOND_V4, 81).into());
    let stream = connect(lab.lan(0), (SECOND_V4, 81).into()).await;
    let (_, from) = timeout(PATIENCE, bonded.accept()).await.unwrap().unwrap();
    assert_eq!(from.ip(), IpAddr::from(VPS_V4));
    assert_eq!(flows(), before + 1);
    drop(stream);

    assert_eq!(connections(&lab, "host"), 2);
    assert_eq!(connections(&lab, "media"), 1);
    assert_eq!(connections(&lab, "packets"), 1);
    assert_eq!(connections(&lab, "exception"), 1);
    // Another program's reload of all tables: they are set again.
    lab.router(0).ns().nft("delete table inet wanbond-bypass").unwrap();
    until_seen_from(&lab, http(), isp(&lab, "wan2")).await;
    let (_, left) = lab.router(0).stop().unwrap();
    assert_eq!(left, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chosen_wan_that_dies_is_left_if_that_is_allowed_and_used_again() {
    let rules = format!(
        "\nconfig bypass 'web'\n\toption port '80'\n\toption to 'wan:wan2'\n\
         config bypass 'media'\n\toption port '{UDP}'\n\toption to 'wan:wan2'\n\
         config bypass 'strict'\n\toption port '{}'\n\toption to 'wan:wan2'\n\toption fallback 'none'\n\
         config bypass 'any'\n\toption port '{}'\n\toption to 'direct'\n",
        origin::ECHO,
        UDP + 1
    );
    let Some(lab) = with_rules(&rules) else { return };
    assert_eq!(seen_from(lab.lan(0), http()).await.unwrap(), isp(&lab, "wan2"));
    let strict = SocketAddr::from((ORIGIN_V4, origin::ECHO));
    let mut open = connect(lab.lan(0), strict).await;
    // A flow of UDP that goes on over the WAN's death.
    let server = lab.inet().udp_socket((SECOND_V4, UDP).into()).unwrap();
    let server = tokio::net::UdpSocket::from_std(server).unwrap();
    let host = lab.lan(0).udp_socket(([0, 0, 0, 0], 0).into()).unwrap();
    let host = tokio::net::UdpSocket::from_std(host).unwrap();
    let mut buffer = [0; 64];
    let until_from = async |wanted: IpAddr, buffer: &mut [u8; 64]| {
        let start = std::time::Instant::now();
        loop {
            let _ = host.send_to(b"on and on", (SECOND_V4, UDP)).await;
            let heard = timeout(Duration::from_millis(200), server.recv_from(buffer)).await;
            if let Ok(Ok((_, from))) = heard {
                // Both ways, or the connection would always look new.
                let _ = server.send_to(b"yes", from).await;
                let _ = timeout(Duration::from_millis(200), host.recv_from(buffer)).await;
                if from.ip() == wanted {
                    return;
                }
            }
            assert!(start.elapsed() < PATIENCE, "never from {wanted}");
        }
    };
    until_from(isp(&lab, "wan2"), &mut buffer).await;

    let state = |status: &wanbond_control::Status| {
        status.wans.iter().find(|wan| wan.name == "wan2").map(|wan| wan.state)
    };
    lab.wan("wan2").cut().unwrap();
    lab.router(0).wait_status(PATIENCE, "wan2 down", |s| state(s) == Some(WanState::Down)).unwrap();
    until_seen_from(&lab, http(), VPS_V4.into()).await;
    until_from(VPS_V4.into(), &mut buffer).await;
    assert_eq!(udp_seen_from(&lab, UDP + 1).await, isp(&lab, "wan1"));
    let status = lab.router(0).status().unwrap();
    let now = |name: &str| {
        status.bypass.rules.iter().find(|rule| rule.name == name).map(|rule| rule.now.clone())
    };
    assert_eq!(now("web").as_deref(), Some("bonded, as wan2 is down"));
    assert_eq!(now("strict").as_deref(), Some("refused, as wan2 is down"));
    assert_eq!(now("any").as_deref(), Some("over wan1"));
    let accepted = lab.origin().accepted();
    for _ in 0..3 {
        let _ = timeout(Duration::from_millis(300), lab.lan(0).tcp_connect(strict)).await;
    }
    assert_eq!(lab.origin().accepted(), accepted, "a connection found another way");

    lab.wan("wan2").restore().unwrap();
    until_seen_from(&lab, http(), isp(&lab, "wan2")).await;
    // What was open over it is still open.
    open.write_all(b"still there?").await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, open.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"still there?");
    // And when the whole link goes.
    lab.wan("wan2").unplug().unwrap();
    until_seen_from(&lab, http(), VPS_V4.into()).await;
    let _ = timeout(Duration::from_millis(300), lab.lan(0).tcp_connect(strict)).await;
    lab.wan("wan2").plug().unwrap();
    until_seen_from(&lab, http(), isp(&lab, "wan2")).await;
    // Nothing of it is the server's.
    lab.server().kill().unwrap();
    until_seen_from(&lab, http(), isp(&lab, "wan2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_rules_and_no_connection() {
    let Some(lab) = with_rules("") else { return };
    let echo = SocketAddr::from((ORIGIN_V4, origin::ECHO));
    let mut bonded = connect(lab.lan(0), echo).await;
    let reload = |rules: &str| {
        set_rules(&lab, rules);
        lab.router(0).reload().unwrap();
    };
    reload(&format!(
        "\nconfig bypass 'echo'\n\tlist port '{}'\n\tlist port '80'\n\toption to 'wan:wan1'\n\
         config bypass 'site'\n\toption domain 'example.net'\n\toption to 'direct'\n",
        origin::ECHO
    ));
    until_seen_from(&lab, http(), isp(&lab, "wan1")).await;
    let mut around = connect(lab.lan(0), echo).await;
    let before = connections(&lab, "echo");
    assert!(before >= 2, "{before}");
    // Another rule, and the counter of the one that stays goes on.
    reload(&format!(
        "\nconfig bypass 'new'\n\toption port '80'\n\toption to 'wan:wan2'\n\
         config bypass 'echo'\n\tlist port '{}'\n\tlist port '80'\n\toption to 'wan:wan1'\n",
        origin::ECHO
    ));
    until_seen_from(&lab, http(), isp(&lab, "wan2")).await;
    assert!(connections(&lab, "echo") >= before, "it began anew");
    reload("");
    until_seen_from(&lab, http(), VPS_V4.into()).await;
    until_seen_from(&lab, http_v6(), VPS_V6.into()).await;
    for stream in [&mut bonded, &mut around] {
        stream.write_all(b"still there?").await.unwrap();
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"still there?");
    }
    let (_, left) = lab.router(0).stop().unwrap();
    assert_eq!(left, Vec::<String>::new());
}
