//! A TCP connection whose packets go through the tunnel: CUBIC, SACK, RACK-TLP (RFC 8985) and
//! proportional rate reduction (RFC 6937), as in Linux, from its established state on.
//!
//! Sequence numbers count segments rather than bytes: all are full.

use std::collections::VecDeque;
use std::time::Duration;

use super::Arrivals;
use super::cubic::Cubic;
use super::tcp_receiver::Receiver;
use crate::Time;
use crate::net::{MTU, Net, Protocol, Side, TCP_HEAD};

/// Payload of a segment.
pub(super) const MSS: usize = MTU - TCP_HEAD;
/// The receiver's window, segments: about 6 MB, Linux's largest.
const WINDOW: u64 = 4400;
const LEAST_RTO: Duration = Duration::from_millis(200);
const MOST_RTO: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Flying,
    Sacked,
    Lost,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    sent: Time,
    fate: Fate,
    again: bool,
    /// Of the packet that carried it last: what the timestamp option says.
    serial: u32,
}

#[derive(Debug, Clone, Copy)]
struct Recovery {
    /// Ends when all before this has arrived.
    until: u64,
    delivered: u64,
    out: u64,
    flight: u64,
    /// After a time-out: slow start instead of rate reduction.
    timed_out: bool,
    /// The first packet sent again, and the window and threshold before.
    first: Option<u32>,
    before: (u64, u64),
}

/// A connection with one bulk transfer.
#[derive(Debug)]
pub struct Tcp {
    flow: usize,
    from: Side,
    start: Option<Time>,
    /// Segments to send.
    total: u64,
    cubic: Cubic,
    segments: VecDeque<Segment>,
    acked: u64,
    flying: u64,
    sacked: u64,
    lost: u64,
    recovery: Option<Recovery>,
    srtt: Option<Duration>,
    rttvar: Duration,
    least_rtt: Duration,
    /// RACK: of those that arrived, the latest sent, when and as which packet, and its round trip.
    rack: (Time, u32),
    rack_rtt: Duration,
    rack_at: Option<Time>,
    reordered: bool,
    timer: Option<Time>,
    probed: bool,
    backoff: u32,
    receiver: Receiver,
    pub(super) arrivals: Arrivals,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Times at which a time-out struck.
    pub timeouts: Vec<Time>,
}

impl Tcp {
    /// `total` bytes from `from`, beginning at `start`.
    #[must_use]
    pub fn new(flow: usize, from: Side, total: u64, start: Time) -> Self {
        Self {
            flow,
            from,
            start: Some(start),
            total: total.div_ceil(MSS as u64),
            cubic: Cubic::new(),
            segments: VecDeque::new(),
            acked: 0,
            flying: 0,
            sacked: 0,
            lost: 0,
            recovery: None,
            srtt: None,
            rttvar: Duration::ZERO,
            least_rtt: Duration::MAX,
            rack: (Time::ZERO, 0),
            rack_rtt: Duration::ZERO,
            rack_at: None,
            reordered: false,
            timer: None,
            probed: false,
            backoff: 0,
            receiver: Receiver::default(),
            arrivals: Arrivals::default(),
            retransmitted: 0,
            timeouts: Vec::new(),
        }
    }

