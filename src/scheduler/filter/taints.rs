//! A node with a taint that the pod does not bear does not take it. A node that is not ready has such a taint.

use super::{Candidate, Misfit, NodeInfo, Rule};
use crate::api::core::node::Effect;

/// Whether the pod bears all taints that keep pods away.
///
/// # Errors
/// With the first that it does not bear.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    let unborne = node.taints.iter().find(|taint| taint.effect != Effect::PreferNoSchedule && !pod.tolerates(taint));
    match unborne {
        None => Ok(()),
        Some(taint) => {
            Err(Misfit::new(Rule::Taints, format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test::{node, verdict};
    use serde_json::json;

    #[test]
    fn a_taint_must_be_borne() {
        let tainted = |effect: &str| node(json!({"spec.taints": [{"key": "disk", "value": "sd", "effect": effect}]}));
        let bears = json!({"tolerations": [{"key": "disk", "operator": "Exists"}]});
        for (effect, plain) in [
            ("NoSchedule", "node(s) had untolerated taint {disk: sd}"),
            ("NoExecute", "node(s) had untolerated taint {disk: sd}"),
            ("PreferNoSchedule", ""),
        ] {
            assert_eq!(verdict(json!({}), &tainted(effect)), plain, "{effect}");
            assert_eq!(verdict(bears.clone(), &tainted(effect)), "", "{effect}");
        }
    }

    #[test]
    fn a_node_that_is_not_ready_takes_no_pods() {
        let away = node(json!({"status.conditions": []}));
        assert_eq!(verdict(json!({}), &away), "node(s) had untolerated taint {node.kubernetes.io/unreachable: }");
    }
}
