//! As many pods as a replica set wants, and its status.
//!
//! In:       a replica set, the pods that it owns, pods that belong to nobody.
//! Out:      pods to create, to adopt, to release or to delete, and the counts in `status`.
//! Never:    revives a pod: one that ended, or is on its way out, does not count and is replaced.
//! Source:   kube-controller-manager `replica_set.go`, `controller_utils.go` (ActivePodsWithRanks). Left out: expectations
//!           (each pass reads the truth) and slow start (a refused pod is one conflict here, not a request).
//! Flow:     stop 5 of the life of a pod: from `controller/deployment.rs`, on to `scheduler/cycle.rs`.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::adoption::adopted;
use super::deletion::{Propagation, delete};
use super::{Ids, Plan, Reconciler, update};
use crate::api::apps::replicaset::{ReplicaSet, selects};
use crate::api::core::event::Occurrence;
use crate::api::core::pod::Pod;
use crate::api::core::priority;
use crate::api::default::pod::{initial_status, tolerate_memory_pressure};
use crate::api::registry::{NAMESPACES, PODS, PRIORITY_CLASSES, REPLICA_SETS, SERVICE_ACCOUNTS};
use crate::api::time::{parse, rfc3339};
use crate::api::{Key, Object, Resource};
use crate::clock::{Now, Wall};
use crate::store::batch::MOST;
use crate::store::{ChangeEvent, Op, View};

const COMPONENT: &str = "replicaset-controller";
/// The annotation by which a person says which pod to spare.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// A generated name is cut so that it fits into a label with its five last characters.
const LONGEST_BASE: usize = 58;

/// The controller.
pub struct ReplicaSets;

impl Reconciler for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn watches(&self, resource: &Resource) -> bool {
        *resource == REPLICA_SETS || *resource == PODS
    }

    fn keys(&self, event: &ChangeEvent, _view: &View) -> Vec<Key> {
        if *event.key.resource == REPLICA_SETS {
            return vec![event.key.clone()];
        }
        let mut keys: Vec<Key> = [&event.before, &event.after]
            .into_iter()
            .flatten()
            .filter_map(|pod| pod.controller())
            .filter(|owner| owner.kind == REPLICA_SETS.kind && owner.api_version == REPLICA_SETS.api_version())
            .map(|owner| Key::new(&REPLICA_SETS, &event.key.namespace, owner.name))
            .collect();
        keys.dedup();
        keys
    }

    fn all_keys(&self, view: &View) -> Vec<Key> {
        view.list(&REPLICA_SETS, None).map(|object| Key::of(&REPLICA_SETS, object)).collect()
    }

    fn reconcile(&mut self, view: &View, key: &Key, now: Now, ids: &mut Ids) -> Plan {
        let Some(object) = view.get(key) else { return Plan::nothing() };
        plan(view, key, object, now, ids)
    }
}

fn plan(view: &View, key: &Key, object: &Arc<Object>, now: Now, ids: &mut Ids) -> Plan {
    let set = ReplicaSet(object);
    let mut plan = Plan::nothing();
    let Some(selector) = set.selector() else { return plan };
    // A namespace on its way out takes no pods; the set goes as well, soon.
    let going = object.is_deleting()
        || view.get(&Key::new(&NAMESPACES, "", &key.namespace)).is_some_and(|namespace| namespace.is_deleting());

    let mut active: Vec<(&Key, &Arc<Object>)> = Vec::new();
    for (pod_key, pod) in view.owned_by(&object.uid()) {
        let managed = *pod_key.resource == PODS && pod.controller().is_some_and(|owner| owner.uid == object.uid().0);
        if !managed {
            continue;
        }
        if !selects(&selector, pod) {
            // Somebody changed its labels, to look at it in peace: it is on its own now.
            if !object.is_deleting() && !pod.is_deleting() {
                plan.writes.push(update(pod_key, pod, released(pod, object)));
            }
        } else if Pod(pod).is_active() {
            active.push((pod_key, pod));
        }
    }

    let wanted = usize::try_from(set.replicas()).unwrap_or_default();
    if !going {
        if active.len() < wanted || set.status("observedGeneration") != object.generation().0 {
            // Look for pods that belong to nobody before making new ones. Those that turn up later come by way of `Adoption`.
            for pod in view.list(&PODS, Some(&key.namespace)) {
                if pod.controller().is_none() && Pod(pod).is_active() && selects(&selector, pod) {
                    let pod_key = Key::of(&PODS, pod);
                    plan.writes.push(update(&pod_key, pod, adopted(pod, object)));
                }
            }
        }
        let adopted = plan.writes.len();
        if adopted > 0 {
            // Count again when it stands.
            plan.look_by(now.tick);
        } else if active.len() < wanted {
            create(view, object, (wanted - active.len()).min(MOST - 1), now, ids, &mut plan);
            if wanted - active.len() > MOST - 1 {
                plan.look_by(now.tick);
            }
        } else if active.len() > wanted {
            let surplus = active.len() - wanted;
            let ranks = ranks(view, object, &active);
            for (pod_key, pod) in to_delete(&active, &ranks, surplus, now.wall).into_iter().take(MOST - 1) {
                if let Some(op) = delete(pod_key, pod, Propagation::Background, now.wall) {
                    plan.events.push(Occurrence::normal(
                        object,
                        COMPONENT,
                        "SuccessfulDelete",
                        format!("Deleted pod: {}", pod.name()),
                    ));
                    plan.writes.push(op);
                }
            }
            if surplus > MOST - 1 {
                plan.look_by(now.tick);
            }
        }
    }
    status(key, object, &active, now, &mut plan);
    plan
}

