//! Services as environment variables: `WEB_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT`, and Docker's old links.
//!
//! In:       the network's share, the pod's namespace, whether it wants links.
//! Out:      variables by name.
//! Source:   the kubelet's getServiceEnvVarMap and `envvars.FromServices`. Differs: none.

use std::collections::BTreeMap;

use crate::api::Object;
use crate::api::core::service::Service;
use crate::link::share::Share;

/// The API's service, which every pod is told of.
const API: (&str, &str) = ("default", "kubernetes");

/// What a pod of this namespace is told of services that have an address: of the API's always, of its namespace's with `links`.
#[must_use]
pub fn variables(net: &Share, namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut told: BTreeMap<&str, &Object> = BTreeMap::new();
    for service in net.services.values() {
        if (service.namespace(), service.name()) == API {
            told.entry(service.name()).or_insert(service);
        } else if links && service.namespace() == namespace {
            // A service of this name in the pod's namespace hides the API's, as upstream.
            told.insert(service.name(), service);
        }
    }
    told.into_values().flat_map(of_service).collect()
}

fn of_service(service: &Object) -> Vec<(String, String)> {
    // One that is only another name has no address, whatever stands there.
    let address = Service(service).cluster_ips().next().filter(|_| !Service(service).is_external_name());
    let Some(address) = address else { return Vec::new() };
    let name = variable(service.name());
    let mut all = vec![(format!("{name}_SERVICE_HOST"), address.to_owned())];
    for (number, port) in Service(service).ports().enumerate() {
        let Some(at) = port.port() else { continue };
        let (upper, protocol) = (port.protocol().to_uppercase(), port.protocol().to_lowercase());
        let place = if address.contains(':') { format!("[{address}]:{at}") } else { format!("{address}:{at}") };
        if number == 0 {
            all.push((format!("{name}_SERVICE_PORT"), at.to_string()));
            all.push((format!("{name}_PORT"), format!("{protocol}://{place}")));
        }
        if !port.name().is_empty() {
            all.push((format!("{name}_SERVICE_PORT_{}", variable(port.name())), at.to_string()));
        }
        let link = format!("{name}_PORT_{at}_{upper}");
        all.extend([
            (format!("{link}_PROTO"), protocol.clone()),
            (format!("{link}_PORT"), at.to_string()),
            (format!("{link}_ADDR"), address.to_owned()),
            (link, format!("{protocol}://{place}")),
        ]);
    }
    all
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn net(services: &[(&str, &str, Value)]) -> Share {
        let service = |(namespace, name, spec): &(&str, &str, Value)| {
            let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec});
            (format!("{namespace}/{name}"), Arc::new(Object::from_value(object).unwrap()))
        };
        Share { services: services.iter().map(service).collect(), ..Share::default() }
    }

    #[test]
    fn a_service_is_told_in_the_words_of_upstream() {
        let spec = json!({"clusterIP": "10.96.3.4", "ports": [{"name": "web", "port": 80}, {"name": "dns-udp", "port": 53, "protocol": "UDP"}]});
        let told = variables(&net(&[("home", "my-db", spec)]), "home", true);
        let lines: Vec<String> = told.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "MY_DB_PORT=tcp://10.96.3.4:80",
                "MY_DB_PORT_53_UDP=udp://10.96.3.4:53",
                "MY_DB_PORT_53_UDP_ADDR=10.96.3.4",
                "MY_DB_PORT_53_UDP_PORT=53",
                "MY_DB_PORT_53_UDP_PROTO=udp",
                "MY_DB_PORT_80_TCP=tcp://10.96.3.4:80",
                "MY_DB_PORT_80_TCP_ADDR=10.96.3.4",
                "MY_DB_PORT_80_TCP_PORT=80",
                "MY_DB_PORT_80_TCP_PROTO=tcp",
                "MY_DB_SERVICE_HOST=10.96.3.4",
                "MY_DB_SERVICE_PORT=80",
                "MY_DB_SERVICE_PORT_DNS_UDP=53",
                "MY_DB_SERVICE_PORT_WEB=80",
            ]
        );
    }

    #[test]
    fn a_pod_is_told_of_the_api_and_if_it_wants_of_its_namespace() {
        let at = |address: &str| json!({"clusterIP": address, "ports": [{"port": 443}]});
        let net = net(&[
            ("default", "kubernetes", at("10.96.0.1")),
            ("default", "web", at("10.96.0.2")),
            ("home", "web", at("10.96.0.3")),
            ("home", "headless", at("None")),
            ("home", "outside", json!({"type": "ExternalName", "externalName": "example.com"})),
        ]);
        let hosts = |namespace: &str, links: bool| -> Vec<String> {
            let told = variables(&net, namespace, links).into_iter().filter(|(name, _)| name.ends_with("_SERVICE_HOST"));
            told.map(|(name, value)| format!("{} {value}", name.trim_end_matches("_SERVICE_HOST"))).collect()
        };
        assert_eq!(hosts("home", true), ["KUBERNETES 10.96.0.1", "WEB 10.96.0.3"]);
        assert_eq!(hosts("default", true), ["KUBERNETES 10.96.0.1", "WEB 10.96.0.2"]);
        assert_eq!(hosts("home", false), ["KUBERNETES 10.96.0.1"]);
        assert!(variables(&Share::default(), "home", true).is_empty(), "nothing is known of the network");
    }
}
