//! What a datagram's owner remembers of a stream frame in it.

use super::StreamId;

/// A frame that was sent: to be given back once it is acknowledged or lost.
///
/// Small, copyable, without any reference: a path keeps it beside the number of the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentFrame {
    /// Offset, limit, or number of the frame, as its kind needs.
    pub(super) value: u64,
    pub(super) stream: StreamId,
    /// Data bytes.
    pub(super) length: u16,
    pub(super) kind: Kind,
    /// How often the data was sent before.
    pub(super) copy: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    /// Data and the stream's end.
    DataEnd,
    Reset,
    Stop,
    Window,
    Session,
}

impl SentFrame {
    /// The stream it belongs to; `None` for the session's own frames.
    #[must_use]
    pub fn stream(&self) -> Option<StreamId> {
        (self.kind != Kind::Session).then_some(self.stream)
    }

    /// Bytes of stream data in it.
    #[must_use]
    pub fn data_len(&self) -> usize {
        self.length.into()
    }

    /// Whether its data was sent before.
    #[must_use]
    pub fn is_repeat(&self) -> bool {
        self.copy > 0
    }

    /// The stream's range that it carries, the end counted as one more byte.
    pub(super) fn range(&self) -> (u64, u64) {
        let end = self.value + u64::from(self.length);
        (self.value, end + u64::from(self.kind == Kind::DataEnd))
    }
}
