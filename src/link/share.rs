//! A share: what the master mails to a node and the node makes so. Its digest, its differences, its parts.
//!
//! There are two, each with a conversation of its own (`session.rs`, `downlink.rs`):
//!
//! * the **pods' share**, another for each node: what it runs and what its pods need for it. It changes when somebody decides
//!   something, and is written to the node's disk at once.
//! * the **network's share**, the same for all nodes: services, where they are served, the nodes themselves and what else of the network
//!   every node has to know. It changes whenever a pod becomes ready, and is written to disk lazily.
//!
//! They are one type, because everything about them is the same; a field says in which of the two it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::network::ClusterNetwork;
use crate::api::{Object, Uid};

/// Everything that one node should have, of its pods or of the network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", default)]
pub struct Share {
    /// The pods that are bound to it, by uid, without `status`. One with a `deletionTimestamp` is to be stopped.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pods: BTreeMap<Uid, Arc<Object>>,
    /// The config maps that these pods name, by `namespace/name`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub config_maps: BTreeMap<String, Arc<Object>>,
    /// The secrets that these pods name, by `namespace/name`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Arc<Object>>,
    /// The persistent volume that is bound to each claim that these pods name, by the claim's `namespace/name`. A claim that is not
    /// bound is not here. When the volume says `pv.kubernetes.io/provisioned-by: bramble/local`, the node makes its directory
    /// (`spec.local.path`, mode 0777 as for `emptyDir`) before the first container that mounts it, if it is not there; of any other volume
    /// the directory must be there. Only a directory is made that has the volume's own name (`Volume::directory`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, Arc<Object>>,
    /// Volumes of `bramble/local` on this node that nobody wants any more, by name: the node removes their directories and says so
    /// (`Report::volumes`), until they are here no longer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub discard: BTreeMap<String, Arc<Object>>,
    /// Of the node's labels those that the `nodeSelector` or the required node affinity of one of these pods looks at. `None`: no pod
    /// looks at any, or the master is older than this field; then the node judges no pod by its labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Network: what is the same for the whole cluster. `None`: the master is older, or has not told yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<ClusterNetwork>,
    /// Network: services, by `namespace/name`, without `status` but for their load balancer's addresses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Arc<Object>>,
    /// Network: where services are served, by the slice's `namespace/name`; the label `kubernetes.io/service-name` says whose it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub endpoint_slices: BTreeMap<String, Arc<Object>>,
    /// Network: the nodes, by name: of each its labels, `bramble/` annotations, `spec.podCIDRs` and `status.addresses`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, Arc<Object>>,
    /// Network: what network policies come to, by the policy's `namespace/name`: selectors are resolved to addresses by the master
    /// (`dispatcher/policy.rs` says the shape).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, Arc<Object>>,
    /// Network: ingresses, by `namespace/name`; the secrets with their certificates are in `secrets` of this share.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ingresses: BTreeMap<String, Arc<Object>>,
}

/// Names of what is in a share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", default)]
pub struct ShareNames {
    /// By uid.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub pods: BTreeSet<Uid>,
    /// By `namespace/name`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub config_maps: BTreeSet<String>,
    /// By `namespace/name`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub secrets: BTreeSet<String>,
    /// By `namespace/name`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub claims: BTreeSet<String>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub discard: BTreeSet<String>,
    /// No pod looks at the node's labels any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub labels: bool,
    /// Nothing is said of the cluster's network any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub network: bool,
    /// By `namespace/name`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<String>,
    /// By `namespace/name`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub endpoint_slices: BTreeSet<String>,
    /// By name.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub peers: BTreeSet<String>,
    /// By `namespace/name`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub policies: BTreeSet<String>,
    /// By `namespace/name`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ingresses: BTreeSet<String>,
}

/// Does the same with every field of a share that is a map.
macro_rules! each_map {
    ($do:ident) => {
        $do!(pods, config_maps, secrets, claims, discard, services, endpoint_slices, peers, policies, ingresses)
    };
}

/// How much text goes into one part: JSON within JSON is escaped, which at worst doubles what manifests hold.
const PART_BYTES: usize = 28 * 1024;

impl Share {
    /// Canonical JSON: keys in order, no white space, empty parts left out.
    #[must_use]
    pub fn canonical(&self) -> String {
        // String keys only: cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The first half of SHA-256 over [`Share::canonical`], in hex. Pinned by a golden value.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_of(self.canonical().as_bytes())
    }

