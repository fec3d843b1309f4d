//! Pods that wait for a node: those to try now, those to try later, and those that wait for something to change.
//!
//! ```text
//! add ─▶ active ─take─▶ (decided) ─refused─▶ parked ─wake: what refused them may have changed─▶ backing off ─due─▶ active
//! ```
//!
//! Source:   kube-scheduler's `scheduling_queue.go`: back-off from 1 s to 10 s, and a flush of those parked for long (there
//!           after 5 min, here after 1 min, because it costs little).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::filter::{Rule, Rules};
use super::snapshot::Meaning;
use crate::api::Key;
use crate::backoff::Policy;
use crate::clock::Tick;

const BACKOFF: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(10) };
const PARKED_AT_MOST: Duration = Duration::from_secs(60);

/// The pods that wait.
#[derive(Debug, Default)]
pub struct Queue {
    /// By priority, then by arrival.
    active: BTreeSet<(Reverse<i64>, u64, Key)>,
    backing_off: BTreeSet<(Tick, Key)>,
    places: BTreeMap<Key, Waiting>,
    sequence: u64,
}

#[derive(Debug)]
struct Waiting {
    priority: i64,
    refused: u32,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Active(u64),
    BackingOff(Tick),
    Parked {
        rules: Rules,
        since: Tick,
    },
    /// Given out by `take`.
    Out,
}

impl Queue {
    /// A pod is new, or asks for something else than before: it is tried at once.
    pub fn add(&mut self, key: Key, priority: i64) {
        let refused = 0;
        self.leave(&key);
        self.activate(key, priority, refused);
    }

    /// A pod that must be waiting somewhere: is it, nothing changes.
    pub fn ensure(&mut self, key: Key, priority: i64) {
        if !self.places.contains_key(&key) {
            self.add(key, priority);
        }
    }

    /// The pod needs no node any more.
    pub fn remove(&mut self, key: &Key) {
        self.leave(key);
    }

    /// The next pods to decide, most important first.
    pub fn take(&mut self, limit: usize, now: Tick) -> Vec<Key> {
        while let Some((at, key)) = self.backing_off.first().cloned()
            && at <= now
        {
            let Some(waiting) = self.leave(&key) else { break };
            self.activate(key, waiting.priority, waiting.refused);
        }
        let mut out = Vec::new();
        while out.len() < limit
            && let Some((_, _, key)) = self.active.pop_first()
        {
            if let Some(waiting) = self.places.get_mut(&key) {
                waiting.place = Place::Out;
            }
            out.push(key);
        }
        out
    }

    /// No node can take the pod that was given out, because of these rules.
    pub fn refused(&mut self, key: &Key, rules: Rules, now: Tick) {
        if let Some(waiting) = self.places.get_mut(key)
            && matches!(waiting.place, Place::Out)
        {
            waiting.refused = waiting.refused.saturating_add(1);
            waiting.place = Place::Parked { rules, since: now };
        }
    }

    /// The pod that was given out waits for an answer, at most until then.
    pub fn hold(&mut self, key: &Key, until: Tick) {
        if let Some(waiting) = self.places.get_mut(key)
            && matches!(waiting.place, Place::Out)
        {
            waiting.place = Place::BackingOff(until);
            self.backing_off.insert((until, key.clone()));
        }
    }

    /// The pod that was given out waits for something that is on its way, and is tried as soon as it is there.
    pub fn waits(&mut self, key: &Key, rules: Rules, now: Tick) {
        if let Some(waiting) = self.places.get_mut(key)
            && matches!(waiting.place, Place::Out)
        {
            waiting.refused = 0;
            waiting.place = Place::Parked { rules, since: now };
        }
    }

    /// The pod that was given out could not be bound: the next try is at once.
    pub fn lost(&mut self, key: &Key) {
        if let Some(waiting) = self.leave(key) {
            self.activate(key.clone(), waiting.priority, waiting.refused);
        }
    }

    /// Something changed: those whose refusal it may undo are tried again, after their back-off.
    pub fn wake(&mut self, meaning: Meaning) {
        let concerns = |rules: &Rules| match meaning {
            Meaning::None => false,
            Meaning::NodeChanged => true,
            Meaning::Freed => [Rule::Resources, Rule::Ports, Rule::Volumes].iter().any(|rule| rules.contains(rule)),
            Meaning::VolumesChanged => rules.contains(&Rule::Volumes) || rules.contains(&Rule::Binding),
        };
        if meaning != Meaning::None {
            self.unpark(|rules, _| concerns(rules));
        }
    }

