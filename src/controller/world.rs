//! All deciders of the master together, over one view, in one thread, without a clock: what no table of cases can show.
//!
//! Nodes are modelled: they start what is bound to them after a while, stop what is deleted after a while, and say nothing
//! when they are dead. Every write goes through the store's own check of expectations; some groups are refused at random, as
//! if they had lost a race.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::driver::Driver;
use super::{Ids, Settings, SharedSigns, all, bump_generation};
use crate::api::apps::replicaset::ReplicaSet;
use crate::api::core::condition::Condition;
use crate::api::core::event::recorded;
use crate::api::core::pod::Pod;
use crate::api::default::pod::initial_status;
use crate::api::registry::{DEPLOYMENTS, EVENTS, NAMESPACES, NODES, PODS, REPLICA_SETS};
use crate::api::{Key, Object, Revision};
use crate::clock::{Now, Tick, Wall};
use crate::rng::Rng;
use crate::scheduler::pass::Scheduler;
use crate::store::{Batch, Change, Expect, Op, View, batch};

const STEP_MS: u64 = 100;

struct World {
    view: View,
    now: Now,
    driver: Driver,
    scheduler: Scheduler,
    signs: SharedSigns,
    dead: BTreeSet<String>,
    chance: Rng,
    seed: u64,
    /// One group in so many is refused; 0 for none.
    refuse_one_in: usize,
    /// Where each pod runs, as its node would say, by uid: a pod that the store forgot runs on until its node is told.
    running: BTreeMap<String, (String, String)>,
}

