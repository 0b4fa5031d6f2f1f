//! ubus messages: written with the `ubus` crate, read here without trusting who sent them.
//!
//! A message is 8 bytes of header (version, kind, sequence number, peer) and one blob of attributes,
//! all big-endian; an attribute is 4 bytes of head (a flag, 7 bits of id, 24 of length, head included)
//! and its payload, padded to 4. libubox's `blob.h` and ubus' `ubusmsg.h` are the only specification.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use ubus::{BlobAttrId, UbusCmdType, UbusMsgAttr, UbusMsgBuilder, UbusMsgHeader, UbusMsgVersion};

/// Kinds of messages (`enum ubus_msg_type`); the crate's NOTIFY is another number.
pub(super) mod kind {
    pub(in crate::ubus) const HELLO: u8 = 0;
    pub(in crate::ubus) const STATUS: u8 = 1;
    pub(in crate::ubus) const DATA: u8 = 2;
    pub(in crate::ubus) const LOOKUP: u8 = 4;
    pub(in crate::ubus) const INVOKE: u8 = 5;
    pub(in crate::ubus) const ADD_OBJECT: u8 = 6;
    pub(in crate::ubus) const SUBSCRIBE: u8 = 8;
    pub(in crate::ubus) const UNSUBSCRIBE: u8 = 9;
    pub(in crate::ubus) const NOTIFY: u8 = 10;
}

/// Results of a call (`enum ubus_msg_status`).
pub(super) mod status {
    pub(in crate::ubus) const OK: u32 = 0;
    pub(in crate::ubus) const INVALID_ARGUMENT: u32 = 2;
    pub(in crate::ubus) const METHOD_NOT_FOUND: u32 = 3;
    pub(in crate::ubus) const NOT_FOUND: u32 = 4;
    pub(in crate::ubus) const PERMISSION_DENIED: u32 = 6;
    pub(in crate::ubus) const UNKNOWN_ERROR: u32 = 9;
}

/// The longest message (`UBUS_MAX_MSGLEN`).
pub(super) const MAX_LEN: usize = 1 << 20;
const HEADER: usize = 8;
const HEAD: usize = 4;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) seq: u16,
    pub(super) peer: u32,
    body: Vec<u8>,
}

/// The attributes of a message that are of use here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) status: Option<u32>,
    pub(super) object: Option<u32>,
    pub(super) target: Option<u32>,
    pub(super) method: Option<&'a str>,
    pub(super) data: Option<&'a [u8]>,
    pub(super) no_reply: bool,
}

impl Message {
    /// Reads one message.
    ///
    /// # Errors
    /// Of the connection; `InvalidData` for what can't be the start of a message, after which
    /// nothing that follows can be understood.
    pub(super) async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Self> {
        let mut start = [0; HEADER + HEAD];
        from.read_exact(&mut start).await?;
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
        let [version, kind, seq0, seq1, peer @ .., b0, b1, b2, b3] = start;
        if version != UbusMsgVersion::CURRENT.value() {
            return Err(invalid("a message of another version of ubus"));
        }
        let length = (u32::from_be_bytes([b0, b1, b2, b3]) & 0x00ff_ffff) as usize;
        if !(HEAD..=MAX_LEN).contains(&length) {
            return Err(invalid("a message of impossible length"));
        }
        let mut body = vec![0; length - HEAD];
        from.read_exact(&mut body).await?;
        let (seq, peer) = (u16::from_be_bytes([seq0, seq1]), u32::from_be_bytes(peer));
        Ok(Self { kind, seq, peer, body })
    }

    /// What it says. Attributes that are missing, unknown or malformed are left out.
    pub(super) fn fields(&self) -> Fields<'_> {
        let mut fields = Fields::default();
        for attribute in Attributes(&self.body) {
            let payload = attribute.payload;
            let number = || payload.try_into().ok().map(u32::from_be_bytes);
            match BlobAttrId::from(attribute.id) {
                BlobAttrId::STATUS => fields.status = number(),
                BlobAttrId::OBJID => fields.object = number(),
                BlobAttrId::TARGET => fields.target = number(),
                BlobAttrId::METHOD => fields.method = text(payload),
                BlobAttrId::DATA => fields.data = Some(payload),
                BlobAttrId::NO_REPLY => fields.no_reply = payload.first().is_some_and(|b| *b != 0),
                _ => {}
            }
        }
        fields
    }
}

