//! Chaos: for a while, links flap and change, addresses come and go, daemons are killed, while transfers
//! run one after the other. Every transfer completes with each byte right, or is reset; and when all has
//! calmed down, everything works, and the kernels hold just what they held before.
//!
//! `WANBOND_CHAOS_SEED` chooses what happens (it is printed), `WANBOND_CHAOS_SECONDS` for how long.

mod common;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::chaos::{Act, Random, plan};
use common::ongoing::while_all_goes_on;
use tokio::task::block_in_place;
use tokio::time::{Instant as Moment, sleep_until};
use wanbond_e2e::{THREE, all_up, http, http_v6, lab};
use wanbond_lab::emulator::{Direction, Filter};
use wanbond_lab::scenario::ShapeChange;
use wanbond_lab::topology::{ORIGIN_V4, ORIGIN_V6, VPS_V4, VPS_V6};
use wanbond_lab::traffic::{Download, Transfer, download, echo, origin, upload};
use wanbond_lab::{KernelState, Lab};

const WANS: [&str; 3] = ["wan1", "wan2", "wan3"];

/// A transfer in which nothing happens for so long hangs: longer than any outage, and what it takes to
/// get over it on a busy machine.
const HANGS: Duration = Duration::from_secs(90);

/// While no daemon redirects the LAN's TCP, the router's owner lets nothing out: what went around could
/// not live through what is done to the WANs.
const NOTHING_AROUND: &str = "table inet owner { chain around { \
     type filter hook forward priority filter + 10; \
     iifname lan oifname { wan1, wan2, wan3 } meta l4proto tcp reject with tcp reset; \
     iifname lan oifname { wan1, wan2, wan3 } reject; }; }";

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_complete_or_are_reset_and_the_kernel_is_as_configured() {
    let seed = setting("WANBOND_CHAOS_SEED").unwrap_or(1);
    let length = Duration::from_secs(setting("WANBOND_CHAOS_SECONDS").unwrap_or(20));
    println!("WANBOND_CHAOS_SEED={seed} WANBOND_CHAOS_SECONDS={}", length.as_secs());
    let Some(lab) = lab(THREE) else { return };
    lab.router(0).ns().nft(NOTHING_AROUND).unwrap();
    let before = kernels(&lab);
    lab.server().init(&[&VPS_V4.to_string(), &VPS_V6.to_string()]).unwrap();
    lab.server().start().unwrap();
    let mut config = lab.router(0).pair().unwrap();
    config.when_server_down = "block".into();
    lab.router(0).configure(&config).unwrap();
    lab.router(0).start().unwrap();
    all_up(&lab);
    let began = kernels(&lab);

    let calm = Cell::new(false);
    let score = Score::default();
    let ((), ..) = tokio::join!(
        async {
            play(&lab, seed, length).await;
            calm.set(true);
        },
        transfers(&lab, seed ^ 1, &calm, &score),
        transfers(&lab, seed ^ 2, &calm, &score),
        transfers(&lab, seed ^ 3, &calm, &score),
    );
    score.judge();

    for wan in lab.wans() {
        wan.set_filter(Filter::default()).unwrap();
        for direction in [Direction::Down, Direction::Up] {
            let spec = wan.spec();
            let shape = if direction == Direction::Down { spec.down } else { spec.up };
            wan.set(direction, shape).unwrap();
        }
        wan.as_built().unwrap();
    }
    all_up(&lab);
    while_all_goes_on(&lab, 0, async |ongoing| ongoing.goes_on("after all").await).await;
    // Devices that came and went are known anew within moments.
    let settled = Instant::now();
    loop {
        let changes = changes(&kernels(&lab), &began);
        if changes.is_empty() {
            break;
        }
        assert!(settled.elapsed() < HANGS, "the kernels are not as configured: {changes:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (ended, _) = lab.router(0).stop().unwrap();
    assert!(ended.success(), "{ended}");
    assert!(lab.server().stop().unwrap().success());
    let left = changes(&kernels(&lab), &before);
    assert!(left.is_empty(), "left in the kernels: {left:#?}");
}

/// What router and VPS hold.
fn kernels(lab: &Lab) -> [KernelState; 2] {
    [lab.router(0).ns(), lab.vps()].map(|ns| KernelState::capture(ns).unwrap())
}

fn changes(now: &[KernelState; 2], before: &[KernelState; 2]) -> Vec<String> {
    let changes = now.iter().zip(before).flat_map(|(now, before)| now.changes_since(before));
    changes.filter(|line| !is_link_local(line)).collect()
}

/// A device that is plugged in has a link-local address of its own each time.
fn is_link_local(line: &str) -> bool {
    line.contains(" fe80:")
}

/// Does what the plan says.
async fn play(lab: &Lab, seed: u64, length: Duration) {
    let start = Moment::now();
    for step in plan(seed, WANS.len(), length) {
        sleep_until(start + step.at).await;
        println!("{step}");
        block_in_place(|| act(lab, step.act));
    }
    sleep_until(start + length).await;
}

fn act(lab: &Lab, act: Act) {
    let wan = |place: usize| lab.wan(WANS[place]);
    let filter = |place, filter| wan(place).set_filter(filter);
    let done = match act {
        Act::Cut(place) => wan(place).cut(),
        Act::Restore(place) => wan(place).restore(),
        Act::Unplug(place) => wan(place).unplug(),
        Act::Plug(place) => wan(place).plug(),
        Act::Redial(place) => wan(place).redial(),
        Act::Readdress(place) => wan(place).readdress(),
        Act::Regateway(place) => wan(place).regateway(),
        Act::TakeIpv4(place) => wan(place).set_ipv4(false),
        Act::GiveIpv4(place) => wan(place).set_ipv4(true),
        Act::TakeIpv6(place) => wan(place).set_ipv6(false),
        Act::GiveIpv6(place) => wan(place).set_ipv6(true),
        Act::Shape(place, rate, delay, loss) => {
            let change = ShapeChange {
                rate: Some(format!("{rate}Mbit/s").parse().expect("a rate")),
                delay: Some(Duration::from_millis(delay)),
                loss: Some(format!("{}%", loss as f64 / 10.0).parse().expect("a share")),
                ..ShapeChange::default()
            };
            wan(place)
                .change(Direction::Down, &change)
                .and_then(|()| wan(place).change(Direction::Up, &change))
        }
        Act::StripMptcp(place) => filter(place, Filter { strip_mptcp: true, ..Filter::default() }),
        Act::BlockUdp(place) => filter(place, Filter { block_udp: true, ..Filter::default() }),
        Act::LetPass(place) => filter(place, Filter::default()),
        Act::Role(place, role) => {
            // A daemon that does not run has no roles; as it starts, they are as configured.
            let _ = lab.router(0).cli(&["wan", WANS[place], "role", role]);
            Ok(())
        }
        Act::Reload => lab.router(0).reload(),
        Act::StopRouter => lab.router(0).stop().map(drop),
        Act::KillRouter => lab.router(0).kill(),
        Act::StartRouter => lab.router(0).start(),
        Act::StopServer => lab.server().stop().map(drop),
        Act::KillServer => lab.server().kill(),
        Act::StartServer => lab.server().start(),
    };
    done.unwrap_or_else(|error| panic!("{act:?}: {error}"));
}

/// One transfer after the other, until all is calm.
async fn transfers(lab: &Lab, seed: u64, calm: &Cell<bool>, score: &Score) {
    let mut random = Random::new(seed);
    while !calm.get() {
        let bytes = 1 << random.between(12, 22);
        let bytes = bytes + random.between(0, bytes);
        let to = [http(), http_v6()][random.between(0, 2) as usize];
        let kind = random.between(0, 4);
        let began = Instant::now();
        let (what, got) = match kind {
            0 | 1 => {
                let mut job = Download::new(to, bytes);
                job.patience = HANGS;
                ("download", download(lab.lan(0), &job).await)
            }
            2 => ("upload", upload(lab.lan(0), to, bytes, HANGS).await),
            _ => {
                let v4 = SocketAddr::from((ORIGIN_V4, origin::ECHO));
                let echo_at = if to.is_ipv4() { v4 } else { (ORIGIN_V6, origin::ECHO).into() };
                ("echo", echo(lab.lan(0), echo_at, bytes, HANGS).await)
            }
        };
        score.note(what, bytes, &got, began);
        if !got.complete {
            // As an application would.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// How the transfers ended.
#[derive(Default)]
struct Score {
    complete: Cell<u64>,
    reset: Cell<u64>,
    wrong: RefCell<Vec<String>>,
}

impl Score {
    fn note(&self, what: &str, bytes: u64, got: &Transfer, began: Instant) {
        let error = got.error.as_deref().unwrap_or_default();
        let add = |count: &Cell<u64>| count.set(count.get() + 1);
        // "os error": the kernel said so. All else (too short, silence) is what a connection must
        // not do.
        match got.wrong_at {
            None if got.complete => add(&self.complete),
            None if error.contains("os error") => add(&self.reset),
            _ => {
                let took = began.elapsed().as_secs_f64();
                let line = format!(
                    "{what} of {bytes}: {} bytes in {took:.1} s, wrong at {:?}, {error}",
                    got.bytes, got.wrong_at
                );
                println!("WRONG: {line}");
                self.wrong.borrow_mut().push(line);
            }
        }
    }

    fn judge(&self) {
        let (complete, reset) = (self.complete.get(), self.reset.get());
        println!("{complete} transfers completed, {reset} were reset");
        let wrong = self.wrong.borrow();
        assert!(wrong.is_empty(), "neither complete nor reset: {wrong:#?}");
        assert!(complete > 0, "not a single transfer got through");
    }
}
