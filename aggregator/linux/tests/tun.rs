//! TUN devices in a real kernel: two, in a namespace each, joined by the code under test.
//!
//! ```text
//!  here: sockets ─ tun ═ read, cut ─▶ join, write ═ tun ─ sockets: over there
//! ```

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{Neighbour, in_namespace, patient, sh, until};
use nix::sys::socket::{setsockopt, sockopt};
use wanbond_linux::netstate::Netlink;
use wanbond_linux::tun::{Offloads, RecvBuffer, Tun, TunError, TunOptions, TunQueue};

const MTU: u32 = 1400;
const HERE: [&str; 2] = ["10.0.0.1", "fd00::1"];
const THERE: [&str; 2] = ["10.0.0.2", "fd00::2"];

/// What went from one device to the other.
#[derive(Debug, Default)]
struct Counts {
    reads: AtomicUsize,
    packets: AtomicUsize,
    writes: AtomicUsize,
}

/// Moves packets from one device to the other for ever, all that there is at a time.
async fn pump(from: Arc<TunQueue>, to: Arc<TunQueue>, counts: Arc<Counts>) {
    let mut buffer = RecvBuffer::new();
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    loop {
        bytes.clear();
        ends.clear();
        let mut take = |packet: &[u8]| {
            assert!(packet.len() <= MTU as usize, "{} bytes", packet.len());
            bytes.extend_from_slice(packet);
            ends.push(bytes.len());
        };
        let first = from.recv(&mut buffer, &mut take).await.unwrap();
        let more = std::iter::from_fn(|| from.try_recv(&mut buffer, &mut take).ok());
        for received in std::iter::once(first).chain(more.take(15)) {
            assert_eq!(received.dropped, None);
            counts.reads.fetch_add(1, Relaxed);
        }
        let mut begin = 0;
        let sent = to.send(ends.iter().map(|end| {
            let packet = &bytes[begin..*end];
            begin = *end;
            packet
        }));
        assert_eq!((sent.packets, sent.failed), (ends.len(), 0), "{:?}", sent.error);
        counts.packets.fetch_add(sent.packets, Relaxed);
        counts.writes.fetch_add(sent.writes, Relaxed);
    }
}

struct World {
    there: Neighbour,
    /// From here to there, and back.
    counts: [Arc<Counts>; 2],
    pumps: Vec<tokio::task::JoinHandle<()>>,
    offloads: Offloads,
}

async fn configure(device: &str, addresses: [&str; 2], peer: [&str; 2]) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
    let netlink = Netlink::new().await.unwrap();
    let refused = netlink.configure_device(device, MTU, &addresses).await.unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    for peer in peer {
        sh(&format!("ip route add {peer} dev {device}"));
    }
    // The kernel takes packets to a new IPv6 address a moment after it has the address.
    let local = format!("local {}", addresses[1]);
    until(&local, || sh("ip -6 route show table local").contains(&local)).await;
}

impl World {
    async fn new(offloads: Offloads, queues: usize) -> Self {
        let there = Neighbour::new();
        let options = TunOptions { queues, offloads };
        let own = Tun::open("tun-here", &options).unwrap();
        configure("tun-here", HERE, THERE).await;
        let other = there.run(|| Tun::open("tun-there", &options)).unwrap();
        there.block_on(configure("tun-there", THERE, HERE));
        let offloads = own.offloads();
        let mut world = Self { there, counts: Default::default(), pumps: Vec::new(), offloads };
        let own: Vec<_> = own.into_queues().into_iter().map(Arc::new).collect();
        let other: Vec<_> = other.into_queues().into_iter().map(Arc::new).collect();
        assert_eq!((own.len(), other.len()), (queues, queues));
        for (own, other) in own.into_iter().zip(other) {
            let [to, back] = world.counts.clone();
            world.pumps.push(tokio::spawn(pump(own.clone(), other.clone(), to)));
            world.pumps.push(tokio::spawn(pump(other, own, back)));
        }
        world
    }

    /// The pumps ended in no panic.
    fn check(&self) {
        assert!(self.pumps.iter().all(|pump| !pump.is_finished()));
    }

