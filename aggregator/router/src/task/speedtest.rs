//! How fast each WAN is, and all together, down and up, between this router and its own server.
//!
//! Several connections at once, as browsers have them. Each WAN alone is measured over plain connections
//! bound to its device; all together as the LAN's connections go, over lanes or streams. The time in
//! which they gather speed is left out, and upload counts what the server says has arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use wanbond_control::Work;
use wanbond_control::speed::{Speed, SpeedReport};
use wanbond_proto::lane::ServiceKind;
use wanbond_proto::wan::State;
use wanbond_relay::LaneFault;

use super::Progress;
use super::service::{Heard, ServiceFlow};
use crate::shared::{Shared, WanView};
use crate::wan::counters;

/// Connections at once.
const FLOWS: usize = 3;
/// In which they gather speed.
const WARM_UP: Duration = Duration::from_secs(2);
/// Between two looks while measuring.
const LOOK: Duration = Duration::from_millis(200);
/// Sent at once; small enough for slow lines.
const CHUNK: usize = 16 * 1024;

/// A WAN that is to be measured.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) device: String,
    /// Why it is not measured.
    pub(crate) left_out: Option<String>,
}

/// What a test stands on.
pub(crate) struct SpeedTest {
    pub(crate) shared: Arc<Shared>,
    pub(crate) subjects: Vec<Subject>,
    /// All together as well.
    pub(crate) together: bool,
    pub(crate) seconds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Down,
    Up,
}

impl SpeedTest {
    /// Measures one after the other.
    pub(crate) async fn run(self, progress: Progress) -> Result<Work, String> {
        let measured = self.subjects.iter().filter(|subject| subject.left_out.is_none()).count();
        let runs = 2 * (measured + usize::from(self.together));
        let mut meter = Meter { progress, done: 0, runs: runs.max(1), step: String::new() };
        let mut report = SpeedReport {
            server: self.shared.servers.name(),
            seconds: self.seconds,
            ..SpeedReport::default()
        };
        let before = self.carried(None);
        for subject in &self.subjects {
            report.wans.push(match &subject.left_out {
                Some(why) => {
                    Speed { name: subject.name.clone(), why: why.clone(), ..Speed::default() }
                }
                None => self.measure(Some(subject), &mut meter).await,
            });
        }
        if self.together {
            report.together = Some(self.measure(None, &mut meter).await);
        }
        report.used_bytes = self.carried(None).saturating_sub(before);
        let all = report.wans.iter().chain(&report.together);
        let failed = |speed: &Speed| speed.down_bps.is_none() && speed.up_bps.is_none();
        if all.clone().all(failed) {
            let whys: Vec<_> = all.map(|speed| speed.why.as_str()).collect();
            return Err(whys.first().map_or("there is no WAN", |why| *why).to_owned());
        }
        Ok(Work::Speedtest(Some(Box::new(report))))
    }

    /// One WAN, or all, in both directions.
    async fn measure(&self, subject: Option<&Subject>, meter: &mut Meter) -> Speed {
        let mut speed = Speed {
            name: subject.map(|subject| subject.name.clone()).unwrap_or_default(),
            rtt_ms: self.rtt_ms(subject),
            ..Speed::default()
        };
        let before = self.carried(subject);
        for direction in [Direction::Down, Direction::Up] {
            let what = if direction == Direction::Down { "download" } else { "upload" };
            let name = subject.map_or("all together", |subject| subject.name.as_str());
            meter.step = format!("{name}, {what}");
            let outcome = self.direction(subject, direction, meter, &mut speed.rtt_loaded_ms).await;
            meter.done += 1;
            match (outcome, direction) {
                (Ok(bps), Direction::Down) => speed.down_bps = Some(bps),
                (Ok(bps), Direction::Up) => speed.up_bps = Some(bps),
                (Err(why), _) => speed.why = why,
            }
        }
        speed.used_bytes = self.carried(subject).saturating_sub(before);
        speed
    }

