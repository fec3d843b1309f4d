//! Hands: a [`Bus`] over `rumqttc`, MQTT 5, for nodes and for a master on an external broker.
//!
//! Set up as measured (`rumqttc` 0.25 defaults cost 14 MB a client and lose messages): 100 in flight, 1 MiB packets, a session
//! that outlives its connection, subscriptions renewed at each connection, back-off with jitter, and a watchdog that builds the
//! client anew when acknowledgements stop coming.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Filter, LastWill, Packet, PublishProperties};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{Outgoing, TlsConfiguration, Transport};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::bus::{Bus, BusEvent, Full, Publish};
use crate::backoff;
use crate::rng::Rng;

/// With a broker that answers at once even 1,000 pod states are gone in a moment; more than this waiting means that it does not,
/// and then the newest state is told again when it does.
const OUTBOX: usize = 256;
/// What comes in is handled in memory; the bound only keeps a flood from filling it.
const INBOX: usize = 1024;
/// The least that `rumqttc` takes; the broker finds a silent client after 1.5 times this.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Without any acknowledgement for this long while some are due, the client is stuck (known livelock of the crate).
const STUCK: Duration = Duration::from_secs(60);
/// The cap is well below the 8 s after which a lost node loses its pods: when a switch comes back, all nodes shall be heard before
/// those that were a little later are judged.
const RECONNECT: backoff::Policy = backoff::Policy { first: Duration::from_millis(500), cap: Duration::from_secs(5) };
const PACKET_BYTES: u32 = 1024 * 1024;

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// How to connect.
#[derive(Clone)]
pub struct MqttConfig {
    /// Bound to the identity by the broker: the node's name.
    pub client_id: String,
    /// Where the broker is.
    pub at: Place,
    /// Where it is by now, for one that may move.
    pub moves: Option<watch::Receiver<Option<Place>>>,
    /// With a client certificate; `None` is for brokers on loopback.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// User and password, for brokers that want them.
    pub login: Option<(String, String)>,
    /// What to listen to.
    pub filters: Vec<String>,
    /// A retained message that the broker publishes when this client is lost, and this client when it leaves.
    pub will: Option<(String, &'static str)>,
}

struct MqttBus {
    outbox: mpsc::Sender<Publish>,
}

impl Bus for MqttBus {
    fn publish(&self, message: Publish) -> Result<(), Full> {
        self.outbox.try_send(message).map_err(|_| Full)
    }
}

/// Makes the bus. It lives while the returned future is polled (give it to a Supervisor); when `stop` is cancelled the future says
/// farewell with the will, disconnects and ends.
pub fn connect(
    config: MqttConfig,
    stop: CancellationToken,
) -> (Arc<dyn Bus>, mpsc::Receiver<BusEvent>, impl Future<Output = ()> + Send + 'static) {
    let (outbox, to_send) = mpsc::channel(OUTBOX);
    let (events, inbox) = mpsc::channel(INBOX);
    (Arc::new(MqttBus { outbox }), inbox, run(config, to_send, events, stop))
}

async fn run(
    mut config: MqttConfig,
    mut to_send: mpsc::Receiver<Publish>,
    events: mpsc::Sender<BusEvent>,
    stop: CancellationToken,
) {
    let mut rng = Rng::from_os("mqtt reconnect");
    loop {
        let newest = config.moves.as_mut().and_then(|moves| moves.borrow_and_update().clone());
        config.at = newest.unwrap_or(config.at);
        let (client, event_loop) = AsyncClient::new(options(&config), OUTBOX);
        let up = AtomicBool::new(false);
        let poll = Poll { config: &config, client: &client, events: &events, up: &up, rng: &mut rng, stop: &stop };
        tokio::select! {
            ended = poll.run(event_loop) => match ended {
                Ended::Stopped => return,
                Ended::Stuck => tracing::warn!("no acknowledgement from the broker for a minute; starting over"),
            },
            () = forward(&client, &mut to_send, &up, &stop) => return,
            () = moved(config.moves.clone()) => {}
        }
        if events.send(BusEvent::Disconnected).await.is_err() {
            return;
        }
    }
}

/// Ends when the broker is somewhere else than it was.
async fn moved(moves: Option<watch::Receiver<Option<Place>>>) {
    let changed = match moves {
        Some(mut moves) => moves.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

fn options(config: &MqttConfig) -> MqttOptions {
    let mut options = MqttOptions::new(config.client_id.clone(), config.at.host.clone(), config.at.port);
    options.set_keep_alive(KEEP_ALIVE);
    options.set_clean_start(false);
    options.set_outgoing_inflight_upper_limit(100);
    options.set_connection_timeout(10);
    options.set_connect_properties(ConnectProperties {
        session_expiry_interval: Some(3600),
        receive_maximum: Some(100),
        max_packet_size: Some(PACKET_BYTES),
        topic_alias_max: None,
        request_response_info: None,
        request_problem_info: None,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    });
    let mut network = options.network_options();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    if let Some(tls) = &config.tls {
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls.clone())));
    }
    if let Some((user, password)) = &config.login {
        options.set_credentials(user.clone(), password.clone());
    }
    if let Some((topic, payload)) = &config.will {
        options.set_last_will(LastWill::new(topic.clone(), *payload, QoS::AtLeastOnce, true, None));
    }
    options
}

