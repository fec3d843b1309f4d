//! What is wrong with an object, field by field.
//!
//! In:       an object after defaulting; for updates also what is stored.
//! Out:      every fault at once, as [`FieldError`]s with paths and in Kubernetes' words.
//! Never:    panics, whatever JSON it is given (`tests` below); fails at the first fault; judges a value's JSON type, which
//!           the schema does before. A field of the wrong type counts as absent here.
//! Source:   `pkg/apis/*/validation` and apimachinery's `validation` of Kubernetes 1.33.
//! Flow:     `object.rs` for every kind, then the file of the kind, which calls the files for the parts of pods.

mod at;
pub mod certificate;
pub mod configmap;
mod container;
pub mod deployment;
mod dns;
pub mod ingress;
mod labels;
pub mod name;
pub mod namespace;
pub mod network;
pub mod node;
pub mod object;
pub mod pod;
pub mod policy;
mod probe;
pub mod record;
mod resources;
mod scheduling;
mod security;
pub mod service;
pub mod storage;
mod volume;

use std::fmt;

use serde_json::Value;

use at::At;

/// Why a field is refused; the name is the `reason` of a cause in a `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldErrorKind {
    /// `FieldValueRequired`
    Required,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueDuplicate`
    Duplicate,
    /// `FieldValueNotSupported`
    NotSupported,
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueTooLong`
    TooLong,
    /// `FieldValueNotFound`
    NotFound,
}

/// Where a field stands: `spec.containers[0].resources.limits[cpu]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// A field of the object itself.
    #[must_use]
    pub fn new(field: &str) -> Self {
        Self(field.to_owned())
    }

    /// A field of the map here.
    #[must_use]
    pub fn child(&self, field: &str) -> Self {
        if self.0.is_empty() { Self::new(field) } else { Self(format!("{}.{field}", self.0)) }
    }

    /// An entry of the list here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An entry of the map here whose keys are the user's.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One refused field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Why.
    pub kind: FieldErrorKind,
    /// For example `spec.containers[0].image`.
    pub path: String,
    /// Complete, in Kubernetes' words: `Invalid value: "x": must be …`, `Required value`.
    pub message: String,
}

impl FieldError {
    /// Something must stand there; `detail` may be empty.
    pub fn required(path: impl fmt::Display, detail: &str) -> Self {
        Self::made(FieldErrorKind::Required, path, "Required value".to_owned(), detail)
    }

    /// What stands there is wrong; `detail` says in which way.
    pub fn invalid(path: impl fmt::Display, value: impl Into<Value>, detail: &str) -> Self {
        Self::made(FieldErrorKind::Invalid, path, format!("Invalid value: {}", shown(&value.into())), detail)
    }

    /// It stands there twice.
    pub fn duplicate(path: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::made(FieldErrorKind::Duplicate, path, format!("Duplicate value: {}", shown(&value.into())), "")
    }

    /// Only the `supported` words may stand there.
    pub fn not_supported(path: impl fmt::Display, value: impl Into<Value>, supported: &[&str]) -> Self {
        let words: Vec<String> = supported.iter().map(|word| format!("{word:?}")).collect();
        let detail = if words.is_empty() { String::new() } else { format!("supported values: {}", words.join(", ")) };
        Self::made(FieldErrorKind::NotSupported, path, format!("Unsupported value: {}", shown(&value.into())), &detail)
    }

    /// Nothing may stand there, or it may not change.
    pub fn forbidden(path: impl fmt::Display, detail: &str) -> Self {
        Self::made(FieldErrorKind::Forbidden, path, "Forbidden".to_owned(), detail)
    }

    /// It is longer than `limit` bytes.
    pub fn too_long(path: impl fmt::Display, limit: usize) -> Self {
        Self::made(FieldErrorKind::TooLong, path, "Too long".to_owned(), &format!("may not be more than {limit} bytes"))
    }

    /// What it names is not there.
    pub fn not_found(path: impl fmt::Display, value: impl Into<Value>) -> Self {
        Self::made(FieldErrorKind::NotFound, path, format!("Not found: {}", shown(&value.into())), "")
    }

