//! What the server itself offers in place of a target, for measuring: nothing leaves it.

/// A service of the server. Its flow lasts for as long as the open record asks, within the server's
/// limits, and ends with [`RecordType::Reset`](super::RecordType::Reset) from the router before that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ServiceKind {
    /// The server sends data as fast as it can.
    Send = 1,
    /// The server takes data, and says ten times a second how many bytes have come: 64 bits, big
    /// endian.
    Take = 2,
    /// The server sends each record of data back.
    Echo = 3,
}

impl ServiceKind {
    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Send,
            2 => Self::Take,
            3 => Self::Echo,
            _ => return None,
        })
    }
}
