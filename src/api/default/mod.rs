//! What the API server fills in where a manifest is silent, per kind.
//!
//! In:       an object as it was decoded and pruned.
//! Out:      the same object, complete as `kubectl get -o yaml` shows it. What was said stays as it was said.
//! Never:    fails. What has a wrong shape is left alone; `validate/` words it.
//! Source:   the defaulting functions of Kubernetes 1.33 (`pkg/apis/*/v1/defaults.go`) and what its built-in admission sets.
//!
//! All functions are idempotent: filling twice is filling once (`tests` below, for any JSON).

pub mod deployment;
pub mod endpoints;
pub mod namespace;
pub mod networking;
pub mod pod;
pub mod replicaset;
pub mod resources;
pub mod secret;
pub mod service;
pub mod volume;

use serde_json::{Map, Value};

type Fields = Map<String, Value>;

/// Whether a field says nothing: absent or `null`.
fn is_unset(fields: &Fields, key: &str) -> bool {
    fields.get(key).is_none_or(Value::is_null)
}

/// Sets a field that is absent or `null`.
fn set_unset(fields: &mut Fields, key: &str, value: impl Into<Value>) {
    if is_unset(fields, key) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Sets a text that is absent, `null` or empty: a text without pointer upstream cannot tell these apart.
fn set_empty(fields: &mut Fields, key: &str, value: &str) {
    if is_unset(fields, key) || fields.get(key).and_then(Value::as_str) == Some("") {
        fields.insert(key.to_owned(), value.into());
    }
}

/// Sets a number that is absent, `null` or 0: a number without pointer upstream cannot tell these apart.
fn set_zero(fields: &mut Fields, key: &str, value: i64) {
    if is_unset(fields, key) || fields.get(key).and_then(Value::as_i64) == Some(0) {
        fields.insert(key.to_owned(), value.into());
    }
}

/// The map below a key, if there is one.
fn map<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    fields.get_mut(key).and_then(Value::as_object_mut)
}

/// The map below a key, made when the field says nothing; `None` when something else stands there.
fn map_or_new<'a>(fields: &'a mut Fields, key: &str) -> Option<&'a mut Fields> {
    set_unset(fields, key, Fields::new());
    map(fields, key)
}

/// The maps in the list below a key.
fn maps<'a>(fields: &'a mut Fields, key: &str) -> impl Iterator<Item = &'a mut Fields> + use<'a> {
    fields.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Object, registry};
    use proptest::prelude::*;

    /// Any JSON, made of the keys that defaulting looks at, so that it gets somewhere.
    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec![
            "spec",
            "template",
            "containers",
            "initContainers",
            "volumes",
            "ports",
            "resources",
            "limits",
            "requests",
            "cpu",
            "strategy",
            "type",
            "image",
            "livenessProbe",
            "httpGet",
            "env",
            "valueFrom",
            "fieldRef",
            "configMap",
            "projected",
            "sources",
            "emptyDir",
            "stringData",
            "data",
            "metadata",
            "name",
            "labels",
            "status",
            "selector",
            "clusterIP",
            "sessionAffinity",
            "hostNetwork",
            "containerPort",
            "subsets",
            "finalizers",
            "lifecycle",
            "postStart",
            "port",
            "targetPort",
            "secret",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec!["", "ClientIP", "LoadBalancer", "RollingUpdate", "1.5Gi", "nginx", "None", "ü"])
                .prop_map(Value::from),
        ];
        leaf.prop_recursive(7, 60, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn filling_any_json_twice_is_filling_it_once(spec in any_json(), metadata in any_json(), whole in any_json()) {
            for row in registry::ALL {
                for mut value in [serde_json::json!({"spec": spec, "metadata": metadata, "stringData": spec, "data": metadata}), whole.clone()] {
                    let Some(mut once) = Object::from_value(value.take()) else { continue };
                    (row.strategy.default)(&mut once);
                    let mut twice = once.clone();
                    (row.strategy.default)(&mut twice);
                    prop_assert_eq!(&once, &twice, "{:?}", row);
                }
            }
        }
    }
}
