//! A TCP connection that carries datagrams, where UDP is blocked: the last resort, as one lost
//! segment holds up all that follows.

use crate::boxed;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tracing::trace;
use wanbond_proto::lane::{HEAD_LEN, datagram_head};

/// Bytes that wait for the connection. Beyond them datagrams are dropped, as a full link does: what
/// waits here is late, and the tunnel can't take it back.
const MOST_WAITING: usize = 64 * 1024;

/// The sending side of a connection that carries datagrams. Who reads the other side sees to it that
/// the connection goes once it is broken.
pub struct TcpEnd {
    stream: Arc<TcpStream>,
    waiting: Mutex<Waiting>,
    wanted: Arc<Notify>,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Of those, bytes that the kernel has taken.
    written: usize,
}

impl Waiting {
    fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Writes what the kernel takes. `false` if the connection is broken.
    fn write(&mut self, stream: &TcpStream) -> bool {
        while self.len() > 0 {
            match stream.try_write(&self.bytes[self.written..]) {
                Ok(n) => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    trace!(%error, "datagrams over TCP");
                    self.bytes.clear();
                    self.written = 0;
                    return false;
                }
            }
        }
        if self.len() == 0 || self.written > MOST_WAITING {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
        true
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // What it guards stays valid after any panic.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TcpEnd {
    /// Sends over `stream` from now on. A task writes what the kernel does not take at once; it ends
    /// with the last reference to this.
    #[must_use]
    pub fn start(stream: Arc<TcpStream>) -> Arc<Self> {
        let end =
            Arc::new(Self { stream, waiting: Mutex::default(), wanted: Arc::new(Notify::new()) });
        tokio::spawn(boxed(write_waiting(Arc::downgrade(&end), Arc::clone(&end.wanted))));
        end
    }

    /// Sends `contents`, datagrams of `segment` bytes each (the last may be shorter). `false` if one
    /// was dropped.
    pub fn send(&self, contents: &[u8], segment: Option<usize>) -> bool {
        let mut waiting = lock(&self.waiting);
        let had = waiting.len();
        let mut all = true;
        for datagram in contents.chunks(segment.unwrap_or(contents.len()).max(1)) {
            let room = waiting.len() + HEAD_LEN + datagram.len() <= MOST_WAITING;
            let Some(head) = datagram_head(datagram.len()).filter(|_| room) else {
                all = false;
                continue;
            };
            waiting.bytes.extend_from_slice(&head);
            waiting.bytes.extend_from_slice(datagram);
        }
        if had > 0 {
            // The task is at it.
            return all;
        }
        let works = waiting.write(&self.stream);
        let left = waiting.len() > 0;
        drop(waiting);
        if left {
            self.wanted.notify_one();
        }
        all && works
    }
}

impl Drop for TcpEnd {
    fn drop(&mut self) {
        self.wanted.notify_one();
    }
}

async fn write_waiting(end: Weak<TcpEnd>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let Some(stream) = end.upgrade().map(|end| Arc::clone(&end.stream)) else { return };
        loop {
            if stream.writable().await.is_err() {
                return;
            }
            let Some(end) = end.upgrade() else { return };
            let mut waiting = lock(&end.waiting);
            if !waiting.write(&stream) {
                return;
            }
            if waiting.len() == 0 {
                break;
            }
        }
    }
}
