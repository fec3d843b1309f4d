//! Takes out what the schema does not have, and finds values of a wrong type.
//!
//! In:       an object and the message that it should be.
//! Out:      the pruned object; the paths that went; the first value of a wrong type.
//! Source:   what the published API answers to `fieldValidation=Strict`, in its words where users know them:
//!           `unknown field "spec.replicaz"`, `json: cannot unmarshal string into Go struct field …`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::Findings;
use super::table::{Field, Message, MessageId, Shape, Table, Type};
use crate::api::quantity::Quantity;
use crate::api::time;

/// More unknown fields than these are not listed; they are taken out all the same.
const MAX_LISTED: usize = 100;

pub(super) fn prune(table: &Table, message: MessageId, object: &mut Value) -> Findings {
    let mut walk = Walk { table, findings: Findings::default(), path: String::new() };
    let message = table.message(message);
    match object {
        Value::Object(map) => walk.message(message, map),
        other => walk.wrong(format!("json: cannot unmarshal {} into Go value of type {}", sort(other), message.go_name())),
    }
    walk.findings
}

struct Walk<'a> {
    table: &'a Table,
    findings: Findings,
    /// `spec.containers[0]`.
    path: String,
}

impl Walk<'_> {
    fn message(&mut self, message: &Message, map: &mut Map<String, Value>) {
        map.retain(|name, value| {
            let Some(field) = message.field(name) else {
                self.at(name, |walk| {
                    if walk.findings.unknown.len() < MAX_LISTED {
                        walk.findings.unknown.push(walk.path.clone());
                    }
                });
                return false;
            };
            if value.is_null() {
                return false;
            }
            self.at(name, |walk| walk.field(message, field, value));
            true
        });
    }

    /// Does it one step deeper.
    fn at(&mut self, name: &str, act: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        act(self);
        self.path.truncate(length);
    }

    fn field(&mut self, parent: &Message, field: &Field, value: &mut Value) {
        match (field.shape, &mut *value) {
            (Shape::One, value) => self.value(parent, field.of, value),
            (Shape::List, Value::Array(list)) => self.list(parent, field.of, list),
            (Shape::Map, Value::Object(map)) => {
                for (key, value) in map.iter_mut() {
                    if value.is_null() {
                        *value = zero(field.of);
                    } else {
                        self.at(key, |walk| walk.value(parent, field.of, value));
                    }
                }
            }
            (Shape::List, other) => self.misfit(parent, other, &format!("[]{}", self.go_type(field.of))),
            (Shape::Map, other) => self.misfit(parent, other, &format!("map[string]{}", self.go_type(field.of))),
        }
    }

    fn list(&mut self, parent: &Message, of: Type, list: &mut [Value]) {
        for (index, item) in list.iter_mut().enumerate() {
            if item.is_null() {
                *item = zero(of);
                continue;
            }
            let length = self.path.len();
            self.path.push_str(&format!("[{index}]"));
            self.value(parent, of, item);
            self.path.truncate(length);
        }
    }

    fn value(&mut self, parent: &Message, of: Type, value: &mut Value) {
        match (of, &mut *value) {
            (Type::Any, _) | (Type::String, Value::String(_)) | (Type::Bool, Value::Bool(_)) => {}
            (Type::Int64, Value::Number(number)) if number.is_i64() => {}
            (Type::Int32, Value::Number(number)) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {}
            (Type::Message(id), _) => {
                let message = self.table.message(id);
                match (&mut *value, message.items()) {
                    (Value::Array(list), Some(items)) => self.list(message, items.of, list),
                    (Value::Object(map), None) => self.message(message, map),
                    (other, _) => self.misfit(parent, other, &self.go_type(of)),
                }
            }
            (Type::IntOrString, Value::String(_)) => {}
            (Type::IntOrString, Value::Number(number)) if number.as_i64().is_some_and(|number| i32::try_from(number).is_ok()) => {
            }
            (Type::Quantity, Value::String(text)) => {
                if Quantity::parse(text.trim()).is_none() {
                    self.wrong_quantity(value);
                }
            }
            (Type::Quantity, Value::Number(number)) => match Quantity::parse(&number.to_string()) {
                Some(quantity) if quantity.milli % 1000 == 0 => *value = (quantity.milli / 1000).to_string().into(),
                Some(quantity) => *value = format!("{}m", quantity.milli).into(),
                None => self.wrong_quantity(value),
            },
            (Type::Quantity, _) => self.wrong_quantity(value),
            (Type::Time | Type::MicroTime, Value::String(text)) => {
                if time::parse(text).is_none() {
                    let words =
                        format!("{}: parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": it is no RFC 3339 time", self.path);
                    self.wrong(words);
                }
            }
            (Type::Bytes, Value::String(text)) => {
                text.retain(|c| c != '\n' && c != '\r');
                if let Err(error) = STANDARD.decode(text.as_bytes()) {
                    let place = match error {
                        base64::DecodeError::InvalidByte(offset, _) | base64::DecodeError::InvalidLastSymbol(offset, _) => offset,
                        base64::DecodeError::InvalidLength(length) => length,
                        base64::DecodeError::InvalidPadding => text.len(),
                    };
                    self.wrong(format!("{}: illegal base64 data at input byte {place}", self.path));
                }
            }
            (_, other) => self.misfit(parent, other, &self.go_type(of)),
        }
    }

    fn wrong_quantity(&mut self, value: &Value) {
        let words = format!(
            "{}: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', found {value}",
            self.path
        );
        self.wrong(words);
    }

    fn misfit(&mut self, parent: &Message, value: &Value, wanted: &str) {
        let found = match value {
            // Only a number that does not fit is said itself.
            Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
            other => sort(other).to_owned(),
        };
        let words = format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
            parent.short_name(),
            self.bare_path()
        );
        self.wrong(words);
    }

    fn wrong(&mut self, words: String) {
        self.findings.wrong_type.get_or_insert(words);
    }

    /// The path without the places in lists.
    fn bare_path(&self) -> String {
        let mut bare = String::with_capacity(self.path.len());
        let mut rest = self.path.as_str();
        while let Some((before, after)) = rest.split_once('[') {
            bare.push_str(before);
            rest = after.split_once(']').map_or("", |(_, after)| after);
        }
        bare + rest
    }

    fn go_type(&self, of: Type) -> String {
        match of {
            Type::String => "string".into(),
            Type::Bool => "bool".into(),
            Type::Int32 => "int32".into(),
            Type::Int64 => "int64".into(),
            Type::Bytes => "[]uint8".into(),
            Type::Quantity => "resource.Quantity".into(),
            Type::Time => "v1.Time".into(),
            Type::MicroTime => "v1.MicroTime".into(),
            Type::IntOrString => "intstr.IntOrString".into(),
            Type::Any => "runtime.RawExtension".into(),
            Type::Message(id) => self.table.message(id).go_name(),
        }
    }
}

