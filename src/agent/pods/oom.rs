//! Whom the kernel ends first when the node's memory is at its end. Pure.
//!
//! Source:   upstream `qos.GetContainerOOMScoreAdjust`: what asked for nothing goes first, what asked for much goes late, and a
//!           guaranteed pod only after the system's own services. A sidecar goes no sooner than the pod's other containers.

use super::spec::{ContainerSpec, PodSpec};

/// Of a guaranteed pod, and of one that the node cannot do without.
const GUARANTEED: i32 = -997;
/// Of a pod that asks for nothing.
const BEST_EFFORT: i32 = 1000;
/// `system-node-critical`.
const NODE_CRITICAL: i64 = 2_000_001_000;

/// `oom_score_adj` of a container; `capacity` is the node's memory in bytes.
#[must_use]
pub fn score(spec: &PodSpec, container: &ContainerSpec, capacity: u64) -> i32 {
    if spec.priority >= NODE_CRITICAL {
        return GUARANTEED;
    }
    match spec.qos.as_str() {
        "Guaranteed" => return GUARANTEED,
        "BestEffort" => return BEST_EFFORT,
        _ => {}
    }
    let own = burstable(container, capacity);
    let least = spec.containers.iter().map(|container| burstable(container, capacity)).min();
    let score = if container.sidecar { least.map_or(own, |least| own.min(least)) } else { own };
    // Between the guaranteed and those that ask for nothing, whatever it asks for.
    score.clamp(BEST_EFFORT + GUARANTEED, BEST_EFFORT - 1)
}

fn burstable(container: &ContainerSpec, capacity: u64) -> i32 {
    let request = container.requests.get("memory").map_or(0, |request| i128::from(request.units()));
    let part = (1000 * request).checked_div(i128::from(capacity)).unwrap_or_default();
    i32::try_from(1000 - part).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use serde_json::{Value, json};

    #[test]
    fn scores_are_upstreams() {
        let container = |request: Value, limit: Value| json!({"name": "a", "resources": {"requests": request, "limits": limit}});
        let both = || json!({"cpu": "1", "memory": "1Gi"});
        let sidecar = json!({"name": "s", "restartPolicy": "Always"});
        for (spec, score_of_first, score_of_sidecar) in [
            (json!({"containers": [{"name": "a"}]}), 1000, None),
            (json!({"containers": [container(both(), both())]}), -997, None),
            (json!({"containers": [container(json!({"memory": "1Gi"}), json!({}))]}), 750, None),
            (json!({"containers": [container(json!({"memory": "1"}), json!({}))]}), 999, None),
            (json!({"containers": [container(json!({"cpu": "1"}), json!({}))]}), 999, None),
            (json!({"containers": [container(json!({"memory": "4Gi"}), json!({}))]}), 3, None),
            (json!({"containers": [container(json!({"memory": "40Gi"}), json!({}))]}), 3, None),
            (json!({"containers": [{"name": "a"}], "priority": 2_000_001_000}), -997, None),
            (
                json!({"containers": [container(json!({"memory": "2Gi"}), json!({}))], "initContainers": [sidecar]}),
                500,
                Some(500),
            ),
        ] {
            let pod = json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"}, "spec": spec});
            let read = super::super::spec::read(&Object::from_value(pod).unwrap());
            assert_eq!(score(&read, &read.containers[0], 4 << 30), score_of_first, "{spec}");
            assert_eq!(read.init.first().map(|sidecar| score(&read, sidecar, 4 << 30)), score_of_sidecar, "{spec}");
        }
        // A node that does not know its memory yet.
        let burstable = json!({"spec": {"containers": [container(json!({"memory": "1Gi"}), json!({}))]}});
        let read = super::super::spec::read(&Object::from_value(burstable).unwrap());
        assert_eq!(score(&read, &read.containers[0], 0), 999);
    }
}
