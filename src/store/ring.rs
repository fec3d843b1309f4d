//! The last changes by revision. A reader keeps a cursor; one that falls out is told so and lists again: no queue a reader.
//!
//! A version of an object takes several times its text, so history is what makes a master grow. It is kept in proportion: twice as
//! many changes as there are objects, between two bounds. And of a node's heartbeats, which say nothing but "still here", only
//! the newest is kept, or those of an idle house would push everything else out.

use std::collections::VecDeque;
use std::sync::Arc;

use super::durability::is_renewal;
use crate::api::{Key, Object, Revision};

/// So many changes are remembered at least.
pub const LEAST: usize = 1000;

/// One change of one key.
#[derive(Clone, Debug)]
pub struct ChangeEvent {
    /// When.
    pub revision: Revision,
    /// Where.
    pub key: Key,
    /// What stood there before; `None` when it was created.
    pub before: Option<Arc<Object>>,
    /// What stands there now; `None` when it was deleted.
    pub after: Option<Arc<Object>>,
}

/// The cursor is older than what is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {cursor} ({oldest})")]
pub struct Gone {
    /// What was asked for.
    pub cursor: Revision,
    /// The oldest cursor that can still be served.
    pub oldest: Revision,
}

/// A bounded memory of changes.
pub struct Ring {
    events: VecDeque<ChangeEvent>,
    /// A cursor of this revision or later can be served.
    oldest: Revision,
    capacity: usize,
    most: usize,
}

impl Ring {
    /// Remembers the last `most` events after `floor`.
    #[must_use]
    pub fn new(floor: Revision, most: usize) -> Self {
        Self { events: VecDeque::new(), oldest: floor, capacity: most, most }
    }

    /// Adds the newest event.
    pub fn push(&mut self, mut event: ChangeEvent) {
        self.merge_renewal(&mut event);
        self.events.push_back(event);
        self.trim();
    }

    /// Remembers as much as is good for so many objects.
    pub fn fit(&mut self, objects: usize) {
        self.capacity = objects.saturating_mul(2).max(LEAST).min(self.most);
        self.trim();
    }

    fn trim(&mut self) {
        while self.events.len() > self.capacity
            && let Some(dropped) = self.events.pop_front()
        {
            self.oldest = dropped.revision;
        }
    }

    /// Takes the renewal before this one out, and lets this one begin where that one did.
    fn merge_renewal(&mut self, event: &mut ChangeEvent) {
        if !is_renewal(&event.key, event.before.as_deref(), event.after.as_deref()) {
            return;
        }
        let Some(made_at) = event.before.as_ref().map(|before| before.revision()) else { return };
        let start = self.events.partition_point(|earlier| earlier.revision < made_at);
        let same = self.events.range(start..).take_while(|earlier| earlier.revision == made_at);
        let Some(place) = same.into_iter().position(|earlier| earlier.key == event.key).map(|offset| start + offset) else {
            return;
        };
        let is_another = |earlier: &ChangeEvent| is_renewal(&earlier.key, earlier.before.as_deref(), earlier.after.as_deref());
        if self.events.get(place).is_some_and(is_another)
            && let Some(earlier) = self.events.remove(place)
        {
            event.before = earlier.before;
        }
    }

