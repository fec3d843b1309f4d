//! What the node knows of one pod, and what it learns from the outcome of an order.
//!
//! In:       orders as they go out, outcomes as they come back.
//! Out:      the pod's memory, and events in upstream's words for `kubectl describe`.
//! Never:    decides what is done next (`plan.rs`), or words the status (`status.rs`).
//! Flow:     between stops 9 and 11: from and to `agent/node.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::hooks::{HookEnd, HookOutcome};
use crate::agent::images::progress::Told;
use crate::agent::images::words::EXEC_FORMAT;
use crate::agent::node::Effect;
use crate::agent::past::GivenUp;
use crate::agent::prober::verdict;
use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{Command, Done, Failure, Note, ObservedContainer, ObservedPod, PodRef, RunState, Trace};
use crate::api::{Object, Uid};
use crate::clock::{Now, Tick};
use crate::link::message::{NodeEvent, PodReport};

use super::image;
use super::lasting::Lasting;
use super::lifecycle::PodState;
use super::mount::VOLUMES;
use super::need;
use super::plan::{self, About, Memory, Moment, PodFailure, PostStart, Stage, TROUBLE_BACKOFF, Trouble};
use super::spec::{ContainerSpec, PodSpec};
use super::status::LightState;

/// One pod that the node knows.
#[derive(Debug)]
pub(in crate::agent) struct Pod {
    pub(in crate::agent) raw: Option<Arc<Object>>,
    pub(in crate::agent) spec: Option<PodSpec>,
    pub(in crate::agent) observed: ObservedPod,
    pub(in crate::agent) stamp: u64,
    /// Seen at least once since the runtime could be asked.
    pub(in crate::agent) seen: bool,
    pub(in crate::agent) state: PodState,
    pub(in crate::agent) memory: Memory,
    pub(in crate::agent) flight: Option<(u64, About)>,
    pub(in crate::agent) wake: Option<Tick>,
    pub(in crate::agent) wants_slot: bool,
    pub(in crate::agent) reports: u64,
    pub(in crate::agent) reported: Option<PodReport>,
    pub(in crate::agent) light: Option<LightState>,
    pub(in crate::agent) waits: BTreeMap<String, (String, String)>,
    pub(in crate::agent) warned: BTreeSet<String>,
    /// What is wrong with it, and how often that was told.
    pub(in crate::agent) lasting: Lasting,
    /// What was told of the fetch for it.
    pub(in crate::agent) told: Option<Told>,
    /// The order that was given up.
    pub(in crate::agent) given_up: Option<u64>,
    /// How many containers there were when their removal was ordered: with fewer, the last words are said.
    pub(in crate::agent) removal: Option<usize>,
}

impl Pod {
    pub(in crate::agent) fn new(uid: &Uid) -> Self {
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
            lasting: Lasting::default(),
            told: None,
            given_up: None,
            removal: None,
        }
    }

    pub(in crate::agent) fn pod_ref(&self) -> PodRef {
        self.spec.as_ref().map_or_else(|| self.observed.pod.clone(), |spec| spec.pod.clone())
    }

    /// An image is being fetched for it.
    pub(in crate::agent) fn pulls(&self) -> bool {
        matches!(&self.flight, Some((_, About::Pull(_))))
    }

    /// A container of it is being started.
    pub(in crate::agent) fn starts(&self) -> bool {
        matches!(&self.flight, Some((_, About::Start(_))))
    }

    /// The image that is being fetched.
    pub(in crate::agent) fn pulled_image(&self) -> Option<&str> {
        let Some((_, About::Pull(name))) = &self.flight else { return None };
        need::find(self.spec.as_ref()?, name).map(|need| need.image)
    }
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::agent) enum Severity {
    /// All as it should be.
    Normal,
    /// A person may want to look.
    Warning,
}

pub(in crate::agent) fn event(
    pod: &PodRef,
    field_path: Option<String>,
    severity: Severity,
    reason: &'static str,
    message: String,
) -> Effect {
    Effect::Event(NodeEvent {
        kind: "Pod".to_owned(),
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        field_path: field_path.unwrap_or_default(),
        warning: severity == Severity::Warning,
        reason: reason.to_owned(),
        message,
    })
}

