//! `Endpoints`: the older view of where a service is served, for who still reads it (`kubectl get endpoints`).
//!
//! In:       a service with a selector, the pods that it selects.
//! Out:      one object of the service's name, with the addresses of the service's first family.
//! Never:    touches the endpoints of a service without a selector: those are made by hand (`endpoint_mirror.rs` reads them).
//! Source:   kube-controller-manager `endpoints_controller.go`, `RepackSubsets`; the cap of 1000 addresses.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::replicaset::owner_reference;
use super::serving::{Endpoint, EndpointPort, endpoints_of, services_of, unknown_until};
use super::signs::Signs;
use super::{Ids, Plan, Reconciler, update};
use crate::api::core::service::{IPV4, Service};
use crate::api::registry::{ENDPOINTS, PODS, SERVICES};
use crate::api::time::rfc3339;
use crate::api::{Key, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, Op, View};

/// The label that says that they are kept by this controller.
pub const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// As upstream's.
pub const MANAGER: &str = "endpoint-controller";
/// Source: upstream's maxCapacity.
const MOST: usize = 1000;

/// The controller.
pub struct Endpoints {
    signs: Arc<Mutex<Signs>>,
}

impl Endpoints {
    /// Asks these signs which pods are known after a start of the master.
    #[must_use]
    pub fn new(signs: Arc<Mutex<Signs>>) -> Self {
        Self { signs }
    }
}

impl Reconciler for Endpoints {
    fn name(&self) -> &'static str {
        "endpoints"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == SERVICES || *resource == PODS || *resource == ENDPOINTS
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        if *event.key.resource == ENDPOINTS {
            return vec![Key::new(&SERVICES, &event.key.namespace, &event.key.name)];
        }
        services_of(event, view)
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&SERVICES, None).map(|service| Key::of(&SERVICES, service)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan {
        let Some(service) = view.get(key).filter(|service| !service.is_deleting()) else { return Plan::nothing() };
        let place = Key::new(&ENDPOINTS, &key.namespace, &key.name);
        let there = view.get(&place);
        if Service(service).selector().is_none() || Service(service).is_external_name() {
            return Plan::nothing();
        }
        if let Some(until) = unknown_until(view, service, &self.signs, now.tick) {
            return Plan::look_again(until);
        }
        let family = Service(service).families().first().copied().unwrap_or(IPV4);
        let subsets = subsets(&endpoints_of(view, service, family), Service(service).publishes_not_ready());
        let mut labels = BTreeMap::from([(MANAGED_BY, MANAGER)]);
        labels.extend(service.labels());
        if Service(service).is_headless() {
            labels.insert("service.kubernetes.io/headless", "");
        }
        let mut next = there.map(|there| there.as_ref().clone()).unwrap_or_default();
        next.set_at(&["apiVersion"], ENDPOINTS.api_version());
        next.set_at(&["kind"], ENDPOINTS.kind);
        next.set_at(&["metadata", "name"], key.name.as_str());
        next.set_at(&["metadata", "namespace"], key.namespace.as_str());
        next.set_at(&["metadata", "labels"], json!(labels));
        next.set_at(&["metadata", "ownerReferences"], json!([owner_reference(service)]));
        next.remove_at(&["subsets"]);
        if !subsets.is_empty() {
            next.set_at(&["subsets"], subsets);
        }
        let write = match there {
            Some(there) if **there == next => return Plan::nothing(),
            Some(there) => update(&place, there, next),
            None => {
                next.set_at(&["metadata", "uid"], ids.uid());
                next.set_at(&["metadata", "creationTimestamp"], rfc3339(now.wall));
                Op::create(place, next)
            }
        };
        Plan { writes: vec![write], ..Plan::default() }
    }
}

