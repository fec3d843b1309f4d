//! What nodes have and what their pods use, kept in step with the store change by change.
//!
//! In:       changes, and decisions that are assumed to stand until the store has them.
//! Out:      [`NodeInfo`]s for the rules.
//! Never:    is asked to be right for ever: [`Snapshot::from_view`] makes a new one whenever there is doubt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::candidate::Candidate;
use crate::api::core::node::{Effect, NOT_READY, Node, Taint, UNREACHABLE};
use crate::api::core::pod::{HostPort, Pod};
use crate::api::core::resources::Resources;
use crate::api::core::volume::claims_of;
use crate::api::image::Platforms;
use crate::api::registry::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES};
use crate::api::{Key, Object, Uid};
use crate::store::{ChangeEvent, View};

/// A node, as the rules ask about it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    /// The node itself; `None` while only pods that name it are known.
    pub object: Option<Arc<Object>>,
    /// What it has.
    pub allocatable: Resources,
    /// How many pods it takes.
    pub pod_limit: i64,
    /// Its taints; one that is not ready has the taint for that from the moment that it says so.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// What its pods ask for.
    pub used: Resources,
    /// How many pods it has.
    pub pods: i64,
    /// The ports that its pods hold.
    pub ports: Vec<HostPort>,
    /// What it runs; `None` while it has not said.
    pub platforms: Option<Platforms>,
    /// The images that it has, by name, and what they take.
    pub images: BTreeMap<String, i64>,
    /// How many pods of each controller it has.
    pub owners: BTreeMap<Uid, usize>,
}

/// What one pod takes of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    node: String,
    requests: Resources,
    ports: Vec<HostPort>,
    owner: Option<Uid>,
    /// `namespace/name` of its claims.
    claims: Vec<String>,
    priority: i64,
}

impl Share {
    /// The node that it has, or that it waits for room on.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The pod's priority.
    #[must_use]
    pub fn priority(&self) -> i64 {
        self.priority
    }
}

/// All nodes and what is used of them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, NodeInfo>,
    pods: BTreeMap<Key, Share>,
    /// How many pods with a node have each claim.
    claims: BTreeMap<String, usize>,
}

/// What a change may mean for pods that found no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing.
    None,
    /// A node came, or became better or other than it was.
    NodeChanged,
    /// A pod gave back what it held.
    Freed,
    /// A claim, a volume or a class of them changed.
    VolumesChanged,
}

impl Snapshot {
    /// From all that is stored.
    #[must_use]
    pub fn from_view(view: &View) -> Self {
        let mut out = Self::default();
        for node in view.list(&NODES, None) {
            out.set_node(node.name(), Some(node));
        }
        for pod in view.list(&PODS, None) {
            out.set_pod(&Key::of(&PODS, pod), Some(pod));
        }
        out
    }

    /// Follows a change.
    pub fn apply(&mut self, event: &ChangeEvent) -> Meaning {
        if *event.key.resource == NODES {
            self.set_node(&event.key.name, event.after.as_ref())
        } else if *event.key.resource == PODS {
            self.set_pod(&event.key, event.after.as_ref())
        } else if [&PERSISTENT_VOLUME_CLAIMS, &PERSISTENT_VOLUMES, &STORAGE_CLASSES].contains(&event.key.resource) {
            Meaning::VolumesChanged
        } else {
            Meaning::None
        }
    }

    /// A ready node to ask about an image, when the nodes are of several kinds; `None` when all run the same.
    #[must_use]
    pub fn node_to_ask(&self) -> Option<&str> {
        let kinds: BTreeSet<_> = self.nodes().filter_map(|(_, node)| Some(&node.platforms.as_ref()?.own)).collect();
        if kinds.len() < 2 {
            return None;
        }
        let is_ready = |node: &NodeInfo| node.object.as_ref().is_some_and(|object| Node(object).is_ready());
        self.nodes().find(|(_, node)| node.platforms.is_some() && is_ready(node)).map(|(name, _)| name)
    }

