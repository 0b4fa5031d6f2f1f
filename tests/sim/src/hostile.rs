//! Somebody on the way who damages, repeats, invents, turns back and diverts datagrams.

use std::collections::VecDeque;

use crate::Random;
use crate::envelope::Address;
use crate::link::Datagram;
use crate::net::Side;

/// Datagrams remembered, to be used again.
const REMEMBERED: usize = 512;
/// An address where nobody is.
const NOWHERE: Address = 999_999;

/// How often each thing is done: once in so many datagrams; 0: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hostility {
    /// One bit is flipped: a loss.
    pub damage: u64,
    /// One that passed before passes again, from where it came or from elsewhere.
    pub repeat: u64,
    /// Random bytes with a genuine header.
    pub invent: u64,
    /// One that passed goes back to its sender.
    pub turn_back: u64,
    /// It passes over another link, as if it came from there.
    pub divert: u64,
    /// It seems to come from an address where nobody is.
    pub pretend: u64,
}

/// Whoever does so.
#[derive(Debug)]
pub struct Hostile {
    hostility: Hostility,
    random: Random,
    links: u64,
    seen: VecDeque<(usize, Side, Datagram)>,
}

impl Hostile {
    /// Sits on this many links.
    #[must_use]
    pub fn new(hostility: Hostility, links: usize, seed: u64) -> Self {
        let (random, seen) = (Random::new(seed ^ 0xbad), VecDeque::new());
        Self { hostility, random, links: links as u64, seen }
    }

    fn strikes(&mut self, once_in: u64) -> bool {
        once_in > 0 && self.random.once_in(once_in)
    }

    /// Whether `side` sends this over `link`: what is sent instead.
    pub(crate) fn meddle(
        &mut self,
        mut link: usize,
        side: Side,
        mut datagram: Datagram,
    ) -> Vec<(usize, Side, Datagram)> {
        let hostility = self.hostility;
        let mut out = Vec::with_capacity(1);
        if self.seen.len() >= REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((link, side, datagram.clone()));
        let last = self.seen.len() as u64 - 1;
        if self.strikes(hostility.repeat) {
            let (old_link, side, mut old) = self.seen[self.random.within(0, last) as usize].clone();
            let elsewhere = self.random.once_in(2);
            if elsewhere && side == Side::Router {
                old.source = NOWHERE;
            }
            out.push((old_link, side, old));
        }
        if self.strikes(hostility.invent) {
            let mut forged = datagram.clone();
            forged.source = if side == Side::Router { NOWHERE } else { forged.source };
            let length = self.random.within(0, 1400) as usize;
            forged.bytes.resize(length, 0);
            let from = self.random.within(0, 12) as usize;
            for byte in forged.bytes.iter_mut().skip(from) {
                *byte = self.random.any() as u8;
            }
            out.push((link, side, forged));
        }
        if self.strikes(hostility.turn_back) {
            let (link, side, old) = self.seen[self.random.within(0, last) as usize].clone();
            out.push((link, side.other(), old));
        }
        if self.strikes(hostility.damage) {
            let bit = self.random.within(0, datagram.bytes.len() as u64 * 8 - 1) as usize;
            datagram.bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if self.strikes(hostility.divert) {
            link = self.random.within(0, self.links - 1) as usize;
            if side == Side::Router {
                datagram.source = (link as Address + 1) * 1000;
            }
        }
        if side == Side::Router && self.strikes(hostility.pretend) {
            datagram.source = NOWHERE;
        }
        out.push((link, side, datagram));
        out
    }
}
