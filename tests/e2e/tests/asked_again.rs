//! Connections opened at the very moment in which a WAN falls silent: each is made once, and every byte
//! of it arrives, whether the server had heard of it or not.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use wanbond_e2e::{PATIENCE, QUICK, all_up, http, http_v6, running};
use wanbond_lab::Lab;
use wanbond_lab::emulator::Direction;
use wanbond_lab::scenario::ShapeChange;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{echo, fetch, origin};

const SPEECHLESS: [&[Direction]; 3] =
    [&[Direction::Down], &[Direction::Up], &[Direction::Down, Direction::Up]];

/// Nothing comes through over a WAN in these directions.
fn set_silent(lab: &Lab, wan: &str, directions: &[Direction], silent: bool) {
    for direction in directions {
        let loss = Some(if silent { "100%" } else { "0%" }.parse().expect("a share"));
        let change = ShapeChange { loss, ..ShapeChange::default() };
        lab.wan(wan).change(*direction, &change).unwrap();
    }
}

/// Opens connections of all kinds at once. Gives how many.
async fn all_at_once(lab: &Lab) -> u64 {
    let lan = lab.lan(0);
    let to_echo = SocketAddr::from((ORIGIN_V4, origin::ECHO));
    let small = join_all((0..4).map(async |seed| fetch(lan, http(), 300, seed, PATIENCE).await));
    // The server sends more than it keeps, if it may.
    let large = join_all((0..4).map(async |seed| {
        let from = if seed % 2 == 0 { http() } else { http_v6() };
        fetch(lan, from, 400_000, seed, PATIENCE).await
    }));
    let both_ways =
        join_all((0..4).map(async |size| echo(lan, to_echo, 1 + size * 50_000, PATIENCE).await));
    let (small, large, both_ways) = tokio::join!(small, large, both_ways);
    for got in small.iter().chain(&large) {
        assert!(got.is_ok(), "{got:?}");
    }
    for got in &both_ways {
        assert!(got.is_sound() && got.complete, "{got:?}");
    }
    (small.len() + large.len() + both_ways.len()) as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_made_once_while_a_wan_falls_silent() {
    let Some(lab) = running(QUICK) else { return };
    // Afterwards there are enough warm lanes for all.
    all_at_once(&lab).await;
    for directions in SPEECHLESS {
        for wan in ["wan1", "wan2"] {
            all_up(&lab);
            let before = (lab.origin().accepted(), lab.router(0).status().unwrap().flows);
            set_silent(&lab, wan, directions, true);
            let opened = all_at_once(&lab).await;
            let made = lab.origin().accepted() - before.0;
            let flows = lab.router(0).status().unwrap().flows;
            println!(
                "{wan} silent {directions:?}: {} asked for again",
                flows.retried_total - before.1.retried_total
            );
            assert_eq!(made, opened, "connections at the target");
            set_silent(&lab, wan, directions, false);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let flows = lab.router(0).status().unwrap().flows;
    assert!(flows.retried_total > 0, "no flow was ever asked for again: {flows:?}");
}
