//! Persistent volumes, claims, storage classes and priority classes. Source: `SetDefaults_PersistentVolume`,
//! `SetDefaults_PersistentVolumeClaim`, `SetDefaults_StorageClass`, `SetDefaults_PriorityClass`.

use super::resources::canonical_list;
use super::{map, map_or_new, set_empty, set_unset};
use crate::api::Object;

/// Fills in the defaults of a volume.
pub fn fill(object: &mut Object) {
    let fields = object.raw_mut();
    if let Some(status) = map_or_new(fields, "status") {
        set_empty(status, "phase", "Pending");
    }
    let Some(spec) = map_or_new(fields, "spec") else { return };
    set_empty(spec, "persistentVolumeReclaimPolicy", "Retain");
    set_empty(spec, "volumeMode", "Filesystem");
    if let Some(capacity) = map(spec, "capacity") {
        canonical_list(capacity);
    }
    if let Some(path) = map(spec, "hostPath") {
        set_unset(path, "type", "");
    }
}

/// Fills in the defaults of a claim.
pub fn fill_claim(object: &mut Object) {
    let fields = object.raw_mut();
    if let Some(status) = map_or_new(fields, "status") {
        set_empty(status, "phase", "Pending");
    }
    let Some(spec) = map_or_new(fields, "spec") else { return };
    set_empty(spec, "volumeMode", "Filesystem");
    if let Some(resources) = map(spec, "resources") {
        for key in ["limits", "requests"] {
            if let Some(list) = map(resources, key) {
                canonical_list(list);
            }
        }
    }
}

/// Fills in the defaults of a storage class.
pub fn fill_class(object: &mut Object) {
    set_empty(object.raw_mut(), "reclaimPolicy", "Delete");
    set_empty(object.raw_mut(), "volumeBindingMode", "Immediate");
}

/// Fills in the defaults of a priority class.
pub fn fill_priority_class(object: &mut Object) {
    set_empty(object.raw_mut(), "preemptionPolicy", "PreemptLowerPriority");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn filled(fill: fn(&mut Object), value: Value) -> Value {
        let mut object = Object::from_value(value).unwrap();
        fill(&mut object);
        object.into_value()
    }

    #[test]
    fn what_the_documentation_says_of_fields_left_out() {
        for (fill_in, value, want) in [
            (
                fill as fn(&mut Object),
                json!({"spec": {"hostPath": {"path": "/a"}}}),
                json!({"spec": {"hostPath": {"path": "/a", "type": ""}, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
                    "status": {"phase": "Pending"}}),
            ),
            (
                fill_claim,
                json!({"spec": {"volumeMode": "Block"}, "status": {"phase": "Bound"}}),
                json!({"spec": {"volumeMode": "Block"}, "status": {"phase": "Bound"}}),
            ),
            (fill_class, json!({}), json!({"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})),
            (fill_priority_class, json!({"value": 5}), json!({"value": 5, "preemptionPolicy": "PreemptLowerPriority"})),
        ] {
            assert_eq!(filled(fill_in, value), want);
        }
    }
}
