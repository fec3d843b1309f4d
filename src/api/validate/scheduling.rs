//! What a pod says about the nodes it can be on: tolerations, affinity, spread; and the taints that answer to it.
//!
//! Source:   `ValidateTolerations`, `validateAffinity`, `validateTopologySpreadConstraints`, `validateNodeTaints` of core.

use std::collections::BTreeSet;

use super::at::At;
use super::{Errors, FieldError, labels, name, one_of};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// A pod's tolerations.
pub(super) fn tolerations(at: &At<'_>, out: &mut Errors) {
    for toleration in at.items() {
        let (key, operator, effect, value) =
            (toleration.get("key"), toleration.get("operator"), toleration.get("effect"), toleration.get("value"));
        if !key.text().is_empty() {
            labels::label_key(&key, key.text(), out);
        } else if operator.text() != "Exists" {
            let words = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            out.push(FieldError::invalid(&operator.path, operator.text(), words));
        }
        if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            out.push(FieldError::invalid(
                &effect.path,
                effect.text(),
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            ));
        }
        match operator.text() {
            "" | "Equal" => {
                let faults = name::label_value(value.text());
                if !faults.is_empty() {
                    out.push(FieldError::invalid(&operator.path, value.text(), &faults.join(";")));
                }
            }
            "Exists" if !value.text().is_empty() => {
                out.push(FieldError::invalid(
                    &operator.path,
                    toleration.value().clone(),
                    "value must be empty when `operator` is 'Exists'",
                ));
            }
            "Exists" => {}
            other => out.push(FieldError::not_supported(&operator.path, other, &["Equal", "Exists"])),
        }
        if !effect.text().is_empty() {
            one_of(&effect, &EFFECTS, out);
        }
    }
}

/// A node's taints.
pub(super) fn taints(at: &At<'_>, out: &mut Errors) {
    let mut seen = BTreeSet::new();
    for taint in at.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        labels::label_key(&key, key.text(), out);
        let faults = name::label_value(value.text());
        if !faults.is_empty() {
            out.push(FieldError::invalid(&value.path, value.text(), &faults.join(";")));
        }
        one_of(&effect, &EFFECTS, out);
        if !seen.insert((key.text(), effect.text())) {
            let mut twice = taint.duplicate();
            twice.message.push_str(": taints must be unique by key and effect pair");
            out.push(twice);
        }
    }
}

/// A pod's `affinity`.
pub(super) fn affinity(at: &At<'_>, out: &mut Errors) {
    let node = at.get("nodeAffinity");
    let required = node.get(REQUIRED);
    if required.is_set() {
        node_selector(&required, out);
    }
    for preferred in node.get(PREFERRED).items() {
        weight(&preferred, out);
        node_term(&preferred.get("preference"), out);
    }
    for pods in [at.get("podAffinity"), at.get("podAntiAffinity")] {
        pods.get(REQUIRED).items().for_each(|term| pod_term(&term, out));
        for preferred in pods.get(PREFERRED).items() {
            weight(&preferred, out);
            pod_term(&preferred.get("podAffinityTerm"), out);
        }
    }
}

/// Alternatives of which a node must fit one.
pub(super) fn node_selector(at: &At<'_>, out: &mut Errors) {
    let terms = at.get("nodeSelectorTerms");
    if terms.len() == 0 {
        out.push(FieldError::required(&terms.path, "must have at least one node selector term"));
    }
    terms.items().for_each(|term| node_term(&term, out));
}

fn weight(preferred: &At<'_>, out: &mut Errors) {
    let weight = preferred.get("weight");
    if !weight.int().is_some_and(|weight| (1..=100).contains(&weight)) {
        out.push(FieldError::invalid(&weight.path, weight.int().unwrap_or_default(), "must be in the range 1-100"));
    }
}

fn pod_term(term: &At<'_>, out: &mut Errors) {
    let topology = term.get("topologyKey");
    if topology.text().is_empty() {
        out.push(FieldError::required(&topology.path, "can not be empty"));
    } else {
        labels::label_key(&topology, topology.text(), out);
    }
    labels::selector(&term.get("labelSelector"), out);
    labels::selector(&term.get("namespaceSelector"), out);
}

fn node_term(term: &At<'_>, out: &mut Errors) {
    for expression in term.get("matchExpressions").items() {
        requirement(&expression, out);
        let key = expression.get("key");
        labels::label_key(&key, key.text(), out);
    }
    for field in term.get("matchFields").items() {
        requirement(&field, out);
        let key = field.get("key");
        if key.text() != "metadata.name" {
            out.push(FieldError::invalid(&key.path, key.text(), "not a valid field selector key"));
        }
    }
}

fn requirement(at: &At<'_>, out: &mut Errors) {
    let (operator, values) = (at.get("operator"), at.get("values"));
    let needed = |words: &str| FieldError::required(&values.path, words);
    match operator.text() {
        "In" | "NotIn" if values.len() == 0 => out.push(needed("must be specified when `operator` is 'In' or 'NotIn'")),
        "Exists" | "DoesNotExist" if values.len() > 0 => {
            out.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if values.len() != 1 => out.push(needed("must be specified single value when `operator` is 'Lt' or 'Gt'")),
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => out.push(FieldError::invalid(&operator.path, other, "not a valid selector operator")),
    }
}

/// A pod's `topologySpreadConstraints`.
pub(super) fn spread(at: &At<'_>, out: &mut Errors) {
    let mut seen = BTreeSet::new();
    for constraint in at.items() {
        let (skew, topology, otherwise) =
            (constraint.get("maxSkew"), constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if skew.int().unwrap_or_default() <= 0 {
            out.push(FieldError::invalid(&skew.path, skew.int().unwrap_or_default(), "must be greater than zero"));
        }
        if topology.text().is_empty() {
            out.push(FieldError::required(&topology.path, "can not be empty"));
        }
        if !matches!(otherwise.text(), "DoNotSchedule" | "ScheduleAnyway") {
            out.push(FieldError::not_supported(&otherwise.path, otherwise.text(), &["DoNotSchedule", "ScheduleAnyway"]));
        }
        if !seen.insert((topology.text(), otherwise.text())) {
            out.push(FieldError::duplicate(&constraint.path, format!("{{{}, {}}}", topology.text(), otherwise.text())));
        }
        labels::selector(&constraint.get("labelSelector"), out);
    }
}
