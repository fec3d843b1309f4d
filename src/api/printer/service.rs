//! `kubectl get services`. Source: `printService`, `getServiceExternalIP`, `makePortString`.

use serde_json::Value;

use super::{AGE, Column, NAME, NONE, Printer, age_of, labels, or, text};
use crate::api::Object;

/// The columns.
pub static PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::text("Type"),
        Column::text("Cluster-IP"),
        Column::text("External-IP"),
        Column::text("Port(s)"),
        AGE,
        Column::text("Selector").wide(),
    ],
    |service, now| {
        let first = service.list_at(&["spec", "clusterIPs"]).first().and_then(Value::as_str);
        vec![
            service.name().into(),
            service.str_at(&["spec", "type"]).into(),
            or(first.unwrap_or_else(|| service.str_at(&["spec", "clusterIP"])), NONE).into(),
            external(service).into(),
            or(&ports(service), NONE).into(),
            age_of(service, now),
            labels(service, &["spec", "selector"]).into(),
        ]
    },
);

fn external(service: &Object) -> String {
    let given: Vec<&str> = service.list_at(&["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match service.str_at(&["spec", "type"]) {
        "ClusterIP" | "NodePort" => or(&given.join(","), NONE).to_owned(),
        "LoadBalancer" => {
            let ingress = service.list_at(&["status", "loadBalancer", "ingress"]).iter();
            let mut all: Vec<&str> = ingress
                .map(|entry| or(text(entry, "ip"), text(entry, "hostname")))
                .filter(|address| !address.is_empty())
                .collect();
            all.sort_unstable();
            all.dedup();
            all.extend(given);
            or(&all.join(","), "<pending>").to_owned()
        }
        "ExternalName" => service.str_at(&["spec", "externalName"]).to_owned(),
        _ => super::UNKNOWN.to_owned(),
    }
}

fn ports(service: &Object) -> String {
    let port = |port: &Value| {
        let number = |key: &str| port.get(key).and_then(Value::as_i64).unwrap_or_default();
        match number("nodePort") {
            0 => format!("{}/{}", number("port"), text(port, "protocol")),
            node => format!("{}:{node}/{}", number("port"), text(port, "protocol")),
        }
    };
    service.list_at(&["spec", "ports"]).iter().map(port).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn services_show_where_they_are_reached() {
        assert_eq!(headings(&PRINTER), "NAME|TYPE|CLUSTER-IP|EXTERNAL-IP|PORT(S)|AGE|SELECTOR*");
        for (spec, words) in [
            (json!({"type": "ClusterIP"}), "ClusterIP|<none>|<none>|<none>|60m|<none>"),
            (
                json!({"type": "ClusterIP", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "selector": {"b": "1", "a": "2"},
                    "ports": [{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
                "ClusterIP|10.0.0.1|<none>|80/TCP,53/UDP|60m|a=2,b=1",
            ),
            (json!({"type": "ClusterIP", "clusterIP": "None"}), "ClusterIP|None|<none>|<none>|60m|<none>"),
            (
                json!({"type": "NodePort", "externalIPs": ["1.1.1.1", "2.2.2.2"], "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]}),
                "NodePort|<none>|1.1.1.1,2.2.2.2|80:30080/TCP|60m|<none>",
            ),
            (json!({"type": "LoadBalancer"}), "LoadBalancer|<none>|<pending>|<none>|60m|<none>"),
            (json!({"type": "ExternalName", "externalName": "example.com"}), "ExternalName|<none>|example.com|<none>|60m|<none>"),
        ] {
            assert_eq!(row(&PRINTER, &object("web", json!({"spec": spec}))), format!("web|{words}"));
        }
        let status =
            json!({"loadBalancer": {"ingress": [{"ip": "192.168.1.9"}, {"hostname": "pi.local"}, {"ip": "192.168.1.9"}]}});
        let balanced = object("web", json!({"spec": {"type": "LoadBalancer", "externalIPs": ["1.1.1.1"]}, "status": status}));
        assert_eq!(row(&PRINTER, &balanced), "web|LoadBalancer|<none>|192.168.1.9,pi.local,1.1.1.1|<none>|60m|<none>");
    }
}
