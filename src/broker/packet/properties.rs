//! MQTT 5 properties: one table says what each is made of and where it may stand.
//!
//! Source:   MQTT 5.0, table 2-4.

use bytes::{BufMut, Bytes, BytesMut};

use super::DecodeError;
use super::wire::{Reader, put_binary, put_text, put_varint};

/// The name of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the standard's own names
#[repr(u8)]
pub enum Id {
    PayloadFormat = 0x01,
    MessageExpiry = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionIdentifier = 0x0B,
    SessionExpiry = 0x11,
    AssignedClientId = 0x12,
    ServerKeepAlive = 0x13,
    AuthenticationMethod = 0x15,
    AuthenticationData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelay = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1A,
    ServerReference = 0x1C,
    ReasonString = 0x1F,
    ReceiveMaximum = 0x21,
    TopicAliasMaximum = 0x22,
    TopicAlias = 0x23,
    MaximumQos = 0x24,
    RetainAvailable = 0x25,
    UserProperty = 0x26,
    MaximumPacketSize = 0x27,
    WildcardAvailable = 0x28,
    SubscriptionIdentifierAvailable = 0x29,
    SharedAvailable = 0x2A,
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Value {
    /// 0 or 1 in every property that has it.
    Flag(u8),
    Two(u16),
    Four(u32),
    Varint(u32),
    Text(String),
    Binary(Bytes),
    Pair(String, String),
}

/// Where properties stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Connect = 1,
    Will = 1 << 1,
    ConnAck = 1 << 2,
    Publish = 1 << 3,
    Ack = 1 << 4,
    Subscribe = 1 << 5,
    SubAck = 1 << 6,
    Unsubscribe = 1 << 7,
    Disconnect = 1 << 8,
    Auth = 1 << 9,
}

#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Two,
    Four,
    Varint,
    Text,
    Binary,
    Pair,
}

/// The table: what it is made of, and the sum of the places where it may stand.
const TABLE: [(Id, Kind, u16); 27] = {
    use Place::{Ack, Auth, ConnAck, Connect, Disconnect, Publish, SubAck, Subscribe, Will};
    const MESSAGE: u16 = Publish as u16 | Will as u16;
    const BOTH: u16 = Connect as u16 | ConnAck as u16;
    const ANSWER: u16 = ConnAck as u16;
    [
        (Id::PayloadFormat, Kind::Flag, MESSAGE),
        (Id::MessageExpiry, Kind::Four, MESSAGE),
        (Id::ContentType, Kind::Text, MESSAGE),
        (Id::ResponseTopic, Kind::Text, MESSAGE),
        (Id::CorrelationData, Kind::Binary, MESSAGE),
        (Id::SubscriptionIdentifier, Kind::Varint, Publish as u16 | Subscribe as u16),
        (Id::SessionExpiry, Kind::Four, BOTH | Disconnect as u16),
        (Id::AssignedClientId, Kind::Text, ANSWER),
        (Id::ServerKeepAlive, Kind::Two, ANSWER),
        (Id::AuthenticationMethod, Kind::Text, BOTH | Auth as u16),
        (Id::AuthenticationData, Kind::Binary, BOTH | Auth as u16),
        (Id::RequestProblemInformation, Kind::Flag, Connect as u16),
        (Id::WillDelay, Kind::Four, Will as u16),
        (Id::RequestResponseInformation, Kind::Flag, Connect as u16),
        (Id::ResponseInformation, Kind::Text, ANSWER),
        (Id::ServerReference, Kind::Text, ANSWER | Disconnect as u16),
        (Id::ReasonString, Kind::Text, ANSWER | Ack as u16 | SubAck as u16 | Disconnect as u16 | Auth as u16),
        (Id::ReceiveMaximum, Kind::Two, BOTH),
        (Id::TopicAliasMaximum, Kind::Two, BOTH),
        (Id::TopicAlias, Kind::Two, Publish as u16),
        (Id::MaximumQos, Kind::Flag, ANSWER),
        (Id::RetainAvailable, Kind::Flag, ANSWER),
        (Id::UserProperty, Kind::Pair, u16::MAX),
        (Id::MaximumPacketSize, Kind::Four, BOTH),
        (Id::WildcardAvailable, Kind::Flag, ANSWER),
        (Id::SubscriptionIdentifierAvailable, Kind::Flag, ANSWER),
        (Id::SharedAvailable, Kind::Flag, ANSWER),
    ]
};

