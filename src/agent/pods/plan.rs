//! Chooses what one pod needs next.
//!
//! In:       checked spec, last observation, what is remembered of failures and deadlines, `now`.
//! Out:      at most one [`Command`], or when to look again.
//! Never:    talks to a runtime (`runtime/docker.rs`) or words the status (`status.rs`).
//! Source:   the kubelet's computePodActions. We differ in that containers start one after the other within a pod, and that
//!           a stop is a signal and a deadline of our own, because Docker's stop blocks for as long as the grace lasts.
//! Flow:     stop 10: from `agent/node.rs`, on to `agent/runtime/docker.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{Command, ObservedContainer, ObservedPod, ObservedSandbox, RunState, Signal};
use crate::api::Uid;
use crate::backoff::Policy;
use crate::clock::{Now, Tick};

use super::env::{ConfigError, Sources};
use super::launch;
use super::lifecycle::PodState;
use super::mount::{self, Mounts};
use super::restart::{self, Turn};
use super::spec::{ContainerSpec, PodSpec, PullPolicy, RestartPolicy};

/// Between attempts to fetch an image. Source: the kubelet's image back-off, 10 s to 5 min.
pub const PULL_BACKOFF: Policy = Policy { first: Duration::from_secs(10), cap: Duration::from_secs(300) };
/// Between attempts at something that the runtime could not do.
pub const TROUBLE_BACKOFF: Policy = Policy { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// A KILL that has not worked is sent again after so long.
const KILL_AGAIN: Duration = Duration::from_secs(10);

/// A sandbox that ran for less (milliseconds) died of itself.
const YOUNG_MS: i64 = 10_000;

/// What is known of an image for a container's next turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ImageState {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is not here.
    Absent,
    /// It should be fetched anew and its registry is out of reach: a copy may be here.
    Unreachable {
        /// How often fetching failed in a row before.
        failures: u32,
        /// Why.
        message: String,
    },
    /// It may be used for the next turn.
    Ready,
    /// It could not be had.
    Failed {
        /// How often in a row.
        failures: u32,
        /// The next attempt.
        due: Tick,
        /// From then on it is a back-off, before that an error.
        cools: Tick,
        /// In the registry's words.
        message: String,
        /// It may not be fetched at all.
        never: bool,
    },
}

/// Something that the runtime could not do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How often in a row.
    pub failures: u32,
    /// The next attempt.
    pub due: Tick,
    /// As a waiting reason.
    pub reason: &'static str,
    /// In the runtime's words.
    pub message: String,
}

/// A container that was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The next KILL.
    pub deadline: Tick,
}

/// What the node remembers of a pod beside what the runtime shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By container.
    pub images: BTreeMap<String, ImageState>,
    /// By container; [`SANDBOX`] for the sandbox.
    pub trouble: BTreeMap<String, Trouble>,
    /// By container: why it cannot be configured.
    pub config: BTreeMap<String, ConfigError>,
    /// By the runtime's id: when a dead container has its next turn.
    pub dues: BTreeMap<String, Tick>,
    /// By the runtime's id.
    pub kills: BTreeMap<String, Kill>,
    /// By container: the highest attempt seen.
    pub attempts: BTreeMap<String, u32>,
    /// What was done for its volumes.
    pub mounts: Mounts,
}

/// What a command is about, so that its outcome finds its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The sandbox.
    Sandbox,
    /// The image of this container.
    Image(String),
    /// The start of this container.
    Start(String),
    /// These are told to end.
    Stop(Vec<String>),
    /// The volumes, as this digest has them.
    Volumes([u8; 16]),
    /// How much is in volumes.
    Usage,
    /// What is dead is removed.
    Cleanup,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Next {
    /// The command, if there is one.
    pub order: Option<(Command, About)>,
    /// When to ask again if nothing happens before.
    pub wake: Option<Tick>,
    /// It would fetch an image, if fewer others did.
    pub wants_slot: bool,
}

impl Next {
    pub(super) fn order(command: Command, about: About) -> Self {
        Self { order: Some((command, about)), ..Self::default() }
    }

    pub(super) fn wait(until: Tick) -> Self {
        Self { wake: Some(until), ..Self::default() }
    }

