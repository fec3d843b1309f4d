//! Gives each node its part of the pod network.
//!
//! In:       all nodes, and the addresses of all pods (`network.pods`).
//! Out:      `spec.podCIDR` and `spec.podCIDRs` of nodes that have none; an event where there is none left, and where a node's own lies
//!           outside of the pod network or within another node's.
//! Never:    changes or takes away what a node has: its pods have addresses of it. A part is free again when its node's object is gone.
//! Source:   kube-controller-manager's `nodeipam` (RangeAllocator). We differ in where the search begins: at a place that follows from
//!           the node's name, so that a node that is removed and joins again has its old part, if it is free.
//!
//! There is one key for all nodes: two that were decided on the same view could be given the same part.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;
use serde_json::json;

use super::{Ids, Plan, Reconciler, update};
use crate::api::core::event::Occurrence;
use crate::api::registry::NODES;
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};

const COMPONENT: &str = "node-ipam";
/// So many nodes are given theirs at a time: one that changed meanwhile lets all of these be decided again.
const AT_ONCE: usize = 16;

/// The controller.
pub struct NodeIpam {
    pods: Ipv4Net,
    /// What was said already, by node.
    said: BTreeSet<(String, &'static str)>,
}

impl NodeIpam {
    /// For these addresses of all pods.
    #[must_use]
    pub fn new(pods: Ipv4Net) -> Self {
        Self { pods: pods.trunc(), said: BTreeSet::new() }
    }

    /// Tells it once, for as long as it is so.
    fn say(&mut self, plan: &mut Plan, node: &Object, reason: &'static str, message: String) {
        if self.said.insert((node.name().to_owned(), reason)) {
            plan.events.push(Occurrence::warning(node, COMPONENT, reason, message));
        }
    }
}

/// The addresses of all pods when nobody says: `10.244.0.0/16`.
#[must_use]
pub fn default_pods() -> Ipv4Net {
    Ipv4Net::new(std::net::Ipv4Addr::new(10, 244, 0, 0), 16).unwrap_or_default()
}

/// How long the prefix of a node's part is: 24, or four bits more than the pod network's where that is longer.
#[must_use]
pub fn part_prefix(pods: Ipv4Net) -> u8 {
    pods.prefix_len().saturating_add(4).clamp(24, 30)
}

/// The parts of a node, as far as they can be read.
fn parts(node: &Object) -> impl Iterator<Item = Ipv4Net> {
    let all = node.list_at(&["spec", "podCIDRs"]).iter().filter_map(|value| value.as_str());
    std::iter::once(node.str_at(&["spec", "podCIDR"])).chain(all).filter_map(|text| text.parse::<Ipv4Net>().ok())
}

fn has_part(node: &Object) -> bool {
    !node.str_at(&["spec", "podCIDR"]).is_empty() || !node.list_at(&["spec", "podCIDRs"]).is_empty()
}

fn overlap(one: &Ipv4Net, other: &Ipv4Net) -> bool {
    one.contains(other) || other.contains(one)
}

/// The free part at which a search for this name ends.
fn free(pods: Ipv4Net, name: &str, taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let prefix = part_prefix(pods);
    let bits = prefix.checked_sub(pods.prefix_len())?;
    let count = 1_u32.checked_shl(bits.into())?;
    // FNV-1a: 32 bits.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let start = hash % count;
    (0..count)
        .filter_map(|step| {
            let number = start.wrapping_add(step) % count;
            let first = u32::from(pods.network()).checked_add(number.checked_shl(u32::from(32 - prefix))?)?;
            Ipv4Net::new(first.into(), prefix).ok()
        })
        .find(|part| !taken.iter().any(|taken| overlap(part, taken)))
}

impl Reconciler for NodeIpam {
    fn name(&self) -> &'static str {
        "node_ipam"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == NODES
    }

    fn keys(&self, event: &ChangeEvent, _view: &View) -> Vec<Key> {
        // One that goes leaves its part to one that waits.
        let matters = event.after.as_ref().is_none_or(|node| !has_part(node)) || event.before.is_none();
        matters.then(|| Key::new(&NODES, "", "")).into_iter().collect()
    }

    fn all_keys(&self, _view: &View) -> Vec<Key> {
        vec![Key::new(&NODES, "", "")]
    }

