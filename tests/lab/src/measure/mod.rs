//! Measures what wanbond makes of a scenario's lines: goodput, latency under load, datagrams, and
//! what applications feel when a line is cut without a sign.
//!
//! Unlike a test it asserts nothing: figures of a busy machine are worth little. Each is the median
//! of some rounds, beside the project's aim for it.

mod cut;
mod table;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::runtime::Runtime;

use crate::error::LabError;
use crate::lab::Lab;
use crate::ns::Namespace;
use crate::scenario::Scenario;
use crate::topology::ORIGIN_V4;
use crate::traffic::{
    Datagrams, Download, Flow, Quantiles, STEP, Series, Transfer, download, origin, stream, upload,
};
use crate::units::Fraction;

pub use table::render;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Subject {
    /// One and eight connections each way, and latency under the download
    Goodput,
    /// UDP at 80 % of the lines' rates
    Datagrams,
    /// Each line cut without a sign, and mended
    Cut,
    /// A call and bulk where every line loses, for a scenario in which they do
    Loss,
}

/// How to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// What.
    pub subjects: Vec<Subject>,
    /// How often.
    pub rounds: usize,
}

/// A figure's aim.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aim {
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

/// One figure of a scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its unit, as written behind it.
    pub unit: &'static str,
    /// What it should be.
    pub aim: Option<Aim>,
    /// One value per round.
    pub values: Vec<f64>,
}

/// Everything measured in one scenario and one way of TCP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// `auto`, `mptcp`, `stream` or `packet`.
    pub tcp: String,
    /// The figures, in the order they were measured.
    pub figures: Vec<Figure>,
    /// How late the emulator was at worst, in ms: gaps and delays nearer than that prove nothing.
    pub late_ms: f64,
}

/// Measures a scenario with TCP going one way.
///
/// # Errors
/// When the lab or the daemons fail, or a transfer is not byte for byte what was sent.
pub fn run(
    runtime: &Runtime,
    scenario: &Scenario,
    tcp: &str,
    options: &Options,
) -> Result<Report, LabError> {
    let lab = Lab::build(scenario)?;
    lab.server().start()?;
    let mut config = lab.router(0).pair()?;
    tcp.clone_into(&mut config.tcp);
    lab.router(0).configure(&config)?;
    lab.router(0).start()?;
    lab.router(0).wait_ready(Duration::from_secs(20))?;
    let mut bench = Bench { lab: &lab, runtime, tcp, figures: Vec::new() };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // What the scenario lets happen by itself.
        let events =
            scope.spawn(|| lab.play_until(Duration::from_secs(86_400), || over.load(Relaxed)));
        let measured = bench.rounds(options);
        over.store(true, Relaxed);
        events.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        measured
    })?;
    let mut late_ms: f64 = 0.0;
    for wan in lab.wans() {
        late_ms = late_ms.max(wan.counters()?.lateness.max_us / 1e3);
    }
    Ok(Report { scenario: scenario.name.clone(), tcp: tcp.into(), figures: bench.figures, late_ms })
}

/// The same lines, losing this share of all packets.
#[must_use]
pub fn with_loss(scenario: &Scenario, loss: Fraction) -> Scenario {
    let mut lossy = scenario.clone();
    lossy.name = format!("{}, {} % loss", scenario.name, loss.get() * 100.0);
    for wan in &mut lossy.wan {
        (wan.down.loss, wan.up.loss) = (loss, loss);
    }
    lossy
}

/// Left out of a rate: TCP is still finding it.
const WARM_UP: Duration = Duration::from_secs(4);
/// With the warm-up, more than one cycle of BBR.
const TRANSFER: Duration = Duration::from_secs(15);

struct Bench<'a> {
    lab: &'a Lab,
    runtime: &'a Runtime,
    tcp: &'a str,
    figures: Vec<Figure>,
}

/// The lines' rates together, in Mbit/s.
#[derive(Debug, Clone, Copy)]
struct Sum {
    down: f64,
    up: f64,
}

