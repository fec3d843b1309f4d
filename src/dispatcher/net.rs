//! What every node has to know of the network: one share for all of them.
//!
//! In:       the view; changes of it, so that only what changed is made anew.
//! Out:      a [`Share`] with the cluster's network, services, endpoint slices, nodes, ingresses and their certificates.
//! Never:    numbers or sends it (`net/run.rs`), or decides when it may be told after a start of the master (`net/hold.rs`).
//! Flow:     from `controller/endpoint_slice.rs` by way of the store, on to `link/session.rs` and the agent's network parts.
//!
//! What no node needs is left out, so that what does not concern the network makes no new share: status, versions, what kubectl
//! keeps for itself, and whose address an endpoint is.

pub mod hold;
pub mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::policy::{self, policies_of};
use crate::api::core::node::{ADOPT, Node};
use crate::api::discovery::endpoint_slice::SERVICE_NAME;
use crate::api::networking::ingress::{Ingress, is_ours};
use crate::api::{Key, Object, registry};
use crate::link::network::ClusterNetwork;
use crate::link::share::Share;
use crate::store::{ChangeEvent, View};

/// What `kubectl apply` keeps for itself.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What a node reads of an endpoint.
const OF_ENDPOINT: [&str; 6] = ["addresses", "conditions", "hostname", "nodeName", "zone", "hints"];

/// The network's share, kept up to date.
pub struct NetShare {
    share: Share,
}

/// The whole share, as the view has it.
#[must_use]
pub fn net_share_of(view: &View, network: &ClusterNetwork) -> Share {
    NetShare::of(view, network).share
}

impl NetShare {
    /// As the view has it.
    #[must_use]
    pub fn of(view: &View, network: &ClusterNetwork) -> Self {
        let mut this = Self { share: Share { network: Some(network.clone()), ..Share::default() } };
        let place = |object: &Object| format!("{}/{}", object.namespace(), object.name());
        let services = view.list(&registry::SERVICES, None);
        this.share.services = services.map(|service| (place(service), Arc::new(of_service(service)))).collect();
        let slices = view.list(&registry::ENDPOINT_SLICES, None);
        this.share.endpoint_slices = slices.filter_map(|slice| Some((place(slice), Arc::new(of_slice(slice)?)))).collect();
        let nodes = view.list(&registry::NODES, None);
        this.share.peers = nodes.map(|node| (node.name().to_owned(), Arc::new(of_node(node)))).collect();
        (this.share.ingresses, this.share.secrets) = of_ingresses(view);
        this.share.policies = policies_of(view);
        this
    }

    /// The share as it is now.
    #[must_use]
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// Follows what changed. Whether the share is another now.
    pub fn follow(&mut self, view: &View, changes: &[ChangeEvent]) -> bool {
        let (mut other, mut ingresses, mut rules) = (false, false, false);
        for change in changes {
            let (key, after) = (&change.key, change.after.as_deref());
            let place = || format!("{}/{}", key.namespace, key.name);
            rules |= policy::concerns(&change.key, change.before.as_deref(), change.after.as_deref());
            if *key.resource == registry::SERVICES {
                other |= put(&mut self.share.services, place(), after.map(of_service));
            } else if *key.resource == registry::ENDPOINT_SLICES {
                other |= put(&mut self.share.endpoint_slices, place(), after.and_then(of_slice));
            } else if *key.resource == registry::NODES {
                other |= put(&mut self.share.peers, key.name.clone(), after.map(of_node));
            } else if *key.resource == registry::INGRESSES || *key.resource == registry::INGRESS_CLASSES {
                // Another controller's are not for nodes, nor their secrets.
                ingresses = true;
            } else if *key.resource == registry::SECRETS {
                // Of few secrets somebody's certificate is made.
                ingresses |= self.share.secrets.contains_key(&place()) || self.names_certificate(key);
            }
        }
        if ingresses {
            let (all, certificates) = of_ingresses(view);
            other |= replace(&mut self.share.ingresses, all);
            other |= replace(&mut self.share.secrets, certificates);
        }
        if rules {
            other |= replace(&mut self.share.policies, policies_of(view));
        }
        other
    }

