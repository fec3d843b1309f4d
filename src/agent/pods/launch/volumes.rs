//! Where a pod's containers see its volumes.
//!
//! In:       the pod's volumes, a container's mounts and environment, the share's claims.
//! Out:      [`MountPlan`]s and [`VolumePlan`]s, or why not.
//! Never:    says what is in a volume (`volumes/content.rs`) or what the host must have for it (`pods/mount.rs`).

use crate::agent::pods::env::{ConfigError, Sources, expand};
use crate::agent::pods::mount::resolved;
use crate::agent::pods::resource_field::NodeAmounts;
use crate::agent::pods::spec::{ContainerSpec, HostPathType, MountSpec, Nfs, PodSpec, VolumeSource};
use crate::agent::runtime::{MountPlan, MountSource, Propagation, VolumeKind, VolumePlan};

/// The volumes that the sandbox holds: what lives as long as the pod does.
pub(super) fn of_sandbox(spec: &PodSpec, node: NodeAmounts) -> Vec<VolumePlan> {
    let volumes = spec.mounted_volumes().filter_map(|volume| match &volume.source {
        VolumeSource::EmptyDir { memory, limit } => Some(empty_dir(spec, &volume.name, *memory, *limit, node)),
        _ => None,
    });
    volumes.collect()
}

fn empty_dir(spec: &PodSpec, name: &str, memory: bool, limit: Option<u64>, node: NodeAmounts) -> VolumePlan {
    let kind = if memory { VolumeKind::Memory(memory_size(spec, limit, node)) } else { VolumeKind::Disk };
    VolumePlan { name: name.to_owned(), kind, group: spec.fs_group }
}

/// What an emptyDir in memory may hold: its own limit, else what all of the pod may take, else what the node gives to pods; the
/// least of them. Source: the kubelet's calculateEmptyDirMemorySize.
fn memory_size(spec: &PodSpec, limit: Option<u64>, node: NodeAmounts) -> Option<u64> {
    let limits = spec.containers.iter().map(|container| container.cgroup.memory_bytes);
    let of_pod = limits.sum::<Option<u64>>().filter(|&bytes| bytes > 0);
    let of_node = Some(node.memory_bytes).filter(|&bytes| bytes > 0);
    [limit, of_pod, of_node].into_iter().flatten().min()
}

/// A container's mounts, and the volumes of the runtime among them.
pub(super) fn of_container(
    spec: &PodSpec,
    container: &ContainerSpec,
    env: &[(String, String)],
    sources: Sources<'_>,
) -> Result<(Vec<MountPlan>, Vec<VolumePlan>), ConfigError> {
    let mut mounts: Vec<MountPlan> = Vec::new();
    let mut volumes: Vec<VolumePlan> = Vec::new();
    for mount in &container.mounts {
        let Some(volume) = spec.volumes.iter().find(|volume| volume.name == mount.volume) else {
            return Err(ConfigError::Refused(format!("volumeMount \"{}\" names no volume of the pod", mount.volume)));
        };
        let name = &volume.name;
        let in_volume = |why| ConfigError::Volume { volume: name.clone(), why: Box::new(why) };
        let mut keep = |plan: VolumePlan| {
            if volumes.iter().all(|known| known.name != plan.name) {
                volumes.push(plan);
            }
            MountSource::Volume(name.clone())
        };
        let mut read_only = mount.read_only;
        if let VolumeSource::Claim { read_only: true, .. } = volume.source {
            read_only = true;
        }
        let source = match resolved(spec, &volume.source, sources).map_err(in_volume)? {
            VolumeSource::HostPath { path, kind } => MountSource::Host { path, make: kind == HostPathType::Unset },
            VolumeSource::EmptyDir { memory, limit } => keep(empty_dir(spec, name, memory, limit, sources.node)),
            // Upstream mounts them read-only whatever is asked for.
            VolumeSource::Content(_) => {
                read_only = true;
                MountSource::Content(name.clone())
            }
            VolumeSource::Image { reference, .. } => {
                read_only = true;
                MountSource::Image { volume: name.clone(), reference }
            }
            VolumeSource::Nfs(Nfs { server, path, read_only: never, options }) => {
                read_only |= never;
                keep(VolumePlan { name: name.clone(), kind: VolumeKind::Nfs { server, path, options }, group: None })
            }
            VolumeSource::NoMedium(why) => return Err(in_volume(ConfigError::Refused(why))),
            VolumeSource::Refused(why) => return Err(ConfigError::Refused(why)),
            VolumeSource::Claim { .. } => return Err(ConfigError::Refused(format!("volume \"{name}\" is a claim of a claim"))),
        };
        if mount.propagation == Propagation::Bidirectional && !container.security.privileged {
            return Err(ConfigError::Refused(format!(
                "volumeMount \"{name}\": Bidirectional mount propagation is available only to privileged containers"
            )));
        }
        if mount.propagation != Propagation::None && !matches!(source, MountSource::Host { .. }) {
            return Err(ConfigError::Refused(format!(
                "volumeMount \"{name}\": mountPropagation can be given by this node for hostPath and local volumes only"
            )));
        }
        if mounts.iter().any(|other| other.path.trim_end_matches('/') == mount.path.trim_end_matches('/')) {
            return Err(ConfigError::Refused(format!("volumeMount \"{name}\": mountPath \"{}\" must be unique", mount.path)));
        }
        mounts.push(MountPlan {
            path: mount.path.clone(),
            source,
            sub_path: sub_path(mount, env)?,
            read_only,
            recursive_read_only: mount.recursive_read_only,
            propagation: mount.propagation,
        });
    }
    Ok((mounts, volumes))
}

