//! Single promises, one by one.

use std::time::Duration;

use super::super::{
    FrameError, OpenError, Read, SentFrame, StreamError, StreamEvent, StreamId, StreamLimits,
    Streams, varint,
};
use crate::Time;
use crate::session::Role;

const ID: StreamId = StreamId(0);

fn pair() -> (Streams, Streams) {
    let limits = StreamLimits::default();
    (Streams::new(Role::Router, limits), Streams::new(Role::Server, limits))
}

/// Sends all there is, each frame in a datagram of its own.
fn send(streams: &mut Streams) -> Vec<(Vec<u8>, SentFrame)> {
    let mut sent = Vec::new();
    loop {
        let mut bytes = Vec::new();
        let Some(frame) = streams.poll_frame(1400, &mut bytes) else { return sent };
        sent.push((bytes, frame));
    }
}

fn take(streams: &mut Streams, bytes: &[u8]) -> Result<(), FrameError> {
    let taken = streams.handle_frame(bytes[0], &bytes[1..])?;
    assert_eq!(taken, bytes.len() - 1);
    Ok(())
}

/// Everything that `from` has to send arrives and is acknowledged.
fn pass(from: &mut Streams, to: &mut Streams) {
    for (bytes, frame) in send(from) {
        take(to, &bytes).expect("an honest peer");
        from.on_acked(frame);
    }
}

/// The same both ways, until both are quiet.
fn settle(a: &mut Streams, b: &mut Streams) {
    while a.has_pending() || b.has_pending() {
        pass(a, b);
        pass(b, a);
    }
}

fn events(streams: &mut Streams) -> Vec<StreamEvent> {
    std::iter::from_fn(|| streams.poll_event()).collect()
}

fn frame(kind: u8, numbers: &[u64], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    for &number in numbers {
        varint::put(&mut bytes, number);
    }
    bytes.extend_from_slice(data);
    bytes
}

#[test]
fn a_request_and_its_answer() {
    let (mut router, mut server) = pair();
    let id = router.open().expect("allowed");
    assert_eq!(router.write(id, b"question"), Ok(8));
    router.finish(id).expect("open");
    assert_eq!(router.write(id, b"more"), Err(StreamError::Finished));
    settle(&mut router, &mut server);
    assert_eq!(events(&mut router), [StreamEvent::Finished(id)]);
    assert_eq!(events(&mut server), [StreamEvent::Opened(id), StreamEvent::Readable(id)]);
    assert_eq!(server.accept(), Some(id));
    let mut out = [0; 100];
    assert_eq!(server.read(id, &mut out), Ok(Read::Data(8)));
    assert_eq!(&out[..8], b"question");
    assert_eq!(server.read(id, &mut out), Ok(Read::Finished));
    assert_eq!(server.write(id, b"answer"), Ok(6));
    server.finish(id).expect("open");
    settle(&mut router, &mut server);
    assert_eq!(events(&mut server), [StreamEvent::Finished(id), StreamEvent::Closed(id)]);
    assert_eq!(router.read(id, &mut out), Ok(Read::Data(6)));
    assert!(!router.is_closed(id), "it has not read the end");
    assert_eq!(router.read(id, &mut out), Ok(Read::Finished));
    assert!(router.is_closed(id) && server.is_closed(id));
    assert_eq!(router.read(id, &mut out), Err(StreamError::Closed));
    assert_eq!((router.memory(), server.memory()), (0, 0));
}

#[test]
fn an_idle_stream_is_small() {
    assert!(size_of::<super::super::Stream>() <= 480, "{}", size_of::<super::super::Stream>());
    assert_eq!(size_of::<SentFrame>(), 16);
}

#[test]
fn what_is_lost_goes_first_and_only_once() {
    let (mut router, mut server) = pair();
    let id = router.open().expect("allowed");
    settle(&mut router, &mut server);
    router.write(id, &[1; 4000]).expect("open");
    let first = send(&mut router);
    assert_eq!(first.len(), 3);
    router.write(id, &[2; 100]).expect("open");
    // Given up early, then declared lost twice, while the copy is on its way.
    router.requeue(first[1].1);
    let again = send(&mut router);
    assert_eq!(again[0].0[..], first[1].0[..]);
    assert!(again[0].1.is_repeat() && !again[1].1.is_repeat());
    router.on_lost(first[1].1);
    router.on_lost(first[1].1);
    assert!(!router.has_pending(), "the copy speaks for it");
    // The copy is lost too: a third is needed, but only until the first arrives after all.
    router.on_lost(again[0].1);
    assert_eq!(router.pending_bytes(), first[1].1.data_len() as u64);
    router.on_acked(first[1].1);
    assert!(!router.has_pending());
    router.on_acked(first[1].1);
    router.on_lost(again[0].1);
    assert!(!router.has_pending());
    assert_eq!(router.unacked(id), 4100, "what comes before is not acknowledged");
    router.on_acked(first[0].1);
    let arrived = first[0].1.data_len() + first[1].1.data_len();
    assert_eq!(router.unacked(id), 4100 - arrived as u64);
}

