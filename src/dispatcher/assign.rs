//! What one node should have: its pods, and just the config maps, secrets, volumes and labels of the node that they name; and
//! volumes to remove.
//!
//! In:       the view and a node's name.
//! Out:      a [`Share`].
//! Never:    numbers or sends it (`link/downlink.rs`, `run.rs`).
//! Flow:     from `scheduler/cycle.rs` by way of the store, on to `link/session.rs` (stops 6 → 7 → 8).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use crate::api::core::volume::{Claim, NeededClaim, ON_NODE, Volume, claims_of, was_made_for};
use crate::api::node_terms::Selection;
use crate::api::{Key, Object, registry};
use crate::link::share::Share;
use crate::store::View;

/// The node's whole share.
#[must_use]
pub fn share_of(view: &View, node: &str) -> Share {
    let mut share = Share::default();
    let mut keys: Option<BTreeSet<String>> = None;
    for pod in view.pods_on(node) {
        if let Some(asked) = Selection::keys(pod) {
            keys.get_or_insert_default().extend(asked);
        }
        for needed in needed_by(pod) {
            let (resource, map) = match needed {
                Needed::ConfigMap(_) => (&registry::CONFIG_MAPS, &mut share.config_maps),
                Needed::Secret(_) => (&registry::SECRETS, &mut share.secrets),
            };
            let (Needed::ConfigMap(name) | Needed::Secret(name)) = needed;
            let place = format!("{}/{name}", pod.namespace());
            if !map.contains_key(&place)
                && let Some(object) = view.get(&Key::new(resource, pod.namespace(), name))
            {
                map.insert(place, Arc::new(wanted_part(object)));
            }
        }
        for claim in claims_of(pod) {
            let place = format!("{}/{}", pod.namespace(), claim.name);
            if !share.claims.contains_key(&place)
                && let Some(volume) = volume_of(view, pod, &claim)
            {
                share.claims.insert(place, Arc::new(wanted_part(volume)));
            }
        }
        share.pods.insert(pod.uid(), Arc::new(wanted_part(pod)));
    }
    for volume in view.list(&registry::PERSISTENT_VOLUMES, None) {
        if Volume(volume).is_discarded() && volume.annotation(ON_NODE) == Some(node) {
            share.discard.insert(volume.name().to_owned(), Arc::new(wanted_part(volume)));
        }
    }
    let object = view.get(&Key::new(&registry::NODES, "", node));
    share.labels = object.zip(keys).map(|(object, keys)| {
        let label = |key: String| object.label(&key).map(str::to_owned).map(|value| (key, value));
        keys.into_iter().filter_map(label).collect()
    });
    share
}

/// The volume that a claim of a pod is bound to. Not that of a claim which was made for another pod.
fn volume_of<'a>(view: &'a View, pod: &Object, needed: &NeededClaim<'_>) -> Option<&'a Object> {
    let claim = view.get(&Key::new(&registry::PERSISTENT_VOLUME_CLAIMS, pod.namespace(), &needed.name))?;
    if !Claim(claim).is_bound() || (needed.ephemeral.is_some() && !was_made_for(claim, pod)) {
        return None;
    }
    let volume = view.get(&Key::new(&registry::PERSISTENT_VOLUMES, "", Claim(claim).volume_name()))?;
    Volume(volume).is_for(claim).then_some(volume)
}

/// The nodes that a change of a claim or a volume may concern.
pub fn concerned(view: &View, key: &Key, sides: [Option<&Arc<Object>>; 2]) -> BTreeSet<String> {
    let mut nodes = BTreeSet::new();
    let mut of_claim = |namespace: &str, name: &str| {
        let pods = view.list(&registry::PODS, Some(namespace)).filter(|pod| claims_of(pod).any(|claim| claim.name == name));
        nodes.extend(pods.map(|pod| pod.str_at(&["spec", "nodeName"]).to_owned()));
    };
    if *key.resource == registry::PERSISTENT_VOLUME_CLAIMS {
        of_claim(&key.namespace, &key.name);
        return nodes;
    }
    for volume in sides.into_iter().flatten() {
        if let Some((namespace, name, _)) = Volume(volume).claim() {
            of_claim(namespace, name);
        }
    }
    nodes.extend(sides.into_iter().flatten().filter_map(|volume| volume.annotation(ON_NODE)).map(str::to_owned));
    nodes
}

