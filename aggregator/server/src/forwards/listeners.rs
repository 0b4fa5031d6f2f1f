//! Who listens on this machine, from `/proc/net`.

use std::collections::BTreeSet;
use std::fs;

use wanbond_proto::forward::Protocol;

/// `TCP_LISTEN` of the kernel's `tcp_states.h`; for UDP, `TCP_CLOSE` stands for "not connected".
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// The ports on which programs of this network namespace can be reached from outside. Empty if
/// that can't be found out.
#[must_use]
pub fn listening(protocol: Protocol) -> BTreeSet<u16> {
    let (files, state) = match protocol {
        Protocol::Tcp => (["/proc/self/net/tcp", "/proc/self/net/tcp6"], LISTEN),
        Protocol::Udp => (["/proc/self/net/udp", "/proc/self/net/udp6"], UNCONNECTED),
    };
    let texts = files.iter().filter_map(|file| fs::read_to_string(file).ok());
    texts.flat_map(|text| ports(&text, state)).collect()
}

/// The local ports of sockets in this state that are not bound to loopback.
fn ports(table: &str, state: &str) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (local, _remote, found) = (words.next()?, words.next()?, words.next()?);
        let (address, port) = local.split_once(':')?;
        // Addresses are words of four bytes in the machine's order; 127.x.x.x and ::1 end, or
        // on big-endian machines begin, with their telling byte.
        let loopback = match address.len() {
            8 => {
                address.ends_with("7F") && cfg!(target_endian = "little")
                    || address.starts_with("7F") && cfg!(target_endian = "big")
            }
            _ => matches!(
                address,
                "00000000000000000000000001000000" | "00000000000000000000000000000001"
            ),
        };
        let port = u16::from_str_radix(port, 16).ok()?;
        (found == state && !loopback && port != 0).then_some(port)
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn reads_the_kernels_tables() {
        let table = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0A00020F:0016 0202000A:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1
garbage
";
        assert_eq!(ports(table, LISTEN), [22]);
        let table = "  sl\n  0: 00000000000000000000000000000000:0050 \
                     00000000000000000000000000000000:0000 0A\n  1: \
                     00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A";
        assert_eq!(ports(table, LISTEN), [80]);
    }

    #[test]
    fn finds_a_listener() {
        let socket = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(listening(Protocol::Tcp).contains(&port));
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        assert!(listening(Protocol::Udp).contains(&socket.local_addr().unwrap().port()));
    }
}
