//! The one Machine of a node: from its share and from what it sees to commands, reports, events and lights.
//!
//! In:       the whole share, whenever it changes; listings; outcomes of commands.
//! Out:      [`Effect`]s: orders for the runtime, statuses for the master, words for people, states for LEDs.
//! Never:    talks to anybody, or decides what one pod needs (`pods/plan.rs`).
//! Flow:     stop 9: from `link`, on to `pods/plan.rs`; stop 12 goes out from here to `link`.
//!
//! * Nothing is done before the first full listing, and nothing is removed before the first share: an agent that has just
//!   started adopts what runs.
//! * A pod has at most one order out. Orders carry a ticket; an outcome with another one is dropped and counted.
//! * Listings carry a stamp, taken when they began: what an older one says about a pod is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::api::{Generation, Object, Uid};
use crate::clock::{Now, Tick};
use crate::link::share::Share;
use crate::step::Machine;

use super::pleg;
use super::pods::env::{ConfigError, Sources};
use super::pods::lifecycle::PodState;
use super::pods::plan::{self, About, ImageState, Memory, PULL_BACKOFF, TROUBLE_BACKOFF, Trouble};
use super::pods::spec::{self, PodSpec, PullPolicy};
use super::pods::status::{self, LightState};
use super::runtime::naming::SANDBOX;
use super::runtime::{Command, Done, Failure, Listing, ObservedPod, PodRef, RunState, Signal};

/// Images that are fetched at the same time: a card and a home's line take no more.
const PULLS: usize = 2;
/// How long `ErrImagePull` is shown before it becomes `ImagePullBackOff`.
const ERROR_SHOWN: Duration = Duration::from_secs(1);

/// What a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name.
    pub name: String,
    /// Its addresses, the main one first.
    pub host_ips: Vec<String>,
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// The whole share, as the master mailed it or as it was kept.
    Desired(Arc<Share>),
    /// A listing, of all or of one pod.
    Observed(Listing),
    /// An order was carried out, or not.
    Outcome(Outcome),
    /// The node's addresses changed.
    Addresses(Vec<String>),
    /// The master asks for every status.
    ReportAll,
}

/// An order for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Comes back with the outcome.
    pub ticket: u64,
    /// Whose.
    pub pod: PodRef,
    /// What.
    pub command: Command,
}

/// What became of an order.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The order's.
    pub ticket: u64,
    /// The pod's.
    pub uid: Uid,
    /// What the runtime said.
    pub result: Result<Done, Failure>,
    /// The pod as it is afterwards; `None`: it could not be looked at, a listing follows.
    pub after: Option<Listing>,
}

/// What a node wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// For the runtime.
    Run(Order),
    /// For the master: the newest status of a pod, because it changed.
    Report(PodReport),
    /// For `kubectl describe`.
    Event(NodeEvent),
    /// For the LEDs: all pods, because one changed.
    Lights(Vec<PodLight>),
}

/// A pod's status, fenced.
#[derive(Clone, Debug, PartialEq)]
pub struct PodReport {
    /// Which pod.
    pub uid: Uid,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Of the spec that this speaks of.
    pub generation: Generation,
    /// Counts the reports of this agent process about this pod.
    pub attempt: u64,
    /// v1 PodStatus, complete.
    pub status: Value,
    /// It was deleted, and has left nothing.
    pub gone: bool,
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// All as it should be.
    Normal,
    /// A person may want to look.
    Warning,
}

/// Something to tell about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// Which pod.
    pub pod: PodRef,
    /// `spec.containers{app}`, when it is about one container.
    pub field_path: Option<String>,
    /// How serious.
    pub kind: EventKind,
    /// One word.
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// One pod for the LEDs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodLight {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The annotation `bramble/led`: the LED that it asks for.
    pub led: Option<String>,
    /// What it shows.
    pub state: LightState,
}

