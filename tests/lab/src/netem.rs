//! A link that the kernel shapes: netem for delay and loss, tbf for rate and queue, on a bridge in a
//! namespace between the router and its ISP.
//!
//! ```text
//!  router: NAME ──veth── [ router ═ bridge ═ isp ] ──veth── line :ISP
//!                          netem,     netem,
//!                          tbf: down  tbf: up
//! ```
//!
//! For machines whose kernel has netem, above all virtual ones on a virtual clock: it costs them
//! less than [`crate::emulator`], which needs a thread of this process for each packet's time. It
//! is Ethernet, so addresses are asked for by ARP over the link itself, and rates count the 14
//! bytes of its headers. Both ends see a device that is up, whatever becomes of the link.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::emulator::{Direction, Shape};
use crate::error::LabError;
use crate::ns::{Namespace, NsError};
use crate::topology;

/// A link shaped by the kernel.
#[derive(Debug)]
pub(crate) struct Netem {
    ns: Namespace,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    down: Shape,
    up: Shape,
    cut: bool,
    /// Counts the qdiscs, each of which needs a handle of its own.
    made: u16,
}

/// The bridge's ports.
const TO_ROUTER: &str = "router";
const TO_ISP: &str = "isp";

/// Packets that may be under way; what waits for the line is bounded by tbf.
const UNDER_WAY: u32 = 20_000;
/// What may leave at once, in bytes: a packet with its Ethernet header, or tbf takes none.
const BURST: u64 = 1_600;

impl Netem {
    /// Connects the router's `device` to the ISP's, over a link as `shapes` say: down, up.
    pub(crate) fn build(
        (router, device): (&Namespace, &str),
        isp: &Namespace,
        shapes: (Shape, Shape),
        cut: bool,
    ) -> Result<Self, LabError> {
        let ns = Namespace::create(&format!("link-{device}"))?;
        ns.sysctl(&[("net.ipv6.conf.all.disable_ipv6", "1")])?;
        let tid = ns.tid();
        // Packets come to the link as they go over a wire: one by one.
        let end = |own: &str, other: &str| {
            format!(
                "link add {own} type veth peer name {other} netns {tid}\n\
                 link set dev {own} gso_max_segs 1\n"
            )
        };
        router.ip(&end(device, TO_ROUTER))?;
        isp.ip(&end(topology::LINE, TO_ISP))?;
        let mut lines =
            String::from("link add bridge type bridge forward_delay 0 mcast_snooping 0\n");
        for port in [TO_ROUTER, TO_ISP] {
            let _ = writeln!(lines, "link set dev {port} master bridge up");
        }
        ns.ip(&(lines + "link set dev bridge up\n"))?;
        let (down, up) = shapes;
        let link = Self { ns, state: Mutex::new(State { down, up, cut, made: 0 }) };
        link.apply(&mut link.state())?;
        Ok(link)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.state().cut
    }

    /// Cuts or mends it; what is under way is lost, and nobody is told.
    pub(crate) fn set_cut(&self, cut: bool) -> Result<(), LabError> {
        let mut state = self.state();
        state.cut = cut;
        self.apply(&mut state)
    }

    pub(crate) fn shape(&self, direction: Direction) -> Shape {
        let state = self.state();
        match direction {
            Direction::Down => state.down,
            Direction::Up => state.up,
        }
    }

    /// Sets one direction anew; what is under way is lost.
    pub(crate) fn set(&self, direction: Direction, shape: Shape) -> Result<(), LabError> {
        let mut state = self.state();
        match direction {
            Direction::Down => state.down = shape,
            Direction::Up => state.up = shape,
        }
        self.apply(&mut state)
    }

    fn apply(&self, state: &mut State) -> Result<(), LabError> {
        let mut lines = String::new();
        for (port, shape) in [(TO_ROUTER, state.down), (TO_ISP, state.up)] {
            state.made = state.made % 1000 + 1;
            lines += &qdisc_lines(port, &shape, state.cut, state.made);
        }
        Ok(self.ns.tc(&lines)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines of `tc -batch` that shape what leaves by `port`. A `handle` that was not used before makes
/// a new qdisc, and what the old one held is lost.
fn qdisc_lines(port: &str, shape: &Shape, cut: bool, handle: u16) -> String {
    let parent = format!("{handle:x}:");
    if cut {
        return format!("qdisc replace dev {port} root handle {parent} netem loss 100%\n");
    }
    let mut lines = format!(
        "qdisc replace dev {port} root handle {parent} netem limit {UNDER_WAY} delay {}us loss {}%\n",
        shape.delay.as_micros(),
        shape.loss.get() * 100.0
    );
    if let (Some(rate), Some(queue)) = (shape.rate, shape.queue_bytes()) {
        let _ = writeln!(
            lines,
            "qdisc add dev {port} parent {parent}1 handle {:x}: tbf rate {}bit burst {BURST} limit {}",
            // Behind all of the parents'.
            handle + 0x1000,
            rate.bits_per_second(),
            // Less, and it would take no packet while one is under way.
            queue.max(2 * BURST),
        );
    }
    lines
}

/// What of a shape netem can't do as the lab means it, if anything: its jitter lets packets overtake
/// one another, for instance.
pub(crate) fn beyond(shape: &Shape) -> Option<&'static str> {
    let plain = Shape::default();
    let known = Shape {
        rate: shape.rate,
        delay: shape.delay,
        loss: shape.loss,
        queue: shape.queue,
        ..plain
    };
    (*shape != known).then_some("a netem link knows rate, delay, loss and queue only")
}

impl Namespace {
    /// Runs lines of `tc -batch`.
    ///
    /// # Errors
    /// When one fails; those before it stay done.
    fn tc(&self, lines: &str) -> Result<(), NsError> {
        self.batch("tc", lines)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::emulator::QueueLimit;
    use crate::units::Rate;

    fn shape() -> Shape {
        Shape {
            rate: Some(Rate::from_bits_per_second(20_000_000)),
            delay: Duration::from_millis(10),
            queue: QueueLimit::Time(Duration::from_millis(100)),
            ..Shape::default()
        }
    }

    #[test]
    fn a_line_has_a_delay_a_rate_and_a_bounded_queue() {
        let wanted = "qdisc replace dev isp root handle 1: netem limit 20000 delay 10000us loss 0%\n\
            qdisc add dev isp parent 1:1 handle 1001: tbf rate 20000000bit burst 1600 limit 250000\n";
        assert_eq!(qdisc_lines("isp", &shape(), false, 1), wanted);
    }

    #[test]
    fn a_cut_line_passes_nothing() {
        let wanted = "qdisc replace dev isp root handle a: netem loss 100%\n";
        assert_eq!(qdisc_lines("isp", &shape(), true, 10), wanted);
    }

    #[test]
    fn what_netem_does_otherwise_is_refused() {
        assert_eq!(beyond(&shape()), None);
        assert!(beyond(&Shape { jitter: Duration::from_millis(1), ..shape() }).is_some());
    }
}
