//! Which of several servers is used.
//!
//! All but the one in use are asked now and then, by a handshake that is not taken further, whether they
//! are there. When the one in use is gone, all others are asked at once, and the first that answers is
//! used. While it is there, another one is taken only if it has been better for long: much nearer, or
//! earlier in the configuration and about as near.
//!
//! A server holds its routers' connections, so a change resets those that are open; what is begun
//! afterwards goes over the new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use wanbond_relay::boxed;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, warn};
use wanbond_control::words::ServerState;
use wanbond_control::{Event, EventKind};
use wanbond_proto::Time;
use wanbond_proto::forward::Forwards;
use wanbond_proto::handshake::RouterIdentity;
use wanbond_proto::wan::State;

use super::ServerAddresses;
use super::endpoint::{keep_resolved, resolve};
use super::handshake::{LinkHint, needed, run};
use super::probe::Answer;
use crate::config::Server;
use crate::shared::{Shared, read};

/// Between two questions to a server that stands by: with some 450 bytes, 20 MB a month over a WAN that
/// costs nothing.
pub(crate) const ASK_EVERY: Duration = Duration::from_secs(60);
/// And while only WANs that cost are up: 3 MB.
pub(crate) const ASK_COSTLY_EVERY: Duration = Duration::from_secs(400);
/// How long the one in use has to be gone, beyond the half second after which that is known.
const PATIENCE: Duration = Duration::from_millis(100);
/// At the start the first one is given this long to answer.
const FIRST_PATIENCE: Duration = Duration::from_millis(1500);
/// How long one is waited for while all are asked; the pause after that doubles, up to the longest.
const ANSWER_TIME: Duration = Duration::from_secs(2);
const MOST_PAUSE: Duration = Duration::from_secs(30);
/// Another one has to be better for this long before it is taken while no connection is open,
const BETTER_FOR: Duration = Duration::from_secs(5 * 60);
/// and for this long before connections are reset for it.
const MUCH_BETTER_FOR: Duration = Duration::from_secs(60 * 60);

/// What is known of a server that stands by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Its addresses, as last looked up.
    addresses: ServerAddresses,
    /// When it was asked last.
    pub(crate) asked: Option<Time>,
    /// The round trip of its last answer; none if it did not answer.
    pub(crate) rtt: Option<Duration>,
    /// Why it can't be used, in a sentence.
    pub(crate) why: String,
}

/// The configured servers.
pub(crate) struct Servers {
    list: Vec<Server>,
    place: watch::Sender<usize>,
    known: Mutex<Vec<Known>>,
}

impl Servers {
    pub(crate) fn new(list: Vec<Server>) -> Self {
        let known = vec![Known::default(); list.len()];
        Self { list, place: watch::Sender::new(0), known: Mutex::new(known) }
    }

    /// All of them, with what is known of each while it stands by, and which is in use.
    pub(crate) fn all(&self) -> (Vec<(&Server, Known)>, usize) {
        let known = self.known().clone();
        (self.list.iter().zip(known).collect(), *self.place.borrow())
    }

    /// The one in use.
    pub(crate) fn current(&self) -> Option<&Server> {
        self.list.get(*self.place.borrow())
    }

    /// Its name; empty if there is none.
    pub(crate) fn name(&self) -> String {
        self.current().map(|server| server.name.clone()).unwrap_or_default()
    }

    /// Changes when another one is used.
    pub(crate) fn subscribe(&self) -> watch::Receiver<usize> {
        self.place.subscribe()
    }

    fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        // What it guards stays valid after any panic.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a session with the best server, for as long as it is polled.
pub(crate) async fn keep(shared: Arc<Shared>, mut hints: mpsc::Receiver<LinkHint>) {
    loop {
        let place = *shared.servers.place.borrow();
        let Some(server) = shared.servers.list.get(place) else { return };
        let identity = RouterIdentity::from_code(&server.code);
        let next = tokio::select! {
            () = run(Arc::clone(&shared), identity, &mut hints) => return,
            () = keep_resolved(Arc::clone(&shared), server.code.endpoints.clone()) => return,
            next = choose(&shared, place) => next,
        };
        change(&shared, place, next);
    }
}

/// Uses another server from now on.
fn change(shared: &Shared, from: usize, to: usize) {
    let name = |place: usize| &shared.servers.list[place].name;
    let gone = shared.standing().state != ServerState::Connected;
    let why = if gone { "which does not answer any more" } else { "which is worse by now" };
    let message = format!("server {} is used instead of {}, {why}", name(to), name(from));
    warn!(from = name(from), to = name(to), gone, "another server is used");
    let event = Event::new(shared.uptime_s(), EventKind::ServerState, message);
    let event = event.of_server(name(to).clone());
    shared.log(if gone { event.warning() } else { event });
    let addresses = shared.servers.known()[to].addresses.clone();
    if gone {
        let mut known = shared.servers.known();
        let left = &mut known[from];
        (left.asked, left.rtt) = (Some(shared.clock.now()), None);
        left.why = "it has stopped answering".to_owned();
    }
    shared.sessions.clear();
    shared.set_tunnel(None);
    shared.servers.place.send_replace(to);
    shared.server.send_replace(addresses);
    shared.forwards.send_replace(Forwards::default());
    shared.set_server_state(ServerState::Connecting, "");
    shared.lanes.end_all();
}

/// Returns the place of the server that is to be used instead of that at `place`.
async fn choose(shared: &Arc<Shared>, place: usize) -> usize {
    let servers = &shared.servers;
    if servers.list.len() < 2 {
        return std::future::pending().await;
    }
    let mut standing = shared.watch_standing();
    let mut lost_at = None;
    let mut pause = PATIENCE;
    let mut ask_at = Instant::now() + 2 * FIRST_PATIENCE;
    let mut better = Better::default();
    let mut had_session = false;
    loop {
        if standing.borrow_and_update().state == ServerState::Connected {
            (lost_at, pause, had_session) = (None, PATIENCE, true);
            if Instant::now() >= ask_at {
                let costly = ask_all(shared, place, false).await.1;
                ask_at = Instant::now() + if costly { ASK_COSTLY_EVERY } else { ASK_EVERY };
                let idle = read(&shared.counters.flows_active) == 0;
                let rtts: Vec<_> = servers.known().iter().map(|known| known.rtt).collect();
                if let Some(next) = better.look(shared.clock.now(), &rtts, place, rtt(shared), idle)
                {
                    return next;
                }
            }
            tokio::select! {
                _ = standing.changed() => {}
                () = sleep_until(ask_at) => {}
            }
            continue;
        }
        let patience = if had_session { PATIENCE } else { FIRST_PATIENCE };
        let since = *lost_at.get_or_insert_with(Instant::now);
        let due = since + patience;
        if Instant::now() < due {
            tokio::select! {
                _ = standing.changed() => {}
                () = sleep_until(due) => {}
            }
            continue;
        }
        if let (Some(next), _) = ask_all(shared, place, true).await
            && shared.standing().state != ServerState::Connected
        {
            return next;
        }
        let again = Instant::now() + pause;
        pause = (2 * pause).min(MOST_PAUSE);
        tokio::select! {
            _ = standing.changed() => {}
            () = sleep_until(again) => {}
        }
    }
}

/// The round trip to the server in use, over its best WAN.
fn rtt(shared: &Shared) -> Option<Duration> {
    let wans = shared.wans.borrow();
    wans.iter().filter(|wan| wan.state == State::Up).filter_map(|wan| wan.srtt).min()
}

/// Asks every server but that at `place`; gives the first that answers, and whether it went over a WAN
/// that costs. `urgent`: over all WANs, and not longer than until the first answer.
async fn ask_all(shared: &Arc<Shared>, place: usize, urgent: bool) -> (Option<usize>, bool) {
    let wans = Arc::clone(&shared.wans.borrow());
    let mut ways: Vec<_> = needed(&wans).filter(|wan| wan.is_linked()).cloned().collect();
    if !urgent {
        ways.retain(|wan| wan.state == State::Up);
        ways.sort_by_key(|wan| (wan.metered, wan.srtt.unwrap_or(Duration::MAX)));
        ways.truncate(1);
    }
    let costly = ways.first().is_some_and(|wan| wan.metered);
    let mut asking = JoinSet::new();
    for other in (0..shared.servers.list.len()).filter(|other| *other != place) {
        for wan in &ways {
            let (shared, wan) = (Arc::clone(shared), wan.clone());
            asking.spawn(boxed(async move { (other, ask(&shared, other, &wan, urgent).await) }));
        }
    }
    let mut first = None;
    while let Some(asked) = asking.join_next().await {
        if let Ok((other, true)) = asked {
            first = first.or(Some(other));
            if urgent {
                break;
            }
        }
    }
    (first, costly)
}

/// Asks one server over one WAN, and notes what comes of it.
async fn ask(
    shared: &Arc<Shared>,
    place: usize,
    wan: &crate::shared::WanView,
    urgent: bool,
) -> bool {
    let server = &shared.servers.list[place];
    let mut addresses = shared.servers.known()[place].addresses.clone();
    // In need there is no time to look names up, and perhaps no way.
    if !urgent || addresses.is_empty() {
        match timeout(ANSWER_TIME, resolve(Some(shared.as_ref()), &server.code.endpoints)).await {
            Ok(Ok(found)) => addresses = found,
            _ if addresses.is_empty() => {
                let why = "its name can't be looked up".to_owned();
                let known = &mut shared.servers.known()[place];
                (known.asked, known.rtt, known.why) = (Some(shared.clock.now()), None, why);
                return false;
            }
            _ => {}
        }
    }
    let way =
        wan.sockets.iter().find_map(|s| Some((s.source, addresses.reachable_from(s.source)?)));
    let Some((source, address)) = way else { return false };
    let prober = shared.prober(RouterIdentity::from_code(&server.code));
    let answer = prober.ask(None, source, address, ANSWER_TIME).await;
    let mut all = shared.servers.known();
    let known = &mut all[place];
    known.addresses = addresses;
    known.asked = Some(shared.clock.now());
    (known.rtt, known.why) = match answer {
        Answer::Taken { after, .. } => (Some(after), String::new()),
        Answer::Refused(notice) => (None, notice.to_string()),
        Answer::Silent | Answer::Unreachable => (None, "it does not answer".to_owned()),
    };
    if known.rtt.is_some() {
        debug!(server = server.name, "a server that stands by answers");
    }
    known.rtt.is_some()
}

/// Remembers for how long another server has been better.
#[derive(Debug, Default)]
struct Better {
    since: Option<(usize, Time)>,
}

impl Better {
    /// Takes a look: the round trips of all that stand by, and of the one in use. Gives the one that is
    /// to be used instead; `idle`: no connection would be reset.
    fn look(
        &mut self,
        now: Time,
        rtts: &[Option<Duration>],
        place: usize,
        own: Option<Duration>,
        idle: bool,
    ) -> Option<usize> {
        let found = own.and_then(|own| {
            let others = rtts.iter().enumerate().filter(|(other, _)| *other != place);
            let better = others.filter_map(|(other, rtt)| {
                let rtt = (*rtt)?;
                let nearer = rtt + NEARER < own / 10 * 7;
                let earlier = other < place && rtt < own / 10 * 13 + NEARER;
                (nearer || earlier).then_some((other, rtt))
            });
            better.min_by_key(|(_, rtt)| *rtt)
        });
        let Some((other, _)) = found else {
            self.since = None;
            return None;
        };
        let since = match self.since {
            Some((same, since)) if same == other => since,
            _ => now,
        };
        self.since = Some((other, since));
        let long = now.since(since);
        (long >= MUCH_BETTER_FOR || (idle && long >= BETTER_FOR)).then_some(other)
    }
}

/// A difference that is felt.
const NEARER: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Option<Duration> = |ms| Some(Duration::from_millis(ms));

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn the_first_is_returned_to_once_it_has_been_back_for_long() {
        let mut better = Better::default();
        let mut look =
            |seconds, first, idle| better.look(at(seconds), &[first, None], 1, MS(30), idle);
        assert_eq!(look(0, None, true), None);
        assert_eq!(look(60, MS(32), true), None);
        assert_eq!(look(300, MS(32), true), None);
        // Gone once more: it begins anew.
        assert_eq!(look(330, None, true), None);
        assert_eq!(look(400, MS(32), true), None);
        assert_eq!(look(710, MS(32), false), None, "connections are open");
        assert_eq!(look(720, MS(32), true), Some(0));
        assert_eq!(look(4100, MS(32), false), Some(0));
    }

    #[test]
    fn a_later_one_is_used_only_if_it_is_much_nearer() {
        let look = |rtt| {
            let mut better = Better::default();
            better.look(at(0), &[None, rtt], 0, MS(100), true);
            better.look(at(301), &[None, rtt], 0, MS(100), true)
        };
        assert_eq!(look(MS(90)), None);
        assert_eq!(look(MS(40)), Some(1));
        // And then the first is not returned to.
        let mut back = Better::default();
        back.look(at(0), &[MS(100), None], 1, MS(40), true);
        assert_eq!(back.look(at(9000), &[MS(100), None], 1, MS(40), true), None);
    }
}