/// One pod that the node knows.
#[derive(Debug)]
struct Pod {
    raw: Option<Arc<Object>>,
    spec: Option<PodSpec>,
    observed: ObservedPod,
    stamp: u64,
    /// Seen at least once since the runtime could be asked.
    seen: bool,
    state: PodState,
    memory: Memory,
    flight: Option<(u64, About)>,
    wake: Option<Tick>,
    wants_slot: bool,
    reports: u64,
    reported: Option<PodReport>,
    light: Option<LightState>,
    waits: BTreeMap<String, (String, String)>,
    warned: BTreeSet<String>,
    /// How many containers there were when their removal was ordered: with fewer, the last words are said.
    removal: Option<usize>,
}

impl Pod {
    fn new(uid: &Uid) -> Self {
        Self {
            raw: None,
            spec: None,
            observed: plan::nothing(uid),
            stamp: 0,
            seen: false,
            state: PodState::Live,
            memory: Memory::default(),
            flight: None,
            wake: None,
            wants_slot: false,
            reports: 0,
            reported: None,
            light: None,
            waits: BTreeMap::new(),
            warned: BTreeSet::new(),
            removal: None,
        }
    }

    fn pod_ref(&self) -> PodRef {
        self.spec.as_ref().map_or_else(|| self.observed.pod.clone(), |spec| spec.pod.clone())
    }

    fn pulls(&self) -> bool {
        matches!(&self.flight, Some((_, About::Image(_)))) && self.memory_pulling()
    }

    /// The image order that is out is a fetch and not a question.
    fn memory_pulling(&self) -> bool {
        let Some((_, About::Image(name))) = &self.flight else { return false };
        let always = self.spec.as_ref().and_then(|spec| spec.all().find(|container| container.name == *name));
        match self.memory.images.get(name) {
            Some(ImageState::Absent | ImageState::Failed { never: false, .. }) => true,
            Some(ImageState::Unknown) | None => always.is_some_and(|container| container.pull == PullPolicy::Always),
            Some(ImageState::Ready | ImageState::Unreachable { .. } | ImageState::Failed { never: true, .. }) => false,
        }
    }
}

/// The node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    share: Option<Arc<Share>>,
    pods: BTreeMap<Uid, Pod>,
    /// The stamp of the newest full listing.
    listed: Option<u64>,
    tickets: u64,
    lights: Vec<PodLight>,
    lights_changed: bool,
    dropped: u64,
}

