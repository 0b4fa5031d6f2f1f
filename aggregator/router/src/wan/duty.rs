//! From roles to what each WAN does now.

use wanbond_control::words::Role;

/// What a WAN does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Duty {
    /// Carries traffic.
    #[default]
    Active,
    /// Ready, and carries nothing.
    Standby,
    /// Not to be touched.
    Off,
}

/// What counts for a WAN's duty.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) role: Role,
    pub(crate) up: bool,
    /// It has carried all that it may this month.
    pub(crate) exhausted: bool,
}

impl Candidate {
    /// WANs of a lower rank go first; `None`: never.
    fn rank(self) -> Option<u8> {
        match self.role {
            Role::Off => None,
            _ if self.exhausted => Some(2),
            Role::Bond => Some(0),
            Role::Overflow => Some(1),
            Role::Backup => Some(2),
        }
    }
}

/// The duty of each WAN. `overflowing`: those that carry traffic are full.
pub(crate) fn assign(wans: &[Candidate], overflowing: bool) -> Vec<Duty> {
    let best = wans.iter().filter(|wan| wan.up).filter_map(|wan| wan.rank()).min();
    wans.iter()
        .map(|wan| match (wan.rank(), best) {
            (None, _) => Duty::Off,
            (Some(0), _) | (Some(_), None) => Duty::Active,
            (Some(rank), Some(best)) if rank <= best => Duty::Active,
            (Some(1), Some(_)) if overflowing => Duty::Active,
            (Some(_), Some(_)) => Duty::Standby,
        })
        .collect()
}

/// Looks, in a row, that found the WANs full before overflow is used.
const FULL_BEFORE: u32 = 2;
/// And that found them not full before it is left: what comes in bursts shall not flap.
const EASY_BEFORE: u32 = 10;

/// Whether overflow is used, from one look a second.
#[derive(Debug, Default)]
pub(crate) struct Overflow {
    pub(crate) on: bool,
    in_a_row: u32,
}

impl Overflow {
    /// Takes a look.
    pub(crate) fn look(&mut self, full: bool) {
        self.in_a_row = if full == self.on { 0 } else { self.in_a_row + 1 };
        if self.in_a_row >= if self.on { EASY_BEFORE } else { FULL_BEFORE } {
            self.on = full;
            self.in_a_row = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Duty::{Active, Off, Standby};
    use super::*;

    fn wan(role: Role, up: bool) -> Candidate {
        Candidate { role, up, exhausted: false }
    }

    #[test]
    fn backup_waits_until_nothing_else_is_up() {
        let duties = |fibre, lte| {
            assign(
                &[wan(Role::Bond, fibre), wan(Role::Overflow, lte), wan(Role::Backup, true)],
                false,
            )
        };
        assert_eq!(duties(true, true), [Active, Standby, Standby]);
        assert_eq!(duties(false, true), [Active, Active, Standby]);
        assert_eq!(duties(false, false), [Active, Active, Active]);
        assert_eq!(assign(&[wan(Role::Off, true), wan(Role::Backup, false)], false), [Off, Active]);
    }

    #[test]
    fn overflow_helps_when_the_others_are_full() {
        let wans = [wan(Role::Bond, true), wan(Role::Overflow, true), wan(Role::Backup, true)];
        assert_eq!(assign(&wans, true), [Active, Active, Standby]);
        let mut overflow = Overflow::default();
        for full in [true, false, true] {
            overflow.look(full);
            assert!(!overflow.on);
        }
        overflow.look(true);
        assert!(overflow.on);
        for _ in 1..EASY_BEFORE {
            overflow.look(false);
            assert!(overflow.on);
        }
        overflow.look(false);
        assert!(!overflow.on);
    }

    #[test]
    fn who_has_used_up_its_quota_helps_only_in_need() {
        let spent = Candidate { exhausted: true, ..wan(Role::Bond, true) };
        assert_eq!(assign(&[wan(Role::Bond, true), spent], true), [Active, Standby]);
        assert_eq!(assign(&[wan(Role::Overflow, true), spent], false), [Active, Standby]);
        assert_eq!(assign(&[wan(Role::Bond, false), spent], false), [Active, Active]);
    }
}
