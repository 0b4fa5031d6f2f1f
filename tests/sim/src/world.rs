//! The event loop.

use wanbond_proto::datagram::{HEADER_LEN, PathId};
use wanbond_proto::tunnel::TunnelEvent;
use wanbond_proto::tunnel::stream::StreamEvent;

use crate::Time;
use crate::envelope::SERVER;
use crate::hostile::Hostile;
use crate::link::{Datagram, ETHERNET, IP_UDP, Link, LinkSpec};
use crate::net::{End, Net, Side, identify};
use crate::traffic::Traffic;

/// An end that asks to be called so often within a millisecond has a timer that runs in circles.
const MOST_WAKEUPS: u64 = 500;

type Change = Box<dyn FnOnce(Time, &mut World)>;

/// Router, server, links and traffic.
pub struct World {
    now: Time,
    /// Both ends.
    pub net: Net,
    /// The WANs, by the numbers of their paths.
    pub links: Vec<Link>,
    traffic: Vec<Traffic>,
    script: Vec<(Time, Change)>,
    /// What the ends noticed.
    pub events: Vec<(Time, Side, TunnelEvent)>,
    /// Datagrams sent by each side, and their bytes as IP packets.
    pub datagrams: [u64; 2],
    /// How often an end was called.
    pub wakeups: u64,
    /// Datagrams that were not genuine, or came before.
    pub refused: u64,
    /// The most that each end had in memory, as far as it tells: packets, and streams.
    pub peaks: [Peak; 2],
    /// Who meddles with datagrams.
    pub(crate) hostile: Option<Hostile>,
    buffer: Vec<u8>,
}

/// The most bytes in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peak {
    /// Of packets that wait to be sent or to be put in order.
    pub packets: usize,
    /// Of streams.
    pub streams: usize,
}

