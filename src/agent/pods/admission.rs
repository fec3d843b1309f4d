//! Which pods this node does not take at all. Pure.
//!
//! In:       a checked spec, and what the node's owner allows; what the node has, and the pods that it took before.
//! Out:      the reason of the pod's end, in the kubelet's words: such a pod is `Failed` before anything of it was made.
//! Source:   the kubelet's lifecycle/predicate.go, in its order. Taints are the scheduler's alone. A critical pod does not make others
//!           leave, as it would upstream.
//! Never:    judges what only Docker or the image can tell (`runtime/docker/host.rs`).

use std::collections::BTreeMap;

use super::resource_field::NodeAmounts;
use super::spec::PodSpec;
use crate::api::Object;
use crate::api::core::pod::{HostPort, Pod};
use crate::api::core::resources::Resources;
use crate::api::node_terms::{MISFIT, Selection};

/// What any pod may set: the kernel keeps it apart for each. Source: upstream's safe sysctls of 1.33.
const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace in which the kernel keeps a setting apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// Why a pod is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// `status.reason`, and the event's.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// Why the node does not take this pod. `allowed`: names, or beginnings of names with a `*` after them, of sysctls beyond the safe
/// ones.
#[must_use]
pub fn rejection(spec: &PodSpec, allowed: &[String]) -> Option<Rejection> {
    if !matches!(spec.os.as_str(), "" | "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS".to_owned();
        return Some(Rejection { reason: "PodOSNotSupported", message });
    }
    if spec.strict_groups {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node".to_owned();
        return Some(Rejection { reason: "SupplementalGroupsPolicyNotSupported", message });
    }
    let why = spec.sysctls.keys().find_map(|name| forbidden(name, spec, allowed))?;
    Some(Rejection { reason: "SysctlForbidden", message: format!("forbidden sysctl: {why}") })
}

/// What a node has for pods.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Allocatable; without any CPU: it is not known, and nobody is turned away.
    pub amounts: NodeAmounts,
    /// How many pods.
    pub pods: u32,
}

/// This node, as its name and the labels of it that its pods look at tell it.
#[must_use]
pub fn node(name: &str, labels: &BTreeMap<String, String>) -> Object {
    let mut node = Object::default();
    node.set_at(&["metadata", "name"], name);
    for (key, value) in labels {
        node.set_at(&["metadata", "labels", key], value.as_str());
    }
    node
}

/// Why there is no place for a pod beside those that were taken before. The scheduler judges alike: this is for pods that came
/// here past it, by a `nodeName` in their spec. `node`: this one; `None` when its labels are not known, and then nobody is judged
/// by them.
#[must_use]
pub fn no_place<'a>(
    wanted: &Object,
    taken: impl Iterator<Item = &'a Object>,
    capacity: Capacity,
    node: Option<&Object>,
) -> Option<Rejection> {
    let unselected = || {
        let other = node.is_some_and(|node| !Selection::of(wanted).fits(node));
        other.then(|| Rejection { reason: "NodeAffinity", message: format!("Predicate NodeAffinity failed: {MISFIT}") })
    };
    let Capacity { amounts, pods } = capacity;
    if amounts.cpu_milli == 0 {
        return unselected();
    }
    let (mut used, mut count, mut ports) = (Resources::default(), 0_i64, Vec::<HostPort>::new());
    for pod in taken {
        used.add(&Pod(pod).requests());
        count += 1;
        ports.extend(Pod(pod).host_ports());
    }
    let asks = Pod(wanted).requests();
    let whole = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    for (resource, reason, asked, used, has) in [
        ("pods", "OutOfpods", 1, count, i64::from(pods)),
        ("cpu", "OutOfcpu", asks.milli_cpu, used.milli_cpu, whole(amounts.cpu_milli)),
        ("memory", "OutOfmemory", asks.memory, used.memory, whole(amounts.memory_bytes)),
    ] {
        if asked > 0 && asked > has.saturating_sub(used) {
            let message =
                format!("Node didn't have enough resource: {resource}, requested: {asked}, used: {used}, capacity: {has}");
            return Some(Rejection { reason, message });
        }
    }
    if let Some(rejection) = unselected() {
        return Some(rejection);
    }
    let clash = Pod(wanted).host_ports().any(|port| ports.iter().any(|other| port.clashes(other)));
    clash.then(|| Rejection {
        reason: "NodePorts",
        message: "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports".to_owned(),
    })
}

fn forbidden(name: &str, spec: &PodSpec, allowed: &[String]) -> Option<String> {
    let listed = SAFE.contains(&name) || allowed.iter().any(|pattern| matches(pattern, name));
    match namespace(name) {
        Some(Namespace::Ipc) if listed && spec.host_ipc => Some(format!("{name:?} not allowed with host ipc enabled")),
        Some(Namespace::Net) if listed && spec.host_network => Some(format!("{name:?} not allowed with host net enabled")),
        Some(_) if listed => None,
        // One that the kernel does not keep apart would change the whole machine.
        Some(_) | None => Some(format!("{name:?} not allowlisted")),
    }
}

