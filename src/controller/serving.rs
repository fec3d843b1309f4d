//! Which pods serve a service, and at which ports.
//!
//! In:       the view, a service.
//! Out:      an [`Endpoint`] for each pod that it selects and that has an address.
//! Source:   kube-controller-manager `endpointslice/utils.go` (`podToEndpoint`, `getEndpointPorts`), `ShouldPodBeInEndpoints`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::signs::Signs;
use crate::api::core::pod::Pod;
use crate::api::core::service::{Service, family_of};
use crate::api::registry::{PODS, SERVICES};
use crate::api::{Key, Object, Uid};
use crate::clock::Tick;
use crate::store::{ChangeEvent, View};

/// One port of an endpoint. In the order of the API: by name, protocol, number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndpointPort {
    /// The service's name for it; may be empty.
    pub(super) name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub(super) protocol: String,
    /// At the pod.
    pub(super) port: u16,
    /// What is spoken on it, when that is said.
    pub(super) app_protocol: Option<String>,
}

impl EndpointPort {
    /// As the API has it.
    pub(super) fn value(&self) -> Value {
        let mut value = json!({"name": self.name, "port": self.port, "protocol": self.protocol});
        if let (Some(protocol), Some(map)) = (&self.app_protocol, value.as_object_mut()) {
            map.insert("appProtocol".to_owned(), protocol.as_str().into());
        }
        value
    }
}

/// A pod, as a service sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its address in the family that was asked for.
    pub(super) ip: String,
    /// Whose address it is.
    pub(super) pod: Uid,
    /// Its name.
    pub(super) name: String,
    /// Its namespace.
    pub(super) namespace: String,
    /// Where it runs.
    pub(super) node: String,
    /// Its name in DNS below the service's, if it wants one.
    pub(super) hostname: Option<String>,
    /// Where it serves.
    pub(super) ports: Vec<EndpointPort>,
    /// It gets traffic.
    pub(super) ready: bool,
    /// It could serve, be it on its way out.
    pub(super) serving: bool,
    /// It is on its way out.
    pub(super) terminating: bool,
}

impl Endpoint {
    /// The reference to its pod, as the API has it.
    pub(super) fn target(&self) -> Value {
        json!({"kind": "Pod", "name": self.name, "namespace": self.namespace, "uid": self.pod.0})
    }
}

/// The endpoints of a service in one family of addresses, by address.
pub(super) fn endpoints_of(view: &View, object: &Object, family: &str) -> Vec<Endpoint> {
    let service = Service(object);
    let Some(selector) = service.selector() else { return Vec::new() };
    let mut all: Vec<Endpoint> = view
        .list(&PODS, Some(object.namespace()))
        .filter(|pod| selector.matches(|key| pod.label(key)) && !Pod(pod).is_terminal())
        .filter_map(|pod| endpoint(service, pod, family))
        .collect();
    all.sort_by(|a, b| a.ip.cmp(&b.ip).then_with(|| a.pod.cmp(&b.pod)));
    all
}

fn endpoint(service: Service<'_>, pod: &Object, family: &str) -> Option<Endpoint> {
    let is_of = |ip: &&str| ip.parse().is_ok_and(|ip| family_of(ip) == family);
    let listed = pod.list_at(&["status", "podIPs"]).iter().filter_map(|entry| entry.get("ip")?.as_str());
    let ip = listed.chain([pod.str_at(&["status", "podIP"])]).find(is_of)?;
    let (serving, terminating) = (Pod(pod).is_ready(), pod.is_deleting());
    let below = pod.str_at(&["spec", "subdomain"]) == service.0.name();
    let mut ports: Vec<EndpointPort> = service
        .ports()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name().to_owned(),
                protocol: port.protocol().to_owned(),
                // A pod without a port of that name does not serve it.
                port: port.target(pod)?,
                app_protocol: port.app_protocol().map(str::to_owned),
            })
        })
        .collect();
    ports.sort();
    Some(Endpoint {
        ip: ip.to_owned(),
        pod: pod.uid(),
        name: pod.name().to_owned(),
        namespace: pod.namespace().to_owned(),
        node: pod.str_at(&["spec", "nodeName"]).to_owned(),
        hostname: Some(pod.str_at(&["spec", "hostname"])).filter(|name| below && !name.is_empty()).map(str::to_owned),
        ports,
        ready: service.publishes_not_ready() || (serving && !terminating),
        serving,
        terminating,
    })
}

