//! A WAN that dies without a sign under a bulk download and a call, and comes back.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::time::sleep;
use wanbond_control::{EventKind, TcpMode};
use wanbond_lab::topology::ORIGIN_V4;
use wanbond_lab::traffic::{Download, STEP, Series, download, fetch, origin};

use crate::bond::{Bond, PATIENCE};
use crate::probe::{Kind, probe};
use crate::report::{Report, by_half_seconds, float};

const CUT_AT: Duration = Duration::from_secs(4);
const CUT_FOR: Duration = Duration::from_secs(3);
/// After its return.
const AFTER: Duration = Duration::from_secs(6);
const AFTER_SHORT: Duration = Duration::from_secs(5);
/// 50 packets a second, as a call has.
const CALL: Duration = Duration::from_millis(20);

/// The longest silences that an application may feel, in ms.
const TCP_SILENT: f64 = 400.0;
const UDP_SILENT: f64 = 150.0;
/// The end of the download, which is to be as fast as its beginning.
const LAST: Duration = Duration::from_secs(2);
/// Until the rest has its full rate, in ms.
const REST_FULL: f64 = 1_000.0;
/// Until a WAN that is back is fully used, in ms.
const BACK: f64 = 3_000.0;
/// What a new connection may take more than before, in ms, besides a round trip.
const NEW_MORE: f64 = 50.0;
/// Between two new connections.
const BETWEEN: Duration = Duration::from_millis(50);
/// Of a rate: this much counts as all of it, over half a second.
const FULL: f64 = 0.8;

/// Cuts `wan` in the middle of a download and mends it.
pub(crate) async fn cut(
    bond: &Bond,
    report: &mut Report,
    wan: &str,
    way: TcpMode,
    short: bool,
) -> Result<()> {
    let length = CUT_AT + CUT_FOR + if short { AFTER_SHORT } else { AFTER };
    let lab = &bond.lab;
    let http = (ORIGIN_V4, origin::HTTP).into();
    let job = Download::timed(http, length);
    let index = lab.wans().position(|one| one.name() == wan).unwrap_or_default();
    let act = async {
        sleep(CUT_AT).await;
        let at = bond.status()?.uptime_s;
        let carried = bond.carried()?[index];
        let cut = Instant::now();
        lab.wan(wan).cut()?;
        let pool = bond.status()?.lanes;
        let heard = bond.server_heard(CUT_FOR).await;
        sleep(CUT_FOR.saturating_sub(cut.elapsed())).await;
        let mended = Instant::now();
        lab.wan(wan).restore()?;
        anyhow::Ok((at, cut, mended, carried, format!("{heard}; {} lanes", pool.busy + pool.idle)))
    };
    let start = Instant::now();
    let (got, call, acted) =
        tokio::join!(download(lab.lan(0), &job), probe(lab.lan(0), Kind::Udp, CALL, length), act);
    let (at, cut, mended, carried, heard) = acted?;
    let call = call?;
    let (cut, mended) = (cut - start, mended - start);

    let noticed = noticed(bond, wan, at)?.map_or("never".into(), |ms| format!("{ms:.0} ms"));
    report.note(&format!("{wan} cut, noticed after"), noticed);
    if way != TcpMode::Stream {
        report.note("the server's kernel heard of it", heard);
    }
    report.note("Mbit/s by half a second", by_half_seconds(&got.series));
    report.must(
        &format!("{wan} cut, every byte right"),
        got.is_sound(),
        format!("{:?}", got.error),
    );
    let what = format!("{wan} cut, TCP silent");
    report.at_most(&what, got.longest_gap_ms, TCP_SILENT, &format!("ms at {:.2} s", got.gap_at_s));
    let what = format!("{wan} cut, UDP silent");
    let unit = format!(
        "ms at {:.2} s, {} of {} lost",
        call.gap_at_s,
        call.sent - call.received,
        call.sent
    );
    report.at_most(&what, call.longest_gap_ms, UDP_SILENT, &unit);

    let rates = lab.wans().map(|wan| wan.spec().down.rate.map_or(0, |rate| rate.bits_per_second()));
    let rates: Vec<_> = rates.collect();
    let (all, gone) = (rates.iter().sum::<u64>(), rates[index]);
    let full = |rate: u64, from| reached(&got.series, from, float(rate) * FULL);
    let what = format!("{wan} cut, full rate of the rest after");
    report.at_most(&what, full(all - gone, cut), REST_FULL, "ms");
    let what = format!("{wan} back, full rate after");
    report.at_most(&what, full(all, mended), BACK, "ms");
    let what = format!("{wan} back, share of the sum in the end");
    let share = got.series.mbit_after(length - LAST) * 1e6 / float(all);
    report.at_least(&what, share, FULL);
    let since = bond.carried()?[index] - carried;
    report.must(&format!("{wan} back, carries"), since > gone / 8, format!("{since} bytes since"));
    bond.settle()
}

