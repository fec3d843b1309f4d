//! The one machine of the broker: all sessions, who is connected, what is kept, what is due.
//!
//! ```text
//!  tcp.rs ── Connect, Packet, Broken, Closed ──▶ ┌────────┐ ── Ring(connection) ──▶ its task calls pull()
//!  bus    ── Publish ──────────────────────────▶ │ Broker │ ── RingMaster ────────▶ take_events()
//!  timer  ── wake ─────────────────────────────▶ └────────┘
//!
//!  connection:  (handshake in tcp.rs) → live → closing (its last packet waits to be pulled) → gone
//!  session:     live ⇄ detached → gone
//! ```
//!
//! Messages are *pulled*: the machine never hands bytes out by itself, it only rings, and the connection's task takes as
//! much as its socket just took. So a slow reader costs its own bounded queue and nobody else's time.
//!
//! In:       [`Input`], now. Out: [`Effect`]s, and what [`Broker::pull`] appends.
//! Never:    touches sockets (`tcp.rs`) or judges topics (`acl.rs`).
//! Rejected: one task that owns this and is asked over a channel. It costs a hop a message and a queue in front of it that
//!           must be bounded as well. A std mutex around it (`run.rs`), held for one packet, makes each connection pay for
//!           its own packets; measured in a prototype at 5,000 messages a second with 5,000 clients.
//! Differs:  a client that comes back while its old connection still stands is alive, so the old connection's will is not
//!           sent (Mosquitto does the same). The standard would send it, and a node would flap at every change of Wi-Fi.

mod connect;
mod publish;
mod pull;
mod subscribe;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use pull::Pulled;

use super::acl::{Acl, Client};
use super::counters::Counters;
use super::local::Local;
use super::packet::{Connect, DecodeError, Packet, Version, Will, reason};
use super::retained::{Quota, Retained};
use super::router::{Router, SessionId};
use super::session::{Limits, Session};
use crate::clock::{Now, Tick};
use crate::link::bus;
use crate::step::Machine;

/// How often what has expired is looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// A sign of life of one client is passed on at most so often.
const ALIVE: Duration = Duration::from_secs(1);

/// One connection, for as long as the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// What the machine goes by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Who may what.
    pub acl: Acl,
    /// The longest packet that a client may send.
    pub max_packet: usize,
    /// Told to nodes that ask for more, or for none (MQTT 5 only).
    pub server_keep_alive: Option<u16>,
    /// A session is kept no longer than this without a connection.
    pub session_expiry: Duration,
    /// So many sessions without a connection are kept for one identity; the one that is alone for longest goes first.
    pub detached_sessions: usize,
    /// What may wait for one session.
    pub limits: Limits,
    /// What one node may keep.
    pub quota: Quota,
}

/// What can happen.
#[derive(Debug)]
#[allow(missing_docs)] // `connection` is whose it is
pub enum Input {
    /// The first packet came.
    Connect { connection: ConnectionId, client: Client, packet: Box<Connect> },
    /// Another packet came.
    Packet { connection: ConnectionId, packet: Packet },
    /// Something came that is no packet.
    Broken { connection: ConnectionId, error: DecodeError },
    /// The reader is too slow.
    Slow { connection: ConnectionId },
    /// The socket is gone.
    Closed { connection: ConnectionId },
    /// The master publishes.
    Publish(bus::Publish),
    /// A node is no node any more, or has another key: its sessions end, and its wills are sent.
    Expel { node: String },
    /// The broker stops: everybody is told, and no will is sent.
    Stop,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// There is something to pull for this connection.
    Ring(ConnectionId),
    /// There are events for the master.
    RingMaster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    KeepAlive(ConnectionId),
    Will(SessionId),
    Expire(SessionId),
    Sweep,
}

struct Connection {
    session: SessionId,
    client: Client,
    version: Version,
    /// 1.5 times what was agreed.
    patience: Option<Duration>,
    /// When its silence is looked at next.
    armed: Tick,
    last_packet: Tick,
    largest: usize,
    window: u16,
    answers: VecDeque<Packet>,
    will: Option<Will>,
    session_expiry: Duration,
}

