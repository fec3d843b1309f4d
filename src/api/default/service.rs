//! Services. Source: `SetDefaults_Service`. Addresses and their families are the cluster's to say (`apiserver/allocate.rs`).

use serde_json::{Value, json};

use super::{Fields, is_unset, map_or_new, maps, set_empty, set_unset};
use crate::api::Object;

/// Fills in the defaults.
pub fn fill(object: &mut Object) {
    let Some(spec) = map_or_new(object.raw_mut(), "spec") else { return };
    set_empty(spec, "sessionAffinity", "None");
    set_empty(spec, "type", "ClusterIP");
    affinity(spec);
    maps(spec, "ports").for_each(port);
    match spec.get("type").and_then(Value::as_str).unwrap_or_default() {
        "ClusterIP" => inner(spec),
        "NodePort" => {
            inner(spec);
            set_empty(spec, "externalTrafficPolicy", "Cluster");
        }
        "LoadBalancer" => {
            inner(spec);
            set_empty(spec, "externalTrafficPolicy", "Cluster");
            set_unset(spec, "allocateLoadBalancerNodePorts", true);
        }
        _ => {} // an ExternalName is only a name
    }
}

fn affinity(spec: &mut Fields) {
    match spec.get("sessionAffinity").and_then(Value::as_str) {
        Some("ClientIP") => {
            if let Some(client) = map_or_new(spec, "sessionAffinityConfig").and_then(|config| map_or_new(config, "clientIP")) {
                set_unset(client, "timeoutSeconds", 10_800);
            }
        }
        Some("None") => _ = spec.remove("sessionAffinityConfig"),
        _ => {}
    }
}

fn port(port: &mut Fields) {
    set_empty(port, "protocol", "TCP");
    let silent = is_unset(port, "targetPort")
        || matches!(port.get("targetPort"), Some(target) if *target == json!(0) || *target == json!(""));
    if silent && let Some(number) = port.get("port").filter(|number| number.is_i64()).cloned() {
        port.insert("targetPort".to_owned(), number);
    }
}

fn inner(spec: &mut Fields) {
    set_empty(spec, "internalTrafficPolicy", "Cluster");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_say_what_they_are() {
        let common = json!({"sessionAffinity": "None", "internalTrafficPolicy": "Cluster"});
        for (given, added) in [
            (json!({}), json!({"type": "ClusterIP"})),
            (json!({"clusterIP": "None"}), json!({"type": "ClusterIP", "clusterIP": "None"})),
            (json!({"type": "NodePort"}), json!({"type": "NodePort", "externalTrafficPolicy": "Cluster"})),
            (
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": true}),
            ),
            (
                json!({"ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}),
                json!({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 53, "protocol": "UDP", "targetPort": "dns"}]}),
            ),
            (
                json!({"sessionAffinity": "ClientIP"}),
                json!({"type": "ClusterIP", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}}}),
            ),
        ] {
            let mut object = Object::from_value(json!({"spec": given})).unwrap();
            fill(&mut object);
            let mut expected = common.as_object().unwrap().clone();
            expected.extend(added.as_object().unwrap().clone());
            assert_eq!(object.into_value()["spec"], Value::Object(expected), "{given}");
        }
    }

    #[test]
    fn an_external_name_is_only_a_name() {
        let mut object = Object::from_value(json!({"spec": {"type": "ExternalName", "externalName": "example.com"}})).unwrap();
        fill(&mut object);
        assert_eq!(
            object.into_value()["spec"],
            json!({"type": "ExternalName", "externalName": "example.com", "sessionAffinity": "None"})
        );
    }
}