    /// Those that are parked for long are tried again, whatever they wait for.
    pub fn flush(&mut self, now: Tick) {
        self.unpark(|_, since| now.since(since) >= PARKED_AT_MOST);
    }

    /// When to call [`Queue::take`] next, if nothing happens before; tick 0 for at once.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        if !self.active.is_empty() {
            return Some(Tick(0));
        }
        self.backing_off.first().map(|(at, _)| *at)
    }

    fn unpark(&mut self, wanted: impl Fn(&Rules, Tick) -> bool) {
        for (key, waiting) in &mut self.places {
            if let Place::Parked { rules, since } = &waiting.place
                && wanted(rules, *since)
            {
                let at = since.after(BACKOFF.delay(waiting.refused));
                waiting.place = Place::BackingOff(at);
                self.backing_off.insert((at, key.clone()));
            }
        }
    }

    fn activate(&mut self, key: Key, priority: i64, refused: u32) {
        self.sequence += 1;
        self.active.insert((Reverse(priority), self.sequence, key.clone()));
        self.places.insert(key, Waiting { priority, refused, place: Place::Active(self.sequence) });
    }

    fn leave(&mut self, key: &Key) -> Option<Waiting> {
        let waiting = self.places.remove(key)?;
        match waiting.place {
            Place::Active(sequence) => {
                self.active.remove(&(Reverse(waiting.priority), sequence, key.clone()));
            }
            Place::BackingOff(at) => {
                self.backing_off.remove(&(at, key.clone()));
            }
            Place::Parked { .. } | Place::Out => {}
        }
        Some(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry::PODS;

    fn key(name: &str) -> Key {
        Key::new(&PODS, "default", name)
    }

    #[test]
    fn the_important_come_first_then_those_who_came_first() {
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 0), ("c", 1000)] {
            queue.add(key(name), priority);
        }
        assert_eq!(queue.take(2, Tick(0)), [key("c"), key("a")]);
        assert_eq!(queue.next_wake(), Some(Tick(0)));
        assert_eq!(queue.take(2, Tick(0)), [key("b")]);
        assert_eq!(queue.next_wake(), None);
    }

    #[test]
    fn a_refused_pod_is_woken_only_by_what_may_help_it_and_not_before_its_back_off() {
        let mut queue = Queue::default();
        queue.add(key("taint"), 0);
        queue.add(key("room"), 0);
        queue.take(2, Tick(0));
        queue.refused(&key("taint"), [Rule::Taints].into(), Tick(0));
        queue.refused(&key("room"), [Rule::Resources].into(), Tick(0));
        queue.wake(Meaning::Freed);
        assert_eq!(queue.take(9, Tick(999)), []);
        assert_eq!(queue.take(9, Tick(1000)), [key("room")]);
        queue.refused(&key("room"), [Rule::Resources].into(), Tick(1000));
        queue.wake(Meaning::NodeChanged);
        assert_eq!(queue.take(9, Tick(1000)), [key("taint")]);
        assert_eq!(queue.next_wake(), Some(Tick(3000)), "the second time it is 2 s");
    }

    #[test]
    fn nobody_is_parked_for_ever_and_a_changed_pod_is_tried_at_once() {
        let mut queue = Queue::default();
        queue.add(key("a"), 0);
        queue.take(1, Tick(0));
        queue.refused(&key("a"), [Rule::Taints].into(), Tick(0));
        queue.flush(Tick(59_999));
        assert_eq!(queue.next_wake(), None);
        queue.ensure(key("a"), 0);
        assert_eq!(queue.next_wake(), None, "it waits already");
        queue.flush(Tick(60_000));
        assert_eq!(queue.take(1, Tick(60_000)), [key("a")]);
        queue.refused(&key("a"), [Rule::Taints].into(), Tick(60_000));
        queue.add(key("a"), 0);
        assert_eq!(queue.take(1, Tick(60_000)), [key("a")]);
        queue.remove(&key("a"));
        queue.refused(&key("a"), [Rule::Taints].into(), Tick(60_000));
        queue.flush(Tick(600_000));
        assert_eq!(queue.next_wake(), None, "it is gone");
    }
}
