//! From mount plans to Docker's `Mounts` and `Binds`.
//!
//! Source: Docker Engine API, Mount; `ReadOnlyNonRecursive` and `ReadOnlyForceRecursive` are of 1.44, `Subpath` of 1.45, images of
//! 1.48: older engines do not know them and leave them out.

use serde_json::{Value, json};

use super::set;
use crate::agent::runtime::naming::{self, Owner};
use crate::agent::runtime::{ContainerPlan, MountPlan, MountSource, PodRef, Propagation, Recursive, VolumeKind, VolumePlan};

/// The mode of an emptyDir's root: upstream's, with fsGroup's bit for what is made in there.
#[must_use]
pub fn root_mode(volume: &VolumePlan) -> u32 {
    if volume.group.is_some() { 0o2777 } else { 0o777 }
}

/// Puts a container's mounts into its `HostConfig`. Content and parts of paths have been found by then (`docker/volumes.rs`).
pub(super) fn mounts(host: &mut Value, owner: &Owner, plan: &ContainerPlan) {
    let mut mounts = Vec::new();
    let mut binds = Vec::new();
    for mount in &plan.mounts {
        match &mount.source {
            MountSource::Volume(name) => {
                let volume = plan.volumes.iter().find(|volume| volume.name == *name);
                let volume = volume.cloned().unwrap_or_else(|| VolumePlan { name: name.clone(), ..VolumePlan::default() });
                let mut made = volume_mount(owner, &plan.pod, &volume, &mount.path, mount.read_only);
                if let (false, Some(options)) = (mount.sub_path.is_empty(), made.get_mut("VolumeOptions")) {
                    set(options, "Subpath", json!(mount.sub_path));
                }
                mounts.push(made);
            }
            // Only the older notation makes a missing path.
            MountSource::Host { path, make: true } if !path.contains(':') && !mount.path.contains(':') => {
                let options = [mount.read_only.then_some("ro"), propagation(mount)];
                let options: Vec<&str> = options.into_iter().flatten().collect();
                let colon = if options.is_empty() { "" } else { ":" };
                binds.push(format!("{path}:{}{colon}{}", mount.path, options.join(",")));
            }
            // Only the older notation has `noexec`, on an engine that takes it.
            MountSource::Unpacked(path) if !path.contains(':') && !mount.path.contains(':') => {
                binds.push(format!("{path}:{}:ro,noexec,nosuid,nodev", mount.path));
            }
            MountSource::Host { path, .. } | MountSource::Unpacked(path) => mounts.push(bind(path, mount)),
            MountSource::Image { reference, .. } => {
                let mut made = json!({"Type": "image", "Source": reference, "Target": mount.path, "ReadOnly": true});
                if !mount.sub_path.is_empty() {
                    set(&mut made, "ImageOptions", json!({"Subpath": mount.sub_path}));
                }
                mounts.push(made);
            }
            // Not found: a path that cannot be, so that Docker says so rather than leave it out.
            MountSource::Content(name) => mounts.push(bind(&format!("/nonexistent/{name}"), mount)),
        }
    }
    set(host, "Mounts", json!(mounts));
    if !binds.is_empty() {
        set(host, "Binds", json!(binds));
    }
}

fn propagation(mount: &MountPlan) -> Option<&'static str> {
    match mount.propagation {
        Propagation::None => None,
        Propagation::HostToContainer => Some("rslave"),
        Propagation::Bidirectional => Some("rshared"),
    }
}

fn bind(path: &str, mount: &MountPlan) -> Value {
    let mut made = json!({"Type": "bind", "Source": path, "Target": mount.path, "ReadOnly": mount.read_only});
    let mut options = json!({});
    if let Some(word) = propagation(mount) {
        set(&mut options, "Propagation", json!(word));
    }
    match mount.recursive_read_only {
        _ if !mount.read_only => {}
        Recursive::Disabled => set(&mut options, "ReadOnlyNonRecursive", json!(true)),
        Recursive::IfPossible => {}
        Recursive::Enabled => {
            set(&mut options, "ReadOnlyForceRecursive", json!(true));
            // Docker wants it said.
            set(&mut options, "Propagation", json!("rprivate"));
        }
    }
    if options.as_object().is_some_and(|options| !options.is_empty()) {
        set(&mut made, "BindOptions", options);
    }
    made
}

/// A named volume with our labels: Docker makes it when it is not there.
pub(super) fn volume_mount(owner: &Owner, pod: &PodRef, volume: &VolumePlan, target: &str, read_only: bool) -> Value {
    let mut options = json!({
        // An emptyDir hides what the image has there.
        "NoCopy": true,
        "Labels": owner.volume_labels(pod, &volume.name),
    });
    let mut read_only = read_only;
    let local = match &volume.kind {
        VolumeKind::Disk => None,
        VolumeKind::Unpacked { image, path } => {
            if let Some(labels) = options.get_mut("Labels") {
                set(labels, naming::IMAGE_VOLUME, json!(image));
            }
            // It is read-only by the volume's own mount. Said once more here, runc would mount it anew for that, and forget `noexec`.
            read_only = false;
            Some(json!({"type": "none", "device": path, "o": "bind,ro,noexec,nosuid,nodev"}))
        }
        VolumeKind::Memory(limit) => {
            let mut words = format!("mode={:o}", root_mode(volume));
            if let Some(group) = volume.group {
                words.push_str(&format!(",gid={group}"));
            }
            if let Some(bytes) = limit {
                words.push_str(&format!(",size={bytes}"));
            }
            Some(json!({"type": "tmpfs", "device": "tmpfs", "o": words}))
        }
        VolumeKind::Nfs { server, path, options } => {
            let mut words = vec![format!("addr={server}")];
            // mount(2) does not try one version after the other as mount.nfs does.
            let chosen = |option: &String| option.starts_with("vers=") || option.starts_with("nfsvers=");
            if !options.iter().any(chosen) {
                words.push("nfsvers=4".to_owned());
            }
            words.extend(options.iter().cloned());
            Some(json!({"type": "nfs", "device": format!(":{path}"), "o": words.join(",")}))
        }
    };
    if let Some(local) = local {
        set(&mut options, "DriverConfig", json!({"Name": "local", "Options": local}));
    }
    json!({
        "Type": "volume",
        "Source": naming::volume_name(pod, &volume.name),
        "Target": target,
        "ReadOnly": read_only,
        "VolumeOptions": options,
    })
}
