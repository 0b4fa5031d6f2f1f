//! Bytes over one stream of the tunnel, in one direction.

use wanbond_proto::tunnel::stream::{Read, StreamEvent, StreamId};

use super::Arrivals;
use crate::Time;
use crate::net::{Net, Side};

const CHUNK: usize = 16 * 1024;

/// A stream that carries `total` bytes from one side to the other, as fast as it may.
#[derive(Debug)]
pub struct StreamTransfer {
    from: Side,
    start: Time,
    total: u64,
    id: Option<StreamId>,
    written: u64,
    read: u64,
    started: bool,
    /// Nothing is read from then to then; whether there is something to be read afterwards.
    pause: (Time, Time),
    put_off: bool,
    /// The end was read.
    pub finished: bool,
    /// Both ends have forgotten the stream.
    pub closed: [bool; 2],
    pub(super) arrivals: Arrivals,
}

impl StreamTransfer {
    /// `total` bytes from `from`, beginning at `start`.
    #[must_use]
    pub fn new(from: Side, total: u64, start: Time) -> Self {
        Self {
            from,
            start,
            total,
            id: None,
            written: 0,
            read: 0,
            started: false,
            pause: (Time::ZERO, Time::ZERO),
            put_off: false,
            finished: false,
            closed: [false; 2],
            arrivals: Arrivals::default(),
        }
    }

    /// Its reader does nothing for a while.
    #[must_use]
    pub const fn with_pause(mut self, from: Time, to: Time) -> Self {
        self.pause = (from, to);
        self
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn read_bytes(&self) -> u64 {
        self.read
    }

    pub(super) fn due(&self) -> Option<Time> {
        let pause_ends = self.put_off.then_some(self.pause.1);
        (!self.started).then_some(self.start).or(pause_ends)
    }

    pub(super) fn run(&mut self, now: Time, net: &mut Net) {
        if self.started {
            self.put_off = false;
            self.read(now, net);
            return;
        }
        self.started = true;
        let end = net.end(Side::Router);
        let at = end.clock(now);
        end.tunnel.touch(at);
        let Ok(id) = end.tunnel.streams().open() else { return };
        self.id = Some(id);
        if self.from == Side::Router {
            self.write(now, net);
        } else {
            // The server hears of a stream from its first frame: a request's.
            let streams = net.end(Side::Router).tunnel.streams();
            if streams.finish(id).is_err() {
                net.ledger.fault(format_args!("{id}: can't be finished"));
            }
        }
    }

    fn byte(at: u64) -> u8 {
        (at ^ (at >> 8) ^ (at >> 16)) as u8
    }

    fn write(&mut self, now: Time, net: &mut Net) {
        let Some(id) = self.id else { return };
        let end = net.end(self.from);
        let at = end.clock(now);
        end.tunnel.touch(at);
        let mut chunk = [0; CHUNK];
        while self.written < self.total {
            let wanted = (self.total - self.written).min(CHUNK as u64) as usize;
            for (offset, byte) in chunk[..wanted].iter_mut().enumerate() {
                *byte = Self::byte(self.written + offset as u64);
            }
            let Ok(count) = end.tunnel.streams().write(id, &chunk[..wanted]) else {
                net.ledger.fault(format_args!("{id}: can't be written"));
                return;
            };
            self.written += count as u64;
            if count < wanted {
                return;
            }
        }
        if end.tunnel.streams().finish(id).is_err() {
            net.ledger.fault(format_args!("{id}: can't be finished"));
        }
    }

    fn read(&mut self, now: Time, net: &mut Net) {
        let Some(id) = self.id else { return };
        if now >= self.pause.0 && now < self.pause.1 {
            self.put_off = true;
            return;
        }
        let end = net.end(self.from.other());
        let at = end.clock(now);
        end.tunnel.touch(at);
        let mut chunk = [0; CHUNK];
        loop {
            match end.tunnel.streams().read(id, &mut chunk) {
                Ok(Read::Data(count)) => {
                    let from = self.read;
                    let good = chunk[..count]
                        .iter()
                        .enumerate()
                        .all(|(offset, &byte)| byte == Self::byte(from + offset as u64));
                    if !good {
                        net.ledger.fault(format_args!("{id}: wrong bytes at {from}"));
                        return;
                    }
                    self.read += count as u64;
                    self.arrivals.add(now, count as u32);
                }
                Ok(Read::Blocked) => return,
                Ok(Read::Finished) => {
                    self.finished = true;
                    if self.read != self.total {
                        net.ledger.fault(format_args!("{id}: ends at {}", self.read));
                    }
                    return;
                }
                Err(error) => {
                    net.ledger.fault(format_args!("{id}: {error}"));
                    return;
                }
            }
        }
    }

    pub(super) fn event(&mut self, now: Time, side: Side, event: StreamEvent, net: &mut Net) {
        let Some(own) = self.id else { return };
        match event {
            StreamEvent::Opened(id) if id == own => {
                if self.from == Side::Server {
                    // Reads the request's end, so that this direction is done.
                    let streams = net.end(Side::Server).tunnel.streams();
                    let _ = streams.read(id, &mut [0; 1]);
                    self.write(now, net);
                } else {
                    self.read(now, net);
                    let _ = net.end(Side::Server).tunnel.streams().finish(id);
                }
            }
            StreamEvent::Writable(id) if id == own && side == self.from => self.write(now, net),
            StreamEvent::Readable(id) if id == own => {
                if side == self.from {
                    let streams = net.end(side).tunnel.streams();
                    let _ = streams.read(id, &mut [0; 1]);
                } else {
                    self.read(now, net);
                }
            }
            StreamEvent::Closed(id) if id == own => self.closed[side.index()] = true,
            StreamEvent::Reset(id, _) | StreamEvent::Stopped(id, _) if id == own => {
                net.ledger.fault(format_args!("{id}: cut off"));
            }
            _ => {}
        }
    }
}
