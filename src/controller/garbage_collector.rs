//! What becomes of objects whose owner goes: by `ownerReferences`, in the three ways that Kubernetes has.
//!
//! ```text
//! Background   owner gone ─▶ its dependents, which have no other owner, are deleted
//! Foreground   owner marked, finalizer `foregroundDeletion` ─▶ dependents deleted ─▶ the last that blocks is gone ─▶ owner goes
//! Orphan       owner marked, finalizer `orphan` ─▶ dependents lose their reference ─▶ owner goes
//! ```
//!
//! In:       an object: as an owner that is being deleted, and as a dependent of others.
//! Out:      deletions, references taken away, finalizers taken away.
//! Never:    acts on an owner of a kind that it does not know; an owner is the same only with the same uid.
//! Source:   kube-controller-manager `garbagecollector.go`. It builds a graph from watches; the store's index is ours.

use std::sync::Arc;

use serde_json::Value;

use super::deletion::{FOREGROUND, ORPHAN, Propagation, delete, without_finalizer};
use super::{Ids, Plan, Reconciler, update};
use crate::api::object::OwnerReference;
use crate::api::{Key, Object, Resource, registry};
use crate::clock::{Now, Wall};
use crate::store::batch::MOST;
use crate::store::{ChangeEvent, Op, View};

/// The controller.
pub struct GarbageCollector;

impl Reconciler for GarbageCollector {
    fn name(&self) -> &'static str {
        "garbage_collector"
    }

    fn watches(&self, _resource: &Resource) -> bool {
        true
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        let mut keys = Vec::new();
        match (&event.before, &event.after) {
            (Some(before), None) => {
                keys.extend(view.owned_by(&before.uid()).map(|(key, _)| key.clone()));
                keys.extend(waiting_owners(view, &event.key, before));
            }
            (before, Some(after)) => {
                if let Some(replaced) = before.as_ref().filter(|before| before.uid() != after.uid()) {
                    keys.extend(view.owned_by(&replaced.uid()).map(|(key, _)| key.clone()));
                }
                let owners = |object: &Arc<Object>| object.at(&["metadata", "ownerReferences"]).cloned();
                let owners_changed = before.as_ref().is_none_or(|before| owners(before) != owners(after));
                let has_owners = after.owners().next().is_some();
                if is_holding(after) || (has_owners && owners_changed) {
                    keys.push(event.key.clone());
                }
                if after.is_deleting() && before.as_ref().is_some_and(|before| !before.is_deleting()) {
                    keys.extend(view.owned_by(&after.uid()).map(|(key, _)| key.clone()));
                }
                if let Some(before) = before.as_ref().filter(|_| owners_changed) {
                    keys.extend(waiting_owners(view, &event.key, before));
                }
            }
            (None, None) => {}
        }
        keys
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        let solid = |key: &Key, object: &Arc<Object>| object.owners().all(|owner| state(view, key, owner) == State::Solid);
        view.iter().filter(|(key, object)| is_holding(object) || !solid(key, object)).map(|(key, _)| key.clone()).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let Some(object) = view.get(key) else { return Plan::nothing() };
        if object.is_deleting() && holds(object, ORPHAN) {
            return orphan(view, key, object, now);
        }
        if object.is_deleting() && holds(object, FOREGROUND) {
            let mut writes = foreground(view, key, object, now.wall);
            if writes.is_empty() && !still_blocked(view, object) {
                writes.push(without_finalizer(key, object, FOREGROUND));
            }
            return Plan { writes, ..Plan::default() };
        }
        Plan { writes: dependent(view, key, object, now.wall).into_iter().collect(), ..Plan::default() }
    }
}

/// What an owner is to its dependent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There, or of a kind that is not known here.
    Solid,
    /// Gone.
    Absent,
    /// Waits until its dependents are gone.
    Waiting,
}

fn state(view: &View, of: &Key, owner: OwnerReference<'_>) -> State {
    let Some(key) = owner_key(of, owner) else { return State::Solid };
    match view.get(&key).filter(|object| object.uid().0 == owner.uid) {
        None => State::Absent,
        Some(object) if object.is_deleting() && holds(object, FOREGROUND) => State::Waiting,
        Some(_) => State::Solid,
    }
}

/// Where an owner is: in the dependent's namespace, or in none.
fn owner_key(of: &Key, owner: OwnerReference<'_>) -> Option<Key> {
    let resource = registry::by_kind(owner.api_version, owner.kind)?;
    Some(Key::new(resource, if resource.namespaced { &of.namespace } else { "" }, owner.name))
}

fn waiting_owners(view: &View, key: &Key, object: &Object) -> Vec<Key> {
    let waiting = object.owners().filter(|owner| state(view, key, *owner) == State::Waiting);
    waiting.filter_map(|owner| owner_key(key, owner)).collect()
}

