//! Kubernetes' protobuf, walked by the table, as JSON.
//!
//! In:       bytes of the wire format, with or without the envelope `k8s\0`.
//! Out:      the JSON that the same client would have sent.
//! Never:    writes protobuf: our answers are JSON.
//! Source:   the published encoding: non-pointer fields are written even when they are empty, so an empty value of a field
//!           that JSON would have left out is left out here as well; times without content are no times.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::table::{Field, Message, MessageId, Shape, Table, Type, Wire};
use crate::api::time;
use crate::clock::Wall;

/// How deep messages may nest, as for JSON.
const MAX_DEPTH: usize = 100;
/// What the envelope begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// They do not begin as they should.
    #[error("the body does not begin with the prefix of Kubernetes' protobuf")]
    NoEnvelope,
    /// A message ends before its time, or has a tag that cannot be.
    #[error("proto: broken message {0}")]
    Broken(String),
    /// The table does not have the kind.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// From the envelope.
        api_version: String,
        /// From the envelope.
        kind: String,
    },
}

/// Reads a body with envelope; `apiVersion` and `kind` of the envelope stand in the result.
pub(super) fn read(bytes: &[u8]) -> Result<Map<String, Value>, ProtobufError> {
    let mut wire = Reader { rest: bytes.strip_prefix(MAGIC).ok_or(ProtobufError::NoEnvelope)? };
    let broken = || ProtobufError::Broken("Unknown".into());
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    while let Some((number, value)) = wire.next().ok_or_else(broken)? {
        match (number, value) {
            (1, Raw::Bytes(meta)) => {
                let mut meta = Reader { rest: meta };
                while let Some((number, value)) = meta.next().ok_or_else(broken)? {
                    match (number, value) {
                        (1, Raw::Bytes(text)) => api_version = text_of(text).ok_or_else(broken)?,
                        (2, Raw::Bytes(text)) => kind = text_of(text).ok_or_else(broken)?,
                        _ => {}
                    }
                }
            }
            (2, Raw::Bytes(bytes)) => raw = bytes,
            // A content encoding: nothing writes one.
            (3, Raw::Bytes(encoding)) if !encoding.is_empty() => return Err(broken()),
            _ => {}
        }
    }
    let table = Table::get();
    let Some(message) = table.kind(&api_version, &kind) else { return Err(ProtobufError::UnknownKind { api_version, kind }) };
    let mut object = Map::new();
    Walk { table }.message(table.message(message), raw, &mut object, 0)?;
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    Ok(object)
}

struct Walk {
    table: &'static Table,
}

impl Walk {
    /// Reads the fields of a message into `object`, which may have some from an earlier piece of the same message.
    fn message(
        &self,
        message: &Message,
        bytes: &[u8],
        object: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), ProtobufError> {
        let broken = || ProtobufError::Broken(message.short_name().to_owned());
        if depth > MAX_DEPTH {
            return Err(broken());
        }
        let mut wire = Reader { rest: bytes };
        while let Some((number, raw)) = wire.next().ok_or_else(broken)? {
            match message.wire(number) {
                // What a newer client knows and we do not.
                None => {}
                Some(Wire::Hoisted(id)) => {
                    let Raw::Bytes(bytes) = raw else { return Err(broken()) };
                    self.message(self.table.message(id), bytes, object, depth + 1)?;
                }
                Some(Wire::Field(field)) => self.field(field, raw, object, depth)?,
            }
        }
        Ok(())
    }

