//! The messages of route netlink that concern us.
//!
//! In place of netlink-packet-route's message, which may be any, down to each driver's own
//! attributes of a link and the kernel's traffic control: reading all that would be an eighth of
//! the router's binary. Addresses, routes and rules are read and written by that crate.

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkPayload,
    NetlinkSerializable, NlasIterator, Parseable, parse_string, parse_u32,
};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::LinkHeader;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::rule::RuleMessage;

/// What is asked for or told about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) verb: Verb,
    pub(crate) object: Object,
}

/// The lower two bits of a message's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    New,
    Del,
    Get,
    Set,
}

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Object {
    Link(LinkMessage),
    Address(AddressMessage),
    Route(RouteMessage),
    Rule(RuleMessage),
    /// Something that we neither asked for nor understand. Its type, without the verb.
    Other(u16),
}

/// A link, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LinkMessage {
    pub(crate) header: LinkHeader,
    pub(crate) name: Option<String>,
    pub(crate) mtu: Option<u32>,
}

// `linux/rtnetlink.h`: the first type of each four.
const RTM_LINK: u16 = 16;
const RTM_ADDRESS: u16 = 20;
const RTM_ROUTE: u16 = 24;
const RTM_RULE: u16 = 32;
const VERBS: u16 = 4;

/// `struct ifinfomsg`, and the attributes after it (`linux/if_link.h`).
const LINK_HEADER: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;

impl Message {
    pub(crate) fn new(object: Object) -> Self {
        Self { verb: Verb::New, object }
    }

    pub(crate) fn del(object: Object) -> Self {
        Self { verb: Verb::Del, object }
    }

    pub(crate) fn get(object: Object) -> Self {
        Self { verb: Verb::Get, object }
    }

    pub(crate) fn set(object: Object) -> Self {
        Self { verb: Verb::Set, object }
    }
}

impl Object {
    /// What follows netlink's own header; nothing for what we don't understand.
    fn content(&self) -> Option<&dyn Emitable> {
        match self {
            Self::Link(link) => Some(link),
            Self::Address(address) => Some(address),
            Self::Route(route) => Some(route),
            Self::Rule(rule) => Some(rule),
            Self::Other(_) => None,
        }
    }
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        let first = match &self.object {
            Object::Link(_) => RTM_LINK,
            Object::Address(_) => RTM_ADDRESS,
            Object::Route(_) => RTM_ROUTE,
            Object::Rule(_) => RTM_RULE,
            Object::Other(first) => *first,
        };
        first + self.verb as u16
    }

    fn buffer_len(&self) -> usize {
        self.object.content().map_or(0, Emitable::buffer_len)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        if let Some(content) = self.object.content() {
            content.emit(buffer);
        }
    }
}

impl NetlinkDeserializable for Message {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let verb = match header.message_type % VERBS {
            0 => Verb::New,
            1 => Verb::Del,
            2 => Verb::Get,
            _ => Verb::Set,
        };
        let object = match header.message_type - header.message_type % VERBS {
            RTM_LINK => Object::Link(LinkMessage::parse(payload)?),
            RTM_ADDRESS => Object::Address(AddressMessage::parse(payload)?),
            RTM_ROUTE => Object::Route(RouteMessage::parse(payload)?),
            RTM_RULE => Object::Rule(RuleMessage::parse(payload)?),
            other => Object::Other(other),
        };
        Ok(Self { verb, object })
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}

impl LinkMessage {
    fn attributes(&self) -> Vec<DefaultNla> {
        let name = self.name.as_ref().map(|name| {
            // A C string.
            let mut text = name.as_bytes().to_vec();
            text.push(0);
            DefaultNla::new(IFLA_IFNAME, text)
        });
        let mtu = self.mtu.map(|mtu| DefaultNla::new(IFLA_MTU, mtu.to_ne_bytes().to_vec()));
        name.into_iter().chain(mtu).collect()
    }
}

impl Emitable for LinkMessage {
    fn buffer_len(&self) -> usize {
        LINK_HEADER + self.attributes().as_slice().buffer_len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        self.header.emit(buffer);
        self.attributes().as_slice().emit(&mut buffer[LINK_HEADER..]);
    }
}

impl Parseable<[u8]> for LinkMessage {
    fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut link = Self { header: LinkHeader::parse(payload)?, ..Self::default() };
        // The header was there, so are its bytes.
        for attribute in NlasIterator::new(&payload[LINK_HEADER..]) {
            let attribute = attribute?;
            match attribute.kind() {
                IFLA_IFNAME => link.name = Some(parse_string(attribute.value())?),
                IFLA_MTU => link.mtu = Some(parse_u32(attribute.value())?),
                _ => {}
            }
        }
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{LinkAttribute, LinkFlags};

    use super::*;

    fn link() -> LinkMessage {
        let mut link = LinkMessage { name: Some("wwan0".into()), ..LinkMessage::default() };
        link.header.index = 7;
        link.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        link.mtu = Some(1430);
        link
    }

    /// Message, and the same in the words of the library.
    fn twins() -> [(Message, RouteNetlinkMessage); 6] {
        let mut full = netlink_packet_route::link::LinkMessage::default();
        full.header = link().header;
        full.attributes = vec![LinkAttribute::IfName("wwan0".into()), LinkAttribute::Mtu(1430)];
        let (address, route, rule) =
            (AddressMessage::default(), RouteMessage::default(), RuleMessage::default());
        [
            (Message::set(Object::Link(link())), RouteNetlinkMessage::SetLink(full.clone())),
            (Message::new(Object::Link(link())), RouteNetlinkMessage::NewLink(full)),
            (
                Message::del(Object::Address(address.clone())),
                RouteNetlinkMessage::DelAddress(address),
            ),
            (Message::new(Object::Route(route.clone())), RouteNetlinkMessage::NewRoute(route)),
            (Message::get(Object::Rule(rule.clone())), RouteNetlinkMessage::GetRule(rule.clone())),
            (Message::del(Object::Rule(rule.clone())), RouteNetlinkMessage::DelRule(rule)),
        ]
    }

    fn bytes(message: &impl NetlinkSerializable) -> (u16, Vec<u8>) {
        let mut buffer = vec![0; message.buffer_len()];
        message.serialize(&mut buffer);
        (message.message_type(), buffer)
    }

    #[test]
    fn written_as_the_library_writes_it() {
        for (ours, theirs) in twins() {
            assert_eq!(bytes(&ours), bytes(&theirs), "{theirs:?}");
        }
    }

    #[test]
    fn read_as_it_was_written() {
        for (message, _) in twins() {
            let (kind, payload) = bytes(&message);
            let mut header = NetlinkHeader::default();
            header.message_type = kind;
            assert_eq!(Message::deserialize(&header, &payload).unwrap(), message);
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let (_, payload) = bytes(&Message::new(Object::Link(link())));
        let mut header = NetlinkHeader::default();
        header.message_type = RTM_LINK;
        for length in 0..LINK_HEADER {
            assert!(Message::deserialize(&header, &payload[..length]).is_err(), "{length}");
        }
        assert!(Message::deserialize(&header, &payload[..LINK_HEADER + 6]).is_err());
        // Other kinds are not read at all.
        header.message_type = 44;
        let qdisc = Message::deserialize(&header, &[1, 2, 3]).unwrap();
        assert_eq!(qdisc, Message::new(Object::Other(44)));
    }
}
