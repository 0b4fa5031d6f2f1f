//! A WAN over a link that answers or does not, and anything at all happening to it.

use proptest::prelude::*;

use super::*;

/// Runs pings over a link that answers after `rtt` while `alive` says so.
struct World {
    wan: WanHealth,
    now: Time,
    answers: VecDeque<(Time, u32)>,
    sent: u32,
}

impl World {
    fn new() -> Self {
        let mut wan = WanHealth::new(Time::ZERO);
        wan.set_link(Time::ZERO, true);
        Self { wan, now: Time::ZERO, answers: VecDeque::new(), sent: 0 }
    }

    fn run(&mut self, length: Duration, rtt: Duration, alive: bool) {
        let end = self.now + length;
        loop {
            let timeout = self.wan.poll_timeout().unwrap_or(end);
            let next = self.answers.front().map_or(timeout, |&(at, _)| at.min(timeout));
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            if let Some(&(at, number)) = self.answers.front()
                && at <= self.now
            {
                self.answers.pop_front();
                self.wan.handle_pong(self.now, number);
            }
            if let Some(number) = self.wan.handle_timeout(self.now) {
                self.sent += 1;
                if alive {
                    self.answers.push_back((self.now + rtt, number));
                }
            }
        }
    }
}

const RTT: Duration = Duration::from_millis(40);
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn comes_up_with_the_first_answer() {
    let mut world = World::new();
    assert_eq!(world.wan.state(), State::Probing);
    world.run(Duration::from_millis(41), RTT, true);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Up, Reason::Answers));
}

#[test]
fn a_cut_is_noticed_and_the_return_too() {
    let mut world = World::new();
    world.wan.set_active(Time::ZERO, true);
    world.run(5 * SECOND, RTT, true);
    let cut = world.now;
    world.run(SECOND, RTT, false);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Down, Reason::Silent));
    assert!(world.wan.since().since(cut) <= Duration::from_millis(700));
    let back = world.now;
    world.run(2 * SECOND, RTT, true);
    assert_eq!(world.wan.state(), State::Up);
    assert!(world.wan.since().since(back) < SECOND);
}

#[test]
fn a_filling_queue_is_not_a_cut() {
    let mut world = World::new();
    world.wan.set_active(Time::ZERO, true);
    world.run(5 * SECOND, RTT, true);
    for ms in (40..=540).step_by(10) {
        world.run(Duration::from_millis(10), Duration::from_millis(ms), true);
        assert_eq!(world.wan.state(), State::Up, "at {ms} ms");
    }
}

#[test]
fn flapping_is_damped() {
    let mut world = World::new();
    world.wan.set_active(Time::ZERO, true);
    world.run(SECOND, RTT, true);
    let mut downtime = Vec::new();
    for _ in 0..5 {
        world.run(SECOND, RTT, false);
        assert_eq!(world.wan.state(), State::Down);
        let back = world.now;
        while world.wan.state() == State::Down {
            world.run(Duration::from_millis(20), RTT, true);
        }
        downtime.push(world.now.since(back));
    }
    assert!(downtime[4] > 2 * downtime[0], "{downtime:?}");
}

#[test]
fn idle_costs_little_and_one_lost_ping_nothing() {
    let mut world = World::new();
    world.run(SECOND, RTT, true);
    world.sent = 0;
    world.run(60 * SECOND, RTT, true);
    assert!(world.sent <= 13, "{} pings in an idle minute", world.sent);
    world.run(Duration::from_millis(5100), RTT, false);
    world.run(SECOND, RTT, true);
    assert_eq!(world.wan.state(), State::Up);
}

#[test]
fn a_spared_wan_costs_next_to_nothing_until_it_is_needed() {
    let mut world = World::new();
    world.run(SECOND, RTT, true);
    world.wan.set_spared(world.now, true);
    world.run(10 * SECOND, RTT, true);
    world.sent = 0;
    world.run(24 * 3600 * SECOND, RTT, true);
    // Of 160 bytes with their answers: 5 MB a month at most.
    assert!(world.sent * 30 * 160 < 5_000_000, "{} pings a day", world.sent);
    assert_eq!(world.wan.state(), State::Up);
    world.sent = 0;
    world.wan.set_spared(world.now, false);
    world.run(Duration::from_millis(10), RTT, true);
    assert_eq!(world.sent, 1);
}

