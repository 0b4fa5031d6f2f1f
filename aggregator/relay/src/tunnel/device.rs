//! The tunnel's TUN device, at either end.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, warn};
use wanbond_linux::processor::sleeps_are_short;
use wanbond_linux::tun::{RecvBuffer, Tun, TunError, TunOptions, TunQueue};
use wanbond_linux::tunnel::DEVICE;

use super::gather::{GATHER, Gathering};

/// Bytes that are read from the device before they are handed over.
pub(super) const BATCH: usize = 128 * 1024;

/// Opens the device.
///
/// # Errors
/// [`TunError`] says what to do.
pub fn open() -> Result<Arc<TunQueue>, TunError> {
    let device = Tun::open(DEVICE, &TunOptions::default())?;
    debug!(offloads = ?device.offloads(), "tunnel device");
    let queue = device.into_queues().into_iter().next();
    Ok(Arc::new(queue.expect("a device has at least one queue")))
}

/// Packets that were read together.
#[derive(Debug, Default)]
pub struct PacketBatch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl PacketBatch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, packet: &[u8]) {
        self.bytes.extend_from_slice(packet);
        self.ends.push(self.bytes.len());
    }

    /// The packets, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }
}

/// Reads the device for as long as it is there, and hands what was read to `each`.
pub async fn read_packets(queue: &TunQueue, mut each: impl FnMut(&PacketBatch)) {
    let mut buffer = RecvBuffer::new();
    let mut batch = PacketBatch::default();
    let mut gathering = sleeps_are_short().then(|| Gathering::new(Instant::now()));
    loop {
        batch.clear();
        let mut reads = 0;
        let mut received = queue.recv(&mut buffer, |packet| batch.push(packet)).await;
        loop {
            match received {
                Ok(received) => {
                    if let Some(error) = received.dropped {
                        debug!(%error, "packet from the tunnel device dropped");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    warn!(%error, "the tunnel device is gone");
                    return;
                }
            }
            reads += 1;
            if batch.bytes.len() >= BATCH {
                break;
            }
            received = queue.try_recv(&mut buffer, |packet| batch.push(packet));
        }
        if !batch.ends.is_empty() {
            each(&batch);
        }
        if let Some(gathering) = &mut gathering
            && gathering.is_worth_it(Instant::now(), reads)
            && batch.bytes.len() < BATCH
        {
            // The thread and not only the task: while it waited for events, each packet would wake it.
            std::thread::sleep(GATHER);
        }
        // Others have work too, however much comes in.
        tokio::task::yield_now().await;
    }
}

/// Puts packets into the device.
pub fn write_packets<'a>(queue: &TunQueue, packets: impl Iterator<Item = &'a [u8]>) {
    let sent = queue.send(packets);
    if let Some(error) = sent.error {
        debug!(failed = sent.failed, %error, "packets not taken by the tunnel device");
    }
}
