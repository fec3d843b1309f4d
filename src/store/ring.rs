//! The last changes by revision. A reader keeps a cursor; one that falls out is told so and lists again: no queue a reader.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::api::{Key, Object, Revision};

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
}

impl Ring {
    /// Remembers the last `capacity` events after `floor`.
    #[must_use]
    pub fn new(floor: Revision, capacity: usize) -> Self {
        Self { events: VecDeque::new(), oldest: floor, capacity }
    }

    /// Adds the newest event.
    pub fn push(&mut self, event: ChangeEvent) {
        if self.events.len() >= self.capacity
            && let Some(dropped) = self.events.pop_front()
        {
            self.oldest = dropped.revision;
        }
        self.events.push_back(event);
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