#[test]
fn tcp_alone_holds_a_wan_up_where_udp_is_blocked() {
    let mut world = World::new();
    world.run(SECOND, RTT, false);
    assert_eq!(world.wan.state(), State::Probing);
    world.wan.handle_tcp_connected(world.now, RTT);
    assert_eq!(world.wan.reason(), Reason::AnswersTcpOnly);
    world.run(60 * SECOND, RTT, false);
    assert_eq!(world.wan.state(), State::Up);
    world.wan.handle_tcp_failed(world.now);
    assert_eq!(world.wan.state(), State::Down);
    world.wan.set_link(world.now, false);
    assert_eq!(world.wan.poll_timeout(), None);
}

/// Traffic comes in steadily, or not, for so long; the device is looked at meanwhile.
fn traffic(world: &mut World, packets: &mut u64, length: Duration, alive: bool, rtt: Duration) {
    let end = world.now + length;
    while world.now < end {
        world.run(Duration::from_millis(25), rtt, alive);
        *packets += u64::from(alive) * 20;
        world.wan.handle_received(world.now, *packets);
    }
}

fn busy() -> (World, u64) {
    let (mut world, mut packets) = (World::new(), 0);
    world.wan.set_active(Time::ZERO, true);
    world.wan.set_alternative(true);
    traffic(&mut world, &mut packets, 3 * SECOND, true, RTT);
    (world, packets)
}

#[test]
fn steady_traffic_that_stops_shows_a_cut_at_once() {
    let (mut world, mut packets) = busy();
    let cut = world.now;
    traffic(&mut world, &mut packets, Duration::from_millis(260), false, RTT);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Down, Reason::Silent));
    assert!(world.wan.since().since(cut) <= Duration::from_millis(230), "{:?}", world.wan.since());
}

#[test]
fn traffic_that_ends_by_itself_is_no_cut() {
    let (mut world, packets) = busy();
    for _ in 0..200 {
        world.run(Duration::from_millis(25), RTT, true);
        // Only pongs come in, and the counter is one that does not show them.
        world.wan.handle_received(world.now, packets);
        assert_eq!(world.wan.state(), State::Up);
    }
}

#[test]
fn a_device_that_receives_clears_its_wan() {
    let (mut world, mut packets) = busy();
    // Every ping is lost in a full queue, yet the link delivers.
    for _ in 0..12 {
        world.run(Duration::from_millis(25), RTT, false);
        packets += 20;
        world.wan.handle_received(world.now, packets);
        world.wan.handle_suspicion(world.now);
        assert_eq!(world.wan.state(), State::Up);
    }
}

#[test]
fn without_an_alternative_there_is_no_haste() {
    let (mut world, mut packets) = busy();
    world.wan.set_alternative(false);
    traffic(&mut world, &mut packets, Duration::from_millis(300), false, RTT);
    assert_eq!(world.wan.state(), State::Up, "after {:?}", world.now);
    traffic(&mut world, &mut packets, Duration::from_millis(500), false, RTT);
    assert_eq!(world.wan.state(), State::Down);
}

#[test]
fn a_refused_connection_counts_only_with_silence() {
    let (mut world, _) = busy();
    world.wan.handle_tcp_failed(world.now);
    assert_eq!(world.wan.state(), State::Up);
    world.answers.clear();
    world.run(Duration::from_millis(480), RTT, false);
    world.wan.handle_tcp_failed(world.now);
    assert_eq!(world.wan.state(), State::Down);
}

#[test]
fn one_who_was_held_up_condemns_nobody() {
    let (mut world, packets) = busy();
    world.now += Duration::from_millis(600);
    world.wan.handle_received(world.now, packets);
    assert!(world.wan.is_sound(world.now));
}

/// What can happen to a WAN.
#[derive(Debug, Clone)]
enum Event {
    Link(bool),
    Active(bool),
    /// The answer to one of the last pings.
    Pong(usize),
    Strayed(u32),
    TcpConnected(Duration),
    TcpFailed,
    Received(u64),
    Suspicion,
    SignOfLife,
    Alternative(bool),
    Spared(bool),
    Withdraw(usize),
    /// Time passes, and timeouts are handled when they are due.
    Pass(Duration),
    /// Time passes, and timeouts are handled late.
    Sleep(Duration),
}

fn event() -> impl Strategy<Value = Event> {
    // Odd microseconds, so that the smoothed RTT has fractions of them.
    let short = (0..200_000u64).prop_map(Duration::from_micros);
    let long = (0..100_000_000u64).prop_map(Duration::from_micros);
    prop_oneof![
        1 => any::<bool>().prop_map(Event::Link),
        1 => any::<bool>().prop_map(Event::Active),
        6 => (0..6usize).prop_map(Event::Pong),
        1 => any::<u32>().prop_map(Event::Strayed),
        1 => short.clone().prop_map(Event::TcpConnected),
        1 => Just(Event::TcpFailed),
        4 => (0..3u64).prop_map(Event::Received),
        1 => Just(Event::Suspicion),
        1 => Just(Event::SignOfLife),
        1 => any::<bool>().prop_map(Event::Alternative),
        1 => any::<bool>().prop_map(Event::Spared),
        1 => (0..6usize).prop_map(Event::Withdraw),
        6 => short.prop_map(Event::Pass),
        1 => long.clone().prop_map(Event::Pass),
        1 => long.prop_map(Event::Sleep),
    ]
}

