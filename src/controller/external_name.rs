//! Services that are only a name: a warning for one that leads to nothing but itself.
//!
//! In:       a service of type ExternalName, and those that it leads to.
//! Out:      the event `ExternalNameLoop`, with the way written out.
//! Never:    answers names (`agent/dns`, which ends such a way by itself).

use crate::api::core::event::Occurrence;
use crate::api::core::service::Service;
use crate::api::registry::SERVICES;
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};

use super::{Ids, Plan, Reconciler};

const COMPONENT: &str = "service-controller";

/// The controller.
pub struct ExternalNames;

impl Reconciler for ExternalNames {
    fn name(&self) -> &'static str {
        "external_name"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == SERVICES
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        // A name may close a circle, or open one.
        let sides = [&event.before, &event.after].into_iter().flatten();
        if sides.into_iter().any(|side| Service(side).is_external_name()) { self.all_keys(view) } else { Vec::new() }
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        let names = view.list(&SERVICES, None).filter(|service| Service(service).is_external_name());
        names.map(|service| Key::of(&SERVICES, service)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, _now: Now, _ids: &mut Ids) -> Plan {
        let mut plan = Plan::nothing();
        let Some(service) = view.get(key).filter(|service| !service.is_deleting()) else { return plan };
        if let Some(way) = circle(view, service) {
            let words =
                format!("its name leads back to itself ({way}), so nobody finds an address: let externalName be another one");
            plan.standing.push(Occurrence::warning(service, COMPONENT, "ExternalNameLoop", words));
        }
        plan
    }
}

/// The way that an `ExternalName` takes, if it comes by a service that it was at before.
fn circle(view: &View, service: &Object) -> Option<String> {
    let mut way = vec![Key::of(&SERVICES, service)];
    let mut at: &Object = service;
    while Service(at).is_external_name() {
        let key = named(at.str_at(&["spec", "externalName"]))?;
        let again = way.contains(&key);
        way.push(key.clone());
        if again {
            return Some(way.iter().map(|key| format!("{}/{}", key.namespace, key.name)).collect::<Vec<_>>().join(" → "));
        }
        at = view.get(&key)?;
    }
    None
}

/// The service of such a name: `NAME.NAMESPACE.svc.DOMAIN`.
fn named(text: &str) -> Option<Key> {
    let mut labels = text.trim_end_matches('.').split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    (labels.next() == Some("svc")).then(|| Key::new(&SERVICES, namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Op};
    use serde_json::{Value, json};

    fn service(name: &str, spec: Value) -> Op {
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        let object = Object::from_value(object).unwrap();
        Op::create(Key::of(&SERVICES, &object), object)
    }

    /// The warnings about it.
    fn asked(name: &str, ops: Vec<Op>) -> Vec<String> {
        let mut view = View::new(Revision(0));
        view.apply(Revision(1), Batch(ops));
        let key = Key::new(&SERVICES, "default", name);
        let plan = ExternalNames.reconcile(&view, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
        assert!(plan.writes.is_empty());
        plan.standing.iter().map(|event| format!("{}: {}", event.reason, event.message)).collect()
    }

    #[test]
    fn names_that_go_in_a_circle_are_said() {
        let name = |name: &str, to: &str| service(name, json!({"type": "ExternalName", "externalName": to}));
        let all = || {
            vec![
                name("own", "own.default.svc.cluster.local"),
                name("a", "b.default.svc.cluster.local."),
                name("b", "a.default.svc.cluster.local"),
                name("into", "a.default.svc.cluster.local"),
                name("good", "plain.default.svc.cluster.local"),
                name("far", "example.com"),
                name("nobody", "gone.default.svc.cluster.local"),
                service("plain", json!({"type": "ClusterIP"})),
            ]
        };
        for (of, way) in [
            ("own", "default/own → default/own"),
            ("a", "default/a → default/b → default/a"),
            ("into", "default/into → default/a → default/b → default/a"),
        ] {
            let said = asked(of, all());
            assert!(
                said.len() == 1 && said[0].starts_with(&format!("ExternalNameLoop: its name leads back to itself ({way})")),
                "{said:?}"
            );
        }
        for of in ["good", "far", "nobody", "plain"] {
            assert_eq!(asked(of, all()), Vec::<String>::new(), "{of}");
        }
    }
}
