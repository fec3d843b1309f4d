//! What of a pod needs an image: its containers, and its image volumes.
//!
//! In:       the pod's spec, and the key under which an image's state is kept: a container's name, or [`of_volume`].
//! Out:      [`Need`]: which image, and when it is fetched.
//! Never:    decides about it (`image.rs`).

use super::spec::{ContainerSpec, PodSpec, PullPolicy, VolumeSource};

/// Before a volume's name in its key. No container can be called so: names are DNS labels.
const VOLUME: &str = "VOLUME ";

/// An image that something of a pod needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need<'a> {
    /// As the pod names it.
    pub image: &'a str,
    /// When it is fetched.
    pub pull: PullPolicy,
}

/// The key of an image volume.
#[must_use]
pub fn of_volume(name: &str) -> String {
    format!("{VOLUME}{name}")
}

/// Whether a key is a volume's.
#[must_use]
pub fn is_volume(key: &str) -> bool {
    key.starts_with(VOLUME)
}

/// Whose image that is; `None` when there is no such container, or no such image volume.
#[must_use]
pub fn find<'a>(spec: &'a PodSpec, key: &str) -> Option<Need<'a>> {
    let Some(name) = key.strip_prefix(VOLUME) else {
        return spec.any(key).map(|container| Need { image: &container.image, pull: container.pull });
    };
    spec.volumes.iter().find(|volume| volume.name == name).and_then(|volume| match &volume.source {
        VolumeSource::Image { reference, pull } => Some(Need { image: reference, pull: *pull }),
        _ => None,
    })
}

/// The keys of the image volumes that a container mounts, each once.
#[must_use]
pub fn volumes_of(spec: &PodSpec, container: &ContainerSpec) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for key in container.mounts.iter().map(|mount| of_volume(&mount.volume)) {
        if find(spec, &key).is_some() && !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// All keys of a pod: its containers, and the image volumes that one of them mounts.
pub fn all(spec: &PodSpec) -> impl Iterator<Item = String> + '_ {
    let volumes = spec.mounted_volumes().map(|volume| of_volume(&volume.name)).filter(|key| find(spec, key).is_some());
    spec.all().map(|container| container.name.clone()).chain(volumes)
}
