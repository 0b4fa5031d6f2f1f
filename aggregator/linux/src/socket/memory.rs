//! What a connection's buffers hold in the kernel's own count, and more room for what comes.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use super::sys::{Fields, getsockopt, ioctl_get_int, setsockopt_int};

/// `SO_MEMINFO`, Linux 4.12. The same number on every architecture Rust has musl for.
const SO_MEMINFO: libc::c_int = 55;

/// Bytes of the kernel's memory; those of packets count with what is around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMemory {
    /// What has come and was not read. On an MPTCP socket also what came out of order; not what
    /// still lies in the subflows.
    pub received: u32,
    /// How much of that there may be.
    pub receive_limit: u32,
}

/// Asks for them.
///
/// # Errors
/// On a kernel that does not tell.
pub fn socket_memory(socket: impl AsFd) -> io::Result<SocketMemory> {
    let mut buffer = [0; 64];
    let len = getsockopt(&socket, libc::SOL_SOCKET, SO_MEMINFO, &mut buffer)?;
    let fields = Fields(&buffer[..len]);
    let memory = || Some(SocketMemory { received: fields.u32(0)?, receive_limit: fields.u32(4)? });
    memory().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "SO_MEMINFO is too short"))
}

/// Makes the receive buffers of an MPTCP connection's subflows as large as the connection's own, which
/// grows a little for that, within `net.ipv4.tcp_rmem`. A reader is woken if there is anything to read.
///
/// Nothing changes where the buffer is as large as it may be, and before Linux 6.9.
///
/// # Errors
/// The kernel refused.
pub fn level_receive_buffers(socket: impl AsFd) -> io::Result<()> {
    let before = socket_memory(&socket)?.receive_limit;
    // For a reader who waits for some bytes the kernel makes room at once: in the connection, and only
    // if that has to grow in its subflows too. What share of a buffer counts as bytes it does not tell.
    let grow = || {
        for share in 6..=16 {
            lowat(&socket, before / 16 * share)?;
            if socket_memory(&socket)?.receive_limit > before {
                break;
            }
        }
        Ok(())
    };
    let grown = grow();
    lowat(&socket, 1).and(grown)
}

fn lowat(socket: &impl AsFd, bytes: u32) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    setsockopt_int(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
}

/// Makes an MPTCP connection's receive buffer larger even beyond what the system's settings allow, and
/// takes in what waits for that in the subflows; a reader is woken if that helped.
///
/// # Errors
/// The kernel refused.
pub fn widen_receive_buffer(socket: impl AsFd, bytes: u32) -> io::Result<()> {
    let before = socket_memory(&socket)?.receive_limit;
    let offered = lowat(&socket, bytes);
    let widened = offered.is_ok() && socket_memory(&socket)?.receive_limit > before;
    let forced = if widened {
        Ok(())
    } else {
        // Doubled by the kernel, which no longer sizes the buffer by itself then.
        let half = usize::try_from(bytes / 2).unwrap_or(0);
        setsockopt(&socket, sockopt::RcvBufForce, &half)
    };
    // Being asked how much there is to read, the kernel looks into the subflows.
    let looked = ioctl_get_int(&socket, libc::FIONREAD as u32);
    lowat(&socket, 1)?;
    forced?;
    looked.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn what_is_not_read_is_counted() {
        let (mut one, mut other) = pair();
        let idle = socket_memory(&other).unwrap();
        assert_eq!(idle.received, 0);
        assert!(idle.receive_limit > 0);
        one.write_all(&[1; 10_000]).unwrap();
        other.peek(&mut [0]).unwrap();
        assert!(socket_memory(&other).unwrap().received > 0);
        other.read_exact(&mut [0; 10_000]).unwrap();
        assert_eq!(socket_memory(&other).unwrap().received, 0);
    }

    #[test]
    fn levelling_never_makes_smaller_and_reading_goes_on() {
        let (mut one, mut other) = pair();
        let before = socket_memory(&other).unwrap().receive_limit;
        level_receive_buffers(&other).unwrap();
        assert!(socket_memory(&other).unwrap().receive_limit >= before);
        one.write_all(&[7]).unwrap();
        other.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn the_buffer_gets_wider_and_reading_goes_on() {
        let (mut one, mut other) = pair();
        let before = socket_memory(&other).unwrap().receive_limit;
        // Beyond what the system allows only with the right to.
        if widen_receive_buffer(&other, 2 * before).is_ok() {
            assert!(socket_memory(&other).unwrap().receive_limit > before);
        }
        // A single byte is reason enough to wake up again.
        one.write_all(&[7]).unwrap();
        let mut byte = [0];
        other.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [7]);
    }
}