#[test]
fn what_somebody_waits_for_goes_twice() {
    let (mut router, mut server) = pair();
    let id = router.open().expect("allowed");
    settle(&mut router, &mut server);
    router.write(id, &[1; 900]).expect("open");
    let first = send(&mut router).remove(0).1;
    assert!(router.is_precious(&first));
    let mut out = Vec::new();
    let copy = router.poll_copy(first, 1400, &mut out).expect("it is not acknowledged");
    assert!(copy.is_repeat() && copy.data_len() == 900 && out.len() > 900);
    assert!(!router.is_precious(&copy) && !router.has_pending());
    // One of both is lost: the other speaks for it.
    router.on_lost(first);
    assert!(!router.has_pending());
    router.on_acked(copy);
    assert_eq!(router.unacked(id), 0);
    assert_eq!(router.poll_copy(first, 1400, &mut out), None, "it has arrived");
    // Both are lost.
    router.write(id, &[2; 900]).expect("open");
    let second = send(&mut router).remove(0).1;
    let copy = router.poll_copy(second, 1400, &mut out).expect("it is not acknowledged");
    router.on_lost(copy);
    assert_eq!(router.pending_bytes(), 900);
    assert_eq!(router.poll_copy(second, 1400, &mut out), None, "it is sent again anyway");
    send(&mut router);
    send(&mut router).into_iter().for_each(|(_, frame)| router.on_acked(frame));
    router.on_acked(second);
    // Of bulk, only the beginning.
    router.write(id, &[3; 20_000]).expect("open");
    let sent = send(&mut router);
    let precious = sent.iter().filter(|(_, frame)| router.is_precious(frame)).count();
    assert_eq!(precious, 2, "of {}", sent.len());
}

#[test]
fn out_of_order_and_overlapping() {
    let (_, mut server) = pair();
    let data: Vec<u8> = (0..30_000u32).map(|n| (n % 251) as u8).collect();
    let piece = |from: usize, to: usize| {
        frame(0x40, &[0, from as u64, (to - from) as u64], &data[from..to])
    };
    for (from, to) in [(20_000, 25_000), (6, 8), (10, 12), (10, 9000), (15_000, 15_001)] {
        take(&mut server, &piece(from, to)).expect("in order or not");
    }
    assert_eq!(server.readable(ID), 0);
    take(&mut server, &piece(0, 11)).expect("joins two");
    assert_eq!(server.readable(ID), 9000);
    take(&mut server, &piece(5000, 21_000)).expect("swallows one and joins another");
    assert_eq!(server.readable(ID), 25_000);
    let mut out = vec![0; 30_000];
    assert_eq!(server.read(ID, &mut out), Ok(Read::Data(25_000)));
    assert_eq!(out[..25_000], data[..25_000]);
    assert_eq!(server.memory(), 0);
    take(&mut server, &piece(0, 25_000)).expect("old");
    assert_eq!((server.readable(ID), server.memory()), (0, 0));
}

#[test]
fn rules_that_a_peer_may_break() {
    let limits = StreamLimits { session_window_max: 256 * 1024, ..StreamLimits::default() };
    let mut server = Streams::new(Role::Server, limits);
    // What holds before the server has said anything.
    let window = 64 * 1024;
    let beyond = frame(0x40, &[0, window, 1], b"x");
    assert_eq!(take(&mut server, &beyond), Err(FrameError::StreamWindow(ID)));
    for id in [0, 1, 2, 3, 3] {
        take(&mut server, &frame(0x40, &[id, window - 1, 1], b"x")).expect("within");
    }
    let over = frame(0x40, &[40, 0, 1], b"x");
    assert_eq!(take(&mut server, &over), Err(FrameError::SessionWindow));
    let many = frame(0x40, &[limits.streams.into(), 0, 0], b"");
    assert_eq!(take(&mut server, &many), Err(FrameError::TooManyStreams(StreamId(4096))));
    let (mut router, _) = pair();
    let unknown = frame(0x43, &[0], &[3]);
    assert_eq!(take(&mut router, &unknown), Err(FrameError::NeverOpened(ID)));

    let (_, mut server) = pair();
    take(&mut server, &frame(0x41, &[0, 10, 5], b"world")).expect("the end first");
    let longer = frame(0x40, &[0, 15, 1], b"!");
    assert_eq!(take(&mut server, &longer), Err(FrameError::FinalSize(ID)));
    let earlier = frame(0x41, &[0, 0, 5], b"hello");
    assert_eq!(take(&mut server, &earlier), Err(FrameError::FinalSize(ID)));
    let reset = frame(0x42, &[0, 0, 9], b"");
    assert_eq!(take(&mut server, &reset), Err(FrameError::FinalSize(ID)));
    let huge = frame(0x40, &[1, varint::MAX, 1], b"x");
    assert_eq!(take(&mut server, &huge), Err(FrameError::StreamWindow(StreamId(1))));
}

