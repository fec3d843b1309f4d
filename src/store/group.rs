//! Decides a group of batches: which hold, in which order, and what of them is stored.
//!
//! In:       the view, and batches one after the other.
//! Out:      for each a revision and what it does, or why not.
//! Never:    applies anything: that waits until the group is durable (`run.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::api::{Key, Object, Revision};

use super::batch::{Batch, Change, Expect, Op, WriteError, check_on};
use super::durability::{Durability, durability};
use super::journal::JournalError;
use super::log::{DEEPEST, Entry, Kept};
use super::view::View;

/// A batch that holds.
#[derive(Debug)]
pub struct Accepted {
    /// Its revision.
    pub revision: Revision,
    /// What stands at its keys afterwards.
    pub ops: Vec<(Key, Option<Arc<Object>>)>,
    expects: Vec<Expect>,
    stored: Vec<Durability>,
}

impl Accepted {
    /// What of it goes into the journal; `None` when all of it is volatile.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        let ops: Vec<Kept> = self
            .ops
            .iter()
            .zip(&self.stored)
            .filter(|(_, durability)| **durability == Durability::Stored)
            .map(|((key, put), _)| Kept { key: key.clone(), put: put.clone() })
            .collect();
        (!ops.is_empty()).then_some(Entry { revision: self.revision, ops })
    }

    /// The batch as it came, to be decided anew.
    #[must_use]
    pub fn into_batch(self) -> Batch {
        let ops = self.ops.into_iter().zip(self.expects).map(|((key, put), expect)| {
            let change = put.map_or(Change::Delete, |object| Change::Put(Arc::unwrap_or_clone(object)));
            Op { key, expect, change }
        });
        Batch(ops.collect())
    }
}

/// The view as it will be when all that was admitted is applied.
pub struct Pending<'a> {
    view: &'a View,
    revision: Revision,
    changed: BTreeMap<Key, Option<Arc<Object>>>,
}

impl<'a> Pending<'a> {
    /// Nothing admitted yet.
    #[must_use]
    pub fn on(view: &'a View) -> Self {
        Self { view, revision: view.revision(), changed: BTreeMap::new() }
    }

    /// The newest revision that was given out.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Gives a batch its revision.
    ///
    /// # Errors
    /// When it does not hold, here and now.
    pub fn admit(&mut self, batch: Batch) -> Result<Accepted, WriteError> {
        check_on(&batch, |key| self.get(key).map(|object| object.revision()))?;
        if let Some(op) = batch.0.iter().find(|op| matches!(&op.change, Change::Put(object) if is_too_deep(object))) {
            let why = format!("{} nests deeper than {DEEPEST} levels", op.key);
            return Err(WriteError::Journal(Arc::new(JournalError::Unwritable(why))));
        }
        self.revision = self.revision.next();
        let count = batch.0.len();
        let mut accepted = Accepted {
            revision: self.revision,
            ops: Vec::with_capacity(count),
            expects: Vec::with_capacity(count),
            stored: Vec::with_capacity(count),
        };
        for Op { key, expect, change } in batch.0 {
            let after = match change {
                Change::Put(mut object) => {
                    object.set_revision(self.revision);
                    Some(Arc::new(object))
                }
                Change::Delete => None,
            };
            accepted.stored.push(durability(&key, self.get(&key).map(|object| &**object), after.as_deref()));
            accepted.expects.push(expect);
            self.changed.insert(key.clone(), after.clone());
            accepted.ops.push((key, after));
        }
        Ok(accepted)
    }

    fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        match self.changed.get(key) {
            Some(changed) => changed.as_ref(),
            None => self.view.get(key),
        }
    }
}