/// The addresses by their ports.
fn subsets(endpoints: &[Endpoint], published: bool) -> Vec<Value> {
    let mut groups: BTreeMap<&[EndpointPort], (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    // Who is on its way out is not shown here, as upstream.
    for endpoint in endpoints.iter().filter(|endpoint| published || !endpoint.terminating).take(MOST) {
        let mut address = json!({"ip": endpoint.ip, "nodeName": endpoint.node, "targetRef": endpoint.target()});
        if let (Some(hostname), Some(map)) = (&endpoint.hostname, address.as_object_mut()) {
            map.insert("hostname".to_owned(), hostname.as_str().into());
        }
        let (ready, waiting) = groups.entry(&endpoint.ports).or_default();
        if endpoint.ready { ready.push(address) } else { waiting.push(address) }
    }
    let subset = |(ports, (ready, waiting)): (&[EndpointPort], (Vec<Value>, Vec<Value>))| {
        let mut subset = serde_json::Map::new();
        for (key, list) in [("addresses", ready), ("notReadyAddresses", waiting)] {
            if !list.is_empty() {
                subset.insert(key.to_owned(), list.into());
            }
        }
        let ports: Vec<Value> = ports.iter().map(port).collect();
        if !ports.is_empty() {
            subset.insert("ports".to_owned(), ports.into());
        }
        Value::Object(subset)
    };
    groups.into_iter().map(subset).collect()
}

/// A port without a name has none here.
fn port(port: &EndpointPort) -> Value {
    let mut value = port.value();
    if let Some(map) = value.as_object_mut().filter(|_| port.name.is_empty()) {
        map.remove("name");
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::serving::tests::pod;
    use super::*;
    use crate::api::{Object, Revision};
    use crate::rng::Rng;
    use crate::store::Batch;

    #[test]
    fn they_have_the_first_family_only() {
        for (families, expected) in [(json!(["IPv4", "IPv6"]), "10.0.0.1"), (json!(["IPv6", "IPv4"]), "fd00::1")] {
            let service = Object::from_value(json!({"metadata": {"name": "web", "namespace": "default", "uid": "s1"},
                "spec": {"selector": {"app": "web"}, "ipFamilies": families, "ports": [{"port": 80}]}}))
            .unwrap();
            let mut both = pod("a", "10.0.0.1", true);
            both.set_at(&["status", "podIPs"], json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]));
            let key = Key::of(&SERVICES, &service);
            let view = View::with(Revision(1), [(Key::of(&PODS, &both), both.into()), (key.clone(), service.into())]);
            let signs = Signs::new(crate::clock::Tick(0), crate::controller::Settings::default());
            let mut controller = Endpoints::new(Arc::new(Mutex::new(signs)));
            let plan = controller.reconcile(&view, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
            let Some(crate::store::Change::Put(made)) = plan.writes.first().map(|op| &op.change) else { panic!("{plan:?}") };
            let addresses = made.list_at(&["subsets"])[0]["addresses"].as_array().unwrap();
            assert_eq!((addresses.len(), &addresses[0]["ip"]), (1, &json!(expected)));
        }
    }

    #[test]
    fn they_show_who_is_ready_and_who_is_not() {
        let service = Object::from_value(json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default", "uid": "s1"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]}}))
        .unwrap();
        let mut leaving = pod("c", "10.0.0.3", true);
        leaving.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
        let pods = [pod("a", "10.0.0.1", true), pod("b", "10.0.0.2", false), leaving];
        let objects = pods.map(|pod| (Key::of(&PODS, &pod), pod.into()));
        let key = Key::of(&SERVICES, &service);
        let mut view = View::with(Revision(1), objects.into_iter().chain([(key.clone(), service.into())]));
        let mut ids = Ids::new(Rng::seeded(1, "ids"));
        let signs = Signs::new(crate::clock::Tick(0), crate::controller::Settings::default());
        let mut controller = Endpoints::new(Arc::new(Mutex::new(signs)));
        let plan = controller.reconcile(&view, &key, Now::default(), &mut ids);
        view.apply(Revision(2), Batch(plan.writes));
        let made = view.get(&Key::new(&ENDPOINTS, "default", "web")).unwrap();
        let target = |name: &str| json!({"kind": "Pod", "name": name, "namespace": "default", "uid": name});
        assert_eq!(
            made.list_at(&["subsets"]),
            [json!({"addresses": [{"ip": "10.0.0.1", "nodeName": "n1", "targetRef": target("a")}],
                "notReadyAddresses": [{"ip": "10.0.0.2", "nodeName": "n1", "targetRef": target("b")}],
                "ports": [{"port": 8080, "protocol": "TCP"}]})]
        );
        assert!(controller.reconcile(&view, &key, Now::default(), &mut ids).is_idle());
    }
}
