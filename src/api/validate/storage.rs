//! Persistent volumes, claims, storage classes and priority classes.
//!
//! Source:   `ValidatePersistentVolume`, `ValidatePersistentVolumeClaim` and their updates, of core; `ValidateStorageClass` of storage;
//!           `ValidatePriorityClass` of scheduling.

use serde_json::Value;

use super::at::At;
use super::{Errors, FieldError, each, immutable, labels, name, one_of, one_of_or_none, resources, scheduling};
use crate::api::Object;
use crate::api::core::priority::SYSTEM;
use crate::api::quantity::Quantity;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
/// Everything of a volume's spec that is not where its bytes are.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
/// The largest that a person may give to a class.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;

/// What is wrong with a volume.
#[must_use]
pub fn volume_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    modes(&spec.get("accessModes"), "", &mut out);
    let capacity = spec.get("capacity");
    if capacity.len() == 0 {
        out.push(capacity.required());
    } else if capacity.len() != 1 || !capacity.get("storage").is_set() {
        out.push(FieldError::not_supported(&capacity.path, capacity.value().clone(), &["storage"]));
    }
    for (key, value) in capacity.entries() {
        positive(&At::field(object, "spec").get("capacity"), key, &value, &mut out);
    }
    let sources = sources(&spec);
    match sources.split_first() {
        None => out.push(FieldError::required(&spec.path, "must specify a volume type")),
        Some((first, more)) => {
            out.extend(more.iter().map(|at| at.forbidden("may not specify more than 1 volume type")));
            source(first, &spec, &mut out);
        }
    }
    let required = spec.get("nodeAffinity").get("required");
    if spec.get("nodeAffinity").is_set() && !required.is_set() {
        out.push(FieldError::required(&required.path, "must specify required node constraints"));
    } else if required.is_set() {
        scheduling::node_selector(&required, &mut out);
    }
    if spec.get("local").is_set() && !required.is_set() {
        let annotations = At::field(object, "metadata").get("annotations");
        out.push(FieldError::required(&annotations.path, "Local volume requires node affinity"));
    }
    one_of_or_none(&spec.get("persistentVolumeReclaimPolicy"), &["Delete", "Recycle", "Retain"], &mut out);
    class_name(&spec.get("storageClassName"), &mut out);
    one_of_or_none(&spec.get("volumeMode"), &VOLUME_MODES, &mut out);
    out
}

/// What is wrong with a change of a volume: where its bytes are stays.
#[must_use]
pub fn volume_update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let (before, after) = (At::field(old, "spec"), At::field(new, "spec"));
    let bytes = |spec: &At<'_>| sources(spec).iter().map(|at| (at.path.to_string(), at.value().clone())).collect::<Vec<_>>();
    if bytes(&before) != bytes(&after) {
        out.push(FieldError::forbidden(
            after.get("persistentvolumesource").path,
            "spec.persistentvolumesource is immutable after creation",
        ));
    }
    immutable(&before.get("volumeMode"), &after.get("volumeMode"), &mut out);
    if before.get("nodeAffinity").is_set() {
        immutable(&before.get("nodeAffinity"), &after.get("nodeAffinity"), &mut out);
    }
    out
}

/// The sources that are set, `hostPath` and its like.
fn sources<'a>(spec: &At<'a>) -> Vec<At<'a>> {
    let keys = spec.entries().filter(|(key, at)| !NOT_SOURCES.contains(key) && at.is_set()).map(|(key, _)| key);
    keys.map(|key| spec.get(key)).collect()
}

fn source(at: &At<'_>, spec: &At<'_>, out: &mut Errors) {
    let path = at.get("path");
    let needed = |field: &At<'_>, out: &mut Errors| {
        if field.text().is_empty() {
            out.push(field.required());
        }
    };
    if spec.get("hostPath").is_set() {
        needed(&path, out);
        each(&path, name::no_backsteps(path.text()), out);
        if path.text() == "/" && spec.get("persistentVolumeReclaimPolicy").text() == "Recycle" {
            let words = "may not be 'recycle' for a hostPath mount of '/'";
            out.push(spec.get("persistentVolumeReclaimPolicy").forbidden(words));
        }
    } else if spec.get("local").is_set() {
        needed(&path, out);
        each(&path, name::no_backsteps(path.text()), out);
    } else if spec.get("nfs").is_set() {
        needed(&at.get("server"), out);
        needed(&path, out);
        if !path.text().is_empty() && !path.text().starts_with('/') {
            out.push(path.invalid("must be an absolute path"));
        }
    } else if spec.get("csi").is_set() {
        needed(&at.get("driver"), out);
        needed(&at.get("volumeHandle"), out);
    }
}

