use super::*;
use crate::net::{Net, Protocol};

/// A ledger that has seen three packets go in, and the packets.
fn three() -> (Ledger, Vec<Vec<u8>>) {
    let mut net = Net::new(1);
    net.bare = Some(Vec::new());
    net.ledger.follows = true;
    for _ in 0..3 {
        net.send(Time::ZERO, 0, Side::Router, Protocol::Udp, &[], 400);
    }
    let packets = net.bare.take().unwrap().into_iter().map(|(_, packet)| packet).collect();
    (net.ledger, packets)
}

/// A datagram's body with this much of a packet.
fn body(packet: &[u8]) -> Vec<u8> {
    let mut body = vec![9, 0x45, 10, 0, 0x30, 0, 1, 0, 0, 7];
    body.extend_from_slice(&(packet.len() as u16).to_be_bytes());
    body.extend_from_slice(packet);
    body
}

fn come(ledger: &mut Ledger, packet: &[u8]) -> Option<Time> {
    let (flow, serial) = identify(packet).expect("one of ours");
    ledger.came(flow, Side::Router, serial, packet)
}

#[test]
fn a_good_run_has_no_faults() {
    let (mut ledger, packets) = three();
    for at in [1, 0, 2] {
        ledger.carried(Side::Router, &body(&packets[at]));
        ledger.brought(Side::Router, &body(&packets[at]));
        assert!(come(&mut ledger, &packets[at]).is_some());
    }
    ledger.settle();
    assert_eq!(ledger.faults(), None);
    let tally = ledger.tally(0, Side::Router);
    assert_eq!((tally.sent, tally.came, tally.overtaken, tally.brought), (3, 3, 1, 3));
}

#[test]
fn a_marked_packet_is_the_same() {
    let (mut ledger, mut packets) = three();
    packets[0][1] |= 3;
    assert!(come(&mut ledger, &packets[0]).is_some());
}

#[test]
fn what_comes_twice_is_a_fault() {
    let (mut ledger, packets) = three();
    come(&mut ledger, &packets[0]);
    assert_eq!(come(&mut ledger, &packets[0]), None);
    assert!(ledger.faults().unwrap().contains("came twice"));
}

#[test]
fn what_is_altered_is_a_fault() {
    for at in [2, 20, 100, 399] {
        let (mut ledger, mut packets) = three();
        packets[0][at] ^= 1;
        ledger.came(0, Side::Router, 0, &packets[0]);
        assert!(ledger.faults().unwrap().contains("altered"), "byte {at}");
    }
}

#[test]
fn what_is_invented_is_a_fault() {
    let (mut ledger, packets) = three();
    for (flow, serial) in [(0, 3), (1, 0)] {
        ledger.came(flow, Side::Router, serial, &packets[0]);
    }
    assert!(ledger.faults().unwrap().starts_with("2 faults"));
}

#[test]
fn what_the_tunnel_loses_is_a_fault_and_what_links_lose_is_none() {
    let (mut ledger, packets) = three();
    for packet in &packets {
        ledger.carried(Side::Router, &body(packet));
    }
    ledger.brought(Side::Router, &body(&packets[1]));
    // Half of one, and nothing of another.
    ledger.brought(Side::Router, &body(&packets[2][..200]));
    ledger.settle();
    let faults = ledger.faults().unwrap();
    assert!(faults.starts_with("1 faults") && faults.contains("never came"), "{faults}");
}

#[test]
fn what_was_made_of_others_is_counted() {
    let (mut ledger, packets) = three();
    ledger.brought(Side::Router, &body(&packets[1]));
    for packet in &packets[..2] {
        come(&mut ledger, packet);
    }
    ledger.settle();
    let tally = ledger.tally(0, Side::Router);
    assert_eq!((tally.came, tally.brought, tally.made), (2, 1, 1));
}

#[test]
fn packets_are_found_in_datagrams() {
    let (_, packets) = three();
    let mut body = [body(&packets[1]), vec![9; 7], body(&packets[2][..300])].concat();
    // An acknowledgement behind half a packet does not make it whole.
    body.extend_from_slice(&[9; 100]);
    let found: Vec<_> = packets_in(&body, Side::Router)
        .map(|packet| (identify(packet), is_whole(packet)))
        .collect();
    assert_eq!(found, [(Some((0, 1)), true), (Some((0, 2)), false)]);
    assert_eq!(packets_in(&body, Side::Server).count(), 0);
}