impl Node {
    /// A node that knows nothing yet.
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        Self {
            config,
            share: None,
            pods: BTreeMap::new(),
            listed: None,
            tickets: 0,
            lights: Vec::new(),
            lights_changed: false,
            dropped: 0,
        }
    }

    /// The newest report of every pod: "everything when asked".
    pub fn all_reports(&self) -> impl Iterator<Item = &PodReport> {
        self.pods.values().filter_map(|pod| pod.reported.as_ref())
    }

    /// The newest status by uid, for the digest.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<&Uid, &Value> {
        self.pods.iter().filter_map(|(uid, pod)| Some((uid, &pod.reported.as_ref()?.status))).collect()
    }

    /// Outcomes and listings that came too late.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn desired(&mut self, now: Now, share: Arc<Share>, out: &mut Vec<Effect>) {
        let listed = self.listed;
        for (uid, raw) in &share.pods {
            let pod = self.pods.entry(uid.clone()).or_insert_with(|| Pod {
                stamp: listed.unwrap_or_default(),
                seen: listed.is_some(),
                ..Pod::new(uid)
            });
            if pod.raw.as_ref().is_none_or(|known| **known != **raw) {
                // Another annotation may name another LED.
                self.lights_changed = true;
                pod.spec = Some(spec::read(raw));
                pod.raw = Some(Arc::clone(raw));
            }
            if pod.observed.pod.name.is_empty() {
                pod.observed.pod = pod.pod_ref();
            }
        }
        self.share = Some(share);
        let uids: Vec<Uid> = self.pods.keys().cloned().collect();
        for uid in uids {
            self.settle(now, &uid, out);
        }
    }

    fn observed(&mut self, now: Now, listing: Listing, out: &mut Vec<Effect>) {
        let stamp = listing.stamp;
        let mut touched: BTreeSet<Uid> = listing.pods.keys().cloned().collect();
        match &listing.only {
            Some(uid) => {
                touched.insert(uid.clone());
            }
            None => {
                self.listed = Some(self.listed.unwrap_or_default().max(stamp));
                touched.extend(self.pods.keys().cloned());
            }
        }
        let mut found = listing.pods;
        for uid in &touched {
            let pod = self.pods.entry(uid.clone()).or_insert_with(|| Pod::new(uid));
            if stamp <= pod.stamp && pod.seen {
                self.dropped += 1;
                continue;
            }
            let after = found.remove(uid).unwrap_or_else(|| {
                let mut nothing = plan::nothing(uid);
                nothing.pod = pod.pod_ref();
                nothing
            });
            for change in pleg::changes(&pod.observed, &after) {
                if pod.seen {
                    tracing::debug!(pod = %format_args!("{}/{}", after.pod.namespace, after.pod.name), ?change, "container changed");
                }
            }
            for run in &after.containers {
                let highest = pod.memory.attempts.entry(run.name.clone()).or_default();
                *highest = (*highest).max(run.attempt);
                // It shows by itself that it could not start, and waits for its next turn as any dead container.
                if run.attempt == *highest && matches!(run.state, RunState::Exited { error: Some(_), .. }) {
                    pod.memory.trouble.remove(&run.name);
                }
            }
            let ids: BTreeSet<&String> =
                after.containers.iter().map(|run| &run.id).chain(after.sandboxes.iter().map(|sandbox| &sandbox.id)).collect();
            pod.memory.dues.retain(|id, _| ids.contains(id));
            pod.memory.kills.retain(|id, _| ids.contains(id));
            pod.observed = after;
            pod.stamp = stamp;
            pod.seen = true;
        }
        for uid in &touched {
            self.settle(now, uid, out);
        }
    }

    fn outcome(&mut self, now: Now, outcome: Outcome, out: &mut Vec<Effect>) {
        let Outcome { ticket, uid, result, after } = outcome;
        let expected = self.pods.get(&uid).and_then(|pod| pod.flight.as_ref()).is_some_and(|(out, _)| *out == ticket);
        let flight = if expected { self.pods.get_mut(&uid).and_then(|pod| pod.flight.take()) } else { None };
        let Some((_, about)) = flight else {
            self.dropped += 1;
            return;
        };
        // Which image is here now, if this was about one at all.
        let fetch_ended = match (&about, &result) {
            (About::Image(name), Ok(Done::Pulled { .. })) => Some(
                self.pods
                    .get(&uid)
                    .and_then(|pod| pod.spec.as_ref()?.all().find(|container| container.name == *name))
                    .map(|container| container.image.clone()),
            ),
            (About::Image(_), _) => Some(None),
            _ => None,
        };
        if let Some(pod) = self.pods.get_mut(&uid) {
            // Not looked at afterwards: what is known of it is old. A listing comes.
            pod.seen = after.is_some();
            learn(pod, about, &result, now, out);
        }
        match after {
            Some(listing) => self.observed(now, listing, out),
            None => self.settle(now, &uid, out),
        }
        if let Some(image) = fetch_ended {
            self.next_fetch(now, image.as_deref(), out);
        }
    }

    /// A fetch has ended, well when the image is named: who wants the same finds it, and the first of the others is next.
    fn next_fetch(&mut self, now: Now, image: Option<&str>, out: &mut Vec<Effect>) {
        let mut waiting = Vec::new();
        for (uid, pod) in self.pods.iter_mut().filter(|(_, pod)| pod.wants_slot) {
            let spec = pod.spec.iter().flat_map(PodSpec::all);
            let found = spec.filter(|container| image == Some(container.image.as_str())).any(|container| {
                let absent = pod.memory.images.get(&container.name) == Some(&ImageState::Absent);
                absent && pod.memory.images.remove(&container.name).is_some()
            });
            waiting.push((!found, uid.clone()));
        }
        waiting.sort();
        for (other, uid) in waiting {
            if other && self.pods.values().filter(|pod| pod.pulls()).count() >= PULLS {
                break;
            }
            self.settle(now, &uid, out);
        }
    }

    /// Brings one pod's state, order, status and light up to date.
    fn settle(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) {
        let Some(share) = self.share.clone() else { return };
        let pulls = self.pods.values().filter(|pod| pod.pulls()).count();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let wanted = share.pods.contains_key(uid);
        if self.listed.is_none() || !pod.seen {
            return;
        }
        if let Some(spec) = &pod.spec
            && plan::is_finished(spec, &pod.observed)
        {
            pod.state = pod.state.finish();
        }
        let ending = match &pod.spec {
            Some(spec) if wanted => spec.deletion,
            Some(spec) => Some(spec.deletion.unwrap_or(spec.grace)),
            None => Some(pod.observed.sandboxes.last().map_or(Duration::from_secs(30), |sandbox| sandbox.grace)),
        };
        if let Some(grace) = ending {
            pod.state = pod.state.terminate(now.tick, grace);
        }
        let nothing = pod.observed.containers.is_empty() && pod.observed.sandboxes.is_empty() && pod.observed.volumes.is_empty();
        if nothing && pod.flight.is_none() {
            pod.state = pod.state.vanish();
        }
        if pod.state == PodState::Gone && !wanted {
            self.pods.remove(uid);
            self.lights_changed = true;
            return;
        }
        if pod.state == PodState::Gone && pod.spec.as_ref().is_some_and(|spec| spec.deletion.is_none()) {
            // It left the share and came back: a life of its own.
            pod.state = PodState::Live;
            pod.memory = Memory::default();
            pod.removal = None;
        }
        let host_ip = self.config.host_ips.first().map(String::as_str).unwrap_or_default();
        let pod_ip = pod.observed.sandboxes.last().and_then(|sandbox| sandbox.ip.clone());
        let sources =
            Sources { share: &share, node_name: &self.config.name, host_ip, pod_ip: pod_ip.as_deref().unwrap_or(host_ip) };
        pod.wants_slot = false;
        pod.wake = None;
        if pod.flight.is_none() {
            let view = plan::View {
                spec: pod.spec.as_ref(),
                observed: &pod.observed,
                state: pod.state,
                sources,
                pull_slot: pulls < PULLS,
                now,
            };
            let next = plan::next(view, &mut pod.memory);
            pod.wake = next.wake;
            pod.wants_slot = next.wants_slot;
            if let Some((command, about)) = next.order {
                if command == Command::RemovePod {
                    pod.removal.get_or_insert(pod.observed.containers.len());
                }
                self.tickets += 1;
                tell(pod, &command, &about, now, out);
                let order = Order { ticket: self.tickets, pod: pod.pod_ref(), command };
                pod.flight = Some((self.tickets, about));
                out.push(Effect::Run(order));
            }
        }
        self.word(now, uid, out);
    }

    /// Words the status and reports it when it changed.
    fn word(&mut self, now: Now, uid: &Uid, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        let pulling = pod.pulls() || pod.wants_slot;
        let Some(spec) = &pod.spec else { return };
        for ignored in &spec.ignored {
            if pod.warned.insert(ignored.clone()) {
                out.push(event(&spec.pod, None, EventKind::Warning, "FieldIgnored", ignored.clone()));
            }
        }
        let worded = status::pod_status(status::View {
            spec,
            observed: &pod.observed,
            memory: &pod.memory,
            state: pod.state,
            pulling,
            host_ips: &self.config.host_ips,
            now,
        });
        for (name, (reason, message)) in &worded.waits {
            if pod.waits.get(name).is_some_and(|(before, _)| before == reason) {
                continue;
            }
            let path = field_path(spec, name);
            match reason.as_str() {
                "CrashLoopBackOff" => {
                    let text = format!(
                        "Back-off restarting failed container {name} in pod {}_{}({})",
                        spec.pod.name, spec.pod.namespace, spec.pod.uid
                    );
                    out.push(event(&spec.pod, path, EventKind::Warning, "BackOff", text));
                }
                "ImagePullBackOff" => out.push(event(&spec.pod, path, EventKind::Normal, "BackOff", message.clone())),
                "ErrImagePull" | "ErrImageNeverPull" => {
                    out.push(event(&spec.pod, path, EventKind::Warning, "Failed", format!("Error: {reason}")));
                }
                "CreateContainerConfigError" => {
                    out.push(event(&spec.pod, path, EventKind::Warning, "Failed", format!("Error: {message}")));
                }
                "ContainerCreating" if matches!(pod.memory.config.get(name), Some(ConfigError::Volume { .. })) => {
                    out.push(event(&spec.pod, None, EventKind::Warning, "FailedMount", message.clone()));
                }
                _ => {}
            }
        }
        pod.waits = worded.waits;
        let gone = pod.state == PodState::Gone;
        let light = worded.light.filter(|_| !gone);
        self.lights_changed |= pod.light != light || pod.reported.is_none();
        pod.light = light;
        // With its containers its last words are gone from the runtime: the status before stays.
        let emptied = gone || pod.removal.is_some_and(|before| pod.observed.containers.len() < before);
        let before = pod.reported.as_ref();
        let status = match before {
            Some(before) if emptied => before.status.clone(),
            _ => worded.status,
        };
        if before.is_some_and(|before| before.status == status && before.gone == gone && before.generation == spec.generation) {
            return;
        }
        pod.reports += 1;
        let report = PodReport {
            uid: uid.clone(),
            namespace: spec.pod.namespace.clone(),
            name: spec.pod.name.clone(),
            generation: spec.generation,
            attempt: pod.reports,
            status,
            gone,
        };
        pod.reported = Some(report.clone());
        // Nobody waits for the status of a pod that is no longer in the share.
        if self.share.as_ref().is_some_and(|share| share.pods.contains_key(uid)) {
            out.push(Effect::Report(report));
        }
    }

    /// Tells the lights when one of them changed; once per input.
    fn light(&mut self, out: &mut Vec<Effect>) {
        if !std::mem::take(&mut self.lights_changed) {
            return;
        }
        let lights: Vec<PodLight> = self
            .pods
            .values()
            .filter_map(|pod| {
                let spec = pod.spec.as_ref()?;
                Some(PodLight {
                    namespace: spec.pod.namespace.clone(),
                    name: spec.pod.name.clone(),
                    led: spec.annotations.get("bramble/led").cloned(),
                    state: pod.light?,
                })
            })
            .collect();
        if lights != self.lights {
            self.lights.clone_from(&lights);
            out.push(Effect::Lights(lights));
        }
    }
}