fn namespace(name: &str) -> Option<Namespace> {
    if name.starts_with("net.") {
        return Some(Namespace::Net);
    }
    let ipc = name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    ipc.then_some(Namespace::Ipc)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// Whether the owner may allow it: something that the kernel keeps apart for each pod.
#[must_use]
pub fn may_be_allowed(pattern: &str) -> bool {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    !name.contains('*') && !name.contains(char::is_whitespace) && namespace(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_came_past_the_scheduler_is_turned_away_when_there_is_no_room() {
        let pod = |cpu: &str, memory: &str, port: u16| {
            let container = json!({"resources": {"requests": {"cpu": cpu, "memory": memory}},
                "ports": [{"containerPort": 80, "hostPort": port}]});
            Object::from_value(json!({"metadata": {"name": "w"}, "spec": {"containers": [container]}})).unwrap()
        };
        let amounts = NodeAmounts { cpu_milli: 2000, memory_bytes: 1 << 30, ..NodeAmounts::default() };
        let judge = |taken: &[Object], wanted: &Object, capacity| {
            no_place(wanted, taken.iter(), capacity, None).map(|no| format!("{}: {}", no.reason, no.message))
        };
        let capacity = Capacity { amounts, pods: 3 };
        let used = [pod("500m", "512Mi", 1)];
        for (wanted, words) in [
            (pod("1500m", "512Mi", 2), None),
            (pod("0", "0", 0), None),
            (
                pod("64", "0", 2),
                Some("OutOfcpu: Node didn't have enough resource: cpu, requested: 64000, used: 500, capacity: 2000"),
            ),
            (
                pod("1", "513Mi", 2),
                Some(
                    "OutOfmemory: Node didn't have enough resource: memory, requested: 537919488, used: 536870912, capacity: 1073741824",
                ),
            ),
            (
                pod("1", "0", 1),
                Some("NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"),
            ),
        ] {
            assert_eq!(judge(&used, &wanted, capacity).as_deref(), words);
        }
        let full = [pod("0", "0", 1), pod("0", "0", 2), pod("0", "0", 3)];
        let words = "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3";
        assert_eq!(judge(&full, &pod("0", "0", 4), capacity).as_deref(), Some(words));
        // What the node has is not known.
        let unknown = Capacity { amounts: NodeAmounts::default(), pods: 3 };
        assert_eq!(judge(&full, &pod("64", "0", 1), unknown), None);
    }

    #[test]
    fn who_selects_another_node_is_turned_away_where_the_labels_are_known() {
        let amounts = NodeAmounts { cpu_milli: 2000, memory_bytes: 1 << 30, ..NodeAmounts::default() };
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let pi = node("pi", &labels(&[("example.com/disk", "ssd")]));
        let affinity = |term: serde_json::Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}});
        let named = |name: &str| affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}));
        for (spec, fits) in [
            (json!({}), true),
            (json!({"nodeSelector": {"example.com/disk": "ssd"}}), true),
            (json!({"nodeSelector": {"example.com/disk": "sd"}}), false),
            (json!({"nodeSelector": {"gpu": ""}}), false),
            (affinity(json!({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]})), true),
            (affinity(json!({"matchExpressions": [{"key": "example.com/disk", "operator": "DoesNotExist"}]})), false),
            (named("pi"), true),
            (named("pj"), false),
            (affinity(json!({})), false),
        ] {
            let wanted = Object::from_value(json!({"metadata": {"name": "w"}, "spec": spec})).unwrap();
            for capacity in [Capacity { amounts, pods: 3 }, Capacity { amounts: NodeAmounts::default(), pods: 3 }] {
                let told = no_place(&wanted, std::iter::empty(), capacity, Some(&pi)).map(|no| (no.reason, no.message));
                let words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
                assert_eq!(told, (!fits).then(|| ("NodeAffinity", words.to_owned())), "{spec}");
                assert_eq!(no_place(&wanted, std::iter::empty(), capacity, None), None, "its labels are not known");
            }
        }
    }

    #[test]
    fn pods_are_turned_away_in_upstreams_words() {
        let allowed = ["kernel.msg*".to_owned(), "net.core.somaxconn".to_owned()];
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let with = |mut spec: serde_json::Value, key: &str| {
            spec[key] = json!(true);
            spec
        };
        for (spec, words) in [
            (json!({}), None),
            (json!({"os": {"name": "linux"}}), None),
            (
                json!({"os": {"name": "windows"}}),
                Some("PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS"),
            ),
            (json!({"securityContext": {"supplementalGroupsPolicy": "Merge"}}), None),
            (
                json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}),
                Some("SupplementalGroupsPolicyNotSupported: SupplementalGroupsPolicy=Strict is not supported in this node"),
            ),
            (sysctl("net.ipv4.tcp_syncookies"), None),
            (sysctl("net/ipv4/tcp_syncookies"), None),
            (sysctl("kernel.msgmax"), None),
            (sysctl("net.core.somaxconn"), None),
            (sysctl("net.core.somaxconn2"), Some("SysctlForbidden: forbidden sysctl: \"net.core.somaxconn2\" not allowlisted")),
            (sysctl("vm.swappiness"), Some("SysctlForbidden: forbidden sysctl: \"vm.swappiness\" not allowlisted")),
            (
                with(sysctl("net.core.somaxconn"), "hostNetwork"),
                Some("SysctlForbidden: forbidden sysctl: \"net.core.somaxconn\" not allowed with host net enabled"),
            ),
            (
                with(sysctl("kernel.shm_rmid_forced"), "hostIPC"),
                Some("SysctlForbidden: forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled"),
            ),
            (with(sysctl("kernel.shm_rmid_forced"), "hostNetwork"), None),
        ] {
            let read = super::super::spec::read(&Object::from_value(json!({"metadata": {"name": "w"}, "spec": spec})).unwrap());
            let told = rejection(&read, &allowed).map(|no| format!("{}: {}", no.reason, no.message));
            assert_eq!(told.as_deref(), words, "{spec}");
        }
    }

    #[test]
    fn an_owner_allows_only_what_the_kernel_keeps_apart() {
        for (pattern, may) in [
            ("kernel.msg*", true),
            ("net.*", true),
            ("kernel.sem", true),
            ("kernel.*", false),
            ("vm.swappiness", false),
            ("*", false),
            ("net.*.x", false),
        ] {
            assert_eq!(may_be_allowed(pattern), may, "{pattern}");
        }
    }
}
