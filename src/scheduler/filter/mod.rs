//! Which nodes can take a pod: one rule a file, each `fits(pod, node) -> Result<(), Misfit>`, asked in upstream's order.

pub mod architecture;
pub mod node_affinity;
pub mod node_name;
pub mod ports;
pub mod resources;
pub mod taints;
pub mod unschedulable;
pub mod volumes;

use std::collections::BTreeSet;

use super::candidate::Candidate;
use super::snapshot::NodeInfo;

/// Which rule refused; tells what could change its mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The node is cordoned.
    Unschedulable,
    /// The pod wants another node by name.
    NodeName,
    /// The node has a taint that the pod does not bear.
    Taints,
    /// The pod selects other nodes.
    NodeAffinity,
    /// A port of the node is taken.
    Ports,
    /// An image of the pod is made for other machines.
    Architecture,
    /// There is not enough of something.
    Resources,
    /// Its volumes are elsewhere, or not there.
    Volumes,
    /// None: its volumes are being bound.
    Binding,
}

/// Why a node cannot take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The rule.
    pub rule: Rule,
    /// In the words of upstream; each counts for itself in the event.
    pub reasons: Vec<String>,
}

impl Misfit {
    fn new(rule: Rule, reason: impl Into<String>) -> Self {
        Self { rule, reasons: vec![reason.into()] }
    }
}

type Filter = fn(&Candidate<'_>, &NodeInfo) -> Result<(), Misfit>;

const FILTERS: [Filter; 8] = [
    unschedulable::fits,
    node_name::fits,
    taints::fits,
    node_affinity::fits,
    ports::fits,
    architecture::fits,
    resources::fits,
    volumes::fits,
];

/// Whether a node can take a pod.
///
/// # Errors
/// The first rule that says no.
pub fn fits(pod: &Candidate<'_>, node: &NodeInfo) -> Result<(), Misfit> {
    FILTERS.iter().try_for_each(|filter| filter(pod, node))
}

/// The rules that refused a pod, over all nodes.
pub type Rules = BTreeSet<Rule>;

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // `json!(…)` reads best as it is
pub(in crate::scheduler) mod test {
    use super::*;
    use crate::api::registry::NODES;
    use crate::api::{Key, Object, Revision};
    use crate::scheduler::snapshot::Snapshot;
    use crate::store::ChangeEvent;
    use serde_json::{Value, json};
    use std::sync::Arc;

    pub fn pod(spec: Value) -> Object {
        Object::from_value(json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec})).unwrap()
    }

    /// A ready node `a` with four cores, and what `facts` says at dotted paths.
    pub fn node(facts: Value) -> NodeInfo {
        let mut node = Object::from_value(json!({"metadata": {"name": "a", "labels": {}},
            "status": {"allocatable": {"cpu": "4", "memory": "4Gi", "pods": "3"}, "conditions": [{"type": "Ready", "status": "True"}]}}))
        .unwrap();
        for (path, value) in facts.as_object().unwrap() {
            node.set_at(&path.split('.').collect::<Vec<_>>(), value.clone());
        }
        let mut snapshot = Snapshot::default();
        let key = Key::new(&NODES, "", "a");
        snapshot.apply(&ChangeEvent { revision: Revision(1), key, before: None, after: Some(Arc::new(node)) });
        snapshot.nodes().next().unwrap().1.clone()
    }

    /// What the rules say of this pod on this node; "" when it fits.
    pub fn verdict(spec: Value, node: &NodeInfo) -> String {
        fits(&Candidate::of(&pod(spec)), node).map_or_else(|misfit| misfit.reasons.join(", "), |()| String::new())
    }
}
