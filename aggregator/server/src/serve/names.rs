//! Answers what routers ask of a name server, at the server's inner addresses: it asks the VPS's own.
//!
//! A home's name servers often answer only in their own provider's network. So a router sends here what
//! it would have asked those, through the tunnel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use crate::inner::InnerNetwork;

const PORT: u16 = 53;
/// Questions and connections that wait for an answer at once.
const AT_ONCE: usize = 512;
/// A name server that does not answer within this time is not the only one.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A whole conversation over TCP.
const TCP_PATIENCE: Duration = Duration::from_secs(30);
/// The address is there once the kernel's side of the tunnel is set up.
const UNTIL_THERE: Duration = Duration::from_millis(200);
/// And if it never comes, or another program has the port.
const MOST_PAUSE: Duration = Duration::from_secs(30);
/// The largest UDP message that is passed on; larger ones go by TCP (RFC 9715 recommends far less).
const LARGEST: usize = 4096;
/// A header's length (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// Serves until it is dropped. `configured` are asked, or else those of `/etc/resolv.conf`.
pub(super) async fn serve(inner: InnerNetwork, configured: Vec<IpAddr>) {
    let (v4, v6): (Ipv4Addr, Ipv6Addr) = inner.server();
    let service = Arc::new(Service { inner, configured, free: Arc::new(Semaphore::new(AT_ONCE)) });
    tokio::join!(
        service.udp(SocketAddr::from((v4, PORT))),
        service.udp(SocketAddr::from((v6, PORT))),
        service.tcp(SocketAddr::from((v4, PORT))),
        service.tcp(SocketAddr::from((v6, PORT))),
    );
}

struct Service {
    inner: InnerNetwork,
    configured: Vec<IpAddr>,
    free: Arc<Semaphore>,
}

impl Service {
    async fn udp(self: &Arc<Self>, at: SocketAddr) {
        let socket = Arc::new(bound(at, || UdpSocket::bind(at)).await);
        let mut question = [0; LARGEST];
        loop {
            let (length, from) = match socket.recv_from(&mut question).await {
                Ok(received) => received,
                Err(error) => {
                    debug!(%error, "name server");
                    sleep(UNTIL_THERE).await;
                    continue;
                }
            };
            if length < HEADER || !self.is_router(from.ip()) {
                continue;
            }
            // Whoever asks asks again.
            let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else { continue };
            let question = question[..length].to_vec();
            let (service, socket) = (Arc::clone(self), Arc::clone(&socket));
            tokio::spawn(async move {
                for server in service.servers() {
                    if let Ok(answer) = ask(server, &question).await {
                        let _ = socket.send_to(&answer, from).await;
                        break;
                    }
                }
                drop(permit);
            });
        }
    }

    async fn tcp(self: &Arc<Self>, at: SocketAddr) {
        let listener = bound(at, || TcpListener::bind(at)).await;
        loop {
            let (mut router, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "name server");
                    sleep(UNTIL_THERE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else { continue };
            if !self.is_router(from.ip()) {
                continue;
            }
            let service = Arc::clone(self);
            tokio::spawn(async move {
                let conversation = async {
                    for server in service.servers() {
                        let connect = TcpStream::connect((server, PORT));
                        if let Ok(Ok(mut server)) = timeout(PATIENCE, connect).await {
                            let _ = tokio::io::copy_bidirectional(&mut router, &mut server).await;
                            break;
                        }
                    }
                };
                let _ = timeout(TCP_PATIENCE, conversation).await;
                drop(permit);
            });
        }
    }

    /// Nobody else is answered: the firewall lets no other in by these addresses.
    fn is_router(&self, from: IpAddr) -> bool {
        self.inner.v4().contains(from) || self.inner.v6().contains(from)
    }

    fn servers(&self) -> Vec<IpAddr> {
        if !self.configured.is_empty() {
            return self.configured.clone();
        }
        let file = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let servers = name_servers(&file);
        // As the C library has it (resolv.conf(5)).
        if servers.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { servers }
    }
}

/// What `open` makes, as soon as it can.
async fn bound<T, F: Future<Output = io::Result<T>>>(at: SocketAddr, open: impl Fn() -> F) -> T {
    let mut pause = UNTIL_THERE;
    loop {
        match open().await {
            Ok(bound) => return bound,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && pause == UNTIL_THERE => {
                info!(%at, "another program answers routers' questions for names here");
            }
            Err(error) => debug!(%at, %error, "name server"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(MOST_PAUSE);
    }
}

/// Asks from a port of its own, so that answers can't be forged by who does not see the question.
async fn ask(server: IpAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect((server, PORT)).await?;
    socket.send(question).await?;
    let mut answer = vec![0; LARGEST];
    let received = async {
        loop {
            let length = socket.recv(&mut answer).await?;
            // The same id, or it is no answer to this.
            if length >= HEADER && answer[..2] == question[..2] {
                return Ok::<usize, io::Error>(length);
            }
        }
    };
    let length = timeout(PATIENCE, received).await.map_err(|_| io::ErrorKind::TimedOut)??;
    answer.truncate(length);
    Ok(answer)
}

fn name_servers(resolv_conf: &str) -> Vec<IpAddr> {
    let server = |line: &str| line.trim().strip_prefix("nameserver")?.trim().parse().ok();
    resolv_conf.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_of_the_vps() {
        let text = "# comment\nnameserver 192.0.2.53\nsearch x\nnameserver ::1\nnameserver bad\n";
        let expected: [IpAddr; 2] = ["192.0.2.53".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(name_servers(text), expected);
    }
}
