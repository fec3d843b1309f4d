//! `PreferNoSchedule`: a node that would rather not is taken last.

use super::{Candidate, NodeInfo};
use crate::api::core::node::Effect;

/// How many such taints the pod does not bear; fewer is better.
#[must_use]
pub fn unborne(pod: &Candidate<'_>, node: &NodeInfo) -> usize {
    node.taints.iter().filter(|taint| taint.effect == Effect::PreferNoSchedule && !pod.tolerates(taint)).count()
}
