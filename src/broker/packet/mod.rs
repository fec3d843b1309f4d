//! MQTT 3.1.1 and 5 packets as values.
//!
//! In:       bytes of one connection, its [`Version`], the size that it may send.
//! Out:      [`Packet`]s, and bytes again; `encode` and `decode` are each other's inverse.
//! Never:    decides what a packet leads to (`machine/`), nor reads a socket (`tcp.rs`).
//! Source:   OASIS MQTT 3.1.1 (2014) and 5.0 (2019), section 2 and 3 of each.

mod decode;
mod encode;
mod properties;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use bytes::Bytes;

pub use decode::{connect_version, decode, frame};
pub use encode::encode;
pub use properties::{Id, Properties, Value};

/// Which protocol a connection speaks; told by its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Protocol level 4.
    V311,
    /// Protocol level 5.
    V5,
}

/// How hard a message is to lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// 0: sent, not answered.
    AtMostOnce,
    /// 1: sent until acknowledged.
    AtLeastOnce,
    /// 2: acknowledged in two steps. Taken from 3.1.1 clients, who cannot be told that it is not offered; never sent.
    ExactlyOnce,
}

impl Qos {
    /// Its number on the wire.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 1,
            Qos::ExactlyOnce => 2,
        }
    }
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not what the standard's grammar allows.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// Well formed, but not allowed there.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// A protocol that we do not speak.
    #[error("unsupported protocol version")]
    UnsupportedVersion,
    /// Longer than allowed; known from the header, before it was read.
    #[error("packet of {0} bytes is too large")]
    TooLarge(usize),
}

impl DecodeError {
    /// The MQTT 5 reason code for it.
    #[must_use]
    pub fn reason(self) -> u8 {
        match self {
            DecodeError::Malformed(_) => reason::MALFORMED,
            DecodeError::Protocol(_) => reason::PROTOCOL_ERROR,
            DecodeError::UnsupportedVersion => reason::UNSUPPORTED_VERSION,
            DecodeError::TooLarge(_) => reason::PACKET_TOO_LARGE,
        }
    }
}

/// MQTT 5 reason codes that we send or look at; 3.1.1's return codes are derived where they differ.
pub mod reason {
    #![allow(missing_docs)] // the standard's own names
    pub const SUCCESS: u8 = 0x00;
    pub const DISCONNECT_WITH_WILL: u8 = 0x04;
    pub const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    pub const UNSPECIFIED: u8 = 0x80;
    pub const MALFORMED: u8 = 0x81;
    pub const PROTOCOL_ERROR: u8 = 0x82;
    pub const UNSUPPORTED_VERSION: u8 = 0x84;
    pub const CLIENT_ID_INVALID: u8 = 0x85;
    pub const NOT_AUTHORIZED: u8 = 0x87;
    pub const SERVER_UNAVAILABLE: u8 = 0x88;
    pub const SERVER_SHUTTING_DOWN: u8 = 0x8B;
    pub const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
    pub const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
    pub const SESSION_TAKEN_OVER: u8 = 0x8E;
    pub const FILTER_INVALID: u8 = 0x8F;
    pub const TOPIC_INVALID: u8 = 0x90;
    pub const PACKET_ID_NOT_FOUND: u8 = 0x92;
    pub const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub const PACKET_TOO_LARGE: u8 = 0x95;
    pub const QUOTA_EXCEEDED: u8 = 0x97;
    pub const QOS_NOT_SUPPORTED: u8 = 0x9B;
    pub const SHARED_NOT_SUPPORTED: u8 = 0x9E;
}

/// One control packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the standard's own names
pub enum Packet {
    Connect(Box<Connect>),
    ConnAck(ConnAck),
    Publish(Publish),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(SubAck),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(Disconnect),
}

/// The first packet of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Which protocol the connection speaks from here on.
    pub version: Version,
    /// Clean Start; 3.1.1: Clean Session.
    pub clean: bool,
    /// Seconds; 0: none.
    pub keep_alive: u16,
    /// Empty: the server chooses.
    pub client_id: String,
    /// To be published when the client dies.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Bytes>,
    /// MQTT 5 only.
    pub properties: Properties,
}

/// A last will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Without wildcards.
    pub topic: Arc<str>,
    /// Its payload.
    pub payload: Bytes,
    /// At which quality.
    pub qos: Qos,
    /// Whether it is kept.
    pub retain: bool,
    /// MQTT 5 only.
    pub properties: Properties,
}

/// The answer to [`Connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    /// An earlier session goes on.
    pub session_present: bool,
    /// 3.1.1: return code.
    pub reason: u8,
    /// MQTT 5 only.
    pub properties: Properties,
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// May have been sent before.
    pub dup: bool,
    /// At which quality.
    pub qos: Qos,
    /// To be kept, or was kept.
    pub retain: bool,
    /// Its topic.
    pub topic: Arc<str>,
    /// 0 when and only when the quality is 0.
    pub id: u16,
    /// MQTT 5 only.
    pub properties: Properties,
    /// Its payload.
    pub payload: Bytes,
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Whose.
    pub id: u16,
    /// MQTT 5 only.
    pub reason: u8,
    /// MQTT 5 only.
    pub properties: Properties,
}

impl Ack {
    /// Without properties.
    #[must_use]
    pub fn new(id: u16, reason: u8) -> Self {
        Self { id, reason, properties: Properties::default() }
    }
}

/// What a subscriber wants of the retained messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainHandling {
    /// 0: all, each time.
    Always,
    /// 1: all, if the subscription is new.
    IfNew,
    /// 2: none.
    Never,
}

/// How one filter is subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// At most this.
    pub qos: Qos,
    /// Not what the client itself publishes.
    pub no_local: bool,
    /// The retain flag as it was published.
    pub retain_as_published: bool,
    /// What of the retained messages.
    pub retain_handling: RetainHandling,
}

/// Asks for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// Echoed in the answer.
    pub id: u16,
    /// MQTT 5 only.
    pub properties: Properties,
    /// At least one.
    pub filters: Vec<(String, Options)>,
}

/// SUBACK and UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck {
    /// Whose.
    pub id: u16,
    /// MQTT 5 only.
    pub properties: Properties,
    /// One a filter; none in 3.1.1's UNSUBACK.
    pub reasons: Vec<u8>,
}

/// Asks for no more messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Echoed in the answer.
    pub id: u16,
    /// MQTT 5 only.
    pub properties: Properties,
    /// At least one.
    pub filters: Vec<String>,
}

/// DISCONNECT and AUTH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disconnect {
    /// MQTT 5 only.
    pub reason: u8,
    /// MQTT 5 only.
    pub properties: Properties,
}
