//! Which of the nodes that can take a pod is best.
//!
//! Scores are compared one after the other, the most important first, rather than added with weights: so that a deployment
//! is spread evenly however full the nodes are, which is what a shoebox of small computers needs, and what a person can
//! foretell. Before spreading come only the wishes that somebody wrote down for just this: taints that say "rather not", and
//! preferred node affinity.
//!
//! Source:   upstream adds TaintToleration x 3, NodeAffinity x 2, PodTopologySpread x 2, and the two resource scores x 1.

pub mod image_locality;
pub mod owner_spread;
pub mod preferred_affinity;
pub mod preferred_taints;
pub mod room;

use std::cmp::Reverse;

use super::candidate::Candidate;
use super::snapshot::NodeInfo;

/// How good a node is for a pod; the greatest is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    unwelcome: Reverse<usize>,
    preferred: i64,
    siblings: Reverse<usize>,
    room: i64,
}

/// How good this node is for this pod.
#[must_use]
pub fn score(pod: &Candidate<'_>, node: &NodeInfo) -> Score {
    Score {
        unwelcome: Reverse(preferred_taints::unborne(pod, node)),
        preferred: preferred_affinity::weight(pod, node),
        siblings: Reverse(owner_spread::siblings(pod, node)),
        room: room::left(pod, node) + image_locality::score(pod, node),
    }
}
