//! How a controller deletes: by the same rules as a request would.
//!
//! In:       an object and how its dependents are to be treated.
//! Out:      the one write that does it; `None` when nothing is left to ask for.
//! Source:   apiserver's `rest.BeforeDelete`, the pod strategy's `CheckGracefulDelete`.

use crate::api::core::pod::Pod;
use crate::api::registry::PODS;
use crate::api::time::rfc3339;
use crate::api::{Key, Object};
use crate::clock::Wall;
use crate::store::Op;

/// The finalizer of a foreground deletion.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that frees dependents first.
pub const ORPHAN: &str = "orphan";

/// What becomes of the dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They are found later, when their owner is gone.
    Background,
    /// They go first.
    Foreground,
}

/// Deletes an object: a pod on a node gets its grace, finalizers are waited for, the rest goes at once.
#[must_use]
pub fn delete(key: &Key, object: &Object, propagation: Propagation, now: Wall) -> Option<Op> {
    if object.is_deleting() {
        return None;
    }
    let grace = grace_seconds(key, object);
    let foreground = propagation == Propagation::Foreground && !object.finalizers().any(|name| name == FOREGROUND);
    if grace == 0 && !foreground && object.finalizers().next().is_none() {
        return Some(Op::delete(key.clone(), object.revision()));
    }
    Some(super::update(key, object, marked(object, grace, foreground, now)))
}

/// Takes an object away without waiting for the node that has it; only finalizers are waited for.
#[must_use]
pub fn force(key: &Key, object: &Object, now: Wall) -> Option<Op> {
    if object.finalizers().next().is_none() {
        return Some(Op::delete(key.clone(), object.revision()));
    }
    if object.is_deleting() {
        return None;
    }
    Some(super::update(key, object, marked(object, 0, false, now)))
}

/// The object without a finalizer: taken away when it was the last and the deletion waits for nothing else.
#[must_use]
pub fn without_finalizer(key: &Key, object: &Object, finalizer: &str) -> Op {
    let left: Vec<serde_json::Value> = object.finalizers().filter(|name| *name != finalizer).map(Into::into).collect();
    let waits_for_node =
        *key.resource == PODS && object.i64_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default() > 0;
    if left.is_empty() && object.is_deleting() && !waits_for_node {
        return Op::delete(key.clone(), object.revision());
    }
    let mut after = object.clone();
    if left.is_empty() {
        after.remove_at(&["metadata", "finalizers"]);
    } else {
        after.set_at(&["metadata", "finalizers"], left);
    }
    super::update(key, object, after)
}

/// A pod that runs on a node gets its time; one that never got there or has ended needs none.
fn grace_seconds(key: &Key, object: &Object) -> i64 {
    let pod = Pod(object);
    if *key.resource != PODS || pod.node_name().is_empty() || pod.is_terminal() { 0 } else { pod.grace_seconds() }
}

fn marked(object: &Object, grace: i64, foreground: bool, now: Wall) -> Object {
    let mut after = object.clone();
    let until = Wall(now.0.saturating_add(grace.saturating_mul(1000)));
    after.set_at(&["metadata", "deletionTimestamp"], rfc3339(until));
    after.set_at(&["metadata", "deletionGracePeriodSeconds"], grace);
    if foreground {
        let mut finalizers = object.list_at(&["metadata", "finalizers"]).to_vec();
        finalizers.push(FOREGROUND.into());
        after.set_at(&["metadata", "finalizers"], finalizers);
    }
    super::bump_generation(&mut after);
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Change;
    use serde_json::json;

    #[test]
    fn deletion_waits_for_nodes_and_finalizers_only() {
        let key = Key::new(&PODS, "default", "web");
        let pod = |spec: serde_json::Value, phase: &str, finalizers: serde_json::Value| {
            Object::from_value(
                json!({"metadata": {"name": "web", "finalizers": finalizers}, "spec": spec, "status": {"phase": phase}}),
            )
            .unwrap()
        };
        let bound = json!({"nodeName": "a"});
        for (what, object, propagation, marked_grace) in [
            ("unbound", pod(json!({}), "Pending", json!([])), Propagation::Background, None),
            ("running", pod(bound.clone(), "Running", json!([])), Propagation::Background, Some(30)),
            (
                "grace 0",
                pod(json!({"nodeName": "a", "terminationGracePeriodSeconds": 0}), "Running", json!([])),
                Propagation::Background,
                None,
            ),
            ("ended", pod(bound.clone(), "Failed", json!([])), Propagation::Background, None),
            ("held", pod(json!({}), "Pending", json!(["x/y"])), Propagation::Background, Some(0)),
            ("foreground", pod(json!({}), "Pending", json!([])), Propagation::Foreground, Some(0)),
        ] {
            let op = delete(&key, &object, propagation, Wall(0)).unwrap();
            match (op.change, marked_grace) {
                (Change::Delete, None) => {}
                (Change::Put(after), Some(grace)) => {
                    assert_eq!(after.i64_at(&["metadata", "deletionGracePeriodSeconds"]), Some(grace), "{what}");
                    assert!(delete(&key, &after, propagation, Wall(0)).is_none(), "{what}: asked once");
                }
                (change, _) => panic!("{what}: {change:?}"),
            }
        }
    }
}
