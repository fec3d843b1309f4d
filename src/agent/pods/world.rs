//! Runs the node against the simulated runtime under a clock that is moved by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::devices::Offer;
use crate::agent::hooks::{HookEnd, HookOrder, HookOutcome};
use crate::agent::node::{Effect, Input, Node, NodeConfig, Outcome, PodLight};
use crate::agent::pods::plan::FailureCondition;
use crate::agent::pods::status::LightState;
use crate::agent::prober::{Answer, Ask, Order, Sign};
use crate::agent::runtime::simulated::{self, Settings, Simulated};
use crate::api::{Object, Uid};
use crate::clock::{Now, Tick, Wall};
use crate::link::message::{NodeEvent, PodReport};
use crate::link::share::Share;
use crate::step::Machine;

mod devices_tests;
mod life;
mod probes_tests;

const START: i64 = 1_795_378_000_000;

struct World {
    tick: u64,
    sim: Simulated,
    node: Node,
    orders: BTreeMap<u64, Uid>,
    reports: BTreeMap<String, Vec<(u64, PodReport)>>,
    events: Vec<(u64, NodeEvent)>,
    lights: Vec<PodLight>,
    hooks: Vec<(u64, HookOrder)>,
    offers: Vec<(u64, Offer)>,
    orders_seen: usize,
    pulling: usize,
    most_pulls: usize,
    pending: std::collections::VecDeque<simulated::Effect>,
    /// Probes that wait for their answer.
    asked: std::collections::VecDeque<Ask>,
    asks: usize,
    /// Probes are not answered.
    mute: bool,
}

impl World {
    fn new() -> Self {
        Self::with(Simulated::new(Settings::default()), 0)
    }

    fn with(sim: Simulated, tick: u64) -> Self {
        let mut world = Self {
            tick,
            sim,
            node: Node::new(NodeConfig {
                name: "pi".into(),
                host_ips: vec!["192.168.1.9".into()],
                scheme: "docker",
                ..NodeConfig::default()
            }),
            orders: BTreeMap::new(),
            reports: BTreeMap::new(),
            events: Vec::new(),
            lights: Vec::new(),
            hooks: Vec::new(),
            offers: Vec::new(),
            orders_seen: 0,
            pulling: 0,
            most_pulls: 0,
            pending: std::collections::VecDeque::new(),
            asked: std::collections::VecDeque::new(),
            asks: 0,
            mute: false,
        };
        let listing = world.sim.listing(None);
        world.input(Input::Observed(listing));
        world
    }

    fn now(&self) -> Now {
        Now { tick: Tick(self.tick), wall: Wall(START + i64::try_from(self.tick).unwrap()) }
    }

