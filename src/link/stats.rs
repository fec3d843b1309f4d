//! What a node and its pods use at one moment: the answer to [`super::call::Question::Stats`].

use serde::{Deserialize, Serialize};

use crate::api::Uid;

/// What a node uses. Pods that do not run are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStats {
    /// When it was looked, RFC 3339, by the node's clock.
    pub time: String,
    /// The time over which processor rates were taken.
    pub window_milliseconds: u64,
    /// Of the whole machine: thousand-millionths of a core.
    pub cpu_nanocores: u64,
    /// Of the whole machine: memory that cannot be had without taking it from somebody.
    pub memory_bytes: u64,
    /// Its pods.
    pub pods: Vec<PodStats>,
}

/// What a pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodStats {
    /// Which.
    pub uid: Uid,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Those that run.
    pub containers: Vec<ContainerStats>,
}

/// What a container uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerStats {
    /// Its name in the pod.
    pub name: String,
    /// Thousand-millionths of a core.
    pub cpu_nanocores: u64,
    /// The working set: what is in memory less the file pages that could be dropped, as the kubelet counts it.
    pub memory_bytes: u64,
}