    fn made(kind: FieldErrorKind, path: impl fmt::Display, head: String, detail: &str) -> Self {
        let message = if detail.is_empty() { head } else { format!("{head}: {detail}") };
        Self { kind, path: path.to_string(), message }
    }
}

/// A wrong value as it is shown; a giant one is cut, so that the answer is never larger than the question.
fn shown(value: &Value) -> String {
    const MOST: usize = 1024;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// All errors as one sentence: `a.b: Required value`, or `[a.b: …, c: …]`.
#[must_use]
pub fn sentence(errors: &[FieldError]) -> String {
    let each: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.path, error.message)).collect();
    match each.as_slice() {
        [only] => only.clone(),
        _ => format!("[{}]", each.join(", ")),
    }
}

/// The faults that were found.
type Errors = Vec<FieldError>;

/// A field that is chosen from a list of words; absent is `required` where upstream says so.
fn one_of(field: &At<'_>, words: &[&str], out: &mut Errors) {
    if field.text().is_empty() {
        out.push(field.required());
    } else {
        one_of_or_none(field, words, out);
    }
}

/// The same, but it may be absent.
fn one_of_or_none(field: &At<'_>, words: &[&str], out: &mut Errors) {
    if !field.text().is_empty() && !words.contains(&field.text()) {
        out.push(FieldError::not_supported(&field.path, field.text(), words));
    }
}

/// A number that may be absent but not negative.
fn not_negative(field: &At<'_>, out: &mut Errors) {
    if field.int().is_some_and(|number| number < 0) {
        out.push(field.invalid("must be greater than or equal to 0"));
    }
}

/// One error for each message that a rule of `name.rs` has for a text.
fn each(field: &At<'_>, messages: Vec<String>, out: &mut Errors) {
    out.extend(messages.into_iter().map(|message| field.invalid(&message)));
}