    fn input(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.node.handle(self.now(), input, &mut effects);
        self.carry_out(effects);
        self.settle();
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Run(order) => {
                    self.orders_seen += 1;
                    if matches!(order.command, crate::agent::runtime::Command::PullImage { .. }) {
                        self.pulling += 1;
                        self.most_pulls = self.most_pulls.max(self.pulling);
                    }
                    self.orders.insert(order.ticket, order.pod.uid.clone());
                    let input = simulated::Input::Execute { id: order.ticket, pod: order.pod, command: order.command };
                    let mut answers = Vec::new();
                    self.sim.handle(self.now(), input, &mut answers);
                    self.pending.extend(answers);
                }
                Effect::Hook(order) => self.hooks.push((self.tick, order)),
                Effect::Probe(order) => self.probe(order),
                Effect::Report(report) => self.reports.entry(report.name.clone()).or_default().push((self.tick, report)),
                Effect::Event(event) => self.events.push((self.tick, event)),
                Effect::Lights(lights) => self.lights = lights,
                Effect::Offer(offer) => self.offers.push((self.tick, offer)),
            }
        }
    }

    fn probe(&mut self, order: Order) {
        match order {
            Order::Ask(ask) => {
                self.asks += 1;
                self.asked.push_back(*ask);
            }
            Order::Forget(container) => self.asked.retain(|ask| ask.ticket.container != container),
        }
    }

    /// Answers what was asked, as the containers' scripts have it.
    fn answer_probes(&mut self) {
        while let Some(ask) = self.asked.pop_front() {
            let sign = match self.sim.answer(self.now(), &ask.ticket.container) {
                Some(0) => Sign::Good,
                Some(_) => Sign::Bad("sick".to_owned()),
                None => Sign::Errored("not running".to_owned()),
            };
            self.input(Input::Probed(Answer { ticket: ask.ticket, sign }));
        }
    }

    fn answer(&mut self, answers: Vec<simulated::Effect>) {
        self.pending.extend(answers);
        self.settle();
    }

    /// Passes on what the runtime said, one after the other, until all is quiet.
    fn settle(&mut self) {
        while let Some(answer) = self.pending.pop_front() {
            let input = match answer {
                simulated::Effect::Outcome { id, result } => {
                    let uid = self.orders.remove(&id).unwrap();
                    if matches!(result, Ok(crate::agent::runtime::Done::Pulled { .. })) {
                        self.pulling -= 1;
                    }
                    let after = Some(self.sim.listing(Some(&uid)));
                    Input::Outcome(Outcome { ticket: id, uid, result, after })
                }
                simulated::Effect::Changed(uid) => Input::Observed(self.sim.listing(Some(&uid))),
            };
            let mut effects = Vec::new();
            self.node.handle(self.now(), input, &mut effects);
            self.carry_out(effects);
        }
        if !self.mute {
            self.answer_probes();
        }
    }

    /// Lets time pass, from one happening to the next.
    fn pass(&mut self, time: Duration) {
        let end = self.tick + u64::try_from(time.as_millis()).unwrap();
        loop {
            let next = self.node.next_wake().into_iter().chain(self.sim.next_wake()).min();
            let Some(Tick(next)) = next.filter(|next| next.0 <= end) else { break };
            self.tick = self.tick.max(next);
            let mut answers = Vec::new();
            self.sim.wake(self.now(), &mut answers);
            self.answer(answers);
            let mut effects = Vec::new();
            self.node.wake(self.now(), &mut effects);
            self.carry_out(effects);
            self.settle();
        }
        self.tick = end;
    }

    fn want(&mut self, pods: &[Value]) {
        let mut share = Share::default();
        for pod in pods {
            let object = Object::from_value(pod.clone()).unwrap();
            share.pods.insert(object.uid(), Arc::new(object));
        }
        self.input(Input::Desired(Arc::new(share)));
    }

    fn report(&self, name: &str) -> &PodReport {
        &self.reports[name].last().unwrap().1
    }

    fn status(&self, name: &str) -> &Value {
        &self.report(name).status
    }

    fn reasons(&self) -> Vec<&str> {
        self.events.iter().map(|(_, event)| event.reason.as_str()).collect()
    }
}

fn pod(name: &str, script: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "generation": 1,
                     "annotations": {"bramble/simulate": script, "bramble/led": "3"}},
        "spec": {"restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
                 "containers": [{"name": "app", "image": "nginx:1", "imagePullPolicy": "IfNotPresent"}]},
    })
}

fn deleting(mut pod: Value, grace: u64) -> Value {
    pod["metadata"]["deletionTimestamp"] = json!("2026-11-22T20:09:05Z");
    pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    pod
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == kind).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_pod_is_pulled_started_and_ready_and_says_so() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    assert_eq!(world.lights[0].state, LightState::Pulling);
    assert_eq!(world.status("web")["phase"], "Pending");
    assert_eq!(world.status("web")["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating");
    world.pass(3 * SECOND);
    let status = world.status("web");
    assert_eq!(status["phase"], "Running");
    assert_eq!(condition(status, "Ready")["status"], "True");
    assert_eq!(condition(status, "Ready")["lastTransitionTime"], "2026-11-22T20:06:42Z");
    assert_eq!(status["startTime"], "2026-11-22T20:06:40Z");
    assert_eq!(status["hostIP"], "192.168.1.9");
    assert!(status["podIP"].as_str().unwrap().starts_with("10.244."));
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["running"]["startedAt"], "2026-11-22T20:06:42Z");
    assert_eq!((&container["ready"], &container["started"], &container["restartCount"]), (&json!(true), &json!(true), &json!(0)));
    assert_eq!(world.reasons(), ["Pulling", "Pulled", "Created", "Started"]);
    let light = PodLight { namespace: "default".into(), name: "web".into(), led: Some("3".into()), state: LightState::Ready };
    assert_eq!(world.lights, [light]);
    // Nothing more happens, and nothing more is said.
    let said = world.reports["web"].len();
    world.pass(3600 * SECOND);
    world.want(&[pod("web", "")]);
    assert_eq!(world.reports["web"].len(), said);
    assert_eq!(world.node.next_wake(), None);
}

