//! Runs the node against the simulated runtime under a clock that is moved by hand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::agent::devices::Offer;
use crate::agent::hooks::{HookEnd, HookOrder, HookOutcome};
use crate::agent::node::{Effect, Input, Node, NodeConfig, Outcome, PodLight};
use crate::agent::past::Past;
use crate::agent::pods::plan::FailureCondition;
use crate::agent::pods::resource_field::NodeAmounts;
use crate::agent::pods::status::LightState;
use crate::agent::prober::{Answer, Ask, Order, Sign};
use crate::agent::runtime::simulated::{self, Settings, Simulated};
use crate::agent::runtime::{Failure, Listing};
use crate::api::{Object, Uid};
use crate::clock::{Now, Tick, Wall};
use crate::link::message::{NodeEvent, PodReport};
use crate::link::share::Share;
use crate::step::Machine;

mod basics_tests;
mod devices_tests;
mod early_tests;
mod given_up_tests;
mod image_volumes_tests;
mod images_tests;
mod kept_tests;
mod lasting_tests;
mod life_tests;
mod past_tests;
mod probes_tests;
mod room_tests;
mod trial_tests;

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
    /// What is written down.
    disk: Past,
    /// How often that was written.
    kept: usize,
    orders_seen: usize,
    pulling: usize,
    most_pulls: usize,
    pending: std::collections::VecDeque<simulated::Effect>,
    /// Probes that wait for their answer.
    asked: std::collections::VecDeque<Ask>,
    asks: usize,
    /// Probes are not answered.
    mute: bool,
    /// So many questions for an image get no answer.
    unanswered: usize,
    /// Starts of containers are answered later.
    slow: bool,
    /// Their answers.
    held: Vec<simulated::Effect>,
}

impl World {
    fn new() -> Self {
        Self::with(Simulated::new(Settings::default()), 0)
    }

    fn with(sim: Simulated, tick: u64) -> Self {
        Self::after(sim, tick, Past::default())
    }

    /// The world of an agent that finds on its disk what the one before it wrote down.
    fn after(sim: Simulated, tick: u64, past: Past) -> Self {
        Self::having(NodeAmounts::default(), sim, tick, past)
    }

    /// The same of a node that knows what it has.
    fn having(amounts: NodeAmounts, sim: Simulated, tick: u64, past: Past) -> Self {
        let mut world = Self {
            tick,
            sim,
            node: Node::new(NodeConfig {
                name: "pi".into(),
                host_ips: vec!["192.168.1.9".into()],
                scheme: "docker",
                amounts,
                ..NodeConfig::default()
            }),
            orders: BTreeMap::new(),
            reports: BTreeMap::new(),
            events: Vec::new(),
            lights: Vec::new(),
            hooks: Vec::new(),
            offers: Vec::new(),
            disk: past.clone(),
            kept: 0,
            orders_seen: 0,
            pulling: 0,
            most_pulls: 0,
            pending: std::collections::VecDeque::new(),
            asked: std::collections::VecDeque::new(),
            asks: 0,
            mute: false,
            unanswered: 0,
            slow: false,
            held: Vec::new(),
        };
        world.input(Input::Past(past));
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
                    if self.unanswered > 0 && matches!(order.command, crate::agent::runtime::Command::FindImage { .. }) {
                        self.unanswered -= 1;
                        let result = Err(Failure::Unavailable("the engine does not answer".into()));
                        self.pending.push_back(simulated::Effect::Outcome { id: order.ticket, result });
                        continue;
                    }
                    let held = self.slow && matches!(order.command, crate::agent::runtime::Command::StartContainer(_));
                    let input = simulated::Input::Execute { id: order.ticket, pod: order.pod, command: order.command };
                    let mut answers = Vec::new();
                    self.sim.handle(self.now(), input, &mut answers);
                    if held {
                        self.held.extend(answers);
                    } else {
                        self.pending.extend(answers);
                    }
                }
                Effect::Hook(order) => self.hooks.push((self.tick, order)),
                Effect::Probe(order) => self.probe(order),
                Effect::Report(report) => self.reports.entry(report.name.clone()).or_default().push((self.tick, report)),
                Effect::Event(event) => self.events.push((self.tick, event)),
                Effect::Lights(lights) => self.lights = lights,
                Effect::Keep(past) => {
                    self.disk = past;
                    self.kept += 1;
                }
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
                    let after = Some(self.listing(&uid));
                    Input::Outcome(Outcome { ticket: id, uid, result, after })
                }
                simulated::Effect::Changed(uid) => Input::Observed(self.listing(&uid)),
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

    /// The next agent: this one was killed.
    fn next_agent(self) -> Self {
        Self::after(self.sim, self.tick, self.disk)
    }

    /// Somebody outside does something to the runtime, and the agent hears of it.
    fn happens(&mut self, outside: simulated::Input) {
        let mut answers = Vec::new();
        self.sim.handle(self.now(), outside, &mut answers);
        self.answer(answers);
    }

    /// Somebody removes the newest run of a container; the agent hears of it only if `heard`.
    fn remove(&mut self, uid: &str, container: &str, heard: bool) {
        let run = self.sim.runs(&uid.into(), container).last().unwrap().id.clone();
        let removal = simulated::Input::RemoveOutside(run);
        if heard {
            self.happens(removal);
        } else {
            self.sim.handle(self.now(), removal, &mut Vec::new());
        }
    }

    /// What the runtime shows of a pod.
    fn listing(&mut self, uid: &Uid) -> Listing {
        self.sim.listing(Some(uid))
    }

    /// Somebody takes a pod's sandbox off its network, and the agent hears nothing of it; the sandbox.
    fn disconnect(&mut self, uid: &str) -> String {
        let sandbox = self.listing(&uid.into()).pods[&Uid::from(uid)].sandboxes[0].id.clone();
        self.sim.handle(self.now(), simulated::Input::DisconnectOutside(sandbox.clone()), &mut Vec::new());
        sandbox
    }

    /// Somebody looks at the pod although nothing was told of it.
    fn look(&mut self, uid: &str) {
        let listing = self.listing(&uid.into());
        self.input(Input::Observed(listing));
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

const SECOND: Duration = Duration::from_secs(1);
