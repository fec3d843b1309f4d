//! What the broker counts, for logs and `status`.

/// Since the start, but for the first four, which are what is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Clients that are connected now.
    pub connections: u64,
    /// Sessions that are held now, connected or not.
    pub sessions: u64,
    /// Topics that are kept now.
    pub retained: u64,
    /// Messages that were published.
    pub published: u64,
    /// Messages that were sent to clients.
    pub delivered: u64,
    /// Messages that had to make room for newer ones in a full queue.
    pub dropped: u64,
    /// Messages larger than what their receiver takes.
    pub too_large_for_receiver: u64,
    /// Messages whose time ended before they were sent.
    pub expired: u64,
    /// Publishes, last wills included, that the sender may not make.
    pub refused_publishes: u64,
    /// Subscriptions that were refused.
    pub refused_subscriptions: u64,
    /// Messages that a node's quota of retained ones had no room for.
    pub over_quota: u64,
    /// Clients that were refused: wrong certificate, wrong client id, too many, no CONNECT in time.
    pub refused_connections: u64,
    /// Connections that sent what is no MQTT, or MQTT that is not allowed.
    pub malformed: u64,
    /// Connections whose packet was longer than allowed.
    pub too_large: u64,
    /// Connections that took their messages too slowly.
    pub slow: u64,
    /// Connections that went silent.
    pub silent: u64,
    /// Connections that were replaced by a newer one of the same client.
    pub taken_over: u64,
    /// Times that the master did not keep up and was told everything again.
    pub resyncs: u64,
}
