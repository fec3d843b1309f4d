//! Deployments step by step: what is written in which state.

use super::*;
use crate::api::Revision;
use crate::api::core::condition::{self, Condition};
use crate::clock::{Tick, Wall};
use crate::rng::Rng;
use crate::store::{Batch, Change, Expect};

/// One deployment, whose replica sets are counted as a test says.
struct World {
    view: View,
    now: Now,
    ids: Ids,
    told: Vec<String>,
}

fn deployment(facts: Value) -> Object {
    let mut object = Object::from_value(json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "d1", "generation": 1, "annotations": {"kubernetes.io/change-cause": "first"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}}}))
    .unwrap();
    put(&mut object, facts);
    object
}

fn put(object: &mut Object, facts: Value) {
    for (path, value) in facts.as_object().unwrap() {
        let path: Vec<&str> = path.split('.').collect();
        if value.is_null() {
            object.remove_at(&path);
        } else {
            object.set_at(&path, value.clone());
        }
    }
}

fn image(version: u32) -> Value {
    json!({"spec.template.spec.containers": [{"name": "c", "image": format!("i:{version}")}]})
}

impl World {
    fn new(facts: Value) -> Self {
        let mut view = View::new(Revision(1));
        view.apply(Revision(2), Op::create(key(), deployment(facts)).into());
        let now = Now { tick: Tick(0), wall: Wall(1_000_000_000) };
        Self { view, now, ids: Ids::new(Rng::seeded(1, "ids")), told: Vec::new() }
    }

    /// One look; whether it wrote anything.
    fn step(&mut self) -> bool {
        let plan = Deployments::default().reconcile(&self.view, &key(), self.now, &mut self.ids);
        self.told.extend(plan.events.into_iter().map(|event| event.message));
        let wrote = !plan.writes.is_empty();
        if wrote {
            let batch = Batch(plan.writes);
            crate::store::batch::check(&self.view, &batch).expect("no plan contradicts itself");
            let revision = self.view.revision().next();
            self.view.apply(revision, batch);
        }
        wrote
    }

    /// Looks, with every pod that a set wants available at once, until nothing changes.
    fn settle(&mut self) {
        for _ in 0..50 {
            let wrote = self.step();
            if !self.count(i64::MAX) && !wrote {
                return;
            }
        }
        panic!("it never ends: {:?}", self.told);
    }

    /// Lets the sets count what they want, at most `new_ready` of the newest available; whether that changed a set.
    fn count(&mut self, new_ready: i64) -> bool {
        let sets: Vec<Arc<Object>> = self.view.list(&REPLICA_SETS, None).cloned().collect();
        let newest = sets.iter().map(|set| revision(set)).max();
        let mut changed = false;
        for set in sets {
            let mut after = Object::clone(&set);
            let wanted = ReplicaSet(&set).replicas();
            let ready = if Some(revision(&set)) == newest { new_ready } else { i64::MAX };
            put(
                &mut after,
                json!({"status": {"replicas": wanted, "readyReplicas": wanted.min(ready), "availableReplicas": wanted.min(ready),
                "observedGeneration": set.generation().0}}),
            );
            if after != *set {
                changed = true;
                self.view.apply(self.view.revision().next(), update(&Key::of(&REPLICA_SETS, &set), &set, after).into());
            }
        }
        changed
    }

    fn edit(&mut self, facts: Value) {
        let before = self.get();
        let mut after = Object::clone(&before);
        put(&mut after, facts);
        bump_generation(&mut after);
        self.view.apply(self.view.revision().next(), update(&key(), &before, after).into());
    }

    fn get(&self) -> Arc<Object> {
        self.view.get(&key()).unwrap().clone()
    }

    /// Image and wanted replicas of each set, oldest revision first.
    fn sets(&self) -> Vec<(String, i64)> {
        let mut sets: Vec<&Arc<Object>> = self.view.list(&REPLICA_SETS, None).collect();
        sets.sort_by_key(|set| revision(set));
        let image =
            |set: &Object| set.at(&["spec", "template", "spec", "containers"]).unwrap()[0]["image"].as_str().unwrap().to_owned();
        sets.into_iter().map(|set| (image(set), ReplicaSet(set).replicas())).collect()
    }

    fn condition(&self, kind: &str) -> (String, String) {
        let object = self.get();
        let condition = Condition::of(&object, kind).unwrap();
        (condition.status.to_owned(), condition.reason.to_owned())
    }
}

fn key() -> Key {
    Key::new(&DEPLOYMENTS, "default", "web")
}

