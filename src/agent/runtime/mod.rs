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
mod observed;
mod plans;
pub mod run;
pub mod sandbox;
pub mod simulated;
pub mod tail;
pub mod tar;
pub mod translate;
mod volume_plans;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use observed::{Listing, ObservedContainer, ObservedPod, ObservedSandbox, RunState, Trace};
pub use plans::{AppArmor, ContainerPlan, Dns, DnsPolicy, Limits, Note, PidNamespace, PortPlan, SandboxPlan, Seccomp, Security};
pub use volume_plans::{
    ContentFile, ContentPlan, HostPathPlan, MountPlan, MountSource, Point, Propagation, Recursive, VolumeKind, VolumePlan,
    VolumesPlan,
};

use crate::agent::images::credentials::Credential;
use crate::agent::images::progress::Progress;
use crate::agent::images::{Disk, ImageFacts};
use crate::agent::node_network::NodeNetwork;
use crate::agent::prober::Sign;
use crate::agent::stats::{DiskUsage, Usage};
use crate::api::Uid;
use crate::api::image::{Platform, Platforms};
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
    /// Fetches an image, unless its registry says that it is not made for this node.
    PullImage {
        /// As the pod names it.
        image: String,
        /// Shown to the registry one after the other; none: it is asked as anybody.
        credentials: Vec<Credential>,
    },
    /// Gives up the order that has the same ticket, as far as it can be left half way: nobody wants it any more. The outcome is that
    /// order's.
    Cancel,
    /// Makes a container run; what is there under our labels is taken over.
    StartContainer(Box<ContainerPlan>),
    /// Makes what the pod's volumes need on the node.
    SetUpVolumes(Box<VolumesPlan>),
    /// Says how much is in these volumes.
    MeasureVolumes {
        /// Their names in the pod.
        volumes: Vec<String>,
    },
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
            Command::Cancel => "cancel",
            Command::StartContainer(_) => "start container",
            Command::SetUpVolumes(_) => "set up volumes",
            Command::MeasureVolumes { .. } => "measure volumes",
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

/// What a command gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is done.
    Ok,
    /// A sandbox or container runs; what the runtime warned of.
    Started {
        /// The runtime's id.
        id: String,
        /// Whether it has never run before, and was not found running.
        created: bool,
        /// Events of these reasons.
        warnings: Vec<Note>,
    },
    /// How many bytes are in each volume that could be looked into, by its name in the pod.
    Measured(Vec<(String, u64)>),
    /// Whether the image is here.
    Image {
        /// Whether it is here.
        present: bool,
        /// It runs here, and not as this node's own: in words for the user.
        foreign: Option<String>,
    },
    /// The image was fetched.
    Pulled {
        /// How long it took.
        took: Duration,
        /// How large it is.
        bytes: u64,
        /// It runs here, and not as this node's own: in words for the user.
        foreign: Option<String>,
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
    /// What the pod asks does not go with its image, or with this host: its image may be made for other machines.
    #[error("{0}")]
    Unfit(String),
}

impl Failure {
    /// The order was given up.
    #[must_use]
    pub fn given_up() -> Self {
        Failure::Failed("given up: the pod ends".to_owned())
    }
}

/// What became of a command that was run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// What it ended with; `None`: it did not end within the limit, and was killed as far as this node may.
    pub exit_code: Option<i64>,
    /// What it printed, both streams as they came: the first [`OUTPUT_LIMIT`] bytes.
    pub output: String,
}

/// Bytes that are kept of what a command in a container prints. Source: the kubelet's maxReadLength for exec probes.
pub const OUTPUT_LIMIT: usize = 10 << 10;

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
    /// The next change. Safe to drop half way. The first call may be what begins to listen.
    fn next(&mut self) -> Boxed<'_, Option<Changed>>;
}

/// What runs pods.
pub trait Runtime: Send + Sync + 'static {
    /// Does one thing for a pod. `given_up` says that nobody wants it any more: a start that is not yet at the container itself then
    /// fails. A fetch is simply dropped; nothing else may be.
    fn execute<'a>(
        &'a self,
        pod: &'a PodRef,
        command: &'a Command,
        given_up: &'a CancellationToken,
    ) -> Boxed<'a, Result<Done, Failure>>;
    /// What there is, of one pod or of all of this node.
    fn observe<'a>(&'a self, only: Option<&'a Uid>) -> Boxed<'a, Result<Listing, Failure>>;
    /// Subscribes to changes from now on.
    fn events(&self) -> Boxed<'_, Result<Box<dyn Changes>, Failure>>;
    /// Reads a container's log. The reading ends when the receiver is dropped.
    fn logs(&self, request: LogRequest) -> Chunks;
    /// Runs a command in a running container (the runtime's id), as its user and in its working directory, without a terminal. It
    /// has `limit` from its start on. `Err` says that it could not be asked for; that it failed is an exit code.
    fn exec<'a>(&'a self, container: &'a str, command: &'a [String], limit: Duration) -> Boxed<'a, Result<Executed, Failure>>;
    /// What a probe of this container finds where nothing runs in truth; `None`: ask the container itself.
    fn answers(&self, _container: &str) -> Option<Sign> {
        None
    }
    /// `docker://20.10.24` or `podman://4.3.1`, the node's `containerRuntimeVersion`; known from the connecting on, so it is no sign of
    /// life.
    fn version(&self) -> Boxed<'_, Result<String, Failure>>;
    /// Whether it answers, asked at this moment.
    fn lives(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    /// All images that are here.
    fn images(&self) -> Boxed<'_, Result<Vec<ImageFacts>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    /// The file system with the images.
    fn image_disk(&self) -> Boxed<'_, Result<Disk, Failure>> {
        Box::pin(async { Ok(Disk::default()) })
    }
    /// Removes an image that was fetched by these names. One that has others as well, or is used, stays.
    fn remove_image<'a>(&'a self, _id: &'a str, _names: &'a [String]) -> Boxed<'a, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    /// Removes what was made for several pods and none uses any more, and what an agent that was killed left half done.
    fn tidy(&self) -> Boxed<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }
    /// How far the fetch of this image is; `None` when nothing is known of one.
    fn progress(&self, _image: &str) -> Option<Progress> {
        None
    }
    /// What this node runs.
    fn platforms(&self) -> Boxed<'_, Result<Platforms, Failure>> {
        Box::pin(async { Ok(Platforms::default()) })
    }
    /// What an image is made for, as its registry says, else the copy that is here; empty when nobody knows.
    fn image_platforms<'a>(
        &'a self,
        _image: &'a str,
        _credentials: &'a [Credential],
    ) -> Boxed<'a, Result<Vec<Platform>, Failure>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    /// Makes the network of this node's pods, unless it is there, and says what it is; none where pods have no network of the node's own.
    fn network(&self) -> Boxed<'_, Result<Option<NodeNetwork>, Failure>> {
        Box::pin(async { Ok(None) })
    }
    /// Removes everything that this node has made, and what nobody else uses any more of what it shares.
    fn teardown(&self) -> Boxed<'_, Result<(), Failure>>;
    /// What each container that runs uses. Asked for only when somebody wants to know.
    fn usage(&self) -> Boxed<'_, Result<Usage, Failure>>;
    /// What pods, or one, have on disk. Slow and hard on the disk.
    fn disk<'a>(&'a self, only: Option<&'a Uid>) -> Boxed<'a, Result<Vec<DiskUsage>, Failure>>;
    /// The folder with images and containers; none where there is none.
    fn root(&self) -> Boxed<'_, Result<Option<PathBuf>, Failure>>;
}
