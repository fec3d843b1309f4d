//! From limits and rights to Docker's `HostConfig`.

use serde_json::{Value, json};

use super::set;
use crate::agent::runtime::{Limits, Security};

pub(super) fn limits(host: &mut Value, limits: Limits) {
    if let Some(milli) = limits.cpu_milli {
        set(host, "NanoCpus", json!(milli.saturating_mul(1_000_000)));
    }
    if let Some(milli) = limits.cpu_request_milli.or(limits.cpu_milli) {
        // Source: the kubelet's MilliCPUToShares, with the kernel's least.
        set(host, "CpuShares", json!((milli.saturating_mul(1024) / 1000).clamp(2, 262_144)));
    }
    if let Some(bytes) = limits.memory_bytes {
        set(host, "Memory", json!(bytes));
        // The same sum with swap: none.
        set(host, "MemorySwap", json!(bytes));
    }
}

pub(super) fn security(host: &mut Value, security: &Security) {
    if security.privileged {
        set(host, "Privileged", json!(true));
    }
    if !security.add.is_empty() {
        set(host, "CapAdd", json!(security.add));
    }
    if !security.drop.is_empty() {
        set(host, "CapDrop", json!(security.drop));
    }
    if security.read_only_root {
        set(host, "ReadonlyRootfs", json!(true));
    }
    if !security.groups.is_empty() {
        set(host, "GroupAdd", json!(security.groups.iter().map(u64::to_string).collect::<Vec<_>>()));
    }
    let mut options = Vec::new();
    if security.no_new_privileges {
        options.push("no-new-privileges");
    }
    if security.seccomp_unconfined {
        options.push("seccomp=unconfined");
    }
    if !options.is_empty() {
        set(host, "SecurityOpt", json!(options));
    }
}

pub(super) fn user(security: &Security) -> Option<String> {
    match (security.user, security.group) {
        (None, None) => None,
        (Some(user), None) => Some(user.to_string()),
        (user, Some(group)) => Some(format!("{}:{group}", user.unwrap_or_default())),
    }
}
