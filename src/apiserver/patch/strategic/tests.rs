//! Tables: what kubectl sends, each directive, and what is refused.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{PatchError, PatchKind, apply};
use crate::api::{Resource, registry};

fn merged(resource: &Resource, object: &Value, patch: &Value) -> Value {
    apply(PatchKind::Strategic, resource, object, patch).unwrap_or_else(|error| panic!("{patch}: {error}"))
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "spec": {
            "replicas": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {"name": "nginx", "image": "nginx:1", "args": ["a", "b"],
                         "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                         "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                        {"name": "side", "image": "busybox"}],
                    "volumes": [{"name": "data", "emptyDir": {}}],
                    "tolerations": [{"key": "a", "operator": "Exists"}]}}}})
}

/// The deployment with other values at some paths; `null` takes a path away.
fn changed(changes: &[(&str, Value)]) -> Value {
    let mut object = deployment();
    for (pointer, value) in changes {
        let (parent, last) = pointer.rsplit_once('/').expect("a pointer");
        match object.pointer_mut(parent).expect("the parent is there") {
            Value::Object(map) if value.is_null() => drop(map.remove(last)),
            Value::Object(map) => drop(map.insert(last.to_owned(), value.clone())),
            Value::Array(list) => list[last.parse::<usize>().expect("an index")] = value.clone(),
            _ => panic!("{parent} holds nothing"),
        }
    }
    object
}

const POD: &str = "/spec/template/spec";

#[test]
fn what_kubectl_sends_for_a_deployment_does_what_its_user_meant() {
    let c0 = |field: &str| format!("{POD}/containers/0/{field}");
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let restarted = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-22T20:00:00Z"});
    for (what, patch, expected) in [
        (
            "apply with another image",
            json!({"metadata": {"annotations": {annotation: "{\"new\":1}\n"}}, "spec": {"template": {"spec": {
                "$setElementOrder/containers": [{"name": "nginx"}, {"name": "side"}],
                "containers": [{"name": "nginx", "image": "nginx:2"}]}}}}),
            changed(&[("/metadata/annotations", json!({annotation: "{\"new\":1}\n"})), (&c0("image"), json!("nginx:2"))]),
        ),
        (
            "apply without an environment variable",
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "nginx"}, {"name": "side"}],
                "containers": [{"name": "nginx", "$setElementOrder/env": [{"name": "B"}], "env": [{"$patch": "delete", "name": "A"}]}]}}}}),
            changed(&[(&c0("env"), json!([{"name": "B", "value": "2"}]))]),
        ),
        (
            "apply without any environment variable",
            json!({"spec": {"template": {"spec": {"containers": [{"name": "nginx", "env": null}]}}}}),
            changed(&[(&c0("env"), Value::Null)]),
        ),
        ("apply with other replicas", json!({"spec": {"replicas": 5}}), changed(&[("/spec/replicas", json!(5))])),
        (
            "apply with a container less",
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "nginx"}],
                "containers": [{"$patch": "delete", "name": "side"}]}}}}),
            {
                let nginx = deployment().pointer(&format!("{POD}/containers/0")).cloned().expect("there");
                changed(&[(&format!("{POD}/containers"), json!([nginx]))])
            },
        ),
        (
            "apply with the strategy Recreate",
            json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
            changed(&[("/spec/strategy", json!({"type": "Recreate"}))]),
        ),
        (
            "apply with another source of a volume",
            json!({"spec": {"template": {"spec": {"$setElementOrder/volumes": [{"name": "data"}],
                "volumes": [{"$retainKeys": ["configMap", "name"], "configMap": {"name": "c"}, "emptyDir": null, "name": "data"}]}}}}),
            changed(&[(&format!("{POD}/volumes"), json!([{"name": "data", "configMap": {"name": "c"}}]))]),
        ),
        (
            "set image",
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "nginx"}, {"name": "side"}],
                "containers": [{"image": "nginx:3", "name": "nginx"}]}}}}),
            changed(&[(&c0("image"), json!("nginx:3"))]),
        ),
        (
            "set env -c nginx A- C=3",
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "nginx"}, {"name": "side"}],
                "containers": [{"$setElementOrder/env": [{"name": "B"}, {"name": "C"}],
                    "env": [{"name": "C", "value": "3"}, {"$patch": "delete", "name": "A"}], "name": "nginx"}]}}}}),
            changed(&[(&c0("env"), json!([{"name": "B", "value": "2"}, {"name": "C", "value": "3"}]))]),
        ),
        (
            "set resources, where there were none",
            json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "nginx"}, {"name": "side"}],
                "containers": [{"name": "side", "resources": {"limits": {"cpu": "1"}}}]}}}}),
            changed(&[(
                &format!("{POD}/containers/1"),
                json!({"name": "side", "image": "busybox", "resources": {"limits": {"cpu": "1"}}}),
            )]),
        ),
        (
            "rollout restart",
            json!({"spec": {"template": {"metadata": {"annotations": restarted}}}}),
            changed(&[("/spec/template/metadata/annotations", restarted.clone())]),
        ),
        ("rollout pause", json!({"spec": {"paused": true}}), changed(&[("/spec/paused", json!(true))])),
        ("rollout resume", json!({"spec": {"paused": null}}), deployment()),
        ("nothing", json!({}), deployment()),
    ] {
        assert_eq!(merged(&registry::DEPLOYMENTS, &deployment(), &patch), expected, "{what}");
    }
}