#[test]
fn a_crash_loop_keeps_the_exact_times() {
    let mut world = World::new();
    world.want(&[pod("web", "exit=1 after=2s")]);
    world.pass(400 * SECOND);
    let starts: Vec<u64> =
        world.events.iter().filter(|(_, event)| event.reason == "Started").map(|(tick, _)| tick / 1000).collect();
    // 2 s of pulling; then each run lasts 2 s, and the waits are 0, 1, 2, 4, 8, 16, 32, 60, 60 s.
    assert_eq!(starts, [2, 4, 7, 11, 17, 27, 45, 79, 141, 203, 265, 327, 389]);
    assert_eq!(world.lights[0].state, LightState::CrashLoop);
    let container = &world.status("web")["containerStatuses"][0];
    assert_eq!(container["restartCount"], 12);
    assert_eq!(container["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(container["state"]["waiting"]["message"], "back-off 60s restarting failed container=app pod=web_default(uid-web)");
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(world.status("web")["phase"], "Running");
    assert_eq!(world.sim.runs(&"uid-web".into(), "app").count(), 2, "only the last two runs are kept");
    assert!(world.reasons().contains(&"BackOff"));
}

#[test]
fn a_killed_container_comes_back_at_once_with_its_count_up() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(5 * SECOND);
    let id = world.sim.runs(&"uid-web".into(), "app").next().unwrap().id.clone();
    let mut answers = Vec::new();
    world.sim.handle(world.now(), simulated::Input::KillOutside(id.clone()), &mut answers);
    world.answer(answers);
    let container = &world.status("web")["containerStatuses"][0];
    assert_eq!(container["restartCount"], 1);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(container["lastState"]["terminated"]["containerID"], format!("docker://{id}"));
    assert!(container["state"]["running"].is_object());
}

#[test]
fn a_dead_sandbox_takes_its_containers_with_it_and_all_come_back() {
    let mut world = World::new();
    world.want(&[pod("web", "")]);
    world.pass(60 * SECOND);
    let listing = world.sim.listing(None);
    let sandbox = listing.pods[&Uid::from("uid-web")].sandboxes[0].clone();
    let mut answers = Vec::new();
    world.sim.handle(world.now(), simulated::Input::KillOutside(sandbox.id.clone()), &mut answers);
    world.answer(answers);
    world.pass(SECOND);
    let status = world.status("web");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 1);
    assert_eq!(condition(status, "Ready")["status"], "True");
    assert_eq!(status["startTime"], "2026-11-22T20:06:40Z", "the pod is not younger for it");
    assert!(world.reasons().contains(&"SandboxChanged"));
    let pod = &world.sim.listing(None).pods[&Uid::from("uid-web")];
    assert_eq!(pod.sandboxes.len(), 1);
    assert_ne!(pod.sandboxes[0].id, sandbox.id);
}

