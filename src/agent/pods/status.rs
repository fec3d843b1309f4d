//! Words a pod's status from what the runtime shows.
//!
//! In:       spec, observation, what is remembered of failures, `now`.
//! Out:      a complete v1 PodStatus as JSON, who waits for what, and the state for its LED.
//! Never:    stamps anything with its own clock: every time is the runtime's, so a restarted agent says the same again.
//! Source:   the kubelet's getPhase and GeneratePodReadyCondition.
//! Flow:     stop 12: from `agent/node.rs`, on to `link`.

mod container;
#[cfg(test)]
mod phase_tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::agent::runtime::{ObservedContainer, ObservedPod, ObservedSandbox, RunState};
use crate::api::time::rfc3339;
use crate::clock::{Now, Wall};

use container::{Shown, container_status, shown};

use super::lifecycle::PodState;
use super::plan::{Memory, PodFailure, has_started, init_failed, newest};
use super::spec::{ContainerSpec, PodSpec, RestartPolicy};

/// What the pod's LED shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LightState {
    /// Its image is being fetched.
    Pulling,
    /// It is on its way.
    Starting,
    /// All is well.
    Ready,
    /// It runs, and not all of it is ready; or it failed.
    NotReady,
    /// A container waits for its next try.
    CrashLoop,
    /// It is being ended.
    Terminating,
}

/// A pod's status with its by-products.
#[derive(Clone, Debug, PartialEq)]
pub struct Worded {
    /// v1 PodStatus.
    pub status: Value,
    /// Containers that wait: reason and message.
    pub waits: BTreeMap<String, (String, String)>,
    /// What its LED shows; `None` once it has done its work.
    pub light: Option<LightState>,
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is wanted.
    pub spec: &'a PodSpec,
    /// What there is.
    pub observed: &'a ObservedPod,
    /// What is remembered.
    pub memory: &'a Memory,
    /// How far it has come.
    pub state: PodState,
    /// Whether an image of it is being fetched.
    pub pulling: bool,
    /// Whether a container of it is being started, and may run before anything shows it.
    pub starting: bool,
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// What container ids begin with: `docker` or `simulated`.
    pub scheme: &'static str,
    /// This moment.
    pub now: Now,
}

impl View<'_> {
    /// Whether nothing of the pod runs, and nothing will.
    fn is_over(&self) -> bool {
        !self.runs() && matches!(self.state, PodState::Finished | PodState::Terminating { .. } | PodState::Gone)
    }

    /// Whether something of the pod runs, or may: a start that is under way is not called back.
    fn runs(&self) -> bool {
        self.starting || self.observed.containers.iter().any(|run| run.state.is_running())
    }
}

/// The status of a pod that was not taken: there is nothing to tell of its containers. Source: the kubelet's rejectPod.
fn refused(spec: &PodSpec, failure: &PodFailure, at: Wall) -> Worded {
    let mut status = json!({
        "phase": "Failed",
        "reason": failure.reason,
        "message": failure.message,
        "observedGeneration": spec.generation,
        "startTime": rfc3339(at),
    });
    if let Some(map) = status.as_object_mut().filter(|_| !spec.qos.is_empty()) {
        map.insert("qosClass".into(), json!(spec.qos));
    }
    Worded { status, waits: BTreeMap::new(), light: Some(LightState::NotReady) }
}