#[test]
fn what_kubectl_sends_for_nodes_and_pods_does_what_its_user_meant() {
    let node =
        json!({"metadata": {"name": "pi", "labels": {"a": "1"}}, "spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}});
    for (what, patch, spec) in [
        (
            "cordon",
            json!({"spec": {"unschedulable": true}}),
            json!({"taints": [{"key": "x", "effect": "NoSchedule"}], "unschedulable": true}),
        ),
        ("uncordon", json!({"spec": {"unschedulable": null}}), json!({"taints": [{"key": "x", "effect": "NoSchedule"}]})),
        (
            "taint y",
            json!({"spec": {"taints": [{"effect": "NoExecute", "key": "y"}, {"effect": "NoSchedule", "key": "x"}]}}),
            json!({"taints": [{"effect": "NoExecute", "key": "y"}, {"effect": "NoSchedule", "key": "x"}]}),
        ),
        ("taint x-", json!({"spec": {"taints": null}}), json!({})),
    ] {
        assert_eq!(merged(&registry::NODES, &node, &patch)["spec"], spec, "{what}");
    }
    let debugged = merged(
        &registry::PODS,
        &json!({"spec": {"containers": [{"name": "a"}]}}),
        &json!({"spec": {"$setElementOrder/ephemeralContainers": [{"name": "debugger"}],
            "ephemeralContainers": [{"name": "debugger", "image": "busybox", "resources": {}}]}}),
    );
    assert_eq!(debugged["spec"]["ephemeralContainers"], json!([{"name": "debugger", "image": "busybox", "resources": {}}]));
}

#[test]
fn the_same_field_name_merges_by_the_key_of_its_kind() {
    for (resource, object, patch, expected) in [
        (
            &registry::SERVICES,
            json!({"spec": {"ports": [{"port": 80, "targetPort": 80}, {"port": 443}], "selector": {"a": "1"}}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}, {"port": 53}], "selector": {"b": "2"}}}),
            json!({"spec": {"ports": [{"port": 80, "targetPort": 8080}, {"port": 443}, {"port": 53}], "selector": {"a": "1", "b": "2"}}}),
        ),
        (
            &registry::PODS,
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 81, "name": "x"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81, "name": "x"}]}]}}),
        ),
        (
            &registry::PODS,
            json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/x", "name": "x"}], "envFrom": [{"prefix": "a"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/x", "name": "y"}], "envFrom": [{"prefix": "b"}]}]}}),
            json!({"spec": {"containers": [{"name": "a", "volumeMounts": [{"mountPath": "/x", "name": "y"}], "envFrom": [{"prefix": "b"}]}]}}),
        ),
        (
            &registry::NODES,
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Hot", "status": "False"}], "addresses": [{"type": "Hostname", "address": "a"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}], "addresses": [{"type": "InternalIP", "address": "::1"}]}}),
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "Hot", "status": "False"}],
                "addresses": [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "::1"}]}}),
        ),
        (
            &registry::NODES,
            json!({"metadata": {"finalizers": ["a", "b"]}, "spec": {"podCIDRs": ["10.0.0.0/24"]}}),
            json!({"metadata": {"finalizers": ["c", "a"]}, "spec": {"podCIDRs": ["10.0.1.0/24"]}}),
            json!({"metadata": {"finalizers": ["a", "b", "c"]}, "spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}}),
        ),
        (
            &registry::NAMESPACES,
            json!({"spec": {"finalizers": ["kubernetes", "x"]}}),
            json!({"spec": {"finalizers": ["kubernetes"]}}),
            json!({"spec": {"finalizers": ["kubernetes"]}}),
        ),
        (
            &registry::SERVICE_ACCOUNTS,
            json!({"secrets": [{"name": "a"}], "imagePullSecrets": [{"name": "a"}]}),
            json!({"secrets": [{"name": "b"}], "imagePullSecrets": [{"name": "b"}]}),
            json!({"secrets": [{"name": "a"}, {"name": "b"}], "imagePullSecrets": [{"name": "b"}]}),
        ),
        (
            &registry::PODS,
            json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}]}}),
            json!({"metadata": {"ownerReferences": [{"uid": "1", "controller": true}, {"uid": "2", "name": "b"}]}}),
            json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a", "controller": true}, {"uid": "2", "name": "b"}]}}),
        ),
        (
            // The object's own kind counts, where it is not the resource's; and this map is replaced.
            &registry::PODS,
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"selector": {"matchLabels": {"a": "1"}}}}),
            json!({"spec": {"selector": {"matchLabels": {"b": "2", "c": null}}}}),
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"selector": {"matchLabels": {"b": "2"}}}}),
        ),
    ] {
        assert_eq!(merged(resource, &object, &patch), expected, "{patch}");
    }
}