impl World {
    fn new(seed: u64, nodes: usize) -> Self {
        let now = Now { tick: Tick(0), wall: Wall(1_700_000_000_000) };
        let signs = SharedSigns::new(now.tick, Settings::default());
        let view = View::new(Revision(1));
        let controllers = all(Settings::default(), &signs);
        let mut world = Self {
            driver: Driver::new(controllers, Ids::new(Rng::seeded(seed, "ids")), Rng::seeded(seed, "jitter"), now.tick),
            scheduler: Scheduler::new(&view, Rng::seeded(seed, "ties")),
            view,
            now,
            signs,
            dead: BTreeSet::new(),
            chance: Rng::seeded(seed, "chance"),
            seed,
            refuse_one_in: 0,
            running: BTreeMap::new(),
        };
        let mut ops = vec![create(&NAMESPACES, json!({"metadata": {"name": "default"}}))];
        for number in 0..nodes {
            ops.push(create(
                &NODES,
                json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": format!("n{number}"), "uid": format!("n{number}")},
                "status": {"allocatable": {"cpu": "8", "memory": "16Gi", "pods": "110"},
                    "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2023-01-01T00:00:00Z"}]}}),
            ));
        }
        world.write(ops);
        world
    }

    fn write(&mut self, ops: Vec<Op>) {
        for ops in ops.chunks(batch::MOST) {
            let batch = Batch(ops.to_vec());
            batch::check(&self.view, &batch).expect("nobody else writes here");
            let revision = self.view.revision().next();
            let events = self.view.apply(revision, batch);
            self.driver.absorb(&events, &self.view, self.now.tick);
            events.iter().for_each(|event| self.scheduler.absorb(event));
        }
    }

    fn change(&mut self, key: &Key, change: impl FnOnce(&mut Object)) {
        let before = self.view.get(key).expect("it is there").clone();
        let mut after = Object::clone(&before);
        change(&mut after);
        self.write(vec![Op::update(key.clone(), before.revision(), after)]);
    }

    /// A tenth of a second: nodes act, then all deciders until they rest, with `check` after each of their writes.
    fn step(&mut self, check: &mut dyn FnMut(&View)) {
        self.now.tick.0 += STEP_MS;
        self.now.wall.0 += i64::try_from(STEP_MS).unwrap();
        self.nodes_act();
        for _ in 0..1000 {
            let groups = self.driver.decide(&self.view, self.now, 8);
            let pass = self.scheduler.decide(&self.view, self.now, batch::MOST);
            if groups.is_empty() && pass.writes.is_empty() && pass.events.is_empty() {
                return;
            }
            for mut group in groups {
                if self.refuse_one_in > 0 && self.chance.below(self.refuse_one_in) == 0 {
                    self.driver.refused(group.tasks.into_iter().map(|(task, _)| task).collect(), self.now.tick);
                    continue;
                }
                while let Err(batch::WriteError::Conflict { key, .. }) = batch::check(&self.view, &Batch(group.writes.clone())) {
                    let lost = group.without(&key);
                    self.driver.refused(lost, self.now.tick);
                }
                let told: Vec<_> = group.events.iter().map(|(_, what)| what.clone()).collect();
                let tasks: Vec<_> = group.tasks.into_iter().map(|(task, _)| task).collect();
                self.write(group.writes);
                self.driver.settled(&tasks);
                self.tell(&told);
                check(&self.view);
            }
            let (mut writes, mut events) = (pass.writes, pass.events);
            while let Err(batch::WriteError::Conflict { key, .. }) = batch::check(&self.view, &Batch(writes.clone())) {
                writes.retain(|op| op.key != key);
                events.retain(|(about, _)| *about != key);
                self.scheduler.lost(&self.view, &key);
            }
            self.write(writes);
            self.tell(&events.into_iter().map(|(_, what)| what).collect::<Vec<_>>());
        }
        panic!("seed {}: it never rests", self.seed);
    }

    fn tell(&mut self, occurrences: &[crate::api::core::event::Occurrence]) {
        let told = recorded(|key| self.view.get(key).map(AsRef::as_ref), occurrences, self.now.wall);
        let ops = told.into_iter().map(|(key, event)| Op { key, expect: Expect::Any, change: Change::Put(event) }).collect();
        self.write(ops);
    }

    fn nodes_act(&mut self) {
        let names = self.view.list(&NODES, None).map(|node| node.name().to_owned());
        let alive: Vec<String> = names.filter(|node| !self.dead.contains(node)).collect();
        for node in &alive {
            self.signs.heard(node, self.now.tick);
            let pods: Vec<Arc<Object>> = self.view.pods_on(node).cloned().collect();
            let named: BTreeSet<String> = pods.iter().map(|pod| pod.uid().0).collect();
            // What its share does not name is stopped.
            self.running.retain(|uid, (on, _)| on != node || named.contains(uid));
            for pod in pods {
                let key = Key::of(&PODS, &pod);
                if pod.is_deleting() {
                    if self.chance.below(5) == 0 {
                        self.running.remove(&pod.uid().0);
                        self.write(vec![Op::delete(key, pod.revision())]);
                    }
                } else if !Pod(&pod).is_ready() && self.chance.below(8) == 0 {
                    self.running.insert(pod.uid().0, (node.clone(), pod.controller().map_or("", |owner| owner.uid).to_owned()));
                    let wall = self.now.wall;
                    self.change(&key, |pod| {
                        pod.set_at(&["status", "phase"], "Running");
                        for kind in ["ContainersReady", "Ready"] {
                            Condition { kind, status: "True", reason: "", message: "" }.set(pod, wall);
                        }
                    });
                }
            }
        }
        for node in self.signs.take_news() {
            for controller in ["node_lifecycle", "taint_eviction"] {
                self.driver.look(controller, &Key::new(&NODES, "", &node), self.now.tick);
            }
        }
    }

    /// Steps until it is so; how long that took.
    fn until(&mut self, what: &str, at_most_seconds: u64, check: &mut dyn FnMut(&View), done: impl Fn(&Self) -> bool) -> u64 {
        let from = self.now.tick;
        while !done(self) {
            assert!(
                self.now.tick.0 - from.0 < at_most_seconds * 1000,
                "seed {}: not within {at_most_seconds} s: {what}",
                self.seed
            );
            self.step(check);
        }
        self.now.tick.0 - from.0
    }

    fn active(&self) -> Vec<&Arc<Object>> {
        self.view.list(&PODS, None).filter(|pod| Pod(pod).is_active()).collect()
    }

    fn rolled_out(&self, replicas: i64) -> bool {
        let deployment = self.view.get(&web()).unwrap();
        let number = |field: &str| deployment.i64_at(&["status", field]).unwrap_or_default();
        number("observedGeneration") == deployment.generation().0
            && ["replicas", "updatedReplicas", "availableReplicas"].iter().all(|field| number(field) == replicas)
            && i64::try_from(self.view.list(&PODS, None).count()).unwrap() == replicas
    }
}

