//! Endpoint slices: where each service is served, kept from the readiness of its pods.
//!
//! In:       a service with a selector, the pods that it selects, the slices that are there.
//! Out:      for each of the service's families of addresses slices of at most 100 endpoints with the same ports each, changed as little
//!           as can be; one without endpoints when there are none, so that everybody can tell "none" from "not known yet".
//!           After a start of the master: none before the nodes have said how the service's pods are, or the grace is over.
//! Never:    touches a slice that somebody else manages. A service that goes takes its slices along (`garbage_collector.rs`).
//! Source:   kube-controller-manager `endpointslice_controller.go`, `reconciler.go`. Left out: topology hints, and the repacking of
//!           slices that are half full.
//! Flow:     on to `dispatcher/net.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use serde_json::{Map, Value, json};

use super::replicaset::owner_reference;
use super::serving::{Endpoint, EndpointPort, endpoints_of, services_of, unknown_until};
use super::signs::Signs;
use super::{Ids, Plan, Reconciler, bump_generation, update};
use crate::api::core::service::Service;
use crate::api::discovery::endpoint_slice::SERVICE_NAME;
use crate::api::registry::{ENDPOINT_SLICES, PODS, SERVICES};
use crate::api::time::rfc3339;
use crate::api::{Key, Object, Resource, Uid};
use crate::clock::Now;
use crate::store::{ChangeEvent, Op, View};

/// The label that says who keeps a slice.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// As upstream's.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Marks what belongs to a service without an address.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Source: upstream's `--max-endpoints-per-slice`.
const MOST: usize = 100;

/// The controller.
pub struct EndpointSlices {
    signs: Arc<Mutex<Signs>>,
}

impl EndpointSlices {
    /// Asks these signs which pods are known after a start of the master.
    #[must_use]
    pub fn new(signs: Arc<Mutex<Signs>>) -> Self {
        Self { signs }
    }
}

impl Reconciler for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpoint_slice"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == SERVICES || *resource == PODS || *resource == ENDPOINT_SLICES
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        if *event.key.resource == ENDPOINT_SLICES {
            let sides = [&event.before, &event.after].into_iter().flatten();
            let names: BTreeSet<&str> =
                sides.filter(|slice| is_ours(slice)).filter_map(|slice| slice.label(SERVICE_NAME)).collect();
            return names.into_iter().map(|name| Key::new(&SERVICES, &event.key.namespace, name)).collect();
        }
        services_of(event, view)
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&SERVICES, None).map(|service| Key::of(&SERVICES, service)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan {
        let Some(service) = view.get(key).filter(|service| !service.is_deleting()) else { return Plan::nothing() };
        let wants = Service(service).selector().is_some() && !Service(service).is_external_name();
        if let Some(until) = unknown_until(view, service, &self.signs, now.tick).filter(|_| wants) {
            return Plan::look_again(until);
        }
        let mut plan = Plan::nothing();
        let there: Vec<&Arc<Object>> = view
            .list(&ENDPOINT_SLICES, Some(&key.namespace))
            .filter(|slice| is_ours(slice) && slice.label(SERVICE_NAME) == Some(&*key.name) && !slice.is_deleting())
            .collect();
        let families = if wants { Service(service).families() } else { Vec::new() };
        for family in &families {
            let of_family = there.iter().copied().filter(|slice| slice.str_at(&["addressType"]) == *family).collect();
            let endpoints = endpoints_of(view, service, family);
            Family { service, family, endpoints, now }.plan(of_family, ids, &mut plan);
        }
        for slice in there.iter().filter(|slice| !families.contains(&slice.str_at(&["addressType"]))) {
            plan.writes.push(Op::delete(Key::of(&ENDPOINT_SLICES, slice), slice.revision()));
        }
        plan
    }
}

fn is_ours(slice: &Object) -> bool {
    slice.label(MANAGED_BY) == Some(MANAGER)
}

/// What a slice is to hold: the slice that is there, its ports, its endpoints.
type Filled<'a> = (Option<&'a Arc<Object>>, &'a [EndpointPort], Vec<&'a Endpoint>);

/// The slices of one service in one family of addresses.
struct Family<'a> {
    service: &'a Arc<Object>,
    family: &'a str,
    endpoints: Vec<Endpoint>,
    now: Now,
}

