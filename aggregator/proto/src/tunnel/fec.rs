//! Forward error correction: one parity for a group of packets, from which the receiver makes the one
//! that got lost, where a repair would come a round trip later.
//!
//! For flows that can't wait and are too fast to be sent twice (video, games, calls of many), over
//! paths that lose: a parity for 8 to 16 packets, 6 to 12 % more bytes. The group is as many as the flow
//! sends in a round trip; a flow that needs longer for 8 is repaired as soon without.
//!
//! A parity is the XOR of the packets, each with its length in front, as in RFC 5109.

use std::collections::VecDeque;

use super::flow::Kind;

/// Packets that share a parity.
pub(super) const LEAST_GROUP: u8 = 8;
pub(super) const MOST_GROUP: u8 = 16;
/// A path that loses less than this, in thousandths, needs none.
const LEAST_LOSS: u64 = 4;
/// Flows that are protected at a time, at either end.
const FLOWS: usize = 8;
/// Packets of a flow that the receiver keeps: two groups, as paths overtake each other.
const KEPT: usize = 2 * MOST_GROUP as usize;
/// Parities of a flow that wait for packets to come.
const WAITING: usize = 4;
/// Parities that wait to be sent.
const READY: usize = 16;
const SEQUENCE: u32 = 0x00ff_ffff;

/// Whether packets of this kind are to be protected on a path that loses so many thousandths.
pub(super) const fn applies(kind: Kind, loss: u64) -> bool {
    matches!(kind, Kind::Udp | Kind::Other) && loss >= LEAST_LOSS
}

/// How many packets of a flow are to share a parity, of which it sends `per_rtt` in a round trip; `None`
/// if a repair is as quick.
pub(super) fn group(per_rtt: u64) -> Option<u8> {
    if per_rtt < u64::from(LEAST_GROUP) {
        return None;
    }
    Some(u8::try_from(per_rtt).unwrap_or(MOST_GROUP).min(MOST_GROUP))
}

fn add(parity: &mut Vec<u8>, packet: &[u8]) {
    if parity.len() < packet.len() + 2 {
        parity.resize(packet.len() + 2, 0);
    }
    let length = u16::try_from(packet.len()).unwrap_or(u16::MAX).to_be_bytes();
    for (sum, byte) in parity.iter_mut().zip(length.iter().chain(packet)) {
        *sum ^= byte;
    }
}

/// What protects a group.
#[derive(Debug, Default)]
pub(super) struct Parity {
    pub slot: u16,
    /// Of its first packet, 24 bits.
    pub first: u32,
    pub count: u8,
    pub bytes: Vec<u8>,
    /// The path over which the last of the group went.
    pub path: u8,
}

/// The sender's half.
#[derive(Debug, Default)]
pub(super) struct Protector {
    /// Groups that are not full, the flow used last behind the others.
    groups: Vec<Parity>,
    ready: VecDeque<Parity>,
    spare: Vec<Vec<u8>>,
}

impl Protector {
    /// A packet goes out over `path` as one of a group of `size`.
    pub(super) fn add(&mut self, slot: u16, sequence: u32, packet: &[u8], size: u8, path: u8) {
        let known = self.groups.iter().position(|group| group.slot == slot);
        let mut group = match known {
            Some(at) => self.groups.remove(at),
            None if self.groups.len() >= FLOWS => self.groups.remove(0),
            None => Parity { bytes: self.spare.pop().unwrap_or_default(), ..Parity::default() },
        };
        let next = group.first.wrapping_add(u32::from(group.count)) & SEQUENCE;
        if group.slot != slot || group.count == 0 || next != sequence {
            group.bytes.clear();
            group = Parity { slot, first: sequence, count: 0, ..group };
        }
        add(&mut group.bytes, packet);
        group.count += 1;
        group.path = path;
        if group.count < size {
            self.groups.push(group);
            return;
        }
        if self.ready.len() >= READY {
            // Nobody could send it: too late now.
            self.drop_first();
        }
        self.ready.push_back(group);
    }