fn web() -> Key {
    Key::new(&DEPLOYMENTS, "default", "web")
}

fn create(resource: &'static crate::api::Resource, value: Value) -> Op {
    let object = Object::from_value(value).unwrap();
    Op::create(Key::of(resource, &object), object)
}

fn deployment(replicas: i64, surge: i64, unavailable: i64) -> Op {
    create(
        &DEPLOYMENTS,
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "d1", "generation": 1},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {"metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "100m"}}}]}}}}),
    )
}

/// What a rollout promises: never more wanted than replicas and surge, never fewer available than may be missing.
fn promises(replicas: i64, surge: i64, unavailable: i64, seed: u64) -> impl FnMut(&View) {
    move |view: &View| {
        let wanted: i64 = view.list(&REPLICA_SETS, None).map(|set| ReplicaSet(set).replicas()).sum();
        assert!(wanted <= replicas + surge, "seed {seed}: {wanted} wanted");
        let serving = view.list(&PODS, None).filter(|pod| Pod(pod).is_active() && Pod(pod).is_ready()).count();
        let serving = i64::try_from(serving).unwrap();
        assert!(serving >= replicas - unavailable, "seed {seed}: {serving} serve");
    }
}

#[test]
fn a_deployment_lives_through_rollout_scaling_and_the_death_of_a_node() {
    for seed in 0..20 {
        let mut world = World::new(seed, 4);
        world.refuse_one_in = [0, 4][usize::from(seed % 2 == 1)];
        let nothing = &mut |_: &View| {};
        let (surge, unavailable) = [(1, 0), (0, 1), (2, 2)][usize::try_from(seed % 3).unwrap()];
        world.write(vec![deployment(3, surge, unavailable)]);
        world.until("the first pods run", 60, nothing, |world| world.rolled_out(3));
        let nodes: BTreeSet<&str> = world.active().into_iter().map(|pod| Pod(pod).node_name()).collect();
        assert_eq!(nodes.len(), 3, "seed {seed}: on different nodes");

        world.change(&web(), |object| {
            object.set_at(&["spec", "template", "spec", "containers"], json!([{"name": "c", "image": "i:2"}]));
            bump_generation(object);
        });
        world.until("the new ones run", 120, &mut promises(3, surge, unavailable, seed), |world| world.rolled_out(3));

        world.change(&web(), |object| {
            object.set_at(&["spec", "replicas"], 8);
            bump_generation(object);
        });
        world.until("it is larger", 60, nothing, |world| world.rolled_out(8));

        // The grace after the start is over.
        while world.now.tick < Tick(31_000) {
            world.step(nothing);
        }
        let survivors: BTreeSet<String> =
            world.active().into_iter().filter(|pod| Pod(pod).node_name() != "n0").map(|pod| pod.uid().0).collect();
        let lost = 8 - survivors.len();
        assert!(lost > 0);
        world.dead.insert("n0".to_owned());
        let took = world.until("its pods run elsewhere", 30, nothing, |world| {
            world.rolled_out(8) && world.active().iter().all(|pod| Pod(pod).node_name() != "n0")
        });
        assert!(took >= 17_900, "seed {seed}: nobody is replaced before his time: {took} ms");
        let now: BTreeSet<String> = world.active().into_iter().map(|pod| pod.uid().0).collect();
        assert!(survivors.is_subset(&now), "seed {seed}: those elsewhere were left alone");
        assert_eq!(world.running.values().filter(|(node, _)| node == "n0").count(), lost, "it still runs its own, unseen");

        world.dead.clear();
        world.until("the node is back", 10, nothing, |world| {
            world.running.len() == 8
                && world.view.get(&Key::new(&NODES, "", "n0")).unwrap().list_at(&["spec", "taints"]).is_empty()
        });
        // All is well: nothing is written any more, for longer than a round.
        let rest = world.view.revision();
        while !world.now.tick.0.is_multiple_of(40_000) {
            world.step(nothing);
        }
        assert_eq!(world.view.revision(), rest, "seed {seed}: {:?}", world.view.list(&EVENTS, None).last());
    }
}