impl Family<'_> {
    fn plan(self, there: Vec<&Arc<Object>>, ids: &mut Ids, plan: &mut Plan) {
        let mut groups: BTreeMap<&[EndpointPort], BTreeMap<&Uid, &Endpoint>> = BTreeMap::new();
        for endpoint in &self.endpoints {
            groups.entry(&endpoint.ports).or_default().insert(&endpoint.pod, endpoint);
        }
        let mut left: Vec<&Arc<Object>> = there;
        let mut full: Vec<Filled<'_>> = Vec::new();
        for (ports, mut endpoints) in groups {
            let values = ports_value(ports);
            let (same, others): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|slice| slice.list_at(&["ports"]) == values.as_slice());
            left = others;
            // Who is in a slice stays in it.
            let mut slices: Vec<(Option<&Arc<Object>>, Vec<&Endpoint>)> = Vec::new();
            for slice in same {
                let uids = slice.list_at(&["endpoints"]).iter().filter_map(|entry| entry.pointer("/targetRef/uid")?.as_str());
                let kept: Vec<&Endpoint> = uids.filter_map(|uid| endpoints.remove(&Uid::from(uid))).take(MOST).collect();
                slices.push((Some(slice), kept));
            }
            let mut new: Vec<&Endpoint> = endpoints.into_values().collect();
            new.sort_by(|a, b| a.ip.cmp(&b.ip));
            let mut new = new.into_iter().peekable();
            for (_, kept) in &mut slices {
                kept.extend(new.by_ref().take(MOST - kept.len()));
            }
            while new.peek().is_some() {
                slices.push((None, new.by_ref().take(MOST).collect()));
            }
            for (slice, kept) in slices {
                match slice {
                    Some(slice) if kept.is_empty() => left.push(slice),
                    slice => full.push((slice, ports, kept)),
                }
            }
        }
        if full.is_empty() {
            // "Nobody serves" is said as well.
            full.push((None, &[], Vec::new()));
        }
        for (slice, ports, endpoints) in full {
            // One that is empty now is filled anew, rather than one removed and one made.
            self.write(slice.or_else(|| left.pop()), ports, &endpoints, ids, plan);
        }
        plan.writes.extend(left.into_iter().map(|slice| Op::delete(Key::of(&ENDPOINT_SLICES, slice), slice.revision())));
    }

    fn write(
        &self,
        slice: Option<&Arc<Object>>,
        ports: &[EndpointPort],
        endpoints: &[&Endpoint],
        ids: &mut Ids,
        plan: &mut Plan,
    ) {
        let mut next = slice.map_or_else(|| self.empty(ids), |slice| slice.as_ref().clone());
        next.set_at(&["endpoints"], endpoints.iter().map(|endpoint| value(endpoint)).collect::<Vec<_>>());
        next.set_at(&["ports"], ports_value(ports));
        next.set_at(&["metadata", "labels"], self.labels());
        let key = Key::of(&ENDPOINT_SLICES, &next);
        match slice {
            Some(slice) if **slice == next => {}
            Some(slice) => {
                bump_generation(&mut next);
                plan.writes.push(update(&key, slice, next));
            }
            None => plan.writes.push(Op::create(key, next)),
        }
    }

    fn empty(&self, ids: &mut Ids) -> Object {
        let stem: String = self.service.name().chars().take(57).collect();
        let mut slice = owned(self.service, &format!("{stem}-{}", ids.suffix()), self.now, ids);
        slice.set_at(&["metadata", "generateName"], format!("{stem}-"));
        slice.set_at(&["addressType"], self.family);
        slice
    }

    /// The service's own, and what finds it.
    fn labels(&self) -> Map<String, Value> {
        labels(self.service, MANAGER)
    }
}

/// A slice of this service and this name, with nothing in it yet.
pub(super) fn owned(service: &Object, name: &str, now: Now, ids: &mut Ids) -> Object {
    let mut slice = Object::default();
    slice.set_at(&["apiVersion"], ENDPOINT_SLICES.api_version());
    slice.set_at(&["kind"], ENDPOINT_SLICES.kind);
    slice.set_at(
        &["metadata"],
        json!({
            "name": name, "namespace": service.namespace(), "uid": ids.uid(), "generation": 1,
            "creationTimestamp": rfc3339(now.wall), "ownerReferences": [owner_reference(service)],
        }),
    );
    slice
}

/// The labels of a slice of this service.
pub(super) fn labels(service: &Object, manager: &str) -> Map<String, Value> {
    let mut labels: Map<String, Value> = service.labels().map(|(key, value)| (key.to_owned(), value.into())).collect();
    labels.insert(SERVICE_NAME.to_owned(), service.name().into());
    labels.insert(MANAGED_BY.to_owned(), manager.into());
    if Service(service).is_headless() {
        labels.insert(HEADLESS.to_owned(), "".into());
    }
    labels
}

