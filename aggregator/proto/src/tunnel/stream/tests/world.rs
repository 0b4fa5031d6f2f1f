//! Two ends, datagrams between them that get lost, overtaken, doubled and wrongly given up, and
//! applications that act only on what the ends tell them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Read, SentFrame, StreamError, StreamEvent, StreamId, StreamLimits, Streams};
use crate::Time;
use crate::session::Role;

/// A small generator of numbers that look random (splitmix64).
#[derive(Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// The byte at `offset` of what `end` writes to `id`.
pub(super) fn byte(end: usize, id: StreamId, offset: u64) -> u8 {
    let mixed =
        (offset ^ u64::from(id.0) << 40 ^ (end as u64) << 60).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u8
}

/// How a direction ended, as one application saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Finished,
    Reset(u8),
    Stopped(u8),
}

/// What one application knows of one stream.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) written: u64,
    pub(super) read: u64,
    pub(super) waits_to_read: bool,
    pub(super) waits_to_write: bool,
    pub(super) write_end: Option<Ended>,
    pub(super) read_end: Option<Ended>,
    pub(super) closed: bool,
    pub(super) events: u64,
    pub(super) blocks: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Datagram {
    pub(super) from: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) frames: Vec<SentFrame>,
}

pub(super) struct World {
    pub(super) ends: [Streams; 2],
    pub(super) apps: [BTreeMap<StreamId, App>; 2],
    pub(super) flying: Vec<Datagram>,
    /// Arrived; the acknowledgement has not come back.
    pub(super) arrived: Vec<Datagram>,
    /// Lost; not noticed yet.
    pub(super) lost: Vec<Datagram>,
    pub(super) waits_to_open: bool,
    pub(super) limits: StreamLimits,
    pub(super) now: Time,
}

impl World {
    pub(super) fn new(limits: StreamLimits) -> Self {
        Self {
            ends: [Streams::new(Role::Router, limits), Streams::new(Role::Server, limits)],
            apps: [BTreeMap::new(), BTreeMap::new()],
            flying: Vec::new(),
            arrived: Vec::new(),
            lost: Vec::new(),
            waits_to_open: false,
            limits,
            now: Time::ZERO,
        }
    }

    pub(super) fn tick(&mut self, micros: u64) {
        self.now += Duration::from_micros(micros);
        for end in &mut self.ends {
            end.tune(self.now, Duration::from_millis(20));
        }
    }

    pub(super) fn open(&mut self) -> Option<StreamId> {
        match self.ends[0].open() {
            Ok(id) => {
                self.apps[0].insert(id, App::default());
                Some(id)
            }
            Err(_) => {
                self.waits_to_open = true;
                None
            }
        }
    }

    /// Sends one datagram with room for `room` bytes, if there is something to send.
    pub(super) fn send(&mut self, from: usize, room: usize) -> bool {
        let mut datagram = Datagram { from, bytes: Vec::new(), frames: Vec::new() };
        loop {
            let left = room - datagram.bytes.len();
            let Some(frame) = self.ends[from].poll_frame(left, &mut datagram.bytes) else { break };
            assert!(datagram.bytes.len() <= room);
            datagram.frames.push(frame);
        }
        if datagram.frames.is_empty() {
            assert!(self.ends[from].pending_bytes() == 0 || room < Streams::LEAST_ROOM);
            return false;
        }
        self.flying.push(datagram);
        true
    }

    /// Gives a datagram's frames to the other end.
    pub(super) fn arrive(&mut self, datagram: &Datagram) {
        let to = 1 - datagram.from;
        let mut rest = &datagram.bytes[..];
        while let Some((&kind, bytes)) = rest.split_first() {
            let taken = self.ends[to].handle_frame(kind, bytes);
            let taken = taken.unwrap_or_else(|error| panic!("an honest peer: {error}"));
            rest = &bytes[taken..];
        }
        self.events(to);
    }

    pub(super) fn acked(&mut self, datagram: &Datagram) {
        for &frame in &datagram.frames {
            self.ends[datagram.from].on_acked(frame);
        }
        self.events(datagram.from);
    }

    pub(super) fn lost(&mut self, datagram: &Datagram) {
        for &frame in &datagram.frames {
            self.ends[datagram.from].on_lost(frame);
        }
    }

