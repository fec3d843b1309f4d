//! A pod that names its node is put nowhere else. (Such a pod is bound already; the rule is for asking "what if".)

use super::{Candidate, Misfit, NodeInfo, Rule};
use crate::api::core::pod::Pod;

/// Whether the pod names this node, or none.
///
/// # Errors
/// When it names another.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    let wanted = Pod(pod.object).node_name();
    if wanted.is_empty() || node.object.as_ref().is_some_and(|object| object.name() == wanted) {
        return Ok(());
    }
    Err(Misfit::new(Rule::NodeName, "node(s) didn't match the requested node name"))
}

#[cfg(test)]
mod tests {
    use super::super::test::{node, verdict};
    use serde_json::json;

    #[test]
    fn a_named_node_is_the_only_one() {
        let a = node(json!({}));
        assert_eq!(verdict(json!({"nodeName": "a"}), &a), "");
        assert_eq!(verdict(json!({"nodeName": "b"}), &a), "node(s) didn't match the requested node name");
    }
}