#[test]
fn a_missing_image_backs_off_with_the_registrys_words() {
    let mut world = World::new();
    world.want(&[pod("web", "pull-fails")]);
    let waiting = world.status("web")["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting["reason"], "ErrImagePull");
    assert!(waiting["message"].as_str().unwrap().contains("manifest unknown"));
    world.pass(2 * SECOND);
    let waiting = world.status("web")["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting["reason"], "ImagePullBackOff");
    assert!(waiting["message"].as_str().unwrap().contains("manifest unknown"));
    assert_eq!(world.lights[0].state, LightState::NotReady);
    world.pass(160 * SECOND);
    let pulls: Vec<u64> =
        world.events.iter().filter(|(_, event)| event.reason == "Pulling").map(|(tick, _)| tick / 1000).collect();
    let gaps: Vec<u64> = pulls.windows(2).map(|two| two[1] - two[0]).collect();
    let nominal = [10, 20, 40, 80];
    assert_eq!(gaps.len(), nominal.len(), "{pulls:?}");
    // Up to a tenth is chance, so that pods which failed together do not come back together; a second is rounding.
    assert!(gaps.iter().zip(nominal).all(|(gap, wanted)| (wanted..=wanted + wanted / 10 + 1).contains(gap)), "{pulls:?}");
}

#[test]
fn a_deleted_pod_gets_term_then_kill_and_leaves_nothing() {
    for (script, grace, over_after) in [("", 30, 0), ("deaf", 30, 30), ("deaf", 0, 0)] {
        let mut world = World::new();
        world.want(&[pod("web", script)]);
        world.pass(5 * SECOND);
        world.want(&[deleting(pod("web", script), grace)]);
        if over_after > 0 {
            assert_eq!(world.lights[0].state, LightState::Terminating);
            world.pass(Duration::from_secs(over_after) - SECOND);
            assert!(!world.report("web").gone, "not before its grace is over");
            world.pass(SECOND);
        }
        let report = world.report("web");
        assert!(report.gone, "{script} {grace}");
        assert!(report.status["containerStatuses"][0]["state"]["terminated"].is_object());
        assert!(world.sim.listing(None).pods.is_empty());
        assert!(world.lights.is_empty());
        world.want(&[]);
        assert_eq!(world.node.all_reports().count(), 0);
    }
}

#[test]
fn a_second_delete_only_shortens_the_grace() {
    let mut world = World::new();
    world.want(&[pod("web", "deaf")]);
    world.pass(5 * SECOND);
    world.want(&[deleting(pod("web", "deaf"), 30)]);
    world.pass(2 * SECOND);
    world.want(&[deleting(pod("web", "deaf"), 3)]);
    world.pass(2 * SECOND);
    world.want(&[deleting(pod("web", "deaf"), 60)]);
    assert!(!world.report("web").gone);
    world.pass(SECOND);
    assert!(world.report("web").gone);
}

#[test]
fn a_new_agent_adopts_what_runs_and_says_the_same() {
    let mut world = World::new();
    let pods = [pod("web", ""), pod("loop", "exit=1 after=2s")];
    world.want(&pods);
    world.pass(31 * SECOND);
    let before: Vec<Value> = ["web", "loop"].iter().map(|name| world.status(name).clone()).collect();
    assert_eq!(before[1]["containerStatuses"][0]["state"]["waiting"]["reason"], "CrashLoopBackOff");
    let listed = world.sim.listing(None).pods;
    // A tick is of one process: the new one's begins elsewhere.
    let mut next = World::with(world.sim, world.tick);
    assert_eq!(next.orders_seen, 0, "nothing is done, and nothing removed, before the first share");
    next.want(&pods);
    assert_eq!(next.orders_seen, 0);
    let after: Vec<Value> = ["web", "loop"].iter().map(|name| next.status(name).clone()).collect();
    assert_eq!(before, after);
    assert_eq!(listed, next.sim.listing(None).pods);
    // The back-off goes on where it was: the sixth run ended at 29 s, the seventh begins at 45 s.
    next.pass(20 * SECOND);
    let starts: Vec<u64> =
        next.events.iter().filter(|(_, event)| event.reason == "Started").map(|(tick, _)| tick / 1000).collect();
    assert_eq!(starts, [45]);
    // What is no longer wanted goes, once a share says so.
    next.want(&[pod("web", "")]);
    assert_eq!(next.sim.listing(None).pods.keys().collect::<Vec<_>>(), [&Uid::from("uid-web")]);
}

#[test]
fn a_pod_that_does_its_work_ends_and_is_not_run_again() {
    for (policy, script, phase, runs) in [
        ("Never", "exit=0 after=2s", "Succeeded", 1),
        ("Never", "exit=3 after=2s", "Failed", 1),
        ("OnFailure", "exit=0 after=2s", "Succeeded", 1),
    ] {
        let mut world = World::new();
        let mut pod = pod("job", script);
        pod["spec"]["restartPolicy"] = json!(policy);
        world.want(std::slice::from_ref(&pod));
        world.pass(60 * SECOND);
        assert_eq!(world.status("job")["phase"], phase, "{policy} {script}");
        assert_eq!(world.events.iter().filter(|(_, event)| event.reason == "Started").count(), runs);
        let left = &world.sim.listing(None).pods[&Uid::from("uid-job")];
        assert!(!left.sandboxes.iter().any(|sandbox| sandbox.state.is_running()), "its sandbox costs nothing any more");
        // The master keeps the phase; the runtime has forgotten: it stays so.
        pod["status"] = json!({"phase": phase});
        let mut next = World::new();
        next.want(&[pod]);
        assert_eq!((next.orders_seen, next.status("job")["phase"].as_str()), (0, Some(phase)));
    }
}

#[test]
fn init_containers_run_in_order_before_the_others() {
    let mut world = World::new();
    let mut pod = pod("web", "exit=0 after=2s");
    pod["spec"]["initContainers"] = json!([{"name": "one", "image": "nginx:1"}, {"name": "two", "image": "nginx:1"}]);
    pod["spec"]["restartPolicy"] = json!("Never");
    world.want(&[pod]);
    world.pass(3 * SECOND);
    let status = world.status("web");
    assert_eq!(status["phase"], "Pending");
    assert_eq!(condition(status, "Initialized")["status"], "False");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    world.pass(60 * SECOND);
    let order: Vec<&str> =
        world.events.iter().filter(|(_, event)| event.reason == "Started").map(|(_, event)| event.field_path.as_str()).collect();
    assert_eq!(order, ["spec.initContainers{one}", "spec.initContainers{two}", "spec.containers{app}"]);
    assert_eq!(world.status("web")["phase"], "Succeeded");
}

#[test]
fn at_most_two_images_are_fetched_at_once_and_many_pods_all_come_up() {
    let mut world = World::new();
    let pods: Vec<Value> = (0..200)
        .map(|number| {
            let mut pod = pod(&format!("web-{number}"), "");
            pod["spec"]["containers"][0]["image"] = json!(format!("image-{}", number % 5));
            pod["spec"]["containers"][0]["imagePullPolicy"] = json!(if number < 7 { "Always" } else { "IfNotPresent" });
            pod
        })
        .collect();
    world.want(&pods);
    world.pass(3600 * SECOND);
    assert_eq!(world.most_pulls, 2);
    assert_eq!(world.lights.iter().filter(|light| light.state == LightState::Ready).count(), 200);
}

#[test]
fn a_listing_that_began_earlier_does_not_undo_a_later_one() {
    let mut world = World::new();
    let empty = world.sim.listing(None);
    world.want(&[pod("web", "")]);
    world.pass(5 * SECOND);
    let orders = world.orders_seen;
    world.input(Input::Observed(empty));
    assert_eq!((world.orders_seen, world.node.dropped()), (orders, 1));
    assert_eq!(world.status("web")["phase"], "Running");
}

#[test]
fn a_missing_config_map_is_said_and_healed() {
    let mut world = World::new();
    let mut pod = pod("web", "");
    pod["spec"]["containers"][0]["env"] = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}]);
    world.want(std::slice::from_ref(&pod));
    world.pass(5 * SECOND);
    let waiting = &world.status("web")["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting, &json!({"reason": "CreateContainerConfigError", "message": "configmap \"c\" not found"}));
    let object = |value: Value| Arc::new(Object::from_value(value).unwrap());
    let share = Share {
        pods: [("uid-web".into(), object(pod))].into(),
        config_maps: [("default/c".to_owned(), object(json!({"data": {"k": "v"}})))].into(),
        ..Share::default()
    };
    world.input(Input::Desired(Arc::new(share)));
    world.pass(5 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
}

