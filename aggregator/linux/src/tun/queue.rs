//! Reading from the device and writing to it.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::coalesce::{Bundle, Coalescer, Headers, MAX_BUNDLE};
use super::device::Offloads;
use super::segment::{SegmentError, segment};
use super::vnet::VnetHeader;

/// One way into a TUN device and out of it. All methods take `&self`: reading and writing may go on
/// in different tasks.
#[derive(Debug)]
pub struct TunQueue {
    file: AsyncFd<File>,
    offloads: Offloads,
}

/// Room for what one read returns. To be kept and used again.
pub struct RecvBuffer(Box<[u8]>);

/// In front of the header, so that IP addresses and most else is aligned.
const PAD: usize = 2;
const MAX_PACKET: usize = 65_535;

impl RecvBuffer {
    /// 64 KiB and a little.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; PAD + VnetHeader::LEN + MAX_PACKET].into_boxed_slice())
    }
}

impl Default for RecvBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// What one read gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// How many packets went to the sink. More than one: the kernel left the cutting to us.
    pub packets: usize,
    /// How many bytes were read, after the header.
    pub bytes: usize,
    /// Why what was read was dropped.
    pub dropped: Option<SegmentError>,
}

/// What became of packets to be written.
#[derive(Debug, Default)]
pub struct Sent {
    /// How many the kernel took.
    pub packets: usize,
    /// How many bytes these had.
    pub bytes: usize,
    /// In how many system calls.
    pub writes: usize,
    /// How many the kernel did not take. They are lost, as packets may be.
    pub failed: usize,
    /// Why, of the last that failed.
    pub error: Option<io::Error>,
}

impl TunQueue {
    pub(super) fn new(file: File, offloads: Offloads) -> io::Result<Self> {
        // SAFETY: a `File` owns its descriptor, and always returns the same one. It is neither
        // closed nor replaced while in here: we only ever borrow it.
        let file = unsafe { AsyncFd::register(file)? };
        Ok(Self { file, offloads })
    }

    /// What the kernel leaves to us and takes from us.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Waits for packets to read, then reads once, as [`Self::try_recv`]. Dropped before it has
    /// resolved, it loses nothing.
    ///
    /// # Errors
    /// The device has been removed, and has to be opened again.
    pub async fn recv(
        &self,
        buffer: &mut RecvBuffer,
        mut sink: impl FnMut(&[u8]),
    ) -> io::Result<Received> {
        loop {
            // That a device is gone shows as an error alone; so does that it is not up yet.
            let mut ready = self.file.ready(Interest::READABLE | Interest::ERROR).await?;
            match self.try_recv(buffer, &mut sink) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                result => {
                    ready.retain_ready();
                    return result;
                }
            }
        }
    }

    /// Reads once and hands what was read to `sink`, packet by packet, each whole and with its
    /// checksums. At most 64 KiB, which is 45 packets of full size.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) if there is nothing. Anything else means that the
    /// device has been removed, and has to be opened again.
    pub fn try_recv(
        &self,
        buffer: &mut RecvBuffer,
        sink: impl FnMut(&[u8]),
    ) -> io::Result<Received> {
        let skip = if self.offloads.header { PAD } else { PAD + VnetHeader::LEN };
        let room = &mut buffer.0[skip..];
        let length = self.file.get_ref().read(&mut *room)?;
        let read = &mut room[..length];
        if !self.offloads.header {
            return Ok(received(read.len(), segment(VnetHeader::default(), read, sink)));
        }
        let Some((header, packet)) = read.split_first_chunk_mut::<{ VnetHeader::LEN }>() else {
            return Ok(received(0, Err(SegmentError::Empty)));
        };
        let count = VnetHeader::decode(header).and_then(|header| segment(header, packet, sink));
        Ok(received(packet.len(), count))
    }

    /// Gives packets to the kernel, in as few system calls as it allows: packets of one flow that
    /// follow each other are written as one, even with others in between. Give it all that there
    /// is at a time; nothing is held back for later.
    ///
    /// Never blocks: a TUN device takes what it can at once and drops the rest.
    pub fn send<'a>(&self, packets: impl IntoIterator<Item = &'a [u8]>) -> Sent {
        let mut sent = Sent::default();
        if !self.offloads.tcp {
            for packet in packets {
                self.write_plain(packet, &mut sent);
            }
            return sent;
        }
        let mut coalescer = Coalescer::new(self.offloads.tcp, self.offloads.udp);
        let mut write = |bundle: &Bundle<'a>| self.write_bundle(bundle, &mut sent);
        for packet in packets {
            coalescer.push(packet, &mut write);
        }
        coalescer.flush(&mut write);
        sent
    }

    fn write_bundle(&self, bundle: &Bundle<'_>, sent: &mut Sent) {
        let mut headers = Headers::default();
        if let Some((header, joined)) = bundle.joined(&mut headers) {
            let header = header.encode();
            let mut parts = [IoSlice::new(&[]); MAX_BUNDLE + 2];
            parts[0] = IoSlice::new(&header);
            parts[1] = IoSlice::new(joined);
            for (part, payload) in parts[2..].iter_mut().zip(bundle.payloads()) {
                *part = IoSlice::new(payload);
            }
            let count = bundle.packets().len();
            if self.write(&parts[..count + 2]).is_ok() {
                sent.packets += count;
                sent.bytes += bundle.packets().iter().map(|packet| packet.len()).sum::<usize>();
                sent.writes += 1;
                return;
            }
            // Joined or not, the kernel may not like them; then it says so of each.
        }
        for packet in bundle.packets() {
            self.write_plain(packet, sent);
        }
    }

    fn write_plain(&self, packet: &[u8], sent: &mut Sent) {
        let header = [0; VnetHeader::LEN];
        let parts = [IoSlice::new(&header), IoSlice::new(packet)];
        sent.writes += 1;
        match self.write(&parts[usize::from(!self.offloads.header)..]) {
            Ok(()) => {
                sent.packets += 1;
                sent.bytes += packet.len();
            }
            Err(error) => {
                sent.failed += 1;
                sent.error = Some(error);
            }
        }
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        // One packet is written whole or not at all.
        self.file.get_ref().write_vectored(parts).map(|_| ())
    }
}

impl AsFd for TunQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.get_ref().as_fd()
    }
}

impl AsRawFd for TunQueue {
    fn as_raw_fd(&self) -> RawFd {
        self.file.get_ref().as_raw_fd()
    }
}

fn received(bytes: usize, count: Result<usize, SegmentError>) -> Received {
    match count {
        Ok(packets) => Received { packets, bytes, dropped: None },
        Err(error) => Received { packets: 0, bytes, dropped: Some(error) },
    }
}