impl World {
    /// A world at its first moment.
    #[must_use]
    pub fn new(links: &[LinkSpec], seed: u64) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            net: Net::new(seed),
            links: Vec::new(),
            traffic: Vec::new(),
            script: Vec::new(),
            events: Vec::new(),
            datagrams: [0; 2],
            wakeups: 0,
            refused: 0,
            peaks: [Peak::default(); 2],
            hostile: None,
            buffer: Vec::new(),
        };
        for spec in links {
            world.add_link(spec, seed);
        }
        world
    }

    /// A world with one link and no tunnel: packets go over it as they are.
    #[must_use]
    pub fn bare(link: &LinkSpec, seed: u64) -> Self {
        let mut world = Self::new(&[], seed);
        world.net.bare = Some(Vec::new());
        let id = PathId::new(0).expect("the first path");
        world.links.push(Link::new(id, link, seed));
        world
    }

    /// Has somebody sit on the links.
    pub fn meddle(&mut self, hostile: Hostile) {
        self.hostile = Some(hostile);
    }

    /// Looks into each datagram, so that [`Self::settle`] can tell where packets got lost.
    pub const fn follow_packets(&mut self) {
        self.net.ledger.follows = true;
    }

    /// Plugs a WAN in: the router knows of it, the server hears of it with its first datagram.
    ///
    /// # Panics
    /// With more WANs than there can be paths.
    pub fn add_link(&mut self, spec: &LinkSpec, seed: u64) {
        let id = PathId::new(self.links.len() as u8).expect("few enough paths");
        self.links.push(Link::new(id, spec, seed));
        self.net.set_path(self.now, Side::Router, id);
    }

    /// Adds traffic; what it is called from now on.
    pub fn add(&mut self, traffic: impl FnOnce(usize) -> Traffic) -> usize {
        let flow = self.traffic.len();
        self.traffic.push(traffic(flow));
        flow
    }

    /// The traffic that [`Self::add`] called `flow`.
    #[must_use]
    pub fn traffic(&self, flow: usize) -> &Traffic {
        &self.traffic[flow]
    }

    /// The same, to change it.
    pub fn traffic_mut(&mut self, flow: usize) -> &mut Traffic {
        &mut self.traffic[flow]
    }

    /// Has something done at a time that is to come.
    pub fn at(&mut self, at: Time, change: impl FnOnce(Time, &mut Self) + 'static) {
        self.script.push((at, Box::new(change)));
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Time {
        self.now
    }

    /// Lets time pass.
    ///
    /// # Panics
    /// When an end wants to be called again and again.
    pub fn run_until(&mut self, end: Time) {
        let (mut since, mut before) = (self.now, self.wakeups);
        while let Some(next) = self.due().filter(|&due| due <= end) {
            if next.since(since).as_millis() > 0 {
                (since, before) = (next, self.wakeups);
            }
            assert!(
                self.wakeups - before < MOST_WAKEUPS,
                "a timer runs in circles at {:?}: {:?}",
                self.now,
                self.net.ends.each_ref().map(End::due)
            );
            self.now = self.now.max(next);
            self.step();
        }
        self.now = end;
    }

    fn due(&self) -> Option<Time> {
        let links = self.links.iter().filter_map(Link::due);
        let ends = self.net.ends.iter().filter_map(|end| end.due());
        let traffic = self.traffic.iter().filter_map(Traffic::due);
        let script = self.script.iter().map(|&(at, _)| at);
        links.chain(ends).chain(traffic).chain(script).min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(index) = self.script.iter().position(|&(at, _)| at <= now) {
            let (_, change) = self.script.remove(index);
            change(now, self);
        }
        for index in 0..self.links.len() {
            for from in Side::BOTH {
                while let Some(datagram) = self.links[index].poll(now, from) {
                    if self.net.bare.is_some() {
                        self.deliver(from.other(), &datagram.bytes);
                    } else {
                        self.arrive(from.other(), datagram);
                    }
                }
            }
        }
        for side in Side::BOTH {
            let end = self.net.end(side);
            if end.due().is_some_and(|due| due <= now) {
                let at = end.clock(now);
                end.tunnel.handle_timeout(at);
                self.wakeups += 1;
            }
        }
        for flow in &mut self.traffic {
            if flow.due().is_some_and(|due| due <= now) {
                flow.run(now, &mut self.net);
            }
        }
        while self.hand_out() {}
        for side in Side::BOTH {
            self.transmit(side);
        }
    }

    fn arrive(&mut self, side: Side, mut datagram: Datagram) {
        let now = self.now;
        let end = self.net.end(side);
        let at = end.clock(now);
        let Some(opened) = end.envelope.open(&mut datagram.bytes) else {
            self.refused += 1;
            return;
        };
        let (path, number, newest, body) = (opened.path, opened.number, opened.newest, opened.body);
        if side == Side::Server && newest && end.envelope.follow(path, datagram.source) {
            end.tunnel.set_path(at, path, IP_UDP, ETHERNET);
        }
        let taken = end.tunnel.handle_datagram(at, path, number, body);
        self.net.ledger.brought(side.other(), body);
        if let Err(error) = taken {
            self.net.ledger.fault(format_args!("{side:?}: {error}"));
        }
    }

    /// A packet came out at `side`.
    fn deliver(&mut self, side: Side, packet: &[u8]) {
        let Some((flow, serial)) = identify(packet) else {
            self.net.ledger.fault(format_args!("a packet nobody sent"));
            return;
        };
        let sent = self.net.ledger.came(flow, side.other(), serial, packet);
        if let (Some(sent), Some(to)) = (sent, self.traffic.get_mut(flow)) {
            to.packet(self.now, side, packet, sent, &mut self.net);
        }
    }

    /// Gives traffic what is there for it. Whether anything was.
    fn hand_out(&mut self) -> bool {
        let now = self.now;
        let mut any = false;
        for side in Side::BOTH {
            while let Some(packet) = self.net.end(side).tunnel.poll_packet() {
                any = true;
                self.deliver(side, &packet);
                self.net.end(side).tunnel.recycle(packet);
            }
            while let Some(event) = self.net.end(side).tunnel.streams().poll_event() {
                any = true;
                self.tell(side, event);
            }
            while let Some(event) = self.net.end(side).tunnel.poll_event() {
                self.events.push((now, side, event));
            }
        }
        any
    }

    fn tell(&mut self, side: Side, event: StreamEvent) {
        let now = self.now;
        if let StreamEvent::Opened(_) = event {
            self.net.end(side).tunnel.streams().accept();
        }
        for flow in &mut self.traffic {
            flow.stream(now, side, event, &mut self.net);
        }
    }

    fn transmit(&mut self, side: Side) {
        let now = self.now;
        if let Some(bare) = &mut self.net.bare {
            for (_, bytes) in bare.extract_if(.., |(from, _)| *from == side) {
                let length = bytes.len() as u32;
                let datagram = Datagram { source: SERVER, bytes };
                self.links[0].pipe(side).offer(now, length, datagram);
            }
            return;
        }
        let at = self.net.end(side).clock(now);
        loop {
            self.buffer.clear();
            let End { tunnel, envelope, .. } = &mut self.net.ends[side.index()];
            let Some(transmit) = tunnel.poll_transmit(at, &mut self.buffer) else { break };
            self.datagrams[side.index()] += 1;
            self.net.ledger.carried(side, &self.buffer[HEADER_LEN..]);
            if !envelope.seal(transmit.path, transmit.number, &mut self.buffer) {
                let number = transmit.number;
                self.net.ledger.fault(format_args!("{side:?}: number {number} used again"));
            }
            let most = tunnel.path_figures(transmit.path).map_or(0, |figures| figures.datagram);
            if !transmit.is_size_probe && self.buffer.len() > usize::from(most) {
                let length = self.buffer.len();
                self.net.ledger.fault(format_args!("{side:?}: {length} bytes of at most {most}"));
            }
            self.send(side, transmit.path);
        }
        let tunnel = &mut self.net.ends[side.index()].tunnel;
        let peak = &mut self.peaks[side.index()];
        peak.packets = peak.packets.max(tunnel.held_bytes());
        peak.streams = peak.streams.max(tunnel.streams().memory());
    }

    /// Sends the datagram in the buffer on its way.
    fn send(&mut self, side: Side, path: PathId) {
        let now = self.now;
        let own = usize::from(path.number());
        let source = match side {
            Side::Router => self.links[own].address,
            Side::Server => SERVER,
        };
        let link = match side {
            Side::Router => Some(own),
            Side::Server => {
                let to = self.net.end(side).envelope.destination(path);
                self.links.iter().position(|link| Some(link.address) == to)
            }
        };
        let datagram = Datagram { source, bytes: self.buffer.clone() };
        let Some(link) = link else {
            // An address that the router had, or that somebody pretended.
            let length = datagram.bytes.len() as u32;
            self.links[own].pipe(side).count_filtered(length);
            return;
        };
        match &mut self.hostile {
            None => self.links[link].offer(now, side, datagram),
            Some(hostile) => {
                for (link, side, datagram) in hostile.meddle(link, side, datagram) {
                    if let Some(link) = self.links.get_mut(link) {
                        link.offer(now, side, datagram);
                    }
                }
            }
        }
    }

    /// Ends the reckoning: nothing is on its way any more.
    pub fn settle(&mut self) {
        self.net.ledger.settle();
    }
}
