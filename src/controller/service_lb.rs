//! Load balancers: at which addresses a service of type LoadBalancer is reached.
//!
//! In:       the services, the nodes, who serves; the pool of addresses, if the master has one (`network.load_balancers`).
//! Out:      `status.loadBalancer` of these services: one address of the pool, or without a pool the addresses of the nodes that serve;
//!           a warning where there is none to be had.
//! Never:    touches a service with a `loadBalancerClass`: somebody else balances it. Says who answers for an address of the pool
//!           (`agent/announce`).
//! Source:   cloud-provider's service controller for which nodes count (ready, without the label that excludes them); what several
//!           services at one port of the nodes come to is what the nodes' own tables do: the first by name has it.
//!
//! There is one key for all: two that were decided on the same view could be given the same address. Who has an address of the pool
//! keeps it; a new one's search begins at a place that follows from its name, so that who comes again has what it had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Ids, Plan, Reconciler, update};
use crate::api::core::address_pool::AddressPool;
use crate::api::core::event::Occurrence;
use crate::api::core::node::{NO_BALANCER, Node};
use crate::api::core::service::{IPV4, Service, family_of};
use crate::api::discovery::endpoint_slice::{Endpoint, EndpointSlice, SERVICE_NAME};
use crate::api::registry::{ENDPOINT_SLICES, NODES, SERVICES};
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};

const COMPONENT: &str = "service-controller";
/// So many services are written at a time: one that changed meanwhile lets all of these be decided again.
const AT_ONCE: usize = 16;

/// The controller.
pub struct ServiceLb {
    pool: Option<AddressPool>,
}

/// Where a service is to be reached, or why nowhere.
type Place = Result<BTreeSet<IpAddr>, (&'static str, String)>;

impl ServiceLb {
    /// With these addresses to give away.
    #[must_use]
    pub fn new(pool: Option<AddressPool>) -> Self {
        Self { pool }
    }
}

fn place_of(service: &Object) -> String {
    format!("{}/{}", service.namespace(), service.name())
}

fn is_balanced(service: &Object) -> bool {
    Service(service).kind() == "LoadBalancer" && !service.is_deleting()
}

/// Whether another one looks after it.
fn is_others(service: &Object) -> bool {
    !service.str_at(&["spec", "loadBalancerClass"]).is_empty()
}

fn is_local(service: &Object) -> bool {
    service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

/// The addresses that it has.
fn told(service: &Object) -> impl Iterator<Item = IpAddr> {
    let entries = service.list_at(&["status", "loadBalancer", "ingress"]).iter();
    entries.filter_map(|entry| entry.get("ip")?.as_str()?.parse().ok())
}

/// The node where load balancers are reached, and its address of each family.
fn serving(node: &Object) -> Option<(&str, Vec<IpAddr>)> {
    let addresses: Vec<IpAddr> = Node(node).reached_at_each().collect();
    (node.label(NO_BALANCER).is_none() && !addresses.is_empty()).then(|| (node.name(), addresses))
}

impl Reconciler for ServiceLb {
    fn name(&self) -> &'static str {
        "service_lb"
    }

    fn watches(&self, resource: &Resource) -> bool {
        [&SERVICES, &NODES, &ENDPOINT_SLICES].contains(&resource)
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        let sides = || [&event.before, &event.after].into_iter().filter_map(|side| side.as_deref());
        let matters = if *event.key.resource == NODES {
            let of = |side: &Option<Arc<Object>>| {
                side.as_deref().and_then(serving).map(|(name, addresses)| (name.to_owned(), addresses))
            };
            of(&event.before) != of(&event.after)
        } else if *event.key.resource == SERVICES {
            sides().any(|service| Service(service).kind() == "LoadBalancer" || told(service).next().is_some())
        } else {
            let of = |slice: &Object| {
                let service = view.get(&Key::new(&SERVICES, slice.namespace(), slice.label(SERVICE_NAME)?))?;
                (is_balanced(service) && is_local(service)).then_some(())
            };
            sides().any(|slice| of(slice).is_some())
        };
        if matters { self.all_keys(view) } else { Vec::new() }
    }

    fn all_keys(&self, _view: &View) -> Vec<Key> {
        vec![Key::new(&SERVICES, "", "")]
    }

    fn reconcile(&mut self, view: &View, _key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let mut plan = Plan::nothing();
        let services: BTreeMap<String, &Arc<Object>> =
            view.list(&SERVICES, None).filter(|one| !is_others(one)).map(|one| (place_of(one), one)).collect();
        let balanced: BTreeMap<&str, &Object> =
            services.iter().filter(|(_, one)| is_balanced(one)).map(|(place, one)| (place.as_str(), one.as_ref())).collect();
        let places = match self.pool {
            Some(pool) => of_pool(pool, view, &balanced),
            None => of_nodes(view, &balanced),
        };
        for (place, service) in &services {
            let addresses = match places.get(place.as_str()) {
                Some(Ok(addresses)) => addresses.clone(),
                Some(Err((reason, words))) => {
                    plan.standing.push(Occurrence::warning(service, COMPONENT, reason, words.clone()));
                    BTreeSet::new()
                }
                // It is no load balancer, or is none any more.
                None => BTreeSet::new(),
            };
            let entries: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip.to_string()})).collect();
            if service.is_deleting() || service.list_at(&["status", "loadBalancer", "ingress"]) == entries.as_slice() {
                continue;
            }
            if plan.writes.len() >= AT_ONCE {
                plan.look_again = Some(now.tick);
                continue;
            }
            let mut after = Object::clone(service);
            after.set_at(&["status", "loadBalancer"], if entries.is_empty() { json!({}) } else { json!({"ingress": entries}) });
            plan.writes.push(update(&Key::of(&SERVICES, service), service, after));
        }
        plan
    }
}

