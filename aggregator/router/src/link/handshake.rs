//! Runs handshakes: over every WAN by UDP at once, and by TCP where UDP gets no answer.

use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};
use wanbond_control::words::ServerState;
use wanbond_proto::handshake::{Notice, Reply, RouterHandshake, RouterIdentity, unknown_session};
use wanbond_proto::lane::{FrameKind, HEAD_LEN};
use wanbond_proto::session::EXPIRE_AFTER;
use wanbond_proto::wan::State;
use wanbond_relay::LaneStream;

use super::LinkSession;
use crate::lanes::connect;
use crate::shared::{Shared, WanView};

/// When the Init is sent again over UDP, after its first sending.
const RESEND: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(600),
    Duration::from_millis(1200),
    Duration::from_millis(2500),
];
/// When TCP is tried as well.
const TCP_AFTER: Duration = Duration::from_millis(600);
const TCP_TIME: Duration = Duration::from_secs(4);
/// When a handshake is begun anew.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Pauses between handshakes: while the server is silent, and after it has said no. A router that
/// was added this moment may not be known to the running server yet, so the first no counts little:
/// each further one doubles the pause.
const PAUSE_SILENT: Duration = Duration::from_millis(500);
const PAUSE_REFUSED: Duration = Duration::from_millis(500);
const PAUSE_REFUSED_MOST: Duration = Duration::from_secs(10);

/// What others notice that concerns the session.
#[derive(Debug)]
pub(crate) enum LinkHint {
    /// A handshake message has come over UDP or TCP.
    Message(Vec<u8>),
    /// A WAN came up or changed: a pause may be cut short.
    WansChanged,
    /// No WAN reaches the server any more.
    ServerSilent,
}

enum Outcome {
    Done,
    Silent,
    Refused(Notice),
}

/// Keeps a session for as long as it is polled.
pub(crate) async fn run(
    shared: Arc<Shared>,
    identity: RouterIdentity,
    hints: &mut mpsc::Receiver<LinkHint>,
) {
    let (mut failures, mut refusals) = (0u32, 0u32);
    loop {
        wait_until_needed(&shared, hints).await;
        let pause = match handshake(&shared, &identity, hints).await {
            Outcome::Done => {
                (failures, refusals) = (0, 0);
                continue;
            }
            Outcome::Silent => {
                failures += 1;
                // One lost handshake is nothing yet while the old session still serves.
                if shared.sessions.current().is_none() {
                    shared.set_server_state(
                        ServerState::Unreachable,
                        "the server does not answer over any WAN",
                    );
                }
                PAUSE_SILENT * failures.min(10)
            }
            Outcome::Refused(notice) => {
                let state = match notice {
                    Notice::UnknownRouter | Notice::Disabled => ServerState::UnknownRouter,
                    Notice::OtherVersion { .. } | Notice::NoCommonSuite => {
                        ServerState::VersionMismatch
                    }
                };
                if shared.set_server_state(state, &notice.to_string()) {
                    warn!(%notice, "the server refuses this router");
                }
                let pause = PAUSE_REFUSED * (1 << refusals.min(8));
                refusals += 1;
                pause.min(PAUSE_REFUSED_MOST)
            }
        };
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                hint = hints.recv() => match hint {
                    Some(LinkHint::WansChanged) => break,
                    // The server is there, and has been started anew: it need not be waited for.
                    Some(LinkHint::Message(m)) if forgotten_by_server(&shared, &m) => break,
                    Some(LinkHint::Message(_) | LinkHint::ServerSilent) => {}
                    None => return,
                }
            }
        }
    }
}

/// Returns when a handshake is due: no session, an old one, or one that the server has forgotten.
async fn wait_until_needed(shared: &Shared, hints: &mut mpsc::Receiver<LinkHint>) {
    loop {
        let Some(session) = shared.sessions.current() else { return };
        let now = shared.clock.now();
        let silent = shared.standing().state == ServerState::Unreachable;
        if silent || session.with(|s| s.is_due_for_renewal(now)) {
            return;
        }
        let age = session.with(|s| now.since(s.created()));
        let until = Instant::now() + wanbond_proto::session::RENEW_AFTER.saturating_sub(age);
        tokio::select! {
            () = sleep_until(until) => return,
            hint = hints.recv() => {
                let Some(LinkHint::Message(message)) = hint else { continue };
                if forgotten_by_server(shared, &message) {
                    return;
                }
            }
        }
    }
}

/// Whether the message says that the server no longer has our present session.
fn forgotten_by_server(shared: &Shared, message: &[u8]) -> bool {
    let Some((index, _proof)) = unknown_session::decode(message) else { return false };
    // Anybody on the path could say so. A needless handshake is all it can cause: the session is
    // used on until a new one is there.
    let ours = shared.sessions.current().is_some_and(|s| s.remote_index() == index);
    if ours {
        info!("the server does not know our session, making a new one");
        shared.sessions.forget(index);
    }
    ours
}

