//! `TCP_INFO`: what the kernel knows about one TCP connection, or one subflow.
//!
//! The structure (`linux/tcp.h`, `struct tcp_info`) only ever grows at its end, so it is read by
//! offset and fields behind the returned length are `None`.

use std::io;
use std::os::fd::AsFd;

use super::sys::{Fields, getsockopt};

/// Larger than any kernel's `struct tcp_info` (280 bytes in 6.18).
pub(super) const TCP_INFO_SPACE: usize = 384;

/// State of a TCP connection (RFC 9293 §3.3.2), with the kernel's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum TcpState {
    Established,
    SynSent,
    SynReceived,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    /// A number this list doesn't know.
    Other(u8),
}

impl From<u8> for TcpState {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Established,
            // 12 is TCP_NEW_SYN_RECV, a detail of the kernel.
            2 => Self::SynSent,
            3 | 12 => Self::SynReceived,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            other => Self::Other(other),
        }
    }
}

/// One connection's figures. `Option` fields are `None` where the kernel is too old to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpInfo {
    /// State of the connection.
    pub state: TcpState,
    /// Retransmissions of the segment that is waited for now, without an answer.
    pub retransmits: u8,
    /// How often the retransmission time-out has been doubled.
    pub backoff: u8,
    /// The rate below was measured while the application had nothing to send.
    pub app_limited: bool,
    /// Retransmission time-out, µs.
    pub rto_us: u32,
    /// Maximum segment size for sending, bytes.
    pub mss: u32,
    /// Segments sent and not yet acknowledged.
    pub unacked: u32,
    /// Segments thought lost and not yet repaired.
    pub lost: u32,
    /// Time since data was last sent, ms.
    pub last_data_sent_ms: u32,
    /// Time since data was last received, ms.
    pub last_data_received_ms: u32,
    /// Time since an acknowledgement was last received, ms.
    pub last_ack_received_ms: u32,
    /// Path MTU, bytes.
    pub pmtu: u32,
    /// Smoothed round-trip time, µs. 0 before the first measurement.
    pub rtt_us: u32,
    /// Mean deviation of the round-trip time, µs.
    pub rttvar_us: u32,
    /// Congestion window, segments.
    pub cwnd: u32,
    /// Slow-start threshold, segments.
    pub ssthresh: u32,
    /// Segments retransmitted since the connection began.
    pub total_retrans: u32,
    /// Pacing rate, bytes/s; `u64::MAX` for none.
    pub pacing_rate: Option<u64>,
    /// Bytes the peer has acknowledged.
    pub bytes_acked: Option<u64>,
    /// Bytes received in order.
    pub bytes_received: Option<u64>,
    /// Bytes written by the application and not yet sent.
    pub notsent_bytes: Option<u32>,
    /// Smallest round-trip time of the last minutes, µs. `None` before the first measurement.
    pub min_rtt_us: Option<u32>,
    /// Rate at which data was lately delivered, bytes/s.
    pub delivery_rate: Option<u64>,
    /// Time spent with data to send, µs.
    pub busy_us: Option<u64>,
    /// Of that, time limited by the peer's window, µs.
    pub rwnd_limited_us: Option<u64>,
    /// Of that, time limited by the own send buffer, µs.
    pub sndbuf_limited_us: Option<u64>,
    /// Data bytes sent, with retransmissions.
    pub bytes_sent: Option<u64>,
    /// Data bytes retransmitted.
    pub bytes_retrans: Option<u64>,
    /// The peer's advertised window, bytes.
    pub send_window: Option<u32>,
}

impl TcpInfo {
    /// The rate the congestion window allows at the current round-trip time, bytes/s. `None`
    /// before the first measurement.
    #[must_use]
    pub fn window_rate(&self) -> Option<u64> {
        let window = u64::from(self.cwnd).checked_mul(u64::from(self.mss))?;
        window.checked_mul(1_000_000)?.checked_div(u64::from(self.rtt_us))
    }

