//! Coming and going: CONNECT, takeover, wills, sessions that outlive their connection.

use std::time::Duration;

use super::{Broker, Connection, ConnectionId, Effect, Held, LastWill, Timer};
use crate::broker::acl::Client;
use crate::broker::message::Message;
use crate::broker::packet::{ConnAck, Connect, Disconnect, Id, Packet, Properties, Qos, Value, Version, Will, reason};
use crate::broker::router::SessionId;
use crate::broker::session::Session;
use crate::broker::topic;
use crate::clock::Tick;

impl Broker {
    pub(super) fn connect(&mut self, now: Tick, id: ConnectionId, client: &Client, connect: Connect, out: &mut Vec<Effect>) {
        if let Err(reason) = self.admit(client, &connect) {
            self.counters.refused_connections += 1;
            let answer = ConnAck {
                session_present: false,
                reason: if connect.version == Version::V5 { reason } else { return_code(reason) },
                properties: Properties::default(),
            };
            self.closing.insert(id, Some((connect.version, Packet::ConnAck(answer))));
            return out.push(Effect::Ring(id));
        }
        let mut properties = self.offers();
        let client_id = if connect.client_id.is_empty() {
            let name = format!("{}-auto-{}", client.name(), id.0);
            properties.push(Id::AssignedClientId, Value::Text(name.clone()));
            name
        } else {
            connect.client_id
        };
        let keep_alive = match self.rules.server_keep_alive {
            Some(ours) if connect.version == Version::V5 && matches!(client, Client::Node(_)) => {
                if connect.keep_alive == 0 || connect.keep_alive > ours {
                    properties.push(Id::ServerKeepAlive, Value::Two(ours));
                    ours
                } else {
                    connect.keep_alive
                }
            }
            _ => connect.keep_alive,
        };
        let session_expiry = match connect.version {
            Version::V311 if connect.clean => Duration::ZERO,
            Version::V311 => self.rules.session_expiry,
            Version::V5 => {
                let asked = connect.properties.number(Id::SessionExpiry).unwrap_or(0);
                let asked = Duration::from_secs(asked.into());
                if asked > self.rules.session_expiry {
                    let ours = u32::try_from(self.rules.session_expiry.as_secs()).unwrap_or(u32::MAX);
                    properties.push(Id::SessionExpiry, Value::Four(ours));
                }
                asked.min(self.rules.session_expiry)
            }
        };
        let (session, session_present) = self.attach(now, id, client, &client_id, connect.clean, out);
        let patience = (keep_alive > 0).then(|| Duration::from_millis(u64::from(keep_alive) * 1500));
        let armed = now.after(patience.unwrap_or_default());
        if patience.is_some() {
            self.timers.insert((armed, Timer::KeepAlive(id)));
        }
        let largest = connect.properties.number(Id::MaximumPacketSize).unwrap_or(u32::MAX);
        let window = connect.properties.number(Id::ReceiveMaximum).unwrap_or(u32::MAX);
        let mut connection = Connection {
            session,
            client: client.clone(),
            version: connect.version,
            patience,
            armed,
            last_packet: now,
            largest: usize::try_from(largest).unwrap_or(usize::MAX),
            window: u16::try_from(window).unwrap_or(u16::MAX).min(self.rules.limits.flying),
            answers: std::collections::VecDeque::new(),
            will: connect.will,
            session_expiry,
        };
        connection.answers.push_back(Packet::ConnAck(ConnAck { session_present, reason: reason::SUCCESS, properties }));
        self.connections.insert(id, connection);
        out.push(Effect::Ring(id));
        self.sign_of_life(now, client, out);
    }

    fn admit(&mut self, client: &Client, connect: &Connect) -> Result<(), u8> {
        if self.stopping {
            return Err(reason::SERVER_SHUTTING_DOWN);
        }
        if connect.properties.get(Id::AuthenticationMethod).is_some() {
            return Err(reason::BAD_AUTHENTICATION_METHOD);
        }
        let nameless = connect.client_id.is_empty();
        let unkept = nameless && connect.version == Version::V311 && !connect.clean;
        if unkept || !(nameless || client.may_be_called(&connect.client_id)) {
            return Err(reason::CLIENT_ID_INVALID);
        }
        let Some(will) = &connect.will else { return Ok(()) };
        if !topic::is_topic(&will.topic) || will.properties.text(Id::ResponseTopic).is_some_and(|topic| !topic::is_topic(topic)) {
            return Err(reason::TOPIC_INVALID);
        }
        if connect.version == Version::V5 && will.qos == Qos::ExactlyOnce {
            return Err(reason::QOS_NOT_SUPPORTED);
        }
        if !self.rules.acl.may_publish(client, &will.topic) {
            self.counters.refused_publishes += 1;
            return Err(reason::NOT_AUTHORIZED);
        }
        Ok(())
    }

    /// What an MQTT 5 client is told of us.
    fn offers(&self) -> Properties {
        Properties::default()
            .with(Id::MaximumQos, Value::Flag(1))
            .with(Id::TopicAliasMaximum, Value::Two(0))
            .with(Id::SharedAvailable, Value::Flag(0))
            .with(Id::MaximumPacketSize, Value::Four(u32::try_from(self.rules.max_packet).unwrap_or(u32::MAX)))
    }