fn holds(object: &Object, finalizer: &str) -> bool {
    object.finalizers().any(|name| name == finalizer)
}

fn is_holding(object: &Object) -> bool {
    object.is_deleting() && (holds(object, FOREGROUND) || holds(object, ORPHAN))
}

/// Frees the dependents, then the owner.
fn orphan(view: &View, key: &Key, object: &Arc<Object>, now: Now) -> Plan {
    let uid = object.uid();
    let mut plan = Plan::nothing();
    for (dependent_key, dependent) in view.owned_by(&uid).take(MOST) {
        plan.writes.push(update(dependent_key, dependent, without_owners(dependent, |owner| owner == uid.0)));
    }
    if plan.writes.is_empty() {
        plan.writes.push(without_finalizer(key, object, ORPHAN));
    } else {
        plan.look_by(now.tick);
    }
    plan
}

/// Deletes the dependents that are not going yet.
fn foreground(view: &View, key: &Key, object: &Arc<Object>, now: Wall) -> Vec<Op> {
    let uid = object.uid();
    let others = view.owned_by(&uid).filter(|(dependent, _)| *dependent != key);
    others.filter_map(|(key, object)| dependent(view, key, object, now)).collect()
}

/// Whether a dependent is there that the owner must wait for.
fn still_blocked(view: &View, owner: &Object) -> bool {
    let uid = owner.uid();
    view.owned_by(&uid).any(|(_, dependent)| {
        let blocks = dependent.owners().any(|entry| entry.uid == uid.0 && entry.block_owner_deletion);
        // One that waits for its own dependents, among which the owner itself may be, would wait for ever.
        blocks && !waits_for(view, dependent, &uid.0, 0)
    })
}

/// Whether `object` waits, over its dependents, for the one with this uid: a circle.
fn waits_for(view: &View, object: &Object, uid: &str, depth: usize) -> bool {
    /// No chain of owners is longer in practice (deployment, set, pod, claim).
    const DEEPEST: usize = 8;
    depth < DEEPEST
        && object.is_deleting()
        && holds(object, FOREGROUND)
        && view.owned_by(&object.uid()).any(|(_, next)| next.uid().0 == uid || waits_for(view, next, uid, depth + 1))
}

