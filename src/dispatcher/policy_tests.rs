//! The examples of Kubernetes' documentation and the well-known recipes, each on one small cluster.

#![allow(clippy::needless_pass_by_value)] // `json!(…)` reads best as it is

use super::*;
use crate::api::{Resource, Revision};
use crate::store::Op;

fn put(view: &mut View, resource: &'static Resource, object: Value) {
    let object = Object::from_value(object).unwrap();
    let revision = view.revision().next();
    view.apply(revision, Op::create(Key::of(resource, &object), object).into());
}

fn pod(place: &str, labels: Value, ip: &str, ports: Value) -> Value {
    let (namespace, name) = place.split_once('/').unwrap();
    json!({"metadata": {"namespace": namespace, "name": name, "uid": place, "labels": labels},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": ports}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}})
}

/// Pods in `default`, `prod`, `dev` and `kube-system`; those that never count are all frontends.
fn cluster() -> View {
    let mut view = View::new(Revision(1));
    for (name, labels) in [
        ("default", json!({})),
        ("prod", json!({"team": "prod"})),
        ("dev", json!({"team": "dev"})),
        ("kube-system", json!({"kubernetes.io/metadata.name": "kube-system"})),
    ] {
        put(&mut view, &NAMESPACES, json!({"metadata": {"name": name, "labels": labels}}));
    }
    let http = |number: u16| json!([{"name": "http", "containerPort": number}]);
    let dns = json!([{"name": "dns", "containerPort": 53, "protocol": "UDP"}, {"name": "dns", "containerPort": 5353, "protocol": "TCP"}]);
    let mut on_host = pod("default/host", json!({"role": "frontend"}), "192.168.1.5", json!([]));
    on_host["spec"]["hostNetwork"] = json!(true);
    let mut ended = pod("default/ended", json!({"role": "frontend"}), "10.244.0.4", json!([]));
    ended["status"]["phase"] = json!("Succeeded");
    let mut young = pod("default/young", json!({"role": "frontend"}), "", json!([]));
    young["status"] = json!({"phase": "Pending"});
    for pod in [
        pod("default/web", json!({"app": "web"}), "10.244.0.1", http(80)),
        pod("default/web2", json!({"app": "web"}), "10.244.1.1", http(8080)),
        pod("default/db", json!({"app": "db"}), "10.244.0.2", json!([])),
        pod("default/front", json!({"role": "frontend"}), "10.244.0.3", json!([])),
        pod("prod/api", json!({"app": "api"}), "10.244.0.10", http(80)),
        pod("prod/client", json!({"role": "client"}), "10.244.1.10", json!([])),
        pod("dev/client", json!({"role": "client"}), "10.244.1.20", json!([])),
        pod("kube-system/dns", json!({"k8s-app": "kube-dns"}), "10.244.2.1", dns),
        on_host,
        ended,
        young,
    ] {
        put(&mut view, &PODS, pod);
    }
    view
}

/// What a policy of the namespace `default` comes to.
fn resolved(spec: Value) -> Value {
    let mut view = cluster();
    put(&mut view, &NETWORK_POLICIES, json!({"metadata": {"namespace": "default", "name": "p"}, "spec": spec}));
    let mut made = policies_of(&view).remove("default/p").unwrap().to_value();
    made.as_object_mut().unwrap().remove("selector");
    made
}

/// What an ingress rule of a policy for the database allows.
fn ingress(rule: Value) -> Value {
    resolved(json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress"], "ingress": [rule]}))["ingress"]
        .clone()
}

/// What an egress rule of a policy for the database allows.
fn egress(rule: Value) -> Value {
    resolved(json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Egress"], "egress": [rule]}))["egress"]
        .clone()
}

#[test]
fn defaults_deny_or_allow_all_by_direction() {
    let all = json!(["10.244.0.1-10.244.0.3", "10.244.1.1"]);
    for (what, spec, wanted) in [
        ("deny ingress", json!({"podSelector": {}, "policyTypes": ["Ingress"]}), json!({"pods": all, "ingress": []})),
        ("deny egress", json!({"podSelector": {}, "policyTypes": ["Egress"]}), json!({"pods": all, "egress": []})),
        (
            "deny both",
            json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            json!({"pods": all, "ingress": [], "egress": []}),
        ),
        (
            "allow ingress",
            json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]}),
            json!({"pods": all, "ingress": [{}]}),
        ),
        (
            "allow egress",
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}),
            json!({"pods": all, "egress": [{}]}),
        ),
        ("no types", json!({"podSelector": {}}), json!({"pods": all, "ingress": []})),
        ("no types, egress", json!({"podSelector": {}, "egress": [{}]}), json!({"pods": all, "ingress": [], "egress": [{}]})),
        (
            "rules of a type that is not named",
            json!({"policyTypes": ["Egress"], "ingress": [{}]}),
            json!({"pods": all, "egress": []}),
        ),
        ("nobody", json!({"podSelector": {"matchLabels": {"app": "none"}}}), json!({"ingress": []})),
    ] {
        assert_eq!(resolved(spec), wanted, "{what}");
    }
}

