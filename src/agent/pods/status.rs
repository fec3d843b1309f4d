//! Words a pod's status from what the runtime shows.
//!
//! In:       spec, observation, what is remembered of failures, `now`.
//! Out:      a complete v1 PodStatus as JSON, who waits for what, and the state for its LED.
//! Never:    stamps anything with its own clock: every time is the runtime's, so a restarted agent says the same again.
//! Source:   the kubelet's convertToAPIContainerStatuses, getPhase and GeneratePodReadyCondition.
//! Flow:     stop 12: from `agent/node.rs`, on to `link`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{ObservedContainer, ObservedPod, RunState, Trace};
use crate::api::time::rfc3339;
use crate::clock::{Now, Wall};

use super::image::{ImageState, Retry};
use super::lifecycle::PodState;
use super::mount::VOLUMES;
use super::plan::{Memory, PostStart, again, has_started, init_failed, newest, previous};
use super::restart;
use super::spec::{ContainerSpec, PodSpec, RestartPolicy};

/// What all last words of a pod's containers may take, in bytes. Source: the kubelet's MaxPodTerminationMessageLogLength.
const LAST_WORDS_OF_POD: usize = 12 << 10;

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
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// What container ids begin with: `docker` or `simulated`.
    pub scheme: &'static str,
    /// This moment.
    pub now: Now,
}

/// One container's state, before it is JSON.
#[derive(Default)]
struct Shown<'a> {
    run: Option<&'a ObservedContainer>,
    last: Option<&'a ObservedContainer>,
    waiting: Option<(String, String)>,
    ready: bool,
    /// It runs, and its postStart hook is not behind it.
    hooked: bool,
    /// It runs, and its startup probe, if it has one, has succeeded.
    started: bool,
}

/// Words the status.
#[must_use]
pub fn pod_status(view: View<'_>) -> Worded {
    let View { spec, observed, .. } = view;
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
        None => held_back(view, initialized, phase(view, initialized, &main)),
    };
    let done = matches!(phase, "Succeeded" | "Failed");
    let ephemeral: Vec<(&ContainerSpec, Shown<'_>)> =
        spec.ephemeral.iter().map(|container| (container, shown(view, container, false, true))).collect();
    // Source: the kubelet counts sidecars among those that have to be ready.
    let sidecars = init.iter().filter(|(container, _)| container.sidecar);
    let unready: Vec<&str> =
        sidecars.chain(&main).filter(|(_, shown)| !shown.ready).map(|(container, _)| container.name.as_str()).collect();
    let sandbox = observed.sandboxes.last().filter(|sandbox| sandbox.state.is_running());
    let start = observed.sandboxes.last().map(|sandbox| sandbox.pod_start);

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

    if let Some((condition, since)) = view.memory.failure.as_ref().and_then(|failure| failure.condition.as_ref()) {
        let why = Some((condition.reason.as_str(), condition.message.clone()));
        conditions.push(self::condition(&condition.kind, true, why, Some(&rfc3339(*since))));
    }

    let mut status = Map::new();
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
    let pod_ip = sandbox.and_then(|sandbox| if spec.host_network { view.host_ips.first() } else { sandbox.ip.as_ref() });
    if let Some(ip) = pod_ip {
        status.insert("podIP".into(), json!(ip));
        status.insert("podIPs".into(), json!([{"ip": ip}]));
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
        "Pending" if !waits("ErrImagePull") && !waits("ImagePullBackOff") && !waits("ErrImageNeverPull") => LightState::Starting,
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
    let runs = view.observed.containers.iter().any(|run| run.state.is_running());
    match phase {
        "Succeeded" | "Failed" if runs && initialized => "Running",
        "Succeeded" | "Failed" if runs => "Pending",
        _ => phase,
    }
}

fn shown<'a>(view: View<'a>, container: &ContainerSpec, init: bool, initialized: bool) -> Shown<'a> {
    let (observed, memory) = (view.observed, view.memory);
    let run = newest(observed, &container.name);
    let last = previous(observed, &container.name);
    let ending = view.state != PodState::Live;
    match run.map(|run| (run, &run.state)) {
        Some((run, RunState::Running { .. })) => match memory.post_start.get(&run.id) {
            None => {
                let ready = (!init || container.sidecar) && memory.probes.ready(container, &run.id);
                let started = memory.probes.started(container, &run.id);
                Shown { run: Some(run), last, ready, started, ..Shown::default() }
            }
            // Source: v1 ContainerState is Running only after postStart has ended well.
            Some(hook) => {
                let reason = match hook {
                    PostStart::Failed => "PostStartHookError",
                    PostStart::Due | PostStart::Runs => waits_to_begin(view.spec, init, initialized),
                };
                Shown {
                    run: Some(run),
                    last,
                    waiting: Some((reason.to_owned(), String::new())),
                    hooked: true,
                    ..Shown::default()
                }
            }
        },
        Some((run, RunState::Exited { exit_code, .. })) => {
            let done = init && !container.sidecar && *exit_code == 0;
            let again = container.sidecar || again(view.spec, run, *exit_code, &memory.probes);
            if done || ending || !again {
                return Shown { run: Some(run), last, ready: done, ..Shown::default() };
            }
            let waiting = hindrance(memory, container, view.now).or_else(|| {
                let due = memory.dues.get(&run.id).copied().unwrap_or_default();
                let delay = restart::delay(run);
                (!delay.is_zero() && due > view.now.tick).then(|| {
                    let pod = &view.spec.pod;
                    let text = format!(
                        "back-off {}s restarting failed container={} pod={}_{}({})",
                        delay.as_secs(),
                        container.name,
                        pod.name,
                        pod.namespace,
                        pod.uid
                    );
                    ("CrashLoopBackOff".to_owned(), text)
                })
            });
            // While it waits, the end is the last state; before that it is the present one.
            if waiting.is_some() {
                Shown { run: Some(run), last: Some(run), waiting, ..Shown::default() }
            } else {
                Shown { run: Some(run), last, ..Shown::default() }
            }
        }
        Some((_, RunState::Created)) | None => {
            let waiting = hindrance(memory, container, view.now)
                .unwrap_or_else(|| (waits_to_begin(view.spec, init, initialized).to_owned(), String::new()));
            Shown { last, waiting: Some(waiting), ..Shown::default() }
        }
    }
}