    fn reconcile(&mut self, view: &View, _key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let mut plan = Plan::nothing();
        let mut taken: Vec<Ipv4Net> = view.list(&NODES, None).flat_map(|node| parts(node)).collect();
        taken.sort();
        taken.dedup();
        let names: BTreeSet<&str> = view.list(&NODES, None).map(|node| node.name()).collect();
        self.said.retain(|(name, _)| names.contains(name.as_str()));
        for node in view.list(&NODES, None) {
            if has_part(node) {
                self.said.remove(&(node.name().to_owned(), "CIDRNotAvailable"));
                continue;
            }
            if node.is_deleting() {
                continue;
            }
            if plan.writes.len() >= AT_ONCE {
                plan.look_again = Some(now.tick);
                continue;
            }
            let Some(part) = free(self.pods, node.name(), &taken) else {
                let words = format!(
                    "no part of the pod network {} is left for this node: its pods are reached by no other node. Remove nodes that are no more, or start a cluster with a larger network.pods",
                    self.pods
                );
                self.say(&mut plan, node, "CIDRNotAvailable", words);
                continue;
            };
            taken.push(part);
            let mut next = Object::clone(node);
            next.set_at(&["spec", "podCIDR"], part.to_string());
            next.set_at(&["spec", "podCIDRs"], json!([part.to_string()]));
            plan.writes.push(update(&Key::of(&NODES, node), node, next));
        }
        self.judge(view, &mut plan);
        plan
    }
}

/// The nodes whose part is another's as well, each with that other one: the older one keeps it; of the same age, the first by name.
fn twice(view: &View) -> Vec<(&Object, &Object)> {
    let mut all: Vec<(Ipv4Net, &Object)> = Vec::new();
    for node in view.list(&NODES, None) {
        let mut own: Vec<Ipv4Net> = parts(node).collect();
        own.dedup();
        all.extend(own.into_iter().map(|part| (part.trunc(), node.as_ref())));
    }
    // By first address, the widest first: what a range lies in comes before it.
    all.sort_by_key(|(part, _)| *part);
    let age = |node: &Object| (node.str_at(&["metadata", "creationTimestamp"]).to_owned(), node.name().to_owned());
    let mut around: Vec<(Ipv4Net, &Object)> = Vec::new();
    let mut found = Vec::new();
    for (part, node) in all {
        while around.last().is_some_and(|(wider, _)| !wider.contains(&part)) {
            around.pop();
        }
        if let Some((_, other)) = around.last().filter(|(_, other)| other.name() != node.name()) {
            found.push(if age(other) < age(node) { (node, *other) } else { (*other, node) });
        }
        around.push((part, node));
    }
    found
}

impl NodeIpam {
    /// What a person, or a master with another `network.pods`, gave.
    fn judge(&mut self, view: &View, plan: &mut Plan) {
        let twice = twice(view);
        let names: BTreeSet<&str> = twice.iter().map(|(node, _)| node.name()).collect();
        self.said.retain(|(name, reason)| *reason != "CIDRConflict" || names.contains(name.as_str()));
        for (node, other) in &twice {
            let words = format!(
                "this node's part {} is node {}'s as well: packets for its pods go there. Drain this node, remove it, and let it join again",
                node.str_at(&["spec", "podCIDR"]),
                other.name()
            );
            self.say(plan, node, "CIDRConflict", words);
        }
        for node in view.list(&NODES, None) {
            let Some(part) = parts(node).find(|part| !self.pods.contains(part)) else {
                self.said.remove(&(node.name().to_owned(), "CIDROutsidePodNetwork"));
                continue;
            };
            let words = format!(
                "this node's part {part} lies outside of the pod network {}: it stays, since its pods have addresses of it; to give the node another one, drain it and remove it (`bramble node remove`, or `kubectl delete node`), and let it join again",
                self.pods
            );
            self.say(plan, node, "CIDROutsidePodNetwork", words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Op};

    struct World(View, NodeIpam);

    impl World {
        fn new(pods: &str) -> Self {
            Self(View::new(Revision(1)), NodeIpam::new(pods.parse().unwrap()))
        }

        fn add(&mut self, name: &str, part: &str) {
            let mut node =
                json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}});
            if !part.is_empty() {
                node["spec"] = json!({"podCIDR": part, "podCIDRs": [part]});
            }
            self.0.apply(
                self.0.revision().next(),
                Op::create(Key::new(&NODES, "", name), Object::from_value(node).unwrap()).into(),
            );
        }

        fn remove(&mut self, name: &str) {
            let key = Key::new(&NODES, "", name);
            let revision = self.0.get(&key).unwrap().revision();
            self.0.apply(self.0.revision().next(), Op::delete(key, revision).into());
        }

