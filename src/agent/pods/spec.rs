//! The part of a pod's spec that the node works with, checked.
//!
//! In:       a whole pod as the master mailed it, raw JSON.
//! Out:      [`PodSpec`], and in plain words what this node does not honour yet: nothing is dropped in silence.
//! Never:    fails. What cannot be read is a [`VolumeSource::Refused`] or a container's `refused`, shown as the reason why the
//!           container waits; the rest of the pod runs.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::agent::runtime::{Limits, PidNamespace, PodRef, Security};
use crate::api::quantity::Quantity;
use crate::api::{Generation, Object};

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

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Before each start.
    Always,
    /// Once.
    #[default]
    IfNotPresent,
    /// Somebody else brings it.
    Never,
}

/// One container of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// When to fetch it.
    pub pull: PullPolicy,
    /// An init container that keeps running beside the others.
    pub sidecar: bool,
    /// Of name and image: the only things of a running pod that may change. Source: the kubelet hashes the same two.
    pub hash: String,
    /// Replaces the image's entry point.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: String,
    /// `env`, raw; read by `env.rs`.
    pub env: Vec<Value>,
    /// `envFrom`, raw.
    pub env_from: Vec<Value>,
    /// `volumeMounts`.
    pub mounts: Vec<MountSpec>,
    /// CPU and memory.
    pub limits: Limits,
    /// Identity and rights.
    pub security: Security,
    /// `tty`.
    pub tty: bool,
    /// `stdin`.
    pub stdin: bool,
    /// Why it can never be started here.
    pub refused: Option<String>,
}

/// One entry of `volumeMounts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountSpec {
    /// Which volume.
    pub volume: String,
    /// Where.
    pub path: String,
    /// Whether it cannot write.
    pub read_only: bool,
}

/// One entry of `spec.volumes`.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq)]
pub enum VolumeSource {
    /// Empty at first, gone with the pod; in memory, with a limit in bytes, when asked for.
    EmptyDir {
        /// `medium: Memory`, and `sizeLimit`.
        memory: Option<Option<u64>>,
    },
    /// A path of the host.
    HostPath {
        /// Absolute.
        path: String,
        /// `DirectoryOrCreate`, or no type.
        make: bool,
    },
    /// The entries of a config map as files.
    ConfigMap(Files),
    /// The entries of a secret as files.
    Secret(Files),
    /// Nothing that this node can give, and why.
    Refused(String),
}

/// Which entries become which files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The config map or secret.
    pub name: String,
    /// It may be missing.
    pub optional: bool,
    /// Permission bits.
    pub mode: u32,
    /// Only these: key, path, permission bits. Empty: all.
    pub items: Vec<(String, String, Option<u32>)>,
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

