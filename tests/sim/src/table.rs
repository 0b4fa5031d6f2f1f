//! The figures of `TABLE.md`, and what they should be.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::link::LinkSpec;
use crate::net::Side;
use crate::show::{self, Bulk, Setting};

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Not less than this.
    Least(u64),
    /// Not more than this.
    Most(u64),
    /// It is for comparison only.
    None,
}

/// A figure.
#[derive(Debug, Clone)]
pub struct Row {
    /// The setting and the way.
    pub place: String,
    /// What was measured, with its unit.
    pub what: String,
    /// It.
    pub figure: u64,
    /// What it should be.
    pub goal: Goal,
}

impl Row {
    /// Whether it is as it should be.
    #[must_use]
    pub const fn holds(&self) -> bool {
        match self.goal {
            Goal::Least(least) => self.figure >= least,
            Goal::Most(most) => self.figure <= most,
            Goal::None => true,
        }
    }
}

type Job = Box<dyn FnOnce() -> Vec<Row> + Send>;

/// All figures with goals, measured.
#[must_use]
pub fn shown() -> Vec<Row> {
    let mut jobs: Vec<Job> = Vec::new();
    for setting in [Setting::s1(), Setting::s2()] {
        for side in [Side::Server, Side::Router] {
            in_setting(&setting, side, &mut jobs);
        }
    }
    goodput(&Setting::starlink(), Side::Server, [Goal::None; 4], &mut jobs);
    run(jobs)
}

fn in_setting(setting: &Setting, side: Side, jobs: &mut Vec<Job>) {
    let least = [930, 930, 800, 850].map(Goal::Least);
    goodput(setting, side, least, jobs);
    for bulk in [Bulk::Streams, Bulk::Packets] {
        job(jobs, setting, side, move |setting, add| {
            let (p99, lost) = show::ping_under_load(setting, bulk, side);
            let most = setting.best_rtt() + 25_000;
            add(&format!("ping under {}, p99, us", name(bulk)), p99, Goal::Most(most));
            add(&format!("pings lost under {}, permille", name(bulk)), lost, Goal::None);
        });
        for link in 0..2 {
            job(jobs, setting, side, move |setting, add| {
                let figures = show::cut(setting, bulk, side, link, 4);
                let what = |what: &str| format!("link {link} cut under {}: {what}", name(bulk));
                add(&what("UDP gap, us"), figures.udp_gap, Goal::Most(150_000));
                add(&what("UDP lost, packets"), figures.udp_lost, Goal::Most(5));
                add(&what("bulk gap, us"), figures.bulk_gap, Goal::Most(400_000));
                let back = if figures.back == 0 { u64::MAX } else { figures.back };
                add(&what("back in use, ms"), back, Goal::Most(3_000));
            });
        }
    }
    job(jobs, setting, side, move |setting, add| {
        let figures = show::udp(setting, side, 800);
        let lossless = setting.links.iter().all(|link| link.up.loss.get() == 0.0);
        let lost = if lossless { Goal::Most(1_000) } else { Goal::None };
        add("UDP at 80 %: lost, ppm", figures.lost, lost);
        let delays = setting.links.iter().map(|link| link.from_side(side));
        let slowest = delays.map(|shape| (shape.delay + shape.jitter).as_micros() as u64).max();
        let most = slowest.unwrap_or(0) + 15_000;
        add("UDP at 80 %: one way, p99, us", figures.p99, Goal::Most(most));
        add("UDP at 80 %: out of order, permille", figures.overtaken, Goal::Most(10));
        add("UDP at 80 %: overhead, permille", figures.overhead, Goal::None);
    });
    let lossy = setting.clone().lossy(20_000);
    goodput(&lossy, side, [850, 850, 700, 700].map(Goal::Least), jobs);
    job(jobs, &lossy, side, move |setting, add| {
        let call = show::udp_every(setting, side, 228, Duration::from_millis(20));
        add("call: lost, ppm", call.lost, Goal::Most(500));
        add("call: one way, p99, us", call.p99, Goal::None);
        add("call: overhead, permille", call.overhead, Goal::None);
        // A quarter of the links' sum: a game or a conference, too fast to be sent twice.
        let video = show::udp(setting, side, 250);
        add("video: lost, ppm", video.lost, Goal::Most(500));
        add("video: one way, p99, us", video.p99, Goal::None);
        add("video: overhead, permille", video.overhead, Goal::None);
    });
    for bulk in [Bulk::Streams, Bulk::Packets] {
        job(jobs, setting, side, move |setting, add| {
            let third = setting.clone().with_third();
            let (before, after) =
                (show::goodput(setting, bulk, side, 1), show::goodput(&third, bulk, side, 1));
            // Of what the two carried.
            let share = after * third.rate(side) * 1000 / (before * setting.rate(side)).max(1);
            let what = format!("1 {} with a third path, permille of without", name(bulk));
            add(&what, share, Goal::Least(970));
            let (p99, _) = show::ping_under_load(&third, bulk, side);
            let (alone, _) = show::ping_under_load(setting, bulk, side);
            let what = format!("ping under {} with a third path, p99, us", name(bulk));
            add(&what, p99, Goal::Most(alone * 103 / 100));
        });
    }
}

