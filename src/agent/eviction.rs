//! Which pod has to go when the node runs short. Pure.
//!
//! In:       what is short, what each pod uses, what it asked for, how important it is.
//! Out:      the next pod to be given up, with the kubelet's words; the pods that use more disk than they may.
//! Never:    ends anything (`node.rs`, by `Input::Fail`), or measures (`health/run.rs`).
//! Source:   the kubelet's eviction manager: `rankMemoryPressure`, `rankDiskPressureFunc`, `localStorageEviction`, and its messages.
//!
//! The order of the kubelet: who uses more than he asked for goes before who does not; of those the less important; of those the
//! one that is furthest over. Pods that the node cannot do without (`system-node-critical`, `system-cluster-critical`) never go.
//! One pod at a time: its successor is chosen when it has ended, or has not within [`ENDS_WITHIN`], and the node is still short.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::health::judge::{Resource, Short};
use super::runtime::PodRef;
use super::stats::{DiskUsage, OnDisk, Usage};
use crate::api::core::resources::quantity;
use crate::api::quantity::Quantity;
use crate::api::{Object, Uid};
use crate::clock::Tick;

/// A pod that was given up and still runs then is not waited for. Source: the kubelet's pod cleanup time-out.
pub const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Memory or disk that an ended pod held is counted as free this much later at most.
const RELIEF: Duration = Duration::from_secs(2);
/// From this priority on the cluster cannot do without a pod. Source: `scheduling.SystemCriticalPriority`.
const CRITICAL: i64 = 2_000_000_000;

/// A pod that may have to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub pod: PodRef,
    /// `spec.priority`.
    pub priority: i64,
    /// What each of its containers holds of what is short, and asked for.
    pub containers: Vec<Held>,
    /// What it holds besides: volumes.
    pub besides: u64,
}

/// What a container holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: String,
    /// So much.
    pub used: u64,
    /// It asked for so much.
    pub request: u64,
}

impl Candidate {
    fn used(&self) -> u64 {
        self.containers.iter().fold(self.besides, |sum, held| sum.saturating_add(held.used))
    }

    fn request(&self) -> u64 {
        self.containers.iter().fold(0, |sum, held| sum.saturating_add(held.request))
    }

    /// The smaller, the sooner it goes.
    fn rank(&self) -> (bool, i64, i128, &PodRef) {
        let over = i128::from(self.used()) - i128::from(self.request());
        (over <= 0, self.priority, -over, &self.pod)
    }
}

/// A pod that is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Which.
    pub uid: Uid,
    /// For its status and an event.
    pub message: String,
}

/// What the node gives up for what is short; `None` when nothing may go.
#[must_use]
pub fn victim(short: &Short, candidates: &[Candidate]) -> Option<Evicted> {
    let name = short.resource.name();
    let worst = candidates.iter().filter(|candidate| candidate.priority < CRITICAL).min_by_key(|candidate| candidate.rank())?;
    let amount = |value: u64| {
        if short.resource.is_inodes() || short.resource == Resource::Pids { value.to_string() } else { binary(value) }
    };
    let mut message = format!(
        "The node was low on resource: {name}. Threshold quantity: {}, available: {}. ",
        amount(short.threshold),
        amount(short.available)
    );
    for held in worst.containers.iter().filter(|held| held.used > held.request) {
        message.push_str(&format!(
            "Container {} was using {}, request is {}, has larger consumption of {name}. ",
            held.name,
            amount(held.used),
            amount(held.request)
        ));
    }
    Some(Evicted { uid: worst.pod.uid.clone(), message })
}

