//! Who is bonded and who is not: pairing codes that are right, wrong, taken back, given anew.

mod common;

use std::net::IpAddr;
use std::time::Duration;

use common::{connect, is_reset, seen_from};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use wanbond_control::{ServerState, Status};
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, lab, running};
use wanbond_lab::Lab;
use wanbond_lab::topology::{ORIGIN_V4, VPS_V4};
use wanbond_lab::traffic::origin;
use wanbond_proto::keys::SecretKey;
use wanbond_proto::pairing::PairingCode;

fn in_state(state: ServerState) -> impl Fn(&Status) -> bool {
    move |status| status.server.as_ref().is_some_and(|s| s.state == state)
}

/// A LAN host's connection goes by way of the server.
async fn is_bonded(lab: &Lab) -> bool {
    seen_from(lab.lan(0), http()).await.is_ok_and(|from| from == IpAddr::from(VPS_V4))
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_s_code_bonds_nothing_and_says_so() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    let right = config.code.clone();
    // A server of another key, said to be where ours is.
    let mut code: PairingCode = right.parse().unwrap();
    code.server = SecretKey::from_bytes(common::random()).public();
    config.code = code.to_string();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    let status = lab
        .router(0)
        .wait_status(PATIENCE, "the server unreachable", in_state(ServerState::Unreachable))
        .unwrap();
    let server = status.server.unwrap();
    assert!(server.why.contains("does not answer"), "{}", server.why);
    assert_eq!(server.session_age_s, None);
    assert_eq!((status.lanes.idle, status.lanes.busy), (0, 0), "{:?}", status.lanes);
    let none = |s: &Status| s.server.as_ref().is_some_and(|s| s.session_age_s.is_none());
    assert!(none(&lab.router(0).status().unwrap()));
    // Nothing is bonded, and as configured the LAN goes out directly.
    let isps: Vec<_> = lab.wans().map(|wan| IpAddr::from(wan.net().public_v4())).collect();
    let from = seen_from(lab.lan(0), http()).await.unwrap();
    assert!(isps.contains(&from), "{from}");
    assert!(lab.server().status().unwrap().routers.iter().all(|router| !router.connected));

    config.code = right;
    lab.router(0).configure(&config).unwrap();
    lab.router(0).reload().unwrap();
    all_up(&lab);
    assert!(is_bonded(&lab).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_direct_is_not_allowed_an_unknown_router_s_lan_is_refused() {
    let Some(lab) = lab(QUICK) else { return };
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.when_server_down = "block".into();
    lab.router(0).configure(&config).unwrap();
    lab.server().remove_router("router1").unwrap();
    lab.router(0).start().unwrap();
    lab.router(0)
        .wait_status(PATIENCE, "unknown router", in_state(ServerState::UnknownRouter))
        .unwrap();
    let before = lab.origin().accepted();
    let from = seen_from(lab.lan(0), http()).await;
    assert!(from.is_err(), "{from:?}");
    assert_eq!(lab.origin().accepted(), before, "something left around the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_router_comes_back_with_a_new_code() {
    let Some(lab) = running(QUICK) else { return };
    let mut flow = connect(lab.lan(0), (ORIGIN_V4, origin::ECHO).into()).await;
    flow.write_all(b"x").await.unwrap();
    let mut byte = [0];
    timeout(PATIENCE, flow.read_exact(&mut byte)).await.unwrap().unwrap();
    assert!(is_bonded(&lab).await);

    lab.server().remove_router("router1").unwrap();
    assert!(is_reset(&mut flow).await, "a flow of a removed router is cut, not ended in order");
    let status = lab
        .router(0)
        .wait_status(PATIENCE, "unknown router", in_state(ServerState::UnknownRouter))
        .unwrap();
    let why = status.server.unwrap().why;
    assert!(why.contains("does not know this router") && why.contains("router add"), "{why}");
    wanbond_e2e::wait_until("the target hears of the end", || lab.origin().open() == 0).await;

    // pair() has the server admit it anew; the old code stays worthless.
    let old: PairingCode = code_of(&lab).parse().unwrap();
    lab.router(0).pair().unwrap();
    let new: PairingCode = code_of(&lab).parse().unwrap();
    assert!(old != new);
    lab.router(0).reload().unwrap();
    all_up(&lab);
    assert!(is_bonded(&lab).await);
}

fn code_of(lab: &Lab) -> String {
    let text = std::fs::read_to_string(lab.router(0).config_path()).unwrap();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("option code '"));
    line.unwrap().trim_end_matches('\'').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_code_is_refused_with_the_line_and_waited_for() {
    let Some(lab) = lab(QUICK) else { return };
    let mut config = lab.router(0).pair().unwrap();
    let right = config.clone();
    let at = config.code.len() - 3;
    let other = if config.code.as_bytes()[at] == b'A' { "B" } else { "A" };
    config.code.replace_range(at..=at, other);
    lab.router(0).configure(&config).unwrap();
    let error = lab.router(0).cli(&["check"]).unwrap_err().to_string();
    assert!(error.contains("option 'code'") && error.contains("mistyped"), "{error}");
    lab.server().start().unwrap();
    lab.router(0).start().unwrap();
    let problem = lab.router(0).status().unwrap().problem;
    assert!(problem.contains("router1.uci:") && problem.contains("mistyped"), "{problem}");
    assert_eq!(lab.router(0).kernel_changes().unwrap(), Vec::<String>::new());
    lab.router(0).configure(&right).unwrap();
    lab.router(0).reload().unwrap();
    let status = all_up(&lab);
    assert_eq!(status.problem, "");
    assert!(is_bonded(&lab).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_made_before_the_session_is_carried_by_it() {
    let Some(lab) = lab(QUICK) else { return };
    // Of the two, the one with the default route is dead: a connection that went out directly
    // would hang.
    lab.wan("wan1").cut().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.when_server_down = "block".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    wanbond_e2e::wait_until("the LAN's TCP is taken", || {
        let rules = lab.router(0).ns().output("nft", &["list", "ruleset"]).unwrap();
        String::from_utf8_lossy(&rules.stdout).contains("redirect to")
    })
    .await;
    let (from, ()) = tokio::join!(seen_from(lab.lan(0), http()), async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        lab.server().start().unwrap();
    });
    assert_eq!(from.unwrap(), IpAddr::from(VPS_V4));
}
