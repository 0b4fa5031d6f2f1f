//! The event loop.

use wanbond_proto::datagram::PathId;
use wanbond_proto::tunnel::TunnelEvent;
use wanbond_proto::tunnel::stream::StreamEvent;

use crate::Time;
use crate::link::{Link, LinkSpec};
use crate::net::{Net, Side, identify};
use crate::traffic::Traffic;

/// An end that asks to be called so often without time passing has a timer that never ends.
const MOST_ROUNDS: u32 = 2_000;

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
    buffer: Vec<u8>,
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
            buffer: Vec::new(),
        };
        for spec in links {
            world.add_link(spec, seed);
        }
        world
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
    /// When an end wants to be called again and again at one moment.
    pub fn run_until(&mut self, end: Time) {
        let mut rounds = 0;
        loop {
            let next = self.due().filter(|&due| due <= end);
            let Some(next) = next else { break };
            rounds = if next > self.now { 0 } else { rounds + 1 };
            assert!(
                rounds < MOST_ROUNDS,
                "a timer never ends at {:?}: {:?}",
                self.now,
                self.net.ends.each_ref().map(|end| end.due())
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
                    self.arrive(index, from.other(), datagram.number, &datagram.body);
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

    fn arrive(&mut self, index: usize, side: Side, number: u64, body: &[u8]) {
        let id = self.links[index].id;
        if !self.net.end(side).tunnel.has_path(id) {
            self.net.set_path(self.now, side, id);
        }
        let end = self.net.end(side);
        let at = end.clock(self.now);
        if let Err(error) = end.tunnel.handle_datagram(at, id, number, body) {
            self.net.ledger.fault(format_args!("{side:?}: {error}"));
        }
    }

    /// Gives traffic what is there for it. Whether anything was.
    fn hand_out(&mut self) -> bool {
        let now = self.now;
        let mut any = false;
        for side in Side::BOTH {
            while let Some(packet) = self.net.end(side).tunnel.poll_packet() {
                any = true;
                match identify(&packet) {
                    None => self.net.ledger.fault(format_args!("a packet nobody sent")),
                    Some((flow, serial)) => {
                        let sent = self.net.ledger.came(flow, side.other(), serial, &packet);
                        if let (Some(sent), Some(to)) = (sent, self.traffic.get_mut(flow)) {
                            to.packet(now, side, &packet, sent, &mut self.net);
                        }
                    }
                }
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
        let at = self.net.end(side).clock(now);
        loop {
            self.buffer.clear();
            let tunnel = &mut self.net.ends[side.index()].tunnel;
            let Some(transmit) = tunnel.poll_transmit(at, &mut self.buffer) else { break };
            self.datagrams[side.index()] += 1;
            let link = &mut self.links[usize::from(transmit.path.number())];
            link.offer(now, side, transmit.number, &self.buffer);
        }
    }
}