/// Where in the pod a container stands. What is about an image volume is about the pod. Source: the kubelet's getImageVolumes.
pub(in crate::agent) fn field_path(spec: &PodSpec, container: &str) -> Option<String> {
    if need::is_volume(container) {
        return None;
    }
    let among = |list: &[ContainerSpec]| list.iter().any(|known| known.name == container);
    let list = match (among(&spec.init), among(&spec.ephemeral)) {
        (true, _) => "initContainers",
        (_, true) => "ephemeralContainers",
        _ => "containers",
    };
    Some(format!("spec.{list}{{{container}}}"))
}

/// Says what is about to be done.
pub(in crate::agent) fn tell(pod: &mut Pod, command: &Command, about: &About, out: &mut Vec<Effect>) {
    if let Command::Signal { ids, .. } = command {
        tell_ending(pod, ids, out);
    }
    let Some(spec) = &pod.spec else { return };
    match (command, about) {
        (Command::PullImage { image, .. }, About::Pull(name)) => {
            out.push(event(&spec.pod, field_path(spec, name), Severity::Normal, "Pulling", format!("Pulling image \"{image}\"")));
        }
        (Command::StartContainer(plan), About::Start(name)) => {
            for note in &plan.notes {
                out.push(event(&spec.pod, field_path(spec, name), Severity::Warning, note.reason, note.message.clone()));
            }
        }
        // One that was made and not started is taken over.
        (Command::StartSandbox(_), _)
            if pod.memory.sandboxed && pod.observed.sandboxes.last().is_none_or(|last| last.state != RunState::Created) =>
        {
            let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            out.push(event(&spec.pod, None, Severity::Normal, "SandboxChanged", text));
        }
        _ => {}
    }
}

/// Says, once each, that these containers are told to end.
pub(in crate::agent) fn tell_ending(pod: &mut Pod, ids: &[String], out: &mut Vec<Effect>) {
    let Some(spec) = &pod.spec else { return };
    let live = pod.state == PodState::Live;
    let replaced = |run: &ObservedContainer| live && spec.any(&run.name).is_some_and(|now| now.hash != run.spec_hash);
    for run in pod.observed.containers.iter().filter(|run| ids.contains(&run.id)) {
        let Some(kill) = pod.memory.kills.get_mut(&run.id).filter(|kill| !kill.told) else { continue };
        kill.told = true;
        let failing = pod.memory.probes.failing(&run.id).filter(|_| live);
        let text = match (pod.memory.post_start.get(&run.id), failing) {
            (Some(PostStart::Failed), _) => "FailedPostStartHook".to_owned(),
            (_, Some(failing)) => verdict::killing(&run.name, failing.kind, plan::again(spec, run, 1, &pod.memory.probes)),
            // Source: the kubelet's computePodActions.
            (_, None) if replaced(run) => format!("Container {} definition changed, will be restarted", run.name),
            (_, None) => format!("Stopping container {}", run.name),
        };
        out.push(event(&spec.pod, field_path(spec, &run.name), Severity::Normal, "Killing", text));
    }
}

/// A container may show that it runs before the engine has answered that it started it. It is as new as after that answer: its
/// probes have not been asked, and its postStart hook is to come, before which it is not ready.
pub(in crate::agent) fn expect_start(pod: &mut Pod, after: &ObservedPod) {
    let (Some((_, About::Start(name))), Some(spec)) = (&pod.flight, &pod.spec) else { return };
    let Some(run) = plan::newest(after, name).filter(|run| run.state.is_running()) else { return };
    if pod.observed.containers.iter().any(|before| before.id == run.id && before.state.is_running()) {
        return;
    }
    pod.memory.probes.born(name, &run.id);
    if spec.any(name).is_some_and(|container| container.lifecycle.post_start.is_some()) {
        pod.memory.post_start.entry(run.id.clone()).or_insert(PostStart::Due);
    }
}

/// Says when a process of a container was killed for its memory and the container runs on: nothing else would show it. The
/// word is the one of upstream's node-problem-detector; the kubelet says nothing of it.
pub(in crate::agent) fn tell_oom(pod: &Pod, after: &ObservedPod, out: &mut Vec<Effect>) {
    let Some(spec) = &pod.spec else { return };
    for run in after.containers.iter().filter(|run| run.oom && run.state.is_running()) {
        let new = pod.observed.containers.iter().any(|before| before.id == run.id && !before.oom);
        if new {
            let text = format!(
                "A process of container {} was killed because the container needed more memory than its limit; the container runs on",
                run.name
            );
            out.push(event(&spec.pod, field_path(spec, &run.name), Severity::Warning, "OOMKilling", text));
        }
    }
}