#[test]
fn crumbs_are_bounded() {
    let (_, mut server) = pair();
    // Every other byte, on some streams, never the first.
    let result = (0..200_000u64).try_for_each(|n| {
        take(&mut server, &frame(0x40, &[n / 30_000, 1 + n % 30_000 * 2, 1], b"x"))
    });
    assert_eq!(result, Err(FrameError::Fragments));
    assert!(server.memory() <= 16 << 20);
}

#[test]
fn a_reset_returns_what_it_held() {
    let limits = StreamLimits {
        unsent_buffer: 1 << 20,
        send_buffer: 1 << 20,
        session_window_max: 0,
        ..StreamLimits::default()
    };
    let mut router = Streams::new(Role::Router, limits);
    let mut server = Streams::new(Role::Server, limits);
    settle(&mut router, &mut server);
    let hogs: Vec<StreamId> = (0..4).map(|_| router.open().expect("allowed")).collect();
    let (hog, other) = (hogs[0], router.open().expect("allowed"));
    for &hog in &hogs {
        assert_eq!(router.write(hog, &[0; 1 << 20]), Ok(64 * 1024), "the stream's window");
    }
    assert_eq!(router.write(other, b"me too"), Ok(0), "the session's window");
    for _ in 0..20 {
        let mut bytes = Vec::new();
        let sent = router.poll_frame(1400, &mut bytes).expect("much to send");
        take(&mut server, &bytes).expect("honest");
        router.on_acked(sent);
    }
    events(&mut router);
    router.reset(hog, 9);
    assert_eq!(events(&mut router), [StreamEvent::Writable(other)]);
    assert_eq!(router.write(other, b"me too"), Ok(6));
    settle(&mut router, &mut server);
    assert!(events(&mut server).contains(&StreamEvent::Reset(hog, 9)));
    assert_eq!(server.read(hog, &mut [0; 9]), Err(StreamError::Reset(9)));
    assert_eq!(server.read(hog, &mut [0; 9]), Err(StreamError::Closed));
    assert_eq!(server.inbound.unread(), 3 * 64 * 1024 + 6);
}

#[test]
fn stop_reaches_the_writer_though_lost() {
    let (mut router, mut server) = pair();
    let id = router.open().expect("allowed");
    router.write(id, &[0; 5000]).expect("open");
    settle(&mut router, &mut server);
    server.stop(id, 4);
    assert_eq!(server.inbound.unread(), 0);
    for (_, frame) in send(&mut server) {
        server.on_lost(frame);
    }
    events(&mut router);
    router.write(id, &[0; 5000]).expect("not heard yet");
    pass(&mut router, &mut server);
    assert_eq!((server.inbound.unread(), server.memory()), (0, 0), "dropped on arrival");
    settle(&mut router, &mut server);
    assert_eq!(events(&mut router), [StreamEvent::Stopped(id, 4)]);
    assert_eq!(router.write(id, b"more"), Err(StreamError::Stopped(4)));
    server.close(id, 4);
    router.close(id, 4);
    settle(&mut router, &mut server);
    assert!(router.is_closed(id) && server.is_closed(id));
}

#[test]
fn ids_are_given_out_as_streams_end() {
    let limits = StreamLimits { streams: 64, ..StreamLimits::default() };
    let mut router = Streams::new(Role::Router, limits);
    let mut server = Streams::new(Role::Server, limits);
    assert_eq!(server.open(), Err(OpenError::Server));
    for round in 0..5 {
        let ids: Vec<StreamId> = std::iter::from_fn(|| router.open().ok()).collect();
        assert_eq!(ids.len(), 64, "round {round}");
        assert_eq!(router.open(), Err(OpenError::Blocked));
        for &id in &ids {
            router.close(id, 0);
        }
        settle(&mut router, &mut server);
        while let Some(id) = server.accept() {
            server.close(id, 0);
        }
        settle(&mut router, &mut server);
        assert!(router.is_empty() && server.is_empty());
        assert!(events(&mut router).contains(&StreamEvent::Openable));
    }
}

