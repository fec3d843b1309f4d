//! Which node each pod runs on.
//!
//! ```text
//! store ─ bell ─▶ run.rs ─▶ pass.rs: changes → snapshot, queue ─▶ cycle.rs, a pod at a time ─▶ one batch ─▶ store.write
//!                                                                  │
//!                           filter/*.rs: which nodes can take it ──┤ none: FailedScheduling with a count a reason
//!                           score/*.rs:  which of them is best   ──┘ one:  bound, and assumed for the next pod
//! ```
//!
//! The snapshot holds what nodes have and what their pods use, and follows the changes; it is never computed anew for a pod.
//! Within a pass each decision is assumed to stand, so that 100 pods are decided against one view and bound by one write.
//! A write that lost a race is undone in the snapshot, and the pod is looked at again.
//!
//! Source:   kube-scheduler's framework: the same filters in the same words. Left out for now: affinity between pods, topology
//!           spread constraints.
//! Flow:     stop 6 of the life of a pod: from `controller/replicaset.rs`, on to `dispatcher/assign.rs`.

pub mod candidate;
pub mod cycle;
pub mod filter;
pub mod images;
pub mod pass;
pub mod preempt;
pub mod queue;
mod run;
pub mod score;
pub mod snapshot;
pub mod volumes;

pub use run::run;

/// The name that pods ask for in `spec.schedulerName`, and that events carry.
pub const NAME: &str = "default-scheduler";
