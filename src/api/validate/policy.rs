//! Network policies. Source: `ValidateNetworkPolicy` of networking.

use ipnet::IpNet;

use super::at::At;
use super::{Errors, FieldError, each, labels, name, one_of_or_none};
use crate::api::Object;

const TYPES: [&str; 2] = ["Egress", "Ingress"];
const CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// What is wrong with it.
#[must_use]
pub fn errors(object: &Object) -> Vec<FieldError> {
    let mut out = Vec::new();
    let spec = At::field(object, "spec");
    labels::selector(&spec.get("podSelector"), &mut out);
    for (direction, others) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(direction).items() {
            rule.get("ports").items().for_each(|entry| port(&entry, &mut out));
            rule.get(others).items().for_each(|entry| peer(&entry, &mut out));
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > TYPES.len() {
        out.push(types.invalid("may not specify more than two policyTypes"));
        return out;
    }
    for kind in types.items().filter(|kind| !TYPES.contains(&kind.text())) {
        out.push(FieldError::not_supported(&kind.path, kind.text(), &TYPES));
    }
    out
}

fn port(entry: &At<'_>, out: &mut Errors) {
    one_of_or_none(&entry.get("protocol"), &["SCTP", "TCP", "UDP"], out);
    let (port, end) = (entry.get("port"), entry.get("endPort"));
    if !port.is_set() {
        if end.is_set() {
            out.push(end.invalid("may not be specified when `port` is not specified"));
        }
        return;
    }
    match (port.int(), end.int()) {
        (Some(first), last) => {
            each(&port, name::port_number(first), out);
            if let Some(last) = last {
                if last < first {
                    out.push(end.invalid("must be greater than or equal to `port`"));
                }
                each(&end, name::port_number(last), out);
            }
        }
        (None, last) => {
            if last.is_some() {
                out.push(end.invalid("may not be specified when `port` is non-numeric"));
            }
            each(&port, name::port_name(port.text()), out);
        }
    }
}

fn peer(entry: &At<'_>, out: &mut Errors) {
    let (pods, namespaces, block) = (entry.get("podSelector"), entry.get("namespaceSelector"), entry.get("ipBlock"));
    for selector in [&pods, &namespaces] {
        labels::selector(selector, out);
    }
    if block.is_set() {
        range(&block, out);
    }
    match (pods.is_set() || namespaces.is_set(), block.is_set()) {
        (false, false) => out.push(FieldError::required(&entry.path, "must specify a peer")),
        (true, true) => out.push(entry.forbidden("may not specify both ipBlock and another peer")),
        _ => {}
    }
}

fn range(block: &At<'_>, out: &mut Errors) {
    let whole = block.get("cidr");
    if whole.text().is_empty() {
        out.push(whole.required());
        return;
    }
    let net = whole.text().parse::<IpNet>();
    if net.is_err() {
        out.push(whole.invalid(CIDR));
    }
    for except in block.get("except").items() {
        let Ok(part) = except.text().parse::<IpNet>() else {
            out.push(except.invalid(CIDR));
            continue;
        };
        if net.as_ref().is_ok_and(|net| !net.contains(&part) || net.prefix_len() >= part.prefix_len()) {
            out.push(except.invalid("must be a strict subset of `cidr`"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::validate::sentence;
    use serde_json::{Value, json};

    fn said(spec: Value) -> String {
        sentence(&errors(&Object::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()))
    }

    #[test]
    fn ports_are_a_number_a_range_or_a_name() {
        let at = "spec.ingress[0].ports[0]";
        for (port, words) in [
            (json!({}), "[]".to_owned()),
            (json!({"protocol": "UDP", "port": 53}), "[]".to_owned()),
            (json!({"port": "http"}), "[]".to_owned()),
            (json!({"port": 80, "endPort": 90}), "[]".to_owned()),
            (json!({"port": 0}), format!("{at}.port: Invalid value: 0: must be between 1 and 65535, inclusive")),
            (
                json!({"port": 90, "endPort": 80}),
                format!("{at}.endPort: Invalid value: 80: must be greater than or equal to `port`"),
            ),
            (
                json!({"port": "http", "endPort": 80}),
                format!("{at}.endPort: Invalid value: 80: may not be specified when `port` is non-numeric"),
            ),
            (
                json!({"endPort": 80}),
                format!("{at}.endPort: Invalid value: 80: may not be specified when `port` is not specified"),
            ),
            (
                json!({"protocol": "ICMP"}),
                format!("{at}.protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\""),
            ),
        ] {
            assert_eq!(said(json!({"ingress": [{"ports": [port]}]})), words, "{port}");
        }
    }

    #[test]
    fn a_peer_is_pods_or_addresses() {
        let at = "spec.egress[0].to[0]";
        for (peer, words) in [
            (json!({"podSelector": {}, "namespaceSelector": {"matchLabels": {"a": "b"}}}), "[]".to_owned()),
            (json!({"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}}), "[]".to_owned()),
            (json!({"ipBlock": {"cidr": "2001:db8::/64"}}), "[]".to_owned()),
            (json!({}), format!("{at}: Required value: must specify a peer")),
            (
                json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}),
                format!("{at}: Forbidden: may not specify both ipBlock and another peer"),
            ),
            (json!({"ipBlock": {}}), format!("{at}.ipBlock.cidr: Required value")),
            (json!({"ipBlock": {"cidr": "10.0.0.0"}}), format!("{at}.ipBlock.cidr: Invalid value: \"10.0.0.0\": {CIDR}")),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}),
                format!("{at}.ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"),
            ),
            (
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/24", "x"]}}),
                format!(
                    "[{at}.ipBlock.except[0]: Invalid value: \"11.0.0.0/24\": must be a strict subset of `cidr`, {at}.ipBlock.except[1]: Invalid value: \"x\": {CIDR}]"
                ),
            ),
        ] {
            assert_eq!(said(json!({"egress": [{"to": [peer]}]})), words, "{peer}");
        }
    }

    #[test]
    fn it_is_about_ingress_or_egress_or_both() {
        assert_eq!(said(json!({"policyTypes": ["Ingress", "Egress"]})), "[]");
        assert_eq!(
            said(json!({"policyTypes": ["Both"]})),
            "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Egress\", \"Ingress\""
        );
        assert!(
            said(json!({"policyTypes": ["Ingress", "Egress", "Ingress"]})).ends_with("may not specify more than two policyTypes")
        );
        assert!(
            said(json!({"podSelector": {"matchLabels": {"a": "b c"}}}))
                .starts_with("spec.podSelector.matchLabels: Invalid value")
        );
    }
}
