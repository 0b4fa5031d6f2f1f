//! How much of what was written still waits in the kernel.

use std::io;
use std::os::fd::AsFd;

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
