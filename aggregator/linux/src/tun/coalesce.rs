//! Joining consecutive packets of a flow into one that the kernel takes in one write.
//!
//! Pure: [`Coalescer`] sorts packets into [`Bundle`]s and says when each is to be written. It holds
//! references only, so no payload moves.
//!
//! Flows come interleaved, so a few bundles are open at once. A packet that can't be added to its
//! flow's bundle, such as a bare acknowledgement, makes that bundle go first: order within a flow
//! stays. As flows have no order among each other, nothing else has to.

use super::headers::{
    ACK, ECE, Layout, MAX_HEADERS, PSH, TCP, TCP_FLAGS, Transport, UDP, addresses, number, put,
    sequence,
};
use super::vnet::{Gso, VnetHeader};

/// How many packets one bundle holds. As many as UDP allows in all kernels (`UDP_MAX_SEGMENTS`),
/// and more than full-sized ones fit into 64 KiB.
pub const MAX_BUNDLE: usize = 64;

/// How many bundles are open at once. Each is a kilobyte on the stack.
const OPEN: usize = 8;

/// The longest an IP packet can be, joined or not.
const MAX_PACKET: usize = 65_535;

/// Sorts packets into bundles. Made anew for each batch: nothing waits for later packets.
pub struct Coalescer<'a> {
    open: [Bundle<'a>; OPEN],
    tcp: bool,
    udp: bool,
    opened: u32,
}

impl<'a> Coalescer<'a> {
    /// Joins the kinds of packets that the kernel takes joined.
    #[must_use]
    pub fn new(tcp: bool, udp: bool) -> Self {
        Self { open: [const { Bundle::EMPTY }; OPEN], tcp, udp, opened: 0 }
    }