#[test]
fn a_registry_out_of_reach_does_not_stop_an_image_that_is_here() {
    let mut world = World::new();
    let always = |name: &str| {
        let mut pod = pod(name, "offline");
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        pod
    };
    world.want(&[always("early")]);
    world.pass(2 * SECOND);
    let waiting = &world.status("early")["containerStatuses"][0]["state"]["waiting"];
    assert_eq!(waiting["reason"], "ImagePullBackOff");
    assert!(waiting["message"].as_str().unwrap().contains("no route to host"));
    world.want(&[always("early"), pod("online", "")]);
    world.pass(4 * SECOND);
    world.want(&[always("early"), pod("online", ""), always("late")]);
    world.pass(30 * SECOND);
    for name in ["early", "online", "late"] {
        assert_eq!(world.status(name)["phase"], "Running", "{name}");
    }
    assert!(world.reasons().contains(&"StaleImage"));
}

#[test]
fn a_pod_that_fills_its_scratch_volume_is_evicted_within_about_a_minute() {
    let scratch = |script| {
        let mut pod = pod("web", script);
        pod["spec"]["volumes"] = json!([{"name": "x", "emptyDir": {"sizeLimit": "1Mi"}}]);
        pod
    };
    let mut world = World::new();
    world.want(&[scratch("")]);
    world.pass(600 * SECOND);
    assert_eq!(world.status("web")["phase"], "Running");
    let mut world = World::new();
    world.want(&[scratch("fills")]);
    world.pass(75 * SECOND);
    let words = "Usage of EmptyDir volume \"x\" exceeds the limit \"1Mi\". ";
    let status = world.status("web");
    assert_eq!((&status["phase"], &status["reason"], &status["message"]), (&json!("Failed"), &json!("Evicted"), &json!(words)));
    assert!(world.events.iter().any(|(_, event)| event.reason == "Evicted" && event.message == words));
}

fn evict(name: &str, grace: Duration) -> Input {
    Input::Fail {
        uid: Uid(format!("uid-{name}")),
        reason: "Evicted".into(),
        message: "The node was low on resource: memory.".into(),
        grace,
        condition: Some(FailureCondition {
            kind: "DisruptionTarget".into(),
            reason: "TerminationByKubelet".into(),
            message: "low".into(),
        }),
    }
}

