//! Lane records: any chunks of the byte stream give the same records, any change of it none.

use proptest::collection::vec;
use proptest::prelude::*;
use wanbond_proto::crypto::aead::{Sequence, Suite};
use wanbond_proto::lane::{
    FrameKind, HEAD_LEN, LaneError, MAX_DATAGRAM, MAX_FRAME, MAX_PAYLOAD, OpenHead, PAYLOAD_AT,
    RECORD_OVERHEAD, RecordType, handshake_frame, next_frame, seal_open, seal_record,
};
use wanbond_proto::session::FlowId;

use crate::support::{SERVER_INDEX, flipped, sessions};

const FLOW: FlowId = FlowId(77);

fn suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(Suite::ALL.to_vec())
}

/// The sealing end at the router and the opening end at the server.
fn ends(suite: Suite) -> (Sequence, Sequence) {
    let (router, server) = sessions(suite);
    (router.flow_keys(FLOW, None).seal, server.flow_keys(FLOW, None).open)
}

fn open_frame(keys: &mut Sequence, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    seal_open(keys, SERVER_INDEX, FLOW, false, RecordType::Open, payload, &mut out);
    out
}

fn record(keys: &mut Sequence, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; payload.len() + RECORD_OVERHEAD];
    frame[PAYLOAD_AT..PAYLOAD_AT + payload.len()].copy_from_slice(payload);
    let end = seal_record(keys, FrameKind::Record, RecordType::Data, &mut frame, payload.len());
    assert_eq!(end, frame.len());
    frame
}

/// Opens the frame at the start of `bytes`: its payload, and how long the frame was.
fn open_first(
    keys: &mut Sequence,
    bytes: &mut [u8],
) -> Result<Option<(Vec<u8>, usize)>, LaneError> {
    let Some(frame) = next_frame(bytes)? else { return Ok(None) };
    let end = frame.range.end;
    let record = frame.open(keys, &mut bytes[..end])?;
    Ok(Some((record.payload.to_vec(), end)))
}

proptest! {
    #[test]
    fn records_survive_any_chunking(
        suite in suite(),
        payloads in vec(prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..3000)], 1..20),
        chunks in vec(1..2500usize, 1..20),
    ) {
        let (mut seal, mut open) = ends(suite);
        let mut wire = open_frame(&mut seal, &payloads[0]);
        for payload in &payloads[1..] {
            wire.extend_from_slice(&record(&mut seal, payload));
        }
        let (mut held, mut got) = (Vec::new(), Vec::new());
        let mut rest = &wire[..];
        for size in chunks.iter().cycle() {
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            held.extend_from_slice(chunk);
            rest = after;
            while let Some((payload, used)) = open_first(&mut open, &mut held).unwrap() {
                got.push(payload);
                held.drain(..used);
            }
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(held.is_empty());
        prop_assert_eq!(got, payloads);
    }

    /// Records dropped, repeated or exchanged: whatever comes out of place does not open.
    #[test]
    fn only_the_right_order_opens(suite in suite(), picks in vec(0..8usize, 1..12)) {
        let (mut seal, mut open) = ends(suite);
        let frames: Vec<_> = (0..8u8).map(|n| record(&mut seal, &[n; 9])).collect();
        for (place, &pick) in picks.iter().enumerate() {
            let result = open_first(&mut open, &mut frames[pick].clone());
            if place == pick {
                prop_assert_eq!(result, Ok(Some((vec![pick as u8; 9], frames[pick].len()))));
            } else {
                prop_assert_eq!(result, Err(LaneError::Unauthentic));
                break;
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    for suite in Suite::ALL {
        let frames = [
            open_frame(&mut ends(suite).0, b"target"),
            record(&mut ends(suite).0, b"some payload"),
            record(&mut ends(suite).0, b""),
        ];
        for frame in &frames {
            for bit in 0..frame.len() * 8 {
                // A greater length waits for bytes that never come; nothing else is not refused.
                let result = open_first(&mut ends(suite).1, &mut flipped(frame, bit));
                assert!(matches!(result, Ok(None) | Err(_)), "bit {bit} of {frame:02x?}");
            }
            assert!(open_first(&mut ends(suite).1, &mut frame.clone()).is_ok_and(|r| r.is_some()));
        }
    }
}

#[test]
fn an_end_does_not_open_its_own_records() {
    let (router, _) = sessions(Suite::Aes128Gcm);
    let mut keys = router.flow_keys(FLOW, None);
    let mut frame = record(&mut keys.seal, b"mirror");
    assert_eq!(open_first(&mut keys.open, &mut frame), Err(LaneError::Unauthentic));
}

#[test]
fn heads_are_read_and_bounded() {
    let frame = open_frame(&mut ends(Suite::Aes128Gcm).0, b"x");
    let head = OpenHead::read(&frame).unwrap();
    assert_eq!(head, OpenHead { session_index: SERVER_INDEX, flow: FLOW, fresh: false });

    let head = |kind: u8, length: usize| {
        let [_, a, b, c] = (length as u32).to_be_bytes();
        next_frame(&[kind, a, b, c])
    };
    assert_eq!(head(0x11, MAX_FRAME - HEAD_LEN), Ok(None));
    assert!(head(0x11, MAX_FRAME - HEAD_LEN + 1).is_err());
    assert!(head(0x11, 16).is_err(), "shorter than type and tag");
    assert!(head(0x01, 2049).is_err(), "no handshake message is that long");
    assert!(head(0x10, 29).is_err());
    assert_eq!(head(0x13, MAX_DATAGRAM), Ok(None));
    assert!(head(0x13, 0).is_err());
    assert!(head(0x13, MAX_DATAGRAM + 1).is_err());
    for kind in (0..=255).filter(|kind| ![0x01, 0x10, 0x11, 0x12, 0x13].contains(kind)) {
        assert!(next_frame(&[kind]).is_err(), "{kind}");
    }
}

#[test]
fn the_longest_record_fits() {
    let (mut seal, mut open) = ends(Suite::ChaCha20Poly1305);
    let payload = vec![0xab; MAX_PAYLOAD];
    let mut first = open_frame(&mut seal, &payload);
    assert_eq!(first.len(), MAX_FRAME);
    assert_eq!(open_first(&mut open, &mut first).unwrap().unwrap().0, payload);
    let mut second = record(&mut seal, &payload);
    assert_eq!(open_first(&mut open, &mut second).unwrap().unwrap().0, payload);
}

#[test]
fn handshake_frames_are_not_records() {
    let mut bytes = handshake_frame(b"message");
    let frame = next_frame(&bytes).unwrap().unwrap();
    assert_eq!(
        (frame.kind, &bytes[HEAD_LEN..frame.range.end]),
        (FrameKind::Handshake, &b"message"[..])
    );
    let mut keys = ends(Suite::Aes128Gcm).1;
    assert_eq!(frame.open(&mut keys, &mut bytes), Err(LaneError::Unexpected));
}
