//! Names in the local network (`bramble/mdns`): who gets none is told why.
//!
//! In:       the services, our ingresses, the nodes' names.
//! Out:      a warning for each name that is not answered, for as long as it is so.
//! Never:    answers (`agent/mdns`); the nodes decide by the same [`claims`].
//!
//! There is one key for all: a name is refused because of another's.

use std::collections::BTreeSet;

use super::{Ids, Plan, Reconciler};
use crate::api::core::event::Occurrence;
use crate::api::networking::ingress::{Ingress, is_ours};
use crate::api::networking::local_name::{ANNOTATION, Of, claims};
use crate::api::registry::{INGRESS_CLASSES, INGRESSES, NODES, SERVICES};
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};

const COMPONENT: &str = "local-names";

/// The controller.
pub struct LocalNames;

impl Reconciler for LocalNames {
    fn name(&self) -> &'static str {
        "local_names"
    }

    fn watches(&self, resource: &Resource) -> bool {
        [&SERVICES, &INGRESSES, &INGRESS_CLASSES, &NODES].contains(&resource)
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        let asks = |object: &Object| object.annotation(ANNOTATION).is_some();
        let matters = if *event.key.resource == NODES {
            event.before.is_none() != event.after.is_none()
        } else {
            *event.key.resource == INGRESS_CLASSES
                || [&event.before, &event.after].into_iter().any(|side| side.as_deref().is_some_and(asks))
        };
        if matters { self.all_keys(view) } else { Vec::new() }
    }

    fn all_keys(&self, _view: &View) -> Vec<Key> {
        vec![Key::new(&SERVICES, "", "")]
    }

    fn reconcile(&mut self, view: &View, _key: &Key, _now: Now, _ids: &mut Ids) -> Plan {
        let mut plan = Plan::nothing();
        let class = |ingress: &Object| view.get(&Key::new(&INGRESS_CLASSES, "", Ingress(ingress).class()?)).map(AsRef::as_ref);
        let services = view.list(&SERVICES, None).map(|one| Of::Service(one));
        let ingresses = view.list(&INGRESSES, None).filter(|one| is_ours(class(one))).map(|one| Of::Ingress(one));
        let nodes: BTreeSet<&str> = view.list(&NODES, None).map(|node| node.name()).collect();
        for (of, words) in claims(services.chain(ingresses), &nodes).refused {
            if !of.object().is_deleting() {
                plan.standing.push(Occurrence::warning(of.object(), COMPONENT, "NoLocalName", words));
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Op};
    use serde_json::json;

    #[test]
    fn who_gets_no_name_is_told() {
        let mut view = View::new(Revision(0));
        let service = |name: &str, mdns: &str| {
            let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "home", "uid": name,
                "annotations": {ANNOTATION: mdns}}, "spec": {"type": "NodePort"}});
            let object = Object::from_value(object).unwrap();
            Op::create(Key::of(&SERVICES, &object), object)
        };
        view.apply(Revision(1), Batch(vec![service("a", "x"), service("b", "x"), service("c", "no way")]));
        let key = Key::new(&SERVICES, "", "");
        let plan = LocalNames.reconcile(&view, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
        let said: Vec<String> = plan.standing.iter().map(|event| format!("{}: {}", event.reason, event.message)).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("NoLocalName: x.local is not answered for it: service home/a has this name"), "{said:?}");
        assert!(said[1].contains("\"no way\" cannot be a name"), "{said:?}");
    }
}
