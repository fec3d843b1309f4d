//! From a checked spec to what the runtime is asked for.
//!
//! In:       [`PodSpec`], the share's config maps and secrets, addresses, the attempt.
//! Out:      [`SandboxPlan`], [`ContainerPlan`], or why not yet.

use crate::agent::runtime::{ContainerPlan, MountPlan, MountSource, ObservedSandbox, SandboxPlan, VolumeFile, VolumePlan};
use crate::clock::Wall;

use super::env::{self, ConfigError, Kind, Sources};
use super::restart::Turn;
use super::spec::{ContainerSpec, Files, PodSpec, VolumeSource};

/// The pod's sandbox. Contents of volumes come with the containers.
#[must_use]
pub fn sandbox(spec: &PodSpec, attempt: u32, pod_start: Wall) -> SandboxPlan {
    let volumes = spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::EmptyDir { memory } => Some((volume, *memory)),
        VolumeSource::ConfigMap(_) => Some((volume, None)),
        // A secret never touches the card.
        VolumeSource::Secret(_) => Some((volume, Some(None))),
        VolumeSource::HostPath { .. } | VolumeSource::Refused(_) => None,
    });
    SandboxPlan {
        pod: spec.pod.clone(),
        attempt,
        pod_start,
        grace: spec.grace,
        hostname: spec.hostname.clone(),
        extra_hosts: spec.extra_hosts.clone(),
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        volumes: volumes
            .map(|(volume, memory)| VolumePlan { name: volume.name.clone(), memory, mode: 0o777, files: Vec::new() })
            .collect(),
        annotations: spec
            .annotations
            .iter()
            .filter(|(key, _)| key.starts_with("bramble/"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    }
}

/// One container, in its turn.
///
/// # Errors
/// When something that it names is missing, or cannot be given by this node.
pub fn container(
    spec: &PodSpec,
    container: &ContainerSpec,
    sandbox: &ObservedSandbox,
    turn: Turn,
    sources: Sources<'_>,
) -> Result<ContainerPlan, ConfigError> {
    if let Some(why) = &container.refused {
        return Err(ConfigError::Refused(why.clone()));
    }
    let env = env::environment(spec, container, sources)?;
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
    let expanded = |texts: &[String]| texts.iter().map(|text| env::expand(text, &env)).collect();
    Ok(ContainerPlan {
        pod: spec.pod.clone(),
        name: container.name.clone(),
        attempt: turn.attempt,
        streak: turn.streak,
        spec_hash: container.hash.clone(),
        image: container.image.clone(),
        command: expanded(&container.command),
        args: expanded(&container.args),
        working_dir: container.working_dir.clone(),
        mounts,
        sandbox_id: sandbox.id.clone(),
        host_network: spec.host_network,
        host_ipc: spec.host_ipc,
        pid: spec.pid,
        limits: container.limits,
        security: container.security.clone(),
        tty: container.tty,
        stdin: container.stdin,
        volumes,
        env,
    })
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