/// What `null` in a list or a map stands for.
fn zero(of: Type) -> Value {
    match of {
        Type::String | Type::Bytes => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        Type::Message(_) => Value::Object(Map::new()),
        Type::Time | Type::MicroTime | Type::Any => Value::Null,
    }
}

fn sort(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use crate::api::schema::{Findings, prune, prune_kind};
    use crate::api::{Resource, registry};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn pruned(resource: &Resource, object: &Value) -> (Value, Findings) {
        let mut object = object.clone();
        let findings = prune(resource, &mut object);
        (object, findings)
    }

    #[test]
    fn a_right_object_stays_as_it_is() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"a.b/c": "d"}, "annotations": {"x": "y"}, "creationTimestamp": "2026-11-22T20:00:00Z",
                "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:anything": {}}}}]},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                    "containers": [{"name": "c", "image": "i", "resources": {"limits": {"cpu": "500m"}, "requests": {"memory": "1Gi"}},
                        "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 3},
                        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}]}],
                    "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "q", "defaultMode": 420}}]}}},
            "status": {"observedGeneration": 1}});
        assert_eq!(pruned(&registry::DEPLOYMENTS, &deployment), (deployment, Findings::default()));
    }

    #[test]
    fn unknown_fields_are_taken_out_and_named_by_their_path() {
        let (object, findings) = pruned(
            &registry::DEPLOYMENTS,
            &json!({"metadata": {"labelz": {}, "labels": {"free": "text"}}, "spec": {"replicaz": 3, "template": {"spec": {
                "containers": [{"name": "a"}, {"imag": "x", "ports": [{"port": 1}], "resources": {"limits": {"cpu": "1"}, "limit": 1}}]}}},
                "Spec": {}, "a\"b": 1}),
        );
        assert_eq!(
            findings.unknown,
            [
                "Spec",
                "a\"b",
                "metadata.labelz",
                "spec.replicaz",
                "spec.template.spec.containers[1].imag",
                "spec.template.spec.containers[1].ports[0].port",
                "spec.template.spec.containers[1].resources.limit"
            ]
        );
        assert_eq!(findings.wrong_type, None);
        assert_eq!(
            object,
            json!({"metadata": {"labels": {"free": "text"}}, "spec": {"template": {"spec": {
                "containers": [{"name": "a"}, {"ports": [{}], "resources": {"limits": {"cpu": "1"}}}]}}}})
        );
    }

    #[test]
    fn nulls_go_and_quantities_become_text() {
        let (object, findings) = pruned(
            &registry::PODS,
            &json!({"metadata": {"creationTimestamp": null, "labels": {"empty": null}}, "status": null, "spec": {"overhead": {"cpu": 2, "memory": 0.5},
                "containers": [{"name": "a", "args": ["x", null], "resources": {"limits": {"cpu": 0.25, "memory": 1.5e3, "x": null}}}]}}),
        );
        assert_eq!(findings, Findings::default());
        assert_eq!(
            object,
            json!({"metadata": {"labels": {"empty": ""}}, "spec": {"overhead": {"cpu": "2", "memory": "500m"},
                "containers": [{"name": "a", "args": ["x", ""], "resources": {"limits": {"cpu": "250m", "memory": "1500", "x": "0"}}}]}})
        );
    }

    #[test]
    fn wrong_types_are_said_in_the_words_that_users_know() {
        let into = "json: cannot unmarshal ";
        for (resource, object, words) in [
            (
                &registry::DEPLOYMENTS,
                json!({"spec": {"replicas": "3"}}),
                "string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                &registry::DEPLOYMENTS,
                json!({"spec": {"replicas": 1.5}}),
                "number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                &registry::DEPLOYMENTS,
                json!({"spec": {"replicas": 3_000_000_000u64}}),
                "number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
            (
                &registry::DEPLOYMENTS,
                json!({"spec": {"template": {"spec": {"containers": {"name": "a"}}}}}),
                "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
            (
                &registry::PODS,
                json!({"spec": {"containers": [{}, {"image": 5}]}}),
                "number into Go struct field Container.spec.containers.image of type string",
            ),
            (
                &registry::PODS,
                json!({"spec": {"containers": ["a"]}}),
                "string into Go struct field PodSpec.spec.containers of type v1.Container",
            ),
            (
                &registry::PODS,
                json!({"spec": {"hostNetwork": "yes"}}),
                "string into Go struct field PodSpec.spec.hostNetwork of type bool",
            ),
            (
                &registry::PODS,
                json!({"metadata": {"labels": {"a": 1}}}),
                "number into Go struct field ObjectMeta.metadata.labels.a of type string",
            ),
            (
                &registry::PODS,
                json!({"metadata": {"labels": []}}),
                "array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
            ),
            (
                &registry::SERVICES,
                json!({"spec": {"ports": [{"targetPort": true}]}}),
                "bool into Go struct field ServicePort.spec.ports.targetPort of type intstr.IntOrString",
            ),
            (
                &registry::CONFIG_MAPS,
                json!({"data": "x"}),
                "string into Go struct field ConfigMap.data of type map[string]string",
            ),
            (&registry::PODS, json!([]), "array into Go value of type v1.Pod"),
        ] {
            let (_, findings) = pruned(resource, &object);
            assert_eq!(findings.wrong_type.as_deref().and_then(|text| text.strip_prefix(into)), Some(words), "{object}");
        }
    }

    #[test]
    fn special_values_are_checked() {
        for (object, words) in [
            (json!({"data": {"k": "b25l\nMQ=="}}), None),
            (json!({"data": {"k": "no base64!"}}), Some("data.k: illegal base64 data at input byte 2")),
            (json!({"data": {"k": "YQ"}}), Some("data.k: illegal base64 data at input byte")),
            (json!({"metadata": {"creationTimestamp": "today"}}), Some("metadata.creationTimestamp: parsing time \"today\"")),
        ] {
            let found = pruned(&registry::SECRETS, &object).1.wrong_type;
            match words {
                None => assert_eq!(found, None, "{object}"),
                Some(words) => assert!(found.as_deref().is_some_and(|found| found.starts_with(words)), "{object}: {found:?}"),
            }
        }
        for cpu in [json!("a lot"), json!({}), json!(true)] {
            let found = pruned(&registry::PODS, &json!({"spec": {"overhead": {"cpu": cpu}}})).1.wrong_type;
            assert!(found.is_some_and(|found| found.starts_with("spec.overhead.cpu: quantities must match")), "{cpu}");
        }
    }

    #[test]
    fn bodies_that_are_no_objects_of_a_resource_have_a_schema_too() {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background", "grace": 1});
        assert_eq!(prune_kind("v1", "DeleteOptions", &mut options).expect("is known").unknown, ["grace"]);
        assert_eq!(options, json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}));
        assert_eq!(prune_kind("example.org/v1", "Lamp", &mut options), None);
        let mut review = json!({"spec": {"extra": {"scopes": ["a", "b"]}}});
        assert_eq!(prune_kind("authorization.k8s.io/v1", "SubjectAccessReview", &mut review), Some(Findings::default()));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop_oneof!["metadata|spec|labels|containers|env|name|resources|limits|status|volumes|emptyDir", "[a-z]"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[0-9a-z.]{0,4}".prop_map(Value::from)
        ];
        leaf.prop_recursive(6, 40, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map(key.clone(), inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_pruned_has_nothing_left_to_prune(object in any_json()) {
            for resource in registry::ALL {
                let (once, first) = pruned(resource, &object);
                let (twice, again) = pruned(resource, &once);
                prop_assert_eq!(&once, &twice);
                prop_assert_eq!(again, Findings { unknown: Vec::new(), wrong_type: first.wrong_type });
            }
        }
    }
}