enum Ended {
    Stopped,
    Stuck,
}

struct Poll<'a> {
    config: &'a MqttConfig,
    client: &'a AsyncClient,
    events: &'a mpsc::Sender<BusEvent>,
    up: &'a AtomicBool,
    rng: &'a mut Rng,
    stop: &'a CancellationToken,
}

impl Poll<'_> {
    /// Polls the event loop: `rumqttc` does nothing otherwise. Never waits for the client's own channel (that would be waiting for
    /// itself).
    async fn run(self, mut event_loop: EventLoop) -> Ended {
        let mut failures = 0u32;
        let mut unacknowledged: BTreeSet<u16> = BTreeSet::new();
        let mut last_ack = Instant::now();
        let mut farewell: Option<Instant> = None;
        loop {
            let deadline = farewell.unwrap_or(last_ack + STUCK);
            let polled = tokio::select! {
                polled = event_loop.poll() => polled,
                () = tokio::time::sleep_until(deadline), if farewell.is_some() || !unacknowledged.is_empty() => {
                    return if farewell.is_some() { Ended::Stopped } else { Ended::Stuck };
                }
                () = self.stop.cancelled(), if farewell.is_none() => {
                    if !self.up.load(Ordering::Relaxed) || !self.say_farewell() {
                        return Ended::Stopped;
                    }
                    farewell = Some(Instant::now() + Duration::from_secs(1));
                    continue;
                }
            };
            match polled {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    // Always: a kept session has them already, and the retained messages that come again heal what was missed.
                    let filters = self.config.filters.iter().map(|filter| Filter::new(filter.clone(), QoS::AtLeastOnce));
                    if self.client.try_subscribe_many(filters).is_err() {
                        return Ended::Stuck;
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(_))) => {
                    failures = 0;
                    unacknowledged.clear();
                    self.up.store(true, Ordering::Relaxed);
                    tracing::info!(broker = %self.config.at.host, port = self.config.at.port, "connected to the broker");
                    if self.events.send(BusEvent::Connected).await.is_err() {
                        return Ended::Stopped;
                    }
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let Ok(topic) = String::from_utf8(message.topic.to_vec()) else { continue };
                    let event = BusEvent::Message { topic, payload: message.payload, retained: message.retain };
                    if self.events.send(event).await.is_err() {
                        return Ended::Stopped;
                    }
                }
                Ok(Event::Incoming(Packet::PubAck(ack))) => {
                    unacknowledged.remove(&ack.pkid);
                    last_ack = Instant::now();
                }
                Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                    if unacknowledged.is_empty() {
                        last_ack = Instant::now();
                    }
                    unacknowledged.insert(id);
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) if farewell.is_some() => return Ended::Stopped,
                Ok(_) => {}
                Err(_) if farewell.is_some() => return Ended::Stopped,
                Err(error) => {
                    let was_up = self.up.swap(false, Ordering::Relaxed);
                    if was_up || failures == 0 {
                        tracing::warn!(broker = %self.config.at.host, port = self.config.at.port, %error, "no connection to the broker; trying again");
                    }
                    if was_up && self.events.send(BusEvent::Disconnected).await.is_err() {
                        return Ended::Stopped;
                    }
                    failures = failures.saturating_add(1);
                    unacknowledged.clear();
                    let wait = RECONNECT.jittered(failures, self.rng);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.stop.cancelled() => return Ended::Stopped,
                    }
                }
            }
        }
    }

    /// Queues the will and the end of the session; whether that was possible.
    fn say_farewell(&self) -> bool {
        let will = self.config.will.as_ref().is_none_or(|(topic, payload)| {
            self.client.try_publish(topic.clone(), QoS::AtLeastOnce, true, Bytes::from_static(payload.as_bytes())).is_ok()
        });
        will && self.client.try_disconnect().is_ok()
    }
}

/// Moves messages into the client while there is a connection. Without one they are dropped: everything is told again after
/// [`BusEvent::Connected`], and what is old by then must not overtake it.
async fn forward(client: &AsyncClient, to_send: &mut mpsc::Receiver<Publish>, up: &AtomicBool, stop: &CancellationToken) {
    static DROPPED: AtomicU64 = AtomicU64::new(0);
    while let Some(message) = to_send.recv().await {
        if !up.load(Ordering::Relaxed) {
            tracing::trace!(
                dropped = DROPPED.fetch_add(1, Ordering::Relaxed) + 1,
                topic = message.topic,
                "not connected; not sent"
            );
            continue;
        }
        let properties = PublishProperties { message_expiry_interval: message.expiry_seconds, ..PublishProperties::default() };
        if client
            .publish_with_properties(message.topic, QoS::AtLeastOnce, message.retain, message.payload, properties)
            .await
            .is_err()
        {
            // The event loop is gone; its side tells why.
            break;
        }
    }
    stop.cancelled().await;
    // The poller says farewell.
    std::future::pending::<()>().await;
}
