//! The largest datagram that a path carries (DPLPMTUD, RFC 8899).
//!
//! Starts with what every IPv6 link must carry, tries what the WAN's own link would take, and
//! searches between the two if that is lost. Losing only large datagrams brings it back to the
//! start.

use std::time::Duration;

use crate::Time;

/// UDP payload that passes everywhere: 1280 bytes less IPv6 and UDP headers (RFC 8200 §5).
pub const LEAST_DATAGRAM: u16 = 1232;
/// Tries of one size.
const TRIES: u8 = 3;
/// The search ends when it is this exact.
const STEP: u16 = 8;
/// A lost try is repeated after this long.
const RETRY: Duration = Duration::from_millis(300);
/// A search that ended below the link's size is begun again, since ways change (RFC 8899 §5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Large datagrams lost without one in between arriving, after which the size is doubted.
const BLACK_HOLE: u32 = 6;

/// One path's datagram size.
#[derive(Debug)]
pub(super) struct PathMtu {
    /// Known to pass.
    size: u16,
    /// Known not to.
    above: u16,
    most: u16,
    tries: u8,
    next_try: Time,
    lost_large: u32,
}

impl PathMtu {
    /// `most`: what the link would take, bytes of UDP payload.
    pub(super) fn new(most: u16) -> Self {
        let most = most.max(LEAST_DATAGRAM);
        Self {
            size: LEAST_DATAGRAM,
            above: most + 1,
            most,
            tries: 0,
            next_try: Time::ZERO,
            lost_large: 0,
        }
    }

    /// Bytes of UDP payload that may be sent.
    pub(super) const fn size(&self) -> u16 {
        self.size
    }

    /// The size to be tried now, if any.
    pub(super) fn next_trial(&mut self, now: Time) -> Option<u16> {
        if now < self.next_try {
            return None;
        }
        if self.above - self.size <= STEP && self.above <= self.most {
            // The end of the search; from the top again, after a while.
            self.above = self.most + 1;
            self.tries = 0;
            self.next_try = now + RAISE_AFTER;
            return None;
        }
        if self.size >= self.most {
            return None;
        }
        self.next_try = now + RETRY;
        self.tries += 1;
        if self.tries > TRIES {
            self.above = self.wanted();
            self.tries = 1;
        }
        Some(self.wanted())
    }

    fn wanted(&self) -> u16 {
        if self.above > self.most { self.most } else { self.size + (self.above - self.size) / 2 }
    }

    /// A datagram of `size` bytes arrived.
    pub(super) fn passed(&mut self, now: Time, size: u16) {
        if size > self.size {
            self.size = size;
            if size >= self.above {
                // It was lost before by chance, or the way is another now.
                self.above = self.most + 1;
            }
            self.tries = 0;
            self.next_try = now;
        }
        self.lost_large = 0;
    }

    /// Of the datagrams larger than [`LEAST_DATAGRAM`], `lost` got lost, and some arrived or none.
    pub(super) fn count(&mut self, arrived: bool, lost: u32) {
        if arrived {
            self.lost_large = 0;
        } else {
            self.lost_large += lost;
            if self.lost_large >= BLACK_HOLE && self.size > LEAST_DATAGRAM {
                self.above = self.size;
                self.size = LEAST_DATAGRAM;
                self.lost_large = 0;
                self.tries = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(limit: u16) -> u16 {
        let mut mtu = PathMtu::new(1472);
        let mut now = Time::ZERO;
        for _ in 0..100 {
            if let Some(size) = mtu.next_trial(now)
                && size <= limit
            {
                mtu.passed(now, size);
            }
            now += Duration::from_millis(100);
        }
        mtu.size()
    }

    #[test]
    fn finds_what_passes() {
        assert_eq!(search(1472), 1472);
        assert_eq!(search(9000), 1472);
        for limit in [1464, 1400, 1300, 1233] {
            let found = search(limit);
            assert!(found <= limit && limit - found <= STEP, "{limit}: {found}");
        }
    }

    #[test]
    fn a_black_hole_is_left() {
        let mut mtu = PathMtu::new(1472);
        mtu.passed(Time::ZERO, 1472);
        mtu.count(false, 5);
        mtu.count(true, 0);
        mtu.count(false, 5);
        assert_eq!(mtu.size(), 1472);
        mtu.count(false, 1);
        assert_eq!(mtu.size(), LEAST_DATAGRAM);
    }
}
