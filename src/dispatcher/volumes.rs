//! What a node says of volumes that it was to remove, as writes.
//!
//! In:       reports, the view.
//! Out:      a volume taken away, or one that has failed, with an event that says why.
//! Never:    believes a node about a volume of another node, or about one that somebody wants again.

use crate::api::core::event::{Occurrence, record};
use crate::api::core::volume::{ON_NODE, VOLUME_PROTECTION, Volume};
use crate::api::registry::PERSISTENT_VOLUMES;
use crate::api::time::rfc3339;
use crate::api::{Key, Object};
use crate::clock::Now;
use crate::link::message::VolumeReport;
use crate::store::{Change, Expect, Op, View};

const COMPONENT: &str = "bramble/local";

/// What reports of `node` change in the store.
#[must_use]
pub fn writes(view: &View, node: &str, reports: &[VolumeReport], now: Now) -> Vec<Op> {
    reports.iter().flat_map(|report| write(view, node, report, now)).collect()
}

fn write(view: &View, node: &str, report: &VolumeReport, now: Now) -> Vec<Op> {
    let key = Key::new(&PERSISTENT_VOLUMES, "", &report.name);
    let may_tell = |volume: &&std::sync::Arc<Object>| {
        volume.uid() == report.uid && volume.annotation(ON_NODE) == Some(node) && Volume(volume).is_discarded()
    };
    let Some(volume) = view.get(&key).filter(may_tell) else { return Vec::new() };
    if !report.removed {
        return failed(view, &key, volume, &report.message, now);
    }
    let others: Vec<&str> = volume.finalizers().filter(|finalizer| *finalizer != VOLUME_PROTECTION).collect();
    if others.is_empty() {
        return vec![Op::delete(key, volume.revision())];
    }
    let mut after = Object::clone(volume);
    after.set_at(&["metadata", "finalizers"], others);
    if !volume.is_deleting() {
        after.set_at(&["metadata", "deletionTimestamp"], rfc3339(now.wall));
        after.set_at(&["metadata", "deletionGracePeriodSeconds"], 0);
    }
    if after == **volume { Vec::new() } else { vec![Op::update(key, volume.revision(), after)] }
}

fn failed(view: &View, key: &Key, volume: &Object, message: &str, now: Now) -> Vec<Op> {
    if Volume(volume).phase() == "Failed" && volume.str_at(&["status", "message"]) == message {
        return Vec::new();
    }
    let mut after = volume.clone();
    after.set_at(&["status", "phase"], "Failed");
    after.set_at(&["status", "message"], message);
    after.set_at(&["status", "lastPhaseTransitionTime"], rfc3339(now.wall));
    let occurrence = Occurrence::warning(volume, COMPONENT, "VolumeFailedDelete", message.to_owned());
    let event_key = occurrence.key();
    let event = record(view.get(&event_key).map(AsRef::as_ref), &occurrence, now.wall);
    vec![
        Op::update(key.clone(), volume.revision(), after),
        Op { key: event_key, expect: Expect::Any, change: Change::Put(event) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use serde_json::{Value, json};

    fn view(change: &Value) -> View {
        let mut value = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v", "uid": "u1",
            "finalizers": ["kubernetes.io/pv-protection"],
            "annotations": {"bramble/node": "pi", "pv.kubernetes.io/provisioned-by": "bramble/local"}},
            "spec": {"persistentVolumeReclaimPolicy": "Delete"}, "status": {"phase": "Released"}});
        json_patch::merge(&mut value, change);
        let mut view = View::new(Revision(1));
        let object = Object::from_value(value).unwrap();
        view.apply(Revision(2), Op::create(Key::of(&PERSISTENT_VOLUMES, &object), object).into());
        view
    }

    fn report(uid: &str, message: &str) -> VolumeReport {
        VolumeReport { name: "v".into(), uid: uid.into(), removed: message.is_empty(), message: message.into() }
    }

    #[test]
    fn a_volume_goes_when_its_own_node_has_removed_it_and_nobody_wants_it() {
        for (what, change, node, uid, goes) in [
            ("removed", json!({}), "pi", "u1", true),
            ("another node says so", json!({}), "pj", "u1", false),
            ("another volume of the name", json!({}), "pi", "u0", false),
            ("bound again", json!({"status": {"phase": "Bound"}}), "pi", "u1", false),
            ("to be kept", json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}), "pi", "u1", false),
            ("not ours", json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "x"}}}), "pi", "u1", false),
        ] {
            let ops = writes(&view(&change), node, &[report(uid, "")], Now::default());
            assert_eq!(matches!(ops[..], [Op { change: Change::Delete, .. }]), goes, "{what}");
        }
        let held = json!({"metadata": {"finalizers": ["kubernetes.io/pv-protection", "a.io/b"]}});
        let ops = writes(&view(&held), "pi", &[report("u1", "")], Now::default());
        let [Op { change: Change::Put(after), .. }] = &ops[..] else { panic!("{ops:?}") };
        assert_eq!((after.finalizers().collect::<Vec<_>>(), after.is_deleting()), (vec!["a.io/b"], true));
    }

    #[test]
    fn why_a_volume_is_kept_is_told_once() {
        let mut view = view(&json!({}));
        let ops = writes(&view, "pi", &[report("u1", "no right")], Now::default());
        assert_eq!(ops.len(), 2);
        view.apply(Revision(3), crate::store::Batch(ops));
        let volume = view.get(&Key::new(&PERSISTENT_VOLUMES, "", "v")).unwrap();
        assert_eq!((Volume(volume).phase(), volume.str_at(&["status", "message"])), ("Failed", "no right"));
        assert!(writes(&view, "pi", &[report("u1", "no right")], Now::default()).is_empty());
        assert_eq!(writes(&view, "pi", &[report("u1", "")], Now::default()).len(), 1, "mended");
    }
}
