//! Which keys are due, and when.
//!
//! Each key is in it once; the earliest time asked for wins. A key that is being worked on may be added again and is not
//! given out before it is done. A key that failed waits longer each time.
//!
//! Source:   client-go `workqueue` and kube-runtime's `scheduler.rs`, in one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::backoff::Policy;
use crate::clock::Tick;
use crate::rng::Rng;

/// 5 ms doubling to 30 s: a lost race is over at once, a sick disk is not.
const BACKOFF: Policy = Policy { first: Duration::from_millis(5), cap: Duration::from_secs(30) };

/// Keys with the times at which they are due.
#[derive(Debug)]
pub struct Queue<K> {
    /// When each waiting key is due, and its place among those of the same tick.
    waiting: BTreeMap<K, (Tick, u64)>,
    order: BTreeSet<(Tick, u64, K)>,
    running: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
    sequence: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            order: BTreeSet::new(),
            running: BTreeSet::new(),
            failures: BTreeMap::new(),
            sequence: 0,
        }
    }
}

impl<K: Clone + Ord> Queue<K> {
    /// Asks for a key at a time; an earlier wish stands.
    pub fn add(&mut self, key: K, at: Tick) {
        if let Some((due, sequence)) = self.waiting.get(&key).copied() {
            if due <= at {
                return;
            }
            self.order.remove(&(due, sequence, key.clone()));
        }
        self.sequence += 1;
        self.waiting.insert(key.clone(), (at, self.sequence));
        self.order.insert((at, self.sequence, key));
    }

    /// At most `limit` keys that are due and not being worked on, longest due first. They count as being worked on until
    /// [`Queue::done`] or [`Queue::failed`].
    pub fn take(&mut self, now: Tick, limit: usize) -> Vec<K> {
        let due: Vec<(Tick, u64, K)> = self
            .order
            .iter()
            .take_while(|(at, _, _)| *at <= now)
            .filter(|(_, _, key)| !self.running.contains(key))
            .take(limit)
            .cloned()
            .collect();
        due.into_iter()
            .map(|entry| {
                self.order.remove(&entry);
                let (_, _, key) = entry;
                self.waiting.remove(&key);
                self.running.insert(key.clone());
                key
            })
            .collect()
    }

    /// The key was worked on and all went well.
    pub fn done(&mut self, key: &K) {
        self.running.remove(key);
        self.failures.remove(key);
    }

    /// The key was worked on in vain: it is due again after a while, longer each time.
    pub fn failed(&mut self, key: K, now: Tick, rng: &mut Rng) {
        self.running.remove(&key);
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        let delay = BACKOFF.jittered(*failures, rng);
        self.add(key, now.after(delay));
    }

    /// When the next key is due that is not being worked on.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.order.iter().find(|(_, _, key)| !self.running.contains(key)).map(|(at, _, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_there_once_and_the_earliest_wish_wins() {
        let mut queue = Queue::default();
        queue.add("a", Tick(100));
        queue.add("a", Tick(50));
        queue.add("a", Tick(200));
        queue.add("b", Tick(60));
        assert_eq!(queue.next_wake(), Some(Tick(50)));
        assert_eq!(queue.take(Tick(49), 10), Vec::<&str>::new());
        assert_eq!(queue.take(Tick(100), 10), ["a", "b"]);
        assert_eq!(queue.next_wake(), None);
    }

    #[test]
    fn a_key_that_is_worked_on_can_be_added_and_waits_until_it_is_done() {
        let mut queue = Queue::default();
        queue.add("a", Tick(0));
        assert_eq!(queue.take(Tick(0), 10), ["a"]);
        queue.add("a", Tick(0));
        assert_eq!(queue.take(Tick(0), 10), Vec::<&str>::new());
        assert_eq!(queue.next_wake(), None, "nothing to wake for");
        queue.done(&"a");
        assert_eq!(queue.take(Tick(0), 10), ["a"]);
    }

    #[test]
    fn failures_wait_longer_and_are_forgotten_after_a_success() {
        let (mut queue, mut rng) = (Queue::default(), Rng::seeded(1, "test"));
        let mut waits = Vec::new();
        queue.add("a", Tick(0));
        let mut now = Tick(0);
        for _ in 0..6 {
            queue.take(now, 1);
            queue.failed("a", now, &mut rng);
            let due = queue.next_wake().unwrap();
            waits.push(due.since(now));
            now = due;
        }
        assert!(waits[5] > waits[0] * 4, "{waits:?}");
        queue.take(now, 1);
        queue.done(&"a");
        queue.add("a", now);
        queue.take(now, 1);
        queue.failed("a", now, &mut rng);
        assert!(queue.next_wake().unwrap().since(now) <= Duration::from_millis(5));
    }

    #[test]
    fn those_who_wait_longest_come_first() {
        let mut queue = Queue::default();
        for (key, at) in [("late", 9), ("first", 1), ("second", 1)] {
            queue.add(key, Tick(at));
        }
        assert_eq!(queue.take(Tick(10), 2), ["first", "second"]);
        assert_eq!(queue.take(Tick(10), 2), ["late"]);
    }
}