/// Takes in what became of a hook, and says it; `false` when nobody waits for it any more. What it said is not for everybody who
/// may read events. Source: the kubelet, which keeps it back as well.
pub(in crate::agent) fn hooked(pod: &mut Pod, outcome: HookOutcome, out: &mut Vec<Effect>) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let runs = |run: &&ObservedContainer| run.id == outcome.container && run.state.is_running();
    let Some(run) = pod.observed.containers.iter().find(runs) else { return false };
    let path = field_path(spec, &run.name);
    match outcome.moment {
        Moment::PostStart => {
            let Some(known) = pod.memory.post_start.get_mut(&run.id) else { return false };
            if outcome.end == HookEnd::Done {
                pod.memory.post_start.remove(&run.id);
            } else {
                *known = PostStart::Failed;
                out.push(event(&spec.pod, path, Severity::Warning, "FailedPostStartHook", "PostStartHook failed".to_owned()));
            }
        }
        Moment::PreStop => {
            let Some(kill) = pod.memory.kills.get_mut(&run.id).filter(|kill| kill.stage == Stage::Hook) else { return false };
            kill.stage = Stage::Turn { waited: true };
            if matches!(outcome.end, HookEnd::Failed(_)) {
                out.push(event(&spec.pod, path, Severity::Warning, "FailedPreStopHook", "PreStopHook failed".to_owned()));
            }
        }
    }
    true
}

/// Gives a pod up whose deadline is over; else says when it will be.
pub(in crate::agent) fn expire(pod: &mut Pod, now: Now, out: &mut Vec<Effect>) -> Option<Tick> {
    let spec = pod.spec.as_ref()?;
    let limit = spec.active_deadline?;
    let begun = pod.observed.sandboxes.last().map(|sandbox| sandbox.pod_start).or(pod.memory.begun)?;
    // By the wall only what an earlier agent saw: from here on by the clock that does not jump.
    let (since, before) = *pod.memory.active.get_or_insert_with(|| (now.tick, now.wall.since(begun)));
    let due = since.after(limit.saturating_sub(before));
    if due > now.tick {
        return Some(due);
    }
    let message = "Pod was active on the node longer than the specified deadline".to_owned();
    let reason = "DeadlineExceeded";
    out.push(event(&spec.pod, None, Severity::Normal, reason, message.clone()));
    let failure = PodFailure { reason: reason.to_owned(), message, ..PodFailure::default() };
    pod.memory.failure = Some(GivenUp::new(failure, spec.grace));
    pod.state = pod.state.end(now.tick, spec.grace);
    None
}

/// Keeps in mind what the runtime showed of a container and shows no more: its newest run, and the one before it. Somebody else
/// removed it; that it ran, and how it ended, still counts.
pub(in crate::agent) fn keep_lost(before: &ObservedPod, after: &mut ObservedPod, now: Now) {
    let mut lost: Vec<ObservedContainer> = Vec::new();
    for run in &before.containers {
        let there = after.containers.iter().any(|other| other.name == run.name && other.attempt == run.attempt);
        // Older ones are removed by us.
        let later = after.containers.iter().filter(|other| other.name == run.name && other.attempt > run.attempt).count();
        if there || later >= 2 || run.state == RunState::Created {
            continue;
        }
        let mut run = run.clone();
        if run.trace == Trace::There {
            run.trace = Trace::Lost;
        }
        if let RunState::Running { started } = run.state {
            run.trace = Trace::LostRunning;
            run.state = RunState::Exited { started, finished: now.wall, exit_code: 137, oom: false, error: None };
        }
        lost.push(run);
    }
    after.containers.extend(lost);
    after.containers.sort_by(|a, b| (&a.name, a.attempt).cmp(&(&b.name, b.attempt)));
}

