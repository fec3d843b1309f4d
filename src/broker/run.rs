//! The broker as a part of the master: bind, run, and the master's own end of it.
//!
//! ```text
//! bind(config) ─ all ports are ours, or an error ─▶ Bound ─ run(filters, stop, clock) ─▶ Running { bus, events, handle, task }
//! ```
//! `task` belongs to the Supervisor; it ends after `stop`, when everybody was told.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::acl::{Acl, Client};
use super::counters::Counters;
use super::machine::{Broker, ConnectionId, Effect, Input, Rules};
use super::packet::Connect;
use super::retained::Quota;
use super::session::Limits;
use super::tcp::{Door, listen};
use super::tls::Acceptor;
use super::topic;
use crate::clock::{Clock, Now, SystemClock, Tick};
use crate::link::bus::{Bus, BusEvent, Full, Publish};
use crate::step::Machine;
use crate::tls::{Credentials, Refusals, TlsError};

/// Events between the machine's own bounded queue and the master; small, because the queue is there.
const EVENTS: usize = 256;
/// Events taken at one time.
const TAKE: usize = 128;
/// Everybody is told within this, or cut off.
const STOP: Duration = Duration::from_secs(3);

/// What the broker goes by.
#[derive(Clone)]
pub struct Config {
    /// `bramble/<cluster>`.
    pub base: String,
    /// Home Assistant's, mostly `homeassistant`.
    pub discovery_prefix: String,
    /// Listener without TLS, for viewers; loopback only. Port 0: any free one.
    pub plain: Option<SocketAddr>,
    /// Listener with TLS and required client certificates.
    pub tls: Option<(SocketAddr, Credentials)>,
    /// Which certificates are refused all the same.
    pub refusals: Option<Arc<dyn Refusals>>,
    /// Told to nodes that ask for a longer keep-alive, in seconds (MQTT 5 only).
    pub server_keep_alive: Option<u16>,
    /// The longest packet that a client may send.
    pub max_packet: usize,
    /// Connections of one listener.
    pub max_connections: usize,
    /// From the socket's opening to its CONNECT, TLS included.
    pub login: Duration,
    /// For each 32 KiB, or less, that are written.
    pub write: Duration,
    /// A session is kept no longer than this without a connection.
    pub session_expiry: Duration,
    /// Sessions without a connection that one identity may have.
    pub detached_sessions: usize,
    /// What may wait for one session.
    pub limits: Limits,
    /// What one node may have retained.
    pub retained_per_node: Quota,
}

