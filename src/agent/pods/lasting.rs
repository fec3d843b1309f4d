//! What is wrong with a pod for as long as it is, and how often that is said. Pure.
//!
//! In:       what is wrong now, whenever the pod is worded.
//! Out:      what is to be told: at once when it is new, then again with growing pauses, so that `kubectl describe` has words as long
//!           as the pod waits, although the master forgets an event after an hour.
//! Never:    decides what is wrong (`status.rs`, `plan.rs`), or writes: events are in the master's memory only.
//! Source:   a kubelet says it with every sync of the pod, about every two minutes, and its pauses grow to five.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use crate::backoff::Policy;
use crate::clock::Tick;

/// Between two times that the same is told.
const PAUSE: Policy = Policy { first: Duration::from_secs(10), cap: Duration::from_secs(300) };

/// Something that is wrong, as its event has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The part of the pod that it is about; `None`: the pod.
    pub path: Option<String>,
    /// The event's.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// How often something was told, and when it is told again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    times: u32,
    again: Tick,
}

impl Told {
    fn after(times: u32, now: Tick) -> Self {
        Self { times, again: now.after(PAUSE.delay(times)) }
    }
}

/// What is wrong with one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lasting(BTreeMap<Complaint, Told>);

impl Lasting {
    /// Takes in all that is wrong now. What of it is new, in the order in which it was given; what is over is forgotten.
    pub fn new_ones(&mut self, now: Tick, wrong: Vec<Complaint>) -> Vec<Complaint> {
        self.0.retain(|known, _| wrong.contains(known));
        let mut new = Vec::new();
        for complaint in wrong {
            if let Entry::Vacant(place) = self.0.entry(complaint) {
                new.push(place.key().clone());
                place.insert(Told::after(1, now));
            }
        }
        new
    }

    /// What is to be told again.
    pub fn due(&mut self, now: Tick) -> Vec<Complaint> {
        let due = self.0.iter_mut().filter(|(_, told)| told.again <= now);
        due.map(|(complaint, told)| {
            *told = Told::after(told.times.saturating_add(1), now);
            complaint.clone()
        })
        .collect()
    }

    /// When something is to be told again.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.0.values().map(|told| told.again).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(message: &str) -> Complaint {
        Complaint { path: None, reason: "FailedMount", message: message.to_owned() }
    }

    #[test]
    fn the_same_is_told_with_growing_pauses_and_something_else_at_once() {
        let mut lasting = Lasting::default();
        assert_eq!(lasting.new_ones(Tick(0), vec![wrong("a"), wrong("a")]), [wrong("a")]);
        let mut told = Vec::new();
        for second in 1..1000 {
            let now = Tick(second * 1000);
            assert_eq!(lasting.new_ones(now, vec![wrong("a")]), [], "it is known");
            if !lasting.due(now).is_empty() {
                told.push(second);
            }
        }
        assert_eq!(told, [10, 30, 70, 150, 310, 610, 910]);
        assert_eq!(lasting.new_ones(Tick(1_000_000), vec![wrong("b"), wrong("a")]), [wrong("b")]);
        assert_eq!(lasting.next_wake(), Some(Tick(1_010_000)));
        // It was over for a moment: it is news again.
        assert_eq!(lasting.new_ones(Tick(1_001_000), vec![]), []);
        assert_eq!(lasting.next_wake(), None);
        assert_eq!(lasting.new_ones(Tick(1_002_000), vec![wrong("a")]), [wrong("a")]);
        assert_eq!(lasting.next_wake(), Some(Tick(1_012_000)));
    }
}
