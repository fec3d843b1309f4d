//! A namespace that is deleted goes when everything in it is gone.
//!
//! In:       a namespace with a deletion time, and what stands in it.
//! Out:      deletions, a batch at a time; at last the namespace itself.
//! Source:   kube-controller-manager `namespaced_resources_deleter.go`. There the namespace is kept by `spec.finalizers`; so
//!           it is here, until the last look finds nothing.

use super::deletion::{Propagation, delete};
use super::{Ids, Plan, Reconciler, update};
use crate::api::registry::{ALL, NAMESPACES};
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::batch::MOST;
use crate::store::{ChangeEvent, Op, View};

/// The finalizer in `spec` that stands for the content.
const CONTENT: &str = "kubernetes";

/// The controller.
pub struct Namespaces;

impl Reconciler for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == NAMESPACES || resource.namespaced
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        let name = if *event.key.resource == NAMESPACES { &event.key.name } else { &event.key.namespace };
        let key = Key::new(&NAMESPACES, "", name);
        // Only what comes or goes matters, and only where all has to go.
        let counts = event.before.is_none() || event.after.is_none() || *event.key.resource == NAMESPACES;
        let going = counts && view.get(&key).is_some_and(|namespace| namespace.is_deleting());
        if going { vec![key] } else { Vec::new() }
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&NAMESPACES, None).filter(|namespace| namespace.is_deleting()).map(|one| Key::of(&NAMESPACES, one)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let Some(namespace) = view.get(key).filter(|namespace| namespace.is_deleting()) else { return Plan::nothing() };
        let mut plan = Plan::nothing();
        let mut content = 0_usize;
        for resource in ALL.iter().copied().filter(|resource| resource.namespaced) {
            for object in view.list(resource, Some(&key.name)) {
                content += 1;
                if plan.writes.len() < MOST {
                    plan.writes.extend(delete(&Key::of(resource, object), object, Propagation::Background, now.wall));
                }
            }
        }
        if content > 0 {
            if plan.writes.len() == MOST {
                plan.look_by(now.tick);
            }
            if namespace.str_at(&["status", "phase"]) != "Terminating" && plan.writes.len() < MOST {
                let mut after = Object::clone(namespace);
                after.set_at(&["status", "phase"], "Terminating");
                plan.writes.push(update(key, namespace, after));
            }
            return plan;
        }
        let others = namespace.list_at(&["spec", "finalizers"]).iter().filter(|name| name.as_str() != Some(CONTENT)).cloned();
        let others: Vec<_> = others.collect();
        if others.is_empty() && namespace.finalizers().next().is_none() {
            plan.writes.push(Op::delete(key.clone(), namespace.revision()));
        } else if others.len() < namespace.list_at(&["spec", "finalizers"]).len() {
            let mut after = Object::clone(namespace);
            after.set_at(&["spec", "finalizers"], others);
            plan.writes.push(update(key, namespace, after));
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::api::registry::{CONFIG_MAPS, PODS};
    use crate::rng::Rng;
    use crate::store::{Batch, Change};
    use serde_json::{Value, json};

    fn put(resource: &'static Resource, value: Value) -> Op {
        let object = Object::from_value(value).unwrap();
        Op::create(Key::of(resource, &object), object)
    }

    #[test]
    fn a_namespace_goes_after_its_content() {
        let mut view = View::new(Revision(1));
        let mut ops = vec![
            put(
                &NAMESPACES,
                json!({"metadata": {"name": "shop", "deletionTimestamp": "1970-01-01T00:00:00Z"}, "spec": {"finalizers": ["kubernetes"]}}),
            ),
            put(&NAMESPACES, json!({"metadata": {"name": "shopping"}})),
            put(&CONFIG_MAPS, json!({"metadata": {"name": "other", "namespace": "shopping"}})),
            put(
                &PODS,
                json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": {"nodeName": "a"}, "status": {"phase": "Running"}}),
            ),
        ];
        ops.extend((0..150).map(|n| put(&CONFIG_MAPS, json!({"metadata": {"name": format!("c{n}"), "namespace": "shop"}}))));
        view.apply(Revision(2), Batch(ops));
        let shop = Key::new(&NAMESPACES, "", "shop");
        let decide = |view: &View| Namespaces.reconcile(view, &shop, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
        for _ in 0..5 {
            let plan = decide(&view);
            assert!(plan.writes.len() <= MOST);
            let next = view.revision().next();
            if !plan.writes.is_empty() {
                view.apply(next, Batch(plan.writes));
            }
        }
        assert_eq!(view.len(), 4, "its pod is stopping: {:?}", view.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>());
        assert_eq!(view.get(&shop).unwrap().str_at(&["status", "phase"]), "Terminating");
        let pod = Key::new(&PODS, "shop", "p");
        let gone =
            view.apply(view.revision().next(), Op { key: pod, expect: crate::store::Expect::Any, change: Change::Delete }.into());
        assert_eq!(Namespaces.keys(&gone[0], &view), [shop.clone()]);
        let plan = decide(&view);
        assert!(matches!(plan.writes[..], [Op { change: Change::Delete, .. }]));
        view.apply(view.revision().next(), Batch(plan.writes));
        assert_eq!(view.len(), 2, "the neighbour stays");
    }
}
