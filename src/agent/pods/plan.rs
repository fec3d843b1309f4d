//! Chooses what one pod needs next.
//!
//! In:       checked spec, last observation, what is remembered of failures and deadlines, `now`.
//! Out:      at most one [`Command`], or when to look again.
//! Never:    talks to a runtime (`runtime/docker.rs`) or words the status (`status.rs`).
//! Source:   the kubelet's computePodActions. We differ in that containers start one after the other within a pod, and that
//!           a stop is a signal and a deadline of our own, because Docker's stop blocks for as long as the grace lasts.
//! Flow:     stop 10: from `agent/node.rs`, on to `agent/runtime/docker.rs`.

use std::time::Duration;

use crate::agent::prober::Watch;
use crate::agent::runtime::{Command, ObservedContainer, ObservedPod, RunState};
use crate::api::Uid;
use crate::clock::{Now, Tick};

use super::env::Sources;
use super::image::Fetches;
use super::lifecycle::PodState;
use super::mount;
use super::restart;
use super::spec::{ContainerSpec, Hook, PodSpec, RestartPolicy};

mod ending;
mod memory;
mod turn;

pub use ending::unsent;
pub use memory::{FailureCondition, Kill, Memory, PULL_BACKOFF, PodFailure, PostStart, Stage, TROUBLE_BACKOFF, Trouble};

use ending::{ending, finished, running, stop, terminating};
use turn::{ephemeral, start_sandbox, turn};

/// What a postStart hook has at most. Upstream sets no limit; nothing else of the pod starts meanwhile.
const POST_START: Duration = Duration::from_secs(3600);

/// What a command is about, so that its outcome finds its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// The sandbox.
    Sandbox,
    /// The image of this container.
    Image(String),
    /// The fetch of the image of this container.
    Pull(String),
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
    /// Hooks to begin, beside the command: they take their own time.
    pub hooks: Vec<HookStart>,
}

/// When a hook is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right after the container's start.
    PostStart,
    /// Before the container is told to end.
    PreStop,
}

/// A hook to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStart {
    /// The runtime's id of the container.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// When.
    pub moment: Moment,
    /// What.
    pub hook: Hook,
    /// How long it may take.
    pub limit: Duration,
}

impl Next {
    pub(super) fn order(command: Command, about: About) -> Self {
        Self { order: Some((command, about)), ..Self::default() }
    }

    pub(super) fn wait(until: Tick) -> Self {
        Self { wake: Some(until), ..Self::default() }
    }

    /// It has to be asked again at `until`.
    fn wakes(&mut self, until: Tick) {
        self.wake = Some(self.wake.map_or(until, |wake| wake.min(until)));
    }