/// What is wrong with a claim.
#[must_use]
pub fn claim_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    claim_spec(&At::field(object, "spec"), &mut out);
    out
}

/// The spec of a claim, wherever it stands.
pub(super) fn claim_spec(spec: &At<'_>, out: &mut Errors) {
    modes(&spec.get("accessModes"), "at least 1 access mode is required", out);
    labels::selector(&spec.get("selector"), out);
    let requests = spec.get("resources").get("requests");
    if requests.get("storage").is_set() {
        positive(&requests, "storage", &requests.get("storage"), out);
    } else {
        out.push(FieldError::required(requests.path.key("storage"), ""));
    }
    class_name(&spec.get("storageClassName"), out);
    one_of_or_none(&spec.get("volumeMode"), &VOLUME_MODES, out);
}

/// What is wrong with a change of a claim: it may be bound once, and grow once it is bound.
#[must_use]
pub fn claim_update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    const SIZE: [&str; 4] = ["spec", "resources", "requests", "storage"];
    let mut out = Vec::new();
    let (mut before, mut after) = (old.clone(), new.clone());
    if old.str_at(&["spec", "volumeName"]).is_empty() {
        copy(&after, &mut before, &["spec", "volumeName"]);
    }
    // A claim without a class takes the default one when there is one.
    if old.at(&["spec", "storageClassName"]).is_none_or(Value::is_null) {
        copy(&after, &mut before, &["spec", "storageClassName"]);
    }
    if new.str_at(&["status", "phase"]) == "Bound" {
        copy(&before, &mut after, &SIZE);
    }
    if before.at(&["spec"]) != after.at(&["spec"]) {
        out.push(FieldError::forbidden(
            "spec",
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ));
    }
    let amount = |object: &Object, path: &[&str]| Quantity::parse(object.str_at(path));
    let (was, is) = (amount(old, &SIZE), amount(new, &SIZE));
    let has = amount(old, &["status", "capacity", "storage"]);
    if is < was && has.is_none_or(|has| is <= Some(has)) {
        out.push(FieldError::forbidden("spec.resources.requests.storage", "field can not be less than status.capacity"));
    }
    out
}

fn copy(from: &Object, to: &mut Object, path: &[&str]) {
    match from.at(path).cloned() {
        Some(value) => to.set_at(path, value),
        None => {
            to.remove_at(path);
        }
    }
}

fn modes(at: &At<'_>, words: &str, out: &mut Errors) {
    if at.len() == 0 {
        out.push(FieldError::required(&at.path, words));
    }
    let mut alone = false;
    for (index, mode) in at.texts().enumerate() {
        if !ACCESS_MODES.contains(&mode) {
            out.push(FieldError::not_supported(at.path.index(index), mode, &ACCESS_MODES));
        }
        alone |= mode == "ReadWriteOncePod";
    }
    if alone && at.len() > 1 {
        out.push(at.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

fn positive(list: &At<'_>, key: &str, value: &At<'_>, out: &mut Errors) {
    if let Some(amount) = resources::amount(value, out)
        && amount.milli == 0
    {
        out.push(FieldError::invalid(list.path.key(key), value.value().clone(), "must be greater than zero"));
    }
}

fn class_name(at: &At<'_>, out: &mut Errors) {
    if !at.text().is_empty() {
        each(at, name::dns1123_subdomain(at.text()), out);
    }
}

/// What is wrong with a storage class.
#[must_use]
pub fn class_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let provisioner = At::field(object, "provisioner");
    if provisioner.text().is_empty() {
        out.push(provisioner.required());
    } else {
        each(&provisioner, name::qualified(&provisioner.text().to_ascii_lowercase()), &mut out);
    }
    for (key, _) in At::field(object, "parameters").entries().filter(|(key, _)| key.is_empty()) {
        out.push(FieldError::invalid(At::field(object, "parameters").path, key, "field can not be empty."));
    }
    one_of_or_none(&At::field(object, "reclaimPolicy"), &["Delete", "Retain"], &mut out);
    one_of(&At::field(object, "volumeBindingMode"), &["Immediate", "WaitForFirstConsumer"], &mut out);
    out
}

/// What is wrong with a change of a storage class: it is what its volumes were made by.
#[must_use]
pub fn class_update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if At::field(old, key).value() != At::field(new, key).value() {
            out.push(At::field(new, key).forbidden(&format!("updates to {key} are forbidden.")));
        }
    }
    immutable(&At::field(old, "volumeBindingMode"), &At::field(new, "volumeBindingMode"), &mut out);
    out
}

