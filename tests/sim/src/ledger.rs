//! The reference model of packets: what went into the tunnel, and what came out.

use std::fmt::Write;

use crate::Time;
use crate::net::{Side, identify, is_whole, packets_in};

/// Faults that are written out; the rest is only counted.
const TOLD: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Entry {
    digest: u64,
    at: Time,
    came: bool,
    /// How much of it a datagram has carried, and how much of it a datagram has brought.
    carried: Share,
    brought: Share,
}

/// How much of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    None,
    Half,
    Whole,
}

/// One flow's packets in one direction, by serial.
#[derive(Debug, Default)]
struct Direction {
    entries: Vec<Entry>,
    /// One more than the highest serial that came.
    next: usize,
    came: u64,
    overtaken: u64,
}

/// What became of one flow's packets in one direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Packets that went in.
    pub sent: u64,
    /// Packets that came out.
    pub came: u64,
    /// Packets that came out behind one that was sent later.
    pub overtaken: u64,
    /// Packets that no datagram has carried. This and what follows is known of followed packets.
    pub never_carried: u64,
    /// Packets that a datagram has brought whole.
    pub brought: u64,
    /// Packets that came though none has: the receiver made them of others.
    pub made: u64,
}

/// All packets of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    flows: Vec<[Direction; 2]>,
    faults: u64,
    told: String,
    /// Looks into datagrams too.
    pub(crate) follows: bool,
}

impl Ledger {
    /// The serial of the next packet that `flow` sends from `side`.
    pub(crate) fn next_serial(&mut self, flow: usize, side: Side) -> u32 {
        if self.flows.len() <= flow {
            self.flows.resize_with(flow + 1, Default::default);
        }
        self.flows[flow][side.index()].entries.len() as u32
    }

    /// A packet goes in.
    pub(crate) fn sent(&mut self, now: Time, flow: usize, side: Side, packet: &[u8]) {
        let (carried, brought) = (Share::None, Share::None);
        let entry = Entry { digest: digest(packet), at: now, came: false, carried, brought };
        self.flows[flow][side.index()].entries.push(entry);
    }

    /// A packet comes out that was sent from `side`. When it went in, if it is a good one.
    pub(crate) fn came(
        &mut self,
        flow: usize,
        side: Side,
        serial: u32,
        packet: &[u8],
    ) -> Option<Time> {
        let serial = serial as usize;
        let Some(direction) = self.flows.get_mut(flow).map(|both| &mut both[side.index()]) else {
            self.fault(format_args!("flow {flow}: never sent"));
            return None;
        };
        let Some(entry) = direction.entries.get_mut(serial) else {
            self.fault(format_args!("flow {flow}, packet {serial}: never sent"));
            return None;
        };
        if entry.digest != digest(packet) {
            self.fault(format_args!("flow {flow}, packet {serial}: altered"));
            return None;
        }
        if entry.came {
            self.fault(format_args!("flow {flow}, packet {serial}: came twice"));
            return None;
        }
        entry.came = true;
        let at = entry.at;
        direction.came += 1;
        if serial < direction.next {
            direction.overtaken += 1;
        }
        direction.next = direction.next.max(serial + 1);
        Some(at)
    }

    /// A datagram with this body goes out from `side`.
    pub(crate) fn carried(&mut self, side: Side, body: &[u8]) {
        self.follow(side, body, |entry| &mut entry.carried);
    }

    /// A datagram with this body, sent by `side`, was taken.
    pub(crate) fn brought(&mut self, side: Side, body: &[u8]) {
        self.follow(side, body, |entry| &mut entry.brought);
    }

    fn follow(&mut self, side: Side, body: &[u8], share: impl Fn(&mut Entry) -> &mut Share) {
        if !self.follows {
            return;
        }
        for packet in packets_in(body, side) {
            let entry = identify(packet).and_then(|(flow, serial)| {
                self.flows.get_mut(flow)?[side.index()].entries.get_mut(serial as usize)
            });
            let Some(entry) = entry else {
                self.fault(format_args!("{side:?}: a datagram with a packet nobody sent"));
                return;
            };
            let how_much = if is_whole(packet) { Share::Whole } else { Share::Half };
            let share = share(entry);
            *share = (*share).max(how_much);
        }
    }

    /// Every followed packet that was brought must have come; to be called when nothing is on its way
    /// any more.
    pub(crate) fn settle(&mut self) {
        let mut wrong = Vec::new();
        for (flow, directions) in self.flows.iter().enumerate() {
            for (side, direction) in Side::BOTH.into_iter().zip(directions) {
                for (serial, entry) in direction.entries.iter().enumerate() {
                    if !entry.came && entry.brought == Share::Whole {
                        wrong.push((
                            flow,
                            side,
                            serial,
                            "was brought by a datagram, and never came",
                        ));
                    }
                }
            }
        }
        for (flow, side, serial, what) in wrong {
            self.fault(format_args!("flow {flow} from {side:?}, packet {serial}: {what}"));
        }
    }

    /// Notes that something is not as it must be.
    pub fn fault(&mut self, what: std::fmt::Arguments<'_>) {
        self.faults += 1;
        if self.faults <= TOLD as u64 {
            let _ = writeln!(self.told, "{what}");
        }
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn faults(&self) -> Option<String> {
        (self.faults > 0).then(|| format!("{} faults:\n{}", self.faults, self.told))
    }

    /// What became of what `flow` sent from `side`.
    #[must_use]
    pub fn tally(&self, flow: usize, side: Side) -> Tally {
        self.flows.get(flow).map_or_else(Tally::default, |both| {
            let direction = &both[side.index()];
            let count = |what: fn(&Entry) -> bool| {
                direction.entries.iter().filter(|entry| what(entry)).count() as u64
            };
            Tally {
                sent: direction.entries.len() as u64,
                came: direction.came,
                overtaken: direction.overtaken,
                never_carried: count(|entry| entry.carried == Share::None),
                brought: count(|entry| entry.brought == Share::Whole),
                made: count(|entry| entry.came && entry.brought == Share::None),
            }
        })
    }

    /// What became of all packets sent from `side`.
    #[must_use]
    pub fn total(&self, side: Side) -> Tally {
        (0..self.flows.len()).map(|flow| self.tally(flow, side)).fold(Tally::default(), |a, b| {
            Tally {
                sent: a.sent + b.sent,
                came: a.came + b.came,
                overtaken: a.overtaken + b.overtaken,
                never_carried: a.never_carried + b.never_carried,
                brought: a.brought + b.brought,
                made: a.made + b.made,
            }
        })
    }
}

/// Of all that the tunnel must not change: it may mark congestion, and mend the checksum for that.
fn digest(packet: &[u8]) -> u64 {
    let mut hash = packet.len() as u64;
    let mut take =
        |word: u64| hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    take(u64::from(packet[1] & !3));
    take(u64::from_be_bytes(*packet[2..].first_chunk().unwrap_or(&[0; 8])));
    let mut chunks = packet[12..].chunks_exact(8);
    for chunk in &mut chunks {
        take(u64::from_le_bytes(*chunk.first_chunk().unwrap_or(&[0; 8])));
    }
    for &byte in chunks.remainder() {
        take(u64::from(byte));
    }
    hash
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
