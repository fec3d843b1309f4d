//! `kubectl get pv,pvc,sc,pc`. Source: `printPersistentVolume`, `printPersistentVolumeClaim`, `printStorageClass`,
//! `printPriorityClass`.

use super::{AGE, Column, NAME, Printer, age_of, or};
use crate::api::Object;
use crate::api::core::volume::{CLASS_BETA, Claim, Class, Volume, short_modes};

const UNSET: &str = "<unset>";

/// Volumes.
pub static PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("Reclaim Policy"),
        Column::text("Status"),
        Column::text("Claim"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::text("Reason"),
        AGE,
        Column::text("VolumeMode").wide(),
    ],
    |volume, now| {
        let claim = volume.str_at(&["spec", "claimRef", "name"]);
        let namespace = volume.str_at(&["spec", "claimRef", "namespace"]);
        vec![
            volume.name().into(),
            amount(volume, &["spec", "capacity", "storage"]).into(),
            short_modes(volume.list_at(&["spec", "accessModes"])).into(),
            volume.str_at(&["spec", "persistentVolumeReclaimPolicy"]).into(),
            if volume.is_deleting() { "Terminating" } else { Volume(volume).phase() }.into(),
            if claim.is_empty() { String::new() } else { format!("{namespace}/{claim}") }.into(),
            Volume(volume).class().into(),
            or(volume.str_at(&["spec", "volumeAttributesClassName"]), UNSET).into(),
            volume.str_at(&["status", "reason"]).into(),
            age_of(volume, now),
            or(volume.str_at(&["spec", "volumeMode"]), UNSET).into(),
        ]
    },
);

/// Claims.
pub static CLAIM_PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::text("Status"),
        Column::text("Volume"),
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        AGE,
        Column::text("VolumeMode").wide(),
    ],
    |claim, now| {
        let volume = Claim(claim).volume_name();
        let has_volume = !volume.is_empty();
        let class = claim.annotation(CLASS_BETA).unwrap_or_else(|| claim.str_at(&["spec", "storageClassName"]));
        vec![
            claim.name().into(),
            if claim.is_deleting() { "Terminating" } else { claim.str_at(&["status", "phase"]) }.into(),
            volume.into(),
            if has_volume { amount(claim, &["status", "capacity", "storage"]) } else { String::new() }.into(),
            if has_volume { short_modes(claim.list_at(&["status", "accessModes"])) } else { String::new() }.into(),
            class.into(),
            or(claim.str_at(&["spec", "volumeAttributesClassName"]), UNSET).into(),
            age_of(claim, now),
            or(claim.str_at(&["spec", "volumeMode"]), UNSET).into(),
        ]
    },
);

/// Storage classes.
pub static CLASS_PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::text("Provisioner"),
        Column::text("ReclaimPolicy"),
        Column::text("VolumeBindingMode"),
        Column::text("AllowVolumeExpansion"),
        AGE,
    ],
    |class, now| {
        let default = if Class(class).is_default() { " (default)" } else { "" };
        vec![
            format!("{}{default}", class.name()).into(),
            class.str_at(&["provisioner"]).into(),
            or(class.str_at(&["reclaimPolicy"]), "Delete").into(),
            or(class.str_at(&["volumeBindingMode"]), "Immediate").into(),
            class.bool_at(&["allowVolumeExpansion"]).into(),
            age_of(class, now),
        ]
    },
);

/// Priority classes.
pub static PRIORITY_CLASS_PRINTER: Printer = Printer::new(
    &[
        NAME,
        Column::number("Value"),
        Column { name: "Global-Default", kind: "boolean", format: "", priority: 0 },
        AGE,
        Column::text("PreemptionPolicy"),
    ],
    |class, now| {
        vec![
            class.name().into(),
            super::number(class, &["value"]).into(),
            class.bool_at(&["globalDefault"]).into(),
            age_of(class, now),
            class.str_at(&["preemptionPolicy"]).into(),
        ]
    },
);

fn amount(object: &Object, path: &[&str]) -> String {
    match object.at(path) {
        // As upstream shows an amount that is not there.
        None | Some(serde_json::Value::Null) => "0".to_owned(),
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{headings, object, row};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_volume_shows_whose_it_is() {
        assert_eq!(
            headings(&PRINTER),
            "NAME|CAPACITY|ACCESS MODES|RECLAIM POLICY|STATUS|CLAIM|STORAGECLASS|VOLUMEATTRIBUTESCLASS|REASON|AGE|VOLUMEMODE*"
        );
        let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
            "persistentVolumeReclaimPolicy": "Delete", "volumeMode": "Filesystem", "claimRef": {"namespace": "a", "name": "data"}},
            "status": {"phase": "Bound"}});
        assert_eq!(row(&PRINTER, &object("v", volume)), "v|1Gi|RWO|Delete|Bound|a/data|local|<unset>||60m|Filesystem");
        assert_eq!(row(&PRINTER, &object("v", json!({}))), "v|0||||||<unset>||60m|<unset>");
    }

    #[test]
    fn a_claim_shows_what_it_got() {
        assert_eq!(
            headings(&CLAIM_PRINTER),
            "NAME|STATUS|VOLUME|CAPACITY|ACCESS MODES|STORAGECLASS|VOLUMEATTRIBUTESCLASS|AGE|VOLUMEMODE*"
        );
        let claim = json!({"spec": {"volumeName": "v", "storageClassName": "local", "volumeMode": "Filesystem"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}});
        assert_eq!(row(&CLAIM_PRINTER, &object("data", claim)), "data|Bound|v|1Gi|RWO|local|<unset>|60m|Filesystem");
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"phase": "Pending"}});
        assert_eq!(row(&CLAIM_PRINTER, &object("data", going)), "data|Terminating|||||<unset>|60m|<unset>");
    }

    #[test]
    fn classes_show_their_defaults() {
        assert_eq!(headings(&CLASS_PRINTER), "NAME|PROVISIONER|RECLAIMPOLICY|VOLUMEBINDINGMODE|ALLOWVOLUMEEXPANSION|AGE");
        let class = json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "bramble/local", "volumeBindingMode": "WaitForFirstConsumer"});
        assert_eq!(
            row(&CLASS_PRINTER, &object("local", class)),
            "local (default)|bramble/local|Delete|WaitForFirstConsumer|false|60m"
        );
        assert_eq!(headings(&PRIORITY_CLASS_PRINTER), "NAME|VALUE|GLOBAL-DEFAULT|AGE|PREEMPTIONPOLICY");
        let class = json!({"value": 1000, "globalDefault": true, "preemptionPolicy": "Never"});
        assert_eq!(row(&PRIORITY_CLASS_PRINTER, &object("high", class)), "high|1000|true|60m|Never");
    }
}
