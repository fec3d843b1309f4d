//! What a node is, what can happen to it and what it wants done: words.

use std::sync::Arc;
use std::time::Duration;

use crate::agent::devices::Offer;
use crate::agent::devices::inventory::Inventory;
use crate::agent::hooks::{HookOrder, HookOutcome};
use crate::agent::images::progress::Progress;
use crate::agent::past::Past;
use crate::agent::pods::plan::FailureCondition;
use crate::agent::pods::resource_field::NodeAmounts;
use crate::agent::pods::status::LightState;
use crate::agent::prober::{self, Answer};
use crate::agent::runtime::{Command, Done, Failure, Listing, PodRef};
use crate::api::Uid;
use crate::link::message::{NodeEvent, PodReport};
use crate::link::share::Share;

/// How many images are fetched at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MostPulls(pub usize);

impl Default for MostPulls {
    /// A card and a home's line take no more.
    fn default() -> Self {
        Self(2)
    }
}

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its addresses, the main one first.
    pub host_ips: Vec<String>,
    /// What container ids begin with: `docker` or `simulated`.
    pub scheme: &'static str,
    /// How many images it fetches at the same time.
    pub pulls: MostPulls,
    /// What it has.
    pub amounts: NodeAmounts,
    /// Sysctls that its pods may set beyond the safe ones.
    pub allowed_sysctls: Vec<String>,
    /// It is told of the network: its first pods wait for that a while.
    pub network: bool,
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// What the agents before this one wrote down: comes before everything else, or not at all.
    Past(Past),
    /// The whole share as it was kept, which may be an old one: what it does not name is left as it is.
    Kept(Arc<Share>),
    /// The whole share, as the master mailed it.
    Desired(Arc<Share>),
    /// The share that was kept is what the master wants.
    Confirmed,
    /// A listing, of all or of one pod.
    Observed(Listing),
    /// An order was carried out, or not.
    Outcome(Outcome),
    /// How far a fetch is.
    Progress {
        /// The order's.
        ticket: u64,
        /// The pod's.
        uid: Uid,
        /// How far.
        progress: Progress,
    },
    /// A probe was answered.
    Probed(Answer),
    /// The node gives a pod up: what runs of it is ended within the grace and not started again, and once nothing runs its phase
    /// is `Failed` with these words. Its dead containers stay for their logs until it is deleted. A pod that has ended already,
    /// is being deleted, or is not known, is left as it is; of several failures the first one's words stay.
    Fail {
        /// Which.
        uid: Uid,
        /// `status.reason`, as the kubelet words it: `Evicted`, `DeadlineExceeded`.
        reason: String,
        /// `status.message`.
        message: String,
        /// TERM at once, KILL after so long.
        grace: Duration,
        /// One more condition that is true of it, such as `DisruptionTarget`.
        condition: Option<FailureCondition>,
    },
    /// A hook has ended.
    Hooked(HookOutcome),
    /// What is plugged in, whenever that changed.
    Devices(Inventory),
    /// The network's share, whenever it changed.
    Network(Arc<Share>),
    /// The node's addresses changed.
    Addresses(Vec<String>),
    /// The master asks for every status.
    ReportAll,
}

/// An order for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Comes back with the outcome.
    pub ticket: u64,
    /// Whose.
    pub pod: PodRef,
    /// What.
    pub command: Command,
}

/// What became of an order.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The order's.
    pub ticket: u64,
    /// The pod's.
    pub uid: Uid,
    /// What the runtime said.
    pub result: Result<Done, Failure>,
    /// The pod as it is afterwards; `None`: it could not be looked at, a listing follows.
    pub after: Option<Listing>,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// For the runtime.
    Run(Order),
    /// For the hooks' hand; its outcome comes as [`Input::Hooked`].
    Hook(HookOrder),
    /// For the prober's hand.
    Probe(prober::Order),
    /// For the master: the newest status of a pod, because it changed.
    Report(PodReport),
    /// For `kubectl describe`.
    Event(NodeEvent),
    /// For the master: what the node offers of devices, because that changed.
    Offer(Offer),
    /// For the disk: all that is to be remembered, because it changed.
    Keep(Past),
    /// For the LEDs: all pods, because one changed.
    Lights(Vec<PodLight>),
}

/// One pod for the LEDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodLight {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The annotation `bramble/led`: the LED that it asks for.
    pub led: Option<String>,
    /// What it shows.
    pub state: LightState,
}
