//! Which flow an IP packet belongs to, and what can be seen of its kind.

/// Flows are told apart by a hash into so many slots; two that share one are ordered as one.
pub(super) const SLOTS: usize = 1024;

/// What an IP packet's headers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PacketInfo {
    /// Below [`SLOTS`].
    pub slot: u16,
    pub kind: Kind,
}

/// What carries the packet's payload, as far as it matters to the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Must arrive in order, and loss makes it slow.
    Tcp,
    /// UDP that does its own congestion control, and wants what TCP wants: QUIC.
    Quic,
    /// Other UDP.
    Udp,
    /// Anything else.
    Other,
}

impl Kind {
    /// A lost packet is worth waiting for.
    pub(super) const fn waits_for_repair(self) -> bool {
        matches!(self, Self::Tcp | Self::Quic)
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const QUIC_PORT: u16 = 443;
const DNS_PORT: u16 = 53;

/// What tells flows apart: protocol, addresses, and ports where there are any.
type Headers<'a> = (u8, &'a [u8], Option<&'a [u8]>);

fn headers(packet: &[u8]) -> Option<Headers<'_>> {
    let first = *packet.first()?;
    let (protocol, addresses, ports) = match first >> 4 {
        4 if packet.len() >= 20 => {
            let header = usize::from(first & 15) * 4;
            // Only the first fragment has ports: none of them is told by its ports then.
            let fragment = packet[6] & 0x3f != 0 || packet[7] != 0;
            let ports = if fragment { None } else { packet.get(header..header + 4) };
            (packet[9], &packet[12..20], ports)
        }
        6 if packet.len() >= 40 => (packet[6], &packet[8..40], packet.get(40..44)),
        _ => return None,
    };
    let ports = match protocol {
        TCP | UDP => ports,
        _ => None,
    };
    Some((protocol, addresses, ports))
}

fn has_port(ports: &[u8], port: u16) -> bool {
    ports.chunks_exact(2).any(|pair| u16::from_be_bytes([pair[0], pair[1]]) == port)
}

/// Whether a packet is a question to a name server or its answer: a page waits for it.
pub(super) fn is_dns(packet: &[u8]) -> bool {
    headers(packet).is_some_and(|(protocol, _, ports)| {
        protocol == UDP && ports.is_some_and(|ports| has_port(ports, DNS_PORT))
    })
}

/// Reads the headers of an IP packet. `None` if it is none.
pub(super) fn inspect(packet: &[u8], seed: u64) -> Option<PacketInfo> {
    let (protocol, addresses, ports) = headers(packet)?;
    let mut hash = seed ^ u64::from(protocol);
    for chunk in addresses.chunks_exact(4).chain(ports) {
        let word = u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
        // Folded multiplication: cheap, and the seed is secret.
        let product = u128::from(hash ^ u64::from(word)) * 0x9e37_79b9_7f4a_7c15_u128;
        hash = (product >> 64) as u64 ^ product as u64;
    }
    let quic = ports.is_some_and(|ports| has_port(ports, QUIC_PORT));
    let kind = match protocol {
        TCP => Kind::Tcp,
        UDP if quic => Kind::Quic,
        UDP => Kind::Udp,
        _ => Kind::Other,
    };
    Some(PacketInfo { slot: (hash % SLOTS as u64) as u16, kind })
}

/// Marks a packet as having met congestion (RFC 3168) if its sender understands that.
pub(super) fn mark_congestion(packet: &mut [u8]) -> bool {
    match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 20 => {
            if packet[1] & 3 == 0 {
                return false;
            }
            let old = u16::from_be_bytes([packet[0], packet[1]]);
            packet[1] |= 3;
            let new = u16::from_be_bytes([packet[0], packet[1]]);
            // RFC 1624, equation 3.
            let sum = u16::from_be_bytes([packet[10], packet[11]]);
            let mut updated = u32::from(!sum) + u32::from(!old) + u32::from(new);
            while updated > 0xffff {
                updated = (updated & 0xffff) + (updated >> 16);
            }
            packet[10..12].copy_from_slice(&(!(updated as u16)).to_be_bytes());
            true
        }
        Some(6) if packet.len() >= 40 => {
            if packet[1] & 0x30 == 0 {
                return false;
            }
            packet[1] |= 0x30;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(source_port: u16, target_port: u16) -> Vec<u8> {
        let mut packet =
            vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend_from_slice(&source_port.to_be_bytes());
        packet.extend_from_slice(&target_port.to_be_bytes());
        packet.extend_from_slice(&[0, 8, 0, 0]);
        packet
    }

    #[test]
    fn flows_are_told_apart_by_their_ports() {
        let one = inspect(&udp(1000, 53), 7).unwrap();
        assert_eq!(one, inspect(&udp(1000, 53), 7).unwrap());
        assert_eq!(one.kind, Kind::Udp);
        assert_eq!(inspect(&udp(1000, 443), 7).unwrap().kind, Kind::Quic);
        let slots: std::collections::BTreeSet<_> =
            (0..200).map(|port| inspect(&udp(port, 53), 7).unwrap().slot).collect();
        assert!(slots.len() > 150, "{}", slots.len());
    }

    #[test]
    fn questions_for_names_and_answers_are_known() {
        assert!(is_dns(&udp(1000, 53)) && is_dns(&udp(53, 1000)));
        assert!(!is_dns(&udp(1000, 443)) && !is_dns(&[]));
        let mut tcp = udp(1000, 53);
        tcp[9] = TCP;
        assert!(!is_dns(&tcp));
        let mut fragment = udp(1000, 53);
        fragment[6] = 0x20;
        assert!(!is_dns(&fragment));
    }

    #[test]
    fn fragments_stay_with_each_other() {
        let mut first = udp(1, 2);
        first[6] = 0x20;
        let mut second = udp(3, 4);
        second[7] = 100;
        assert_eq!(inspect(&first, 1).unwrap().slot, inspect(&second, 1).unwrap().slot);
    }

    #[test]
    fn marking_keeps_the_checksum_right() {
        let sum = |packet: &[u8]| {
            let mut sum: u32 = packet[..20]
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            sum as u16
        };
        for tos in 0..=255u8 {
            let mut packet = udp(1, 2);
            packet[1] = tos;
            let check = !sum(&packet);
            packet[10..12].copy_from_slice(&check.to_be_bytes());
            assert_eq!(mark_congestion(&mut packet), tos & 3 != 0);
            assert_eq!(sum(&packet), 0xffff, "{tos:#x}");
        }
    }

    #[test]
    fn short_and_strange_packets_are_none() {
        assert_eq!(inspect(&[], 0), None);
        assert_eq!(inspect(&[0x45; 19], 0), None);
        assert_eq!(inspect(&[0x60; 39], 0), None);
        assert_eq!(inspect(&[0x15; 60], 0), None);
        assert!(inspect(&[0x4f; 21], 0).is_some());
    }
}
