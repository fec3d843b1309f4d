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
    unbound_pods: BTreeSet<Key>,
    by_owner: BTreeMap<Uid, BTreeSet<Key>>,
    by_uid: BTreeMap<Uid, Key>,
}

impl View {
    /// Nothing, at `revision`.
    #[must_use]
    pub fn new(revision: Revision) -> Self {
        Self { revision, ..Self::default() }
    }

    /// What was kept, at `revision`.
    #[must_use]
    pub fn with(revision: Revision, objects: impl IntoIterator<Item = (Key, Arc<Object>)>) -> Self {
        let mut view = Self::new(revision);
        for (key, object) in objects {
            view.place(&key, Some(&object));
        }
        view
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

    /// The pods that no node has got yet.
    pub fn unbound_pods(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.unbound_pods.iter().filter_map(|key| self.objects.get(key))
    }

    /// The object with this uid.
    #[must_use]
    pub fn by_uid(&self, uid: &Uid) -> Option<(&Key, &Arc<Object>)> {
        self.objects.get_key_value(self.by_uid.get(uid)?)
    }

    /// Everything in a namespace, of every kind. Costs one look a kind, not one an object elsewhere.
    pub fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = (&Key, &Arc<Object>)> {
        registry::ALL.iter().filter(|resource| resource.namespaced).flat_map(move |resource| {
            let first = Key::new(resource, namespace, "");
            let (resource, namespace) = (first.resource, first.namespace.clone());
            self.objects
                .range((Bound::Included(first), Bound::Unbounded))
                .take_while(move |(key, _)| key.resource == resource && key.namespace == namespace)
        })
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
        let ops = batch.0.into_iter().map(|op| match op.change {
            Change::Put(mut object) => {
                object.set_revision(revision);
                (op.key, Some(Arc::new(object)))
            }
            Change::Delete => (op.key, None),
        });
        self.place_all(revision, ops)
    }

    /// Puts what a batch decided at its keys, and tells what changed.
    pub(super) fn place_all(
        &mut self,
        revision: Revision,
        ops: impl IntoIterator<Item = (Key, Option<Arc<Object>>)>,
    ) -> Vec<ChangeEvent> {
        self.revision = revision;
        ops.into_iter()
            .filter_map(|(key, after)| {
                let before = self.place(&key, after.as_ref());
                (before.is_some() || after.is_some()).then_some(ChangeEvent { revision, key, before, after })
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
            self.by_uid.remove(&before.uid());
        }
        if let Some(object) = object {
            self.index(key, object, |set, key| {
                set.insert(key.clone());
            });
            let uid = object.uid();
            if !uid.0.is_empty() {
                self.by_uid.insert(uid, key.clone());
            }
        }
        before
    }

    fn index(&mut self, key: &Key, object: &Object, act: impl Fn(&mut BTreeSet<Key>, &Key)) {
        if *key.resource == registry::PODS {
            let node = object.str_at(&["spec", "nodeName"]);
            if node.is_empty() {
                act(&mut self.unbound_pods, key);
            } else {
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
            "metadata": {"name": "web", "namespace": "default", "uid": "u1", "ownerReferences": [{"uid": "o1"}]}}))
        .unwrap()
    }

    #[test]
    fn indexes_follow_every_change() {
        let mut view = View::new(Revision(5));
        let key = Key::new(&registry::PODS, "default", "web");
        view.apply(Revision(5), Op::create(key.clone(), pod("")).into());
        assert_eq!((view.unbound_pods().count(), view.pods_on("").count()), (1, 0));
        view.apply(Revision(6), Op { key: key.clone(), expect: Expect::Any, change: Change::Put(pod("a")) }.into());
        assert_eq!(view.unbound_pods().count(), 0);
        assert_eq!(view.pods_on("a").count(), 1);
        view.apply(Revision(7), Op::update(key.clone(), Revision(6), pod("b")).into());
        assert_eq!((view.pods_on("a").count(), view.pods_on("b").count()), (0, 1));
        assert_eq!(view.owned_by(&Uid::from("o1")).count(), 1);
        assert_eq!(view.by_uid(&Uid::from("u1")).map(|(found, _)| found), Some(&key));
        let events = view.apply(Revision(8), Batch(vec![Op { key, expect: Expect::Any, change: Change::Delete }]));
        assert_eq!(events.len(), 1);
        assert!(view.is_empty() && view.pods_by_node.is_empty() && view.by_owner.is_empty());
        assert!(view.unbound_pods.is_empty() && view.by_uid.is_empty());
    }

    #[test]
    fn lists_and_namespaces_hold_what_is_theirs_and_no_more() {
        let object = || Object::from_value(serde_json::json!({})).unwrap();
        let at = |resource, namespace, name| (Key::new(resource, namespace, name), Arc::new(object()));
        let view = View::with(
            Revision(9),
            [
                at(&registry::PODS, "a", "1"),
                at(&registry::PODS, "b", "1"),
                at(&registry::PODS, "b", "2"),
                at(&registry::PODS, "bb", "1"),
                at(&registry::SECRETS, "b", "1"),
                at(&registry::DEPLOYMENTS, "b", "1"),
                at(&registry::NODES, "", "b"),
            ],
        );
        assert_eq!(view.list(&registry::PODS, None).count(), 4);
        assert_eq!(view.list(&registry::PODS, Some("b")).count(), 2);
        assert_eq!(view.list(&registry::NODES, None).count(), 1);
        assert_eq!(view.list(&registry::SERVICES, None).count(), 0);
        assert_eq!((view.in_namespace("b").count(), view.in_namespace("none").count()), (4, 0));
        assert_eq!((view.len(), view.revision()), (7, Revision(9)));
    }
}
