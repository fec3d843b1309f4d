//! What the runtime is asked to make, in pod words.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{MountPlan, PodRef, VolumePlan};
use crate::agent::devices::Held;
use crate::clock::Wall;

/// A sandbox to be made: it holds the pod's network and IPC namespaces, and its volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SandboxPlan {
    /// Whose.
    pub pod: PodRef,
    /// Counts the sandboxes of this pod.
    pub attempt: u32,
    /// When the pod was first started on this node: it outlives the sandbox.
    pub pod_start: Wall,
    /// How long its containers may take to end, should the pod be gone when we look again.
    pub grace: Duration,
    /// What `hostname` says in the pod.
    pub hostname: String,
    /// What comes after it in the full name; empty: nothing.
    pub domain: String,
    /// Whom the pod asks for names.
    pub dns: Dns,
    /// Ports of the node that lead to it.
    pub ports: Vec<PortPlan>,
    /// What the pod sets in the kernel, for itself.
    pub sysctls: BTreeMap<String, String>,
    /// Extra lines of `/etc/hosts`, `name:address`.
    pub extra_hosts: Vec<String>,
    /// Whether it uses the host's network.
    pub host_network: bool,
    /// Whether it uses the host's IPC.
    pub host_ipc: bool,
    /// The pod's volumes that live in the runtime.
    pub volumes: Vec<VolumePlan>,
    /// The pod's annotations under `bramble/`; the simulated runtime reads its script there.
    pub annotations: BTreeMap<String, String>,
    /// The container that comes next, without its `sandbox_id`. It may be made, and not started, while the sandbox starts: that
    /// takes as long, and so costs no time.
    pub next: Option<Box<ContainerPlan>>,
}

/// Whom a pod asks for names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked before those named here.
    pub policy: DnsPolicy,
    /// Addresses.
    pub servers: Vec<String>,
    /// Domains.
    pub searches: Vec<String>,
    /// Name and value.
    pub options: Vec<(String, Option<String>)>,
}

/// Who is asked for names before those whom the pod names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsPolicy {
    /// `Default`, and `ClusterFirst` on the host's network: the host's servers.
    #[default]
    Host,
    /// `ClusterFirst`, and `ClusterFirstWithHostNet`: the node, which knows the cluster's names.
    Cluster,
    /// `None`: nobody.
    Own,
}

/// A port of the node that leads to one of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortPlan {
    /// The node's address; empty: all of them.
    pub host_ip: String,
    /// The node's port.
    pub host: u16,
    /// The pod's.
    pub container: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerPlan {
    /// Whose.
    pub pod: PodRef,
    /// Its name in the pod.
    pub name: String,
    /// Restarts before this one.
    pub attempt: u32,
    /// Of these, how many since it last ran for ten minutes.
    pub streak: u32,
    /// What it was made from; another one replaces it.
    pub spec_hash: String,
    /// As the pod names it.
    pub image: String,
    /// Replaces the image's entry point when not empty.
    pub command: Vec<String>,
    /// Replaces the image's arguments when not empty.
    pub args: Vec<String>,
    /// In order, expanded.
    pub env: Vec<(String, String)>,
    /// Empty: the image's.
    pub working_dir: String,
    /// Where volumes appear.
    pub mounts: Vec<MountPlan>,
    /// The sandbox that it joins.
    pub sandbox_id: String,
    /// Whether the pod uses the host's network.
    pub host_network: bool,
    /// Whether the pod uses the host's IPC.
    pub host_ipc: bool,
    /// Whose processes it sees.
    pub pid: PidNamespace,
    /// The devices that it may use, and no others.
    pub devices: Vec<Held>,
    /// Limits and identity.
    pub limits: Limits,
    /// Identity and rights.
    pub security: Security,
    /// A terminal.
    pub tty: bool,
    /// An open standard input.
    pub stdin: bool,
    /// It is closed when the first who was attached to it leaves.
    pub stdin_once: bool,
    /// What is said when it is started.
    pub notes: Vec<Note>,
    /// Where it leaves its last words; empty: nowhere.
    pub last_words_path: String,
    /// The end of its log stands in for last words when it fails without any.
    pub last_words_from_log: bool,
    /// The runtime's id of the container whose processes it sees, in place of `pid`.
    pub processes_of: Option<String>,
    /// The pod's volumes that live in the runtime and that it mounts.
    pub volumes: Vec<VolumePlan>,
}

/// A warning for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// A word, as an event's reason.
    pub reason: &'static str,
    /// What it is.
    pub message: String,
}

impl Note {
    /// What the engine or the host has to say.
    #[must_use]
    pub fn of_runtime(message: String) -> Self {
        Self { reason: "RuntimeWarning", message }
    }
}

/// Whose processes a container sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PidNamespace {
    /// Its own.
    #[default]
    Container,
    /// All of the pod's.
    Pod,
    /// All of the host's.
    Host,
}

/// What a container may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `limits.cpu`.
    pub cpu_milli: Option<u64>,
    /// `limits.memory`.
    pub memory_bytes: Option<u64>,
    /// `requests.cpu`, its weight when cores are short.
    pub cpu_request_milli: Option<u64>,
    /// `requests.memory`, which it keeps when memory is short.
    pub memory_request_bytes: Option<u64>,
    /// Processes and threads at one time.
    pub pids: Option<u64>,
    /// Whether the kernel ends it sooner (1000) or later (-1000) than others when memory is at its end.
    pub oom_score: i32,
}

/// As whom a container runs, and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `runAsUser`.
    pub user: Option<u64>,
    /// `runAsGroup`.
    pub group: Option<u64>,
    /// `runAsNonRoot`.
    pub non_root: bool,
    /// `supplementalGroups` and `fsGroup`.
    pub groups: Vec<u64>,
    /// `privileged`.
    pub privileged: bool,
    /// `capabilities.add`.
    pub add: Vec<String>,
    /// `capabilities.drop`.
    pub drop: Vec<String>,
    /// `readOnlyRootFilesystem`.
    pub read_only_root: bool,
    /// `allowPrivilegeEscalation: false`.
    pub no_new_privileges: bool,
    /// `procMount: Unmasked`.
    pub unmasked_proc: bool,
    /// `seccompProfile`.
    pub seccomp: Seccomp,
    /// `appArmorProfile`.
    pub app_armor: Option<AppArmor>,
    /// `seLinuxOptions`: what and its value.
    pub labels: Vec<(String, String)>,
}

/// Which calls of the kernel a container may make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Those that the runtime allows.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// Those of a file of the node, relative to the node's `seccomp_dir`.
    Localhost(String),
}

/// What AppArmor keeps a container from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppArmor {
    /// What the runtime thinks right.
    Default,
    /// Nothing.
    Unconfined,
    /// What a profile of the host says, by its name.
    Localhost(String),
}