impl Machine for Node {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Desired(share) => self.desired(now, share, out),
            Input::Observed(listing) => self.observed(now, listing, out),
            Input::Outcome(outcome) => self.outcome(now, outcome, out),
            Input::Addresses(host_ips) => {
                self.config.host_ips = host_ips;
                let uids: Vec<Uid> = self.pods.keys().cloned().collect();
                for uid in uids {
                    self.word(now, &uid, out);
                }
            }
            Input::ReportAll => out.extend(self.all_reports().cloned().map(Effect::Report)),
        }
        self.light(out);
    }

    fn wake(&mut self, now: Now, out: &mut Vec<Effect>) {
        let due: Vec<Uid> = self
            .pods
            .iter()
            .filter(|(_, pod)| pod.wake.is_some_and(|wake| wake <= now.tick))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in due {
            self.settle(now, &uid, out);
        }
        self.light(out);
    }

    fn next_wake(&self) -> Option<Tick> {
        self.pods.values().filter_map(|pod| pod.wake).min()
    }
}

fn event(pod: &PodRef, field_path: Option<String>, kind: EventKind, reason: &'static str, message: String) -> Effect {
    Effect::Event(NodeEvent { pod: pod.clone(), field_path, kind, reason, message })
}

fn field_path(spec: &PodSpec, container: &str) -> Option<String> {
    let list = if spec.init.iter().any(|init| init.name == container) { "initContainers" } else { "containers" };
    Some(format!("spec.{list}{{{container}}}"))
}