/// Why a container that nothing hinders has not begun yet.
fn waits_to_begin(spec: &PodSpec, init: bool, initialized: bool) -> &'static str {
    if !spec.init.is_empty() && (!initialized || init) { "PodInitializing" } else { "ContainerCreating" }
}

/// What keeps a container from its next turn.
fn hindrance(memory: &Memory, container: &ContainerSpec, now: Now) -> Option<(String, String)> {
    if let Some(error) = memory.config.get(&container.name) {
        let reason = match error {
            super::env::ConfigError::Volume { .. } => "ContainerCreating",
            _ => "CreateContainerConfigError",
        };
        return Some((reason.to_owned(), error.to_string()));
    }
    if let Some(ImageState::Failed { cools, message, retry, .. }) = memory.images.get(&container.name) {
        return Some(if *retry == Retry::Never {
            ("ErrImageNeverPull".to_owned(), message.clone())
        } else if *cools > now.tick {
            ("ErrImagePull".to_owned(), message.clone())
        } else {
            ("ImagePullBackOff".to_owned(), format!("Back-off pulling image \"{}\": {message}", container.image))
        });
    }
    let trouble =
        memory.trouble.get(&container.name).or_else(|| memory.trouble.get(SANDBOX)).or_else(|| memory.trouble.get(VOLUMES));
    trouble.map(|trouble| (trouble.reason.to_owned(), trouble.message.clone()))
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
    let failure = view.memory.failure.as_ref()?;
    let runs = view.observed.containers.iter().any(|run| run.state.is_running());
    (!runs).then_some(EndWords { phase: "Failed", reason: &failure.reason, message: &failure.message })
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

fn container_status(view: View<'_>, container: &ContainerSpec, shown: &Shown<'_>) -> Value {
    let (run, scheme) = (shown.run, view.scheme);
    let words = LAST_WORDS_OF_POD / view.spec.all().count().max(1);
    let state = match (&shown.waiting, run) {
        (Some(_), None) if view.state == PodState::Finished && was_lost(view, container) => json!({"terminated": {
            "exitCode": 137,
            "reason": "ContainerStatusUnknown",
            "message": "The container could not be located when the pod was terminated",
            "startedAt": null,
            "finishedAt": null,
        }}),
        (Some((reason, message)), _) if message.is_empty() => json!({"waiting": {"reason": reason}}),
        (Some((reason, message)), _) => json!({"waiting": {"reason": reason, "message": message}}),
        (None, Some(run)) => state(run, scheme, words),
        (None, None) => json!({}),
    };
    let known = run.or(shown.last);
    let mut status = json!({
        "name": container.name,
        "image": known.map_or(container.image.as_str(), |run| run.image.as_str()),
        "imageID": known.map(|run| run.image_id.as_str()).unwrap_or_default(),
        "ready": shown.ready,
        "started": shown.started,
        "restartCount": known.map_or(0, |run| run.attempt),
        "state": state,
        "lastState": shown.last.map_or_else(|| json!({}), |run| self::state(run, scheme, words)),
    });
    if let Some(run) = known
        && let Some(map) = status.as_object_mut()
    {
        map.insert("containerID".to_owned(), json!(format!("{scheme}://{}", run.id)));
    }
    status
}

/// Whether a container of a pod that has ended must have run, or been about to, and nothing is left of it. Source: the kubelet's
/// status manager, TerminatePod.
fn was_lost(view: View<'_>, container: &ContainerSpec) -> bool {
    view.spec.containers.iter().any(|main| main.name == container.name) && is_initialized(view.spec, view.observed, view.memory)
}

/// `running` or `terminated`, as the runtime tells it.
fn state(run: &ObservedContainer, scheme: &str, words: usize) -> Value {
    match &run.state {
        RunState::Created => json!({}),
        RunState::Running { started } => json!({"running": {"startedAt": rfc3339(*started)}}),
        RunState::Exited { started, finished, exit_code, oom, error } => {
            let reason = match (oom, error, exit_code) {
                _ if run.trace == Trace::LostRunning => "ContainerStatusUnknown",
                // A child may have been killed for its memory long before its parent ended well.
                (_, None, 0) => "Completed",
                (true, _, _) => "OOMKilled",
                (false, Some(_), _) => "StartError",
                (false, None, _) => "Error",
            };
            let message = match error {
                Some(error) => error.as_str(),
                None if run.trace == Trace::LostRunning => "The container could not be located: it was removed by somebody else",
                None => run.message.get(..run.message.floor_char_boundary(words)).unwrap_or_default(),
            };
            let mut ended = json!({
                "exitCode": exit_code,
                "reason": reason,
                "startedAt": rfc3339(*started),
                "finishedAt": rfc3339(*finished),
                "containerID": format!("{scheme}://{}", run.id),
            });
            if let Some(map) = ended.as_object_mut().filter(|_| !message.is_empty()) {
                map.insert("message".to_owned(), json!(message));
            }
            json!({"terminated": ended})
        }
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