#[test]
fn the_documentations_own_example() {
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}},
                {"namespaceSelector": {"matchLabels": {"team": "prod"}}}, {"podSelector": {"matchLabels": {"role": "frontend"}}}],
            "ports": [{"protocol": "TCP", "port": 6379}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5978}]}]});
    let peers = json!(["10.244.0.3", "10.244.0.10", "10.244.1.10", "172.17.0.0-172.17.0.255", "172.17.2.0-172.17.255.255"]);
    let wanted = json!({"pods": ["10.244.0.2"], "ingress": [{"peers": peers, "ports": ["tcp/6379"]}],
        "egress": [{"peers": ["10.0.0.0-10.0.0.255"], "ports": ["tcp/5978"]}]});
    assert_eq!(resolved(spec), wanted);
}

#[test]
fn peers_are_pods_of_the_own_namespace_of_others_or_of_both() {
    let (client, prod) = (json!({"matchLabels": {"role": "client"}}), json!({"matchLabels": {"team": "prod"}}));
    for (what, from, peers) in [
        ("own namespace", json!([{"podSelector": {"matchLabels": {"app": "web"}}}]), json!(["10.244.0.1", "10.244.1.1"])),
        ("all of the own namespace", json!([{"podSelector": {}}]), json!(["10.244.0.1-10.244.0.3", "10.244.1.1"])),
        ("a namespace", json!([{"namespaceSelector": prod}]), json!(["10.244.0.10", "10.244.1.10"])),
        (
            "all namespaces",
            json!([{"namespaceSelector": {}}]),
            json!(["10.244.0.1-10.244.0.3", "10.244.0.10", "10.244.1.1", "10.244.1.10", "10.244.1.20", "10.244.2.1"]),
        ),
        ("both in one: AND", json!([{"namespaceSelector": prod, "podSelector": client}]), json!(["10.244.1.10"])),
        (
            "both in two: OR, and the second is of the own namespace",
            json!([{"namespaceSelector": prod}, {"podSelector": {"matchLabels": {"app": "db"}}}]),
            json!(["10.244.0.2", "10.244.0.10", "10.244.1.10"]),
        ),
        (
            "pods of all namespaces",
            json!([{"namespaceSelector": {}, "podSelector": client}]),
            json!(["10.244.1.10", "10.244.1.20"]),
        ),
        (
            "by expression",
            json!([{"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["dev", "prod"]}]}, "podSelector": client}]),
            json!(["10.244.1.10", "10.244.1.20"]),
        ),
        (
            "by the namespace's name, written or not",
            json!([{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["kube-system", "dev"]}]}}]),
            json!(["10.244.1.20", "10.244.2.1"]),
        ),
        (
            "a block inside a block",
            json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}}]),
            json!(["0.0.0.0-9.255.255.255", "11.0.0.0-192.167.255.255", "192.169.0.0-255.255.255.255"]),
        ),
        (
            "what one peer excepts another may allow",
            json!([{"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.0.0/17"]}}, {"ipBlock": {"cidr": "10.244.0.7/32"}}]),
            json!(["10.244.0.7", "10.244.128.0-10.244.255.255"]),
        ),
    ] {
        assert_eq!(ingress(json!({"from": from})), json!([{"peers": peers}]), "{what}");
        assert_eq!(egress(json!({"to": from})), json!([{"peers": peers}]), "{what}, egress");
    }
}