/// `subPath`, or `subPathExpr` with its variables in place. Source: the kubelet's makeMounts.
fn sub_path(mount: &MountSpec, env: &[(String, String)]) -> Result<String, ConfigError> {
    let path = if mount.sub_path_expr.is_empty() { mount.sub_path.clone() } else { expand(&mount.sub_path_expr, env) };
    let refused = |why: &str| Err(ConfigError::Refused(format!("volumeMount \"{}\": subPath \"{path}\" {why}", mount.volume)));
    if let Some(name) = unknown(&mount.sub_path_expr, env) {
        return refused(&format!("misses a value for \"{name}\""));
    }
    if path.starts_with('/') {
        return refused("must not be an absolute path");
    }
    if path.split('/').any(|part| part == "..") {
        return refused("must not contain '..'");
    }
    if path.contains('\0') {
        return refused("must not contain a zero byte");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(parts.join("/"))
}

/// The first variable of an expression that nobody set.
fn unknown<'a>(expression: &'a str, env: &[(String, String)]) -> Option<&'a str> {
    // `$$` is a dollar, and what follows it no variable.
    let mut rest = expression;
    while let Some((_, after)) = rest.split_once('$') {
        rest = after.strip_prefix('$').unwrap_or(after);
        if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            if env.iter().all(|(known, _)| known != name) {
                return Some(name);
            }
            rest = tail;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::pods::spec;
    use crate::api::Object;
    use crate::link::share::Share;
    use serde_json::{Value, json};
    use std::sync::Arc;

    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    fn mounts(volume: Value, mount: Value, privileged: bool) -> Result<(Vec<MountPlan>, Vec<VolumePlan>), String> {
        let (mut volume, mut mount) = (volume, mount);
        volume["name"] = json!("v");
        mount["name"] = json!("v");
        let pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": {
            "securityContext": {"fsGroup": 2000}, "volumes": [volume],
            "containers": [{"name": "a", "volumeMounts": [mount], "securityContext": {"privileged": privileged}}]}});
        let spec = spec::read(&Object::from_value(pod).unwrap());
        let claim = json!({"metadata": {"name": "pv"}, "spec": {"local": {"path": "/srv/a"}}});
        let share = Share {
            claims: [("default/bound".to_owned(), Arc::new(Object::from_value(claim).unwrap()))].into(),
            ..Share::default()
        };
        let sources = Sources {
            share: &share,
            net: &Share::default(),
            node_name: "pi",
            host_ips: &[],
            pod_ips: "",
            node: NodeAmounts::default(),
        };
        let env = [("POD".to_owned(), "web-0".to_owned()), ("UP".to_owned(), "../..".to_owned())];
        of_container(&spec, &spec.containers[0], &env, sources).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_is_mounted_from_its_place() {
        let at = json!({"mountPath": "/v"});
        let source = |volume: Value| {
            let (mounts, volumes) = mounts(volume, at.clone(), false).unwrap();
            (mounts[0].source.clone(), mounts[0].read_only, volumes.first().map(|volume| (volume.kind.clone(), volume.group)))
        };
        let host = |path: &str, make| MountSource::Host { path: path.to_owned(), make };
        let ours = || MountSource::Volume("v".to_owned());
        assert_eq!(source(json!({"emptyDir": {}})), (ours(), false, Some((VolumeKind::Disk, Some(2000)))));
        assert_eq!(
            source(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Ki"}})),
            (ours(), false, Some((VolumeKind::Memory(Some(1024)), Some(2000))))
        );
        assert_eq!(source(json!({"hostPath": {"path": "/x"}})), (host("/x", true), false, None));
        assert_eq!(source(json!({"hostPath": {"path": "/x", "type": "Socket"}})), (host("/x", false), false, None));
        assert_eq!(source(json!({"configMap": {"name": "c"}})), (MountSource::Content("v".into()), true, None));
        assert_eq!(source(json!({"persistentVolumeClaim": {"claimName": "bound"}})), (host("/srv/a", false), false, None));
        assert_eq!(
            source(json!({"persistentVolumeClaim": {"claimName": "bound", "readOnly": true}})),
            (host("/srv/a", false), true, None)
        );
        let nfs = VolumeKind::Nfs { server: "nas".into(), path: "/x".into(), options: Vec::new() };
        assert_eq!(source(json!({"nfs": {"server": "nas", "path": "/x", "readOnly": true}})), (ours(), true, Some((nfs, None))));
    }

    #[test]
    fn sub_paths_are_expanded_and_never_lead_up() {
        let sub = |mount: Value| {
            let mut mount = mount;
            mount["mountPath"] = json!("/v");
            mounts(json!({"emptyDir": {}}), mount, false).map(|(mounts, _)| mounts[0].sub_path.clone())
        };
        assert_eq!(sub(json!({"subPath": "a/./b//c/"})), Ok("a/b/c".to_owned()));
        assert_eq!(sub(json!({"subPathExpr": "logs/$(POD)"})), Ok("logs/web-0".to_owned()));
        assert_eq!(sub(json!({"subPathExpr": "$$(POD)"})), Ok("$(POD)".to_owned()));
        for (mount, words) in [
            (json!({"subPath": "../x"}), "must not contain '..'"),
            (json!({"subPath": "/etc"}), "must not be an absolute path"),
            (json!({"subPathExpr": "$(UP)/etc"}), "must not contain '..'"),
            (json!({"subPathExpr": "$(NONE)"}), "misses a value for \"NONE\""),
        ] {
            assert!(sub(mount.clone()).is_err_and(|told| told.contains(words)), "{mount}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (volume, mount, words) in [
            (json!({"emptyDir": {}}), json!({"mountPropagation": "HostToContainer"}), "hostPath and local volumes only"),
            (json!({"hostPath": {"path": "/x"}}), json!({"mountPropagation": "Bidirectional"}), "privileged"),
            (
                json!({"persistentVolumeClaim": {"claimName": "none"}}),
                json!({}),
                "MountVolume.SetUp failed for volume \"v\" : persistentvolumeclaim \"none\" not found or not bound",
            ),
            (json!({"csi": {}}), json!({}), "csi volumes cannot be given"),
        ] {
            assert!(mounts(volume, mount, false).is_err_and(|told| told.contains(words)), "{words}");
        }
        assert!(mounts(json!({"hostPath": {"path": "/x"}}), json!({"mountPropagation": "Bidirectional"}), true).is_ok());
    }

    #[test]
    fn what_is_in_memory_is_bounded_by_the_pod_and_by_the_node() {
        let pod = |limit: Value| {
            let pod = json!({"metadata": {"name": "w", "uid": "u"},
                "spec": {"containers": [{"name": "a", "resources": {"limits": limit}}]}});
            spec::read(&Object::from_value(pod).unwrap())
        };
        let node = NodeAmounts { memory_bytes: 1 << 30, ..NodeAmounts::default() };
        for (limit, own, size) in [
            (json!({}), None, 1 << 30),
            (json!({"memory": "64Mi"}), None, 64 << 20),
            (json!({"memory": "64Mi"}), Some(1 << 20), 1 << 20),
            (json!({"memory": "64Mi"}), Some(1 << 40), 64 << 20),
        ] {
            assert_eq!(memory_size(&pod(limit.clone()), own, node), Some(size), "{limit} {own:?}");
        }
        assert_eq!(memory_size(&pod(json!({})), None, NodeAmounts::default()), None, "nothing is known");
    }
}
