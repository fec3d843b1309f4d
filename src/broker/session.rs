//! What the broker holds for one client, connected or not: its subscriptions, what waits for it, what it has not
//! acknowledged yet.
//!
//! ```text
//! offer ─▶ waiting ──next()──▶ flying ──acknowledge()──▶ gone
//! subscribe ─▶ walks ─────────────▲  │
//!                                 └──┘ detach(): to be sent once more, with DUP
//! ```
//!
//! Both `waiting` and its bytes are bounded; the oldest goes first, because what crosses here is level-triggered and the
//! newest state is the one that counts. Retained messages are walked, not copied: a new subscriber to 30,000 topics costs a
//! cursor.
//!
//! Never:    knows the connection's bytes (`machine/pull.rs`) or who may (`acl.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::message::Delivery;
use super::packet::{Publish, Qos};
use super::retained::{AtEnd, Cursor, Retained};
use super::router::Subscription;
use crate::clock::Tick;

/// How much may wait for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub messages: usize,
    /// Bytes, all messages together; one message is always taken.
    pub bytes: usize,
    /// Messages that are not acknowledged yet; the client's Receive Maximum may lower it.
    pub flying: u16,
    /// Filters.
    pub subscriptions: usize,
}

#[derive(Debug)]
struct Flying {
    id: u16,
    delivery: Delivery,
    /// On the present connection.
    sent: bool,
}

#[derive(Debug)]
struct Walk {
    cursor: Cursor,
    subscription: Subscription,
}

/// What a session sends next.
#[derive(Debug)]
pub enum Next {
    /// This.
    Send(Publish),
    /// Something was skipped, or the looks are used up: ask again.
    Again,
    /// Nothing before something happens.
    Nothing,
}

/// One client's.
#[derive(Debug, Default)]
pub struct Session {
    subscriptions: BTreeMap<String, Subscription>,
    waiting: VecDeque<Delivery>,
    bytes: usize,
    flying: VecDeque<Flying>,
    last_id: u16,
    walks: VecDeque<Walk>,
    /// Identifiers of inbound messages of quality 2 that were taken and not released yet.
    received: BTreeSet<u16>,
}