#[test]
fn a_rule_that_selects_nobody_allows_nothing_and_one_without_peers_everybody() {
    for (what, rule, allowed) in [
        ("nobody has the label", json!({"from": [{"podSelector": {"matchLabels": {"role": "none"}}}]}), json!([])),
        ("an empty peer", json!({"from": [{}]}), json!([])),
        ("no selector", json!({"from": [{"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}]}), json!([])),
        ("a block that is none", json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/64"}}]}), json!([])),
        ("an empty list is none", json!({"from": []}), json!([{}])),
        (
            "the whole world, by one family",
            json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
            json!([{"peers": ["0.0.0.0-255.255.255.255"]}]),
        ),
        ("by both", json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]}), json!([{}])),
    ] {
        assert_eq!(ingress(rule), allowed, "{what}");
    }
}

#[test]
fn ports_have_numbers_ranges_and_protocols() {
    for (ports, wanted) in [
        (json!([{"port": 80}]), json!(["tcp/80"])),
        (
            json!([{"port": 80}, {"protocol": "UDP", "port": 53}, {"protocol": "SCTP", "port": 7}]),
            json!(["tcp/80", "udp/53", "sctp/7"]),
        ),
        (json!([{"protocol": "TCP", "port": 32000, "endPort": 32768}]), json!(["tcp/32000-32768"])),
        (json!([{"protocol": "UDP"}]), json!(["udp"])),
        (json!([{"port": 80}, {"port": 70000}, {"port": 9, "endPort": 8}, {"protocol": "QUIC", "port": 1}]), json!(["tcp/80"])),
    ] {
        assert_eq!(ingress(json!({"ports": ports})), json!([{"ports": wanted}]));
        assert_eq!(egress(json!({"ports": ports})), json!([{"ports": wanted}]));
    }
    assert_eq!(ingress(json!({"ports": [{"port": "none"}, {"port": 70000}]})), json!([]));
}

#[test]
fn rules_with_the_same_ports_are_one() {
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
        {"from": [{"ipBlock": {"cidr": "10.1.0.0/24"}}], "ports": [{"port": 80}]},
        {"from": [{"ipBlock": {"cidr": "10.1.1.0/24"}}], "ports": [{"port": 80}]},
        {"from": [{"ipBlock": {"cidr": "10.1.2.0/24"}}], "ports": [{"port": 81}]},
        {"ports": [{"port": 81}]}]});
    assert_eq!(
        resolved(spec)["ingress"],
        json!([{"peers": ["10.1.0.0-10.1.1.255"], "ports": ["tcp/80"]}, {"ports": ["tcp/81"]}])
    );
}

#[test]
fn a_named_port_of_ingress_is_that_of_each_target() {
    let spec = |labels: Value| json!({"podSelector": {"matchLabels": labels}, "ingress": [{"ports": [{"port": "http"}, {"port": 443}]}]});
    assert_eq!(
        resolved(spec(json!({"app": "web"})))["ingress"],
        json!([{"ports": ["tcp/443"]}, {"pods": ["10.244.0.1"], "ports": ["tcp/80"]}, {"pods": ["10.244.1.1"], "ports": ["tcp/8080"]}])
    );
    assert_eq!(resolved(spec(json!({"app": "db"})))["ingress"], json!([{"ports": ["tcp/443"]}]), "it has no such port");
    let all = resolved(
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": "http"}]}]}),
    );
    assert_eq!(
        all["ingress"],
        json!([{"pods": ["10.244.0.1"], "peers": ["10.244.0.2"], "ports": ["tcp/80"]}, {"pods": ["10.244.1.1"], "peers": ["10.244.0.2"], "ports": ["tcp/8080"]}])
    );
}

#[test]
fn a_named_port_of_egress_is_that_of_each_peer() {
    let http = json!([{"port": "http"}]);
    assert_eq!(
        egress(json!({"to": [{"podSelector": {}}], "ports": http})),
        json!([{"peers": ["10.244.0.1"], "ports": ["tcp/80"]}, {"peers": ["10.244.1.1"], "ports": ["tcp/8080"]}])
    );
    assert_eq!(
        egress(json!({"ports": http})),
        json!([{"peers": ["10.244.0.1", "10.244.0.10"], "ports": ["tcp/80"]}, {"peers": ["10.244.1.1"], "ports": ["tcp/8080"]}])
    );
    assert_eq!(egress(json!({"to": [{"ipBlock": {"cidr": "10.244.0.0/16"}}], "ports": http})), json!([]));
    // Only to the cluster's name server: by name, in the protocol that is asked for.
    let dns = json!({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}], "ports": [{"protocol": "UDP", "port": "dns"}, {"protocol": "TCP", "port": 53}]});
    assert_eq!(
        egress(dns),
        json!([{"peers": ["10.244.2.1"], "ports": ["tcp/53"]}, {"peers": ["10.244.2.1"], "ports": ["udp/53"]}])
    );
}