/// Cuts `wan` while new connections come and go, with nothing else going on.
pub(crate) async fn quiet(bond: &Bond, report: &mut Report, wan: &str) -> Result<()> {
    let lab = &bond.lab;
    let mut before = 0.0_f64;
    for seed in 0..10 {
        before = before.max(new_connection(bond, seed).await?);
        sleep(BETWEEN).await;
    }
    let at = bond.status()?.uptime_s;
    let cut = Instant::now();
    lab.wan(wan).cut()?;
    let mut during = Vec::new();
    while cut.elapsed() < CUT_FOR {
        let begun = cut.elapsed().as_secs_f64() * 1e3;
        during.push((begun, new_connection(bond, during.len() as u64).await?));
        sleep(BETWEEN).await;
    }
    let noticed = noticed(bond, wan, at)?.unwrap_or(f64::INFINITY);
    lab.wan(wan).restore()?;
    let longest = |late: bool| {
        let some = during.iter().filter(|(begun, _)| (*begun >= noticed) == late);
        some.map(|(_, took)| *took).fold(0.0, f64::max)
    };
    let trip = lab.wans().map(|wan| wan.spec().down.delay + wan.spec().up.delay).max();
    let most = before + trip.unwrap_or_default().as_secs_f64() * 1e3 + NEW_MORE;
    report.note(&format!("{wan} cut, quiet: noticed after"), format!("{noticed:.0} ms"));
    report.note("new connections before, to the last byte", format!("{before:.0} ms"));
    report.note("begun before it was noticed", format!("{:.0} ms", longest(false)));
    report.at_most(&format!("{wan} cut, new connections"), longest(true), most, "ms");
    bond.settle()
}

/// How long a new connection takes to bring a short answer, in ms.
async fn new_connection(bond: &Bond, seed: u64) -> Result<f64> {
    let timing =
        fetch(bond.lab.lan(0), (ORIGIN_V4, origin::HTTP).into(), 500, seed, PATIENCE).await?;
    Ok(timing.total.as_secs_f64() * 1e3)
}

/// How long after `at` the router knew, in ms.
fn noticed(bond: &Bond, wan: &str, at: f64) -> Result<Option<f64>> {
    let events = bond.status()?.events;
    let down = events.iter().find(|event| {
        event.kind == EventKind::WanState && event.wan.as_deref() == Some(wan) && event.at_s >= at
    });
    Ok(down.map(|event| (event.at_s - at) * 1e3))
}

/// In ms after `from`: the start of the first half second that brought so many bit/s; a minute if
/// none did.
fn reached(series: &Series, from: Duration, rate: f64) -> f64 {
    let step = STEP.as_secs_f64();
    let first = (from.as_secs_f64() / step).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let steps = series.0.get(first as usize..).unwrap_or_default();
    let at = steps
        .windows(5)
        .position(|five| float(five.iter().sum::<u64>()) * 8.0 / (5.0 * step) >= rate);
    at.map_or(60_000.0, |at| float(at as u64) * step * 1e3)
}