        /// Until nothing is written; the reasons of the events.
        fn settle(&mut self) -> Vec<String> {
            let mut said = Vec::new();
            loop {
                let key = Key::new(&NODES, "", "");
                let plan = self.1.reconcile(&self.0, &key, Now::default(), &mut Ids::new(Rng::seeded(1, "ids")));
                said.extend(plan.events.iter().map(|event| format!("{} {}", event.involved.name, event.reason)));
                if plan.writes.is_empty() {
                    return said;
                }
                assert!(plan.writes.len() <= AT_ONCE);
                self.0.apply(self.0.revision().next(), Batch(plan.writes));
            }
        }

        fn part(&self, name: &str) -> String {
            let node = self.0.get(&Key::new(&NODES, "", name)).unwrap();
            assert_eq!(node.list_at(&["spec", "podCIDRs"]).first(), node.at(&["spec", "podCIDR"]));
            node.str_at(&["spec", "podCIDR"]).to_owned()
        }
    }

    #[test]
    fn every_node_gets_a_part_of_its_own_until_none_is_left() {
        let mut world = World::new("10.244.0.0/16");
        for number in 0..257 {
            world.add(&format!("n{number}"), "");
        }
        let said = world.settle();
        let mut seen = BTreeSet::new();
        let without: Vec<String> =
            (0..257).map(|number| format!("n{number}")).filter(|name| world.part(name).is_empty()).collect();
        for number in 0..257 {
            let part = world.part(&format!("n{number}"));
            assert!(
                part.is_empty() || (part.ends_with("/24") && part.starts_with("10.244.") && seen.insert(part.clone())),
                "{part}"
            );
        }
        assert_eq!((seen.len(), without.len()), (256, 1));
        assert_eq!(said, [format!("{} CIDRNotAvailable", without[0])], "said once");
        assert!(world.settle().is_empty());
        // One that goes leaves its part to the one that waits.
        let gone = (0..257).map(|number| format!("n{number}")).find(|name| *name != without[0]).unwrap();
        let part = world.part(&gone);
        world.remove(&gone);
        assert!(world.settle().is_empty());
        assert_eq!(world.part(&without[0]), part);
    }

    #[test]
    fn a_node_that_joins_again_has_its_old_part_and_what_a_node_has_never_changes() {
        let mut world = World::new("10.244.0.0/16");
        for name in ["kitchen", "shed", "attic"] {
            world.add(name, "");
        }
        world.settle();
        let before: Vec<String> = ["kitchen", "shed", "attic"].map(|name| world.part(name)).into();
        world.remove("shed");
        world.add("new", "");
        world.settle();
        world.add("shed", "");
        world.settle();
        assert_eq!(Vec::from(["kitchen", "shed", "attic"].map(|name| world.part(name))), before);
        // Another master, with another network.
        world.1 = NodeIpam::new("10.50.0.0/16".parse().unwrap());
        let said = world.settle();
        assert_eq!(Vec::from(["kitchen", "shed", "attic"].map(|name| world.part(name))), before);
        assert!(said.contains(&"shed CIDROutsidePodNetwork".to_owned()) && said.len() == 4, "{said:?}");
        assert!(world.settle().is_empty(), "once");
    }

    #[test]
    fn what_a_person_gave_is_kept_and_nobody_elses() {
        let mut world = World::new("10.244.0.0/22");
        world.add("wide", "10.244.0.0/23");
        world.add("odd", "no range");
        world.add("twin", "10.244.1.0/24");
        for name in ["a", "b"] {
            world.add(name, "");
        }
        let said = world.settle();
        assert_eq!(said, ["wide CIDRConflict"], "of the same age, the first by name keeps it");
        for name in ["a", "b"] {
            let part: Ipv4Net = world.part(name).parse().unwrap();
            assert!(part.prefix_len() == 26 && !overlap(&part, &"10.244.0.0/23".parse().unwrap()), "{part}");
        }
        assert_eq!(world.part("odd"), "no range");
    }

    #[test]
    fn parts_are_of_24_bits_or_less_where_the_network_is_small() {
        for (pods, prefix) in
            [("10.244.0.0/16", 24), ("10.0.0.0/8", 24), ("10.244.0.0/20", 24), ("10.244.0.0/24", 28), ("10.0.0.0/28", 30)]
        {
            assert_eq!(part_prefix(pods.parse().unwrap()), prefix, "{pods}");
        }
        assert_eq!(free("10.0.0.0/32".parse().unwrap(), "n", &[]), None);
    }
}