#[test]
fn a_pod_that_the_node_gives_up_fails_with_its_words_and_keeps_its_logs() {
    for (script, over_after) in [("", 0), ("deaf", 5)] {
        let mut world = World::new();
        world.want(&[pod("web", script)]);
        world.pass(60 * SECOND);
        world.input(evict("web", 5 * SECOND));
        world.pass(Duration::from_secs(over_after).saturating_sub(SECOND));
        if over_after > 0 {
            assert_eq!(world.status("web")["phase"], "Running", "a phase is final when nothing runs any more");
            world.input(evict("web", 60 * SECOND));
        }
        world.pass(2 * SECOND);
        let told = world.reasons().into_iter().filter(|reason| *reason == "Evicted").count();
        assert_eq!(told, 1, "said once, however often it is asked for");
        let status = world.status("web");
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("Evicted")));
        assert_eq!(status["message"], "The node was low on resource: memory.");
        assert_eq!(condition(status, "DisruptionTarget")["lastTransitionTime"], "2026-11-22T20:07:40Z");
        assert_eq!(condition(status, "Ready")["reason"], "PodFailed");
        assert!(status["containerStatuses"][0]["state"]["terminated"].is_object());
        assert_eq!(world.lights[0].state, LightState::NotReady);
        world.pass(3600 * SECOND);
        let left = &world.sim.listing(None).pods[&Uid::from("uid-web")];
        assert_eq!((left.containers.len(), left.sandboxes.iter().any(|sandbox| sandbox.state.is_running())), (1, false));
        // The next agent hears of it from the master, and says the same.
        let mut known = pod("web", script);
        known["status"] = json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
        let mut next = World::with(world.sim, world.tick);
        next.want(std::slice::from_ref(&known));
        assert_eq!((next.orders_seen, &next.status("web")["reason"]), (0, &json!("Evicted")));
        next.want(&[deleting(known, 30)]);
        assert!(next.report("web").gone);
    }
}

#[test]
fn what_has_ended_or_is_being_deleted_is_not_failed_anew() {
    let mut world = World::new();
    let mut job = pod("job", "exit=0 after=2s");
    job["spec"]["restartPolicy"] = json!("Never");
    world.want(&[job.clone(), pod("web", "deaf")]);
    world.pass(10 * SECOND);
    world.want(&[job, deleting(pod("web", "deaf"), 30)]);
    for name in ["job", "web", "unknown"] {
        world.input(evict(name, SECOND));
    }
    world.pass(10 * SECOND);
    assert_eq!((&world.status("job")["phase"], &world.status("web")["phase"]), (&json!("Succeeded"), &json!("Running")));
}

#[test]
fn a_pod_that_waits_for_its_image_can_be_given_up() {
    let mut world = World::new();
    world.want(&[pod("web", "pull-fails")]);
    world.pass(5 * SECOND);
    world.input(evict("web", SECOND));
    world.pass(3600 * SECOND);
    assert_eq!(world.status("web")["reason"], "Evicted");
    assert_eq!(world.events.iter().filter(|(tick, event)| *tick > 6000 && event.reason == "Pulling").count(), 0);
}

#[test]
fn one_image_is_fetched_once_and_given_up_with_the_pod_that_wanted_it() {
    let always = |name: &str| {
        let mut pod = pod(name, "");
        pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        pod
    };
    let fetches = |world: &World| world.reasons().iter().filter(|reason| **reason == "Pulling").count();
    for kind in [&always as &dyn Fn(&str) -> Value, &|name| pod(name, "")] {
        let mut world = World::new();
        world.want(&[kind("a"), kind("b"), kind("c")]);
        world.pass(5 * SECOND);
        assert_eq!(fetches(&world), 1);
        for name in ["a", "b", "c"] {
            assert_eq!(world.status(name)["phase"], "Running", "{name}");
        }
        let mut world = World::new();
        world.want(&[kind("a"), kind("b")]);
        world.pass(SECOND);
        world.want(&[deleting(kind("a"), 30), kind("b")]);
        assert!(world.report("a").gone, "at once, though its image takes another second");
        assert_eq!(fetches(&world), 2, "the other one is next");
        world.pass(5 * SECOND);
        assert_eq!(world.status("b")["phase"], "Running");
        assert!(!world.reasons().contains(&"Failed"));
    }
}
