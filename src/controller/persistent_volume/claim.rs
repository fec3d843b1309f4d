//! One claim: its volume, its phase, and who holds it.

use super::super::deletion::without_finalizer;
use super::super::{Ids, Plan, update};
use super::{COMPONENT, provision, set_phase};
use crate::api::core::event::Occurrence;
use crate::api::core::pod::Pod;
use crate::api::core::volume::{
    BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIM_PROTECTION, Claim, Class, LOCAL_PROVISIONER, SELECTED_NODE, Volume, claims_of,
};
use crate::api::registry::{PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES};
use crate::api::{Key, Object};
use crate::clock::Now;
use crate::store::{Op, View};
use serde_json::json;

/// What is to be done about a claim.
pub(super) fn plan(view: &View, key: &Key, claim: &Object, now: Now, ids: &mut Ids) -> Plan {
    if claim.is_deleting() {
        return leaving(view, key, claim);
    }
    match Claim(claim).volume_name() {
        "" => unbound(view, key, claim, now, ids),
        name => named(view, key, claim, name, now),
    }
}

/// A claim goes when no pod that has a node needs it. A pod without a node is not let in any more by the scheduler.
fn leaving(view: &View, key: &Key, claim: &Object) -> Plan {
    let mut pods = view.list(&PODS, Some(&key.namespace)).filter(|pod| !Pod(pod).node_name().is_empty());
    let used = pods.any(|pod| claims_of(pod).any(|needed| needed.name == key.name));
    let held = claim.finalizers().any(|finalizer| finalizer == CLAIM_PROTECTION);
    let writes = if held && !used { vec![without_finalizer(key, claim, CLAIM_PROTECTION)] } else { Vec::new() };
    Plan { writes, ..Plan::default() }
}