impl Session {
    /// Its filters.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.keys().map(String::as_str)
    }

    /// How many filters it has.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Whether it has this filter.
    #[must_use]
    pub fn has(&self, filter: &str) -> bool {
        self.subscriptions.contains_key(filter)
    }

    /// Notes a subscription; tells whether it is new.
    pub fn subscribe(&mut self, filter: &str, subscription: Subscription) -> bool {
        self.subscriptions.insert(filter.to_owned(), subscription).is_none()
    }

    /// Forgets a subscription; tells whether it was there.
    pub fn unsubscribe(&mut self, filter: &str) -> bool {
        self.walks.retain(|walk| walk.cursor.filter() != filter);
        self.subscriptions.remove(filter).is_some()
    }

    /// Sends the retained messages that `filter` gets, from the beginning.
    pub fn walk(&mut self, filter: &str, subscription: Subscription) {
        self.walks.retain(|walk| walk.cursor.filter() != filter);
        self.walks.push_back(Walk { cursor: Cursor::new(filter), subscription });
    }

    /// Takes a message for later; tells how many older ones had to go for it.
    pub fn offer(&mut self, delivery: Delivery, limits: &Limits) -> u64 {
        self.bytes += delivery.message.weight();
        self.waiting.push_back(delivery);
        let mut dropped = 0;
        while self.waiting.len() > 1 && (self.waiting.len() > limits.messages || self.bytes > limits.bytes) {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Delivery> {
        let delivery = self.waiting.pop_front()?;
        self.bytes -= delivery.message.weight();
        Some(delivery)
    }

    /// What to send now: first what may have been lost, then what waits, then retained messages. At most `window` of
    /// quality 1 are on their way. `expired` counts what nobody needs any more.
    pub fn next(&mut self, retained: &Retained, window: u16, now: Tick, looks: &mut usize, expired: &mut u64) -> Next {
        let on_the_way = self.flying.iter().filter(|flying| flying.sent).count();
        let room = on_the_way < usize::from(window);
        if room && let Some(again) = self.flying.iter_mut().find(|flying| !flying.sent) {
            again.sent = true;
            return Next::Send(again.delivery.publish(again.id, true, now));
        }
        if let Some(front) = self.waiting.front() {
            if front.message.expired(now) {
                self.pop();
                *expired += 1;
                return Next::Again;
            }
            if front.qos > Qos::AtMostOnce && !room {
                return Next::Nothing;
            }
            return self.pop().map_or(Next::Nothing, |delivery| self.send(delivery, now));
        }
        let Some(walk) = self.walks.front_mut() else { return Next::Nothing };
        if walk.subscription.options.qos > Qos::AtMostOnce && !room {
            return Next::Nothing;
        }
        match retained.next(&mut walk.cursor, now, looks) {
            Ok(Some(message)) => {
                let qos = message.qos.min(walk.subscription.options.qos);
                let identifiers = walk.subscription.identifier.into_iter().collect();
                self.send(Delivery { message, qos, retain: true, identifiers }, now)
            }
            Ok(None) => Next::Again,
            Err(AtEnd) => {
                self.walks.pop_front();
                Next::Again
            }
        }
    }

    fn send(&mut self, delivery: Delivery, now: Tick) -> Next {
        if delivery.qos == Qos::AtMostOnce {
            return Next::Send(delivery.publish(0, false, now));
        }
        let id = self.free_id();
        let publish = delivery.publish(id, false, now);
        self.flying.push_back(Flying { id, delivery, sent: true });
        Next::Send(publish)
    }

    fn free_id(&mut self) -> u16 {
        // Ends: `flying` is bounded far below 65,535.
        loop {
            self.last_id = if self.last_id == u16::MAX { 1 } else { self.last_id + 1 };
            if self.flying.iter().all(|flying| flying.id != self.last_id) {
                return self.last_id;
            }
        }
    }

    /// The client has it; tells whether it was on its way at all.
    pub fn acknowledge(&mut self, id: u16) -> bool {
        let place = self.flying.iter().position(|flying| flying.id == id && flying.sent);
        place.and_then(|place| self.flying.remove(place)).is_some()
    }

    /// The connection is gone: what was not acknowledged is sent again on the next one, what had quality 0 never.
    pub fn detach(&mut self) {
        for flying in &mut self.flying {
            flying.sent = false;
        }
        self.waiting.retain(|delivery| delivery.qos > Qos::AtMostOnce);
        self.bytes = self.waiting.iter().map(|delivery| delivery.message.weight()).sum();
    }

    /// Notes an inbound message of quality 2; tells whether it comes for the first time.
    pub fn receive(&mut self, id: u16) -> bool {
        self.received.insert(id)
    }

    /// The sender will not send it again; tells whether it was there.
    pub fn release(&mut self, id: u16) -> bool {
        self.received.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::message::Message;
    use super::super::packet::{Options, Properties, RetainHandling};
    use super::super::retained::Quota;
    use super::*;

    const LIMITS: Limits = Limits { messages: 3, bytes: 10_000, flying: 2, subscriptions: 10 };

    fn message(payload: &str) -> Arc<Message> {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Arc::new(Message::new("t".into(), payload, Qos::AtLeastOnce, true, Properties::default(), Tick(0)))
    }

    fn delivery(payload: &str, qos: Qos) -> Delivery {
        Delivery { message: message(payload), qos, retain: false, identifiers: Vec::new() }
    }

    fn sent(session: &mut Session, window: u16) -> Vec<(String, u16, bool)> {
        let (retained, mut out) = (Retained::default(), Vec::new());
        loop {
            match session.next(&retained, window, Tick(0), &mut 100, &mut 0) {
                Next::Send(publish) => {
                    out.push((String::from_utf8_lossy(&publish.payload).into_owned(), publish.id, publish.dup));
                }
                Next::Again => {}
                Next::Nothing => return out,
            }
        }
    }

    #[test]
    fn the_oldest_goes_when_too_many_wait_or_too_many_bytes() {
        let mut session = Session::default();
        let dropped: u64 = (0..5).map(|n| session.offer(delivery(&n.to_string(), Qos::AtLeastOnce), &LIMITS)).sum();
        assert_eq!(dropped, 2);
        assert_eq!(session.offer(delivery(&"x".repeat(9_900), Qos::AtLeastOnce), &LIMITS), 3);
        // A message larger than the limit is taken alone.
        assert_eq!(session.offer(delivery(&"y".repeat(20_000), Qos::AtLeastOnce), &LIMITS), 1);
        assert_eq!(session.waiting.len(), 1);
    }

    #[test]
    fn no_more_are_on_their_way_than_the_window_and_order_holds() {
        let mut session = Session::default();
        for name in ["a", "b", "c"] {
            session.offer(delivery(name, Qos::AtLeastOnce), &LIMITS);
        }
        assert_eq!(sent(&mut session, 2), [("a".to_owned(), 1, false), ("b".to_owned(), 2, false)]);
        assert!(session.acknowledge(1) && !session.acknowledge(1) && !session.acknowledge(9));
        assert_eq!(sent(&mut session, 2), [("c".to_owned(), 3, false)]);
    }

    #[test]
    fn what_was_not_acknowledged_comes_again_first_as_a_duplicate() {
        let mut session = Session::default();
        session.offer(delivery("a", Qos::AtLeastOnce), &LIMITS);
        session.offer(delivery("b", Qos::AtLeastOnce), &LIMITS);
        assert_eq!(sent(&mut session, 1).len(), 1);
        session.offer(delivery("zero", Qos::AtMostOnce), &LIMITS);
        session.detach();
        assert!(!session.acknowledge(1), "an acknowledgement from before the cut is not for this connection");
        assert_eq!(sent(&mut session, 2), [("a".to_owned(), 1, true), ("b".to_owned(), 2, false)]);
    }

    #[test]
    fn retained_messages_come_after_what_waits_and_obey_the_window() {
        let (mut session, mut retained) = (Session::default(), Retained::default());
        retained.set(&message("kept"), None, Quota { count: 9, bytes: 9_999 }).unwrap();
        let options = Options {
            qos: Qos::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
        };
        session.walk("#", Subscription { options, identifier: Some(7) });
        session.offer(delivery("live", Qos::AtLeastOnce), &LIMITS);
        let next = |session: &mut Session| session.next(&retained, 1, Tick(0), &mut 9, &mut 0);
        assert!(matches!(next(&mut session), Next::Send(publish) if publish.payload == "live"));
        assert!(matches!(next(&mut session), Next::Nothing));
        session.acknowledge(1);
        assert!(matches!(next(&mut session), Next::Send(publish) if publish.payload == "kept" && publish.retain));
    }

    #[test]
    fn identifiers_go_round_and_skip_those_in_use() {
        let mut session = Session { last_id: u16::MAX - 1, ..Session::default() };
        for name in ["a", "b", "c"] {
            session.offer(delivery(name, Qos::AtLeastOnce), &LIMITS);
        }
        let ids: Vec<u16> = sent(&mut session, 9).into_iter().map(|(_, id, _)| id).collect();
        assert_eq!(ids, [u16::MAX, 1, 2]);
    }
}