fn create(view: &View, set: &Object, count: usize, now: Now, ids: &mut Ids, plan: &mut Plan) {
    for _ in 0..count {
        let pod = match new_pod(view, set, now.wall, ids) {
            Ok(pod) => pod,
            Err(why) => {
                // The others would be refused for the same reason; the next round tries again.
                let message = format!("Error creating: pods \"{}-\" is forbidden: {why}", set.name());
                plan.events.push(Occurrence::warning(set, COMPONENT, "FailedCreate", message));
                return;
            }
        };
        let key = Key::of(&PODS, &pod);
        if view.get(&key).is_some() || plan.writes.iter().any(|op| op.key == key) {
            // The name is taken: one in fourteen million. The next look makes up for it.
            plan.look_by(now.tick);
            continue;
        }
        plan.events.push(Occurrence::normal(set, COMPONENT, "SuccessfulCreate", format!("Created pod: {}", key.name)));
        plan.writes.push(Op::create(key, pod));
    }
}

/// A pod from the template of a set, as the API would let it in; why not, when it would not.
fn new_pod(view: &View, set: &Object, now: Wall, ids: &mut Ids) -> Result<Object, String> {
    let base: String = format!("{}-", set.name()).chars().take(LONGEST_BASE).collect();
    let mut pod = Object::default();
    pod.set_at(&["apiVersion"], "v1");
    pod.set_at(&["kind"], "Pod");
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = set.at(&["spec", "template", "metadata", field]).filter(|value| !value.is_null()) {
            pod.set_at(&["metadata", field], value.clone());
        }
    }
    pod.set_at(&["metadata", "name"], format!("{base}{}", ids.suffix()));
    pod.set_at(&["metadata", "generateName"], base);
    pod.set_at(&["metadata", "namespace"], set.namespace());
    pod.set_at(&["metadata", "uid"], ids.uid());
    pod.set_at(&["metadata", "creationTimestamp"], rfc3339(now));
    pod.set_at(&["metadata", "generation"], 1);
    pod.set_at(&["metadata", "ownerReferences"], json!([owner_reference(set)]));
    pod.set_at(&["spec"], set.at(&["spec", "template", "spec"]).cloned().unwrap_or_else(|| json!({})));
    let account = match pod.str_at(&["spec", "serviceAccountName"]) {
        "" => "default",
        account => account,
    };
    let account = Key::new(&SERVICE_ACCOUNTS, set.namespace(), account);
    priority::pull_secrets(&mut pod, view.get(&account).map(AsRef::as_ref));
    priority::resolve(&mut pod, view.list(&PRIORITY_CLASSES, None).map(AsRef::as_ref))?;
    (PODS.strategy.default)(&mut pod);
    tolerate_memory_pressure(&mut pod);
    let status = initial_status(&pod);
    pod.set_at(&["status"], status);
    Ok(pod)
}

