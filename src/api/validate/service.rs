//! Services.
//!
//! Source:   `ValidateService`, `ValidateServiceUpdate` of core.

use std::collections::BTreeSet;

use serde_json::json;

use super::at::At;
use super::{Errors, FieldError, each, labels, name, network, one_of, one_of_or_none, probe};
use crate::api::Object;
use crate::api::core::service::{IPV4, IPV6, PREFER_DUAL_STACK, REQUIRE_DUAL_STACK, SINGLE_STACK, family_of};

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

/// What is wrong with the addresses and families of one that is no ExternalName, whatever the cluster has.
/// Source: `ValidateServiceClusterIPsRelatedFields`.
#[must_use]
pub fn family_errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    let (one, all, families) = (spec.get("clusterIP").text(), spec.get("clusterIPs"), spec.get("ipFamilies"));
    match all.texts().next() {
        None if !one.is_empty() => out.push(all.required()),
        Some(_) if one.is_empty() => out.push(all.invalid("must be empty when `clusterIP` is not specified")),
        Some(first) if first != one => out.push(all.invalid("first value must match `clusterIP`")),
        _ => {}
    }
    let mut seen = BTreeSet::new();
    for family in families.items() {
        one_of(&family, &[IPV4, IPV6], &mut out);
        if !seen.insert(family.text()) {
            out.push(family.duplicate());
        }
    }
    one_of_or_none(&spec.get("ipFamilyPolicy"), &[PREFER_DUAL_STACK, REQUIRE_DUAL_STACK, SINGLE_STACK], &mut out);
    if one == "None" {
        if all.len() > 1 {
            out.push(all.invalid("'None' must be the first and only value"));
        }
        return out;
    }
    let mut seen = BTreeSet::new();
    for (number, address) in all.items().enumerate() {
        let Ok(family) = address.text().parse().map(family_of) else {
            out.push(address.invalid(network::EXPECTED));
            return out;
        };
        let wanted = families.texts().nth(number);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != family) {
            out.push(address.invalid(&format!("expected an {wanted} value as indicated by `ipFamilies[{number}]`")));
        }
        seen.insert(family);
    }
    if all.len() > 2 {
        out.push(all.invalid("may only hold up to 2 values"));
    } else if all.len() > seen.len() {
        out.push(all.invalid("may specify no more than one IP for each IP family"));
    }
    out
}

