//! A drill: one WAN is cut for some seconds, as a line that dies without a word, and what connections
//! feel is measured.
//!
//! Three measuring connections to the server go on meanwhile: one asks something every 10 ms over a lane,
//! one does so through the tunnel, one downloads as fast as it can. The cut is a firewall table that the
//! kernel itself takes back when its time is over; nothing of wanbond is told of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};
use wanbond_control::drill::{DrillProbe, DrillReport};
use wanbond_control::units::{duration, milliseconds};
use wanbond_control::{Event, EventKind, Work};
use wanbond_linux::firewall::{self, Cut};
use wanbond_linux::owned::Owner;
use wanbond_proto::lane::ServiceKind;
use wanbond_proto::wan::State;
use wanbond_relay::LaneFault;

use super::Progress;
use super::service::{Heard, ServiceFlow};
use crate::shared::Shared;
use crate::wan::counters;

/// Before the cut: what is usual, and speed is gathered.
const BEFORE: Duration = Duration::from_secs(3);
/// After it, at most, until the WAN is up again, and then until it carries.
const UNTIL_UP: Duration = Duration::from_secs(20);
const UNTIL_USED: Duration = Duration::from_secs(10);
/// How often a question is asked.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// How often the WAN's device is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The kernel ends the cut this long after we should have done so.
const MARGIN: Duration = Duration::from_secs(5);
/// What is less was next to nothing, bytes per second.
const SOME_USE: f64 = 20_000.0;
/// A good part of what a WAN carried before.
const GOOD_PART: f64 = 0.3;

/// What a drill stands on.
pub(crate) struct Drill {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: String,
    pub(crate) device: String,
    /// The devices of all WANs.
    pub(crate) devices: Vec<String>,
    pub(crate) time: Duration,
}

/// Undoes the cut, whatever ends the drill.
struct Undo(bool);

impl Drop for Undo {
    fn drop(&mut self) {
        if self.0
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async {
                if let Err(error) = firewall::remove(Owner::DRILL_TABLE).await {
                    // Its own time-out does.
                    warn!(%error, "a drill's cut could not be taken back at once");
                }
            });
        }
    }
}