/// Without a pool: at the nodes' addresses of each family of which another service has not each of the ports.
fn of_nodes<'a>(view: &View, balanced: &BTreeMap<&'a str, &Object>) -> BTreeMap<&'a str, Place> {
    let nodes: BTreeMap<&str, Vec<IpAddr>> = view.list(&NODES, None).filter_map(|node| serving(node)).collect();
    let mut ports: BTreeMap<(&str, &str, u16), &str> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for (&place, service) in balanced {
        let (mut own, mut others) = (BTreeSet::new(), None);
        for family in Service(service).families() {
            for port in Service(service).ports() {
                let Some(number) = port.port() else { continue };
                let holder = *ports.entry((family, port.protocol(), number)).or_insert(place);
                if holder == place { _ = own.insert(family) } else { others = Some((number, holder)) }
            }
        }
        let found = match others.filter(|_| own.is_empty()) {
            Some((port, holder)) => Err((
                "PortTaken",
                format!(
                    "at the nodes' addresses, service {holder} has port {port}: give this one another port, or the master a pool of addresses (network.load_balancers)"
                ),
            )),
            None => {
                let here = is_local(service).then(|| serving_nodes(view, service));
                let nodes = nodes.iter().filter(|(node, _)| here.as_ref().is_none_or(|here| here.contains(*node)));
                let all = nodes.flat_map(|(_, addresses)| addresses.iter().copied());
                Ok(all.filter(|address| own.contains(family_of(*address))).collect())
            }
        };
        places.insert(place, found);
    }
    places
}

/// The nodes with somebody who serves it.
fn serving_nodes<'a>(view: &'a View, service: &Object) -> BTreeSet<&'a str> {
    let slices = view.list(&ENDPOINT_SLICES, Some(service.namespace()));
    let of = slices.filter(|slice| slice.label(SERVICE_NAME) == Some(service.name()));
    of.flat_map(|slice| EndpointSlice(slice).endpoints())
        .filter(|endpoint| endpoint.is_ready())
        .filter_map(Endpoint::node)
        .collect()
}