fn external(spec: &At<'_>, out: &mut Errors) {
    let words = "may not be set for ExternalName services";
    let addresses = spec.get("clusterIPs");
    if addresses.len() > 0 || !spec.get("clusterIP").text().is_empty() {
        out.push(addresses.forbidden(words));
    }
    out.extend(
        ["ipFamilies", "ipFamilyPolicy"]
            .map(|field| spec.get(field))
            .iter()
            .filter(|at| at.is_set())
            .map(|at| at.forbidden(words)),
    );
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

/// What is wrong with the change: its first address and family stay, and a second one goes only by `SingleStack`.
/// Source: `validateUpgradeDowngradeClusterIPs`, `validateUpgradeDowngradeIPFamilies`.
#[must_use]
pub fn update_errors(old: &Object, new: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let (before, after) = (At::field(old, "spec"), At::field(new, "spec"));
    // Who becomes or was an ExternalName gives up or gets an address.
    if [&before, &after].iter().any(|spec| spec.get("type").text() == "ExternalName") {
        return out;
    }
    let headless = [&before, &after].map(|spec| spec.get("clusterIP").text() == "None");
    let policy = after.get("ipFamilyPolicy");
    for (field, what, judged) in [
        ("clusterIPs", "clusterIP", headless != [true; 2]),
        // Of one without an address families may change.
        ("ipFamilies", "ipFamily", headless == [false; 2]),
    ] {
        let (had, has) = (before.get(field), after.get(field));
        if !judged {
            continue;
        }
        if has.len() == 0 && had.len() > 0 {
            out.push(FieldError::invalid(has.path.index(0), has.value().clone(), &format!("primary {what} can not be unset")));
        }
        for (is, was) in has.items().zip(had.items()).filter(|(is, was)| is.text() != was.text()) {
            out.push(FieldError::invalid(&was.path, is.text(), "may not change once set"));
        }
        if had.len() == 2 && has.len() == 1 && policy.text() != SINGLE_STACK {
            out.push(policy.invalid(&format!("must be set to 'SingleStack' when releasing the secondary {what}")));
        }
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
                json!({"type": "ExternalName", "externalName": "a.b", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}),
                "[spec.ipFamilies: Forbidden: may not be set for ExternalName services, spec.ipFamilyPolicy: Forbidden: may not be set for ExternalName services]",
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
    fn addresses_are_one_of_each_family_and_of_the_families_that_are_named() {
        for (spec, words) in [
            (json!({}), "[]"),
            (json!({"clusterIP": "None", "clusterIPs": ["None"]}), "[]"),
            (json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}), "[]"),
            (json!({"clusterIP": "10.0.0.1"}), "spec.clusterIPs: Required value"),
            (
                json!({"clusterIPs": ["10.0.0.1"]}),
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: must be empty when `clusterIP` is not specified",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}),
                "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
            ),
            (
                json!({"clusterIP": "here", "clusterIPs": ["here"]}),
                "spec.clusterIPs[0]: Invalid value: \"here\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None", "fd00::1"]}),
                "spec.clusterIPs: Invalid value: [\"None\",\"fd00::1\"]: 'None' must be the first and only value",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
            ),
            (
                json!({"clusterIP": "a::1", "clusterIPs": ["a::1", "10.0.0.2", "a::2"]}),
                "spec.clusterIPs: Invalid value: [\"a::1\",\"10.0.0.2\",\"a::2\"]: may only hold up to 2 values",
            ),
            (
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ipFamilies": ["IPv4"]}),
                "spec.clusterIPs[0]: Invalid value: \"fd00::1\": expected an IPv4 value as indicated by `ipFamilies[0]`",
            ),
            (
                json!({"ipFamilies": ["IPv5"]}),
                "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ),
            (json!({"ipFamilies": ["IPv6", "IPv6"]}), "spec.ipFamilies[1]: Duplicate value: \"IPv6\""),
            (
                json!({"ipFamilyPolicy": "Dual"}),
                "spec.ipFamilyPolicy: Unsupported value: \"Dual\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
            ),
        ] {
            assert_eq!(sentence(&family_errors(&service(&spec))), words, "{spec}");
        }
    }

    #[test]
    fn the_first_address_stays_and_a_second_comes_and_goes() {
        let at = |addresses: &[&str], policy: &str| {
            let families: Vec<&str> = addresses.iter().filter_map(|address| address.parse().ok().map(family_of)).collect();
            let spec = json!({"clusterIP": addresses.first(), "clusterIPs": addresses, "ipFamilies": families,
                "ipFamilyPolicy": policy, "ports": [{"port": 1}]});
            service(&spec)
        };
        let (one, both) = (&["10.0.0.1"][..], &["10.0.0.1", "fd00::1"][..]);
        for (before, after, policy, words) in [
            (&[][..], one, SINGLE_STACK, ""),
            (one, one, SINGLE_STACK, ""),
            (one, both, PREFER_DUAL_STACK, ""),
            (both, one, SINGLE_STACK, ""),
            (one, &["10.0.0.2"][..], SINGLE_STACK, "spec.clusterIPs[0]: Invalid value: \"10.0.0.2\": may not change once set"),
            (
                both,
                &["10.0.0.1", "fd00::2"][..],
                REQUIRE_DUAL_STACK,
                "spec.clusterIPs[1]: Invalid value: \"fd00::2\": may not change",
            ),
            (one, &["fd00::1", "10.0.0.1"][..], PREFER_DUAL_STACK, "spec.ipFamilies[0]: Invalid value: \"IPv6\": may not change"),
            (both, one, PREFER_DUAL_STACK, "must be set to 'SingleStack' when releasing the secondary clusterIP"),
            (one, &["None"][..], SINGLE_STACK, "spec.clusterIPs[0]: Invalid value: \"None\": may not change once set"),
        ] {
            let told = sentence(&update_errors(&at(before, SINGLE_STACK), &at(after, policy)));
            assert!(told.contains(words) && (told == "[]") == words.is_empty(), "{before:?} {after:?}: {told}");
        }
        let named = service(&json!({"type": "ExternalName", "externalName": "a.b"}));
        assert_eq!(update_errors(&at(one, SINGLE_STACK), &named), Vec::new());
    }
}
