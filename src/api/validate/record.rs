//! Events and leases: what the cluster itself writes most. Source: `legacyValidateEvent` of core, `ValidateLease` of coordination.

use super::at::At;
use super::{FieldError, not_negative};
use crate::api::Object;

/// What is wrong with an event: it lives where what it is about lives; what lives in no namespace has its events in `default`.
#[must_use]
pub fn event_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let about = At::field(object, "involvedObject").get("namespace");
    let fits = match about.text() {
        "" => matches!(object.namespace(), "default" | "kube-system"),
        namespace => namespace == object.namespace(),
    };
    if !fits {
        out.push(FieldError::invalid(&about.path, about.text(), "does not match event.namespace"));
    }
    out
}

/// What is wrong with a lease.
#[must_use]
pub fn lease_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.int().is_some_and(|seconds| seconds <= 0) {
        out.push(duration.invalid("must be greater than 0"));
    }
    not_negative(&spec.get("leaseTransitions"), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::json;

    #[test]
    fn an_event_lives_where_its_object_lives() {
        for (namespace, about, good) in
            [("a", "a", true), ("default", "", true), ("kube-system", "", true), ("a", "b", false), ("a", "", false)]
        {
            let event = Object::from_value(json!({"metadata": {"namespace": namespace}, "involvedObject": {"namespace": about}}))
                .unwrap();
            let text = sentence(&event_errors(&event));
            assert_eq!(text == "[]", good, "{namespace} {about}: {text}");
            assert!(good || text.ends_with("does not match event.namespace"), "{text}");
        }
    }

    #[test]
    fn a_lease_lasts_some_time() {
        let found = |spec: serde_json::Value| sentence(&lease_errors(&Object::from_value(json!({"spec": spec})).unwrap()));
        assert_eq!(found(json!({"leaseDurationSeconds": 40, "leaseTransitions": 0})), "[]");
        assert_eq!(
            found(json!({"leaseDurationSeconds": 0})),
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"
        );
        assert_eq!(
            found(json!({"leaseTransitions": -1})),
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"
        );
    }
}