#[test]
fn a_new_deployment_gets_its_set_and_says_how_it_goes() {
    let mut world = World::new(json!({}));
    world.step();
    let sets: Vec<&Arc<Object>> = world.view.list(&REPLICA_SETS, None).collect();
    let set = sets[0];
    let hash = set.label(POD_TEMPLATE_HASH).unwrap();
    assert_eq!(set.name(), format!("web-{hash}"));
    assert_eq!(set.str_at(&["spec", "selector", "matchLabels", POD_TEMPLATE_HASH]), hash);
    assert_eq!(set.str_at(&["spec", "template", "metadata", "labels", POD_TEMPLATE_HASH]), hash);
    assert_eq!(
        (set.annotation(REVISION), set.annotation(DESIRED_REPLICAS), set.annotation(MAX_REPLICAS)),
        (Some("1"), Some("3"), Some("4"))
    );
    assert_eq!(set.annotation("kubernetes.io/change-cause"), Some("first"));
    assert_eq!(set.controller().unwrap().uid, "d1");
    assert_eq!(world.told, [format!("Scaled up replica set web-{hash} from 0 to 3")]);
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetCreated".into()));
    assert_eq!(world.condition("Available"), ("False".into(), "MinimumReplicasUnavailable".into()));
    world.settle();
    let done = world.get();
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(world.condition("Available").0, "True");
    assert_eq!(done.annotation(REVISION), Some("1"));
    assert_eq!(
        ["observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas"]
            .map(|field| done.i64_at(&["status", field])),
        [Some(1), Some(3), Some(3), Some(3), Some(3), None]
    );
    assert!(!world.step(), "silent when all is well");
}

#[test]
fn a_new_template_rolls_and_the_old_set_is_remembered() {
    let mut world = World::new(json!({}));
    world.settle();
    world.edit(image(2));
    world.step();
    assert_eq!(world.sets(), [("i:1".into(), 3), ("i:2".into(), 1)]);
    world.count(0);
    while world.step() {}
    assert_eq!(world.sets(), [("i:1".into(), 3), ("i:2".into(), 1)], "it waits for the new pod");
    world.settle();
    assert_eq!(world.sets(), [("i:1".into(), 0), ("i:2".into(), 3)]);
    assert_eq!(world.get().annotation(REVISION), Some("2"));

    // Undone, as `kubectl rollout undo` does: by the old template.
    world.edit(image(1));
    world.settle();
    assert_eq!(world.sets(), [("i:2".into(), 0), ("i:1".into(), 3)]);
    let set = world.view.list(&REPLICA_SETS, None).find(|set| revision(set) == 3).unwrap();
    assert_eq!(set.annotation(REVISION_HISTORY), Some("1"));
    assert_eq!(world.get().annotation(REVISION), Some("3"));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(json!({"spec.strategy": {"type": "Recreate"}}));
    world.settle();
    let old = world.view.list(&REPLICA_SETS, None).next().unwrap().clone();
    let pod = json!({"metadata": {"name": "p", "namespace": "default", "deletionTimestamp": "1970-01-01T00:00:00Z",
        "ownerReferences": [owner_reference(&old)]}, "status": {"phase": "Running"}});
    let pod_key = Key::new(&PODS, "default", "p");
    world.view.apply(world.view.revision().next(), Op::create(pod_key.clone(), Object::from_value(pod).unwrap()).into());
    world.edit(image(2));
    world.settle();
    assert_eq!(world.sets(), [("i:1".into(), 0)]);
    let gone = Op { key: pod_key, expect: Expect::Any, change: Change::Delete };
    let events = world.view.apply(world.view.revision().next(), gone.into());
    assert_eq!(Deployments::default().keys(&events[0], &world.view), [key()], "the end of the pod rings");
    world.settle();
    assert_eq!(world.sets(), [("i:1".into(), 0), ("i:2".into(), 3)]);
}

