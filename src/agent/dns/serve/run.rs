//! Hands: what becomes of one packet, from whomever it came.
//!
//! ```text
//!  begin: own names, kept answers: at once      ┐
//!  finish: the host's servers, up to 4.5 s      ┴▶ a packet back, or none
//! ```
//! Answers go to pods and to the node itself. Whoever else comes here came by a way that is not meant, and is refused; nothing that he
//! sends is forwarded.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use ipnet::Ipv4Net;

use crate::agent::dns::answer::{Answer, Found, lookup};
use crate::agent::dns::disk;
use crate::agent::dns::forward::run::Forwarder;
use crate::agent::dns::forward::stays;
use crate::agent::dns::question::{Over, Question, Read, read};
use crate::agent::dns::zone::Zone;
use crate::clock::{Clock, SystemClock, Tick};

/// Questions of one pod that wait for others: half of all that may. The rest is for its neighbours.
const OF_ONE: u32 = 128;
/// How often the machine's addresses are looked at, at most.
const LOOKS: Duration = Duration::from_secs(5);

/// Answers packets.
pub struct Server {
    /// Who asks the host's servers.
    pub forwarder: Forwarder,
    /// What happened so far.
    pub counters: Counters,
    clock: SystemClock,
    zone: RwLock<Arc<Zone>>,
    range: RwLock<Option<Ipv4Net>>,
    own: Mutex<(Option<Tick>, BTreeSet<Ipv4Addr>)>,
    waiting: Mutex<HashMap<IpAddr, u32>>,
    turn: AtomicUsize,
}

/// Packets, by what became of them.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answered from the share.
    pub cluster: AtomicU64,
    /// Answered from what was kept.
    pub kept: AtomicU64,
    /// Asked for at the host's servers.
    pub forwarded: AtomicU64,
    /// … of which nobody could say.
    pub failed: AtomicU64,
    /// From somebody who is not to ask.
    pub strangers: AtomicU64,
    /// No question, or none that can be answered.
    pub malformed: AtomicU64,
    /// Left alone because too many wait already.
    pub crowded: AtomicU64,
}

/// What becomes of a packet.
pub enum Begun {
    /// This goes back.
    Reply(Vec<u8>),
    /// Nothing goes back.
    Nothing,
    /// Others have to be asked.
    Later(Box<Later>),
}

/// A question for which others have to be asked.
pub struct Later {
    question: Question,
    /// What the cluster's names said before the chain led out of it.
    chain: Option<Answer>,
    _seat: Seat,
}

/// Counts one that waits.
struct Seat {
    server: Arc<Server>,
    of: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut waiting = self.server.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.of);
            }
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Server {
    /// Knows no name yet.
    #[must_use]
    pub fn new(forwarder: Forwarder, clock: SystemClock) -> Self {
        Self {
            forwarder,
            counters: Counters::default(),
            clock,
            zone: RwLock::default(),
            range: RwLock::default(),
            own: Mutex::default(),
            waiting: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Takes the names of a newer share.
    pub fn set_zone(&self, zone: Arc<Zone>) {
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = zone;
    }

    /// The names that it answers.
    #[must_use]
    pub fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the node's own range.
    pub fn set_range(&self, range: Option<Ipv4Net>) {
        *self.range.write().unwrap_or_else(PoisonError::into_inner) = range;
    }

    /// What can be said of a packet at once.
    pub fn begin(self: &Arc<Self>, bytes: &[u8], from: IpAddr, over: Over) -> Begun {
        let question = match read(bytes, over) {
            Read::Question(question) => *question,
            Read::Refuse(reply) => {
                count(&self.counters.malformed);
                return Begun::Reply(reply);
            }
            Read::Nothing => {
                count(&self.counters.malformed);
                return Begun::Nothing;
            }
        };
        let zone = self.zone();
        if !self.may_ask(&zone, from) {
            count(&self.counters.strangers);
            return Begun::Reply(question.failed(ResponseCode::Refused));
        }
        let (name, kind) = (question.query.name(), question.query.query_type());
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        match lookup(&zone, name, kind, turn) {
            Found::NotKnown => Begun::Reply(question.failed(ResponseCode::ServFail)),
            Found::Answer(answer) if answer.onward.is_none() => {
                count(&self.counters.cluster);
                Begun::Reply(question.answered(answer))
            }
            Found::Answer(chain) => self.outside(question, from, Some(chain)),
            Found::NotOurs => {
                if let Some(answer) = stays(name, kind, &self.forwarder.searches()) {
                    return Begun::Reply(question.answered(answer));
                }
                if !question.wants_recursion() {
                    return Begun::Reply(question.failed(ResponseCode::Refused));
                }
                if let Some(said) = self.forwarder.known(&question.query) {
                    count(&self.counters.kept);
                    return Begun::Reply(question.forwarded(said.code, said.answers, said.authorities));
                }
                self.outside(question, from, None)
            }
        }
    }

    fn outside(self: &Arc<Self>, question: Question, from: IpAddr, chain: Option<Answer>) -> Begun {
        let seat = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let of_one = waiting.entry(from).or_default();
            let free = *of_one < OF_ONE;
            *of_one += u32::from(free);
            free.then(|| Seat { server: Arc::clone(self), of: from })
        };
        let Some(seat) = seat else {
            count(&self.counters.crowded);
            return Begun::Reply(question.failed(ResponseCode::ServFail));
        };
        Begun::Later(Box::new(Later { question, chain, _seat: seat }))
    }

    /// Asks others; what goes back.
    pub async fn finish(&self, later: Later) -> Vec<u8> {
        count(&self.counters.forwarded);
        let Later { question, chain, _seat } = later;
        let Some(Answer { mut answers, onward, .. }) = chain else {
            return match self.forwarder.ask(&question.query).await {
                Ok(said) => question.forwarded(said.code, said.answers.clone(), said.authorities.clone()),
                Err(code) => {
                    count(&self.counters.failed);
                    question.failed(code)
                }
            };
        };
        let mut query = question.query.clone();
        query.set_name(onward.unwrap_or_default());
        if let Some(stays) = stays(query.name(), query.query_type(), &self.forwarder.searches()) {
            answers.extend(stays.answers);
            return question.forwarded(stays.code, answers, Vec::new());
        }
        match self.forwarder.ask(&query).await {
            Ok(said) => {
                answers.extend(said.answers.iter().cloned());
                question.forwarded(said.code, answers, said.authorities.clone())
            }
            Err(_) => {
                count(&self.counters.failed);
                question.failed(ResponseCode::ServFail)
            }
        }
    }

    /// Pods, and this machine.
    fn may_ask(&self, zone: &Zone, from: IpAddr) -> bool {
        let from = match from.to_canonical() {
            IpAddr::V4(from) => from,
            IpAddr::V6(from) => return from.is_loopback() || zone.is_of_pods(from.into()),
        };
        let range = *self.range.read().unwrap_or_else(PoisonError::into_inner);
        let of_pods = range.is_some_and(|range| range.contains(&from)) || zone.is_of_pods(from.into());
        of_pods || from.is_loopback() || self.is_own(from)
    }

    fn is_own(&self, from: Ipv4Addr) -> bool {
        let now = self.clock.now().tick;
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if !own.1.contains(&from) && own.0.is_none_or(|looked| now.since(looked) >= LOOKS) {
            // A file of the kernel's, in memory.
            *own = (Some(now), disk::own_addresses());
        }
        own.1.contains(&from)
    }
}
