//! Services.
//!
//! Source:   `ValidateService`, `ValidateServiceUpdate` of core.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::json;

use super::at::At;
use super::{Errors, FieldError, each, labels, name, network, one_of, one_of_or_none, probe};
use crate::api::Object;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// What is wrong with it.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    let (kind, address, ports) = (spec.get("type").text(), spec.get("clusterIP"), spec.get("ports"));
    let headless = address.text() == "None";
    if ports.len() == 0 && !headless && kind != "ExternalName" {
        out.push(ports.required());
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            out.push(address.invalid(&format!("may not be set to 'None' for {kind} services")));
        }
        "ExternalName" => external(&spec, &mut out),
        _ => {}
    }
    if kind != "ExternalName" && !headless && !address.text().is_empty() && address.text().parse::<IpAddr>().is_err() {
        out.push(address.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
    ports_errors(&ports, kind, &mut out);
    labels::labels(&spec.get("selector"), &mut out);
    one_of(&spec.get("sessionAffinity"), &["ClientIP", "None"], &mut out);
    let timeout = spec.get("sessionAffinityConfig").get("clientIP").get("timeoutSeconds");
    if spec.get("sessionAffinity").text() == "ClientIP" && timeout.int().is_some_and(|seconds| !(1..=86_400).contains(&seconds)) {
        out.push(timeout.invalid("must be greater than 0 and less than 86400"));
    }
    one_of(&spec.get("type"), &TYPES, &mut out);
    one_of_or_none(&spec.get("internalTrafficPolicy"), &["Cluster", "Local"], &mut out);
    traffic(&spec.get("externalTrafficPolicy"), kind, spec.get("externalIPs").len() > 0, &mut out);
    for ip in spec.get("externalIPs").items() {
        network::ip(&ip, &mut out);
    }
    out
}

fn external(spec: &At<'_>, out: &mut Errors) {
    let addresses = spec.get("clusterIPs");
    if addresses.len() > 0 || !spec.get("clusterIP").text().is_empty() {
        out.push(addresses.forbidden("may not be set for ExternalName services"));
    }
    let target = spec.get("externalName");
    // A full stop at the end is how DNS writes a complete name.
    let text = target.text().strip_suffix('.').unwrap_or(target.text());
    if text.is_empty() {
        out.push(target.required());
    } else {
        each(&target, name::dns1123_subdomain(text), out);
    }
}

fn ports_errors(ports: &At<'_>, kind: &str, out: &mut Errors) {
    let (mut names, mut pairs, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for port in ports.items() {
        let (title, number, protocol) = (port.get("name"), port.get("port"), port.get("protocol"));
        if title.text().is_empty() {
            if ports.len() > 1 {
                out.push(title.required());
            }
        } else {
            each(&title, name::dns1123_label(title.text()), out);
            if !names.insert(title.text()) {
                out.push(title.duplicate());
            }
        }
        each(&number, name::port_number(number.int().unwrap_or_default()), out);
        one_of(&protocol, &["SCTP", "TCP", "UDP"], out);
        let target = port.get("targetPort");
        if target.is_set() {
            probe::port(&target, out);
        }
        if !pairs.insert((number.int(), protocol.text())) {
            out.push(FieldError::duplicate(&port.path, json!({"port": number.value(), "protocol": protocol.text()})));
        }
        node_port(&port.get("nodePort"), protocol.text(), kind, &mut node_ports, out);
    }
}

fn node_port<'a>(at: &At<'_>, protocol: &'a str, kind: &str, taken: &mut BTreeSet<(i64, &'a str)>, out: &mut Errors) {
    let Some(number) = at.int().filter(|number| *number != 0) else { return };
    match kind {
        "ClusterIP" | "ExternalName" => out.push(at.forbidden(&format!("may not be used when `type` is '{kind}'"))),
        _ => {
            // Upstream's --service-node-port-range.
            if !(30_000..=32_767).contains(&number) {
                out.push(at.invalid("provided port is not in the valid range. The range of valid ports is 30000-32767"));
            }
            if !taken.insert((number, protocol)) {
                out.push(at.duplicate());
            }
        }
    }
}

