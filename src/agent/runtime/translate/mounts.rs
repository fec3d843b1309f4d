//! From mount plans to Docker's `Mounts` and `Binds`.

use serde_json::{Value, json};

use super::set;
use crate::agent::runtime::naming::{self, Owner};
use crate::agent::runtime::{ContainerPlan, MountPlan, MountSource, PodRef, VolumePlan};

/// Puts a container's mounts into its `HostConfig`.
pub(super) fn mounts(host: &mut Value, owner: &Owner, plan: &ContainerPlan) {
    let mut mounts = Vec::new();
    let mut binds = Vec::new();
    for mount in &plan.mounts {
        match &mount.source {
            MountSource::Volume(name) => {
                let volume = plan.volumes.iter().find(|volume| volume.name == *name);
                let volume = volume.cloned().unwrap_or_else(|| VolumePlan { name: name.clone(), ..VolumePlan::default() });
                mounts.push(volume_mount(owner, &plan.pod, &volume, &mount.path, mount.read_only));
            }
            // Only the older notation makes a missing path.
            MountSource::Host { path, make: true } => {
                binds.push(format!("{path}:{}{}", mount.path, if mount.read_only { ":ro" } else { "" }));
            }
            MountSource::Host { path, make: false } => mounts.push(bind(path, mount)),
        }
    }
    set(host, "Mounts", json!(mounts));
    if !binds.is_empty() {
        set(host, "Binds", json!(binds));
    }
}

fn bind(path: &str, mount: &MountPlan) -> Value {
    json!({"Type": "bind", "Source": path, "Target": mount.path, "ReadOnly": mount.read_only})
}

/// A named volume with our labels: Docker makes it when it is not there.
pub(super) fn volume_mount(owner: &Owner, pod: &PodRef, volume: &VolumePlan, target: &str, read_only: bool) -> Value {
    let mut options = json!({
        // An emptyDir hides what the image has there.
        "NoCopy": true,
        "Labels": owner.volume_labels(pod, &volume.name),
    });
    if let Some(limit) = volume.memory {
        let mut mount_options = format!("mode={:o}", volume.mode);
        if let Some(bytes) = limit {
            mount_options.push_str(&format!(",size={bytes}"));
        }
        set(
            &mut options,
            "DriverConfig",
            json!({"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": mount_options}}),
        );
    }
    json!({
        "Type": "volume",
        "Source": naming::volume_name(pod, &volume.name),
        "Target": target,
        "ReadOnly": read_only,
        "VolumeOptions": options,
    })
}
