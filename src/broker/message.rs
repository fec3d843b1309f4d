//! A message inside the broker: made once, shared by all who wait for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::packet::{Id, Properties, Publish, Qos, Value};
use crate::clock::Tick;

/// What was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Without wildcards.
    pub topic: Arc<str>,
    /// Its payload.
    pub payload: Bytes,
    /// At most 1: what came with 2 goes on with 1.
    pub qos: Qos,
    /// As it was published.
    pub retain: bool,
    /// Those that go on to the subscribers; without expiry, alias and identifiers.
    pub properties: Properties,
    /// When nobody needs it any more.
    pub expires: Option<Tick>,
}

impl Message {
    /// What a client published.
    #[must_use]
    pub fn new(topic: Arc<str>, payload: Bytes, qos: Qos, retain: bool, mut properties: Properties, now: Tick) -> Self {
        let expires = properties.number(Id::MessageExpiry).map(|seconds| now.after(Duration::from_secs(seconds.into())));
        for id in [Id::MessageExpiry, Id::TopicAlias, Id::SubscriptionIdentifier, Id::WillDelay] {
            properties.remove(id);
        }
        Self { topic, payload, qos: qos.min(Qos::AtLeastOnce), retain, properties, expires }
    }

    /// Whether its time is over.
    #[must_use]
    pub fn expired(&self, now: Tick) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Bytes that it holds, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.weight() + 64
    }
}

/// A message on its way to one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What.
    pub message: Arc<Message>,
    /// The lesser of the message's and the subscription's; never 2.
    pub qos: Qos,
    /// The flag that the subscriber sees.
    pub retain: bool,
    /// Of the subscriptions that asked for it.
    pub identifiers: Vec<u32>,
}

impl Delivery {
    /// As a packet: the time that is left, and the identifiers.
    #[must_use]
    pub fn publish(&self, id: u16, dup: bool, now: Tick) -> Publish {
        let mut properties = self.message.properties.clone();
        if let Some(expires) = self.message.expires {
            let left = expires.since(now).as_millis().div_ceil(1000);
            properties.push(Id::MessageExpiry, Value::Four(u32::try_from(left).unwrap_or(u32::MAX)));
        }
        for &identifier in &self.identifiers {
            properties.push(Id::SubscriptionIdentifier, Value::Varint(identifier));
        }
        Publish {
            dup,
            qos: self.qos,
            retain: self.retain,
            topic: self.message.topic.clone(),
            id,
            properties,
            payload: self.message.payload.clone(),
        }
    }
}
