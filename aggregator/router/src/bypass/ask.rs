//! Asking a name server, without the system's resolver: just enough of DNS (RFC 1035).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use wanbond_relay::boxed;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};
use wanbond_control::words::ServerState;
use wanbond_linux::firewall::OWN;

use super::name_servers;
use crate::link;
use crate::shared::Shared;

const PORT: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(2);
/// The system's resolver comes first: it may know names of its own.
const SYSTEM_FIRST: Duration = Duration::from_secs(1);
/// Between two looks whether the server answers questions for names.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_secs(3);
const LOOK_RARELY: Duration = Duration::from_secs(300);

const HEADER: usize = 12;
const A: u16 = 1;
const NS: u16 = 2;
const AAAA: u16 = 28;
const IN: u16 = 1;
/// Answers that are read at most.
const MOST: usize = 32;

/// The addresses of the server's name. Where what the router asks is kept from leaving around the
/// server, the system's resolver can't tell them: then the WANs' name servers are asked directly.
///
/// # Errors
/// As the system's resolver has it.
pub(crate) async fn server_addresses(
    shared: Option<&Shared>,
    host: &str,
    port: u16,
) -> io::Result<Vec<SocketAddr>> {
    let system = async {
        let found = tokio::net::lookup_host((host, port)).await?;
        Ok::<Vec<SocketAddr>, io::Error>(found.collect())
    };
    tokio::pin!(system);
    if let Ok(found) = timeout(SYSTEM_FIRST, &mut system).await
        && let Ok(found) = found
    {
        return Ok(found);
    }
    let directly = match shared {
        Some(shared) => ask_over_wans(shared, host).await,
        None => Vec::new(),
    };
    if !directly.is_empty() {
        return Ok(directly.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
    }
    tokio::net::lookup_host((host, port)).await.map(Iterator::collect)
}

/// What the first name server says that has an address for `host`, asked over every WAN.
async fn ask_over_wans(shared: &Shared, host: &str) -> Vec<IpAddr> {
    let mut asking = JoinSet::new();
    let sources: Vec<IpAddr> =
        shared.wans.borrow().iter().flat_map(|wan| &wan.sockets).map(|s| s.source).collect();
    for server in name_servers::all() {
        for source in sources.iter().filter(|source| source.is_ipv4() == server.is_ipv4()) {
            for kind in [A, AAAA] {
                let (host, source) = (host.to_owned(), *source);
                asking.spawn(boxed(async move { ask(server, Some(source), &host, kind).await }));
            }
        }
    }
    while let Some(answer) = asking.join_next().await {
        if let Ok(Ok(found)) = answer
            && !found.is_empty()
        {
            return found;
        }
    }
    Vec::new()
}

/// Keeps known whether the server answers questions for names, as long as it is polled.
///
/// Each question wakes all paths of the tunnel. So a server that does not answer is asked ever more
/// rarely, and one that did is not asked while the LAN asks nothing either.
pub(crate) async fn watch_server(shared: Arc<Shared>) {
    let mut standing = shared.watch_standing();
    let mut pause = LOOK_AGAIN;
    // What the tunnel had carried for the LAN when the last answer came.
    let mut carried = None;
    loop {
        let inner = shared.sessions.current().and_then(|session| session.with(|s| s.inner()));
        let connected = standing.borrow_and_update().state == ServerState::Connected;
        let did = *shared.names_answered.borrow();
        let unused = carried.is_some() && carried == taken_in(&shared);
        let answers = match inner {
            Some(_) if connected && did && unused => true,
            Some(inner) if connected => {
                // The way there is set up within moments of the session.
                let tries = if did || pause == LOOK_AGAIN { 3 } else { 1 };
                let mut answers = false;
                for _ in 0..tries {
                    answers |= ask(inner.server_v4.into(), None, "", NS).await.is_ok();
                    if answers {
                        break;
                    }
                }
                carried = taken_in(&shared);
                answers
            }
            // A server that is gone will be asked once it is back; until then its packets wait.
            _ => did,
        };
        let news = shared
            .names_answered
            .send_if_modified(|was| std::mem::replace(was, answers) != answers);
        if news {
            info!(answers, "the server, asked for names");
        }
        let next = if answers { LOOK } else { pause };
        tokio::select! {
            () = sleep(next) => pause = (pause * 2).min(LOOK_RARELY),
            _ = standing.changed() => {
                pause = LOOK_AGAIN;
                carried = None;
            }
        }
        if answers {
            pause = LOOK_AGAIN;
        }
    }
}

/// Packets that the tunnel has taken from the LAN and from this router.
fn taken_in(shared: &Shared) -> Option<u64> {
    shared.tunnel().map(|tunnel| tunnel.figures().packets_in)
}

/// Whether a name server answers a question that every one of them has an answer to, and does not say
/// that it can't. It is asked as other programs of the router would ask it.
pub(crate) async fn works(server: IpAddr) -> bool {
    const CODE: u8 = 0x0f;
    let answer = exchange(server, None, "", NS, false).await;
    answer.is_ok_and(|answer| answer.get(3).is_some_and(|flags| flags & CODE == 0))
}

/// Asks a name server.
async fn ask(
    server: IpAddr,
    source: Option<IpAddr>,
    host: &str,
    kind: u16,
) -> io::Result<Vec<IpAddr>> {
    let answer = exchange(server, source, host, kind, true).await?;
    let id = u16::from_be_bytes([answer[0], answer[1]]);
    Ok(addresses(&answer, id).unwrap_or_default())
}

/// A question, and its answer. `own`: it is the daemon's, and not led into the tunnel.
async fn exchange(
    server: IpAddr,
    source: Option<IpAddr>,
    host: &str,
    kind: u16,
    own: bool,
) -> io::Result<Vec<u8>> {
    let any = match server {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket =
        Socket::new(Domain::for_address((any, 0).into()), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if own {
        socket.set_mark(OWN)?;
    }
    socket.bind(&SocketAddr::from((source.unwrap_or(any), 0)).into())?;
    socket.connect(&SocketAddr::from((server, PORT)).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let id = u16::from_ne_bytes(link::random());
    let question = question(id, host, kind).ok_or(io::ErrorKind::InvalidInput)?;
    socket.send(&question).await?;
    let mut message = [0; 1232];
    let answer = async {
        loop {
            let length = socket.recv(&mut message).await?;
            if addresses(&message[..length], id).is_some() {
                return Ok(message[..length].to_vec());
            }
            debug!(%server, "something that is no answer");
        }
    };
    timeout(PATIENCE, answer).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// A question; `None` if `host` is no name.
fn question(id: u16, host: &str, kind: u16) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + host.len() + 6);
    message.extend(id.to_be_bytes());
    // Recursion desired, one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let name = host.strip_suffix('.').unwrap_or(host);
    if !name.is_empty() {
        for label in name.split('.') {
            let length =
                u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length))?;
            message.push(length);
            message.extend(label.bytes());
        }
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(IN.to_be_bytes());
    Some(message)
}

/// The addresses in an answer to the question with this id; `None` if it is no answer to it.
fn addresses(message: &[u8], id: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    const IS_ANSWER: u16 = 0x8000;
    if word(0)? != id || word(2)? & IS_ANSWER == 0 {
        return None;
    }
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = HEADER;
    for _ in 0..questions.min(4) {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..usize::from(answers).min(MOST) {
        at = after_name(message, at)?;
        let (kind, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        match kind {
            A => found.extend(<[u8; 4]>::try_from(data).map(IpAddr::from)),
            AAAA => found.extend(<[u8; 16]>::try_from(data).map(IpAddr::from)),
            _ => {}
        }
        at += 10 + length;
    }
    Some(found)
}

/// Where a name ends that begins at `at`.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // A pointer ends it (RFC 1035 §4.1.4).
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(id: u16) -> Vec<u8> {
        let mut message = question(id, "vps.example.net", A).unwrap();
        message[2] = 0x81;
        message[7] = 3;
        // A name of its own (a CNAME), then two addresses, all by pointers to the question's.
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 16]);
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        message.extend([3, b'x', b'y', b'z', 0, 0, 28, 0, 1, 0, 0, 0, 60, 0, 16]);
        message.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        message
    }

    #[test]
    fn addresses_are_found() {
        let expected: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        assert_eq!(addresses(&answer(7), 7).unwrap(), expected);
        assert_eq!(addresses(&answer(7), 8), None, "of another question");
        assert_eq!(addresses(&question(7, "a.de", A).unwrap(), 7), None, "a question");
        assert_eq!(question(1, "", NS).unwrap().len(), HEADER + 5);
        assert_eq!(question(1, "a..b", A), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(cut in 0..200usize, at in 0..200usize, byte: u8) {
            let mut message = answer(7);
            message.truncate(cut);
            if let Some(place) = message.get_mut(at) {
                *place = byte;
            }
            let _ = addresses(&message, 7);
        }
    }
}
