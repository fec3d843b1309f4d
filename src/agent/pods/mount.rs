//! When a pod's volumes are set up, written anew and measured.
//!
//! In:       spec, share, what was done before; the node says when the share changed.
//! Out:      at most one command; what keeps containers from starting.
//! Never:    says what is in a volume (`volumes/content.rs`) or touches the disk.
//!
//! Level-triggered: what is wanted has a digest, what was done has one, and while they differ there is something to do. An agent
//! that starts has done nothing, so it looks at each volume once; content that is right already is not written again.

use std::time::Duration;

use super::env::{ConfigError, Sources};
use super::plan::{About, Memory, Next, View};
use super::spec::{HostPathType, PodSpec, VolumeSource, persistent};
use crate::agent::runtime::{Command, HostPathPlan, VolumesPlan};
use crate::agent::volumes::content;
use crate::clock::Tick;

/// Where trouble with volumes is remembered. No container of a pod can have the name.
pub const VOLUMES: &str = "VOLUMES";
/// Between two looks at how much is in an emptyDir with a limit. Source: the kubelet's volume stats period, 1 min.
const MEASURE: Duration = Duration::from_secs(60);
/// What a pod has to end that filled a volume. Source: the kubelet's immediateEvictionGracePeriodSeconds.
pub const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// What is remembered of a pod's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mounts {
    /// Whether the present share was looked at.
    pub looked: bool,
    /// Of what is wanted; `None`: nothing.
    pub wanted: Option<[u8; 16]>,
    /// Of what was done.
    pub done: Option<[u8; 16]>,
    /// What the first volume that is not complete waits for.
    pub missing: Option<ConfigError>,
    /// Why the node could not do it.
    pub failed: Option<String>,
    /// When the limits are looked at again.
    pub measure: Option<Tick>,
}

/// All that the pod's volumes need on the node, and what the first incomplete one waits for.
#[must_use]
pub fn plan(spec: &PodSpec, sources: Sources<'_>) -> (VolumesPlan, Option<ConfigError>) {
    let (contents, mut missing) = content::of_pod(spec, sources);
    let mut plan = VolumesPlan { contents, ..VolumesPlan::default() };
    for volume in spec.mounted_volumes() {
        let source = match resolved(spec, &volume.source, sources) {
            Ok(source) => source,
            Err(why) => {
                missing.get_or_insert(ConfigError::Volume { volume: volume.name.clone(), why: Box::new(why) });
                continue;
            }
        };
        match source {
            VolumeSource::HostPath { path, kind } => {
                let claimed = matches!(volume.source, VolumeSource::Claim { read_only: false, .. });
                // A hostPath is the owner's of the machine, as upstream has it.
                let local = matches!(kind, HostPathType::Exists | HostPathType::Provisioned);
                let group = spec.fs_group.filter(|_| claimed && local);
                plan.host_paths.push(HostPathPlan { volume: volume.name.clone(), path, kind, group });
            }
            VolumeSource::NoMedium(why) => {
                let why = Box::new(ConfigError::Refused(why));
                missing.get_or_insert(ConfigError::Volume { volume: volume.name.clone(), why });
            }
            // Their images are had at the containers' turns (`plan/turn.rs`).
            VolumeSource::Image { .. }
            | VolumeSource::EmptyDir { .. }
            | VolumeSource::Content(_)
            | VolumeSource::Claim { .. }
            | VolumeSource::Nfs(_)
            | VolumeSource::Refused(_) => {}
        }
    }
    (plan, missing)
}

/// A claim as what it is bound to; anything else as it is.
///
/// # Errors
/// When the claim is not there, or not bound.
pub fn resolved(spec: &PodSpec, source: &VolumeSource, sources: Sources<'_>) -> Result<VolumeSource, ConfigError> {
    let VolumeSource::Claim { name, read_only } = source else { return Ok(source.clone()) };
    match sources.share.claims.get(&format!("{}/{name}", spec.pod.namespace)) {
        Some(volume) => Ok(persistent(volume, *read_only)),
        None => Err(ConfigError::Refused(format!("persistentvolumeclaim \"{name}\" not found or not bound"))),
    }
}

