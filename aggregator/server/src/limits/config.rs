//! How much: the `[limits]` section, per-router overrides, and defaults that fit the machine.

use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;

/// The `[limits]` section of `server.toml`. What is missing is sized to the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSection {
    /// Flows of all routers at once.
    pub flows: Option<u32>,
    /// Bytes that wait in buffers for all routers together, in MiB.
    pub buffers_mib: Option<u32>,
    /// Connections that have not proved who they are yet, in all.
    pub unproven: Option<u32>,
    /// As above, from one address (IPv4) or one /64 network (IPv6).
    pub unproven_per_address: Option<u32>,
    /// For each router, unless its own file says otherwise.
    pub router: RouterLimits,
}

/// What one router may take; none means the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouterLimits {
    /// Flows at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<u32>,
    /// Lanes at once, idle ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lanes: Option<u32>,
    /// New flows a second, over a long time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_per_second: Option<u32>,
    /// New flows at once after a quiet time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_burst: Option<u32>,
    /// Bytes that wait in buffers, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub buffers_mib: Option<u32>,
    /// Bytes in a calendar month, both directions together, in units of 10^9; none means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly_gb: Option<u32>,
}

/// What the daemon may use of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Memory in bytes.
    pub memory: u64,
    /// File descriptors.
    pub descriptors: u64,
}

impl Machine {
    /// This machine: its memory or, where that is less, its control group's; and the raised
    /// limit of descriptors.
    #[must_use]
    pub fn detect() -> Self {
        let total = std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| parse_meminfo(&text))
            // The smallest VPS on offer.
            .unwrap_or(512 * MIB);
        let group = std::fs::read_to_string("/proc/self/cgroup")
            .ok()
            .and_then(|text| {
                let path = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
                let file = format!("/sys/fs/cgroup{path}/memory.max");
                std::fs::read_to_string(file).ok()?.trim().parse().ok()
            })
            .unwrap_or(u64::MAX);
        Self { memory: total.min(group), descriptors: wanbond_linux::socket::raise_nofile_limit() }
    }
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Limits without gaps: what the section says, and for the rest what fits the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Flows of all routers at once.
    pub flows: u32,
    /// Bytes in buffers for all routers together.
    pub buffers: u64,
    /// Unproven connections in all.
    pub unproven: u32,
    /// Unproven connections from one source.
    pub unproven_per_address: u32,
    /// For each router.
    pub router: EffectiveRouterLimits,
}

/// [`RouterLimits`] without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectiveRouterLimits {
    /// Flows at once.
    pub flows: u32,
    /// Lanes at once.
    pub lanes: u32,
    /// New flows a second.
    pub opens_per_second: u32,
    /// New flows at once after a quiet time.
    pub open_burst: u32,
    /// Bytes in buffers.
    pub buffers: u64,
    /// Bytes in a month.
    pub monthly: Option<u64>,
}

impl Limits {
    /// Fills the gaps of `section` for `machine`.
    #[must_use]
    pub fn resolve(section: &LimitsSection, machine: Machine) -> Self {
        // A busy flow costs two sockets with their kernel buffers (some 10 KiB at rest) and our
        // buffers, 64 KiB is a fair mean; half the memory may go there. Each flow has two
        // descriptors, and idle lanes need theirs, so a third of what is allowed.
        let by_memory = machine.memory / 2 / (64 * 1024);
        let by_descriptors = machine.descriptors.saturating_sub(256) / 3;
        let flows = section.flows.unwrap_or(clamp(by_memory.min(by_descriptors), 256, 1 << 18));
        // What flows hold in user space beyond that is one eighth of the memory.
        let buffers =
            section.buffers_mib.map_or(machine.memory / 8, |mib| u64::from(mib) * MIB).max(8 * MIB);
        // A connection before its proof costs a socket and a small buffer, some 8 KiB; one
        // sixteenth of the memory may be lost to strangers. Descriptors are kept free for flows.
        let unproven = section.unproven.unwrap_or(clamp(
            (machine.memory / 16 / (8 * 1024)).min(machine.descriptors / 8),
            64,
            16384,
        ));
        // A router opens a few hundred lanes in a burst and all come from one address; half of
        // all leaves the other half to everybody else.
        let unproven_per_address =
            section.unproven_per_address.unwrap_or((unproven / 2).clamp(32, 1024));
        // One router may use half of the machine: most servers have one or two of them, and a
        // wild one must leave room for the others.
        let lanes = section.router.lanes.unwrap_or((flows / 2).clamp(128, 16384));
        let router = EffectiveRouterLimits {
            flows: section.router.flows.unwrap_or((flows / 2).clamp(128, 16384)),
            lanes,
            // What is open at once is bounded above. A rate that an owner has not asked for would
            // reset connections of a busy network for no gain: this only stops a runaway loop.
            opens_per_second: section.router.opens_per_second.unwrap_or(50_000),
            open_burst: section.router.open_burst.unwrap_or(100_000),
            buffers: section
                .router
                .buffers_mib
                .map_or(buffers / 2, |mib| u64::from(mib) * MIB)
                .max(MIB),
            monthly: section.router.monthly_gb.map(gigabytes),
        };
        Self { flows, buffers, unproven, unproven_per_address, router }
    }
}

impl EffectiveRouterLimits {
    /// These limits where `own` has none.
    #[must_use]
    pub fn overridden(self, own: &RouterLimits) -> Self {
        Self {
            flows: own.flows.unwrap_or(self.flows),
            lanes: own.lanes.unwrap_or(self.lanes),
            opens_per_second: own.opens_per_second.unwrap_or(self.opens_per_second),
            open_burst: own.open_burst.unwrap_or(self.open_burst),
            buffers: own.buffers_mib.map_or(self.buffers, |mib| u64::from(mib) * MIB),
            monthly: own.monthly_gb.map_or(self.monthly, |gb| Some(gigabytes(gb))),
        }
    }
}

fn gigabytes(gb: u32) -> u64 {
    u64::from(gb) * 1_000_000_000
}

fn clamp(value: u64, low: u32, high: u32) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX).clamp(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_machine() {
        let resolve = |memory, descriptors| {
            Limits::resolve(
                &LimitsSection::default(),
                Machine { memory: memory * MIB, descriptors },
            )
        };
        let small = resolve(512, 1 << 17);
        assert_eq!((small.flows, small.router.flows, small.unproven), (4096, 2048, 4096));
        assert_eq!(small.buffers, 64 * MIB);
        let large = resolve(16384, 1 << 17);
        assert_eq!(large.flows, 43605);
        assert!(resolve(16384, 1024).flows == 256);
    }

    #[test]
    fn what_is_written_wins() {
        let section: LimitsSection =
            toml::from_str("flows = 10\nbuffers_mib = 9\n[router]\nflows = 4\nlanes = 5").unwrap();
        let limits = Limits::resolve(&section, Machine { memory: 512 * MIB, descriptors: 1 << 17 });
        assert_eq!((limits.flows, limits.buffers), (10, 9 * MIB));
        let own = RouterLimits { lanes: Some(7), ..RouterLimits::default() };
        let router = limits.router.overridden(&own);
        assert_eq!((router.flows, router.lanes), (4, 7));
    }

    #[test]
    fn meminfo() {
        assert_eq!(
            parse_meminfo("MemTotal:        2014536 kB\nMemFree: 1 kB"),
            Some(2_062_884_864)
        );
        assert_eq!(parse_meminfo("MemFree: 1 kB"), None);
    }
}
