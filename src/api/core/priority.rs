//! What the cluster's priority classes make of a new pod.
//!
//! In:       a pod as somebody wants it, and all priority classes.
//! Out:      the pod with `priority`, `preemptionPolicy` and, from a default class, `priorityClassName`; or why it cannot be.
//! Source:   the `Priority` admission plug-in of Kubernetes 1.33, in its words.

use serde_json::Value;

use crate::api::object::Object;

/// The classes that every cluster has, with their values.
pub const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];
/// What pods do to those of less priority when nobody says otherwise.
const PREEMPTS: &str = "PreemptLowerPriority";

/// Fills in what follows from the pod's priority class, or from the default one.
///
/// # Errors
/// In upstream's words: there is no such class, or the pod says other numbers than its class.
pub fn resolve<'a>(pod: &mut Object, mut classes: impl Iterator<Item = &'a Object>) -> Result<(), String> {
    let value = |class: &Object| class.i64_at(&["value"]).unwrap_or_default();
    let named = pod.str_at(&["spec", "priorityClassName"]).to_owned();
    let (priority, policy) = if named.is_empty() {
        let default = classes.filter(|class| class.bool_at(&["globalDefault"])).min_by_key(|class| value(class));
        match default {
            Some(class) => {
                pod.set_at(&["spec", "priorityClassName"], class.name());
                (value(class), policy(class))
            }
            None => (0, PREEMPTS.to_owned()),
        }
    } else if let Some(class) = classes.find(|class| class.name() == named) {
        (value(class), policy(class))
    } else if let Some((_, system)) = SYSTEM.iter().find(|(name, _)| *name == named) {
        (*system, PREEMPTS.to_owned())
    } else {
        return Err(format!("no PriorityClass with name {named} was found"));
    };
    if let Some(said) = pod.i64_at(&["spec", "priority"]).filter(|said| *said != priority) {
        return Err(format!(
            "the integer value of priority ({said}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        ));
    }
    let said = pod.str_at(&["spec", "preemptionPolicy"]);
    if !said.is_empty() && said != policy {
        return Err(format!(
            "the string value of PreemptionPolicy ({said}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    pod.set_at(&["spec", "priority"], priority);
    pod.set_at(&["spec", "preemptionPolicy"], policy);
    Ok(())
}

/// The pull secrets of its service account, for a pod that names none. Source: the `ServiceAccount` admission plug-in.
pub fn pull_secrets(pod: &mut Object, account: Option<&Object>) {
    let Some(secrets) = account.map(|account| account.list_at(&["imagePullSecrets"])).filter(|secrets| !secrets.is_empty())
    else {
        return;
    };
    if pod.list_at(&["spec", "imagePullSecrets"]).is_empty() {
        pod.set_at(&["spec", "imagePullSecrets"], secrets.to_vec());
    }
}

fn policy(class: &Object) -> String {
    match class.at(&["preemptionPolicy"]).and_then(Value::as_str) {
        None | Some("") => PREEMPTS.to_owned(),
        Some(policy) => policy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    #[test]
    fn a_pod_has_the_priority_of_its_class_or_of_the_default() {
        let high = object(json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}));
        let usual = object(json!({"metadata": {"name": "usual"}, "value": 5, "globalDefault": true}));
        let all = [&high, &usual];
        let none: [&Object; 0] = [];
        for (classes, spec, want) in [
            (&none[..], json!({}), Ok(("", 0, PREEMPTS))),
            (&all[..], json!({}), Ok(("usual", 5, PREEMPTS))),
            (&all[..], json!({"priorityClassName": "high"}), Ok(("high", 1000, "Never"))),
            (
                &none[..],
                json!({"priorityClassName": "system-node-critical"}),
                Ok(("system-node-critical", 2_000_001_000, PREEMPTS)),
            ),
            (&all[..], json!({"priorityClassName": "gone"}), Err("no PriorityClass with name gone was found")),
            (
                &all[..],
                json!({"priority": 7}),
                Err(
                    "the integer value of priority (7) must not be provided in pod spec; priority admission controller computed 5 from the given PriorityClass name",
                ),
            ),
            (
                &all[..],
                json!({"priorityClassName": "high", "preemptionPolicy": PREEMPTS}),
                Err(
                    "the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name",
                ),
            ),
        ] {
            let mut pod = object(json!({"spec": spec}));
            let found = resolve(&mut pod, classes.iter().copied());
            let text = |field| pod.str_at(&["spec", field]);
            let found =
                found.map(|()| (text("priorityClassName"), pod.i64_at(&["spec", "priority"]).unwrap(), text("preemptionPolicy")));
            assert_eq!(found, want.map_err(str::to_owned), "{spec}");
        }
    }

    #[test]
    fn pull_secrets_come_from_the_service_account_unless_the_pod_has_its_own() {
        let account = object(json!({"imagePullSecrets": [{"name": "home"}]}));
        for (spec, want) in [(json!({}), "home"), (json!({"imagePullSecrets": [{"name": "own"}]}), "own")] {
            let mut pod = object(json!({"spec": spec}));
            pull_secrets(&mut pod, Some(&account));
            assert_eq!(pod.list_at(&["spec", "imagePullSecrets"]), [json!({"name": want})]);
        }
    }
}