    fn field(&self, field: &Field, raw: Raw<'_>, object: &mut Map<String, Value>, depth: usize) -> Result<(), ProtobufError> {
        let broken = || ProtobufError::Broken(format!("at {}", field.name));
        match field.shape {
            Shape::One => {
                if let (Type::Message(id), Raw::Bytes(bytes)) = (field.of, raw) {
                    let before = object.remove(field.name);
                    let value = self.sub_message(id, bytes, before, depth)?;
                    if field.keeps_zero || !is_zero(&value) {
                        object.insert(field.name.to_owned(), value);
                    }
                    return Ok(());
                }
                match self.value(field.of, raw, depth)?.ok_or_else(broken)? {
                    Value::Null => {}
                    value if !field.keeps_zero && is_zero(&value) => {}
                    value => drop(object.insert(field.name.to_owned(), value)),
                }
            }
            Shape::List => {
                let mut items = Vec::new();
                match (field.of, raw) {
                    // Numbers may come packed into one piece.
                    (Type::Int32 | Type::Int64 | Type::Bool, Raw::Bytes(bytes)) => {
                        let mut packed = Reader { rest: bytes };
                        while !packed.rest.is_empty() {
                            let number = packed.varint().ok_or_else(broken)?;
                            items.push(self.value(field.of, Raw::Varint(number), depth)?.ok_or_else(broken)?);
                        }
                    }
                    (of, raw) => items.push(self.value(of, raw, depth)?.ok_or_else(broken)?),
                }
                if let Value::Array(list) = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                    list.append(&mut items);
                }
            }
            Shape::Map => {
                let Raw::Bytes(bytes) = raw else { return Err(broken()) };
                let mut entry = Reader { rest: bytes };
                let (mut key, mut value) = (String::new(), None);
                while let Some((number, raw)) = entry.next().ok_or_else(broken)? {
                    match (number, raw) {
                        (1, Raw::Bytes(text)) => key = text_of(text).ok_or_else(broken)?,
                        (2, raw) => value = Some(self.value(field.of, raw, depth)?.ok_or_else(broken)?),
                        _ => {}
                    }
                }
                let value = match value {
                    Some(value) => value,
                    None => self.value(field.of, Raw::Bytes(&[]), depth)?.ok_or_else(broken)?,
                };
                if let Value::Object(map) = object.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    /// `None` when the wire has something else than the type; `null` for a time or a raw value without content.
    fn value(&self, of: Type, raw: Raw<'_>, depth: usize) -> Result<Option<Value>, ProtobufError> {
        Ok(match (of, raw) {
            (Type::Message(id), Raw::Bytes(bytes)) => Some(self.sub_message(id, bytes, None, depth)?),
            (Type::String, Raw::Bytes(bytes)) => text_of(bytes).map(Value::String),
            (Type::Bytes, Raw::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
            (Type::Bool, Raw::Varint(number)) => Some((number != 0).into()),
            // The wire has a negative number as its two's complement in 64 bits.
            (Type::Int64, Raw::Varint(number)) => Some(number.cast_signed().into()),
            (Type::Int32, Raw::Varint(number)) => Some(int32(number).into()),
            (Type::Quantity, Raw::Bytes(bytes)) => {
                first_text(bytes).map(|text| if text.is_empty() { "0".into() } else { text.into() })
            }
            (Type::Time, Raw::Bytes(bytes)) => timestamp(bytes, false),
            (Type::MicroTime, Raw::Bytes(bytes)) => timestamp(bytes, true),
            (Type::IntOrString, Raw::Bytes(bytes)) => int_or_string(bytes),
            (Type::Any, Raw::Bytes(bytes)) => raw_json(bytes),
            _ => None,
        })
    }

    fn sub_message(&self, id: MessageId, bytes: &[u8], before: Option<Value>, depth: usize) -> Result<Value, ProtobufError> {
        let message = self.table.message(id);
        let mut object = match before {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        };
        self.message(message, bytes, &mut object, depth + 1)?;
        Ok(match message.items() {
            Some(items) => object.remove(items.name).unwrap_or_else(|| Value::Array(Vec::new())),
            None => Value::Object(object),
        })
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The low half, as upstream's readers take it.
fn int32(number: u64) -> i32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

fn text_of(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(ToOwned::to_owned)
}

/// Field 1 of a message, a text.
fn first_text(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    let mut wire = Reader { rest: bytes };
    while let Some((number, raw)) = wire.next()? {
        if let (1, Raw::Bytes(bytes)) = (number, raw) {
            text = text_of(bytes)?;
        }
    }
    Some(text)
}

/// Seconds and nanoseconds. Without content it is `null`: no time.
fn timestamp(bytes: &[u8], micro: bool) -> Option<Value> {
    if bytes.is_empty() {
        return Some(Value::Null);
    }
    let (mut seconds, mut nanos) = (0i64, 0i64);
    let mut wire = Reader { rest: bytes };
    while let Some((number, raw)) = wire.next()? {
        match (number, raw) {
            (1, Raw::Varint(number)) => seconds = number.cast_signed(),
            (2, Raw::Varint(number)) => nanos = number.cast_signed(),
            _ => {}
        }
    }
    // Years 0 to 9999, which is what RFC 3339 can say.
    if !(-62_167_219_200..=253_402_300_799).contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let whole = time::rfc3339(Wall(seconds.checked_mul(1000)?));
    Some(if micro { format!("{}.{:06}Z", whole.trim_end_matches('Z'), nanos / 1000).into() } else { whole.into() })
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    let mut wire = Reader { rest: bytes };
    while let Some((field, raw)) = wire.next()? {
        match (field, raw) {
            (1, Raw::Varint(kind)) => is_text = kind == 1,
            (2, Raw::Varint(value)) => number = int32(value),
            (3, Raw::Bytes(bytes)) => text = text_of(bytes)?,
            _ => {}
        }
    }
    Some(if is_text { text.into() } else { number.into() })
}

/// Field 1 holds JSON.
fn raw_json(bytes: &[u8]) -> Option<Value> {
    let text = first_text(bytes)?;
    // The parser refuses to nest deeper than 128.
    if text.is_empty() { Some(Value::Null) } else { serde_json::from_str(&text).ok() }
}

/// What follows a tag.
#[derive(Clone, Copy, Debug)]
enum Raw<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length; no field of the API is so, but it can be skipped.
    Fixed,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next field; `Some(None)` at the end, `None` when the bytes are broken.
    fn next(&mut self) -> Option<Option<(u32, Raw<'a>)>> {
        if self.rest.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| *number > 0)?;
        let raw = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => self.take(8).map(|_| Raw::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Raw::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Raw::Fixed)?,
            // Groups, which nothing writes any more.
            _ => return None,
        };
        Some(Some((number, raw)))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            // Of the tenth byte only one bit is left in 64.
            value |= u64::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
