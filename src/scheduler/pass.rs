//! Many pods at once: what changed goes into the snapshot, who waits is decided, the answers are one batch.
//!
//! In:       changes in order; the view of the moment; which writes were lost.
//! Out:      [`Pass`]: at most a batch of writes, each with the pod it is about and what to tell when it stands.
//! Flow:     from `run.rs`, by way of `cycle.rs`, back to `run.rs`.

use std::sync::Arc;

use super::NAME;
use super::candidate::Candidate;
use super::cycle::{Decision, schedule_one};
use super::filter::Rule;
use super::images::{Ask, Images, Next};
use super::preempt::{Room, evict, room};
use super::queue::Queue;
use super::snapshot::{Meaning, Snapshot};
use super::volumes::Needs;
use crate::api::core::condition::Condition;
use crate::api::core::event::Occurrence;
use crate::api::core::pod::Pod;
use crate::api::image::Platform;
use crate::api::registry::PODS;
use crate::api::{Key, Object};
use crate::clock::{Now, Tick};
use crate::rng::Rng;
use crate::store::{ChangeEvent, Op, View};

/// What the scheduler knows between passes.
pub struct Scheduler {
    snapshot: Snapshot,
    queue: Queue,
    images: Images,
    ties: Rng,
}

/// What one pass decided.
#[derive(Debug, Default)]
pub struct Pass {
    /// Bindings and conditions, each of another pod; and what has to be so of claims and volumes before pods can be bound.
    pub writes: Vec<Op>,
    /// What to tell about each, once it is written; by the key of the pod.
    pub events: Vec<(Key, Occurrence)>,
    /// What to ask nodes before some of the pods can be decided.
    pub asks: Vec<Ask>,
}

impl Pass {
    /// Whether these pods can be written about as well, and one more: none of them is yet, and the batch stays a batch.
    fn has_room_for(&self, pods: &[Key], limit: usize) -> bool {
        self.writes.len() + pods.len() < limit && !self.writes.iter().any(|op| pods.contains(&op.key))
    }
}

impl Scheduler {
    /// From all that is stored. `ties` decides between equal nodes.
    #[must_use]
    pub fn new(view: &View, ties: Rng) -> Self {
        let mut queue = Queue::default();
        for pod in view.list(&PODS, None).filter(|pod| waits(pod)) {
            queue.add(Key::of(&PODS, pod), Pod(pod).priority());
        }
        Self { snapshot: Snapshot::from_view(view), queue, images: Images::default(), ties }
    }

    /// Follows a change.
    pub fn absorb(&mut self, event: &ChangeEvent) {
        let meaning = self.snapshot.apply(event);
        self.queue.wake(meaning);
        if *event.key.resource != PODS {
            return;
        }
        match event.after.as_ref().filter(|pod| waits(pod)) {
            None => self.queue.remove(&event.key),
            Some(after) => {
                let same = |before: &Arc<Object>| {
                    waits(before)
                        && before.uid() == after.uid()
                        && before.at(&["spec"]) == after.at(&["spec"])
                        && before.at(&["metadata", "labels"]) == after.at(&["metadata", "labels"])
                };
                if event.before.as_ref().is_some_and(same) {
                    self.queue.ensure(event.key.clone(), Pod(after).priority());
                } else {
                    self.queue.add(event.key.clone(), Pod(after).priority());
                }
            }
        }
    }