#[test]
fn late_frames_of_forgotten_streams_do_nothing() {
    let (mut router, mut server) = pair();
    let id = router.open().expect("allowed");
    router.write(id, b"hello").expect("open");
    router.close(id, 1);
    let sent = send(&mut router);
    let bytes = frame(0x41, &[0, 0, 5], b"hello");
    for (bytes, _) in &sent {
        take(&mut server, bytes).expect("honest");
    }
    server.close(id, 1);
    settle(&mut router, &mut server);
    for (_, frame) in sent {
        router.on_acked(frame);
        router.on_lost(frame);
    }
    assert!(router.is_empty() && server.is_empty());
    for bytes in [bytes, frame(0x44, &[0, 99], b""), frame(0x43, &[0], &[1])] {
        take(&mut server, &bytes).expect("nothing");
    }
    assert!(server.is_empty() && server.accept().is_none());
}

#[test]
fn streams_share_by_bytes() {
    let (mut router, mut server) = pair();
    settle(&mut router, &mut server);
    let ids: Vec<StreamId> = (0..4).map(|_| router.open().expect("allowed")).collect();
    let mut sent = [0; 4];
    for _ in 0..400 {
        for &id in &ids {
            // The last one only ever has crumbs.
            let length = if id.0 == 3 { 50 } else { 50_000 };
            router.write(id, &vec![0; length]).expect("open");
        }
        let frame = router.poll_frame(1400, &mut Vec::new()).expect("something");
        sent[frame.stream().expect("data").0 as usize] += frame.data_len();
        if router.unacked(frame.stream().expect("data")) > 0 {
            router.on_acked(frame);
        }
    }
    let share = sent[0];
    assert!(sent[..3].iter().all(|&bytes| bytes.abs_diff(share) <= 3000), "{sent:?}");
    assert!(sent[3] > share / 2, "{sent:?}");
}

#[test]
fn what_had_rested_goes_before_what_was_lost_and_only_its_first_bytes_do() {
    let (mut router, mut server) = pair();
    let (bulk, young) = (router.open().expect("allowed"), router.open().expect("allowed"));
    settle(&mut router, &mut server);
    let next = |router: &mut Streams| router.poll_frame(1400, &mut Vec::new()).expect("data");
    router.write(bulk, &[0; 20_000]).expect("open");
    let lost: Vec<SentFrame> = (0..6).map(|_| next(&mut router)).collect();
    assert!(lost.iter().all(|frame| frame.stream() == Some(bulk)));
    lost.into_iter().for_each(|frame| router.on_lost(frame));
    router.write(young, &[0; 9_000]).expect("open");
    let order: Vec<_> = (0..8).map(|_| next(&mut router)).collect();
    let first: Vec<_> = order.iter().map(|frame| frame.stream() == Some(young)).collect();
    // Two datagrams have the first 1500 bytes in them; then the lost ones, and turns after that.
    assert_eq!(first, [true, true, false, false, false, false, false, false]);
    assert!(order[2..].iter().all(|frame| frame.is_repeat()));
    assert!((0..4).any(|_| next(&mut router).stream() == Some(young)));
}

#[test]
fn windows_grow_with_the_path() {
    let (mut router, mut server) = pair();
    let id = router.open().expect("allowed");
    let srtt = Duration::from_millis(50);
    let mut out = vec![0; 1 << 20];
    let mut went = Vec::new();
    for round in 0..40u64 {
        let now = Time::from_millis(50 * round);
        router.tune(now, srtt);
        server.tune(now, srtt);
        // As much as one round trip can carry, read at once.
        let mut bytes = 0;
        loop {
            let written = router.write(id, &out).expect("open");
            bytes += written;
            pass(&mut router, &mut server);
            if written == 0 {
                break;
            }
        }
        while let Ok(Read::Data(_)) = server.read(id, &mut out) {}
        pass(&mut server, &mut router);
        went.push(bytes as u64);
    }
    let limits = StreamLimits::default();
    assert_eq!(went[0], 64 * 1024);
    assert!(went[2] <= limits.stream_window_initial * 2, "{went:?}");
    assert!(went[39] >= limits.stream_window_max * 3 / 4, "{went:?}");
}

#[test]
fn stalled_readers_leave_room_for_others() {
    let (mut router, mut server) = pair();
    settle(&mut router, &mut server);
    let mut out = vec![0; 1 << 20];
    let srtt = Duration::from_millis(50);
    for round in 0..60 {
        let id = router.open().expect("allowed");
        // Each reader keeps up for a while, so that its window grows, and then stops for good.
        let mut written = 0;
        for step in 0..400u64 {
            let now = Time::from_millis(10_000 * round + 5 * step);
            router.tune(now, srtt);
            server.tune(now, srtt);
            written += router.write(id, &out[..100_000]).expect("open");
            settle(&mut router, &mut server);
            if step < 200 {
                let _ = server.read(id, &mut out);
            }
        }
        assert!(written >= 2_000_000, "the writer number {round} came to {written}");
    }
    assert!(server.inbound.unread() > 10_000_000, "{}", server.inbound.unread());
}
