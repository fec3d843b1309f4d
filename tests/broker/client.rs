//! A client that does what a test says and nothing by itself: no reconnects, no acknowledgements, no pings.

use std::net::SocketAddr;
use std::time::Duration;

use bramble::broker::packet::{
    Ack, ConnAck, Connect, Disconnect, Id, Options, Packet, Properties, Publish, Qos, RetainHandling, Subscribe, Value, Version,
    Will, decode, encode, frame,
};
use bramble::tls::Credentials;
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A generous bound that catches a hang.
pub const HANG: Duration = Duration::from_secs(8);
/// Long enough for what would come to come.
pub const QUIET: Duration = Duration::from_millis(150);

pub const OPTIONS: Options =
    Options { qos: Qos::AtLeastOnce, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Always };

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// Where, and as whom.
#[derive(Clone)]
pub struct Place {
    pub address: SocketAddr,
    pub credentials: Option<Credentials>,
    /// Whether to be strict where Mosquitto 2.0.11 is not: it closes TLS connections without the last word, and sends more
    /// than the Receive Maximum once the first acknowledgement has come.
    pub strict: bool,
}

impl Place {
    pub fn tls(address: SocketAddr, credentials: Credentials) -> Self {
        Self { address, credentials: Some(credentials), strict: true }
    }

    pub fn plain(address: SocketAddr) -> Self {
        Self { address, credentials: None, strict: true }
    }

    pub async fn socket(&self) -> Box<dyn Socket> {
        self.try_socket().await.unwrap()
    }

    pub async fn try_socket(&self) -> std::io::Result<Box<dyn Socket>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let Some(credentials) = &self.credentials else { return Ok(Box::new(socket)) };
        let connector = TlsConnector::from(credentials.client().unwrap());
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        Ok(Box::new(connector.connect(name, socket).await?))
    }
}

pub struct Client {
    socket: Box<dyn Socket>,
    version: Version,
    input: BytesMut,
    next_id: u16,
    pub hello: ConnAck,
}

pub fn hello(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        clean: true,
        keep_alive: 60,
        client_id: client_id.to_owned(),
        will: None,
        username: None,
        password: None,
        properties: Properties::default(),
    }
}

pub fn four(id: Id, value: u32) -> Properties {
    Properties::default().with(id, Value::Four(value))
}

pub fn will(topic: &str, payload: &'static str) -> Will {
    let payload = Bytes::from_static(payload.as_bytes());
    Will { topic: topic.into(), payload, qos: Qos::AtLeastOnce, retain: false, properties: Properties::default() }
}

pub fn publish(topic: &str, payload: impl Into<Bytes>) -> Publish {
    let payload = payload.into();
    let properties = Properties::default();
    Publish { dup: false, qos: Qos::AtLeastOnce, retain: false, topic: topic.into(), id: 0, properties, payload }
}

pub fn retained(topic: &str, payload: impl Into<Bytes>) -> Publish {
    Publish { retain: true, ..publish(topic, payload) }
}

impl Client {
    /// Connects and expects to be let in.
    pub async fn enter(place: &Place, packet: Connect) -> Self {
        let client = Self::knock(place, packet).await;
        assert_eq!(client.hello.reason, 0, "refused");
        client
    }

    /// Connects, whatever the answer.
    pub async fn knock(place: &Place, packet: Connect) -> Self {
        let hello = ConnAck { session_present: false, reason: 0, properties: Properties::default() };
        let version = packet.version;
        let mut client = Self { socket: place.socket().await, version, input: BytesMut::new(), next_id: 0, hello };
        client.send(&Packet::Connect(Box::new(packet))).await;
        let Some(Packet::ConnAck(hello)) = client.next().await else { panic!("no CONNACK") };
        client.hello = hello;
        client
    }

    pub async fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        encode(self.version, packet, &mut bytes);
        self.write(&bytes).await.unwrap();
    }

    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes).await?;
        self.socket.flush().await
    }

    /// The next packet; nothing when the other end closed.
    pub async fn next(&mut self) -> Option<Packet> {
        timeout(HANG, self.receive()).await.expect("nothing came")
    }

    /// Expects that nothing comes for a while.
    pub async fn silence(&mut self) {
        if let Ok(packet) = timeout(QUIET, self.receive()).await {
            panic!("expected nothing, got {packet:?}");
        }
    }

    async fn receive(&mut self) -> Option<Packet> {
        loop {
            if let Some(length) = frame(&self.input, usize::MAX).unwrap()
                && length <= self.input.len()
            {
                return Some(decode(self.version, &self.input.split_to(length)).unwrap());
            }
            match self.socket.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Takes so many messages without looking into them.
    pub async fn count(&mut self, wanted: usize) -> usize {
        let mut count = 0;
        timeout(HANG * 2, async {
            while count < wanted {
                while let Some(length) = frame(&self.input, usize::MAX).unwrap()
                    && length <= self.input.len()
                {
                    count += usize::from(self.input.split_to(length)[0] >> 4 == 3);
                }
                if count < wanted && self.socket.read_buf(&mut self.input).await.unwrap_or(0) == 0 {
                    break;
                }
            }
        })
        .await
        .expect("messages are missing");
        count
    }

    /// The next message, acknowledged.
    pub async fn message(&mut self) -> Publish {
        let publish = self.unacknowledged().await;
        if publish.qos == Qos::AtLeastOnce {
            self.send(&Packet::PubAck(Ack::new(publish.id, 0))).await;
        }
        publish
    }

    pub async fn unacknowledged(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// Topic and payload of the next message.
    pub async fn text(&mut self) -> String {
        let publish = self.message().await;
        format!("{}={}", publish.topic, String::from_utf8_lossy(&publish.payload))
    }

    pub async fn subscribe(&mut self, filter: &str) {
        assert_eq!(self.subscribe_as(filter, OPTIONS).await, 1, "{filter}");
    }

    /// The reason code.
    pub async fn subscribe_as(&mut self, filter: &str, options: Options) -> u8 {
        self.next_id += 1;
        let filters = vec![(filter.to_owned(), options)];
        self.send(&Packet::Subscribe(Subscribe { id: self.next_id, properties: Properties::default(), filters })).await;
        match self.next().await {
            Some(Packet::SubAck(ack)) => ack.reasons[0],
            other => panic!("expected a SUBACK, got {other:?}"),
        }
    }

    /// Publishes with quality 1; the reason code. This client must have nothing else to hear.
    pub async fn publish(&mut self, message: Publish) -> u8 {
        self.next_id += 1;
        self.send(&Packet::Publish(Publish { id: self.next_id, ..message })).await;
        match self.next().await {
            // Mosquitto says so when nobody listens.
            Some(Packet::PubAck(ack)) if ack.reason == 0x10 => 0,
            Some(Packet::PubAck(ack)) => ack.reason,
            other => panic!("expected a PUBACK, got {other:?}"),
        }
    }

    pub async fn leave(mut self) {
        self.send(&Packet::Disconnect(Disconnect::default())).await;
        // Closed by the other end: it has taken note.
        while self.next().await.is_some() {}
    }

    /// The reason of the DISCONNECT that the other end closes with; nothing when it just closes.
    pub async fn farewell(&mut self) -> Option<u8> {
        match self.next().await {
            Some(Packet::Disconnect(disconnect)) => Some(disconnect.reason),
            None => None,
            other => panic!("expected the end, got {other:?}"),
        }
    }
}

pub fn hello_with(version: Version, client_id: &str, will: Option<Will>) -> Connect {
    Connect { will, ..hello(version, client_id) }
}