impl Config {
    /// Without listeners, and with limits for a cluster of 1,000 nodes.
    #[must_use]
    pub fn new(base: impl Into<String>, discovery_prefix: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            discovery_prefix: discovery_prefix.into(),
            plain: None,
            tls: None,
            refusals: None,
            server_keep_alive: None,
            max_packet: 1 << 20,
            max_connections: 2_048,
            login: Duration::from_secs(10),
            write: Duration::from_secs(10),
            session_expiry: Duration::from_secs(24 * 3600),
            detached_sessions: 16,
            limits: Limits { messages: 5_000, bytes: 4 << 20, flying: 100, subscriptions: 200 },
            retained_per_node: Quota { count: 100, bytes: 1 << 20 },
        }
    }
}

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Another program has the port.
    #[error(
        "cannot listen for MQTT on {address}: another program has this port; stop it (`ss -ltnp` shows which it is), or \
         choose another port (0 means any free one)"
    )]
    InUse {
        /// Which.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen for MQTT on {address}; choose an address of this machine that this user may listen on")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The plain listener has no login, so nobody outside of this machine may reach it.
    #[error("will not listen for MQTT without TLS on {address}: give a loopback address (127.0.0.1 or [::1]), or use TLS")]
    NotLoopback {
        /// Which.
        address: SocketAddr,
    },
    /// The certificates do not serve.
    #[error("cannot use the broker's certificates")]
    Tls(#[from] TlsError),
    /// The topics do not serve.
    #[error("{0:?} cannot be the beginning of topics: give one or more levels without `+`, `#` and `$`")]
    Base(String),
}

/// All ports are ours.
pub struct Bound {
    config: Config,
    plain: Option<(TcpListener, SocketAddr)>,
    tls: Option<(TcpListener, SocketAddr, Acceptor)>,
}

/// Takes all ports, before anything else begins.
///
/// # Errors
/// When one cannot be had, or the configuration does not serve.
pub async fn bind(config: Config) -> Result<Bound, BrokerError> {
    for prefix in [&config.base, &config.discovery_prefix] {
        if !topic::is_topic(prefix) || prefix.starts_with(['$', '/']) || prefix.ends_with('/') {
            return Err(BrokerError::Base(prefix.clone()));
        }
    }
    let plain = match config.plain {
        Some(address) if !address.ip().is_loopback() => return Err(BrokerError::NotLoopback { address }),
        Some(address) => Some(take(address).await?),
        None => None,
    };
    let tls = match &config.tls {
        Some((address, credentials)) => {
            let acceptor = Acceptor::new(credentials, config.refusals.clone())?;
            let (listener, address) = take(*address).await?;
            Some((listener, address, acceptor))
        }
        None => None,
    };
    Ok(Bound { config, plain, tls })
}

async fn take(address: SocketAddr) -> Result<(TcpListener, SocketAddr), BrokerError> {
    let wrong = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BrokerError::InUse { address },
        _ => BrokerError::Bind { address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(wrong)?;
    let actual = listener.local_addr().map_err(wrong)?;
    Ok((listener, actual))
}

/// A broker that runs as long as `task` is polled.
pub struct Running {
    /// For the master's messages.
    pub bus: Arc<dyn Bus>,
    /// What the master subscribed to, and signs of life. Begins with [`BusEvent::Connected`].
    pub events: mpsc::Receiver<BusEvent>,
    /// For `status`.
    pub handle: Handle,
    /// For the Supervisor.
    pub task: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Looks into a broker that runs.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

impl Handle {
    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.with(|broker, _, _| broker.counters())
    }

    /// Ends every session of a node: whether it may come back is the listener's to say.
    pub fn expel(&self, node: &str) {
        self.0.give(Input::Expel { node: node.to_owned() });
    }
}

impl Bound {
    /// Where viewers come in: the actual port.
    #[must_use]
    pub fn plain(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(|(_, address)| *address)
    }

    /// Where nodes come in: the actual port.
    #[must_use]
    pub fn tls(&self) -> Option<SocketAddr> {
        self.tls.as_ref().map(|(_, address, _)| *address)
    }

    /// The broker, with the master subscribed to `filters`, until `stop`.
    #[must_use]
    pub fn run(self, filters: Vec<String>, stop: CancellationToken, clock: SystemClock) -> Running {
        let Self { config, plain, tls } = self;
        let rules = Rules {
            acl: Acl::new(&config.base, &config.discovery_prefix),
            max_packet: config.max_packet,
            server_keep_alive: config.server_keep_alive,
            session_expiry: config.session_expiry,
            detached_sessions: config.detached_sessions,
            limits: config.limits,
            quota: config.retained_per_node,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                broker: Broker::new(rules, filters, clock.now()),
                bells: BTreeMap::new(),
                effects: Vec::new(),
                armed: None,
                last_connection: 0,
            }),
            clock,
            timer: Notify::new(),
            master: Notify::new(),
            max_packet: config.max_packet,
            max_connections: config.max_connections,
            login: config.login,
            write: config.write,
        });
        let (sender, events) = mpsc::channel(EVENTS);
        let mut doors = Vec::new();
        doors.extend(plain.map(|(listener, _)| (listener, Door::Plain)));
        doors.extend(tls.map(|(listener, _, acceptor)| (listener, Door::Tls(acceptor))));
        let task = Box::pin(run(doors, shared.clone(), sender, stop));
        Running { bus: Arc::new(Master(shared.clone())), events, handle: Handle(shared), task }
    }
}

async fn run(doors: Vec<(TcpListener, Door)>, shared: Arc<Shared>, sender: mpsc::Sender<BusEvent>, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    for (listener, door) in doors {
        tasks.spawn(listen(listener, door, shared.clone(), stop.clone()));
    }
    tasks.spawn(keep_time(shared.clone(), stop.clone()));
    tasks.spawn(pass_on(shared.clone(), sender, stop.clone()));
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    // Without one of its parts it is no broker: end, and be started again.
                    tracing::error!(%error, "a part of the broker died");
                    shared.give(Input::Stop);
                    return;
                }
            }
        }
    }
    shared.give(Input::Stop);
    let told = tokio::time::timeout(STOP, async { while tasks.join_next().await.is_some() {} }).await;
    tracing::debug!(finished = told.is_ok(), "broker stopped");
}

