//! blobmsg, what ubus carries instead of JSON, and its way from and to JSON.
//!
//! The order of a document's fields is kept, which `serde_json::Value` would not do.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use ubus::{BlobMsgBuilder, BlobMsgType};

use super::wire::{Attribute, Attributes, text};

/// Tables within tables: no honest document is deeper.
const DEEPEST: usize = 32;

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Array(Vec<Value>),
    Table(Vec<(String, Value)>),
}

impl Value {
    /// The field of a table.
    pub(crate) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Table(fields) => fields.iter().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            Self::Integer(value) => Some(*value != 0),
            _ => None,
        }
    }

    pub(crate) fn as_integer(&self) -> Option<i64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// An array's elements; none of anything else.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// Reads the fields of a table. What is malformed ends the table it is in.
    pub(crate) fn from_blobmsg(payload: &[u8]) -> Self {
        table(payload, DEEPEST)
    }

    /// The fields of a table as they go into a message; nothing of what is no table.
    pub(crate) fn to_blobmsg(&self) -> Vec<u8> {
        let Self::Table(fields) = self else { return Vec::new() };
        let mut out = Vec::new();
        for (name, value) in fields {
            out.extend_from_slice(value.build(name).data());
        }
        out
    }

    fn build(&self, name: &str) -> BlobMsgBuilder<'static> {
        let kind = match self {
            Self::Null => BlobMsgType::UNSPEC,
            Self::Bool(_) => BlobMsgType::BOOL,
            Self::Integer(value) if i32::try_from(*value).is_ok() => BlobMsgType::INT32,
            Self::Integer(_) => BlobMsgType::INT64,
            Self::Float(_) => BlobMsgType::DOUBLE,
            Self::Text(_) => BlobMsgType::STRING,
            Self::Array(_) => BlobMsgType::ARRAY,
            Self::Table(_) => BlobMsgType::TABLE,
        };
        // Names are those of our own documents, far from the 64 KiB that a length can say.
        let mut builder = BlobMsgBuilder::new_extended(kind.value(), name);
        // Pushing into a growing buffer can't fail.
        let _ = match self {
            Self::Null => Ok(()),
            Self::Bool(value) => builder.push_bool(*value),
            Self::Integer(value) => match i32::try_from(*value) {
                Ok(small) => builder.push_int32(small),
                Err(_) => builder.push_int64(*value),
            },
            Self::Float(value) => builder.push_double(*value),
            Self::Text(text) => builder.push_str(text),
            Self::Array(elements) => {
                let all: Vec<u8> =
                    elements.iter().flat_map(|e| e.build("").data().to_vec()).collect();
                builder.push_bytes(&all)
            }
            Self::Table(_) => builder.push_bytes(&self.to_blobmsg()),
        };
        builder
    }
}

fn table(payload: &[u8], deeper: usize) -> Value {
    Value::Table(Attributes(payload).map_while(|a| field(&a, deeper)).collect())
}

/// A field's name and value; `None` if it is malformed.
fn field(attribute: &Attribute<'_>, deeper: usize) -> Option<(String, Value)> {
    if !attribute.extended {
        return None;
    }
    let payload = attribute.payload;
    let length = usize::from(u16::from_be_bytes(*payload.first_chunk()?));
    let name = text(payload.get(2..2 + length)?)?;
    // Length, name and NUL, padded; a value of no bytes may lack the padding.
    let value = payload.get((2 + length + 1).next_multiple_of(4)..).unwrap_or_default();
    Some((name.to_owned(), read_value(attribute.id, value, deeper)?))
}

fn read_value(kind: u32, payload: &[u8], deeper: usize) -> Option<Value> {
    Some(match BlobMsgType::from(kind) {
        BlobMsgType::UNSPEC => Value::Null,
        BlobMsgType::ARRAY => {
            let deeper = deeper.checked_sub(1)?;
            let elements = Attributes(payload).map_while(|a| Some(field(&a, deeper)?.1));
            Value::Array(elements.collect())
        }
        BlobMsgType::TABLE => table(payload, deeper.checked_sub(1)?),
        BlobMsgType::STRING => Value::Text(text(payload)?.to_owned()),
        BlobMsgType::INT64 => Value::Integer(i64::from_be_bytes(payload.try_into().ok()?)),
        BlobMsgType::INT32 => Value::Integer(i32::from_be_bytes(payload.try_into().ok()?).into()),
        BlobMsgType::INT16 => Value::Integer(i16::from_be_bytes(payload.try_into().ok()?).into()),
        BlobMsgType::BOOL => Value::Bool(*payload.first()? != 0),
        BlobMsgType::DOUBLE => Value::Float(f64::from_be_bytes(payload.try_into().ok()?)),
        _ => return None,
    })
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(value) => to.serialize_bool(*value),
            Self::Integer(value) => to.serialize_i64(*value),
            Self::Float(value) => to.serialize_f64(*value),
            Self::Text(text) => to.serialize_str(text),
            Self::Array(elements) => to.collect_seq(elements),
            Self::Table(fields) => {
                let mut map = to.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        // blobmsg has no larger ones.
        Ok(Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Value::Table(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DOCUMENT: &str = r#"{"zeta":1,"alpha":{"null":null,"text":"a ü","no":false,"":"x"},"list":[1,[2.5],{"deep":-3000000000}],"most":9223372036854775807,"empty":{},"none":[]}"#;

    #[test]
    fn a_document_keeps_its_fields_and_their_order() {
        let value: Value = serde_json::from_str(DOCUMENT).unwrap();
        let again = Value::from_blobmsg(&value.to_blobmsg());
        assert_eq!(again, value);
        assert_eq!(serde_json::to_string(&again).unwrap(), DOCUMENT);
    }

    #[test]
    fn bytes_are_libubox_own() {
        // {"ab":5,"s":"x"} as libubox's blobmsg_add_u32 and blobmsg_add_string write it.
        let expected = [
            &[0x85, 0, 0, 16, 0, 2, b'a', b'b', 0, 0, 0, 0, 0, 0, 0, 5][..],
            &[0x83, 0, 0, 10, 0, 1, b's', 0, b'x', 0, 0, 0],
        ]
        .concat();
        let value: Value = serde_json::from_str(r#"{"ab":5,"s":"x"}"#).unwrap();
        assert_eq!(value.to_blobmsg(), expected);
    }

    #[test]
    fn too_deep_is_cut_off() {
        let mut value = Value::Table(Vec::new());
        for _ in 0..10_000 {
            value = Value::Table(vec![("a".to_owned(), value)]);
            if value.to_blobmsg().len() > 2000 {
                break;
            }
        }
        let mut cut = &Value::from_blobmsg(&value.to_blobmsg());
        let mut depth = 0;
        while let Some(deeper) = cut.get("a") {
            (cut, depth) = (deeper, depth + 1);
        }
        assert_eq!(depth, DEEPEST);
    }

    proptest! {
        #[test]
        fn no_payload_panics(payload: Vec<u8>) {
            let _ = Value::from_blobmsg(&payload);
        }

        #[test]
        fn no_change_of_a_byte_panics(at in 0usize..300, byte: u8) {
            let value: Value = serde_json::from_str(DOCUMENT).unwrap();
            let mut bytes = value.to_blobmsg();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = Value::from_blobmsg(&bytes);
        }
    }
}
