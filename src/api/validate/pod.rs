//! Pods and pod templates, and what may change in a pod.
//!
//! Source:   `ValidatePodSpec`, `ValidatePodUpdate`, `ValidatePodTemplateSpec` of core.

use serde_json::{Map, Value};

use super::at::At;
use super::{
    Errors, FieldError, container, dns, each, labels, name, not_negative, one_of, one_of_or_none, scheduling, security, volume,
};
use crate::api::Object;

const RESTART_POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];
const DNS_POLICIES: [&str; 4] = ["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with it.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    pod_spec(&spec, &mut out);
    for key in ["containers", "initContainers"] {
        for container in spec.get(key).items() {
            // Of pods only: templates with such images are known to be filled in by others before pods are made.
            let image = container.get("image");
            if image.text() != image.text().trim() {
                out.push(image.invalid("must not have leading or trailing whitespace"));
            }
        }
    }
    out
}

/// What is wrong with it as a new one: some things are added later only.
#[must_use]
pub fn create_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    let visitors = spec.get("ephemeralContainers");
    if visitors.len() > 0 {
        out.push(visitors.forbidden("cannot be set on create"));
    }
    if !spec.get("nodeName").text().is_empty() && spec.get("schedulingGates").len() > 0 {
        out.push(spec.get("nodeName").forbidden("cannot be set until all schedulingGates have been cleared"));
    }
    out
}

/// A pod template: its labels, its annotations and its pod.
pub(super) fn template_errors(template: &At<'_>, out: &mut Errors) {
    labels::labels(&template.get("metadata").get("labels"), out);
    labels::annotations(&template.get("metadata").get("annotations"), out);
    let ephemeral = template.get("spec").get("ephemeralContainers");
    if ephemeral.len() > 0 {
        out.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
    pod_spec(&template.get("spec"), out);
    let visitors = template.get("spec").get("ephemeralContainers");
    if visitors.len() > 0 {
        out.push(visitors.forbidden("ephemeral containers not allowed in pod template"));
    }
}

fn pod_spec(spec: &At<'_>, out: &mut Errors) {
    let around = container::Surroundings {
        volumes: volume::all(&spec.get("volumes"), out),
        claims: volume::claims(&spec.get("volumes")),
        host_network: spec.get("hostNetwork").flag(),
        grace: spec.get("terminationGracePeriodSeconds").int().unwrap_or_default(),
    };
    container::all(spec, &around, out);
    one_of(&spec.get("restartPolicy"), &RESTART_POLICIES, out);
    one_of(&spec.get("dnsPolicy"), &DNS_POLICIES, out);
    dns::all(spec, out);
    let (grace, deadline) = (spec.get("terminationGracePeriodSeconds"), spec.get("activeDeadlineSeconds"));
    if !grace.is_set() {
        out.push(grace.required());
    }
    not_negative(&grace, out);
    if let Some(seconds) = deadline.int() {
        each(&deadline, name::between(seconds, 1, i64::from(i32::MAX)), out);
    }
    for key in ["nodeName", "serviceAccountName", "priorityClassName", "runtimeClassName"] {
        let field = spec.get(key);
        if !field.text().is_empty() {
            each(&field, name::dns1123_subdomain(field.text()), out);
        }
    }
    for key in ["hostname", "subdomain"] {
        let field = spec.get(key);
        if !field.text().is_empty() {
            each(&field, name::dns1123_label(field.text()), out);
        }
    }
    one_of_or_none(&spec.get("preemptionPolicy"), &["Never", "PreemptLowerPriority"], out);
    labels::labels(&spec.get("nodeSelector"), out);
    scheduling::tolerations(&spec.get("tolerations"), out);
    scheduling::affinity(&spec.get("affinity"), out);
    scheduling::spread(&spec.get("topologySpreadConstraints"), out);
    security::of_pod(spec, out);
    security::of_system(spec, out);
    for gate in spec.get("readinessGates").items() {
        let condition = gate.get("conditionType");
        each(&condition, name::qualified(condition.text()), out);
    }
}

/// What is wrong with the change.
#[must_use]
pub fn update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let (before, after) = (At::field(old, "spec"), At::field(new, "spec"));
    for key in ["containers", "initContainers"] {
        if before.get(key).len() != after.get(key).len() {
            // The rest of the comparison would only repeat this.
            return vec![after.get(key).forbidden("pod updates may not add or remove containers")];
        }
    }
    deadline(&before.get("activeDeadlineSeconds"), &after.get("activeDeadlineSeconds"), &mut out);
    tolerations(&before.get("tolerations"), &after.get("tolerations"), &mut out);
    let (was, is) = (masked(&before, &before, &after), masked(&after, &before, &after));
    let changed: Vec<&str> = changed_fields(&was, &is).collect();
    if !changed.is_empty() {
        out.push(after.forbidden(&format!("{UPDATABLE}\nchanged: spec.{}", changed.join(", spec."))));
    }
    out
}

