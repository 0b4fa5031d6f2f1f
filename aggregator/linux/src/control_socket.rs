//! The local control socket: an abstract Unix socket.
//!
//! Its name lives in the network namespace, not in the file system: daemons in different
//! namespaces don't meet, nothing stale is left behind, and a second daemon in the same namespace
//! is refused. Abstract sockets have no permissions, so each end checks who the other one is.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener, UnixStream as StdStream};

use tokio::net::{UnixListener, UnixStream};

/// Listens under an abstract name, such as `wanbond`.
///
/// # Errors
/// `AddrInUse` when another process of this network namespace has the name.
pub fn bind(name: &str) -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Connects to whoever listens under the name.
///
/// # Errors
/// `ConnectionRefused` when nobody does.
#[allow(clippy::unused_async, reason = "needs a runtime to put its socket on")]
pub async fn connect(name: &str) -> io::Result<UnixStream> {
    // Connecting a Unix socket never waits for the other end, only for room in its backlog.
    let stream = StdStream::connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// The user the other end ran as when it connected or began to listen.
///
/// # Errors
/// What the kernel says.
pub fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(stream.peer_cred()?.uid())
}

/// Whether the other end may be talked to: it runs as us or as root.
///
/// # Errors
/// What the kernel says.
pub fn peer_is_trusted(stream: &UnixStream) -> io::Result<bool> {
    let uid = peer_uid(stream)?;
    Ok(uid == 0 || uid == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_name_serves_once() {
        let name = format!("wanbond-test-{}", std::process::id());
        let listener = bind(&name).unwrap();
        assert_eq!(bind(&name).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let mut client = connect(&name).await.unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        assert_eq!(peer_uid(&served).unwrap(), nix::unistd::geteuid().as_raw());
        assert!(peer_is_trusted(&client).unwrap());
        client.write_all(b"hello").await.unwrap();
        let mut text = [0; 5];
        served.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
        drop(listener);
        assert_eq!(connect(&name).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