    /// Decides the next pods, at most `limit`; each counts as bound from now on.
    pub fn decide(&mut self, view: &View, now: Now, limit: usize) -> Pass {
        let mut pass = Pass::default();
        let ask = self.snapshot.node_to_ask().map(str::to_owned);
        for key in self.queue.take(limit, now.tick) {
            let Some(object) = view.get(&key).filter(|pod| waits(pod)) else {
                self.queue.remove(&key);
                continue;
            };
            if pass.writes.len() >= limit {
                self.queue.lost(&key);
                continue;
            }
            // What was assumed for it while it waited is assumed no longer.
            self.snapshot.release(&key);
            let mut pod = Candidate::of(object);
            if let Some(node) = &ask {
                match self.images.next(&key, &pod.images, now.tick) {
                    Next::Place(made_for) => pod.made_for = made_for,
                    Next::Wait { until, ask: images } => {
                        let asks = images.into_iter().map(|image| Ask { node: node.clone(), image, pod: key.clone() });
                        pass.asks.extend(asks);
                        self.queue.hold(&key, until);
                        continue;
                    }
                }
            }
            if !object.list_at(&["spec", "volumes"]).is_empty() {
                pod.volumes = Needs::of(view, object, |claim| self.snapshot.users(claim));
            }
            match schedule_one(&self.snapshot, &pod, &mut self.ties) {
                Decision::Node(node) if pod.volumes.waits() => {
                    let mut steps = self.snapshot.node(&node).map(|node| pod.volumes.steps(node)).unwrap_or_default();
                    steps.truncate(limit.saturating_sub(pass.writes.len()));
                    // Whoever came first in this pass decides; the others follow what he began.
                    let free = !steps.iter().any(|step| pass.writes.iter().any(|op| op.key == step.key));
                    if free {
                        self.snapshot.assume(&key, &pod, &node);
                        pass.writes.extend(steps);
                    }
                    self.queue.waits(&key, [Rule::Binding].into(), now.tick);
                }
                Decision::Node(node) => {
                    self.snapshot.assume(&key, &pod, &node);
                    let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
                    pass.events.push((key.clone(), Occurrence::normal(object, NAME, "Scheduled", message)));
                    pass.writes.push(Op::update(key, object.revision(), bound(object, &node, now)));
                }
                Decision::Nowhere(refusals) => {
                    let message = refusals.to_string();
                    let room = if refusals.all.is_some() { Room::None } else { room(&self.snapshot, view, &pod) };
                    if refusals.all.is_some() {
                        // A claim that comes is no reason to wait any longer.
                        self.queue.waits(&key, refusals.rules, now.tick);
                    } else {
                        self.queue.refused(&key, refusals.rules, now.tick);
                    }
                    let mut after = Object::clone(object);
                    let told = Condition { kind: "PodScheduled", status: "False", reason: "Unschedulable", message: &message };
                    told.set(&mut after, now.wall);
                    match room {
                        Room::OnItsWay => {
                            self.snapshot.set_pod(&key, Some(object));
                        }
                        Room::By(node, victims) if pass.has_room_for(&victims, limit) => {
                            for (op, told) in victims.iter().filter_map(|victim| evict(view, victim, object, &node, now)) {
                                pass.events.push((op.key.clone(), told));
                                pass.writes.push(op);
                            }
                            after.set_at(&["status", "nominatedNodeName"], node.as_str());
                            self.snapshot.assume(&key, &pod, &node);
                        }
                        Room::By(..) => {}
                        Room::None => {
                            after.remove_at(&["status", "nominatedNodeName"]);
                        }
                    }
                    if after != **object {
                        pass.writes.push(Op::update(key.clone(), object.revision(), after));
                    }
                    pass.events.push((key, Occurrence::warning(object, NAME, "FailedScheduling", message)));
                }
            }
        }
        pass
    }

    /// A node has found out what an image is made for, or that it does not know: who waited for it is decided.
    pub fn answered(&mut self, image: &str, platforms: Vec<Platform>, now: Tick) {
        for pod in self.images.answered(image, platforms, now) {
            self.queue.lost(&pod);
        }
    }

    /// The write about this pod was refused: nothing of it is assumed any more.
    pub fn lost(&mut self, view: &View, key: &Key) {
        if *key.resource != PODS {
            // Who waits for this claim or volume is decided anew.
            self.queue.wake(Meaning::VolumesChanged);
            return;
        }
        self.snapshot.set_pod(key, view.get(key));
        self.queue.lost(key);
    }

    /// Heals what a lost signal may have left: each pod that should wait does, and nobody waits for ever.
    pub fn heal(&mut self, view: &View, now: Tick) {
        self.queue.flush(now);
        for pod in view.list(&PODS, None).filter(|pod| waits(pod)) {
            self.queue.ensure(Key::of(&PODS, pod), Pod(pod).priority());
        }
    }

    /// When the next pod is to be tried, if nothing happens before; tick 0 for at once.
    #[must_use]
    pub fn next_wake(&self) -> Option<Tick> {
        self.queue.next_wake()
    }
}

/// Whether a pod waits for this scheduler.
fn waits(pod: &Arc<Object>) -> bool {
    Pod(pod).node_name().is_empty()
        && Pod(pod).is_active()
        && matches!(pod.str_at(&["spec", "schedulerName"]), "" | NAME)
        && pod.list_at(&["spec", "schedulingGates"]).is_empty()
}