/// A field that is what it was.
fn immutable(old: &At<'_>, new: &At<'_>, out: &mut Errors) {
    if old.value() != new.value() {
        out.push(new.invalid("field is immutable"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Object, registry};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn errors_are_worded_as_kubernetes_words_them() {
        let path = Path::new("spec").child("containers").index(0).child("limits").key("cpu");
        for (error, text) in [
            (FieldError::required(&path, ""), "Required value"),
            (FieldError::required(&path, "because"), "Required value: because"),
            (FieldError::invalid(&path, "x\"y", "is bad"), r#"Invalid value: "x\"y": is bad"#),
            (FieldError::invalid(&path, 3, "is bad"), "Invalid value: 3: is bad"),
            (FieldError::invalid(&path, json!({"a": "b"}), "is bad"), r#"Invalid value: {"a":"b"}: is bad"#),
            (FieldError::duplicate(&path, "x"), r#"Duplicate value: "x""#),
            (FieldError::not_supported(&path, "x", &["A", "B"]), r#"Unsupported value: "x": supported values: "A", "B""#),
            (FieldError::forbidden(&path, "never"), "Forbidden: never"),
            (FieldError::too_long(&path, 10), "Too long: may not be more than 10 bytes"),
            (FieldError::not_found(&path, "x"), r#"Not found: "x""#),
        ] {
            assert_eq!(error.message, text);
            assert_eq!(error.path, "spec.containers[0].limits[cpu]");
        }
    }

    #[test]
    fn a_giant_value_is_not_sent_back_whole() {
        assert!(FieldError::invalid("a", "ü".repeat(100_000), "is long").message.len() < 3000);
    }

    #[test]
    fn one_error_stands_alone_and_several_in_brackets() {
        let error = FieldError::required("a", "");
        assert_eq!(sentence(std::slice::from_ref(&error)), "a: Required value");
        assert_eq!(sentence(&[error.clone(), error]), "[a: Required value, a: Required value]");
    }

    /// Any JSON, made of the keys that the rules look at, so that it gets deep into them.
    fn any_json() -> impl Strategy<Value = Value> {
        let key = prop::sample::select(vec![
            "metadata",
            "name",
            "generateName",
            "namespace",
            "labels",
            "annotations",
            "ownerReferences",
            "finalizers",
            "spec",
            "template",
            "selector",
            "matchLabels",
            "matchExpressions",
            "key",
            "operator",
            "values",
            "replicas",
            "strategy",
            "rollingUpdate",
            "maxSurge",
            "maxUnavailable",
            "type",
            "containers",
            "initContainers",
            "image",
            "ports",
            "containerPort",
            "hostPort",
            "protocol",
            "env",
            "value",
            "valueFrom",
            "fieldRef",
            "fieldPath",
            "envFrom",
            "volumeMounts",
            "mountPath",
            "subPath",
            "resources",
            "limits",
            "requests",
            "cpu",
            "livenessProbe",
            "readinessProbe",
            "httpGet",
            "port",
            "exec",
            "command",
            "lifecycle",
            "postStart",
            "volumes",
            "emptyDir",
            "sizeLimit",
            "hostPath",
            "path",
            "configMap",
            "items",
            "mode",
            "secret",
            "projected",
            "sources",
            "tolerations",
            "effect",
            "tolerationSeconds",
            "affinity",
            "nodeAffinity",
            "requiredDuringSchedulingIgnoredDuringExecution",
            "nodeSelectorTerms",
            "podAffinity",
            "preferredDuringSchedulingIgnoredDuringExecution",
            "weight",
            "topologySpreadConstraints",
            "nodeSelector",
            "data",
            "binaryData",
            "immutable",
            "taints",
            "targetPort",
            "clusterIP",
            "rules",
            "http",
            "paths",
            "pathType",
            "backend",
            "service",
            "tls",
            "ingress",
            "from",
            "ipBlock",
            "cidr",
            "except",
            "externalName",
            "involvedObject",
            "subsets",
            "addresses",
            "status",
            "restartPolicy",
            "terminationGracePeriodSeconds",
            "activeDeadlineSeconds",
            "nodeName",
            "securityContext",
        ]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-2i64..70_000).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            prop::sample::select(vec![
                "",
                "a",
                "A_b",
                "-",
                "25%",
                "1Gi",
                "-1",
                "RollingUpdate",
                "Exists",
                "In",
                "metadata.labels['",
                "None",
                "ü",
                "../..",
                "a/b/c",
                "/"
            ])
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(8, 80, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())),
            ]
        })
    }

    fn look(row: &crate::api::Resource, old: &Object, new: &Object) {
        let _ = (object::errors(row, new), object::update_errors(row, old, new));
        let _ = ((row.strategy.validate)(new), (row.strategy.validate_update)(old, new));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_json_makes_validation_panic(parts in prop::collection::vec(any_json(), 4), other in any_json()) {
            let containers = json!([parts[0], {"name": "a", "ports": parts[1], "env": parts[2], "resources": parts[3], "volumeMounts": parts[0],
                "livenessProbe": parts[1], "lifecycle": parts[2]}]);
            let pod = json!({"containers": containers, "volumes": [parts[2], {"name": "v", "projected": parts[3]}], "tolerations": parts[1],
                "affinity": parts[3], "topologySpreadConstraints": parts[0]});
            for value in [
                json!({"metadata": parts[0], "spec": pod}),
                json!({"metadata": parts[1], "spec": {"selector": parts[0], "strategy": parts[2], "template": {"metadata": parts[1], "spec": pod}}}),
                json!({"metadata": parts[2], "spec": parts[3], "data": parts[0], "ports": parts[1], "taints": parts[2]}),
                parts[0].clone(),
            ] {
                let (Some(mut new), Some(old)) = (Object::from_value(value), Object::from_value(json!({"metadata": parts[3], "spec": other}))) else { continue };
                for row in registry::ALL {
                    look(row, &old, &new);
                    look(row, &new, &new);
                }
                for row in registry::ALL {
                    (row.strategy.default)(&mut new);
                    look(row, &old, &new);
                }
            }
        }
    }
}