/// Says what is about to be done.
fn tell(pod: &mut Pod, command: &Command, about: &About, now: Now, out: &mut Vec<Effect>) {
    if let (Command::Signal { signal: Signal::Kill, ids }, About::Stop(_)) = (command, about) {
        plan::killed(ids, now.tick, &mut pod.memory);
    }
    let Some(spec) = &pod.spec else { return };
    match (command, about) {
        (Command::PullImage { image }, About::Image(name)) => {
            out.push(event(
                &spec.pod,
                field_path(spec, name),
                EventKind::Normal,
                "Pulling",
                format!("Pulling image \"{image}\""),
            ));
        }
        (Command::Signal { ids, signal: Signal::Term }, _) => {
            for run in pod.observed.containers.iter().filter(|run| ids.contains(&run.id)) {
                let text = format!("Stopping container {}", run.name);
                out.push(event(&spec.pod, field_path(spec, &run.name), EventKind::Normal, "Killing", text));
            }
        }
        (Command::StartSandbox(_), _)
            if pod.observed.sandboxes.iter().any(|sandbox| matches!(sandbox.state, RunState::Exited { .. })) =>
        {
            let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            out.push(event(&spec.pod, None, EventKind::Normal, "SandboxChanged", text));
        }
        _ => {}
    }
}

