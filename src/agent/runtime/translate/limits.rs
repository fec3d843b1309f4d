//! From limits to Docker's `HostConfig`.

use serde_json::{Value, json};

use super::set;
use crate::agent::runtime::Limits;

/// Less than this Docker does not take. Source: its `linuxMinMemory`, 6 MiB.
const LEAST_MEMORY: u64 = 6 << 20;

/// Puts a container's limits into its `HostConfig`. `sheltered`: whether the host lets Docker make a container less likely to
/// be ended than its own processes.
pub(super) fn limits(host: &mut Value, limits: Limits, sheltered: bool) {
    if let Some(milli) = limits.cpu_milli {
        set(host, "NanoCpus", json!(milli.saturating_mul(1_000_000)));
    }
    // Who asks for nothing has the kernel's least, not Docker's 1024, which is a whole core's worth.
    // Source: the kubelet's MilliCPUToShares.
    let milli = limits.cpu_request_milli.or(limits.cpu_milli).unwrap_or_default();
    set(host, "CpuShares", json!((milli.saturating_mul(1024) / 1000).clamp(2, 262_144)));
    if let Some(bytes) = limits.memory_bytes {
        set(host, "Memory", json!(bytes));
        // The same sum with swap: none.
        set(host, "MemorySwap", json!(bytes));
    }
    if let Some(bytes) = limits.memory_request_bytes {
        let bytes = limits.memory_bytes.map_or(bytes, |limit| bytes.min(limit));
        if bytes >= LEAST_MEMORY {
            set(host, "MemoryReservation", json!(bytes));
        }
    }
    if let Some(pids) = limits.pids {
        set(host, "PidsLimit", json!(pids));
    }
    oom_score(host, limits.oom_score, sheltered);
}

/// Puts who is ended first into a `HostConfig`.
pub(super) fn oom_score(host: &mut Value, score: i32, sheltered: bool) {
    set(host, "OomScoreAdj", json!(if sheltered { score } else { score.max(0) }));
}