    /// Takes a packet. Whatever has to be written now, it or others, goes to `write`.
    pub fn push(&mut self, packet: &'a [u8], write: &mut impl FnMut(&Bundle<'a>)) {
        let Some(layout) = self.candidate(packet) else {
            self.make_way(packet, write);
            write(&Bundle::alone(packet));
            return;
        };
        let flow = |bundle: &&mut Bundle<'a>| bundle.is_flow(packet, &layout);
        if let Some(bundle) = self.open.iter_mut().find(flow) {
            match bundle.add(packet, &layout) {
                Added::Open => return,
                Added::Full => return bundle.close(write),
                Added::No => bundle.close(write),
                Added::Damaged => {
                    bundle.close(write);
                    write(&Bundle::alone(packet));
                    return;
                }
            }
        }
        if ends_bundle(packet, &layout) {
            write(&Bundle::alone(packet));
            return;
        }
        // A free place, or that of the bundle that has been open the longest.
        let opened = self.opened;
        let age = |bundle: &Bundle<'a>| opened.wrapping_sub(bundle.opened);
        let place = self
            .open
            .iter_mut()
            .max_by_key(|bundle| if bundle.count == 0 { u64::MAX } else { u64::from(age(bundle)) });
        if let Some(place) = place {
            place.close(write);
            self.opened = self.opened.wrapping_add(1);
            place.start(packet, layout, self.opened);
        }
    }

    /// Has all that is left written, oldest first.
    pub fn flush(&mut self, write: &mut impl FnMut(&Bundle<'a>)) {
        self.open.sort_unstable_by_key(|bundle| bundle.opened);
        for bundle in &mut self.open {
            bundle.close(write);
        }
    }

    /// What a packet needs to be joined with others, its checksum aside.
    fn candidate(&self, packet: &[u8]) -> Option<Layout> {
        let layout = Layout::of(packet)?;
        let plain_ip = layout.transport_at == if layout.v6 { 40 } else { 20 };
        let allowed = match layout.transport {
            // Anything but data says something that must be heard at its place in the sequence.
            Transport::Tcp => {
                let flags = packet[layout.transport_at + TCP_FLAGS];
                self.tcp && flags & !(PSH | ECE) == ACK
            }
            Transport::Udp => self.udp,
        };
        (plain_ip && allowed && packet.len() > layout.payload_at).then_some(layout)
    }

    /// Has bundles written that a packet must not overtake.
    fn make_way(&mut self, packet: &[u8], write: &mut impl FnMut(&Bundle<'a>)) {
        for bundle in &mut self.open {
            if bundle.may_be_flow_of(packet) {
                bundle.close(write);
            }
        }
    }
}

/// Packets to be written at once.
#[derive(Debug)]
pub struct Bundle<'a> {
    packets: [&'a [u8]; MAX_BUNDLE],
    count: usize,
    /// Of all packets, as they would have it were they alone. Of no meaning for a packet that came alone.
    layout: Layout,
    /// Length of the joined packet.
    total: usize,
    /// The first packet's checksum has been seen to be right.
    verified: bool,
    opened: u32,
}

enum Added {
    /// There may be more.
    Open,
    /// There can't be more.
    Full,
    /// It does not go with the others.
    No,
    /// Its checksum is wrong.
    Damaged,
}

impl<'a> Bundle<'a> {
    const EMPTY: Self = Self {
        packets: [&[]; MAX_BUNDLE],
        count: 0,
        layout: Layout { v6: false, transport: Transport::Tcp, transport_at: 0, payload_at: 0 },
        total: 0,
        verified: false,
        opened: 0,
    };

    fn alone(packet: &'a [u8]) -> Self {
        let mut bundle = Self::EMPTY;
        bundle.packets[0] = packet;
        bundle.count = 1;
        bundle.total = packet.len();
        bundle
    }

    /// The packets, as they were given.
    #[must_use]
    pub fn packets(&self) -> &[&'a [u8]] {
        &self.packets[..self.count]
    }

    /// How to write them as one: the header for the kernel and those of the joined packet, to be
    /// followed by all [`payloads`](Self::payloads). `None` if there is only one packet, to be
    /// written as it is.
    pub fn joined<'b>(&self, headers: &'b mut Headers) -> Option<(VnetHeader, &'b [u8])> {
        let [first, .., last] = self.packets() else { return None };
        let layout = &self.layout;
        let (at, payload_at) = (layout.transport_at, layout.payload_at);
        let joined = &mut headers.0[..payload_at];
        joined.copy_from_slice(&first[..payload_at]);
        layout.write_length(joined, self.total);
        let gso = match (layout.transport, layout.v6) {
            (Transport::Tcp, v6) => {
                joined[at + TCP_FLAGS] |= last[at + TCP_FLAGS] & PSH;
                if v6 { Gso::Tcp6 } else { Gso::Tcp4 }
            }
            (Transport::Udp, _) => {
                put(joined, at + 4, (self.total - at) as u16);
                Gso::Udp
            }
        };
        // The kernel, or a network card, makes the checksum of each piece from this.
        let pseudo = layout.pseudo_sum(joined, self.total).folded();
        let checksum_at = layout.checksum_at();
        joined[checksum_at..checksum_at + 2].copy_from_slice(&pseudo);
        let header = VnetHeader {
            checksum: Some((at as u16, layout.transport.checksum_offset() as u16)),
            gso: Some((gso, (first.len() - payload_at) as u16)),
            header_len: payload_at as u16,
        };
        Some((header, joined))
    }

    /// What the packets carry.
    pub fn payloads(&self) -> impl Iterator<Item = &'a [u8]> {
        self.packets().iter().map(|packet| &packet[self.layout.payload_at..])
    }

    fn start(&mut self, packet: &'a [u8], layout: Layout, opened: u32) {
        self.packets[0] = packet;
        self.count = 1;
        self.layout = layout;
        self.total = packet.len();
        self.verified = false;
        self.opened = opened;
    }

    fn close(&mut self, write: &mut impl FnMut(&Self)) {
        if self.count > 0 {
            write(self);
            self.count = 0;
        }
    }

    fn is_flow(&self, packet: &[u8], layout: &Layout) -> bool {
        let at = layout.transport_at;
        self.count > 0
            && (self.layout.v6, self.layout.transport) == (layout.v6, layout.transport)
            && self.packets[0][at..at + 4] == packet[at..at + 4]
            && self.layout.addresses(self.packets[0]) == layout.addresses(packet)
    }

    /// Whether a packet that can't be joined with others may be of this flow. Rather once too often.
    fn may_be_flow_of(&self, packet: &[u8]) -> bool {
        if self.count == 0 {
            return false;
        }
        let v6 = self.layout.v6;
        let shortest = if v6 { 40 } else { 20 };
        if packet.len() < shortest || (packet[0] >> 4 == 6) != v6 {
            return false;
        }
        if addresses(packet, v6) != self.layout.addresses(self.packets[0]) {
            return false;
        }
        match Layout::of(packet) {
            Some(layout) => {
                let (at, own) = (layout.transport_at, self.layout.transport_at);
                layout.transport == self.layout.transport
                    && packet[at..at + 4] == self.packets[0][own..own + 4]
            }
            // A fragment, or damaged, or neither TCP nor UDP.
            None => {
                let protocol = packet[if v6 { 6 } else { 9 }];
                let other =
                    [TCP, UDP].contains(&protocol) && protocol != self.layout.transport.number();
                !other
            }
        }
    }

    fn add(&mut self, packet: &'a [u8], layout: &Layout) -> Added {
        let first = self.packets[0];
        let payload_at = layout.payload_at;
        let size = first.len() - self.layout.payload_at;
        let length = packet.len() - payload_at;
        let fits = *layout == self.layout
            && length <= size
            && self.total + length <= MAX_PACKET
            && same_headers(first, packet, layout)
            && self.follows(packet, layout);
        if !fits {
            return Added::No;
        }
        if !self.verified && !layout.checksum_is_valid(first) {
            return Added::No;
        }
        self.verified = true;
        if !layout.checksum_is_valid(packet) {
            return Added::Damaged;
        }
        self.packets[self.count] = packet;
        self.count += 1;
        self.total += length;
        let full = self.count == MAX_BUNDLE
            || length < size
            || self.total + size > MAX_PACKET
            || ends_bundle(packet, layout);
        if full { Added::Full } else { Added::Open }
    }

    /// Whether the numbers in a packet's headers go on from those of the last.
    fn follows(&self, packet: &[u8], layout: &Layout) -> bool {
        let first = self.packets[0];
        // With "don't fragment", the identification means nothing (RFC 6864 §4.1), and some send
        // the same one always.
        let free_id = layout.v6 || packet[6] & 0x40 != 0;
        let id = (number(first, 4) as u16).wrapping_add(self.count as u16);
        let at = layout.transport_at;
        let so_far = (self.total - layout.payload_at) as u32;
        (free_id || number(packet, 4) == usize::from(id))
            && (layout.transport == Transport::Udp
                || sequence(packet, at) == sequence(first, at).wrapping_add(so_far))
    }
}

