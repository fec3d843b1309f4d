//! The part of a pod's spec that the node works with, checked.
//!
//! In:       a whole pod as the master mailed it, raw JSON.
//! Out:      [`PodSpec`], and in plain words what this node does not honour yet: nothing is dropped in silence.
//! Never:    fails. What cannot be read is a [`VolumeSource::Refused`] or a container's `refused`, shown as the reason why the
//!           container waits; the rest of the pod runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use crate::agent::runtime::{Dns, PidNamespace, PodRef, PortPlan};
use crate::api::default::pod::qos_class;
use crate::api::quantity::Quantity;
use crate::api::{Generation, Object};

mod container;
mod hook;
mod network;
mod probe;
mod security;
mod volume;

#[cfg(test)]
mod field_tests;

pub use container::{Amounts, ContainerSpec, MountSpec, PullPolicy};
pub use hook::{Hook, Lifecycle};
pub use probe::{Action, HttpGet, Probe, Probes};
pub use volume::{Content, Fact, Files, HostPathType, Nfs, Part, VolumeSource, VolumeSpec, persistent};

use container::container;
use volume::volume;

/// What a pod asks of its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// Which pod.
    pub pod: PodRef,
    /// `metadata.generation`.
    pub generation: Generation,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.serviceAccountName`.
    pub service_account: String,
    /// `spec.enableServiceLinks`: it is told of its namespace's services in its environment.
    pub service_links: bool,
    /// The names of `spec.imagePullSecrets`.
    pub pull_secrets: Vec<String>,
    /// `spec.restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// The grace of its deletion, once that was asked for.
    pub deletion: Option<Duration>,
    /// Host name within the pod.
    pub hostname: String,
    /// What comes after it in its full name; empty: nothing.
    pub domain: String,
    /// Whom it asks for names.
    pub dns: Dns,
    /// Ports of the node that lead to it.
    pub ports: Vec<PortPlan>,
    /// `spec.securityContext.sysctls`, with dots.
    pub sysctls: BTreeMap<String, String>,
    /// `spec.os.name`; empty: any.
    pub os: String,
    /// `spec.securityContext.supplementalGroupsPolicy: Strict`.
    pub strict_groups: bool,
    /// `spec.priority`.
    pub priority: i64,
    /// `name:address` lines of `/etc/hosts`.
    pub extra_hosts: Vec<String>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `spec.hostIPC`.
    pub host_ipc: bool,
    /// `spec.hostPID`, `spec.shareProcessNamespace`.
    pub pid: PidNamespace,
    /// `spec.initContainers` in order.
    pub init: Vec<ContainerSpec>,
    /// `spec.containers` in order.
    pub containers: Vec<ContainerSpec>,
    /// `spec.ephemeralContainers` in order: a person's, started in the pod as it runs, once.
    pub ephemeral: Vec<ContainerSpec>,
    /// `spec.activeDeadlineSeconds`.
    pub active_deadline: Option<Duration>,
    /// `spec.readinessGates`: conditions that somebody else sets, each with what the master holds of it.
    pub gates: Vec<Gate>,
    /// `spec.volumes`.
    pub volumes: Vec<VolumeSpec>,
    /// `spec.securityContext.fsGroup`.
    pub fs_group: Option<u32>,
    /// The phase that the master has stored, when it is final.
    pub final_status: Option<Value>,
    /// Restart counts that the master knows, for a container of which the runtime has nothing left.
    pub known_restarts: BTreeMap<String, u32>,
    /// When the scheduler bound it, RFC 3339.
    pub scheduled_at: Option<String>,
    /// Its class, as in `status.qosClass`.
    pub qos: String,
    /// What is asked for and not done here, in words for the user.
    pub ignored: Vec<String>,
}

impl PodSpec {
    /// Init containers, then containers, then ephemeral ones.
    pub fn all(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init.iter().chain(&self.containers).chain(&self.ephemeral)
    }

    /// The volumes that a container mounts: the others are not set up, and what they name may be missing. Source: the kubelet's
    /// GetPodVolumeNames.
    pub fn mounted_volumes(&self) -> impl Iterator<Item = &VolumeSpec> {
        let mounted: BTreeSet<&str> =
            self.all().flat_map(|container| &container.mounts).map(|mount| mount.volume.as_str()).collect();
        self.volumes.iter().filter(move |volume| mounted.contains(volume.name.as_str()))
    }

    /// A container of any kind by its name.
    #[must_use]
    pub fn any(&self, name: &str) -> Option<&ContainerSpec> {
        self.all().find(|container| container.name == name)
    }
}

/// One of `spec.readinessGates`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// The condition's type.
    pub kind: String,
    /// The condition's status; `None`: nobody has set it.
    pub status: Option<String>,
    /// When that changed, RFC 3339.
    pub since: String,
}

/// `spec.restartPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whatever it ended with.
    #[default]
    Always,
    /// When it ended with another code than 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// Reads a pod.