    /// The nodes that are there, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeInfo)> {
        self.nodes.iter().filter(|(_, node)| node.object.is_some()).map(|(name, node)| (name.as_str(), node))
    }

    /// A node by its name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Object> {
        self.nodes.get(name)?.object.as_deref()
    }

    /// How many pods with a node have a claim, by its `namespace/name`.
    #[must_use]
    pub fn users(&self, claim: &str) -> usize {
        self.claims.get(claim).copied().unwrap_or_default()
    }

    /// Counts a pod on a node before the store says so.
    pub fn assume(&mut self, key: &Key, pod: &Candidate<'_>, node: &str) {
        let share = Share {
            node: node.to_owned(),
            requests: pod.requests.clone(),
            ports: pod.host_ports.clone(),
            owner: pod.owner.clone(),
            claims: claims(pod.object),
            priority: Pod(pod.object).priority(),
        };
        self.put(key, Some(share));
    }

    /// Takes an assumption back: the pod counts as the store has it.
    pub fn set_pod(&mut self, key: &Key, pod: Option<&Arc<Object>>) -> Meaning {
        let share = pod.map(|object| Pod(object)).filter(|pod| !pod.is_terminal()).and_then(|pod| {
            // For whom others make room, it is kept.
            let waits_on = || if pod.is_terminating() { "" } else { pod.0.str_at(&["status", "nominatedNodeName"]) };
            let node = Some(pod.node_name()).filter(|node| !node.is_empty()).unwrap_or_else(waits_on);
            (!node.is_empty()).then(|| Share {
                node: node.to_owned(),
                requests: pod.requests(),
                ports: pod.host_ports().collect(),
                owner: pod.owner().map(|owner| Uid::from(owner.uid)),
                claims: claims(pod.0),
                priority: pod.priority(),
            })
        });
        self.put(key, share)
    }

    /// Forgets what a pod holds: it is about to be decided.
    pub fn release(&mut self, key: &Key) {
        self.put(key, None);
    }

    /// What each pod takes, or waits for.
    pub fn shares(&self) -> impl Iterator<Item = (&Key, &Share)> {
        self.pods.iter()
    }

    fn put(&mut self, key: &Key, share: Option<Share>) -> Meaning {
        if self.pods.get(key) == share.as_ref() {
            return Meaning::None;
        }
        let mut meaning = Meaning::None;
        if let Some(before) = self.pods.remove(key) {
            meaning = Meaning::Freed;
            for claim in &before.claims {
                if let Some(users) = self.claims.get_mut(claim) {
                    *users = users.saturating_sub(1);
                    if *users == 0 {
                        self.claims.remove(claim);
                    }
                }
            }
            if let Some(node) = self.nodes.get_mut(&before.node) {
                node.release(&before);
                if node.object.is_none() && node.pods == 0 {
                    self.nodes.remove(&before.node);
                }
            }
        }
        if let Some(share) = share {
            for claim in &share.claims {
                *self.claims.entry(claim.clone()).or_default() += 1;
            }
            self.nodes.entry(share.node.clone()).or_default().take(&share);
            self.pods.insert(key.clone(), share);
        }
        meaning
    }

    fn set_node(&mut self, name: &str, object: Option<&Arc<Object>>) -> Meaning {
        let Some(object) = object else {
            // Its pods stay counted, in case it comes back.
            if let Some(info) = self.nodes.get_mut(name) {
                info.object = None;
                if info.pods == 0 {
                    self.nodes.remove(name);
                }
            }
            return Meaning::None;
        };
        let info = self.nodes.entry(name.to_owned()).or_default();
        let node = Node(object);
        let taints = taints(node);
        let (allocatable, pod_limit, unschedulable) = (node.allocatable(), node.pod_limit(), node.unschedulable());
        // Heartbeats change nothing that a pod could be waiting for.
        let platforms = node.platforms();
        let same =
            info.object.as_ref().is_some_and(|before| before.at(&["metadata", "labels"]) == object.at(&["metadata", "labels"]))
                && (&info.allocatable, info.pod_limit, info.unschedulable, &info.taints)
                    == (&allocatable, pod_limit, unschedulable, &taints)
                && info.platforms == platforms;
        if info.object.as_ref().is_none_or(|before| before.at(&["status", "images"]) != object.at(&["status", "images"])) {
            info.images = node.images().collect();
        }
        info.platforms = platforms;
        info.object = Some(object.clone());
        info.allocatable = allocatable;
        info.pod_limit = pod_limit;
        info.unschedulable = unschedulable;
        info.taints = taints;
        if same { Meaning::None } else { Meaning::NodeChanged }
    }
}

fn claims(pod: &Object) -> Vec<String> {
    claims_of(pod).map(|claim| format!("{}/{}", pod.namespace(), claim.name)).collect()
}

