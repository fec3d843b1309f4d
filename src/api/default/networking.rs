//! Ingress classes and network policies; an ingress has no defaults of its own. Source: `SetDefaults_NetworkPolicy`,
//! `SetDefaults_NetworkPolicyPort`, `SetDefaults_IngressClass`.

use serde_json::{Value, json};

use super::{map, maps, set_unset};
use crate::api::Object;

/// Fills in the defaults of an ingress class.
pub fn fill_class(object: &mut Object) {
    if let Some(parameters) = map(object.raw_mut(), "spec").and_then(|spec| map(spec, "parameters")) {
        set_unset(parameters, "scope", "Cluster");
    }
}

/// Fills in the defaults of a network policy: what it is about, when it does not say so, is ingress, and egress if it has rules for it.
pub fn fill_policy(object: &mut Object) {
    let Some(spec) = map(object.raw_mut(), "spec") else { return };
    for direction in ["ingress", "egress"] {
        for port in maps(spec, direction).flat_map(|rule| maps(rule, "ports")) {
            set_unset(port, "protocol", "TCP");
        }
    }
    let says_nothing = match spec.get("policyTypes") {
        None | Some(Value::Null) => true,
        Some(types) => types.as_array().is_some_and(Vec::is_empty),
    };
    if says_nothing {
        let leaves = spec.get("egress").and_then(Value::as_array).is_some_and(|rules| !rules.is_empty());
        spec.insert("policyTypes".to_owned(), if leaves { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_about_ingress_and_about_egress_if_it_has_rules_for_it() {
        for (spec, types) in [
            (json!({"podSelector": {}}), json!(["Ingress"])),
            (json!({"policyTypes": [], "egress": []}), json!(["Ingress"])),
            (json!({"egress": [{}]}), json!(["Ingress", "Egress"])),
            (json!({"policyTypes": ["Egress"], "ingress": [{}]}), json!(["Egress"])),
        ] {
            let mut policy = Object::from_value(json!({"spec": spec})).unwrap();
            fill_policy(&mut policy);
            assert_eq!(policy.at(&["spec", "policyTypes"]), Some(&types), "{spec}");
        }
        let mut policy =
            Object::from_value(json!({"spec": {"ingress": [{"ports": [{"port": 80}, {"protocol": "UDP"}]}]}})).unwrap();
        fill_policy(&mut policy);
        let ports = json!([{"port": 80, "protocol": "TCP"}, {"protocol": "UDP"}]);
        assert_eq!(policy.list_at(&["spec", "ingress"]), [json!({"ports": ports})]);
    }

    #[test]
    fn the_parameters_of_a_class_are_the_clusters() {
        let mut class =
            Object::from_value(json!({"spec": {"controller": "a/b", "parameters": {"kind": "K", "name": "n"}}})).unwrap();
        fill_class(&mut class);
        assert_eq!(class.str_at(&["spec", "parameters", "scope"]), "Cluster");
    }
}
