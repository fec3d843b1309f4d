//! Whether a node lives, as everybody can read it: condition `Ready`, taints, and the readiness of its pods.
//!
//! ```text
//!            silence ≥ lost_seconds, or last will                 evict_seconds later
//! Ready=True ───────────────────────────────────▶ Ready=Unknown ─────────────────────▶ taint_eviction.rs
//!      ▲                                          taints unreachable (NoSchedule, NoExecute)
//!      └────────────── any packet ────────────────pods Ready=False
//! ```
//!
//! In:       a node, its sign of life (`signs.rs`), its pods.
//! Out:      the node's condition and taints; its pods' `Ready`.
//! Never:    takes a pod away (`taint_eviction.rs`); judges a node that has not reported since the master started before the
//!           grace is over: until then it leaves taints as they are, and shows a status not yet known as `Unknown`.
//! Source:   kube-controller-manager `nodelifecycle`, DESIGN §7.

use std::sync::{Arc, Mutex, PoisonError};

use super::signs::Signs;
use super::{Ids, Plan, Reconciler, update};
use crate::api::core::condition::Condition;
use crate::api::core::event::Occurrence;
use crate::api::core::node::{Effect, NOT_READY, Node, PRESSURES, STRAINS, Taint, UNREACHABLE, set_taints};
use crate::api::core::pod::Pod;
use crate::api::registry::{NODES, PODS};
use crate::api::{Key, Object, Resource};
use crate::clock::Now;
use crate::store::{ChangeEvent, View};

const COMPONENT: &str = "node-controller";
/// Why a node is `Unknown` that was heard before.
const SILENT: &str = "NodeStatusUnknown";
/// Why a node is `Unknown` that was never heard.
const NEVER: &str = "NodeStatusNeverUpdated";
/// Why a pod of a lost node is not ready. By this word it is found again when the node is back.
const NODE_LOST: &str = "NodeLost";

/// The controller.
pub struct NodeLifecycle {
    signs: Arc<Mutex<Signs>>,
}

impl NodeLifecycle {
    /// Reads these signs whenever it is asked.
    #[must_use]
    pub fn new(signs: Arc<Mutex<Signs>>) -> Self {
        Self { signs }
    }
}

impl Reconciler for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node_lifecycle"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == NODES || *resource == PODS
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        if *event.key.resource == NODES {
            return vec![event.key.clone()];
        }
        // A pod that says something while its node is thought lost, or comes to such a node.
        let Some(pod) = &event.after else { return Vec::new() };
        let key = Key::new(&NODES, "", Pod(pod).node_name());
        let lost = view.get(&key).is_some_and(|node| !Node(node).is_ready());
        if lost { vec![key] } else { Vec::new() }
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&NODES, None).map(|node| Key::of(&NODES, node)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        let mut signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        match view.get(key) {
            Some(node) => judge(view, key, node, &signs, now),
            // It was removed; or it was heard before its object is made, and must not be forgotten then.
            None if signs.is_lost(&key.name, now.tick) => {
                signs.forget(&key.name);
                Plan::nothing()
            }
            None if signs.reported(&key.name) => Plan::look_again(signs.lost_at(&key.name)),
            None => Plan::nothing(),
        }
    }
}

