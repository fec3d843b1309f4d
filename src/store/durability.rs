//! Which changes outlive a restart.
//!
//! In:       one operation: what stood at a key before, what stands there after.
//! Out:      [`Durability`].
//! Source:   DESIGN §6. Stored is what a person or a controller decided; volatile is what is repeated or can be derived
//!           again. So an idle cluster writes nothing.

use serde_json::Value;

use crate::api::{Key, Object, registry};

/// Whether a change goes into the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It must outlive a restart.
    Stored,
    /// It is kept in memory only.
    Volatile,
}

/// The namespace of the nodes' heartbeats.
const NODE_LEASES: &str = "kube-node-lease";

/// The labels of endpoints that a controller keeps: it makes them anew from the pods.
const DERIVED: [(&str, &str); 3] = [
    ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"),
    ("endpointslice.kubernetes.io/managed-by", "endpointslicemirroring-controller.k8s.io"),
    ("endpoints.kubernetes.io/managed-by", "endpoint-controller"),
];

/// Whether this object at this key is never stored: events, the heartbeats of nodes, endpoints that a controller keeps.
#[must_use]
pub fn is_never_stored(key: &Key, object: &Object) -> bool {
    let is_endpoints = *key.resource == registry::ENDPOINT_SLICES || *key.resource == registry::ENDPOINTS;
    *key.resource == registry::EVENTS
        || (*key.resource == registry::LEASES && key.namespace == NODE_LEASES)
        || (is_endpoints && DERIVED.iter().any(|(label, keeper)| object.label(label) == Some(keeper)))
}

/// Whether the change from `before` to `after` at `key` is stored. What is stored is then stored whole, with the status and
/// the renewTime that it has at that moment.
#[must_use]
pub fn durability(key: &Key, before: Option<&Object>, after: Option<&Object>) -> Durability {
    let mut sides = [before, after].into_iter().flatten();
    let stored = !sides.all(|object| is_never_stored(key, object))
        && match (before, after) {
            (None, None) => false,
            (None, Some(_)) | (Some(_), None) => true,
            (Some(before), Some(after)) => is_decided(key, before, after),
        };
    if stored { Durability::Stored } else { Durability::Volatile }
}

/// Whether somebody decided something between the two.
fn is_decided(key: &Key, before: &Object, after: &Object) -> bool {
    if *key.resource == registry::PODS && is_terminal(phase(after)) && phase(before) != phase(after) {
        // A finished pod is not run again after a restart, whatever its node remembers.
        return true;
    }
    if *key.resource == registry::NODES && before.at(&["status", "addresses"]) != after.at(&["status", "addresses"]) {
        // The other nodes reach it there, and after a start of the master they are told so before it has spoken.
        return true;
    }
    let renewed = *key.resource == registry::LEASES;
    if differs(before, after, |field| field == "status" || field == "metadata" || (field == "spec" && renewed)) {
        return true;
    }
    if renewed && differs_below(before, after, "spec", |field| field == "renewTime") {
        return true;
    }
    if differs_below(before, after, "metadata", |field| field == "resourceVersion" || field == "managedFields") {
        return true;
    }
    // A status that is written takes its line in managedFields along; a change of managedFields alone is somebody's claim.
    let repeated = before.at(&["status"]) != after.at(&["status"]) || renewed;
    !repeated && before.at(&["metadata", "managedFields"]) != after.at(&["metadata", "managedFields"])
}

/// Whether nothing but a lease's renewTime changed: a heartbeat.
#[must_use]
pub fn is_renewal(key: &Key, before: Option<&Object>, after: Option<&Object>) -> bool {
    *key.resource == registry::LEASES && before.zip(after).is_some_and(|(before, after)| !is_decided(key, before, after))
}

fn phase(pod: &Object) -> &str {
    pod.str_at(&["status", "phase"])
}