/// The pods of the share that run, with what they hold of `resource`.
#[must_use]
pub fn candidates<'a>(
    resource: Resource,
    pods: impl Iterator<Item = &'a Object>,
    usage: &Usage,
    disk: &[DiskUsage],
) -> Vec<Candidate> {
    let mut held: BTreeMap<&Uid, BTreeMap<&str, u64>> = BTreeMap::new();
    for container in &usage.containers {
        let used = match resource {
            Resource::Memory => container.memory_bytes,
            Resource::Pids => container.tasks,
            Resource::NodeDisk | Resource::NodeInodes | Resource::ImageDisk | Resource::ImageInodes => 0,
        };
        held.entry(&container.pod.uid).or_default().insert(&container.container, used);
    }
    let on_disk: BTreeMap<&Uid, &DiskUsage> = disk.iter().map(|usage| (&usage.pod.uid, usage)).collect();
    let asked = match resource {
        Resource::Memory => Some("memory"),
        Resource::NodeDisk | Resource::ImageDisk => Some("ephemeral-storage"),
        Resource::NodeInodes | Resource::ImageInodes | Resource::Pids => None,
    };
    let counted = |held: OnDisk| if resource.is_inodes() { held.files } else { held.bytes };
    let mut out = Vec::new();
    for pod in pods {
        let uid = pod.uid();
        // One that runs nothing frees nothing.
        let Some(runs) = held.get(&uid) else { continue };
        if pod.is_deleting() {
            continue;
        }
        let disk = on_disk.get(&uid);
        let containers = ["initContainers", "containers"].into_iter().flat_map(|key| pod.list_at(&["spec", key]));
        let containers = containers.filter_map(|spec| {
            let name = spec.get("name")?.as_str()?;
            let used = match disk {
                Some(disk) => disk.containers.get(name).map(|held| counted(*held)),
                None => runs.get(name).copied(),
            };
            let request = asked.and_then(|asked| amount(spec, "requests", asked)).unwrap_or_default();
            Some(Held { name: name.to_owned(), used: used?, request })
        });
        out.push(Candidate {
            pod: PodRef { uid: uid.clone(), namespace: pod.namespace().to_owned(), name: pod.name().to_owned() },
            priority: pod.i64_at(&["spec", "priority"]).unwrap_or_default(),
            containers: containers.collect(),
            besides: disk.map_or(0, |disk| disk.volumes.values().fold(0, |sum, held| sum.saturating_add(counted(*held)))),
        });
    }
    out
}

/// Whether a pod may use only so much of the node's disk: then it is measured now and then.
#[must_use]
pub fn is_limited(pod: &Object) -> bool {
    let limited = |spec: &Value| amount(spec, "limits", "ephemeral-storage").is_some();
    let sized = |volume: &Value| volume.pointer("/emptyDir/sizeLimit").is_some() && !in_memory(volume);
    pod.list_at(&["spec", "containers"]).iter().any(limited) || pod.list_at(&["spec", "volumes"]).iter().any(sized)
}

fn in_memory(volume: &Value) -> bool {
    volume.pointer("/emptyDir/medium").and_then(Value::as_str) == Some("Memory")
}

/// Why a pod uses more of the disk than it may; `None`: it does not.
#[must_use]
pub fn over_its_limit(pod: &Object, disk: &DiskUsage) -> Option<Evicted> {
    let evicted = |message: String| Some(Evicted { uid: pod.uid(), message });
    for volume in pod.list_at(&["spec", "volumes"]).iter().filter(|volume| !in_memory(volume)) {
        let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
        let Some(limit) = volume.pointer("/emptyDir/sizeLimit") else { continue };
        let Some(most) = quantity(limit).and_then(bytes).filter(|most| *most > 0) else { continue };
        if disk.volumes.get(name).is_some_and(|used| used.bytes > most) {
            return evicted(format!("Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ", as_written(limit)));
        }
    }
    let containers = pod.list_at(&["spec", "containers"]);
    let limits: Vec<Option<u64>> = containers.iter().map(|spec| amount(spec, "limits", "ephemeral-storage")).collect();
    // The sum is a limit for the pod only if each container has one.
    if let Some(sum) = limits.iter().copied().try_fold(0u64, |sum, limit| Some(sum.saturating_add(limit?)))
        && disk.total() > sum
    {
        return evicted(format!("Pod ephemeral local storage usage exceeds the total limit of containers {}. ", binary(sum)));
    }
    for (spec, limit) in containers.iter().zip(limits) {
        let name = spec.get("name").and_then(Value::as_str).unwrap_or_default();
        if let (Some(limit), Some(used)) = (limit, disk.containers.get(name))
            && used.bytes > limit
        {
            return evicted(format!("Container {name} exceeded its local ephemeral storage limit {:?}. ", binary(limit)));
        }
    }
    None
}

fn amount(spec: &Value, kind: &str, resource: &str) -> Option<u64> {
    quantity(spec.get("resources")?.get(kind)?.get(resource)?).and_then(bytes)
}

fn bytes(quantity: Quantity) -> Option<u64> {
    u64::try_from(quantity.units()).ok()
}

