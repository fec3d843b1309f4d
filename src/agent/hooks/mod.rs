//! postStart and preStop: run beside the orders, because they take their own time.
//!
//! ```text
//!  pods/plan.rs ─ HookStart ─▶ node.rs ─ HookOrder ─▶ run.rs ─▶ exec in the runtime, HTTP, or a sleep
//!                              node.rs ◀─ HookOutcome ─ run.rs
//! ```
//! An outcome is known by its container's id in the runtime: one container has one hook of each kind in its life.

pub mod run;

use super::pods::plan::{HookStart, Moment};
use super::runtime::PodRef;
use crate::api::Uid;

/// A hook to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOrder {
    /// Whose.
    pub pod: PodRef,
    /// Where its containers are reached when the hook names no host.
    pub address: String,
    /// Which, of which container.
    pub start: HookStart,
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookOutcome {
    /// The pod's.
    pub uid: Uid,
    /// The runtime's id of the container.
    pub container: String,
    /// Which of its hooks.
    pub moment: Moment,
    /// How it went.
    pub end: HookEnd,
}

/// How a hook went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookEnd {
    /// Well.
    Done,
    /// It did not end within its time.
    Late,
    /// Badly; the words are for the log only: they may hold secrets of the container.
    Failed(String),
}