    /// Lets the application hear what there is to hear.
    pub(super) fn events(&mut self, end: usize) {
        let apps = &mut self.apps[end];
        while let Some(event) = self.ends[end].poll_event() {
            match event {
                StreamEvent::Opened(id) => {
                    assert_eq!(self.ends[end].accept(), Some(id));
                    let before = apps.insert(id, App::default());
                    assert!(before.is_none(), "{id} opened twice");
                }
                StreamEvent::Openable => self.waits_to_open = false,
                StreamEvent::Readable(id) => {
                    let app = app(apps, id);
                    app.waits_to_read = false;
                    app.events += 1;
                    assert!(app.events <= app.blocks + 1, "one Readable for one blocked read");
                }
                StreamEvent::Writable(id) => app(apps, id).waits_to_write = false,
                StreamEvent::Finished(id) => {
                    assert_eq!(app(apps, id).write_end, Some(Ended::Finished));
                }
                StreamEvent::Reset(id, _) => assert!(app(apps, id).read_end.is_none()),
                StreamEvent::Stopped(id, code) => {
                    app(apps, id).write_end = Some(Ended::Stopped(code));
                }
                StreamEvent::Closed(id) => {
                    let app = app(apps, id);
                    assert!(!app.closed && app.write_end.is_some() && app.read_end.is_some());
                    app.closed = true;
                }
            }
        }
    }

    /// Writes up to `length` bytes, as an application that waits to be told.
    pub(super) fn write(&mut self, end: usize, id: StreamId, length: u64) {
        let Some(app) = self.apps[end].get_mut(&id) else { return };
        if app.waits_to_write || app.write_end.is_some() {
            return;
        }
        let data: Vec<u8> =
            (app.written..app.written + length).map(|at| byte(end, id, at)).collect();
        let written = self.ends[end].write(id, &data).expect("open for writing") as u64;
        app.written += written;
        app.waits_to_write = written < length;
    }

    /// Reads up to `length` bytes, as an application that waits to be told.
    pub(super) fn read(&mut self, end: usize, id: StreamId, length: usize) {
        let Some(app) = self.apps[end].get_mut(&id) else { return };
        if app.waits_to_read || app.read_end.is_some() {
            return;
        }
        let mut out = vec![0; length];
        match self.ends[end].read(id, &mut out) {
            Ok(Read::Data(length)) => {
                for (at, &got) in (app.read..).zip(&out[..length]) {
                    assert_eq!(got, byte(1 - end, id, at), "byte {at} of {id}");
                }
                app.read += length as u64;
            }
            Ok(Read::Blocked) => {
                app.waits_to_read = true;
                app.blocks += 1;
            }
            Ok(Read::Finished) => app.read_end = Some(Ended::Finished),
            Err(StreamError::Reset(code)) => app.read_end = Some(Ended::Reset(code)),
            Err(error) => panic!("read: {error}"),
        }
        self.events(end);
    }

    pub(super) fn finish(&mut self, end: usize, id: StreamId) {
        let Some(app) = self.apps[end].get_mut(&id) else { return };
        if app.write_end.is_none() {
            app.write_end = Some(Ended::Finished);
            self.ends[end].finish(id).expect("open for writing");
        }
    }

    pub(super) fn reset(&mut self, end: usize, id: StreamId, code: u8) {
        let Some(app) = self.apps[end].get_mut(&id) else { return };
        if app.write_end.is_none() {
            app.write_end = Some(Ended::Reset(code));
            self.ends[end].reset(id, code);
            self.events(end);
        }
    }

    pub(super) fn stop(&mut self, end: usize, id: StreamId, code: u8) {
        let Some(app) = self.apps[end].get_mut(&id) else { return };
        if app.read_end.is_none() {
            app.read_end = Some(Ended::Stopped(code));
            self.ends[end].stop(id, code);
            self.events(end);
        }
    }

    /// What must hold at any time.
    pub(super) fn check(&self) {
        for (end, streams) in self.ends.iter().enumerate() {
            let data = self.limits.session_window_max + self.limits.session_send_buffer;
            // Each direction of a stream may leave a block half empty at either side.
            let rounding = streams.len() as u64 * 4 * 4096;
            let memory = streams.memory() as u64;
            assert!(memory <= data + rounding, "{memory} bytes at end {end}");
            assert!(streams.len() <= self.limits.streams as usize);
        }
        for (id, app) in &self.apps[1] {
            assert!(app.read <= self.apps[0][id].written);
            assert!(self.apps[0][id].read <= app.written);
        }
    }

    /// What must hold of one direction when all is over.
    pub(super) fn check_end(&self, from: usize, id: StreamId) {
        let (writer, reader) = (&self.apps[from][&id], &self.apps[1 - from][&id]);
        let (wrote, read) = (writer.write_end.expect("ended"), reader.read_end.expect("ended"));
        match (wrote, read) {
            (Ended::Finished, Ended::Finished) => assert_eq!(writer.written, reader.read),
            (Ended::Reset(a), Ended::Reset(b)) => assert_eq!(a, b),
            (Ended::Stopped(a), Ended::Stopped(b)) => assert_eq!(a, b),
            // The writer may have ended before it heard.
            (_, Ended::Stopped(_)) => {}
            other => panic!("{id} from {from} ended as {other:?}"),
        }
    }
}

fn app(apps: &mut BTreeMap<StreamId, App>, id: StreamId) -> &mut App {
    apps.get_mut(&id).expect("a stream that the application has")
}
