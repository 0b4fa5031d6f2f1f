//! What a record says.

/// The kinds of records; the number is the first plaintext byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordType {
    /// First on a lane: asks for the lane's freshness.
    Hello = 1,
    /// Opens a flow: [`super::Open`].
    Open = 2,
    /// The flow's bytes.
    Data = 3,
    /// No more bytes in this direction.
    Fin = 4,
    /// The flow is over in both directions: [`ResetReason`].
    Reset = 5,
    /// Lane: asks for a pong.
    Ping = 6,
    /// Lane: answers a ping.
    Pong = 7,
    /// Lane: the server's freshness, 16 bytes.
    Ready = 8,
    /// The target has accepted the connection.
    Connected = 9,
    /// The server's last record of a flow: the lane is free.
    Done = 10,
    /// Lane: the server takes no more opens on this lane.
    Goodbye = 11,
    /// The last of a flow in this direction on this lane: the rest comes on the one that it goes on on.
    Handover = 12,
}

impl RecordType {
    /// The type with this number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Open,
            3 => Self::Data,
            4 => Self::Fin,
            5 => Self::Reset,
            6 => Self::Ping,
            7 => Self::Pong,
            8 => Self::Ready,
            9 => Self::Connected,
            10 => Self::Done,
            11 => Self::Goodbye,
            12 => Self::Handover,
            _ => return None,
        })
    }
}

/// An opened record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its type.
    pub kind: RecordType,
    /// What follows the type byte.
    pub payload: &'a mut [u8],
}

/// Why a flow was aborted; what the router shows to the client follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ResetReason {
    /// The application's side was reset.
    Aborted = 1,
    /// The target refused the connection.
    Refused = 2,
    /// No route to the target's host or network.
    Unreachable = 3,
    /// The target did not answer in time.
    TimedOut = 4,
    /// The server does not allow this target.
    Denied = 5,
    /// The name does not exist.
    NameNotFound = 6,
    /// The name could not be resolved now.
    NameFailure = 7,
    /// The router has reached its limit of flows, or the server its own.
    TooMany = 8,
    /// The flow id is too old or was used: open again under a new one.
    Stale = 9,
    /// A flow that this open stands in for has been taken, and can't go on on another lane any more.
    AlreadyOpen = 10,
    /// The server is stopping or restarting: open again on another lane.
    GoingAway = 11,
    /// Something else failed at the server.
    Internal = 12,
}

impl ResetReason {
    /// The reason with this number; one that a later version added reads as [`Self::Internal`].
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Aborted,
            2 => Self::Refused,
            3 => Self::Unreachable,
            4 => Self::TimedOut,
            5 => Self::Denied,
            6 => Self::NameNotFound,
            7 => Self::NameFailure,
            8 => Self::TooMany,
            9 => Self::Stale,
            10 => Self::AlreadyOpen,
            11 => Self::GoingAway,
            _ => Self::Internal,
        }
    }

    /// Whether the server took nothing of the flow and it may be opened again elsewhere.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        matches!(self, Self::Stale | Self::GoingAway)
    }
}