    fn seen(&self) -> (usize, usize, usize) {
        let there = &self.counts[0];
        (there.reads.load(Relaxed), there.packets.load(Relaxed), there.writes.load(Relaxed))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.pumps.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Bytes that tell where they belong.
fn pattern(at: usize) -> u8 {
    (at ^ (at >> 8) ^ (at >> 16)) as u8
}

/// Sends bytes over TCP from here to there and has some back. Returns the time it took.
async fn tcp_transfer(world: &World, to: &str, bytes: usize) -> Duration {
    let address = SocketAddr::new(to.parse().unwrap(), 7000);
    let listener = world.there.run(|| TcpListener::bind(address)).unwrap();
    let sink = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = vec![0; 1 << 18];
        let mut seen = 0;
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                read => {
                    let good = |(at, byte): (usize, &u8)| pattern(seen + at) == *byte;
                    assert!(buffer[..read].iter().enumerate().all(good), "behind {seen}");
                    seen += read;
                }
            }
        }
        stream.write_all(b"done").unwrap();
        seen
    });
    let started = Instant::now();
    // In a thread that was made here, so in this namespace.
    let source = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut at = 0;
        let mut chunk = vec![0; 1 << 18];
        while at < bytes {
            let length = chunk.len().min(bytes - at);
            chunk[..length].iter_mut().enumerate().for_each(|(i, byte)| *byte = pattern(at + i));
            stream.write_all(&chunk[..length]).unwrap();
            at += length;
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "done");
    });
    patient("a TCP transfer", source).await.unwrap();
    assert_eq!(sink.await.unwrap(), bytes);
    started.elapsed()
}

/// Sends datagrams from here to there, several in one call if the kernel can, and checks each.
async fn udp_transfer(world: &World, to: &str, rounds: usize) {
    const SIZE: usize = 1200;
    const EACH: usize = 20;
    let address = SocketAddr::new(to.parse().unwrap(), 7001);
    let sink = world.there.run(|| UdpSocket::bind(address)).unwrap();
    let work = tokio::task::spawn_blocking(move || {
        let wildcard = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let source = UdpSocket::bind(wildcard).unwrap();
        source.connect(address).unwrap();
        setsockopt(&source, sockopt::UdpGsoSegment, &(SIZE as i32)).unwrap();
        sink.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        for round in 0..rounds {
            // The last is shorter.
            let length = SIZE * EACH - 100;
            let data: Vec<u8> = (0..length).map(|at| pattern(at + round)).collect();
            assert_eq!(source.send(&data).unwrap(), length);
            let mut room = [0; 2000];
            for datagram in data.chunks(SIZE) {
                let length = sink.recv(&mut room).unwrap();
                assert!(room[..length] == *datagram, "round {round}");
            }
        }
    });
    patient("a UDP transfer", work).await.unwrap();
}

const MEGABYTE: usize = 1 << 20;

async fn transfers(offloads: Offloads) -> World {
    let world = World::new(offloads, 1).await;
    for to in THERE {
        tcp_transfer(&world, to, 24 * MEGABYTE).await;
        world.check();
    }
    world
}

#[test]
fn tcp_with_all_that_the_kernel_has() {
    in_namespace(|| async {
        let world = transfers(Offloads::ALL).await;
        assert!(world.offloads.tcp, "{:?}", world.offloads);
        let (reads, packets, writes) = world.seen();
        assert!(packets > 5 * reads, "{packets} packets in {reads} reads");
        assert!(packets > 5 * writes, "{packets} packets in {writes} writes");
    });
}

#[test]
fn tcp_without_any_of_it() {
    for offloads in [Offloads::NONE, Offloads { header: true, ..Offloads::NONE }] {
        in_namespace(move || async move {
            let world = transfers(offloads).await;
            assert_eq!(world.offloads, offloads);
            // The last acknowledgements may be between having been read and written.
            until("a read and a write for every packet", || {
                let (reads, packets, writes) = world.seen();
                (reads, writes) == (packets, packets)
            })
            .await;
        });
    }
}

