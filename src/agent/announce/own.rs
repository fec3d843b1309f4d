//! Which addresses of the pool this node has.
//!
//! In:       the network's share, the networks that this machine is in.
//! Out:      addresses, each with what tells its neighbours (`udp.rs`).
//! Never:    gives an address to a service (`controller/service_lb.rs`).
//!
//! An address is had by one node ([`chosen`]) of those that are ready, are in the address's own network, are not excluded by the label for
//! it, and with `externalTrafficPolicy: Local` have a pod of the service: others would have nobody to send to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::agent::mdns::names::{reached, serving};
use crate::agent::rendezvous::chosen;
use crate::api::Object;
use crate::api::core::address_pool::AddressPool;
use crate::api::core::node::NO_BALANCER;
use crate::api::core::service::Service;
use crate::link::share::Share;

/// The addresses that this node has; each with an address of its network that nobody is known to have.
#[must_use]
pub fn own(share: &Share, node: &str, networks: &[Ipv4Net]) -> BTreeMap<Ipv4Addr, Ipv4Addr> {
    let Some(pool) = share.network.as_ref().and_then(|network| AddressPool::parse(&network.load_balancers)) else {
        return BTreeMap::new();
    };
    let excluded = |name: &str| share.peers.get(name).is_some_and(|peer| peer.label(NO_BALANCER).is_some());
    let nodes: BTreeMap<&str, Ipv4Addr> = reached(share).into_iter().filter(|(name, _)| !excluded(name)).collect();
    let mut all: BTreeMap<Ipv4Addr, &Object> = BTreeMap::new();
    for service in share.services.values() {
        let ours = Service(service).kind() == "LoadBalancer" && service.str_at(&["spec", "loadBalancerClass"]).is_empty();
        let told = service.list_at(&["status", "loadBalancer", "ingress"]).iter();
        let told = told.filter_map(|entry| entry.get("ip")?.as_str()?.parse().ok()).filter(|address| pool.contains(*address));
        all.extend(told.filter(|_| ours).map(|address| (address, &**service)));
    }
    let used: BTreeSet<Ipv4Addr> = all.keys().chain(nodes.values()).copied().collect();
    let has = |address: Ipv4Addr, service: &Object| {
        let network = networks.iter().filter(|network| network.contains(&address)).max_by_key(|network| network.prefix_len())?;
        let local = service.str_at(&["spec", "externalTrafficPolicy"]) == "Local";
        let serving = if local { serving(share, service) } else { BTreeSet::new() };
        let near = nodes.iter().filter(|(name, at)| network.contains(*at) && (!local || serving.contains(*name)));
        (chosen(&address.to_string(), near.map(|(name, _)| *name)) == Some(node)).then(|| {
            let free = pool.from_name("").find(|one| network.contains(one) && !used.contains(one));
            (address, free.unwrap_or_else(|| last(*network)))
        })
    };
    all.into_iter().filter_map(|(address, service)| has(address, service)).collect()
}