    /// Whether everything has arrived and is acknowledged.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.acked >= self.total
    }

    /// The congestion window, segments.
    #[must_use]
    pub const fn window(&self) -> u64 {
        self.cubic.window
    }

    pub(super) fn due(&self) -> Option<Time> {
        [self.start, self.timer, self.rack_at, self.receiver.due()].into_iter().flatten().min()
    }

    pub(super) fn run(&mut self, now: Time, net: &mut Net) {
        if self.receiver.due().is_some_and(|due| due <= now) {
            self.answer(now, net);
        }
        if self.start.is_some_and(|start| start <= now) {
            self.start = None;
        }
        if self.rack_at.is_some_and(|at| at <= now) {
            self.rack_at = None;
            self.find_lost(now);
        }
        if self.timer.is_some_and(|at| at <= now) {
            self.on_timer(now, net);
        }
        self.send(now, net);
    }

    /// A packet of this connection came out at `side`.
    pub(super) fn packet(&mut self, now: Time, side: Side, packet: &[u8], net: &mut Net) {
        let word = |at: usize| packet.get(at..at + 4).map_or(0, read_word);
        if side != self.from {
            let taken = self.receiver.take(now, u64::from(word(24)), word(44));
            if taken.readable > 0 {
                self.arrivals.add(now, (taken.readable * MSS as u64) as u32);
            }
            if taken.answer {
                self.answer(now, net);
            }
            return;
        }
        let blocks = packet.get(56..).unwrap_or_default();
        self.on_ack(now, u64::from(word(28)), word(48), blocks);
        self.send(now, net);
    }

    fn answer(&mut self, now: Time, net: &mut Net) {
        let mut head = header(0, self.receiver.next as u32, self.receiver.echo);
        let blocks = self.receiver.answer();
        if !blocks.is_empty() {
            head.extend_from_slice(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for &(from, to) in blocks {
                head.extend_from_slice(&(from as u32).to_be_bytes());
                head.extend_from_slice(&(to as u32).to_be_bytes());
            }
        }
        let length = 24 + head.len();
        net.send(now, self.flow, self.from.other(), Protocol::Tcp, &head, length);
    }

    fn next(&self) -> u64 {
        self.acked + self.segments.len() as u64
    }

    fn on_ack(&mut self, now: Time, acked: u64, echo: u32, blocks: &[u8]) {
        let mut newest: Option<Segment> = None;
        let mut delivered = 0;
        let highest = self.highest_sacked();
        let mut note = |this: &mut Self, number: u64, segment: Segment| {
            delivered += 1;
            match segment.fate {
                Fate::Flying => this.flying -= 1,
                Fate::Lost => this.lost -= 1,
                Fate::Sacked => delivered -= 1,
            }
            if segment.fate == Fate::Sacked {
                return;
            }
            this.reordered |= !segment.again && highest.is_some_and(|highest| number < highest);
            // What was sent again and is answered sooner than ever came the first time, as Linux
            // has it: the timestamp would tell nothing of what came out of order.
            let doubtful = segment.again && now.since(segment.sent) < this.least_rtt;
            if !doubtful && newest.is_none_or(|newest| segment.serial > newest.serial) {
                newest = Some(segment);
            }
        };
        let before = self.acked;
        while self.acked < acked {
            let Some(segment) = self.segments.pop_front() else { break };
            let number = self.acked;
            self.acked += 1;
            if segment.fate == Fate::Sacked {
                self.sacked -= 1;
            }
            note(self, number, segment);
        }
        for block in blocks.chunks_exact(8) {
            let (from, to) = (u64::from(read_word(block)), u64::from(read_word(&block[4..])));
            for number in from.max(self.acked)..to.min(self.next()) {
                let place = (number - self.acked) as usize;
                let segment = self.segments[place];
                if segment.fate != Fate::Sacked {
                    note(self, number, segment);
                    self.segments[place].fate = Fate::Sacked;
                    self.sacked += 1;
                }
            }
        }
        if let Some(segment) = newest {
            self.on_newest(now, segment);
        }
        if self.acked > before
            && let Some(recovery) = self.recovery
            && recovery.first.is_some_and(|first| echo < first)
        {
            // Nothing was lost: back to where it was.
            (self.cubic.window, self.cubic.threshold) = recovery.before;
            self.recovery = None;
            for segment in self.segments.iter_mut().filter(|segment| segment.fate == Fate::Lost) {
                segment.fate = Fate::Flying;
                self.flying += 1;
                self.lost -= 1;
            }
        }
        self.find_lost(now);
        self.grow(now, before, delivered);
        if self.acked > before {
            self.backoff = 0;
            self.probed = false;
            self.arm(now);
        }
    }

    fn on_newest(&mut self, now: Time, segment: Segment) {
        let rtt = now.since(segment.sent);
        if !segment.again {
            self.least_rtt = self.least_rtt.min(rtt);
            match self.srtt {
                None => (self.srtt, self.rttvar) = (Some(rtt), rtt / 2),
                Some(srtt) => {
                    self.rttvar = (self.rttvar * 3 + srtt.abs_diff(rtt)) / 4;
                    self.srtt = Some((srtt * 7 + rtt) / 8);
                }
            }
            self.cubic.on_rtt(now, rtt, self.acked, self.next());
        }
        if segment.serial >= self.rack.1 {
            self.rack = (segment.sent, segment.serial);
            self.rack_rtt = rtt;
        }
    }

    fn highest_sacked(&self) -> Option<u64> {
        if self.sacked == 0 {
            return None;
        }
        let place = self.segments.iter().rposition(|segment| segment.fate == Fate::Sacked)?;
        Some(self.acked + place as u64)
    }

    /// RACK, with the classic three duplicates while no reordering was seen.
    fn find_lost(&mut self, now: Time) {
        self.rack_at = None;
        if self.sacked == 0 && self.recovery.is_none() {
            return;
        }
        let tolerated = !self.reordered && (self.recovery.is_some() || self.sacked >= 3);
        let window =
            if tolerated { Duration::ZERO } else { self.least_rtt.min(Duration::from_secs(1)) / 4 };
        let mut any = false;
        for place in 0..self.segments.len() {
            let segment = self.segments[place];
            if segment.fate != Fate::Flying || segment.serial >= self.rack.1 {
                continue;
            }
            let over = segment.sent + self.rack_rtt + window;
            if over <= now {
                self.segments[place].fate = Fate::Lost;
                self.flying -= 1;
                self.lost += 1;
                any = true;
            } else {
                self.rack_at = Some(self.rack_at.map_or(over, |at| at.min(over)));
            }
        }
        if any && self.recovery.is_none() {
            let flight = self.segments.len() as u64;
            self.recover(flight, false);
        }
    }

    fn recover(&mut self, flight: u64, timed_out: bool) {
        let before = (self.cubic.window, self.cubic.threshold);
        if self.recovery.is_none_or(|recovery| !recovery.timed_out) {
            self.cubic.reduce();
        }
        let until = self.next();
        self.recovery =
            Some(Recovery { until, delivered: 0, out: 0, flight, timed_out, first: None, before });
    }

    fn grow(&mut self, now: Time, before: u64, delivered: u64) {
        let Some(recovery) = &mut self.recovery else {
            // Only a window that is in use tells anything.
            if self.flying + delivered >= self.cubic.window
                || (self.cubic.window < self.cubic.threshold
                    && (self.flying + delivered) * 2 >= self.cubic.window)
            {
                self.cubic.on_ack(now, delivered);
            }
            return;
        };
        if self.acked >= recovery.until {
            if !recovery.timed_out {
                self.cubic.window = self.cubic.threshold;
            }
            self.recovery = None;
            return;
        }
        if recovery.timed_out {
            self.cubic.on_ack(now, delivered);
            return;
        }
        recovery.delivered += delivered;
        let threshold = self.cubic.threshold;
        let send = if self.flying > threshold {
            (recovery.delivered * threshold)
                .div_ceil(recovery.flight.max(1))
                .saturating_sub(recovery.out)
        } else {
            let gone = recovery.delivered.saturating_sub(recovery.out).max(delivered);
            let limit = gone + u64::from(self.acked > before);
            (threshold - self.flying).min(limit)
        };
        // Fast retransmit: the first goes out at once.
        let send = send.max(u64::from(recovery.out == 0));
        self.cubic.window = (self.flying + send).max(1);
    }

    fn send(&mut self, now: Time, net: &mut Net) {
        if self.start.is_some() {
            return;
        }
        while self.flying < self.cubic.window {
            if !self.send_one(now, net) {
                break;
            }
        }
    }

    /// Sends what was lost, or else something new.
    fn send_one(&mut self, now: Time, net: &mut Net) -> bool {
        let lost = if self.lost > 0 {
            self.segments.iter().position(|segment| segment.fate == Fate::Lost)
        } else {
            None
        };
        if let Some(place) = lost {
            self.segments[place].again = true;
            self.segments[place].fate = Fate::Flying;
            self.lost -= 1;
            self.retransmitted += 1;
            self.emit(now, self.acked + place as u64, net);
            return true;
        }
        if self.next() >= self.total || self.segments.len() as u64 >= WINDOW {
            return false;
        }
        self.segments.push_back(Segment { sent: now, fate: Fate::Flying, again: false, serial: 0 });
        self.emit(now, self.next() - 1, net);
        true
    }

    fn emit(&mut self, now: Time, number: u64, net: &mut Net) {
        let head = header(number as u32, 0, 0);
        let serial = net.send(now, self.flow, self.from, Protocol::Tcp, &head, MTU);
        let segment = &mut self.segments[(number - self.acked) as usize];
        (segment.sent, segment.serial) = (now, serial);
        self.flying += 1;
        if let Some(recovery) = &mut self.recovery {
            recovery.out += 1;
            if segment.again {
                recovery.first = recovery.first.or(Some(serial));
            }
        }
        self.arm(now);
    }

    /// Sets the timer for a probe of the tail, or for the time-out.
    fn arm(&mut self, now: Time) {
        if self.segments.is_empty() {
            self.timer = None;
            return;
        }
        let srtt = self.srtt.unwrap_or(Duration::from_secs(1));
        let rto =
            (srtt + (self.rttvar * 4).max(LEAST_RTO)).min(MOST_RTO) * (1 << self.backoff.min(8));
        let after = if self.probed || self.recovery.is_some() || self.srtt.is_none() {
            rto
        } else {
            let slack = if self.flying == 1 { LEAST_RTO } else { Duration::ZERO };
            (srtt * 2 + slack).min(rto)
        };
        self.timer = Some(now + after);
    }

    fn on_timer(&mut self, now: Time, net: &mut Net) {
        if !self.probed && self.recovery.is_none() && self.srtt.is_some() {
            self.probed = true;
            if self.next() < self.total && (self.segments.len() as u64) < WINDOW {
                self.send_one(now, net);
            } else if let Some(last) = self.segments.back_mut() {
                if last.fate == Fate::Flying {
                    self.flying -= 1;
                }
                (last.fate, last.again) = (Fate::Flying, true);
                self.retransmitted += 1;
                self.emit(now, self.next() - 1, net);
            }
            self.arm(now);
            return;
        }
        self.timeouts.push(now);
        self.backoff += 1;
        self.probed = true;
        for segment in &mut self.segments {
            if segment.fate == Fate::Flying {
                segment.fate = Fate::Lost;
                self.flying -= 1;
                self.lost += 1;
            }
        }
        self.recover(1, true);
        self.cubic.window = 1;
        self.arm(now);
    }
}

fn read_word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

/// Of a TCP header, what follows the ports: with room for the timestamp.
fn header(sequence: u32, acknowledged: u32, echo: u32) -> Vec<u8> {
    let mut head = Vec::with_capacity(56);
    head.extend_from_slice(&sequence.to_be_bytes());
    head.extend_from_slice(&acknowledged.to_be_bytes());
    head.extend_from_slice(&[0x80, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    head.extend_from_slice(&[1, 1, 8, 10, 0, 0, 0, 0]);
    head.extend_from_slice(&echo.to_be_bytes());
    head
}
