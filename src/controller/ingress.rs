//! Ingresses: at which addresses they are served, and what about them cannot work.
//!
//! In:       an ingress, its class, the services and secrets that it names, the nodes.
//! Out:      `status.loadBalancer.ingress`: the addresses of the nodes that serve it; a warning for each thing that is missing or wrong, for as long as it is so.
//! Never:    touches an ingress of another controller's class; decides where a request goes (`agent/ingress`).
//! Flow:     the ingresses that are ours go on to the nodes by `dispatcher/net.rs`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Ids, Plan, Reconciler, update};
use crate::api::core::event::Occurrence;
use crate::api::core::node::Node;
use crate::api::core::service::Service;
use crate::api::networking::ingress::{BRAMBLE_CLASS, CONTROLLER, Ingress, PortRef, Tls, is_ours};
use crate::api::registry::{INGRESS_CLASSES, INGRESSES, NODES, SECRETS, SERVICES};
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};
use crate::tls;

const COMPONENT: &str = "ingress-controller";

/// The controller.
pub struct Ingresses;

impl Reconciler for Ingresses {
    fn name(&self) -> &'static str {
        "ingress"
    }

    fn watches(&self, resource: &Resource) -> bool {
        [&INGRESSES, &INGRESS_CLASSES, &SERVICES, &SECRETS, &NODES].contains(&resource)
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        let (resource, name) = (event.key.resource, &*event.key.name);
        if *resource == INGRESSES {
            return vec![event.key.clone()];
        }
        if *resource == NODES {
            let of = |side: &'_ Option<std::sync::Arc<Object>>| {
                side.as_deref().and_then(|node| Node(node).reached_at()).map(str::to_owned)
            };
            return if of(&event.before) == of(&event.after) { Vec::new() } else { self.all_keys(view) };
        }
        if *resource == INGRESS_CLASSES {
            return self.all_keys(view);
        }
        let names_it = |ingress: &&std::sync::Arc<Object>| {
            let ingress = Ingress(ingress);
            if *resource == SERVICES {
                ingress.backends().any(|backend| backend.service == name)
            } else {
                ingress.tls().any(|tls| tls.secret() == Some(name))
            }
        };
        let there = view.list(&INGRESSES, Some(&event.key.namespace));
        there.filter(names_it).map(|ingress| Key::of(&INGRESSES, ingress)).collect()
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&INGRESSES, None).map(|ingress| Key::of(&INGRESSES, ingress)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, _now: Now, _ids: &mut Ids) -> Plan {
        let mut plan = Plan::nothing();
        let Some(ingress) = view.get(key).filter(|ingress| !ingress.is_deleting()) else { return plan };
        let mut warn = |reason: &str, words: String| plan.standing.push(Occurrence::warning(ingress, COMPONENT, reason, words));
        match class_of(view, ingress) {
            Class::Ours => {}
            Class::Others => return plan,
            Class::None => {
                warn(
                    "NoClass",
                    format!(
                        "nobody serves this ingress: it names no class, and no class is the default; name \"{BRAMBLE_CLASS}\""
                    ),
                );
                return plan;
            }
            Class::Unknown(name) => {
                let words = format!(
                    "nobody serves this ingress: there is no ingress class \"{name}\"; name \"{BRAMBLE_CLASS}\", or make an IngressClass \"{name}\" with the controller {CONTROLLER}"
                );
                warn("UnknownClass", words);
                return plan;
            }
        }
        for (reason, words) in faults(view, ingress) {
            warn(reason, words);
        }
        let addresses: BTreeSet<&str> = view.list(&NODES, None).filter_map(|node| Node(node).reached_at()).collect();
        let entries: Vec<Value> = addresses.into_iter().map(|ip| json!({"ip": ip})).collect();
        let balancer = if entries.is_empty() { json!({}) } else { json!({"ingress": entries}) };
        if ingress.at(&["status", "loadBalancer"]) != Some(&balancer) {
            let mut after = ingress.as_ref().clone();
            after.set_at(&["status", "loadBalancer"], balancer);
            plan.writes.push(update(key, ingress, after));
        }
        plan
    }
}