/// Takes in what became of an order, and says it.
fn learn(pod: &mut Pod, about: About, result: &Result<Done, Failure>, now: Now, out: &mut Vec<Effect>) {
    let Some(spec) = &pod.spec else {
        // Only stops and removals are ordered for a pod without a spec: they are ordered again while something is there.
        if let Err(failure) = result {
            trouble(&mut pod.memory, SANDBOX, now, "FailedKillPod", failure);
        }
        return;
    };
    match (about, result) {
        (About::Sandbox, Ok(_)) => {
            pod.memory.trouble.remove(SANDBOX);
        }
        (About::Sandbox, Err(failure)) => {
            if !matches!(failure, Failure::Unavailable(_)) {
                let text = format!("Failed to create pod sandbox: {failure}");
                out.push(event(&spec.pod, None, EventKind::Warning, "FailedCreatePodSandBox", text));
            }
            trouble(&mut pod.memory, SANDBOX, now, "ContainerCreating", failure);
        }
        (About::Image(name), result) => image(pod, &name, result, now, out),
        (About::Start(name), Ok(Done::Started { warnings, .. })) => {
            let path = field_path(spec, &name);
            out.push(event(&spec.pod, path.clone(), EventKind::Normal, "Created", format!("Created container: {name}")));
            out.push(event(&spec.pod, path.clone(), EventKind::Normal, "Started", format!("Started container {name}")));
            for warning in warnings {
                out.push(event(&spec.pod, path.clone(), EventKind::Warning, "RuntimeWarning", warning.clone()));
            }
            pod.memory.trouble.remove(&name);
            pod.memory.images.remove(&name);
        }
        (About::Start(_), Ok(_)) | (About::Cleanup, Ok(_)) | (About::Stop(_), Ok(_)) => {
            if pod.memory.trouble.get(SANDBOX).is_some_and(|trouble| trouble.reason == "FailedKillPod") {
                pod.memory.trouble.remove(SANDBOX);
            }
        }
        (About::Start(name), Err(failure)) => {
            if !matches!(failure, Failure::Unavailable(_)) {
                out.push(event(&spec.pod, field_path(spec, &name), EventKind::Warning, "Failed", format!("Error: {failure}")));
            }
            // The image may have been removed since it was looked for.
            pod.memory.images.remove(&name);
            trouble(&mut pod.memory, &name, now, "CreateContainerError", failure);
        }
        (About::Stop(ids), Err(failure)) => {
            pod.memory.kills.retain(|id, _| !ids.contains(id));
            trouble(&mut pod.memory, SANDBOX, now, "FailedKillPod", failure);
        }
        (About::Cleanup, Err(failure)) => {
            if !matches!(failure, Failure::Unavailable(_)) {
                out.push(event(&spec.pod, None, EventKind::Warning, "FailedKillPod", format!("error killing pod: {failure}")));
            }
            trouble(&mut pod.memory, SANDBOX, now, "FailedKillPod", failure);
        }
    }
}

