//! Pods that belong to nobody find their replica set.
//!
//! In:       a pod without a controller.
//! Out:      the same pod, owned by the replica set that selects it.
//! Why apart: a replica set looks for such pods itself when it misses some; but one that has all it wants would have to
//!           search its whole namespace at each change of one of its pods, only for this rare case.
//! Source:   upstream `controller_ref_manager.go`.

use serde_json::Value;

use super::replicaset::owner_reference;
use super::{Ids, Plan, Reconciler, update};
use crate::api::apps::replicaset::{ReplicaSet, selects};
use crate::api::core::pod::Pod;
use crate::api::registry::{PODS, REPLICA_SETS};
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};

/// The controller.
pub struct Adoption;

impl Reconciler for Adoption {
    fn name(&self) -> &'static str {
        "adoption"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == PODS
    }

    fn keys(&self, event: &ChangeEvent, _view: &View) -> Vec<Key> {
        event.after.iter().filter(|pod| pod.controller().is_none()).map(|_| event.key.clone()).collect()
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&PODS, None).filter(|pod| pod.controller().is_none()).map(|pod| Key::of(&PODS, pod)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, _now: Now, _ids: &mut Ids) -> Plan {
        let Some(pod) = view.get(key) else { return Plan::nothing() };
        if pod.controller().is_some() || !Pod(pod).is_active() || pod.labels().next().is_none() {
            return Plan::nothing();
        }
        let finder = view
            .list(&REPLICA_SETS, Some(&key.namespace))
            .find(|set| !set.is_deleting() && ReplicaSet(set).selector().is_some_and(|selector| selects(&selector, pod)));
        match finder {
            Some(set) => Plan { writes: vec![update(key, pod, adopted(pod, set))], ..Plan::default() },
            None => Plan::nothing(),
        }
    }
}

/// The object, owned by this controller besides any other owners.
pub(super) fn adopted(object: &Object, owner: &Object) -> Object {
    let mut after = object.clone();
    let uid = owner.uid().0;
    let mut owners = object.list_at(&["metadata", "ownerReferences"]).to_vec();
    owners.retain(|entry| entry.get("uid").and_then(Value::as_str) != Some(&uid));
    owners.push(owner_reference(owner));
    after.set_at(&["metadata", "ownerReferences"], owners);
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Change, Op};
    use serde_json::json;

    #[test]
    fn only_a_pod_of_nobody_that_a_set_selects_is_adopted() {
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "default", "uid": "rs1"},
            "spec": {"selector": {"matchLabels": {"app": "web"}}}});
        for (what, metadata, adopted) in [
            ("matching", json!({"labels": {"app": "web"}}), true),
            ("other labels", json!({"labels": {"app": "db"}}), false),
            ("leaving", json!({"labels": {"app": "web"}, "deletionTimestamp": "1970-01-01T00:00:00Z"}), false),
            ("owned", json!({"labels": {"app": "web"}, "ownerReferences": [{"uid": "x", "controller": true}]}), false),
            ("owned, not managed", json!({"labels": {"app": "web"}, "ownerReferences": [{"uid": "x"}]}), true),
        ] {
            let mut view = View::new(Revision(1));
            let key = Key::new(&PODS, "default", "p");
            let pod = Object::from_value(json!({"metadata": metadata})).unwrap();
            let ops = vec![
                Op::create(key.clone(), pod),
                Op::create(Key::new(&REPLICA_SETS, "default", "web"), Object::from_value(set.clone()).unwrap()),
            ];
            view.apply(Revision(2), Batch(ops));
            let plan = Adoption.reconcile(&view, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
            assert_eq!(plan.writes.len(), usize::from(adopted), "{what}");
            if let Some(Op { change: Change::Put(after), .. }) = plan.writes.first() {
                assert_eq!(after.controller().unwrap().uid, "rs1", "{what}");
            }
        }
    }
}
