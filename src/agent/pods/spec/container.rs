//! One container of a pod's spec, checked.
//!
//! In:       the container's raw JSON and the pod's security context.
//! Out:      [`ContainerSpec`], and in words what this node does not honour.

use std::collections::BTreeMap;

use serde_json::Value;

use super::probe::Probes;
use super::{amount, flag, list, strings, text};
use crate::agent::devices;
use crate::agent::runtime::{Limits, Security};
use crate::api::quantity::Quantity;

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

/// Amounts by the name of their resource, without those that are no quantity: they were validated.
pub type Amounts = BTreeMap<String, Quantity>;

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
    /// `resources.limits`.
    pub limits: Amounts,
    /// `resources.requests`.
    pub requests: Amounts,
    /// What becomes of both.
    pub cgroup: Limits,
    /// How many devices of which resource.
    pub devices: BTreeMap<String, u64>,
    /// Identity and rights.
    pub security: Security,
    /// `tty`.
    pub tty: bool,
    /// `stdin`.
    pub stdin: bool,
    /// `startupProbe`, `livenessProbe`, `readinessProbe`.
    pub probes: Probes,
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

/// Reads a container.
pub(super) fn container(raw: &Value, pod_security: &Value, ignored: &mut Vec<String>) -> ContainerSpec {
    let name = text(raw, "name").to_owned();
    let image = text(raw, "image").to_owned();
    let mut say = |what: &str| ignored.push(format!("container {name}: {what}"));
    for (key, what) in [("lifecycle", "lifecycle hooks are not run on this node yet")] {
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
    let probes = super::probe::probes(raw).unwrap_or_else(|why| {
        refused = Some(why);
        Probes::default()
    });
    let seccomp = either("seccompProfile").map(|profile| text(profile, "type")).unwrap_or_default();
    if seccomp == "Localhost" {
        refused = Some("seccompProfile of type Localhost cannot be given by this node yet".to_owned());
    }
    for key in ["seLinuxOptions", "appArmorProfile", "windowsOptions"] {
        if either(key).is_some_and(|value| !value.is_null()) {
            say(&format!("securityContext.{key} is not set by this node"));
        }
    }
    let (limits, requests) = (amounts(raw, "limits"), amounts(raw, "requests"));
    let counted = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage") || devices::is_device(name);
    for other in limits.keys().filter(|name| !counted(name)) {
        refused = Some(format!("resource {other} cannot be given by this node yet"));
    }
    let cgroup = cgroup(&limits, &requests);
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
        devices: limits
            .iter()
            .filter(|(name, _)| devices::is_device(name))
            .filter_map(|(name, count)| Some((name.clone(), u64::try_from(count.units()).ok().filter(|&count| count > 0)?)))
            .collect(),
        limits,
        requests,
        cgroup,
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
        probes,
        refused,
        name,
        image,
    }
}

/// `resources.limits` or `resources.requests`.
fn amounts(raw: &Value, kind: &str) -> Amounts {
    let map = raw.get("resources").and_then(|resources| resources.get(kind)).and_then(Value::as_object);
    map.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), amount(value)?))).collect()
}

/// What limits and requests become in the kernel. A limit of 0 is none.
fn cgroup(limits: &Amounts, requests: &Amounts) -> Limits {
    let milli = |amount: &Quantity| u64::try_from(amount.milli).ok();
    let bytes = |amount: &Quantity| u64::try_from(amount.units()).ok();
    Limits {
        cpu_milli: limits.get("cpu").and_then(milli).filter(|&milli| milli > 0),
        memory_bytes: limits.get("memory").and_then(bytes).filter(|&bytes| bytes > 0),
        cpu_request_milli: requests.get("cpu").and_then(milli),
        memory_request_bytes: requests.get("memory").and_then(bytes),
    }
}

/// The first 16 hex digits of the SHA-256 of name and image.
fn hash(name: &str, image: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{name}\n{image}").as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
