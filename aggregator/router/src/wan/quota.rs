//! What a WAN has carried in its billing month. Days are UTC.

/// Days since 1970-01-01.
pub(crate) type Day = i64;

/// Shares of the quota, in percent, at which people are told.
pub(crate) const TOLD_AT: [u8; 3] = [75, 90, 100];

/// Before this day the clock has not been set yet: 2025-01-01.
pub(crate) const EARLIEST: Day = 20_089;

/// Bytes carried in a billing month.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// When the month began; 0 as long as that is not known.
    pub(crate) since: Day,
    pub(crate) used: u64,
    /// What was told last, in percent.
    pub(crate) told: u8,
}

impl Ledger {
    /// Adds what was carried up to `today`, by the system's clock. Gives the share, in percent, that
    /// people are to be told of.
    pub(crate) fn add(
        &mut self,
        today: Day,
        billing_day: u8,
        bytes: u64,
        limit: u64,
    ) -> Option<u8> {
        // Many routers wake up in 1970, or at the day their firmware was made.
        if today >= EARLIEST {
            let month = month_of(today, billing_day);
            if month > self.since {
                if self.since != 0 {
                    (self.used, self.told) = (0, 0);
                }
                self.since = month;
            }
        }
        self.used = self.used.saturating_add(bytes);
        let share = u128::from(self.used) * 100 / u128::from(limit.max(1));
        let reached = TOLD_AT.into_iter().rfind(|at| share >= u128::from(*at));
        let news = reached.filter(|at| *at > self.told);
        self.told = reached.unwrap_or(0);
        news
    }

    /// Whether it has carried all that it may.
    pub(crate) fn is_exhausted(&self, limit: u64) -> bool {
        self.used >= limit
    }
}

/// The day on which the billing month that holds `day` began.
fn month_of(day: Day, billing_day: u8) -> Day {
    let (year, month, _) = civil(day);
    let begin = |year: i64, month: i64| {
        let length = first_of(year, month + 1) - first_of(year, month);
        first_of(year, month) + i64::from(billing_day).clamp(1, length) - 1
    };
    let this = begin(year, month);
    if day >= this { this } else { begin(year, month - 1) }
}

/// The first day of a month; months beyond 1 to 12 belong to the years beside.
fn first_of(year: i64, month: i64) -> Day {
    let (year, month) = (year + (month - 1).div_euclid(12), (month - 1).rem_euclid(12) + 1);
    // Years that begin in March end with the leap day.
    let shifted = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of the month.
fn civil(day: Day) -> (i64, i64, i64) {
    // An average year is a little longer than this, so it is never too late.
    let mut year = 1970 + day / 366;
    while first_of(year + 1, 1) <= day {
        year += 1;
    }
    let mut month = 1;
    while first_of(year, month + 1) <= day {
        month += 1;
    }
    (year, month, day - first_of(year, month) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (date, day) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2025, 1, 1), EARLIEST),
            ((2026, 11, 21), 20_778),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(civil(day), date);
            assert_eq!(first_of(date.0, date.1) + date.2 - 1, day);
        }
    }

    #[test]
    fn months_begin_on_the_billing_day() {
        let month = |day: Day, billing| civil(month_of(day, billing));
        assert_eq!(month(20_778, 14), (2026, 11, 14));
        assert_eq!(month(20_778, 22), (2026, 10, 22));
        assert_eq!(month(20_778, 21), (2026, 11, 21));
        // In February, the last day.
        let march_second = first_of(2026, 3) + 1;
        assert_eq!(month(march_second, 31), (2026, 2, 28));
        assert_eq!(month(first_of(2026, 1), 2), (2025, 12, 2));
    }

    #[test]
    fn people_are_told_once_and_a_new_month_begins_anew() {
        let mut ledger = Ledger::default();
        let day = first_of(2026, 5) + 3;
        assert_eq!(ledger.add(day, 1, 74, 100), None);
        assert_eq!(ledger.add(day, 1, 1, 100), Some(75));
        assert_eq!(ledger.add(day, 1, 1, 100), None);
        assert_eq!(ledger.add(day, 1, 30, 100), Some(100));
        assert!(ledger.is_exhausted(100));
        // A larger quota may be bought.
        assert_eq!(ledger.add(day, 1, 0, 1000), None);
        assert!(!ledger.is_exhausted(1000));
        assert_eq!(ledger.add(day + 31, 1, 7, 100), None);
        assert_eq!(ledger, Ledger { since: first_of(2026, 6), used: 7, told: 0 });
    }

    #[test]
    fn a_clock_that_is_not_set_ends_no_month() {
        let mut ledger = Ledger { since: first_of(2026, 5), used: 5, told: 0 };
        ledger.add(3, 1, 1, 100);
        assert_eq!((ledger.since, ledger.used), (first_of(2026, 5), 6));
        // What was carried before the first clock is of this month.
        let mut ledger = Ledger::default();
        ledger.add(3, 1, 1, 100);
        ledger.add(first_of(2026, 5), 1, 1, 100);
        assert_eq!(ledger.used, 2);
    }
}
