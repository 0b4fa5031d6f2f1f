//! What a young flow keeps, so that it can go on on another lane: all that was sent, to be sent again.

/// No more is sent until the router says that it has heard of the flow. A connection that has rested
/// sends about a third of that in its first round trip (RFC 6928, on each of two paths).
const MOST_KEPT: usize = 64 * 1024;
/// The router says so once it has this much.
pub(crate) const HEARD: usize = 16 * 1024;

/// What a lane that a flow has moved to brings a second time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Again {
    /// Payload bytes.
    pub bytes: usize,
    /// The end of that direction.
    pub fin: bool,
}

impl Again {
    /// Of a piece of data of this length that has come: from where on it is new.
    pub fn skip(&mut self, length: usize) -> usize {
        let again = length.min(self.bytes);
        self.bytes -= again;
        again
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Kept {
    sent: Vec<u8>,
    received: usize,
}

impl Kept {
    /// Of a flow that has received this many bytes.
    pub(crate) const fn new(received: usize) -> Self {
        Self { sent: Vec::new(), received }
    }

    /// All payload bytes sent so far.
    pub(crate) fn sent(&self) -> &[u8] {
        &self.sent
    }

    /// The same, to be kept on.
    pub(crate) fn into_sent(self) -> Vec<u8> {
        self.sent
    }

    /// How many payload bytes have come so far, on whatever lane.
    pub(crate) const fn received(&self) -> usize {
        self.received
    }

    /// How much more may be sent.
    pub(crate) const fn room(&self) -> usize {
        MOST_KEPT.saturating_sub(self.sent.len())
    }

    /// More was sent, at most [`Self::room`].
    pub(crate) fn note_sent(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
    }

    /// More has come, for the first time.
    pub(crate) const fn note_received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
    }
}
