//! Nodes. Source: `ValidateNode`, `ValidateNodeUpdate` of core.

use ipnet::IpNet;

use super::at::At;
use super::{FieldError, immutable, scheduling};
use crate::api::Object;

/// What is wrong with it.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    scheduling::taints(&spec.get("taints"), &mut out);
    pod_cidrs(&spec, &mut out);
    out
}

/// Ranges, one of each family at most, and the first of them is `podCIDR`. Source: `ValidateNodeSpec`, and the conversion of v1.
fn pod_cidrs(spec: &At<'_>, out: &mut Vec<FieldError>) {
    let (one, all) = (spec.get("podCIDR"), spec.get("podCIDRs"));
    let given: Vec<At<'_>> = all.items().collect();
    for cidr in std::iter::once(&one).filter(|one| !one.text().is_empty()).chain(&given) {
        if cidr.text().parse::<IpNet>().is_err() {
            out.push(cidr.invalid("must be a range of addresses, like 10.244.3.0/24"));
        }
    }
    if given.len() > 2 {
        out.push(all.invalid("may hold no more than one range of each family"));
    }
    if let (Some(first), false) = (given.first(), one.text().is_empty())
        && first.text() != one.text()
    {
        out.push(all.invalid("the first must be podCIDR"));
    }
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
    if before.get("podCIDRs").is_set() {
        immutable(&before.get("podCIDRs"), &after.get("podCIDRs"), &mut out);
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

    #[test]
    fn a_nodes_part_of_the_pod_network_is_given_once_and_is_a_range() {
        let node = |spec: Value| Object::from_value(json!({"spec": spec})).unwrap();
        let with = |part: &str| node(json!({"podCIDR": part, "podCIDRs": [part]}));
        assert_eq!(errors(&with("10.244.3.0/24")), Vec::new());
        assert_eq!(update_errors(&node(json!({})), &with("10.244.3.0/24")), Vec::new());
        assert_eq!(update_errors(&with("10.244.3.0/24"), &with("10.244.3.0/24")), Vec::new());
        for after in [with("10.244.4.0/24"), node(json!({}))] {
            assert_eq!(update_errors(&with("10.244.3.0/24"), &after).len(), 2, "{after:?}");
        }
        assert!(sentence(&errors(&with("10.244.3.0"))).contains("must be a range of addresses"));
        assert!(!errors(&node(json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.2.0.0/24"]}))).is_empty());
    }
}
