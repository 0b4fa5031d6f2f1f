//! How much of what was written still waits in the kernel, and how much may.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

use super::sys::ioctl_get_int;

/// `SIOCOUTQNSD` (`linux/sockios.h`), the same on every architecture.
const SIOCOUTQNSD: u32 = 0x894b;

/// Bytes written and not yet sent for the first time. On MPTCP sockets since Linux 5.17.
pub fn unsent_bytes(socket: impl AsFd) -> io::Result<u32> {
    bytes(ioctl_get_int(&socket, SIOCOUTQNSD))
}

/// Bytes written and not yet acknowledged, sent or not. On MPTCP sockets since Linux 5.17.
pub fn unacked_bytes(socket: impl AsFd) -> io::Result<u32> {
    // SIOCOUTQ is another name of TIOCOUTQ, whose number differs between architectures.
    bytes(ioctl_get_int(&socket, libc::TIOCOUTQ as u32))
}

/// Bounds the bytes that may be written and not yet acknowledged, and ends the kernel's own sizing
/// of that buffer. Beyond the system's limit (`net.core.wmem_max`) only with `CAP_NET_ADMIN`.
pub fn set_send_buffer(socket: impl AsFd, bytes: usize) -> io::Result<()> {
    // The kernel doubles what it is told, for its own books; most of that is payload here, as the
    // pieces written are large.
    let told = bytes / 2;
    setsockopt(&socket, sockopt::SndBufForce, &told)
        .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &told))
        .map_err(Into::into)
}

fn bytes(answer: io::Result<libc::c_int>) -> io::Result<u32> {
    answer.map(|n| u32::try_from(n).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_unread_stream_fills_up() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        assert_eq!((unsent_bytes(&stream).unwrap(), unacked_bytes(&stream).unwrap()), (0, 0));
        stream.set_nonblocking(true).unwrap();
        let chunk = vec![0; 1 << 16];
        let mut written = 0_u64;
        while let Ok(n) = stream.write(&chunk) {
            written += n as u64;
        }
        let unsent = unsent_bytes(&stream).unwrap();
        assert!(unsent > 0 && u64::from(unsent) <= written);
        assert!(unacked_bytes(&stream).unwrap() >= unsent);
        drop(peer);
    }
}