    /// Whether an ingress names this secret.
    fn names_certificate(&self, key: &Key) -> bool {
        let same_namespace = self.share.ingresses.values().filter(|ingress| ingress.namespace() == key.namespace);
        same_namespace.flat_map(|ingress| certificates_of(ingress)).any(|name| name == key.name)
    }
}

/// Puts, or takes away. Whether that is something else than before.
fn put(map: &mut BTreeMap<String, Arc<Object>>, place: String, object: Option<Object>) -> bool {
    match object {
        Some(object) if map.get(&place).is_some_and(|known| **known == object) => false,
        Some(object) => {
            map.insert(place, Arc::new(object));
            true
        }
        None => map.remove(&place).is_some(),
    }
}

fn replace(map: &mut BTreeMap<String, Arc<Object>>, with: BTreeMap<String, Arc<Object>>) -> bool {
    if *map == with {
        return false;
    }
    *map = with;
    true
}

/// Who it is, with its labels and those of its annotations that `keep` wants.
fn metadata(object: &Object, keep: impl Fn(&str) -> bool) -> Value {
    let mut metadata = json!({"name": object.name()});
    let labels: serde_json::Map<String, Value> = object.labels().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let annotations: serde_json::Map<String, Value> = object
        .strings_at(&["metadata", "annotations"])
        .filter(|(key, _)| *key != LAST_APPLIED && keep(key))
        .map(|(key, value)| (key.to_owned(), value.into()))
        .collect();
    if let Some(map) = metadata.as_object_mut() {
        if !object.namespace().is_empty() {
            map.insert("namespace".to_owned(), object.namespace().into());
        }
        for (field, words) in [("labels", labels), ("annotations", annotations)] {
            if !words.is_empty() {
                map.insert(field.to_owned(), words.into());
            }
        }
    }
    metadata
}

/// These fields of an object, with its metadata.
fn only(object: &Object, metadata: Value, fields: &[&[&str]]) -> Object {
    let mut part = Object::default();
    part.set_at(&["metadata"], metadata);
    for path in fields {
        if let Some(value) = object.at(path).filter(|value| !value.is_null()) {
            part.set_at(path, value.clone());
        }
    }
    part
}

fn of_service(service: &Object) -> Object {
    let mut part = only(service, metadata(service, |_| true), &[&["spec"]]);
    if let Some(told) = service.at(&["status", "loadBalancer"]).filter(|told| told.as_object().is_some_and(|map| !map.is_empty()))
    {
        part.set_at(&["status", "loadBalancer"], told.clone());
    }
    part
}

/// A slice of no service serves nobody.
fn of_slice(slice: &Object) -> Option<Object> {
    let service = slice.label(SERVICE_NAME)?;
    let labels = json!({"name": slice.name(), "namespace": slice.namespace(), "labels": {SERVICE_NAME: service}});
    let mut part = only(slice, labels, &[&["addressType"], &["ports"]]);
    let is_left_out = |field: &str, value: &Value| value.is_null() || (field == "conditions" && is_usual(value));
    let endpoint = |endpoint: &Value| -> Value {
        let fields = OF_ENDPOINT.iter().filter_map(|field| Some(((*field).to_owned(), endpoint.get(*field)?.clone())));
        Value::Object(fields.filter(|(field, value)| !is_left_out(field, value)).collect())
    };
    part.set_at(&["endpoints"], slice.list_at(&["endpoints"]).iter().map(endpoint).collect::<Vec<_>>());
    Some(part)
}

/// Conditions that say what an endpoint without any is: ready. In memory they are as large as the rest of the endpoint.
/// Source: discovery.k8s.io/v1, `EndpointConditions`.
fn is_usual(conditions: &Value) -> bool {
    let usual = |(name, value): (&String, &Value)| match name.as_str() {
        "ready" | "serving" => *value == json!(true),
        "terminating" => *value == json!(false),
        _ => false,
    };
    conditions.as_object().is_some_and(|conditions| conditions.iter().all(usual))
}

