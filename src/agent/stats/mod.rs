//! What the node and its containers use: read only when somebody asks, or when the node must judge whom to evict.
//!
//! ```text
//!  kubectl top ─▶ apiserver/metrics ─ link ─▶ streams.rs ─▶ run.rs ─▶ dyn Runtime ─▶ sysinfo.rs ─▶ files of control groups
//!                                                            └─▶ rates.rs: two looks make a rate
//! ```

pub mod cgroup;
pub mod rates;
pub mod run;
pub mod sysinfo;

use std::collections::BTreeMap;

use crate::agent::runtime::PodRef;

/// What one running container has used so far, and holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUsage {
    /// Whose.
    pub pod: PodRef,
    /// Its name in the pod.
    pub container: String,
    /// The runtime's id: a container that was started anew begins at zero.
    pub id: String,
    /// Processor time since it started, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// The working set: memory less the file pages that could be dropped, as cAdvisor counts it.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub tasks: u64,
}

/// What the whole machine has used so far, and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// Processor time of all cores since it started, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// What could not be had without taking it from somebody.
    pub memory_bytes: u64,
}

/// What runs, and what it uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the machine, when the runtime makes it up; else the machine is read.
    pub node: Option<NodeUsage>,
    /// Of each container that runs.
    pub containers: Vec<ContainerUsage>,
}

/// What something takes on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnDisk {
    /// Blocks that it holds, in bytes.
    pub bytes: u64,
    /// Files and folders.
    pub files: u64,
}

impl OnDisk {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { bytes: self.bytes.saturating_add(other.bytes), files: self.files.saturating_add(other.files) }
    }
}

/// What one pod has on the node's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Whose.
    pub pod: PodRef,
    /// By container: its log and what it has written outside of volumes; all of its runs together.
    pub containers: BTreeMap<String, OnDisk>,
    /// By the name of an emptyDir on disk.
    pub volumes: BTreeMap<String, OnDisk>,
}

impl DiskUsage {
    /// The bytes of all of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.containers.values().chain(self.volumes.values()).fold(0, |sum, held| sum.saturating_add(held.bytes))
    }
}