#[test]
fn without_policies_nothing_is_looked_at_and_the_selector_goes_along() {
    let mut view = cluster();
    assert!(policies_of(&view).is_empty());
    put(
        &mut view,
        &NETWORK_POLICIES,
        json!({"metadata": {"namespace": "dev", "name": "p"}, "spec": {"podSelector": {"matchLabels": {"role": "client"}}}}),
    );
    let made = policies_of(&view);
    assert_eq!(
        made["dev/p"].to_value(),
        json!({"selector": {"matchLabels": {"role": "client"}}, "pods": ["10.244.1.20"], "ingress": []})
    );
    assert_eq!(made, policies_of(&view));
}

#[test]
fn only_what_policies_look_at_concerns_them() {
    let before = Object::from_value(pod("default/web", json!({"app": "web"}), "10.244.0.1", json!([]))).unwrap();
    let other = |change: &dyn Fn(&mut Object)| {
        let mut after = before.clone();
        change(&mut after);
        concerns(&Key::of(&PODS, &before), Some(&before), Some(&after))
    };
    assert!(!other(&|pod| pod.set_at(&["status", "conditions"], json!([{"type": "Ready", "status": "True"}]))), "readiness");
    assert!(!other(&|pod| pod.set_at(&["metadata", "annotations"], json!({"a": "b"}))), "annotations");
    assert!(!other(&|pod| pod.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z")), "on its way out");
    assert!(other(&|pod| pod.set_at(&["metadata", "labels", "app"], "db")), "labels");
    assert!(other(&|pod| pod.set_at(&["status", "podIPs"], json!([{"ip": "10.244.0.9"}]))), "address");
    assert!(other(&|pod| pod.set_at(&["status", "phase"], "Failed")), "its end");
    let key = Key::of(&PODS, &before);
    assert!(concerns(&key, None, Some(&before)) && concerns(&key, Some(&before), None));
    let young = Object::from_value(json!({"metadata": {"namespace": "default", "name": "web"}})).unwrap();
    assert!(!concerns(&key, None, Some(&young)), "it has no address yet");
    let namespace =
        |labels: Value| Object::from_value(json!({"metadata": {"name": "prod", "labels": labels}, "status": labels})).unwrap();
    let (one, two) = (namespace(json!({"team": "prod"})), namespace(json!({})));
    let key = Key::of(&NAMESPACES, &one);
    assert!(
        concerns(&key, Some(&one), Some(&two)) && !concerns(&key, Some(&one), Some(&one)) && concerns(&key, None, Some(&two))
    );
}

#[test]
fn pods_and_blocks_of_ipv6_stand_beside_those_of_ipv4() {
    let mut view = cluster();
    for (name, app, last) in [("a", "db", 50), ("b", "cache", 51)] {
        let mut dual = pod(&format!("default/six-{name}"), json!({"app": app}), &format!("10.244.0.{last}"), json!([]));
        let ips = json!([{"ip": format!("10.244.0.{last}")}, {"ip": format!("fd00:244::{last}")}]);
        dual.pointer_mut("/status").unwrap()["podIPs"] = ips;
        put(&mut view, &PODS, dual);
    }
    let block = |cidr: &str, except: &str| json!({"ipBlock": {"cidr": cidr, "except": [except]}});
    let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "cache"}}}, block("2001:db8::/64", "2001:db8::/65")], "ports": [{"port": 80}]},
        {"from": [{"ipBlock": {"cidr": "::/0"}}], "ports": [{"port": 81}]}]});
    put(&mut view, &NETWORK_POLICIES, json!({"metadata": {"namespace": "default", "name": "p"}, "spec": spec}));
    let mut made = policies_of(&view).remove("default/p").unwrap().to_value();
    made.as_object_mut().unwrap().remove("selector");
    let (half, all) = ("2001:db8:0:0:8000::-2001:db8::ffff:ffff:ffff:ffff", "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    let wanted = json!({"pods": ["10.244.0.2", "10.244.0.50"], "pods6": ["fd00:244::50"], "ingress": [
        {"peers": ["10.244.0.51"], "peers6": [half, "fd00:244::51"], "ports": ["tcp/80"]},
        {"peers": [], "peers6": [all], "ports": ["tcp/81"]}]});
    assert_eq!(made, wanted);
}
