//! Name servers that a WAN's network gave: they may answer only there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// Where they are written down: by netifd, by systemd-resolved, or by whoever else.
const FILES: &[&str] = &[
    "/tmp/resolv.conf.d/resolv.conf.auto",
    "/run/systemd/resolve/resolv.conf",
    "/etc/resolv.conf",
];

/// Name servers that answer everybody: they were chosen on purpose, and are asked through the tunnel.
const OF_EVERYBODY: &[&str] = &[
    "1.0.0.1",
    "1.1.1.1",
    "2606:4700:4700::1001",
    "2606:4700:4700::1111",
    "8.8.4.4",
    "8.8.8.8",
    "2001:4860:4860::8844",
    "2001:4860:4860::8888",
    "9.9.9.9",
    "149.112.112.112",
    "2620:fe::9",
    "2620:fe::fe",
    "208.67.220.220",
    "208.67.222.222",
    "2620:119:35::35",
    "2620:119:53::53",
    "94.140.14.14",
    "94.140.15.15",
    "2a10:50c0::ad1:ff",
    "2a10:50c0::ad2:ff",
];

/// Those that are found, and the `configured` ones.
#[must_use]
pub fn of_wans(configured: &[IpAddr]) -> Vec<IpAddr> {
    let found = all().into_iter().filter(|ip| !answers_everybody(ip));
    let both: BTreeSet<IpAddr> = found.chain(configured.iter().copied()).collect();
    both.into_iter().collect()
}

/// All that are found but those on this machine itself.
#[must_use]
pub fn all() -> Vec<IpAddr> {
    let read = |path: &&str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let found: BTreeSet<IpAddr> = FILES.iter().flat_map(|path| parse(&read(path))).collect();
    found.into_iter().collect()
}

/// The first one that the machine's own programs ask: on most routers one of its own.
#[must_use]
pub fn first() -> Option<IpAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines().find_map(server)
}

fn parse(text: &str) -> Vec<IpAddr> {
    text.lines().filter_map(server).filter(|address| !address.is_loopback()).collect()
}

fn server(line: &str) -> Option<IpAddr> {
    let address = line.trim().strip_prefix("nameserver")?.trim();
    // A link-local address comes with its device.
    address.split('%').next()?.parse().ok()
}

fn answers_everybody(ip: &IpAddr) -> bool {
    OF_EVERYBODY.iter().any(|known| known.parse() == Ok(*ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wans_name_servers_are_found() {
        let text = "# Interface wan\nnameserver 192.0.2.53\nsearch lan\n nameserver fe80::1%wan \n\
                    nameserver 127.0.0.1\nnameserver ::1\nnameserver nonsense\noptions edns0\n";
        let texts: Vec<String> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.0.2.53", "fe80::1"]);
    }

    #[test]
    fn those_of_everybody_are_addresses() {
        for known in OF_EVERYBODY {
            assert!(answers_everybody(&known.parse().unwrap()), "{known}");
        }
        assert!(of_wans(&["1.1.1.1".parse().unwrap()]).contains(&"1.1.1.1".parse().unwrap()));
    }
}
