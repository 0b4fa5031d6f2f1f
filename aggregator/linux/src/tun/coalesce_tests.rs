//! Streams of packets are joined, cut again, and come out as they went in.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::segment::segment;
use super::*;

/// What a flow sends next.
#[derive(Debug, Clone)]
enum Step {
    Data {
        length: usize,
        push: bool,
    },
    /// A bare acknowledgement.
    Ack,
    /// Data with a hole before them.
    Skip,
    /// Data damaged on their way.
    Damaged {
        length: usize,
    },
    Fin,
    /// Data with another window.
    Window,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (prop_oneof![4 => Just(1000usize), 1 => 1usize..1400], prop::bool::weighted(0.1))
            .prop_map(|(length, push)| Step::Data { length, push }),
        1 => Just(Step::Ack),
        1 => Just(Step::Skip),
        1 => (1usize..1400).prop_map(|length| Step::Damaged { length }),
        1 => Just(Step::Fin),
        1 => Just(Step::Window),
    ]
}

/// One sender.
struct Flow {
    v6: bool,
    transport: Transport,
    port: u8,
    sequence: u32,
    id: u16,
    window: u8,
}

impl Flow {
    fn new(number: u8) -> Self {
        let transport = if number & 2 == 0 { Transport::Tcp } else { Transport::Udp };
        let wraps_soon = 0u32.wrapping_sub(3000);
        Self {
            v6: number & 1 != 0,
            transport,
            port: number,
            sequence: wraps_soon,
            id: 0xfff0,
            window: 1,
        }
    }

    fn packet(&mut self, step: &Step) -> Vec<u8> {
        let (length, mut flags) = match *step {
            Step::Data { length, push } => (length, if push { ACK | PSH } else { ACK }),
            Step::Damaged { length } => (length, ACK),
            Step::Ack => (0, ACK),
            Step::Fin => (10, ACK | 1),
            Step::Skip | Step::Window => (1000, ACK),
        };
        if matches!(step, Step::Skip) {
            self.sequence = self.sequence.wrapping_add(77);
            self.id = self.id.wrapping_add(1);
        }
        if matches!(step, Step::Window) {
            self.window = self.window.wrapping_add(1);
        }
        let payload: Vec<u8> = (0..length).map(|at| at as u8 ^ self.id as u8).collect();
        if self.transport == Transport::Udp {
            flags = 0;
        }
        let mut packet = self.build(flags, &payload);
        if matches!(step, Step::Damaged { .. }) {
            *packet.last_mut().unwrap() ^= 1;
        }
        self.sequence = self.sequence.wrapping_add(length as u32);
        self.id = self.id.wrapping_add(1);
        packet
    }

    fn build(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = if self.v6 {
            let mut ip = vec![0x60, 0, 0, 0, 0, 0, self.transport.number(), 64];
            ip.extend([7; 32]);
            ip
        } else {
            let [high, low] = self.id.to_be_bytes();
            let mut ip = vec![0x45, 0, 0, 0, high, low, 0, 0, 64, self.transport.number(), 0, 0];
            ip.extend([10, 0, 0, 1, 10, 0, 0, 2]);
            ip
        };
        let at = packet.len();
        packet.extend([1, 2, 3, self.port]);
        if self.transport == Transport::Tcp {
            packet.extend(self.sequence.to_be_bytes());
            packet.extend([0, 0, 0, 1, 0x50, flags, self.window, 0, 0, 0, 0, 0]);
        } else {
            packet.extend((payload.len() as u16 + 8).to_be_bytes());
            packet.extend([0, 0]);
        }
        packet.extend(payload);
        let total = packet.len();
        let payload_at = total - payload.len();
        let layout =
            Layout { v6: self.v6, transport: self.transport, transport_at: at, payload_at };
        layout.write_length(&mut packet, total);
        let sum = layout.pseudo_sum(&packet, total).bytes(&packet[at..]).checksum();
        packet[layout.checksum_at()..][..2].copy_from_slice(&sum);
        packet
    }
}