fn as_written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// As a quantity prints itself: the largest binary unit that holds it without a rest.
fn binary(bytes: u64) -> String {
    let mut value = bytes;
    for unit in ["", "Ki", "Mi", "Gi", "Ti"] {
        if value == 0 || !value.is_multiple_of(1024) || unit == "Ti" {
            return format!("{value}{unit}");
        }
        value /= 1024;
    }
    bytes.to_string()
}

/// One pod at a time.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// Who was given up last, and when.
    last: Option<(Uid, Tick)>,
    /// Since when nothing of it runs.
    ended: Option<Tick>,
}

impl Turns {
    /// Notes that a pod was given up.
    pub fn evicted(&mut self, uid: Uid, now: Tick) {
        self.last = Some((uid, now));
        self.ended = None;
    }

    /// Whether another may be given up, by what runs now.
    pub fn next(&mut self, now: Tick, usage: &Usage) -> bool {
        let Some((uid, since)) = &self.last else { return true };
        let runs = usage.containers.iter().any(|container| container.pod.uid == *uid);
        let relieved = match (runs, self.ended) {
            (false, None) => {
                self.ended = Some(now);
                false
            }
            (false, Some(ended)) => now.since(ended) >= RELIEF,
            (true, _) => false,
        };
        if relieved || now.since(*since) >= ENDS_WITHIN {
            self.last = None;
            self.ended = None;
        }
        self.last.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::stats::ContainerUsage;
    use serde_json::json;

    const MIB: u64 = 1 << 20;

    fn pod(name: &str, priority: i64, request: &str) -> Object {
        let container = json!({"name": "c", "resources": {"requests": {"memory": request}}});
        let metadata = json!({"name": name, "namespace": "default", "uid": name});
        Object::from_value(json!({"metadata": metadata, "spec": {"priority": priority, "containers": [container]}})).unwrap()
    }

    fn used(name: &str, mib: u64) -> ContainerUsage {
        let pod = PodRef { uid: name.into(), namespace: "default".into(), name: name.into() };
        ContainerUsage { pod, container: "c".into(), memory_bytes: mib * MIB, ..ContainerUsage::default() }
    }

    fn usage(all: &[(&str, u64)]) -> Usage {
        Usage { node: None, containers: all.iter().map(|(name, mib)| used(name, *mib)).collect() }
    }

    const SHORT: Short = Short { resource: Resource::Memory, threshold: 100 * MIB, available: 50 * MIB };

    #[test]
    fn pods_go_by_excess_then_priority_then_amount() {
        /// What it is about, its pods (name, priority, request, MiB in use), who goes.
        type Case<'a> = (&'a str, &'a [(&'a str, i64, &'a str, u64)], &'a str);
        let cases: &[Case<'_>] = &[
            (
                "over its request before within, whatever the priority",
                &[("within", 0, "100Mi", 90), ("over", 9, "10Mi", 20)],
                "over",
            ),
            ("the less important of two over theirs", &[("low", -1, "1Mi", 2), ("high", 5, "1Mi", 500)], "low"),
            ("the one furthest over", &[("a", 0, "400Mi", 410), ("b", 0, "1Mi", 80)], "b"),
            ("who asked for nothing is always over", &[("best-effort", 0, "0", 1), ("burstable", 0, "64Mi", 60)], "best-effort"),
            ("within: the less important", &[("a", 3, "100Mi", 10), ("b", 2, "100Mi", 90)], "b"),
            ("never a critical one", &[("system", 2_000_001_000, "0", 900), ("web", 100, "64Mi", 1)], "web"),
            ("nobody is left", &[("system", 2_000_000_000, "0", 900)], ""),
        ];
        for (what, pods, expected) in cases {
            let objects: Vec<Object> = pods.iter().map(|(name, priority, request, _)| pod(name, *priority, request)).collect();
            let held: Vec<(&str, u64)> = pods.iter().map(|(name, .., mib)| (*name, *mib)).collect();
            let candidates = candidates(Resource::Memory, objects.iter(), &usage(&held), &[]);
            let chosen = victim(&SHORT, &candidates).map(|evicted| evicted.uid.0).unwrap_or_default();
            assert_eq!(&chosen, expected, "{what}");
        }
    }

