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
