//! Shares of the network, made up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use bramble::agent::family::Family;
use bramble::agent::proxy::ruleset::Base;
use bramble::agent::proxy::table::Here;
use bramble::api::Object;
use bramble::link::network::ClusterNetwork;
use bramble::link::share::Share;
use bramble::rng::Rng;
use serde_json::{Value, json};

use crate::lab::six;

const LAN: &[IpAddr] = &[IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// An address or range, or its fellow of IPv6.
pub fn of(family: Family, address: &str) -> String {
    if family == Family::V4 { address.to_owned() } else { six(address) }
}

/// The node of the tests.
pub fn here(family: Family) -> Here<'static> {
    Here {
        node: "n1",
        range: of(family, "10.244.1.0/24").parse().unwrap(),
        gateway: of(family, "10.244.1.1").parse().unwrap(),
        addresses: LAN,
        relay: None,
    }
}

/// The node's place in the kernel.
pub fn base(family: Family, bridge_filter: bool) -> Base {
    Base {
        table: "bramble-test".to_owned(),
        bridge: "br0".to_owned(),
        range: here(family).range,
        gateway: here(family).gateway,
        tunnel: "bvx-test".to_owned(),
        pods: if family == Family::V4 { "10.244.0.0/16" } else { PODS6 }.parse().unwrap(),
        services: Some(of(family, "10.96.0.0/16").parse().unwrap()),
        bridge_filter,
    }
}

const PODS6: &str = "fd00:244::/56";

/// A share without a service, of a cluster that has IPv6, too.
pub fn empty6() -> Share {
    let mut share = empty();
    let network = share.network.as_mut().unwrap();
    (network.pods6, network.services6) = (PODS6.to_owned(), six("10.96.0.0/16"));
    share
}

/// A share without a service.
pub fn empty() -> Share {
    let network =
        ClusterNetwork { pods: "10.244.0.0/16".to_owned(), services: "10.96.0.0/16".to_owned(), ..ClusterNetwork::default() };
    let node = json!({"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "2001:db8::1"}]}});
    let peers = [("n1".to_owned(), Arc::new(Object::from_value(node).unwrap()))].into();
    Share { network: Some(network), peers, ..Share::default() }
}

/// Adds a service that serves port 80, TCP and UDP, by endpoints (address, node) at their port 8080; in a cluster with IPv6 all of it
/// there, too.
pub fn service(share: &mut Share, name: &str, ip: &str, node_port: u16, spec: Value, endpoints: &[(&str, &str)]) {
    let mut all = json!({"clusterIP": ip, "ports": [
        {"name": "t", "port": 80, "nodePort": node_port}, {"name": "u", "port": 80, "protocol": "UDP", "nodePort": node_port}]});
    all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let dual = !share.network.as_ref().unwrap().services6.is_empty();
    if dual {
        all["ipFamilies"] = json!(["IPv4", "IPv6"]);
        all["clusterIPs"] = json!([ip, six(ip)]);
        for list in ["/externalIPs", "/loadBalancerSourceRanges"] {
            if let Some(Value::Array(list)) = all.pointer_mut(list) {
                let fellows: Vec<Value> = list.iter().map(|address| six(address.as_str().unwrap()).into()).collect();
                list.extend(fellows);
            }
        }
        if let Some(Value::Array(list)) = all.pointer_mut("/status/loadBalancer/ingress") {
            let fellows: Vec<Value> = list.iter().map(|entry| json!({"ip": six(entry["ip"].as_str().unwrap())})).collect();
            list.extend(fellows);
        }
    }
    let status = all.get("status").cloned().unwrap_or_default();
    let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": all, "status": status});
    share.services.insert(format!("default/{name}"), Arc::new(Object::from_value(object).unwrap()));
    for family in if dual { &[Family::V4, Family::V6][..] } else { &[Family::V4] } {
        let endpoint = |(address, node): &(&str, &str)| json!({"addresses": [of(*family, address)], "nodeName": node, "conditions": {"ready": true}});
        let endpoints: Vec<Value> = endpoints.iter().map(endpoint).collect();
        let slice = json!({"metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "addressType": family.kubernetes(), "endpoints": endpoints,
            "ports": [{"name": "t", "port": 8080}, {"name": "u", "port": 8080, "protocol": "UDP"}]});
        let slice_name = format!("default/{name}-{}", family.word());
        share.endpoint_slices.insert(slice_name, Arc::new(Object::from_value(slice).unwrap()));
    }
}

/// A share by chance.
pub fn any(rng: &mut Rng) -> Share {
    let mut share = empty6();
    for number in 0..rng.below(6) {
        let kind = ["ClusterIP", "NodePort", "LoadBalancer"][rng.below(3)];
        let policy = |rng: &mut Rng| ["Cluster", "Local"][rng.below(2)];
        let mut spec = json!({"type": kind, "internalTrafficPolicy": policy(rng), "externalTrafficPolicy": policy(rng)});
        if rng.below(3) == 0 {
            spec["externalIPs"] = json!([format!("203.0.113.{number}")]);
        }
        if rng.below(3) == 0 {
            spec["sessionAffinity"] = json!("ClientIP");
            spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 1 + rng.below(3) * 10_000}});
        }
        if rng.below(3) == 0 {
            spec["loadBalancerSourceRanges"] = json!(["192.0.2.0/24", "198.51.100.0/25", "10.0.0.0/8"]);
        }
        let ends: Vec<(String, String)> = (0..rng.below(5))
            .map(|_| (format!("10.244.{}.{}", 1 + rng.below(2), 2 + rng.below(9)), format!("n{}", 1 + rng.below(2))))
            .collect();
        let ends: Vec<(&str, &str)> = ends.iter().map(|(address, node)| (address.as_str(), node.as_str())).collect();
        let port = 30000 + u16::try_from(number).unwrap();
        service(&mut share, &format!("s{}", rng.below(8)), &format!("10.96.0.{}", 20 + number), port, spec, &ends);
    }
    share
}
