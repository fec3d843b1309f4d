//! A cordoned node takes no pods, but those that bear the taint of it.

use super::{Candidate, Misfit, NodeInfo, Rule};
use crate::api::core::node::{Effect, Taint, UNSCHEDULABLE};

/// Whether the node is open to this pod.
///
/// # Errors
/// When it is cordoned.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    if !node.unschedulable || pod.tolerates(&Taint::new(UNSCHEDULABLE, Effect::NoSchedule)) {
        return Ok(());
    }
    Err(Misfit::new(Rule::Unschedulable, "node(s) were unschedulable"))
}

#[cfg(test)]
mod tests {
    use super::super::test::{node, verdict};
    use serde_json::json;

    #[test]
    fn a_cordoned_node_takes_only_those_who_bear_it() {
        let cordoned = node(json!({"spec.unschedulable": true}));
        assert_eq!(verdict(json!({}), &cordoned), "node(s) were unschedulable");
        let bears = json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
        assert_eq!(verdict(bears, &cordoned), "");
        assert_eq!(verdict(json!({}), &node(json!({}))), "");
    }
}