    #[test]
    fn the_words_are_the_kubelets() {
        let objects = [pod("web", 0, "10Mi")];
        let evicted = victim(&SHORT, &candidates(Resource::Memory, objects.iter(), &usage(&[("web", 64)]), &[])).unwrap();
        assert_eq!(
            evicted.message,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container c was using 64Mi, request is 10Mi, has larger consumption of memory. "
        );
        let disk = DiskUsage {
            pod: PodRef { uid: "web".into(), ..PodRef::default() },
            containers: [("c".to_owned(), OnDisk { bytes: 3 * MIB, files: 700 })].into(),
            volumes: [("data".to_owned(), OnDisk { bytes: 9 * MIB, files: 11 })].into(),
        };
        let found = candidates(Resource::ImageDisk, objects.iter(), &usage(&[("web", 64)]), std::slice::from_ref(&disk));
        assert_eq!((found[0].used(), found[0].request()), (12 * MIB, 0));
        let short = Short { resource: Resource::ImageDisk, threshold: 5 << 30, available: 1000 };
        assert_eq!(
            victim(&short, &found).unwrap().message,
            "The node was low on resource: ephemeral-storage. Threshold quantity: 5Gi, available: 1000. Container c was using 3Mi, request is 0, has larger consumption of ephemeral-storage. "
        );
        let found = candidates(Resource::ImageInodes, objects.iter(), &usage(&[("web", 64)]), &[disk]);
        assert_eq!(found[0].used(), 711);
        assert_eq!(
            victim(&Short { resource: Resource::ImageInodes, threshold: 5000, available: 4096 }, &found).unwrap().message,
            "The node was low on resource: inodes. Threshold quantity: 5000, available: 4096. Container c was using 700, request is 0, has larger consumption of inodes. "
        );
    }

    #[test]
    fn what_does_not_run_or_ends_already_is_no_candidate() {
        let mut ending = pod("ending", 0, "0");
        ending.set_at(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
        let objects = [pod("waits", 0, "0"), ending];
        assert_eq!(candidates(Resource::Memory, objects.iter(), &usage(&[("ending", 5)]), &[]), []);
    }

    #[test]
    fn a_pod_may_use_as_much_disk_as_it_says() {
        let value = |limits: Value, volume: Value| {
            Object::from_value(json!({"metadata": {"uid": "u"}, "spec": {
                "containers": [{"name": "a", "resources": {"limits": limits}}, {"name": "b", "resources": {"limits": {"ephemeral-storage": "4Mi"}}}],
                "volumes": [{"name": "v", "emptyDir": volume}]}}))
            .unwrap()
        };
        let mib = |count: u64| OnDisk { bytes: count * MIB, files: 1 };
        let disk = |a: u64, b: u64, v: u64| DiskUsage {
            containers: [("a".to_owned(), mib(a)), ("b".to_owned(), mib(b))].into(),
            volumes: [("v".to_owned(), mib(v))].into(),
            ..DiskUsage::default()
        };
        let six = || json!({"ephemeral-storage": "6Mi"});
        for (pod, disk, words) in [
            (value(six(), json!({})), disk(5, 1, 3), ""),
            (
                value(six(), json!({})),
                disk(5, 1, 5),
                "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. ",
            ),
            (value(json!({}), json!({})), disk(500, 5, 0), "Container b exceeded its local ephemeral storage limit \"4Mi\". "),
            (value(json!({}), json!({})), disk(500, 1, 500), ""),
            (
                value(json!({}), json!({"sizeLimit": "2M"})),
                disk(0, 0, 2),
                "Usage of EmptyDir volume \"v\" exceeds the limit \"2M\". ",
            ),
            (value(json!({}), json!({"sizeLimit": "2M", "medium": "Memory"})), disk(0, 0, 2), ""),
        ] {
            assert_eq!(over_its_limit(&pod, &disk).map(|evicted| evicted.message).unwrap_or_default(), words);
            assert!(is_limited(&pod));
        }
        assert!(!is_limited(&pod("plain", 0, "1Mi")));
    }

    #[test]
    fn the_next_goes_when_the_last_has_gone_and_that_had_time_to_help() {
        let mut turns = Turns::default();
        let (there, gone) = (usage(&[("a", 1)]), usage(&[]));
        assert!(turns.next(Tick(0), &there));
        turns.evicted("a".into(), Tick(0));
        let seen: Vec<bool> =
            [(500, &there), (1000, &gone), (2000, &gone), (3000, &gone)].map(|(at, usage)| turns.next(Tick(at), usage)).into();
        assert_eq!(seen, [false, false, false, true]);
        turns.evicted("a".into(), Tick(10_000));
        assert!(!turns.next(Tick(39_999), &there) && turns.next(Tick(40_000), &there), "not waited for beyond 30 s");
    }
}
