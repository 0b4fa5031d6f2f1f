//! Receive windows: how much the peer may send ahead of the reader, grown to what the path needs.

use std::time::Duration;

use crate::Time;

/// The time and the round trip, as the machine last told them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    pub(super) now: Time,
    /// Zero: not known yet.
    pub(super) srtt: Duration,
}

/// How far the peer may go on one stream.
#[derive(Debug)]
pub(super) struct Window {
    /// The greatest limit ever told to the peer.
    pub(super) max: u64,
    /// How far ahead of the reader the peer may be.
    size: u64,
    /// When the reader was at `mark`.
    since: Time,
    mark: u64,
}

impl Window {
    /// A window of `size`, of which the peer knows as far as `max`.
    pub(super) fn new(size: u64, max: u64, clock: Clock) -> Self {
        Self { max, size, since: clock.now, mark: 0 }
    }

    /// The reader is at `read`, with `unread` bytes waiting for it. Doubles the window, up to
    /// `most`, if half of it went through in about one round trip: the sender may then be waiting
    /// for us. A reader that lets more than a quarter lie would only have more lie there.
    pub(super) fn grow(&mut self, read: u64, unread: u64, most: u64, clock: Clock) {
        if read - self.mark < self.size / 2 {
            return;
        }
        let quick = clock.now.since(self.since) < clock.srtt * 3 / 2;
        if quick && unread <= self.size / 4 {
            self.size = (self.size * 2).min(most).max(self.size);
        }
        self.mark = read;
        self.since = clock.now;
    }

    /// The limit to tell the peer, if it differs enough from the last: by a quarter of the window.
    /// At most `cap` bytes beyond `read`.
    pub(super) fn offer(&self, read: u64, cap: u64) -> Option<u64> {
        let ahead = self.size.min(cap);
        let limit = read + ahead;
        (limit >= self.max + ahead / 4 && limit > self.max).then_some(limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_only_for_a_reader_that_keeps_up_with_a_fast_path() {
        let clock = |ms| Clock { now: Time::from_millis(ms), srtt: Duration::from_millis(40) };
        let mut window = Window::new(1000, 1000, clock(0));
        window.grow(499, 0, 10_000, clock(1));
        assert_eq!(window.size, 1000, "not half of it yet");
        window.grow(500, 0, 10_000, clock(40));
        assert_eq!(window.size, 2000);
        window.grow(1500, 0, 10_000, clock(200));
        assert_eq!(window.size, 2000, "slow");
        window.grow(2500, 1500, 10_000, clock(210));
        assert_eq!(window.size, 2000, "the reader doesn't keep up");
        window.grow(3500, 100, 3000, clock(220));
        assert_eq!(window.size, 3000, "up to the limit");
    }

    #[test]
    fn an_offer_is_worth_its_frame() {
        let mut window = Window::new(1000, 1000, Clock::default());
        assert_eq!(window.offer(249, u64::MAX), None);
        assert_eq!(window.offer(250, u64::MAX), Some(1250));
        window.max = 1250;
        assert_eq!(window.offer(1250, 100), Some(1350));
        assert_eq!(window.offer(1000, 100), None, "never less than before");
    }
}