/// The command that the volumes need, if they need one now.
pub(super) fn set_up(view: View<'_>, spec: &PodSpec, memory: &mut Memory) -> Next {
    let waits = memory.trouble.get(VOLUMES).map(|trouble| trouble.due).filter(|due| *due > view.now.tick);
    if memory.mounts.looked {
        if memory.mounts.wanted == memory.mounts.done {
            return Next::default();
        }
        if let Some(due) = waits {
            return Next::wait(due);
        }
    }
    let (plan, missing) = plan(spec, view.sources);
    memory.mounts.looked = true;
    memory.mounts.missing = missing;
    memory.mounts.wanted = (!plan.is_empty()).then(|| plan.digest());
    match memory.mounts.wanted {
        Some(digest) if memory.mounts.done != Some(digest) => {
            Next::order(Command::SetUpVolumes(Box::new(plan)), About::Volumes(digest))
        }
        wanted => {
            memory.mounts.done = wanted;
            // What could not be done is no longer wanted.
            memory.trouble.remove(VOLUMES);
            memory.mounts.failed = None;
            Next::default()
        }
    }
}

/// What keeps a container from its turn.
pub(super) fn hindrance(memory: &mut Memory, container: &str) -> Option<Next> {
    if let Some(error) = &memory.mounts.missing {
        // The share's next change is the next chance.
        memory.config.insert(container.to_owned(), error.clone());
        return Some(Next::default());
    }
    let due = memory.trouble.get(VOLUMES)?.due;
    // What it waited for has come; now this is what is wrong.
    memory.config.remove(container);
    Some(Next::wait(due))
}

/// Looks at how much is in the volumes that may not hold more than so much.
pub(super) fn measure(view: View<'_>, spec: &PodSpec, memory: &mut Memory) -> Next {
    let volumes: Vec<String> = limits(spec).map(|(name, _)| name.to_owned()).collect();
    if volumes.is_empty() {
        return Next::default();
    }
    let due = *memory.mounts.measure.get_or_insert(view.now.tick.after(MEASURE));
    if due > view.now.tick {
        return Next::wait(due);
    }
    memory.mounts.measure = Some(view.now.tick.after(MEASURE));
    Next::order(Command::MeasureVolumes { volumes }, About::Usage)
}

/// Volumes on disk that have a limit. One in memory keeps its own.
fn limits(spec: &PodSpec) -> impl Iterator<Item = (&str, u64)> {
    spec.mounted_volumes().filter_map(|volume| match volume.source {
        VolumeSource::EmptyDir { memory: false, limit: Some(limit) } => Some((volume.name.as_str(), limit)),
        _ => None,
    })
}

/// The words for the first volume that holds more than it may.
#[must_use]
pub fn exceeded(spec: &PodSpec, measured: &[(String, u64)]) -> Option<String> {
    let over = |name: &str, limit: u64| measured.iter().any(|(volume, bytes)| volume == name && *bytes > limit);
    let (name, limit) = limits(spec).find(|(name, limit)| over(name, *limit))?;
    // Source: the kubelet's emptyDirMessageFmt, its blank at the end too.
    Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", quantity(limit)))
}