fn trouble(memory: &mut Memory, name: &str, now: Now, reason: &'static str, failure: &Failure) {
    let failures = memory.trouble.get(name).map_or(0, |trouble| trouble.failures).saturating_add(1);
    let due = now.tick.after(TROUBLE_BACKOFF.delay(failures));
    memory.trouble.insert(name.to_owned(), Trouble { failures, due, reason, message: failure.to_string() });
}

/// Takes in what became of a question for an image, or of its fetch.
fn image(pod: &mut Pod, name: &str, result: &Result<Done, Failure>, now: Now, out: &mut Vec<Effect>) {
    let Some(spec) = &pod.spec else { return };
    let Some(container) = spec.all().find(|container| container.name == *name) else { return };
    let path = field_path(spec, name);
    let image = &container.image;
    let failures = match pod.memory.images.get(name) {
        Some(ImageState::Failed { failures, .. } | ImageState::Unreachable { failures, .. }) => *failures,
        Some(ImageState::Unknown | ImageState::Absent | ImageState::Ready) | None => 0,
    };
    let stale = match pod.memory.images.get(name) {
        Some(ImageState::Unreachable { message, .. }) => Some(message.clone()),
        _ => None,
    };
    let failed = |message: String, never: bool| ImageState::Failed {
        failures: failures.saturating_add(1),
        due: now.tick.after(PULL_BACKOFF.delay(failures.saturating_add(1))),
        cools: now.tick.after(ERROR_SHOWN),
        message,
        never,
    };
    let state = match result {
        Ok(Done::Image { present: true }) if stale.is_some() => {
            let text = format!("Image \"{image}\" cannot be pulled now; the copy on this node is used");
            out.push(event(&spec.pod, path, EventKind::Warning, "StaleImage", text));
            ImageState::Ready
        }
        Ok(Done::Image { present: false }) if stale.is_some() => failed(stale.unwrap_or_default(), false),
        Ok(Done::Image { present: true }) => {
            let text = format!("Container image \"{image}\" already present on machine");
            out.push(event(&spec.pod, path, EventKind::Normal, "Pulled", text));
            ImageState::Ready
        }
        Ok(Done::Image { present: false }) if container.pull == PullPolicy::Never => {
            let text = format!("Container image \"{image}\" is not present with pull policy of Never");
            out.push(event(&spec.pod, path, EventKind::Warning, "ErrImageNeverPull", text.clone()));
            failed(text, true)
        }
        Ok(Done::Image { present: false }) => ImageState::Absent,
        Ok(Done::Pulled { took, bytes }) => {
            let text = format!("Successfully pulled image \"{image}\" in {:.3}s. Image size: {bytes} bytes.", took.as_secs_f64());
            out.push(event(&spec.pod, path, EventKind::Normal, "Pulled", text));
            ImageState::Ready
        }
        Ok(Done::Ok | Done::Started { .. }) => ImageState::Ready,
        Err(failure) => {
            if !matches!(failure, Failure::Unavailable(_)) {
                let text = format!("Failed to pull image \"{image}\": {failure}");
                out.push(event(&spec.pod, path, EventKind::Warning, "Failed", text));
            }
            match failure {
                // The registry is out of reach, which is no reason to leave a house dark: see whether a copy is here.
                Failure::Failed(message) if container.pull == PullPolicy::Always && stale.is_none() => {
                    ImageState::Unreachable { failures, message: message.clone() }
                }
                Failure::Failed(_) | Failure::Refused(_) | Failure::Unavailable(_) => failed(failure.to_string(), false),
            }
        }
    };
    pod.memory.images.insert(name.to_owned(), state);
}
