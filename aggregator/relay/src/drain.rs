//! What is done with a lane whose flow was aborted.

use wanbond_proto::lane::{FlowKeys, FrameKind, LaneError, RecordType};

use crate::lane::{LaneFault, LaneStream};

/// Reads a lane on after its flow was aborted, until the server's last word: the lane is then free
/// again. Gives up after `limit` bytes: a new lane is then cheaper.
///
/// # Errors
/// [`LaneFault`]: the lane is lost.
pub async fn drain(
    lane: &mut LaneStream,
    keys: &mut FlowKeys,
    limit: usize,
) -> Result<bool, LaneFault> {
    let mut discarded = 0;
    while discarded <= limit {
        let frame = lane.frame().await?;
        match frame.kind {
            FrameKind::LaneRecord => {
                lane.handle_lane_record(&frame)?;
                lane.flush().await?;
            }
            FrameKind::Record => {
                let kind = frame.open(&mut keys.open, lane.frame_bytes(&frame))?.kind;
                lane.consume(&frame);
                if kind == RecordType::Done {
                    return Ok(true);
                }
                discarded += frame.range.len();
            }
            FrameKind::Open | FrameKind::Handshake | FrameKind::Datagram => {
                return Err(LaneError::Unexpected.into());
            }
        }
    }
    Ok(false)
}