#[must_use]
pub fn read(object: &Object) -> PodSpec {
    let spec = object.at(&["spec"]).unwrap_or(&Value::Null);
    let mut ignored = Vec::new();
    let name = object.name();
    let pod = PodRef { uid: object.uid(), namespace: object.namespace().to_owned(), name: name.to_owned() };
    let pod_security = spec.get("securityContext").unwrap_or(&Value::Null);
    let volumes: Vec<VolumeSpec> = list(spec, "volumes").iter().map(|raw| volume(name, raw, &mut ignored)).collect();
    let mut containers = |key: &str| -> Vec<ContainerSpec> {
        list(spec, key).iter().map(|raw| container(raw, pod_security, &mut ignored)).collect()
    };
    let (mut init, mut main, mut ephemeral) =
        (containers("initContainers"), containers("containers"), containers("ephemeralContainers"));
    let names = network::names(spec, name, &pod.namespace);
    let runtime_class = text(spec, "runtimeClassName");
    let ports = network::ports(spec);
    let not_an_address = ports.iter().find(|port| !port.host_ip.is_empty() && port.host_ip.parse::<IpAddr>().is_err());
    let refused = names.refused.or_else(|| {
        let (port, given) = not_an_address.map(|port| (port.host, &port.host_ip))?;
        Some(format!("host port {port} is not published: hostIP {given:?} is not an IP address"))
    });
    let refused = refused.or_else(|| {
        (!runtime_class.is_empty()).then(|| {
            format!("no runtime for {runtime_class:?} is configured: this node runs pods with Docker's default runtime only; remove runtimeClassName")
        })
    });
    if let Some(why) = refused {
        init.iter_mut().chain(&mut main).chain(&mut ephemeral).for_each(|container| container.refused = Some(why.clone()));
    }
    let dns = network::dns(spec);
    ignored_of_pod(spec, &mut ignored);
    let grace = seconds(spec.get("terminationGracePeriodSeconds")).unwrap_or(Duration::from_secs(30));
    let deletion = object.is_deleting().then(|| seconds(object.at(&["metadata", "deletionGracePeriodSeconds"])).unwrap_or(grace));
    PodSpec {
        generation: object.generation(),
        labels: object.labels().map(owned).collect(),
        annotations: object.strings_at(&["metadata", "annotations"]).map(owned).collect(),
        service_account: text(spec, "serviceAccountName").to_owned(),
        service_links: spec.get("enableServiceLinks") != Some(&Value::Bool(false)),
        pull_secrets: list(spec, "imagePullSecrets")
            .iter()
            .map(|secret| text(secret, "name").to_owned())
            .filter(|name| !name.is_empty())
            .collect(),
        restart_policy: match text(spec, "restartPolicy") {
            "OnFailure" => RestartPolicy::OnFailure,
            "Never" => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        },
        grace,
        deletion,
        hostname: names.host,
        domain: names.domain,
        dns,
        ports,
        // Source: sysctl(8) takes both notations.
        sysctls: list(pod_security, "sysctls")
            .iter()
            .map(|sysctl| (text(sysctl, "name").replace('/', "."), text(sysctl, "value").to_owned()))
            .collect(),
        os: spec.get("os").map(|os| text(os, "name").to_owned()).unwrap_or_default(),
        strict_groups: text(pod_security, "supplementalGroupsPolicy") == "Strict",
        priority: spec.get("priority").and_then(Value::as_i64).unwrap_or_default(),
        extra_hosts: network::hosts(spec),
        host_network: flag(spec, "hostNetwork"),
        host_ipc: flag(spec, "hostIPC"),
        pid: match (flag(spec, "hostPID"), flag(spec, "shareProcessNamespace")) {
            (true, _) => PidNamespace::Host,
            (false, true) => PidNamespace::Pod,
            (false, false) => PidNamespace::Container,
        },
        init,
        containers: main,
        ephemeral,
        active_deadline: seconds(spec.get("activeDeadlineSeconds")),
        gates: list(spec, "readinessGates").iter().map(|gate| self::gate(object, text(gate, "conditionType"))).collect(),
        volumes,
        fs_group: pod_security.get("fsGroup").and_then(Value::as_u64).and_then(|group| u32::try_from(group).ok()),
        final_status: object.at(&["status"]).filter(|status| matches!(text(status, "phase"), "Succeeded" | "Failed")).cloned(),
        known_restarts: ["initContainerStatuses", "containerStatuses"]
            .into_iter()
            .flat_map(|key| object.list_at(&["status", key]))
            .filter_map(|status| {
                let count = status.get("restartCount")?.as_u64()?;
                // One that never ran has no id, and nothing to count on from.
                let ran = !text(status, "containerID").is_empty() || count > 0;
                ran.then(|| Some((text(status, "name").to_owned(), u32::try_from(count).ok()?)))?
            })
            .collect(),
        scheduled_at: object
            .list_at(&["status", "conditions"])
            .iter()
            .find(|condition| text(condition, "type") == "PodScheduled" && text(condition, "status") == "True")
            .map(|condition| text(condition, "lastTransitionTime").to_owned()),
        // The master says the same; the share comes without its word.
        qos: qos_class(object).to_owned(),
        ignored,
        pod,
    }
}