/// Takes in what became of an order, and says it.
pub(in crate::agent) fn learn(pod: &mut Pod, about: About, result: &Result<Done, Failure>, now: Now, out: &mut Vec<Effect>) {
    let Some(spec) = &pod.spec else {
        // Only stops and removals are ordered for a pod without a spec: they are ordered again while something is there.
        if let Err(failure) = result {
            trouble(&mut pod.memory, SANDBOX, now, "FailedKillPod", failure);
            if let About::Stop(ids) = about {
                let retry = pod.memory.trouble.get(SANDBOX).map_or(now.tick, |trouble| trouble.due);
                plan::unsent(&ids, retry, &mut pod.memory);
            }
        }
        return;
    };
    match (about, result) {
        (About::Sandbox, Ok(done)) => {
            if let Done::Started { warnings, .. } = done {
                let warned = |note: &Note| event(&spec.pod, None, Severity::Warning, note.reason, note.message.clone());
                out.extend(warnings.iter().map(warned));
            }
            pod.memory.trouble.remove(SANDBOX);
        }
        (About::Sandbox, Err(failure)) => {
            if !matches!(failure, Failure::Unavailable(_)) {
                let text = format!("Failed to create pod sandbox: {failure}");
                out.push(event(&spec.pod, None, Severity::Warning, "FailedCreatePodSandBox", text));
            }
            trouble(&mut pod.memory, SANDBOX, now, "ContainerCreating", failure);
        }
        (About::Volumes(digest), Ok(_)) => {
            pod.memory.mounts.done = Some(digest);
            pod.memory.mounts.failed = None;
            pod.memory.trouble.remove(VOLUMES);
        }
        (About::Volumes(_), Err(failure)) => {
            // What the engine could not even be asked is no fault of the volume's.
            if !matches!(failure, Failure::Unavailable(_)) {
                pod.memory.mounts.failed = Some(failure.to_string());
            }
            trouble(&mut pod.memory, VOLUMES, now, "ContainerCreating", failure);
        }
        // Measured again in a minute.
        (About::Usage, _) => {}
        (About::Image(name), result) => image::learn(pod, &name, false, result, now, out),
        (About::Pull(name), result) => image::learn(pod, &name, true, result, now, out),
        (About::Start(name), Ok(Done::Started { id, created, warnings })) => {
            if *created {
                pod.memory.probes.born(&name, id);
            }
            let path = field_path(spec, &name);
            if spec.any(&name).is_some_and(|container| container.lifecycle.post_start.is_some()) {
                pod.memory.post_start.entry(id.clone()).or_insert(PostStart::Due);
            }
            out.push(event(&spec.pod, path.clone(), Severity::Normal, "Created", format!("Created container: {name}")));
            out.push(event(&spec.pod, path.clone(), Severity::Normal, "Started", format!("Started container {name}")));
            for warning in warnings {
                out.push(event(&spec.pod, path.clone(), Severity::Warning, warning.reason, warning.message.clone()));
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
                out.push(event(&spec.pod, field_path(spec, &name), Severity::Warning, "Failed", format!("Error: {failure}")));
            }
            // The images may have been removed since they were looked for.
            let volumes = spec.any(&name).map(|container| need::volumes_of(spec, container)).unwrap_or_default();
            for key in volumes.iter().chain([&name]) {
                pod.memory.images.remove(key);
            }
            let reason = match failure {
                Failure::Unfit(_) => "CreateContainerConfigError",
                Failure::Unavailable(_) | Failure::Refused(_) | Failure::Failed(_) => "CreateContainerError",
            };
            trouble(&mut pod.memory, &name, now, reason, failure);
        }
        (About::Stop(ids), Err(failure)) => {
            trouble(&mut pod.memory, SANDBOX, now, "FailedKillPod", failure);
            let retry = pod.memory.trouble.get(SANDBOX).map_or(now.tick, |trouble| trouble.due);
            plan::unsent(&ids, retry, &mut pod.memory);
        }
        (About::Cleanup, Err(failure)) => {
            if !matches!(failure, Failure::Unavailable(_)) {
                out.push(event(&spec.pod, None, Severity::Warning, "FailedKillPod", format!("error killing pod: {failure}")));
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

/// Says that a container's program is for other machines: that shows only once it has run.
pub(in crate::agent) fn tell_exec_format(pod: &Pod, after: &ObservedPod, out: &mut Vec<Effect>) {
    let Some(spec) = &pod.spec else { return };
    for run in &after.containers {
        let RunState::Exited { error: Some(error), .. } = &run.state else { continue };
        let known = pod.observed.containers.iter().any(|before| before.id == run.id && before.state == run.state);
        if error.starts_with(EXEC_FORMAT) && pod.seen && !known {
            let text = format!("Error: failed to start container \"{}\": {error}", run.name);
            out.push(event(&spec.pod, field_path(spec, &run.name), Severity::Warning, "Failed", text));
        }
    }
}
