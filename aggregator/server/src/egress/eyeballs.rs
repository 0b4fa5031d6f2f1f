//! Happy Eyeballs (RFC 8305): which address of a name to try, and when. Pure; time is handed in as
//! what has passed since the start.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// How long a first IPv4 answer waits for the IPv6 one (RFC 8305 §3).
pub const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// Time between two attempts (RFC 8305 §5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// More addresses of one family than this are not tried: with the delay above they would not get
/// their turn before the time-out, and a hostile name could have thousands.
const MAX_PER_FAMILY: usize = 16;

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Start a connection to this address and poll again.
    Connect(IpAddr),
    /// Wait for an answer or an attempt's end, or until this time if there is one.
    Wait(Option<Duration>),
    /// Everything was tried and failed.
    Exhausted,
}

/// The order and timing of the attempts.
#[derive(Debug, Default)]
pub struct Eyeballs {
    v6: Queue,
    v4: Queue,
    last_was_v6: bool,
    started: bool,
    running: usize,
    next_at: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    addresses: VecDeque<IpAddr>,
    answered: Option<Duration>,
}

impl Eyeballs {
    /// Nothing answered, nothing tried.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A family's answer, in the resolver's order; empty if it has none.
    pub fn handle_answer(&mut self, now: Duration, v6: bool, addresses: Vec<IpAddr>) {
        let queue = if v6 { &mut self.v6 } else { &mut self.v4 };
        queue.answered = Some(now);
        queue.addresses.extend(addresses.into_iter().take(MAX_PER_FAMILY));
    }

    /// An attempt has failed: the next need not wait.
    pub fn handle_failure(&mut self, now: Duration) {
        self.running = self.running.saturating_sub(1);
        self.next_at = self.next_at.min(now);
    }

    /// What to do at `now`.
    pub fn poll(&mut self, now: Duration) -> Action {
        let all_answered = self.v6.answered.is_some() && self.v4.answered.is_some();
        let none_left = self.v6.addresses.is_empty() && self.v4.addresses.is_empty();
        if none_left {
            return match (all_answered, self.running) {
                (true, 0) => Action::Exhausted,
                _ => Action::Wait(None),
            };
        }
        if !self.started
            && self.v6.answered.is_none()
            && let Some(at) = self.v4.answered
            && now < at + RESOLUTION_DELAY
        {
            return Action::Wait(Some(at + RESOLUTION_DELAY));
        }
        if self.started && now < self.next_at {
            return Action::Wait(Some(self.next_at));
        }
        // IPv6 first, then in turns (RFC 8305 §4, with a First Address Family Count of 1).
        let v6_turn = !self.started || !self.last_was_v6;
        let (first, second) =
            if v6_turn { (&mut self.v6, &mut self.v4) } else { (&mut self.v4, &mut self.v6) };
        let next = first.addresses.pop_front().or_else(|| second.addresses.pop_front());
        let Some(address) = next else { return Action::Wait(None) };
        self.started = true;
        self.last_was_v6 = address.is_ipv6();
        self.running += 1;
        self.next_at = now + ATTEMPT_DELAY;
        Action::Connect(address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn v6(n: u16) -> IpAddr {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])
    }

    fn v4(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[test]
    fn families_take_turns_a_quarter_second_apart() {
        let mut eyeballs = Eyeballs::new();
        assert_eq!(eyeballs.poll(ms(0)), Action::Wait(None));
        eyeballs.handle_answer(ms(10), true, vec![v6(1), v6(2), v6(3)]);
        assert_eq!(eyeballs.poll(ms(10)), Action::Connect(v6(1)));
        eyeballs.handle_answer(ms(20), false, vec![v4(1)]);
        assert_eq!(eyeballs.poll(ms(20)), Action::Wait(Some(ms(260))));
        assert_eq!(eyeballs.poll(ms(260)), Action::Connect(v4(1)));
        assert_eq!(eyeballs.poll(ms(510)), Action::Connect(v6(2)));
        // A failure lets the next one start at once.
        eyeballs.handle_failure(ms(520));
        assert_eq!(eyeballs.poll(ms(520)), Action::Connect(v6(3)));
        assert_eq!(eyeballs.poll(ms(770)), Action::Wait(None));
        for _ in 0..3 {
            eyeballs.handle_failure(ms(800));
        }
        assert_eq!(eyeballs.poll(ms(800)), Action::Exhausted);
    }

    #[test]
    fn an_early_v4_answer_waits_a_little_for_v6() {
        let mut eyeballs = Eyeballs::new();
        eyeballs.handle_answer(ms(10), false, vec![v4(1)]);
        assert_eq!(eyeballs.poll(ms(10)), Action::Wait(Some(ms(60))));
        assert_eq!(eyeballs.poll(ms(60)), Action::Connect(v4(1)));
        let mut eyeballs = Eyeballs::new();
        eyeballs.handle_answer(ms(10), false, vec![v4(1)]);
        eyeballs.handle_answer(ms(30), true, vec![v6(1)]);
        assert_eq!(eyeballs.poll(ms(30)), Action::Connect(v6(1)));
        let mut eyeballs = Eyeballs::new();
        eyeballs.handle_answer(ms(10), false, vec![v4(1)]);
        eyeballs.handle_answer(ms(12), true, vec![]);
        assert_eq!(eyeballs.poll(ms(12)), Action::Connect(v4(1)));
    }

    #[test]
    fn no_answers_end_it() {
        let mut eyeballs = Eyeballs::new();
        eyeballs.handle_answer(ms(1), true, vec![]);
        assert_eq!(eyeballs.poll(ms(1)), Action::Wait(None));
        eyeballs.handle_answer(ms(2), false, vec![]);
        assert_eq!(eyeballs.poll(ms(2)), Action::Exhausted);
    }

    proptest! {
        /// However answers and failures fall, each address is tried once and it ends.
        #[test]
        fn each_once_and_it_ends(
            sixes in 0u16..20, fours in 0u8..20, six_at in 0u64..500, four_at in 0u64..500,
            fails_after in 1u64..2000,
        ) {
            let mut eyeballs = Eyeballs::new();
            let mut tried = Vec::new();
            let mut failures = VecDeque::new();
            let mut ended = false;
            for now in 0..20_000 {
                if now == six_at {
                    eyeballs.handle_answer(ms(now), true, (0..sixes).map(v6).collect());
                }
                if now == four_at {
                    eyeballs.handle_answer(ms(now), false, (0..fours).map(v4).collect());
                }
                while failures.front().is_some_and(|&at| at <= now) {
                    failures.pop_front();
                    eyeballs.handle_failure(ms(now));
                }
                match eyeballs.poll(ms(now)) {
                    Action::Connect(address) => {
                        prop_assert!(!tried.contains(&address));
                        tried.push(address);
                        failures.push_back(now + fails_after);
                    }
                    Action::Wait(Some(at)) => prop_assert!(at > ms(now)),
                    Action::Wait(None) => {}
                    Action::Exhausted => { ended = true; break; }
                }
            }
            prop_assert!(ended);
            let most = MAX_PER_FAMILY;
            prop_assert_eq!(tried.len(), most.min(sixes.into()) + most.min(fours.into()));
        }
    }
}
