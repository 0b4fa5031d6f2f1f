//! A lab with both daemons up, and what is to be said of it while all is well.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use wanbond_control::{MptcpState, Status, TcpMode, WanState};
use wanbond_lab::scenario::Scenario;
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, download, origin, upload};
use wanbond_lab::{KernelState, Lab};

use crate::probe::{Kind, probe};
use crate::report::{Report, by_half_seconds, float};

/// For what is not a promise, seconds of the virtual clock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A device's state is told once a second.
const CABLES: Duration = Duration::from_secs(2);
/// From the daemon's start to the last WAN being up.
const READY_MS: f64 = 5_000.0;
/// Of the sum of the links' rates, which count Ethernet's headers: payload that arrives.
const LEAST_SHARE: f64 = 0.80;
/// What the bond may add to the round trip of the best link, with nothing else going on.
const ADDED_MS: f64 = 5.0;
/// Of a link's rate: what the bond must use of it to be said to use it.
const USED: f64 = 0.5;

/// A lab with both daemons up.
#[derive(Debug)]
pub(crate) struct Bond {
    pub(crate) lab: Lab,
    vps_before: KernelState,
}

impl Bond {
    /// Builds it and pairs router and server, and times that.
    pub(crate) fn start(report: &mut Report, scenario: &Scenario, way: TcpMode) -> Result<Self> {
        let (bond, took) = Self::start_slowly(report, scenario, way)?;
        report.at_most("paired, every WAN up", took.as_secs_f64() * 1e3, READY_MS, "ms");
        Ok(bond)
    }

    /// Builds it and pairs router and server; how long the router took.
    pub(crate) fn start_slowly(
        report: &mut Report,
        scenario: &Scenario,
        way: TcpMode,
    ) -> Result<(Self, Duration)> {
        let lab = Lab::build(scenario).context("no lab")?;
        // For what pings without being allowed raw packets.
        lab.lan(0).sysctl(&[("net.ipv4.ping_group_range", "0 2147483647")])?;
        // Until the kernel has noticed all the cables.
        std::thread::sleep(CABLES);
        let vps_before = KernelState::capture(lab.vps())?;
        lab.server().start()?;
        let router = lab.router(0);
        let mut config = router.pair()?;
        config.tcp = way.to_string();
        router.configure(&config)?;
        let start = Instant::now();
        router.start()?;
        let ready = router.wait_ready(PATIENCE);
        let status = ready.with_context(|| format!("the server says:\n{}", lab.server().log()))?;
        let took = start.elapsed();
        report.note("kernel", &status.kernel);
        report.note("lanes' congestion control", &status.mptcp.congestion);
        report.must("MPTCP is supported", status.mptcp.supported, status.mptcp.supported);
        Ok((Self { lab, vps_before }, took))
    }

    pub(crate) fn status(&self) -> Result<Status> {
        Ok(self.lab.router(0).status()?)
    }

    /// UDP and ping with nothing else going on.
    pub(crate) async fn idle_round_trips(&self, report: &mut Report) -> Result<()> {
        let best = self.lab.wans().map(|wan| wan.spec().down.delay + wan.spec().up.delay).min();
        let best = best.unwrap_or_default().as_secs_f64() * 1e3;
        for (kind, name) in [(Kind::Udp, "UDP"), (Kind::Ping, "ping")] {
            let time = Duration::from_secs(3);
            let got = probe(self.lab.lan(0), kind, Duration::from_millis(50), time).await?;
            let median = got.round_trips.p50;
            report.must(
                &format!("{name}, all answered"),
                got.received == got.sent,
                format!("{} of {}", got.received, got.sent),
            );
            report.at_most(&format!("{name}, round trip"), median, best + ADDED_MS, "ms");
        }
        Ok(())
    }

