//! Kubernetes' documented behaviour of services, as cases.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::link::network::ClusterNetwork;

const LAN: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::new(192, 168, 7, 11)), IpAddr::V6(Ipv6Addr::new(0xfd07, 0, 0, 0, 0, 0, 0, 0x11))];

pub(crate) fn here() -> Here<'static> {
    Here {
        node: "pi-1",
        range: "10.244.1.0/24".parse().unwrap(),
        gateway: "10.244.1.1".parse().unwrap(),
        addresses: LAN,
        relay: None,
    }
}

/// The same node in IPv6.
pub(crate) fn here6() -> Here<'static> {
    Here { range: "fd00:244:0:1::/64".parse().unwrap(), gateway: "fd00:244:0:1::1".parse().unwrap(), ..here() }
}

/// A share of services (`namespace/name`, spec) and endpoints (service, address, node, conditions).
pub(crate) fn share(services: &[(&str, Value)], endpoints: &[(&str, &str, &str, Value)]) -> Share {
    let mut share = Share { network: Some(ClusterNetwork::default()), ..Share::default() };
    for (key, spec) in services {
        let (namespace, name) = key.split_once('/').unwrap();
        let status = spec.get("status").cloned().unwrap_or_default();
        let object = json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec, "status": status});
        share.services.insert((*key).to_owned(), Arc::new(Object::from_value(object).unwrap()));
    }
    for (number, (service, address, node, conditions)) in endpoints.iter().enumerate() {
        let (namespace, name) = service.split_once('/').unwrap();
        let object = json!({
            "metadata": {"namespace": namespace, "name": format!("{name}-{number}"), "labels": {"kubernetes.io/service-name": name}},
            "addressType": if address.contains(':') { "IPv6" } else { "IPv4" },
            "endpoints": [{"addresses": [address], "nodeName": node, "conditions": conditions}],
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]});
        share.endpoint_slices.insert(format!("{namespace}/{name}-{number}"), Arc::new(Object::from_value(object).unwrap()));
    }
    share
}

fn one(spec: Value, endpoints: &[(&str, &str, Value)]) -> (Forward, BTreeSet<String>) {
    let endpoints: Vec<_> =
        endpoints.iter().map(|(address, node, conditions)| ("default/web", *address, *node, conditions.clone())).collect();
    let mut table = table(&share(&[("default/web", spec)], &endpoints), &here());
    assert_eq!(table.forwards.len(), 1, "{table:?}");
    (table.forwards.pop_first().unwrap().1, table.words)
}

fn hosts(backends: &[Backend]) -> Vec<String> {
    backends.iter().map(|backend| SocketAddr::new(backend.address, backend.port).to_string()).collect()
}

fn web() -> Value {
    json!({"clusterIP": "10.96.0.20", "ports": [{"port": 80}]})
}

/// The same service with both families.
fn dual(mut spec: Value) -> Value {
    spec["ipFamilies"] = json!(["IPv4", "IPv6"]);
    spec["clusterIPs"] = json!([spec["clusterIP"], "fd00:96::20"]);
    spec
}

#[test]
fn who_is_ready_serves_and_without_any_who_is_on_its_way_out() {
    let (ready, waits) = (json!({"ready": true}), json!({"ready": false}));
    let leaves = json!({"ready": false, "serving": true, "terminating": true});
    let gone = json!({"ready": false, "serving": false, "terminating": true});
    for (conditions, all, local) in [
        ([&ready, &ready, &waits], vec![1, 2], vec![1]),
        ([&waits, &ready, &leaves], vec![2], vec![]),
        ([&leaves, &ready, &ready], vec![2, 3], vec![1]),
        ([&leaves, &waits, &gone], vec![1], vec![1]),
        ([&gone, &leaves, &leaves], vec![2, 3], vec![]),
        ([&waits, &gone, &waits], vec![], vec![]),
    ] {
        let endpoints = [
            ("10.244.1.1", "pi-1", conditions[0].clone()),
            ("10.244.2.2", "pi-2", conditions[1].clone()),
            ("10.244.3.3", "pi-3", conditions[2].clone()),
        ];
        let (forward, words) = one(web(), &endpoints);
        let named = |numbers: Vec<u8>| numbers.iter().map(|last| format!("10.244.{last}.{last}:8080")).collect::<Vec<_>>();
        assert_eq!((hosts(&forward.all), hosts(&forward.local)), (named(all), named(local)), "{conditions:?}");
        assert!(words.is_empty());
    }
}

