//! What the node knows of one pod, and what it learns from the outcome of an order.
//!
//! In:       orders as they go out, outcomes as they come back.
//! Out:      the pod's memory, and events in upstream's words for `kubectl describe`.
//! Never:    decides what is done next (`plan.rs`), or words the status (`status.rs`).
//! Flow:     between stops 9 and 11: from and to `agent/node.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::agent::images::progress::Told;
use crate::agent::images::words::EXEC_FORMAT;
use crate::agent::node::Effect;
use crate::agent::prober::verdict;
use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{Command, Done, Failure, ObservedPod, PodRef, RunState, Signal};
use crate::api::{Object, Uid};
use crate::clock::{Now, Tick};
use crate::link::message::{NodeEvent, PodReport};

use super::image;
use super::lifecycle::PodState;
use super::plan::{self, About, Memory, TROUBLE_BACKOFF, Trouble};
use super::spec::PodSpec;
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
    /// What was told of the fetch for it.
    pub(in crate::agent) told: Option<Told>,
    /// The fetch that was given up.
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

    /// Which.
    pub(in crate::agent) fn pulled_image(&self) -> Option<&str> {
        let Some((_, About::Pull(name))) = &self.flight else { return None };
        self.spec.as_ref()?.all().find(|container| container.name == *name).map(|container| container.image.as_str())
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
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        field_path: field_path.unwrap_or_default(),
        warning: severity == Severity::Warning,
        reason: reason.to_owned(),
        message,
    })
}

pub(in crate::agent) fn field_path(spec: &PodSpec, container: &str) -> Option<String> {
    let list = if spec.init.iter().any(|init| init.name == container) { "initContainers" } else { "containers" };
    Some(format!("spec.{list}{{{container}}}"))
}

/// Says what is about to be done.
pub(in crate::agent) fn tell(pod: &mut Pod, command: &Command, about: &About, now: Now, out: &mut Vec<Effect>) {
    if let (Command::Signal { signal: Signal::Kill, ids }, About::Stop(_)) = (command, about) {
        plan::killed(ids, now.tick, &mut pod.memory);
    }
    let Some(spec) = &pod.spec else { return };
    match (command, about) {
        (Command::PullImage { image, .. }, About::Pull(name)) => {
            pod.told = Some(Told::begins(now.tick));
            out.push(event(&spec.pod, field_path(spec, name), Severity::Normal, "Pulling", format!("Pulling image \"{image}\"")));
        }
        (Command::Signal { ids, signal: Signal::Term }, _) => {
            for run in pod.observed.containers.iter().filter(|run| ids.contains(&run.id)) {
                let failing = pod.memory.probes.failing(&run.id).filter(|_| pod.state == PodState::Live);
                let text = failing.map_or_else(
                    || format!("Stopping container {}", run.name),
                    |failing| verdict::killing(&run.name, failing.kind, plan::again(spec, run, 1, &pod.memory.probes)),
                );
                out.push(event(&spec.pod, field_path(spec, &run.name), Severity::Normal, "Killing", text));
            }
        }
        (Command::StartSandbox(_), _)
            if pod.observed.sandboxes.iter().any(|sandbox| matches!(sandbox.state, RunState::Exited { .. })) =>
        {
            let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            out.push(event(&spec.pod, None, Severity::Normal, "SandboxChanged", text));
        }
        _ => {}
    }
}

/// Takes in what became of an order, and says it.
pub(in crate::agent) fn learn(pod: &mut Pod, about: About, result: &Result<Done, Failure>, now: Now, out: &mut Vec<Effect>) {
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
                out.push(event(&spec.pod, None, Severity::Warning, "FailedCreatePodSandBox", text));
            }
            trouble(&mut pod.memory, SANDBOX, now, "ContainerCreating", failure);
        }
        (About::Image(name), result) => image::learn(pod, &name, false, result, now, out),
        (About::Pull(name), result) => image::learn(pod, &name, true, result, now, out),
        (About::Start(name), Ok(Done::Started { id, created, warnings })) => {
            if *created {
                pod.memory.probes.born(&name, id);
            }
            let path = field_path(spec, &name);
            out.push(event(&spec.pod, path.clone(), Severity::Normal, "Created", format!("Created container: {name}")));
            out.push(event(&spec.pod, path.clone(), Severity::Normal, "Started", format!("Started container {name}")));
            for warning in warnings {
                out.push(event(&spec.pod, path.clone(), Severity::Warning, "RuntimeWarning", warning.clone()));
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
