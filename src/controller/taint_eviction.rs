//! Pods leave nodes with a `NoExecute` taint that they do not bear, or bear no longer.
//!
//! In:       a node, its taints, its pods, its sign of life.
//! Out:      deletions, with the event that says so; when the next is due.
//! Source:   kube-controller-manager `tainteviction`. Where we differ:
//!
//! * **A lost node** cannot confirm that a pod has stopped, so a pod marked there would stay `Terminating` for ever, and a
//!   deployment that recreates would wait for it. A pod that a controller will replace is therefore taken out of the store at
//!   once. If the node lives on unseen, its copy runs until the node is back: then its share no longer names the pod, and the
//!   surplus is removed. Pods of a stateful set are only marked, since there must never be two; so are pods that nobody would
//!   replace, so that they are there again if the node returns.
//! * **Times** are `evict_seconds` after a node is lost, 300 s after it says that it is not ready, and whatever the pod's own
//!   tolerations say. They are counted in ticks, from when this master noticed: a wall clock that jumps evicts nobody.
//! * **Mass outage**: see `signs.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::deletion::{Propagation, delete, force};
use super::signs::Signs;
use super::{Ids, Plan, Reconciler, Settings};
use crate::api::core::event::Occurrence;
use crate::api::core::node::{Effect, NOT_READY, Node, Taint, UNREACHABLE};
use crate::api::core::pod::Pod;
use crate::api::registry::{NODES, PODS};
use crate::api::{Key, Object, Resource};
use crate::clock::{Now, Tick};
use crate::store::{ChangeEvent, Op, View};

const COMPONENT: &str = "taint-eviction-controller";

/// The controller.
pub struct TaintEviction {
    settings: Settings,
    signs: Arc<Mutex<Signs>>,
    /// Since when each node has each taint, as far as this master has seen.
    noticed: BTreeMap<String, BTreeMap<Taint, Tick>>,
}

impl TaintEviction {
    /// Reads these signs whenever it is asked.
    #[must_use]
    pub fn new(settings: Settings, signs: Arc<Mutex<Signs>>) -> Self {
        Self { settings, signs, noticed: BTreeMap::new() }
    }
}

impl Reconciler for TaintEviction {
    fn name(&self) -> &'static str {
        "taint_eviction"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == NODES || *resource == PODS
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        if *event.key.resource == NODES {
            return vec![event.key.clone()];
        }
        let Some(pod) = &event.after else { return Vec::new() };
        let key = Key::new(&NODES, "", Pod(pod).node_name());
        let tainted = view.get(&key).is_some_and(|node| no_execute(node).next().is_some());
        if tainted { vec![key] } else { Vec::new() }
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&NODES, None).filter(|node| no_execute(node).next().is_some()).map(|node| Key::of(&NODES, node)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let taints: Vec<Taint> = view.get(key).map(|node| no_execute(node).collect()).unwrap_or_default();
        if taints.is_empty() {
            self.noticed.remove(&key.name);
            return Plan::nothing();
        }
        let noticed = self.noticed.entry(key.name.clone()).or_default();
        noticed.retain(|taint, _| taints.contains(taint));
        for taint in taints {
            noticed.entry(taint).or_insert(now.tick);
        }
        let signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        evict(view, &key.name, noticed, &signs, self.settings, now)
    }
}

fn no_execute(node: &Arc<Object>) -> impl Iterator<Item = Taint> + '_ {
    Node(node).taints().filter(|taint| taint.effect == Effect::NoExecute)
}

fn evict(view: &View, node: &str, taints: &BTreeMap<Taint, Tick>, signs: &Signs, settings: Settings, now: Now) -> Plan {
    let mut plan = Plan::nothing();
    let lost = signs.is_lost(node, now.tick);
    for object in view.pods_on(node) {
        let pod = Pod(object);
        let replaceable = pod.owner().is_some_and(|owner| owner.kind != "StatefulSet");
        // One that is leaving anyway waits for its node, unless that is lost and others will do its work.
        if pod.is_terminal() || (pod.is_terminating() && !(lost && replaceable)) {
            continue;
        }
        let due = taints.iter().filter_map(|(taint, &noticed)| due(pod, node, taint, noticed, signs, settings, now)).min();
        let Some(due) = due else { continue };
        if due > now.tick {
            plan.look_by(due);
            continue;
        }
        let key = Key::of(&PODS, object);
        if let Some(op) = removal(&key, object, lost && replaceable, now) {
            let message = format!("Marking for deletion Pod {}/{}", key.namespace, key.name);
            plan.events.push(Occurrence::normal(object, COMPONENT, "TaintManagerEviction", message));
            plan.writes.push(op);
        }
    }
    if lost && signs.counts_from(node, now.tick).is_none() {
        // All are silent: the first that is heard rings the bell for itself only.
        plan.look_by(now.tick.after(Duration::from_secs(1)));
    }
    plan
}

/// When this taint takes this pod away; `None` when it does not.
fn due(pod: Pod<'_>, node: &str, taint: &Taint, noticed: Tick, signs: &Signs, settings: Settings, now: Now) -> Option<Tick> {
    let unreachable = taint.key == UNREACHABLE;
    let since = if unreachable {
        if !signs.is_lost(node, now.tick) {
            // It is back; the taint goes with the next look.
            return None;
        }
        signs.counts_from(node, now.tick)?
    } else {
        noticed
    };
    let tolerations: Vec<Option<i64>> = pod.tolerations().filter(|t| t.tolerates(taint)).map(|t| t.seconds).collect();
    if tolerations.is_empty() {
        let patience = match taint.key.as_str() {
            UNREACHABLE => settings.evict,
            NOT_READY => settings.evict_not_ready,
            _ => Duration::ZERO,
        };
        return Some(since.after(patience));
    }
    // The shortest of those that end; a toleration without an end does not lengthen one that has one.
    let seconds = tolerations.into_iter().flatten().min()?;
    Some(since.after(Duration::from_secs(u64::try_from(seconds).unwrap_or_default())))
}