/// An object without what changes by itself, so that a pod's status does not make a new share. A terminal phase stays: the
/// node must not run a pod again that has ended, even if its containers are lost.
fn wanted_part(object: &Object) -> Object {
    let mut wanted = object.clone();
    wanted.raw_mut().remove("status");
    if matches!(object.str_at(&["status", "phase"]), "Succeeded" | "Failed") {
        // With its reason: a node that starts anew says the same again.
        for key in ["phase", "reason", "message"] {
            let words = object.str_at(&["status", key]);
            if !words.is_empty() {
                wanted.set_at(&["status", key], words);
            }
        }
    }
    // The conditions that somebody else sets and the node waits for.
    let gates: BTreeSet<&str> =
        object.list_at(&["spec", "readinessGates"]).iter().filter_map(|gate| gate.get("conditionType")?.as_str()).collect();
    let set = object.list_at(&["status", "conditions"]).iter();
    let set: Vec<Value> = set
        .filter(|condition| condition.get("type").and_then(Value::as_str).is_some_and(|kind| gates.contains(kind)))
        .cloned()
        .collect();
    if !set.is_empty() {
        wanted.set_at(&["status", "conditions"], set);
    }
    for volatile in ["resourceVersion", "managedFields"] {
        wanted.remove_at(&["metadata", volatile]);
    }
    // What kubectl keeps for itself would double the size of every share.
    wanted.remove_at(&["metadata", "annotations", "kubectl.kubernetes.io/last-applied-configuration"]);
    wanted
}

