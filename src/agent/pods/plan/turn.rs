//! What the sandbox needs, and what one container needs when it is its turn.

use super::memory::Memory;
use super::{About, Next, View, again, newest, stop};
use crate::agent::pods::env::ConfigError;
use crate::agent::pods::image::{self, ImageState};
use crate::agent::pods::launch;
use crate::agent::pods::mount;
use crate::agent::pods::restart::{self, Turn};
use crate::agent::pods::spec::{ContainerSpec, PodSpec};
use crate::agent::runtime::naming::SANDBOX;
use crate::agent::runtime::{Command, ObservedSandbox, RunState};

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
    let pod_start = last.map_or(view.now.wall, |last| last.pod_start);
    Next::order(Command::StartSandbox(Box::new(launch::sandbox(spec, attempt, pod_start))), About::Sandbox)
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
        None => {
            let seen = memory.attempts.get(name).copied().max(spec.known_restarts.get(name).copied());
            Turn { attempt: seen.map_or(0, |seen| seen.saturating_add(1)), streak: 0 }
        }
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
    let image = memory.images.get(name).unwrap_or(&ImageState::Unknown);
    image::next(spec, container, image, view.fetches, view.sources.share, now)
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