/// Handles the timeout, and checks what must hold after it.
fn tick(wan: &mut WanHealth, now: Time, linked: bool, pings: &mut Vec<u32>) {
    if let Some(number) = wan.handle_timeout(now) {
        assert!(linked, "a ping without a link");
        assert!(!pings.contains(&number), "number {number} twice");
        pings.push(number);
    }
    match wan.poll_timeout() {
        Some(at) => assert!(at > now, "busy loop: {at:?} at {now:?}"),
        None => assert!(!linked),
    }
}

proptest! {
    #[test]
    fn holds_together_whatever_happens(events in prop::collection::vec(event(), 1..200)) {
        let mut now = Time::from_micros(17);
        let mut wan = WanHealth::new(now);
        let mut linked = false;
        let mut pings = Vec::new();
        let mut packets = 0;
        for event in events {
            let recent = |back: usize| pings.len().checked_sub(back + 1).map(|at: usize| pings[at]);
            match event {
                Event::Link(up) => {
                    linked = up;
                    wan.set_link(now, up);
                }
                Event::Active(active) => wan.set_active(now, active),
                Event::Pong(back) => {
                    if let Some(number) = recent(back) {
                        wan.handle_pong(now, number);
                    }
                }
                Event::Strayed(number) => wan.handle_pong(now, number),
                Event::TcpConnected(rtt) => wan.handle_tcp_connected(now, rtt),
                Event::TcpFailed => wan.handle_tcp_failed(now),
                Event::Received(more) => {
                    packets += more;
                    wan.handle_received(now, packets);
                }
                Event::Suspicion => wan.handle_suspicion(now),
                Event::SignOfLife => wan.handle_sign_of_life(now),
                Event::Alternative(has) => wan.set_alternative(has),
                Event::Spared(spared) => wan.set_spared(now, spared),
                Event::Withdraw(back) => {
                    if let Some(number) = recent(back) {
                        wan.withdraw(number);
                    }
                }
                Event::Pass(length) => {
                    let end = now + length;
                    while let Some(at) = wan.poll_timeout().filter(|&at| at <= end) {
                        now = now.max(at);
                        tick(&mut wan, now, linked, &mut pings);
                    }
                    now = end;
                }
                Event::Sleep(length) => {
                    now += length;
                    tick(&mut wan, now, linked, &mut pings);
                }
            }
            prop_assert!(wan.in_flight.len() <= IN_FLIGHT);
            prop_assert!(wan.loss_ppm() <= 1_000_000);
            prop_assert!(wan.since() <= now);
            prop_assert!(linked || wan.state() == State::Down);
            prop_assert_eq!(wan.reason() == Reason::NoLink, !linked);
            prop_assert_eq!(
                wan.state() == State::Up,
                matches!(wan.reason(), Reason::Answers | Reason::AnswersTcpOnly)
            );
        }
    }
}

#[test]
fn udp_that_becomes_blocked_leaves_tcp() {
    let mut world = World::new();
    world.run(SECOND, RTT, true);
    world.wan.set_active(world.now, true);
    world.run(3 * SECOND, RTT, false);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Down, Reason::Silent));
    world.wan.handle_tcp_connected(world.now, RTT);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Up, Reason::AnswersTcpOnly));
    world.run(60 * SECOND, RTT, false);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Up, Reason::AnswersTcpOnly));
    world.run(6 * SECOND, RTT, true);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Up, Reason::Answers));
}

#[test]
fn blocked_udp_costs_little() {
    let mut world = World::new();
    world.wan.handle_tcp_connected(Time::ZERO, RTT);
    world.run(120 * SECOND, RTT, false);
    assert_eq!((world.wan.state(), world.wan.reason()), (State::Up, Reason::AnswersTcpOnly));
    world.sent = 0;
    world.run(60 * SECOND, RTT, false);
    assert!(world.sent <= 13, "{} pings in a minute that nobody answers", world.sent);
    // And that UDP passes again is noticed.
    world.run(6 * SECOND, RTT, true);
    assert_eq!(world.wan.reason(), Reason::Answers);
}