#[test]
fn a_service_has_the_addresses_that_its_type_says() {
    let addresses = |forward: &Forward| {
        let list = |set: &BTreeSet<IpAddr>| set.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        (list(&forward.inside), list(&forward.outside), list(&forward.balanced), forward.node_port)
    };
    let spec = |kind: &str, more: Value| {
        let mut spec = json!({"type": kind, "clusterIP": "10.96.0.20", "ports": [{"port": 80, "nodePort": 30080}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let ours = "10.96.0.20".to_owned();
    for (spec, outside, balanced, node_port) in [
        (spec("ClusterIP", json!({})), "", "", None),
        (spec("ClusterIP", json!({"externalIPs": ["203.0.113.5", "127.0.0.1", "x"]})), "203.0.113.5", "", None),
        (spec("NodePort", json!({})), "", "", Some(30080)),
        (spec("LoadBalancer", json!({})), "", "192.168.7.11", Some(30080)),
        (spec("LoadBalancer", json!({"allocateLoadBalancerNodePorts": false})), "", "192.168.7.11", None),
        (
            spec("LoadBalancer", json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.168.7.200"}, {"hostname": "x"}]}}})),
            "",
            "192.168.7.11 192.168.7.200",
            Some(30080),
        ),
        (
            spec(
                "LoadBalancer",
                json!({"loadBalancerClass": "other.example/lb",
                       "status": {"loadBalancer": {"ingress": [{"ip": "192.168.7.9", "ipMode": "Proxy"}, {"ip": "192.168.7.8"}]}}}),
            ),
            "",
            "192.168.7.8",
            Some(30080),
        ),
    ] {
        let (forward, _) = one(spec.clone(), &[]);
        assert_eq!(addresses(&forward), (ours.clone(), outside.to_owned(), balanced.to_owned(), node_port), "{spec}");
    }
}

#[test]
fn names_and_headless_services_are_not_forwarded() {
    let services = [
        ("default/name", json!({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]})),
        ("default/headless", json!({"clusterIP": "None", "ports": [{"port": 80}]})),
    ];
    assert_eq!(table(&share(&services, &[]), &here()), Table::default());
}

#[test]
fn policies_and_affinity_are_read() {
    let spec = |more: Value| {
        let mut spec = json!({"type": "NodePort", "clusterIP": "10.96.0.20", "ports": [{"port": 80}]});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (forward, _) = one(spec, &[]);
        (forward.inside_policy, forward.outside_policy, forward.affinity.map(|time| time.as_secs()))
    };
    use Policy::{Cluster, Local};
    assert_eq!(spec(json!({})), (Cluster, Cluster, None));
    assert_eq!(spec(json!({"internalTrafficPolicy": "Local"})), (Local, Cluster, None));
    assert_eq!(spec(json!({"externalTrafficPolicy": "Local"})), (Cluster, Local, None));
    assert_eq!(spec(json!({"type": "ClusterIP", "externalTrafficPolicy": "Local"})), (Cluster, Cluster, None));
    let affine = |seconds: Value| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}});
    assert_eq!(spec(affine(json!(60))).2, Some(60));
    for bad in [json!(null), json!(0), json!(-5), json!(100_000), json!("x")] {
        assert_eq!(spec(affine(bad)).2, Some(10_800));
    }
}

#[test]
fn a_port_goes_to_the_port_of_its_name_and_protocol() {
    let spec = json!({"clusterIP": "10.96.0.20", "ports": [
        {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"name": "s", "port": 9, "protocol": "SCTP"}]});
    let table = table(&share(&[("kube-system/names", spec)], &[("kube-system/names", "10.244.1.9", "pi-1", json!({}))]), &here());
    let served: Vec<_> = table.forwards.iter().map(|(name, forward)| (name.as_str(), hosts(&forward.all))).collect();
    assert_eq!(served, [("kube-system/names/tcp/53", vec![]), ("kube-system/names/udp/53", vec!["10.244.1.9:5353".to_owned()])]);
    assert_eq!(table.words.len(), 1, "{:?}", table.words);
    assert_eq!(table.here, BTreeSet::from([IpAddr::from([10, 244, 1, 9])]));
}

#[test]
fn an_endpoint_on_loopback_in_the_link_or_of_a_group_gets_nothing_and_it_is_said() {
    for address in ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "255.255.255.255"] {
        let (forward, words) = one(web(), &[(address, "pi-1", json!({})), ("10.244.1.9", "pi-1", json!({}))]);
        assert_eq!(hosts(&forward.all), ["10.244.1.9:8080"], "{address}");
        assert!(words.iter().any(|words| words.contains(address)), "{words:?}");
    }
    for address in ["::1", "fe80::1", "ff02::1", "::", "::ffff:10.244.1.9"] {
        let ends = [("default/web", address, "pi-1", json!({})), ("default/web", "fd00:244:0:1::9", "pi-1", json!({}))];
        let table = table(&share(&[("default/web", dual(web()))], &ends), &here6());
        assert_eq!(hosts(&table.forwards["default/web/tcp/80"].all), ["[fd00:244:0:1::9]:8080"], "{address}");
        assert!(table.words.iter().any(|words| words.contains(address)), "{:?}", table.words);
    }
}

