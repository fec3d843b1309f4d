//! Which families of addresses a service speaks, IPv4 and IPv6, and in which order.
//!
//! In:       the families that the cluster has, a service as it is to stand there, and the one that stood there before.
//! Out:      the service with `ipFamilyPolicy` and `ipFamilies`; with no more addresses than families.
//! Never:    chooses an address (`allocate.rs`).
//! Source:   upstream's `service/storage/alloc.go`, `initIPFamilyFields`, its words among it. A service is left as it is when the cluster
//!           gets or loses a family (upstream: one that prefers both): only a change of its own fields changes it.

use super::ServiceRanges;
use crate::api::Object;
use crate::api::core::service::{IPV4, IPV6, REQUIRE_DUAL_STACK, SINGLE_STACK, Service, family_of};
use crate::api::validate::{FieldError, Path, service::family_errors};

/// Settles the families of a service that has what it keeps from before.
///
/// # Errors
/// What does not go together, or is not to be had in this cluster.
pub(super) fn settle(ranges: ServiceRanges, before: Option<Service<'_>>, service: &mut Object) -> Result<(), Vec<FieldError>> {
    let read = Service(service);
    if read.is_external_name() || before.is_some_and(|before| is_as_before(before, read)) {
        return Ok(());
    }
    let headless = service.str_at(&["spec", "clusterIP"]) == "None" && read.selector().is_none();
    if service.str_at(&["spec", "ipFamilyPolicy"]).is_empty() {
        let kept = before.map(policy).filter(|policy| !policy.is_empty());
        let policy = kept.unwrap_or(if headless { REQUIRE_DUAL_STACK } else { SINGLE_STACK }).to_owned();
        service.set_at(&["spec", "ipFamilyPolicy"], policy);
    }
    if service.list_at(&["spec", "clusterIPs"]).is_empty() && !service.str_at(&["spec", "clusterIP"]).is_empty() {
        let address = service.str_at(&["spec", "clusterIP"]).to_owned();
        service.set_at(&["spec", "clusterIPs"], vec![address]);
    }
    found(family_errors(service))?;
    let asked_policy = policy(Service(service)).to_owned();
    let (mut addresses, mut families) = (texts(service, "clusterIPs"), texts(service, "ipFamilies"));
    let single = asked_policy == SINGLE_STACK;
    let mut errors = Vec::new();
    let mut wrong_policy = |words: &str| {
        errors.push(FieldError::invalid(Path::new("spec").child("ipFamilyPolicy"), asked_policy.as_str(), words));
    };
    if let Some(before) = before {
        let (had, was) = (texts(before.0, "clusterIPs"), texts(before.0, "ipFamilies"));
        if single {
            // Both as they were: who asks for a single stack gives up the second.
            addresses.truncate(if addresses == had { 1 } else { 2 });
            families.truncate(if families == was { 1 } else { 2 });
        } else {
            if (1..had.len()).contains(&addresses.len()) {
                wrong_policy("must be 'SingleStack' to release the secondary cluster IP");
            }
            if (1..was.len()).contains(&families.len()) {
                wrong_policy("must be 'SingleStack' to release the secondary IP family");
            }
        }
    }
    if single && addresses.len() == 2 {
        wrong_policy("must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified");
    }
    if single && families.len() == 2 {
        wrong_policy("must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified");
    }
    for (number, address) in addresses.iter().enumerate().skip(families.len()) {
        let Ok(family) = address.parse().map(family_of) else { break };
        if ranges.of(family).is_none() {
            let path = Path::new("spec").child("clusterIPs").index(number);
            errors.push(FieldError::invalid(path, addresses.clone(), &format!("{family} is not configured on this cluster")));
        }
        families.push(family.to_owned());
    }
    found(errors)?;
    if !headless {
        found(unconfigured(ranges, &asked_policy, &families))?;
    }
    if families.is_empty() {
        families.push(IPV4.to_owned());
    }
    // Who says by hand where it is served may do so in both families, whatever the cluster has.
    if !single && families.len() == 1 && (headless || ranges.v6.is_some()) {
        let other = if families.first().is_some_and(|first| first == IPV4) { IPV6 } else { IPV4 };
        families.push(other.to_owned());
    }
    if !addresses.is_empty() {
        service.set_at(&["spec", "clusterIPs"], addresses);
    }
    service.set_at(&["spec", "ipFamilies"], families);
    Ok(())
}

