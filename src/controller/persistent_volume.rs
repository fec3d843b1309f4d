//! Claims find volumes, and volumes are given back.
//!
//! ```text
//! claim:   Pending ─▶ Bound ─▶ (deleted: Terminating while a pod has it) ─▶ gone
//!             │                  └─ its volume is gone: Lost
//!             ├─ a volume that fits, or is kept for it ─▶ both are bound by one batch
//!             └─ `selected-node` says where its first pod will run ─▶ `provision.rs` makes a volume there
//! volume:  Available ─▶ Bound ─▶ Released (its claim is gone)
//!                                  ├─ Retain: a person decides
//!                                  └─ Delete: its node removes the directory and says so (`dispatcher/volumes.rs`) ─▶ gone
//! ```
//!
//! In:       a claim or a volume, with all claims, volumes, classes, pods and nodes.
//! Out:      bindings, phases, new volumes, finalizers taken away.
//! Never:    places a pod, or chooses among volumes for a claim that waits for its first pod: that is the scheduler's, who knows
//!           the nodes (`scheduler/volumes.rs`).
//! Source:   kube-controller-manager `persistentvolume` (`syncClaim`, `syncVolume`), `pvcprotection`, `pvprotection`. There a
//!           binding is four writes in an order that survives a crash; here it is one batch.

mod claim;
mod provision;
mod volume;

use super::{Ids, Plan, Reconciler};
use crate::api::core::volume::{Claim, Volume, claims_of};
use crate::api::registry::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES};
use crate::api::{Key, Object, Resource, time};
use crate::clock::{Now, Wall};
use crate::store::{ChangeEvent, View};

const COMPONENT: &str = "persistentvolume-controller";

/// The controller.
pub struct PersistentVolumes;

impl Reconciler for PersistentVolumes {
    fn name(&self) -> &'static str {
        "persistent_volume"
    }

    fn watches(&self, resource: &Resource) -> bool {
        [&PERSISTENT_VOLUME_CLAIMS, &PERSISTENT_VOLUMES, &STORAGE_CLASSES, &PODS].contains(&resource)
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        let mut keys = Vec::new();
        let sides = || [&event.before, &event.after].into_iter().flatten();
        if *event.key.resource == PERSISTENT_VOLUME_CLAIMS {
            keys.push(event.key.clone());
            let volumes = sides().map(|claim| Claim(claim).volume_name()).filter(|name| !name.is_empty());
            keys.extend(volumes.map(|name| Key::new(&PERSISTENT_VOLUMES, "", name)));
        } else if *event.key.resource == PERSISTENT_VOLUMES {
            keys.push(event.key.clone());
            keys.extend(sides().filter_map(|volume| claim_key(volume)));
            if event.after.as_ref().is_some_and(|volume| Volume(volume).claim().is_none()) {
                keys.extend(waiting(view));
            }
        } else if *event.key.resource == STORAGE_CLASSES {
            keys.extend(waiting(view));
        } else {
            // A pod that came to a node or went may be the last that holds a claim.
            let names = sides().flat_map(|pod| claims_of(pod)).map(|claim| claim.name);
            let claims = names.map(|name| Key::new(&PERSISTENT_VOLUME_CLAIMS, &event.key.namespace, &name));
            keys.extend(claims.filter(|key| view.get(key).is_some_and(|claim| claim.is_deleting())));
        }
        keys.sort();
        keys.dedup();
        keys
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        let claims = view.list(&PERSISTENT_VOLUME_CLAIMS, None).map(|claim| Key::of(&PERSISTENT_VOLUME_CLAIMS, claim));
        claims.chain(view.list(&PERSISTENT_VOLUMES, None).map(|volume| Key::of(&PERSISTENT_VOLUMES, volume))).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan {
        let Some(object) = view.get(key) else { return Plan::nothing() };
        if *key.resource == PERSISTENT_VOLUMES {
            volume::plan(view, key, object, now)
        } else {
            claim::plan(view, key, object, now, ids)
        }
    }
}

/// The claims that have no volume yet.
fn waiting(view: &View) -> impl Iterator<Item = Key> {
    view.list(&PERSISTENT_VOLUME_CLAIMS, None)
        .filter(|claim| !Claim(claim).is_bound())
        .map(|claim| Key::of(&PERSISTENT_VOLUME_CLAIMS, claim))
}

/// Where the claim is that a volume is for.
fn claim_key(volume: &Object) -> Option<Key> {
    Volume(volume).claim().map(|(namespace, name, _)| Key::new(&PERSISTENT_VOLUME_CLAIMS, namespace, name))
}

/// Sets a volume's phase, and since when it is so.
fn set_phase(volume: &mut Object, phase: &str, now: Wall) {
    if volume.str_at(&["status", "phase"]) != phase {
        volume.set_at(&["status", "phase"], phase);
        volume.set_at(&["status", "lastPhaseTransitionTime"], time::rfc3339(now));
        if phase != "Failed" {
            volume.remove_at(&["status", "message"]);
            volume.remove_at(&["status", "reason"]);
        }
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // `json!(…)` reads best as it is
mod tests;
