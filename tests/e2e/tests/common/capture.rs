//! Packet captures by tcpdump, and just enough of a reader.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use wanbond_lab::Lab;
use wanbond_lab::ns::Namespace;

/// A capture that goes on until it is read.
pub(crate) struct Capture {
    child: Child,
    path: PathBuf,
}

/// A captured packet of IPv4.
#[derive(Debug, Clone)]
pub(crate) enum Packet {
    /// TCP: source address and port, sequence number, payload.
    Tcp((Ipv4Addr, u16), u32, Vec<u8>),
    /// UDP: its payload.
    Udp(Vec<u8>),
}

impl Capture {
    /// Captures what passes a device.
    pub(crate) fn start(lab: &Lab, ns: &Namespace, device: &str, filter: &str) -> Self {
        let path = lab.dir().join(format!("{}-{device}.pcap", ns.name()));
        let mut command = Namespace::command("tcpdump");
        // As root: it would give that up, and may then not write here.
        command.args(["-Z", "root", "-i", device, "-U", "--immediate-mode", "-s", "0", "-w"]);
        command.arg(&path).arg(filter).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = ns.spawn(command).expect("tcpdump starts");
        let mut said = BufReader::new(child.stderr.take().expect("its messages"));
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert!(said.read_line(&mut line).expect("its messages") > 0, "tcpdump has ended");
        }
        // Its last words have somewhere to go, too.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, path }
    }

    /// The file as it is now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap_or_default()
    }

    /// The packets so far, of an Ethernet device.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        const FILE_HEADER: usize = 24;
        const PACKET_HEADER: usize = 16;
        const ETHERNET: usize = 14;
        let file = self.bytes();
        let mut rest = file.get(FILE_HEADER..).unwrap_or_default();
        let mut packets = Vec::new();
        while let Some(length) = rest.get(8..12) {
            let length = u32::from_ne_bytes(length.try_into().expect("four bytes")) as usize;
            let Some(packet) = rest.get(PACKET_HEADER..PACKET_HEADER + length) else { break };
            packets.extend(packet.get(ETHERNET..).and_then(parse));
            rest = &rest[PACKET_HEADER + length..];
        }
        packets
    }

    /// The payloads of the UDP packets so far.
    pub(crate) fn datagrams(&self) -> Vec<Vec<u8>> {
        let udp = |packet| match packet {
            Packet::Udp(payload) => Some(payload),
            Packet::Tcp(..) => None,
        };
        self.packets().into_iter().filter_map(udp).collect()
    }

    /// What each sender of TCP sent so far, in order: a connection, or a subflow of one.
    pub(crate) fn streams(&self) -> Vec<Vec<u8>> {
        let mut senders: BTreeMap<_, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
        for packet in self.packets() {
            if let Packet::Tcp(from, at, payload) = packet
                && !payload.is_empty()
            {
                senders.entry(from).or_default().insert(at, payload);
            }
        }
        senders.into_values().map(|pieces| pieces.into_values().flatten().collect()).collect()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(ip: &[u8]) -> Option<Packet> {
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let (source, payload) = (ip.get(12..16)?, ip.get(header..total.min(ip.len()))?);
    let source: [u8; 4] = source.try_into().ok()?;
    let port = u16::from_be_bytes([*payload.first()?, *payload.get(1)?]);
    match ip[9] {
        6 => {
            let at = u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?);
            let data = payload.get(usize::from(*payload.get(12)? >> 4) * 4..)?;
            Some(Packet::Tcp((source.into(), port), at, data.to_vec()))
        }
        17 => Some(Packet::Udp(payload.get(8..)?.to_vec())),
        _ => None,
    }
}
