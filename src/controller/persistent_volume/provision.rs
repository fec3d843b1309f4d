//! A volume of `bramble/local`: a directory on the node that the claim's first pod will run on.
//!
//! In:       a claim, its class, the node that the scheduler has chosen.
//! Out:      the volume, bound to the claim and to the node; or why there can be none.
//! Never:    makes the directory: its node does, before the first container starts (`link/share.rs`).

use serde_json::{Value, json};

use super::super::Ids;
use crate::api::core::volume::{
    BOUND_BY_CONTROLLER, Claim, LOCAL_PROVISIONER, ON_NODE, PROVISIONED_BY, USUAL_VOLUMES_DIR, VOLUME_PROTECTION, VOLUMES_DIR,
    mode,
};
use crate::api::registry::NODES;
use crate::api::time::rfc3339;
use crate::api::{Key, Object};
use crate::clock::Now;
use crate::store::View;

/// The label by which a volume names its node.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Why no volume can be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// In words for the user.
    pub why: String,
    /// Whether another node might do.
    pub elsewhere: bool,
}

/// The volume for a claim.
pub(super) fn volume(
    view: &View,
    claim: &Object,
    class: &Object,
    node: &str,
    now: Now,
    ids: &mut Ids,
) -> Result<Object, Refused> {
    let no = |why: &str| Err(Refused { why: why.to_owned(), elsewhere: false });
    if node.is_empty() {
        return no("a directory is made on the node of the first pod: the class needs volumeBindingMode WaitForFirstConsumer");
    }
    if mode(claim) != "Filesystem" {
        return no("only volumeMode Filesystem is possible: it is a directory on a node");
    }
    if Claim(claim).has_mode("ReadWriteMany") || Claim(claim).has_mode("ReadOnlyMany") {
        return no("only ReadWriteOnce and ReadWriteOncePod are possible: it is a directory on one node");
    }
    for (field, name) in [("selector", "selector"), ("dataSource", "dataSource"), ("dataSourceRef", "dataSourceRef")] {
        if claim.at(&["spec", field]).is_some_and(|value| !value.is_null()) {
            return no(&format!("claim.spec.{name} is not possible for a volume that is made for the claim"));
        }
    }
    let Some(node) = view.get(&Key::new(&NODES, "", node)).filter(|node| !node.is_deleting()) else {
        return Err(Refused { why: format!("node \"{node}\" not found"), elsewhere: true });
    };
    let uid = ids.uid();
    let start: String = uid.chars().take(8).collect();
    let directory = node.annotation(VOLUMES_DIR).unwrap_or(USUAL_VOLUMES_DIR).trim_end_matches('/');
    let path = format!("{directory}/{}_{}_{start}", claim.namespace(), claim.name());
    let host = node.label(HOSTNAME).unwrap_or(node.name());
    let volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": format!("pvc-{}", claim.uid()), "uid": uid, "creationTimestamp": rfc3339(now.wall), "finalizers": [VOLUME_PROTECTION],
            "annotations": {PROVISIONED_BY: LOCAL_PROVISIONER, ON_NODE: node.name(), BOUND_BY_CONTROLLER: "yes"},
        },
        "spec": {
            "capacity": {"storage": claim.str_at(&["spec", "resources", "requests", "storage"])},
            "accessModes": claim.list_at(&["spec", "accessModes"]),
            "persistentVolumeReclaimPolicy": class.at(&["reclaimPolicy"]).cloned().unwrap_or_else(|| Value::from("Delete")),
            "storageClassName": class.name(), "volumeMode": "Filesystem",
            "claimRef": super::claim::reference(claim),
            "local": {"path": path},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]},
            ]}},
        },
        "status": {"phase": "Bound", "lastPhaseTransitionTime": rfc3339(now.wall)},
    });
    Object::from_value(volume).ok_or(Refused { why: "no volume".to_owned(), elsewhere: false })
}