/// Joins and cuts again. Returns what came out, and in how many writes.
fn through(packets: &[Vec<u8>], tcp: bool, udp: bool) -> (Vec<Vec<u8>>, usize) {
    let mut out = Vec::new();
    let mut writes = 0;
    let mut write = |bundle: &Bundle<'_>| {
        writes += 1;
        let mut headers = Headers::default();
        let Some((header, joined)) = bundle.joined(&mut headers) else {
            assert_eq!(bundle.packets().len(), 1);
            out.push(bundle.packets()[0].to_vec());
            return;
        };
        let mut whole = joined.to_vec();
        bundle.payloads().for_each(|payload| whole.extend_from_slice(payload));
        let header = VnetHeader::decode(&header.encode()).unwrap();
        segment(header, &mut whole, |packet| out.push(packet.to_vec())).unwrap();
    };
    let mut coalescer = Coalescer::new(tcp, udp);
    for packet in packets {
        coalescer.push(packet, &mut write);
    }
    coalescer.flush(&mut write);
    (out, writes)
}

fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<(u8, u8), Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for packet in packets {
        let (at, protocol) = if packet[0] >> 4 == 6 { (40, packet[6]) } else { (20, packet[9]) };
        flows.entry((protocol, packet[at + 3])).or_default().push(packet.clone());
    }
    flows
}

proptest! {
    #[test]
    fn joined_and_cut_again(
        steps in prop::collection::vec((0u8..14, step()), 1..150), tcp: bool, udp: bool,
    ) {
        let mut flows: Vec<Flow> = (0..14).map(Flow::new).collect();
        let packets: Vec<_> =
            steps.iter().map(|(flow, step)| flows[usize::from(*flow)].packet(step)).collect();
        let (out, _) = through(&packets, tcp, udp);
        prop_assert_eq!(by_flow(&out), by_flow(&packets));
    }

    #[test]
    fn nonsense_passes_as_it_is(
        packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 0..20),
    ) {
        let (out, writes) = through(&packets, true, true);
        prop_assert_eq!(writes, packets.len());
        prop_assert!(out == packets);
    }
}

fn data(flow: &mut Flow, count: usize, length: usize) -> Vec<Vec<u8>> {
    (0..count).map(|_| flow.packet(&Step::Data { length, push: false })).collect()
}

#[test]
fn a_stream_becomes_few_writes() {
    for number in 0..4 {
        let packets = data(&mut Flow::new(number), 100, 1300);
        let (out, writes) = through(&packets, true, true);
        assert!(out == packets, "flow {number}");
        // 50 of them are 64 KiB.
        assert_eq!(writes, 2, "flow {number}");
    }
}

#[test]
fn eight_flows_by_turns() {
    let mut flows: Vec<_> = (0..8).map(Flow::new).collect();
    let packets: Vec<_> = (0..40)
        .flat_map(|_| flows.iter_mut().flat_map(|flow| data(flow, 1, 1200)).collect::<Vec<_>>())
        .collect();
    let (_, writes) = through(&packets, true, true);
    assert_eq!(writes, 8);
    let (_, writes) = through(&packets, true, false);
    assert_eq!(writes, 4 + 4 * 40);
}

#[test]
fn damage_is_not_mended() {
    // In its place in the sequence, so that only its checksum speaks against it.
    let mut flow = Flow::new(0);
    let mut packets: Vec<_> = data(&mut flow, 2, 1000);
    packets.push(flow.packet(&Step::Damaged { length: 1000 }));
    packets.extend(data(&mut flow, 2, 1000));
    let (out, writes) = through(&packets, true, true);
    assert!(out == packets);
    assert_eq!(writes, 3);
    // And as the first of all.
    let (out, writes) = through(&packets[2..], true, true);
    assert!(out == packets[2..]);
    assert_eq!(writes, 2);
}

#[test]
fn an_acknowledgement_does_not_overtake() {
    let mut flow = Flow::new(0);
    let mut packets = data(&mut flow, 3, 1000);
    packets.push(flow.packet(&Step::Ack));
    packets.extend(data(&mut flow, 3, 1000));
    let (out, writes) = through(&packets, true, true);
    assert!(out == packets);
    assert_eq!(writes, 3);
}

#[test]
fn udp_without_checksum_stays_so() {
    let mut flow = Flow::new(2);
    let mut packets = data(&mut flow, 3, 1000);
    for packet in &mut packets {
        packet[26..28].fill(0);
    }
    let (out, writes) = through(&packets, true, true);
    assert!(out == packets);
    assert_eq!(writes, 3);
}
