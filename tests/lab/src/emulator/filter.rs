//! What some networks do to packets on their way: strip MPTCP options, swallow UDP.
//!
//! Works on raw IP packets and leaves alone what it does not understand (fragments behind the
//! first, IPv6 extension headers), as such boxes do.

use serde::{Deserialize, Serialize};

/// A network's habits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Replace MPTCP options of TCP segments with padding.
    pub strip_mptcp: bool,
    /// Swallow all UDP.
    pub block_udp: bool,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
/// TCP option kinds (IANA registry): end of list, padding, MPTCP (RFC 8684).
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MPTCP: u8 = 30;

impl Filter {
    /// Whether it does anything.
    #[must_use]
    pub const fn is_idle(self) -> bool {
        !self.strip_mptcp && !self.block_udp
    }

    /// Changes the packet as the network would; false: the network swallows it.
    #[must_use]
    pub fn pass(self, packet: &mut [u8]) -> bool {
        if self.is_idle() {
            return true;
        }
        match transport(packet) {
            Some((UDP, _)) => !self.block_udp,
            Some((TCP, at)) if self.strip_mptcp => {
                strip_mptcp(&mut packet[at..]);
                true
            }
            _ => true,
        }
    }
}

/// The transport protocol and where its header starts.
fn transport(packet: &[u8]) -> Option<(u8, usize)> {
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let offset = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
            (offset == 0 && header >= 20 && packet.len() >= header).then(|| (packet[9], header))
        }
        6 => (packet.len() >= 40).then(|| (packet[6], 40)),
        _ => None,
    }
}

/// Turns MPTCP options into no-operations and mends the checksum.
fn strip_mptcp(tcp: &mut [u8]) {
    if tcp.len() < 20 {
        return;
    }
    let end = (usize::from(tcp[12] >> 4) * 4).min(tcp.len());
    let mut at = 20;
    while at < end {
        let len = match tcp[at] {
            OPTION_END => return,
            OPTION_NOP => 1,
            _ => match tcp.get(at + 1) {
                Some(&len) if len >= 2 && at + usize::from(len) <= end => usize::from(len),
                _ => return,
            },
        };
        if tcp[at] == OPTION_MPTCP {
            for index in at..at + len {
                replace(tcp, index, OPTION_NOP);
            }
        }
        at += len;
    }
}

/// Puts one byte and updates the TCP checksum for it (RFC 1624, equation 3).
fn replace(tcp: &mut [u8], index: usize, value: u8) {
    let word =
        |byte: u8| if index.is_multiple_of(2) { u16::from(byte) << 8 } else { u16::from(byte) };
    let (old, new) = (word(tcp[index]), word(value));
    let sum = u16::from_be_bytes([tcp[16], tcp[17]]);
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    let sum = !(total as u16);
    tcp[index] = value;
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The Internet checksum over `bytes`, without complementing.
    fn ones_sum(bytes: &[u8]) -> u32 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }

    fn segment(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut options = options.to_vec();
        options.resize(options.len().next_multiple_of(4), OPTION_NOP);
        let mut tcp = vec![0; 20];
        tcp[12] = u8::try_from((20 + options.len()) / 4).unwrap() << 4;
        tcp.extend(options);
        tcp.extend(payload);
        let sum = !u16::try_from(ones_sum(&tcp)).unwrap();
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, TCP];
        packet.resize(20, 0);
        packet.extend(tcp);
        packet
    }

    #[test]
    fn mptcp_goes_the_rest_stays() {
        let filter = Filter { strip_mptcp: true, ..Filter::default() };
        // MSS, then MP_CAPABLE, then window scale.
        let mut packet = segment(&[2, 4, 5, 180, 30, 4, 1, 2, 3, 3, 7], b"hello");
        assert!(filter.pass(&mut packet));
        assert_eq!(packet[40..52], [2, 4, 5, 180, 1, 1, 1, 1, 3, 3, 7, 1]);
        assert_eq!(ones_sum(&packet[20..]), 0xffff);
    }

    #[test]
    fn udp_is_swallowed_on_both_families() {
        let filter = Filter { block_udp: true, ..Filter::default() };
        let mut v4 = vec![0; 28];
        (v4[0], v4[9]) = (0x45, UDP);
        assert!(!filter.pass(&mut v4));
        let mut v6 = vec![0; 48];
        (v6[0], v6[6]) = (0x60, UDP);
        assert!(!filter.pass(&mut v6));
        assert!(filter.pass(&mut segment(&[], b"")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(mut packet in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Filter { strip_mptcp: true, block_udp: true }.pass(&mut packet);
        }

        #[test]
        fn the_checksum_stays_right(
            options in proptest::collection::vec(any::<u8>(), 0..40),
            payload in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut packet = segment(&options, &payload);
            let filter = Filter { strip_mptcp: true, block_udp: false };
            prop_assert!(filter.pass(&mut packet));
            prop_assert_eq!(ones_sum(&packet[20..]), 0xffff);
        }
    }
}