#[test]
fn a_paused_deployment_is_scaled_and_not_rolled() {
    let mut world = World::new(json!({}));
    world.settle();
    world.edit(json!({"spec.paused": true}));
    world.settle();
    assert_eq!(world.condition("Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    world.edit(image(2));
    world.edit(json!({"spec.replicas": 5}));
    world.settle();
    assert_eq!(world.sets(), [("i:1".into(), 5)]);
    world.edit(json!({"spec.paused": null}));
    world.settle();
    assert_eq!(world.sets(), [("i:1".into(), 0), ("i:2".into(), 5)]);
    assert_eq!(world.condition("Progressing").1, "NewReplicaSetAvailable");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_gives_each_set_its_part() {
    let mut world = World::new(json!({"spec.replicas": 10, "spec.strategy.rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}));
    world.settle();
    world.edit(image(2));
    // The new ones never become ready.
    while world.step() {
        world.count(0);
    }
    assert_eq!(world.sets(), [("i:1".into(), 8), ("i:2".into(), 5)]);
    world.edit(json!({"spec.replicas": 20}));
    world.step();
    let sets = world.sets();
    assert_eq!(sets.iter().map(|(_, wanted)| wanted).sum::<i64>(), 23, "replicas and surge");
    assert_eq!((sets[0].1, sets[1].1), (14, 9), "as 8 to 5");
    world.settle();
    assert_eq!(world.sets(), [("i:1".into(), 0), ("i:2".into(), 20)]);
}

#[test]
fn only_so_many_old_sets_are_remembered() {
    let mut world = World::new(json!({"spec.revisionHistoryLimit": 2}));
    for version in 2..7 {
        world.settle();
        world.edit(image(version));
    }
    world.settle();
    assert_eq!(world.sets(), [("i:4".into(), 0), ("i:5".into(), 0), ("i:6".into(), 3)]);
}

#[test]
fn a_rollout_that_hangs_is_late_and_one_that_moves_is_not() {
    let mut world = World::new(json!({"spec.progressDeadlineSeconds": 60}));
    world.step();
    world.count(0);
    world.step();
    let plan = Deployments::default().reconcile(&world.view, &key(), world.now, &mut world.ids);
    assert_eq!(plan.look_again, Some(Tick(61_000)));
    let later = |world: &mut World, seconds: i64| {
        world.now.wall.0 += seconds * 1000;
        while world.step() {}
        world.condition("Progressing")
    };
    assert_eq!(later(&mut world, 59).0, "True");
    world.count(1);
    assert_eq!(later(&mut world, 1), ("True".into(), "ReplicaSetUpdated".into()));
    assert_eq!(later(&mut world, 59).0, "True", "it moved");
    assert_eq!(later(&mut world, 2), ("False".into(), "ProgressDeadlineExceeded".into()));
    world.settle();
    assert_eq!(world.condition("Progressing").1, "NewReplicaSetAvailable");
    assert!(condition::updated(&world.get(), "Progressing").is_some());
}

#[test]
fn no_rollout_is_late_before_the_grace_after_a_start_of_the_master() {
    let mut world = World::new(json!({"spec.progressDeadlineSeconds": 60}));
    world.step();
    world.count(0);
    world.step();
    // The master was away for an hour.
    world.now.wall.0 += 3_600_000;
    let mut controller = Deployments::new(Tick(30_000));
    let plan = controller.reconcile(&world.view, &key(), world.now, &mut world.ids);
    assert_eq!((plan.writes.len(), plan.look_again), (0, Some(Tick(30_000))));
    world.now.tick = Tick(30_000);
    assert_eq!(controller.reconcile(&world.view, &key(), world.now, &mut world.ids).writes.len(), 1);
}

#[test]
fn a_set_of_nobody_that_is_selected_is_taken_in_and_a_taken_name_is_gone_around() {
    let mut world = World::new(json!({}));
    world.settle();
    let set = world.view.list(&REPLICA_SETS, None).next().unwrap().clone();
    let mut free = Object::clone(&set);
    free.remove_at(&["metadata", "ownerReferences"]);
    world.view.apply(world.view.revision().next(), update(&Key::of(&REPLICA_SETS, &set), &set, free.clone()).into());
    world.settle();
    assert_eq!(world.view.list(&REPLICA_SETS, None).count(), 1);
    assert!(world.view.list(&REPLICA_SETS, None).all(|set| set.controller().is_some()));

    let mut other = World::new(json!({}));
    free.set_at(&["metadata", "labels"], json!({"app": "another"}));
    other.view.apply(Revision(3), Op::create(Key::of(&REPLICA_SETS, &free), free).into());
    other.settle();
    assert_eq!(other.get().i64_at(&["status", "collisionCount"]), Some(1));
    assert_eq!(other.view.list(&REPLICA_SETS, None).count(), 2);
}

#[test]
fn a_deployment_on_its_way_out_only_counts() {
    let mut world = World::new(json!({"metadata.deletionTimestamp": "1970-01-01T00:00:00Z"}));
    world.settle();
    assert!(world.sets().is_empty());
}