/// A session, and what becomes of it while nobody is connected.
struct Held {
    client: Client,
    client_id: String,
    session: Session,
    connection: Option<ConnectionId>,
    will: Option<(Tick, Will)>,
    expires: Option<Tick>,
}

/// What becomes of the last will when a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastWill {
    Send,
    Forget,
}

/// The broker.
pub struct Broker {
    rules: Rules,
    connections: BTreeMap<ConnectionId, Connection>,
    /// What they are still to be told.
    closing: BTreeMap<ConnectionId, Option<(Version, Packet)>>,
    sessions: BTreeMap<SessionId, Held>,
    by_name: BTreeMap<(Client, String), SessionId>,
    last_session: u64,
    router: Router,
    retained: Retained,
    master: Local,
    timers: BTreeSet<(Tick, Timer)>,
    alive: BTreeMap<String, Tick>,
    counters: Counters,
    stopping: bool,
}

impl Broker {
    /// With nobody connected; the master is subscribed to `filters`.
    #[must_use]
    pub fn new(rules: Rules, filters: Vec<String>, now: Now) -> Self {
        Self {
            rules,
            connections: BTreeMap::new(),
            closing: BTreeMap::new(),
            sessions: BTreeMap::new(),
            by_name: BTreeMap::new(),
            last_session: 0,
            router: Router::default(),
            retained: Retained::default(),
            master: Local::new(filters),
            timers: BTreeSet::from([(now.tick.after(SWEEP), Timer::Sweep)]),
            alive: BTreeMap::new(),
            counters: Counters::default(),
            stopping: false,
        }
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        Counters {
            connections: self.connections.len() as u64,
            sessions: self.sessions.len() as u64,
            retained: self.retained.count() as u64,
            ..self.counters
        }
    }

    /// For what the hands count.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Whether [`Input::Stop`] came.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// At most `most` events for the master; none: nothing before the next [`Effect::RingMaster`].
    pub fn take_events(&mut self, now: Tick, most: usize) -> Vec<bus::BusEvent> {
        self.master.take(&self.retained, now, most)
    }

