//! What carries a lane: a connection of its own, or a stream of the tunnel. The lane does not know.

use std::io;
use std::net::Shutdown;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::TcpStream;
use tracing::trace;
use wanbond_linux::socket::{set_send_buffer, subflow_infos};

use crate::tunnel::TunnelStream;
use crate::window::{SendWindow, SubflowSample};

/// An ordered, reliable byte carrier, both ways.
pub enum Carrier {
    /// A TCP connection, over several paths at once where it is MPTCP.
    Tcp(Arc<TcpStream>),
    /// A stream of the tunnel.
    Stream(TunnelStream),
}

impl From<TcpStream> for Carrier {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(Arc::new(stream))
    }
}

impl From<TunnelStream> for Carrier {
    fn from(stream: TunnelStream) -> Self {
        Self::Stream(stream)
    }
}

impl Carrier {
    /// The connection, where it is one.
    #[must_use]
    pub fn socket(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Stream(_) => None,
        }
    }

    /// The connection, where it is one, for those who write to it themselves.
    #[must_use]
    pub fn connection(&self) -> Option<Arc<TcpStream>> {
        match self {
            Self::Tcp(stream) => Some(Arc::clone(stream)),
            Self::Stream(_) => None,
        }
    }

    /// The connection, for those who look at it from time to time without keeping it open.
    #[must_use]
    pub fn watch(&self) -> Weak<TcpStream> {
        match self {
            Self::Tcp(stream) => Arc::downgrade(stream),
            Self::Stream(_) => Weak::new(),
        }
    }

    /// Whether it is a stream of the tunnel.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Nothing more will be written: what was is delivered, then the peer sees the end.
    pub(crate) fn finish(&self) {
        match self {
            // Dropping a connection ends it in order.
            Self::Tcp(_) => {}
            Self::Stream(stream) => stream.finish(),
        }
    }

    /// The same, while the other direction goes on.
    pub(crate) fn end_writing(&self) {
        match self {
            Self::Tcp(stream) => {
                // Fails only where it has ended already.
                let _ = SockRef::from(&**stream).shutdown(Shutdown::Write);
            }
            Self::Stream(stream) => stream.finish(),
        }
    }

    /// Holds what is under way to what the subflows can use. A stream does so by itself.
    pub(crate) fn bound(&self, window: &mut SendWindow, now: Instant) {
        let Self::Tcp(stream) = self else { return };
        let samples: Vec<_> = subflow_infos(&**stream)
            .unwrap_or_default()
            .iter()
            .filter_map(|info| {
                Some(SubflowSample {
                    srtt: Duration::from_micros(info.rtt_us.into()),
                    min_rtt: Duration::from_micros(info.min_rtt_us?.into()),
                    window: info.cwnd as usize * info.mss as usize,
                    retransmitted: info.total_retrans,
                })
            })
            .collect();
        if let Some(bytes) = window.sample(now, &samples) {
            trace!(bytes, ?samples, "lane bounded");
            // Refused only by kernels that don't know it of MPTCP: the lane works without.
            let _ = set_send_buffer(&**stream, bytes);
        }
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Stream(stream) => stream.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Stream(stream) => stream.poll_write_ready(cx),
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Stream(stream) => stream.try_read(buffer),
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Stream(stream) => stream.try_write(bytes),
        }
    }
}
