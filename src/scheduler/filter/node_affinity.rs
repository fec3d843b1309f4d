//! The node must have the labels that the pod's `nodeSelector` and required node affinity ask for.

use super::{Candidate, Misfit, NodeInfo, Rule};
use crate::api::node_terms::MISFIT;

/// Whether the pod selects this node.
///
/// # Errors
/// When it selects others.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    let selected = node.object.as_ref().is_some_and(|object| pod.selection.fits(object));
    if selected { Ok(()) } else { Err(Misfit::new(Rule::NodeAffinity, MISFIT)) }
}

#[cfg(test)]
mod tests {
    use super::super::test::{node, verdict};
    use serde_json::json;

    #[test]
    fn selector_and_affinity_must_both_hold() {
        let pi = node(json!({"metadata.labels": {"disk": "ssd", "arch": "arm64"}}));
        let no = "node(s) didn't match Pod's node affinity/selector";
        let affinity = |value: &str| {
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "arch", "operator": "In", "values": [value]}]}]}}})
        };
        for (spec, said) in [
            (json!({"nodeSelector": {"disk": "ssd"}}), ""),
            (json!({"nodeSelector": {"disk": "sd"}}), no),
            (json!({"nodeSelector": {"gpu": "x"}}), no),
            (json!({"affinity": affinity("arm64")}), ""),
            (json!({"affinity": affinity("amd64")}), no),
            (json!({"nodeSelector": {"disk": "sd"}, "affinity": affinity("arm64")}), no),
        ] {
            assert_eq!(verdict(spec.clone(), &pi), said, "{spec}");
        }
    }
}
