//! The demonstration: the same downloads over one line, over the other, and through wanbond; then
//! one through wanbond during which a line is cut and mended.

mod live;
mod plot;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use self::live::{Trace, watch};
use self::plot::Plot;
use crate::error::LabError;
use crate::lab::Lab;
use crate::scenario::Scenario;
use crate::topology::ORIGIN_V4;
use crate::traffic::{Download, Quantiles, Transfer, download, fetch, origin};

/// How the demo runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Shorter downloads, with less telling figures.
    pub quick: bool,
    /// Where plots and figures go.
    pub out: PathBuf,
}

impl Options {
    /// One download's time.
    const fn download(&self) -> Duration {
        // With the warm-up left out, one whole cycle of BBR, which makes room to measure the round
        // trip once in 10 s: a shorter window would count that as if it were more frequent.
        Duration::from_secs(if self.quick { 6 } else { 14 })
    }

    /// Left out of a rate: TCP is still finding it.
    const fn warm_up(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 4 })
    }

    /// The time the download with the cut is made for, the cut and the mending, in seconds.
    const fn cut(&self) -> (f64, f64, f64) {
        if self.quick { (9.0, 3.0, 5.0) } else { (20.0, 6.0, 11.0) }
    }
}

/// Everything the demo found out about one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// What it is.
    pub description: String,
    /// The sum of the lines' rates towards the router, in Mbit/s of IP packets.
    pub sum_mbit: Option<f64>,
    /// The table.
    pub rows: Vec<Row>,
    /// What else is worth knowing.
    pub remarks: Vec<String>,
    /// What failed: empty, or the demo has failed.
    pub failures: Vec<String>,
    /// The kernel's release.
    pub kernel: String,
}

/// One line of the table.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Which download.
    pub name: String,
    /// Payload, in Mbit/s, after the warm-up.
    pub mbit: Option<f64>,
    /// That as a share of the sum of the lines' rates.
    pub share: Option<f64>,
    /// That against the better single line.
    pub ratio: Option<f64>,
    /// The longest time without a byte, in ms.
    pub silence_ms: Option<f64>,
    /// From the start of connecting to the answer's first byte, median, in ms.
    pub first_byte_ms: Option<f64>,
    /// The same in round trips of the WAN.
    pub first_byte_rtts: Option<f64>,
    /// Whether the bytes were right.
    pub verdict: String,
}

/// The least share of the sum that proves that the lines were bonded. The project's aims are
/// higher; this only tells a working bond from a missing one on any machine.
const BONDED_SHARE: f64 = 0.75;
/// The least share of the bytes that a line must carry, against its share of the rates.
const CARRIED_SHARE: f64 = 0.4;

/// Runs the demo in a lab, writes its plot and figures, prints its table.
///
/// # Errors
/// When the lab or the daemons don't do what is asked at all. What can be measured and is bad is
/// in [`Outcome::failures`].
pub async fn run(lab: &Lab, options: &Options) -> Result<Outcome, LabError> {
    let mut demo = Demo::new(lab, options);
    demo.single_lines().await?;
    demo.start_daemons()?;
    demo.through_wanbond().await?;
    demo.with_a_cut().await?;
    demo.finish()
}

struct Demo<'a> {
    lab: &'a Lab,
    options: &'a Options,
    outcome: Outcome,
    /// Of the better line alone.
    best_mbit: f64,
    /// Of the nearest line, in ms.
    best_rtt_ms: f64,
}

impl<'a> Demo<'a> {
    fn new(lab: &'a Lab, options: &'a Options) -> Self {
        let scenario = lab.scenario();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let outcome = Outcome {
            scenario: scenario.name.clone(),
            description: scenario.description.clone(),
            sum_mbit: sum_mbit(scenario),
            rows: Vec::new(),
            remarks: Vec::new(),
            failures: Vec::new(),
            kernel: kernel.trim().into(),
        };
        Self { lab, options, outcome, best_mbit: 0.0, best_rtt_ms: f64::INFINITY }
    }

    /// Each line by itself, without wanbond.
    async fn single_lines(&mut self) -> Result<(), LabError> {
        for wan in self.lab.wans() {
            wan.prefer()?;
            let (connect, first_byte) = self.set_up().await;
            let rtt = connect.p50;
            self.best_rtt_ms = self.best_rtt_ms.min(rtt);
            let title = format!("{}: {} alone", self.outcome.scenario, wan.name());
            let (transfer, _) = self.measured(&title).await;
            wan.unprefer()?;
            let mut row = self.row(format!("{} alone", wan.name()), &transfer, first_byte, rtt);
            let mbit = row.mbit.unwrap_or(0.0);
            self.best_mbit = self.best_mbit.max(mbit);
            row.ratio = None;
            self.outcome.rows.push(row);
        }
        for row in &mut self.outcome.rows {
            row.ratio = row.mbit.map(|mbit| mbit / self.best_mbit.max(1e-9));
        }
        Ok(())
    }

