//! What the node remembers of a pod beside what the runtime shows: words.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::agent::devices::Held;
use crate::agent::past::GivenUp;
use crate::agent::pods::address::Address;
use crate::agent::pods::env::ConfigError;
use crate::agent::pods::image::ImageState;
use crate::agent::pods::mount::Mounts;
use crate::agent::prober::Watch;
use crate::backoff::Policy;
use crate::clock::{Tick, Wall};

/// Between attempts to fetch an image. Source: the kubelet's image back-off, 10 s to 5 min.
pub const PULL_BACKOFF: Policy = Policy { first: Duration::from_secs(10), cap: Duration::from_secs(300) };
/// Between attempts at something that the runtime could not do.
pub const TROUBLE_BACKOFF: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// Something that the runtime could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How often in a row.
    pub failures: u32,
    /// The next attempt.
    pub due: Tick,
    /// As a waiting reason.
    pub reason: &'static str,
    /// In the runtime's words.
    pub message: String,
}

/// A container that was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// When its grace is over.
    pub deadline: Tick,
    /// `kubectl describe` says so.
    pub told: bool,
    /// The runtime could not be told: not again before this.
    pub retry: Tick,
    /// How far it has come.
    pub stage: Stage,
}

/// How far a container has come on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its preStop hook runs.
    Hook,
    /// It is to get TERM once those before it have ended.
    Turn {
        /// It had to wait, for its hook or for others.
        waited: bool,
    },
    /// It got TERM.
    Term {
        /// When.
        since: Tick,
        /// It has so long even if the deadline comes sooner.
        least: Duration,
    },
    /// It got KILL.
    Kill {
        /// When it gets another one.
        again: Tick,
    },
}

/// How a postStart hook stands that has not ended well yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostStart {
    /// The container has just been started.
    Due,
    /// It runs: nothing else of the pod is started.
    Runs,
    /// Its container is to end.
    Failed,
}

/// What the node remembers of a pod beside what the runtime shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By container.
    pub images: BTreeMap<String, ImageState>,
    /// By container; `SANDBOX` for the sandbox.
    pub trouble: BTreeMap<String, Trouble>,
    /// By container: why it cannot be configured.
    pub config: BTreeMap<String, ConfigError>,
    /// By the runtime's id: when a dead container has its next turn.
    pub dues: BTreeMap<String, Tick>,
    /// By the runtime's id.
    pub kills: BTreeMap<String, Kill>,
    /// By the runtime's id. A hook that an earlier agent began is not begun again, and counts as having ended well: upstream's way.
    pub post_start: BTreeMap<String, PostStart>,
    /// What the probes have found, and which are to come.
    pub probes: Watch,
    /// By container: the highest attempt seen.
    pub attempts: BTreeMap<String, u32>,
    /// By container: the highest attempt of which an earlier agent left files.
    pub left: BTreeMap<String, u32>,
    /// When the deadline of its activity was first looked at, and how long it had been active by then.
    pub active: Option<(Tick, Duration)>,
    /// What was done for its volumes.
    pub mounts: Mounts,
    /// The devices that its containers have.
    pub devices: BTreeMap<String, Vec<Held>>,
    /// Why it has not all the devices that it asks for.
    pub no_device: Option<String>,
    /// Why the node gave it up.
    pub failure: Option<GivenUp>,
    /// When this agent first saw that it is to run.
    pub begun: Option<Wall>,
    /// Its address.
    pub address: Address,
    /// A sandbox of it was seen: the next one is another one.
    pub sandboxed: bool,
}

/// Why a pod has failed as a whole, by the node's own decision. Worded as the kubelet words it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodFailure {
    /// `status.reason`: `Evicted`, `DeadlineExceeded`, …
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// One more condition that is true of it, since the moment given: `DisruptionTarget`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<(FailureCondition, Wall)>,
    /// It was not taken at all, at this moment: nothing of it was ever made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Wall>,
}

/// A condition that is true of a pod that the node gave up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCondition {
    /// `DisruptionTarget`.
    pub kind: String,
    /// `TerminationByKubelet`.
    pub reason: String,
    /// For a person.
    pub message: String,
}