fn bound(pod: &Object, node: &str, now: Now) -> Object {
    let mut after = pod.clone();
    after.set_at(&["spec", "nodeName"], node);
    after.remove_at(&["status", "nominatedNodeName"]);
    Condition { kind: "PodScheduled", status: "True", reason: "", message: "" }.set(&mut after, now.wall);
    after
}

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)] // `json!(…)` reads best as it is
mod tests {
    use super::*;
    use crate::api::Revision;
    use crate::api::registry::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES};
    use crate::store::{Batch, Change};
    use serde_json::{Value, json};

    const NOW: Now = Now { tick: Tick(0), wall: crate::clock::Wall(0) };

    fn node(name: &str, cpu: &str) -> Op {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "200"},
            "conditions": [{"type": "Ready", "status": "True"}]}});
        Op::create(Key::new(&NODES, "", name), Object::from_value(node).unwrap())
    }

    fn pod(name: &str, spec: Value) -> Op {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "uid": name,
            "ownerReferences": [{"uid": "o", "controller": true}]}, "spec": spec, "status": {"phase": "Pending"}});
        Op::create(Key::new(&PODS, "default", name), Object::from_value(pod).unwrap())
    }

    fn asks(cpu: &str) -> Value {
        json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]})
    }

    fn apply(view: &mut View, scheduler: &mut Scheduler, ops: Vec<Op>) {
        for event in view.apply(view.revision().next(), Batch(ops)) {
            scheduler.absorb(&event);
        }
    }

    fn claim(name: &str, mode: &str) -> Op {
        let claim = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {"accessModes": [mode],
            "storageClassName": "local", "resources": {"requests": {"storage": "1Gi"}}}});
        Op::create(Key::new(&PERSISTENT_VOLUME_CLAIMS, "default", name), Object::from_value(claim).unwrap())
    }

    fn with_claim(name: &str) -> Value {
        json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}], "containers": []})
    }

    /// What the controller does once a node is chosen.
    fn bind(view: &mut View, scheduler: &mut Scheduler, name: &str) {
        let key = Key::new(&PERSISTENT_VOLUME_CLAIMS, "default", name);
        let before = view.get(&key).unwrap().clone();
        let node = before.annotation("volume.kubernetes.io/selected-node").unwrap().to_owned();
        let mut after = Object::clone(&before);
        after.set_at(&["spec", "volumeName"], name);
        after.set_at(&["metadata", "annotations", "pv.kubernetes.io/bind-completed"], "yes");
        let term = json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]});
        let volume = json!({"metadata": {"name": name}, "spec": {"claimRef": {"namespace": "default", "name": name, "uid": name},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}});
        let made = Op::create(Key::new(&PERSISTENT_VOLUMES, "", name), Object::from_value(volume).unwrap());
        apply(view, scheduler, vec![made, Op::update(key, before.revision(), after)]);
    }

    #[test]
    fn a_pod_is_bound_after_its_claims_and_where_they_are() {
        let mut view = View::new(Revision(1));
        let mut scheduler = Scheduler::new(&view, Rng::seeded(1, "ties"));
        let class =
            json!({"metadata": {"name": "local"}, "provisioner": "bramble/local", "volumeBindingMode": "WaitForFirstConsumer"});
        let class = Op::create(Key::new(&STORAGE_CLASSES, "", "local"), Object::from_value(class).unwrap());
        apply(&mut view, &mut scheduler, vec![class, node("a", "2"), node("b", "2"), pod("web", with_claim("data"))]);
        let pass = scheduler.decide(&view, NOW, 100);
        assert_eq!(pass.events[0].1.message, "0/2 nodes are available: persistentvolumeclaim \"data\" not found.");
        apply(&mut view, &mut scheduler, pass.writes);

        apply(&mut view, &mut scheduler, vec![claim("data", "ReadWriteOncePod")]);
        let pass = scheduler.decide(&view, NOW, 100);
        assert_eq!(pass.writes.iter().map(|op| op.key.resource).collect::<Vec<_>>(), [&PERSISTENT_VOLUME_CLAIMS]);
        assert!(pass.events.is_empty());
        apply(&mut view, &mut scheduler, pass.writes);
        assert!(scheduler.decide(&view, NOW, 100).writes.is_empty(), "the choice stands");
        bind(&mut view, &mut scheduler, "data");
        let pass = scheduler.decide(&view, NOW, 100);
        assert_eq!((pass.writes[0].key.name.as_str(), pass.events[0].1.reason.as_str()), ("web", "Scheduled"));
        apply(&mut view, &mut scheduler, pass.writes);

        // The claim is for one pod at a time.
        apply(&mut view, &mut scheduler, vec![pod("second", with_claim("data"))]);
        let told = scheduler.decide(&view, NOW, 100).events.remove(0).1.message;
        assert!(told.contains("2 node has pod using PersistentVolumeClaim with the same name"), "{told}");
    }

    #[test]
    fn the_less_important_make_room_and_no_more_of_them_than_needed() {
        let mut view = View::new(Revision(1));
        let mut scheduler = Scheduler::new(&view, Rng::seeded(1, "ties"));
        apply(&mut view, &mut scheduler, vec![node("a", "2"), node("b", "2")]);
        let of = |cpu: &str, priority: i64| json!({"priority": priority, "terminationGracePeriodSeconds": 5, "containers": asks(cpu)["containers"]});
        let bound = |name: &str, node: &str, cpu: &str, priority: i64| {
            let mut spec = of(cpu, priority);
            spec["nodeName"] = json!(node);
            pod(name, spec)
        };
        let there = vec![bound("small", "a", "1", 5), bound("rank", "a", "1", 50), bound("whole", "b", "2", 10)];
        apply(&mut view, &mut scheduler, there);
        apply(&mut view, &mut scheduler, vec![pod("high", of("1", 100)), pod("low", of("1", 1))]);
        let pass = scheduler.decide(&view, NOW, 100);
        let told: Vec<_> = pass.events.iter().map(|(key, told)| format!("{} {}", key.name, told.reason)).collect();
        assert_eq!(told, ["small Preempted", "high FailedScheduling", "low FailedScheduling"]);
        apply(&mut view, &mut scheduler, pass.writes);
        let get = |view: &View, name: &str| view.get(&Key::new(&PODS, "default", name)).unwrap().clone();
        assert_eq!(get(&view, "high").str_at(&["status", "nominatedNodeName"]), "a");
        let victim = get(&view, "small");
        assert_eq!(
            (victim.deletion_timestamp(), Condition::of(&victim, "DisruptionTarget").map(|it| it.status.to_owned())),
            (Some("1970-01-01T00:00:05Z"), Some("True".to_owned()))
        );
        // While it stops, nobody else has to go; and what comes meanwhile does not take the room.
        scheduler.heal(&view, Tick(120_000));
        let later = Now { tick: Tick(200_000), ..NOW };
        let pass = scheduler.decide(&view, later, 100);
        assert!(pass.events.iter().all(|(_, told)| told.reason == "FailedScheduling"), "{:?}", pass.events);
        apply(&mut view, &mut scheduler, pass.writes);
        let gone = Op { key: Key::new(&PODS, "default", "small"), expect: crate::store::Expect::Any, change: Change::Delete };
        apply(&mut view, &mut scheduler, vec![gone]);
        let pass = scheduler.decide(&view, Now { tick: Tick(900_000), ..NOW }, 100);
        let told: Vec<_> = pass.events.iter().map(|(key, told)| format!("{} {}", key.name, told.reason)).collect();
        assert_eq!(told, ["high Scheduled", "low FailedScheduling"]);
        apply(&mut view, &mut scheduler, pass.writes);
        let high = get(&view, "high");
        assert_eq!((Pod(&high).node_name(), high.str_at(&["status", "nominatedNodeName"])), ("a", ""));
    }

    #[test]
    fn who_may_not_preempt_and_who_is_equal_waits() {
        let mut view = View::new(Revision(1));
        let mut scheduler = Scheduler::new(&view, Rng::seeded(1, "ties"));
        let mut held = asks("2");
        held["nodeName"] = json!("a");
        let mut polite = asks("2");
        (polite["priority"], polite["preemptionPolicy"]) = (json!(100), json!("Never"));
        let mut too_large = asks("3");
        too_large["priority"] = json!(100);
        apply(&mut view, &mut scheduler, vec![node("a", "2"), pod("held", held)]);
        apply(&mut view, &mut scheduler, vec![pod("polite", polite), pod("equal", asks("1")), pod("large", too_large)]);
        let pass = scheduler.decide(&view, NOW, 100);
        assert!(pass.events.iter().all(|(_, told)| told.reason == "FailedScheduling"), "{:?}", pass.events);
        assert_eq!(pass.events.len(), 3);
    }

    #[test]
    fn pods_that_share_a_claim_follow_the_first_and_a_pass_is_never_larger_than_a_batch() {
        let mut view = View::new(Revision(1));
        let mut scheduler = Scheduler::new(&view, Rng::seeded(1, "ties"));
        let class =
            json!({"metadata": {"name": "local"}, "provisioner": "bramble/local", "volumeBindingMode": "WaitForFirstConsumer"});
        let class = Op::create(Key::new(&STORAGE_CLASSES, "", "local"), Object::from_value(class).unwrap());
        apply(&mut view, &mut scheduler, vec![class, node("a", "9"), node("b", "9"), claim("data", "ReadWriteOnce")]);
        apply(&mut view, &mut scheduler, (0..10).map(|n| pod(&format!("p{n}"), with_claim("data"))).collect());
        let pass = scheduler.decide(&view, NOW, 100);
        assert_eq!(pass.writes.len(), 1, "one choice for all");
        apply(&mut view, &mut scheduler, pass.writes);
        bind(&mut view, &mut scheduler, "data");
        let mut bound = 0;
        for _ in 0..9 {
            let pass = scheduler.decide(&view, NOW, 3);
            assert!(pass.writes.len() <= 3);
            bound += pass.writes.len();
            apply(&mut view, &mut scheduler, pass.writes);
        }
        assert_eq!(bound, 10);
        let nodes: std::collections::BTreeSet<_> = view.list(&PODS, None).map(|pod| Pod(pod).node_name()).collect();
        assert_eq!(nodes.len(), 1, "{nodes:?}");
    }

    #[test]
    fn pods_of_one_pass_see_each_other() {
        let mut view = View::new(Revision(1));
        let mut scheduler = Scheduler::new(&view, Rng::seeded(1, "ties"));
        apply(&mut view, &mut scheduler, vec![node("a", "2"), node("b", "2")]);
        apply(&mut view, &mut scheduler, (0..5).map(|n| pod(&format!("p{n}"), asks("1"))).collect());
        let pass = scheduler.decide(&view, NOW, 100);
        let told: Vec<&str> = pass.events.iter().map(|(_, what)| what.reason.as_str()).collect();
        assert_eq!(told, ["Scheduled", "Scheduled", "Scheduled", "Scheduled", "FailedScheduling"]);
        assert_eq!(pass.events[4].1.message, "0/2 nodes are available: 2 Insufficient cpu.");
        assert!(pass.events[0].1.message.starts_with("Successfully assigned default/p0 to "));
        apply(&mut view, &mut scheduler, pass.writes);
        assert_eq!((view.pods_on("a").count(), view.pods_on("b").count()), (2, 2));
        assert!(scheduler.decide(&view, NOW, 100).writes.is_empty(), "the fifth waits for a change");

        // A pod ends: there is room, after the back-off of a second.
        let key = Key::new(&PODS, "default", "p0");
        let mut ended = Object::clone(view.get(&key).unwrap());
        ended.set_at(&["status", "phase"], "Succeeded");
        let seen = ended.revision();
        apply(&mut view, &mut scheduler, vec![Op::update(key, seen, ended)]);
        assert_eq!(scheduler.next_wake(), Some(Tick(1000)));
        let pass = scheduler.decide(&view, Now { tick: Tick(1000), ..NOW }, 100);
        let Change::Put(fifth) = &pass.writes[0].change else { panic!() };
        assert_eq!(Condition::of(fifth, "PodScheduled").unwrap().status, "True");
        assert_eq!(fifth.name(), "p4");
    }

    #[test]
    fn a_lost_write_is_no_longer_assumed_and_tried_again() {
        let mut view = View::new(Revision(1));
        let mut scheduler = Scheduler::new(&view, Rng::seeded(1, "ties"));
        apply(&mut view, &mut scheduler, vec![node("a", "1"), pod("p", asks("1"))]);
        let key = Key::new(&PODS, "default", "p");
        assert_eq!(scheduler.decide(&view, NOW, 100).writes.len(), 1);
        scheduler.lost(&view, &key);
        assert_eq!(scheduler.decide(&view, NOW, 100).writes.len(), 1, "its own place is free again");
    }

    #[test]
    fn only_pods_that_wait_for_this_scheduler_are_taken() {
        for (what, spec, taken) in [
            ("plain", json!({}), 1),
            ("bound", json!({"nodeName": "a"}), 0),
            ("another scheduler", json!({"schedulerName": "mine"}), 0),
            ("ours by name", json!({"schedulerName": "default-scheduler"}), 1),
            ("gated", json!({"schedulingGates": [{"name": "wait"}]}), 0),
        ] {
            let mut view = View::new(Revision(1));
            view.apply(Revision(2), Batch(vec![node("a", "1"), pod("p", spec)]));
            assert_eq!(Scheduler::new(&view, Rng::seeded(1, "ties")).decide(&view, NOW, 100).writes.len(), taken, "{what}");
        }
    }
}