    fn start_daemons(&mut self) -> Result<(), LabError> {
        // Both wait for their daemon; nothing else is to be done meanwhile.
        tokio::task::block_in_place(|| {
            self.lab.server().start()?;
            self.lab.router(0).start()?;
            let start = Instant::now();
            let status = self.lab.router(0).wait_ready(Duration::from_secs(20))?;
            self.outcome.remarks.push(format!(
                "wanbond was ready {:.1} s after its start; congestion control {}, kernel {}",
                start.elapsed().as_secs_f64(),
                status.mptcp.congestion,
                self.outcome.kernel
            ));
            Ok(())
        })
    }

    async fn through_wanbond(&mut self) -> Result<(), LabError> {
        let (_, first_byte) = self.set_up().await;
        let title = format!("{}: through wanbond", self.outcome.scenario);
        let (transfer, trace) = self.measured(&title).await;
        let row = self.row("wanbond".into(), &transfer, first_byte, self.best_rtt_ms);
        if !transfer.is_sound() {
            self.outcome.failures.push(format!("wanbond: {}", row.verdict));
        }
        if let (Some(share), Some(sum)) = (row.share, self.outcome.sum_mbit) {
            if share < BONDED_SHARE {
                let mbit = row.mbit.unwrap_or(0.0);
                let failure = format!("not bonded: {mbit:.2} of {sum:.2} Mbit/s");
                self.outcome.failures.push(failure);
            }
            let carried = trace.shares();
            for (wan, carried) in self.lab.wans().zip(carried) {
                let own = wan.spec().down.rate.map_or(0.0, |rate| rate.mbit()) / sum;
                if carried < own * CARRIED_SHARE {
                    let failure = format!(
                        "{} carried {:.0} % of the bytes, with {:.0} % of the rate",
                        wan.name(),
                        carried * 100.0,
                        own * 100.0
                    );
                    self.outcome.failures.push(failure);
                }
            }
        }
        self.outcome.rows.push(row);
        Ok(())
    }

    /// A download of a known length, the first line cut in its middle and mended later.
    async fn with_a_cut(&mut self) -> Result<(), LabError> {
        let Some(wan) = self.lab.wans().find(|wan| !wan.spec().veth) else { return Ok(()) };
        let (time, cut_at, mend_at) = self.options.cut();
        let bytes = cut_bytes(self.lab.scenario(), wan.name(), time, mend_at - cut_at);
        let job = Download::new((ORIGIN_V4, origin::HTTP).into(), bytes);
        let title = format!("{}: through wanbond, {} cut", self.outcome.scenario, wan.name());
        let schedule = async {
            tokio::time::sleep(Duration::from_secs_f64(cut_at)).await;
            wan.cut()?;
            tokio::time::sleep(Duration::from_secs_f64(mend_at - cut_at)).await;
            wan.restore()
        };
        let shown = Duration::from_secs_f64(time);
        let ((transfer, trace), done) = tokio::join!(self.shown(&title, shown, &job), schedule);
        done?;
        let name = format!("wanbond, {} cut", wan.name());
        let mut row = self.row(name, &transfer, Quantiles::default(), self.best_rtt_ms);
        (row.mbit, row.share, row.ratio, row.first_byte_ms) = (None, None, None, None);
        row.first_byte_rtts = None;
        if !transfer.complete {
            self.outcome.failures.push(format!("with {} cut: {}", wan.name(), row.verdict));
        }
        let back = back_after(&trace, wan.name(), mend_at);
        self.outcome.remarks.push(match back {
            Some(time) => format!(
                "{} was cut at {cut_at:.0} s, mended at {mend_at:.0} s, and carried again {time:.1} s later",
                wan.name()
            ),
            None => format!("{} did not carry again before the download's end", wan.name()),
        });
        self.outcome.rows.push(row);
        let plot = Plot {
            title: &format!("{}: one download through wanbond", self.outcome.scenario),
            trace: &trace,
            goodput: &transfer.series.0,
            cut: Some((wan.name(), cut_at, mend_at)),
            sum: self.outcome.sum_mbit,
        };
        let path = self.options.out.join(format!("{}.svg", self.outcome.scenario));
        write(&path, plot.to_svg().as_bytes())?;
        self.outcome.remarks.push(format!("plot: {}", path.display()));
        Ok(())
    }

    fn finish(mut self) -> Result<Outcome, LabError> {
        let mut worst: f64 = 0.0;
        let mut p99: f64 = 0.0;
        for wan in self.lab.wans() {
            let lateness = wan.counters()?.lateness;
            (worst, p99) = (worst.max(lateness.max_us), p99.max(lateness.p99_us));
        }
        let how = if self.lab.emulator().is_real_time() { "" } else { "out" };
        self.outcome.remarks.push(format!(
            "link emulator: late by {:.2} ms (99 %), {:.1} ms at worst, with{how} real-time priority",
            p99 / 1e3,
            worst / 1e3
        ));
        let path = self.options.out.join(format!("{}.json", self.outcome.scenario));
        write(&path, &serde_json::to_vec_pretty(&self.outcome).unwrap_or_default())?;
        println!("{}", table::render(&self.outcome));
        Ok(self.outcome)
    }