fn of_node(node: &Object) -> Object {
    let ours = |key: &str| key.starts_with("bramble/") && key != ADOPT;
    let fields: &[&[&str]] = &[&["spec", "podCIDR"], &["spec", "podCIDRs"], &["status", "addresses"]];
    let mut part = only(node, metadata(node, ours), fields);
    part.set_at(&["status", "conditions"], json!([{"type": "Ready", "status": Node(node).ready()}]));
    // Nobody is reached there, and nobody answers.
    if Node(node).is_simulated() {
        let runtime = node.str_at(&["status", "nodeInfo", "containerRuntimeVersion"]);
        part.set_at(&["status", "nodeInfo", "containerRuntimeVersion"], runtime);
    }
    part
}

/// The secrets with an ingress's certificates, by name.
fn certificates_of(ingress: &Object) -> impl Iterator<Item = &str> {
    let entries = ingress.list_at(&["spec", "tls"]).iter();
    entries.filter_map(|entry| entry.get("secretName")?.as_str()).filter(|name| !name.is_empty())
}

type Objects = BTreeMap<String, Arc<Object>>;

/// The ingresses that our nodes serve, and the secrets that they name.
fn of_ingresses(view: &View) -> (Objects, Objects) {
    let (mut ingresses, mut wanted) = (Objects::new(), BTreeSet::new());
    let class_of =
        |ingress: &Object| view.get(&Key::new(&registry::INGRESS_CLASSES, "", Ingress(ingress).class()?)).map(AsRef::as_ref);
    for ingress in view.list(&registry::INGRESSES, None).filter(|ingress| is_ours(class_of(ingress))) {
        wanted.extend(certificates_of(ingress).map(|name| (ingress.namespace().to_owned(), name.to_owned())));
        let part = only(ingress, metadata(ingress, |_| true), &[&["spec"], &["metadata", "creationTimestamp"]]);
        ingresses.insert(format!("{}/{}", ingress.namespace(), ingress.name()), Arc::new(part));
    }
    let secret = |(namespace, name): (String, String)| {
        let secret = view.get(&Key::new(&registry::SECRETS, &namespace, &name))?;
        let part = only(secret, json!({"name": name, "namespace": namespace}), &[&["type"], &["data"]]);
        Some((format!("{namespace}/{name}"), Arc::new(part)))
    };
    (ingresses, wanted.into_iter().filter_map(secret).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Resource, Revision};
    use crate::store::{Batch, Change, Expect, Op};

    struct World {
        view: View,
        net: NetShare,
    }

    impl World {
        fn new() -> Self {
            let view = View::new(Revision(1));
            let net = NetShare::of(&view, &network());
            Self { view, net }
        }
        /// Puts an object; whether the share is another. What follows changes is the same as what is made anew.
        fn put(&mut self, resource: &'static Resource, object: Value) -> bool {
            let object = Object::from_value(object).unwrap();
            self.change(Key::of(resource, &object), Change::Put(object))
        }
        fn change(&mut self, key: Key, change: Change) -> bool {
            let op = Op { key, expect: Expect::Any, change };
            let changes = self.view.apply(self.view.revision().next(), Batch(vec![op]));
            let before = self.net.share().clone();
            let other = self.net.follow(&self.view, &changes);
            assert_eq!(*self.net.share(), net_share_of(&self.view, &network()));
            assert_eq!(other, before != *self.net.share());
            other
        }
    }

    fn network() -> ClusterNetwork {
        ClusterNetwork { pods: "10.244.0.0/16".into(), ..ClusterNetwork::default() }
    }

    fn service(status: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "status": status,
            "metadata": {"name": "web", "namespace": "home", "uid": "s1", "labels": {"a": "b"},
                "annotations": {LAST_APPLIED: "{}", "bramble/mdns": "web"}, "managedFields": []},
            "spec": {"clusterIP": "10.96.1.2", "ports": [{"port": 80}]}})
    }

    #[test]
    fn a_service_is_told_without_what_changes_nothing() {
        let mut world = World::new();
        assert!(world.put(&registry::SERVICES, service(json!({"loadBalancer": {}}))));
        assert!(!world.put(&registry::SERVICES, service(json!({"conditions": []}))));
        assert_eq!(
            world.net.share().services["home/web"].to_value(),
            json!({"metadata": {"name": "web", "namespace": "home", "labels": {"a": "b"}, "annotations": {"bramble/mdns": "web"}},
                "spec": {"clusterIP": "10.96.1.2", "ports": [{"port": 80}]}})
        );
        assert!(world.put(&registry::SERVICES, service(json!({"loadBalancer": {"ingress": [{"ip": "192.168.1.9"}]}}))));
        let told = &world.net.share().services["home/web"];
        assert_eq!(told.at(&["status"]), Some(&json!({"loadBalancer": {"ingress": [{"ip": "192.168.1.9"}]}})));
        assert!(world.change(Key::new(&registry::SERVICES, "home", "web"), Change::Delete));
        assert!(world.net.share().services.is_empty());
    }

    #[test]
    fn a_slice_is_told_if_it_is_somebodys_and_without_whose_pods_they_are() {
        let mut world = World::new();
        let slice = |labels: Value, uid: &str| {
            json!({"kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"port": 80}],
            "metadata": {"name": "web-1", "namespace": "home", "labels": labels, "generation": 2},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "nodeName": "pi", "hostname": null,
                "targetRef": {"uid": uid}}]})
        };
        assert!(!world.put(&registry::ENDPOINT_SLICES, slice(json!({}), "p1")));
        let of_web = json!({SERVICE_NAME: "web", "room": "hall"});
        assert!(world.put(&registry::ENDPOINT_SLICES, slice(of_web.clone(), "p1")));
        assert!(!world.put(&registry::ENDPOINT_SLICES, slice(of_web, "p2")));
        assert_eq!(
            world.net.share().endpoint_slices["home/web-1"].to_value(),
            json!({"metadata": {"name": "web-1", "namespace": "home", "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4",
                "ports": [{"port": 80}],
                "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "pi"}]})
        );
        assert!(world.put(&registry::ENDPOINT_SLICES, slice(json!({}), "p1")), "nobody's any more");
    }

    #[test]
    fn of_a_dual_stack_service_both_addresses_are_told_and_the_slices_of_both_families() {
        let mut world = World::new();
        let spec = json!({"clusterIP": "10.96.1.2", "clusterIPs": ["10.96.1.2", "fd00::2"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack"});
        world.put(&registry::SERVICES, json!({"metadata": {"name": "web", "namespace": "home"}, "spec": spec}));
        assert_eq!(world.net.share().services["home/web"].at(&["spec"]), Some(&spec));
        let slice = json!({"metadata": {"name": "web-6", "namespace": "home", "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv6",
            "ports": [], "endpoints": [{"addresses": ["fd00:1::5"]}]});
        assert!(world.put(&registry::ENDPOINT_SLICES, slice.clone()));
        assert_eq!(world.net.share().endpoint_slices["home/web-6"].to_value(), slice);
        let node = json!({"metadata": {"name": "pi"}, "spec": {"podCIDRs": ["10.244.3.0/24", "fd00:1:0:3::/64"]}, "status": {"addresses":
            [{"type": "InternalIP", "address": "192.168.1.5"}, {"type": "InternalIP", "address": "fd00:2::5"}]}});
        assert!(world.put(&registry::NODES, node.clone()));
        let told = &world.net.share().peers["pi"];
        assert_eq!((told.at(&["spec"]), told.list_at(&["status", "addresses"]).len()), (node.get("spec"), 2));
    }

    #[test]
    fn of_an_endpoints_conditions_only_what_is_not_usual_is_told() {
        let usual = json!({"ready": true, "serving": true, "terminating": false});
        let ending = json!({"ready": false, "serving": true, "terminating": true});
        let other = json!({"ready": true, "somethingNew": true});
        for (conditions, is_told) in
            [(usual, false), (json!({}), false), (ending, true), (other, true), (json!({"ready": false}), true)]
        {
            let slice = json!({"metadata": {"name": "web-1", "namespace": "home", "labels": {SERVICE_NAME: "web"}},
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": conditions}]});
            let told = of_slice(&Object::from_value(slice).unwrap()).unwrap();
            let expected = if is_told { Some(&conditions) } else { None };
            assert_eq!(told.list_at(&["endpoints"])[0].get("conditions"), expected, "{conditions}");
        }
    }

    #[test]
    fn a_node_is_told_by_its_place_in_the_network() {
        let mut world = World::new();
        let node = |status: &str, stamp: &str| {
            json!({"metadata": {"name": "pi", "labels": {"room": "hall"},
                "annotations": {"bramble/adopt": "u", "bramble/wireguard": "key", "other": "x"}},
                "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"], "unschedulable": true},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.5"}],
                    "conditions": [{"type": "Ready", "status": status, "lastHeartbeatTime": stamp}], "images": []}})
        };
        assert!(world.put(&registry::NODES, node("True", "1")));
        assert!(!world.put(&registry::NODES, node("True", "2")));
        assert_eq!(
            world.net.share().peers["pi"].to_value(),
            json!({"metadata": {"name": "pi", "labels": {"room": "hall"}, "annotations": {"bramble/wireguard": "key"}},
                "spec": {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"]},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.168.1.5"}],
                    "conditions": [{"type": "Ready", "status": "True"}]}})
        );
        assert!(world.put(&registry::NODES, node("Unknown", "3")));
        let model = json!({"metadata": {"name": "m"}, "status": {"nodeInfo": {"containerRuntimeVersion": "simulated://1", "bootID": "x"}}});
        assert!(world.put(&registry::NODES, model));
        let told = world.net.share().peers["m"].at(&["status", "nodeInfo"]).cloned();
        assert_eq!(told, Some(json!({"containerRuntimeVersion": "simulated://1"})), "nobody is reached there");
        assert!(!world.put(&registry::PODS, json!({"metadata": {"name": "p", "namespace": "home"}})));
    }

    #[test]
    fn a_certificate_is_told_when_an_ingress_names_it() {
        let mut world = World::new();
        let class = |name: &str, controller: &str| json!({"metadata": {"name": name}, "spec": {"controller": controller}});
        world.put(&registry::INGRESS_CLASSES, class("bramble", "bramble/ingress"));
        world.put(&registry::INGRESS_CLASSES, class("nginx", "k8s.io/ingress-nginx"));
        let mut put = |resource, object: Value| world.put(resource, object);
        let secret = |name: &str, text: &str| {
            json!({"metadata": {"name": name, "namespace": "home", "labels": {"a": text}}, "type": "kubernetes.io/tls",
            "data": {"tls.crt": text}})
        };
        assert!(!put(&registry::SECRETS, secret("door", "1")));
        let ingress = |name: &str, class: &str| {
            let tls = json!([{"secretName": "door"}, {"secretName": "later"}, {}]);
            json!({"metadata": {"name": name, "namespace": "home"}, "spec": {"ingressClassName": class, "tls": tls}})
        };
        assert!(!put(&registry::INGRESSES, ingress("others", "nginx")), "it is another controller's");
        assert!(put(&registry::INGRESSES, ingress("web", "bramble")));
        assert!(put(&registry::SECRETS, secret("door", "2")));
        assert!(put(&registry::SECRETS, secret("later", "1")));
        assert!(!put(&registry::SECRETS, secret("other", "1")));
        assert!(put(&registry::INGRESS_CLASSES, class("nginx", "bramble/ingress")), "it is ours now");
        assert_eq!((world.net.share().ingresses.len(), world.net.share().secrets.len()), (2, 2));
        let told = world.net.share().secrets["home/door"].to_value();
        assert_eq!(
            told,
            json!({"metadata": {"name": "door", "namespace": "home"}, "type": "kubernetes.io/tls", "data": {"tls.crt": "2"}})
        );
    }

    /// What a home never has. Printed: what it costs to follow one change, and to number it.
    #[test]
    fn one_change_among_five_hundred_services_makes_one_object_anew() {
        let mut view = View::new(Revision(1));
        for number in 0..500 {
            let name = format!("service-{number}");
            let service = json!({"metadata": {"name": name, "namespace": "home"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}});
            let endpoints: Vec<Value> = (0..10)
                .map(|end| json!({"addresses": [format!("10.244.{}.{end}", number % 200)], "conditions": {"ready": true, "serving": true, "terminating": false}, "nodeName": "pi"}))
                .collect();
            let slice = json!({"metadata": {"name": format!("{name}-x"), "namespace": "home", "labels": {SERVICE_NAME: name}}, "addressType": "IPv4",
                "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints});
            for (resource, object) in [(&registry::SERVICES, service), (&registry::ENDPOINT_SLICES, slice)] {
                let object = Object::from_value(object).unwrap();
                view.apply(view.revision().next(), Op::create(Key::of(resource, &object), object).into());
            }
        }
        let mut net = NetShare::of(&view, &network());
        let mut downlink = crate::link::downlink::Downlink::new("s".into(), 1);
        downlink.wants(Arc::new(net.share().clone()));
        let before = net.share().clone();
        let key = Key::new(&registry::ENDPOINT_SLICES, "home", "service-7-x");
        let mut slice = Object::clone(view.get(&key).unwrap());
        slice.set_at(&["endpoints"], json!([]));
        let changes = view.apply(view.revision().next(), Op { key, expect: Expect::Any, change: Change::Put(slice) }.into());
        let clock = crate::clock::SystemClock::start();
        let ticks = || crate::clock::Clock::now(&clock).tick.0;
        let from = ticks();
        assert!(net.follow(&view, &changes));
        let followed = ticks();
        let messages = downlink.wants(Arc::new(net.share().clone())).unwrap();
        println!(
            "{} bytes; followed in {} ms, numbered in {} ms",
            net.share().canonical().len(),
            followed - from,
            ticks() - followed
        );
        assert_eq!(messages.len(), 1, "a change, not all of it");
        let same = net.share().endpoint_slices.iter().filter(|(name, slice)| Arc::ptr_eq(slice, &before.endpoint_slices[*name]));
        assert_eq!(same.count(), 499);
    }

    #[test]
    fn policies_follow_the_pods_and_namespaces_that_they_select() {
        let mut world = World::new();
        let pod = |name: &str, ip: &str, ready: &str| {
            json!({"metadata": {"namespace": "home", "name": name, "uid": name, "labels": {"app": name}},
                "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}})
        };
        assert!(!world.put(&registry::PODS, pod("db", "10.244.0.5", "True")), "no policy, no share");
        let spec = json!({"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"a": "b"}}}]}]});
        let policy = json!({"metadata": {"namespace": "home", "name": "p", "uid": "p"}, "spec": spec});
        assert!(world.put(&registry::NETWORK_POLICIES, policy));
        let told = |world: &World| world.net.share().policies["home/p"].to_value();
        let selector = json!({"matchLabels": {"app": "db"}});
        assert_eq!(told(&world), json!({"selector": selector, "pods": ["10.244.0.5"], "ingress": []}));
        assert!(!world.put(&registry::PODS, pod("db", "10.244.0.5", "False")), "readiness is nothing to it");
        assert!(!world.put(&registry::PODS, pod("web", "10.244.0.6", "True")), "nobody speaks of it");
        assert!(world.put(&registry::NAMESPACES, json!({"metadata": {"name": "home", "labels": {"a": "b"}}})));
        assert_eq!(told(&world)["ingress"], json!([{"peers": ["10.244.0.5-10.244.0.6"]}]));
        assert!(world.change(Key::new(&registry::PODS, "home", "web"), Change::Delete));
        assert_eq!(told(&world)["ingress"], json!([{"peers": ["10.244.0.5"]}]));
        assert!(world.change(Key::new(&registry::NETWORK_POLICIES, "home", "p"), Change::Delete));
        assert!(world.net.share().policies.is_empty());
    }
}