    async fn direction(
        &self,
        subject: Option<&Subject>,
        direction: Direction,
        meter: &Meter,
        loaded: &mut Option<f64>,
    ) -> Result<u64, String> {
        let length = Duration::from_secs(self.seconds.into());
        let kind = match direction {
            Direction::Down => ServiceKind::Send,
            Direction::Up => ServiceKind::Take,
        };
        let time = WARM_UP + 2 * length + Duration::from_secs(10);
        let bytes = Arc::new(AtomicUsize::new(0));
        let (stop, stopped) = watch::channel(false);
        let mut flows = JoinSet::new();
        for _ in 0..FLOWS {
            let flow = match subject {
                Some(subject) => {
                    let wan = self.view(subject).ok_or("it has gone")?;
                    ServiceFlow::over_wan(&self.shared, &wan, &subject.device, kind, time).await
                }
                None => ServiceFlow::over_lanes(&self.shared, kind, time).await,
            };
            match flow {
                Ok(flow) => {
                    flows.spawn(carry(flow, direction, Arc::clone(&bytes), stopped.clone()));
                }
                Err(why) if flows.is_empty() => return Err(why),
                Err(_) => break,
            }
        }
        let start = Instant::now();
        let mut from = None;
        loop {
            sleep(LOOK).await;
            let gone = start.elapsed();
            let now = bytes.load(Ordering::Relaxed);
            let rtt = self.rtt_ms(subject);
            *loaded = loaded.max_of(rtt);
            meter.tell(gone.as_secs_f64() / (WARM_UP + length).as_secs_f64());
            match from {
                None if gone >= WARM_UP => from = Some((Instant::now(), now)),
                // It wraps on routers of 32 bits; less than that goes through in the time.
                Some((since, before)) if gone >= WARM_UP + length => {
                    let _ = stop.send(true);
                    let micros = Instant::now().duration_since(since).as_micros().max(1);
                    let moved = now.wrapping_sub(before) as u128;
                    let broken = drain_flows(&mut flows).await;
                    if moved == 0 {
                        return Err(broken.unwrap_or_else(|| "nothing came through".to_owned()));
                    }
                    return Ok(u64::try_from(moved * 8_000_000 / micros).unwrap_or(u64::MAX));
                }
                _ => {}
            }
        }
    }

    fn view(&self, subject: &Subject) -> Option<WanView> {
        self.shared.wans.borrow().iter().find(|wan| *wan.name == *subject.name).cloned()
    }

    /// The round trip over a WAN, or over the best one.
    fn rtt_ms(&self, subject: Option<&Subject>) -> Option<f64> {
        let wans = self.shared.wans.borrow();
        let wanted = |wan: &&WanView| match subject {
            Some(subject) => *wan.name == *subject.name,
            None => wan.state == State::Up,
        };
        let rtt = wans.iter().filter(wanted).filter_map(|wan| wan.srtt).min()?;
        Some((rtt.as_secs_f64() * 1e4).round() / 10.0)
    }

    /// Bytes through the device of a WAN, or those of all.
    fn carried(&self, subject: Option<&Subject>) -> u64 {
        let all = counters::read_all();
        let wanted = |s: &&Subject| subject.is_none_or(|subject| subject.name == s.name);
        let devices = self.subjects.iter().filter(wanted).map(|subject| &subject.device);
        devices.filter_map(|device| all.get(device)).map(|bytes| bytes.rx + bytes.tx).sum()
    }
}

/// Tells how far the whole test is.
struct Meter {
    progress: Progress,
    done: usize,
    runs: usize,
    step: String,
}

impl Meter {
    fn tell(&self, share: f64) {
        let done = (self.done as f64 + share.min(1.0)) / self.runs as f64;
        self.progress.tell(done, self.step.clone());
    }
}

trait MaxOf {
    /// The larger one of those that are there.
    fn max_of(self, other: Self) -> Self;
}

impl MaxOf for Option<f64> {
    fn max_of(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }
}

/// Carries one connection's share until it is told to stop.
async fn carry(
    mut flow: ServiceFlow,
    direction: Direction,
    bytes: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), LaneFault> {
    let moved = tokio::select! {
        moved = pump(&mut flow, direction, &bytes) => moved,
        _ = stopped.wait_for(|stop| *stop) => Ok(()),
    };
    if moved.is_ok() {
        flow.finish().await;
    }
    moved
}

async fn pump(
    flow: &mut ServiceFlow,
    direction: Direction,
    bytes: &AtomicUsize,
) -> Result<(), LaneFault> {
    let chunk = vec![0; CHUNK];
    let mut arrived = 0u64;
    loop {
        if direction == Direction::Up && flow.is_flushed() {
            flow.send(&chunk);
        }
        match (flow.next().await?, direction) {
            (Heard::Data(length, _), Direction::Down) => {
                bytes.fetch_add(length, Ordering::Relaxed);
            }
            (Heard::Data(_, Some(total)), Direction::Up) => {
                let more = usize::try_from(total.saturating_sub(arrived)).unwrap_or(usize::MAX);
                bytes.fetch_add(more, Ordering::Relaxed);
                arrived = total;
            }
            (Heard::Data(_, None) | Heard::Flushed, _) => {}
            (Heard::End, _) => return Ok(()),
        }
    }
}

/// Waits for their end; what broke one of them, if something did.
async fn drain_flows(flows: &mut JoinSet<Result<(), LaneFault>>) -> Option<String> {
    let mut broken = None;
    while let Some(ended) = flows.join_next().await {
        if let Ok(Err(fault)) = ended {
            broken = Some(fault.to_string());
        }
    }
    broken
}
