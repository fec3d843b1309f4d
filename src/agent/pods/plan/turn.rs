//! What the sandbox needs, and what one container needs when it is its turn.

use super::memory::Memory;
use super::{About, Next, View, again, newest, stop};
use crate::agent::pods::env::{ConfigError, Sources};
use crate::agent::pods::image::{self, ImageState};
use crate::agent::pods::launch;
use crate::agent::pods::mount::{self, VOLUMES};
use crate::agent::pods::need;
use crate::agent::pods::restart::{self, Turn};
use crate::agent::pods::spec::{ContainerSpec, PodSpec, PullPolicy};
use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{Command, ContainerPlan, ObservedSandbox, RunState};

/// A sandbox that ran for less (milliseconds) died of itself.
const YOUNG_MS: i64 = 10_000;

pub(super) fn start_sandbox(view: View<'_>, spec: &PodSpec, last: Option<&ObservedSandbox>, memory: &mut Memory) -> Next {
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
    let pod_start = last.map(|last| last.pod_start).or(memory.begun).unwrap_or(view.now.wall);
    let mut plan = launch::sandbox(spec, attempt, pod_start, view.sources.node);
    plan.next = early(view, spec, memory).map(Box::new);
    Next::order(Command::StartSandbox(Box::new(plan)), About::Sandbox)
}

/// The pod's first container, if nothing has to be waited for but its sandbox, whose address it does not name.
fn early(view: View<'_>, spec: &PodSpec, memory: &Memory) -> Option<ContainerPlan> {
    let container = spec.init.iter().chain(&spec.containers).next()?;
    let name = &container.name;
    let hindered = memory.trouble.contains_key(name) || memory.trouble.contains_key(VOLUMES) || memory.mounts.missing.is_some();
    // Whether its image is the newest is not known yet, nor whether those of its volumes are here.
    if hindered
        || !need::volumes_of(spec, container).is_empty()
        || container.pull == PullPolicy::Always
        || !container.devices.is_empty()
        || newest(view.observed, name).is_some()
    {
        return None;
    }
    let (turn, sandbox) = (first_turn(spec, memory, name), ObservedSandbox::default());
    // What cannot be made in advance is said when its own turn comes.
    let with = |pod_ips| launch::container(spec, container, &sandbox, turn, Sources { pod_ips, ..view.sources }, &[]).ok();
    // Documentation addresses (RFC 5737): no pod has one.
    with("192.0.2.1").filter(|plan| with("192.0.2.2").is_some_and(|other| other == *plan))
}

/// The highest attempt that is known of a container of which the runtime shows no run: what its files tell, or the master.
pub(super) fn known_runs(spec: &PodSpec, memory: &Memory, name: &str) -> Option<u32> {
    memory.left.get(name).copied().max(spec.known_restarts.get(name).copied())
}

/// The turn of a container of which the runtime shows no run.
fn first_turn(spec: &PodSpec, memory: &Memory, name: &str) -> Turn {
    let seen = memory.attempts.get(name).copied().max(known_runs(spec, memory, name));
    Turn { attempt: seen.map_or(0, |seen| seen.saturating_add(1)), streak: 0 }
}

/// What one container needs, if it is its turn.
pub(super) fn turn(
    view: View<'_>,
    spec: &PodSpec,
    container: &ContainerSpec,
    sandbox: &ObservedSandbox,
    memory: &mut Memory,
) -> Next {
    let name = &container.name;
    let now = view.now.tick;
    let devices = memory.devices.get(name).cloned().unwrap_or_default();
    let turn = match newest(view.observed, name) {
        None => first_turn(spec, memory, name),
        Some(run) => match &run.state {
            // A device that was plugged in again as another file is another device for what runs.
            RunState::Running { .. } if run.spec_hash != container.hash || run.devices != devices => {
                return stop(view, std::slice::from_ref(&run.id), now.after(spec.grace), memory);
            }
            RunState::Running { .. } => {
                let Some(failing) = memory.probes.failing(&run.id) else { return Next::default() };
                let grace = failing.grace.unwrap_or(spec.grace);
                return stop(view, std::slice::from_ref(&run.id), now.after(grace), memory);
            }
            RunState::Created => Turn { attempt: run.attempt, streak: run.streak },
            RunState::Exited { exit_code, .. } => {
                let replaced = run.spec_hash != container.hash;
                let init = spec.init.iter().any(|init| init.name == *name);
                // An init container runs again in a new sandbox; a sidecar always; a container in a pod whose sandbox was
                // lost as its policy says.
                let wanted =
                    replaced || container.sidecar || (init && *exit_code == 0) || again(spec, run, *exit_code, &memory.probes);
                if !wanted {
                    return Next::default();
                }
                let due = *memory.dues.entry(run.id.clone()).or_insert_with(|| restart::due(run, view.now));
                if due > now && !replaced && run.devices == devices {
                    return Next::wait(due);
                }
                restart::next_turn(run)
            }
        },
    };
    if let Some(trouble) = memory.trouble.get(name).filter(|trouble| trouble.due > now) {
        return Next::wait(trouble.due);
    }
    let mut images = need::volumes_of(spec, container);
    images.push(name.clone());
    for key in &images {
        if let Some(words) = need::find(spec, key).and_then(|need| image::misnamed(need.image)) {
            memory.images.insert(key.clone(), ImageState::Misnamed(words));
            return Next::default();
        }
    }
    if let Some(words) = memory.no_device.as_ref().filter(|_| !container.devices.is_empty()) {
        memory.config.insert(name.clone(), ConfigError::Refused(words.clone()));
        return Next::default();
    }
    if let Some(next) = mount::hindrance(memory, name) {
        return next;
    }
    let mut plan = match launch::container(spec, container, sandbox, turn, view.sources, &devices) {
        Ok(plan) => plan,
        Err(error) => {
            // The share's next change is the next chance.
            memory.config.insert(name.clone(), error);
            return Next::default();
        }
    };
    if let Some(target) = &container.target {
        match newest(view.observed, target).filter(|run| run.state.is_running()) {
            Some(run) => plan.processes_of = Some(run.id.clone()),
            None => {
                let words = format!("the target container {target} does not run");
                memory.config.insert(name.clone(), ConfigError::Refused(words));
                return Next::default();
            }
        }
    }
    memory.config.remove(name);
    let of_image = |key: &String| {
        let state = memory.images.get(key).unwrap_or(&ImageState::Unknown);
        image::next(spec, key, state, view.fetches, view.sources.share, now)
    };
    images
        .iter()
        .find_map(of_image)
        .unwrap_or_else(|| Next::order(Command::StartContainer(Box::new(plan)), About::Start(name.clone())))
}

/// Starts an ephemeral container, once.
pub(super) fn ephemeral(
    view: View<'_>,
    spec: &PodSpec,
    container: &ContainerSpec,
    sandbox: &ObservedSandbox,
    memory: &mut Memory,
) -> Next {
    // Made and not started yet, or not made at all. What ran, and whose remains are gone, is not started again.
    if memory.attempts.contains_key(&container.name) && newest(view.observed, &container.name).is_none() {
        return Next::default();
    }
    turn(view, spec, container, sandbox, memory)
}
