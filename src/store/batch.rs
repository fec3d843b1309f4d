//! What can be written: up to 100 operations that hold together or not at all, each with what it expects to find.

use crate::api::{Key, Object, Revision};

use super::view::View;

/// The most operations in one batch.
pub const MOST: usize = 100;

/// What an operation expects of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is there.
    Absent,
    /// Just this revision is there.
    Revision(Revision),
    /// Whatever is there, or nothing.
    Any,
}

/// What is done to a key.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object stands there from now on. Its `resourceVersion` is set by the store.
    Put(Object),
    /// It is taken away, finalizers or not: the rules of deletion are the callers'.
    Delete,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Op {
    /// Where.
    pub key: Key,
    /// What has to be there.
    pub expect: Expect,
    /// What to do.
    pub change: Change,
}

impl Op {
    /// Creates an object.
    #[must_use]
    pub fn create(key: Key, object: Object) -> Self {
        Self { key, expect: Expect::Absent, change: Change::Put(object) }
    }

    /// Replaces the object that was read at `seen`.
    #[must_use]
    pub fn update(key: Key, seen: Revision, object: Object) -> Self {
        Self { key, expect: Expect::Revision(seen), change: Change::Put(object) }
    }

    /// Takes away the object that was read at `seen`.
    #[must_use]
    pub fn delete(key: Key, seen: Revision) -> Self {
        Self { key, expect: Expect::Revision(seen), change: Change::Delete }
    }
}

/// Operations that are done together. Every expectation is of what stood there before the batch; of two operations on one
/// key the later wins.
#[derive(Clone, Debug, Default)]
pub struct Batch(pub Vec<Op>);

impl From<Op> for Batch {
    fn from(op: Op) -> Self {
        Batch(vec![op])
    }
}

/// Why a batch was not done. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Something else is there than was expected: look again.
    #[error("{key} is at {}, not as expected", found.map_or_else(|| "nothing".to_owned(), |r| format!("revision {r}")))]
    Conflict {
        /// The first key that differs.
        key: Key,
        /// What is there.
        found: Option<Revision>,
    },
    /// More than [`MOST`] operations, or none.
    #[error("a batch has 1 to {MOST} operations, not {0}")]
    Size(usize),
    /// The journal could not keep it. A person is needed.
    #[error("the journal cannot keep it")]
    Journal(#[source] std::sync::Arc<dyn std::error::Error + Send + Sync>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// Whether every expectation of a batch holds.
///
/// # Errors
/// The first that does not.
pub fn check(view: &View, batch: &Batch) -> Result<(), WriteError> {
    check_on(batch, |key| view.get(key).map(|object| object.revision()))
}

/// Whether every expectation holds of what `found` finds at the keys before the batch.
pub(super) fn check_on(batch: &Batch, found: impl Fn(&Key) -> Option<Revision>) -> Result<(), WriteError> {
    if batch.0.is_empty() || batch.0.len() > MOST {
        return Err(WriteError::Size(batch.0.len()));
    }
    for op in &batch.0 {
        let found = found(&op.key);
        let holds = match op.expect {
            Expect::Any => true,
            Expect::Absent => found.is_none(),
            Expect::Revision(seen) => found == Some(seen),
        };
        if !holds {
            return Err(WriteError::Conflict { key: op.key.clone(), found });
        }
    }
    Ok(())
}