/// With a pool: one address of it for each, of its own. A pool has addresses of IPv4.
fn of_pool<'a>(pool: AddressPool, view: &View, balanced: &BTreeMap<&'a str, &Object>) -> BTreeMap<&'a str, Place> {
    // Somebody may have drawn the pool around a node.
    let nodes: BTreeSet<Ipv4Addr> =
        view.list(&NODES, None).flat_map(|node| Node(node).addresses()).filter_map(|address| address.parse().ok()).collect();
    let mut holders: BTreeMap<Ipv4Addr, &str> = BTreeMap::new();
    let wish = |service: &Object| Some(service.str_at(&["spec", "loadBalancerIP"]).to_owned()).filter(|wish| !wish.is_empty());
    let mut places: BTreeMap<&'a str, Place> = BTreeMap::new();
    for (&place, service) in balanced {
        let wish = wish(service);
        let keeps = |address: &Ipv4Addr| {
            pool.contains(*address) && !nodes.contains(address) && wish.as_ref().is_none_or(|wish| *wish == address.to_string())
        };
        let mut told = told(service).filter_map(|address| match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        if !Service(service).families().contains(&IPV4) {
            let words = format!("the pool {pool} has addresses of IPv4 only, and the service speaks IPv6 only");
            places.insert(place, Err(("NoAddress", words)));
        } else if let Some(address) = told.find(|address| keeps(address) && !holders.contains_key(address)) {
            holders.insert(address, place);
            places.insert(place, Ok(BTreeSet::from([address.into()])));
        }
    }
    // Who wants a certain one comes before those who take any.
    for wishes in [true, false] {
        for (&place, service) in balanced {
            let wish = wish(service);
            if wish.is_some() != wishes || places.contains_key(place) {
                continue;
            }
            let found = match &wish {
                None => {
                    let free = |address: &Ipv4Addr| !nodes.contains(address) && !holders.contains_key(address);
                    pool.from_name(place).find(free).ok_or_else(|| {
                        (
                            "NoAddress",
                            format!("no address of the pool {pool} is free: enlarge network.load_balancers of the master"),
                        )
                    })
                }
                Some(wish) => match wish.parse::<Ipv4Addr>().ok().filter(|address| pool.contains(*address)) {
                    None => Err(("NoAddress", format!("loadBalancerIP {wish:?} is no address of the pool {pool}"))),
                    Some(address) if nodes.contains(&address) => {
                        Err(("NoAddress", format!("loadBalancerIP {address} is a node's own address")))
                    }
                    Some(address) => match holders.get(&address) {
                        Some(other) => Err(("NoAddress", format!("loadBalancerIP {address} is what service {other} has"))),
                        None => Ok(address),
                    },
                },
            };
            if let Ok(address) = found {
                holders.insert(address, place);
            }
            places.insert(place, found.map(|address| BTreeSet::from([address.into()])));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Change, Expect, Op};

    struct World {
        view: View,
        controller: ServiceLb,
    }

    impl World {
        fn new(pool: Option<&str>) -> Self {
            let pool = pool.map(|text| AddressPool::parse(text).unwrap());
            Self { view: View::new(Revision(0)), controller: ServiceLb::new(pool) }
        }

        fn put(&mut self, resource: &'static Resource, value: Value) {
            let object = Object::from_value(value).unwrap();
            let op = Op { key: Key::of(resource, &object), expect: Expect::Any, change: Change::Put(object) };
            self.view.apply(self.view.revision().next(), Batch(vec![op]));
        }

        fn node(&mut self, name: &str, ip: &str, ready: &str, more: &Value) {
            self.put(
                &NODES,
                json!({"metadata": {"name": name, "labels": more}, "status": {"conditions": [{"type": "Ready", "status": ready}],
                    "addresses": [{"type": "InternalIP", "address": ip}], "nodeInfo": {"containerRuntimeVersion": "docker://27"}}}),
            );
        }

        fn service(&mut self, name: &str, spec: &Value) {
            let mut value = json!({"metadata": {"name": name, "namespace": "home"},
                "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
            for (key, one) in spec.as_object().unwrap() {
                value["spec"][key] = one.clone();
            }
            if let Some(before) = self.view.get(&Key::new(&SERVICES, "home", name)) {
                value["status"] = before.at(&["status"]).cloned().unwrap_or_default();
            }
            self.put(&SERVICES, value);
        }

        /// Decides and writes until it rests; what is wrong then.
        fn rest(&mut self) -> Vec<String> {
            for _ in 0..100 {
                let key = Key::new(&SERVICES, "", "");
                let plan = self.controller.reconcile(&self.view, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
                if plan.writes.is_empty() {
                    return plan.standing.iter().map(|event| format!("{}: {}", event.reason, event.message)).collect();
                }
                self.view.apply(self.view.revision().next(), Batch(plan.writes));
            }
            panic!("it never rests");
        }

        fn at(&self, name: &str) -> Vec<String> {
            let service = self.view.get(&Key::new(&SERVICES, "home", name)).unwrap();
            told(service).map(|address| address.to_string()).collect()
        }
    }

    #[test]
    fn without_a_pool_it_is_reached_at_the_nodes_that_count() {
        let mut world = World::new(None);
        let none = json!({});
        world.node("a", "192.168.1.9", "True", &none);
        world.node("b", "192.168.1.8", "True", &none);
        world.node("lost", "192.168.1.7", "Unknown", &none);
        world.node("out", "192.168.1.6", "True", &json!({NO_BALANCER: ""}));
        world.service("web", &none);
        world.service("local", &json!({"externalTrafficPolicy": "Local", "ports": [{"port": 81}]}));
        world.service("others", &json!({"loadBalancerClass": "example.org/lb"}));
        world.service("plain", &json!({"type": "NodePort"}));
        assert!(world.rest().is_empty());
        assert_eq!(world.at("web"), ["192.168.1.8", "192.168.1.9"]);
        assert!(world.at("local").is_empty() && world.at("others").is_empty() && world.at("plain").is_empty());
        let endpoints = json!([{"addresses": ["10.244.1.2"], "nodeName": "b", "conditions": {"ready": true}},
            {"addresses": ["10.244.1.3"], "nodeName": "a", "conditions": {"ready": false}}]);
        world.put(
            &ENDPOINT_SLICES,
            json!({"metadata": {"name": "local-1", "namespace": "home", "labels": {SERVICE_NAME: "local"}},
                "addressType": "IPv4", "endpoints": endpoints}),
        );
        world.rest();
        assert_eq!(world.at("local"), ["192.168.1.8"]);
        world.node("b", "192.168.1.8", "False", &none);
        world.rest();
        assert_eq!((world.at("web"), world.at("local")), (vec!["192.168.1.9".to_owned()], vec![]));
        world.service("web", &json!({"type": "ClusterIP"}));
        world.rest();
        assert!(world.at("web").is_empty(), "it is no load balancer any more");
    }

    #[test]
    fn a_dual_stack_service_is_reached_at_both_addresses_of_the_nodes() {
        let mut world = World::new(None);
        world.put(
            &NODES,
            json!({"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "192.168.1.9"}, {"type": "InternalIP", "address": "fd00::9"}]}}),
        );
        world.node("b", "192.168.1.8", "True", &json!({}));
        world.service("web", &json!({"ipFamilies": ["IPv4", "IPv6"]}));
        world.service("four", &json!({"ipFamilies": ["IPv4"], "ports": [{"port": 81}]}));
        world.service("six", &json!({"ipFamilies": ["IPv6"], "ports": [{"port": 81}]}));
        world.service("zoo", &json!({"ipFamilies": ["IPv4", "IPv6"], "ports": [{"port": 81}, {"port": 80}]}));
        let said = world.rest();
        assert!(said.len() == 1 && said[0].starts_with("PortTaken"), "of one family each they have the same port: {said:?}");
        assert!(world.at("zoo").is_empty());
        assert_eq!(world.at("web"), ["192.168.1.8", "192.168.1.9", "fd00::9"]);
        assert_eq!(
            (world.at("four"), world.at("six")),
            (vec!["192.168.1.8".into(), "192.168.1.9".into()], vec!["fd00::9".into()])
        );
        // With a pool, one of its addresses, which are of IPv4.
        world.controller = ServiceLb::new(AddressPool::parse("192.168.1.20-192.168.1.29"));
        let said = world.rest();
        assert!(said.len() == 1 && said[0].contains("addresses of IPv4 only"), "{said:?}");
        assert_eq!(["web", "four", "six", "zoo"].map(|name| world.at(name).len()), [1, 1, 0, 1]);
    }

    #[test]
    fn a_port_of_the_nodes_is_the_firsts_by_name() {
        let mut world = World::new(None);
        world.node("a", "192.168.1.9", "True", &json!({}));
        world.service("one", &json!({}));
        world.service("two", &json!({}));
        world.service("udp", &json!({"ports": [{"port": 80, "protocol": "UDP"}]}));
        let said = world.rest();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("PortTaken: at the nodes' addresses, service home/one has port 80"), "{said:?}");
        assert_eq!((world.at("one").len(), world.at("two").len(), world.at("udp").len()), (1, 0, 1));
    }

    #[test]
    fn of_a_pool_each_has_one_address_and_keeps_it() {
        let mut world = World::new(Some("192.168.1.9-192.168.1.12"));
        world.node("a", "192.168.1.9", "True", &json!({}));
        world.service("web", &json!({}));
        world.service("fixed", &json!({"loadBalancerIP": "192.168.1.11"}));
        world.service("more", &json!({}));
        assert!(world.rest().is_empty());
        assert_eq!(world.at("fixed"), ["192.168.1.11"]);
        let (web, more) = (world.at("web"), world.at("more"));
        let mut all = vec![web[0].clone(), more[0].clone()];
        all.sort();
        assert_eq!(all, ["192.168.1.10", "192.168.1.12"], "each its own, and not the node's");
        // Those that come later change nothing of it; the one too many is told so.
        world.service("aaa", &json!({}));
        world.service("bad", &json!({"loadBalancerIP": "10.0.0.1"}));
        world.service("same", &json!({"loadBalancerIP": "192.168.1.11"}));
        world.service("own", &json!({"loadBalancerIP": "192.168.1.9"}));
        let said = world.rest().join("\n");
        for words in [
            "no address of the pool 192.168.1.9-192.168.1.12 is free",
            "loadBalancerIP \"10.0.0.1\" is no address of the pool",
            "loadBalancerIP 192.168.1.11 is what service home/fixed has",
            "loadBalancerIP 192.168.1.9 is a node's own address",
        ] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!((world.at("web"), world.at("more")), (web.clone(), more));
        // One that goes makes room.
        world.service("web", &json!({"type": "ClusterIP"}));
        world.rest();
        assert_eq!(world.at("aaa"), web);
    }

    #[test]
    fn who_comes_again_has_what_it_had() {
        let again = || {
            let mut world = World::new(Some("192.168.1.100-192.168.1.199"));
            world.service("web", &json!({}));
            world.rest();
            world.at("web")
        };
        assert_eq!(again(), again());
        // Without a pool again, it is the nodes'.
        let mut world = World::new(None);
        world.node("a", "192.168.1.9", "True", &json!({}));
        world.put(
            &SERVICES,
            json!({"metadata": {"name": "web", "namespace": "home"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.168.1.150"}]}}}),
        );
        world.rest();
        assert_eq!(world.at("web"), ["192.168.1.9"]);
    }
}
