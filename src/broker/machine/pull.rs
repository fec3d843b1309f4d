//! What a connection sends next, as bytes.

use bytes::BytesMut;

use super::{Broker, ConnectionId};
use crate::broker::packet::{Packet, Qos, encode};
use crate::broker::session::Next;
use crate::clock::Tick;

/// So many kept topics are looked at in one go, so that a walk over a large cluster does not hold the broker.
const LOOKS: usize = 2_000;

/// What [`Broker::pull`] leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// Nothing more before the next ring.
    All,
    /// There is more: pull again when this is sent.
    More,
    /// That was the last word: send it and close.
    End,
}

impl Broker {
    /// How many answers wait for `id`: who sends without reading is not read any further.
    #[must_use]
    pub fn backlog(&self, id: ConnectionId) -> usize {
        self.connections.get(&id).map_or(0, |connection| connection.answers.len())
    }

    /// Appends what `id` is to be sent, until `out` holds `budget` bytes or more.
    pub fn pull(&mut self, now: Tick, id: ConnectionId, out: &mut BytesMut, budget: usize) -> Pulled {
        let Some(connection) = self.connections.get_mut(&id) else {
            if let Some(Some((version, word))) = self.closing.get_mut(&id).map(Option::take) {
                encode(version, &word, out);
            }
            return Pulled::End;
        };
        let mut looks = LOOKS;
        while out.len() < budget {
            if let Some(answer) = connection.answers.pop_front() {
                encode(connection.version, &answer, out);
                continue;
            }
            let Some(held) = self.sessions.get_mut(&connection.session) else { return Pulled::All };
            let window = connection.window;
            match held.session.next(&self.retained, window, now, &mut looks, &mut self.counters.expired) {
                Next::Send(publish) => {
                    let start = out.len();
                    let (qos, packet_id) = (publish.qos, publish.id);
                    // What a walk finds is not looked at by `deliver`.
                    let allowed = self.rules.acl.may_receive(&connection.client, &publish.topic);
                    if allowed {
                        encode(connection.version, &Packet::Publish(publish), out);
                    }
                    let fits = out.len() - start <= connection.largest;
                    if allowed && fits {
                        self.counters.delivered += 1;
                        continue;
                    }
                    // As if it had been sent and acknowledged (MQTT 5.0 §3.1.2.11.4).
                    out.truncate(start);
                    self.counters.too_large_for_receiver += u64::from(!fits);
                    if qos > Qos::AtMostOnce {
                        held.session.acknowledge(packet_id);
                    }
                }
                Next::Again if looks == 0 => return Pulled::More,
                Next::Again => {}
                Next::Nothing => return Pulled::All,
            }
        }
        Pulled::More
    }
}