fn unbound(view: &View, key: &Key, claim: &Object, now: Now, ids: &mut Ids) -> Plan {
    let class_name = Claim(claim).class().unwrap_or_default();
    let class = view.get(&Key::new(&STORAGE_CLASSES, "", class_name)).filter(|_| !class_name.is_empty());
    let waits = class.is_some_and(|class| Class(class).waits());
    if let Some(volume) = best(view, claim, waits) {
        return Plan { writes: bind(key, claim, volume, now), ..Plan::default() };
    }
    let tell = |warning: bool, reason: &str, message: String| {
        let make = if warning { Occurrence::warning } else { Occurrence::normal };
        Plan { events: vec![make(claim, COMPONENT, reason, message)], ..pending(key, claim) }
    };
    let Some(class) = class else {
        return match class_name {
            "" => tell(
                false,
                "FailedBinding",
                "no persistent volumes available for this claim and no storage class is set".to_owned(),
            ),
            name => tell(true, "ProvisioningFailed", format!("storageclass.storage.k8s.io \"{name}\" not found")),
        };
    };
    let node = claim.annotation(SELECTED_NODE).unwrap_or_default();
    if waits && node.is_empty() {
        let waits_for = view.list(&PODS, Some(&key.namespace)).find(|pod| claims_of(pod).any(|needed| needed.name == key.name));
        return match waits_for {
            None => tell(false, "WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
            Some(pod) => tell(false, "WaitForPodScheduled", format!("waiting for pod {} to be scheduled", pod.name())),
        };
    }
    match Class(class).provisioner() {
        LOCAL_PROVISIONER => match provision::volume(view, claim, class, node, now, ids) {
            Ok(volume) => {
                let message = format!("Successfully provisioned volume {}", volume.name());
                let mut plan = Plan::nothing();
                plan.events.push(Occurrence::normal(claim, LOCAL_PROVISIONER, "ProvisioningSucceeded", message));
                plan.writes.push(Op::update(key.clone(), claim.revision(), bound(claim, &volume)));
                plan.writes.push(Op::create(Key::of(&PERSISTENT_VOLUMES, &volume), volume));
                plan
            }
            Err(refused) => {
                let message = format!("failed to provision volume with StorageClass \"{class_name}\": {}", refused.why);
                let mut plan = tell(true, "ProvisioningFailed", message);
                if refused.elsewhere {
                    // The scheduler chooses anew.
                    let mut after = claim.clone();
                    after.remove_at(&["metadata", "annotations", SELECTED_NODE]);
                    plan.writes = vec![update(key, claim, after)];
                }
                plan
            }
        },
        // The scheduler looks among the volumes that are there.
        "kubernetes.io/no-provisioner" => pending(key, claim),
        other => tell(
            false,
            "ExternalProvisioning",
            format!(
                "Waiting for a volume to be created either by the external provisioner '{other}' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            ),
        ),
    }
}

/// The volume that a claim names, by a person's will or because it is bound.
fn named(view: &View, key: &Key, claim: &Object, name: &str, now: Now) -> Plan {
    let was_bound = Claim(claim).is_bound();
    let Some(volume) = view.get(&Key::new(&PERSISTENT_VOLUMES, "", name)) else {
        let why = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
        return if was_bound { lost(key, claim, "ClaimLost", why) } else { pending(key, claim) };
    };
    if Volume(volume).is_for(claim) && (was_bound || Volume(volume).satisfies(Claim(claim))) {
        return Plan { writes: bind(key, claim, volume, now), ..Plan::default() };
    }
    if Volume(volume).claim().is_some() && !Volume(volume).is_for(claim) {
        if was_bound {
            return lost(key, claim, "ClaimMisbound", "Two claims are bound to the same volume, this one is bound incorrectly");
        }
        let words = format!("volume \"{name}\" already bound to a different claim.");
        let events = vec![Occurrence::warning(claim, COMPONENT, "FailedBinding", words)];
        return Plan { events, ..pending(key, claim) };
    }
    if was_bound {
        return lost(key, claim, "ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    if volume.is_deleting() || !Volume(volume).satisfies(Claim(claim)) {
        let words =
            format!("Cannot bind to requested volume \"{name}\": it does not fit in size, access modes, class, mode or selector");
        let events = vec![Occurrence::warning(claim, COMPONENT, "VolumeMismatch", words)];
        return Plan { events, ..pending(key, claim) };
    }
    Plan { writes: bind(key, claim, volume, now), ..Plan::default() }
}

/// The volume for a claim: one that is kept for it, else the smallest that fits. A claim that waits for its first pod gets only
/// what is kept for it.
fn best<'a>(view: &'a View, claim: &Object, waits: bool) -> Option<&'a Object> {
    let volumes = || view.list(&PERSISTENT_VOLUMES, None).map(AsRef::as_ref).filter(|volume: &&Object| !volume.is_deleting());
    if let Some(kept) = volumes().find(|volume| Volume(volume).is_for(claim)) {
        return Some(kept);
    }
    volumes()
        .filter(|volume| !waits && Volume(volume).claim().is_none() && Volume(volume).phase() != "Failed")
        .filter(|volume| Volume(volume).satisfies(Claim(claim)))
        .min_by_key(|volume| (Volume(volume).capacity(), volume.list_at(&["spec", "accessModes"]).len(), volume.name()))
}

/// What is missing on both sides until they are bound; nothing when they are.
fn bind(key: &Key, claim: &Object, volume: &Object, now: Now) -> Vec<Op> {
    let mut writes = Vec::new();
    let mut theirs = volume.clone();
    if Volume(volume).claim().is_none() {
        theirs.set_at(&["metadata", "annotations", BOUND_BY_CONTROLLER], "yes");
    }
    if volume.str_at(&["spec", "claimRef", "uid"]) != claim.uid().0 {
        theirs.set_at(&["spec", "claimRef"], reference(claim));
    }
    set_phase(&mut theirs, "Bound", now.wall);
    if theirs != *volume {
        writes.push(update(&Key::of(&PERSISTENT_VOLUMES, volume), volume, theirs));
    }
    let ours = bound(claim, volume);
    if ours != *claim {
        writes.push(update(key, claim, ours));
    }
    writes
}

/// The claim as the owner of a volume.
fn bound(claim: &Object, volume: &Object) -> Object {
    let mut ours = claim.clone();
    if Claim(claim).volume_name().is_empty() {
        ours.set_at(&["metadata", "annotations", BOUND_BY_CONTROLLER], "yes");
        ours.set_at(&["spec", "volumeName"], volume.name());
    }
    ours.set_at(&["metadata", "annotations", BIND_COMPLETED], "yes");
    ours.set_at(&["status", "phase"], "Bound");
    for (field, of) in [("accessModes", "accessModes"), ("capacity", "capacity")] {
        if let Some(value) = volume.at(&["spec", of]) {
            ours.set_at(&["status", field], value.clone());
        }
    }
    ours
}

/// The claim, as a volume names it.
pub(super) fn reference(claim: &Object) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(), "name": claim.name(),
        "uid": claim.uid().0, "resourceVersion": claim.revision().to_string()})
}

fn pending(key: &Key, claim: &Object) -> Plan {
    in_phase(key, claim, "Pending")
}

fn lost(key: &Key, claim: &Object, reason: &str, why: &str) -> Plan {
    let mut plan = in_phase(key, claim, "Lost");
    if !plan.writes.is_empty() {
        plan.events.push(Occurrence::warning(claim, COMPONENT, reason, why.to_owned()));
    }
    plan
}

fn in_phase(key: &Key, claim: &Object, phase: &str) -> Plan {
    if claim.str_at(&["status", "phase"]) == phase {
        return Plan::nothing();
    }
    let mut after = claim.clone();
    after.set_at(&["status"], json!({"phase": phase}));
    Plan { writes: vec![update(key, claim, after)], ..Plan::default() }
}
