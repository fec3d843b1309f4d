//! An MQTT client for tests, over `rumqttc`: as a node with its own certificate, or as a viewer without any.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bramble::tls::Credentials;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet, PubAckReason, SubscribeReasonCode};
use rumqttc::v5::{Client, Event, MqttOptions};
use rumqttc::{TlsConfiguration, Transport};

const HANG: Duration = Duration::from_secs(10);

/// A message that came.
#[derive(Clone, Debug)]
pub struct Heard {
    pub topic: String,
    pub payload: Vec<u8>,
}

/// One connection. Its thread ends with it.
pub struct Mqtt {
    client: Client,
    events: mpsc::Receiver<Packet>,
    heard: Vec<Heard>,
}

impl Mqtt {
    /// Nobody in particular, on the plain listener.
    pub fn viewer(port: u16) -> Self {
        Self::connect(options("a-person", port)).expect("the viewer is let in")
    }

    /// A node by its certificate (`nodes/<node>/pki` below `data`), under this client id.
    pub fn node(data: &Path, node: &str, client_id: &str, port: u16) -> Result<Self, String> {
        let read = |path: &str| std::fs::read(data.join(path)).unwrap();
        let credentials = Credentials {
            ca: read("pki/ca.crt"),
            chain: read(&format!("nodes/{node}/pki/node.crt")),
            key: read(&format!("nodes/{node}/pki/node.key")),
        };
        let mut options = options(client_id, port);
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(credentials.client().unwrap())));
        Self::connect(options)
    }

    fn connect(options: MqttOptions) -> Result<Self, String> {
        let (client, mut connection) = Client::new(options, 100);
        let (packets, events) = mpsc::channel();
        let (entered, answer) = mpsc::channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Packet::ConnAck(_))) => drop(entered.send(Ok(()))),
                    Ok(Event::Incoming(packet)) => {
                        if packets.send(packet).is_err() {
                            return;
                        }
                    }
                    Ok(Event::Outgoing(_)) => {}
                    // Once is enough: a test wants to know, not to come again.
                    Err(error) => return drop(entered.send(Err(error.to_string()))),
                }
            }
        });
        answer.recv_timeout(HANG).map_err(|_| "no answer to CONNECT".to_owned())??;
        Ok(Self { client, events, heard: Vec::new() })
    }

    fn wait<T>(&mut self, what: &str, most: Duration, pick: impl Fn(&Packet) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + most;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(packet) => {
                    if let Some(found) = pick(&packet) {
                        return Some(found);
                    }
                    if let Packet::Publish(message) = packet {
                        let topic = String::from_utf8_lossy(&message.topic).into_owned();
                        self.heard.push(Heard { topic, payload: message.payload.to_vec() });
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => return None,
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("the connection ended while waiting for {what}"),
            }
        }
    }

    /// Publishes with QoS 1; whether the broker took it.
    pub fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>, retain: bool) -> bool {
        self.client.publish(topic.to_owned(), QoS::AtLeastOnce, retain, payload.into()).unwrap();
        let reason = self.wait(topic, HANG, |packet| if let Packet::PubAck(ack) = packet { Some(ack.reason) } else { None });
        matches!(reason.expect("PUBACK"), PubAckReason::Success | PubAckReason::NoMatchingSubscribers)
    }

    /// Subscribes; whether the broker says that it was granted.
    pub fn subscribe(&mut self, filter: &str) -> bool {
        self.client.subscribe(filter.to_owned(), QoS::AtLeastOnce).unwrap();
        let codes = self.wait(
            filter,
            HANG,
            |packet| if let Packet::SubAck(ack) = packet { Some(ack.return_codes.clone()) } else { None },
        );
        matches!(codes.expect("SUBACK").as_slice(), [SubscribeReasonCode::Success(_)])
    }

    /// What has come so far and within `most` from now.
    pub fn heard(&mut self, most: Duration) -> Vec<Heard> {
        let nothing: Option<()> = self.wait("anything", most, |_| None);
        assert!(nothing.is_none());
        std::mem::take(&mut self.heard)
    }
}

impl Drop for Mqtt {
    fn drop(&mut self) {
        let _ = self.client.try_disconnect();
    }
}

fn options(client_id: &str, port: u16) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", port);
    options.set_keep_alive(Duration::from_secs(5));
    options.set_outgoing_inflight_upper_limit(10);
    let mut properties = ConnectProperties::new();
    properties.max_packet_size = Some(1 << 20);
    options.set_connect_properties(properties);
    options
}