/// Room for the headers of one joined packet.
#[derive(Debug)]
pub struct Headers([u8; MAX_HEADERS]);

impl Default for Headers {
    fn default() -> Self {
        Self([0; MAX_HEADERS])
    }
}

/// Whether a packet must be the last of its bundle: what follows PSH is not pushed.
fn ends_bundle(packet: &[u8], layout: &Layout) -> bool {
    layout.transport == Transport::Tcp && packet[layout.transport_at + TCP_FLAGS] & PSH != 0
}

/// Whether headers are alike but for what differs from segment to segment: lengths, checksums,
/// identification, sequence number, and PSH, which `a` does not have.
fn same_headers(a: &[u8], b: &[u8], layout: &Layout) -> bool {
    let same = |from: usize, to: usize| a[from..to] == b[from..to];
    let at = layout.transport_at;
    let ip = if layout.v6 {
        same(0, 4) && same(6, 40)
    } else {
        same(0, 2) && same(6, 10) && same(12, 20)
    };
    let transport = match layout.transport {
        Transport::Udp => same(at, at + 4),
        // Ports; acknowledgement, offset; flags; window; urgent pointer, options.
        Transport::Tcp => {
            same(at, at + 4)
                && same(at + 8, at + TCP_FLAGS)
                && (a[at + TCP_FLAGS] ^ b[at + TCP_FLAGS]) & !PSH == 0
                && same(at + 14, at + 16)
                && same(at + 18, layout.payload_at)
        }
    };
    ip && transport
}

#[cfg(test)]
#[path = "coalesce_tests.rs"]
mod tests;
