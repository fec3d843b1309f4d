//! Claims that live and die with a pod: made from the template in the pod's `ephemeral` volumes.
//!
//! In:       a pod.
//! Out:      a claim a volume, owned by the pod, so that the garbage collector takes it along.
//! Source:   kube-controller-manager `volume/ephemeral`.

use serde_json::{Value, json};

use super::replicaset::owner_reference;
use super::{Ids, Plan, Reconciler};
use crate::api::core::event::Occurrence;
use crate::api::core::pod::Pod;
use crate::api::core::volume::{CLAIM_PROTECTION, Claim, claims_of, default_class, was_made_for};
use crate::api::registry::{PERSISTENT_VOLUME_CLAIMS, PODS, STORAGE_CLASSES};
use crate::api::time::rfc3339;
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, Op, View};

const COMPONENT: &str = "ephemeral_volume";

/// The controller.
pub struct EphemeralVolumes;

impl Reconciler for EphemeralVolumes {
    fn name(&self) -> &'static str {
        "ephemeral_volume"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == PODS
    }

    fn keys(&self, event: &ChangeEvent, _view: &View) -> Vec<Key> {
        let new = event.before.is_none();
        event.after.iter().filter(|pod| new && wants(pod)).map(|_| event.key.clone()).collect()
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&PODS, None).filter(|pod| wants(pod)).map(|pod| Key::of(&PODS, pod)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan {
        let mut plan = Plan::nothing();
        let Some(pod) = view.get(key).filter(|pod| Pod(pod).is_active()) else { return plan };
        for needed in claims_of(pod) {
            let Some(volume) = needed.ephemeral else { continue };
            let claim_key = Key::new(&PERSISTENT_VOLUME_CLAIMS, &key.namespace, &needed.name);
            match view.get(&claim_key) {
                Some(claim) if was_made_for(claim, pod) => {}
                Some(_) => {
                    let words = format!("PVC \"{}\" was not created for pod \"{}\" (pod is not owner)", needed.name, key.name);
                    plan.events.push(Occurrence::warning(pod, COMPONENT, "FailedBinding", words));
                }
                None => {
                    plan.writes.extend(made(view, pod, volume, &needed.name, now, ids).map(|claim| Op::create(claim_key, claim)));
                }
            }
        }
        plan
    }
}

fn wants(pod: &Object) -> bool {
    claims_of(pod).any(|claim| claim.ephemeral.is_some())
}

fn made(view: &View, pod: &Object, volume: &str, name: &str, now: Now, ids: &mut Ids) -> Option<Object> {
    let is_it = |one: &&Value| one.get("name").and_then(Value::as_str) == Some(volume);
    let template = pod.list_at(&["spec", "volumes"]).iter().find(is_it)?.pointer("/ephemeral/volumeClaimTemplate")?;
    let mut claim = Object::from_value(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name, "namespace": pod.namespace(), "uid": ids.uid(), "creationTimestamp": rfc3339(now.wall),
            "finalizers": [CLAIM_PROTECTION], "ownerReferences": [owner_reference(pod)],
        },
        "spec": template.get("spec")?,
    }))?;
    for field in ["labels", "annotations"] {
        if let Some(value) = template.pointer(&format!("/metadata/{field}")).filter(|value| value.is_object()) {
            claim.set_at(&["metadata", field], value.clone());
        }
    }
    if Claim(&claim).class().is_none()
        && let Some(class) = default_class(view.list(&STORAGE_CLASSES, None).map(AsRef::as_ref))
    {
        claim.set_at(&["spec", "storageClassName"], class.name());
    }
    (PERSISTENT_VOLUME_CLAIMS.strategy.default)(&mut claim);
    Some(claim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Change};

    #[test]
    fn a_claim_is_made_once_for_each_ephemeral_volume_and_belongs_to_its_pod() {
        let mut view = View::new(Revision(1));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "a", "uid": "u1"}, "spec": {"volumes": [
            {"name": "data", "ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": {"x": "y"}}, "spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}}}]}});
        let class =
            json!({"metadata": {"name": "local", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
        let key = Key::new(&PODS, "a", "web");
        let ops = vec![
            Op::create(key.clone(), Object::from_value(pod).unwrap()),
            Op::create(Key::new(&STORAGE_CLASSES, "", "local"), Object::from_value(class).unwrap()),
        ];
        view.apply(Revision(2), Batch(ops));
        let mut ids = Ids::new(Rng::seeded(1, "ids"));
        let plan = EphemeralVolumes.reconcile(&view, &key, Now::default(), &mut ids);
        let [Op { key: claim_key, change: Change::Put(claim), .. }] = &plan.writes[..] else { panic!("{plan:?}") };
        assert_eq!((claim_key.name.as_str(), claim.label("x"), Claim(claim).class()), ("web-data", Some("y"), Some("local")));
        assert!(was_made_for(claim, view.get(&key).unwrap()));
        view.apply(Revision(3), Batch(plan.writes.clone()));
        assert!(EphemeralVolumes.reconcile(&view, &key, Now::default(), &mut ids).is_idle());
        let mut other = Object::clone(view.get(claim_key).unwrap());
        other.remove_at(&["metadata", "ownerReferences"]);
        view.apply(Revision(4), Op::update(claim_key.clone(), Revision(3), other).into());
        let plan = EphemeralVolumes.reconcile(&view, &key, Now::default(), &mut ids);
        assert_eq!(plan.events[0].message, "PVC \"web-data\" was not created for pod \"web\" (pod is not owner)");
    }
}