/// The services that a change of a service or a pod concerns. A change of a pod that no service can see concerns none.
pub(super) fn services_of(event: &ChangeEvent, view: &View) -> Vec<Key> {
    if *event.key.resource == SERVICES {
        return vec![event.key.clone()];
    }
    if event.before.as_deref().map(seen) == event.after.as_deref().map(seen) {
        return Vec::new();
    }
    let sides: Vec<&Object> = [&event.before, &event.after].into_iter().flatten().map(AsRef::as_ref).collect();
    let selects = |service: &&std::sync::Arc<Object>| {
        let selector = Service(service).selector();
        selector.is_some_and(|selector| sides.iter().any(|pod| selector.matches(|key| pod.label(key))))
    };
    view.list(&SERVICES, Some(&event.key.namespace)).filter(selects).map(|service| Key::of(&SERVICES, service)).collect()
}

/// The services that one of these pods serves, or could.
pub(super) fn services_of_pods(view: &View, pods: &[Uid]) -> BTreeSet<Key> {
    let pods: Vec<&Object> = pods.iter().filter_map(|uid| view.by_uid(uid)).map(|(_, pod)| pod.as_ref()).collect();
    let namespaces: BTreeSet<&str> = pods.iter().map(|pod| pod.namespace()).collect();
    let services = namespaces.into_iter().flat_map(|namespace| view.list(&SERVICES, Some(namespace)));
    let selects = |service: &&Arc<Object>| {
        let of_namespace = pods.iter().filter(|pod| pod.namespace() == service.namespace());
        let selector = Service(service).selector();
        selector.is_some_and(|selector| of_namespace.into_iter().any(|pod| selector.matches(|key| pod.label(key))))
    };
    services.filter(selects).map(|service| Key::of(&SERVICES, service)).collect()
}

/// Until when nothing is said of where a service is served, because of one of its pods no node has said yet how it is: after a start of
/// the master that is not known, and "nobody serves" would be a lie that breaks what works. `None`: it may be said.
pub(super) fn unknown_until(view: &View, service: &Object, signs: &Mutex<Signs>, now: Tick) -> Option<Tick> {
    let signs = signs.lock().unwrap_or_else(PoisonError::into_inner);
    if signs.all_told(now) {
        return None;
    }
    let selector = Service(service).selector()?;
    let pods = view.list(&PODS, Some(service.namespace())).filter(|pod| selector.matches(|key| pod.label(key)));
    pods.filter_map(|pod| signs.untold_until(&pod.uid(), now)).next()
}

/// What a service sees of a pod.
fn seen(pod: &Object) -> impl PartialEq + '_ {
    let status = (pod.at(&["status", "podIP"]), pod.at(&["status", "podIPs"]));
    let spec = pod.at(&["spec"]);
    (Pod(pod).is_ready(), pod.is_deleting(), Pod(pod).is_terminal(), status, pod.at(&["metadata", "labels"]), spec)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pod of the label `app: web` with an address.
    pub(in crate::controller) fn pod(name: &str, ip: &str, ready: bool) -> Object {
        Object::from_value(json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_serves_when_it_is_ready_and_stays() {
        let service = |more: Value| {
            let mut spec = json!({"ports": [{"port": 80, "targetPort": "web"}]});
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            Object::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap()
        };
        let mut leaving = pod("c", "10.0.0.3", true);
        leaving.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
        for (what, more, pod, expected) in [
            ("ready", json!({}), pod("a", "10.0.0.1", true), (true, true, false)),
            ("not ready", json!({}), pod("b", "10.0.0.2", false), (false, false, false)),
            ("leaving", json!({}), leaving.clone(), (false, true, true)),
            ("published", json!({"publishNotReadyAddresses": true}), pod("b", "10.0.0.2", false), (true, false, false)),
        ] {
            let service = service(more);
            let found = endpoint(Service(&service), &pod, "IPv4").unwrap();
            assert_eq!((found.ready, found.serving, found.terminating), expected, "{what}");
            assert_eq!(found.ports[0].port, 8080);
            assert!(endpoint(Service(&service), &pod, "IPv6").is_none());
        }
    }

    #[test]
    fn a_change_that_no_service_sees_concerns_none() {
        let service = Object::from_value(
            json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"selector": {"app": "web"}}}),
        )
        .unwrap();
        let view = View::with(crate::api::Revision(1), [(Key::of(&SERVICES, &service), service.into())]);
        let (ready, mut noted, unready) = (pod("a", "10.0.0.1", true), pod("a", "10.0.0.1", true), pod("a", "10.0.0.1", false));
        noted.set_at(&["metadata", "annotations", "seen"], "yes");
        for (after, count) in [(noted, 0), (unready, 1)] {
            let event = ChangeEvent {
                key: Key::of(&PODS, &ready),
                revision: crate::api::Revision(2),
                before: Some(ready.clone().into()),
                after: Some(after.into()),
            };
            assert_eq!(services_of(&event, &view).len(), count);
        }
    }
}
