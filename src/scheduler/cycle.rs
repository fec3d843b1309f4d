//! Decides where one pod goes.
//!
//! In:       the snapshot, a pod, a generator for ties.
//! Out:      a node, or why there is none: a count for each reason, in upstream's words.
//! Flow:     from `pass.rs`; stop 6 of the life of a pod.

use std::collections::BTreeMap;

use super::candidate::Candidate;
use super::filter::{self, Rule, Rules};
use super::score::{Score, score};
use super::snapshot::Snapshot;
use crate::rng::Rng;

/// Where a pod goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Node(String),
    /// Nowhere, as things stand.
    Nowhere(Refusals),
}

/// Why no node can take a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// How many nodes there are.
    pub nodes: usize,
    /// Why none of them was even asked.
    pub all: Option<String>,
    /// How many of them gave each reason; one may give several.
    pub reasons: BTreeMap<String, usize>,
    /// The rules behind the reasons: what has to change.
    pub rules: Rules,
}

impl std::fmt::Display for Refusals {
    /// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {disk: sd}.`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        if let Some(all) = &self.all {
            return write!(f, "0/{} nodes are available: {all}.", self.nodes);
        }
        // Sorted as text, with their numbers, as upstream does.
        let mut reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

/// Chooses a node for a pod. Costs one look at each node.
pub fn schedule_one(snapshot: &Snapshot, pod: &Candidate<'_>, rng: &mut Rng) -> Decision {
    let mut refusals = Refusals::default();
    if let Some(why) = &pod.volumes.impossible {
        refusals.nodes = snapshot.nodes().count();
        refusals.all = Some(why.clone());
        refusals.rules.insert(Rule::Volumes);
        return Decision::Nowhere(refusals);
    }
    let mut best: Option<(Score, &str)> = None;
    let mut ties = 0;
    for (name, node) in snapshot.nodes() {
        refusals.nodes += 1;
        if let Err(misfit) = filter::fits(pod, node) {
            refusals.rules.insert(misfit.rule);
            for reason in misfit.reasons {
                *refusals.reasons.entry(reason).or_default() += 1;
            }
            continue;
        }
        let score = score(pod, node);
        match best.map(|(before, _)| score.cmp(&before)) {
            Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Equal) => {
                // Each of n equal nodes is taken with a chance of 1/n, in one walk.
                ties += 1;
                if rng.below(ties) == 0 {
                    best = Some((score, name));
                }
            }
            Some(std::cmp::Ordering::Greater) | None => {
                ties = 1;
                best = Some((score, name));
            }
        }
    }
    match best {
        Some((_, name)) => Decision::Node(name.to_owned()),
        None => Decision::Nowhere(refusals),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry::{NODES, PODS};
    use crate::api::{Key, Object, Revision};
    use crate::store::{Batch, Op, View};
    use serde_json::{Value, json};

    fn snapshot(nodes: Vec<(&str, Value)>, pods: Vec<Value>) -> Snapshot {
        let mut view = View::new(Revision(1));
        let nodes = nodes.into_iter().map(|(name, facts)| {
            let mut node = Object::from_value(json!({"metadata": {"name": name},
                "status": {"allocatable": {"cpu": "4", "memory": "4Gi"}, "conditions": [{"type": "Ready", "status": "True"}]}}))
            .unwrap();
            for (path, value) in facts.as_object().unwrap() {
                node.set_at(&path.split('.').collect::<Vec<_>>(), value.clone());
            }
            Op::create(Key::new(&NODES, "", name), node)
        });
        let pods = pods.into_iter().enumerate().map(|(number, value)| {
            let mut pod = Object::from_value(value).unwrap();
            pod.set_at(&["metadata", "name"], format!("p{number}"));
            pod.set_at(&["metadata", "namespace"], "default");
            Op::create(Key::of(&PODS, &pod), pod)
        });
        view.apply(Revision(2), Batch(nodes.chain(pods).collect()));
        Snapshot::from_view(&view)
    }

    fn on(node: &str, owner: &str, cpu: &str) -> Value {
        json!({"metadata": {"ownerReferences": [{"uid": owner, "controller": true}]},
            "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": cpu}}}]}})
    }

    fn decide(snapshot: &Snapshot, pod: Value) -> Decision {
        let pod = Object::from_value(pod).unwrap();
        schedule_one(snapshot, &Candidate::of(&pod), &mut Rng::seeded(1, "ties"))
    }

    #[test]
    fn the_best_node_is_the_one_a_person_would_take() {
        let none = || json!({});
        for (what, nodes, pods, spec, want) in [
            (
                "fewest of the same owner, though fuller",
                vec![("a", none()), ("b", none())],
                vec![on("a", "o", "100m"), on("b", "other", "3")],
                json!({}),
                "b",
            ),
            ("then the emptier", vec![("a", none()), ("b", none())], vec![on("a", "other", "1")], json!({}), "b"),
            (
                "rather not is last",
                vec![("a", json!({"spec.taints": [{"key": "k", "effect": "PreferNoSchedule"}]})), ("b", none())],
                vec![on("b", "o", "2")],
                json!({}),
                "b",
            ),
            (
                "preferred comes before spread",
                vec![("a", json!({"metadata.labels": {"disk": "ssd"}})), ("b", none())],
                vec![on("a", "o", "1")],
                json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1,
                    "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}}}),
                "a",
            ),
        ] {
            let pod = json!({"metadata": {"ownerReferences": [{"uid": "o", "controller": true}]}, "spec": spec});
            assert_eq!(decide(&snapshot(nodes, pods), pod), Decision::Node(want.to_owned()), "{what}");
        }
    }

    #[test]
    fn a_refusal_counts_its_reasons_in_the_words_of_kubernetes() {
        let tainted = || json!({"spec.taints": [{"key": "disk", "value": "sd", "effect": "NoSchedule"}]});
        let snapshot = snapshot(vec![("a", tainted()), ("b", json!({})), ("c", tainted())], vec![on("b", "o", "3")]);
        let asks = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "2"}}}]}});
        let Decision::Nowhere(refusals) = decide(&snapshot, asks) else { panic!() };
        assert_eq!(
            refusals.to_string(),
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint {disk: sd}."
        );
        assert_eq!(refusals.rules.len(), 2);
        let empty = Snapshot::default();
        let Decision::Nowhere(none) = decide(&empty, json!({})) else { panic!() };
        assert_eq!(none.to_string(), "no nodes available to schedule pods");
    }

    #[test]
    fn ties_are_broken_by_the_generator_and_all_are_taken_in_the_end() {
        let snapshot = snapshot(vec![("a", json!({})), ("b", json!({})), ("c", json!({}))], vec![]);
        let pod = Object::from_value(json!({})).unwrap();
        let mut rng = Rng::seeded(5, "ties");
        let taken: std::collections::BTreeSet<_> = (0..50)
            .map(|_| match schedule_one(&snapshot, &Candidate::of(&pod), &mut rng) {
                Decision::Node(name) => name,
                Decision::Nowhere(_) => panic!(),
            })
            .collect();
        assert_eq!(taken.len(), 3);
    }
}