    /// Reads the kernel's structure. `None` when even the oldest kernel's fields aren't all there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let fields = Fields(bytes);
        // C lays bit-fields out from the least significant bit on little-endian machines, and
        // from the most significant one on big-endian ones.
        let app_limited_bit = if cfg!(target_endian = "little") { 0x01 } else { 0x80 };
        Some(Self {
            state: TcpState::from(fields.u8(0)?),
            retransmits: fields.u8(2)?,
            backoff: fields.u8(4)?,
            app_limited: fields.u8(7)? & app_limited_bit != 0,
            rto_us: fields.u32(8)?,
            mss: fields.u32(16)?,
            unacked: fields.u32(24)?,
            lost: fields.u32(32)?,
            last_data_sent_ms: fields.u32(44)?,
            last_data_received_ms: fields.u32(52)?,
            last_ack_received_ms: fields.u32(56)?,
            pmtu: fields.u32(60)?,
            rtt_us: fields.u32(68)?,
            rttvar_us: fields.u32(72)?,
            ssthresh: fields.u32(76)?,
            cwnd: fields.u32(80)?,
            total_retrans: fields.u32(100)?,
            pacing_rate: fields.u64(104),
            bytes_acked: fields.u64(120),
            bytes_received: fields.u64(128),
            notsent_bytes: fields.u32(144),
            min_rtt_us: fields.u32(148).filter(|rtt| *rtt != u32::MAX),
            delivery_rate: fields.u64(160),
            busy_us: fields.u64(168),
            rwnd_limited_us: fields.u64(176),
            sndbuf_limited_us: fields.u64(184),
            bytes_sent: fields.u64(200),
            bytes_retrans: fields.u64(208),
            send_window: fields.u32(228),
        })
    }
}

/// Figures of a TCP connection. On an MPTCP socket these are the first subflow's; ask for
/// [`super::subflows`] there.
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let mut buffer = [0; TCP_INFO_SPACE];
    let len = getsockopt(&socket, libc::IPPROTO_TCP, libc::TCP_INFO, &mut buffer)?;
    TcpInfo::parse(&buffer[..len])
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "TCP_INFO is too short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A structure whose 32-bit words each hold their own offset, so that a wrong offset shows.
    fn numbered(len: usize) -> Vec<u8> {
        (0..len as u32).step_by(4).flat_map(u32::to_ne_bytes).collect()
    }

    fn u64_at(offset: u32) -> u64 {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&offset.to_ne_bytes());
        bytes[4..].copy_from_slice(&(offset + 4).to_ne_bytes());
        u64::from_ne_bytes(bytes)
    }

    #[test]
    fn fields_stand_where_the_kernel_puts_them() {
        let mut bytes = numbered(280);
        bytes[..8].copy_from_slice(&[1, 0, 3, 0, 2, 0, 0, 0]);
        bytes[7] = if cfg!(target_endian = "little") { 1 } else { 0x80 };
        let info = TcpInfo::parse(&bytes).unwrap();
        assert_eq!(info.state, TcpState::Established);
        assert_eq!((info.retransmits, info.backoff, info.app_limited), (3, 2, true));
        assert_eq!((info.rto_us, info.mss, info.unacked, info.lost), (8, 16, 24, 32));
        assert_eq!((info.rtt_us, info.rttvar_us, info.ssthresh, info.cwnd), (68, 72, 76, 80));
        assert_eq!((info.total_retrans, info.pmtu), (100, 60));
        assert_eq!(info.bytes_acked, Some(u64_at(120)));
        assert_eq!(info.bytes_received, Some(u64_at(128)));
        assert_eq!(info.min_rtt_us, Some(148));
        assert_eq!(info.delivery_rate, Some(u64_at(160)));
        assert_eq!(info.bytes_retrans, Some(u64_at(208)));
        assert_eq!(info.send_window, Some(228));
    }

    #[test]
    fn an_old_kernel_tells_less() {
        let info = TcpInfo::parse(&numbered(104)).unwrap();
        assert_eq!(info.total_retrans, 100);
        assert_eq!(info.pacing_rate, None);
        assert_eq!(info.delivery_rate, None);
        // A field that is cut in the middle is not there.
        assert_eq!(TcpInfo::parse(&numbered(164)).unwrap().delivery_rate, None);
        assert_eq!(TcpInfo::parse(&numbered(100)), None);
        assert_eq!(TcpInfo::parse(&[]), None);
    }

    #[test]
    fn window_rate_needs_a_round_trip() {
        let mut info = TcpInfo::parse(&numbered(280)).unwrap();
        (info.cwnd, info.mss, info.rtt_us) = (10, 1400, 40_000);
        assert_eq!(info.window_rate(), Some(350_000));
        info.rtt_us = 0;
        assert_eq!(info.window_rate(), None);
    }

    #[test]
    fn a_real_connection_answers() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let info = tcp_info(&stream).unwrap();
        assert_eq!(info.state, TcpState::Established);
        assert!(info.mss > 0 && info.cwnd > 0 && info.bytes_acked.is_some());
    }
}