const fn name(bulk: Bulk) -> &'static str {
    match bulk {
        Bulk::Streams => "streams",
        Bulk::Packets => "packets",
    }
}

fn goodput(setting: &Setting, side: Side, goals: [Goal; 4], jobs: &mut Vec<Job>) {
    let cases = [(Bulk::Streams, 1), (Bulk::Streams, 8), (Bulk::Packets, 1), (Bulk::Packets, 8)];
    for ((bulk, count), goal) in cases.into_iter().zip(goals) {
        job(jobs, setting, side, move |setting, add| {
            let share = show::goodput(setting, bulk, side, count);
            add(&format!("{count} {}, permille of all links", name(bulk)), share, goal);
        });
    }
}

fn job(
    jobs: &mut Vec<Job>,
    setting: &Setting,
    side: Side,
    measure: impl Fn(&Setting, &mut dyn FnMut(&str, u64, Goal)) + Send + 'static,
) {
    let setting = setting.clone();
    jobs.push(Box::new(move || {
        let way = if side == Side::Server { "down" } else { "up" };
        let place = format!("{} {way}", setting.name);
        let mut rows = Vec::new();
        let mut add = |what: &str, figure: u64, goal: Goal| {
            rows.push(Row { place: place.clone(), what: what.into(), figure, goal });
        };
        measure(&setting, &mut add);
        rows
    }));
}

/// Runs jobs on all cores; their results in the jobs' order.
fn run(jobs: Vec<Job>) -> Vec<Row> {
    let count = jobs.len();
    let jobs: Vec<_> = jobs.into_iter().map(|job| Mutex::new(Some(job))).collect();
    let results: Vec<_> = (0..count).map(|_| Mutex::new(Vec::new())).collect();
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(index) else { break };
                    let job = job.lock().ok().and_then(|mut job| job.take());
                    if let (Some(job), Ok(mut result)) = (job, results[index].lock()) {
                        *result = job();
                    }
                }
            });
        }
    });
    results.into_iter().flat_map(|rows| rows.into_inner().unwrap_or_default()).collect()
}

const LOSSES: [u64; 4] = [0, 5_000, 20_000, 50_000];
const SKEWS: [u64; 4] = [0, 30, 100, 300];

/// Two links of 20 Mbit/s, whose round trips differ and which lose: six figures for each case.
fn grid() -> Vec<Row> {
    let mut jobs: Vec<Job> = Vec::new();
    for loss in LOSSES {
        for skew in SKEWS {
            let links = [10, 10 + skew / 2].map(|delay| LinkSpec::even(20_000, delay, 100));
            let setting = Setting { name: "", links: links.into() }.lossy(loss);
            job(&mut jobs, &setting, Side::Server, move |setting, add| {
                let what = format!("{}.{} % | {skew}", loss / 10_000, loss / 1_000 % 10);
                for bulk in [Bulk::Streams, Bulk::Packets] {
                    let (share, ping, overhead) = show::all_at_once(setting, bulk);
                    for figure in [share, ping, overhead] {
                        add(&what, figure, Goal::None);
                    }
                }
            });
        }
    }
    run(jobs)
}

/// `TABLE.md`, with these figures.
#[must_use]
pub fn text(shown: &[Row]) -> String {
    let mut text = String::from(HEAD);
    for row in grid().chunks(6) {
        let _ = write!(text, "| {} ms ", row[0].what);
        for (index, cell) in row.iter().enumerate() {
            let _ = match index % 3 {
                1 => write!(text, "| {}.{} ", cell.figure / 1000, cell.figure / 100 % 10),
                _ => write!(text, "| {} ", cell.figure),
            };
        }
        text.push_str("|\n");
    }
    text.push_str(SHOWN);
    for row in shown {
        let Row { place, what, figure, goal } = row;
        let goal = match goal {
            Goal::Least(least) => format!("≥ {least}"),
            Goal::Most(most) => format!("≤ {most}"),
            Goal::None => String::new(),
        };
        let mark = if row.holds() { "" } else { "**not yet**" };
        let figure = if *figure == u64::MAX { "never".into() } else { figure.to_string() };
        let _ = writeln!(text, "| {place} | {what} | {figure} | {goal} | {mark} |");
    }
    text
}

const HEAD: &str = "\
# What the tunnel does over simulated links

Written by the simulation itself; a test compares it to the last digit. Where a change of the tunnel
moves it, write it anew and look at the difference:

```
WANBOND_SIM_WRITE=1 cargo test -p wanbond-sim --test figures
```

## Loss and skew

Two links of 20 Mbit/s, 20 ms round trip and 20 ms plus the skew, a queue of 100 ms, random loss on
both; one download over streams, or as packets of a CUBIC sender, and a ping beside it. Goodput:
permille of the links' sum. Ping: 99th percentile, ms. Overhead: bytes on the links beyond those that
arrived, permille.

| loss | skew | streams: goodput | ping | overhead | packets: goodput | ping | overhead |
|---|---|---|---|---|---|---|---|
";
const SHOWN: &str = "
## Settings and goals

S1: two ADSL lines. S2: fibre and LTE, with loss and jitter. Starlink: a dish with bursts of loss, and
DSL. Lossy: 2 % random loss on all links instead. What they are is in `src/show.rs`.

| setting | figure | is | goal | |
|---|---|---|---|---|
";
