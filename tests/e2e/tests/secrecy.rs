//! What an ISP sees of a connection: that there is one.

mod common;

use std::net::SocketAddr;

use common::capture::Capture;
use common::{connect, listen};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_e2e::{PATIENCE, QUICK, running, wait_until};
use wanbond_lab::topology::{SECOND_V4, SECOND_V6, VPS_V4};

const REQUEST: &str = "POST /wanbond/hidden-path?card=4111 HTTP/1.1\r\n\
    Host: very-secret-host.example\r\nCookie: session=ZmlzaCBhbmQgY2hpcHM\r\n\r\n\
    the-body-of-the-question";
const ANSWER: &str = "HTTP/1.1 200 OK\r\nServer: telltale/1.0\r\n\r\nthe-body-of-the-answer";
const MARKERS: &[&str] = &[
    "hidden-path",
    "card=4111",
    "very-secret-host",
    "ZmlzaCBhbmQg",
    "the-body-of-the-question",
    "HTTP/1.1",
    "telltale",
    "the-body-of-the-answer",
];

#[tokio::test(flavor = "multi_thread")]
async fn neither_target_nor_content_shows_on_a_wan() {
    let Some(lab) = running(QUICK) else { return };
    let wans: Vec<_> = lab.wans().map(|wan| Capture::start(&lab, wan.isp(), "any", "")).collect();
    // The same on the LAN, to know that the markers would be found.
    let lan = Capture::start(&lab, lab.lan(0), "any", "");
    let targets: [SocketAddr; 2] = [(SECOND_V4, 8080).into(), (SECOND_V6, 8080).into()];
    for target in targets {
        let listener = listen(lab.inet(), target);
        // Often enough that every WAN has carried some of it.
        for _ in 0..20 {
            let mut client = connect(lab.lan(0), target).await;
            let (mut served, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
            client.write_all(REQUEST.as_bytes()).await.unwrap();
            let mut question = vec![0; REQUEST.len()];
            timeout(PATIENCE, served.read_exact(&mut question)).await.unwrap().unwrap();
            assert_eq!(question, REQUEST.as_bytes());
            served.write_all(ANSWER.as_bytes()).await.unwrap();
            drop(served);
            let mut answer = String::new();
            timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
            assert_eq!(answer, ANSWER);
        }
    }
    assert_eq!(lab.router(0).status().unwrap().flows.total, 40, "the flows were bonded");

    let has = |bytes: &[u8], needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
    let all_markers = |bytes: &[u8]| MARKERS.iter().all(|marker| has(bytes, marker.as_bytes()));
    wait_until("the LAN's capture has it all", || {
        let bytes = lan.bytes();
        all_markers(&bytes) && has(&bytes, &SECOND_V4.octets()) && has(&bytes, &SECOND_V6.octets())
    })
    .await;
    let sealed = 40 * (REQUEST.len() + ANSWER.len());
    wait_until("the WANs' captures have the sealed bytes", || {
        wans.iter().map(|wan| wan.bytes().len()).sum::<usize>() > sealed
    })
    .await;
    for wan in &wans {
        let bytes = wan.bytes();
        assert!(has(&bytes, &VPS_V4.octets()), "the server's own address is there to be seen");
        for marker in MARKERS {
            assert!(!has(&bytes, marker.as_bytes()), "{marker:?} can be read on the WAN");
        }
        assert!(!has(&bytes, &SECOND_V4.octets()), "the target's address shows");
        assert!(!has(&bytes, &SECOND_V6.octets()), "the target's IPv6 address shows");
        assert!(!has(&bytes, b"203.0.113.11"), "the target's address shows as text");
    }
}
