//! Which congestion controllers a socket may choose here.

use std::fs;

use socket2::{Domain, Socket, Type};

/// Whether a socket may choose this congestion controller.
///
/// `tcp_allowed_congestion_control` says so for everybody; root may use any that is available.
/// Whichever is loaded but listed in neither is found by asking a socket, which also makes the
/// kernel load a module that is installed (`kmod-tcp-bbr`) where we have the right to.
#[must_use]
pub fn congestion_available(name: &str) -> bool {
    listed("/proc/sys/net/ipv4/tcp_allowed_congestion_control", name) || socket_accepts(name)
}

/// The congestion controller to ask for on every socket: `bbr` where it is usable, else `None`,
/// which leaves the system's default.
///
/// Over paths of unequal delay and some loss, MPTCP's default scheduler gives BBR nearly twice
/// what it gives cubic, and queues stay short.
#[must_use]
pub fn choose_congestion() -> Option<String> {
    congestion_available("bbr").then(|| "bbr".to_owned())
}

fn listed(path: &str, name: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().any(|word| word == name))
}

fn socket_accepts(name: &str) -> bool {
    Socket::new(Domain::IPV4, Type::STREAM, None)
        .is_ok_and(|socket| socket.set_tcp_congestion(name.as_bytes()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reno_is_everywhere_and_nonsense_nowhere() {
        assert!(congestion_available("reno"));
        assert!(!congestion_available("no-such-controller"));
        assert!(!congestion_available(""));
    }
}
