//! The tunnel's streams as what tasks read from and write to.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use wanbond_proto::tunnel::stream::{OpenError, Read, StreamError, StreamEvent, StreamId};
use wanbond_proto::tunnel::{Tunnel, TunnelEvent};

use super::{TunnelDriver, lock};

/// Which stream code means that an end is through with it: there is only this one.
const DROPPED: u8 = 0;

/// Who waits for a stream.
#[derive(Debug)]
struct Waiting {
    readable: bool,
    writable: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The streams in use at this end.
#[derive(Debug, Default)]
pub(super) struct StreamTable {
    waiting: HashMap<StreamId, Waiting>,
}

/// What the streams' events call for, once the tunnel's lock is free.
#[derive(Debug, Default)]
pub(super) struct Wake {
    wakers: Vec<Waker>,
    /// Streams that the other end has opened.
    pub opened: Vec<StreamId>,
    /// What the tunnel has noticed beside.
    pub noticed: Vec<TunnelEvent>,
}

impl Wake {
    pub(super) fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

impl StreamTable {
    pub(super) fn add(&mut self, id: StreamId) {
        let waiting = Waiting { readable: true, writable: true, reader: None, writer: None };
        self.waiting.insert(id, waiting);
    }

    /// Takes the streams' events.
    pub(super) fn follow(&mut self, tunnel: &mut Tunnel, wake: &mut Wake) {
        let streams = tunnel.streams();
        while let Some(event) = streams.poll_event() {
            let (id, read, write) = match event {
                StreamEvent::Opened(_) => {
                    while let Some(id) = streams.accept() {
                        self.add(id);
                        wake.opened.push(id);
                    }
                    continue;
                }
                StreamEvent::Openable => continue,
                StreamEvent::Readable(id) => (id, true, false),
                StreamEvent::Writable(id) => (id, false, true),
                StreamEvent::Finished(id)
                | StreamEvent::Reset(id, _)
                | StreamEvent::Stopped(id, _)
                | StreamEvent::Closed(id) => (id, true, true),
            };
            let Some(waiting) = self.waiting.get_mut(&id) else { continue };
            waiting.readable |= read;
            waiting.writable |= write;
            if read {
                wake.wakers.extend(waiting.reader.take());
            }
            if write {
                wake.wakers.extend(waiting.writer.take());
            }
        }
    }
}

/// A stream of the tunnel. Dropped without [`TunnelStream::finish`], it is cut off.
pub struct TunnelStream {
    driver: Arc<TunnelDriver>,
    id: StreamId,
}

impl TunnelDriver {
    /// Opens a stream to the server.
    ///
    /// # Errors
    /// As many are open as there may be.
    pub fn open_stream(self: &Arc<Self>) -> io::Result<TunnelStream> {
        let mut core = lock(&self.core);
        let id = core.tunnel.streams().open().map_err(|error| match error {
            OpenError::Blocked => io::Error::new(io::ErrorKind::QuotaExceeded, error),
            OpenError::Exhausted | OpenError::Server => io::Error::other(error),
        })?;
        core.streams.add(id);
        drop(core);
        Ok(TunnelStream { driver: Arc::clone(self), id })
    }

    pub(super) fn stream(self: &Arc<Self>, id: StreamId) -> TunnelStream {
        TunnelStream { driver: Arc::clone(self), id }
    }
}

impl TunnelStream {
    /// What is written is all; once the peer has it, it sees the end.
    pub fn finish(&self) {
        let now = self.driver.clock.now();
        let mut core = lock(&self.driver.core);
        // Refused only for a stream that has ended anyway.
        let _ = core.tunnel.streams().finish(self.id);
        core.tunnel.touch(now);
        drop(core);
        self.driver.pump();
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let now = self.driver.clock.now();
        let mut core = lock(&self.driver.core);
        let read = core.tunnel.streams().read(self.id, buffer);
        if matches!(read, Ok(Read::Blocked))
            && let Some(waiting) = core.streams.waiting.get_mut(&self.id)
        {
            waiting.readable = false;
        }
        let news = core.tunnel.streams().has_pending();
        if news {
            core.tunnel.touch(now);
        }
        drop(core);
        if news {
            // A window has opened.
            self.driver.pump();
        }
        match read {
            Ok(Read::Data(n)) => Ok(n),
            Ok(Read::Blocked) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(Read::Finished) => Ok(0),
            Err(error) => Err(broken(error)),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let now = self.driver.clock.now();
        let mut core = lock(&self.driver.core);
        let written = core.tunnel.streams().write(self.id, bytes);
        if let Ok(n) = written
            && n < bytes.len()
            && let Some(waiting) = core.streams.waiting.get_mut(&self.id)
        {
            waiting.writable = false;
        }
        core.tunnel.touch(now);
        drop(core);
        match written {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            Ok(n) => {
                self.driver.pump();
                Ok(n)
            }
            Err(error) => Err(broken(error)),
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(|waiting| (waiting.readable, &mut waiting.reader), cx)
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(|waiting| (waiting.writable, &mut waiting.writer), cx)
    }

    fn poll_ready(
        &self,
        side: impl FnOnce(&mut Waiting) -> (bool, &mut Option<Waker>),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut core = lock(&self.driver.core);
        let Some(waiting) = core.streams.waiting.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let (ready, waker) = side(waiting);
        if ready {
            return Poll::Ready(Ok(()));
        }
        match waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

fn broken(error: StreamError) -> io::Error {
    let kind = match error {
        StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
        StreamError::Stopped(_) | StreamError::Finished => io::ErrorKind::BrokenPipe,
        StreamError::Closed => io::ErrorKind::NotConnected,
    };
    io::Error::new(kind, error)
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let now = self.driver.clock.now();
        let mut core = lock(&self.driver.core);
        core.streams.waiting.remove(&self.id);
        core.tunnel.streams().close(self.id, DROPPED);
        core.tunnel.touch(now);
        drop(core);
        self.driver.pump();
    }
}
