//! What this server itself offers its routers, to measure by: data without end, a place for data, an
//! echo. Nothing leaves the server; what is carried counts as the router's traffic, so that its
//! monthly limit holds.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use wanbond_proto::lane::{FlowKeys, FrameKind, LaneError, RecordType, ServiceKind};
use wanbond_relay::{LaneEvent, LaneFault, LaneStream, Traffic};

/// However long the router asks for.
const MOST_TIME: Duration = Duration::from_secs(120);
/// However fast it is: half a minute of 1 Gbit/s.
const MOST_BYTES: u64 = 4_000_000_000;
/// A record of data: large enough for the processor's sake, small enough for slow lines.
const CHUNK: usize = 16 * 1024;
/// Between two reports on what has come.
const REPORT: Duration = Duration::from_millis(100);
/// What was sent may take this long to be written, at the end.
const LINGER: Duration = Duration::from_secs(10);

/// Serves one flow until it ends: its time or its bytes are used up, or the router wants no more.
/// The last word on the flow remains to be sent.
///
/// # Errors
/// The lane is lost.
pub(super) async fn serve(
    lane: &mut LaneStream,
    keys: &mut FlowKeys,
    kind: ServiceKind,
    time: Duration,
    traffic: &Traffic,
) -> Result<(), LaneFault> {
    let until = Instant::now() + time.min(MOST_TIME);
    lane.queue_record(&mut keys.seal, RecordType::Connected, &[]);
    let served = run(lane, keys, kind, until, traffic);
    timeout_at(until + LINGER, served)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
}

async fn run(
    lane: &mut LaneStream,
    keys: &mut FlowKeys,
    kind: ServiceKind,
    until: Instant,
    traffic: &Traffic,
) -> Result<(), LaneFault> {
    let chunk = [0; CHUNK];
    let (mut sent, mut taken) = (0u64, 0u64);
    let mut report_at = Instant::now() + REPORT;
    while Instant::now() < until && sent.max(taken) < MOST_BYTES {
        if kind == ServiceKind::Send && lane.queued() == 0 {
            lane.queue_record(&mut keys.seal, RecordType::Data, &chunk);
            sent += CHUNK as u64;
            traffic.sent.fetch_add(CHUNK, Ordering::Relaxed);
        }
        if kind == ServiceKind::Take && Instant::now() >= report_at && lane.queued() == 0 {
            lane.queue_record(&mut keys.seal, RecordType::Data, &taken.to_be_bytes());
            report_at = Instant::now() + REPORT;
        }
        let wake = if kind == ServiceKind::Take { report_at.min(until) } else { until };
        let frame = tokio::select! {
            event = lane.event() => match event? {
                LaneEvent::Flushed => continue,
                LaneEvent::Frame(frame) => frame,
            },
            () = sleep_until(wake) => continue,
        };
        match frame.kind {
            FrameKind::LaneRecord => {
                lane.handle_lane_record(&frame)?;
            }
            FrameKind::Record => {
                let record = frame.open(&mut keys.open, lane.frame_bytes(&frame))?;
                let (what, length) = (record.kind, record.payload.len());
                let echo = (kind == ServiceKind::Echo).then(|| record.payload.to_vec());
                lane.consume(&frame);
                match what {
                    RecordType::Data => {
                        taken += length as u64;
                        traffic.received.fetch_add(length, Ordering::Relaxed);
                        if let Some(echo) = echo {
                            lane.queue_record(&mut keys.seal, RecordType::Data, &echo);
                            traffic.sent.fetch_add(length, Ordering::Relaxed);
                            // Who does not read what comes back can't send more either.
                            lane.flush().await?;
                        }
                    }
                    RecordType::Reset | RecordType::Fin => return Ok(()),
                    _ => return Err(LaneError::Unexpected.into()),
                }
            }
            FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => {
                return Err(LaneError::Unexpected.into());
            }
        }
    }
    Ok(())
}