fn is_terminal(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

/// Whether a top-level field that is not `left_out` differs.
fn differs(before: &Object, after: &Object, left_out: impl Fn(&str) -> bool) -> bool {
    maps_differ(Some(before.raw()), Some(after.raw()), left_out)
}

/// Whether a field of the map at `top` that is not `left_out` differs.
fn differs_below(before: &Object, after: &Object, top: &str, left_out: impl Fn(&str) -> bool) -> bool {
    let (before, after) = (before.at(&[top]), after.at(&[top]));
    let is_other = |value: Option<&Value>| value.is_some_and(|value| !value.is_object());
    if is_other(before) || is_other(after) {
        return before != after;
    }
    maps_differ(before.and_then(Value::as_object), after.and_then(Value::as_object), left_out)
}

fn maps_differ(
    before: Option<&serde_json::Map<String, Value>>,
    after: Option<&serde_json::Map<String, Value>>,
    left_out: impl Fn(&str) -> bool,
) -> bool {
    let changed =
        before.into_iter().flatten().any(|(key, value)| !left_out(key) && after.and_then(|after| after.get(key)) != Some(value));
    let added = after.into_iter().flatten().any(|(key, _)| !left_out(key) && before.and_then(|before| before.get(key)).is_none());
    changed || added
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Resource;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    /// The change from one value to another, at a key of `resource` in `namespace`.
    fn of(resource: &'static Resource, namespace: &str, before: Value, after: Value) -> Durability {
        let some = |value: Value| (!value.is_null()).then(|| object(value));
        let (before, after) = (some(before), some(after));
        durability(&Key::new(resource, namespace, "x"), before.as_ref(), after.as_ref())
    }

    #[test]
    fn a_heartbeat_changes_the_time_of_a_lease_and_nothing_else() {
        let lease = |holder: &str, time: &str| json!({"metadata": {"resourceVersion": time}, "spec": {"holderIdentity": holder, "renewTime": time}});
        let (one, two, other) = (object(lease("pi", "1")), object(lease("pi", "2")), object(lease("other", "2")));
        let heartbeat = Key::new(&registry::LEASES, NODE_LEASES, "pi");
        for (key, before, after, expected) in [
            (&heartbeat, Some(&one), Some(&two), true),
            (&heartbeat, Some(&one), Some(&other), false),
            (&heartbeat, None, Some(&one), false),
            (&heartbeat, Some(&one), None, false),
            (&Key::new(&registry::CONFIG_MAPS, "default", "pi"), Some(&one), Some(&two), false),
        ] {
            assert_eq!(is_renewal(key, before, after), expected, "{key:?} {after:?}");
        }
    }

    #[test]
    fn what_is_repeated_is_volatile_and_what_was_decided_is_stored() {
        use Durability::{Stored, Volatile};
        use registry::{CONFIG_MAPS, DEPLOYMENTS, EVENTS, LEASES, NODES, PODS};
        let pod = |phase: &str, rv: &str| json!({"metadata": {"name": "x", "resourceVersion": rv}, "spec": {"a": 1}, "status": {"phase": phase}});
        let lease =
            |holder: &str, time: &str| json!({"metadata": {"name": "x"}, "spec": {"holderIdentity": holder, "renewTime": time}});
        let claimed = |by: &str, status: i64| json!({"metadata": {"managedFields": [{"manager": by}]}, "status": {"n": status}});
        let n = Value::Null;
        for (line, resource, namespace, before, after, expected) in [
            (line!(), &EVENTS, "default", n.clone(), json!({}), Volatile),
            (line!(), &EVENTS, "default", json!({}), json!({"count": 2}), Volatile),
            (line!(), &EVENTS, "default", json!({}), n.clone(), Volatile),
            (line!(), &LEASES, "kube-node-lease", n.clone(), lease("pi", "1"), Volatile),
            (line!(), &LEASES, "kube-node-lease", lease("pi", "1"), lease("other", "2"), Volatile),
            (line!(), &LEASES, "kube-node-lease", lease("pi", "1"), n.clone(), Volatile),
            (line!(), &LEASES, "default", n.clone(), lease("pi", "1"), Stored),
            (line!(), &LEASES, "default", lease("pi", "1"), lease("pi", "2"), Volatile),
            (line!(), &LEASES, "default", lease("pi", "1"), lease("other", "2"), Stored),
            (line!(), &LEASES, "default", lease("pi", "1"), json!({"metadata": {"name": "x"}}), Stored),
            (line!(), &LEASES, "default", lease("pi", "1"), n.clone(), Stored),
            (line!(), &PODS, "default", n.clone(), pod("Pending", "1"), Stored),
            (line!(), &PODS, "default", pod("Pending", "1"), pod("Running", "2"), Volatile),
            (line!(), &PODS, "default", pod("Running", "1"), pod("Succeeded", "2"), Stored),
            (line!(), &PODS, "default", pod("Running", "1"), pod("Failed", "2"), Stored),
            (line!(), &PODS, "default", pod("Failed", "1"), pod("Failed", "2"), Volatile),
            (line!(), &PODS, "default", pod("Failed", "1"), n.clone(), Stored),
            (
                line!(),
                &PODS,
                "default",
                pod("Pending", "1"),
                json!({"metadata": {"name": "x"}, "spec": {"a": 2}, "status": {"phase": "Running"}}),
                Stored,
            ),
            (
                line!(),
                &PODS,
                "default",
                json!({"metadata": {}}),
                json!({"metadata": {"deletionTimestamp": "t"}, "status": {}}),
                Stored,
            ),
            (line!(), &PODS, "default", json!({"metadata": {"labels": {"a": "b"}}}), json!({"metadata": {}}), Stored),
            (line!(), &PODS, "default", json!({"metadata": {"labels": {"a": "b"}}}), json!({}), Stored),
            (line!(), &NODES, "", json!({"spec": {}}), json!({"spec": {}, "status": {"conditions": []}}), Volatile),
            (line!(), &NODES, "", json!({"spec": {}}), json!({"spec": {"unschedulable": true}}), Stored),
            (
                line!(),
                &NODES,
                "",
                json!({"spec": {}}),
                json!({"spec": {}, "status": {"addresses": [{"address": "10.0.0.5"}]}}),
                Stored,
            ),
            (line!(), &DEPLOYMENTS, "default", claimed("kubectl", 1), claimed("controller", 2), Volatile),
            (line!(), &DEPLOYMENTS, "default", claimed("kubectl", 1), claimed("somebody", 1), Stored),
            (line!(), &CONFIG_MAPS, "default", json!({"data": {"a": "b"}}), json!({"data": {"a": "c"}}), Stored),
            (line!(), &CONFIG_MAPS, "default", json!({"data": {"a": "b"}}), json!({"data": {"a": "b"}}), Volatile),
            (line!(), &CONFIG_MAPS, "default", json!({"data": null}), json!({"data": null, "immutable": null}), Stored),
            (line!(), &CONFIG_MAPS, "default", n.clone(), n.clone(), Volatile),
        ] {
            assert_eq!(of(resource, namespace, before, after), expected, "case at line {line}");
        }
    }
}