/// What becomes of an object because of its owners.
fn dependent(view: &View, key: &Key, object: &Arc<Object>, now: Wall) -> Option<Op> {
    let states: Vec<(OwnerReference<'_>, State)> = object.owners().map(|owner| (owner, state(view, key, owner))).collect();
    if states.iter().all(|(_, state)| *state == State::Solid) {
        return None;
    }
    if states.iter().any(|(_, state)| *state == State::Solid) {
        // Others still need it: only what leads nowhere is taken away.
        let gone: Vec<&str> = states.iter().filter(|(_, state)| *state != State::Solid).map(|(owner, _)| owner.uid).collect();
        return Some(update(key, object, without_owners(object, |uid| gone.contains(&uid))));
    }
    let waited_for = states.iter().any(|(_, state)| *state == State::Waiting);
    let has_dependents = view.owned_by(&object.uid()).next().is_some();
    let propagation = if waited_for && has_dependents { Propagation::Foreground } else { Propagation::Background };
    delete(key, object, propagation, now)
}

fn without_owners(object: &Object, gone: impl Fn(&str) -> bool) -> Object {
    let mut after = object.clone();
    let owners = object.list_at(&["metadata", "ownerReferences"]).iter();
    let left: Vec<Value> =
        owners.filter(|owner| !gone(owner.get("uid").and_then(Value::as_str).unwrap_or_default())).cloned().collect();
    if left.is_empty() {
        after.remove_at(&["metadata", "ownerReferences"]);
    } else {
        after.set_at(&["metadata", "ownerReferences"], left);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::api::registry::{CONFIG_MAPS, DEPLOYMENTS, PODS, REPLICA_SETS};
    use crate::rng::Rng;
    use crate::store::{Batch, Change, Expect};
    use serde_json::json;

    const RESOURCES: [(&str, &Resource); 4] =
        [("deployment", &DEPLOYMENTS), ("set", &REPLICA_SETS), ("pod", &PODS), ("map", &CONFIG_MAPS)];

    fn key(name: &str) -> Key {
        let resource = RESOURCES.iter().find(|(prefix, _)| name.starts_with(prefix)).unwrap().1;
        Key::new(resource, "default", name)
    }

    fn owner(name: &str) -> Value {
        let resource = key(name).resource;
        json!({"apiVersion": resource.api_version(), "kind": resource.kind, "name": name, "uid": name, "blockOwnerDeletion": true})
    }

    /// An object whose uid is its name.
    fn object(name: &str, owners: &[&str], finalizers: &[&str]) -> Op {
        let owners: Vec<Value> = owners.iter().map(|name| owner(name)).collect();
        let mut object = Object::from_value(
            json!({"metadata": {"name": name, "namespace": "default", "uid": name, "ownerReferences": owners}}),
        )
        .unwrap();
        if !finalizers.is_empty() {
            object.set_at(&["metadata", "finalizers"], json!(finalizers));
            object.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
        }
        Op::create(key(name), object)
    }

    fn view(ops: Vec<Op>) -> View {
        let mut view = View::new(Revision(1));
        view.apply(Revision(2), Batch(ops));
        view
    }

    /// Follows the changes from one write until nothing is left to do; what is there then.
    fn settle(view: &mut View, first: Vec<Op>) -> Vec<String> {
        let mut gc = GarbageCollector;
        let mut todo: Vec<Key> = Vec::new();
        let mut writes = first;
        for _ in 0..100 {
            if !writes.is_empty() {
                crate::store::batch::check(view, &Batch(writes.clone())).expect("no plan contradicts itself");
                let revision = view.revision().next();
                for event in view.apply(revision, Batch(writes)) {
                    todo.extend(gc.keys(&event, view));
                }
            }
            let Some(key) = todo.pop() else { break };
            let plan = gc.reconcile(view, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
            if plan.look_again.is_some() {
                todo.push(key);
            }
            writes = plan.writes;
        }
        assert!(todo.is_empty(), "it ends");
        assert!(
            gc.all_keys(view)
                .iter()
                .all(|key| gc.reconcile(view, key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids"))).is_idle())
        );
        view.iter().map(|(key, _)| key.name.clone()).collect()
    }

    fn gone(name: &str) -> Vec<Op> {
        vec![Op { key: key(name), expect: Expect::Any, change: Change::Delete }]
    }

    #[test]
    fn in_the_background_everything_below_goes_after_the_owner() {
        let mut view =
            view(vec![object("deployment", &[], &[]), object("set", &["deployment"], &[]), object("pod", &["set"], &[])]);
        assert_eq!(settle(&mut view, gone("deployment")), Vec::<String>::new());
    }

    #[test]
    fn who_has_another_owner_stays_and_forgets_the_one_that_went() {
        let mut view = view(vec![object("set1", &[], &[]), object("set2", &[], &[]), object("pod", &["set1", "set2"], &[])]);
        assert_eq!(settle(&mut view, gone("set1")), ["pod", "set2"]);
        let left: Vec<String> = view.get(&key("pod")).unwrap().owners().map(|owner| owner.uid.to_owned()).collect();
        assert_eq!(left, ["set2"]);
    }

    #[test]
    fn an_owner_of_the_same_name_is_not_the_same() {
        let mut view = view(vec![object("set", &[], &[]), object("pod", &["set"], &[])]);
        let Op { change: Change::Put(mut other), .. } = object("set", &[], &[]) else { panic!() };
        other.set_at(&["metadata", "uid"], "another");
        assert_eq!(settle(&mut view, vec![Op { key: key("set"), expect: Expect::Any, change: Change::Put(other) }]), ["set"]);
    }

    #[test]
    fn in_the_foreground_the_owner_goes_last() {
        let mut view = view(vec![object("set", &["deployment"], &[]), object("pod", &["set"], &["test/hold"])]);
        let there = settle(&mut view, vec![object("deployment", &[], &[FOREGROUND])]);
        assert_eq!(there.len(), 3, "all wait for the pod: {there:?}");
        assert!(view.iter().all(|(_, object)| object.is_deleting()));
        assert_eq!(settle(&mut view, gone("pod")), Vec::<String>::new());
    }

    #[test]
    fn orphans_stay_without_their_owner() {
        let mut view = view(vec![object("map1", &["deployment"], &[]), object("set", &["deployment"], &[])]);
        assert_eq!(settle(&mut view, vec![object("deployment", &[], &[ORPHAN])]), ["map1", "set"]);
        assert!(view.iter().all(|(_, object)| object.owners().next().is_none()));
    }

    #[test]
    fn a_circle_does_not_wait_for_itself() {
        let mut view = view(vec![object("map2", &["map1"], &[]), object("map3", &["map2"], &[])]);
        assert_eq!(settle(&mut view, vec![object("map1", &["map3"], &[FOREGROUND])]), Vec::<String>::new());
    }

    #[test]
    fn an_owner_of_an_unknown_kind_is_left_in_peace() {
        let Op { change: Change::Put(mut pod), key, .. } = object("pod", &[], &[]) else { panic!() };
        pod.set_at(
            &["metadata", "ownerReferences"],
            json!([{"apiVersion": "example.org/v1", "kind": "Thing", "name": "x", "uid": "y"}]),
        );
        let mut view = view(vec![]);
        assert_eq!(settle(&mut view, vec![Op::create(key, pod)]), ["pod"]);
    }
}
