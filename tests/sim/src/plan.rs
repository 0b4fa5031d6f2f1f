//! A run as data: which links, which traffic, and what happens when. The same plan gives the same
//! run; a plan that breaks a rule can be made smaller piece by piece ([`crate::shrink`]).

mod drawn;

use std::fmt;
use std::time::Duration;

use wanbond_lab::emulator::{Burst, QueueLimit, Shape, Time};
use wanbond_lab::units::Rate;
use wanbond_proto::tunnel::Standing;

use crate::hostile::{Hostile, Hostility};
use crate::link::{IP_UDP, Link, LinkSpec, millionths};
use crate::net::Side;
use crate::traffic::{Ping, StreamTransfer, Tcp, Traffic, Udp};
use crate::{Net, World};

/// Until then things happen; afterwards links are whole and whatever must arrive has to.
pub const CALM: Time = Time::from_millis(20_000);

/// A run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For all that is random while it runs.
    pub seed: u64,
    /// The router's WANs.
    pub links: Vec<LinkPlan>,
    /// What goes through.
    pub flows: Vec<Flow>,
    /// What happens meanwhile.
    pub troubles: Vec<Trouble>,
    /// Somebody on the way.
    pub hostility: Option<Hostility>,
    /// All links are away from 5 s on for this long.
    pub blackout: Option<Duration>,
}

/// A WAN.
#[derive(Debug, Clone, Copy)]
pub struct LinkPlan {
    /// What it is like.
    pub spec: LinkSpec,
    /// The largest UDP payload that passes.
    pub most: u16,
}

/// Something that goes through the tunnel. Times in ms, sizes in bytes.
#[derive(Debug, Clone, Copy)]
pub enum Flow {
    /// Packets of a size, one so often, until [`CALM`].
    Udp {
        /// Who sends.
        from: Side,
        /// Bytes of each packet.
        length: usize,
        /// Between two of them.
        every: Duration,
        /// The first one.
        start: u64,
        /// Over port 443.
        quic: bool,
    },
    /// Pings.
    Ping {
        /// Between two of them.
        every: Duration,
    },
    /// A TCP connection's packets.
    Tcp {
        /// Who sends.
        from: Side,
        /// In all.
        bytes: u64,
        /// When.
        start: u64,
    },
    /// A stream.
    Stream {
        /// Who sends.
        from: Side,
        /// In all.
        bytes: u64,
        /// When.
        start: u64,
        /// From when to when its reader does nothing.
        pause: (u64, u64),
    },
}

/// Something that happens to a link.
#[derive(Debug, Clone, Copy)]
pub struct Trouble {
    /// When, ms.
    pub at: u64,
    /// To which.
    pub link: usize,
    /// And what.
    pub what: What,
}

/// What can happen to a link.
#[derive(Debug, Clone, Copy)]
pub enum What {
    /// It is cut without a sign for so many ms.
    Cut(u64),
    /// The same, and the router is told.
    Unplugged(u64),
    /// Its rate becomes so many percent.
    Rate(Side, u64),
    /// One-way delay, ms.
    Delay(u64),
    /// Loss, in millionths.
    Loss(u64),
    /// The largest UDP payload that passes.
    Most(u16),
    /// The router has another address there. It knows, or (a NAT's doing) it doesn't.
    Address(bool),
    /// The user says what it is for.
    Standing(Standing),
}

impl Plan {
    /// The plan that belongs to a seed.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        drawn::plan(seed)
    }

    /// The world at its beginning; all that is planned will happen in it.
    #[must_use]
    pub fn world(&self) -> World {
        let specs: Vec<_> = self.links.iter().map(|link| link.spec).collect();
        let mut world = World::new(&specs, self.seed);
        world.follow_packets();
        for (link, plan) in world.links.iter_mut().zip(&self.links) {
            link.most = plan.most;
        }
        let hostility = self.hostility;
        world.hostile = hostility.map(|what| Hostile::new(what, self.links.len(), self.seed));
        for flow in &self.flows {
            world.add(|number| flow.traffic(number));
        }
        for trouble in &self.troubles {
            trouble.schedule(&mut world);
        }
        if let Some(blackout) = self.blackout {
            let at = Time::from_millis(5_000);
            for index in 0..self.links.len() {
                cut(&mut world, index, at, at + blackout);
            }
        }
        world.at(self.calm_at(), calm_down);
        world
    }

    /// When trouble has ended.
    #[must_use]
    pub fn calm_at(&self) -> Time {
        self.blackout.map_or(CALM, |blackout| CALM + blackout)
    }

    /// Whether links lose nothing but for want of room in their queues, and stay as they are.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        let steady = |shape: &Shape| shape.loss.get() == 0.0 && shape.burst.is_none();
        self.hostility.is_none()
            && self.blackout.is_none()
            && self.troubles.iter().all(|trouble| matches!(trouble.what, What::Standing(_)))
            && self.links.iter().all(|link| steady(&link.spec.up) && steady(&link.spec.down))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, LinkPlan { spec, most }) in self.links.iter().enumerate() {
            let rate = |shape: &Shape| shape.rate.map_or(0, Rate::bits_per_second) / 1000;
            let Shape { delay, jitter, queue, loss, .. } = spec.up;
            write!(f, "link {index}: {} up, {} down kbit/s, ", rate(&spec.up), rate(&spec.down))?;
            write!(f, "{delay:?} +- {jitter:?}, queue {queue:?}, most {most} B")?;
            if loss.get() > 0.0 {
                write!(f, ", loss {loss}")?;
            }
            if let Some(burst) = spec.up.burst {
                let Burst { enter, leave, loss } = burst;
                write!(f, ", bursts {enter} in, {leave} out, {loss} lost")?;
            }
            if spec.up.reordering_jitter {
                f.write_str(", jitter reorders")?;
            }
            if spec.up.reorder.get() > 0.0 {
                write!(f, ", {} come {:?} later", spec.up.reorder, spec.up.reorder_by)?;
            }
            if spec.up.duplicate.get() > 0.0 {
                write!(f, ", {} come twice", spec.up.duplicate)?;
            }
            writeln!(f)?;
        }
        for (index, flow) in self.flows.iter().enumerate() {
            writeln!(f, "flow {index}: {flow:?}")?;
        }
        for Trouble { at, link, what } in &self.troubles {
            writeln!(f, "at {at} ms, link {link}: {what:?}")?;
        }
        if let Some(hostility) = self.hostility {
            writeln!(f, "{hostility:?}")?;
        }
        if let Some(blackout) = self.blackout {
            writeln!(f, "at 5000 ms, all links: away for {blackout:?}")?;
        }
        Ok(())
    }
}

