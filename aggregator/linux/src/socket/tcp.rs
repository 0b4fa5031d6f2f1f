//! Connecting, listening, aborting: the same for TCP and MPTCP.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::mptcp::mptcp_socket;
use super::sys::setsockopt_int;

/// How to connect. The default is plain TCP from wherever the routes say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Address to connect from. This is how an MPTCP connection is put on a WAN: a rule sends what
    /// comes from that address through it, and later subflows have addresses of their own.
    pub source: Option<IpAddr>,
    /// Ask for MPTCP. Where the kernel has none, the connection is plain TCP.
    pub mptcp: bool,
    /// Congestion controller; the system's default if `None` or not available.
    pub congestion: Option<String>,
    /// Hold back what exceeds this many unsent bytes in the application (on MPTCP since Linux
    /// 6.12, nothing happens before).
    pub notsent_lowat: Option<u32>,
    /// Firewall mark. MPTCP copies it to every subflow, so it can't choose a WAN.
    pub mark: Option<u32>,
    /// Device to bind to. MPTCP copies it to every subflow: none will use another WAN.
    pub device: Option<String>,
}

/// Opens a connection, with Nagle's algorithm off.
///
/// # Errors
/// `InvalidInput` when `source` is of another family than `remote`; else what the kernel says. It has no time-out but the kernel's own: wrap it in one.
pub async fn connect(remote: SocketAddr, options: &ConnectOptions) -> io::Result<TcpStream> {
    let socket = new_socket(Domain::for_address(remote), options.mptcp)?;
    best_effort("TCP_NODELAY", socket.set_tcp_nodelay(true));
    tune_socket(&socket, options.congestion.as_deref(), options.notsent_lowat);
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    if let Some(device) = &options.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if let Some(source) = options.source {
        if source.is_ipv4() != remote.is_ipv4() {
            return Err(invalid("the source address is of another family than the remote one"));
        }
        // Without this each bind takes a port for itself, where one port serves many remotes.
        best_effort(
            "IP_BIND_ADDRESS_NO_PORT",
            setsockopt_int(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1),
        );
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    TcpSocket::from_std_stream(socket.into()).connect(remote).await
}

/// How to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// Accept MPTCP. Plain TCP clients are served as well, and their sockets are plain TCP.
    pub mptcp: bool,
    /// Let several sockets share the address, the kernel spreading connections over them.
    pub reuse_port: bool,
    /// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    /// On an IPv6 address: don't take IPv4 clients.
    pub v6_only: bool,
    /// As in [`ConnectOptions::congestion`]; accepted sockets inherit it.
    pub congestion: Option<String>,
    /// As in [`ConnectOptions::notsent_lowat`].
    pub notsent_lowat: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            mptcp: false,
            reuse_port: false,
            // net.core.somaxconn's own default since Linux 5.4.
            backlog: 4096,
            v6_only: false,
            congestion: None,
            notsent_lowat: None,
        }
    }
}

/// Listens on `addr`. The address may be in use by closed connections that linger.
///
/// Accepted connections have Nagle's algorithm on, unless the kernel lets them inherit it: call
/// [`tune`] on each.
///
/// # Errors
/// What the kernel says to making, binding and listening.
pub fn listen(addr: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = new_socket(Domain::for_address(addr), options.mptcp)?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(options.v6_only)?;
    }
    best_effort("TCP_NODELAY", socket.set_tcp_nodelay(true));
    tune_socket(&socket, options.congestion.as_deref(), options.notsent_lowat);
    socket.bind(&addr.into())?;
    socket.listen(options.backlog)?;
    TcpListener::from_std(socket.into())
}

/// What to set on an accepted connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamOptions {
    /// As in [`ConnectOptions::congestion`].
    pub congestion: Option<String>,
    /// As in [`ConnectOptions::notsent_lowat`].
    pub notsent_lowat: Option<u32>,
}

/// Turns Nagle's algorithm off and sets the options, each as far as the kernel lets us.
pub fn tune(socket: &impl AsFd, options: &StreamOptions) {
    let socket = SockRef::from(socket);
    best_effort("TCP_NODELAY", socket.set_tcp_nodelay(true));
    tune_socket(&socket, options.congestion.as_deref(), options.notsent_lowat);
}

/// Closes so that the peer sees a reset: what was written and not yet sent is thrown away.
pub fn abort(stream: TcpStream) {
    best_effort("SO_LINGER", SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
    drop(stream);
}

fn new_socket(domain: Domain, mptcp: bool) -> io::Result<Socket> {
    let plain = || Socket::new(domain, Type::STREAM, Some(Protocol::TCP));
    let socket = if mptcp {
        match mptcp_socket(domain) {
            Ok(socket) => socket,
            // Not built in, or switched off by net.mptcp.enabled.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EPROTONOSUPPORT | libc::ENOPROTOOPT | libc::EINVAL)
                ) =>
            {
                plain()?
            }
            Err(error) => return Err(error),
        }
    } else {
        plain()?
    };
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn tune_socket(socket: &Socket, congestion: Option<&str>, notsent_lowat: Option<u32>) {
    if let Some(name) = congestion {
        best_effort("TCP_CONGESTION", socket.set_tcp_congestion(name.as_bytes()));
    }
    if let Some(bytes) = notsent_lowat {
        best_effort("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(bytes));
    }
}

fn best_effort(option: &'static str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::trace!(option, %error, "socket option refused");
    }
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn connects_from_the_source_address() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let options = ConnectOptions {
            source: Some("127.0.0.5".parse().unwrap()),
            congestion: Some("no-such-controller".into()),
            notsent_lowat: Some(16384),
            ..ConnectOptions::default()
        };
        let stream = connect(listener.local_addr().unwrap(), &options).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), options.source.unwrap());
        assert!(stream.nodelay().unwrap());
        let (accepted, from) = listener.accept().await.unwrap();
        assert_eq!(from, stream.local_addr().unwrap());
        tune(&accepted, &StreamOptions::default());
        assert!(accepted.nodelay().unwrap());
    }

    #[tokio::test]
    async fn mixed_families_are_refused() {
        let options =
            ConnectOptions { source: Some("::1".parse().unwrap()), ..ConnectOptions::default() };
        let error = connect("127.0.0.1:1".parse().unwrap(), &options).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn an_abort_is_seen_as_a_reset() {
        for mptcp in [false, true] {
            let listener = listen(
                "127.0.0.1:0".parse().unwrap(),
                &ListenOptions { mptcp, ..ListenOptions::default() },
            )
            .unwrap();
            let options = ConnectOptions { mptcp, ..ConnectOptions::default() };
            let stream = connect(listener.local_addr().unwrap(), &options).await.unwrap();
            let (mut accepted, _) = listener.accept().await.unwrap();
            abort(stream);
            let error = accepted.read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "mptcp {mptcp}");
        }
    }
}