#[test]
fn tcp_with_checksums_left_to_us() {
    in_namespace(|| async {
        let offloads = Offloads { tcp: false, udp: false, ..Offloads::ALL };
        let world = transfers(offloads).await;
        assert_eq!(world.offloads, offloads);
    });
}

#[test]
fn udp_with_and_without() {
    in_namespace(|| async {
        let world = World::new(Offloads::ALL, 1).await;
        for to in THERE {
            udp_transfer(&world, to, 300).await;
            world.check();
        }
        let (reads, packets, writes) = world.seen();
        if world.offloads.udp {
            assert!(packets > 5 * reads, "{packets} packets in {reads} reads");
            assert!(packets > 5 * writes, "{packets} packets in {writes} writes");
        } else {
            eprintln!("SKIPPED: UDP segmentation offload in TUN needs Linux 6.2");
        }
    });
    in_namespace(|| async {
        let world = World::new(Offloads { udp: false, ..Offloads::ALL }, 1).await;
        for to in THERE {
            udp_transfer(&world, to, 300).await;
            world.check();
        }
    });
    in_namespace(|| async {
        let world = World::new(Offloads::NONE, 1).await;
        for to in THERE {
            udp_transfer(&world, to, 300).await;
            world.check();
        }
    });
}

#[test]
fn several_queues() {
    in_namespace(|| async {
        let world = World::new(Offloads::ALL, 3).await;
        for to in THERE {
            tcp_transfer(&world, to, 8 * MEGABYTE).await;
            udp_transfer(&world, to, 50).await;
            world.check();
        }
    });
}

#[test]
fn it_goes_when_dropped_and_takes_no_ones_place() {
    in_namespace(|| async {
        let options = TunOptions::default();
        let tun = Tun::open("tun0", &options).unwrap();
        assert_eq!(tun.name(), "tun0");
        assert!(sh("ip link show").contains("tun0"));
        let taken = |options| matches!(Tun::open("tun0", options), Err(TunError::Taken(_)));
        assert!(taken(&options));
        assert!(taken(&TunOptions { queues: 2, offloads: Offloads::NONE }));
        drop(tun);
        assert!(!sh("ip link show").contains("tun0"));

        // Left behind by somebody who made it to stay, and a device of another kind.
        sh("ip tuntap add tun0 mode tun");
        assert!(taken(&options));
        let error = Tun::open("tun0", &options).unwrap_err().to_string();
        assert!(error.contains("ip link delete tun0"), "{error}");
        sh("ip link delete tun0; ip link add tun0 type bridge");
        assert!(taken(&options));
        sh("ip link delete tun0");
        drop(Tun::open("tun0", &options).unwrap());
    });
}

#[test]
fn it_is_taken_away() {
    in_namespace(|| async {
        let tun = Tun::open("tun0", &TunOptions::default()).unwrap();
        let queue = &tun.queues()[0];
        let mut buffer = RecvBuffer::new();
        sh("ip link set tun0 up");
        // Whatever the kernel says of itself to a new device.
        until("silence", || queue.try_recv(&mut buffer, |_| {}).is_err()).await;
        sh("ip link set tun0 down");
        let sent = queue.send([&[0x45; 20][..]]);
        assert_eq!((sent.packets, sent.failed), (0, 1));
        assert!(sent.error.is_some());
        // It tells whoever waits, too, after what the kernel may have said before the device went down.
        let ended = async {
            loop {
                if let Err(error) = queue.recv(&mut buffer, |_| {}).await {
                    return error;
                }
            }
        };
        let waiting = patient("the end of the device", ended);
        let remove = async {
            tokio::task::yield_now().await;
            sh("ip link delete tun0");
        };
        let error = tokio::join!(waiting, remove).0;
        assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
        // And whoever comes later.
        let waiting = queue.recv(&mut buffer, |_| {});
        let error = patient("the end of the device", waiting).await.unwrap_err();
        assert_ne!(error.kind(), ErrorKind::WouldBlock, "{error}");
    });
}
