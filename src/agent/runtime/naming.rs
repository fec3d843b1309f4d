//! Names and labels of what we make in the runtime, and the way back.
//!
//! Labels are the truth: a container is ours by cluster uid *and* node, never by its name.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::api::Uid;
use crate::clock::Wall;

use super::{ContainerPlan, PodRef, SandboxPlan};
use crate::agent::devices::Held;
use crate::link::share::digest_of;

/// The cluster's uid: nothing without it is ever listed or removed.
pub const CLUSTER: &str = "bramble/cluster";
/// The node's name: several nodes may share a Docker.
pub const NODE: &str = "bramble/node";
/// The pod's uid.
pub const POD_UID: &str = "bramble/pod-uid";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "bramble/pod-namespace";
/// The pod's name.
pub const POD_NAME: &str = "bramble/pod-name";
/// The container's name in the pod; [`SANDBOX`] for the sandbox.
pub const CONTAINER: &str = "bramble/container";
/// Restarts before this one.
pub const ATTEMPT: &str = "bramble/attempt";
/// Restarts since it last ran for ten minutes: the back-off outlives the agent.
pub const STREAK: &str = "bramble/restarts-in-a-row";
/// What the container was made from.
pub const SPEC_HASH: &str = "bramble/spec-hash";
/// The image as the pod names it.
pub const IMAGE: &str = "bramble/image";
/// When the pod was first started here, milliseconds since 1970.
pub const POD_START: &str = "bramble/pod-start";
/// The pod's grace period in seconds.
pub const GRACE: &str = "bramble/grace-seconds";
/// The sandbox that a container joined.
pub const SANDBOX_ID: &str = "bramble/sandbox-id";
/// `log`: the end of its log stands in for last words when it fails without any.
pub const LAST_WORDS: &str = "bramble/last-words";
/// The devices that a container was given, as JSON: it keeps them when another agent finds it.
pub const DEVICES: &str = "bramble/devices";
/// The address that a sandbox was given: the pod keeps it when another sandbox is made.
pub const ADDRESS: &str = "bramble/address";
/// The volume's name in the pod.
pub const VOLUME: &str = "bramble/volume";

/// The image whose files a volume, or a container that never runs, is there for.
pub const IMAGE_VOLUME: &str = "bramble/image-volume";

/// The sandbox's container name. No container of a pod can have it: names are DNS labels.
pub const SANDBOX: &str = "SANDBOX";

/// Whose containers these are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The cluster's uid.
    pub cluster_uid: String,
    /// The node's name.
    pub node: String,
}

/// What tells a node of a cluster from all others in the kernel: 8 hex digits, in the names of tables, bridges, rules and labels.
#[must_use]
pub fn node_id(cluster_uid: &str, node: &str) -> String {
    digest_of(format!("{cluster_uid}/{node}").as_bytes()).chars().take(8).collect()
}

impl Owner {
    /// What tells this node of this cluster from all others in the kernel: [`node_id`].
    #[must_use]
    pub fn id(&self) -> String {
        node_id(&self.cluster_uid, &self.node)
    }

    /// The network of this node's pods.
    #[must_use]
    pub fn node_network(&self) -> String {
        format!("{}-{}", self.network(), self.node)
    }