fn traffic(policy: &At<'_>, kind: &str, has_external: bool, out: &mut Errors) {
    if policy.text().is_empty() {
        return;
    }
    if !matches!(kind, "NodePort" | "LoadBalancer") && !has_external {
        out.push(policy.invalid("may only be set for externally-accessible services"));
    }
    one_of_or_none(policy, &["Cluster", "Local"], out);
}

/// What is wrong with the change.
#[must_use]
pub fn update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let (before, after) = (At::field(old, "spec"), At::field(new, "spec"));
    let (had, has) = (before.get("clusterIP").text(), after.get("clusterIP"));
    // Who becomes or was an ExternalName gives up or gets an address.
    let named = [&before, &after].iter().any(|spec| spec.get("type").text() == "ExternalName");
    if !had.is_empty() && !named && had != has.text() {
        out.push(FieldError::invalid(after.path.child("clusterIPs").index(0), has.text(), "may not change once set"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{default, validate::sentence};
    use serde_json::Value;

    fn service(spec: &Value) -> Object {
        let mut object = Object::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
        default::service::fill(&mut object);
        object
    }

    #[test]
    fn services_are_judged_by_their_type() {
        for (spec, words) in [
            (json!({"ports": [{"port": 80}], "selector": {"app": "web"}}), "[]"),
            (json!({"clusterIP": "None"}), "[]"),
            (json!({"type": "ExternalName", "externalName": "example.com."}), "[]"),
            (
                json!({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "targetPort": "dns"}]}),
                "[]",
            ),
            (json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}), "[]"),
            (json!({}), "spec.ports: Required value"),
            (json!({"type": "ExternalName"}), "spec.externalName: Required value"),
            (
                json!({"type": "Odd", "ports": [{"port": 1}]}),
                "spec.type: Unsupported value: \"Odd\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ),
            (
                json!({"clusterIP": "None", "type": "NodePort", "ports": [{"port": 1}]}),
                "spec.clusterIP: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ),
            (
                json!({"ports": [{"port": 0}]}),
                "[spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive]",
            ),
            (json!({"ports": [{"port": 1}, {"name": "b", "port": 2}]}), "spec.ports[0].name: Required value"),
            (
                json!({"ports": [{"name": "b", "port": 1}, {"name": "b", "port": 2}]}),
                "spec.ports[1].name: Duplicate value: \"b\"",
            ),
            (
                json!({"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 1}]}),
                "spec.ports[1]: Duplicate value: {\"port\":1,\"protocol\":\"TCP\"}",
            ),
            (
                json!({"ports": [{"port": 1, "protocol": "QUIC"}]}),
                "spec.ports[0].protocol: Unsupported value: \"QUIC\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                json!({"ports": [{"port": 1, "targetPort": 70000}]}),
                "spec.ports[0].targetPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ),
            (
                json!({"ports": [{"port": 1, "nodePort": 30000}]}),
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
            ),
            (
                json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}),
                "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767",
            ),
            (
                json!({"ports": [{"port": 1}], "sessionAffinity": "Sticky"}),
                "spec.sessionAffinity: Unsupported value: \"Sticky\": supported values: \"ClientIP\", \"None\"",
            ),
            (
                json!({"ports": [{"port": 1}], "externalTrafficPolicy": "Local"}),
                "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
            ),
            (
                json!({"ports": [{"port": 1}], "externalIPs": ["127.0.0.1"]}),
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                json!({"ports": [{"port": 1}], "clusterIP": "here"}),
                "spec.clusterIP: Invalid value: \"here\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
        ] {
            assert_eq!(sentence(&errors(&service(&spec))), words, "{spec}");
        }
        assert!(
            sentence(&errors(&service(&json!({"ports": [{"port": 1}], "selector": {"a": "b c"}}))))
                .starts_with("spec.selector: Invalid value: \"b c\"")
        );
    }

    #[test]
    fn an_address_stays() {
        let at = |address: &str| service(&json!({"clusterIP": address, "ports": [{"port": 1}]}));
        assert_eq!(update_errors(&at(""), &at("10.0.0.1")), Vec::new());
        assert_eq!(
            sentence(&update_errors(&at("10.0.0.1"), &at("10.0.0.2"))),
            "spec.clusterIPs[0]: Invalid value: \"10.0.0.2\": may not change once set"
        );
        let named = service(&json!({"type": "ExternalName", "externalName": "a.b"}));
        assert_eq!(update_errors(&at("10.0.0.1"), &named), Vec::new());
    }
}