    /// What `set` and `unset` make `self` into `newer`.
    #[must_use]
    pub fn difference(&self, newer: &Share) -> (Share, ShareNames) {
        fn changed<K: Ord + Clone>(old: &BTreeMap<K, Arc<Object>>, new: &BTreeMap<K, Arc<Object>>) -> BTreeMap<K, Arc<Object>> {
            new.iter()
                .filter(|(key, value)| old.get(*key).is_none_or(|old| !Arc::ptr_eq(old, value) && old != *value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }
        fn lost<K: Ord + Clone>(old: &BTreeMap<K, Arc<Object>>, new: &BTreeMap<K, Arc<Object>>) -> BTreeSet<K> {
            old.keys().filter(|key| !new.contains_key(key)).cloned().collect()
        }
        /// What is new or other: the newer value where it is not the same.
        fn other<T: PartialEq + Clone>(old: Option<&T>, new: Option<&T>) -> Option<T> {
            new.filter(|new| old != Some(*new)).cloned()
        }
        let mut set = Share {
            labels: other(self.labels.as_ref(), newer.labels.as_ref()),
            network: other(self.network.as_ref(), newer.network.as_ref()),
            ..Share::default()
        };
        let mut unset = ShareNames {
            labels: self.labels.is_some() && newer.labels.is_none(),
            network: self.network.is_some() && newer.network.is_none(),
            ..ShareNames::default()
        };
        macro_rules! compare {
            ($($map:ident),*) => {$(
                set.$map = changed(&self.$map, &newer.$map);
                unset.$map = lost(&self.$map, &newer.$map);
            )*};
        }
        each_map!(compare);
        (set, unset)
    }

    /// The share after a change.
    #[must_use]
    pub fn changed(&self, set: Share, unset: &ShareNames) -> Share {
        fn merge<K: Ord>(into: &mut BTreeMap<K, Arc<Object>>, set: BTreeMap<K, Arc<Object>>, unset: &BTreeSet<K>) {
            into.retain(|key, _| !unset.contains(key));
            into.extend(set);
        }
        let mut share = self.clone();
        macro_rules! merge_all {
            ($($map:ident),*) => {$( merge(&mut share.$map, set.$map, &unset.$map); )*};
        }
        each_map!(merge_all);
        share.network = set.network.or(share.network.filter(|_| !unset.network));
        share.labels = set.labels.or(share.labels.filter(|_| !unset.labels));
        share
    }

    /// The canonical JSON in parts that each fit into a message.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        let mut rest = self.canonical();
        let mut parts = Vec::new();
        while rest.len() > PART_BYTES {
            let tail = rest.split_off(rest.floor_char_boundary(PART_BYTES));
            parts.push(std::mem::replace(&mut rest, tail));
        }
        parts.push(rest);
        parts
    }
}

/// The first half of SHA-256, in hex.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let hash = ring::digest::digest(&ring::digest::SHA256, bytes);
    hash.as_ref().iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A share with pods of these names; the number makes their specs differ.
    pub(crate) fn share(pods: &[(&str, u32)]) -> Share {
        let pods = pods
            .iter()
            .map(|(name, version)| {
                let object = serde_json::json!({"metadata": {"name": name, "uid": name}, "spec": {"version": version}});
                (Uid::from(*name), Arc::new(Object::from_value(object).unwrap()))
            })
            .collect();
        Share { pods, ..Share::default() }
    }

    #[test]
    fn the_digest_is_pinned() {
        assert_eq!(Share::default().digest(), "44136fa355b3678a1146ad16f7e8649e");
        assert_eq!(share(&[("a", 1)]).canonical(), r#"{"pods":{"a":{"metadata":{"name":"a","uid":"a"},"spec":{"version":1}}}}"#);
    }

    #[test]
    fn a_difference_makes_one_share_into_the_other() {
        let (old, new) = (share(&[("a", 1), ("b", 1), ("c", 1)]), share(&[("b", 2), ("c", 1), ("d", 1)]));
        let (set, unset) = old.difference(&new);
        assert_eq!(set.pods.keys().map(|uid| uid.0.as_str()).collect::<Vec<_>>(), ["b", "d"]);
        assert_eq!(unset.pods.iter().map(|uid| uid.0.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(old.changed(set, &unset), new);
        let with = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Share { labels: Some(labels), ..share(&[("a", 1)]) }
        };
        let all = [share(&[("a", 1)]), with(&[]), with(&[("disk", "ssd")]), with(&[("gpu", "x")])];
        for (old, new) in all.iter().flat_map(|old| all.iter().map(move |new| (old, new))) {
            let (set, unset) = old.difference(new);
            assert_eq!(&old.changed(set, &unset), new, "{old:?}");
        }
    }

    #[test]
    fn parts_join_to_the_whole_and_never_split_a_letter() {
        let mut large = share(&[]);
        let text = "ü".repeat(100_000);
        let object = Object::from_value(serde_json::json!({"data": {"text": text}})).unwrap();
        large.config_maps.insert("default/large".into(), Arc::new(object));
        let parts = large.parts();
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() <= PART_BYTES));
        assert_eq!(parts.concat(), large.canonical());
    }
}
