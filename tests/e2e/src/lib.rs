//! What the end-to-end tests share: a lab with its daemons up, and waiting for conditions.
//!
//! Each test builds a lab of its own, so they run beside each other. Nothing here asserts how long
//! something took: a busy machine may take its time, and the time-outs are only there to end a
//! test that would never end.

#![forbid(unsafe_code)]

pub mod machine;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wanbond_control::Status;
use wanbond_lab::Lab;
use wanbond_lab::scenario::Scenario;
use wanbond_lab::topology::{ORIGIN_V4, ORIGIN_V6};
use wanbond_lab::traffic::origin;

/// How long a step may take on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Two fast, short lines: for tests that are not about rates.
pub const QUICK: &str = "quick";

/// Three lines of different rates and delays: for what is done to several at once.
pub const THREE: &str = "three";

const THREE_WANS: &str = r#"
    name = "three"
    [[wan]]
    name = "wan1"
    down = { rate = "16Mbit/s", delay = "6ms" }
    up = { rate = "8Mbit/s", delay = "6ms" }
    [[wan]]
    name = "wan2"
    down = { rate = "12Mbit/s", delay = "25ms" }
    up = { rate = "6Mbit/s", delay = "25ms" }
    [[wan]]
    name = "wan3"
    down = { rate = "8Mbit/s", delay = "40ms" }
    up = { rate = "8Mbit/s", delay = "40ms" }
"#;

/// A scenario of the lab's, [`QUICK`] or [`THREE`].
///
/// # Panics
/// If there is no such scenario: a mistake in the test.
#[must_use]
pub fn scenario(name: &str) -> Scenario {
    if name == QUICK {
        let text = "name = \"quick\"\ndescription = \"two lines of 50 Mbit/s and 10 ms\"\n\
            [[wan]]\nname = \"wan1\"\nup = { rate = \"50Mbit/s\", delay = \"5ms\", queue = \"100ms\" }\n\
            down = { rate = \"50Mbit/s\", delay = \"5ms\", queue = \"100ms\" }\n\
            [[wan]]\nname = \"wan2\"\nup = { rate = \"50Mbit/s\", delay = \"5ms\", queue = \"100ms\" }\n\
            down = { rate = \"50Mbit/s\", delay = \"5ms\", queue = \"100ms\" }\n";
        return Scenario::parse(text, "quick".as_ref()).expect("the scenario is right");
    }
    if name == THREE {
        return Scenario::parse(THREE_WANS, "three".as_ref()).expect("the scenario is right");
    }
    Scenario::named(name).expect("the scenario is there")
}

/// A lab with nothing started; `None` where labs can't be (and the test is skipped).
#[must_use]
pub fn lab(name: &str) -> Option<Lab> {
    Lab::build_or_skip(&scenario(name))
}

/// A lab with server and router running and every WAN up.
#[must_use]
pub fn running(name: &str) -> Option<Lab> {
    let lab = lab(name)?;
    lab.server().start().expect("the server starts");
    lab.router(0).start().expect("the router starts");
    all_up(&lab);
    Some(lab)
}

/// Waits until every WAN is up and lanes are warm.
///
/// # Panics
/// If that doesn't come about.
pub fn all_up(lab: &Lab) -> Status {
    lab.router(0)
        .wait_status(PATIENCE, "all WANs up and lanes warm", |status| {
            status.wans.iter().all(|wan| wan.state == wanbond_control::WanState::Up)
                && status.lanes.idle > 0
        })
        .expect("every WAN comes up")
}

/// The origin's HTTP port, IPv4.
#[must_use]
pub fn http() -> SocketAddr {
    (ORIGIN_V4, origin::HTTP).into()
}

/// The origin's HTTP port, IPv6.
#[must_use]
pub fn http_v6() -> SocketAddr {
    (ORIGIN_V6, origin::HTTP).into()
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not come to hold, with `what`.
pub async fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// IP bytes that a WAN has carried towards the router and away from it.
///
/// # Panics
/// If the emulator has ended.
#[must_use]
pub fn carried(lab: &Lab, wan: &str) -> (u64, u64) {
    let report = lab.wan(wan).counters().expect("the emulator runs");
    (report.down.bytes_out, report.up.bytes_out)
}