impl Flow {
    fn traffic(&self, number: usize) -> Traffic {
        let at = Time::from_millis;
        match *self {
            Self::Udp { from, length, every, start, quic } => {
                let udp = Udp::new(number, from, length, every, at(start), CALM);
                Traffic::Udp(if quic { udp.quic() } else { udp })
            }
            Self::Ping { every } => {
                Traffic::Ping(Ping::new(number, every, Time::from_millis(200), CALM))
            }
            Self::Tcp { from, bytes, start } => {
                Traffic::Tcp(Box::new(Tcp::new(number, from, bytes, at(start))))
            }
            Self::Stream { from, bytes, start, pause: (first, last) } => Traffic::Stream(
                StreamTransfer::new(from, bytes, at(start)).with_pause(at(first), at(last)),
            ),
        }
    }

    /// Bytes that it must get across, whatever happens.
    #[must_use]
    pub const fn must_arrive(&self) -> u64 {
        match *self {
            Self::Udp { .. } | Self::Ping { .. } => 0,
            Self::Tcp { bytes, .. } | Self::Stream { bytes, .. } => bytes,
        }
    }
}

impl Trouble {
    fn schedule(&self, world: &mut World) {
        let Self { at, link, what } = *self;
        let at = Time::from_millis(at);
        match what {
            What::Cut(millis) => cut(world, link, at, at + Duration::from_millis(millis)),
            What::Unplugged(millis) => {
                let back = at + Duration::from_millis(millis);
                cut(world, link, at, back);
                world.at(at, move |now, world| {
                    let id = world.links[link].id;
                    let end = world.net.end(Side::Router);
                    let at = end.clock(now);
                    end.tunnel.path_lost(at, id);
                });
                world.at(back, move |now, world| plug_in(now, &mut world.net, &world.links[link]));
            }
            What::Rate(side, percent) => reshape(world, at, link, move |from, shape| {
                if from == side {
                    let old = shape.rate.map_or(1_000_000, Rate::bits_per_second);
                    let new = (old * percent / 100).max(100_000);
                    shape.rate = Some(Rate::from_bits_per_second(new));
                    // A modem's buffer keeps its size, and has room for two packets at least.
                    if let QueueLimit::Time(time) = shape.queue {
                        let bytes = time.as_millis() as u64 * old / 8_000;
                        let millis = bytes.max(3_000) * 8_000 / new;
                        shape.queue = QueueLimit::Time(Duration::from_millis(millis));
                    }
                }
            }),
            What::Delay(millis) => reshape(world, at, link, move |_, shape| {
                shape.delay = Duration::from_millis(millis);
            }),
            What::Loss(loss) => {
                reshape(world, at, link, move |_, shape| shape.loss = millionths(loss));
            }
            What::Most(most) => world.at(at, move |_, world| world.links[link].most = most),
            What::Address(known) => world.at(at, move |now, world| {
                world.links[link].change_address();
                if known {
                    plug_in(now, &mut world.net, &world.links[link]);
                }
            }),
            What::Standing(standing) => world.at(at, move |now, world| {
                let id = world.links[link].id;
                let end = world.net.end(Side::Router);
                let at = end.clock(now);
                end.tunnel.set_standing(at, id, standing);
            }),
        }
    }
}

/// The router learns that a path leads over a network that it did not know.
fn plug_in(now: Time, net: &mut Net, link: &Link) {
    let end = net.end(Side::Router);
    let at = end.clock(now);
    end.tunnel.set_path(at, link.id, IP_UDP, crate::link::ETHERNET);
}

fn cut(world: &mut World, link: usize, from: Time, to: Time) {
    world.at(from, move |now, world| world.links[link].set_cut(now, true));
    world.at(to, move |now, world| world.links[link].set_cut(now, false));
}

fn reshape(world: &mut World, at: Time, link: usize, change: impl Fn(Side, &mut Shape) + 'static) {
    world.at(at, move |now, world| {
        for side in Side::BOTH {
            let pipe = world.links[link].pipe(side);
            let mut shape = *pipe.shape();
            change(side, &mut shape);
            pipe.set_shape(now, shape);
        }
    });
}

/// From now on links lose little and stay as they are.
fn calm_down(now: Time, world: &mut World) {
    world.hostile = None;
    for index in 0..world.links.len() {
        let link = &mut world.links[index];
        link.set_cut(now, false);
        for side in Side::BOTH {
            let pipe = link.pipe(side);
            let mut shape = *pipe.shape();
            shape.burst = None;
            shape.loss = millionths(10_000.min((shape.loss.get() * 1e6) as u64));
            pipe.set_shape(now, shape);
        }
        let id = link.id;
        let end = world.net.end(Side::Router);
        let at = end.clock(now);
        end.tunnel.set_standing(at, id, Standing::Bond);
    }
}
