//! Pods that nobody will ever finish: bound to a node that no longer exists, or deleted before they had one; and too many
//! that have ended.
//!
//! In:       a node's name, whether or not there is such a node; or the empty name, for the pods without one.
//! Out:      pods taken away.
//! Source:   kube-controller-manager `podgc`; its quarantine is 40 s and its threshold 12,500, here 10 s and 500.

use std::collections::BTreeMap;
use std::time::Duration;

use super::deletion::force;
use super::{Ids, Plan, Reconciler};
use crate::api::core::pod::Pod;
use crate::api::registry::{NODES, PODS};
use crate::api::{Key, Resource};
use crate::clock::{Now, Tick};
use crate::store::batch::MOST;
use crate::store::{ChangeEvent, Op, View};

/// A node that was removed by mistake is registered again within this time by its agent, and keeps its pods.
const QUARANTINE: Duration = Duration::from_secs(10);
/// So many pods that have ended are kept to be looked at.
const ENDED_AT_MOST: usize = 500;

/// The controller.
#[derive(Default)]
pub struct PodGc {
    /// Since when nodes are missing that pods name.
    missing: BTreeMap<String, Tick>,
}

impl Reconciler for PodGc {
    fn name(&self) -> &'static str {
        "pod_gc"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == NODES || *resource == PODS
    }

    fn keys(&self, event: &ChangeEvent, view: &View) -> Vec<Key> {
        if *event.key.resource == NODES {
            let came_or_went = event.before.is_none() || event.after.is_none();
            return if came_or_went { vec![event.key.clone()] } else { Vec::new() };
        }
        let Some(pod) = &event.after else { return Vec::new() };
        let key = Key::new(&NODES, "", Pod(pod).node_name());
        let orphan = if key.name.is_empty() { pod.is_deleting() } else { view.get(&key).is_none() };
        if orphan { vec![key] } else { Vec::new() }
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        let mut keys: Vec<Key> = view
            .list(&PODS, None)
            .map(|pod| Key::new(&NODES, "", Pod(pod).node_name()))
            .filter(|key| !key.name.is_empty() && view.get(key).is_none())
            .collect();
        keys.sort();
        keys.dedup();
        keys.push(Key::new(&NODES, "", ""));
        keys
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, _ids: &mut Ids) -> Plan {
        if key.name.is_empty() {
            return without_node(view, now);
        }
        if view.get(key).is_some() || view.pods_on(&key.name).next().is_none() {
            self.missing.remove(&key.name);
            return Plan::nothing();
        }
        let since = *self.missing.entry(key.name.clone()).or_insert(now.tick);
        let due = since.after(QUARANTINE);
        if due > now.tick {
            return Plan::look_again(due);
        }
        let writes = view.pods_on(&key.name).filter_map(|pod| force(&Key::of(&PODS, pod), pod, now.wall)).collect();
        Plan { writes, ..Plan::default() }
    }
}

fn without_node(view: &View, now: Now) -> Plan {
    let mut writes: Vec<Op> = Vec::new();
    let mut ended = Vec::new();
    for pod in view.list(&PODS, None) {
        if pod.is_deleting() && Pod(pod).node_name().is_empty() {
            writes.extend(force(&Key::of(&PODS, pod), pod, now.wall));
        } else if Pod(pod).is_terminal() {
            ended.push(pod);
        }
    }
    let surplus = ended.len().saturating_sub(ENDED_AT_MOST);
    if surplus > 0 {
        ended.sort_by_key(|pod| (Pod(pod).created(), pod.uid()));
        writes.extend(ended.into_iter().take(surplus).filter_map(|pod| force(&Key::of(&PODS, pod), pod, now.wall)));
    }
    let look_again = (writes.len() > MOST).then_some(now.tick);
    Plan { writes, look_again, ..Plan::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Object, Revision};
    use crate::rng::Rng;
    use crate::store::Batch;
    use serde_json::{Value, json};

    fn view(pods: impl Iterator<Item = Value>) -> View {
        let mut view = View::new(Revision(1));
        let pods = pods.enumerate().map(|(number, facts)| {
            let mut pod = Object::from_value(facts).unwrap();
            pod.set_at(&["metadata", "name"], format!("p{number}"));
            pod.set_at(&["metadata", "namespace"], "default");
            Op::create(Key::of(&PODS, &pod), pod)
        });
        let node = Op::create(Key::new(&NODES, "", "here"), Object::from_value(json!({"metadata": {"name": "here"}})).unwrap());
        let ops = pods.chain([node]).collect();
        view.apply(Revision(2), Batch(ops));
        view
    }

    fn gone(controller: &mut PodGc, view: &View, tick: u64) -> Vec<String> {
        let now = Now { tick: Tick(tick), ..Now::default() };
        let mut ids = Ids::new(Rng::seeded(1, "ids"));
        let keys = controller.all_keys(view);
        keys.iter().flat_map(|key| controller.reconcile(view, key, now, &mut ids).writes).map(|op| op.key.name).collect()
    }

    #[test]
    fn pods_of_a_node_that_was_removed_go_after_a_while() {
        let view = view(["here", "away", ""].into_iter().map(|node| json!({"spec": {"nodeName": node}})));
        let mut controller = PodGc::default();
        assert_eq!(gone(&mut controller, &view, 1000), Vec::<String>::new());
        assert_eq!(gone(&mut controller, &view, 10_999), Vec::<String>::new());
        assert_eq!(gone(&mut controller, &view, 11_000), ["p1"]);
    }

    #[test]
    fn a_pod_that_was_deleted_before_it_had_a_node_goes() {
        let deleted = json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:00Z"}});
        let view = view([json!({}), deleted].into_iter());
        assert_eq!(gone(&mut PodGc::default(), &view, 0), ["p1"]);
    }

    #[test]
    fn of_too_many_that_ended_the_oldest_go() {
        let view = view((0..502).map(|number| {
            json!({"metadata": {"creationTimestamp": format!("1970-01-01T00:{:02}:{:02}Z", 59 - number / 60, 59 - number % 60)},
                "spec": {"nodeName": "here"}, "status": {"phase": "Failed"}})
        }));
        assert_eq!(gone(&mut PodGc::default(), &view, 0), ["p501", "p500"]);
    }
}