fn container(raw: &Value, pod_security: &Value, ignored: &mut Vec<String>) -> ContainerSpec {
    let name = text(raw, "name").to_owned();
    let image = text(raw, "image").to_owned();
    let mut say = |what: &str| ignored.push(format!("container {name}: {what}"));
    for (key, what) in [
        ("livenessProbe", "livenessProbe is not run on this node yet: the container is never restarted for it"),
        ("readinessProbe", "readinessProbe is not run on this node yet: the container counts as ready while it runs"),
        ("startupProbe", "startupProbe is not run on this node yet"),
        ("lifecycle", "lifecycle hooks are not run on this node yet"),
    ] {
        if raw.get(key).is_some_and(|probe| !probe.is_null()) {
            say(what);
        }
    }
    if list(raw, "ports").iter().any(|port| port.get("hostPort").and_then(Value::as_u64).unwrap_or_default() > 0) {
        say("hostPort is not opened on this node yet");
    }
    let security = raw.get("securityContext").unwrap_or(&Value::Null);
    let either = |key: &str| security.get(key).filter(|value| !value.is_null()).or_else(|| pod_security.get(key));
    let user = either("runAsUser").and_then(Value::as_u64);
    let mut refused = None;
    if list(raw, "volumeMounts").iter().any(|mount| !text(mount, "subPath").is_empty() || !text(mount, "subPathExpr").is_empty())
    {
        refused = Some("volumeMounts.subPath cannot be given by this node yet".to_owned());
    }
    if !list(raw, "volumeDevices").is_empty() {
        refused = Some("volumeDevices (raw block volumes) cannot be given by this node".to_owned());
    }
    if either("runAsNonRoot").and_then(Value::as_bool).unwrap_or_default() {
        match user {
            Some(0) => refused = Some("container's runAsUser breaks non-root policy".to_owned()),
            Some(_) => {}
            None => say("runAsNonRoot is not checked against the image's user on this node yet; set runAsUser"),
        }
    }
    let seccomp = either("seccompProfile").map(|profile| text(profile, "type")).unwrap_or_default();
    if seccomp == "Localhost" {
        refused = Some("seccompProfile of type Localhost cannot be given by this node yet".to_owned());
    }
    for key in ["seLinuxOptions", "appArmorProfile", "windowsOptions"] {
        if either(key).is_some_and(|value| !value.is_null()) {
            say(&format!("securityContext.{key} is not set by this node"));
        }
    }
    let (limits, others) = limits(raw);
    for other in others {
        refused = Some(format!("resource {other} cannot be given by this node yet"));
    }
    let mut groups: Vec<u64> = pod_security
        .get("supplementalGroups")
        .and_then(Value::as_array)
        .map(|groups| groups.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    groups.extend(pod_security.get("fsGroup").and_then(Value::as_u64));
    let capabilities = |key: &str| security.get("capabilities").map(|all| strings(all, key)).unwrap_or_default();
    ContainerSpec {
        pull: match text(raw, "imagePullPolicy") {
            "Always" => PullPolicy::Always,
            "Never" => PullPolicy::Never,
            _ => PullPolicy::IfNotPresent,
        },
        sidecar: text(raw, "restartPolicy") == "Always",
        hash: hash(&name, &image),
        command: strings(raw, "command"),
        args: strings(raw, "args"),
        working_dir: text(raw, "workingDir").to_owned(),
        env: list(raw, "env").to_vec(),
        env_from: list(raw, "envFrom").to_vec(),
        mounts: list(raw, "volumeMounts")
            .iter()
            .map(|mount| MountSpec {
                volume: text(mount, "name").to_owned(),
                path: text(mount, "mountPath").to_owned(),
                read_only: flag(mount, "readOnly"),
            })
            .collect(),
        limits,
        security: Security {
            user,
            group: either("runAsGroup").and_then(Value::as_u64),
            groups,
            privileged: flag(security, "privileged"),
            add: capabilities("add"),
            drop: capabilities("drop"),
            read_only_root: flag(security, "readOnlyRootFilesystem"),
            no_new_privileges: security.get("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false),
            seccomp_unconfined: seccomp == "Unconfined",
        },
        tty: flag(raw, "tty"),
        stdin: flag(raw, "stdin"),
        refused,
        name,
        image,
    }
}

/// CPU and memory, and the names of resources that are neither.
fn limits(raw: &Value) -> (Limits, Vec<String>) {
    let amount = |kind: &str, resource: &str| {
        let value = raw.get("resources")?.get(kind)?.get(resource)?;
        Quantity::parse(&value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let limits = Limits {
        cpu_milli: amount("limits", "cpu").and_then(|cpu| u64::try_from(cpu.milli).ok()).filter(|&milli| milli > 0),
        memory_bytes: amount("limits", "memory").and_then(|memory| u64::try_from(memory.units()).ok()).filter(|&bytes| bytes > 0),
        cpu_request_milli: amount("requests", "cpu").and_then(|cpu| u64::try_from(cpu.milli).ok()),
    };
    let others = raw
        .get("resources")
        .and_then(|resources| resources.get("limits"))
        .and_then(Value::as_object)
        .into_iter()
        .flat_map(serde_json::Map::keys)
        .filter(|name| !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage"))
        .cloned()
        .collect();
    (limits, others)
}

fn volume(raw: &Value) -> VolumeSpec {
    let name = text(raw, "name").to_owned();
    let kind =
        raw.as_object().into_iter().flat_map(serde_json::Map::iter).find(|(key, value)| *key != "name" && !value.is_null());
    let source = match kind {
        // Source: the API's default for a volume without source.
        None => VolumeSource::EmptyDir { memory: None },
        Some((kind, source)) => match kind.as_str() {
            "emptyDir" => VolumeSource::EmptyDir {
                memory: (text(source, "medium") == "Memory").then(|| {
                    let limit = source.get("sizeLimit").and_then(Value::as_str).and_then(Quantity::parse);
                    limit.and_then(|limit| u64::try_from(limit.units()).ok())
                }),
            },
            "hostPath" => VolumeSource::HostPath {
                path: text(source, "path").to_owned(),
                make: matches!(text(source, "type"), "" | "DirectoryOrCreate"),
            },
            "configMap" => VolumeSource::ConfigMap(files(source, "name")),
            "secret" => VolumeSource::Secret(files(source, "secretName")),
            other => VolumeSource::Refused(format!("volume \"{name}\": {other} volumes cannot be given by this node yet")),
        },
    };
    VolumeSpec { name, source }
}

fn files(source: &Value, name_key: &str) -> Files {
    let mode =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_u64).and_then(|mode| u32::try_from(mode & 0o7777).ok());
    Files {
        name: text(source, name_key).to_owned(),
        optional: flag(source, "optional"),
        mode: mode(source, "defaultMode").unwrap_or(0o644),
        items: list(source, "items")
            .iter()
            .map(|item| (text(item, "key").to_owned(), text(item, "path").to_owned(), mode(item, "mode")))
            .collect(),
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

/// The first 16 hex digits of the SHA-256 of name and image.
fn hash(name: &str, image: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{name}\n{image}").as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The text under a key; `""` when there is none.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether `true` stands under a key.
pub(super) fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or_default()
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
            "containers": [{"name": "a", "image": "i", "readinessProbe": {"exec": {}}, "ports": [{"hostPort": 80}],
                            "securityContext": {"runAsNonRoot": true}}],
        }));
        assert_eq!(read.ignored.len(), 4, "{:?}", read.ignored);
        assert!(read.ignored.iter().any(|text| text.starts_with("container a: readinessProbe")));
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_its_name() {
        let cases = [
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}),
            json!({"volumeDevices": [{"name": "v"}]}),
            json!({"securityContext": {"runAsNonRoot": true, "runAsUser": 0}}),
            json!({"securityContext": {"seccompProfile": {"type": "Localhost"}}}),
            json!({"resources": {"limits": {"nvidia.com/gpu": 1}}}),
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
        assert_eq!(read.containers[0].limits.cpu_milli, Some(2000));
        assert_eq!(read.containers[0].limits.memory_bytes, Some(64 << 20));
    }
}
