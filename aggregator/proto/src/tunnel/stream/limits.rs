//! How much memory streams may take.

/// What a stream's window is until the reader's end says more, bytes. No pressure makes it less.
pub(super) const LEAST_STREAM_WINDOW: u64 = 64 * 1024;
/// How far the peer may go on all streams together before it has heard this end's limits, bytes.
pub(super) const LEAST_SESSION_WINDOW: u64 = 256 * 1024;
/// How many streams may be open by then.
pub(super) const LEAST_STREAMS: u32 = 64;

/// Bytes never sent of one stream are at most what the paths carry together in a second, by this…
pub(super) const UNSENT_SHARE: u64 = 10;
/// … but not less than this: a writer that is woken when half of it is gone keeps a new session going.
pub(super) const LEAST_UNSENT: u64 = 32 * 1024;

const MIB: u64 = 1024 * 1024;

/// Limits of one end, in bytes unless said otherwise. The peer learns those that concern it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Written bytes of one stream that are not acknowledged.
    pub send_buffer: u64,
    /// Of those, the bytes that were never sent: little, so that what the application writes next
    /// doesn't stand in a long queue (as `TCP_NOTSENT_LOWAT` does). Less where the paths are slow.
    pub unsent_buffer: u64,
    /// Written bytes of all streams together that are not acknowledged.
    pub session_send_buffer: u64,
    /// How far the peer may be ahead of a new stream's reader.
    pub stream_window_initial: u64,
    /// What that may grow to.
    pub stream_window_max: u64,
    /// How far the peer may be ahead of all readers together: what received data takes at most.
    pub session_window_max: u64,
    /// Streams at once.
    pub streams: u32,
    /// Free memory kept for the next data.
    pub spare_memory: usize,
}

impl StreamLimits {
    /// For a router of 128 MB: at most 32 MB, both directions, when everything stalls.
    pub const ROUTER: Self = Self {
        send_buffer: 8 * MIB,
        unsent_buffer: MIB / 4,
        session_send_buffer: 16 * MIB,
        stream_window_initial: MIB / 2,
        stream_window_max: 8 * MIB,
        session_window_max: 16 * MIB,
        streams: 4096,
        spare_memory: 1024 * 1024,
    };

    /// For a server: more for a router that is fast and far away.
    pub const SERVER: Self = Self {
        send_buffer: 16 * MIB,
        session_send_buffer: 32 * MIB,
        stream_window_max: 16 * MIB,
        session_window_max: 32 * MIB,
        ..Self::ROUTER
    };

    /// The same, with nothing below what the protocol promises the peer.
    pub(super) fn sane(mut self) -> Self {
        self.send_buffer = self.send_buffer.max(1);
        self.unsent_buffer = self.unsent_buffer.max(1);
        self.session_send_buffer = self.session_send_buffer.max(1);
        self.stream_window_initial = self.stream_window_initial.max(LEAST_STREAM_WINDOW);
        self.stream_window_max = self.stream_window_max.max(self.stream_window_initial);
        self.session_window_max = self.session_window_max.max(LEAST_SESSION_WINDOW);
        self.streams = self.streams.max(LEAST_STREAMS);
        self
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self::ROUTER
    }
}
