//! What others said, for as long as they said that it holds.
//!
//! In:       answers of the host's servers, `now`.
//! Out:      the same answers, with what is left of their time; after that, for an hour more, as stale.
//! Never:    keeps the cluster's own names: their answers are made from the share each time.
//! Source:   RFC 2308 (what is not there), RFC 8767 (stale answers: for a home whose line is down).
//!
//! Bounded: 1,000 answers and 512 KiB of them, as they come in a packet; who was asked for longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::clock::Tick;

/// Answers.
const MOST: usize = 1000;
/// Of all of them.
const MOST_BYTES: usize = 512 << 10;
/// One that is larger is not kept.
const ONE_BYTES: usize = 16 << 10;
/// The longest time that an answer is believed.
const LONGEST: Duration = Duration::from_secs(3600);
/// The longest time that a name is believed not to be. Source: RFC 2308 §5 would have hours; a person who just made it should not wait.
const LONGEST_NOTHING: Duration = Duration::from_secs(300);
/// How long after its time an answer may stand in, when nobody answers.
const STALE: Duration = Duration::from_secs(3600);
/// What a stale answer says of its time. Source: RFC 8767 §4.
const STALE_TTL: u32 = 30;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    name: Name,
    kind: RecordType,
}

impl Key {
    /// Of a question, in whatever letters.
    #[must_use]
    pub fn of(query: &Query) -> Self {
        Self { name: query.name().to_lowercase(), kind: query.query_type() }
    }

    /// The question.
    #[must_use]
    pub fn query(&self) -> Query {
        Query::query(self.name.clone(), self.kind)
    }
}

/// What others said of a name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// Whether there is such a name.
    pub code: ResponseCode,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// The start of its zone, where there is nothing.
    pub authorities: Vec<Record>,
}

impl Said {
    /// How long it holds; `None`: not at all.
    fn holds(&self) -> Option<Duration> {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let (shortest, longest) = match self.code {
            ResponseCode::NoError if !self.answers.is_empty() => (self.answers.iter().map(|record| record.ttl).min(), LONGEST),
            ResponseCode::NoError | ResponseCode::NXDomain => {
                let nothing = self.authorities.iter().filter_map(|record| match &record.data {
                    RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
                    _ => None,
                });
                (nothing.min(), LONGEST_NOTHING)
            }
            _ => (None, LONGEST),
        };
        shortest.map(|shortest| seconds(shortest).min(longest)).filter(|time| !time.is_zero())
    }

    fn aged(mut self, by: Aged) -> Self {
        for record in self.answers.iter_mut().chain(&mut self.authorities) {
            record.ttl = match by {
                Aged::Fresh(seconds) => record.ttl.saturating_sub(seconds),
                Aged::Stale => STALE_TTL,
            };
        }
        self
    }

    fn packed(&self) -> Option<Vec<u8>> {
        let mut message = Message::new(0, MessageType::Response, OpCode::Query);
        message.metadata.response_code = self.code;
        message.answers.clone_from(&self.answers);
        message.authorities.clone_from(&self.authorities);
        message.to_vec().ok()
    }

    fn unpacked(bytes: &[u8]) -> Option<Self> {
        let message = Message::from_vec(bytes).ok()?;
        Some(Self { code: message.metadata.response_code, answers: message.answers, authorities: message.authorities })
    }
}

#[derive(Clone, Copy)]
enum Aged {
    Fresh(u32),
    Stale,
}

/// The kept answers. As packets: a record that is read takes ten times the room.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
    /// Who was asked for when.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    packet: Box<[u8]>,
    at: Tick,
    until: Tick,
    stamp: u64,
}

impl Cache {
    /// What still holds of this name.
    #[must_use]
    pub fn fresh(&mut self, key: &Key, now: Tick) -> Option<Said> {
        let entry = self.entries.get_mut(key).filter(|entry| now < entry.until)?;
        self.order.remove(&entry.stamp);
        entry.stamp = self.next;
        self.order.insert(self.next, key.clone());
        self.next += 1;
        let age = u32::try_from(now.since(entry.at).as_secs()).unwrap_or(u32::MAX);
        Some(Said::unpacked(&entry.packet)?.aged(Aged::Fresh(age)))
    }

    /// What held of this name within the last hour.
    #[must_use]
    pub fn stale(&self, key: &Key, now: Tick) -> Option<Said> {
        let entry = self.entries.get(key).filter(|entry| now < entry.until.after(STALE))?;
        Some(Said::unpacked(&entry.packet)?.aged(Aged::Stale))
    }