    /// Events after `cursor`, oldest first.
    ///
    /// # Errors
    /// When `cursor` is older than what is remembered.
    pub fn since(&self, cursor: Revision, limit: usize) -> Result<Vec<ChangeEvent>, Gone> {
        if cursor < self.oldest {
            return Err(Gone { cursor, oldest: self.oldest });
        }
        let start = self.events.partition_point(|event| event.revision <= cursor);
        let mut out: Vec<ChangeEvent> = Vec::new();
        for event in self.events.range(start..) {
            if out.len() >= limit && out.last().is_some_and(|last| last.revision != event.revision) {
                break;
            }
            out.push(event.clone());
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry;

    fn ring(capacity: usize, revisions: &[u64]) -> Ring {
        let mut ring = Ring::new(Revision(10), capacity);
        for (number, &revision) in revisions.iter().enumerate() {
            let key = Key::new(&registry::PODS, "default", &number.to_string());
            ring.push(ChangeEvent { revision: Revision(revision), key, before: None, after: None });
        }
        ring
    }

    fn since(ring: &Ring, cursor: u64, limit: usize) -> Result<Vec<u64>, u64> {
        let events = ring.since(Revision(cursor), limit).map_err(|gone| gone.oldest.0)?;
        Ok(events.into_iter().map(|event| event.revision.0).collect())
    }

    fn lease(revision: u64, holder: &str) -> Option<Arc<Object>> {
        let raw = serde_json::json!({"metadata": {"name": "pi", "resourceVersion": revision.to_string()},
            "spec": {"holderIdentity": holder, "renewTime": revision.to_string()}});
        Object::from_value(raw).map(Arc::new)
    }

    #[test]
    fn of_heartbeats_only_the_newest_is_remembered() {
        let key = Key::new(&registry::LEASES, "kube-node-lease", "pi");
        let mut ring = Ring::new(Revision(10), 99);
        let mut before = None;
        for (revision, holder) in [(11, "pi"), (12, "pi"), (14, "pi"), (15, "other"), (16, "other"), (18, "other")] {
            let after = lease(revision, holder);
            ring.push(ChangeEvent { revision: Revision(revision), key: key.clone(), before, after: after.clone() });
            before = after;
            let elsewhere = Key::new(&registry::PODS, "default", "p");
            ring.push(ChangeEvent { revision: Revision(revision), key: elsewhere, before: None, after: None });
        }
        let seen = |cursor| {
            let events = ring.since(Revision(cursor), 99).unwrap_or_default();
            let leases = events.into_iter().filter(|event| event.key == key);
            leases.map(|event| (event.revision.0, event.before.map(|before| before.revision().0))).collect::<Vec<_>>()
        };
        // The creation, the newest of the renewals, the change of hands, the newest of those after it.
        assert_eq!(seen(10), [(11, None), (14, Some(11)), (15, Some(14)), (18, Some(15))]);
        assert_eq!(seen(12), [(14, Some(11)), (15, Some(14)), (18, Some(15))]);
        assert_eq!(ring.since(Revision(9), 9).unwrap_err().oldest, Revision(10));
    }

    #[test]
    fn it_remembers_in_proportion_to_what_there_is() {
        let pushed: Vec<u64> = (11..5011).collect();
        for (objects, remembered) in [(0, LEAST), (400, LEAST), (1500, 3000), (1_000_000, 4000)] {
            let mut ring = ring(4000, &pushed);
            ring.fit(objects);
            let oldest = 5010 - remembered as u64;
            assert_eq!(since(&ring, oldest, 9999).map(|events| events.len()), Ok(remembered), "{objects}");
            assert_eq!(since(&ring, oldest - 1, 9999), Err(oldest), "{objects}");
        }
    }

    #[test]
    fn a_reader_gets_what_came_after_its_cursor_or_is_told_that_it_is_gone() {
        for (capacity, pushed, cursor, limit, expected) in [
            (9, &[][..], 10, 9, Ok(vec![])),
            (9, &[], 9, 9, Err(10)),
            (9, &[11, 12, 13], 10, 9, Ok(vec![11, 12, 13])),
            (9, &[11, 12, 13], 12, 9, Ok(vec![13])),
            (9, &[11, 12, 13], 10, 2, Ok(vec![11, 12])),
            (9, &[11, 12, 12, 13], 10, 2, Ok(vec![11, 12, 12])),
            (9, &[11, 14], 12, 9, Ok(vec![14])),
            (2, &[11, 12, 13], 11, 9, Ok(vec![12, 13])),
            (2, &[11, 12, 13], 10, 9, Err(11)),
            // Half of 12 fell out: who has not seen it must list, who has goes on.
            (2, &[12, 12, 13], 11, 9, Err(12)),
            (2, &[12, 12, 13], 12, 9, Ok(vec![13])),
        ] {
            let got = since(&ring(capacity, pushed), cursor, limit);
            assert_eq!(got, expected, "{capacity} {pushed:?} {cursor} {limit}");
        }
    }
}