/// The last address of a network that a machine can have.
fn last(network: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network.broadcast()).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::agent::mdns::names::tests::{service, share};
    use crate::link::network::ClusterNetwork;
    use serde_json::{Value, json};

    const NODES: [&str; 3] = ["a", "b", "c"];

    fn balanced(name: &str, last: u8, spec: &Value) -> Value {
        let mut value = service(
            name,
            json!({"type": "LoadBalancer"}),
            json!({"loadBalancer": {"ingress": [{"ip": format!("192.168.1.{last}")}]}}),
        );
        for (key, one) in spec.as_object().into_iter().flatten() {
            value["spec"][key] = one.clone();
        }
        value
    }

    fn world(lost: Option<&str>, services: &[Value]) -> Share {
        let nodes = NODES.map(|node| (node, if lost == Some(node) { "False" } else { "True" }));
        let network = ClusterNetwork { load_balancers: "192.168.1.200-192.168.1.250".into(), ..ClusterNetwork::default() };
        Share { network: Some(network), ..share(&nodes, services, &[]) }
    }

    fn holders(share: &Share, address: Ipv4Addr, networks: &[Ipv4Net]) -> Vec<&'static str> {
        NODES.into_iter().filter(|node| own(share, node, networks).contains_key(&address)).collect()
    }

    fn lan() -> Vec<Ipv4Net> {
        vec!["192.168.1.0/24".parse().unwrap(), "172.17.0.0/16".parse().unwrap()]
    }

    #[test]
    fn each_address_is_had_by_one_node_and_by_another_when_it_is_gone() {
        let services: Vec<Value> = (200..240).map(|last| balanced(&format!("s{last}"), last, &json!({}))).collect();
        let before = world(None, &services);
        let mut moved = 0;
        for last in 200..240 {
            let address = Ipv4Addr::new(192, 168, 1, last);
            let holder = holders(&before, address, &lan());
            assert_eq!(holder.len(), 1, "{address}");
            let after = holders(&world(Some("b"), &services), address, &lan());
            assert!(after.len() == 1 && after != ["b"], "{address} {after:?}");
            moved += usize::from(holder != after);
            assert_eq!(holder == ["b"], holder != after, "only what was the lost one's moves");
        }
        assert!((5..25).contains(&moved), "{moved}");
    }

    #[test]
    fn who_cannot_serve_an_address_has_none() {
        let address = Ipv4Addr::new(192, 168, 1, 240);
        let plain = world(None, &[balanced("web", 240, &json!({}))]);
        assert!(holders(&plain, address, &[]).is_empty(), "no network of it is here");
        assert!(holders(&plain, address, &["10.0.0.0/8".parse().unwrap()]).is_empty());
        let others = world(None, &[balanced("web", 240, &json!({"loadBalancerClass": "example.org/lb"}))]);
        assert!(holders(&others, address, &lan()).is_empty());
        let outside = Ipv4Addr::new(192, 168, 1, 9);
        assert!(holders(&world(None, &[balanced("web", 9, &json!({}))]), outside, &lan()).is_empty(), "not the pool's");
        // Who is excluded, and who has no pod of it.
        let mut local = world(None, &[balanced("web", 240, &json!({"externalTrafficPolicy": "Local"}))]);
        assert!(holders(&local, address, &lan()).is_empty());
        let endpoints =
            NODES.map(|node| json!({"addresses": ["10.244.1.1"], "nodeName": node, "conditions": {"ready": node != "a"}}));
        let slice = json!({"metadata": {"name": "x", "namespace": "home", "labels": {"kubernetes.io/service-name": "web"}}, "endpoints": endpoints});
        local.endpoint_slices.insert("home/x".into(), Arc::new(Object::from_value(slice).unwrap()));
        let mut peer = Object::clone(&local.peers["b"]);
        peer.set_at(&["metadata", "labels"], json!({NO_BALANCER: "true"}));
        local.peers.insert("b".into(), Arc::new(peer));
        assert_eq!(holders(&local, address, &lan()), ["c"]);
    }

    #[test]
    fn whom_the_neighbours_are_asked_for_is_nobody_known() {
        let share = world(None, &[balanced("web", 240, &json!({}))]);
        let (_, asked) = NODES.into_iter().flat_map(|node| own(&share, node, &lan())).next().unwrap();
        assert!(asked != Ipv4Addr::new(192, 168, 1, 240) && asked.octets()[3] >= 200, "{asked}");
        let mut full = world(None, &[balanced("web", 240, &json!({}))]);
        full.network.as_mut().unwrap().load_balancers = "192.168.1.240".into();
        let (_, asked) = NODES.into_iter().flat_map(|node| own(&full, node, &lan())).next().unwrap();
        assert_eq!(asked, Ipv4Addr::new(192, 168, 1, 254));
    }
}
