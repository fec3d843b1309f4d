//! From one to many: PUBLISH in, the retained store, and every queue that asked for it.

use std::sync::Arc;

use super::{Broker, ConnectionId, Effect};
use crate::broker::acl::Client;
use crate::broker::message::{Delivery, Message};
use crate::broker::packet::{Ack, Id, Packet, Properties, Publish, Qos, Value, Version, reason};
use crate::broker::retained::QuotaExceeded;
use crate::broker::router::SessionId;
use crate::broker::topic;
use crate::clock::Tick;
use crate::link::bus;

impl Broker {
    pub(super) fn publish_from(&mut self, now: Tick, id: ConnectionId, publish: Publish, out: &mut Vec<Effect>) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (session, version, client) = (connection.session, connection.version, connection.client.clone());
        let breach = if version == Version::V5 && publish.qos == Qos::ExactlyOnce {
            Some(reason::QOS_NOT_SUPPORTED)
        } else if publish.properties.get(Id::TopicAlias).is_some() {
            Some(reason::TOPIC_ALIAS_INVALID)
        } else if !topic::is_topic(&publish.topic) {
            Some(reason::TOPIC_INVALID)
        } else if publish.properties.get(Id::SubscriptionIdentifier).is_some()
            || publish.properties.text(Id::ResponseTopic).is_some_and(|topic| !topic::is_topic(topic))
        {
            Some(reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = breach {
            return self.breach(now, id, reason, out);
        }
        let (qos, packet_id) = (publish.qos, publish.id);
        let again = qos == Qos::ExactlyOnce && self.session_of(id).is_some_and(|held| !held.receive(packet_id));
        let result = if again {
            reason::SUCCESS
        } else if !self.rules.acl.may_publish(&client, &publish.topic) {
            tracing::debug!(client = client.name(), topic = &*publish.topic, "publish refused");
            self.counters.refused_publishes += 1;
            reason::NOT_AUTHORIZED
        } else {
            let Publish { topic, payload, qos, retain, properties, .. } = publish;
            self.publish(now, Some(&client), Some(session), Message::new(topic, payload, qos, retain, properties, now), out)
        };
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.answer(id, Packet::PubAck(Ack::new(packet_id, result)), out),
            // Only from 3.1.1, which has no reasons.
            Qos::ExactlyOnce => self.answer(id, Packet::PubRec(Ack::new(packet_id, reason::SUCCESS)), out),
        }
    }

    pub(super) fn release(&mut self, id: ConnectionId, packet_id: u16, out: &mut Vec<Effect>) {
        let known = self.session_of(id).is_some_and(|session| session.release(packet_id));
        let reason = if known { reason::SUCCESS } else { reason::PACKET_ID_NOT_FOUND };
        self.answer(id, Packet::PubComp(Ack::new(packet_id, reason)), out);
    }

    pub(super) fn publish_from_master(&mut self, now: Tick, message: bus::Publish, out: &mut Vec<Effect>) {
        let bus::Publish { topic, payload, retain, expiry_seconds } = message;
        // Like a client's, the master's own mistakes are counted; nothing else could be done about them by trying again.
        if !topic::is_topic(&topic) || !self.rules.acl.may_publish(&Client::Master, &topic) {
            tracing::warn!(topic, "the master may not publish there");
            self.counters.refused_publishes += 1;
            return;
        }
        let mut properties = Properties::default();
        if let Some(seconds) = expiry_seconds {
            properties.push(Id::MessageExpiry, Value::Four(seconds));
        }
        let message = Message::new(topic.into(), payload, Qos::AtLeastOnce, retain, properties, now);
        self.publish(now, None, None, message, out);
    }

    /// Keeps it if it is to be kept, and puts it before everybody who asked for it. `from`: who wrote it, if not the master
    /// in process; `session`: whose No Local counts. The answer is a reason code.
    pub(super) fn publish(
        &mut self,
        now: Tick,
        from: Option<&Client>,
        session: Option<SessionId>,
        message: Message,
        out: &mut Vec<Effect>,
    ) -> u8 {
        let message = Arc::new(message);
        if message.retain {
            let owner = match from {
                Some(Client::Node(name)) => Some(name.as_str()),
                Some(Client::Master | Client::Viewer) | None => None,
            };
            if let Err(QuotaExceeded) = self.retained.set(&message, owner, self.rules.quota) {
                self.counters.over_quota += 1;
                return reason::QUOTA_EXCEEDED;
            }
        }
        self.counters.published += 1;
        if from.is_some()
            && let Some(overflow) = self.master.offer(&message)
        {
            if overflow {
                tracing::warn!("the master does not keep up with its messages; it is told everything again");
                self.counters.resyncs += 1;
            }
            out.push(Effect::RingMaster);
        }
        let matching = self.router.matching(&message.topic);
        for group in matching.chunk_by(|one, other| one.0 == other.0) {
            let mut wanted = group.iter().filter(|(id, found)| !(found.options.no_local && Some(*id) == session)).peekable();
            let Some(&&(id, _)) = wanted.peek() else { continue };
            let mut delivery =
                Delivery { message: message.clone(), qos: Qos::AtMostOnce, retain: false, identifiers: Vec::new() };
            for (_, found) in wanted {
                // Overlapping filters: once, with the best quality of them.
                delivery.qos = delivery.qos.max(found.options.qos.min(message.qos));
                delivery.retain |= message.retain && found.options.retain_as_published;
                delivery.identifiers.extend(found.identifier);
            }
            self.deliver(now, id, delivery, out);
        }
        reason::SUCCESS
    }

    fn deliver(&mut self, now: Tick, id: SessionId, delivery: Delivery, out: &mut Vec<Effect>) {
        let Some(held) = self.sessions.get_mut(&id) else { return };
        if !self.rules.acl.may_receive(&held.client, &delivery.message.topic) || delivery.message.expired(now) {
            return;
        }
        match held.connection {
            Some(connection) => out.push(Effect::Ring(connection)),
            None if delivery.qos == Qos::AtMostOnce => return,
            None => {}
        }
        self.counters.dropped += held.session.offer(delivery, &self.rules.limits);
    }
}
