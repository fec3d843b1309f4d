//! The master's own subscriptions, in process: no packets, no acknowledgements.
//!
//! What waits for the master is bounded. When it does not keep up, all that waits is thrown away and it is told
//! [`BusEvent::Disconnected`] and [`BusEvent::Connected`], then every retained message again: exactly what a broker's
//! restart looks like, which it must survive anyway. Nothing is lost in silence.
//!
//! It does not receive what it publishes itself (as with MQTT 5's No Local).

use std::collections::VecDeque;
use std::mem::size_of;

use super::message::Message;
use super::retained::{AtEnd, Cursor, Retained};
use super::topic;
use crate::clock::Tick;
use crate::link::bus::BusEvent;

/// Half a second of the heaviest traffic that was measured (5,000 messages a second), times five.
const MOST: usize = 12_500;
/// All that waits, together.
const MOST_BYTES: usize = 16 << 20;

/// The master's end.
#[derive(Debug)]
pub struct Local {
    filters: Vec<String>,
    waiting: VecDeque<BusEvent>,
    bytes: usize,
    walks: VecDeque<Cursor>,
}

fn weight(event: &BusEvent) -> usize {
    let inside = match event {
        BusEvent::Message { topic, payload, .. } => topic.len() + payload.len(),
        BusEvent::Alive { client } => client.len(),
        BusEvent::Connected | BusEvent::Disconnected => 0,
    };
    inside + size_of::<BusEvent>()
}

fn event(message: &Message, retained: bool) -> BusEvent {
    BusEvent::Message { topic: message.topic.to_string(), payload: message.payload.clone(), retained }
}

impl Local {
    /// Connected, and subscribed to `filters`.
    #[must_use]
    pub fn new(filters: Vec<String>) -> Self {
        Self { filters, waiting: VecDeque::from([BusEvent::Connected]), bytes: size_of::<BusEvent>(), walks: VecDeque::new() }
    }

    /// Takes a message if a filter asks for it. `Some(true)`: all that waited had to go.
    pub fn offer(&mut self, message: &Message) -> Option<bool> {
        if !self.filters.iter().any(|filter| topic::matches(filter, &message.topic)) {
            return None;
        }
        self.push(event(message, false));
        let too_much = self.waiting.len() > MOST || self.bytes > MOST_BYTES;
        if too_much {
            self.waiting.clear();
            self.bytes = 0;
            self.push(BusEvent::Disconnected);
            self.push(BusEvent::Connected);
            self.walks = self.filters.iter().map(|filter| Cursor::new(filter)).collect();
        }
        Some(too_much)
    }

    /// A sign of life. Left out while much waits: another comes.
    pub fn alive(&mut self, client: &str) {
        if self.waiting.len() < MOST / 2 {
            self.push(BusEvent::Alive { client: client.to_owned() });
        }
    }

    fn push(&mut self, event: BusEvent) {
        self.bytes += weight(&event);
        self.waiting.push_back(event);
    }

    /// Takes out at most `most` events; none: nothing before something happens.
    pub fn take(&mut self, retained: &Retained, now: Tick, most: usize) -> Vec<BusEvent> {
        let count = most.min(self.waiting.len());
        let mut events: Vec<BusEvent> = self.waiting.drain(..count).collect();
        self.bytes -= events.iter().map(weight).sum::<usize>();
        let mut looks = usize::MAX;
        while events.len() < most {
            let Some(cursor) = self.walks.front_mut() else { break };
            match retained.next(cursor, now, &mut looks) {
                Ok(Some(message)) => events.push(event(&message, true)),
                Ok(None) => break,
                Err(AtEnd) => drop(self.walks.pop_front()),
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::packet::{Properties, Qos};
    use super::super::retained::Quota;
    use super::*;

    #[test]
    fn who_does_not_keep_up_is_told_everything_again() {
        let message = |topic: &str, retain| {
            let payload = Bytes::from_static(b"x");
            Arc::new(Message::new(topic.into(), payload, Qos::AtLeastOnce, retain, Properties::default(), Tick(0)))
        };
        let mut retained = Retained::default();
        retained.set(&message("b/health", true), None, Quota { count: 1, bytes: 1 }).unwrap();
        let mut local = Local::new(vec!["b/#".to_owned()]);
        assert_eq!(local.offer(&message("c/x", false)), None);
        let lost = (0..=MOST).filter(|_| local.offer(&message("b/up", false)) == Some(true)).count();
        assert_eq!(lost, 1);
        let events = local.take(&retained, Tick(0), 4);
        assert!(
            matches!(
                events.as_slice(),
                [BusEvent::Disconnected, BusEvent::Connected, BusEvent::Message { topic: up, retained: false, .. }, BusEvent::Message { topic: kept, retained: true, .. }]
                    if up == "b/up" && kept == "b/health"
            ),
            "{events:?}"
        );
        assert!(local.take(&retained, Tick(0), 4).is_empty() && local.bytes == 0);
    }
}