    /// Ten short requests: (connect, first byte).
    async fn set_up(&self) -> (Quantiles, Quantiles) {
        let (mut connect, mut first_byte) = (Vec::new(), Vec::new());
        let patience = Duration::from_secs(5);
        let origin = (ORIGIN_V4, origin::HTTP).into();
        for seed in 0..10 {
            if let Ok(timing) = fetch(self.lab.lan(0), origin, 1, seed, patience).await {
                connect.push(timing.connect);
                first_byte.push(timing.first_byte);
            }
        }
        (Quantiles::of(&connect), Quantiles::of(&first_byte))
    }

    /// A download for as long as the options say.
    async fn measured(&self, title: &str) -> (Transfer, Trace) {
        let time = self.options.download();
        let job = Download::timed((ORIGIN_V4, origin::HTTP).into(), time);
        self.shown(title, time, &job).await
    }

    async fn shown(&self, title: &str, expect: Duration, job: &Download) -> (Transfer, Trace) {
        let done = Arc::new(AtomicBool::new(false));
        let work = async {
            let transfer = download(self.lab.lan(0), job).await;
            done.store(true, Ordering::Relaxed);
            transfer
        };
        tokio::join!(work, watch(self.lab, title, expect, &done))
    }

    fn row(&self, name: String, transfer: &Transfer, first_byte: Quantiles, rtt: f64) -> Row {
        let mbit = transfer.series.mbit_after(self.options.warm_up());
        let verdict = match (&transfer.wrong_at, &transfer.error) {
            (Some(at), _) => format!("byte {at} is WRONG"),
            (None, Some(error)) => format!("FAILED after {} bytes: {error}", transfer.bytes),
            (None, None) => format!("{:.1} MB, all right", as_mb(transfer.bytes)),
        };
        let answered = first_byte.count > 0;
        Row {
            name,
            mbit: Some(mbit),
            share: self.outcome.sum_mbit.map(|sum| mbit / sum),
            ratio: Some(mbit / self.best_mbit.max(1e-9)),
            silence_ms: Some(transfer.longest_gap_ms),
            first_byte_ms: answered.then_some(first_byte.p50),
            first_byte_rtts: answered.then_some(first_byte.p50 / rtt),
            verdict,
        }
    }
}

fn sum_mbit(scenario: &Scenario) -> Option<f64> {
    scenario.wan.iter().map(|wan| wan.down.rate.map(|rate| rate.mbit())).sum()
}

/// As many bytes as the lines carry in `time` seconds, one of them missing for `away`, at nine
/// tenths of their rates.
fn cut_bytes(scenario: &Scenario, cut: &str, time: f64, away: f64) -> u64 {
    let bits: f64 = scenario
        .wan
        .iter()
        .map(|wan| {
            let seconds = if wan.name == cut { time - away } else { time };
            // Without a rate: something that takes a while on any machine.
            wan.down.rate.map_or(1000.0, |rate| rate.mbit()) * 1e6 * seconds
        })
        .sum();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, < 2^50")]
    let bytes = (bits * 0.9 / 8.0) as u64;
    bytes
}

/// How long after `mended` (seconds) a WAN first carried at least a tenth of its usual bytes for
/// half a second.
fn back_after(trace: &Trace, name: &str, mended: f64) -> Option<f64> {
    let (_, bytes) = trace.wans.iter().find(|(wan, _)| wan == name)?;
    let usual = bytes.iter().copied().max()? / 10;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred")]
    let from = (mended * 10.0) as usize;
    let at = bytes.get(from..)?.windows(5).position(|five| five.iter().all(|b| *b > usual))?;
    Some(f64::from(u32::try_from(at).ok()?) / 10.0)
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn as_mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), LabError> {
    let file = |source| LabError::File { path: path.into(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(file)?;
    }
    std::fs::write(path, bytes).map_err(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_download_is_sized_for_its_time() {
        let scenario = Scenario::named("adsl").unwrap();
        let bytes = cut_bytes(&scenario, "wan1", 20.0, 5.0);
        // (8.41 × 15 + 8.76 × 20) Mbit × 0.9 / 8
        assert_eq!(bytes, 33_901_875);
    }

    #[test]
    fn coming_back_is_lasting() {
        let mut bytes = vec![100; 20];
        bytes.extend([0; 20]);
        // A lone packet is not yet coming back.
        bytes.extend([50, 0, 0, 50, 60, 70, 80, 90]);
        let trace = Trace { wans: vec![("a".into(), bytes)] };
        assert_eq!(back_after(&trace, "a", 4.0), Some(0.3));
        assert_eq!(back_after(&trace, "a", 4.7), None);
    }
}
