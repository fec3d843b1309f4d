//! What runs pods, in pod words: the commands, their outcomes, and what is observed.
//!
//! In:       [`Command`]s from `agent/node.rs`, one at a time per pod.
//! Out:      [`Done`] or [`Failure`], and [`Listing`]s of what there is.
//! Never:    decides when something is done (`pods/plan.rs`).
//! Flow:     stop 11: from `agent/pods/plan.rs`, on to `agent/pods/status.rs`.
//!
//! ```text
//!  node ── Command ──▶ run.rs ──▶ dyn Runtime: docker.rs (bollard) or simulated.rs (a Machine)
//!  node ◀─ Outcome + the pod as it is after it ── run.rs ◀── Changed ── events
//! ```

#[cfg(feature = "docker")]
pub mod docker;
pub mod exec;
pub mod naming;
pub mod run;
pub mod sandbox;
//SIM
pub mod tar;
pub mod translate;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::api::Uid;
use crate::clock::Wall;
use crate::link::call::{Chunks, LogRequest};

/// Which pod something in the runtime belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodRef {
    /// `metadata.uid`.
    pub uid: Uid,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

/// One thing to be done for one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes the pod's sandbox run, with its volumes; what is there under our labels is taken over.
    StartSandbox(Box<SandboxPlan>),
    /// Says whether an image is here.
    FindImage {
        /// As the pod names it.
        image: String,
    },
    /// Fetches an image.
    PullImage {
        /// As the pod names it.
        image: String,
    },
    /// Makes a container run; what is there under our labels is taken over.
    StartContainer(Box<ContainerPlan>),
    /// Sends a signal to all of these.
    Signal {
        /// The runtime's ids.
        ids: Vec<String>,
        /// Which.
        signal: Signal,
    },
    /// Removes dead containers and their logs.
    RemoveContainers {
        /// The runtime's ids.
        ids: Vec<String>,
    },
    /// Removes everything of the pod: containers, sandboxes, volumes. What still runs is killed.
    RemovePod,
}

impl Command {
    /// A word for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Command::StartSandbox(_) => "start sandbox",
            Command::FindImage { .. } => "find image",
            Command::PullImage { .. } => "pull image",
            Command::StartContainer(_) => "start container",
            Command::Signal { signal: Signal::Term, .. } => "terminate",
            Command::Signal { signal: Signal::Kill, .. } => "kill",
            Command::RemoveContainers { .. } => "remove containers",
            Command::RemovePod => "remove pod",
        }
    }
}

/// The two ways to end a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The image's own stop signal, else TERM.
    Term,
    /// KILL.
    Kill,
}

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

/// What a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Ok,
    /// A sandbox or container runs; what the runtime warned of.
    Started {
        /// The runtime's id.
        id: String,
        /// Whether it was made now, and not found.
        created: bool,
        /// In the runtime's words.
        warnings: Vec<String>,
    },
    /// Whether the image is here.
    Image {
        /// Whether it is here.
        present: bool,
    },
    /// The image was fetched.
    Pulled {
        /// How long it took.
        took: Duration,
        /// How large it is.
        bytes: u64,
    },
}

/// Why a command did not do it. The text is for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The runtime is away; nothing is known, ask again.
    #[error("{0}")]
    Unavailable(String),
    /// The registry answered no: no such image, or no right to it.
    #[error("{0}")]
    Refused(String),
    /// The runtime cannot do what was asked.
    #[error("{0}")]
    Failed(String),
}

/// What there is of each pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Grows with each listing, taken when it began: an older one never replaces a newer one.
    pub stamp: u64,
    /// Only this pod was looked for; `None`: everything of this node.
    pub only: Option<Uid>,
    /// What was found. A pod that left nothing is not here.
    pub pods: BTreeMap<Uid, ObservedPod>,
}

/// What there is of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedPod {
    /// Which.
    pub pod: PodRef,
    /// Its sandboxes, oldest first.
    pub sandboxes: Vec<ObservedSandbox>,
    /// Its containers, by name and attempt.
    pub containers: Vec<ObservedContainer>,
    /// Its volumes.
    pub volumes: Vec<String>,
}

/// One sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedSandbox {
    /// The runtime's id.
    pub id: String,
    /// Counts the sandboxes of the pod.
    pub attempt: u32,
    /// When the pod was first started on this node.
    pub pod_start: Wall,
    /// What the pod's containers are given to end.
    pub grace: Duration,
    /// What it does.
    pub state: RunState,
    /// The pod's address; none with the host's network.
    pub ip: Option<String>,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObservedContainer {
    /// The runtime's id.
    pub id: String,
    /// Its name in the pod.
    pub name: String,
    /// Restarts before this one.
    pub attempt: u32,
    /// Of these, how many since it last ran for ten minutes.
    pub streak: u32,
    /// What it was made from.
    pub spec_hash: String,
    /// As the pod named it.
    pub image: String,
    /// The digest of the image, else its id.
    pub image_id: String,
    /// The sandbox that it joined.
    pub sandbox_id: String,
    /// What it does.
    pub state: RunState,
}

/// What a container or a sandbox does, with the runtime's own times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RunState {
    /// Made, not started.
    #[default]
    Created,
    /// Runs.
    Running {
        /// Since when.
        started: Wall,
    },
    /// Has ended.
    Exited {
        /// When it began; when it was made if it never ran.
        started: Wall,
        /// When it ended.
        finished: Wall,
        /// What it said.
        exit_code: i64,
        /// Whether it was killed for its memory.
        oom: bool,
        /// Why it could not be started at all.
        error: Option<String>,
    },
}

impl RunState {
    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, RunState::Running { .. })
    }
}

/// Something changed: look at this pod, or at all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// This pod.
    Pod(Uid),
    /// Anything.
    All,
}

/// A future that a trait object can give.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream of changes. `None`: it broke; list everything and subscribe again.
pub trait Changes: Send {
    /// The next change. Safe to drop half way.
    fn next(&mut self) -> Boxed<'_, Option<Changed>>;
}

/// What runs pods.
pub trait Runtime: Send + Sync + 'static {
    /// Does one thing for a pod.
    fn execute<'a>(&'a self, pod: &'a PodRef, command: &'a Command) -> Boxed<'a, Result<Done, Failure>>;
    /// What there is, of one pod or of all of this node.
    fn observe<'a>(&'a self, only: Option<&'a Uid>) -> Boxed<'a, Result<Listing, Failure>>;
    /// Subscribes to changes from now on.
    fn events(&self) -> Boxed<'_, Result<Box<dyn Changes>, Failure>>;
    /// Reads a container's log. The reading ends when the receiver is dropped.
    fn logs(&self, request: LogRequest) -> Chunks;
    /// `docker://20.10.24`, the node's `containerRuntimeVersion`.
    fn version(&self) -> Boxed<'_, Result<String, Failure>>;
    /// Removes everything that this node has made, and what nobody else uses any more of what it shares.
    fn teardown(&self) -> Boxed<'_, Result<(), Failure>>;
}
