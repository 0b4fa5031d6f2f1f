//! `wanbond-server probe`: does a wanbond server answer there?

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, bail};
use ring::rand::{SecureRandom as _, SystemRandom};
use wanbond_proto::datagram::{DATAGRAM, HEADER_LEN, OVERHEAD, index_of};
use wanbond_proto::handshake::unknown_session;
use wanbond_proto::pairing::Endpoint;

/// Datagrams may get lost: so many are sent, one per [`WAIT`].
const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(3);

/// Asks every endpoint and prints a line for each; fails if one does not answer.
pub(super) fn run(endpoints: &[Endpoint]) -> anyhow::Result<()> {
    let mut silent = Vec::new();
    for endpoint in endpoints {
        let name = (endpoint.host.as_str(), endpoint.port);
        let addresses =
            name.to_socket_addrs().with_context(|| format!("{endpoint}: no address"))?;
        for address in addresses {
            for (protocol, answer) in [("udp", udp(address)), ("tcp", tcp(address))] {
                match answer {
                    Ok(()) => println!("{protocol} {address}: answers"),
                    Err(error) => {
                        println!("{protocol} {address}: {error}");
                        silent.push(format!("{protocol} {address}"));
                    }
                }
            }
        }
    }
    if !silent.is_empty() {
        bail!(
            "no answer from {}; does the server run, and do all firewalls on the way let it through?",
            silent.join(", ")
        );
    }
    Ok(())
}

/// A datagram of a session that no server has: it says so, and repeats the end of what it got.
fn udp(address: SocketAddr) -> io::Result<()> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(WAIT))?;
    let mut last = io::ErrorKind::TimedOut.into();
    for _ in 0..TRIES {
        let mut question = [0; OVERHEAD];
        SystemRandom::new()
            .fill(&mut question[HEADER_LEN - 4..])
            .map_err(|_| io::Error::other("the system gave no random numbers"))?;
        question[0] = DATAGRAM;
        socket.send(&question)?;
        let mut bytes = [0; 64];
        match socket.recv(&mut bytes) {
            Ok(length) => {
                let answer = unknown_session::decode(&bytes[..length]);
                if answer.is_some_and(|(index, proof)| {
                    Some(index) == index_of(&question) && question.ends_with(&proof)
                }) {
                    return Ok(());
                }
                last = io::Error::other("something else than a wanbond server answers");
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn tcp(address: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&address, CONNECT).map(drop)
}