/// What is wrong with a priority class.
#[must_use]
pub fn priority_class_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let value = object.i64_at(&["value"]).unwrap_or_default();
    if object.name().starts_with("system-") {
        let known = SYSTEM.iter().any(|(name, known)| *name == object.name() && *known == value);
        if !known || object.bool_at(&["globalDefault"]) {
            out.push(FieldError::forbidden(
                "metadata.name",
                "priority class names with 'system-' prefix are reserved for system use only",
            ));
        }
    } else if value > HIGHEST_PRIORITY {
        out.push(FieldError::forbidden(
            "value",
            &format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}"),
        ));
    }
    one_of_or_none(&At::field(object, "preemptionPolicy"), &["Never", "PreemptLowerPriority"], &mut out);
    out
}

/// What is wrong with a change of a priority class: pods have its number already.
#[must_use]
pub fn priority_class_update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    if old.i64_at(&["value"]) != new.i64_at(&["value"]) {
        out.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    immutable(&At::field(old, "preemptionPolicy"), &At::field(new, "preemptionPolicy"), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::json;

    fn merged(base: &Value, change: &Value) -> Object {
        let mut value = base.clone();
        json_patch::merge(&mut value, change);
        Object::from_value(value).unwrap()
    }

    fn check(rule: fn(&Object) -> Vec<FieldError>, base: &Value, table: Vec<(Value, &str)>) {
        for (change, words) in table {
            assert_eq!(sentence(&rule(&merged(base, &change))), words, "{change}");
        }
    }

    fn check_update(rule: fn(&Object, &Object) -> Vec<FieldError>, base: &Value, table: Vec<(Value, &str)>) {
        for (change, words) in table {
            assert_eq!(sentence(&rule(&merged(base, &json!({})), &merged(base, &change))), words, "{change}");
        }
    }

    fn volume() -> Value {
        let term = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]});
        json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "local": {"path": "/data"}, "volumeMode": "Filesystem", "persistentVolumeReclaimPolicy": "Retain",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}})
    }

    fn claim() -> Value {
        json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "volumeMode": "Filesystem", "resources": {"requests": {"storage": "1Gi"}}}})
    }

    #[test]
    fn a_volume_has_a_size_a_way_of_access_and_one_place() {
        let modes = "supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"";
        check(
            volume_errors,
            &volume(),
            vec![
                (json!({}), "[]"),
                (json!({"spec": {"capacity": null}}), "spec.capacity: Required value"),
                (
                    json!({"spec": {"capacity": {"storage": "0"}}}),
                    "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
                ),
                (json!({"spec": {"accessModes": []}}), "spec.accessModes: Required value"),
                (
                    json!({"spec": {"accessModes": ["Often"]}}),
                    &format!("spec.accessModes[0]: Unsupported value: \"Often\": {modes}"),
                ),
                (json!({"spec": {"local": null}}), "spec: Required value: must specify a volume type"),
                (
                    json!({"spec": {"nfs": {"server": "a", "path": "/"}}}),
                    "spec.nfs: Forbidden: may not specify more than 1 volume type",
                ),
                (
                    json!({"spec": {"nodeAffinity": null}}),
                    "metadata.annotations: Required value: Local volume requires node affinity",
                ),
                (
                    json!({"spec": {"local": {"path": "/a/../b"}}}),
                    "spec.local.path: Invalid value: \"/a/../b\": must not contain '..'",
                ),
                (
                    json!({"spec": {"local": null, "nfs": {"server": "", "path": "data"}}}),
                    "[spec.nfs.server: Required value, spec.nfs.path: Invalid value: \"data\": must be an absolute path]",
                ),
                (
                    json!({"spec": {"persistentVolumeReclaimPolicy": "Burn"}}),
                    "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
                ),
            ],
        );
        check_update(
            volume_update_errors,
            &volume(),
            vec![
                (json!({"spec": {"capacity": {"storage": "2Gi"}, "persistentVolumeReclaimPolicy": "Delete"}}), "[]"),
                (
                    json!({"spec": {"local": {"path": "/other"}}}),
                    "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
                ),
                (json!({"spec": {"volumeMode": "Block"}}), "spec.volumeMode: Invalid value: \"Block\": field is immutable"),
                (json!({"spec": {"nodeAffinity": null}}), "spec.nodeAffinity: Invalid value: null: field is immutable"),
            ],
        );
    }

    #[test]
    fn a_claim_asks_for_some_space_and_may_only_grow() {
        check(
            claim_errors,
            &claim(),
            vec![
                (json!({}), "[]"),
                (json!({"spec": {"storageClassName": ""}}), "[]"),
                (json!({"spec": {"accessModes": []}}), "spec.accessModes: Required value: at least 1 access mode is required"),
                (
                    json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}}),
                    "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
                ),
                (json!({"spec": {"resources": null}}), "spec.resources.requests[storage]: Required value"),
                (
                    json!({"spec": {"resources": {"requests": {"storage": "0"}}}}),
                    "spec.resources.requests[storage]: Invalid value: \"0\": must be greater than zero",
                ),
            ],
        );
        let fixed = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        check_update(
            claim_update_errors,
            &claim(),
            vec![
                (json!({"metadata": {"labels": {"a": "b"}}, "spec": {"volumeName": "v"}}), "[]"),
                (json!({"spec": {"accessModes": ["ReadWriteMany"]}}), fixed),
                (json!({"spec": {"storageClassName": "other"}}), fixed),
                (json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), fixed),
            ],
        );
        let mut bound = claim();
        json_patch::merge(
            &mut bound,
            &json!({"spec": {"volumeName": "v"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}),
        );
        let less = "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
        check_update(
            claim_update_errors,
            &bound,
            vec![
                (json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), "[]"),
                (json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}}), less),
                (json!({"spec": {"volumeName": "w"}}), fixed),
            ],
        );
    }

    #[test]
    fn classes_are_what_they_were_made_as() {
        let class = json!({"metadata": {"name": "s"}, "provisioner": "bramble/local", "reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"});
        check(
            class_errors,
            &class,
            vec![
                (json!({}), "[]"),
                (json!({"provisioner": ""}), "provisioner: Required value"),
                (
                    json!({"reclaimPolicy": "Recycle"}),
                    "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
                ),
            ],
        );
        check_update(
            class_update_errors,
            &class,
            vec![
                (json!({"allowVolumeExpansion": true}), "[]"),
                (json!({"provisioner": "a/b"}), "provisioner: Forbidden: updates to provisioner are forbidden."),
                (
                    json!({"volumeBindingMode": "WaitForFirstConsumer"}),
                    "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
                ),
            ],
        );
        let class = json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"});
        check(
            priority_class_errors,
            &class,
            vec![
                (json!({}), "[]"),
                (
                    json!({"value": 1_000_000_001}),
                    "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
                ),
                (json!({"metadata": {"name": "system-node-critical"}, "value": 2_000_001_000}), "[]"),
                (
                    json!({"metadata": {"name": "system-mine"}}),
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only",
                ),
            ],
        );
        check_update(
            priority_class_update_errors,
            &class,
            vec![
                (json!({"description": "a"}), "[]"),
                (json!({"value": 5}), "value: Forbidden: may not be changed in an update."),
            ],
        );
    }
}
