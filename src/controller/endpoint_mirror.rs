//! Endpoints that were made by hand, as endpoint slices: so that who sends traffic reads only those.
//!
//! In:       `Endpoints` of a service without a selector, the slices that mirror them.
//! Out:      one slice for each subset and family of addresses, called after them.
//! Source:   kube-controller-manager `endpointslicemirroring`. Differs: names are fixed, so that each pass finds its own again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::endpoint_slice::{MANAGED_BY, labels, owned};
use super::{Ids, Plan, Reconciler, bump_generation, update};
use crate::api::core::service::{Service, family_of};
use crate::api::discovery::endpoint_slice::SERVICE_NAME;
use crate::api::registry::{ENDPOINT_SLICES, ENDPOINTS, SERVICES};
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, Op, View};

/// As upstream's.
pub const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Who makes the slices as well says so with this label.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Source: upstream's `--mirroring-max-endpoints-per-subset`.
const MOST: usize = 1000;

/// The controller.
pub struct EndpointMirror;

impl Reconciler for EndpointMirror {
    fn name(&self) -> &'static str {
        "endpoint_mirror"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == SERVICES || *resource == ENDPOINTS || *resource == ENDPOINT_SLICES
    }

    fn keys(&self, event: &ChangeEvent, _view: &View) -> Vec<Key> {
        if *event.key.resource != ENDPOINT_SLICES {
            return vec![Key::new(&SERVICES, &event.key.namespace, &event.key.name)];
        }
        let sides = [&event.before, &event.after].into_iter().flatten().filter(|slice| slice.label(MANAGED_BY) == Some(MANAGER));
        let names: BTreeSet<&str> = sides.filter_map(|slice| slice.label(SERVICE_NAME)).collect();
        names.into_iter().map(|name| Key::new(&SERVICES, &event.key.namespace, name)).collect()
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&SERVICES, None).map(|service| Key::of(&SERVICES, service)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan {
        let Some(service) = view.get(key).filter(|service| !service.is_deleting()) else { return Plan::nothing() };
        let endpoints = view.get(&Key::new(&ENDPOINTS, &key.namespace, &key.name));
        let by_hand = Service(service).selector().is_none() && !Service(service).is_external_name();
        let mirrored = endpoints.filter(|endpoints| by_hand && endpoints.label(SKIP) != Some("true"));
        let mut wanted = mirrored.map(|endpoints| slices(service, endpoints)).unwrap_or_default();
        let mut plan = Plan::nothing();
        let ours = |slice: &&std::sync::Arc<Object>| {
            slice.label(MANAGED_BY) == Some(MANAGER) && slice.label(SERVICE_NAME) == Some(&*key.name) && !slice.is_deleting()
        };
        for slice in view.list(&ENDPOINT_SLICES, Some(&key.namespace)).filter(ours) {
            let place = Key::of(&ENDPOINT_SLICES, slice);
            let Some(parts) = wanted.remove(slice.name()) else {
                plan.writes.push(Op::delete(place, slice.revision()));
                continue;
            };
            let next = with(slice.as_ref().clone(), &parts);
            if next != **slice {
                let mut next = next;
                bump_generation(&mut next);
                plan.writes.push(update(&place, slice, next));
            }
        }
        for (name, parts) in wanted {
            let place = Key::new(&ENDPOINT_SLICES, &key.namespace, &name);
            // Somebody else has a slice of that name: his stays.
            if view.get(&place).is_some() {
                continue;
            }
            let slice = owned(service, &name, now, ids);
            plan.writes.push(Op::create(place, with(slice, &parts)));
        }
        plan
    }
}

/// What a slice says, by its fields.
type Parts = Vec<(&'static [&'static str], Value)>;

fn with(mut slice: Object, parts: &Parts) -> Object {
    for (path, value) in parts {
        slice.set_at(path, value.clone());
    }
    slice
}

