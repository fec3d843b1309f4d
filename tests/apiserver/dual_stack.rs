//! Services of one family of addresses and of both.

use bramble::apiserver::allocate::ServiceRanges;
use serde_json::{Value, json};

use crate::harness::{Kubectl, each_kubectl, each_kubectl_where};

fn dual() -> ServiceRanges {
    ServiceRanges::parse("10.96.0.0/16,fd12:3456:789a::/112").unwrap()
}

/// A service of this name, with these lines in its spec.
fn service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: web}}\n  ports: [{{port: 80}}]\n{spec}"
    )
}

/// Policy, families and addresses.
fn told(kubectl: &Kubectl, name: &str) -> (Value, Value, Vec<String>) {
    let service: Value = serde_json::from_str(&kubectl.run(&["get", "service", name, "-o", "json"]).ok()).unwrap();
    let spec = &service["spec"];
    let addresses: Vec<String> = serde_json::from_value(spec["clusterIPs"].clone()).unwrap();
    assert_eq!(spec["clusterIP"], json!(addresses[0]));
    (spec["ipFamilyPolicy"].clone(), spec["ipFamilies"].clone(), addresses)
}

#[test]
fn in_a_dual_stack_cluster_a_service_has_the_families_that_it_asks_for() {
    each_kubectl_where(dual(), |_, kubectl| {
        let create = |name: &str, spec: &str| kubectl.input(&["create", "-f", "-"], &service(name, spec));
        create("plain", "").says("service/plain created");
        assert_eq!((told(kubectl, "plain").0, told(kubectl, "plain").1), (json!("SingleStack"), json!(["IPv4"])));
        assert_eq!(told(kubectl, "kubernetes"), (json!("SingleStack"), json!(["IPv4"]), vec!["10.96.0.1".to_owned()]));
        create("web", "  ipFamilyPolicy: PreferDualStack\n").says("service/web created");
        let (policy, families, both) = told(kubectl, "web");
        assert_eq!((policy, families), (json!("PreferDualStack"), json!(["IPv4", "IPv6"])));
        assert!(both[0].starts_with("10.96.") && both[1].starts_with("fd12:3456:789a::"), "{both:?}");
        let described = kubectl.run(&["describe", "service", "web"]).ok();
        let line = |key: &str| {
            let line = described.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{described}")).trim().to_owned()
        };
        assert_eq!((line("IP Family Policy:"), line("IP Families:")), ("PreferDualStack".into(), "IPv4,IPv6".into()));
        assert_eq!((line("IP:"), line("IPs:")), (both[0].clone(), both.join(",")));
        let yaml = kubectl.run(&["get", "service", "web", "-o", "yaml"]).ok();
        assert!(yaml.contains("  ipFamilies:\n  - IPv4\n  - IPv6\n  ipFamilyPolicy: PreferDualStack\n"), "{yaml}");
        create("six", "  ipFamilies: [IPv6]\n").says("service/six created");
        assert!(kubectl.run(&["get", "service", "six"]).ok().contains("fd12:3456:789a::"));
        create("both", "  ipFamilies: [IPv4, IPv6]\n").fails("when multiple IP families are specified");
        create("none", "  clusterIP: None\n  ipFamilyPolicy: RequireDualStack\n").ok();
        assert_eq!(told(kubectl, "none"), (json!("RequireDualStack"), json!(["IPv4", "IPv6"]), vec!["None".to_owned()]));
        // The second goes and comes; the first stays.
        let patch = |spec: &str| kubectl.run(&["patch", "service", "web", "-p", &format!("{{\"spec\":{spec}}}")]);
        patch("{\"ipFamilyPolicy\":\"SingleStack\"}").says("service/web patched");
        assert_eq!(told(kubectl, "web"), (json!("SingleStack"), json!(["IPv4"]), vec![both[0].clone()]));
        patch("{\"ipFamilyPolicy\":\"RequireDualStack\"}").ok();
        assert_eq!(told(kubectl, "web"), (json!("RequireDualStack"), json!(["IPv4", "IPv6"]), both.clone()));
        patch("{\"ipFamilies\":[\"IPv6\",\"IPv4\"]}").fails("expected an IPv6 value as indicated by `ipFamilies[0]`");
        patch("{\"ipFamilies\":[\"IPv4\"]}").fails("must be 'SingleStack' to release the secondary IP family");
        // Applied again, with and without what was said of families.
        let more = service("web", "  ipFamilyPolicy: RequireDualStack\n  type: NodePort\n");
        kubectl.input(&["apply", "-f", "-"], &more).ok();
        kubectl.input(&["apply", "-f", "-"], &more).says("service/web unchanged");
        kubectl.input(&["replace", "-f", "-"], &service("web", "")).says("service/web replaced");
        assert_eq!(told(kubectl, "web").2, both);
    });
}

#[test]
fn in_a_cluster_of_ipv4_only_who_requires_both_is_refused_and_who_prefers_them_has_one() {
    each_kubectl(|server, kubectl| {
        let create = |name: &str, spec: &str| kubectl.input(&["create", "-f", "-"], &service(name, spec));
        create("web", "  ipFamilyPolicy: RequireDualStack\n").fails(
            "The Service \"web\" is invalid: spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        );
        create("web", "  ipFamilies: [IPv6]\n")
            .fails("spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster");
        assert_eq!(server.count("services"), 1, "only default/kubernetes");
        create("web", "  ipFamilyPolicy: PreferDualStack\n").ok();
        let (policy, families, addresses) = told(kubectl, "web");
        assert_eq!((policy, families, addresses.len()), (json!("PreferDualStack"), json!(["IPv4"]), 1));
        let raw = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "raw"}, "spec": {"ipFamilyPolicy": "RequireDualStack", "ports": [{"port": 1}]}}"#;
        let headers = [("Content-Type", "application/json")];
        let refused = server.raw("POST", "/api/v1/namespaces/default/services", &headers, raw);
        assert_eq!((refused.code, &refused.json()["details"]["causes"][0]["field"]), (422, &json!("spec.ipFamilyPolicy")));
    });
}

#[test]
fn endpoint_slices_by_hand_are_of_one_family_each() {
    each_kubectl_where(dual(), |_, kubectl| {
        let slice = |kind: &str, address: &str| {
            let name = kind.to_lowercase();
            format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: nas-{name}, labels: {{kubernetes.io/service-name: nas}}}}\naddressType: {kind}\nendpoints: [{{addresses: [\"{address}\"]}}]\nports: [{{port: 445}}]\n"
            )
        };
        let create = |kind: &str, address: &str| kubectl.input(&["create", "-f", "-"], &slice(kind, address));
        for (address, words) in [
            ("fe80::1", "may not be in the link-local range"),
            ("::1", "may not be in the loopback range"),
            ("ff02::fb", "may not be in the link-local multicast range"),
            ("10.0.0.1", "must be a valid IPv6 address"),
        ] {
            create("IPv6", address).fails(words);
        }
        create("IPv6", "fd00::9").says("endpointslice.discovery.k8s.io/nas-ipv6 created");
        create("IPv4", "192.168.1.9").ok();
        let table = kubectl.run(&["get", "endpointslices"]).ok();
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0][..4], ["NAME", "ADDRESSTYPE", "PORTS", "ENDPOINTS"]);
        assert_eq!(
            (&rows[1][..4], &rows[2][..4]),
            (&["nas-ipv4", "IPv4", "445", "192.168.1.9"][..], &["nas-ipv6", "IPv6", "445", "fd00::9"][..])
        );
    });
}