    /// The next parity to be sent.
    pub(super) fn first(&self) -> Option<&Parity> {
        self.ready.front()
    }

    pub(super) fn drop_first(&mut self) {
        if let Some(mut sent) = self.ready.pop_front()
            && self.spare.len() < FLOWS
        {
            sent.bytes.clear();
            self.spare.push(sent.bytes);
        }
    }
}

/// The packets and parities of one flow that the receiver keeps.
#[derive(Debug)]
struct Kept {
    slot: u16,
    packets: VecDeque<(u32, Vec<u8>)>,
    waiting: VecDeque<Parity>,
}

impl Kept {
    fn find(&self, sequence: u32) -> Option<&[u8]> {
        // The latest are asked for most.
        let found = self.packets.iter().rev().find(|(number, _)| *number == sequence);
        found.map(|(_, packet)| packet.as_slice())
    }

    /// The one packet that a parity's group lacks.
    fn recover(&self, parity: &Parity) -> Outcome {
        let mut missing = None;
        let mut sum = parity.bytes.clone();
        for ahead in 0..u32::from(parity.count) {
            let sequence = parity.first.wrapping_add(ahead) & SEQUENCE;
            match self.find(sequence) {
                Some(packet) if packet.len() + 2 > sum.len() => return Outcome::Useless,
                Some(packet) => add(&mut sum, packet),
                None if missing.is_some() => return Outcome::Wait,
                None => missing = Some(sequence),
            }
        }
        let Some(sequence) = missing else { return Outcome::Useless };
        let Some((length, rest)) = sum.split_first_chunk() else { return Outcome::Useless };
        match rest.get(..usize::from(u16::from_be_bytes(*length))) {
            Some(packet) => Outcome::Packet(sequence, packet.to_vec()),
            None => Outcome::Useless,
        }
    }
}

enum Outcome {
    Packet(u32, Vec<u8>),
    /// More than one is missing.
    Wait,
    /// All have come, or it contradicts itself.
    Useless,
}

/// The receiver's half.
#[derive(Debug, Default)]
pub(super) struct Recoverer {
    /// The flow used last behind the others.
    flows: Vec<Kept>,
}

impl Recoverer {
    /// A protected packet has come. Gives the packet that can be made now, with its sequence.
    pub(super) fn packet(
        &mut self,
        slot: u16,
        sequence: u32,
        packet: &[u8],
    ) -> Option<(u32, Vec<u8>)> {
        let kept = self.flow(slot);
        if kept.find(sequence).is_some() {
            return None;
        }
        let mut copy = if kept.packets.len() >= KEPT {
            kept.packets.pop_front().map(|(_, old)| old).unwrap_or_default()
        } else {
            Vec::new()
        };
        copy.clear();
        copy.extend_from_slice(packet);
        kept.packets.push_back((sequence, copy));
        let of_group = |parity: &Parity| {
            sequence.wrapping_sub(parity.first) & SEQUENCE < u32::from(parity.count)
        };
        let at = kept.waiting.iter().position(of_group)?;
        let parity = kept.waiting.remove(at)?;
        Self::take(kept, parity)
    }

    /// A parity has come. Gives the packet that can be made now, with its sequence.
    pub(super) fn parity(&mut self, parity: Parity) -> Option<(u32, Vec<u8>)> {
        if parity.count == 0 || parity.count > MOST_GROUP {
            return None;
        }
        Self::take(self.flow(parity.slot), parity)
    }

    fn take(kept: &mut Kept, parity: Parity) -> Option<(u32, Vec<u8>)> {
        match kept.recover(&parity) {
            Outcome::Packet(sequence, packet) => Some((sequence, packet)),
            Outcome::Useless => None,
            Outcome::Wait => {
                if kept.waiting.len() >= WAITING {
                    kept.waiting.pop_front();
                }
                kept.waiting.push_back(parity);
                None
            }
        }
    }