#[test]
fn two_services_at_one_address_are_told_and_the_first_has_it() {
    let spec = |ip: &str| json!({"type": "NodePort", "clusterIP": ip, "externalIPs": ["203.0.113.5"], "ports": [{"port": 80, "nodePort": 30080}]});
    let table = table(&share(&[("default/a", spec("10.96.0.1")), ("default/b", spec("10.96.0.2"))], &[]), &here());
    let b = &table.forwards["default/b/tcp/80"];
    assert!(b.outside.is_empty() && b.node_port.is_none() && b.inside.len() == 1);
    assert_eq!(table.forwards["default/a/tcp/80"].node_port, Some(30080));
    assert_eq!(table.words.len(), 2, "{:?}", table.words);
}

#[test]
fn a_name_that_is_none_reaches_no_rule() {
    for key in ["default/a b", "default/a;flush ruleset", "a", "default/", "default/A", &format!("default/{}", "x".repeat(64))] {
        let object = json!({"metadata": {}, "spec": web()});
        let mut share = Share::default();
        share.services.insert(key.to_owned(), Arc::new(Object::from_value(object).unwrap()));
        let table = table(&share, &here());
        assert!(table.forwards.is_empty() && table.words.len() == 1, "{key}");
    }
}

#[test]
fn every_node_answers_for_the_name_server_and_relays_to_an_api_on_loopback() {
    let mut share =
        share(&[("default/kubernetes", json!({"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443}]}))], &[]);
    share.network.as_mut().unwrap().dns = "10.96.0.10".to_owned();
    let names =
        |table: &Table| table.forwards.iter().map(|(name, forward)| (name.clone(), hosts(&forward.all))).collect::<Vec<_>>();
    let to = |host: &str| vec![host.to_owned()];
    assert_eq!(
        names(&table(&share, &Here { relay: Some(6000), ..here() })),
        [
            ("bramble/dns/tcp/53".to_owned(), to("10.244.1.1:53")),
            ("bramble/dns/udp/53".to_owned(), to("10.244.1.1:53")),
            ("default/kubernetes/tcp/443".to_owned(), to("10.244.1.1:6000")),
        ]
    );
    assert!(names(&table(&share, &here()))[2].1.is_empty());
}

#[test]
fn who_serves_stays_while_the_master_does_not_know_yet() {
    let mut spec = web();
    spec["selector"] = json!({"app": "web"});
    let services = [("default/web", spec)];
    let known = table(&share(&services, &[("default/web", "10.244.1.2", "pi-1", json!({}))]), &here());
    let mut unknown = table(&share(&services, &[]), &here());
    assert!(unknown.forwards["default/web/tcp/80"].all.is_empty());
    unknown.keep_unknown(Some(&known));
    assert_eq!((&unknown.forwards, &unknown.here), (&known.forwards, &known.here));
    let mut nobody = table(&share(&services, &[("default/web", "10.244.1.2", "pi-1", json!({"ready": false}))]), &here());
    nobody.keep_unknown(Some(&known));
    assert!(nobody.forwards["default/web/tcp/80"].all.is_empty());
}

#[test]
fn a_source_range_that_is_none_lets_nobody_in_and_is_told() {
    let mut service = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "ports": [{"port": 80}]});
    service["loadBalancerSourceRanges"] = json!(["192.168.1.7", "192.168.2.0/24"]);
    let read = table(&share(&[("default/web", service)], &[]), &here());
    assert_eq!(read.forwards["default/web/tcp/80"].sources.as_ref().map(Vec::len), Some(1));
    let words: Vec<_> = read.words.iter().filter(|words| words.contains("SourceRanges")).collect();
    assert!(words.len() == 1 && words[0].contains("\"192.168.1.7\""), "{:?}", read.words);
}

#[test]
fn each_family_has_what_is_of_it_and_nothing_of_the_other() {
    let mut both = dual(json!({"type": "LoadBalancer", "clusterIP": "10.96.0.20", "ports": [{"port": 80, "nodePort": 30080}]}));
    both["externalIPs"] = json!(["203.0.113.5", "2001:db8::5"]);
    both["loadBalancerSourceRanges"] = json!(["192.168.0.0/16"]);
    both["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.168.7.200"}, {"ip": "fd07::200"}]}});
    let mut one = web();
    one["ipFamilies"] = json!(["IPv6"]);
    one["clusterIP"] = json!("fd00:96::21");
    let services = [("default/both", both), ("default/one", one), ("default/plain", web())];
    let ends = [
        ("default/both", "10.244.1.2", "pi-1", json!({})),
        ("default/both", "fd00:244:0:1::2", "pi-1", json!({})),
        ("default/both", "fd00:244:0:2::2", "pi-2", json!({})),
    ];
    let mut share = share(&services, &ends);
    share.network.as_mut().unwrap().dns = "10.96.0.10".to_owned();
    let list = |set: &BTreeSet<IpAddr>| set.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    let words = |forward: &Forward| {
        let sources = forward.sources.as_ref().map_or(0, Vec::len);
        [
            list(&forward.inside),
            list(&forward.outside),
            list(&forward.balanced),
            hosts(&forward.all).join(" "),
            sources.to_string(),
        ]
    };
    let (v4, v6) = (table(&share, &here()), table(&share, &here6()));
    let names = |table: &Table| table.forwards.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&v4), ["bramble/dns/tcp/53", "bramble/dns/udp/53", "default/both/tcp/80", "default/plain/tcp/80"]);
    assert_eq!(names(&v6), ["default/both/tcp/80", "default/one/tcp/80"]);
    let (both4, both6) = (&v4.forwards["default/both/tcp/80"], &v6.forwards["default/both/tcp/80"]);
    assert_eq!(words(both4), ["10.96.0.20", "203.0.113.5", "192.168.7.11 192.168.7.200", "10.244.1.2:8080", "1"]);
    let ends6 = "[fd00:244:0:1::2]:8080 [fd00:244:0:2::2]:8080";
    assert_eq!(words(both6), ["fd00:96::20", "2001:db8::5", "fd07::11 fd07::200", ends6, "0"]);
    assert_eq!((both4.node_port, both6.node_port, both6.sources.is_some()), (Some(30080), Some(30080), true));
    assert_eq!((hosts(&both6.local), list(&v6.here)), (vec!["[fd00:244:0:1::2]:8080".to_owned()], "fd00:244:0:1::2".to_owned()));
}