    /// The bridge of that network, as the kernel knows it: at most 15 characters.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("brm-{}", self.id())
    }

    /// The network of all pods of this cluster on this host, where the node has no range of its own.
    #[must_use]
    pub fn network(&self) -> String {
        format!("bramble-{}", self.cluster_uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect::<String>())
    }

    /// The filter that finds what is ours: all of it, or of one pod. An engine may answer with more ([`read_of`]).
    #[must_use]
    pub fn filter(&self, only: Option<&Uid>) -> Vec<String> {
        let mut labels = vec![format!("{CLUSTER}={}", self.cluster_uid), format!("{NODE}={}", self.node)];
        labels.extend(only.map(|uid| format!("{POD_UID}={uid}")));
        labels
    }

    /// Whether nothing in these labels says that it is another node's or another cluster's.
    #[must_use]
    pub fn may_own(&self, labels: &HashMap<String, String>) -> bool {
        let ours = [(CLUSTER, &self.cluster_uid), (NODE, &self.node)];
        ours.iter().all(|(key, ours)| labels.get(*key).is_none_or(|theirs| theirs == *ours))
    }

    /// Labels of anything of a pod.
    #[must_use]
    pub fn pod_labels(&self, pod: &PodRef) -> HashMap<String, String> {
        [
            (CLUSTER, self.cluster_uid.as_str()),
            (NODE, self.node.as_str()),
            (POD_UID, pod.uid.0.as_str()),
            (POD_NAMESPACE, pod.namespace.as_str()),
            (POD_NAME, pod.name.as_str()),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
    }

    /// Labels of a container.
    #[must_use]
    pub fn container_labels(&self, plan: &ContainerPlan) -> HashMap<String, String> {
        let mut labels = self.pod_labels(&plan.pod);
        labels.extend([
            (CONTAINER.to_owned(), plan.name.clone()),
            (ATTEMPT.to_owned(), plan.attempt.to_string()),
            (STREAK.to_owned(), plan.streak.to_string()),
            (SPEC_HASH.to_owned(), plan.spec_hash.clone()),
            (IMAGE.to_owned(), plan.image.clone()),
            (SANDBOX_ID.to_owned(), plan.sandbox_id.clone()),
        ]);
        if plan.last_words_from_log {
            labels.insert(LAST_WORDS.to_owned(), "log".to_owned());
        }
        if !plan.devices.is_empty() {
            // Plain words and numbers: cannot fail.
            labels.insert(DEVICES.to_owned(), serde_json::to_string(&plan.devices).unwrap_or_default());
        }
        labels
    }

    /// Labels of a sandbox with this address.
    #[must_use]
    pub fn sandbox_labels(&self, plan: &SandboxPlan, address: Option<Ipv4Addr>) -> HashMap<String, String> {
        let mut labels = self.pod_labels(&plan.pod);
        labels.extend([
            (CONTAINER.to_owned(), SANDBOX.to_owned()),
            (ATTEMPT.to_owned(), plan.attempt.to_string()),
            (POD_START.to_owned(), plan.pod_start.0.to_string()),
            (GRACE.to_owned(), plan.grace.as_secs().to_string()),
        ]);
        labels.extend(address.map(|address| (ADDRESS.to_owned(), address.to_string())));
        labels
    }

    /// Labels of a container that is made of an image to read its files, and never runs.
    #[must_use]
    pub fn reader_labels(&self, image: &str) -> HashMap<String, String> {
        let own = [(CLUSTER, self.cluster_uid.as_str()), (NODE, self.node.as_str()), (IMAGE_VOLUME, image)];
        own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// Labels of a volume.
    #[must_use]
    pub fn volume_labels(&self, pod: &PodRef, volume: &str) -> HashMap<String, String> {
        let mut labels = self.pod_labels(pod);
        labels.insert(VOLUME.to_owned(), volume.to_owned());
        labels
    }
}

/// `bramble_<container>_<pod>_<namespace>_<uid>_<attempt>`.
#[must_use]
pub fn container_name(pod: &PodRef, container: &str, attempt: u32) -> String {
    format!("bramble_{container}_{}_{}_{}_{attempt}", pod.name, pod.namespace, pod.uid)
}

/// `bramble_<volume>_<pod>_<namespace>_<uid>`.
#[must_use]
pub fn volume_name(pod: &PodRef, volume: &str) -> String {
    format!("bramble_{volume}_{}_{}_{}", pod.name, pod.namespace, pod.uid)
}

/// What the labels of a container or a volume say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// Whose it is.
    pub pod: PodRef,
    /// The container's name; [`SANDBOX`] for the sandbox; empty on a volume.
    pub container: String,
    /// Restarts before this one.
    pub attempt: u32,
    /// Restarts in a row.
    pub streak: u32,
    /// What it was made from.
    pub spec_hash: String,
    /// The image as the pod names it.
    pub image: String,
    /// The sandbox that it joined.
    pub sandbox_id: String,
    /// Whether the end of its log stands in for last words.
    pub last_words_from_log: bool,
    /// The devices that it was given.
    pub devices: Vec<Held>,
    /// When the pod was first started here.
    pub pod_start: Wall,
    /// The pod's grace period.
    pub grace: Duration,
    /// The address that a sandbox was given.
    pub address: Option<Ipv4Addr>,
}