    /// Keeps an answer, if it holds for any time.
    pub fn keep(&mut self, key: Key, said: &Said, now: Tick) {
        let Some(holds) = said.holds() else { return };
        let Some(packet) = said.packed().filter(|packet| packet.len() <= ONE_BYTES) else { return };
        self.remove(&key);
        self.bytes += packet.len();
        let entry = Entry { packet: packet.into(), at: now, until: now.after(holds), stamp: self.next };
        self.order.insert(self.next, key.clone());
        self.next += 1;
        self.entries.insert(key, entry);
        while self.entries.len() > MOST || self.bytes > MOST_BYTES {
            let Some((_, oldest)) = self.order.pop_first() else { break };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.stamp);
            self.bytes -= entry.packet.len();
        }
    }

    /// How many answers are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::dns::answer::record;
    use hickory_proto::rr::rdata::{SOA, TXT};

    fn key(name: &str) -> Key {
        Key::of(&Query::query(Name::from_ascii(name).unwrap(), RecordType::A))
    }

    fn at(seconds: u64) -> Tick {
        Tick(seconds * 1000)
    }

    fn address(ttl: u32) -> Said {
        let mut one = record(&Name::from_ascii("a.example.").unwrap(), [192, 0, 2, 1].into());
        one.ttl = ttl;
        Said { answers: vec![one], ..Said::default() }
    }

    fn nothing(code: ResponseCode, ttl: u32, minimum: u32) -> Said {
        let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, minimum);
        let soa = Record::from_rdata(Name::from_ascii("example.").unwrap(), ttl, RData::SOA(soa));
        Said { code, authorities: vec![soa], ..Said::default() }
    }

    #[test]
    fn an_answer_holds_as_long_as_it_says_and_stands_in_for_an_hour() {
        let mut cache = Cache::default();
        cache.keep(key("A.example."), &address(100), at(0));
        let ttl = |said: Option<Said>| said.map(|said| said.answers[0].ttl);
        assert_eq!(ttl(cache.fresh(&key("a.EXAMPLE."), at(40))), Some(60));
        assert_eq!(ttl(cache.fresh(&key("a.example."), at(100))), None);
        assert_eq!(ttl(cache.stale(&key("a.example."), at(100))), Some(30));
        assert_eq!(ttl(cache.stale(&key("a.example."), at(3800))), None);
        assert_eq!(cache.fresh(&key("b.example."), at(0)), None);
    }

    #[test]
    fn what_holds_for_how_long() {
        for (said, seconds) in [
            (address(1_000_000), Some(3600)),
            (address(0), None),
            (nothing(ResponseCode::NXDomain, 60, 20), Some(20)),
            (nothing(ResponseCode::NoError, 10, 20), Some(10)),
            (nothing(ResponseCode::NXDomain, 86400, 86400), Some(300)),
            (Said { code: ResponseCode::NXDomain, ..Said::default() }, None),
            (Said { code: ResponseCode::ServFail, ..address(60) }, None),
        ] {
            assert_eq!(said.holds().map(|time| time.as_secs()), seconds, "{said:?}");
        }
    }

    #[test]
    fn the_one_asked_for_longest_ago_goes_first() {
        let mut cache = Cache::default();
        for n in 0..MOST {
            cache.keep(key(&format!("n{n}.example.")), &address(60), at(0));
        }
        assert!(cache.fresh(&key("n0.example."), at(1)).is_some());
        cache.keep(key("new.example."), &address(60), at(1));
        cache.keep(key("new.example."), &address(60), at(1));
        assert_eq!((cache.len(), cache.order.len()), (MOST, MOST));
        assert!(cache.fresh(&key("n0.example."), at(1)).is_some() && cache.fresh(&key("n1.example."), at(1)).is_none());
        let text = |bytes: usize| {
            let data = RData::TXT(TXT::new(vec!["x".repeat(200); bytes / 200]));
            Said { answers: vec![Record::from_rdata(Name::root(), 60, data)], ..Said::default() }
        };
        cache.keep(key("large.example."), &text(20_000), at(1));
        assert!(cache.fresh(&key("large.example."), at(1)).is_none());
        for n in 0..100 {
            cache.keep(key(&format!("l{n}.example.")), &text(10_000), at(1));
        }
        assert!(cache.bytes <= MOST_BYTES && cache.len() < 60, "{} {}", cache.bytes, cache.len());
        assert_eq!(cache.bytes, cache.entries.values().map(|entry| entry.packet.len()).sum::<usize>());
    }
}