    /// The first command of the two, the earlier wake.
    fn or(self, other: impl FnOnce() -> Next) -> Self {
        if self.order.is_some() {
            return self;
        }
        let other = other();
        let hooks = self.hooks.into_iter().chain(other.hooks).collect();
        Self {
            order: other.order,
            hooks,
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
    pub fetches: Fetches<'a>,
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

/// How often a container was restarted that shows no run, by what else is known of it.
#[must_use]
pub fn known_restarts(spec: &PodSpec, memory: &Memory, name: &str) -> u32 {
    turn::known_runs(spec, memory, name).unwrap_or_default()
}

/// Whether every container has ended for good.
#[must_use]
pub fn is_finished(spec: &PodSpec, observed: &ObservedPod, probes: &Watch) -> bool {
    if spec.final_status.is_some() {
        return true;
    }
    let ended = |container: &ContainerSpec| {
        newest(observed, &container.name).is_some_and(|run| match run.state {
            RunState::Exited { exit_code, .. } => !again(spec, run, exit_code, probes),
            RunState::Created | RunState::Running { .. } => false,
        })
    };
    (!spec.containers.is_empty() && spec.containers.iter().all(ended)) || init_failed(spec, observed)
}

/// Whether a container that ended is started again. One that a probe condemned is, however well it ended.
#[must_use]
pub fn again(spec: &PodSpec, run: &ObservedContainer, exit_code: i64, probes: &Watch) -> bool {
    restart::again(spec.restart_policy, exit_code)
        || (spec.restart_policy != RestartPolicy::Never && probes.failing(&run.id).is_some())
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
        (PodState::Ending { deadline }, Some(_)) => ending(view, deadline, memory),
        (PodState::Finished, Some(_)) => finished(view, memory),
        (PodState::Terminating { deadline }, _) => terminating(view, deadline, memory),
        (PodState::Gone, _) | (_, None) => Next::default(),
    }
}

fn live(view: View<'_>, spec: &PodSpec, memory: &mut Memory) -> Next {
    let volumes = mount::set_up(view, spec, memory);
    if volumes.order.is_some() {
        return volumes;
    }
    let observed = view.observed;
    let hooks = post_start(spec, observed, memory);
    if !hooks.is_empty() {
        return Next { hooks, ..Next::default() };
    }
    let last = observed.sandboxes.last();
    let lost = last.filter(|sandbox| memory.address.has_lost(sandbox, spec.host_network));
    let sandbox = last.filter(|sandbox| sandbox.state.is_running() && lost.is_none());
    // What belongs to a sandbox that is dead has lost its network: it is ended, and started in the new one.
    let strays = running(observed, |container| sandbox.is_none_or(|sandbox| sandbox.id != container.sandbox_id));
    if !strays.is_empty() {
        return stop(view, &strays, view.now.tick.after(spec.grace), memory);
    }
    if let Some(lost) = lost {
        return stop(view, std::slice::from_ref(&lost.id), view.now.tick, memory);
    }
    let hookless = running(observed, |run| memory.post_start.get(&run.id) == Some(&PostStart::Failed));
    if !hookless.is_empty() {
        return stop(view, &hookless, view.now.tick.after(spec.grace), memory);
    }
    let older = observed.sandboxes.len().saturating_sub(1);
    let older: Vec<String> = observed.sandboxes.iter().take(older).map(|sandbox| sandbox.id.clone()).collect();
    if !older.is_empty() {
        return Next::order(Command::RemoveContainers { ids: older }, About::Cleanup);
    }
    let Some(sandbox) = sandbox else { return start_sandbox(view, spec, last, memory) };

    // A postStart hook holds up all that would be started.
    if observed.containers.iter().any(|run| !has_started(memory, run)) {
        return Next::default();
    }
    // A person waits for these, whatever the others do.
    let mut next = Next::default();
    let made = |container: &ContainerSpec| newest(observed, &container.name).is_some_and(|run| run.state != RunState::Created);
    for container in spec.ephemeral.iter().filter(|container| !made(container)) {
        next = next.or(|| ephemeral(view, spec, container, sandbox, memory));
    }
    let begun =
        spec.containers.iter().any(|container| newest(observed, &container.name).is_some_and(|run| run.sandbox_id == sandbox.id));
    for container in &spec.init {
        let run = newest(observed, &container.name);
        if container.sidecar {
            let well = |run: &&ObservedContainer| {
                run.state.is_running() && run.spec_hash == container.hash && memory.probes.failing(&run.id).is_none()
            };
            if let Some(run) = run.filter(well) {
                if begun || memory.probes.started(container, &run.id) {
                    continue;
                }
            } else {
                next = next.or(|| turn(view, spec, container, sandbox, memory));
            }
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

/// The hooks of containers that have just been started.
fn post_start(spec: &PodSpec, observed: &ObservedPod, memory: &mut Memory) -> Vec<HookStart> {
    let mut hooks = Vec::new();
    for run in observed.containers.iter().filter(|run| run.state.is_running()) {
        let Some(known) = memory.post_start.get_mut(&run.id).filter(|known| **known == PostStart::Due) else { continue };
        let Some(hook) = spec.any(&run.name).and_then(|container| container.lifecycle.post_start.clone()) else { continue };
        *known = PostStart::Runs;
        let (container, name) = (run.id.clone(), run.name.clone());
        hooks.push(HookStart { container, name, moment: Moment::PostStart, hook, limit: POST_START });
    }
    hooks
}

/// Whether a running container's postStart hook, if it has one, is behind it.
#[must_use]
pub fn has_started(memory: &Memory, run: &ObservedContainer) -> bool {
    !(run.state.is_running() && memory.post_start.contains_key(&run.id))
}

fn exited_well(run: &ObservedContainer) -> bool {
    matches!(run.state, RunState::Exited { exit_code: 0, .. })
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

/// A pod of which only this uid is known.
#[must_use]
pub fn nothing(uid: &Uid) -> ObservedPod {
    let mut observed = ObservedPod::default();
    observed.pod.uid = uid.clone();
    observed
}
