//! What there is in the runtime, in pod words, with the runtime's own times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PodRef;
use crate::agent::devices::Held;
use crate::api::Uid;
use crate::clock::Wall;

/// What there is of each pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Grows with each listing, taken when it began: an older one never replaces a newer one.
    pub stamp: u64,
    /// Only this pod was looked for; `None`: everything of this node.
    pub only: Option<Uid>,
    /// What stands before `://` in the ids of containers: which engine it is. `None`: as the node thinks.
    pub scheme: Option<&'static str>,
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
    /// Whether it has a directory of its own on this node (`pods/dir.rs`).
    pub directory: bool,
    /// The highest attempt of each container of which that directory has files, also of one that the runtime shows no more.
    pub left: BTreeMap<String, u32>,
}

impl ObservedPod {
    /// Whether nothing of it is left on this node.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.containers.is_empty() && self.sandboxes.is_empty() && self.volumes.is_empty() && !self.directory
    }
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
    /// Its IPv6 address beside that.
    pub ip6: Option<String>,
    /// It is on no network at all, not even the host's: somebody took it off.
    pub off_network: bool,
}

impl ObservedSandbox {
    /// `status.podIPs`: all of the pod's addresses, the one of IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.ip.iter().chain(&self.ip6).cloned().collect()
    }
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
    /// The devices that it was given.
    pub devices: Vec<Held>,
    /// What it does.
    pub state: RunState,
    /// Its last words, once it has ended.
    pub message: String,
    /// Whether a process of it was killed for its memory, be it only a child.
    pub oom: bool,
    /// Whether the runtime still shows it.
    pub trace: Trace,
}

/// Whether the runtime still shows a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trace {
    /// It does.
    #[default]
    There,
    /// It was removed by somebody else after it had ended.
    Lost,
    /// It was removed by somebody else while it ran, as far as we saw: how it ended is not known.
    LostRunning,
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