    /// A download of so many seconds: its share of the sum, and both WANs in use.
    pub(crate) async fn download(
        &self,
        report: &mut Report,
        way: TcpMode,
        seconds: u64,
    ) -> Result<()> {
        let (down, _) = self.lab.scenario().total_rates().context("links without rates")?;
        let before = self.carried()?;
        let flows = self.status()?.flows.by_way;
        let time = Duration::from_secs(seconds);
        let job = Download::timed((ORIGIN_V4, origin::HTTP).into(), time);
        let got = download(self.lab.lan(0), &job).await;
        // While the flow is there, or has just ended.
        let status = self.status()?;
        report.must("download, every byte right", got.is_sound(), format!("{} bytes", got.bytes));
        let rate = got.series.mbit_after(Duration::from_secs(2)) * 1e6;
        report.at_least("download, share of the sum", rate / float(down), LEAST_SHARE);
        for ((wan, before), after) in self.lab.wans().zip(&before).zip(self.carried()?) {
            let rate = wan.spec().down.rate.map_or(1, |rate| rate.bits_per_second());
            let share = float((after - before) * 8) / time.as_secs_f64() / float(rate);
            report.at_least(&format!("download, use of {}", wan.name()), share, USED);
        }
        let by_way = status.flows.by_way;
        if way != TcpMode::Stream {
            report.must(
                "went over an MPTCP lane",
                by_way.mptcp > flows.mptcp,
                format!("{by_way:?}"),
            );
            for wan in &status.wans {
                let so = wan.mptcp == MptcpState::Working && wan.lanes > 0;
                let seen = format!("{}, {} lanes", wan.mptcp, wan.lanes);
                report.must(&format!("{} has subflows", wan.name), so, seen);
            }
        } else {
            report.must("went over a stream", by_way.stream > flows.stream, format!("{by_way:?}"));
        }
        Ok(())
    }

    /// An upload, likewise.
    pub(crate) async fn upload(&self, report: &mut Report) -> Result<()> {
        let (_, up) = self.lab.scenario().total_rates().context("links without rates")?;
        let bytes = up / 8 * 10;
        let http = (ORIGIN_V4, origin::HTTP).into();
        let got = upload(self.lab.lan(0), http, bytes, PATIENCE).await;
        report.note("Mbit/s by half a second", by_half_seconds(&got.series));
        report.must("upload, every byte right", got.complete, format!("{:?}", got.error));
        let rate = got.series.mbit_after(Duration::from_secs(2)) * 1e6;
        report.at_least("upload, share of the sum", rate / float(up), LEAST_SHARE);
        Ok(())
    }

    /// Ends both daemons; the kernels must be as they were.
    pub(crate) fn stop(self, report: &mut Report) -> Result<()> {
        let (ended, left) = self.lab.router(0).stop()?;
        let clean = ended.success() && left.is_empty();
        report.must("router's end leaves its kernel as it was", clean, show(&left));
        let ended = self.lab.server().stop()?;
        let left = KernelState::capture(self.lab.vps())?.changes_since(&self.vps_before);
        let clean = ended.success() && left.is_empty();
        report.must("server's end leaves its kernel as it was", clean, show(&left));
        Ok(())
    }

    /// Bytes that came in over each WAN.
    pub(crate) fn carried(&self) -> Result<Vec<u64>> {
        self.lab.wans().map(|wan| Ok(wan.counters()?.down.bytes_out)).collect()
    }

    /// When the server's kernel was told, by MPTCP, that an address is gone: how often in which ms.
    pub(crate) async fn server_heard(&self, time: Duration) -> String {
        let count = || {
            let table =
                self.lab.vps().run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"));
            mptcp_counter(&table.unwrap_or_default(), "RmAddr").unwrap_or_default()
        };
        let start = Instant::now();
        let mut last = count();
        let mut heard = Vec::new();
        while start.elapsed() < time {
            let now = count();
            if now > last {
                heard.push(format!("{} at {} ms", now - last, start.elapsed().as_millis()));
            }
            last = now;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        heard.join(", ")
    }

    /// Waits for every WAN to be up again.
    pub(crate) fn settle(&self) -> Result<()> {
        let up = |status: &Status| status.wans.iter().all(|wan| wan.state == WanState::Up);
        self.lab.router(0).wait_status(PATIENCE, "every WAN up", up)?;
        Ok(())
    }
}

/// A counter of the kernel's MPTCP, from `/proc/net/netstat`.
fn mptcp_counter(table: &str, name: &str) -> Option<u64> {
    let mut lines = table.lines().filter_map(|line| line.strip_prefix("MPTcpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|one| one == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

fn show(left: &[String]) -> String {
    if left.is_empty() { "nothing is left".into() } else { format!("\n{}", left.join("\n")) }
}
