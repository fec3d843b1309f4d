//! What a pod's volumes are filled with, and where its containers see them.
//!
//! In:       the pod's volumes, a container's mounts, the share's config maps and secrets.
//! Out:      [`MountPlan`]s and [`VolumePlan`]s, or why not yet.

use crate::agent::pods::env::{ConfigError, Kind, Sources};
use crate::agent::pods::spec::{ContainerSpec, Files, PodSpec, VolumeSource};
use crate::agent::runtime::{MountPlan, MountSource, VolumeFile, VolumePlan};

/// The volumes that the sandbox holds, without their content.
pub(super) fn of_sandbox(spec: &PodSpec) -> Vec<VolumePlan> {
    let volumes = spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::EmptyDir { memory } => Some((volume, *memory)),
        VolumeSource::ConfigMap(_) => Some((volume, None)),
        // A secret never touches the card.
        VolumeSource::Secret(_) => Some((volume, Some(None))),
        VolumeSource::HostPath { .. } | VolumeSource::Refused(_) => None,
    });
    volumes.map(|(volume, memory)| VolumePlan { name: volume.name.clone(), memory, mode: 0o777, files: Vec::new() }).collect()
}

/// A container's mounts, and the volumes with the files that are to be there before it starts.
pub(super) fn of_container(
    spec: &PodSpec,
    container: &ContainerSpec,
    sources: Sources<'_>,
) -> Result<(Vec<MountPlan>, Vec<VolumePlan>), ConfigError> {
    let mut mounts = Vec::new();
    let mut volumes: Vec<VolumePlan> = Vec::new();
    for mount in &container.mounts {
        let Some(volume) = spec.volumes.iter().find(|volume| volume.name == mount.volume) else {
            return Err(ConfigError::Refused(format!("volumeMount \"{}\" names no volume of the pod", mount.volume)));
        };
        let in_volume = |why| ConfigError::Volume { volume: volume.name.clone(), why: Box::new(why) };
        let mut read_only = mount.read_only;
        let kept = |memory, files| VolumePlan { name: volume.name.clone(), memory, mode: 0o777, files };
        let source = match &volume.source {
            VolumeSource::HostPath { path, make } => MountSource::Host { path: path.clone(), make: *make },
            VolumeSource::Refused(why) => return Err(ConfigError::Refused(why.clone())),
            VolumeSource::EmptyDir { memory } => {
                volumes.push(kept(*memory, Vec::new()));
                MountSource::Volume(volume.name.clone())
            }
            VolumeSource::ConfigMap(files) => {
                read_only = true;
                volumes.push(kept(None, content(spec, Kind::ConfigMap, files, sources).map_err(in_volume)?));
                MountSource::Volume(volume.name.clone())
            }
            VolumeSource::Secret(files) => {
                read_only = true;
                volumes.push(kept(Some(None), content(spec, Kind::Secret, files, sources).map_err(in_volume)?));
                MountSource::Volume(volume.name.clone())
            }
        };
        mounts.push(MountPlan { path: mount.path.clone(), source, read_only });
    }
    volumes.dedup_by(|a, b| a.name == b.name);
    Ok((mounts, volumes))
}

/// The files of a config map or secret volume.
fn content(spec: &PodSpec, kind: Kind, files: &Files, sources: Sources<'_>) -> Result<Vec<VolumeFile>, ConfigError> {
    let Some(object) = kind.find(sources.share, &spec.pod.namespace, &files.name) else {
        return if files.optional { Ok(Vec::new()) } else { Err(kind.missing(&files.name)) };
    };
    let mut entries = kind.entries(object);
    if files.items.is_empty() {
        return Ok(entries.into_iter().map(|(path, content)| VolumeFile { path, mode: files.mode, content }).collect());
    }
    let mut chosen = Vec::new();
    for (key, path, mode) in &files.items {
        let inside = !path.starts_with('/') && path.split('/').all(|part| !part.is_empty() && part != "..");
        if !inside {
            return Err(ConfigError::Refused(format!("items path \"{path}\" leads out of the volume")));
        }
        match entries.remove(key) {
            Some(content) => chosen.push(VolumeFile { path: path.clone(), mode: mode.unwrap_or(files.mode), content }),
            None if files.optional => {}
            None => return Err(kind.missing_key(&spec.pod.namespace, &files.name, key)),
        }
    }
    Ok(chosen)
}