fn removal(key: &Key, pod: &Object, out_of_reach: bool, now: Now) -> Option<Op> {
    if out_of_reach { force(key, pod, now.wall) } else { delete(key, pod, Propagation::Background, now.wall) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::clock::Wall;
    use crate::rng::Rng;
    use crate::store::{Batch, Change};
    use serde_json::{Value, json};

    const OWNED: &str = r#"[{"kind": "ReplicaSet", "apiVersion": "apps/v1", "uid": "r", "name": "r", "controller": true}]"#;

    fn pod(owned: bool, tolerations: Value) -> Value {
        let owners: Value = if owned { serde_json::from_str(OWNED).unwrap() } else { json!([]) };
        json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "default", "ownerReferences": owners},
            "spec": {"nodeName": "a", "tolerations": tolerations}, "status": {"phase": "Running"}})
    }

    fn view(taint: &str, pod: Value) -> View {
        let mut view = View::new(Revision(1));
        let node = json!({"metadata": {"name": "a"}, "spec": {"taints": [{"key": taint, "effect": "NoExecute"}]}});
        let put = |key: Key, value: Value| Op::create(key, Object::from_value(value).unwrap());
        view.apply(Revision(2), Batch(vec![put(Key::new(&NODES, "", "a"), node), put(Key::new(&PODS, "default", "p"), pod)]));
        view
    }

    /// Node `a` was heard at 0 and `b` is heard all the time.
    fn controller(others_live: bool) -> TaintEviction {
        let mut signs = Signs::new(Tick(0), Settings::default());
        signs.heard("a", Tick(0));
        if others_live {
            for second in 0..1000 {
                signs.heard("b", Tick(second * 1000));
            }
        }
        TaintEviction::new(Settings::default(), Arc::new(Mutex::new(signs)))
    }

    fn at(controller: &mut TaintEviction, view: &View, tick: u64) -> Plan {
        let now = Now { tick: Tick(tick), wall: Wall(0) };
        controller.reconcile(view, &Key::new(&NODES, "", "a"), now, &mut Ids::new(Rng::seeded(1, "ids")))
    }

    #[test]
    fn pods_of_a_lost_node_go_when_their_time_has_come() {
        let tolerates = |seconds: Value| json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        for (what, owned, tolerations, due) in [
            ("by default", true, json!([]), Some(18_000)),
            ("not replaced", false, json!([]), Some(18_000)),
            ("as it says", true, tolerates(json!(60)), Some(70_000)),
            ("at once", true, tolerates(json!(0)), Some(10_000)),
            ("never", true, tolerates(Value::Null), None),
            ("everything", true, json!([{"operator": "Exists"}]), None),
        ] {
            let view = view(UNREACHABLE, pod(owned, tolerations));
            let mut controller = controller(true);
            let first = at(&mut controller, &view, 10_000);
            match due {
                Some(10_000) => assert_eq!(first.writes.len(), 1, "{what}"),
                Some(due) => {
                    assert_eq!((first.writes.len(), first.look_again), (0, Some(Tick(due))), "{what}");
                    let plan = at(&mut controller, &view, due);
                    let gone = matches!(plan.writes.first().unwrap().change, Change::Delete);
                    assert_eq!(gone, owned, "{what}: what is replaced is gone, what is not is marked");
                    assert_eq!(plan.events.first().unwrap().reason, "TaintManagerEviction");
                }
                None => assert!(at(&mut controller, &view, 900_000).writes.is_empty(), "{what}"),
            }
        }
    }

    #[test]
    fn nobody_is_evicted_while_all_nodes_are_silent_nor_when_the_node_is_back() {
        let view = view(UNREACHABLE, pod(true, json!([])));
        let mut dark = controller(false);
        assert!(at(&mut dark, &view, 500_000).writes.is_empty());
        dark.signs.lock().unwrap().heard("b", Tick(500_000));
        assert_eq!(at(&mut dark, &view, 500_000).look_again, Some(Tick(508_000)), "the time begins anew");
        dark.signs.lock().unwrap().heard("a", Tick(505_000));
        assert!(at(&mut dark, &view, 508_000).writes.is_empty(), "it is back");
    }

    #[test]
    fn a_stateful_pod_is_never_replaced_before_its_node_says_so() {
        let mut stateful = pod(true, json!([]));
        stateful["metadata"]["ownerReferences"][0]["kind"] = "StatefulSet".into();
        let plan = at(&mut controller(true), &view(UNREACHABLE, stateful), 18_000);
        assert!(matches!(&plan.writes[0].change, Change::Put(after) if after.is_deleting()));
    }

    #[test]
    fn other_taints_take_pods_by_the_rules_of_kubernetes() {
        for (taint, tolerations, due) in [
            ("maintenance", json!([]), Some(1000)),
            ("maintenance", json!([{"key": "maintenance", "operator": "Exists", "tolerationSeconds": 5}]), Some(6000)),
            ("maintenance", json!([{"key": "maintenance", "operator": "Exists"}]), None),
            (NOT_READY, json!([]), Some(301_000)),
        ] {
            let view = view(taint, pod(true, tolerations));
            let mut controller = controller(true);
            let first = at(&mut controller, &view, 1000);
            let found = if first.writes.is_empty() { first.look_again } else { Some(Tick(1000)) };
            // It lives, so its pods get their grace.
            assert!(first.writes.iter().all(|op| matches!(&op.change, Change::Put(after) if after.is_deleting())));
            assert_eq!(found, due.map(Tick), "{taint}");
        }
    }
}
