//! One container of a pod's spec, checked.
//!
//! In:       the container's raw JSON and the pod's security context.
//! Out:      [`ContainerSpec`], and in words what this node does not honour.

use std::collections::BTreeMap;

use serde_json::Value;

use super::hook::Lifecycle;
use super::probe::Probes;
use super::security::security;
use super::{amount, flag, list, strings, text};
use crate::agent::devices;
use crate::agent::runtime::{Limits, Propagation, Recursive, Security};
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
    /// What becomes of both, without what the node adds.
    pub cgroup: Limits,
    /// How many devices of which resource.
    pub devices: BTreeMap<String, u64>,
    /// Identity and rights.
    pub security: Security,
    /// `tty`.
    pub tty: bool,
    /// `stdin`.
    pub stdin: bool,
    /// `lifecycle`.
    pub lifecycle: Lifecycle,
    /// `terminationMessagePath`: where its last words are read.
    pub last_words_path: String,
    /// `terminationMessagePolicy: FallbackToLogsOnError`.
    pub last_words_from_log: bool,
    /// `targetContainerName` of an ephemeral container: whose processes it sees.
    pub target: Option<String>,
    /// `startupProbe`, `livenessProbe`, `readinessProbe`.
    pub probes: Probes,
    /// `stdinOnce`.
    pub stdin_once: bool,
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
    /// Which part of the volume; empty: all.
    pub sub_path: String,
    /// The same with `$(VAR)` in it.
    pub sub_path_expr: String,
    /// Whether it cannot write.
    pub read_only: bool,
    /// Whether what is mounted below is read-only too.
    pub recursive_read_only: Recursive,
    /// Whether mounts that are made later cross.
    pub propagation: Propagation,
}

/// Reads a container.
pub(super) fn container(raw: &Value, pod_security: &Value, ignored: &mut Vec<String>) -> ContainerSpec {
    let name = text(raw, "name").to_owned();
    let image = text(raw, "image").to_owned();
    let mut say = |what: &str| ignored.push(format!("container {name}: {what}"));
    let security = security(raw.get("securityContext").unwrap_or(&Value::Null), pod_security);
    security.ignored.iter().for_each(|what| say(what));
    if raw.get("resources").is_some_and(|resources| !list(resources, "claims").is_empty()) {
        say("resources.claims (dynamic resource allocation) are not given by this node");
    }
    let mut refused = security.refused;
    if !list(raw, "volumeDevices").is_empty() {
        refused = Some("volumeDevices (raw block volumes) cannot be given by this node".to_owned());
    }
    let probes = super::probe::probes(raw).unwrap_or_else(|why| {
        refused = Some(why);
        Probes::default()
    });
    let (limits, requests) = (amounts(raw, "limits"), amounts(raw, "requests"));
    let counted = |name: &str| matches!(name, "cpu" | "memory" | "ephemeral-storage") || devices::is_device(name);
    for other in limits.keys().filter(|name| !counted(name)) {
        refused = Some(format!("resource {other} cannot be given by this node yet"));
    }
    let cgroup = cgroup(&limits, &requests);
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
                // Source: the kubelet's MakeAbsolutePath.
                path: match text(mount, "mountPath") {
                    path if path.starts_with('/') => path.to_owned(),
                    path => format!("/{path}"),
                },
                sub_path: text(mount, "subPath").to_owned(),
                sub_path_expr: text(mount, "subPathExpr").to_owned(),
                read_only: flag(mount, "readOnly"),
                recursive_read_only: match text(mount, "recursiveReadOnly") {
                    "Enabled" => Recursive::Enabled,
                    "IfPossible" => Recursive::IfPossible,
                    _ => Recursive::Disabled,
                },
                propagation: match text(mount, "mountPropagation") {
                    "HostToContainer" => Propagation::HostToContainer,
                    "Bidirectional" => Propagation::Bidirectional,
                    _ => Propagation::None,
                },
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
        security: security.security,
        tty: flag(raw, "tty"),
        stdin: flag(raw, "stdin"),
        lifecycle: super::hook::lifecycle(raw),
        last_words_path: Some(text(raw, "terminationMessagePath"))
            .filter(|path| !path.is_empty())
            .unwrap_or("/dev/termination-log")
            .to_owned(),
        last_words_from_log: text(raw, "terminationMessagePolicy") == "FallbackToLogsOnError",
        target: Some(text(raw, "targetContainerName").to_owned()).filter(|name| !name.is_empty()),
        probes,
        stdin_once: flag(raw, "stdinOnce"),
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
        memory_request_bytes: requests.get("memory").and_then(bytes).filter(|&bytes| bytes > 0),
        ..Limits::default()
    }
}

/// The first 16 hex digits of the SHA-256 of name and image.
fn hash(name: &str, image: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{name}\n{image}").as_bytes());
    digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