/// Whose an ingress is.
enum Class<'a> {
    Ours,
    Others,
    None,
    Unknown(&'a str),
}

fn class_of<'a>(view: &View, ingress: &'a Object) -> Class<'a> {
    let Some(name) = Ingress(ingress).class() else { return Class::None };
    match view.get(&Key::new(&INGRESS_CLASSES, "", name)) {
        None => Class::Unknown(name),
        Some(class) if is_ours(Some(class)) => Class::Ours,
        Some(_) => Class::Others,
    }
}

/// What of an ingress cannot work, each once: a reason and words.
fn faults(view: &View, ingress: &Object) -> BTreeSet<(&'static str, String)> {
    let mut faults = BTreeSet::new();
    let namespace = ingress.namespace();
    for secret in Ingress(ingress).tls().filter_map(Tls::secret) {
        let found = view.get(&Key::new(&SECRETS, namespace, secret));
        let provider = rustls::crypto::ring::default_provider();
        let read = match found {
            Some(found) => tls::of_secret(|key| found.str_at(&["data", key]), &provider).map(drop),
            None => Err(tls::NoCertificate::Missing),
        };
        if let Err(error) = read {
            let words = format!(
                "secret \"{secret}\" gives no certificate: {error}; until it does, its hosts are shown one that nobody trusts"
            );
            faults.insert(("NoCertificate", words));
        }
    }
    for backend in Ingress(ingress).backends() {
        let name = backend.service;
        let Some(service) = view.get(&Key::new(&SERVICES, namespace, name)) else {
            faults.insert(("NoService", format!("there is no service \"{name}\": its requests are answered with 503")));
            continue;
        };
        if Service(service).is_external_name() {
            let words = format!(
                "service \"{name}\" is only a name of something outside (ExternalName), which ingresses here do not serve: make a service without a selector, and its Endpoints by hand"
            );
            faults.insert(("NoService", words));
            continue;
        }
        let fits = |port: &crate::api::core::service::ServicePort<'_>| match backend.port {
            PortRef::Name(name) => port.name() == name,
            PortRef::Number(number) => port.port() == Some(number),
        };
        if !Service(service).ports().any(|port| port.protocol() == "TCP" && fits(&port)) {
            let port = match backend.port {
                PortRef::Name(name) => format!("\"{name}\""),
                PortRef::Number(number) => number.to_string(),
            };
            faults.insert(("NoPort", format!("service \"{name}\" has no TCP port {port}: its requests are answered with 503")));
        }
    }
    if Ingress(ingress).names_a_resource() {
        faults.insert(("NoService", "a backend is a resource and no service, which ingresses here do not serve".to_owned()));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Op};

    fn create(resource: &'static Resource, value: Value) -> Op {
        let object = Object::from_value(value).unwrap();
        Op::create(Key::of(resource, &object), object)
    }

    fn node(name: &str, ip: &str, ready: &str, runtime: &str) -> Op {
        create(
            &NODES,
            json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}],
                "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": ip}],
                "nodeInfo": {"containerRuntimeVersion": runtime}}}),
        )
    }

    fn asked(spec: Value, more: Vec<Op>) -> (Vec<String>, Option<Value>) {
        let mut view = View::new(Revision(0));
        let class = |name: &str, controller: &str| {
            create(&INGRESS_CLASSES, json!({"metadata": {"name": name}, "spec": {"controller": controller}}))
        };
        let mut ops = vec![
            class("bramble", CONTROLLER),
            class("nginx", "k8s.io/ingress-nginx"),
            node("a", "192.168.1.9", "True", "docker://27"),
            node("b", "192.168.1.8", "True", "docker://27"),
            node("same", "192.168.1.8", "True", "docker://27"),
            node("lost", "192.168.1.7", "Unknown", "docker://27"),
            node("model", "192.168.1.6", "True", "simulated://"),
            create(
                &SERVICES,
                json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"name": "http", "port": 80}]}}),
            ),
            create(
                &SERVICES,
                json!({"metadata": {"name": "far", "namespace": "default"}, "spec": {"type": "ExternalName", "ports": [{"port": 80}]}}),
            ),
            create(
                &INGRESSES,
                json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "i", "namespace": "default"}, "spec": spec}),
            ),
        ];
        ops.extend(more);
        view.apply(Revision(1), Batch(ops));
        let key = Key::new(&INGRESSES, "default", "i");
        let plan = Ingresses.reconcile(&view, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
        let said = plan.standing.iter().map(|event| format!("{}: {}", event.reason, event.message)).collect();
        let status = plan.writes.first().and_then(|op| match &op.change {
            crate::store::Change::Put(object) => object.at(&["status", "loadBalancer", "ingress"]).cloned(),
            crate::store::Change::Delete => None,
        });
        (said, status)
    }

    fn to(service: &str, port: Value) -> Value {
        json!({"ingressClassName": "bramble", "defaultBackend": {"service": {"name": service, "port": port}}})
    }

    #[test]
    fn it_is_reached_at_the_nodes_that_serve() {
        let (said, status) = asked(to("web", json!({"number": 80})), vec![]);
        assert_eq!((said, status), (vec![], Some(json!([{"ip": "192.168.1.8"}, {"ip": "192.168.1.9"}]))));
    }

    #[test]
    fn what_cannot_work_is_said_in_words() {
        let mut tls = to("web", json!({"name": "http"}));
        tls["tls"] = json!([{"secretName": "gone"}, {"secretName": "bad"}, {"hosts": ["a.b"]}]);
        let bad = create(
            &SECRETS,
            json!({"metadata": {"name": "bad", "namespace": "default"}, "data": {"tls.crt": "aGVsbG8=", "tls.key": "aGVsbG8="}}),
        );
        let (said, status) = asked(tls, vec![bad]);
        assert!(status.is_some());
        assert!(said[0].starts_with("NoCertificate: secret \"bad\" gives no certificate: its tls.crt is no PEM"), "{said:?}");
        assert!(said[1].starts_with("NoCertificate: secret \"gone\" gives no certificate: there is no such secret"), "{said:?}");
        assert_eq!(said.len(), 2);
        for (spec, words) in [
            (
                to("missing", json!({"number": 80})),
                "NoService: there is no service \"missing\": its requests are answered with 503",
            ),
            (to("web", json!({"number": 81})), "NoPort: service \"web\" has no TCP port 81: its requests are answered with 503"),
            (
                to("web", json!({"name": "https"})),
                "NoPort: service \"web\" has no TCP port \"https\": its requests are answered with 503",
            ),
            (to("far", json!({"number": 80})), "NoService: service \"far\" is only a name of something outside"),
            (
                json!({"ingressClassName": "bramble", "defaultBackend": {"resource": {"kind": "K", "name": "n"}}}),
                "NoService: a backend is a resource",
            ),
        ] {
            let (said, _) = asked(spec.clone(), vec![]);
            assert!(said.len() == 1 && said[0].starts_with(words), "{spec}: {said:?}");
        }
    }

    #[test]
    fn of_other_classes_nothing_is_touched() {
        let with = |class: Value| {
            asked(json!({"ingressClassName": class, "defaultBackend": {"service": {"name": "x", "port": {"number": 1}}}}), vec![])
        };
        assert_eq!(with(json!("nginx")), (vec![], None));
        let (said, status) = with(json!("traefik"));
        assert!(
            status.is_none()
                && said[0].starts_with("UnknownClass: nobody serves this ingress: there is no ingress class \"traefik\"")
        );
        let (said, status) = with(Value::Null);
        assert!(status.is_none() && said[0].starts_with("NoClass: nobody serves this ingress: it names no class"));
    }
}
