//! There must be enough of everything that the pod asks for, and room for one more pod.

use super::{Candidate, Misfit, NodeInfo, Rule};

/// Whether the node has enough left.
///
/// # Errors
/// With each resource that is lacking.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    let mut reasons = Vec::new();
    if node.pods >= node.pod_limit {
        reasons.push("Too many pods".to_owned());
    }
    let lacking = node.allocatable.short_of(&node.used, &pod.requests);
    reasons.extend(lacking.into_iter().map(|name| format!("Insufficient {name}")));
    if reasons.is_empty() { Ok(()) } else { Err(Misfit { rule: Rule::Resources, reasons }) }
}

#[cfg(test)]
mod tests {
    use super::super::test::{node, verdict};
    use serde_json::json;

    #[test]
    fn what_lacks_is_said() {
        let asks = |cpu: &str, memory: &str| json!({"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]});
        let mut pi = node(json!({}));
        pi.used.milli_cpu = 3000;
        for (spec, said) in [
            (asks("1", "4Gi"), ""),
            (asks("1001m", "0"), "Insufficient cpu"),
            (asks("2", "5Gi"), "Insufficient cpu, Insufficient memory"),
            (json!({"containers": [{"resources": {"requests": {"bramble/led": "1"}}}]}), "Insufficient bramble/led"),
            (json!({}), ""),
        ] {
            assert_eq!(verdict(spec.clone(), &pi), said, "{spec}");
        }
        pi.pods = 3;
        assert_eq!(verdict(json!({}), &pi), "Too many pods");
    }
}