/// Words the status.
#[must_use]
pub fn pod_status(view: View<'_>) -> Worded {
    let View { spec, observed, .. } = view;
    let failure = view.memory.failure.as_ref().map(|given_up| &given_up.failure);
    if let Some((failure, at)) = failure.and_then(|failure| Some((failure, failure.refused?))) {
        return refused(spec, failure, at);
    }
    if let Some(status) = &spec.final_status
        && observed.containers.is_empty()
    {
        let failed = status.get("phase").and_then(Value::as_str) == Some("Failed");
        return Worded { status: status.clone(), waits: BTreeMap::new(), light: failed.then_some(LightState::NotReady) };
    }
    let initialized = is_initialized(spec, observed, view.memory);
    let init: Vec<(&ContainerSpec, Shown<'_>)> =
        spec.init.iter().map(|container| (container, shown(view, container, true, initialized))).collect();
    let main: Vec<(&ContainerSpec, Shown<'_>)> =
        spec.containers.iter().map(|container| (container, shown(view, container, false, initialized))).collect();
    let words = end_words(view);
    let phase = match &words {
        Some(words) => words.phase,
        None => match held_back(view, initialized, phase(view, initialized, &main)) {
            // Every pod ends as one or the other. Source: TerminatePod.
            "Pending" | "Running" if view.is_over() => "Failed",
            phase => phase,
        },
    };
    let done = matches!(phase, "Succeeded" | "Failed");
    let ephemeral: Vec<(&ContainerSpec, Shown<'_>)> =
        // Never ready: nobody is sent there. Source: the kubelet, whose prober tells of no ephemeral container.
        spec.ephemeral.iter().map(|container| (container, Shown { ready: false, ..shown(view, container, false, true) })).collect();
    // Source: the kubelet counts sidecars among those that have to be ready.
    let sidecars = init.iter().filter(|(container, _)| container.sidecar);
    let unready: Vec<&str> =
        sidecars.chain(&main).filter(|(_, shown)| !shown.ready).map(|(container, _)| container.name.as_str()).collect();
    let usable =
        |sandbox: &&ObservedSandbox| sandbox.state.is_running() && !view.memory.address.has_lost(sandbox, spec.host_network);
    let sandbox = observed.sandboxes.last().filter(usable);
    let start = observed.sandboxes.last().map(|sandbox| sandbox.pod_start).or(view.memory.begun);

    let ready = unready.is_empty() && !done && !main.is_empty();
    let ready_since = if ready { latest(spec, observed, started) } else { latest(spec, observed, finished).or(start) };
    // A probe's word is newer than the container's start; its end is newer than both.
    let ready_since = ready_since.max(view.memory.probes.turned());
    let ready_since = ready_since.map(rfc3339);
    let unready_reason = match phase {
        "Succeeded" => Some(("PodCompleted", String::new())),
        "Failed" => Some(("PodFailed", String::new())),
        _ if ready => None,
        _ => Some(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))),
    };
    let gated = closed_gates(spec);
    let pod_ready = ready && gated.is_empty();
    let pod_unready_reason =
        unready_reason.clone().or_else(|| (!pod_ready).then(|| ("ReadinessGatesNotReady", gated.join(", "))));
    // RFC 3339 with `Z` sorts as time does.
    let opened = spec.gates.iter().map(|gate| gate.since.clone()).max().unwrap_or_default();
    let pod_ready_since = if ready { ready_since.clone().max(Some(opened)) } else { ready_since.clone() };
    let unfinished: Vec<&str> =
        init.iter().filter(|(_, shown)| !shown.ready).map(|(container, _)| container.name.as_str()).collect();
    let init_since = spec
        .init
        .iter()
        .filter_map(|container| newest(observed, &container.name).and_then(|run| finished(run).or_else(|| started(run))))
        .max()
        .or(start);
    let init_reason = if phase == "Succeeded" {
        Some(("PodCompleted", String::new()))
    } else {
        (!initialized)
            .then(|| ("ContainersNotInitialized", format!("containers with incomplete status: [{}]", unfinished.join(" "))))
    };
    let sandbox_since = observed.sandboxes.last().and_then(|sandbox| match sandbox.state {
        RunState::Running { started } => Some(started),
        RunState::Exited { finished, .. } => Some(finished),
        RunState::Created => None,
    });
    let scheduled = spec.scheduled_at.clone().filter(|at| !at.is_empty()).or(start.map(rfc3339));
    let mut conditions = vec![
        condition("PodReadyToStartContainers", sandbox.is_some(), None, sandbox_since.map(rfc3339).as_deref()),
        condition("Initialized", initialized, init_reason, init_since.map(rfc3339).as_deref()),
        condition("Ready", pod_ready, pod_unready_reason, pod_ready_since.as_deref()),
        condition("ContainersReady", ready, unready_reason, ready_since.as_deref()),
        condition("PodScheduled", true, None, scheduled.as_deref()),
    ];

    if let Some((condition, since)) = failure.and_then(|failure| failure.condition.as_ref()) {
        let why = Some((condition.reason.as_str(), condition.message.clone()));
        conditions.push(self::condition(&condition.kind, true, why, Some(&rfc3339(*since))));
    }

    let mut status = Map::new();
    status.insert("observedGeneration".into(), json!(spec.generation));
    status.insert("phase".into(), json!(phase));
    for (key, words) in words.iter().flat_map(|words| [("reason", words.reason), ("message", words.message)]) {
        if !words.is_empty() {
            status.insert(key.into(), json!(words));
        }
    }
    status.insert("conditions".into(), json!(conditions));
    if let Some(ip) = view.host_ips.first() {
        status.insert("hostIP".into(), json!(ip));
        status.insert("hostIPs".into(), view.host_ips.iter().map(|ip| json!({"ip": ip})).collect());
    }
    // An ended pod still says where it was. Source: the kubelet's getPodIPs of its lifecycle event generator.
    let pod_ips = if spec.host_network {
        let begun = sandbox.is_some() || view.memory.sandboxed;
        if begun { view.host_ips.to_vec() } else { Vec::new() }
    } else {
        sandbox
            .filter(|sandbox| sandbox.ip.is_some())
            .map_or_else(|| view.memory.address.last.clone(), ObservedSandbox::addresses)
    };
    if let Some(ip) = pod_ips.first() {
        status.insert("podIP".into(), json!(ip));
        status.insert("podIPs".into(), pod_ips.iter().map(|ip| json!({"ip": ip})).collect());
    }
    if let Some(start) = start {
        status.insert("startTime".into(), json!(rfc3339(start)));
    }
    if !init.is_empty() {
        status.insert(
            "initContainerStatuses".into(),
            init.iter().map(|(container, shown)| container_status(view, container, shown)).collect(),
        );
    }
    status.insert(
        "containerStatuses".into(),
        main.iter().map(|(container, shown)| container_status(view, container, shown)).collect(),
    );
    if !spec.qos.is_empty() {
        status.insert("qosClass".into(), json!(spec.qos));
    }
    if !ephemeral.is_empty() {
        status.insert(
            "ephemeralContainerStatuses".into(),
            ephemeral.iter().map(|(container, shown)| container_status(view, container, shown)).collect(),
        );
    }
    let light = light(view, phase, pod_ready, &init, &main);
    let waits = init
        .into_iter()
        .chain(main)
        .chain(ephemeral)
        .filter_map(|(container, shown)| Some((container.name.clone(), shown.waiting?)))
        .collect();
    Worded { status: Value::Object(status), waits, light }
}

fn light(
    view: View<'_>,
    phase: &str,
    ready: bool,
    init: &[(&ContainerSpec, Shown<'_>)],
    main: &[(&ContainerSpec, Shown<'_>)],
) -> Option<LightState> {
    if matches!(view.state, PodState::Terminating { .. } | PodState::Gone) {
        return Some(LightState::Terminating);
    }
    let waits = |reason: &str| {
        init.iter().chain(main).any(|(_, shown)| shown.waiting.as_ref().is_some_and(|(waiting, _)| waiting == reason))
    };
    Some(match phase {
        "Succeeded" => return None,
        "Failed" => LightState::NotReady,
        _ if waits("CrashLoopBackOff") => LightState::CrashLoop,
        _ if view.pulling => LightState::Pulling,
        _ if ready => LightState::Ready,
        // Nobody has found fault with it yet.
        _ if main.iter().all(|(_, shown)| shown.ready || (!shown.started && is_running(shown))) => LightState::Starting,
        "Pending"
            if !waits("ErrImagePull")
                && !waits("ImagePullBackOff")
                && !waits("ErrImageNeverPull")
                && !waits("ImageInspectError")
                && !waits("InvalidImageName") =>
        {
            LightState::Starting
        }
        _ => LightState::NotReady,
    })
}

/// Why the pod is not ready although its containers are. Source: the kubelet's GeneratePodReadyCondition.
fn closed_gates(spec: &PodSpec) -> Vec<String> {
    let closed = spec.gates.iter().filter_map(|gate| match gate.status.as_deref() {
        Some("True") => None,
        Some(status) => Some(format!("the status of pod readiness gate \"{}\" is not \"True\", but {status}", gate.kind)),
        None => Some(format!("corresponding condition of pod readiness gate \"{}\" does not exist.", gate.kind)),
    });
    closed.collect()
}

fn is_running(shown: &Shown<'_>) -> bool {
    shown.run.is_some_and(|run| run.state.is_running())
}

/// Whether all init containers have done their part in the sandbox that runs.
fn is_initialized(spec: &PodSpec, observed: &ObservedPod, memory: &Memory) -> bool {
    // A container that ran proves it, also when the runtime forgot the init containers.
    let begun = spec.containers.iter().any(|container| newest(observed, &container.name).is_some());
    begun
        || spec.init.iter().all(|container| {
            newest(observed, &container.name).is_some_and(|run| match run.state {
                RunState::Exited { exit_code: 0, .. } => !container.sidecar,
                RunState::Running { .. } => {
                    container.sidecar && has_started(memory, run) && memory.probes.started(container, &run.id)
                }
                RunState::Created | RunState::Exited { .. } => false,
            })
        })
}

/// A phase is final when nothing runs any more.
fn held_back(view: View<'_>, initialized: bool, phase: &'static str) -> &'static str {
    match phase {
        "Succeeded" | "Failed" if view.runs() && initialized => "Running",
        "Succeeded" | "Failed" if view.runs() => "Pending",
        _ => phase,
    }
}

/// The end of a pod as a whole, and why.
struct EndWords<'a> {
    phase: &'a str,
    reason: &'a str,
    message: &'a str,
}

/// What the pod as a whole has ended as: what the master has heard already, else why the node gave it up, once nothing runs. Source:
/// the kubelet's status manager, which also holds a final phase back while a container may run.
fn end_words(view: View<'_>) -> Option<EndWords<'_>> {
    if let Some(status) = &view.spec.final_status {
        let text = |key: &str| status.get(key).and_then(Value::as_str).unwrap_or_default();
        return Some(EndWords { phase: text("phase"), reason: text("reason"), message: text("message") });
    }
    let failure = &view.memory.failure.as_ref()?.failure;
    (!view.runs()).then_some(EndWords { phase: "Failed", reason: &failure.reason, message: &failure.message })
}

/// Source: the kubelet's getPhase.
fn phase(view: View<'_>, initialized: bool, main: &[(&ContainerSpec, Shown<'_>)]) -> &'static str {
    let (mut running, mut waiting, mut stopped, mut failed) = (0, 0, 0, 0);
    for (_, shown) in main {
        match shown.run.map(|run| &run.state) {
            Some(RunState::Running { .. }) if shown.hooked && shown.last.is_none() => waiting += 1,
            Some(RunState::Running { .. }) => running += 1,
            Some(RunState::Exited { exit_code, .. }) => {
                stopped += 1;
                let condemned = shown.run.is_some_and(|run| view.memory.probes.failing(&run.id).is_some());
                failed += usize::from(*exit_code != 0 || condemned);
            }
            Some(RunState::Created) | None if shown.last.is_some() => {
                stopped += 1;
                failed += 1;
            }
            Some(RunState::Created) | None => waiting += 1,
        }
    }
    let ended = view.state != PodState::Live;
    if !initialized {
        return if init_failed(view.spec, view.observed) { "Failed" } else { "Pending" };
    }
    if waiting > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    match view.spec.restart_policy {
        _ if stopped == 0 => "Pending",
        _ if ended && failed == 0 => "Succeeded",
        _ if ended => "Failed",
        RestartPolicy::Always => "Running",
        _ if failed == 0 => "Succeeded",
        RestartPolicy::Never => "Failed",
        RestartPolicy::OnFailure => "Running",
    }
}

fn condition(kind: &str, holds: bool, why: Option<(&str, String)>, since: Option<&str>) -> Value {
    let mut condition = Map::new();
    condition.insert("type".into(), json!(kind));
    condition.insert("status".into(), json!(if holds { "True" } else { "False" }));
    condition.insert("lastProbeTime".into(), Value::Null);
    condition.insert("lastTransitionTime".into(), json!(since));
    if let Some((reason, message)) = why {
        condition.insert("reason".into(), json!(reason));
        if !message.is_empty() {
            condition.insert("message".into(), json!(message));
        }
    }
    Value::Object(condition)
}

fn started(run: &ObservedContainer) -> Option<Wall> {
    match run.state {
        RunState::Running { started } | RunState::Exited { started, .. } => Some(started),
        RunState::Created => None,
    }
}

fn finished(run: &ObservedContainer) -> Option<Wall> {
    match run.state {
        RunState::Exited { finished, .. } => Some(finished),
        RunState::Created | RunState::Running { .. } => None,
    }
}

/// Of the pod's own containers: a person's ephemeral one changes no condition.
fn latest(spec: &PodSpec, observed: &ObservedPod, of: impl Fn(&ObservedContainer) -> Option<Wall>) -> Option<Wall> {
    let own = |run: &&ObservedContainer| !spec.ephemeral.iter().any(|other| other.name == run.name);
    observed.containers.iter().filter(own).filter_map(of).max()
}
