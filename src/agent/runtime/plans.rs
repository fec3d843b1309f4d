//! What the runtime is asked to make, in pod words.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PodRef;
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
}

/// A volume of a pod that the runtime keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumePlan {
    /// Its name in the pod.
    pub name: String,
    /// Kept in memory, at most so many bytes when a number is given.
    pub memory: Option<Option<u64>>,
    /// Permission bits of its root.
    pub mode: u32,
    /// Files that are put in before a container of the pod starts.
    pub files: Vec<VolumeFile>,
}

/// A file in a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeFile {
    /// Relative, without `..`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
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
    /// A terminal, and an open standard input.
    pub tty: bool,
    /// An open standard input.
    pub stdin: bool,
    /// The pod's volumes that live in the runtime, so that their files are there before it starts.
    pub volumes: Vec<VolumePlan>,
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

/// A volume in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPlan {
    /// Path in the container.
    pub path: String,
    /// Where from.
    pub source: MountSource,
    /// Whether it cannot write.
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A volume of the pod, by name.
    Volume(String),
    /// A path of the host.
    Host {
        /// Absolute.
        path: String,
        /// Whether it is made when it is missing.
        make: bool,
    },
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
    /// `requests.memory`.
    pub memory_request_bytes: Option<u64>,
}

/// As whom a container runs, and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// `runAsUser`.
    pub user: Option<u64>,
    /// `runAsGroup`.
    pub group: Option<u64>,
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
    /// `seccompProfile.type: Unconfined`.
    pub seccomp_unconfined: bool,
}