    /// The first command of the two, the earlier wake.
    fn or(self, other: impl FnOnce() -> Next) -> Self {
        if self.order.is_some() {
            return self;
        }
        let other = other();
        Self {
            order: other.order,
            wake: match (self.wake, other.wake) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            wants_slot: self.wants_slot || other.wants_slot,
        }
    }
}

/// All that one decision looks at.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What is wanted; `None` for a pod that only the runtime knows.
    pub spec: Option<&'a PodSpec>,
    /// What there is.
    pub observed: &'a ObservedPod,
    /// How far it has come.
    pub state: PodState,
    /// Where its environment comes from.
    pub sources: Sources<'a>,
    /// Whether another image may be fetched now.
    pub pull_slot: bool,
    /// This moment.
    pub now: Now,
}

/// The newest run of a container.
#[must_use]
pub fn newest<'a>(observed: &'a ObservedPod, name: &str) -> Option<&'a ObservedContainer> {
    observed.containers.iter().filter(|container| container.name == name).max_by_key(|container| container.attempt)
}

/// The run before the newest.
#[must_use]
pub fn previous<'a>(observed: &'a ObservedPod, name: &str) -> Option<&'a ObservedContainer> {
    let last = newest(observed, name)?.attempt;
    let earlier = observed.containers.iter().filter(|container| container.name == name && container.attempt < last);
    earlier.max_by_key(|container| container.attempt)
}

/// Whether every container has ended for good.
#[must_use]
pub fn is_finished(spec: &PodSpec, observed: &ObservedPod) -> bool {
    if spec.final_status.is_some() {
        return true;
    }
    let ended = |container: &ContainerSpec| match newest(observed, &container.name).map(|run| &run.state) {
        Some(RunState::Exited { exit_code, .. }) => !restart::again(spec.restart_policy, *exit_code),
        Some(RunState::Created | RunState::Running { .. }) | None => false,
    };
    (!spec.containers.is_empty() && spec.containers.iter().all(ended)) || init_failed(spec, observed)
}

/// Whether an init container failed in a pod that starts nothing again.
#[must_use]
pub fn init_failed(spec: &PodSpec, observed: &ObservedPod) -> bool {
    spec.restart_policy == RestartPolicy::Never
        && spec.init.iter().filter(|container| !container.sidecar).any(|container| {
            matches!(newest(observed, &container.name), Some(ObservedContainer { state: RunState::Exited { exit_code, .. }, .. }) if *exit_code != 0)
        })
}

/// What the pod needs next.
pub fn next(view: View<'_>, memory: &mut Memory) -> Next {
    match (view.state, view.spec) {
        (PodState::Live, Some(spec)) => live(view, spec, memory),
        (PodState::Finished, Some(_)) => finished(view, memory),
        (PodState::Terminating { deadline }, _) => terminating(view, deadline, memory),
        (PodState::Gone, _) | (_, None) => Next::default(),
    }
}

/// Stops the containers; then everything is removed.
fn terminating(view: View<'_>, deadline: Tick, memory: &mut Memory) -> Next {
    let running = running(view.observed, |_| true);
    if !running.is_empty() {
        return stop(&running, deadline, view.now, memory);
    }
    match memory.trouble.get(SANDBOX).filter(|trouble| trouble.due > view.now.tick) {
        Some(trouble) => Next::wait(trouble.due),
        None => Next::order(Command::RemovePod, About::Cleanup),
    }
}

/// What is left running (sidecars, the sandbox) is stopped; the dead stay for their logs.
fn finished(view: View<'_>, memory: &mut Memory) -> Next {
    let grace = view.spec.map(|spec| spec.grace).unwrap_or_default();
    let running = running(view.observed, |_| true);
    if !running.is_empty() {
        return stop(&running, view.now.tick.after(grace), view.now, memory);
    }
    let sandboxes: Vec<String> =
        view.observed.sandboxes.iter().filter(|sandbox| sandbox.state.is_running()).map(|sandbox| sandbox.id.clone()).collect();
    if sandboxes.is_empty() {
        return surplus(view.observed);
    }
    stop(&sandboxes, view.now.tick, view.now, memory)
}

