//! Prints the figures, or a run second by second, for whoever works on the tunnel.
#![forbid(unsafe_code)]

use std::fmt::Write;

use wanbond_sim::plan::Plan;
use wanbond_sim::show::{self, Bulk, Setting};
use wanbond_sim::shrink::shrink;
use wanbond_sim::{Side, Time, World, rules};

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    if let Some(seed) = words.iter().find_map(|word| word.strip_prefix("world=")) {
        let Ok(seed) = seed.parse() else {
            eprintln!("world={seed}: a number is wanted");
            std::process::exit(2);
        };
        return a_world(seed, &words);
    }
    let settings = [
        ("s1", Setting::s1()),
        ("s2", Setting::s2()),
        ("starlink", Setting::starlink()),
        ("s1third", Setting::s1().with_third()),
        ("s2third", Setting::s2().with_third()),
        ("s1lossy", Setting::s1().lossy(20_000)),
        ("s2lossy", Setting::s2().lossy(20_000)),
    ];
    for (name, setting) in settings.into_iter().filter(|(name, _)| has(name)) {
        for side in [Side::Server, Side::Router] {
            if has("up") && side == Side::Server || has("down") && side == Side::Router {
                continue;
            }
            let way = if side == Side::Server { "down" } else { "up" };
            let label = format!("{name} {way}");
            if has("trace") {
                trace(&setting, side, &words);
                continue;
            }
            let seeds = 4..4 + number(&words, "seeds=", 1);
            report(&label, &setting, side, &has, &seeds);
        }
    }
}

fn report(
    label: &str,
    setting: &Setting,
    side: Side,
    has: &dyn Fn(&str) -> bool,
    seeds: &std::ops::Range<u64>,
) {
    let all = has("all");
    for (bulk, what) in [(Bulk::Streams, "streams"), (Bulk::Packets, "packets")] {
        for count in [1, 8] {
            if all || has("goodput") {
                println!("{label}: {count} {what}: {}", show::goodput(setting, bulk, side, count));
            }
        }
        if all || has("ping") {
            let (p99, lost) = show::ping_under_load(setting, bulk, side);
            let best = setting.best_rtt();
            println!("{label}: ping under {what}: p99 {p99} (idle {best}), lost {lost}");
        }
        if all || has("cut") {
            for link in 0..2 {
                for seed in seeds.clone() {
                    let figures = show::cut(setting, bulk, side, link, seed);
                    println!("{label}: cut {link}, {what}: {figures:?}");
                }
            }
        }
        if all || has("follow") {
            for percent in [50, 200] {
                let shares = show::follow(setting, bulk, side, percent);
                println!("{label}: rate to {percent} %, {what}: {shares:?}");
            }
        }
    }
    if all || has("udp") {
        println!("{label}: udp 80 %: {:?}", show::udp(setting, side, 800));
        println!("{label}: video, 25 %: {:?}", show::udp(setting, side, 250));
        let call = std::time::Duration::from_millis(20);
        println!("{label}: call: {:?}", show::udp_every(setting, side, 228, call));
    }
}

fn number(words: &[String], key: &str, or: u64) -> u64 {
    let found = words.iter().find_map(|word| word.strip_prefix(key));
    found.and_then(|value| value.parse().ok()).unwrap_or(or)
}

/// A world drawn at random, or what is left of it when it is made smaller, every `step` ms.
fn a_world(seed: u64, words: &[String]) {
    let mut plan = Plan::drawn(seed);
    if words.iter().any(|word| word == "shrink") {
        plan = shrink(&plan, 300, |plan| !rules::broken(plan).is_empty());
    }
    println!("{plan}");
    let mut world = plan.world();
    let (step, end) = (number(words, "step=", 1_000), number(words, "end=", 40_000));
    for at in (step..=end).step_by(step as usize) {
        world.run_until(Time::from_millis(at));
        for side in Side::BOTH {
            println!("{at:6} {side:?} holds {} B", world.net.end(side).tunnel.held_bytes());
            println!("{}", paths(&mut world, side));
        }
    }
    for (at, side, event) in &world.events {
        println!("{:6} ms {side:?} {event:?}", at.as_nanos() / 1_000_000);
    }
    for side in Side::BOTH {
        println!("{side:?} {:?}", world.net.end(side).tunnel.figures());
        for link in &mut world.links {
            println!("   {:?}", link.pipe(side).counters());
        }
    }
    println!("wrong: {:#?}", rules::broken(&plan));
}

/// What `side` makes of its paths.
fn paths(world: &mut World, side: Side) -> String {
    let mut text = String::new();
    for index in 0..world.links.len() {
        let id = world.links[index].id;
        let queue = world.links[index].pipe(side).waiting_bytes();
        if let Some(figures) = world.net.end(side).tunnel.path_figures(id) {
            let _ = write!(
                text,
                " | {:?} {:6} kB/s rtt {:4} q{:3}ms fl{:6} mtu {} link {queue:6}B",
                figures.liveness,
                figures.rate / 1000,
                figures.srtt.unwrap_or_default().as_millis(),
                figures.queue.as_millis(),
                figures.in_flight,
                figures.datagram,
            );
        }
    }
    text
}

/// A bulk transfer, every `step` ms.
fn trace(setting: &Setting, side: Side, words: &[String]) {
    let bulk =
        if words.iter().any(|word| word == "packets") { Bulk::Packets } else { Bulk::Streams };
    let mut world = setting.world(number(words, "seed=", 1));
    let count = number(words, "flows=", 1) as usize;
    let flows = show::add_bulk(&mut world, bulk, side, count, Time::from_millis(100));
    if words.iter().any(|word| word == "call") {
        show::add_call(&mut world, side, Time::from_millis(500), Time::from_millis(14_000));
    }
    let cut = number(words, "cut=", 9) as usize;
    if cut < world.links.len() {
        world.at(Time::from_millis(5_003), move |now, world| world.links[cut].set_cut(now, true));
        world.at(Time::from_millis(8_000), move |now, world| world.links[cut].set_cut(now, false));
    }
    let (step, end) = (number(words, "step=", 100), number(words, "end=", 3_000));
    let mut from = Time::ZERO;
    for at in (step..=end).step_by(step as usize) {
        let to = Time::from_millis(at);
        world.run_until(to);
        let bytes = show::bytes(&world, &flows, from, to);
        print!("{at:6} {:7} kB/s", bytes / step);
        print!("{}", paths(&mut world, side));
        if let wanbond_sim::traffic::Traffic::Tcp(tcp) = world.traffic(flows[0]) {
            print!(" | w{} re{} to{}", tcp.window(), tcp.retransmitted, tcp.timeouts.len());
        }
        println!();
        from = to;
    }
    for side in Side::BOTH {
        println!("{side:?} {:?}", world.net.end(side).tunnel.figures());
        for link in &mut world.links {
            println!("   {:?}", link.pipe(side).counters());
        }
    }
    println!("{:?}", world.net.ledger.faults());
    println!("datagrams {:?} wakeups {}", world.datagrams, world.wakeups);
    for event in world.events.iter().take(40) {
        println!("{event:?}");
    }
}
