//! A name server of the lab's Internet, and hosts that ask.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use wanbond_lab::ns::Namespace;

/// Answers every question with one address, and remembers who asked.
pub(crate) struct NameServer {
    asked_by: Arc<Mutex<BTreeSet<IpAddr>>>,
    task: AbortHandle,
}

impl NameServer {
    pub(crate) fn start(ns: &Namespace, at: Ipv4Addr, answer: Ipv4Addr) -> Self {
        let socket = ns.udp_socket((at, 53).into()).expect("the port is free");
        let socket = UdpSocket::from_std(socket).expect("tokio");
        let asked_by = Arc::<Mutex<BTreeSet<IpAddr>>>::default();
        let asked = Arc::clone(&asked_by);
        let task = tokio::spawn(async move {
            let mut question = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                asked.lock().expect("no panic").insert(from.ip());
                let _ = socket.send_to(&reply(&question[..length], answer), from).await;
            }
        })
        .abort_handle();
        Self { asked_by, task }
    }

    /// Who has asked since this was last called.
    pub(crate) fn asked_by(&self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.asked_by.lock().expect("no panic"))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The question with an answer of one A record, for whatever name; none for other kinds.
fn reply(question: &[u8], answer: Ipv4Addr) -> Vec<u8> {
    let mut end = 12;
    while question.get(end).is_some_and(|length| *length != 0) {
        end += 1 + usize::from(question[end]);
    }
    let mut reply = question[..(end + 5).min(question.len())].to_vec();
    let is_a = question.get(end + 1..end + 3) == Some(&[0, 1]);
    reply[2..4].copy_from_slice(&[0x81, 0x80]);
    reply[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        reply.extend(answer.octets());
    }
    reply
}

fn question(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("a label"));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Asks once; how long the answer took, if it came within `patience`.
pub(crate) async fn ask(
    ns: &Namespace,
    server: SocketAddr,
    name: &str,
    patience: Duration,
) -> Option<Duration> {
    // A new port for every question, as resolvers do.
    let socket = ns.udp_socket(([0, 0, 0, 0], 0).into()).expect("a socket");
    let socket = UdpSocket::from_std(socket).expect("tokio");
    let start = Instant::now();
    socket.send_to(&question(7, name), server).await.ok()?;
    let mut answer = [0; 1500];
    let (length, _) = timeout(patience, socket.recv_from(&mut answer)).await.ok()?.ok()?;
    (length > 12 && answer[7] == 1).then(|| start.elapsed())
}
