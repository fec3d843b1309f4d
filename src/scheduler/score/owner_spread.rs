//! Pods of one controller go to different nodes, so that one plug pulled takes as few of them as can be.

use super::{Candidate, NodeInfo};

/// How many pods of the same controller the node has; fewer is better.
#[must_use]
pub fn siblings(pod: &Candidate<'_>, node: &NodeInfo) -> usize {
    pod.owner.as_ref().and_then(|owner| node.owners.get(owner)).copied().unwrap_or_default()
}
