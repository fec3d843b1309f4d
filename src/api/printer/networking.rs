//! `kubectl get ingresses`, `ingressclasses` and `networkpolicies`.
//!
//! Source:   `printIngress`, `printIngressClass`, `printNetworkPolicy`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::workload::selector_at;
use super::{AGE, Column, NAME, NONE, Printer, age_of, or, text};
use crate::api::Object;

/// The columns of an ingress.
pub static INGRESS_PRINTER: Printer = Printer::new(
    &[NAME, Column::text("Class"), Column::text("Hosts"), Column::text("Address"), Column::text("Ports"), AGE],
    |ingress, now| {
        let ports = if ingress.list_at(&["spec", "tls"]).is_empty() { "80" } else { "80, 443" };
        vec![
            ingress.name().into(),
            or(ingress.str_at(&["spec", "ingressClassName"]), NONE).into(),
            hosts(ingress).into(),
            addresses(ingress).into(),
            ports.into(),
            age_of(ingress, now),
        ]
    },
);

/// The columns of an ingress class.
pub static CLASS_PRINTER: Printer =
    Printer::new(&[NAME, Column::text("Controller"), Column::text("Parameters"), AGE], |class, now| {
        vec![class.name().into(), class.str_at(&["spec", "controller"]).into(), parameters(class).into(), age_of(class, now)]
    });

/// The columns of a network policy.
pub static POLICY_PRINTER: Printer = Printer::new(&[NAME, Column::text("Pod-Selector"), AGE], |policy, now| {
    vec![policy.name().into(), selector_at(policy, &["spec", "podSelector"]).into(), age_of(policy, now)]
});

fn hosts(ingress: &Object) -> String {
    const MOST: usize = 3;
    let rules = ingress.list_at(&["spec", "rules"]);
    let named: Vec<&str> = rules.iter().map(|rule| text(rule, "host")).filter(|host| !host.is_empty()).collect();
    let shown = named.iter().take(MOST).copied().collect::<Vec<_>>().join(",");
    match shown.as_str() {
        "" => "*".to_owned(),
        _ if named.len() > MOST => format!("{shown} + {} more...", named.len() - MOST),
        _ => shown,
    }
}

fn addresses(ingress: &Object) -> String {
    let entries = ingress.list_at(&["status", "loadBalancer", "ingress"]).iter();
    let all: BTreeSet<&str> =
        entries.map(|entry| or(text(entry, "ip"), text(entry, "hostname"))).filter(|one| !one.is_empty()).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

fn parameters(class: &Object) -> String {
    let Some(given) = class.at(&["spec", "parameters"]).filter(|given| given.is_object()) else { return NONE.to_owned() };
    let group = given.get("apiGroup").and_then(Value::as_str).map(|group| format!(".{group}")).unwrap_or_default();
    format!("{}{group}/{}", text(given, "kind"), text(given, "name"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn ingresses_show_their_hosts_and_where_they_are_reached() {
        assert_eq!(headings(&INGRESS_PRINTER), "NAME|CLASS|HOSTS|ADDRESS|PORTS|AGE");
        let host = |name: &str| json!({"host": name});
        for (fields, words) in [
            (json!({"spec": {"defaultBackend": {}}}), "<none>|*||80|60m"),
            (
                json!({"spec": {"ingressClassName": "bramble", "rules": [host("a"), {}, host("b")], "tls": [{}]},
                    "status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.9"}, {"ip": "192.168.1.8"}]}}}),
                "bramble|a,b|192.168.1.8,192.168.1.9|80, 443|60m",
            ),
            (
                json!({"spec": {"rules": [host("a"), host("b"), host("c"), host("d"), host("e")]}}),
                "<none>|a,b,c + 2 more...||80|60m",
            ),
        ] {
            assert_eq!(row(&INGRESS_PRINTER, &object("web", fields)), format!("web|{words}"));
        }
    }

    #[test]
    fn classes_and_policies_show_what_they_are_about() {
        assert_eq!(headings(&CLASS_PRINTER), "NAME|CONTROLLER|PARAMETERS|AGE");
        let parameters = json!({"apiGroup": "k8s.example.com", "kind": "Params", "name": "p"});
        for (spec, words) in [
            (json!({"controller": "bramble/ingress"}), "bramble/ingress|<none>|60m"),
            (json!({"controller": "a/b", "parameters": parameters}), "a/b|Params.k8s.example.com/p|60m"),
        ] {
            assert_eq!(row(&CLASS_PRINTER, &object("c", json!({"spec": spec}))), format!("c|{words}"));
        }
        assert_eq!(headings(&POLICY_PRINTER), "NAME|POD-SELECTOR|AGE");
        assert_eq!(row(&POLICY_PRINTER, &object("deny", json!({"spec": {"podSelector": {}}}))), "deny|<none>|60m");
        let web = json!({"spec": {"podSelector": {"matchLabels": {"app": "web"}}}});
        assert_eq!(row(&POLICY_PRINTER, &object("web", web)), "web|app=web|60m");
    }
}
