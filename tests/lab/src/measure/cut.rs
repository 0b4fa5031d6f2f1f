//! What applications feel when a line is cut without a sign, and mended.

use std::time::{Duration, Instant};

use super::{Aim, Bench, origin_of};
use crate::error::LabError;
use crate::traffic::{Datagrams, Download, Flow, Series, Transfer, download, fetch, origin};
use crate::wan::Wan;

const CUT_AT: Duration = Duration::from_secs(6);
const MEND_AT: Duration = Duration::from_secs(11);
const END: Duration = Duration::from_secs(18);
/// New connections that are opened right after the cut, so far apart.
const CONNECTIONS: u32 = 8;
const APART: Duration = Duration::from_millis(60);

impl Bench<'_> {
    pub(super) fn cuts(&mut self) -> Result<(), LabError> {
        for wan in self.lab.wans().filter(|wan| !wan.spec().veth) {
            let usual = self.first_byte_ms(4, Duration::ZERO);
            let felt = self.cut(&wan)?;
            self.note_cut(&wan, &felt, usual);
            // The next one finds everything as it was.
            std::thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    }

    fn cut(&self, wan: &Wan<'_>) -> Result<Felt, LabError> {
        let call = Datagrams::call(END);
        std::thread::scope(|scope| {
            let start = Instant::now();
            let down = scope.spawn(|| self.stream(true, &call));
            let up = scope.spawn(|| self.stream(false, &call));
            let schedule = scope.spawn(move || {
                std::thread::sleep(CUT_AT.saturating_sub(start.elapsed()));
                wan.cut()?;
                let new_ms = self.first_byte_ms(CONNECTIONS, APART);
                std::thread::sleep(MEND_AT.saturating_sub(start.elapsed()));
                wan.restore()?;
                Ok::<_, LabError>(new_ms)
            });
            let job = Download::timed(origin_of(origin::HTTP), END);
            let tcp = self.runtime.block_on(download(self.lab.lan(0), &job));
            Ok(Felt { tcp, udp_down: ended(down)?, udp_up: ended(up)?, new_ms: ended(schedule)? })
        })
    }

    /// The slowest of so many requests, from connecting to the answer's first byte, in ms; each
    /// starts so long after the other.
    fn first_byte_ms(&self, count: u32, apart: Duration) -> f64 {
        let lan = self.lab.lan(0);
        let requests = (0..count).map(async |number| {
            tokio::time::sleep(apart * number).await;
            fetch(lan, origin_of(origin::HTTP), 1, number.into(), Duration::from_secs(5)).await
        });
        let done = self.runtime.block_on(futures_util::future::join_all(requests));
        // One that failed has taken as long as anybody waits.
        let times =
            done.into_iter().map(|timing| timing.map_or(5e3, |t| t.first_byte.as_secs_f64() * 1e3));
        times.fold(0.0, f64::max)
    }

    fn note_cut(&mut self, wan: &Wan<'_>, felt: &Felt, usual_ms: f64) {
        let name = wan.name();
        let of_rest = 1.0 - wan.spec().down.rate.map_or(0.0, |rate| rate.mbit()) / self.sum().down;
        let before = mean(&felt.tcp.series, Duration::from_secs(4), CUT_AT);
        let aim = |most: f64| Some(Aim::AtMost(most));
        self.note(format!("{name} cut: TCP silent"), "ms", aim(400.0), felt.tcp.longest_gap_ms);
        let rest = reached(&felt.tcp.series, CUT_AT, before * of_rest * 0.9);
        self.note(format!("{name} cut: full rate of the rest after"), "s", aim(1.0), rest);
        let back = reached(&felt.tcp.series, MEND_AT, before * 0.9);
        self.note(format!("{name} mended: full rate after"), "s", aim(3.0), back);
        for (way, flow) in [("down", &felt.udp_down), ("up", &felt.udp_up)] {
            let gap = flow.longest_gap_ms;
            self.note(format!("{name} cut: UDP {way} silent"), "ms", aim(150.0), gap);
            #[expect(clippy::cast_precision_loss, reason = "a few")]
            let lost = flow.lost() as f64;
            self.note(format!("{name} cut: UDP {way} lost"), "datagrams", aim(5.0), lost);
        }
        let rtt = self.slowest_delay_ms() * 2.0;
        let later = felt.new_ms - usual_ms;
        let what = format!("{name} cut: new connections later by");
        self.note(what, "ms", aim(rtt + 50.0), later);
    }
}

struct Felt {
    tcp: Transfer,
    udp_down: Flow,
    udp_up: Flow,
    new_ms: f64,
}

fn ended<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Mean bytes per step between two moments.
#[expect(clippy::cast_precision_loss, reason = "a statistic")]
fn mean(series: &Series, from: Duration, to: Duration) -> f64 {
    let part = series.0.get(step(from)..step(to)).unwrap_or_default();
    part.iter().sum::<u64>() as f64 / part.len().max(1) as f64
}

/// Seconds after `from` until half a second's mean is at least `bytes` per step; to the end if
/// that never happens.
#[expect(clippy::cast_precision_loss, reason = "a statistic")]
fn reached(series: &Series, from: Duration, bytes: f64) -> f64 {
    const WINDOW: usize = 5;
    let after = series.0.get(step(from)..).unwrap_or_default();
    let enough = |window: &[u64]| window.iter().sum::<u64>() as f64 / WINDOW as f64 >= bytes;
    let steps = after.windows(WINDOW).position(enough).unwrap_or(after.len());
    steps as f64 / 10.0
}

fn step(at: Duration) -> usize {
    usize::try_from(at.as_millis() / crate::traffic::STEP.as_millis()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_reached_when_half_a_second_has_it() {
        let mut bytes = vec![100; 60];
        bytes.extend([0; 10]);
        // One step that catches up is not the rate.
        bytes.extend([400, 0, 0, 0, 0]);
        bytes.extend([100; 20]);
        let series = Series(bytes);
        assert!((mean(&series, Duration::from_secs(4), CUT_AT) - 100.0).abs() < 1e-9);
        assert!((reached(&series, CUT_AT, 90.0) - 1.5).abs() < 1e-9);
        assert!((reached(&series, CUT_AT, 200.0) - 3.5).abs() < 1e-9, "never");
    }
}