fn ports_value(ports: &[EndpointPort]) -> Vec<Value> {
    ports.iter().map(EndpointPort::value).collect()
}

fn value(endpoint: &Endpoint) -> Value {
    let mut value = json!({
        "addresses": [endpoint.ip],
        "conditions": {"ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating},
        "nodeName": endpoint.node,
        "targetRef": endpoint.target(),
    });
    if let (Some(hostname), Some(map)) = (&endpoint.hostname, value.as_object_mut()) {
        map.insert("hostname".to_owned(), hostname.as_str().into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::super::serving::tests::pod;
    use super::*;
    use crate::api::Revision;
    use crate::clock::Tick;
    use crate::controller::Settings;
    use crate::rng::Rng;
    use crate::store::{Batch, Change};

    fn service(spec: Value) -> Object {
        Object::from_value(json!({"apiVersion": "v1", "kind": "Service", "spec": spec,
            "metadata": {"name": "web", "namespace": "default", "uid": "s1", "labels": {"room": "hall"}}}))
        .unwrap()
    }

    fn slices() -> EndpointSlices {
        EndpointSlices::new(Arc::new(Mutex::new(Signs::new(Tick(0), Settings::default()))))
    }

    struct World {
        view: View,
        ids: Ids,
    }

    impl World {
        fn new(service: Object) -> Self {
            let mut world = Self { view: View::new(Revision(1)), ids: Ids::new(Rng::seeded(1, "ids")) };
            world.put(&SERVICES, service);
            world
        }
        fn put(&mut self, resource: &'static Resource, object: Object) {
            let key = Key::of(resource, &object);
            let op = Op { key, expect: crate::store::Expect::Any, change: Change::Put(object) };
            self.view.apply(self.view.revision().next(), Batch(vec![op]));
        }
        fn remove(&mut self, name: &str) {
            let key = Key::new(&PODS, "default", name);
            let op = Op { key, expect: crate::store::Expect::Any, change: Change::Delete };
            self.view.apply(self.view.revision().next(), Batch(vec![op]));
        }
        /// Writes what is to be written; how much that was.
        fn settle(&mut self) -> usize {
            let key = Key::new(&SERVICES, "default", "web");
            let plan = slices().reconcile(&self.view, &key, Now::default(), &mut self.ids);
            let count = plan.writes.len();
            self.view.apply(self.view.revision().next(), Batch(plan.writes));
            let again = slices().reconcile(&self.view, &key, Now::default(), &mut self.ids);
            assert!(again.is_idle(), "{again:?}");
            count
        }
        /// The addresses of each slice.
        fn slices(&self) -> Vec<Vec<String>> {
            let address = |entry: &Value| entry["addresses"][0].as_str().unwrap().to_owned();
            let slices = self.view.list(&ENDPOINT_SLICES, None);
            slices.map(|slice| slice.list_at(&["endpoints"]).iter().map(address).collect()).collect()
        }
    }

    #[test]
    fn a_service_without_pods_says_so_and_with_them_where_they_are() {
        let mut world = World::new(service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]})));
        assert_eq!((world.settle(), world.slices()), (1, vec![vec![]]));
        let empty = world.view.list(&ENDPOINT_SLICES, None).next().unwrap().name().to_owned();
        world.put(&PODS, pod("a", "10.0.0.1", true));
        world.put(&PODS, pod("b", "10.0.0.2", false));
        assert_eq!(world.settle(), 1);
        let slice = world.view.list(&ENDPOINT_SLICES, None).next().unwrap();
        assert_eq!(slice.name(), empty, "the same slice");
        assert_eq!(
            slice.to_value(),
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": empty, "generateName": "web-", "namespace": "default", "uid": slice.uid().0, "generation": 2,
                    "creationTimestamp": "1970-01-01T00:00:00Z", "resourceVersion": slice.revision().to_string(),
                    "labels": {"room": "hall", "kubernetes.io/service-name": "web",
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s1", "controller": true, "blockOwnerDeletion": true}]},
                "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false}, "nodeName": "n1",
                        "targetRef": {"kind": "Pod", "name": "a", "namespace": "default", "uid": "a"}},
                    {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": false, "terminating": false}, "nodeName": "n1",
                        "targetRef": {"kind": "Pod", "name": "b", "namespace": "default", "uid": "b"}}]})
        );
        world.remove("a");
        world.remove("b");
        assert_eq!((world.settle(), world.slices()), (1, vec![vec![]]));
    }

    #[test]
    fn after_a_start_a_service_has_no_slice_before_it_is_known_how_its_pods_are() {
        let mut world = World::new(service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]})));
        world.put(&PODS, pod("a", "10.0.0.1", false));
        let signs = Arc::new(Mutex::new(Signs::new(Tick(0), Settings::default())));
        let mut controller = EndpointSlices::new(signs.clone());
        let key = Key::new(&SERVICES, "default", "web");
        let mut look = |world: &mut World, tick: u64| {
            let now = Now { tick: Tick(tick), ..Now::default() };
            controller.reconcile(&world.view, &key, now, &mut world.ids)
        };
        signs.lock().unwrap().await_pods([Uid::from("a"), Uid::from("of another service")]);
        let plan = look(&mut world, 1000);
        assert!(plan.is_idle() && plan.look_again == Some(Tick(30_000)), "{plan:?}");
        assert_eq!(look(&mut world, 30_000).writes.len(), 1, "not for ever");
        signs.lock().unwrap().pods_told(&[Uid::from("a")]);
        assert_eq!(look(&mut world, 1001).writes.len(), 1, "its own pods are enough");
    }

    #[test]
    fn slices_are_filled_and_a_change_touches_only_its_own() {
        let mut world = World::new(service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]})));
        for number in 0..250 {
            world.put(&PODS, pod(&format!("p{number:03}"), &format!("10.0.0.{number}"), true));
        }
        world.settle();
        let mut sizes: Vec<usize> = world.slices().iter().map(Vec::len).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [50, 100, 100]);
        world.put(&PODS, pod("p007", "10.0.0.7", false));
        assert_eq!(world.settle(), 1);
        world.remove("p003");
        world.put(&PODS, pod("new", "10.0.1.1", true));
        assert!(world.settle() <= 2);
        assert_eq!(world.slices().iter().map(Vec::len).sum::<usize>(), 250);
    }

    #[test]
    fn pods_with_other_ports_are_in_other_slices() {
        let mut world = World::new(service(json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]})));
        let mut other = pod("b", "10.0.0.2", true);
        other.set_at(&["spec", "containers"], json!([{"ports": [{"name": "web", "containerPort": 9000}]}]));
        world.put(&PODS, pod("a", "10.0.0.1", true));
        world.put(&PODS, other);
        world.settle();
        assert_eq!(world.slices().len(), 2);
        world.remove("b");
        world.settle();
        assert_eq!(world.slices(), [["10.0.0.1"]]);
    }

    #[test]
    fn a_dual_stack_service_has_slices_of_each_family() {
        let spec = |families: Value| json!({"selector": {"app": "web"}, "ports": [{"port": 80}], "ipFamilies": families});
        let mut world = World::new(service(spec(json!(["IPv4"]))));
        let mut both = pod("a", "10.0.0.1", true);
        both.set_at(&["status", "podIPs"], json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]));
        world.put(&PODS, both);
        world.put(&PODS, pod("b", "10.0.0.2", true));
        world.settle();
        let told = |world: &World| {
            let slices = world.view.list(&ENDPOINT_SLICES, None);
            let mut told: Vec<String> = slices
                .zip(world.slices())
                .map(|(slice, addresses)| format!("{} {}", slice.str_at(&["addressType"]), addresses.join(",")))
                .collect();
            told.sort();
            told
        };
        assert_eq!(told(&world), ["IPv4 10.0.0.1,10.0.0.2"]);
        let name = world.view.list(&ENDPOINT_SLICES, None).next().unwrap().name().to_owned();
        world.put(&SERVICES, service(spec(json!(["IPv4", "IPv6"]))));
        assert_eq!(world.settle(), 1, "the other one is left alone");
        assert_eq!(told(&world), ["IPv4 10.0.0.1,10.0.0.2", "IPv6 fd00::1"]);
        world.put(&SERVICES, service(spec(json!(["IPv4"]))));
        world.settle();
        assert_eq!(told(&world), ["IPv4 10.0.0.1,10.0.0.2"]);
        assert_eq!(world.view.list(&ENDPOINT_SLICES, None).next().unwrap().name(), name);
    }

    #[test]
    fn nothing_is_kept_for_who_says_it_by_hand_or_is_only_a_name() {
        let mut world = World::new(service(json!({"selector": {"app": "web"}, "ports": [{"port": 80}]})));
        world.settle();
        for spec in [json!({"ports": [{"port": 80}]}), json!({"type": "ExternalName", "selector": {"app": "web"}})] {
            world.put(&SERVICES, service(spec));
            world.settle();
            assert!(world.slices().is_empty());
        }
    }
}
