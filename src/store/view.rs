//! All objects in memory, in the order of lists, with the indexes that deciders ask for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::api::{Key, Object, Resource, Revision, Uid, registry};

use super::batch::{Batch, Change};
use super::ring::ChangeEvent;

/// What is stored, as one consistent picture.
#[derive(Clone, Debug, Default)]
pub struct View {
    revision: Revision,
    objects: BTreeMap<Key, Arc<Object>>,
    pods_by_node: BTreeMap<String, BTreeSet<Key>>,
    by_owner: BTreeMap<Uid, BTreeSet<Key>>,
}

impl View {
    /// Nothing, at `revision`.
    #[must_use]
    pub fn new(revision: Revision) -> Self {
        Self { revision, ..Self::default() }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// The objects of a resource, by namespace and name; of one namespace when one is given.
    pub fn list(&self, resource: &'static Resource, namespace: Option<&str>) -> impl Iterator<Item = &Arc<Object>> {
        let namespace = namespace.map(str::to_owned);
        let first = Key::new(resource, namespace.as_deref().unwrap_or_default(), "");
        self.objects
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(key, _)| key.resource == resource && namespace.as_ref().is_none_or(|ns| *ns == key.namespace))
            .map(|(_, object)| object)
    }

    /// The pods that are bound to a node.
    pub fn pods_on(&self, node: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.pods_by_node.get(node).into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// The objects that name this uid among their owners.
    pub fn owned_by(&self, owner: &Uid) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        self.by_owner.get(owner).into_iter().flatten().filter_map(|key| self.objects.get_key_value(key))
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All objects with their keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        self.objects.iter()
    }

    /// Applies a batch whose expectations hold, at `revision`, and tells what changed.
    pub fn apply(&mut self, revision: Revision, batch: Batch) -> Vec<ChangeEvent> {
        self.revision = revision;
        batch
            .0
            .into_iter()
            .filter_map(|op| {
                let after = match op.change {
                    Change::Put(mut object) => {
                        object.set_revision(revision);
                        Some(Arc::new(object))
                    }
                    Change::Delete => None,
                };
                let before = self.place(&op.key, after.as_ref());
                (before.is_some() || after.is_some()).then_some(ChangeEvent { revision, key: op.key, before, after })
            })
            .collect()
    }

    fn place(&mut self, key: &Key, object: Option<&Arc<Object>>) -> Option<Arc<Object>> {
        let before = match object {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(key),
        };
        if let Some(before) = &before {
            self.index(key, before, |set, key| {
                set.remove(key);
            });
        }
        if let Some(object) = object {
            self.index(key, object, |set, key| {
                set.insert(key.clone());
            });
        }
        before
    }

    fn index(&mut self, key: &Key, object: &Object, act: impl Fn(&mut BTreeSet<Key>, &Key)) {
        if *key.resource == registry::PODS {
            let node = object.str_at(&["spec", "nodeName"]);
            if !node.is_empty() {
                let set = self.pods_by_node.entry(node.to_owned()).or_default();
                act(set, key);
                if set.is_empty() {
                    self.pods_by_node.remove(node);
                }
            }
        }
        for owner in object.owners() {
            let owner = Uid::from(owner.uid);
            let set = self.by_owner.entry(owner.clone()).or_default();
            act(set, key);
            if set.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Expect, Op};

    fn pod(node: &str) -> Object {
        Object::from_value(serde_json::json!({"spec": {"nodeName": node},
            "metadata": {"name": "web", "namespace": "default", "ownerReferences": [{"uid": "o1"}]}}))
        .unwrap()
    }

    #[test]
    fn indexes_follow_every_change() {
        let mut view = View::new(Revision(5));
        let key = Key::new(&registry::PODS, "default", "web");
        view.apply(Revision(6), Op::create(key.clone(), pod("a")).into());
        assert_eq!(view.pods_on("a").count(), 1);
        view.apply(Revision(7), Op::update(key.clone(), Revision(6), pod("b")).into());
        assert_eq!((view.pods_on("a").count(), view.pods_on("b").count()), (0, 1));
        assert_eq!(view.owned_by(&Uid::from("o1")).count(), 1);
        let events = view.apply(Revision(8), Batch(vec![Op { key, expect: Expect::Any, change: Change::Delete }]));
        assert_eq!(events.len(), 1);
        assert!(view.is_empty() && view.pods_by_node.is_empty() && view.by_owner.is_empty());
    }
}