fn found(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn policy(service: Service<'_>) -> &str {
    service.0.str_at(&["spec", "ipFamilyPolicy"])
}

fn texts(service: &Object, field: &str) -> Vec<String> {
    service.list_at(&["spec", field]).iter().filter_map(|value| value.as_str()).map(str::to_owned).collect()
}

/// Whether its families were settled before, and nobody touched what it has: then it stays writable, whatever the cluster has by now.
fn is_as_before(before: Service<'_>, after: Service<'_>) -> bool {
    let same = |field: &str| texts(before.0, field) == texts(after.0, field);
    let settled = !policy(before).is_empty() && !texts(before.0, "ipFamilies").is_empty();
    settled && before.kind() == after.kind() && policy(before) == policy(after) && same("clusterIPs") && same("ipFamilies")
}

/// What is asked for and this cluster does not have.
fn unconfigured(ranges: ServiceRanges, policy: &str, families: &[String]) -> Vec<FieldError> {
    let spec = Path::new("spec");
    let missing = |(number, family): (usize, &String)| {
        let path = spec.child("ipFamilies").index(number);
        ranges.of(family).is_none().then(|| FieldError::invalid(path, family.as_str(), "not configured on this cluster"))
    };
    let both = (policy == REQUIRE_DUAL_STACK && ranges.v6.is_none()).then(|| {
        FieldError::invalid(spec.child("ipFamilyPolicy"), policy, "this cluster is not configured for dual-stack services")
    });
    both.into_iter().chain(families.iter().enumerate().filter_map(missing)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::validate::sentence;

    fn service(spec: &Value) -> Object {
        let mut object = Object::from_value(json!({"metadata": {"name": "web"}, "spec": spec})).unwrap();
        if object.str_at(&["spec", "type"]).is_empty() {
            object.set_at(&["spec", "type"], "ClusterIP");
        }
        object
    }

    /// Policy, families and addresses; or what is wrong.
    fn settled(dual: bool, before: Option<&Value>, spec: &Value) -> String {
        let ranges = if dual { "10.96.0.0/16,fd00::/112" } else { "10.96.0.0/16" };
        let (before, mut object) = (before.map(service), service(spec));
        match settle(ServiceRanges::parse(ranges).unwrap(), before.as_ref().map(Service), &mut object) {
            Ok(()) => {
                let texts = |field: &str| texts(&object, field).join(",");
                format!("{} {} [{}]", policy(Service(&object)), texts("ipFamilies"), texts("clusterIPs"))
            }
            Err(errors) => sentence(&errors),
        }
    }

    #[test]
    fn a_new_service_speaks_what_it_asks_for_as_far_as_the_cluster_does() {
        let selector = json!({"app": "web"});
        for (spec, single, dual) in [
            (json!({}), "SingleStack IPv4 []", "SingleStack IPv4 []"),
            (json!({"ipFamilyPolicy": "PreferDualStack"}), "PreferDualStack IPv4 []", "PreferDualStack IPv4,IPv6 []"),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
                "RequireDualStack IPv4,IPv6 []",
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
                "SingleStack IPv6 []",
            ),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
                "PreferDualStack IPv6,IPv4 []",
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
            (
                json!({"clusterIP": "fd00::5"}),
                "spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster",
                "SingleStack IPv6 [fd00::5]",
            ),
            (
                json!({"clusterIP": "fd00::5", "ipFamilies": ["IPv4"]}),
                "spec.clusterIPs[0]: Invalid value: \"fd00::5\": expected an IPv4 value as indicated by `ipFamilies[0]`",
                "spec.clusterIPs[0]: Invalid value: \"fd00::5\": expected an IPv4 value as indicated by `ipFamilies[0]`",
            ),
            // Without an address, and somebody else says where it is served.
            (json!({"clusterIP": "None"}), "RequireDualStack IPv4,IPv6 [None]", "RequireDualStack IPv4,IPv6 [None]"),
            (json!({"clusterIP": "None", "ipFamilyPolicy": "SingleStack"}), "SingleStack IPv4 [None]", "SingleStack IPv4 [None]"),
            (json!({"clusterIP": "None", "selector": selector}), "SingleStack IPv4 [None]", "SingleStack IPv4 [None]"),
            (
                json!({"clusterIP": "None", "selector": selector, "ipFamilyPolicy": "PreferDualStack"}),
                "PreferDualStack IPv4 [None]",
                "PreferDualStack IPv4,IPv6 [None]",
            ),
            (json!({"type": "ExternalName"}), "  []", "  []"),
        ] {
            assert_eq!(settled(false, None, &spec), single, "{spec} in a cluster of IPv4");
            assert_eq!(settled(true, None, &spec), dual, "{spec} in a dual-stack cluster");
        }
    }

    #[test]
    fn a_second_family_comes_and_goes_by_the_policy_only() {
        let one = json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let both = json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack"});
        let prefers = json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "PreferDualStack"});
        let with = |spec: &Value, more: Value| {
            let mut spec = spec.clone();
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        for (what, before, after, expected) in [
            ("more", &one, with(&one, json!({"ipFamilyPolicy": "PreferDualStack"})), "PreferDualStack IPv4,IPv6 [10.96.0.5]"),
            ("less", &both, with(&both, json!({"ipFamilyPolicy": "SingleStack"})), "SingleStack IPv4 [10.96.0.5]"),
            ("the same", &both, both.clone(), "PreferDualStack IPv4,IPv6 [10.96.0.5,fd00::5]"),
            (
                "nothing said of it",
                &both,
                with(&both, json!({"ipFamilies": null, "ipFamilyPolicy": null})),
                "PreferDualStack IPv4,IPv6 [10.96.0.5,fd00::5]",
            ),
            ("untouched, though the cluster speaks more now", &prefers, prefers.clone(), "PreferDualStack IPv4 [10.96.0.5]"),
            ("another type", &prefers, with(&prefers, json!({"type": "NodePort"})), "PreferDualStack IPv4,IPv6 [10.96.0.5]"),
            (
                "an address less",
                &both,
                with(&both, json!({"clusterIPs": ["10.96.0.5"]})),
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP",
            ),
            (
                "a family less",
                &both,
                with(&both, json!({"ipFamilies": ["IPv4"]})),
                "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary IP family",
            ),
        ] {
            assert_eq!(settled(true, Some(before), &after), expected, "{what}");
        }
        // The cluster lost the second family: who has it keeps it.
        assert_eq!(settled(false, Some(&both), &both), "PreferDualStack IPv4,IPv6 [10.96.0.5,fd00::5]");
    }
}
