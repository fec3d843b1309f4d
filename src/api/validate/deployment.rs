//! Deployments and replica sets.
//!
//! Source:   `ValidateDeploymentSpec`, `ValidateReplicaSetSpec`, `ValidatePodTemplateSpecForReplicaSet` of apps.

use serde_json::Value;

use super::at::At;
use super::{Errors, FieldError, immutable, labels, name, not_negative, pod};
use crate::api::Object;
use crate::api::intstr;
use crate::api::selector::Selector;

/// What is wrong with a deployment.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = replica_set_errors(object);
    let spec = At::field(object, "spec");
    strategy(&spec.get("strategy"), &mut out);
    let (deadline, ready) = (spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds"));
    not_negative(&spec.get("revisionHistoryLimit"), &mut out);
    not_negative(&deadline, &mut out);
    if deadline.int().is_some_and(|seconds| seconds <= ready.int().unwrap_or_default()) {
        out.push(deadline.invalid("must be greater than minReadySeconds"));
    }
    out
}

/// What is wrong with a replica set, which is also what a deployment has of it.
#[must_use]
pub fn replica_set_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    not_negative(&spec.get("replicas"), &mut out);
    not_negative(&spec.get("minReadySeconds"), &mut out);
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    if !selector.is_set() {
        out.push(selector.required());
    } else {
        labels::selector(&selector, &mut out);
        if labels::selects_all(&selector) {
            // Upstream says "deployment" for replica sets, too.
            out.push(selector.invalid("empty selector is invalid for deployment"));
        }
    }
    if !template.is_set() {
        out.push(template.required());
        return out;
    }
    fits(&selector, &template, &mut out);
    pod::template_errors(&template, &mut out);
    let policy = template.get("spec").get("restartPolicy");
    if policy.text() != "Always" {
        out.push(FieldError::not_supported(&policy.path, policy.text(), &["Always"]));
    }
    let deadline = template.get("spec").get("activeDeadlineSeconds");
    if deadline.is_set() {
        out.push(deadline.forbidden("activeDeadlineSeconds in ReplicaSet is not Supported"));
    }
    out
}

/// What the template makes must be what the selector finds.
fn fits(selector: &At<'_>, template: &At<'_>, out: &mut Errors) {
    if !selector.is_set() || labels::selects_all(selector) {
        return;
    }
    let stuck = template.get("metadata").get("labels");
    match Selector::from_object(selector.value()) {
        Err(_) => out.push(selector.invalid("invalid label selector")),
        Ok(parsed) if !parsed.matches(|key| labels::label_in(stuck.value(), key)) => {
            out.push(stuck.invalid("`selector` does not match template `labels`"));
        }
        Ok(_) => {}
    }
}