    fn packet(&mut self, now: Tick, id: ConnectionId, packet: Packet, out: &mut Vec<Effect>) {
        // Not there: it is closing, and what it still says does not count.
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.last_packet = now;
        let client = connection.client.clone();
        self.sign_of_life(now, &client, out);
        match packet {
            Packet::Publish(publish) => self.publish_from(now, id, publish, out),
            Packet::PubAck(ack) => {
                if self.session_of(id).is_some_and(|session| session.acknowledge(ack.id)) {
                    out.push(Effect::Ring(id));
                }
            }
            Packet::PubRel(ack) => self.release(id, ack.id, out),
            Packet::Subscribe(subscribe) => self.subscribe(id, &subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(id, &unsubscribe, out),
            Packet::PingReq => self.answer(id, Packet::PingResp, out),
            Packet::Disconnect(disconnect) => self.disconnect(now, id, &disconnect, out),
            Packet::Connect(_)
            | Packet::ConnAck(_)
            | Packet::PubRec(_)
            | Packet::PubComp(_)
            | Packet::SubAck(_)
            | Packet::UnsubAck(_)
            | Packet::PingResp
            | Packet::Auth(_) => self.breach(now, id, reason::PROTOCOL_ERROR, out),
        }
    }

    fn session_of(&mut self, id: ConnectionId) -> Option<&mut Session> {
        let connection = self.connections.get(&id)?;
        self.sessions.get_mut(&connection.session).map(|held| &mut held.session)
    }

    fn answer(&mut self, id: ConnectionId, packet: Packet, out: &mut Vec<Effect>) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.answers.push_back(packet);
            out.push(Effect::Ring(id));
        }
    }

    /// The client did what it may not: it is told why and goes; its will is sent.
    fn breach(&mut self, now: Tick, id: ConnectionId, reason: u8, out: &mut Vec<Effect>) {
        self.counters.malformed += 1;
        self.close(now, id, Some(reason), LastWill::Send, out);
    }

    fn sign_of_life(&mut self, now: Tick, client: &Client, out: &mut Vec<Effect>) {
        let Client::Node(name) = client else { return };
        if self.alive.get(name).is_some_and(|&last| now.since(last) < ALIVE) {
            return;
        }
        self.alive.insert(name.clone(), now);
        self.master.alive(name);
        out.push(Effect::RingMaster);
    }

    fn due(&mut self, now: Tick, timer: Timer, out: &mut Vec<Effect>) {
        match timer {
            Timer::KeepAlive(id) => {
                let Some(connection) = self.connections.get_mut(&id) else { return };
                let Some(patience) = connection.patience else { return };
                let deadline = connection.last_packet.after(patience);
                if deadline > now {
                    connection.armed = deadline;
                    self.timers.insert((deadline, timer));
                } else {
                    self.counters.silent += 1;
                    self.close(now, id, Some(reason::KEEP_ALIVE_TIMEOUT), LastWill::Send, out);
                }
            }
            Timer::Will(id) => {
                let Some(held) = self.sessions.get_mut(&id) else { return };
                let Some((_, will)) = held.will.take() else { return };
                let client = held.client.clone();
                self.send_will(now, &client, will, out);
            }
            Timer::Expire(id) => self.remove_session(now, id, out),
            Timer::Sweep => {
                self.counters.expired += self.retained.expire(now) as u64;
                self.timers.insert((now.after(SWEEP), Timer::Sweep));
            }
        }
    }
}

impl Machine for Broker {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        let now = now.tick;
        match input {
            Input::Connect { connection, client, packet } => self.connect(now, connection, &client, *packet, out),
            Input::Packet { connection, packet } => self.packet(now, connection, packet, out),
            Input::Broken { connection, error } => {
                match error {
                    DecodeError::TooLarge(_) => self.counters.too_large += 1,
                    DecodeError::Malformed(_) | DecodeError::Protocol(_) | DecodeError::UnsupportedVersion => {
                        self.counters.malformed += 1;
                    }
                }
                self.close(now, connection, Some(error.reason()), LastWill::Send, out);
            }
            Input::Slow { connection } => {
                self.counters.slow += 1;
                self.close(now, connection, None, LastWill::Send, out);
            }
            Input::Closed { connection } => {
                self.close(now, connection, None, LastWill::Send, out);
                self.closing.remove(&connection);
            }
            Input::Publish(message) => self.publish_from_master(now, message, out),
            Input::Expel { node } => {
                let client = Client::Node(node);
                let of_it = self.connections.iter().filter(|(_, connection)| connection.client == client);
                let all: Vec<ConnectionId> = of_it.map(|(id, _)| *id).collect();
                for id in all {
                    self.close(now, id, Some(reason::NOT_AUTHORIZED), LastWill::Send, out);
                }
                let sessions: Vec<SessionId> =
                    self.sessions.iter().filter(|(_, held)| held.client == client).map(|(id, _)| *id).collect();
                for id in sessions {
                    self.remove_session(now, id, out);
                }
            }
            Input::Stop => {
                self.stopping = true;
                let all: Vec<ConnectionId> = self.connections.keys().copied().collect();
                for id in all {
                    self.close(now, id, Some(reason::SERVER_SHUTTING_DOWN), LastWill::Forget, out);
                }
            }
        }
    }

    fn wake(&mut self, now: Now, out: &mut Vec<Effect>) {
        while let Some(&(at, timer)) = self.timers.first() {
            if at > now.tick {
                break;
            }
            self.timers.pop_first();
            self.due(now.tick, timer, out);
        }
    }

    fn next_wake(&self) -> Option<Tick> {
        self.timers.first().map(|&(at, _)| at)
    }
}