/// Bytes as a person would have written them.
fn quantity(bytes: u64) -> String {
    let units = [("Gi", 1u64 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];
    match units.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((suffix, unit)) => format!("{}{suffix}", bytes / unit),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::pods::image::Fetches;
    use crate::agent::pods::lifecycle::PodState;
    use crate::agent::pods::plan::{Trouble, nothing};
    use crate::agent::pods::resource_field::NodeAmounts;
    use crate::agent::pods::spec;
    use crate::api::{Object, Uid};
    use crate::clock::{Now, Wall};
    use crate::link::share::Share;
    use serde_json::{Value, json};
    use std::sync::Arc;

    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    fn pod(volumes: Value) -> PodSpec {
        let named = volumes.as_array().unwrap().iter();
        let mounts: Vec<Value> = named.map(|volume| json!({"name": volume["name"], "mountPath": volume["name"]})).collect();
        let mut volumes = volumes.clone();
        // Nobody mounts it: nobody misses it.
        volumes.as_array_mut().unwrap().push(json!({"name": "unused", "secret": {"secretName": "nowhere"}}));
        let pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {"volumes": volumes, "containers": [{"name": "a", "volumeMounts": mounts}]}});
        spec::read(&Object::from_value(pod).unwrap())
    }

    fn share(value: Option<&str>) -> Share {
        let object = |text: &str| Arc::new(Object::from_value(json!({"data": {"k": text}})).unwrap());
        Share { config_maps: value.map(|text| ("default/c".to_owned(), object(text))).into_iter().collect(), ..Share::default() }
    }

    /// Asks at a second, after the share changed or not.
    fn ask(spec: &PodSpec, share: &Share, second: u64, changed: bool, memory: &mut Memory) -> Next {
        memory.mounts.looked &= !changed;
        let sources =
            Sources { share, net: &Share::default(), node_name: "pi", host_ips: &[], pod_ips: "", node: NodeAmounts::default() };
        let now = Now { tick: Tick(second * 1000), wall: Wall(0) };
        let observed = nothing(&Uid::from("u"));
        let view = View {
            spec: Some(spec),
            observed: &observed,
            state: PodState::Live,
            sources,
            fetches: Fetches { free: true, under_way: &std::collections::BTreeSet::new() },
            now,
        };
        set_up(view, spec, memory)
    }

    fn done(next: &Next, memory: &mut Memory) {
        let Some((Command::SetUpVolumes(plan), About::Volumes(digest))) = &next.order else { panic!("{next:?}") };
        assert_eq!(plan.digest(), *digest);
        memory.mounts.done = Some(*digest);
    }

    #[test]
    fn content_is_ordered_when_it_differs_from_what_was_done() {
        let spec = pod(json!([{"name": "v", "configMap": {"name": "c"}}]));
        let mut memory = Memory::default();
        assert_eq!(ask(&spec, &share(None), 0, true, &mut memory).order, None, "nothing is complete");
        assert_eq!(hindrance(&mut memory, "a"), Some(Next::default()));
        assert!(memory.config["a"].to_string().contains("configmap \"c\" not found"));
        let first = ask(&spec, &share(Some("1")), 1, true, &mut memory);
        done(&first, &mut memory);
        assert_eq!(hindrance(&mut memory, "a"), None);
        assert_eq!(ask(&spec, &share(Some("1")), 2, true, &mut memory), Next::default(), "the share changed elsewhere");
        assert_eq!(
            ask(&spec, &share(Some("2")), 3, false, &mut memory),
            Next::default(),
            "it is looked at when the share changed"
        );
        let second = ask(&spec, &share(Some("2")), 3, true, &mut memory);
        assert!(second.order.is_some() && second != first);

        // It failed: again when it is due, and not at all once it is no longer wanted.
        let trouble = Trouble { failures: 1, due: Tick(5000), reason: "ContainerCreating", message: "full".into() };
        memory.trouble.insert(VOLUMES.into(), trouble);
        assert_eq!(ask(&spec, &share(Some("2")), 4, false, &mut memory), Next::wait(Tick(5000)));
        assert_eq!(hindrance(&mut memory, "a"), Some(Next::wait(Tick(5000))));
        assert_eq!(ask(&spec, &share(Some("2")), 5, false, &mut memory), second);
        assert_eq!(ask(&spec, &share(Some("1")), 6, true, &mut memory), Next::default());
        assert_eq!(hindrance(&mut memory, "a"), None);
        assert_eq!(
            ask(&pod(json!([{"name": "v", "emptyDir": {}}])), &share(None), 0, true, &mut Memory::default()),
            Next::default()
        );
    }

    #[test]
    fn only_limits_on_disk_are_measured_and_the_words_are_upstreams() {
        let spec =
            pod(json!([{"name": "free", "emptyDir": {}}, {"name": "fast", "emptyDir": {"medium": "Memory", "sizeLimit": "1Ki"}},
            {"name": "x", "emptyDir": {"sizeLimit": "1536Ki"}}, {"name": "y", "emptyDir": {"sizeLimit": 1000}}]));
        assert_eq!(limits(&spec).collect::<Vec<_>>(), [("x", 1536 << 10), ("y", 1000)]);
        let measured = |x: u64, y: u64| exceeded(&spec, &[("x".into(), x), ("y".into(), y), ("free".into(), u64::MAX)]);
        assert_eq!(measured(1536 << 10, 1000), None);
        assert_eq!(measured(1 << 21, 0).unwrap(), "Usage of EmptyDir volume \"x\" exceeds the limit \"1536Ki\". ");
        assert_eq!(measured(0, 1001).unwrap(), "Usage of EmptyDir volume \"y\" exceeds the limit \"1000\". ");
    }
}