/// Whether the journal could write this object but not read it again.
fn is_too_deep(object: &Object) -> bool {
    fn deeper(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left == 0 || items.iter().any(|item| deeper(item, left - 1)),
            Value::Object(fields) => left == 0 || fields.values().any(|field| deeper(field, left - 1)),
            _ => false,
        }
    }
    object.raw().values().any(|value| deeper(value, DEEPEST))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::registry;

    fn key(name: &str) -> Key {
        Key::new(&registry::CONFIG_MAPS, "default", name)
    }

    fn map(data: &str) -> Object {
        Object::from_value(json!({"data": {"a": data}})).unwrap()
    }

    #[test]
    fn a_batch_is_judged_by_what_the_group_did_before_it() {
        let view = View::new(Revision(10));
        let mut pending = Pending::on(&view);
        let first = pending.admit(Op::create(key("a"), map("1")).into()).unwrap();
        assert_eq!(first.revision, Revision(11));
        let again = pending.admit(Op::create(key("a"), map("2")).into());
        assert!(matches!(again, Err(WriteError::Conflict { found: Some(Revision(11)), .. })), "{again:?}");
        let update = pending.admit(Op::update(key("a"), Revision(11), map("3")).into()).unwrap();
        assert_eq!(update.revision, Revision(12), "a refused batch takes no revision");
        assert!(pending.admit(Op::delete(key("a"), Revision(11)).into()).is_err());
        pending.admit(Op::delete(key("a"), Revision(12)).into()).unwrap();
        pending.admit(Op::create(key("a"), map("4")).into()).unwrap();
        assert!(view.is_empty() && view.revision() == Revision(10), "nothing is applied");
    }

    #[test]
    fn of_a_refused_batch_nothing_is_seen_by_the_next() {
        let mut view = View::new(Revision(0));
        view.apply(Revision(1), Op::create(key("taken"), map("1")).into());
        let mut pending = Pending::on(&view);
        assert!(pending.admit(Batch(vec![Op::create(key("a"), map("1")), Op::create(key("taken"), map("2"))])).is_err());
        pending.admit(Op::create(key("a"), map("1")).into()).unwrap();
    }

    #[test]
    fn only_the_stored_operations_of_a_batch_are_kept() {
        let view = View::new(Revision(0));
        let event = Key::new(&registry::EVENTS, "default", "e");
        let batch = Batch(vec![Op::create(event.clone(), map("e")), Op::create(key("a"), map("1"))]);
        let mixed = Pending::on(&view).admit(batch).unwrap();
        let kept: Vec<Key> = mixed.entry().unwrap().ops.into_iter().map(|kept| kept.key).collect();
        assert_eq!((mixed.ops.len(), kept), (2, vec![key("a")]));
        assert_eq!(Pending::on(&view).admit(Op::create(event, map("e")).into()).unwrap().entry(), None);
    }

    #[test]
    fn what_the_reader_of_the_log_would_refuse_is_refused_at_once() {
        let nested = |levels: usize| {
            let value = (0..levels).fold(json!(1), |inner, _| json!([inner]));
            Object::from_value(json!({ "data": value })).unwrap()
        };
        let view = View::new(Revision(0));
        let accepted = Pending::on(&view).admit(Op::create(key("a"), nested(DEEPEST)).into()).unwrap();
        let record = super::super::log::Record::Group { ceiling: None, entries: vec![accepted.entry().unwrap()] };
        let text = serde_json::to_vec(&record).unwrap();
        assert!(serde_json::from_slice::<super::super::log::Record>(&text).is_ok());
        assert!(Pending::on(&view).admit(Op::create(key("a"), nested(DEEPEST + 1)).into()).is_err());
    }

    #[test]
    fn a_batch_can_be_taken_back_as_it_came() {
        let view = View::new(Revision(0));
        let mut pending = Pending::on(&view);
        let accepted = pending.admit(Op::create(key("a"), map("1")).into()).unwrap();
        drop(pending);
        let batch = accepted.into_batch();
        assert_eq!((batch.0[0].expect, &batch.0[0].key), (Expect::Absent, &key("a")));
    }
}
