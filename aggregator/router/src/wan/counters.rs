//! Bytes and packets through network devices, and rates from them.

use std::collections::HashMap;

use wanbond_proto::Time;

/// What a device has received and sent since it came up, bytes where nothing else is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceBytes {
    pub(crate) rx: u64,
    pub(crate) tx: u64,
    /// Packets received.
    pub(crate) rx_packets: u64,
}

/// Every device's counters. Empty if the kernel does not tell.
pub(crate) fn read_all() -> HashMap<String, DeviceBytes> {
    parse(&std::fs::read_to_string("/proc/net/dev").unwrap_or_default())
}

/// How many packets each of these devices has received.
pub(crate) fn received<'a>(devices: impl Iterator<Item = &'a str>) -> Vec<Option<u64>> {
    let all = read_all();
    devices.map(|device| all.get(device).map(|read| read.rx_packets)).collect()
}

/// The format of `/proc/net/dev`: two lines of heading, then
/// `name: rx-bytes rx-packets …6… tx-bytes …`.
fn parse(text: &str) -> HashMap<String, DeviceBytes> {
    text.lines()
        .filter_map(|line| {
            let (name, figures) = line.split_once(':')?;
            let mut figures = figures.split_ascii_whitespace().map(str::parse);
            let rx = figures.next()?.ok()?;
            let rx_packets = figures.next()?.ok()?;
            let tx = figures.nth(6)?.ok()?;
            Some((name.trim().to_owned(), DeviceBytes { rx, tx, rx_packets }))
        })
        .collect()
}

/// A WAN's bytes since the daemon's start, over changes of its device, and its rate of late.
#[derive(Debug, Default)]
pub(crate) struct Rate {
    last: Option<(Time, String, DeviceBytes)>,
    pub(crate) total: DeviceBytes,
    /// Bits per second.
    pub(crate) rx_bps: u64,
    /// Bits per second.
    pub(crate) tx_bps: u64,
}

impl Rate {
    /// Takes a reading of `device` at `now`.
    pub(crate) fn sample(&mut self, now: Time, device: &str, read: DeviceBytes) {
        if let Some((at, name, before)) = &self.last
            && name == device
            // A device that was taken away and put back counts from zero.
            && read.rx >= before.rx
            && read.tx >= before.tx
        {
            let (rx, tx) = (read.rx - before.rx, read.tx - before.tx);
            self.total.rx += rx;
            self.total.tx += tx;
            let micros = u64::try_from(now.since(*at).as_micros()).unwrap_or(u64::MAX).max(1);
            self.rx_bps = rx.saturating_mul(8_000_000) / micros;
            self.tx_bps = tx.saturating_mul(8_000_000) / micros;
        } else {
            (self.rx_bps, self.tx_bps) = (0, 0);
        }
        self.last = Some((now, device.to_owned(), read));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_table() {
        let text = "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    lo:     100       1    0    0    0     0          0         0      200       1    0    0    0     0       0          0\n  wan1: 7 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n";
        let all = parse(text);
        assert_eq!(all["lo"], DeviceBytes { rx: 100, tx: 200, rx_packets: 1 });
        assert_eq!(all["wan1"], DeviceBytes { rx: 7, tx: 9, rx_packets: 1 });
        assert_eq!(all.len(), 2);
    }

    fn bytes(rx: u64, tx: u64) -> DeviceBytes {
        DeviceBytes { rx, tx, rx_packets: 0 }
    }

    #[test]
    fn rates_and_totals_survive_a_new_device() {
        let mut rate = Rate::default();
        rate.sample(Time::from_millis(0), "wan1", bytes(1000, 0));
        rate.sample(Time::from_millis(500), "wan1", bytes(2000, 10));
        assert_eq!((rate.rx_bps, rate.tx_bps), (16_000, 160));
        rate.sample(Time::from_millis(600), "wwan0", bytes(5, 5));
        assert_eq!(rate.total, bytes(1000, 10));
        rate.sample(Time::from_millis(700), "wwan0", bytes(6, 5));
        assert_eq!(rate.total, bytes(1001, 10));
    }
}
