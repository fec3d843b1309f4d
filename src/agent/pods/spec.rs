//! The part of a pod's spec that the node works with, checked.
//!
//! In:       a whole pod as the master mailed it, raw JSON.
//! Out:      [`PodSpec`], and in plain words what this node does not honour yet: nothing is dropped in silence.
//! Never:    fails. What cannot be read is a [`VolumeSource::Refused`] or a container's `refused`, shown as the reason why the
//!           container waits; the rest of the pod runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::agent::runtime::{PidNamespace, PodRef};
use crate::api::quantity::Quantity;
use crate::api::{Generation, Object};

mod container;
mod probe;
mod volume;

pub use container::{Amounts, ContainerSpec, MountSpec, PullPolicy};
pub use probe::{Action, HttpGet, Probe, Probes};
pub use volume::{Files, VolumeSource, VolumeSpec};

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
    /// `spec.restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// `spec.terminationGracePeriodSeconds`.
    pub grace: Duration,
    /// The grace of its deletion, once that was asked for.
    pub deletion: Option<Duration>,
    /// Host name within the pod.
    pub hostname: String,
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
    /// `spec.volumes`.
    pub volumes: Vec<VolumeSpec>,
    /// The phase that the master has stored, when it is final.
    pub final_status: Option<Value>,
    /// Restart counts that the master knows, for a container of which the runtime has nothing left.
    pub known_restarts: BTreeMap<String, u32>,
    /// When the scheduler bound it, RFC 3339.
    pub scheduled_at: Option<String>,
    /// `status.qosClass`.
    pub qos: String,
    /// What is asked for and not done here, in words for the user.
    pub ignored: Vec<String>,
}

impl PodSpec {
    /// Init containers, then containers.
    pub fn all(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init.iter().chain(&self.containers)
    }
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
    let volumes: Vec<VolumeSpec> = list(spec, "volumes").iter().map(volume).collect();
    let mut containers = |key: &str| -> Vec<ContainerSpec> {
        list(spec, key).iter().map(|raw| container(raw, pod_security, &mut ignored)).collect()
    };
    let (init, containers) = (containers("initContainers"), containers("containers"));
    ignored_of_pod(spec, pod_security, &mut ignored);
    let grace = seconds(spec.get("terminationGracePeriodSeconds")).unwrap_or(Duration::from_secs(30));
    let deletion = object.is_deleting().then(|| seconds(object.at(&["metadata", "deletionGracePeriodSeconds"])).unwrap_or(grace));
    let hostname = Some(text(spec, "hostname")).filter(|hostname| !hostname.is_empty()).unwrap_or(name);
    PodSpec {
        generation: object.generation(),
        labels: object.labels().map(owned).collect(),
        annotations: object.strings_at(&["metadata", "annotations"]).map(owned).collect(),
        service_account: text(spec, "serviceAccountName").to_owned(),
        restart_policy: match text(spec, "restartPolicy") {
            "OnFailure" => RestartPolicy::OnFailure,
            "Never" => RestartPolicy::Never,
            _ => RestartPolicy::Always,
        },
        grace,
        deletion,
        // The kernel's limit.
        hostname: hostname.chars().take(63).collect::<String>().trim_end_matches(['-', '.']).to_owned(),
        extra_hosts: list(spec, "hostAliases")
            .iter()
            .flat_map(|alias| strings(alias, "hostnames").into_iter().map(move |host| format!("{host}:{}", text(alias, "ip"))))
            .collect(),
        host_network: flag(spec, "hostNetwork"),
        host_ipc: flag(spec, "hostIPC"),
        pid: match (flag(spec, "hostPID"), flag(spec, "shareProcessNamespace")) {
            (true, _) => PidNamespace::Host,
            (false, true) => PidNamespace::Pod,
            (false, false) => PidNamespace::Container,
        },
        init,
        containers,
        volumes,
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
        qos: object.str_at(&["status", "qosClass"]).to_owned(),
        ignored,
        pod,
    }
}

/// What of the pod itself is asked for and not done.
fn ignored_of_pod(spec: &Value, security: &Value, ignored: &mut Vec<String>) {
    for (key, what) in [
        ("activeDeadlineSeconds", "activeDeadlineSeconds is not kept by this node yet"),
        ("dnsConfig", "dnsConfig is not set by this node yet"),
        ("readinessGates", "readinessGates are not waited for by this node yet"),
        ("imagePullSecrets", "imagePullSecrets are not used by this node yet: images are pulled without credentials"),
        ("runtimeClassName", "runtimeClassName is not chosen by this node"),
        ("ephemeralContainers", "ephemeralContainers are not started by this node yet"),
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
    if security.get("sysctls").and_then(Value::as_array).is_some_and(|sysctls| !sysctls.is_empty()) {
        ignored.push("securityContext.sysctls are not set by this node yet".to_owned());
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
            "activeDeadlineSeconds": 5,
            "imagePullSecrets": [],
            "containers": [{"name": "a", "image": "i", "lifecycle": {"preStop": {}}, "ports": [{"hostPort": 80}],
                            "securityContext": {"runAsNonRoot": true}}],
        }));
        assert_eq!(read.ignored.len(), 4, "{:?}", read.ignored);
        assert!(read.ignored.iter().any(|text| text.starts_with("container a: lifecycle")));
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_its_name() {
        let cases = [
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}),
            json!({"volumeDevices": [{"name": "v"}]}),
            json!({"livenessProbe": {"tcpSocket": {"port": "web"}}}),
            json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}),
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            json!({"resources": {"limits": {"nvidia.com/gpu": 1}}}),
            json!({"resources": {"limits": {"bramble/unknown": 1}}}),
        ];
        for mut container in cases {
            container["name"] = json!("a");
            let read = spec(json!({"containers": [container]}));
            assert!(read.containers[0].refused.is_some(), "{container}");
        }
        let read = spec(json!({"volumes": [{"name": "v", "nfs": {}}]}));
        assert!(matches!(&read.volumes[0].source, VolumeSource::Refused(why) if why.contains("nfs")));
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
