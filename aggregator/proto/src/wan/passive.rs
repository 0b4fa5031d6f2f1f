//! What a WAN's device receives: that something comes in says that the WAN lives, and that nothing
//! comes in any more where much did is the earliest sign that it does not.

use std::time::Duration;

use crate::Time;

/// Looks further apart say nothing: the one who looks was held up.
const LATE: Duration = Duration::from_millis(120);
/// After so many looks in a row that saw something come in, traffic is steady.
const STEADY: u32 = 5;
/// Steady traffic that stops for so long is worth a question.
const QUIET_AFTER_STEADY: Duration = Duration::from_millis(75);
/// After so many signs in a row that the counter tells less than what comes in, it is not believed
/// for so long.
const CONTRADICTIONS: u32 = 3;
const DISTRUST: Duration = Duration::from_secs(30);

/// The packets that a device has received, looked at every now and then while traffic flows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Passive {
    last: Option<(Time, u64)>,
    moved_at: Time,
    streak: u32,
    /// Something has come for certain since the last look.
    heard: bool,
    contradictions: u32,
    distrusted_until: Time,
}

impl Passive {
    /// The device's count at `now`.
    pub(super) fn look(&mut self, now: Time, packets: u64) {
        let late = self.last.is_none_or(|(at, _)| now.since(at) > LATE);
        let moved = self.last.is_some_and(|(_, before)| before != packets);
        self.last = Some((now, packets));
        // Some drivers bring their counters up to date once in a while only. One contradiction may
        // be what came in just before the last look and was read after it.
        if std::mem::take(&mut self.heard) && !late {
            self.contradictions = if moved { 0 } else { self.contradictions + 1 };
            if self.contradictions >= CONTRADICTIONS {
                self.contradictions = 0;
                self.distrusted_until = now + DISTRUST;
                self.streak = 0;
            }
        }
        if late {
            self.moved_at = now;
            self.streak = 0;
        } else if moved {
            self.moved_at = now;
            self.streak = self.streak.saturating_add(1);
        } else if now.since(self.moved_at) >= QUIET_AFTER_STEADY && self.streak < STEADY {
            self.streak = 0;
        }
    }

    /// Nobody looks any more.
    pub(super) fn forget(&mut self) {
        self.last = None;
        self.streak = 0;
        self.heard = false;
    }

    /// Something has come for certain: the counter must have moved at the next look.
    pub(super) fn heard(&mut self) {
        self.heard = self.last.is_some();
    }

    /// For how long nothing has come in, as far as is known.
    pub(super) fn quiet(&self, now: Time) -> Option<Duration> {
        let (looked, _) = self.last?;
        let known = now >= self.distrusted_until && now.since(looked) <= LATE;
        known.then(|| looked.since(self.moved_at))
    }

    /// Whether traffic that came in steadily has stopped.
    pub(super) fn has_stopped(&self, now: Time) -> bool {
        self.streak >= STEADY && self.quiet(now).is_some_and(|quiet| quiet >= QUIET_AFTER_STEADY)
    }

    /// The pause is known to mean nothing.
    pub(super) fn explained(&mut self) {
        self.streak = 0;
    }
}