fn live(view: View<'_>, spec: &PodSpec, memory: &mut Memory) -> Next {
    let volumes = mount::set_up(view, spec, memory);
    if volumes.order.is_some() {
        return volumes;
    }
    let observed = view.observed;
    let last = observed.sandboxes.last();
    let sandbox = last.filter(|sandbox| sandbox.state.is_running());
    // What belongs to a sandbox that is dead has lost its network: it is ended, and started in the new one.
    let strays = running(observed, |container| sandbox.is_none_or(|sandbox| sandbox.id != container.sandbox_id));
    if !strays.is_empty() {
        return stop(&strays, view.now.tick.after(spec.grace), view.now, memory);
    }
    let older = observed.sandboxes.len().saturating_sub(1);
    let older: Vec<String> = observed.sandboxes.iter().take(older).map(|sandbox| sandbox.id.clone()).collect();
    if !older.is_empty() {
        return Next::order(Command::RemoveContainers { ids: older }, About::Cleanup);
    }
    let Some(sandbox) = sandbox else { return start_sandbox(view, spec, last, memory) };

    let begun =
        spec.containers.iter().any(|container| newest(observed, &container.name).is_some_and(|run| run.sandbox_id == sandbox.id));
    let mut next = Next::default();
    for container in &spec.init {
        let run = newest(observed, &container.name);
        if container.sidecar {
            if run.is_some_and(|run| run.state.is_running() && run.spec_hash == container.hash) {
                continue;
            }
            next = next.or(|| turn(view, spec, container, sandbox, memory));
        } else if !begun && !run.is_some_and(|run| run.sandbox_id == sandbox.id && exited_well(run)) {
            next = next.or(|| turn(view, spec, container, sandbox, memory));
        } else {
            continue;
        }
        if !begun {
            return next.or(|| surplus(observed));
        }
    }
    for container in &spec.containers {
        next = next.or(|| turn(view, spec, container, sandbox, memory));
    }
    next.or(|| surplus(observed)).or(|| mount::measure(view, spec, memory)).or(|| volumes)
}

fn exited_well(run: &ObservedContainer) -> bool {
    matches!(run.state, RunState::Exited { exit_code: 0, .. })
}

fn start_sandbox(view: View<'_>, spec: &PodSpec, last: Option<&ObservedSandbox>, memory: &mut Memory) -> Next {
    let trouble = memory.trouble.get(SANDBOX);
    if let Some(trouble) = trouble.filter(|trouble| trouble.due > view.now.tick) {
        return Next::wait(trouble.due);
    }
    let troubled = trouble.is_some();
    // A sandbox that died young is not made anew without a pause.
    if let Some(dead) = last
        && let RunState::Exited { started, finished, .. } = dead.state
        && finished.0.saturating_sub(started.0) < YOUNG_MS
    {
        let delay = restart::BACKOFF.delay(dead.attempt);
        let due = *memory.dues.entry(dead.id.clone()).or_insert_with(|| view.now.tick.after(delay));
        if due > view.now.tick {
            return Next::wait(due);
        }
    }
    let attempt = match last {
        None => 0,
        // Made and not started: the agent ended in between. If it cannot be started, another one may.
        Some(made) if made.state == RunState::Created && !troubled => made.attempt,
        Some(dead) => dead.attempt.saturating_add(1),
    };
    let pod_start = last.map_or(view.now.wall, |last| last.pod_start);
    Next::order(Command::StartSandbox(Box::new(launch::sandbox(spec, attempt, pod_start))), About::Sandbox)
}