#[test]
fn when_all_nodes_fall_silent_no_pod_is_touched() {
    let mut world = World::new(1, 3);
    let nothing = &mut |_: &View| {};
    world.write(vec![deployment(6, 1, 0)]);
    world.until("they run", 60, nothing, |world| world.rolled_out(6) && world.now.tick >= Tick(31_000));
    let before: BTreeSet<String> = world.active().into_iter().map(|pod| pod.uid().0).collect();
    let uids = |world: &World| -> BTreeSet<String> { world.view.list(&PODS, None).map(|pod| pod.uid().0).collect() };
    world.dead = ["n0", "n1", "n2"].map(str::to_owned).into();
    for _ in 0..3000 {
        world.step(nothing);
    }
    assert_eq!(uids(&world), before, "five minutes of darkness");
    assert!(world.view.list(&PODS, None).all(|pod| !Pod(pod).is_ready()));
    // They come back one after the other, within the time that each gets.
    for node in ["n2", "n0", "n1"] {
        world.dead.remove(node);
        for _ in 0..30 {
            world.step(nothing);
        }
    }
    world.until("all is as before", 10, nothing, |world| world.rolled_out(6));
    assert_eq!(uids(&world), before);
}

#[test]
fn a_thousand_pods_are_bound_evenly_to_a_hundred_nodes() {
    let mut world = World::new(7, 100);
    let pods: Vec<Op> = (0..1000)
        .map(|number| {
            let mut pod = Object::from_value(json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("p{number}"), "namespace": "default", "uid": format!("u{number}"),
                    "ownerReferences": [{"uid": format!("o{}", number % 10), "kind": "Thing", "apiVersion": "x/v1", "controller": true}]},
                "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}}))
            .unwrap();
            (PODS.strategy.default)(&mut pod);
            let status = initial_status(&pod);
            pod.set_at(&["status"], status);
            Op::create(Key::of(&PODS, &pod), pod)
        })
        .collect();
    world.write(pods);
    #[allow(clippy::disallowed_methods)] // measured for people to read, asserted only against a hang
    let start = std::time::Instant::now();
    let mut bound = 0;
    loop {
        let pass = world.scheduler.decide(&world.view, world.now, batch::MOST);
        if pass.writes.is_empty() {
            break;
        }
        bound += pass.writes.len();
        let revision = world.view.revision().next();
        for event in world.view.apply(revision, Batch(pass.writes)) {
            world.scheduler.absorb(&event);
        }
    }
    let took = start.elapsed();
    println!("1000 pods on 100 nodes decided and bound in {took:?}: {:.0}/s", 1000.0 / took.as_secs_f64());
    assert_eq!(bound, 1000);
    for number in 0..100 {
        assert_eq!(world.view.pods_on(&format!("n{number}")).count(), 10, "evenly");
    }
    assert!(took.as_secs() < 60);
}