/// What is wrong with a change of the ephemeral containers: they come, and stay as they came.
#[must_use]
pub fn ephemeral_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let at = At::field(new, "spec").get("ephemeralContainers");
    let mut out = Vec::new();
    for before in At::field(old, "spec").get("ephemeralContainers").items() {
        let name = before.get("name").text();
        match at.items().find(|after| after.get("name").text() == name) {
            None => out.push(at.forbidden(&format!("existing ephemeral containers \"{name}\" may not be removed\n"))),
            Some(after) if after.value() != before.value() => {
                out.push(at.forbidden(&format!("existing ephemeral containers \"{name}\" may not be changed\n")));
            }
            Some(_) => {}
        }
    }
    out
}

fn deadline(before: &At<'_>, after: &At<'_>, out: &mut Errors) {
    match (before.int(), after.int()) {
        (Some(old), Some(new)) if new > old => out.push(after.invalid("must be less than or equal to previous value")),
        (Some(_), None) => out.push(after.invalid("must not update from a positive integer to nil value")),
        _ => {}
    }
}

fn tolerations(before: &At<'_>, after: &At<'_>, out: &mut Errors) {
    let without_seconds = |at: &At<'_>| {
        let mut map = at.value().as_object().cloned().unwrap_or_default();
        map.remove("tolerationSeconds");
        map
    };
    let kept: Vec<Map<String, Value>> = after.items().map(|at| without_seconds(&at)).collect();
    if !before.items().all(|at| kept.contains(&without_seconds(&at))) {
        out.push(after.forbidden("existing toleration can not be modified except its tolerationSeconds"));
    }
}

/// The spec without what may change; equal masks mean an allowed change.
fn masked(spec: &At<'_>, before: &At<'_>, after: &At<'_>) -> Map<String, Value> {
    let mut mask = spec.value().as_object().cloned().unwrap_or_default();
    for key in ["activeDeadlineSeconds", "tolerations"] {
        mask.remove(key);
    }
    for key in ["containers", "initContainers"] {
        for container in mask.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(container) = container.as_object_mut() {
                container.remove("image");
            }
        }
    }
    let grace = "terminationGracePeriodSeconds";
    if before.get(grace).int().is_some_and(|seconds| seconds < 0) && after.get(grace).int() == Some(1) {
        mask.remove(grace);
    }
    // A pod is bound once; the binding subresource is the only way that leads here.
    if before.get("nodeName").text().is_empty() {
        mask.remove("nodeName");
    }
    let (had, has) = (before.get("schedulingGates"), after.get("schedulingGates"));
    if has.items().all(|gate| had.items().any(|other| other.value() == gate.value())) {
        mask.remove("schedulingGates");
    }
    mask.retain(|_, value| !value.is_null());
    mask
}

fn changed_fields<'a>(was: &'a Map<String, Value>, is: &'a Map<String, Value>) -> impl Iterator<Item = &'a str> {
    let gone = was.keys().filter(|key| !is.contains_key(*key));
    is.iter().filter(|(key, value)| was.get(*key) != Some(value)).map(|(key, _)| key).chain(gone).map(String::as_str)
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
