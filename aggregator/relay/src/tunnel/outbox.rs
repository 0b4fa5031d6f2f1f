//! Datagrams on their way out: made by the tunnel, sealed, sent many at a time.

use std::sync::Mutex;

use wanbond_proto::Time;
use wanbond_proto::crypto::aead::TAG_LEN;
use wanbond_proto::datagram::{MAX_PATHS, PathId, TunnelSealer};
use wanbond_proto::tunnel::Tunnel;

use super::{PathSocket, lock};

/// Datagrams made under one lock of the tunnel: as many as one system call may send in all kernels
/// (`UDP_MAX_SEGMENTS`).
const BATCH: usize = 64;
/// No more are made once they have so many bytes.
const BATCH_BYTES: usize = 63_000;
/// Bytes that one system call may send: an IPv4 packet's, less its headers.
const MOST_BYTES: usize = 65_507;

#[derive(Clone, Copy)]
struct Piece {
    path: PathId,
    number: u64,
    start: usize,
    end: usize,
}

/// Buffers for datagrams going out, used again each time.
#[derive(Default)]
pub(super) struct Outbox {
    sealer: Option<TunnelSealer>,
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Outbox {
    pub(super) fn set_sealer(&mut self, sealer: TunnelSealer) {
        self.sealer = Some(sealer);
    }

    /// Has the tunnel make datagrams. `true` if it may have more.
    pub(super) fn fill(&mut self, now: Time, tunnel: &mut Tunnel) -> bool {
        self.bytes.clear();
        self.pieces.clear();
        if self.sealer.is_none() {
            return false;
        }
        while self.pieces.len() < BATCH && self.bytes.len() < BATCH_BYTES {
            let start = self.bytes.len();
            let Some(transmit) = tunnel.poll_transmit(now, &mut self.bytes) else { return false };
            // Room for the tag.
            self.bytes.resize(self.bytes.len() + TAG_LEN, 0);
            self.pieces.push(Piece {
                path: transmit.path,
                number: transmit.number,
                start,
                end: self.bytes.len(),
            });
        }
        true
    }

    /// Seals and sends them.
    pub(super) fn send(&mut self, paths: &Mutex<[Option<PathSocket>; MAX_PATHS]>) {
        let Some(sealer) = &mut self.sealer else { return };
        for piece in &self.pieces {
            let (datagram, tag) =
                self.bytes[piece.start..piece.end].split_at_mut(piece.end - piece.start - TAG_LEN);
            let mut sealed = [0; TAG_LEN];
            if !sealer.seal(piece.path, piece.number, datagram, &mut sealed) {
                tracing::error!(number = piece.number, "a datagram number came twice");
                self.pieces.clear();
                return;
            }
            tag.copy_from_slice(&sealed);
        }
        let mut rest = self.pieces.as_slice();
        while let Some(&first) = rest.first() {
            let size = first.end - first.start;
            let socket = lock(paths)[usize::from(first.path.number())].clone();
            let most = socket.as_ref().map_or(1, |socket| socket.most_segments());
            // Of one path and size, but for the last, which may be shorter.
            let mut count = 1;
            let mut end = first.end;
            for piece in rest.iter().skip(1).take(most.saturating_sub(1)) {
                let length = piece.end - piece.start;
                let too_many = piece.end - first.start > MOST_BYTES;
                if piece.path != first.path || length > size || too_many {
                    break;
                }
                count += 1;
                end = piece.end;
                if length < size {
                    break;
                }
            }
            if let Some(socket) = socket {
                let segment = (count > 1).then_some(size);
                let contents = &self.bytes[first.start..end];
                socket.send(contents, segment);
            }
            rest = &rest[count..];
        }
    }
}
