//! What a tunnel may use.

use super::stream::StreamLimits;

/// What a tunnel may use.
#[derive(Debug, Clone, Copy)]
pub struct TunnelConfig {
    /// Bytes of packets that may wait to be sent.
    pub queue: usize,
    /// Bytes of packets kept for repair.
    pub repair: usize,
    /// Bytes of packets held back until those before them come.
    pub reorder: usize,
    /// What streams may use.
    pub streams: StreamLimits,
    /// Secret, so that nobody outside can make flows collide.
    pub seed: u64,
}

impl TunnelConfig {
    /// For a small router.
    #[must_use]
    pub fn small(seed: u64) -> Self {
        Self {
            queue: 4 << 20,
            repair: 4 << 20,
            reorder: 4 << 20,
            streams: StreamLimits::default(),
            seed,
        }
    }

    /// For a server: bounds for one of its routers, which a fast one may reach.
    #[must_use]
    pub fn large(seed: u64) -> Self {
        Self {
            queue: 16 << 20,
            repair: 16 << 20,
            reorder: 16 << 20,
            streams: StreamLimits::SERVER,
            seed,
        }
    }
}