impl Drill {
    /// Cuts the WAN, and brings it back.
    pub(crate) async fn run(self, progress: Progress) -> Result<Work, String> {
        let total = (BEFORE + self.time + Duration::from_secs(4)).as_secs_f64();
        let begun = Instant::now();
        let tell = |step: &str| {
            progress.tell((begun.elapsed().as_secs_f64() / total).min(0.95), step);
        };
        progress.tell(0.0, "opening connections to measure by");
        let used = self.carried();
        let mut probes = Probes::open(&self.shared).await?;
        tell("measuring what is usual");
        let carried = self.received();
        sleep(BEFORE).await;
        let usual_rate = (self.received() - carried) as f64 / BEFORE.as_secs_f64();
        let figures = self.shared.tunnel().map(|tunnel| tunnel.figures());

        self.event(format!("WAN {} is cut for a drill of {} s", self.name, self.time.as_secs()));
        let cut = Cut { device: self.device.clone(), time: self.time + MARGIN };
        let mut undo = Undo(true);
        probes.phase(Phase::After);
        let cut_at = Instant::now();
        cut.apply().await.map_err(|error| format!("it can't be cut: {error}"))?;
        let mut detected = None;
        let mut views = self.shared.wans.subscribe();
        while cut_at.elapsed() < self.time {
            tell(if detected.is_some() { "cut, and noticed" } else { "cut, not noticed yet" });
            if detected.is_none() && !self.is_up() {
                detected = Some(cut_at.elapsed());
            }
            tokio::select! {
                _ = views.changed() => {}
                () = sleep_until((cut_at + self.time).min(Instant::now() + LOOK)) => {}
            }
        }
        let removed = firewall::remove(Owner::DRILL_TABLE).await;
        removed.map_err(|error| format!("the cut can't be taken back now: {error}"))?;
        undo.0 = false;
        let back_at = Instant::now();
        self.event(format!("WAN {} is back from its drill", self.name));

        // It was not noticed, or is to come up again.
        let mut up = None;
        while back_at.elapsed() < UNTIL_UP {
            tell("back, waiting until it is used again");
            if self.is_up() {
                up = Some(back_at.elapsed());
                break;
            }
            tokio::select! {
                _ = views.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
        let used_again = match up {
            Some(_) if usual_rate >= SOME_USE => self.used_again(usual_rate, back_at).await,
            _ => None,
        };
        tell("ending");
        let found = probes.end();
        let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
        let mut report = DrillReport {
            wan: self.name.clone(),
            seconds: self.time.as_secs_f64(),
            detected_after_ms: detected.map(ms),
            longest_silence_ms: found.iter().map(|p| p.longest_silence_ms).fold(0.0, f64::max),
            flows: found.iter().filter(|probe| !probe.broken).count() as u32,
            flows_lost: found.iter().filter(|probe| probe.broken).count() as u32,
            back_after_ms: up.filter(|_| detected.is_some()).map(ms),
            used_after_ms: used_again.map(ms),
            used_bytes: self.carried().saturating_sub(used),
            probes: found,
            ..DrillReport::default()
        };
        if let (Some(before), Some(tunnel)) = (figures, self.shared.tunnel()) {
            let now = tunnel.figures();
            report.repaired = now.repaired.saturating_sub(before.repaired);
            report.lost = now.given_up.saturating_sub(before.given_up);
        }
        report.message = in_words(&report);
        info!(wan = self.name, message = report.message, "drill");
        Ok(Work::Drill(Some(Box::new(report))))
    }

    fn event(&self, message: String) {
        let event = Event::new(self.shared.uptime_s(), EventKind::WanState, message);
        self.shared.log(event.of_wan(self.name.clone()));
    }

    fn is_up(&self) -> bool {
        let wans = self.shared.wans.borrow();
        wans.iter().any(|wan| *wan.name == *self.name && wan.state == State::Up)
    }

    /// Bytes received over the WAN.
    fn received(&self) -> u64 {
        counters::read_all().get(&self.device).map_or(0, |bytes| bytes.rx)
    }

    /// Bytes over all WANs.
    fn carried(&self) -> u64 {
        let all = counters::read_all();
        let of = |device: &String| all.get(device).map_or(0, |bytes| bytes.rx + bytes.tx);
        self.devices.iter().map(of).sum()
    }

    /// When the WAN carried a good part of its usual rate again.
    async fn used_again(&self, usual_rate: f64, back_at: Instant) -> Option<Duration> {
        let end = Instant::now() + UNTIL_USED;
        let mut before = (Instant::now(), self.received());
        while Instant::now() < end {
            sleep(LOOK).await;
            let now = (Instant::now(), self.received());
            let rate = now.1.saturating_sub(before.1) as f64
                / now.0.duration_since(before.0).as_secs_f64().max(1e-3);
            if rate >= GOOD_PART * usual_rate {
                return Some(back_at.elapsed());
            }
            before = now;
        }
        None
    }
}

/// The report in sentences.
fn in_words(report: &DrillReport) -> String {
    let name = &report.wan;
    let mut text = format!("{name} was cut for {}", duration(report.seconds));
    match report.detected_after_ms {
        Some(after) => text += &format!(", which was noticed after {}. ", milliseconds(after)),
        None => text += ", which was not noticed in that time. ",
    }
    let worst =
        report.probes.iter().max_by(|a, b| a.longest_silence_ms.total_cmp(&b.longest_silence_ms));
    if let Some(worst) = worst {
        let what = match worst.kind.as_str() {
            "download" => "a download",
            "stream" => "questions through the tunnel",
            _ => "questions over a lane",
        };
        text += &format!(
            "No connection was without data for longer than {} ({what}); ",
            milliseconds(worst.longest_silence_ms)
        );
    }
    text += &match report.flows_lost {
        0 => "none was lost. ".to_owned(),
        lost => format!("{lost} of {} broke. ", lost + report.flows),
    };
    match (report.back_after_ms, report.used_after_ms) {
        (Some(up), Some(used)) => {
            text += &format!(
                "It was up {} after its return, and carried its share after {}.",
                milliseconds(up),
                milliseconds(used)
            );
        }
        (Some(up), None) => text += &format!("It was up {} after its return.", milliseconds(up)),
        (None, _) if report.detected_after_ms.is_some() => {
            text += "It has not come back up since; see its state.";
        }
        (None, _) => text += "Nothing had to be done at its return.",
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    After,
}

/// What one measuring connection has felt.
#[derive(Debug)]
struct Felt {
    phase: Phase,
    last: Instant,
    usual: Duration,
    longest: Duration,
    broken: bool,
}

impl Felt {
    fn heard(&mut self, now: Instant) {
        let silence = now.duration_since(self.last);
        let longest = match self.phase {
            Phase::Before => &mut self.usual,
            Phase::After => &mut self.longest,
        };
        *longest = silence.max(*longest);
        self.last = now;
    }
}

/// A measuring connection.
struct Probe {
    kind: &'static str,
    felt: Arc<Mutex<Felt>>,
    task: AbortHandle,
}

/// All of them; they end with this.
struct Probes {
    all: Vec<Probe>,
    tasks: JoinSet<()>,
}

impl Probes {
    async fn open(shared: &Arc<Shared>) -> Result<Self, String> {
        let time = Duration::from_secs(120);
        let mut probes = Self { all: Vec::new(), tasks: JoinSet::new() };
        let asking = ServiceFlow::over_lanes(shared, ServiceKind::Echo, time).await?;
        probes.add("lane", asking);
        if shared.tunnel().is_some_and(|tunnel| tunnel.is_live()) {
            let asking = ServiceFlow::over_stream(shared, ServiceKind::Echo, time).await?;
            probes.add("stream", asking);
        }
        let loading = ServiceFlow::over_lanes(shared, ServiceKind::Send, time).await?;
        probes.add("download", loading);
        Ok(probes)
    }

    fn add(&mut self, kind: &'static str, flow: ServiceFlow) {
        let felt = Arc::new(Mutex::new(Felt {
            phase: Phase::Before,
            last: Instant::now(),
            usual: Duration::ZERO,
            longest: Duration::ZERO,
            broken: false,
        }));
        let own = Arc::clone(&felt);
        let asks = kind != "download";
        let task = self.tasks.spawn(boxed(async move {
            let ended = follow(flow, &own, asks).await;
            if let Err(fault) = ended {
                info!(kind, %fault, "a drill's measuring connection broke");
            }
            lock(&own).broken = true;
        }));
        self.all.push(Probe { kind, felt, task });
    }

    fn phase(&self, phase: Phase) {
        for probe in &self.all {
            lock(&probe.felt).phase = phase;
        }
    }

    /// Ends them, and says what they felt.
    fn end(&mut self) -> Vec<DrillProbe> {
        let ms = |time: Duration| (time.as_secs_f64() * 1e4).round() / 10.0;
        let now = Instant::now();
        self.all
            .iter()
            .map(|probe| {
                probe.task.abort();
                let mut felt = lock(&probe.felt);
                if !felt.broken {
                    // The silence that lasts.
                    felt.heard(now);
                }
                DrillProbe {
                    kind: probe.kind.to_owned(),
                    usual_silence_ms: ms(felt.usual),
                    longest_silence_ms: ms(felt.longest),
                    broken: felt.broken,
                }
            })
            .collect()
    }
}

fn lock(felt: &Mutex<Felt>) -> MutexGuard<'_, Felt> {
    // What it guards stays valid after any panic.
    felt.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks, or loads, for as long as it is polled; ends with what breaks it.
async fn follow(mut flow: ServiceFlow, felt: &Mutex<Felt>, asks: bool) -> Result<(), LaneFault> {
    let mut ask_at = Instant::now();
    let mut number = 0u64;
    loop {
        if asks && flow.is_flushed() && Instant::now() >= ask_at {
            number += 1;
            flow.send(&number.to_be_bytes());
            ask_at = Instant::now() + ASK_EVERY;
        }
        let wait = asks && flow.is_flushed();
        tokio::select! {
            heard = flow.next() => match heard? {
                Heard::Data(..) => lock(felt).heard(Instant::now()),
                Heard::Flushed => {}
                Heard::End => return Ok(()),
            },
            () = sleep_until(ask_at), if wait => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_before_and_after_apart() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut felt = Felt {
            phase: Phase::Before,
            last: start,
            usual: Duration::ZERO,
            longest: Duration::ZERO,
            broken: false,
        };
        for ms in [10, 22, 30] {
            felt.heard(at(ms));
        }
        felt.phase = Phase::After;
        for ms in [330, 340] {
            felt.heard(at(ms));
        }
        assert_eq!((felt.usual.as_millis(), felt.longest.as_millis()), (12, 300));
    }

    #[test]
    fn a_report_is_told_in_words() {
        let probe = |kind: &str, ms| DrillProbe {
            kind: kind.into(),
            longest_silence_ms: ms,
            ..DrillProbe::default()
        };
        let report = DrillReport {
            wan: "fibre".into(),
            seconds: 5.0,
            detected_after_ms: Some(212.0),
            flows: 3,
            back_after_ms: Some(1300.0),
            used_after_ms: Some(1900.0),
            probes: vec![probe("lane", 20.0), probe("download", 240.0)],
            ..DrillReport::default()
        };
        assert_eq!(
            in_words(&report),
            "fibre was cut for 5 s, which was noticed after 212 ms. No connection was without data \
             for longer than 240 ms (a download); none was lost. It was up 1300 ms after its return, \
             and carried its share after 1900 ms."
        );
        let report = DrillReport {
            detected_after_ms: None,
            back_after_ms: None,
            flows: 2,
            flows_lost: 1,
            ..report
        };
        let text = in_words(&report);
        assert!(text.contains("not noticed") && text.contains("1 of 3 broke"), "{text}");
    }
}
