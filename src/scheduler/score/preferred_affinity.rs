//! Preferred node affinity: the weights of all terms that hold.

use super::{Candidate, NodeInfo};

/// The sum of the weights; more is better.
#[must_use]
pub fn weight(pod: &Candidate<'_>, node: &NodeInfo) -> i64 {
    let Some(object) = &node.object else { return 0 };
    pod.preferred.iter().filter(|preference| preference.fits(object)).map(|preference| preference.weight).sum()
}
