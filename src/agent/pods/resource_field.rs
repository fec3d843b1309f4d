//! `resourceFieldRef`: what a container may use, as a number that it can read. Pure.
//!
//! In:       the pod's checked spec, one raw `ResourceFieldSelector`, what the node has for pods.
//! Out:      whole units of the divisor, rounded up, for an environment variable or a file of a downwardAPI volume.
//! Source:   upstream `resource.ExtractContainerResourceValue`: a limit that is not set is all that the node has for pods.

use serde_json::Value;

use super::env::ConfigError;
use super::spec::{ContainerSpec, PodSpec, amount, text};
use crate::api::quantity::Quantity;

/// What a node has: what is left for pods, and all of its memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeAmounts {
    /// Allocatable, in thousandths of a core.
    pub cpu_milli: u64,
    /// Allocatable.
    pub memory_bytes: u64,
    /// With what is kept for the system.
    pub memory_capacity_bytes: u64,
    /// For images and containers.
    pub storage_bytes: u64,
    /// What one container may have of processes and threads.
    pub pids: Option<u64>,
}

/// The value of `reference`. `own` is the container that it stands in, and the one meant when it names none; a volume has
/// none, and must name one.
///
/// # Errors
/// When it names a container that the pod does not have, or nothing that can be counted.
pub fn resource_field(
    spec: &PodSpec,
    own: Option<&ContainerSpec>,
    reference: &Value,
    node: NodeAmounts,
) -> Result<String, ConfigError> {
    let name = text(reference, "containerName");
    let named = spec.all().find(|container| container.name == name);
    let container = match own {
        Some(own) if name.is_empty() => own,
        _ => named.ok_or_else(|| ConfigError::Refused(format!("container {name} not found")))?,
    };
    let field = text(reference, "resource");
    let unknown = || ConfigError::Refused(format!("unsupported container resource : {field}"));
    let (kind, resource) = field.split_once('.').ok_or_else(unknown)?;
    let counted = matches!(resource, "cpu" | "memory" | "ephemeral-storage") || resource.starts_with("hugepages-");
    if !counted {
        return Err(unknown());
    }
    let amount_of = match kind {
        "limits" => limit(container, resource, node),
        "requests" => container.requests.get(resource).copied().unwrap_or_default(),
        _ => return Err(unknown()),
    };
    let divisor = reference.get("divisor").and_then(amount).filter(|divisor| divisor.milli > 0);
    let divisor = divisor.unwrap_or(Quantity::whole(1));
    Ok(match resource {
        "cpu" => parts(amount_of.milli, divisor.milli),
        _ => parts(i128::from(amount_of.units()), i128::from(divisor.units())),
    })
}

fn limit(container: &ContainerSpec, resource: &str, node: NodeAmounts) -> Quantity {
    let whole = |units: u64| Quantity::whole(i64::try_from(units).unwrap_or(i64::MAX));
    match (container.limits.get(resource).filter(|limit| limit.milli > 0), resource) {
        (Some(limit), _) => *limit,
        (None, "cpu") => Quantity { milli: i128::from(node.cpu_milli) },
        (None, "memory") => whole(node.memory_bytes),
        (None, "ephemeral-storage") => whole(node.storage_bytes),
        (None, _) => Quantity::default(),
    }
}

/// How many of `divisor` it takes to hold `amount`.
fn parts(amount: i128, divisor: i128) -> String {
    let up = amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0);
    up.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use serde_json::json;

    #[test]
    fn amounts_are_told_in_whole_divisors_rounded_up() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u"},
            "spec": {
                "containers": [
                    {"name": "a", "resources": {
                        "limits": {"cpu": "1500m", "memory": "64Mi", "hugepages-2Mi": "4Mi"},
                        "requests": {"cpu": "250m", "memory": 1000, "ephemeral-storage": "1Gi"},
                    }},
                    {"name": "b", "resources": {"limits": {"cpu": "0"}}},
                ],
                "initContainers": [{"name": "i", "resources": {"limits": {"cpu": 2}}}],
            },
        });
        let spec = super::super::spec::read(&Object::from_value(pod).unwrap());
        let node = NodeAmounts {
            cpu_milli: 3900,
            memory_bytes: 3 << 30,
            memory_capacity_bytes: 4 << 30,
            storage_bytes: 10 << 30,
            pids: None,
        };
        let (a, b) = (&spec.containers[0], &spec.containers[1]);
        for (own, reference, value) in [
            (Some(a), json!({"resource": "limits.cpu"}), "2"),
            (Some(a), json!({"resource": "limits.cpu", "divisor": "1m"}), "1500"),
            (Some(a), json!({"resource": "limits.cpu", "divisor": "0"}), "2"),
            (Some(a), json!({"resource": "limits.cpu", "divisor": 1}), "2"),
            (Some(a), json!({"resource": "requests.cpu", "divisor": "1m"}), "250"),
            (Some(a), json!({"resource": "limits.memory"}), "67108864"),
            (Some(a), json!({"resource": "limits.memory", "divisor": "1Mi"}), "64"),
            (Some(a), json!({"resource": "limits.memory", "divisor": "1Gi"}), "1"),
            (Some(a), json!({"resource": "requests.memory", "divisor": "1Ki"}), "1"),
            (Some(a), json!({"resource": "limits.hugepages-2Mi", "divisor": "1Mi"}), "4"),
            (Some(a), json!({"resource": "requests.ephemeral-storage", "divisor": "1Mi"}), "1024"),
            // Not set, or 0: all that the node has for pods.
            (Some(a), json!({"resource": "limits.ephemeral-storage"}), "10737418240"),
            (Some(b), json!({"resource": "limits.cpu"}), "4"),
            (Some(b), json!({"resource": "limits.cpu", "divisor": "1m"}), "3900"),
            (Some(b), json!({"resource": "limits.memory", "divisor": "1Gi"}), "3"),
            (Some(b), json!({"resource": "requests.cpu"}), "0"),
            (Some(b), json!({"resource": "limits.hugepages-1Gi"}), "0"),
            // Another container, by name; a volume always names one.
            (Some(b), json!({"resource": "limits.cpu", "containerName": "i"}), "2"),
            (None, json!({"resource": "limits.cpu", "containerName": "a"}), "2"),
        ] {
            assert_eq!(resource_field(&spec, own, &reference, node), Ok(value.to_owned()), "{reference}");
        }
        for (own, reference, words) in [
            (Some(a), json!({"resource": "limits.gpu"}), "unsupported container resource : limits.gpu"),
            (Some(a), json!({"resource": "cpu"}), "unsupported container resource : cpu"),
            (Some(a), json!({"resource": "most.cpu"}), "unsupported container resource : most.cpu"),
            (Some(a), json!({"resource": "limits.cpu", "containerName": "z"}), "container z not found"),
            (None, json!({"resource": "limits.cpu"}), "container  not found"),
        ] {
            assert_eq!(resource_field(&spec, own, &reference, node).unwrap_err().to_string(), words, "{reference}");
        }
    }
}
