//! What the node remembers of a pod beside what the runtime shows: words.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::devices::Held;
use crate::agent::pods::env::ConfigError;
use crate::agent::prober::Watch;
use crate::backoff::Policy;
use crate::clock::{Tick, Wall};

/// Between attempts to fetch an image. Source: the kubelet's image back-off, 10 s to 5 min.
pub const PULL_BACKOFF: Policy = Policy { first: Duration::from_secs(10), cap: Duration::from_secs(300) };
/// Between attempts at something that the runtime could not do.
pub const TROUBLE_BACKOFF: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };

/// What is known of an image for a container's next turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageState {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is not here.
    Absent,
    /// It should be fetched anew and its registry is out of reach: a copy may be here.
    Unreachable {
        /// How often fetching failed in a row before.
        failures: u32,
        /// Why.
        message: String,
    },
    /// It may be used for the next turn.
    Ready,
    /// It could not be had.
    Failed {
        /// How often in a row.
        failures: u32,
        /// The next attempt.
        due: Tick,
        /// From then on it is a back-off, before that an error.
        cools: Tick,
        /// In the registry's words.
        message: String,
        /// It may not be fetched at all.
        never: bool,
    },
}

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
    /// The next KILL.
    pub deadline: Tick,
}

/// What the node remembers of a pod beside what the runtime shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By container.
    pub images: BTreeMap<String, ImageState>,
    /// By container; [`SANDBOX`] for the sandbox.
    pub trouble: BTreeMap<String, Trouble>,
    /// By container: why it cannot be configured.
    pub config: BTreeMap<String, ConfigError>,
    /// By the runtime's id: when a dead container has its next turn.
    pub dues: BTreeMap<String, Tick>,
    /// By the runtime's id.
    pub kills: BTreeMap<String, Kill>,
    /// What the probes have found, and which are to come.
    pub probes: Watch,
    /// By container: the highest attempt seen.
    pub attempts: BTreeMap<String, u32>,
    /// The devices that its containers have.
    pub devices: BTreeMap<String, Vec<Held>>,
    /// Why it has not all the devices that it asks for.
    pub no_device: Option<String>,
    /// Why the node gave it up.
    pub failure: Option<PodFailure>,
}

/// Why a pod has failed as a whole, by the node's own decision. Worded as the kubelet words it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFailure {
    /// `status.reason`: `Evicted`, `DeadlineExceeded`, …
    pub reason: String,
    /// `status.message`.
    pub message: String,
    /// One more condition that is true of it, since the moment given: `DisruptionTarget`.
    pub condition: Option<(FailureCondition, Wall)>,
}

/// A condition that is true of a pod that the node gave up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureCondition {
    /// `DisruptionTarget`.
    pub kind: String,
    /// `TerminationByKubelet`.
    pub reason: String,
    /// For a person.
    pub message: String,
}