#[test]
fn each_directive_does_its_work() {
    let pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["x", "y", "z"]},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}], "nodeSelector": {"disk": "ssd"}}});
    for (what, patch, pointer, expected) in [
        (
            "a map is replaced",
            json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
            "/metadata/labels",
            json!({"c": "3"}),
        ),
        ("a map is emptied", json!({"metadata": {"labels": {"$patch": "delete", "c": "3"}}}), "/metadata/labels", json!({})),
        (
            "a map merges when told to",
            json!({"metadata": {"labels": {"$patch": "merge", "b": null}}}),
            "/metadata/labels",
            json!({"a": "1"}),
        ),
        (
            "a list is replaced",
            json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "d", "x": null}]}}),
            "/spec/containers",
            json!([{"name": "d"}]),
        ),
        ("a list is emptied", json!({"spec": {"containers": [{"$patch": "replace"}]}}), "/spec/containers", json!([])),
        (
            "items are ordered, and new ones stand where the order says",
            json!({"spec": {"$setElementOrder/containers": [{"name": "c"}, {"name": "d"}, {"name": "b"}, {"name": "a"}], "containers": [{"name": "d"}]}}),
            "/spec/containers",
            json!([{"name": "c"}, {"name": "d"}, {"name": "b"}, {"name": "a"}]),
        ),
        (
            "items that only the server knows stay before their successor",
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "d"}], "containers": [{"name": "d"}]}}),
            "/spec/containers",
            json!([{"name": "a"}, {"name": "b"}, {"name": "d"}, {"name": "c"}]),
        ),
        (
            "an order alone sorts",
            json!({"metadata": {"$setElementOrder/finalizers": ["z", "y", "x"]}}),
            "/metadata/finalizers",
            json!(["z", "y", "x"]),
        ),
        (
            "scalars are deleted and added",
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x", "none"], "$setElementOrder/finalizers": ["w", "y", "z"], "finalizers": ["w"]}}),
            "/metadata/finalizers",
            json!(["w", "y", "z"]),
        ),
        (
            "what is new carries neither nulls nor directives",
            json!({"spec": {"affinity": {"nodeAffinity": {"$retainKeys": ["a"], "a": 1, "b": null}, "$patch": "replace"}}}),
            "/spec/affinity",
            json!({"nodeAffinity": {"a": 1}}),
        ),
        ("a scalar gives way to a map", json!({"spec": {"nodeSelector": "none"}}), "/spec/nodeSelector", json!("none")),
        (
            "an unmatched deletion is no fault",
            json!({"spec": {"containers": [{"$patch": "delete", "name": "q"}]}}),
            "/spec/containers/2/name",
            json!("c"),
        ),
    ] {
        assert_eq!(merged(&registry::PODS, &pod, &patch).pointer(pointer), Some(&expected), "{what}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let pod = json!({"metadata": {"finalizers": ["x"]}, "spec": {"containers": [{"name": "a"}]}});
    for (patch, words) in [
        (json!({"$patch": "eat"}), "unknown patch type"),
        (json!({"spec": {"$patch": 1}}), "unknown patch type"),
        (json!({"spec": {"containers": [{"$patch": "eat", "name": "a"}]}}), "unknown patch type"),
        (json!({"spec": {"containers": ["a"]}}), "is no object"),
        (json!({"metadata": {"finalizers": [{"a": 1}]}}), "no plain value"),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "x"}}), "expected a list"),
        (json!({"metadata": {"$setElementOrder/finalizers": {}}}), "expected a list"),
        (json!({"metadata": {"$setElementOrder/finalizers": ["x"], "finalizers": ["y"]}}), "does not name"),
        (json!({"spec": {"$retainKeys": ["a"], "b": 1}}), "does not name b"),
        (json!({"spec": {"$retainKeys": "a"}}), "expected a list"),
    ] {
        match apply(PatchKind::Strategic, &registry::PODS, &pod, &patch) {
            Err(PatchError::Malformed(message)) => assert!(message.contains(words), "{patch}: {message}"),
            other => panic!("{patch}: {other:?}"),
        }
    }
    for patch in [json!({"spec": {"containers": [{"image": "x"}]}}), json!({"spec": {"containers": [{"name": null}]}})] {
        match apply(PatchKind::Strategic, &registry::PODS, &pod, &patch) {
            Err(PatchError::DoesNotFit(message)) => assert!(message.contains("merge key: name"), "{patch}: {message}"),
            other => panic!("{patch}: {other:?}"),
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![Just("name"), Just("merge"), Just("replace"), Just("delete"), Just("a"), Just("b")];
    let key = prop_oneof![
        Just("spec"),
        Just("metadata"),
        Just("containers"),
        Just("finalizers"),
        Just("name"),
        Just("env"),
        Just("$patch"),
        Just("$retainKeys"),
        Just("$setElementOrder/containers"),
        Just("$deleteFromPrimitiveList/finalizers"),
        Just("a"),
    ];
    let leaf = prop_oneof![Just(Value::Null), any::<u8>().prop_map(Value::from), word.prop_map(Value::from)];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn has_directive(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.iter().any(|(key, value)| key.starts_with('$') || has_directive(value)),
        Value::Array(list) => list.iter().any(has_directive),
        _ => false,
    }
}

proptest! {
    #[test]
    fn any_patch_of_any_object_gives_an_object_or_an_error(object in any_json(), patch in any_json()) {
        for kind in [PatchKind::Strategic, PatchKind::Merge, PatchKind::Json] {
            drop(apply(kind, &registry::PODS, &object, &patch));
        }
        if let Ok(patched) = apply(PatchKind::Strategic, &registry::PODS, &json!({}), &patch) {
            prop_assert!(patched.is_object());
            prop_assert!(!patched.as_object().is_some_and(|map| map.keys().any(|key| key.starts_with('$'))));
        }
        if object.is_object() && !has_directive(&object) {
            prop_assert_eq!(apply(PatchKind::Strategic, &registry::PODS, &object, &json!({})), Ok(object));
        }
    }
}
