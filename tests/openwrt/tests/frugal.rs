//! What the router's daemon costs where nobody uses it: memory, and wake-ups of the processor.

use std::time::{Duration, Instant};

use wanbond_e2e::{QUICK, running};

/// Resident, bytes: routers with 128 MB have other things to do. The program's own pages are not counted,
/// as what runs here is four times as large as a router's; that has its budget in `cross/targets.sh`.
const MOST_MEMORY: u64 = 8_000_000 - 2_500_000;
/// A second, by all threads, without traffic from the LAN.
const MOST_WAKE_UPS: f64 = 5.0;
/// Questions to the server, five seconds apart at rest, come out even.
const WINDOW: Duration = Duration::from_secs(10);
/// It may have this many windows to come to rest after its start.
const WINDOWS: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_it_is_small_and_sleeps() {
    let Some(lab) = running(QUICK) else { return };
    let usage = || lab.router(0).usage().unwrap();
    let mut rates = Vec::new();
    for _ in 0..WINDOWS {
        let (start, before) = (Instant::now(), usage().wake_ups);
        tokio::time::sleep(WINDOW).await;
        let woken = usage().wake_ups - before;
        rates.push(woken as f64 / start.elapsed().as_secs_f64());
        if rates.last().is_some_and(|rate| *rate < MOST_WAKE_UPS) {
            break;
        }
    }
    let memory = usage().rss_anonymous;
    println!("wake-ups a second: {rates:.1?}; {:.1} MB of its own", memory as f64 / 1e6);
    assert!(memory < MOST_MEMORY, "{memory} bytes");
    assert!(rates.last().is_some_and(|rate| *rate < MOST_WAKE_UPS), "{rates:.1?}");
}
