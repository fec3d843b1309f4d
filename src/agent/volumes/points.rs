//! Where something else is mounted in a content volume. Pure.
//!
//! In:       the mounts of a pod's containers, the files of one volume.
//! Out:      places in the volume that have to be there, since nobody can make them in a read-only mount.
//! Source:   the kubelet's MakeNestedMountpoints, which makes directories only.

use std::collections::BTreeMap;

use super::layout;
use crate::agent::pods::spec::{HostPathType, MountSpec, PodSpec, VolumeSource};
use crate::agent::runtime::{ContentFile, Point};

/// The places. A key of the volume is never one: what is there is mounted over.
pub(super) fn of_volume(spec: &PodSpec, volume: &str, files: &BTreeMap<String, ContentFile>) -> BTreeMap<String, Point> {
    let mut points = BTreeMap::new();
    for container in spec.all() {
        let whole = |mount: &&MountSpec| mount.volume == volume && mount.sub_path.is_empty() && mount.sub_path_expr.is_empty();
        for outer in container.mounts.iter().filter(whole) {
            let Some(outer) = parts(&outer.path) else { continue };
            for inner in &container.mounts {
                let Some(path) = parts(&inner.path) else { continue };
                let Some(below) = path.strip_prefix(outer.as_slice()).filter(|below| !below.is_empty()) else { continue };
                // What is mounted in between is where it has to be made.
                let between = container
                    .mounts
                    .iter()
                    .filter_map(|other| parts(&other.path))
                    .any(|other| other.len() > outer.len() && other.len() < path.len() && path.starts_with(&other));
                let place = below.join("/");
                let fits = layout::check([place.clone()].iter()).is_ok();
                let under_key =
                    (1..=below.len()).any(|end| below.get(..end).is_some_and(|part| files.contains_key(&part.join("/"))));
                if !between && fits && !under_key {
                    points.insert(place, kind(spec, inner));
                }
            }
        }
    }
    points
}

/// The names of an absolute path; `None` when it leads up.
fn parts(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    (!parts.contains(&"..")).then_some(parts)
}

/// Whether a file or a directory is mounted, as far as the spec says.
fn kind(spec: &PodSpec, mount: &MountSpec) -> Point {
    let source = spec.volumes.iter().find(|volume| volume.name == mount.volume).map(|volume| &volume.source);
    match source {
        // One entry of a config map or a secret. What has a file below it is a directory.
        Some(VolumeSource::Content(content)) if !mount.sub_path.is_empty() => {
            let below = format!("{}/", mount.sub_path.trim_end_matches('/'));
            if content.paths().any(|path| path.starts_with(&below)) { Point::Folder } else { Point::File }
        }
        Some(VolumeSource::HostPath { kind, .. }) if mount.sub_path.is_empty() => match kind {
            HostPathType::File
            | HostPathType::FileOrCreate
            | HostPathType::Socket
            | HostPathType::CharDevice
            | HostPathType::BlockDevice => Point::File,
            HostPathType::Unset
            | HostPathType::DirectoryOrCreate
            | HostPathType::Directory
            | HostPathType::Exists
            | HostPathType::Provisioned => Point::Folder,
        },
        _ => Point::Folder,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::pods::spec;
    use crate::api::Object;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    fn points(mounts: Value) -> Vec<(String, Point)> {
        let pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": {
            "volumes": [{"name": "c", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {}},
                        {"name": "s", "secret": {"secretName": "s", "items": [{"key": "k", "path": "deep/er"}]}},
                        {"name": "h", "hostPath": {"path": "/run/x.sock", "type": "Socket"}}],
            "containers": [{"name": "a", "volumeMounts": mounts}]}});
        let spec = spec::read(&Object::from_value(pod).unwrap());
        let files = [("key".to_owned(), ContentFile { mode: 0o644, content: Vec::new() })].into();
        of_volume(&spec, "c", &files).into_iter().collect()
    }

    #[test]
    fn each_mount_below_the_volume_has_its_place() {
        let all = points(json!([
            {"name": "c", "mountPath": "/etc/app/"}, {"name": "e", "mountPath": "/etc/app/w/x"}, {"name": "e", "mountPath": "/etc/apple"},
            {"name": "s", "mountPath": "/etc/app/pass", "subPath": "p"}, {"name": "s", "mountPath": "/etc/app/deep", "subPath": "deep"},
            {"name": "h", "mountPath": "/etc/app/sock"}, {"name": "e", "mountPath": "/etc/app/w/x/y"},
            {"name": "e", "mountPath": "/etc/app/key"}, {"name": "e", "mountPath": "/etc/app/..data"}, {"name": "e", "mountPath": "/etc/app/../up"},
        ]));
        let place = |path: &str, point| (path.to_owned(), point);
        assert_eq!(
            all,
            [place("deep", Point::Folder), place("pass", Point::File), place("sock", Point::File), place("w/x", Point::Folder),],
            "keys are there already, and ..data is ours"
        );
        assert_eq!(points(json!([{"name": "c", "mountPath": "/c", "subPath": "key"}, {"name": "e", "mountPath": "/c/w"}])), []);
    }
}
