//! One volume: its phase, and what becomes of it when its claim is gone.

use super::super::deletion::without_finalizer;
use super::super::{Plan, update};
use super::{COMPONENT, claim_key, set_phase};
use crate::api::core::event::Occurrence;
use crate::api::core::volume::{BOUND_BY_CONTROLLER, Claim, ON_NODE, VOLUME_PROTECTION, Volume};
use crate::api::registry::NODES;
use crate::api::{Key, Object};
use crate::clock::Now;
use crate::store::View;

/// What is to be done about a volume.
pub(super) fn plan(view: &View, key: &Key, volume: &Object, now: Now) -> Plan {
    let mut after = volume.clone();
    let mut events = Vec::new();
    match wanted_phase(view, volume) {
        Wanted::Phase("Released") if can_be_removed(volume) || policy(volume) == "Retain" => {
            // A node that failed tries again and again; that it failed stays to be seen.
            if Volume(volume).phase() != "Failed" {
                set_phase(&mut after, "Released", now.wall);
            }
        }
        Wanted::Phase("Released") => {
            let words = format!(
                "nothing can {} a volume of this kind by itself: see to its data, then delete the PersistentVolume",
                policy(volume).to_lowercase()
            );
            set_phase(&mut after, "Failed", now.wall);
            after.set_at(&["status", "message"], words.clone());
            events.push(Occurrence::warning(volume, COMPONENT, "VolumeFailedDelete", words));
        }
        Wanted::Phase(phase) => set_phase(&mut after, phase, now.wall),
        Wanted::Unbind => {
            after.remove_at(&["spec", "claimRef"]);
            after.remove_at(&["metadata", "annotations", BOUND_BY_CONTROLLER]);
            set_phase(&mut after, "Available", now.wall);
        }
        Wanted::AsItIs => {}
    }
    if after != *volume {
        return Plan { writes: vec![update(key, volume, after)], events, ..Plan::default() };
    }
    let held = volume.finalizers().any(|finalizer| finalizer == VOLUME_PROTECTION);
    if volume.is_deleting() && held && !is_used(view, volume) {
        return Plan { writes: vec![without_finalizer(key, volume, VOLUME_PROTECTION)], ..Plan::default() };
    }
    Plan::nothing()
}

enum Wanted {
    Phase(&'static str),
    /// Its claim took another volume.
    Unbind,
    /// The claim's side of a binding is decided where the claim is.
    AsItIs,
}

fn wanted_phase(view: &View, volume: &Object) -> Wanted {
    let Some((_, _, uid)) = Volume(volume).claim() else { return Wanted::Phase("Available") };
    if uid.is_empty() {
        // Kept for a claim that has not come, or does not fit.
        return Wanted::Phase("Available");
    }
    let claim = claim_key(volume).and_then(|key| view.get(&key)).filter(|claim| claim.uid().0 == uid);
    match claim {
        None => Wanted::Phase("Released"),
        Some(claim) if Claim(claim).volume_name() == volume.name() => Wanted::Phase("Bound"),
        Some(claim) if Claim(claim).volume_name().is_empty() => Wanted::AsItIs,
        Some(_) if volume.annotation(BOUND_BY_CONTROLLER).is_some() && !Volume(volume).is_ours() => Wanted::Unbind,
        Some(_) => Wanted::Phase("Released"),
    }
}

fn policy(volume: &Object) -> &str {
    match volume.str_at(&["spec", "persistentVolumeReclaimPolicy"]) {
        "" => "Retain",
        policy => policy,
    }
}

/// Whether its node can remove what it holds.
fn can_be_removed(volume: &Object) -> bool {
    Volume(volume).is_ours() && policy(volume) == "Delete"
}

/// Whether a deleted volume has to wait: a claim has it, or its node has still to remove what it holds.
fn is_used(view: &View, volume: &Object) -> bool {
    let node_is_there = || volume.annotation(ON_NODE).is_some_and(|node| view.get(&Key::new(&NODES, "", node)).is_some());
    Volume(volume).phase() == "Bound" || (can_be_removed(volume) && node_is_there())
}
