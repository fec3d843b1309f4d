//! What both ends need of a broker, whichever it is: the embedded one in process, or any other through `rumqttc`.

use bytes::Bytes;

/// A message to send; always QoS 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Without wildcards.
    pub topic: String,
    /// Empty and retained: clears the topic.
    pub payload: Bytes,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// After so many seconds nobody needs it any more (MQTT 5 message expiry).
    pub expiry_seconds: Option<u32>,
}

/// What comes from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BusEvent {
    /// A session is up and the subscriptions stand. After this, tell everything again: nothing sent before is sure.
    Connected,
    /// The session is gone; the bus connects again by itself.
    Disconnected,
    /// A message on a subscribed topic.
    Message {
        /// Its topic.
        topic: String,
        /// Its payload.
        payload: Bytes,
        /// Whether it was kept from before the subscription.
        retained: bool,
    },
    /// A client showed a sign of life: any packet, a ping too; at most once a second each. Only the embedded broker can tell.
    Alive {
        /// The client's identity (CN of its certificate).
        client: String,
    },
}

/// The outbox is full: the broker is away or slow. Level-triggered senders just try again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox to the broker is full")]
pub struct Full;

/// The sending side of a connection to a broker. The receiving side is the `mpsc::Receiver<BusEvent>` that comes with it;
/// which topics it receives is fixed when the bus is made.
pub trait Bus: Send + Sync + 'static {
    /// Sends without waiting.
    ///
    /// # Errors
    /// [`Full`] when it cannot be taken now.
    fn publish(&self, message: Publish) -> Result<(), Full>;
}
