//! SUBSCRIBE and UNSUBSCRIBE.

use super::{Broker, ConnectionId, Effect};
use crate::broker::packet::{
    Id, Options, Packet, Properties, Qos, RetainHandling, SubAck, Subscribe, Unsubscribe, Version, reason,
};
use crate::broker::router::Subscription;
use crate::broker::topic;

impl Broker {
    pub(super) fn subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe, out: &mut Vec<Effect>) {
        let Some(version) = self.connections.get(&id).map(|connection| connection.version) else { return };
        let identifier = subscribe.properties.number(Id::SubscriptionIdentifier);
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        for (filter, options) in &subscribe.filters {
            let reason = match self.subscribe_one(id, filter, *options, identifier) {
                Ok(granted) => granted.bits(),
                Err(reason) => {
                    tracing::debug!(filter, reason, "subscription refused");
                    self.counters.refused_subscriptions += 1;
                    if version == Version::V5 { reason } else { reason::UNSPECIFIED }
                }
            };
            reasons.push(reason);
        }
        let answer = SubAck { id: subscribe.id, properties: Properties::default(), reasons };
        self.answer(id, Packet::SubAck(answer), out);
    }

    fn subscribe_one(&mut self, id: ConnectionId, filter: &str, options: Options, identifier: Option<u32>) -> Result<Qos, u8> {
        let connection = self.connections.get(&id).ok_or(reason::UNSPECIFIED)?;
        if topic::is_shared(filter) {
            return Err(reason::SHARED_NOT_SUPPORTED);
        }
        if !topic::is_filter(filter) {
            return Err(reason::FILTER_INVALID);
        }
        if !self.rules.acl.may_subscribe(&connection.client, filter) {
            return Err(reason::NOT_AUTHORIZED);
        }
        let session = connection.session;
        let held = self.sessions.get_mut(&session).ok_or(reason::UNSPECIFIED)?;
        if held.session.subscription_count() >= self.rules.limits.subscriptions && !held.session.has(filter) {
            return Err(reason::QUOTA_EXCEEDED);
        }
        let granted = options.qos.min(Qos::AtLeastOnce);
        let subscription = Subscription { options: Options { qos: granted, ..options }, identifier };
        let new = held.session.subscribe(filter, subscription);
        let wanted = match options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => new,
            RetainHandling::Never => false,
        };
        if wanted {
            held.session.walk(filter, subscription);
        }
        self.router.insert(filter, session, subscription);
        Ok(granted)
    }

    pub(super) fn unsubscribe(&mut self, id: ConnectionId, unsubscribe: &Unsubscribe, out: &mut Vec<Effect>) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (session, version) = (connection.session, connection.version);
        let mut reasons = Vec::new();
        for filter in &unsubscribe.filters {
            self.router.remove(filter, session);
            let known = self.sessions.get_mut(&session).is_some_and(|held| held.session.unsubscribe(filter));
            if version == Version::V5 {
                reasons.push(if known { reason::SUCCESS } else { reason::NO_SUBSCRIPTION_EXISTED });
            }
        }
        let answer = SubAck { id: unsubscribe.id, properties: Properties::default(), reasons };
        self.answer(id, Packet::UnsubAck(answer), out);
    }
}