/// Wakes the machine when it wants to be woken.
async fn keep_time(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let next = shared.arm();
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.clock.sleep_until(next) => {}
            () = shared.timer.notified() => {}
        }
        shared.with(Machine::wake);
    }
}

/// Passes the master's events on, as fast as it takes them; what waits is bounded in the machine.
async fn pass_on(shared: Arc<Shared>, sender: mpsc::Sender<BusEvent>, stop: CancellationToken) {
    loop {
        let events = shared.with(|broker, now, _| broker.take_events(now.tick, TAKE));
        if events.is_empty() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = shared.master.notified() => continue,
            }
        }
        for event in events {
            tokio::select! {
                () = stop.cancelled() => return,
                sent = sender.send(event) => if sent.is_err() {
                    // Nobody listens any more: the daemon is ending.
                    return;
                },
            }
        }
    }
}

/// The machine, and whom to ring.
pub(super) struct Shared {
    state: Mutex<State>,
    clock: SystemClock,
    timer: Notify,
    master: Notify,
    pub max_packet: usize,
    pub max_connections: usize,
    pub login: Duration,
    pub write: Duration,
}

struct State {
    broker: Broker,
    bells: BTreeMap<ConnectionId, Arc<Notify>>,
    effects: Vec<Effect>,
    /// When the timer's task looks next.
    armed: Option<Tick>,
    last_connection: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A task that died while it held the machine is one connection's end, not everybody's.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the machine, and rings whom it names.
    pub fn with<T>(&self, ask: impl FnOnce(&mut Broker, Now, &mut Vec<Effect>) -> T) -> T {
        let mut guard = self.lock();
        let state = &mut *guard;
        let answer = ask(&mut state.broker, self.clock.now(), &mut state.effects);
        for effect in state.effects.drain(..) {
            match effect {
                Effect::Ring(connection) => {
                    if let Some(bell) = state.bells.get(&connection) {
                        bell.notify_one();
                    }
                }
                Effect::RingMaster => self.master.notify_one(),
            }
        }
        let next = state.broker.next_wake();
        if next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed)) {
            state.armed = next;
            self.timer.notify_one();
        }
        answer
    }

    /// Gives the machine an input; tells how many answers wait for that connection.
    pub fn give(&self, input: Input) -> usize {
        let of = match &input {
            Input::Packet { connection, .. } => Some(*connection),
            _ => None,
        };
        self.with(|broker, now, out| {
            broker.handle(now, input, out);
            of.map_or(0, |connection| broker.backlog(connection))
        })
    }

    /// Lets a client in.
    pub fn enter(&self, client: Client, packet: Box<Connect>) -> (ConnectionId, Arc<Notify>) {
        let bell = Arc::new(Notify::new());
        let connection = {
            let mut state = self.lock();
            state.last_connection += 1;
            let connection = ConnectionId(state.last_connection);
            state.bells.insert(connection, bell.clone());
            connection
        };
        tracing::debug!(client = client.name(), id = packet.client_id, connection = connection.0, "connect");
        self.give(Input::Connect { connection, client, packet });
        (connection, bell)
    }

    /// A connection's socket is gone.
    pub fn leave(&self, connection: ConnectionId) {
        self.give(Input::Closed { connection });
        self.lock().bells.remove(&connection);
        tracing::debug!(connection = connection.0, "closed");
    }

    fn arm(&self) -> Option<Tick> {
        let mut state = self.lock();
        state.armed = state.broker.next_wake();
        state.armed
    }
}

/// The master's sending end.
struct Master(Arc<Shared>);

impl Bus for Master {
    fn publish(&self, message: Publish) -> Result<(), Full> {
        self.0.with(|broker, now, out| {
            if broker.is_stopping() {
                return Err(Full);
            }
            broker.handle(now, Input::Publish(message), out);
            Ok(())
        })
    }
}
