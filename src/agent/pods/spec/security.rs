//! A container's security context over its pod's: as whom it runs, and what it may do.
//!
//! In:       the two raw security contexts.
//! Out:      [`Security`], with words for what this node does not do, or cannot.
//! Source:   upstream `securitycontext.DetermineEffectiveSecurityContext`: the container's word, else the pod's.

use serde_json::Value;

use super::{flag, strings, text};
use crate::agent::runtime::{AppArmor, Seccomp, Security};

/// A security context, read.
pub(super) struct Read {
    pub(super) security: Security,
    /// What is asked for and not done.
    pub(super) ignored: Vec<String>,
    /// Why no container may start with it.
    pub(super) refused: Option<String>,
}

/// Reads a container's security context over its pod's.
pub(super) fn security(own: &Value, pod: &Value) -> Read {
    let set = |of: &'_ Value, key: &str| of.get(key).filter(|value| !value.is_null()).cloned();
    let either = |key: &str| set(own, key).or_else(|| set(pod, key));
    let mut refused = None;
    let seccomp =
        match either("seccompProfile").as_ref().map(|profile| (text(profile, "type"), text(profile, "localhostProfile"))) {
            Some(("Unconfined", _)) => Seccomp::Unconfined,
            Some(("Localhost", path)) if is_below(path) => Seccomp::Localhost(path.to_owned()),
            Some(("Localhost", path)) => {
                refused = Some(format!("seccompProfile.localhostProfile {path:?} is no path below the node's seccomp_dir"));
                Seccomp::Default
            }
            _ => Seccomp::Default,
        };
    let app_armor =
        match either("appArmorProfile").as_ref().map(|profile| (text(profile, "type"), text(profile, "localhostProfile"))) {
            Some(("Unconfined", _)) => Some(AppArmor::Unconfined),
            Some(("Localhost", name)) => Some(AppArmor::Localhost(name.to_owned())),
            Some(_) => Some(AppArmor::Default),
            None => None,
        };
    let labels = either("seLinuxOptions").map(|options| {
        let label = |key: &str| Some((key.to_owned(), text(&options, key).to_owned())).filter(|(_, value)| !value.is_empty());
        ["user", "role", "type", "level"].into_iter().filter_map(label).collect()
    });
    let mut groups: Vec<u64> = pod
        .get("supplementalGroups")
        .and_then(Value::as_array)
        .map(|groups| groups.iter().filter_map(Value::as_u64).collect())
        .unwrap_or_default();
    groups.extend(pod.get("fsGroup").and_then(Value::as_u64));
    let capabilities = |key: &str| own.get("capabilities").map(|all| strings(all, key)).unwrap_or_default();
    let windows = either("windowsOptions").is_some();
    Read {
        security: Security {
            user: either("runAsUser").as_ref().and_then(Value::as_u64),
            group: either("runAsGroup").as_ref().and_then(Value::as_u64),
            non_root: either("runAsNonRoot").as_ref().and_then(Value::as_bool).unwrap_or_default(),
            groups,
            privileged: flag(own, "privileged"),
            add: capabilities("add"),
            drop: capabilities("drop"),
            read_only_root: flag(own, "readOnlyRootFilesystem"),
            no_new_privileges: own.get("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false),
            unmasked_proc: text(own, "procMount") == "Unmasked",
            seccomp,
            app_armor,
            labels: labels.unwrap_or_default(),
        },
        ignored: windows.then(|| "securityContext.windowsOptions mean nothing on Linux".to_owned()).into_iter().collect(),
        refused,
    }
}

/// Whether a path leads nowhere but down.
fn is_below(path: &str) -> bool {
    !path.is_empty() && !path.starts_with('/') && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
