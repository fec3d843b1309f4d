//! Which pods this node does not take at all. Pure.
//!
//! In:       a checked spec, and what the node's owner allows.
//! Out:      the reason of the pod's end, in the kubelet's words: such a pod is `Failed` before anything of it was made.
//! Never:    judges what only Docker or the image can tell (`runtime/docker/host.rs`).

use super::spec::PodSpec;

/// What any pod may set: the kernel keeps it apart for each. Source: upstream's safe sysctls of 1.33.
const SAFE: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace in which the kernel keeps a setting apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// Why a pod is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// `status.reason`, and the event's.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// Why the node does not take this pod. `allowed`: names, or beginnings of names with a `*` after them, of sysctls beyond the safe
/// ones.
#[must_use]
pub fn rejection(spec: &PodSpec, allowed: &[String]) -> Option<Rejection> {
    if !matches!(spec.os.as_str(), "" | "linux") {
        let message = "Failed to admit pod as the OS field doesn't match node OS".to_owned();
        return Some(Rejection { reason: "PodOSNotSupported", message });
    }
    if spec.strict_groups {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node".to_owned();
        return Some(Rejection { reason: "SupplementalGroupsPolicyNotSupported", message });
    }
    let why = spec.sysctls.keys().find_map(|name| forbidden(name, spec, allowed))?;
    Some(Rejection { reason: "SysctlForbidden", message: format!("forbidden sysctl: {why}") })
}

fn forbidden(name: &str, spec: &PodSpec, allowed: &[String]) -> Option<String> {
    let listed = SAFE.contains(&name) || allowed.iter().any(|pattern| matches(pattern, name));
    match namespace(name) {
        Some(Namespace::Ipc) if listed && spec.host_ipc => Some(format!("{name:?} not allowed with host ipc enabled")),
        Some(Namespace::Net) if listed && spec.host_network => Some(format!("{name:?} not allowed with host net enabled")),
        Some(_) if listed => None,
        // One that the kernel does not keep apart would change the whole machine.
        Some(_) | None => Some(format!("{name:?} not allowlisted")),
    }
}

fn namespace(name: &str) -> Option<Namespace> {
    if name.starts_with("net.") {
        return Some(Namespace::Net);
    }
    let ipc = name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    ipc.then_some(Namespace::Ipc)
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

/// Whether the owner may allow it: something that the kernel keeps apart for each pod.
#[must_use]
pub fn may_be_allowed(pattern: &str) -> bool {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    !name.contains('*') && !name.contains(char::is_whitespace) && namespace(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Object;
    use serde_json::json;

    #[test]
    fn pods_are_turned_away_in_upstreams_words() {
        let allowed = ["kernel.msg*".to_owned(), "net.core.somaxconn".to_owned()];
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let with = |mut spec: serde_json::Value, key: &str| {
            spec[key] = json!(true);
            spec
        };
        for (spec, words) in [
            (json!({}), None),
            (json!({"os": {"name": "linux"}}), None),
            (
                json!({"os": {"name": "windows"}}),
                Some("PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS"),
            ),
            (json!({"securityContext": {"supplementalGroupsPolicy": "Merge"}}), None),
            (
                json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}}),
                Some("SupplementalGroupsPolicyNotSupported: SupplementalGroupsPolicy=Strict is not supported in this node"),
            ),
            (sysctl("net.ipv4.tcp_syncookies"), None),
            (sysctl("net/ipv4/tcp_syncookies"), None),
            (sysctl("kernel.msgmax"), None),
            (sysctl("net.core.somaxconn"), None),
            (sysctl("net.core.somaxconn2"), Some("SysctlForbidden: forbidden sysctl: \"net.core.somaxconn2\" not allowlisted")),
            (sysctl("vm.swappiness"), Some("SysctlForbidden: forbidden sysctl: \"vm.swappiness\" not allowlisted")),
            (
                with(sysctl("net.core.somaxconn"), "hostNetwork"),
                Some("SysctlForbidden: forbidden sysctl: \"net.core.somaxconn\" not allowed with host net enabled"),
            ),
            (
                with(sysctl("kernel.shm_rmid_forced"), "hostIPC"),
                Some("SysctlForbidden: forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host ipc enabled"),
            ),
            (with(sysctl("kernel.shm_rmid_forced"), "hostNetwork"), None),
        ] {
            let read = super::super::spec::read(&Object::from_value(json!({"metadata": {"name": "w"}, "spec": spec})).unwrap());
            let told = rejection(&read, &allowed).map(|no| format!("{}: {}", no.reason, no.message));
            assert_eq!(told.as_deref(), words, "{spec}");
        }
    }

    #[test]
    fn an_owner_allows_only_what_the_kernel_keeps_apart() {
        for (pattern, may) in [
            ("kernel.msg*", true),
            ("net.*", true),
            ("kernel.sem", true),
            ("kernel.*", false),
            ("vm.swappiness", false),
            ("*", false),
            ("net.*.x", false),
        ] {
            assert_eq!(may_be_allowed(pattern), may, "{pattern}");
        }
    }
}