fn slices(service: &Object, endpoints: &Object) -> BTreeMap<String, Parts> {
    let mut slices = BTreeMap::new();
    for (number, subset) in endpoints.list_at(&["subsets"]).iter().enumerate() {
        let list = |key: &str| subset.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let ready = list("addresses").iter().map(|address| (address, true));
        let all = ready.chain(list("notReadyAddresses").iter().map(|address| (address, false)));
        let mut families: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (address, ready) in all.take(MOST) {
            let ip = address.get("ip").and_then(Value::as_str).unwrap_or_default();
            let Ok(family) = ip.parse().map(family_of) else { continue };
            let mut endpoint = json!({"addresses": [ip], "conditions": {"ready": ready}});
            for key in ["hostname", "nodeName", "targetRef"] {
                if let (Some(value), Some(map)) = (address.get(key), endpoint.as_object_mut()) {
                    map.insert(key.to_owned(), value.clone());
                }
            }
            families.entry(family).or_default().push(endpoint);
        }
        let ports: Vec<Value> = list("ports").iter().map(port).collect();
        for (family, list) in families {
            let name = format!("{}-{}-{number}", service.name(), family.to_ascii_lowercase());
            let parts: Parts = vec![
                (&["addressType"], family.into()),
                (&["endpoints"], list.into()),
                (&["ports"], ports.clone().into()),
                (&["metadata", "labels"], labels(service, MANAGER).into()),
            ];
            slices.insert(name, parts);
        }
    }
    slices
}

/// A port always has a name and a protocol here.
fn port(port: &Value) -> Value {
    let mut port = port.clone();
    if let Some(map) = port.as_object_mut() {
        map.entry("name").or_insert_with(|| "".into());
        map.entry("protocol").or_insert_with(|| "TCP".into());
    }
    port
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Change, Expect};

    #[test]
    fn what_was_made_by_hand_is_mirrored_as_long_as_it_is_there() {
        let service = |spec: Value| {
            Object::from_value(json!({"apiVersion": "v1", "kind": "Service", "spec": spec,
                "metadata": {"name": "nas", "namespace": "default", "uid": "s1"}}))
            .unwrap()
        };
        let endpoints = |metadata: Value, subsets: Value| {
            let mut object = Object::from_value(json!({"metadata": metadata, "subsets": subsets})).unwrap();
            object.set_at(&["metadata", "name"], "nas");
            object.set_at(&["metadata", "namespace"], "default");
            object
        };
        let subset = json!([{"addresses": [{"ip": "192.168.1.9"}, {"ip": "fd00::9"}], "notReadyAddresses": [{"ip": "192.168.1.8"}],
            "ports": [{"port": 445}]}]);
        let by_hand = service(json!({"ports": [{"port": 445}]}));
        let key = Key::of(&SERVICES, &by_hand);
        let mut view = View::new(Revision(1));
        let mut ids = Ids::new(Rng::seeded(1, "ids"));
        for (what, service, endpoints, expected) in [
            ("by hand", by_hand.clone(), endpoints(json!({}), subset.clone()), vec!["nas-ipv4-0:2", "nas-ipv6-0:1"]),
            ("the same again", by_hand.clone(), endpoints(json!({}), subset.clone()), vec!["nas-ipv4-0:2", "nas-ipv6-0:1"]),
            (
                "one less",
                by_hand.clone(),
                endpoints(json!({}), json!([{"addresses": [{"ip": "192.168.1.9"}]}])),
                vec!["nas-ipv4-0:1"],
            ),
            ("not wanted", by_hand.clone(), endpoints(json!({"labels": {SKIP: "true"}}), subset.clone()), vec![]),
            (
                "of pods",
                service(json!({"selector": {"app": "nas"}, "ports": [{"port": 445}]})),
                endpoints(json!({}), subset.clone()),
                vec![],
            ),
        ] {
            for (resource, object) in [(&SERVICES, service), (&ENDPOINTS, endpoints)] {
                let op = Op { key: Key::of(resource, &object), expect: Expect::Any, change: Change::Put(object) };
                view.apply(view.revision().next(), Batch(vec![op]));
            }
            let plan = EndpointMirror.reconcile(&view, &key, Now::default(), &mut ids);
            view.apply(view.revision().next(), Batch(plan.writes));
            let found: Vec<String> = view
                .list(&ENDPOINT_SLICES, None)
                .map(|slice| format!("{}:{}", slice.name(), slice.list_at(&["endpoints"]).len()))
                .collect();
            assert_eq!(found, expected, "{what}");
            assert!(EndpointMirror.reconcile(&view, &key, Now::default(), &mut ids).is_idle(), "{what}");
        }
    }
}
