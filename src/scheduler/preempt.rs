//! Who has to make room for a pod that is more important.
//!
//! In:       a pod that no node can take, the snapshot, the view.
//! Out:      a node and the pods there that have to go; as few and as unimportant as can be.
//! Never:    takes away what would not help, or anything for a pod with `preemptionPolicy: Never`; takes more while those that
//!           it chose before are still stopping.
//! Source:   kube-scheduler `defaultpreemption`: all of less priority are taken off a node, then given back, the most important
//!           first, as long as the pod still fits. Disruption budgets are not known here yet.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::filter::fits;
use super::snapshot::Snapshot;
use crate::api::core::condition::Condition;
use crate::api::core::event::Occurrence;
use crate::api::core::pod::Pod;
use crate::api::time::rfc3339;
use crate::api::{Key, Object};
use crate::clock::{Now, Wall};
use crate::store::{Op, View};

/// What is to be done for a pod that found no node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nobody can make room.
    None,
    /// Those who do are on their way out.
    OnItsWay,
    /// These make room on this node.
    By(String, Vec<Key>),
}

/// Who makes room for a pod.
#[must_use]
pub fn room(snapshot: &Snapshot, view: &View, pod: &Candidate<'_>) -> Room {
    let priority = Pod(pod.object).priority();
    if pod.object.str_at(&["spec", "preemptionPolicy"]) == "Never" {
        return Room::None;
    }
    let nominated = pod.object.str_at(&["status", "nominatedNodeName"]);
    if view.pods_on(nominated).any(|other| !nominated.is_empty() && other.is_deleting() && Pod(other).priority() < priority) {
        return Room::OnItsWay;
    }
    let mut lower: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for (key, share) in snapshot.shares().filter(|(_, share)| share.priority() < priority) {
        lower.entry(share.node()).or_default().push((key, share));
    }
    let mut best = None;
    for (name, node) in snapshot.nodes() {
        let Some(others) = lower.get_mut(name) else { continue };
        let mut node = node.clone();
        others.iter().for_each(|(_, share)| node.release(share));
        if fits(pod, &node).is_err() {
            continue;
        }
        // The most important is spared first; among equals whoever has been here longer.
        let made = |key: &Key| view.get(key).and_then(|pod| Pod(pod).created());
        others.sort_by_key(|(key, share)| (std::cmp::Reverse(share.priority()), made(key), (*key).clone()));
        let mut victims = Vec::new();
        for (key, share) in others.iter() {
            node.take(share);
            if fits(pod, &node).is_err() {
                node.release(share);
                victims.push((*key, share.priority()));
            }
        }
        let highest = victims.iter().map(|(_, priority)| *priority).max();
        let sum: i64 = victims.iter().map(|(_, priority)| *priority).sum();
        let rank = (highest, sum, victims.len(), name);
        if best.as_ref().is_none_or(|(before, _)| rank < *before) {
            best = Some((rank, victims.into_iter().map(|(key, _)| key.clone()).collect::<Vec<_>>()));
        }
    }
    best.map_or(Room::None, |((.., node), victims)| Room::By(node.to_owned(), victims))
}

/// What makes one of them go, and what is told about it. Nothing for one that only waits for the room, or is going already.
#[must_use]
pub fn evict(view: &View, key: &Key, by: &Object, node: &str, now: Now) -> Option<(Op, Occurrence)> {
    let victim = view.get(key).filter(|victim| !victim.is_deleting() && !Pod(victim).node_name().is_empty())?;
    let words = format!("Preempted by pod {} on node {node}", by.uid());
    let told = Occurrence::normal(victim, super::NAME, "Preempted", words);
    let grace = Pod(victim).grace_seconds();
    let mut after = Object::clone(victim);
    after.set_at(&["metadata", "deletionTimestamp"], rfc3339(Wall(now.wall.0.saturating_add(grace.saturating_mul(1000)))));
    after.set_at(&["metadata", "deletionGracePeriodSeconds"], grace);
    after.set_at(&["metadata", "generation"], victim.generation().0.saturating_add(1));
    let target = Condition {
        kind: "DisruptionTarget",
        status: "True",
        reason: "PreemptionByScheduler",
        message: "default-scheduler: preempting to accommodate a higher priority pod",
    };
    target.set(&mut after, now.wall);
    Some((Op::update(key.clone(), victim.revision(), after), told))
}