/// The taints of a node, with the one for its readiness, whether or not somebody has written it down yet.
fn taints(node: Node<'_>) -> Vec<Taint> {
    let mut taints: Vec<Taint> = node.taints().collect();
    let missing = match node.ready() {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    if let Some(key) = missing
        && !taints.iter().any(|taint| taint.key == key && taint.effect != Effect::PreferNoSchedule)
    {
        taints.push(Taint::new(key, Effect::NoSchedule));
    }
    taints
}

impl NodeInfo {
    /// The same node as one that runs these.
    #[cfg(test)]
    pub(super) fn with_platforms(mut self, text: &str) -> Self {
        self.platforms = Platforms::parse(text);
        self
    }

    /// One more pod.
    pub(super) fn take(&mut self, share: &Share) {
        self.pods += 1;
        self.used.add(&share.requests);
        self.ports.extend(share.ports.iter().cloned());
        if let Some(owner) = &share.owner {
            *self.owners.entry(owner.clone()).or_default() += 1;
        }
    }

    /// One pod less.
    pub(super) fn release(&mut self, share: &Share) {
        self.pods -= 1;
        self.used.subtract(&share.requests);
        for port in &share.ports {
            if let Some(at) = self.ports.iter().position(|held| held == port) {
                self.ports.swap_remove(at);
            }
        }
        if let Some(owner) = &share.owner
            && let Some(count) = self.owners.get_mut(owner)
        {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use serde_json::{Value, json};

    fn arc(value: Value) -> Arc<Object> {
        Arc::new(Object::from_value(value).unwrap())
    }

    fn event(key: &Key, before: Option<&Arc<Object>>, after: Option<&Arc<Object>>) -> ChangeEvent {
        ChangeEvent { revision: Revision(1), key: key.clone(), before: before.cloned(), after: after.cloned() }
    }

    fn node(ready: &str) -> Arc<Object> {
        arc(
            json!({"metadata": {"name": "a"}, "status": {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": ready}]}}),
        )
    }

    fn pod(node: &str, phase: &str) -> Arc<Object> {
        arc(json!({"metadata": {"ownerReferences": [{"uid": "o", "controller": true}]},
            "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": "1"}}, "ports": [{"hostPort": 80}]}]},
            "status": {"phase": phase}}))
    }

    #[test]
    fn what_a_pod_holds_is_counted_once_and_given_back() {
        let (node_key, key) = (Key::new(&NODES, "", "a"), Key::new(&PODS, "default", "p"));
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.apply(&event(&node_key, None, Some(&node("True")))), Meaning::NodeChanged);
        assert_eq!(snapshot.apply(&event(&node_key, None, Some(&node("True")))), Meaning::None, "a heartbeat");
        let (unbound, bound, ended) = (pod("", "Pending"), pod("a", "Running"), pod("a", "Succeeded"));
        snapshot.apply(&event(&key, None, Some(&unbound)));
        snapshot.assume(&key, &Candidate::of(&unbound), "a");
        assert_eq!(snapshot.apply(&event(&key, Some(&unbound), Some(&bound))), Meaning::None, "as was assumed");
        let info = snapshot.nodes().next().unwrap().1;
        assert_eq!((info.pods, info.used.milli_cpu, info.ports.len(), info.owners.len()), (1, 1000, 1, 1));
        assert_eq!(snapshot.apply(&event(&key, Some(&bound), Some(&ended))), Meaning::Freed);
        let info = snapshot.nodes().next().unwrap().1;
        assert_eq!((info.pods, info.used.milli_cpu, info.ports.len(), info.owners.len()), (0, 0, 0, 0));
    }

    #[test]
    fn a_node_that_is_not_ready_is_tainted_before_anybody_writes_it_down() {
        let key = Key::new(&NODES, "", "a");
        for (ready, taint) in [("True", None), ("False", Some(NOT_READY)), ("Unknown", Some(UNREACHABLE))] {
            let mut snapshot = Snapshot::default();
            snapshot.apply(&event(&key, None, Some(&node(ready))));
            let info = snapshot.nodes().next().unwrap().1;
            assert_eq!(info.taints.first().map(|taint| taint.key.as_str()), taint);
        }
    }

    #[test]
    fn a_node_that_went_is_no_node_and_its_pods_count_when_it_is_back() {
        let (node_key, key) = (Key::new(&NODES, "", "a"), Key::new(&PODS, "default", "p"));
        let mut snapshot = Snapshot::default();
        let (a, bound) = (node("True"), pod("a", "Running"));
        snapshot.apply(&event(&node_key, None, Some(&a)));
        snapshot.apply(&event(&key, None, Some(&bound)));
        snapshot.apply(&event(&node_key, Some(&a), None));
        assert_eq!(snapshot.nodes().count(), 0);
        snapshot.apply(&event(&node_key, None, Some(&a)));
        assert_eq!(snapshot.nodes().next().unwrap().1.pods, 1);
    }
}