/// The reference by which a controller owns what it makes.
pub(super) fn owner_reference(owner: &Object) -> Value {
    json!({
        "apiVersion": owner.api_version(),
        "kind": owner.kind(),
        "name": owner.name(),
        "uid": owner.uid().0,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

fn released(pod: &Object, set: &Object) -> Object {
    let mut after = pod.clone();
    let uid = set.uid().0;
    let left: Vec<Value> = pod
        .list_at(&["metadata", "ownerReferences"])
        .iter()
        .filter(|owner| owner.get("uid").and_then(Value::as_str) != Some(&uid))
        .cloned()
        .collect();
    if left.is_empty() {
        after.remove_at(&["metadata", "ownerReferences"]);
    } else {
        after.set_at(&["metadata", "ownerReferences"], left);
    }
    after
}

/// How many pods of this set and its siblings (the other sets of the same deployment) each node carries.
fn ranks<'a>(view: &'a View, set: &Object, active: &[(&Key, &'a Arc<Object>)]) -> BTreeMap<&'a str, usize> {
    let mut ranks = BTreeMap::new();
    let Some(owner) = set.controller() else {
        for (_, pod) in active {
            *ranks.entry(Pod(pod).node_name()).or_default() += 1;
        }
        return ranks;
    };
    for (_, sibling) in view.owned_by(&owner.uid.into()) {
        for (key, pod) in view.owned_by(&sibling.uid()) {
            if *key.resource == PODS && Pod(pod).is_active() {
                *ranks.entry(Pod(pod).node_name()).or_default() += 1;
            }
        }
    }
    ranks
}

/// The pods that a smaller set can do without best, worst first.
fn to_delete<'a, 'k>(
    active: &[(&'k Key, &'a Arc<Object>)],
    ranks: &BTreeMap<&str, usize>,
    count: usize,
    now: Wall,
) -> Vec<(&'k Key, &'a Arc<Object>)> {
    let mut order = active.to_vec();
    order.sort_by(|(_, a), (_, b)| expendable(Pod(a), Pod(b), ranks, now));
    order.truncate(count);
    order
}

/// `Less` when `a` goes before `b`.
///
/// Source: upstream `ActivePodsWithRanks.Less`, with its logarithmic ages: pods of about the same age are told apart by
/// uid, so that not always the newest go.
fn expendable(a: Pod<'_>, b: Pod<'_>, ranks: &BTreeMap<&str, usize>, now: Wall) -> Ordering {
    let bound = |pod: Pod<'_>| !pod.node_name().is_empty();
    let phase = |pod: Pod<'_>| match pod.phase() {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |pod: Pod<'_>| pod.0.annotation(DELETION_COST).and_then(|text| text.parse::<i32>().ok()).unwrap_or_default();
    let rank = |pod: Pod<'_>| ranks.get(pod.node_name()).copied().unwrap_or_default();
    let ready_age = |pod: Pod<'_>| if pod.is_ready() { log_age(pod.ready_since(), now) } else { 0 };
    let created = |pod: Pod<'_>| parse(pod.0.str_at(&["metadata", "creationTimestamp"]));
    bound(a)
        .cmp(&bound(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| a.is_ready().cmp(&b.is_ready()))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| rank(b).cmp(&rank(a)))
        .then_with(|| ready_age(a).cmp(&ready_age(b)))
        .then_with(|| b.restarts().cmp(&a.restarts()))
        .then_with(|| log_age(created(a), now).cmp(&log_age(created(b), now)))
        .then_with(|| a.0.uid().cmp(&b.0.uid()))
}

/// The power of two of an age.
fn log_age(since: Option<Wall>, now: Wall) -> i32 {
    let age = since.map_or(0, |since| now.0.saturating_sub(since.0));
    age.checked_ilog2().map_or(-1, |log| i32::try_from(log).unwrap_or(i32::MAX))
}

fn status(key: &Key, object: &Arc<Object>, active: &[(&Key, &Arc<Object>)], now: Now, plan: &mut Plan) {
    let set = ReplicaSet(object);
    let template_labels: Vec<(&str, &str)> = object.strings_at(&["spec", "template", "metadata", "labels"]).collect();
    let (mut labeled, mut ready, mut available) = (0, 0, 0);
    for (_, pod) in active {
        labeled += i64::from(template_labels.iter().all(|(label, value)| pod.label(label) == Some(value)));
        ready += i64::from(Pod(pod).is_ready());
        match Pod(pod).available(set.min_ready_seconds(), now.wall) {
            Ok(()) => available += 1,
            Err(None) => {}
            Err(Some(missing)) => {
                plan.look_by(now.tick.after(std::time::Duration::from_millis(u64::try_from(missing).unwrap_or_default())));
            }
        }
    }
    let mut after = Object::clone(object);
    // What is 0 is left out, as upstream does; only `replicas` is always told.
    after.set_at(&["status", "replicas"], i64::try_from(active.len()).unwrap_or(i64::MAX));
    for (field, count) in [
        ("fullyLabeledReplicas", labeled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
        ("observedGeneration", object.generation().0),
    ] {
        if count == 0 {
            after.remove_at(&["status", field]);
        } else {
            after.set_at(&["status", field], count);
        }
    }
    if after.at(&["status"]) != object.at(&["status"]) {
        plan.writes.push(update(key, object, after));
    }
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // `json!(…)` reads best as it is
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::clock::Tick;
    use crate::rng::Rng;
    use crate::store::{Batch, Change, Expect};

    const NOW: Now = Now { tick: Tick(1_000_000), wall: Wall(1_000_000_000) };

    fn object(value: Value) -> Object {
        Object::from_value(value).unwrap()
    }

    fn set(replicas: i64) -> Object {
        object(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "web", "namespace": "default", "uid": "rs1", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}))
    }

    /// `facts`: what differs from a running, ready pod of the set on node `a`.
    fn pod(name: &str, facts: Value) -> Object {
        let mut pod = object(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "web"},
                "creationTimestamp": rfc3339(Wall(0)), "ownerReferences": [owner_reference(&set(0))]},
            "spec": {"nodeName": "a", "containers": []},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(Wall(0))}]}}));
        for (path, value) in facts.as_object().unwrap() {
            let path: Vec<&str> = path.split('.').collect();
            if value.is_null() {
                pod.remove_at(&path);
            } else {
                pod.set_at(&path, value.clone());
            }
        }
        pod
    }

    fn view(set: Object, pods: Vec<Object>) -> View {
        let mut view = View::new(Revision(1));
        let puts = pods.into_iter().map(|pod| (Key::of(&PODS, &pod), pod)).chain([(Key::of(&REPLICA_SETS, &set), set)]);
        let ops = puts.map(|(key, object)| Op { key, expect: Expect::Any, change: Change::Put(object) }).collect();
        view.apply(Revision(2), Batch(ops));
        view
    }

    fn decide(view: &View) -> Plan {
        ReplicaSets.reconcile(view, &Key::new(&REPLICA_SETS, "default", "web"), NOW, &mut Ids::new(Rng::seeded(1, "ids")))
    }

    fn deleted(plan: &Plan) -> Vec<&str> {
        let gone = |op: &&Op| match &op.change {
            Change::Delete => true,
            Change::Put(object) => object.is_deleting(),
        };
        plan.writes.iter().filter(gone).map(|op| op.key.name.as_str()).collect()
    }

    fn created(plan: &Plan) -> usize {
        plan.writes.iter().filter(|op| op.expect == Expect::Absent).count()
    }

    #[test]
    fn missing_pods_are_made_from_the_template() {
        let plan = decide(&view(set(3), vec![]));
        assert_eq!(created(&plan), 3);
        let Change::Put(pod) = &plan.writes[0].change else { panic!() };
        assert!(pod.name().starts_with("web-") && pod.name().len() == 9, "{}", pod.name());
        assert_eq!(pod.controller().unwrap().uid, "rs1");
        assert_eq!(pod.label("app"), Some("web"));
        assert_eq!(pod.str_at(&["status", "phase"]), "Pending");
        assert_eq!(pod.str_at(&["spec", "restartPolicy"]), "Always", "defaults are filled in");
        assert_eq!(plan.events.len(), 3);
    }

    #[test]
    fn a_pass_makes_at_most_a_batch_and_looks_again_at_once() {
        let plan = decide(&view(set(1000), vec![]));
        assert_eq!((plan.writes.len(), plan.look_again), (100, Some(NOW.tick)));
    }

    #[test]
    fn pods_that_ended_or_are_leaving_are_replaced() {
        for (what, facts, made) in [
            ("runs", json!({}), 0),
            ("failed", json!({"status.phase": "Failed"}), 1),
            ("succeeded", json!({"status.phase": "Succeeded"}), 1),
            ("leaving", json!({"metadata.deletionTimestamp": "1970-01-01T00:00:00Z"}), 1),
            ("not ready", json!({"status.conditions": []}), 0),
        ] {
            assert_eq!(created(&decide(&view(set(1), vec![pod("p", facts)]))), made, "{what}");
        }
    }

    #[test]
    fn the_pod_that_helps_least_goes_first() {
        let at = |ms: i64| rfc3339(Wall(ms));
        let ready = |ms: i64| json!([{"type": "Ready", "status": "True", "lastTransitionTime": at(ms)}]);
        for (what, worse, better) in [
            ("unbound", json!({"spec.nodeName": ""}), json!({})),
            ("pending", json!({"status.phase": "Pending"}), json!({})),
            ("not ready", json!({"status.conditions": []}), json!({})),
            ("cheap", json!({}), json!({"metadata.annotations": {DELETION_COST: "5"}})),
            ("ready for less time", json!({"status.conditions": ready(999_000_000)}), json!({})),
            ("restarted more", json!({"status.containerStatuses": [{"restartCount": 3}]}), json!({})),
            ("younger", json!({"metadata.creationTimestamp": at(999_000_000)}), json!({})),
        ] {
            // Whatever their names.
            for (first, second) in [("a", "b"), ("b", "a")] {
                let plan = decide(&view(set(1), vec![pod(first, worse.clone()), pod(second, better.clone())]));
                assert_eq!(deleted(&plan), [first], "{what}");
            }
        }
        let crowded = vec![pod("x", json!({"spec.nodeName": "b"})), pod("y", json!({})), pod("z", json!({}))];
        assert_eq!(deleted(&decide(&view(set(2), crowded))), ["y"], "two on one node");
    }

    #[test]
    fn a_pod_of_nobody_is_taken_in_before_new_ones_are_made() {
        let orphan = pod("orphan", json!({"metadata.ownerReferences": null}));
        let plan = decide(&view(set(1), vec![orphan.clone()]));
        assert_eq!(created(&plan), 0);
        let Change::Put(after) = &plan.writes[0].change else { panic!() };
        assert_eq!(after.controller().map(|owner| owner.uid), Some("rs1"));
        for facts in [json!({"metadata.labels": {"app": "x"}}), json!({"status.phase": "Failed"})] {
            let mut other = orphan.clone();
            for (path, value) in facts.as_object().unwrap() {
                other.set_at(&path.split('.').collect::<Vec<_>>(), value.clone());
            }
            assert_eq!(created(&decide(&view(set(1), vec![other]))), 1);
        }
    }

    #[test]
    fn a_pod_whose_labels_no_longer_match_is_let_go() {
        let plan = decide(&view(set(1), vec![pod("p", json!({"metadata.labels": {"app": "debug"}}))]));
        let Change::Put(after) = &plan.writes[0].change else { panic!() };
        assert_eq!((after.name(), after.owners().count()), ("p", 0));
        assert_eq!(plan.look_again, Some(NOW.tick), "and replaced next");
    }

    #[test]
    fn status_counts_and_then_is_silent() {
        let pods = vec![
            pod("a", json!({})),
            pod("b", json!({"status.conditions": []})),
            pod("c", json!({"metadata.labels": {"app": "web"}, "status.phase": "Failed"})),
        ];
        let mut young = set(2);
        young.set_at(&["spec", "minReadySeconds"], 10);
        let mut view = view(young, pods);
        let plan = decide(&view);
        let Change::Put(after) = &plan.writes[0].change else { panic!() };
        assert_eq!(
            after.at(&["status"]),
            Some(
                &json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 1, "availableReplicas": 1, "observedGeneration": 1})
            )
        );
        view.apply(Revision(3), Batch(plan.writes));
        assert!(decide(&view).is_idle());
    }

    #[test]
    fn a_pod_that_is_ready_for_too_short_is_looked_at_when_it_is_long_enough() {
        let mut patient = set(1);
        patient.set_at(&["spec", "minReadySeconds"], 10);
        let just = json!([{"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(Wall(NOW.wall.0 - 4000))}]);
        let plan = decide(&view(patient, vec![pod("p", json!({"status.conditions": just}))]));
        assert_eq!(plan.look_again, Some(Tick(NOW.tick.0 + 6000)));
    }

    #[test]
    fn a_set_or_a_namespace_on_its_way_out_makes_no_pods() {
        let mut going = set(2);
        going.set_at(&["metadata", "deletionTimestamp"], "1970-01-01T00:00:00Z");
        assert_eq!(created(&decide(&view(going, vec![]))), 0);
        let mut world = view(set(2), vec![]);
        let ns = object(json!({"metadata": {"name": "default", "deletionTimestamp": "1970-01-01T00:00:00Z"}}));
        world.apply(Revision(3), Op::create(Key::new(&NAMESPACES, "", "default"), ns).into());
        assert_eq!(created(&decide(&world)), 0);
    }
}
