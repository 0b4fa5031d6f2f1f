//! One handshake by UDP, to see whether a server is there and takes a pairing code. Its session is never
//! used, so that the server keeps the one it has.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use wanbond_linux::socket::udp_bind;
use wanbond_proto::crypto::aead::Suite;
use wanbond_proto::handshake::{Notice, Reply, RouterHandshake, RouterIdentity};
use wanbond_proto::inner::Instance;
use wanbond_proto::session::Session;
use wanbond_relay::Clock;

use super::random;

/// When the Init is sent again, after its first sending.
const RESEND: [Duration; 3] =
    [Duration::from_millis(300), Duration::from_millis(900), Duration::from_millis(1900)];

/// What came of a handshake.
pub(crate) enum Answer {
    /// The server took the code.
    Taken {
        /// The address that it saw.
        observed: Option<SocketAddr>,
        after: Duration,
    },
    /// It knows the protocol, and says no.
    Refused(Notice),
    /// Something is there that says nothing, or nothing that is ours.
    Silent,
    /// Nothing is there.
    Unreachable,
}

/// What handshakes are made with.
pub(crate) struct Prober {
    pub(crate) identity: RouterIdentity,
    pub(crate) suites: Vec<Suite>,
    pub(crate) instance: Instance,
    pub(crate) clock: Clock,
}

impl Prober {
    /// A new handshake; none where the code's key is no key.
    pub(crate) fn handshake(&self) -> Option<RouterHandshake> {
        let index = u32::from_be_bytes(random());
        let identity = self.identity.clone();
        RouterHandshake::start(identity, index, random(), &self.suites, self.instance).ok()
    }

    /// Asks from `source`, for at most `time`.
    pub(crate) async fn ask(
        &self,
        device: Option<&str>,
        source: IpAddr,
        server: SocketAddr,
        time: Duration,
    ) -> Answer {
        let Some(mut handshake) = self.handshake() else { return Answer::Silent };
        let Ok(socket) = udp_bind(SocketAddr::new(source, 0), device, None) else {
            return Answer::Unreachable;
        };
        let start = Instant::now();
        let end = start + time;
        let mut resend = RESEND.iter().map(|after| start + *after).filter(|at| *at < end);
        let mut sent = start;
        let mut buffer = [0; 2048];
        let mut refused = None;
        // A network that is unreachable is as good as a silent one here.
        let _ = socket.send_to(&handshake.init(self.clock.now()), server).await;
        loop {
            let wake = resend.next().unwrap_or(end);
            while let Ok(received) = timeout_at(wake, socket.recv_from(&mut buffer)).await {
                let Ok((length, from)) = received else {
                    // An ICMP error; the next datagram may fare better.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                if from != server {
                    continue;
                }
                match handshake.handle(self.clock.now(), &buffer[..length]) {
                    Ok(Reply::Session(session)) => return taken(&session, sent.elapsed()),
                    Ok(Reply::SendAgain) => {
                        sent = Instant::now();
                        let _ = socket.send_to(&handshake.init(self.clock.now()), server).await;
                    }
                    Ok(Reply::Notice(notice)) => refused = Some(notice),
                    Err(_) => {}
                }
            }
            // Only a hint: a forged one must not stop the true answer.
            if let Some(notice) = refused {
                return Answer::Refused(notice);
            }
            if wake >= end {
                return Answer::Silent;
            }
            sent = Instant::now();
            let _ = socket.send_to(&handshake.init(self.clock.now()), server).await;
        }
    }
}

/// The answer that a session is.
pub(crate) fn taken(session: &Session, after: Duration) -> Answer {
    Answer::Taken { observed: session.observed(), after }
}