/// A string with its NUL, as C wrote it.
pub(super) fn text(payload: &[u8]) -> Option<&str> {
    let end = payload.iter().position(|byte| *byte == 0).unwrap_or(payload.len());
    std::str::from_utf8(&payload[..end]).ok()
}

/// An attribute.
pub(super) struct Attribute<'a> {
    pub(super) id: u32,
    /// Its payload begins with a name.
    pub(super) extended: bool,
    pub(super) payload: &'a [u8],
}

/// The attributes in a blob's payload, up to the first one that is malformed.
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let head = u32::from_be_bytes(*self.0.first_chunk()?);
        let length = (head & 0x00ff_ffff) as usize;
        let payload = self.0.get(HEAD..length)?;
        // The last one need not be padded.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { id: head >> 24 & 0x7f, extended: head >> 31 == 1, payload })
    }
}

/// A message's bytes.
///
/// # Errors
/// `InvalidInput` for one that would be too long for ubus.
pub(super) fn message(
    kind: u8,
    seq: u16,
    peer: u32,
    attributes: Vec<UbusMsgAttr<'_>>,
) -> io::Result<Vec<u8>> {
    let header = UbusMsgHeader {
        version: UbusMsgVersion::CURRENT,
        cmd_type: UbusCmdType::from(kind),
        sequence: seq.into(),
        peer: peer.into(),
    };
    // Each attribute has a head, at most 3 bytes of padding, and, but for these, 4 bytes.
    let long: usize = attributes
        .iter()
        .map(|attribute| match attribute {
            UbusMsgAttr::Data(data) | UbusMsgAttr::Unknown(_, data) => data.len(),
            UbusMsgAttr::ObjPath(text) | UbusMsgAttr::Method(text) => text.len(),
            _ => 0,
        })
        .sum();
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "too long for ubus");
    if long > MAX_LEN - 256 {
        return Err(too_long());
    }
    let mut buffer = vec![0; HEADER + HEAD + long + 16 * (attributes.len() + 1)];
    let mut builder = UbusMsgBuilder::new(&mut buffer, &header).map_err(|_| too_long())?;
    for attribute in attributes {
        builder.put(attribute).map_err(|_| too_long())?;
    }
    Ok(builder.finish().to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn read(bytes: &[u8]) -> io::Result<Message> {
        Message::read(&mut { bytes }).await
    }

    #[tokio::test]
    async fn what_is_written_is_read() {
        let attributes = vec![
            UbusMsgAttr::ObjId(7),
            UbusMsgAttr::Method("status"),
            UbusMsgAttr::Data(b"12345"),
            UbusMsgAttr::NoReply(true),
            UbusMsgAttr::Status(4),
        ];
        let bytes = message(kind::NOTIFY, 513, 0x0a0b_0c0d, attributes).unwrap();
        assert_eq!(&bytes[..8], [0, 10, 2, 1, 10, 11, 12, 13]);
        let message = read(&bytes).await.unwrap();
        assert_eq!((message.kind, message.seq, message.peer), (10, 513, 0x0a0b_0c0d));
        let expected = Fields {
            status: Some(4),
            object: Some(7),
            target: None,
            method: Some("status"),
            data: Some(b"12345"),
            no_reply: true,
        };
        assert_eq!(message.fields(), expected);
    }

    #[tokio::test]
    async fn impossible_messages_end_the_connection() {
        for bytes in [
            [1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4],
            [0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3],
            [0, 5, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff],
        ] {
            let error = read(&bytes).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let cut = [0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(read(&cut).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let long = vec![0; MAX_LEN];
        assert!(message(kind::DATA, 0, 0, vec![UbusMsgAttr::Data(&long)]).is_err());
    }

    proptest! {
        #[test]
        fn no_body_panics(body: Vec<u8>) {
            let message = Message { kind: kind::INVOKE, seq: 0, peer: 0, body };
            let _ = message.fields();
        }
    }
}
