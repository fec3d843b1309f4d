//! Which names are answered in the local network, with which addresses, and by whom.
//!
//! In:       the network's share: services, our ingresses, endpoint slices, the nodes.
//! Out:      [`Hosts`]: what this node answers.
//! Never:    reads a packet (`mdns/hosts.rs`); tells people what is refused (`controller/local_names.rs`).
//!
//! A name leads to the load balancer's addresses, where it has some, else to the nodes that are ready (with `externalTrafficPolicy: Local`
//! only to those that have a pod of it). One node answers for it: [`chosen`] of those that are ready, whichever has its pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::agent::rendezvous::chosen;
use crate::api::Object;
use crate::api::core::node::Node;
use crate::api::core::service::Service;
use crate::api::discovery::endpoint_slice::{Endpoint, EndpointSlice};
use crate::api::networking::local_name::{Of, claims};
use crate::link::share::Share;
use crate::mdns::hosts::Hosts;

/// The nodes that are reached, and where.
#[must_use]
pub fn reached(share: &Share) -> BTreeMap<&str, Ipv4Addr> {
    share.peers.iter().filter_map(|(name, node)| Some((name.as_str(), Node(node).reached_at_ipv4()?))).collect()
}

/// The nodes with somebody who serves it.
#[must_use]
pub fn serving<'a>(share: &'a Share, service: &Object) -> BTreeSet<&'a str> {
    let of =
        |slice: &&'a Object| slice.namespace() == service.namespace() && EndpointSlice(slice).service() == Some(service.name());
    let slices = share.endpoint_slices.values().map(AsRef::as_ref).filter(of);
    let endpoints = slices.flat_map(|slice| EndpointSlice(slice).endpoints()).filter(|endpoint| endpoint.is_ready());
    endpoints.filter_map(Endpoint::node).collect()
}

/// All names, each with where it leads; those that lead nowhere now are left out.
#[must_use]
pub fn all(share: &Share) -> BTreeMap<String, BTreeSet<Ipv4Addr>> {
    let services = share.services.values().map(|one| Of::Service(one));
    let ingresses = share.ingresses.values().map(|one| Of::Ingress(one));
    let nodes = share.peers.keys().map(String::as_str).collect();
    let given = claims(services.chain(ingresses), &nodes).given;
    if given.is_empty() {
        return BTreeMap::new();
    }
    let nodes = reached(share);
    let places = given.into_iter().map(|(name, of)| {
        let addresses = match of {
            Of::Ingress(_) => nodes.values().copied().collect(),
            Of::Service(service) => of_service(share, service, &nodes),
        };
        (name, addresses)
    });
    places.filter(|(_, addresses)| !addresses.is_empty()).collect()
}

fn of_service(share: &Share, service: &Object, nodes: &BTreeMap<&str, Ipv4Addr>) -> BTreeSet<Ipv4Addr> {
    let balanced = service.list_at(&["status", "loadBalancer", "ingress"]).iter();
    let balanced: BTreeSet<Ipv4Addr> = balanced.filter_map(|entry| entry.get("ip")?.as_str()?.parse().ok()).collect();
    if Service(service).kind() == "LoadBalancer" && !balanced.is_empty() {
        return balanced;
    }
    if service.str_at(&["spec", "externalTrafficPolicy"]) != "Local" {
        return nodes.values().copied().collect();
    }
    let here = serving(share, service);
    nodes.iter().filter(|(node, _)| here.contains(*node)).map(|(_, address)| *address).collect()
}