    /// Finds or makes the session, and takes it from whoever holds it; tells whether it goes on.
    fn attach(
        &mut self,
        now: Tick,
        id: ConnectionId,
        client: &Client,
        client_id: &str,
        clean: bool,
        out: &mut Vec<Effect>,
    ) -> (SessionId, bool) {
        let name = (client.clone(), client_id.to_owned());
        if let Some(&session) = self.by_name.get(&name) {
            if let Some(old) = self.sessions.get(&session).and_then(|held| held.connection) {
                self.counters.taken_over += 1;
                self.close(now, old, Some(reason::SESSION_TAKEN_OVER), LastWill::Forget, out);
            }
            // It may be gone with its connection, if it did not ask to be kept.
            if let Some(held) = self.sessions.get_mut(&session) {
                if let Some((at, _)) = held.will.take() {
                    self.timers.remove(&(at, Timer::Will(session)));
                }
                if let Some(at) = held.expires.take() {
                    self.timers.remove(&(at, Timer::Expire(session)));
                }
                held.connection = Some(id);
                if !clean {
                    return (session, true);
                }
                self.remove_session(now, session, out);
            }
        }
        self.last_session += 1;
        let session = SessionId(self.last_session);
        let held = Held {
            client: client.clone(),
            client_id: client_id.to_owned(),
            session: Session::default(),
            connection: Some(id),
            will: None,
            expires: None,
        };
        self.sessions.insert(session, held);
        self.by_name.insert(name, session);
        (session, false)
    }

    pub(super) fn disconnect(&mut self, now: Tick, id: ConnectionId, disconnect: &Disconnect, out: &mut Vec<Effect>) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Some(seconds) = disconnect.properties.number(Id::SessionExpiry) {
            if connection.session_expiry.is_zero() && seconds > 0 {
                return self.breach(now, id, reason::PROTOCOL_ERROR, out);
            }
            connection.session_expiry = Duration::from_secs(seconds.into()).min(self.rules.session_expiry);
        }
        let will = if disconnect.reason == reason::SUCCESS { LastWill::Forget } else { LastWill::Send };
        self.close(now, id, None, will, out);
    }

    /// Ends a connection: it counts no more from here on, and its task is rung to say the last word and go.
    pub(super) fn close(&mut self, now: Tick, id: ConnectionId, reason: Option<u8>, will: LastWill, out: &mut Vec<Effect>) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let word = reason.filter(|_| connection.version == Version::V5);
        let word = word.map(|reason| Packet::Disconnect(Disconnect { reason, properties: Properties::default() }));
        // Answers that still wait are not sent: what was not acknowledged will come again.
        self.closing.insert(id, word.map(|word| (connection.version, word)));
        out.push(Effect::Ring(id));
        self.timers.remove(&(connection.armed, Timer::KeepAlive(id)));
        self.detach(now, connection, will, out);
    }

    fn detach(&mut self, now: Tick, connection: Connection, last_will: LastWill, out: &mut Vec<Effect>) {
        let id = connection.session;
        let Some(held) = self.sessions.get_mut(&id) else { return };
        held.connection = None;
        held.session.detach();
        let will = connection.will.filter(|_| last_will == LastWill::Send && !self.stopping);
        let kept = connection.session_expiry;
        let delay = will.as_ref().and_then(|will| will.properties.number(Id::WillDelay)).unwrap_or(0);
        let delay = Duration::from_secs(delay.into()).min(kept);
        let now_will = match will {
            Some(will) if !delay.is_zero() => {
                held.will = Some((now.after(delay), will));
                self.timers.insert((now.after(delay), Timer::Will(id)));
                None
            }
            will => will,
        };
        if kept.is_zero() {
            self.remove_session(now, id, out);
        } else {
            held.expires = Some(now.after(kept));
            self.timers.insert((now.after(kept), Timer::Expire(id)));
            self.crowd_out(now, &connection.client, out);
        }
        if let Some(will) = now_will {
            self.send_will(now, &connection.client, will, out);
        }
    }

    /// Nobody holds more detached sessions than allowed: the one that ends first goes.
    fn crowd_out(&mut self, now: Tick, client: &Client, out: &mut Vec<Effect>) {
        let from = (client.clone(), String::new());
        let mut detached: Vec<(Tick, SessionId)> = Vec::new();
        for ((owner, _), &id) in self.by_name.range(from..) {
            if owner != client {
                break;
            }
            detached.extend(self.sessions.get(&id).and_then(|held| held.expires).map(|expires| (expires, id)));
        }
        detached.sort_unstable();
        let surplus = detached.len().saturating_sub(self.rules.detached_sessions);
        for (_, id) in detached.into_iter().take(surplus) {
            self.remove_session(now, id, out);
        }
    }

    pub(super) fn remove_session(&mut self, now: Tick, id: SessionId, out: &mut Vec<Effect>) {
        let Some(held) = self.sessions.remove(&id) else { return };
        for filter in held.session.filters() {
            self.router.remove(filter, id);
        }
        if let Some(at) = held.expires {
            self.timers.remove(&(at, Timer::Expire(id)));
        }
        let client = held.client.clone();
        self.by_name.remove(&(held.client, held.client_id));
        // A will waits no longer than its session.
        if let Some((at, will)) = held.will {
            self.timers.remove(&(at, Timer::Will(id)));
            self.send_will(now, &client, will, out);
        }
    }

    pub(super) fn send_will(&mut self, now: Tick, client: &Client, will: Will, out: &mut Vec<Effect>) {
        if self.stopping {
            return;
        }
        let message = Message::new(will.topic, will.payload, will.qos, will.retain, will.properties, now);
        self.publish(now, Some(client), None, message, out);
    }
}

/// 3.1.1's return code for a reason.
fn return_code(reason: u8) -> u8 {
    match reason {
        reason::UNSUPPORTED_VERSION => 1,
        reason::CLIENT_ID_INVALID => 2,
        reason::SERVER_UNAVAILABLE | reason::SERVER_SHUTTING_DOWN => 3,
        _ => 5,
    }
}
