//! Gives each node its part of the pod network.
//!
//! In:       all nodes, and the addresses of all pods (`network.pods`).
//! Out:      `spec.podCIDR` and `spec.podCIDRs` of nodes that have none; an event where there is none left, and where a node's own lies
//!           outside of the pod network or within another node's. In a dual-stack cluster a part of IPv6 behind the one of IPv4, also for
//!           nodes that have been there before the cluster spoke IPv6.
//! Never:    changes or takes away what a node has: its pods have addresses of it. A part is free again when its node's object is gone.
//! Source:   kube-controller-manager's `nodeipam` (RangeAllocator). We differ in where the search begins: at a place that follows from
//!           the node's name, so that a node that is removed and joins again has its old part, if it is free. For IPv6 it begins at the
//!           number that its part of IPv4 has, so that people recognise it.
//!
//! There is one key for all nodes: two that were decided on the same view could be given the same part.

use std::collections::BTreeSet;

use super::{Ids, Plan, Reconciler, update};
use crate::api::core::event::Occurrence;
use crate::api::registry::NODES;
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const COMPONENT: &str = "node-ipam";
/// So many nodes are given theirs at a time: one that changed meanwhile lets all of these be decided again.
const AT_ONCE: usize = 16;

/// The controller.
pub struct NodeIpam {
    /// Of IPv4, and of IPv6 where the cluster speaks it.
    pods: Vec<IpNet>,
    /// What was said already, by node.
    said: BTreeSet<(String, &'static str)>,
}

impl NodeIpam {
    /// For these addresses of all pods.
    #[must_use]
    pub fn new(pods: Ipv4Net, pods6: Option<Ipv6Net>) -> Self {
        let pods = std::iter::once(IpNet::from(pods)).chain(pods6.map(IpNet::from)).map(|range| range.trunc());
        Self { pods: pods.collect(), said: BTreeSet::new() }
    }

    /// The ranges of which a node has no part yet; the one of IPv4 comes first, and is never added to what a person gave.
    fn lacking(&self, node: &Object) -> Vec<IpNet> {
        let has: Vec<bool> = parts(node).map(|part| is_v6(&part)).collect();
        let lacks = |range: &IpNet| match is_v6(range) {
            true => !has.contains(&true) && (has.contains(&false) || !has_part(node)),
            false => !has_part(node),
        };
        self.pods.iter().filter(|range| lacks(range)).copied().collect()
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

/// How long the prefix of a node's part is: of IPv4 24, or four bits more than the pod network's where that is longer; of IPv6 64, or
/// eight bits more, so that it holds as many pods as a part of IPv4.
#[must_use]
pub fn part_prefix(pods: IpNet) -> u8 {
    match pods {
        IpNet::V4(pods) => pods.prefix_len().saturating_add(4).clamp(24, 30),
        IpNet::V6(pods) => pods.prefix_len().saturating_add(8).clamp(64, 120),
    }
}

/// The parts of a node, as far as they can be read.
fn parts(node: &Object) -> impl Iterator<Item = IpNet> {
    let all = node.list_at(&["spec", "podCIDRs"]).iter().filter_map(|value| value.as_str());
    std::iter::once(node.str_at(&["spec", "podCIDR"])).chain(all).filter_map(|text| text.parse::<IpNet>().ok())
}

fn has_part(node: &Object) -> bool {
    !node.str_at(&["spec", "podCIDR"]).is_empty() || !node.list_at(&["spec", "podCIDRs"]).is_empty()
}

fn is_v6(range: &IpNet) -> bool {
    matches!(range, IpNet::V6(_))
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// Where a search for this name begins: the number of its part of IPv4, if it has one of the pod network, and else one that follows from
/// the name.
fn start(pods: &[IpNet], name: &str, own: Option<IpNet>) -> u32 {
    match (pods.first(), own) {
        (Some(IpNet::V4(pods)), Some(IpNet::V4(own))) if pods.contains(&own) => {
            let offset = u32::from(own.network()) - u32::from(pods.network());
            offset.checked_shr(32 - u32::from(own.prefix_len())).unwrap_or_default()
        }
        // FNV-1a: 32 bits.
        _ => name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)),
    }
}

/// The free part at which a search ends that begins at this number.
fn free(pods: IpNet, start: u32, taken: &[IpNet]) -> Option<IpNet> {
    let prefix = part_prefix(pods);
    let count = 1_u32.checked_shl(prefix.checked_sub(pods.prefix_len())?.into())?;
    let behind = u32::from(pods.max_prefix_len() - prefix);
    let nth = |number: u32| match pods {
        IpNet::V4(pods) => {
            let first = u32::from(pods.network()).checked_add(number.checked_shl(behind)?)?;
            Ipv4Net::new(first.into(), prefix).ok().map(IpNet::from)
        }
        IpNet::V6(pods) => {
            let first = u128::from(pods.network()).checked_add(u128::from(number).checked_shl(behind)?)?;
            Ipv6Net::new(first.into(), prefix).ok().map(IpNet::from)
        }
    };
    let start = start % count;
    (0..count)
        .filter_map(|step| nth(start.wrapping_add(step) % count))
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
        let matters = event.after.as_ref().is_none_or(|node| !self.lacking(node).is_empty()) || event.before.is_none();
        matters.then(|| Key::new(&NODES, "", "")).into_iter().collect()
    }