impl Bench<'_> {
    fn rounds(&mut self, options: &Options) -> Result<(), LabError> {
        for _ in 0..options.rounds {
            for subject in &options.subjects {
                match subject {
                    Subject::Goodput => self.goodput(false)?,
                    Subject::Datagrams => self.datagrams()?,
                    Subject::Cut => self.cuts()?,
                    Subject::Loss => self.lossy()?,
                }
            }
        }
        Ok(())
    }

    fn sum(&self) -> Sum {
        // A plain veth has no rate: something to divide by.
        let mbit = |rate: Option<crate::units::Rate>| rate.map_or(1000.0, |rate| rate.mbit());
        let wans = &self.lab.scenario().wan;
        Sum {
            down: wans.iter().map(|wan| mbit(wan.down.rate)).sum(),
            up: wans.iter().map(|wan| mbit(wan.up.rate)).sum(),
        }
    }

    fn note(&mut self, name: impl Into<String>, unit: &'static str, aim: Option<Aim>, value: f64) {
        let name = name.into();
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure { name, unit, aim, values: vec![value] }),
        }
    }

    /// The aim for TCP's share of the lines' rates.
    fn share_aim(&self, connections: u32, lossy: bool) -> Aim {
        Aim::AtLeast(match (self.tcp, connections, lossy) {
            ("stream", _, false) => 0.93,
            ("stream", _, true) => 0.85,
            ("packet", _, true) => 0.70,
            ("packet", 1, false) => 0.80,
            ("packet", _, false) => 0.85,
            // What kernel MPTCP between router and server reaches by itself.
            _ => 0.91,
        })
    }

    fn goodput(&mut self, lossy: bool) -> Result<(), LabError> {
        let sum = self.sum();
        let idle = self.echoes(Duration::from_secs(3), None)?;
        for connections in [1, 8] {
            for (way, down, sum) in [("down", true, sum.down), ("up", false, sum.up)] {
                let times = if connections == 1 { "" } else { " ×8" };
                let load = Load { connections, down };
                // By itself: on a slow line the echoes' copies are a few percent.
                let goodput = self.runtime.block_on(transfers(self.lab, load, TRANSFER))?;
                let share = goodput.mbit_after(WARM_UP) / sum;
                let aim = Some(self.share_aim(connections, lossy));
                self.note(format!("TCP{times} {way}, of the sum"), "", aim, share);
                if !lossy {
                    let loaded = self.echoes(TRANSFER, Some(load))?;
                    let aim = down.then_some(Aim::AtMost(25.0));
                    let name = format!("ping p99 beside TCP{times} {way}, over idle");
                    self.note(name, "ms", aim, loaded.p99_ms - idle.p50_ms);
                }
            }
        }
        Ok(())
    }

    fn datagrams(&mut self) -> Result<(), LabError> {
        let sum = self.sum();
        let slowest = self.slowest_delay_ms();
        for (way, down, mbit) in [("down", true, sum.down), ("up", false, sum.up)] {
            let job = Datagrams::of_rate(mbit * 0.8, Duration::from_secs(8));
            let flow = self.stream(down, &job)?;
            let lossless = self.lab.scenario().wan.iter().all(|wan| {
                let shape = if down { &wan.down } else { &wan.up };
                shape.loss.get() <= 0.0
            });
            let aim = lossless.then_some(Aim::AtLeast(99.9));
            self.note(format!("UDP at 80 % {way}, delivered"), "%", aim, flow.delivered() * 100.0);
            let late = flow.delay.p99 - slowest;
            let name = format!("UDP at 80 % {way}, p99 over the slowest line's delay");
            self.note(name, "ms", Some(Aim::AtMost(15.0)), late);
            #[expect(clippy::cast_precision_loss, reason = "a statistic")]
            let reordered = flow.reordered as f64 * 100.0 / flow.received.max(1) as f64;
            let name = format!("UDP at 80 % {way}, reordered");
            self.note(name, "%", Some(Aim::AtMost(1.0)), reordered);
        }
        Ok(())
    }

    /// A call's datagrams, and bulk, where every line loses.
    fn lossy(&mut self) -> Result<(), LabError> {
        let call = Datagrams::call(Duration::from_secs(30));
        let before = self.down_bytes()?;
        let flow = self.stream(true, &call)?;
        let spent = self.down_bytes()? - before;
        let lost = (1.0 - flow.delivered()) * 100.0;
        self.note("a call, lost", "%", Some(Aim::AtMost(0.05)), lost);
        #[expect(clippy::cast_precision_loss, reason = "a statistic")]
        let cost = spent as f64 / call.ip_bytes(flow.sent).max(1) as f64;
        self.note("a call, bytes on the lines per byte", "", None, cost);
        self.goodput(true)
    }

    fn slowest_delay_ms(&self) -> f64 {
        let wans = self.lab.scenario().wan.iter();
        wans.map(|wan| wan.down.delay.max(wan.up.delay)).max().unwrap_or_default().as_secs_f64()
            * 1e3
    }

    fn down_bytes(&self) -> Result<u64, LabError> {
        self.lab.wans().map(|wan| Ok(wan.counters()?.down.bytes_out)).sum()
    }

    fn stream(&self, towards_lan: bool, job: &Datagrams) -> Result<Flow, LabError> {
        let origin = (ORIGIN_V4, origin::ECHO).into();
        stream(self.lab.lan(0), self.lab.inet(), origin, towards_lan, job)
            .map_err(|source| LabError::Traffic { what: "datagrams".into(), source })
    }

    /// Small datagrams that are echoed, 20 a second for `time`, beside `load`.
    fn echoes(&self, time: Duration, load: Option<Load>) -> Result<Echoes, LabError> {
        std::thread::scope(|scope| {
            let pings = scope.spawn(|| ping(self.lab.lan(0), origin_of(origin::ECHO), time));
            if let Some(load) = load {
                self.runtime.block_on(transfers(self.lab, load, time))?;
            }
            let pings = pings.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            let pings =
                pings.map_err(|source| LabError::Traffic { what: "echoes".into(), source })?;
            Ok(Echoes { p50_ms: pings.p50, p99_ms: pings.p99 })
        })
    }
}

