//! As much of generic netlink as talking to one family takes: the header, and finding the family's
//! number.

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkPayload,
    NetlinkSerializable, Nla, NlaBuffer, NlasIterator,
};

/// The family that knows the others (`linux/genetlink.h`), and what we ask of it.
pub(super) const GENL_ID_CTRL: u16 = 16;
pub(super) const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// `struct genlmsghdr`: command, version, two bytes of nothing.
const HEADER: usize = 4;

/// A generic netlink message, its attributes still bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GenlMessage {
    pub(super) family: u16,
    pub(super) command: u8,
    pub(super) version: u8,
    pub(super) attributes: Vec<u8>,
}

impl GenlMessage {
    pub(super) fn new(family: u16, command: u8, version: u8, attributes: &[Attribute]) -> Self {
        Self { family, command, version, attributes: encode(attributes) }
    }

    pub(super) fn get_family(name: &str) -> Self {
        let mut text = name.as_bytes().to_vec();
        text.push(0);
        let attributes = [Attribute::new(CTRL_ATTR_FAMILY_NAME, text)];
        Self::new(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, &attributes)
    }

    /// The family number in an answer to [`Self::get_family`].
    pub(super) fn family_id(&self) -> Option<u16> {
        each(&self.attributes)
            .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
            .and_then(|(_, value)| Some(u16::from_ne_bytes(value.try_into().ok()?)))
    }
}

impl NetlinkSerializable for GenlMessage {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + self.attributes.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer[..HEADER].copy_from_slice(&[self.command, self.version, 0, 0]);
        buffer[HEADER..HEADER + self.attributes.len()].copy_from_slice(&self.attributes);
    }
}

impl NetlinkDeserializable for GenlMessage {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let Some((head, attributes)) = payload.split_at_checked(HEADER) else {
            return Err(DecodeError::from("generic netlink message without a header"));
        };
        Ok(Self {
            family: header.message_type,
            command: head[0],
            version: head[1],
            attributes: attributes.to_vec(),
        })
    }
}

impl From<GenlMessage> for NetlinkPayload<GenlMessage> {
    fn from(message: GenlMessage) -> Self {
        Self::InnerMessage(message)
    }
}

/// One attribute to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    kind: u16,
    value: Vec<u8>,
    nested: bool,
}

impl Attribute {
    pub(super) fn new(kind: u16, value: impl Into<Vec<u8>>) -> Self {
        Self { kind, value: value.into(), nested: false }
    }

    pub(super) fn nested(kind: u16, attributes: &[Self]) -> Self {
        Self { kind, value: encode(attributes), nested: true }
    }
}

impl Nla for Attribute {
    fn value_len(&self) -> usize {
        self.value.len()
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        buffer[..self.value.len()].copy_from_slice(&self.value);
    }

    fn is_nested(&self) -> bool {
        self.nested
    }
}

fn encode(attributes: &[Attribute]) -> Vec<u8> {
    let mut buffer = vec![0; attributes.buffer_len()];
    attributes.emit(&mut buffer);
    buffer
}

/// The attributes in `bytes`, up to the first that makes no sense.
pub(super) fn each(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|nla: NlaBuffer<&[u8]>| {
        // Not through `nla.value()`, which borrows from the short-lived view.
        let whole = nla.into_inner();
        (NlaBuffer::new(whole).kind(), attribute_value(whole))
    })
}

/// The four bytes of head are length and kind.
fn attribute_value(whole: &[u8]) -> &[u8] {
    let length = usize::from(NlaBuffer::new(whole).length()).min(whole.len());
    whole.get(4..length).unwrap_or_default()
}