/// What is to be written about a node, given its sign of life.
fn judge(view: &View, key: &Key, node: &Arc<Object>, signs: &Signs, now: Now) -> Plan {
    let mut plan = Plan::nothing();
    let mut after = Object::clone(node);
    let lost = signs.is_lost(&key.name, now.tick);
    let ready = Condition::of(node, "Ready");
    if lost {
        let (reason, message) = if ready.is_none_or(|ready| ready.reason == NEVER) {
            (NEVER, "The agent of this node has not reported.")
        } else {
            (SILENT, "The agent of this node stopped reporting.")
        };
        if ready.is_none_or(|ready| ready.status != "Unknown") {
            Condition { kind: "Ready", status: "Unknown", reason, message }.set(&mut after, now.wall);
        }
        // What it was short of, and what its board suffered when it was last heard, is not known any more either.
        for kind in PRESSURES.into_iter().map(|(kind, _)| kind).chain(STRAINS) {
            if Condition::of(node, kind).is_some_and(|said| said.status != "Unknown") {
                Condition { kind, status: "Unknown", reason, message }.set(&mut after, now.wall);
            }
        }
        if ready.is_some_and(|ready| ready.status == "True") {
            plan.events.push(Occurrence::normal(
                node,
                COMPONENT,
                "NodeNotReady",
                format!("Node {} status is now: NodeNotReady", key.name),
            ));
        }
    } else {
        plan.look_by(signs.lost_at(&key.name));
        if signs.reported(&key.name) && ready.is_some_and(|ready| ready.status == "Unknown" && ready.reason != NEVER) {
            // It lives. What its agent says of itself overrides this with its next report.
            Condition { kind: "Ready", status: "True", reason: "KubeletReady", message: "The agent of this node reports again." }
                .set(&mut after, now.wall);
            plan.events.push(Occurrence::normal(
                node,
                COMPONENT,
                "NodeReady",
                format!("Node {} status is now: NodeReady", key.name),
            ));
        } else if ready.is_none() {
            Condition {
                kind: "Ready",
                status: "Unknown",
                reason: NEVER,
                message: "The agent of this node has not reported yet.",
            }
            .set(&mut after, now.wall);
        }
    }
    // Neither reported nor judged: what was written down before the master started stands.
    if lost || signs.reported(&key.name) {
        let taint = |name: &str| vec![Taint::new(name, Effect::NoSchedule), Taint::new(name, Effect::NoExecute)];
        let wanted = match Node(&after).ready() {
            "True" => Vec::new(),
            "False" => taint(NOT_READY),
            // Heard, and has said nothing of itself yet: a moment that passes.
            _ if !lost => taint(NOT_READY).into_iter().take(1).collect(),
            _ => taint(UNREACHABLE),
        };
        set_taints(&mut after, &[UNREACHABLE, NOT_READY], &wanted, now.wall);
        let short =
            PRESSURES.into_iter().filter(|(kind, _)| Condition::of(&after, kind).is_some_and(|said| said.status == "True"));
        let wanted: Vec<Taint> = short.map(|(_, taint)| Taint::new(taint, Effect::NoSchedule)).collect();
        set_taints(&mut after, &PRESSURES.map(|(_, taint)| taint), &wanted, now.wall);
    }
    if after != **node {
        plan.writes.push(update(key, node, after));
    }
    if lost {
        mark_pods(view, &key.name, now, &mut plan);
    } else if signs.reported(&key.name) {
        unmark_pods(view, &key.name, now, &mut plan);
    }
    plan
}

fn mark_pods(view: &View, node: &str, now: Now, plan: &mut Plan) {
    for pod in view.pods_on(node).filter(|pod| Pod(pod).is_ready() && !Pod(pod).is_terminal()) {
        let mut after = Object::clone(pod);
        let message = format!("Node {node} which was running pod {} is unresponsive", pod.name());
        Condition { kind: "Ready", status: "False", reason: NODE_LOST, message: &message }.set(&mut after, now.wall);
        plan.writes.push(update(&Key::of(&PODS, pod), pod, after));
    }
}