/// Something of the pod's namespace that the pod names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Needed<'a> {
    ConfigMap(&'a str),
    Secret(&'a str),
}

fn needed_by(pod: &Object) -> BTreeSet<Needed<'_>> {
    fn name<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
        path.iter().try_fold(value, |value, key| value.get(key))?.as_str()
    }
    let mut needed = BTreeSet::new();
    for volume in pod.list_at(&["spec", "volumes"]) {
        needed.extend(name(volume, &["configMap", "name"]).map(Needed::ConfigMap));
        needed.extend(name(volume, &["secret", "secretName"]).map(Needed::Secret));
        for source in volume.pointer("/projected/sources").and_then(Value::as_array).into_iter().flatten() {
            needed.extend(name(source, &["configMap", "name"]).map(Needed::ConfigMap));
            needed.extend(name(source, &["secret", "name"]).map(Needed::Secret));
        }
    }
    for container in ["initContainers", "containers", "ephemeralContainers"].iter().flat_map(|list| pod.list_at(&["spec", list]))
    {
        for env in container.get("env").and_then(Value::as_array).into_iter().flatten() {
            needed.extend(name(env, &["valueFrom", "configMapKeyRef", "name"]).map(Needed::ConfigMap));
            needed.extend(name(env, &["valueFrom", "secretKeyRef", "name"]).map(Needed::Secret));
        }
        for source in container.get("envFrom").and_then(Value::as_array).into_iter().flatten() {
            needed.extend(name(source, &["configMapRef", "name"]).map(Needed::ConfigMap));
            needed.extend(name(source, &["secretRef", "name"]).map(Needed::Secret));
        }
    }
    for secret in pod.list_at(&["spec", "imagePullSecrets"]) {
        needed.extend(name(secret, &["name"]).map(Needed::Secret));
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Resource, Revision};
    use crate::store::Op;
    use serde_json::json;

    fn put(view: &mut View, resource: &'static Resource, object: Value) {
        let object = Object::from_value(object).unwrap();
        let revision = view.revision().next();
        view.apply(revision, Op::create(Key::of(resource, &object), object).into());
    }

    #[test]
    fn a_node_gets_its_pods_and_only_what_they_name() {
        let mut view = View::new(Revision(1));
        for name in ["used", "env", "unused"] {
            put(&mut view, &registry::CONFIG_MAPS, json!({"metadata": {"namespace": "a", "name": name}, "data": {"k": name}}));
            put(&mut view, &registry::SECRETS, json!({"metadata": {"namespace": "a", "name": name}}));
        }
        put(
            &mut view,
            &registry::PODS,
            json!({"metadata": {"namespace": "a", "name": "web", "uid": "u1", "managedFields": []}, "status": {"phase": "Running"},
                "spec": {"nodeName": "pi", "volumes": [{"name": "v", "configMap": {"name": "used"}}, {"name": "w", "configMap": {"name": "missing"}}],
                "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "env"}}], "env": [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "used", "key": "k"}}}]}]}}),
        );
        put(
            &mut view,
            &registry::PODS,
            json!({"metadata": {"namespace": "a", "name": "other", "uid": "u2"}, "spec": {"nodeName": "pj"}}),
        );
        let share = share_of(&view, "pi");
        assert_eq!(share.pods.keys().map(|uid| uid.0.as_str()).collect::<Vec<_>>(), ["u1"]);
        assert_eq!(share.config_maps.keys().collect::<Vec<_>>(), ["a/env", "a/used"]);
        assert_eq!(share.secrets.keys().collect::<Vec<_>>(), ["a/used"]);
    }

    #[test]
    fn a_node_is_told_those_of_its_labels_that_its_pods_look_at() {
        let mut view = View::new(Revision(1));
        let pod = |name: &str, node: &str, spec: Value| {
            let mut pod = json!({"metadata": {"namespace": "a", "name": name, "uid": name}, "spec": spec});
            pod["spec"]["nodeName"] = json!(node);
            pod
        };
        put(
            &mut view,
            &registry::NODES,
            json!({"metadata": {"name": "pi", "labels": {"disk": "ssd", "room": "hall", "arch": "arm64"}}}),
        );
        put(&mut view, &registry::PODS, pod("any", "pi", json!({})));
        assert_eq!(share_of(&view, "pi").labels, None, "nobody looks at them");
        let absent = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}]}}});
        put(&mut view, &registry::PODS, pod("absent", "pi", json!({"affinity": absent})));
        assert_eq!(share_of(&view, "pi").labels, Some([].into()));
        put(&mut view, &registry::PODS, pod("fast", "pi", json!({"nodeSelector": {"disk": "ssd"}})));
        assert_eq!(share_of(&view, "pi").labels, Some([("disk".to_owned(), "ssd".to_owned())].into()));
        put(&mut view, &registry::PODS, pod("lost", "pj", json!({"nodeSelector": {"disk": "ssd"}})));
        assert_eq!(share_of(&view, "pj").labels, None, "there is no such node");
    }

    #[test]
    fn a_pod_has_the_volumes_of_its_bound_claims_and_a_node_those_to_remove() {
        let mut view = View::new(Revision(1));
        let pod = |claim: &str| {
            json!({"metadata": {"namespace": "a", "name": "web", "uid": "u1"}, "spec": {"nodeName": "pi",
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}, {"name": "w", "ephemeral": {"volumeClaimTemplate": {}}}]}})
        };
        put(&mut view, &registry::PODS, pod("data"));
        for (name, bound, owner) in [("data", true, ""), ("waits", false, ""), ("web-w", true, "u1")] {
            let annotations = if bound { json!({"pv.kubernetes.io/bind-completed": "yes"}) } else { json!({}) };
            let owners = json!([{"uid": owner, "controller": true}]);
            put(
                &mut view,
                &registry::PERSISTENT_VOLUME_CLAIMS,
                json!({"metadata": {"namespace": "a", "name": name, "uid": name,
                "annotations": annotations, "ownerReferences": owners}, "spec": {"volumeName": format!("pv-{name}")}}),
            );
            put(
                &mut view,
                &registry::PERSISTENT_VOLUMES,
                json!({"metadata": {"name": format!("pv-{name}"), "uid": name}, "spec":
                {"claimRef": {"namespace": "a", "name": name, "uid": name}, "local": {"path": "/v"}}, "status": {"phase": "Bound"}}),
            );
        }
        let share = share_of(&view, "pi");
        assert_eq!(share.claims.keys().collect::<Vec<_>>(), ["a/data", "a/web-w"]);
        assert_eq!(share.claims["a/data"].at(&["status"]), None);
        assert!(share.discard.is_empty());
        let key = Key::new(&registry::PERSISTENT_VOLUMES, "", "pv-data");
        let volume = view.get(&key).cloned();
        assert_eq!(concerned(&view, &key, [volume.as_ref(), None]), ["pi".to_owned()].into());
        put(
            &mut view,
            &registry::PERSISTENT_VOLUMES,
            json!({"metadata": {"name": "old", "annotations":
            {"bramble/node": "pi", "pv.kubernetes.io/provisioned-by": "bramble/local"}},
            "spec": {"persistentVolumeReclaimPolicy": "Delete"}, "status": {"phase": "Released"}}),
        );
        assert_eq!(share_of(&view, "pi").discard.keys().collect::<Vec<_>>(), ["old"]);
        assert!(share_of(&view, "pj").discard.is_empty());
    }

    #[test]
    fn a_status_makes_no_new_share_but_an_end_does() {
        let mut view = View::new(Revision(1));
        let mut digests = BTreeSet::new();
        for phase in ["Pending", "Running", "Succeeded"] {
            let object = json!({"metadata": {"namespace": "a", "name": "web", "uid": "u1"}, "status": {"phase": phase}, "spec": {"nodeName": "pi"}});
            let object = Object::from_value(object).unwrap();
            let revision = view.revision().next();
            let op = Op {
                key: Key::of(&registry::PODS, &object),
                expect: crate::store::Expect::Any,
                change: crate::store::Change::Put(object),
            };
            view.apply(revision, op.into());
            digests.insert(share_of(&view, "pi").digest());
        }
        assert_eq!(digests.len(), 2);
    }
}