    fn flow(&mut self, slot: u16) -> &mut Kept {
        match self.flows.iter().position(|kept| kept.slot == slot) {
            Some(at) => self.flows[at..].rotate_left(1),
            None => {
                if self.flows.len() >= FLOWS {
                    self.flows.remove(0);
                }
                let (packets, waiting) = (VecDeque::new(), VecDeque::new());
                self.flows.push(Kept { slot, packets, waiting });
            }
        }
        let last = self.flows.len() - 1;
        &mut self.flows[last]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parity_of(first: u32, packets: &[Vec<u8>]) -> Parity {
        let mut protector = Protector::default();
        for (sequence, packet) in (first..).zip(packets) {
            protector.add(3, sequence & SEQUENCE, packet, packets.len() as u8, 1);
        }
        protector.ready.pop_front().expect("a full group")
    }

    proptest! {
        #[test]
        fn any_one_of_a_group_comes_back_whenever_the_parity_comes(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..1400), 2..=16),
            first in prop_oneof![Just(0u32), Just(SEQUENCE - 3), 0..SEQUENCE],
            lost in any::<prop::sample::Index>(),
            parity_at in any::<prop::sample::Index>(),
        ) {
            let (lost, parity_at) = (lost.index(packets.len()), parity_at.index(packets.len()));
            let mut parity = Some(parity_of(first, &packets));
            let mut recoverer = Recoverer::default();
            let mut made = Vec::new();
            for (at, packet) in packets.iter().enumerate() {
                if at == parity_at {
                    made.extend(recoverer.parity(parity.take().unwrap()));
                }
                if at != lost {
                    let sequence = (first + at as u32) & SEQUENCE;
                    made.extend(recoverer.packet(3, sequence, packet));
                }
            }
            // The parity may have told the last one before it came.
            let sequence = (first + lost as u32) & SEQUENCE;
            prop_assert_eq!(&made, &[(sequence, packets[lost].clone())]);
        }

        #[test]
        fn two_lost_are_not_made_up(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..100), 3..=16),
        ) {
            let mut recoverer = Recoverer::default();
            for (sequence, packet) in (2..).zip(&packets[2..]) {
                prop_assert_eq!(recoverer.packet(3, sequence, packet), None);
            }
            prop_assert_eq!(recoverer.parity(parity_of(0, &packets)), None);
            // A repair of one of them brings the other.
            prop_assert_eq!(recoverer.packet(3, 0, &packets[0]), Some((1, packets[1].clone())));
        }

        #[test]
        fn whatever_comes_memory_is_bounded(
            steps in prop::collection::vec(
                (any::<bool>(), 0u16..20, 0u32..80, prop::collection::vec(any::<u8>(), 0..40), any::<u8>()),
                0..400
            ),
        ) {
            let mut recoverer = Recoverer::default();
            for (is_parity, slot, first, bytes, count) in steps {
                if is_parity {
                    recoverer.parity(Parity { slot, first, count, bytes, path: 0 });
                } else {
                    recoverer.packet(slot, first, &bytes);
                }
                prop_assert!(recoverer.flows.len() <= FLOWS);
                for kept in &recoverer.flows {
                    prop_assert!(kept.packets.len() <= KEPT && kept.waiting.len() <= WAITING);
                }
            }
        }
    }

    #[test]
    fn a_group_that_is_broken_off_begins_anew() {
        let mut protector = Protector::default();
        for sequence in [0, 1, 5, 6, 7, 8] {
            protector.add(3, sequence, &[sequence as u8; 4], 4, 1);
        }
        let parity = protector.first().unwrap();
        assert_eq!((parity.first, parity.count), (5, 4));
        assert_eq!(parity.bytes, [0, 0, 12, 12, 12, 12]);
    }

    #[test]
    fn only_what_is_fast_and_lossy_and_cannot_wait_is_protected() {
        assert!(applies(Kind::Udp, 20) && applies(Kind::Other, 20));
        assert!(!applies(Kind::Udp, 1) && !applies(Kind::Tcp, 20) && !applies(Kind::Quic, 20));
        assert_eq!(group(100), Some(16));
        assert_eq!(group(9), Some(9));
        assert_eq!(group(5), None);
    }
}