/// The pods ran on unseen: they are as ready as their containers were when they were last seen, until the node says more.
fn unmark_pods(view: &View, node: &str, now: Now, plan: &mut Plan) {
    let marked = |pod: &&Arc<Object>| Condition::of(pod, "Ready").is_some_and(|ready| ready.reason == NODE_LOST);
    for pod in view.pods_on(node).filter(marked) {
        let mut after = Object::clone(pod);
        let status = Condition::of(pod, "ContainersReady").map_or("True", |containers| containers.status);
        Condition { kind: "Ready", status, reason: "", message: "" }.set(&mut after, now.wall);
        plan.writes.push(update(&Key::of(&PODS, pod), pod, after));
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // `json!(…)` reads best as it is
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::clock::{Tick, Wall};
    use crate::controller::Settings;
    use crate::rng::Rng;
    use crate::store::{Batch, Op};
    use serde_json::{Value, json};

    struct World {
        view: View,
        controller: NodeLifecycle,
        signs: Arc<Mutex<Signs>>,
    }

    impl World {
        fn new(ready: Value) -> Self {
            let mut view = View::new(Revision(1));
            let node = json!({"kind": "Node", "metadata": {"name": "a", "uid": "n1"}, "status": {"conditions": ready}});
            let pod = json!({"kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": {"nodeName": "a"},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]}});
            let put = |key: Key, value: Value| Op::create(key, Object::from_value(value).unwrap());
            let ops = vec![put(Key::new(&NODES, "", "a"), node), put(Key::new(&PODS, "default", "p"), pod)];
            view.apply(Revision(2), Batch(ops));
            let signs = Arc::new(Mutex::new(Signs::new(Tick(0), Settings::default())));
            Self { view, controller: NodeLifecycle::new(signs.clone()), signs }
        }

        /// Decides and writes until nothing changes; the reasons of the events, and when to look again.
        fn at(&mut self, tick: u64) -> (Vec<String>, Option<Tick>) {
            let now = Now { tick: Tick(tick), wall: Wall(i64::try_from(tick).unwrap()) };
            let mut told = Vec::new();
            loop {
                let key = Key::new(&NODES, "", "a");
                let plan = self.controller.reconcile(&self.view, &key, now, &mut Ids::new(Rng::seeded(1, "ids")));
                told.extend(plan.events.into_iter().map(|event| event.reason));
                if plan.writes.is_empty() {
                    return (told, plan.look_again);
                }
                let revision = self.view.revision().next();
                self.view.apply(revision, Batch(plan.writes));
            }
        }

        fn shown(&self) -> (String, Vec<String>, bool) {
            let node = self.view.get(&Key::new(&NODES, "", "a")).unwrap();
            let taints =
                Node(node).taints().map(|t| format!("{}:{}", t.key.trim_start_matches("node.kubernetes.io/"), t.effect.name()));
            let pod = self.view.get(&Key::new(&PODS, "default", "p")).unwrap();
            (Node(node).ready().to_owned(), taints.collect(), Pod(pod).is_ready())
        }
    }

    fn ready(status: &str) -> Value {
        json!([{"type": "Ready", "status": status, "reason": "x", "lastTransitionTime": "1970-01-01T00:00:00Z"}])
    }

    #[test]
    fn a_silent_node_is_lost_with_its_pods_and_comes_back_with_them() {
        let mut world = World::new(ready("True"));
        world.signs.lock().unwrap().heard("a", Tick(1000));
        assert_eq!(world.at(1000), (vec![], Some(Tick(11_000))));
        assert_eq!(world.at(11_000).0, ["NodeNotReady"]);
        assert_eq!(
            world.shown(),
            ("Unknown".into(), vec!["unreachable:NoSchedule".into(), "unreachable:NoExecute".into()], false)
        );
        world.signs.lock().unwrap().heard("a", Tick(20_000));
        assert_eq!(world.at(20_000).0, ["NodeReady"]);
        assert_eq!(world.shown(), ("True".into(), vec![], true));
    }

    #[test]
    fn a_node_that_is_heard_before_its_object_is_made_is_not_lost_when_it_comes() {
        let mut world = World::new(ready("True"));
        let key = Key::new(&NODES, "", "new");
        let mut look = |tick: u64| {
            let now = Now { tick: Tick(tick), wall: Wall(0) };
            world.controller.reconcile(&world.view, &key, now, &mut Ids::new(Rng::seeded(1, "ids"))).look_again
        };
        world.signs.lock().unwrap().heard("new", Tick(100_000));
        assert_eq!(look(100_000), Some(Tick(110_000)));
        assert!(world.signs.lock().unwrap().reported("new"));
        assert_eq!(look(110_000), None);
        assert!(!world.signs.lock().unwrap().reported("new"), "removed, silent, forgotten");
    }

    #[test]
    fn a_last_will_is_believed_at_once() {
        let mut world = World::new(ready("True"));
        world.signs.lock().unwrap().heard("a", Tick(1000));
        world.signs.lock().unwrap().gone("a", Tick(2000));
        world.at(2000);
        assert_eq!(world.shown().0, "Unknown");
    }

    #[test]
    fn nothing_is_judged_before_the_grace_after_a_start() {
        let mut world = World::new(ready("True"));
        assert_eq!(world.at(29_999), (vec![], Some(Tick(30_000))));
        assert_eq!(world.shown(), ("True".into(), vec![], true));
        world.at(30_000);
        assert_eq!(world.shown().0, "Unknown");
        let mut unknown = World::new(json!([]));
        unknown.at(0);
        assert_eq!(unknown.shown(), ("Unknown".into(), vec![], true), "shown, not judged");
    }

    #[test]
    fn what_a_node_is_short_of_keeps_new_pods_away_until_it_is_not() {
        let said = |memory: &str, disk: &str| {
            let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "x", "lastTransitionTime": "1970-01-01T00:00:00Z"});
            json!([condition("MemoryPressure", memory), condition("DiskPressure", disk), condition("Ready", "True")])
        };
        let mut world = World::new(said("True", "True"));
        world.signs.lock().unwrap().heard("a", Tick(0));
        world.at(0);
        assert_eq!(world.shown().1, ["memory-pressure:NoSchedule", "disk-pressure:NoSchedule"]);
        let mut node = Object::clone(world.view.get(&Key::new(&NODES, "", "a")).unwrap());
        node.set_at(&["status", "conditions"], said("False", "True"));
        let (revision, seen) = (world.view.revision().next(), node.revision());
        world.view.apply(revision, Op::update(Key::new(&NODES, "", "a"), seen, node).into());
        world.at(100);
        assert_eq!(world.shown().1, ["disk-pressure:NoSchedule"]);
        world.at(11_000);
        let node = world.view.get(&Key::new(&NODES, "", "a")).unwrap();
        assert_eq!(Condition::of(node, "DiskPressure").unwrap().status, "Unknown");
        assert_eq!(world.shown().1, ["unreachable:NoSchedule", "unreachable:NoExecute"], "not known any more");
    }

    #[test]
    fn a_node_that_says_it_is_not_ready_is_tainted_so() {
        let mut world = World::new(ready("False"));
        world.signs.lock().unwrap().heard("a", Tick(0));
        world.at(0);
        assert_eq!(world.shown(), ("False".into(), vec!["not-ready:NoSchedule".into(), "not-ready:NoExecute".into()], true));
    }
}
