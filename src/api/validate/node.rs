//! Nodes. Source: `ValidateNode`, `ValidateNodeUpdate` of core.

use super::at::At;
use super::{FieldError, immutable, scheduling};
use crate::api::Object;

/// What is wrong with it.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    scheduling::taints(&At::field(object, "spec").get("taints"), &mut out);
    out
}

/// What is wrong with the change: what names the machine is said once.
#[must_use]
pub fn update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let (before, after) = (At::field(old, "spec"), At::field(new, "spec"));
    for key in ["podCIDR", "providerID"] {
        if !before.get(key).text().is_empty() {
            immutable(&before.get(key), &after.get(key), &mut out);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::{Value, json};

    fn found(taints: &Value) -> String {
        sentence(&errors(&Object::from_value(json!({"spec": {"taints": taints}})).unwrap()))
    }

    #[test]
    fn taints_have_a_key_and_an_effect() {
        assert_eq!(
            found(&json!([{"key": "a/b", "effect": "NoSchedule"}, {"key": "a/b", "effect": "NoExecute", "value": "c"}])),
            "[]"
        );
        assert!(
            found(&json!([{"key": "", "effect": "NoSchedule"}]))
                .contains("spec.taints[0].key: Invalid value: \"\": name part must be non-empty")
        );
        assert_eq!(found(&json!([{"key": "a"}])), "spec.taints[0].effect: Required value");
        assert_eq!(
            found(&json!([{"key": "a", "effect": "Never"}])),
            "spec.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
        );
        assert!(
            found(&json!([{"key": "a", "value": "b c", "effect": "NoSchedule"}]))
                .starts_with("spec.taints[0].value: Invalid value: \"b c\": a valid label must")
        );
        assert_eq!(
            found(&json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "value": "x", "effect": "NoSchedule"}])),
            "spec.taints[1]: Duplicate value: {\"effect\":\"NoSchedule\",\"key\":\"a\",\"value\":\"x\"}: taints must be unique by key and effect pair"
        );
    }

    #[test]
    fn what_names_the_machine_is_said_once() {
        let node = |id: &str| Object::from_value(json!({"spec": {"providerID": id}})).unwrap();
        assert_eq!(update_errors(&node(""), &node("pi://1")), Vec::new());
        assert_eq!(
            sentence(&update_errors(&node("pi://1"), &node("pi://2"))),
            "spec.providerID: Invalid value: \"pi://2\": field is immutable"
        );
    }
}