fn strategy(at: &At<'_>, out: &mut Errors) {
    let (kind, rolling) = (at.get("type"), at.get("rollingUpdate"));
    match kind.text() {
        "Recreate" if rolling.is_set() => out.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'")),
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => {
            out.push(FieldError::required(&rolling.path, "this should be defaulted and never be nil"));
        }
        "RollingUpdate" => {
            let (surge, unavailable) = (rolling.get("maxSurge"), rolling.get("maxUnavailable"));
            int_or_percent(&unavailable, out);
            int_or_percent(&surge, out);
            if is_zero(&surge) && is_zero(&unavailable) {
                out.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            if unavailable.value().is_string()
                && intstr::scaled(unavailable.value(), 100, true).is_some_and(|percent| percent > 100)
            {
                out.push(unavailable.invalid("must not be greater than 100%"));
            }
        }
        other => out.push(FieldError::not_supported(&kind.path, other, &["Recreate", "RollingUpdate"])),
    }
}

fn int_or_percent(at: &At<'_>, out: &mut Errors) {
    match at.value() {
        Value::String(text) => out.extend(name::percent(text).iter().map(|fault| at.invalid(fault))),
        Value::Number(number) if number.is_i64() => not_negative(at, out),
        Value::Null => out.push(at.required()),
        _ => out.push(at.invalid("must be an integer or percentage (e.g '5%%')")),
    }
}

fn is_zero(at: &At<'_>) -> bool {
    intstr::scaled(at.value(), 100, true) == Some(0)
}

/// What is wrong with the change.
#[must_use]
pub fn update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    immutable(&At::field(old, "spec").get("selector"), &At::field(new, "spec").get("selector"), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{default, validate::sentence};
    use serde_json::json;

    fn web() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx"}]}}}})
    }

    fn changed(path: &str, value: Value) -> Object {
        let mut raw = web();
        *raw.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
        let mut object = Object::from_value(raw).unwrap();
        default::deployment::fill(&mut object);
        object
    }

    fn with(change: impl FnOnce(&mut Value)) -> String {
        let mut raw = web();
        change(&mut raw["spec"]);
        let mut object = Object::from_value(raw).unwrap();
        default::deployment::fill(&mut object);
        sentence(&errors(&object))
    }

    #[test]
    fn a_good_deployment_passes() {
        assert_eq!(with(|_| ()), "[]");
        assert_eq!(with(|spec| spec["strategy"] = json!({"type": "Recreate"})), "[]");
        assert_eq!(with(|spec| spec["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}})), "[]");
        assert_eq!(with(|spec| spec["selector"] = json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]})), "[]");
    }

    #[test]
    fn each_fault_has_its_words() {
        let table: Vec<(&str, &str, Value)> = vec![
            ("spec.replicas: Invalid value: -1: must be greater than or equal to 0", "replicas", json!(-1)),
            ("spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0", "minReadySeconds", json!(-1)),
            (
                "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
                "minReadySeconds",
                json!(600),
            ),
            ("spec.selector: Required value", "selector", Value::Null),
            ("spec.selector: Invalid value: {}: empty selector is invalid for deployment", "selector", json!({})),
            ("spec.template: Required value", "template", Value::Null),
            (
                "spec.strategy.type: Unsupported value: \"Slow\": supported values: \"Recreate\", \"RollingUpdate\"",
                "strategy",
                json!({"type": "Slow"}),
            ),
            (
                "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                "strategy",
                json!({"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}),
            ),
            (
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
                "strategy",
                json!({"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": 0}}),
            ),
            (
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                "strategy",
                json!({"rollingUpdate": {"maxUnavailable": "101%"}}),
            ),
            (
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"1\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                "strategy",
                json!({"rollingUpdate": {"maxSurge": "1"}}),
            ),
            (
                "spec.strategy.rollingUpdate.maxSurge: Invalid value: -1: must be greater than or equal to 0",
                "strategy",
                json!({"rollingUpdate": {"maxSurge": -1}}),
            ),
        ];
        for (words, key, value) in table {
            assert_eq!(with(|spec| spec[key] = value.clone()), words, "{key}: {value}");
        }
    }

    #[test]
    fn a_template_makes_pods_that_are_restarted_always() {
        assert_eq!(
            with(|spec| spec["template"]["spec"]["restartPolicy"] = json!("Never")),
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""
        );
        assert_eq!(
            with(|spec| spec["template"]["spec"]["activeDeadlineSeconds"] = json!(5)),
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported"
        );
        assert_eq!(
            with(|spec| spec["template"]["spec"]["containers"] = json!([])),
            "spec.template.spec.containers: Required value"
        );
    }

    #[test]
    fn a_selector_that_cannot_find_its_pods_is_refused() {
        let object = changed("/spec/template/metadata/labels", json!({"app": "other"}));
        assert_eq!(
            sentence(&errors(&object)),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"
        );
    }

    #[test]
    fn a_selector_stays_for_life() {
        let (old, new) = (changed("/metadata/name", json!("web")), changed("/spec/selector/matchLabels/app", json!("other")));
        assert_eq!(
            sentence(&update_errors(&old, &new)),
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"other\"}}: field is immutable"
        );
        assert_eq!(update_errors(&old, &old), Vec::new());
    }
}
