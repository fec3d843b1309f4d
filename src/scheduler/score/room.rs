//! The emptier node, and the one whose CPU and memory would be used alike.
//!
//! Source:   upstream's NodeResourcesFit (LeastAllocated) and NodeResourcesBalancedAllocation, added. As there, a container
//!           that asks for nothing counts as 100 m and 200 MB, here once a pod, so that pods without requests spread too.

use super::{Candidate, NodeInfo};

const UNSAID_MILLI_CPU: i64 = 100;
const UNSAID_MEMORY: i64 = 200 * 1024 * 1024;

/// 0 to 200 000; more is better.
#[must_use]
pub fn left(pod: &Candidate<'_>, node: &NodeInfo) -> i64 {
    // What is on the node without having said so is counted by number, for want of better knowledge.
    let said = |amount: i64, unsaid: i64| if amount == 0 { unsaid } else { amount };
    let cpu = fraction(
        node.used.milli_cpu.max(node.pods.saturating_mul(UNSAID_MILLI_CPU)) + said(pod.requests.milli_cpu, UNSAID_MILLI_CPU),
        node.allocatable.milli_cpu,
    );
    let memory = fraction(
        node.used.memory.max(node.pods.saturating_mul(UNSAID_MEMORY)).saturating_add(said(pod.requests.memory, UNSAID_MEMORY)),
        node.allocatable.memory,
    );
    let free = 100_000 - (cpu + memory) / 2;
    let balanced = 100_000 - (cpu - memory).abs();
    free + balanced
}

/// In thousandths of a percent, at most all of it.
fn fraction(used: i64, of: i64) -> i64 {
    if of <= 0 {
        return 100_000;
    }
    i64::try_from(i128::from(used) * 100_000 / i128::from(of)).unwrap_or(100_000).clamp(0, 100_000)
}