async fn handshake(
    shared: &Arc<Shared>,
    identity: &RouterIdentity,
    hints: &mut mpsc::Receiver<LinkHint>,
) -> Outcome {
    if shared.server.borrow().is_empty() {
        return Outcome::Silent;
    }
    let index = loop {
        let index = u32::from_be_bytes(random());
        if shared.sessions.by_index(index).is_none() {
            break index;
        }
    };
    let (suites, instance) = (&shared.suites, shared.instance);
    let mut handshake =
        match RouterHandshake::start(identity.clone(), index, random(), suites, instance) {
            Ok(handshake) => handshake,
            Err(error) => {
                warn!(%error, "no handshake possible: is the pairing code's server key right?");
                return Outcome::Silent;
            }
        };
    let start = Instant::now();
    let mut resend = RESEND.iter();
    let mut next_send = Some(start);
    let mut tcp = tokio::task::JoinSet::new();
    let mut tcp_at = Some(start + TCP_AFTER);
    let mut refused = None;
    loop {
        let now = shared.clock.now();
        if next_send.is_some_and(|at| at <= Instant::now()) {
            send_udp(shared, &handshake.init(now));
            next_send = resend.next().map(|&after| start + after);
        }
        if tcp_at.is_some_and(|at| at <= Instant::now()) {
            tcp_at = None;
            for wan in needed(&shared.wans.borrow()).filter(|wan| wan.is_linked()) {
                let (shared, wan) = (Arc::clone(shared), wan.clone());
                tcp.spawn(boxed(over_tcp(shared, wan, handshake.init(now))));
            }
        }
        let wake = [next_send, tcp_at, Some(start + GIVE_UP)].into_iter().flatten().min();
        let message = tokio::select! {
            () = sleep_until(wake.unwrap_or(start + GIVE_UP)) => None,
            hint = hints.recv() => match hint {
                Some(LinkHint::Message(message)) if forgotten_by_server(shared, &message) => {
                    // It is there again: what was sent so far came too early.
                    next_send = Some(Instant::now());
                    tcp_at = tcp_at.or(Some(Instant::now() + TCP_AFTER));
                    None
                }
                Some(LinkHint::Message(message)) => Some(message),
                Some(LinkHint::WansChanged) => {
                    // A WAN that has just come gets the Init too.
                    next_send = Some(Instant::now());
                    None
                }
                Some(LinkHint::ServerSilent) => None,
                None => return Outcome::Silent,
            },
            Some(joined) = tcp.join_next() => joined.ok().flatten(),
        };
        if let Some(message) = message {
            match handshake.handle(shared.clock.now(), &message) {
                Ok(Reply::Session(session)) => {
                    install(shared, *session);
                    return Outcome::Done;
                }
                Ok(Reply::SendAgain) => {
                    debug!("the server wants our address proven");
                    next_send = Some(Instant::now());
                }
                // Only a hint: a forged one must not stop the true answer.
                Ok(Reply::Notice(notice)) => refused = Some((notice, Instant::now())),
                Err(error) => debug!(%error, "handshake message dropped"),
            }
        }
        if let Some((notice, at)) = refused
            && at.elapsed() >= Duration::from_millis(300)
        {
            return Outcome::Refused(notice);
        }
        if refused.is_some() {
            next_send = Some(Instant::now() + Duration::from_millis(300));
        }
        if start.elapsed() >= GIVE_UP {
            let now = shared.clock.now();
            if let Some(session) = shared.sessions.current()
                && session.with(|s| now.since(s.created()) >= EXPIRE_AFTER)
            {
                shared.sessions.forget(session.remote_index());
            }
            return refused.map_or(Outcome::Silent, |(notice, _)| Outcome::Refused(notice));
        }
    }
}

fn install(shared: &Shared, session: wanbond_proto::session::Session) {
    info!(cipher = session.suite().name(), "session with the server");
    shared.sessions.install(Arc::new(LinkSession::new(session)));
    shared.set_server_state(ServerState::Connected, "");
}

/// The WANs over which a handshake goes: those that cost money only while no other lives.
pub(super) fn needed(wans: &[WanView]) -> impl Iterator<Item = &WanView> {
    let choice = wans.iter().any(|wan| wan.state == State::Up && !wan.spared);
    wans.iter().filter(move |wan| !(choice && wan.spared))
}

fn send_udp(shared: &Shared, init: &[u8]) {
    let server = shared.server.borrow().clone();
    for wan in needed(&shared.wans.borrow()) {
        for socket in &wan.sockets {
            if let Some(address) = server.reachable_from(socket.source) {
                // A full buffer or an unreachable network: the next sending will do.
                socket.udp.send(address, None, init, None);
            }
        }
    }
}

async fn over_tcp(shared: Arc<Shared>, wan: WanView, init: Vec<u8>) -> Option<Vec<u8>> {
    timeout(TCP_TIME, async {
        let stream = connect::connect_over(&shared, &wan).await.ok()?;
        let mut lane = LaneStream::new(stream, Arc::clone(&shared.pool));
        lane.queue_handshake(&init);
        lane.flush().await.ok()?;
        let frame = lane.frame().await.ok()?;
        (frame.kind == FrameKind::Handshake).then(|| lane.frame_bytes(&frame)[HEAD_LEN..].to_vec())
    })
    .await
    .ok()
    .flatten()
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).expect("the kernel's random generator works");
    out
}