/// A readiness gate with what is known of its condition.
fn gate(object: &Object, kind: &str) -> Gate {
    let known = object.list_at(&["status", "conditions"]).iter().find(|condition| text(condition, "type") == kind);
    Gate {
        kind: kind.to_owned(),
        status: known.map(|condition| text(condition, "status").to_owned()),
        since: known.map(|condition| text(condition, "lastTransitionTime").to_owned()).unwrap_or_default(),
    }
}

/// What of the pod itself is asked for and not done.
fn ignored_of_pod(spec: &Value, ignored: &mut Vec<String>) {
    for (key, what) in [
        ("resources", "resources of the pod as a whole are not enforced by this node: set them for each container"),
        ("resourceClaims", "resourceClaims (dynamic resource allocation) are not given by this node"),
    ] {
        let asked = spec.get(key).is_some_and(|value| match value {
            Value::Null => false,
            Value::Array(list) => !list.is_empty(),
            _ => true,
        });
        if asked {
            ignored.push(what.to_owned());
        }
    }
    if spec.get("hostUsers").and_then(Value::as_bool) == Some(false) {
        ignored.push("hostUsers: false is not given by this node: its pods share the host's user ids".to_owned());
    }
}

/// The text under a key; `""` when there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether `true` stands under a key.
pub(super) fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// A quantity, which JSON may have as text or as a number.
pub(super) fn amount(value: &Value) -> Option<Quantity> {
    Quantity::parse(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn strings(value: &Value, key: &str) -> Vec<String> {
    list(value, key).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn seconds(value: Option<&Value>) -> Option<Duration> {
    value.and_then(Value::as_i64).map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()))
}

fn owned((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value)] // reads better with json!
    fn spec(spec: Value) -> PodSpec {
        let object = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": spec});
        read(&Object::from_value(object).unwrap())
    }

    #[test]
    fn what_is_not_honoured_is_said() {
        let read = spec(json!({
            "hostUsers": false,
            "containers": [{"name": "a", "image": "i", "resources": {"claims": [{"name": "g"}]}}],
        }));
        assert_eq!(read.ignored.len(), 2, "{:?}", read.ignored);
        assert!(read.ignored.iter().any(|text| text.starts_with("container a: resources.claims")));
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_its_name() {
        let cases = [
            json!({"volumeDevices": [{"name": "v"}]}),
            json!({"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "localhost"}]}),
            json!({"livenessProbe": {"tcpSocket": {"port": 0}}}),
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            json!({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "../p"}}}),
            json!({"resources": {"limits": {"nvidia.com/gpu": 1}}}),
            json!({"resources": {"limits": {"bramble/unknown": 1}}}),
        ];
        for mut container in cases {
            container["name"] = json!("a");
            let read = spec(json!({"containers": [container]}));
            assert!(read.containers[0].refused.is_some(), "{container}");
        }
        let read = spec(json!({"volumes": [{"name": "v", "iscsi": {}}]}));
        assert!(matches!(&read.volumes[0].source, VolumeSource::Refused(why) if why.contains("iscsi")));
    }

    #[test]
    fn devices_are_read_with_their_counts() {
        let limits = json!({"cpu": 1, "bramble/serial": "2", "bramble/serial-usb-x": 1, "bramble/i2c": 0});
        let read = spec(json!({"containers": [{"name": "a", "resources": {"limits": limits}}]}));
        let container = &read.containers[0];
        assert_eq!(container.refused, None);
        let wanted: Vec<_> = container.devices.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(wanted, [("bramble/serial", 2), ("bramble/serial-usb-x", 1)]);
    }

    #[test]
    fn containers_inherit_the_pods_user() {
        let read = spec(json!({
            "securityContext": {"runAsUser": 7, "fsGroup": 9},
            "containers": [{"name": "a"}, {"name": "b", "securityContext": {"runAsUser": 8}}],
        }));
        let users: Vec<_> = read.containers.iter().map(|container| container.security.user).collect();
        assert_eq!(users, [Some(7), Some(8)]);
        assert_eq!(read.containers[0].security.groups, [9]);
    }

    #[test]
    fn wild_values_are_read_without_harm() {
        for wild in
            [json!(null), json!("x"), json!([1]), json!({"containers": 3, "volumes": [null, 4], "initContainers": [[], "a"]})]
        {
            let _ = spec(wild);
        }
        let read = spec(
            json!({"terminationGracePeriodSeconds": -4, "containers": [{"resources": {"limits": {"cpu": 2, "memory": "64Mi"}}}]}),
        );
        assert_eq!(read.grace, Duration::ZERO);
        assert_eq!(read.containers[0].cgroup.cpu_milli, Some(2000));
        assert_eq!(read.containers[0].cgroup.memory_bytes, Some(64 << 20));
    }
}