    fn all_keys(&self, _view: &View) -> Vec<Key> {
        vec![Key::new(&NODES, "", "")]
    }

    fn reconcile(&mut self, view: &View, _key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let mut plan = Plan::nothing();
        let mut taken: Vec<IpNet> = view.list(&NODES, None).flat_map(|node| parts(node)).collect();
        taken.sort();
        taken.dedup();
        let names: BTreeSet<&str> = view.list(&NODES, None).map(|node| node.name()).collect();
        self.said.retain(|(name, _)| names.contains(name.as_str()));
        for node in view.list(&NODES, None) {
            let lacking = self.lacking(node);
            if lacking.is_empty() {
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
            let before: Vec<IpNet> = parts(node).filter(|part| !is_v6(part)).take(1).collect();
            let mut own = before.clone();
            for range in lacking {
                let Some(part) = free(range, start(&self.pods, node.name(), own.first().copied()), &taken) else {
                    let loss = if matches!(range, IpNet::V6(_)) {
                        "its pods have no IPv6 addresses"
                    } else {
                        "its pods are reached by no other node"
                    };
                    let words = format!(
                        "no part of the pod network {range} is left for this node: {loss}. Remove nodes that are no more, or start a cluster with a larger network.pods"
                    );
                    self.say(&mut plan, node, "CIDRNotAvailable", words);
                    // The part of IPv4 is the first of them, or there is none.
                    break;
                };
                taken.push(part);
                own.push(part);
            }
            if own.len() > before.len() {
                let mut next = Object::clone(node);
                let all: Vec<String> = own.iter().map(ToString::to_string).collect();
                next.set_at(&["spec", "podCIDR"], all.first().cloned().unwrap_or_default());
                next.set_at(&["spec", "podCIDRs"], all);
                plan.writes.push(update(&Key::of(&NODES, node), node, next));
            }
        }
        self.judge(view, &mut plan);
        plan
    }
}

/// The nodes whose part is another's as well, each with that other one: the older one keeps it; of the same age, the first by name.
fn twice(view: &View) -> Vec<(&Object, &Object)> {
    let mut all: Vec<(IpNet, &Object)> = Vec::new();
    for node in view.list(&NODES, None) {
        let mut own: Vec<IpNet> = parts(node).collect();
        own.dedup();
        all.extend(own.into_iter().map(|part| (part.trunc(), node.as_ref())));
    }
    // By first address, the widest first: what a range lies in comes before it.
    all.sort_by_key(|(part, _)| *part);
    let age = |node: &Object| (node.str_at(&["metadata", "creationTimestamp"]).to_owned(), node.name().to_owned());
    let mut around: Vec<(IpNet, &Object)> = Vec::new();
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
            let Some(part) = parts(node).find(|part| !self.pods.iter().any(|pods| pods.contains(part))) else {
                self.said.remove(&(node.name().to_owned(), "CIDROutsidePodNetwork"));
                continue;
            };
            let pods: Vec<String> = self.pods.iter().map(ToString::to_string).collect();
            let words = format!(
                "this node's part {part} lies outside of the pod network {}: it stays, since its pods have addresses of it; to give the node another one, drain it and remove it (`bramble node remove`, or `kubectl delete node`), and let it join again",
                pods.join(",")
            );
            self.say(plan, node, "CIDROutsidePodNetwork", words);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::Revision;
    use crate::rng::Rng;
    use crate::store::{Batch, Op};

    struct World(View, NodeIpam);

    impl World {
        fn new(pods: &str) -> Self {
            Self(View::new(Revision(1)), NodeIpam::new(pods.parse().unwrap(), None))
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
        world.1 = NodeIpam::new("10.50.0.0/16".parse().unwrap(), None);
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
            let part: IpNet = world.part(name).parse().unwrap();
            assert!(part.prefix_len() == 26 && !overlap(&part, &"10.244.0.0/23".parse().unwrap()), "{part}");
        }
        assert_eq!(world.part("odd"), "no range");
    }

    #[test]
    fn parts_are_of_24_bits_or_less_where_the_network_is_small() {
        for (pods, prefix) in [
            ("10.244.0.0/16", 24),
            ("10.0.0.0/8", 24),
            ("10.244.0.0/20", 24),
            ("10.244.0.0/24", 28),
            ("10.0.0.0/28", 30),
            ("fd00::/48", 64),
            ("fd00::/56", 64),
            ("fd00::/60", 68),
            ("fd00::/112", 120),
        ] {
            let pods = pods.parse().unwrap();
            assert_eq!(part_prefix(pods), prefix, "{pods}");
            let last = (1_u32 << (prefix - pods.prefix_len())) - 1;
            assert!(free(pods, last, &[]).is_some_and(|part| pods.contains(&part) && part.prefix_len() == prefix), "{pods}");
        }
        assert_eq!(free("10.0.0.0/32".parse().unwrap(), 7, &[]), None);
    }

    #[test]
    fn in_a_dual_stack_cluster_every_node_has_a_part_of_each_with_the_same_number() {
        let mut world = World::new("10.244.0.0/16");
        for name in ["old", "older"] {
            world.add(name, "");
        }
        world.settle();
        let before = ["old", "older"].map(|name| world.part(name));
        // The cluster speaks IPv6 from now on: what they have stays.
        world.1 = NodeIpam::new("10.244.0.0/16".parse().unwrap(), "fd12:3456:789a:100::/56".parse().ok());
        world.add("new", "");
        world.add("odd", "no range");
        assert_eq!(world.settle(), Vec::<String>::new());
        assert_eq!(["old", "older"].map(|name| world.part(name)), before);
        for name in ["old", "older", "new"] {
            let node = world.0.get(&Key::new(&NODES, "", name)).unwrap();
            let all: Vec<IpNet> = parts(node).skip(1).collect();
            let [IpNet::V4(v4), IpNet::V6(v6)] = all[..] else { panic!("{all:?}") };
            let number = v4.network().octets()[2];
            assert_eq!(v6.to_string(), format!("fd12:3456:789a:1{number:02x}::/64"));
        }
        assert_eq!(world.part("odd"), "no range", "what a person gave stays as it is");
        let gone = world.part("new");
        world.remove("new");
        world.add("new", "");
        world.settle();
        assert_eq!(world.part("new"), gone);
    }

    #[test]
    fn a_node_without_a_part_of_ipv6_has_its_part_of_ipv4_and_is_told() {
        let mut world = World::new("10.244.0.0/16");
        world.1 = NodeIpam::new("10.244.0.0/16".parse().unwrap(), "fd00::/119".parse().ok());
        for name in ["a", "b", "c"] {
            world.add(name, "");
        }
        assert_eq!(world.settle(), ["c CIDRNotAvailable"]);
        assert!(world.settle().is_empty() && !world.part("c").is_empty(), "said once");
        world.remove("a");
        assert!(world.settle().is_empty());
        let node = world.0.get(&Key::new(&NODES, "", "c")).unwrap();
        assert_eq!(node.list_at(&["spec", "podCIDRs"]).len(), 2);
    }
}