/// Reads labels; `None` when they are not of a pod of `owner`. A damaged number reads as zero.
#[must_use]
pub fn read(owner: &Owner, labels: &HashMap<String, String>) -> Option<Labels> {
    let text = |key: &str| labels.get(key).map(String::as_str).unwrap_or_default();
    if text(CLUSTER) != owner.cluster_uid || text(NODE) != owner.node || text(POD_UID).is_empty() {
        return None;
    }
    let owned = |key: &str| text(key).to_owned();
    Some(Labels {
        pod: PodRef { uid: Uid::from(text(POD_UID)), namespace: owned(POD_NAMESPACE), name: owned(POD_NAME) },
        container: owned(CONTAINER),
        attempt: text(ATTEMPT).parse().unwrap_or_default(),
        streak: text(STREAK).parse().unwrap_or_default(),
        spec_hash: owned(SPEC_HASH),
        image: owned(IMAGE),
        sandbox_id: owned(SANDBOX_ID),
        last_words_from_log: text(LAST_WORDS) == "log",
        devices: labels.get(DEVICES).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
        pod_start: Wall(text(POD_START).parse().unwrap_or_default()),
        grace: Duration::from_secs(text(GRACE).parse().unwrap_or(30)),
        address: text(ADDRESS).parse().ok(),
    })
}

/// The same of one pod; `None` also when they are of another pod. To Podman one label of a filter is enough, for volumes and events.
#[must_use]
pub fn read_of(owner: &Owner, only: Option<&Uid>, labels: &HashMap<String, String>) -> Option<Labels> {
    read(owner, labels).filter(|read| only.is_none_or(|uid| read.pod.uid == *uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { cluster_uid: "0a1b2c3d-4e5f".into(), node: "pi-1".into() }
    }

    fn pod() -> PodRef {
        PodRef { uid: "u-1".into(), namespace: "default".into(), name: "web".into() }
    }

    #[test]
    fn labels_lead_back_to_pod_container_and_attempt() {
        let plan = ContainerPlan {
            pod: pod(),
            name: "app".into(),
            attempt: 3,
            streak: 2,
            spec_hash: "h".into(),
            image: "busybox".into(),
            sandbox_id: "s".into(),
            ..ContainerPlan::default()
        };
        let read = read(&owner(), &owner().container_labels(&plan)).unwrap();
        assert_eq!((read.pod, read.container.as_str(), read.attempt, read.streak), (pod(), "app", 3, 2));
        assert_eq!((read.image.as_str(), read.spec_hash.as_str(), read.sandbox_id.as_str()), ("busybox", "h", "s"));
    }

    #[test]
    fn what_another_node_or_cluster_made_is_not_ours() {
        let labels = owner().pod_labels(&pod());
        assert!(read(&owner(), &labels).is_some());
        assert!(read(&Owner { node: "pi-2".into(), ..owner() }, &labels).is_none());
        assert!(read(&Owner { cluster_uid: "other".into(), ..owner() }, &labels).is_none());
        assert!(owner().may_own(&labels) && owner().may_own(&HashMap::new()));
        assert!(!Owner { node: "pi-2".into(), ..owner() }.may_own(&labels));
        assert!(!Owner { cluster_uid: "other".into(), ..owner() }.may_own(&labels));
    }

    #[test]
    fn what_was_not_asked_for_is_not_taken() {
        let labels = owner().volume_labels(&pod(), "data");
        for (only, taken) in [(None, true), (Some(&pod().uid), true), (Some(&"u-2".into()), false)] {
            assert_eq!(read_of(&owner(), only, &labels).is_some(), taken, "{only:?}");
        }
    }

    #[test]
    fn names_are_as_the_design_says() {
        assert_eq!(container_name(&pod(), "app", 4), "bramble_app_web_default_u-1_4");
        assert_eq!(volume_name(&pod(), "data"), "bramble_data_web_default_u-1");
        assert_eq!(owner().network(), "bramble-0a1b2c3d");
        assert_eq!(owner().node_network(), "bramble-0a1b2c3d-pi-1");
        assert_eq!((owner().bridge(), owner().bridge().len()), (format!("brm-{}", owner().id()), 12));
        assert_ne!(Owner { node: "pi-2".into(), ..owner() }.id(), owner().id());
    }
}