/// What one container needs, if it is its turn.
fn turn(view: View<'_>, spec: &PodSpec, container: &ContainerSpec, sandbox: &ObservedSandbox, memory: &mut Memory) -> Next {
    let name = &container.name;
    let now = view.now.tick;
    let turn = match newest(view.observed, name) {
        None => {
            let seen = memory.attempts.get(name).copied().max(spec.known_restarts.get(name).copied());
            Turn { attempt: seen.map_or(0, |seen| seen.saturating_add(1)), streak: 0 }
        }
        Some(run) => match &run.state {
            RunState::Running { .. } if run.spec_hash != container.hash => {
                return stop(std::slice::from_ref(&run.id), now.after(spec.grace), view.now, memory);
            }
            RunState::Running { .. } => return Next::default(),
            RunState::Created => Turn { attempt: run.attempt, streak: run.streak },
            RunState::Exited { exit_code, .. } => {
                let replaced = run.spec_hash != container.hash;
                let init = spec.init.iter().any(|init| init.name == *name);
                // An init container runs again in a new sandbox; a sidecar always; a container in a pod whose sandbox was
                // lost as its policy says.
                let wanted =
                    replaced || container.sidecar || (init && *exit_code == 0) || restart::again(spec.restart_policy, *exit_code);
                if !wanted {
                    return Next::default();
                }
                let due = *memory.dues.entry(run.id.clone()).or_insert_with(|| restart::due(run, view.now));
                if due > now && !replaced {
                    return Next::wait(due);
                }
                restart::next_turn(run)
            }
        },
    };
    if let Some(trouble) = memory.trouble.get(name).filter(|trouble| trouble.due > now) {
        return Next::wait(trouble.due);
    }
    if let Some(next) = mount::hindrance(memory, name) {
        return next;
    }
    let plan = match launch::container(spec, container, sandbox, turn, view.sources) {
        Ok(plan) => plan,
        Err(error) => {
            // The share's next change is the next chance.
            memory.config.insert(name.clone(), error);
            return Next::default();
        }
    };
    memory.config.remove(name);
    let image = container.image.clone();
    let about = About::Image(name.clone());
    let find = |about| Next::order(Command::FindImage { image: image.clone() }, about);
    let pull = |about| {
        if view.pull_slot {
            Next::order(Command::PullImage { image: image.clone() }, about)
        } else {
            Next { wants_slot: true, ..Next::default() }
        }
    };
    match memory.images.get(name).unwrap_or(&ImageState::Unknown) {
        ImageState::Unknown if container.pull == PullPolicy::Always => pull(about),
        ImageState::Unknown | ImageState::Unreachable { .. } => find(about),
        ImageState::Absent => pull(about),
        ImageState::Failed { due, cools, .. } if *due > now => Next::wait(if *cools > now { *cools } else { *due }),
        ImageState::Failed { never: true, .. } => find(about),
        ImageState::Failed { .. } => pull(about),
        ImageState::Ready => Next::order(Command::StartContainer(Box::new(plan)), About::Start(name.clone())),
    }
}

/// TERM first, KILL at the deadline, and again.
fn stop(ids: &[String], deadline: Tick, now: Now, memory: &mut Memory) -> Next {
    let fresh: Vec<String> = ids.iter().filter(|id| !memory.kills.contains_key(*id)).cloned().collect();
    let signal = |ids: Vec<String>, signal| Next::order(Command::Signal { ids: ids.clone(), signal }, About::Stop(ids));
    if !fresh.is_empty() && deadline > now.tick {
        memory.kills.extend(fresh.iter().map(|id| (id.clone(), Kill { deadline })));
        return signal(fresh, Signal::Term);
    }
    let mut overdue = fresh;
    let mut wake: Option<Tick> = None;
    for id in ids {
        let Some(kill) = memory.kills.get_mut(id) else { continue };
        kill.deadline = kill.deadline.min(deadline.max(now.tick));
        if kill.deadline <= now.tick {
            overdue.push(id.clone());
        } else {
            wake = Some(wake.map_or(kill.deadline, |wake| wake.min(kill.deadline)));
        }
    }
    if overdue.is_empty() {
        return Next { wake, ..Next::default() };
    }
    signal(overdue, Signal::Kill)
}

/// Remembers that a KILL was sent, so that the next one has time to come.
pub fn killed(ids: &[String], now: Tick, memory: &mut Memory) {
    memory.kills.extend(ids.iter().map(|id| (id.clone(), Kill { deadline: now.after(KILL_AGAIN) })));
}

/// The dead beyond the last one and the one before it: kept are those that `lastState` and `logs --previous` tell of.
fn surplus(observed: &ObservedPod) -> Next {
    let ids: Vec<String> = observed
        .containers
        .iter()
        .filter(|run| {
            let later = observed.containers.iter().filter(|other| other.name == run.name && other.attempt > run.attempt).count();
            later >= 2 && !run.state.is_running()
        })
        .map(|run| run.id.clone())
        .collect();
    if ids.is_empty() { Next::default() } else { Next::order(Command::RemoveContainers { ids }, About::Cleanup) }
}

fn running(observed: &ObservedPod, which: impl Fn(&ObservedContainer) -> bool) -> Vec<String> {
    observed.containers.iter().filter(|run| run.state.is_running() && which(run)).map(|run| run.id.clone()).collect()
}

/// A pod of which only this uid is known.
#[must_use]
pub fn nothing(uid: &Uid) -> ObservedPod {
    let mut observed = ObservedPod::default();
    observed.pod.uid = uid.clone();
    observed
}