/// Bulk on so many connections.
#[derive(Debug, Clone, Copy)]
struct Load {
    connections: u32,
    down: bool,
}

/// Round trips of small datagrams.
struct Echoes {
    p50_ms: f64,
    p99_ms: f64,
}

fn origin_of(port: u16) -> SocketAddr {
    (ORIGIN_V4, port).into()
}

/// All connections' bytes together, as they arrive.
async fn transfers(lab: &Lab, load: Load, time: Duration) -> Result<Series, LabError> {
    let to = origin_of(origin::HTTP);
    let connections = 0..load.connections;
    if !load.down {
        let one = async |_| {
            // More than passes in this time: what counts is what the origin sees meanwhile.
            let endless = upload(lab.lan(0), to, 1 << 40, Duration::from_secs(30));
            tokio::time::timeout(time, endless).await.ok()
        };
        let all = futures_util::future::join_all(connections.map(one));
        let (ended, series) = tokio::join!(all, arrivals(lab, time));
        return match ended.into_iter().flatten().next() {
            None => Ok(series),
            Some(early) => Err(unsound(&early)),
        };
    }
    let job = Download::timed(to, time);
    let all = connections.map(|_| download(lab.lan(0), &job));
    let done = futures_util::future::join_all(all).await;
    if let Some(failed) = done.iter().find(|transfer| !transfer.is_sound()) {
        return Err(unsound(failed));
    }
    let steps = done.iter().map(|transfer| transfer.series.0.len()).min().unwrap_or(0);
    let at = |step: usize| done.iter().map(|transfer| transfer.series.0[step]).sum();
    Ok(Series((0..steps).map(at).collect()))
}

fn unsound(transfer: &Transfer) -> LabError {
    let source = io::Error::other(format!("{:?} {:?}", transfer.error, transfer.wrong_at));
    LabError::Traffic { what: "a transfer".into(), source }
}

/// What comes to the origin of uploads, per [`STEP`].
async fn arrivals(lab: &Lab, time: Duration) -> Series {
    let start = tokio::time::Instant::now();
    let mut before = lab.origin().uploaded();
    let mut next = start;
    let mut steps = Vec::new();
    while next < start + time {
        next += STEP;
        tokio::time::sleep_until(next).await;
        let now = lab.origin().uploaded();
        steps.push(now - before);
        before = now;
    }
    Series(steps)
}

/// Round trips of small datagrams, 20 a second; those lost count as a second.
fn ping(lan: &Namespace, to: SocketAddr, time: Duration) -> io::Result<Quantiles> {
    const EACH: Duration = Duration::from_millis(50);
    let socket = lan.udp_socket(([0, 0, 0, 0], 0).into())?;
    socket.set_nonblocking(false)?;
    socket.connect(to)?;
    let start = Instant::now();
    let mut sent = Vec::new();
    let mut times = Vec::new();
    let mut buffer = [0; 64];
    let mut next = Duration::ZERO;
    while start.elapsed() < time + Duration::from_secs(1) {
        let now = start.elapsed();
        if now >= next && now < time {
            let number = u32::try_from(sent.len()).unwrap_or(u32::MAX);
            sent.push(now);
            times.push(Duration::from_secs(1));
            socket.send(&number.to_be_bytes())?;
            next += EACH;
        }
        let wait = next.saturating_sub(start.elapsed()).clamp(Duration::from_millis(1), EACH);
        socket.set_read_timeout(Some(wait))?;
        let Ok(4) = socket.recv(&mut buffer) else { continue };
        let number = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]) as usize;
        if let (Some(at), Some(time)) = (sent.get(number), times.get_mut(number)) {
            // The first of two copies counts.
            *time = (*time).min(start.elapsed() - *at);
        }
    }
    // Beside a load, only once that has found its rate.
    let first = if time > WARM_UP { times.len() * 4 / 15 } else { 0 };
    Ok(Quantiles::of(&times[first..]))
}