/// What this node answers.
#[must_use]
pub fn own(share: &Share, node: &str) -> Hosts {
    let all = all(share);
    if all.is_empty() {
        return Hosts::default();
    }
    let nodes = reached(share);
    let is_own = |name: &str| chosen(name, nodes.keys().copied()) == Some(node);
    let (names, others): (BTreeMap<_, _>, BTreeMap<_, _>) = all.into_iter().partition(|(name, _)| is_own(name));
    Hosts { names, elsewhere: others.into_keys().collect(), friends: nodes.values().copied().collect() }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::api::discovery::endpoint_slice::SERVICE_NAME;
    use serde_json::{Value, json};

    /// A share with nodes at 192.168.1.1 and so on, and their states.
    pub(crate) fn share(nodes: &[(&str, &str)], services: &[Value], ingresses: &[Value]) -> Share {
        let object = |value: &Value| Arc::new(Object::from_value(value.clone()).unwrap());
        let keyed = |values: &[Value]| {
            values.iter().map(object).map(|one| (format!("{}/{}", one.namespace(), one.name()), one)).collect()
        };
        let node = |(place, (name, ready)): (usize, &(&str, &str))| {
            let value = json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "InternalIP", "address": format!("192.168.1.{}", place + 1)}]}});
            ((*name).to_owned(), object(&value))
        };
        Share {
            peers: nodes.iter().enumerate().map(node).collect(),
            services: keyed(services),
            ingresses: keyed(ingresses),
            ..Share::default()
        }
    }

    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    pub(crate) fn service(name: &str, spec: Value, status: Value) -> Value {
        json!({"metadata": {"name": name, "namespace": "home", "annotations": {"bramble/mdns": "true"}}, "spec": spec, "status": status})
    }

    fn told(share: &Share) -> Vec<String> {
        let line = |(name, all): (String, BTreeSet<Ipv4Addr>)| {
            format!("{name} {}", all.iter().map(|one| one.octets()[3].to_string()).collect::<Vec<_>>().join(","))
        };
        all(share).into_iter().map(line).collect()
    }

    #[test]
    fn a_name_leads_to_where_its_service_is_reached() {
        let pool = json!({"loadBalancer": {"ingress": [{"ip": "192.168.1.240"}]}});
        let mut share = share(
            &[("a", "True"), ("b", "True"), ("lost", "Unknown")],
            &[
                service("port", json!({"type": "NodePort"}), Value::Null),
                service("pool", json!({"type": "LoadBalancer"}), pool),
                service("waits", json!({"type": "LoadBalancer"}), Value::Null),
                service("local", json!({"type": "NodePort", "externalTrafficPolicy": "Local"}), Value::Null),
                service("inside", json!({}), Value::Null),
                json!({"metadata": {"name": "quiet", "namespace": "home"}, "spec": {"type": "NodePort"}}),
            ],
            &[json!({"metadata": {"name": "site", "namespace": "home", "annotations": {"bramble/mdns": "true"}}})],
        );
        assert_eq!(told(&share), ["pool 240", "port 1,2", "site 1,2", "waits 1,2"], "nobody serves the local one");
        let slice = json!({"metadata": {"name": "x", "namespace": "home", "labels": {SERVICE_NAME: "local"}},
            "endpoints": [{"addresses": ["10.244.2.2"], "nodeName": "b"}]});
        share.endpoint_slices.insert("home/x".to_owned(), Arc::new(Object::from_value(slice).unwrap()));
        assert_eq!(told(&share)[0], "local 2");
    }

    #[test]
    fn exactly_one_node_answers_and_another_when_it_is_gone() {
        let names: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
        let services: Vec<Value> = names.iter().map(|name| service(name, json!({"type": "NodePort"}), Value::Null)).collect();
        let nodes = ["a", "b", "c"];
        for lost in [None, Some("a"), Some("b"), Some("c")] {
            let state = nodes.map(|node| (node, if Some(node) == lost { "Unknown" } else { "True" }));
            let share = share(&state, &services, &[]);
            let all: Vec<Hosts> = nodes.iter().filter(|node| Some(**node) != lost).map(|node| own(&share, node)).collect();
            for name in &names {
                let holders = all.iter().filter(|hosts| hosts.names.contains_key(name)).count();
                let others = all.iter().filter(|hosts| hosts.elsewhere.contains(name)).count();
                assert_eq!((holders, others), (1, all.len() - 1), "{name} without {lost:?}");
            }
        }
    }

    #[test]
    fn a_node_whose_pods_are_a_model_answers_nothing() {
        let mut share = share(&[("a", "True")], &[service("web", json!({"type": "NodePort"}), Value::Null)], &[]);
        assert_eq!(own(&share, "a").names.len(), 1);
        let mut node = Object::clone(&share.peers["a"]);
        node.set_at(&["status", "nodeInfo", "containerRuntimeVersion"], "simulated://1");
        share.peers.insert("a".to_owned(), Arc::new(node));
        assert_eq!(own(&share, "a"), Hosts::default());
    }
}
