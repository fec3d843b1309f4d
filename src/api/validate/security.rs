//! What a pod and its containers may do: ids, seccomp, sysctls, capabilities, namespaces of the host.
//!
//! Source:   `ValidatePodSecurityContext`, `ValidateSecurityContext`, `validateSysctls`, `validateSeccompProfileField` of core.

use std::collections::BTreeSet;

use serde_json::Value;

use super::at::At;
use super::{Errors, FieldError, each, name, not_negative, one_of_or_none};

const SYSCTL: &str =
    "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// Those that belong to the host's own IPC and network when the pod has these; by how they begin.
const IPC_SYSCTLS: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];

/// What a pod of Windows has not: of the pod, of its security context, of its containers'.
const NOT_OF_WINDOWS: ([&str; 4], [&str; 10], [&str; 10]) = (
    ["hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"],
    [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
    ],
    [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ],
);

/// The security context of a whole pod, by its `spec`.
pub(super) fn of_pod(spec: &At<'_>, out: &mut Errors) {
    let at = spec.get("securityContext");
    ids(&at, out);
    if spec.get("shareProcessNamespace").flag() && spec.get("hostPID").flag() {
        let field = at.get("shareProcessNamespace");
        out.push(FieldError::invalid(&field.path, true, "ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    one_of_or_none(&at.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], out);
    one_of_or_none(&at.get("supplementalGroupsPolicy"), &["Merge", "Strict"], out);
    seccomp(&at.get("seccompProfile"), out);
    let mut names = BTreeSet::new();
    for sysctl in at.get("sysctls").items() {
        let title = sysctl.get("name");
        let dotted = dotted(title.text());
        if title.text().is_empty() {
            out.push(title.required());
        } else if !is_sysctl(title.text()) {
            out.push(title.invalid(SYSCTL));
        } else if !names.insert(dotted.clone()) {
            out.push(title.duplicate());
        }
        let is_ipc = IPC_SYSCTLS.iter().any(|prefix| dotted.starts_with(prefix));
        for (of_host, key) in [(is_ipc, "hostIPC"), (dotted.starts_with("net."), "hostNetwork")] {
            if of_host && spec.get(key).flag() {
                out.push(title.invalid(&format!("may not be specified when '{key}' is true")));
            }
        }
    }
}

/// The security context of one container.
pub(super) fn of_container(at: &At<'_>, out: &mut Errors) {
    let kept_down = at.get("allowPrivilegeEscalation").value() == false;
    if at.get("privileged").flag() && kept_down {
        out.push(at.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
    }
    let added = at.get("capabilities").get("add");
    if kept_down && added.texts().any(|capability| capability == "CAP_SYS_ADMIN") {
        out.push(at.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"));
    }
    one_of_or_none(&at.get("procMount"), &["Default", "Unmasked"], out);
    seccomp(&at.get("seccompProfile"), out);
    ids(at, out);
}

/// What a pod of another system cannot have, by its `spec`. Source: `validateOS`, `validateWindows`, `validateLinux` of core.
pub(super) fn of_system(spec: &At<'_>, out: &mut Errors) {
    let os = spec.get("os");
    if !os.is_set() {
        return;
    }
    let title = os.get("name");
    let (of_host, of_pod, of_container, words): (&[&str], &[&str], &[&str], &str) = match title.text() {
        "" => {
            out.push(FieldError::required(&title.path, "cannot be empty"));
            return;
        }
        "linux" => (&[], &["windowsOptions"], &["windowsOptions"], "windows options cannot be set for a linux pod"),
        "windows" => (&NOT_OF_WINDOWS.0, &NOT_OF_WINDOWS.1, &NOT_OF_WINDOWS.2, "cannot be set for a windows pod"),
        other => {
            out.push(FieldError::not_supported(&os.path, other, &["linux", "windows"]));
            return;
        }
    };
    let mut forbid = |at: &At<'_>, keys: &[&str]| {
        for (key, field) in keys.iter().map(|key| (key, at.get(key))) {
            // Upstream cannot tell `hostPID: false` and an empty list from nothing.
            let is_said = match field.value() {
                Value::Null => false,
                Value::Bool(on) => *on || !matches!(*key, "hostPID" | "hostIPC"),
                Value::Array(list) => !list.is_empty(),
                _ => true,
            };
            if is_said {
                out.push(field.forbidden(words));
            }
        }
    };
    forbid(spec, of_host);
    forbid(&spec.get("securityContext"), of_pod);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.get(list).items() {
            forbid(&container.get("securityContext"), of_container);
        }
    }
}

/// User and group ids of a security context.
fn ids(at: &At<'_>, out: &mut Errors) {
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        let field = at.get(key);
        if let Some(id) = field.int() {
            each(&field, name::between(id, 0, i64::from(i32::MAX)), out);
        }
    }
    for id in at.get("supplementalGroups").items() {
        not_negative(&id, out);
    }
}

fn seccomp(at: &At<'_>, out: &mut Errors) {
    if !at.is_set() {
        return;
    }
    let (kind, profile) = (at.get("type"), at.get("localhostProfile"));
    match kind.text() {
        "" => out.push(FieldError::required(&kind.path, "type is required when seccompProfile is set")),
        "Localhost" if !profile.is_set() => {
            out.push(FieldError::required(&profile.path, "must be set when seccomp type is Localhost"));
        }
        "Localhost" => each(&profile, name::local_path(profile.text()), out),
        "RuntimeDefault" | "Unconfined" if profile.is_set() => {
            out.push(profile.invalid("can only be set when seccomp type is Localhost"));
        }
        "RuntimeDefault" | "Unconfined" => {}
        other => out.push(FieldError::not_supported(&kind.path, other, &["Localhost", "RuntimeDefault", "Unconfined"])),
    }
}

/// A sysctl's name as the kernel shows it: with dots, when it was written with slashes.
fn dotted(text: &str) -> String {
    match text.find(['.', '/']) {
        Some(at) if text.get(at..).is_some_and(|rest| rest.starts_with('/')) => text
            .chars()
            .map(|c| {
                if c == '/' {
                    '.'
                } else if c == '.' {
                    '/'
                } else {
                    c
                }
            })
            .collect(),
        _ => text.to_owned(),
    }
}

fn is_sysctl(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let part = |part: &str| edge(part.chars().next()) && edge(part.chars().last()) && part.chars().all(inner);
    text.len() <= 253 && text.split(['.', '/']).all(part)
}
