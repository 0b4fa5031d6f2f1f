//! What happens in a chaos run: drawn from a seed, before it begins. The same seed and length give the
//! same plan.

use std::fmt;
use std::time::Duration;

/// SplitMix64. Of its own, so that a seed means the same with any version of any crate.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// At least `least` and less than `end`.
    pub(crate) const fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.next() % (end - least)
    }
}

/// Something that is done, at a place in the list of WANs where it is done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Cut(usize),
    Restore(usize),
    Unplug(usize),
    Plug(usize),
    Redial(usize),
    Readdress(usize),
    Regateway(usize),
    TakeIpv4(usize),
    GiveIpv4(usize),
    TakeIpv6(usize),
    GiveIpv6(usize),
    /// Rate in Mbit/s, delay in milliseconds, loss in tenths of a percent.
    Shape(usize, u64, u64, u64),
    StripMptcp(usize),
    BlockUdp(usize),
    LetPass(usize),
    Role(usize, &'static str),
    Reload,
    StopRouter,
    KillRouter,
    StartRouter,
    StopServer,
    KillServer,
    StartServer,
}

/// An act and its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) at: Duration,
    pub(crate) act: Act,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.2} s  {:?}", self.at.as_secs_f64(), self.act)
    }
}

/// All that is done in a run of this length to so many WANs, in order. What is taken is given back, in
/// the end at the latest; nothing is done twice to what is away.
pub(crate) fn plan(seed: u64, wans: usize, length: Duration) -> Vec<Step> {
    let mut random = Random::new(seed);
    let length = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let mut steps = Vec::new();
    // Until when something is done to each WAN, and to a daemon.
    let mut busy = vec![0; wans + 1];
    let daemons = wans;
    let mut now = 1000;
    while now < length {
        let mut add = |at: u64, act| steps.push(Step { at: Duration::from_millis(at), act });
        let until =
            |random: &mut Random, least, most| (now + random.between(least, most)).min(length);
        let wan = random.between(0, wans as u64) as usize;
        let kind = random.between(0, 24);
        let place = if kind >= 20 { daemons } else { wan };
        if busy[place] <= now {
            let mut pair = |random: &mut Random, most, act, back| {
                let end = until(random, 200, most);
                add(now, act);
                add(end, back);
                // Some moments of its own after that, so that it is of use at all.
                busy[place] = end + random.between(500, 4000);
            };
            match kind {
                0..=4 => pair(&mut random, 6000, Act::Cut(wan), Act::Restore(wan)),
                5 | 6 => pair(&mut random, 5000, Act::Unplug(wan), Act::Plug(wan)),
                7 => pair(&mut random, 4000, Act::Unplug(wan), Act::Redial(wan)),
                8 | 9 => add(now, Act::Readdress(wan)),
                10 => add(now, Act::Regateway(wan)),
                11 => pair(&mut random, 5000, Act::TakeIpv4(wan), Act::GiveIpv4(wan)),
                12 => pair(&mut random, 5000, Act::TakeIpv6(wan), Act::GiveIpv6(wan)),
                13..=15 => {
                    let rate = random.between(2, 21);
                    let delay = random.between(2, 80);
                    let loss = random.between(0, 30) * random.between(0, 2);
                    add(now, Act::Shape(wan, rate, delay, loss));
                }
                16 => pair(&mut random, 8000, Act::StripMptcp(wan), Act::LetPass(wan)),
                17 => pair(&mut random, 8000, Act::BlockUdp(wan), Act::LetPass(wan)),
                18 => pair(&mut random, 5000, Act::Role(wan, "off"), Act::Role(wan, "bond")),
                19 => pair(&mut random, 5000, Act::Role(wan, "backup"), Act::Role(wan, "bond")),
                20 => pair(&mut random, 3000, Act::KillRouter, Act::StartRouter),
                21 => pair(&mut random, 3000, Act::StopRouter, Act::StartRouter),
                22 => {
                    let act = [Act::KillServer, Act::StopServer][random.between(0, 2) as usize];
                    pair(&mut random, 3000, act, Act::StartServer);
                }
                _ => add(now, Act::Reload),
            }
        }
        now += random.between(100, 1500);
    }
    steps.sort_by_key(|step| step.at);
    steps
}
