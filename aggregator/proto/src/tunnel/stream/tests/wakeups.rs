//! Writers that wait are told by each thing that may make room.

use super::super::{SentFrame, StreamEvent, StreamId, StreamLimits, Streams};
use crate::session::Role;

const KIB: u64 = 1024;

/// A router's end with two streams, whose peer allows 64 KiB on each and 256 KiB in all.
fn router(limits: StreamLimits) -> (Streams, StreamId, StreamId) {
    let mut router = Streams::new(Role::Router, limits);
    let ids = (router.open().expect("allowed"), router.open().expect("allowed"));
    (router, ids.0, ids.1)
}

fn send(streams: &mut Streams) -> Vec<SentFrame> {
    std::iter::from_fn(|| streams.poll_frame(1400, &mut Vec::new())).collect()
}

fn told(streams: &mut Streams, id: StreamId) -> bool {
    std::iter::from_fn(|| streams.poll_event()).any(|event| event == StreamEvent::Writable(id))
}

#[test]
fn by_sending() {
    let limits = StreamLimits { unsent_buffer: 8 * KIB, ..StreamLimits::default() };
    let (mut router, id, _) = router(limits);
    assert_eq!(router.write(id, &[0; 10_000]), Ok(8192));
    assert!(!told(&mut router, id));
    send(&mut router);
    assert!(told(&mut router, id), "without any acknowledgement");
    assert_eq!(router.write(id, &[0; 10_000]), Ok(8192));
}

#[test]
fn where_paths_are_slow_little_waits_to_be_sent() {
    let (mut router, id, other) = router(StreamLimits::default());
    router.set_rate(100_000);
    assert_eq!(router.write(id, &[0; 65_536]), Ok(32 * 1024));
    router.set_rate(400_000);
    assert_eq!(router.write(other, &[0; 65_536]), Ok(40_000));
    router.set_rate(u64::MAX);
    assert_eq!(router.write(id, &[0; 65_536]), Ok(32 * 1024), "up to the peer's window");
}

#[test]
fn by_an_acknowledgement_of_the_same_stream() {
    let limits = StreamLimits { send_buffer: 8 * KIB, ..StreamLimits::default() };
    let (mut router, id, _) = router(limits);
    assert_eq!(router.write(id, &[0; 10_000]), Ok(8192));
    let sent = send(&mut router);
    assert!(!told(&mut router, id));
    sent.into_iter().for_each(|frame| router.on_acked(frame));
    assert!(told(&mut router, id));
}

#[test]
fn by_an_acknowledgement_of_another_stream() {
    let limits = StreamLimits { session_send_buffer: 8 * KIB, ..StreamLimits::default() };
    let (mut router, hog, id) = router(limits);
    assert_eq!(router.write(hog, &[0; 8192]), Ok(8192));
    assert_eq!(router.write(id, b"me too"), Ok(0));
    let sent = send(&mut router);
    assert!(!told(&mut router, id));
    sent.into_iter().for_each(|frame| router.on_acked(frame));
    assert!(told(&mut router, id));
}

/// Fills the session's window with streams beyond the first two.
fn exhaust(router: &mut Streams) -> Vec<StreamId> {
    let hogs: Vec<StreamId> = (0..4).map(|_| router.open().expect("allowed")).collect();
    for &hog in &hogs {
        assert_eq!(router.write(hog, &[0; 64 * 1024]), Ok(64 * 1024));
        send(router).into_iter().for_each(|frame| router.on_acked(frame));
    }
    hogs
}

#[test]
fn by_the_sessions_window() {
    let (mut router, id, _) = router(StreamLimits::default());
    exhaust(&mut router);
    assert_eq!(router.write(id, b"me too"), Ok(0));
    assert!(!told(&mut router, id));
    // 2^20 in all, 64 streams.
    router.handle_frame(0x45, &[0x80, 0x10, 0, 0, 0x40, 64]).expect("a SESSION frame");
    assert!(told(&mut router, id));
}

#[test]
fn by_the_streams_window() {
    let (mut router, id, _) = router(StreamLimits::default());
    assert_eq!(router.write(id, &[0; 100_000]), Ok(64 * 1024));
    send(&mut router).into_iter().for_each(|frame| router.on_acked(frame));
    assert!(!told(&mut router, id));
    router.handle_frame(0x44, &[0, 0x80, 0x02, 0, 0]).expect("a WINDOW frame");
    assert!(told(&mut router, id));
}

#[test]
fn by_another_streams_end() {
    let (mut router, id, hog) = router(StreamLimits::default());
    assert_eq!(router.write(hog, &[0; 1000]), Ok(1000));
    let others: Vec<StreamId> = (0..4).map(|_| router.open().expect("allowed")).collect();
    let written: usize =
        others.iter().map(|&other| router.write(other, &[0; 64 * 1024]).expect("open")).sum();
    assert_eq!(written, 256 * 1024 - 1000);
    assert_eq!(router.write(id, b"me too"), Ok(0));
    // The peer stops a stream of which nothing was sent.
    router.handle_frame(0x43, &[others[0].0 as u8, 7]).expect("a STOP frame");
    assert!(told(&mut router, id));
}

#[test]
fn by_what_a_stopped_reader_drops() {
    let limits = StreamLimits { session_window_max: 256 * KIB, ..StreamLimits::default() };
    let mut server = Streams::new(Role::Server, limits);
    send(&mut server);
    let data = |id: u8, offset: u64| {
        let mut bytes = vec![id];
        super::super::varint::put(&mut bytes, offset);
        super::super::varint::put(&mut bytes, 1000);
        bytes.resize(bytes.len() + 1000, 0);
        bytes
    };
    server.handle_frame(0x40, &data(0, 0)).expect("within the windows");
    server.stop(StreamId(0), 1);
    send(&mut server);
    for step in 1..=63 {
        server.handle_frame(0x40, &data(0, step * 1000)).expect("within the windows");
    }
    assert!(!server.has_pending(), "much is left");
    for id in 1..=2 {
        server.handle_frame(0x40, &data(id, 63_000)).expect("within the windows");
    }
    // Less is left now than the dropped bytes give back.
    server.handle_frame(0x40, &data(3, 10_000)).expect("within the windows");
    assert!(send(&mut server).iter().any(|frame| frame.stream().is_none()), "a SESSION frame");
}