/// The properties of one packet, in their order. Allocates nothing when there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Vec<(Id, Value)>);

impl Properties {
    /// Adds one.
    pub fn push(&mut self, id: Id, value: Value) {
        self.0.push((id, value));
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, id: Id, value: Value) -> Self {
        self.push(id, value);
        self
    }

    /// The first of that name.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Value> {
        self.0.iter().find(|(name, _)| *name == id).map(|(_, value)| value)
    }

    /// The first of that name, if it is a number.
    #[must_use]
    pub fn number(&self, id: Id) -> Option<u32> {
        match self.get(id)? {
            Value::Flag(number) => Some((*number).into()),
            Value::Two(number) => Some((*number).into()),
            Value::Four(number) | Value::Varint(number) => Some(*number),
            Value::Text(_) | Value::Binary(_) | Value::Pair(..) => None,
        }
    }

    /// The first of that name, if it is text.
    #[must_use]
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Takes all of that name out.
    pub fn remove(&mut self, id: Id) {
        self.0.retain(|(name, _)| *name != id);
    }

    /// Bytes of text and data in it; for limits.
    #[must_use]
    pub fn weight(&self) -> usize {
        let of = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Binary(data) => data.len(),
            Value::Pair(key, value) => key.len() + value.len(),
            Value::Flag(_) | Value::Two(_) | Value::Four(_) | Value::Varint(_) => 4,
        };
        self.0.iter().map(|(_, value)| of(value) + std::mem::size_of::<(Id, Value)>()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn decode(reader: &mut Reader<'_>, place: Place) -> Result<Self, DecodeError> {
        let length = reader.varint()?;
        let mut reader =
            Reader::new(reader.take(usize::try_from(length).map_err(|_| DecodeError::Malformed("property length"))?)?);
        let mut properties = Self::default();
        while !reader.is_empty() {
            let number = reader.u8()?;
            let &(id, kind, places) =
                TABLE.iter().find(|(id, ..)| *id as u8 == number).ok_or(DecodeError::Malformed("unknown property"))?;
            if places & place as u16 == 0 {
                return Err(DecodeError::Protocol("a property that may not stand here"));
            }
            let repeats = id == Id::UserProperty || (id == Id::SubscriptionIdentifier && place == Place::Publish);
            if !repeats && properties.get(id).is_some() {
                return Err(DecodeError::Protocol("a property stands twice"));
            }
            let value = match kind {
                Kind::Flag => match reader.u8()? {
                    flag @ 0..=1 => Value::Flag(flag),
                    _ => return Err(DecodeError::Protocol("a flag that is neither 0 nor 1")),
                },
                Kind::Two => Value::Two(reader.u16()?),
                Kind::Four => Value::Four(reader.u32()?),
                Kind::Varint => Value::Varint(reader.varint()?),
                Kind::Text => Value::Text(reader.text()?.to_owned()),
                Kind::Binary => Value::Binary(reader.binary()?),
                Kind::Pair => Value::Pair(reader.text()?.to_owned(), reader.text()?.to_owned()),
            };
            let never_zero = [Id::ReceiveMaximum, Id::MaximumPacketSize, Id::SubscriptionIdentifier, Id::TopicAlias];
            properties.push(id, value);
            if never_zero.contains(&id) && properties.0.last().is_some_and(|(_, value)| value.is_zero()) {
                return Err(DecodeError::Protocol("a property that may not be 0"));
            }
        }
        Ok(properties)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        for (id, value) in &self.0 {
            body.put_u8(*id as u8);
            match value {
                Value::Flag(number) => body.put_u8(*number),
                Value::Two(number) => body.put_u16(*number),
                Value::Four(number) => body.put_u32(*number),
                Value::Varint(number) => put_varint(&mut body, *number as usize),
                Value::Text(text) => put_text(&mut body, text),
                Value::Binary(data) => put_binary(&mut body, data),
                Value::Pair(key, value) => {
                    put_text(&mut body, key);
                    put_text(&mut body, value);
                }
            }
        }
        put_varint(out, body.len());
        out.put_slice(&body);
    }
}

impl Value {
    fn is_zero(&self) -> bool {
        matches!(self, Value::Flag(0) | Value::Two(0) | Value::Four(0) | Value::Varint(0))
    }
}
